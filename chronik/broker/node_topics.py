"""What the node's own tiers do with partitions: append to the node's topics, end transactions, read what is committed.

The lower layer of `broker.replicas.Replicas`, which finds the partitions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from chronik.broker.checks import TransactionCheck
from chronik.broker.outcomes import Appended
from chronik.broker.partition import Partition
from chronik.broker.partition_transactions import append_marker, append_offsets
from chronik.errors import KafkaError
from chronik.interfaces import ICommittedReader, ILogTrimmer, IMarkerListener, IMarkerWriter, ITransactionalWriter
from chronik.log.producers import NO_SEQUENCE
from chronik.model import TopicPartition, TransactionMarker

_ALL = -1
"""What coordinators write is for all replicas, so that it is there whichever of them leads next."""


@implementer(ITransactionalWriter, IMarkerWriter, ICommittedReader, ILogTrimmer)
class NodeTopics:
    """Access by topic name to the partitions that this node leads. `wall_clock_ms` is the time since 1970."""

    partition: Callable[[str, int], Partition]
    """Finds a partition by topic name and index. Raises KafkaError."""

    def __init__(self, wall_clock_ms: Callable[[], int]) -> None:
        self._now_ms = wall_clock_ms
        self._marker_listeners: list[IMarkerListener] = []

    def add_marker_listener(self, listener: IMarkerListener) -> None:
        """Tell `listener` of every marker that is committed here from now on."""
        self._marker_listeners.append(listener)

    def append(self, partition: TopicPartition, batch: bytearray) -> Deferred[int]:
        """See `IPartitionWriter`."""
        committed: Deferred[int] = Deferred()
        try:
            leading = self.partition(*partition)

            def appended(outcome: Appended | Exception) -> None:
                if isinstance(outcome, Exception):
                    committed.errback(outcome)
                elif leading.high_watermark >= outcome.end_offset:
                    committed.callback(outcome.base_offset)
                else:
                    leading.commits.wait(outcome.end_offset, partial(done, outcome.base_offset))

            def done(base_offset: int, error: Exception | None) -> None:
                if error is None:
                    committed.callback(base_offset)
                else:
                    committed.errback(error)

            if leading.preparation is None:
                appended(leading.append(batch, self._now_ms(), _ALL))
            else:
                outcome = leading.preparation.append(batch, self._now_ms(), _ALL, appended)
                if isinstance(outcome, Appended):
                    appended(outcome)
        except KafkaError as error:
            return fail(error)
        return committed

    def check_transaction(
        self, partition: TopicPartition, producer_id: int, producer_epoch: int
    ) -> TransactionCheck | None:
        """See `ITransactionalWriter`."""
        return self.partition(*partition).transactions.check(producer_id, producer_epoch, NO_SEQUENCE, implicit=False)

    def append_transactional(
        self, partition: TopicPartition, batch: bytearray, check: TransactionCheck | None
    ) -> Deferred[int]:
        """See `ITransactionalWriter`."""
        try:
            leading = self.partition(*partition)
            base_offset, end_offset = append_offsets(leading, batch, self._now_ms(), check)
        except KafkaError as error:
            return fail(error)
        return _when_committed(leading, end_offset, base_offset)

    def write_marker(self, partition: TopicPartition, marker: TransactionMarker) -> Deferred[None]:
        """See `IMarkerWriter`. Those who listen for markers are told before it fires."""
        try:
            leading = self.partition(*partition)
            end_offset = append_marker(leading, marker, self._now_ms())
        except KafkaError as error:
            return fail(error)
        return _when_committed(leading, end_offset, end_offset).addCallback(self._marker_committed, partition)

    def _marker_committed(self, end_offset: int, partition: TopicPartition) -> None:
        for listener in self._marker_listeners:
            listener.marker_committed(partition, end_offset)

    def trim(self, partition: TopicPartition, offset: int) -> Deferred[None]:
        """See `ILogTrimmer`."""
        durable: Deferred[None] = Deferred()

        def done(error: Exception | None) -> None:
            if error is None:
                durable.callback(None)
            else:
                durable.errback(error)

        try:
            self.partition(*partition).delete_records(offset, done)
        except KafkaError as error:
            return fail(error)
        return durable

    def bounds(self, partition: TopicPartition) -> tuple[int, int, int]:
        """See `ICommittedReader`."""
        found = self.partition(*partition)
        return found.log_start_offset, found.high_watermark, found.last_stable_offset

    def read(self, partition: TopicPartition, offset: int, max_bytes: int) -> bytes:
        """See `ICommittedReader`."""
        return bytes(self.partition(*partition).read(offset, max_bytes, False, at_least_one=True).records)


def _when_committed(partition: Partition, end_offset: int, result: int) -> Deferred[int]:
    """Fires with `result` once everything below `end_offset` is committed; fails when this node leads no more."""
    if partition.high_watermark >= end_offset:
        return succeed(result)
    committed: Deferred[int] = Deferred()

    def done(error: Exception | None) -> None:
        if error is None:
            committed.callback(result)
        else:
            committed.errback(error)

    partition.commits.wait(end_offset, done)
    return committed
