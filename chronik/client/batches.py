"""Records on their way to one partition: gathered into batches, sent in order, resent without gaps or duplicates.

A `PartitionQueue` holds a partition's batches in the order of their records: `resend` (came back with an error that passes),
then `waiting` (never sent). `in_flight` batches were sent and not answered.

Order and uniqueness rest on the broker's sequence check. A batch gets its sequence when it is first sent and keeps it. After a
failure that passes, nothing is sent until all in flight have been answered; then `resend` goes out from its lowest sequence on.
When a batch is refused for good, its sequence is missing for ever, so the partition goes on under a new producer id: what was
sent behind it and certainly not appended is numbered anew, and what might have been appended (the connection broke) fails,
since a second copy could be stored otherwise.

No I/O and no clock: the producer calls with the time in seconds.

Sources: KIP-98, KIP-360 (recovery from sequence gaps).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from chronik.errors import ErrorCode
from chronik.model import TopicPartition

Header = tuple[str, bytes | None]

RECORD_OVERHEAD = 16
"""Bytes that a record takes beside key, value and headers: lengths, deltas, attributes; rounded up."""

LOST_ITS_PLACE = frozenset({ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.UNKNOWN_PRODUCER_ID})
"""Codes that say: a batch before this one is missing."""


class ProducerIdentity(NamedTuple):
    """Who numbers the batches. (-1, -1) numbers none."""

    producer_id: int
    epoch: int


NOBODY = ProducerIdentity(-1, -1)


class PendingRecord(NamedTuple):
    """A record as the application gave it. The timestamp is in ms since the epoch."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]
    timestamp_ms: int


class ProducerBatch:
    """Some records of one partition, and who waits for each. `encoded` is kept for resending; `first` is the ordinal of the
    first record among all that the queue ever took, which gives batches their order."""

    __slots__ = (
        "attempts",
        "born",
        "encoded",
        "first",
        "identity",
        "records",
        "sequence",
        "size",
        "uncertain",
        "waiters",
    )

    def __init__(self, born: float, first: int) -> None:
        self.born = born
        self.first = first
        self.records: list[PendingRecord] = []
        self.waiters: list[Any] = []
        self.size = 0
        self.encoded: bytes | bytearray | None = None
        self.identity = NOBODY
        self.sequence = -1
        self.attempts = 0
        self.uncertain = False
        """True when it was sent and the answer never came: it may have been appended."""

    def renumber(self) -> None:
        """Forget the sequence: the batch is certainly not in the log, and goes out under another identity."""
        self.encoded = None
        self.identity = NOBODY
        self.sequence = -1
        self.uncertain = False

    def halves(self) -> tuple[ProducerBatch, ProducerBatch]:
        """Two batches with half of the records each, in order: for a batch that the broker found too large."""
        middle = len(self.records) // 2
        parts = ProducerBatch(self.born, self.first), ProducerBatch(self.born, self.first + middle)
        for part, cut in zip(parts, (slice(None, middle), slice(middle, None)), strict=True):
            part.records, part.waiters = self.records[cut], self.waiters[cut]
            part.size = sum(record_size(record) for record in part.records)
        return parts


def record_size(record: PendingRecord) -> int:
    """About what `record` takes in an uncompressed batch, in bytes; never less than it really does."""
    size = RECORD_OVERHEAD + (len(record.key) if record.key else 0) + (len(record.value) if record.value else 0)
    for name, value in record.headers:
        size += 10 + 4 * len(name) + (len(value) if value else 0)
    return size


def _insert(batches: deque[ProducerBatch] | list[ProducerBatch], batch: ProducerBatch) -> None:
    """Put `batch` where it belongs by its records' order."""
    position = 0
    while position < len(batches) and batches[position].first < batch.first:
        position += 1
    batches.insert(position, batch)


class PartitionQueue:
    """The batches of one partition. `batch_bytes` bounds an uncompressed batch of more than one record."""

    def __init__(self, partition: TopicPartition, batch_bytes: int, max_in_flight: int) -> None:
        self.partition = partition
        self.identity: ProducerIdentity | None = None
        """None until one is known, and after a refusal, when a new one is needed."""
        self.spoilt_identity: ProducerIdentity | None = None
        """The identity that must not number this partition any more."""
        self.node_id = -1
        """Where the batches in flight went."""
        self.retry_at = 0.0
        self.last_problem: Exception | None = None
        """Why the last batch that failed did."""
        self.waiting: deque[ProducerBatch] = deque()
        self.resend: list[ProducerBatch] = []
        self.in_flight: list[ProducerBatch] = []
        self._batch_bytes = batch_bytes
        self._max_in_flight = max_in_flight
        self._next_sequence = 0
        self._taken_in = 0

    @property
    def idle(self) -> bool:
        """True when every record has been answered for."""
        return not (self.waiting or self.resend or self.in_flight)

    def append(self, record: PendingRecord, waiter: Any, size: int, now: float) -> bool:
        """Add a record; True when this filled a batch, so that it can go at once."""
        waiting = self.waiting
        batch = waiting[-1] if waiting else None
        filled = False
        if batch is None or batch.size + size > self._batch_bytes or batch.attempts:
            filled = batch is not None
            batch = ProducerBatch(now, self._taken_in)
            waiting.append(batch)
        self._taken_in += 1
        batch.records.append(record)
        batch.waiters.append(waiter)
        batch.size += size
        return filled or batch.size >= self._batch_bytes

    def due_at(self, linger: float, hurry: bool) -> float | None:
        """From when on a batch may go: one to resend, a full one, or one that has lingered (needn't, in a hurry).

        None when nothing waits, or when an answer must come first.
        """
        if len(self.in_flight) >= self._max_in_flight:
            return None
        if self.resend:
            return None if self.in_flight else self.retry_at
        if not self.waiting or (self.identity is None and self.in_flight):
            return None
        if hurry or len(self.waiting) > 1 or self._full(self.waiting[0]):
            return self.retry_at
        return max(self.waiting[0].born + linger, self.retry_at)

    def _full(self, batch: ProducerBatch) -> bool:
        return batch.size >= self._batch_bytes or batch.attempts > 0

    def take(self, node_id: int) -> ProducerBatch:
        """The next batch, numbered, now in flight to `node_id`. Only when due, and with an identity."""
        assert self.identity is not None
        batch = self.resend.pop(0) if self.resend else self.waiting.popleft()
        if batch.sequence < 0 and self.identity != NOBODY:
            batch.identity = self.identity
            batch.sequence = self._next_sequence
            self._next_sequence = self._next_sequence + len(batch.records) & 0x7FFFFFFF
        batch.attempts += 1
        self.in_flight.append(batch)
        self.node_id = node_id
        return batch

    def succeeded(self, batch: ProducerBatch) -> None:
        """The broker has the batch."""
        self.in_flight.remove(batch)

    def is_oldest(self, batch: ProducerBatch) -> bool:
        """Whether no batch before `batch` is still to be answered for: a sequence gap is then a real one."""
        return not self.resend and self.in_flight[0] is batch

    def failed(self, batch: ProducerBatch, uncertain: bool, retry_at: float) -> None:
        """The batch goes again at `retry_at`. `uncertain` when it may have been appended."""
        self.in_flight.remove(batch)
        self.retry_at = max(self.retry_at, retry_at)
        if batch.identity != NOBODY and batch.identity != self.identity:
            self._reconsider(batch, uncertain)
            return
        batch.uncertain = batch.uncertain or uncertain
        _insert(self.resend, batch)

    def _reconsider(self, batch: ProducerBatch, uncertain: bool) -> None:
        """A batch of a spoilt identity came back: number it anew where that is safe, else leave it marked for failure."""
        if uncertain or batch.uncertain:
            batch.uncertain = True
            self.resend.append(batch)
            return
        batch.renumber()
        _insert(self.waiting, batch)

    def refused(self, batch: ProducerBatch) -> list[ProducerBatch]:
        """`batch` will never be stored. Returns those behind it that must fail with it; the others go on, renumbered."""
        if batch in self.in_flight:
            self.in_flight.remove(batch)
        elif batch in self.resend:
            self.resend.remove(batch)
        else:
            self.waiting.remove(batch)
        if batch.identity == NOBODY or batch.identity != self.identity:
            return []
        self.spoilt_identity, self.identity = self.identity, None
        self._next_sequence = 0
        lost = [other for other in self.resend if other.uncertain]
        kept = [other for other in self.resend if not other.uncertain]
        self.resend = []
        for other in kept:
            other.renumber()
            _insert(self.waiting, other)
        return lost

    def stranded(self) -> list[ProducerBatch]:
        """Batches of a spoilt identity that might be in the log: taken out, to be failed."""
        lost = [b for b in self.resend if b.uncertain and b.identity not in (NOBODY, self.identity)]
        self.resend = [b for b in self.resend if b not in lost]
        return lost

    def clear(self) -> list[ProducerBatch]:
        """Take out everything that is not in flight, to be failed."""
        taken = [*self.resend, *self.waiting]
        self.resend = []
        self.waiting.clear()
        return taken

    def split(self, batch: ProducerBatch) -> None:
        """Put the halves of a refused `batch` where it stood; call after `refused`."""
        for half in batch.halves():
            half.attempts = batch.attempts
            _insert(self.waiting, half)

    def expired(self, now: float, timeout: float) -> ProducerBatch | None:
        """The oldest batch not in flight, when it is older than `timeout` seconds."""
        oldest = self.resend[0] if self.resend else self.waiting[0] if self.waiting else None
        return oldest if oldest is not None and now - oldest.born >= timeout else None
