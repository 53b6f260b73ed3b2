"""The share coordinator of a node: keeps what became of the records of share partitions, in `__share_group_state` (KIP-932).

The topic has 50 partitions, and each share partition (a group's view of a partition) is kept in one of them; the node that
leads it answers for it. Leaders of partitions and group coordinators ask through `IShareStates`, other nodes through
the handlers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Cooperator
from twisted.logger import Logger
from zope.interface import implementer

from chronik.coordinator.settings import ShareSettings
from chronik.coordinator.share_shard import Summary
from chronik.coordinator.share_state_partition import ShareStatePartition
from chronik.coordinator.topic import CoordinatorTopic
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import (
    IClusterMetadata,
    ICommittedReader,
    ILogTrimmer,
    IPartitionHost,
    IPartitionWriter,
    IShareStates,
    MetadataDelta,
)
from chronik.model import (
    SHARE_STATE_TOPIC,
    PartitionId,
    SharePartitionKey,
    ShareState,
    StateBatch,
    TopicPartition,
    Uuid,
    uuid_from_text,
)


@implementer(IPartitionHost, IShareStates)
class ShareCoordinator:
    """Keeps the share partitions of all partitions of `__share_group_state` that this node leads.

    `ensure_topic` creates that topic where it is missing, and fires when it exists. `wall_clock_ms` is the time since 1970.
    """

    log = Logger()

    def __init__(
        self,
        settings: ShareSettings,
        metadata: IClusterMetadata,
        writer: IPartitionWriter,
        reader: ICommittedReader,
        trimmer: ILogTrimmer,
        clock: IReactorTime,
        *,
        wall_clock_ms: Callable[[], int],
        ensure_topic: Callable[[], Deferred[None]],
    ) -> None:
        self.settings = settings
        self.topic = CoordinatorTopic(
            SHARE_STATE_TOPIC, metadata, settings.share_coordinator_state_topic_num_partitions, ensure_topic
        )
        self._metadata = metadata
        self._writer = writer
        self._reader = reader
        self._trimmer = trimmer
        self._clock = clock
        self._wall_clock_ms = wall_clock_ms
        self._hosted: dict[int, ShareStatePartition] = {}
        # One slice of work a turn of the reactor, whatever the number of partitions that have some.
        self._cooperator = Cooperator(lambda: lambda: True, lambda tick: clock.callLater(0, tick))
        self._tidying: IDelayedCall | None = None
        self._unsubscribe: Callable[[], None] = lambda: None

    # Life.

    def start(self) -> None:
        """Look after deleted topics, and after what is not needed in the log, from now on."""
        self._unsubscribe = self._metadata.subscribe(self._metadata_changed)
        self._tidy_later()

    def stop(self) -> None:
        """End all waiting requests and timers."""
        self._unsubscribe()
        if self._tidying is not None and self._tidying.active():
            self._tidying.cancel()
        for hosted in self._hosted.values():
            hosted.resign()
        self._hosted.clear()

    def partition_led(self, partition: PartitionId, name: TopicPartition, leader_epoch: int) -> None:
        """Load the share partitions of a partition of `__share_group_state`; other topics are not ours."""
        if name.topic != SHARE_STATE_TOPIC:
            return
        self.partition_resigned(partition, name)
        hosted = self._hosted[name.partition] = ShareStatePartition(
            name,
            self.settings,
            self._exists,
            self._writer,
            self._reader,
            self._trimmer,
            self._clock,
            self._cooperator,
            self._wall_clock_ms,
        )
        hosted.load()

    def partition_resigned(self, partition: PartitionId, name: TopicPartition) -> None:
        """Let go of a partition's share partitions."""
        if name.topic == SHARE_STATE_TOPIC:
            hosted = self._hosted.pop(name.partition, None)
            if hosted is not None:
                hosted.resign()

    def _exists(self, topic_id: Uuid, partition: int) -> bool:
        topic = self._metadata.topic_by_id(topic_id)
        return topic is not None and partition < len(topic.partitions)

    def _tidy_later(self) -> None:
        seconds = self.settings.share_coordinator_state_topic_prune_interval_ms / 1000
        self._tidying = self._clock.callLater(seconds, self._tidy)

    def _tidy(self) -> None:
        self._tidy_later()
        Deferred.fromCoroutine(self.tidy()).addErrback(
            lambda failure: self.log.failure("{topic} could not be tidied up", failure, topic=SHARE_STATE_TOPIC)
        )

    async def tidy(self) -> None:
        """Give up what is not needed any more of every partition here."""
        for hosted in list(self._hosted.values()):
            try:
                await hosted.tidy()
            except KafkaError as error:
                self.log.warn(
                    "{partition}: left for the next time: {error}", partition=str(hosted.name), error=str(error)
                )

    def _metadata_changed(self, delta: MetadataDelta) -> None:
        gone = [topic.topic_id for topic in delta.deleted if topic.name != SHARE_STATE_TOPIC]
        if gone:
            for hosted in self._hosted.values():
                Deferred.fromCoroutine(hosted.forget_topics(gone)).addErrback(
                    lambda failure: self.log.failure("state of deleted topics could not be deleted", failure)
                )

    # Finding.

    def _host(self, key: SharePartitionKey) -> ShareStatePartition:
        """The partition that keeps a share partition, loaded or not."""
        hosted = self._hosted.get(self.topic.partition_of(str(key)))
        if hosted is None:
            raise self.topic.not_here(str(key))
        return hosted

    async def _ready(self, key: SharePartitionKey) -> ShareStatePartition:
        """As `_host`, once the topic exists and the partition is loaded. Raises KafkaError."""
        if self._metadata.topic(SHARE_STATE_TOPIC) is None:
            await self.topic.ensure()
        self._reader.bounds(TopicPartition(SHARE_STATE_TOPIC, self.topic.partition_of(str(key))))  # opens it
        hosted = self._host(key)
        await hosted.loaded()
        return hosted

    # IShareStates.

    async def read(self, key: SharePartitionKey, leader_epoch: int) -> ShareState:
        """See `IShareStates`."""
        return await self.read_now(key, leader_epoch, await self._ready(key))

    async def write(
        self,
        key: SharePartitionKey,
        state_epoch: int,
        leader_epoch: int,
        start_offset: int,
        batches: Sequence[StateBatch],
    ) -> None:
        """See `IShareStates`."""
        hosted = await self._ready(key)
        await self.write_now(key, state_epoch, leader_epoch, start_offset, batches, hosted)

    async def initialise(self, key: SharePartitionKey, state_epoch: int, start_offset: int) -> None:
        """See `IShareStates`."""
        await self.initialise_now(key, state_epoch, start_offset, await self._ready(key))

    async def delete(self, key: SharePartitionKey) -> None:
        """See `IShareStates`."""
        await self.delete_now(key, await self._ready(key))

    async def start_of(self, key: SharePartitionKey) -> tuple[int, int]:
        """See `IShareStates`."""
        summary = (await self._ready(key)).check().summary(key)
        return summary.start_offset, summary.leader_epoch

    # What other nodes ask: a partition that is not here, or is being loaded, is for them to ask about again.

    def read_now(
        self, key: SharePartitionKey, leader_epoch: int, hosted: ShareStatePartition | None = None
    ) -> Deferred[ShareState]:
        """ReadShareGroupState for one. Raises and fails with KafkaError."""
        host = hosted or self._host(key)
        return host.take_turn(key, lambda shard: shard.read(key, leader_epoch, host.wall_ms))

    def write_now(
        self,
        key: SharePartitionKey,
        state_epoch: int,
        leader_epoch: int,
        start_offset: int,
        batches: Sequence[StateBatch],
        hosted: ShareStatePartition | None = None,
    ) -> Deferred[None]:
        """WriteShareGroupState for one. Raises and fails with KafkaError."""
        host = hosted or self._host(key)
        return host.take_turn(
            key,
            lambda shard: (
                shard.write(key, state_epoch, leader_epoch, start_offset, batches, host.wall_ms),
                None,
            ),
        )

    def initialise_now(
        self,
        key: SharePartitionKey,
        state_epoch: int,
        start_offset: int,
        hosted: ShareStatePartition | None = None,
    ) -> Deferred[None]:
        """InitializeShareGroupState for one. Raises and fails with KafkaError."""
        host = hosted or self._host(key)
        return host.take_turn(key, lambda shard: (shard.initialise(key, state_epoch, start_offset, host.wall_ms), None))

    def delete_now(self, key: SharePartitionKey, hosted: ShareStatePartition | None = None) -> Deferred[None]:
        """DeleteShareGroupState for one. Raises and fails with KafkaError."""
        return (hosted or self._host(key)).take_turn(key, lambda shard: (shard.delete(key), None))

    def summary_now(self, key: SharePartitionKey) -> Summary:
        """ReadShareGroupStateSummary for one. Raises KafkaError."""
        return self._host(key).check().summary(key)


def key_of(text: str) -> SharePartitionKey:
    """The share partition that FindCoordinator names: group, topic id and partition. Raises KafkaError(INVALID_REQUEST)."""
    try:
        group_id, topic_id, partition = text.split(":")
        if not group_id.strip() or len(partition) > 11:
            raise ValueError(text)
        return SharePartitionKey(group_id.strip(), uuid_from_text(topic_id), int(partition))
    except ValueError:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, f"a share partition is named group:topic id:partition, not {text!r:.200}"
        ) from None
