"""What the tests of the transaction coordinator run in: partitions in memory that hold, lose and refuse markers."""

from __future__ import annotations

from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from chronik.coordinator.settings import TransactionSettings
from chronik.coordinator.transaction import V2, Identity, Transaction
from chronik.coordinator.transaction_records import TransactionEntry, decode_transaction_entry
from chronik.coordinator.transactions import TransactionCoordinator
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IMarkerWriter
from chronik.model import TRANSACTIONS_TOPIC, PartitionId, TopicPartition, TransactionMarker
from chronik.wire.records import decode_records
from tests.coordinator.world import WALL, MemoryLog, OneNode

PARTITION = TopicPartition(TRANSACTIONS_TOPIC, 0)
EVENTS = TopicPartition("events", 0)
LOGS = TopicPartition("logs", 0)


@implementer(IMarkerWriter)
class MemoryMarkers:
    """The markers that partitions have, in order. `failing` says what a partition answers instead of taking one.

    While `holding`, markers wait in `held`. With `torn`, a marker that fails is written all the same.
    """

    def __init__(self) -> None:
        self.written: dict[TopicPartition, list[TransactionMarker]] = {}
        self.failing: dict[TopicPartition, Exception] = {}
        self.torn = False
        self.holding = False
        self.held: list[tuple[TopicPartition, TransactionMarker, Deferred[None]]] = []

    def write_marker(self, partition: TopicPartition, marker: TransactionMarker) -> Deferred[None]:
        error = self.failing.get(partition)
        if error is not None:
            if self.torn:
                self._write(partition, marker)
            return fail(error)
        if self.holding:
            waiting: Deferred[None] = Deferred()
            self.held.append((partition, marker, waiting))
            return waiting
        self._write(partition, marker)
        return succeed(None)

    def _write(self, partition: TopicPartition, marker: TransactionMarker) -> None:
        self.written.setdefault(partition, []).append(marker)

    def release(self, index: int = 0) -> None:
        """Let the held marker at `index` be written."""
        partition, marker, waiting = self.held.pop(index)
        self._write(partition, marker)
        waiting.callback(None)

    def release_all(self) -> None:
        self.holding = False
        while self.held:
            self.release()

    def refuse(self, partition: TopicPartition, code: ErrorCode) -> None:
        """Answer `code` to every marker for the partition from now on."""
        self.failing[partition] = KafkaError(code)

    def outcomes(self, partition: TopicPartition = EVENTS) -> list[bool]:
        """How transactions ended there, each marker once: a repeated one ends nothing."""
        return [marker.committed for marker in dict.fromkeys(self.written.get(partition, ()))]


class TransactionWorld:
    """A coordinator on one partition of `__transaction_state`, with its log, the partitions' markers, clock and cluster."""

    def __init__(
        self, settings: TransactionSettings | None = None, before: TransactionWorld | None = None, led: bool = True
    ) -> None:
        """With `before`, what a crash of that one left: its log and its partitions."""
        self.settings = settings or (before.settings if before else TransactionSettings())
        self.log = before.log if before else MemoryLog()
        self.markers = before.markers if before else MemoryMarkers()
        self.metadata = before.metadata if before else OneNode(events=10, logs=10)
        self.clock = before.clock if before else Clock()
        self._producer_ids = before._producer_ids if before else count(1)
        self.created = 0
        self.coordinator = TransactionCoordinator(
            self.settings,
            self.metadata,
            self.log,
            self.log,
            self.markers,
            self.clock,
            wall_clock_ms=lambda: WALL + int(self.clock.seconds() * 1000),
            fresh_producer_id=self._fresh_producer_id,
            ensure_topic=self._create,
        )
        self.coordinator.start()
        if led:
            self.lead()

    async def _fresh_producer_id(self) -> int:
        return next(self._producer_ids)

    def _create(self) -> Deferred[None]:
        self.created += 1
        self.metadata.create(TRANSACTIONS_TOPIC, 1)
        return succeed(None)

    def lead(self, load: bool = True, epoch: int = 0) -> None:
        """Lead the partition; with `load`, until it is loaded."""
        topic = self.metadata.topic(TRANSACTIONS_TOPIC) or self.metadata.create(TRANSACTIONS_TOPIC, 1)
        self.coordinator.partition_led(PartitionId(topic.topic_id, 0), PARTITION, epoch)
        if load:
            self.settle()

    def resign(self) -> None:
        self.coordinator.partition_resigned(PartitionId(bytes(16), 0), PARTITION)

    def crash(self, holding: bool = False) -> TransactionWorld:
        """The node dies: what was held has not happened. Another one reads what is left, with its markers held if `holding`."""
        self.coordinator.stop()
        self.log.holding = self.markers.torn = self.log.torn = False
        self.markers.holding = holding
        self.log.failing = None
        self.log.held.clear()
        self.markers.held.clear()
        self.markers.failing.clear()
        return TransactionWorld(before=self)

    def settle(self) -> None:
        """Let everything run that is due now."""
        for _ in range(20):
            self.clock.advance(0)

    def advance(self, seconds: float) -> None:
        """Let time pass, and what it brings happen."""
        self.clock.advance(seconds)
        self.settle()

    @property
    def shard(self) -> Any:
        return self.coordinator._hosted[0].shard

    def state(self, transactional_id: str = "t") -> Transaction:
        found: Transaction = self.shard.transactions[transactional_id]
        return found

    def begin(self, operation: Any) -> list[Any]:
        """Begin an operation; its result, or the KafkaError that it fails with, is in the list when it has come."""
        results: list[Any] = []
        if not isinstance(operation, Deferred):
            operation = Deferred.fromCoroutine(operation)
        operation.addBoth(lambda result: results.append(getattr(result, "value", result)))
        return results

    def result(self, operation: Any) -> Any:
        """What an operation came to, a KafkaError as its code; fails the test when it still waits."""
        results = self.begin(operation)
        for _ in range(20):
            if results:
                break
            self.clock.advance(0)
        assert results, "it still waits"
        return results[0].code if isinstance(results[0], KafkaError) else results[0]

    def initialise(
        self, transactional_id: str = "t", expected: Identity | None = None, timeout_ms: int = 60_000
    ) -> Any:
        return self.result(self.coordinator.initialise(transactional_id, timeout_ms, expected))

    def add(
        self, producer: Identity, *partitions: TopicPartition, transactional_id: str = "t", version: int = V2
    ) -> Any:
        return self.result(self.coordinator.add_partitions(transactional_id, producer, partitions or [EVENTS], version))

    def end(self, producer: Identity, commit: bool = True, transactional_id: str = "t", version: int = V2) -> Any:
        return self.result(self.coordinator.end(transactional_id, producer, commit, version))

    def entries(self) -> list[TransactionEntry]:
        """Everything in the log."""
        found = []
        for batch in self.log.batches.get(PARTITION, ()):
            for record in decode_records(batch, 1 << 20):
                entry = decode_transaction_entry(record.key, record.value)
                assert entry is not None
                found.append(entry)
        return found

    def states(self, transactional_id: str = "t") -> list[str]:
        """The states that the id went through, as the log has them."""
        return [
            "gone" if entry.state is None else entry.state.state.text
            for entry in self.entries()
            if entry.transactional_id == transactional_id
        ]
