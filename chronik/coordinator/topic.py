"""An internal topic whose partitions keep coordinated ids: where the coordinator of an id is, and how the topic comes to be.

`__consumer_offsets` keeps groups, `__transaction_state` transactional ids, each id in the partition that Java's string hash
gives it. The topic is created when its first coordinator is looked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from chronik.coordinator.records import partition_for
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata


class FoundCoordinator(NamedTuple):
    """Where to send an id's requests, as the asking client's listener advertises it."""

    node_id: int
    host: str
    port: int


class CoordinatorTopic:
    """The topic `name`, with `partitions_if_new` partitions once it is created.

    `create` creates it, and fires when it exists; where it fails, the reason is logged.
    """

    log = Logger()

    def __init__(
        self, name: str, metadata: IClusterMetadata, partitions_if_new: int, create: Callable[[], Deferred[Any]]
    ) -> None:
        self.name = name
        self._metadata = metadata
        self._partitions_if_new = partitions_if_new
        self._create = create
        self._creating: list[Deferred[None]] | None = None

    @property
    def partitions(self) -> int:
        """How many partitions the topic has, or will have once it is created."""
        topic = self._metadata.topic(self.name)
        return self._partitions_if_new if topic is None else len(topic.partitions)

    def partition_of(self, key: str) -> int:
        """The number of the partition that keeps `key`."""
        return partition_for(key, self.partitions)

    async def find(self, key: str, listener: str) -> FoundCoordinator:
        """Which node coordinates `key`; the topic is created where it is missing.

        Raises KafkaError(COORDINATOR_NOT_AVAILABLE), after which clients ask again.
        """
        if self._metadata.topic(self.name) is None:
            await self.ensure()
        topic = self._metadata.topic(self.name)
        if topic is not None:
            leader = topic.partitions[partition_for(key, len(topic.partitions))].leader
            for broker in self._metadata.brokers():
                if broker.node_id == leader and not broker.fenced:
                    for endpoint in broker.endpoints:
                        if endpoint.listener == listener:
                            return FoundCoordinator(leader, endpoint.host, endpoint.port)
        raise KafkaError(
            ErrorCode.COORDINATOR_NOT_AVAILABLE, f"no node leads the partition of {self.name} for {key!r:.200}"
        )

    def not_here(self, key: str) -> KafkaError:
        """What to answer where no partition led here keeps `key`; looking for the coordinator again will find one."""
        if self._metadata.topic(self.name) is None:
            self.ensure()
        return KafkaError(ErrorCode.NOT_COORDINATOR, f"{key!r:.200} is not coordinated here")

    def ensure(self) -> Deferred[None]:
        """Create the topic, once however many ask. A failure is logged; those who wait see that it is missing."""
        waiter: Deferred[None] = Deferred()
        if self._creating is not None:
            self._creating.append(waiter)
            return waiter
        waiters = self._creating = [waiter]

        def created(result: object) -> None:
            self._creating = None
            for each in waiters:
                each.callback(None)

        creation = self._create()
        creation.addErrback(lambda failure: self.log.failure("cannot create {topic}", failure, topic=self.name))
        creation.addBoth(created)
        return waiter
