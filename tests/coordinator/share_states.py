"""What the tests of the share coordinator run in: its topic in memory, with the beginning of the log given up when asked."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from chronik.coordinator.settings import ShareSettings
from chronik.coordinator.share_coordinator import ShareCoordinator
from chronik.coordinator.share_records import ShareEntry, decode_share_entry
from chronik.interfaces import ILogTrimmer
from chronik.model import SHARE_STATE_TOPIC, PartitionId, SharePartitionKey, TopicPartition
from chronik.wire.records import decode_records
from tests.coordinator.world import WALL, MemoryLog, OneNode

PARTITION = TopicPartition(SHARE_STATE_TOPIC, 0)
EVENTS = b"events".ljust(16, b"-")


def key(partition: int = 0, group: str = "g", topic_id: bytes = EVENTS) -> SharePartitionKey:
    return SharePartitionKey(group, topic_id, partition)


@implementer(ILogTrimmer)
class TrimmedLog(MemoryLog):
    """A log that can lose its beginning, batch by batch."""

    def __init__(self) -> None:
        super().__init__()
        self.starts: dict[TopicPartition, int] = {}

    def trim(self, partition: TopicPartition, offset: int) -> Deferred[None]:
        self.starts[partition] = offset
        return succeed(None)

    def bounds(self, partition: TopicPartition) -> tuple[int, int, int]:
        _, end, stable = super().bounds(partition)
        return self.starts.get(partition, 0), end, stable

    def read(self, partition: TopicPartition, offset: int, max_bytes: int) -> bytes:
        assert offset >= self.starts.get(partition, 0), f"{offset} was given up"
        return super().read(partition, offset, max_bytes)


class ShareWorld:
    """A share coordinator on one partition of its topic, with its log, clock and cluster."""

    def __init__(self, settings: ShareSettings | None = None, log: TrimmedLog | None = None, led: bool = True) -> None:
        self.clock = Clock()
        self.log = log or TrimmedLog()
        self.metadata = OneNode(events=10, logs=10)
        self.created = 0
        self.coordinator = ShareCoordinator(
            settings or ShareSettings(),
            self.metadata,
            self.log,
            self.log,
            self.log,
            self.clock,
            wall_clock_ms=lambda: WALL + int(self.clock.seconds() * 1000),
            ensure_topic=self._create,
        )
        self.coordinator.start()
        if led:
            self.lead()

    def _create(self) -> Deferred[None]:
        self.created += 1
        self.lead()
        return succeed(None)

    def lead(self) -> None:
        """Lead the partition, until it is loaded."""
        topic = self.metadata.topic(SHARE_STATE_TOPIC) or self.metadata.create(SHARE_STATE_TOPIC, 1)
        self.coordinator.partition_led(PartitionId(topic.topic_id, 0), PARTITION, 0)
        self.settle()

    def settle(self) -> None:
        for _ in range(20):
            self.clock.advance(0)

    @property
    def shard(self) -> Any:
        return self.coordinator._hosted[0].shard

    def entries(self) -> list[ShareEntry]:
        """What is in the log, all of it."""
        return [
            entry
            for batch in self.log.batches.get(PARTITION, ())
            for record in decode_records(batch, 1 << 20)
            if (entry := decode_share_entry(record.key, record.value)) is not None
        ]

    def begin(self, operation: Any) -> list[Any]:
        """Start it; the list has its result, or the KafkaError, when there is one."""
        results: list[Any] = []
        if not isinstance(operation, Deferred):
            operation = Deferred.fromCoroutine(operation)
        operation.addBoth(lambda result: results.append(getattr(result, "value", result)))
        self.settle()
        return results

    def result(self, operation: Any) -> Any:
        """What it came to; fails the test when it still waits. KafkaErrors are returned."""
        results = self.begin(operation)
        assert results, "it still waits"
        return results[0]
