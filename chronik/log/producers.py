"""What a partition remembers of the producers that write to it idempotently (KIP-98, KIP-360).

Of each producer id the last five batches are kept: their sequence numbers, offsets and timestamps. With them `check`
tells a batch that is next in line from a retry, which is answered with the offset that it got the first time, and
from a gap, which is refused. The rules are those of Apache Kafka 4.1: a producer that isn't known may begin at any
sequence, a new epoch begins at 0, sequences go from 2**31 - 1 to 0.

The state is derived from the log: `snapshot` and `restore` only shorten the replay (`update` for each batch after it).

An entry has room for what transactions need (coordinator epoch, first offset of the open transaction); neither is
served yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from crc32c import crc32c

from chronik.errors import CorruptLogError, ErrorCode, KafkaError
from chronik.wire.records import BatchHeader

NO_SEQUENCE = -1
NO_COORDINATOR_EPOCH = -1
NO_TRANSACTION = -1
REMEMBERED_BATCHES = 5
"""As many batches as an idempotent producer may have in flight on one connection."""

_MAX_SEQUENCE = 0x7FFFFFFF
_MAGIC = b"CHPS\x00\x01"
_preamble = Struct(">6sqi")  # magic and version, offset, count of entries
_entry = Struct(
    ">qhiqqib"
)  # id, epoch, coordinator epoch, transaction start, timestamp, last sequence, count of batches
_batch = Struct(">iiqqq")
_crc = Struct(">I")

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


class Producers:
    """The producers of one partition, `name` in error texts."""

    __slots__ = ("_entries", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        self._entries: dict[int, ProducerEntry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> list[ProducerEntry]:
        """All producers, in no particular order."""
        return list(self._entries.values())

    def check(self, header: BatchHeader) -> tuple[int, int] | None:
        """None where the batch may be appended; (base offset, timestamp) of the first append where it is a retry.

        Raises KafkaError: INVALID_PRODUCER_EPOCH for an epoch older than the producer's newest,
        OUT_OF_ORDER_SEQUENCE_NUMBER.
        """
        entry = self._entries.get(header.producer_id)
        if entry is None:
            return None
        sequence = header.base_sequence
        if header.producer_epoch == entry.epoch:
            if sequence == (entry.last_sequence + 1) & _MAX_SEQUENCE:
                return None
            last = header.last_sequence
            for batch in entry.batches:
                if batch[0] == sequence and batch[1] == last:
                    return batch[2], batch[4]
            raise self._refuse(
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, header, f"follows {entry.last_sequence}, the last one appended"
            )
        if header.producer_epoch < entry.epoch:
            raise self._refuse(ErrorCode.INVALID_PRODUCER_EPOCH, header, f"comes after epoch {entry.epoch}")
        if sequence:
            raise self._refuse(
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, header, f"begins an epoch after {entry.epoch}, it must be 0"
            )
        return None

    def _refuse(self, code: ErrorCode, header: BatchHeader, fault: str) -> KafkaError:
        text = (
            f"sequence {header.base_sequence} of producer {header.producer_id}, epoch {header.producer_epoch}, {fault}"
        )
        return KafkaError(code, f"{self._name}: {text}")

    def update(self, header: BatchHeader, base_offset: int) -> None:
        """Remember an appended batch of an idempotent producer. `base_offset` is where it went."""
        producer_id = header.producer_id
        entry = self._entries.get(producer_id)
        if entry is None:
            entry = self._entries[producer_id] = ProducerEntry(producer_id, header.producer_epoch)
        elif entry.epoch != header.producer_epoch:
            entry.epoch = header.producer_epoch
            entry.batches.clear()
        batches = entry.batches
        delta = header.last_offset_delta
        entry.last_sequence = last = (header.base_sequence + delta) & _MAX_SEQUENCE
        entry.last_timestamp = timestamp = header.max_timestamp
        batches.append((header.base_sequence, last, base_offset, base_offset + delta, timestamp))
        if len(batches) > REMEMBERED_BATCHES:
            del batches[0]

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
        self._entries.clear()

    # -- snapshots ----------------------------------------------------------------------------------------------------

    def snapshot(self, offset: int) -> bytes:
        """The state after all batches below `offset`, as bytes with a CRC-32C."""
        out = bytearray(_preamble.pack(_MAGIC, offset, len(self._entries)))
        for entry in self._entries.values():
            out += _entry.pack(
                entry.producer_id,
                entry.epoch,
                entry.coordinator_epoch,
                entry.transaction_first_offset,
                entry.last_timestamp,
                entry.last_sequence,
                len(entry.batches),
            )
            for batch in entry.batches:
                out += _batch.pack(*batch)
        out += _crc.pack(crc32c(out))
        return bytes(out)

    def restore(self, content: bytes, offset: int) -> None:
        """Take over the state of a snapshot at `offset`. Raises CorruptLogError, and then the state is as before."""
        body = memoryview(content)[: -_crc.size]
        if len(content) < _preamble.size + _crc.size or crc32c(body) != _crc.unpack_from(content, len(body))[0]:
            raise self._corrupt(offset, "its checksum differs")
        magic, stored_offset, count = _preamble.unpack_from(body)
        if magic != _MAGIC or stored_offset != offset:
            raise self._corrupt(offset, f"it says {magic!r} and offset {stored_offset}")
        entries: dict[int, ProducerEntry] = {}
        position = _preamble.size
        for _ in range(count):
            fields: Sequence[int] = _entry.unpack_from(body, position)
            position += _entry.size
            entry = entries[fields[0]] = ProducerEntry(fields[0], fields[1])
            _, _, entry.coordinator_epoch, entry.transaction_first_offset, entry.last_timestamp, last, batches = fields
            entry.last_sequence = last
            for _ in range(batches):
                entry.batches.append(_batch.unpack_from(body, position))
                position += _batch.size
        self._entries = entries

    def _corrupt(self, offset: int, fault: str) -> CorruptLogError:
        return CorruptLogError(
            f"{self._name}: the snapshot of producers at offset {offset} cannot be used: {fault}; delete it and start again, "
            "the state is then rebuilt from the log"
        )
