"""One partition as this node leads it: appends, reads, the high watermark, and who waits for it.

The partition stands between requests and its `Log`. It decides what may be appended (leadership, in-sync replicas; what the
topic's settings let in is in `chronik.broker.admission`, what belongs to transactions in `partition_transactions`), and what
may be read: consumers see only what is committed, which is what lies below the high watermark. That is the smallest end
offset over the in-sync replicas, where this node's own end counts as soon as it is written (durability `interval`) or as soon
as it is on disk (`fsync`, or flush.messages=1).

Pure: time is an argument, the log and the syncing are handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from zope.interface import implementer

from chronik.broker.admission import NOT_OPAQUE, Admission
from chronik.broker.checks import TransactionCheck
from chronik.broker.interfaces import IReadablePartition
from chronik.broker.outcomes import Appended, Fetched
from chronik.broker.partition_transactions import PartitionTransactions
from chronik.broker.preparation import ICompressionThreads, Preparation, prepares
from chronik.broker.purgatory import CommitQueue, WaitingFetch, bytes_committed, wake_all
from chronik.errors import ErrorCode, KafkaError
from chronik.log.index import MendingError
from chronik.log.log import Log
from chronik.log.producers import ProducerEntry
from chronik.model import PartitionId, PartitionState, TopicPartition
from chronik.telemetry.metrics import TopicMetrics
from chronik.topic_config import TopicSettings
from chronik.wire import records
from chronik.wire.batches import TRANSACTIONAL_BIT
from chronik.wire.codec import Buffer

_P = ParamSpec("_P")
_T = TypeVar("_T")

_NO_EPOCH = -1
_ALL = -1
_NO_LIMIT = 2**63 - 1
_new_tuple = tuple.__new__  # without the Python function that a NamedTuple's own is


@implementer(IReadablePartition)
class Partition:
    """A partition that this node leads. `request_sync(partition)` is called after appends that must reach the disk first."""

    __slots__ = (
        "_cuts",
        "_flush_asked",
        "_flush_messages",
        "_in_sync",
        "_lacks_replicas",
        "_replicas",
        "_request_sync",
        "_syncs",
        "_threads",
        "_uncommitted_bytes",
        "admission",
        "commits",
        "fetch_waiters",
        "high_watermark",
        "leader",
        "leader_epoch",
        "log",
        "metrics",
        "name",
        "partition_id",
        "preparation",
        "settings",
        "stable_waiters",
        "syncs_first",
        "transactions",
    )

    def __init__(
        self,
        name: TopicPartition,
        partition_id: PartitionId,
        log: Log,
        state: PartitionState,
        settings: TopicSettings,
        metrics: TopicMetrics,
        request_sync: Callable[[Partition], None],
        threads: ICompressionThreads,
    ) -> None:
        self.name = name
        self.partition_id = partition_id
        self.log = log
        self.metrics = metrics
        self.leader = state.leader
        self.leader_epoch = state.leader_epoch
        log.begin_epoch(state.leader_epoch)
        self._in_sync = len(state.isr)
        self._replicas = len(state.replicas)
        self.high_watermark = log.end_offset
        log.producers.committed(log.end_offset)
        self.commits = CommitQueue()
        self._cuts = CommitQueue()  # of log starts
        self.fetch_waiters: set[WaitingFetch] = set()  # for what is committed
        self.stable_waiters: set[WaitingFetch] = set()  # for what is stable
        self.admission = Admission(name)
        self.transactions = PartitionTransactions(name, log.producers)
        self._uncommitted_bytes = 0
        self._request_sync = request_sync
        self._threads = threads
        self.preparation: Preparation | None = None
        """Where batches are to be appended, in place of `append`, while there is one: they are compressed anew, their keys are
        checked, or they queue."""
        self._flush_asked = 0  # the end offset at which flush.messages last asked for a sync
        self.configure(settings)

    def configure(self, settings: TopicSettings) -> None:
        """Act on the topic's settings from now on."""
        self.settings = settings
        self._flush_messages = settings.flush_messages
        self.syncs_first = settings.durability == "fsync" or settings.flush_messages == 1
        self._syncs = self.syncs_first or settings.flush_messages < _NO_LIMIT
        log = self.log
        if not self.syncs_first and self.high_watermark < log.end_offset and log.offline is None:
            self._commit(log.end_offset)  # durability was `fsync` till now, and somebody waits
        self.admission.configure(settings)
        self._count_replicas()
        if self.preparation is None and prepares(self.name, settings):
            self.preparation = Preparation(self, self._threads)
        if self.preparation is not None:
            self.preparation.configure(settings)
            if not self.preparation:
                self.nothing_waits()

    def _count_replicas(self) -> None:
        """Whether acks=all is refused. No more replicas can be in sync than there are, whatever is asked (KIP-966)."""
        self._lacks_replicas = self._in_sync < min(self.settings.min_insync_replicas, self._replicas)

    # -- what is visible ----------------------------------------------------------------------------------------------

    @property
    def log_start_offset(self) -> int:
        """The first offset that can be read."""
        return self.log.start_offset

    @property
    def last_stable_offset(self) -> int:
        """The first offset that an open transaction still holds back; without transactions the high watermark."""
        log = self.log
        high_watermark, unstable = self.high_watermark, log.producers.first_unstable
        return high_watermark if unstable >= high_watermark else max(unstable, log.start_offset)

    def check_leader_epoch(self, epoch: int) -> None:
        """Refuse a client whose idea of the leader epoch is older or newer than ours (KIP-320); below 0 is no idea."""
        if epoch < 0 or epoch == self.leader_epoch:
            return
        if epoch < self.leader_epoch:
            raise KafkaError(ErrorCode.FENCED_LEADER_EPOCH, f"{self.name} is at leader epoch {self.leader_epoch}")
        raise KafkaError(ErrorCode.UNKNOWN_LEADER_EPOCH, f"{self.name} is at leader epoch {self.leader_epoch}")

    # -- appends ------------------------------------------------------------------------------------------------------

    def append(
        self, batch: Buffer | None, now_ms: int, acks: int = 1, check: TransactionCheck | None = None
    ) -> Appended:
        """Check and append one record batch, which is patched in place where it is writable, in the codec that it has.

        Where there is a `preparation`, its `append` is the one to call.

        Raises KafkaError with Kafka's code for what is wrong. A retry of a batch that is already here is not appended
        again: it is answered with the offsets that it got the first time. A transactional batch of a producer whose
        transaction is not open here raises UncheckedTransaction; with a `check` that has succeeded it opens it.
        """
        if batch is None:
            raise KafkaError(ErrorCode.INVALID_RECORD, f"{self.name}: there are no records")
        if acks == _ALL and self._lacks_replicas:
            self.require_replicas()
        if isinstance(batch, bytes):
            batch = bytearray(batch)  # offsets are written into it
        header = records.check_produced(batch)
        size = len(batch)
        metrics = self.metrics
        if check is None:  # otherwise this is its second time
            metrics.messages_received += header.record_count
            metrics.bytes_received += size
        append_time = -1
        admission = self.admission
        if (
            admission.stamps
            or size > admission.max_bytes
            or header.attributes & NOT_OPAQUE
            or not admission.oldest < header.max_timestamp - now_ms <= admission.newest
        ):
            if header.attributes & TRANSACTIONAL_BIT:
                self.transactions.require(batch, header, check)
            batch, header, append_time = admission.adapted(batch, header, now_ms)
            size = len(batch)
        log = self.log
        end_before = log.end_offset
        base_offset = log.append(batch, header, self.leader_epoch, now_ms)
        end_offset = base_offset + header.last_offset_delta + 1
        if base_offset >= end_before:  # not a retry of what is here already
            metrics.messages_stored += header.record_count
            metrics.bytes_stored += size
            self._uncommitted_bytes += size
            if self._syncs:
                self._sync_by_settings(end_offset)
            else:
                self._commit(end_offset)
        else:
            known = log.producers.check(header)
            append_time = known[1] if known else -1
        return _new_tuple(Appended, (base_offset, end_offset, append_time, log.start_offset))

    def require_replicas(self) -> None:
        """What acks=all asks for. Raises KafkaError(NOT_ENOUGH_REPLICAS)."""
        if self._lacks_replicas:
            least = self.settings.min_insync_replicas
            text = f"{self.name} has {self._in_sync} replica(s) in sync, min.insync.replicas is {least}"
            raise KafkaError(ErrorCode.NOT_ENOUGH_REPLICAS, text)

    def grown(self, end_offset: int, count: int, size: int) -> None:
        """`count` records in `size` bytes were appended to the log, other than by `append`."""
        self.metrics.messages_stored += count
        self.metrics.bytes_stored += size
        self._uncommitted_bytes += size
        if self._syncs:
            self._sync_by_settings(end_offset)
        else:
            self._commit(end_offset)

    def _sync_by_settings(self, end_offset: int) -> None:
        """What durability `fsync` and flush.messages make of an append."""
        if self.syncs_first:
            self._request_sync(self)
            return
        if end_offset - max(self.log.recovery_point, self._flush_asked) >= self._flush_messages:
            self._flush_asked = end_offset
            self._request_sync(self)
        self._commit(end_offset)

    def synced(self, offset: int) -> None:
        """A flush has ended: everything below `offset` is on disk."""
        if self._cuts:
            self._cuts.committed(self.log.durable_start)
            if self._cuts and self.log.flush_error is not None:
                text = f"{self.name}: the new start of the log is not on disk, for now: {self.log.flush_error}"
                self._cuts.fail(KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, text))
        if offset > self.high_watermark:
            self._commit(min(offset, self.log.end_offset))

    def _commit(self, high_watermark: int) -> None:
        """Move the high watermark: first the producers that wait are answered, then waiting fetches are woken."""
        producers = self.log.producers
        transactions = producers.first_unstable < high_watermark
        stable = self.last_stable_offset if transactions else 0
        self.high_watermark = high_watermark
        if transactions:
            producers.committed(high_watermark)
        if self.commits:
            self.commits.committed(high_watermark)
        committed, self._uncommitted_bytes = self._uncommitted_bytes, 0
        if self.fetch_waiters:
            bytes_committed(self.fetch_waiters, committed)
        if self.stable_waiters:
            if not transactions:
                bytes_committed(self.stable_waiters, committed)
            elif self.last_stable_offset > stable:
                wake_all(self.stable_waiters)

    # -- reads --------------------------------------------------------------------------------------------------------

    def read(self, offset: int, max_bytes: int, committed_only: bool, at_least_one: bool) -> Fetched:
        """Whole batches from the one that holds `offset`, at most `max_bytes`, but one in any case if `at_least_one`.

        Raises KafkaError(OFFSET_OUT_OF_RANGE) below the log's start or beyond its end.
        """
        log = self.log
        high_watermark = self.high_watermark
        if offset < log.start_offset or offset > log.end_offset:
            raise KafkaError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"{self.name} has offsets {log.start_offset} to {log.end_offset}, not {offset}",
            )
        upper = self.last_stable_offset if committed_only else high_watermark
        if offset >= upper:
            return Fetched(b"", high_watermark, log.start_offset, False)
        try:
            data, is_all, end_offset = log.read(offset, max_bytes, upper, at_least_one)
            aborted = log.aborted_between(offset, end_offset) if committed_only and data else ()
        except MendingError as error:
            error.mend(self._threads.soon)
            raise
        self.metrics.bytes_fetched += len(data)
        return Fetched(data, high_watermark, log.start_offset, not is_all, aborted)

    def diverging_epoch(self, last_fetched_epoch: int, fetch_offset: int) -> tuple[int, int] | None:
        """(epoch, end offset) where a reader's history leaves ours, or None when it doesn't (KIP-595).

        Raises KafkaError(OFFSET_OUT_OF_RANGE) for an epoch that this log never knew.
        """
        if last_fetched_epoch == _NO_EPOCH:
            return None
        epoch, end_offset = self.epoch_end(last_fetched_epoch)
        if epoch == _NO_EPOCH:
            raise KafkaError(ErrorCode.OFFSET_OUT_OF_RANGE, f"{self.name} has no leader epoch {last_fetched_epoch}")
        if epoch < last_fetched_epoch or end_offset < fetch_offset:
            return epoch, end_offset
        return None

    def epoch_end(self, epoch: int) -> tuple[int, int]:
        """The largest leader epoch at or below `epoch` and the offset after its last record; (-1, -1) if there is none."""
        return self.log.epochs.end_offset_for(epoch, self.log.end_offset)

    def epoch_of(self, offset: int) -> int:
        """The leader epoch in which `offset` was or will be written, -1 when none is known."""
        if offset >= self.log.end_offset:
            return self.leader_epoch
        return self.log.epochs.epoch_for(offset)

    def offset_for_timestamp(self, timestamp: int) -> tuple[int, int, int] | None:
        """(timestamp, offset, leader epoch) of the first committed record at or after `timestamp`."""
        return self.looked_up(self.log.offset_for_timestamp, timestamp, self.high_watermark)

    def max_timestamp(self) -> tuple[int, int, int] | None:
        """(timestamp, offset, leader epoch) of the committed record with the largest timestamp."""
        return self.looked_up(self.log.max_timestamp, self.high_watermark)

    def looked_up(self, look_up: Callable[_P, _T], *args: _P.args, **options: _P.kwargs) -> _T:
        """What `look_up` finds in the log. Has indexes made anew where it raises MendingError, and raises that."""
        try:
            return look_up(*args, **options)
        except MendingError as error:
            error.mend(self._threads.soon)
            raise

    def producers(self) -> list[ProducerEntry]:
        """The idempotent producers that this partition remembers."""
        return self.log.producers.entries()

    # -- changes ------------------------------------------------------------------------------------------------------

    def delete_records(self, before: int, done: Callable[[Exception | None], None]) -> int:
        """Give up what lies below `before`: the new log start, which counts at once.

        `done(None)` is called when it is durable; `done(error)` if this node leads no more, or if the disk is full: then it
        isn't durable before a later flush. Raises
        KafkaError(OFFSET_OUT_OF_RANGE) beyond what is committed, and then doesn't call it.
        """
        if before < 0 or before > self.high_watermark:
            raise KafkaError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"{self.name} can be cut at 0 to {self.high_watermark}, its high watermark, not at {before}",
            )
        log = self.log
        log.advance_start(before)
        start = log.start_offset
        if start <= log.durable_start:
            done(None)
        else:
            self._cuts.wait(start, done)
            self._request_sync(self)
        return start

    def update(self, state: PartitionState) -> None:
        """Follow what the controller decided."""
        self.leader = state.leader
        self.leader_epoch = state.leader_epoch
        self.log.begin_epoch(state.leader_epoch)
        self._in_sync = len(state.isr)
        self._replicas = len(state.replicas)
        self._count_replicas()

    def nothing_waits(self) -> None:
        """The queue of what is prepared is empty: where batches are stored as they come there is no use for it."""
        if not prepares(self.name, self.settings):
            self.preparation = None

    @property
    def is_awaited(self) -> bool:
        """Whether producers wait here: for a batch's turn or for its commit."""
        return bool(self.commits) or bool(self.preparation)

    def resign(self, error: KafkaError) -> None:
        """Stop leading: whoever waits here is answered with `error` or looks again."""
        if self.preparation is not None:
            self.preparation.fail(error)
        self.commits.fail(error)
        self._cuts.fail(error)
        wake_all(self.fetch_waiters)
        wake_all(self.stable_waiters)
