"""What a partition remembers of the producers that write to it idempotently or in transactions (KIP-98, KIP-360, KIP-890).

Of each producer id the last five batches are kept: their sequence numbers, offsets and timestamps. With them `check`
tells a batch that is next in line from a retry, which is answered with the offset that it got the first time, and
from a gap, which is refused. The rules are those of Apache Kafka 4.1: a producer that isn't known may begin at any
sequence, a new epoch begins at 0, sequences go from 2**31 - 1 to 0.

A transaction is open from its first batch to its marker. `first_unstable` is where the earliest one begins that a
read_committed reader may not look into: one that is open, or one whose marker is not committed yet (`committed` tells
how far that goes), since a new leader might not have it. A marker may bring a newer epoch, which begins again at sequence 0.

The group coordinator's batches belong to transactions and have no sequence: only their epoch is checked.

The state is derived from the log: a snapshot (`chronik.log.snapshot`) only shortens the replay, which is `update` for
each batch after it and `end` for each marker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from chronik.errors import ErrorCode, KafkaError
from chronik.log.aborted import NEVER, AbortedTransaction
from chronik.model import TransactionMarker
from chronik.wire.batches import TRANSACTIONAL_BIT
from chronik.wire.records import BatchHeader

NO_SEQUENCE = -1
NO_COORDINATOR_EPOCH = -1
NO_TRANSACTION = -1
REMEMBERED_BATCHES = 5
"""As many batches as an idempotent producer may have in flight on one connection."""

_MAX_SEQUENCE = 0x7FFFFFFF

RememberedBatch = tuple[int, int, int, int, int]
"""First and last sequence, first and last offset, largest timestamp."""


class ProducerEntry:
    """One producer: its newest epoch and what it last wrote in it."""

    __slots__ = (
        "batches",
        "coordinator_epoch",
        "epoch",
        "last_sequence",
        "last_timestamp",
        "producer_id",
        "transaction_first_offset",
    )

    def __init__(self, producer_id: int, epoch: int) -> None:
        self.producer_id = producer_id
        self.epoch = epoch
        self.last_sequence = NO_SEQUENCE
        self.last_timestamp = -1
        self.coordinator_epoch = NO_COORDINATOR_EPOCH
        self.transaction_first_offset = NO_TRANSACTION
        self.batches: list[RememberedBatch] = []

    def begin_epoch(self, epoch: int) -> None:
        """A newer epoch: nothing is remembered in it yet, and it begins at sequence 0."""
        self.epoch = epoch
        self.last_sequence = NO_SEQUENCE
        self.batches.clear()


class Producers:
    """The producers of one partition, `name` in error texts."""

    __slots__ = ("_entries", "_name", "_open", "_uncommitted", "first_unstable")

    def __init__(self, name: str) -> None:
        self._name = name
        self._entries: dict[int, ProducerEntry] = {}
        self._open: dict[int, int] = {}  # producer id -> first offset of its open transaction, in the order of these
        self._uncommitted: deque[tuple[int, int]] = deque()  # of ended transactions: offset of the marker, first offset
        self.first_unstable = NEVER

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> list[ProducerEntry]:
        """All producers, in no particular order."""
        return list(self._entries.values())

    def check(self, header: BatchHeader) -> tuple[int, int] | None:
        """None where the batch may be appended; (base offset, timestamp) of the first append where it is a retry.

        Raises KafkaError: INVALID_PRODUCER_EPOCH for an epoch older than the producer's newest,
        OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_TXN_STATE for a batch that isn't transactional inside of a transaction.
        """
        entry = self._entries.get(header.producer_id)
        if entry is None:
            return None
        sequence = header.base_sequence
        if header.producer_epoch == entry.epoch:
            if sequence != (entry.last_sequence + 1) & _MAX_SEQUENCE and sequence != NO_SEQUENCE:
                last = header.last_sequence
                for batch in entry.batches:
                    if batch[0] == sequence and batch[1] == last:
                        return batch[2], batch[4]
                raise self._refuse(
                    ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                    header,
                    f"follows {entry.last_sequence}, the last one appended",
                )
        elif header.producer_epoch < entry.epoch:
            raise self._refuse(ErrorCode.INVALID_PRODUCER_EPOCH, header, f"comes after epoch {entry.epoch}")
        elif sequence > 0:
            raise self._refuse(
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, header, f"begins an epoch after {entry.epoch}, it must be 0"
            )
        if entry.transaction_first_offset >= 0 and not header.attributes & TRANSACTIONAL_BIT:
            raise self._refuse(ErrorCode.INVALID_TXN_STATE, header, "is not transactional, and its transaction is open")
        return None

    def _refuse(self, code: ErrorCode, header: BatchHeader, fault: str) -> KafkaError:
        text = (
            f"sequence {header.base_sequence} of producer {header.producer_id}, epoch {header.producer_epoch}, {fault}"
        )
        return KafkaError(code, f"{self._name}: {text}")

    def update(self, header: BatchHeader, base_offset: int) -> None:
        """Remember an appended batch of records with a producer id. `base_offset` is where it went."""
        producer_id = header.producer_id
        entry = self._entries.get(producer_id)
        if entry is None:
            entry = self._entries[producer_id] = ProducerEntry(producer_id, header.producer_epoch)
        elif entry.epoch != header.producer_epoch:
            entry.begin_epoch(header.producer_epoch)
        entry.last_timestamp = timestamp = header.max_timestamp
        sequence = header.base_sequence
        if sequence >= 0:
            batches = entry.batches
            delta = header.last_offset_delta
            entry.last_sequence = last = (sequence + delta) & _MAX_SEQUENCE
            batches.append((sequence, last, base_offset, base_offset + delta, timestamp))
            if len(batches) > REMEMBERED_BATCHES:
                del batches[0]
        if header.attributes & TRANSACTIONAL_BIT and entry.transaction_first_offset < 0:
            entry.transaction_first_offset = self._open[producer_id] = base_offset
            if base_offset < self.first_unstable:
                self.first_unstable = base_offset

    # -- transactions -------------------------------------------------------------------------------------------------

    @property
    def first_open(self) -> int:
        """The first offset of the earliest transaction that has no marker yet; `NEVER` when there is none."""
        return next(iter(self._open.values()), NEVER)

    def in_transaction(self, producer_id: int, epoch: int) -> bool:
        """Whether the producer has a transaction open here, in this very epoch."""
        entry = self._entries.get(producer_id)
        return entry is not None and entry.transaction_first_offset >= 0 and entry.epoch == epoch

    def is_new(self, producer_id: int) -> bool:
        """Whether no batch of the producer's newest epoch is remembered, so that nothing vouches for a sequence."""
        entry = self._entries.get(producer_id)
        return entry is None or not entry.batches

    def check_marker(self, marker: TransactionMarker) -> None:
        """Raises KafkaError for a marker that may not be appended: INVALID_PRODUCER_EPOCH, TRANSACTION_COORDINATOR_FENCED."""
        entry = self._entries.get(marker.producer_id)
        if entry is None:
            return
        what = f"{self._name}: the marker of producer {marker.producer_id}"
        if marker.producer_epoch < entry.epoch:
            text = f"{what} has epoch {marker.producer_epoch}, the producer has {entry.epoch}"
            raise KafkaError(ErrorCode.INVALID_PRODUCER_EPOCH, text)
        if marker.coordinator_epoch < entry.coordinator_epoch:
            text = f"{what} comes from coordinator epoch {marker.coordinator_epoch}, {entry.coordinator_epoch} is known"
            raise KafkaError(ErrorCode.TRANSACTION_COORDINATOR_FENCED, text)

    def end(self, marker: TransactionMarker, offset: int, timestamp: int) -> AbortedTransaction | None:
        """A marker was appended at `offset`; the transaction that it has aborted, if it did. `timestamp` is in ms.

        What it ends stays unstable until `committed` says that the marker is.
        """
        producer_id = marker.producer_id
        entry = self._entries.get(producer_id)
        if entry is None:
            entry = self._entries[producer_id] = ProducerEntry(producer_id, marker.producer_epoch)
        elif entry.epoch != marker.producer_epoch:
            entry.begin_epoch(marker.producer_epoch)
        entry.coordinator_epoch = marker.coordinator_epoch
        entry.last_timestamp = timestamp
        entry.transaction_first_offset = NO_TRANSACTION
        first_offset = self._open.pop(producer_id, NO_TRANSACTION)
        if first_offset == NO_TRANSACTION:
            return None
        self._uncommitted.append((offset, first_offset))
        if marker.committed:
            return None
        return AbortedTransaction(producer_id, first_offset, offset, min(self.first_open, offset + 1))

    def committed(self, high_watermark: int) -> None:
        """Everything below `high_watermark` is committed: transactions whose markers are hold nothing back any more."""
        uncommitted = self._uncommitted
        if not uncommitted or uncommitted[0][0] >= high_watermark:
            return
        while uncommitted and uncommitted[0][0] < high_watermark:
            uncommitted.popleft()
        self.first_unstable = min(self.first_open, min((first for _, first in uncommitted), default=NEVER))

    # -- forgetting and restoring -------------------------------------------------------------------------------------

    def expire(self, now_ms: int, expiration_ms: int) -> int:
        """Forget producers whose newest batch is `expiration_ms` old (producer.id.expiration.ms); how many there were."""
        stale = [
            entry.producer_id
            for entry in self._entries.values()
            if now_ms - entry.last_timestamp >= expiration_ms and entry.transaction_first_offset == NO_TRANSACTION
        ]
        for producer_id in stale:
            del self._entries[producer_id]
        return len(stale)

    def clear(self) -> None:
        """Forget everybody."""
        self.replace(())

    def replace(self, entries: Iterable[ProducerEntry]) -> None:
        """Take over what is known of all producers at some offset, up to which everything is committed."""
        self._entries = {entry.producer_id: entry for entry in entries}
        by_offset = sorted(
            (entry.transaction_first_offset, entry.producer_id)
            for entry in self._entries.values()
            if entry.transaction_first_offset >= 0
        )
        self._open = {producer_id: first_offset for first_offset, producer_id in by_offset}
        self._uncommitted.clear()
        self.first_unstable = self.first_open
