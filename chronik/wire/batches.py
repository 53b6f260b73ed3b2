"""Batches of records, version 2: their headers, what makes one acceptable, and the bytes a broker may change.

A batch is a header of 61 bytes and then its records, as one run of varints or compressed as a whole::

    base offset 8 | length 4 | leader epoch 4 | magic 1 | CRC 4 | attributes 2 | last offset delta 4
    base timestamp 8 | max timestamp 8 | producer id 8 | producer epoch 2 | base sequence 4 | record count 4

`length` counts what follows it. The CRC-32C covers everything from the attributes on, so a broker can write base offset
and leader epoch into a batch without touching it. On the data path nothing but headers is read. Import these names from
`chronik.wire.records`, which adds the records themselves.

Sources: KIP-98 (the format), KIP-32 (timestamps), KIP-360 (sequences), KIP-534 (delete horizon).
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from crc32c import crc32c

from chronik.errors import ErrorCode, KafkaError
from chronik.wire.compression import Codec, codec_of

Buffer = bytes | bytearray | memoryview

HEADER_BYTES = 61
LENGTH_END = 12
"""Bytes before those that `batch_length` counts."""
MAGIC = 2
NO_PRODUCER_ID = -1
NO_TIMESTAMP = -1
MAX_BATCH_BYTES = 2**31 - 1

CODEC_BITS = 0x07
LOG_APPEND_TIME_BIT = 0x08
TRANSACTIONAL_BIT = 0x10
CONTROL_BIT = 0x20
DELETE_HORIZON_BIT = 0x40

_CRC_START = 21
_MAGIC_AT = 16
_SHORTEST_LENGTH = 14  # of a message of format 0, the smallest thing that ever had this length field
_JUDGED_BITS = CODEC_BITS | CONTROL_BIT | DELETE_HORIZON_BIT
_HIGHEST_CODEC = int(Codec.ZSTD)

_header = Struct(">qiibIhiqqqhii")
_unpack_header = _header.unpack_from
_unpack_length = Struct(">8xi").unpack_from
_pack_base_offset = Struct(">q").pack_into
_pack_leader_epoch = Struct(">i").pack_into
_pack_length = Struct(">i").pack_into
_pack_crc = Struct(">I").pack_into
_pack_attributes = Struct(">h").pack_into
_pack_max_timestamp = Struct(">q").pack_into
_new_tuple = tuple.__new__


class BatchHeader(NamedTuple):
    """The header of one batch, field by field. Offsets and timestamps (ms) are absolute, `crc` is as stored."""

    base_offset: int
    batch_length: int
    partition_leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size(self) -> int:
        """Bytes of the whole batch, header included."""
        return self.batch_length + LENGTH_END

    @property
    def last_offset(self) -> int:
        """The offset of the last record; compaction may have removed that record."""
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        """The offset after the batch."""
        return self.base_offset + self.last_offset_delta + 1

    @property
    def codec(self) -> Codec:
        """How the records are compressed. Raises KafkaError(UNSUPPORTED_COMPRESSION_TYPE)."""
        return codec_of(self.attributes & CODEC_BITS)

    @property
    def log_append_time(self) -> bool:
        """Whether `max_timestamp`, set by the broker at the append, is the timestamp of every record."""
        return self.attributes & LOG_APPEND_TIME_BIT != 0

    @property
    def transactional(self) -> bool:
        """Whether the batch belongs to a transaction; `control` tells records from the marker that ends one."""
        return self.attributes & TRANSACTIONAL_BIT != 0

    @property
    def control(self) -> bool:
        """Whether the batch holds a control record: a transaction marker, or one of the Raft log."""
        return self.attributes & CONTROL_BIT != 0

    @property
    def has_delete_horizon(self) -> bool:
        """Whether compaction put the time at which tombstones may go in place of `base_timestamp` (KIP-534)."""
        return self.attributes & DELETE_HORIZON_BIT != 0

    @property
    def idempotent(self) -> bool:
        """Whether the batch has a producer id, and so an epoch and a sequence."""
        return self.producer_id > NO_PRODUCER_ID

    @property
    def last_sequence(self) -> int:
        """The sequence number of the last record; numbers wrap to 0 after 2**31 - 1."""
        return (self.base_sequence + self.last_offset_delta) & 0x7FFFFFFF


# --- headers: the data path ------------------------------------------------------------------------------------------


def read_header(buffer: Buffer, position: int = 0) -> BatchHeader:
    """The header of the batch at `position`. Only magic and length are checked: see `verify`.

    Raises KafkaError: CORRUPT_MESSAGE when there is no whole header or it cannot be one, UNSUPPORTED_FOR_MESSAGE_FORMAT
    for the formats 0 and 1.
    """
    remaining = len(buffer) - position
    if remaining < HEADER_BYTES:
        raise corrupt_batch(
            f"{remaining} bytes at position {position} are too few for a batch header of {HEADER_BYTES}"
        )
    header = _new_tuple(BatchHeader, _unpack_header(buffer, position))
    if header.magic != MAGIC or header.batch_length < HEADER_BYTES - LENGTH_END:
        raise _not_a_batch(header, position)
    return header


def verify(buffer: Buffer, position: int = 0) -> BatchHeader:
    """Check that a whole batch stands at `position`, and its CRC. Return its header.

    Raises KafkaError like `read_header`, and CORRUPT_MESSAGE when bytes are missing or the CRC differs.
    """
    header = read_header(buffer, position)
    stop = position + header.batch_length + LENGTH_END
    if stop > len(buffer):
        raise corrupt_batch(
            f"the batch at position {position} has {header.size} bytes, {len(buffer) - position} remain"
        )
    actual = crc32c(memoryview(buffer)[position + _CRC_START : stop])
    if actual != header.crc:
        raise _crc_differs(header, actual)
    return header


def split_batches(buffer: Buffer, position: int = 0) -> Iterator[tuple[int, BatchHeader]]:
    """(position, header) of each whole batch from `position` on. What a fetch cut off at the end is passed over.

    Raises KafkaError like `read_header` where the bytes cannot be a batch. CRCs are not checked.
    """
    end = len(buffer)
    while end - position >= HEADER_BYTES:
        header = read_header(buffer, position)
        stop = position + header.batch_length + LENGTH_END
        if stop > end:
            return
        yield position, header
        position = stop


def check_produced(batch: Buffer) -> BatchHeader:
    """The header of what a producer sent for one partition, if that is one batch fit to be appended unread.

    A batch may say that its timestamps are append times: whoever appends it overrules that (`stamp_append_time`,
    `unstamp_append_time`). Raises KafkaError with the codes of Kafka's own broker: CORRUPT_MESSAGE, INVALID_RECORD,
    INVALID_TIMESTAMP, INVALID_PRODUCER_EPOCH, UNSUPPORTED_COMPRESSION_TYPE. One condition decides; what was wrong is
    found out afterwards.
    """
    size = len(batch)
    if size < HEADER_BYTES:
        raise _produce_fault(batch, None)
    header = _new_tuple(BatchHeader, _unpack_header(batch, 0))
    base_offset, length, _, magic, crc, attributes, delta, first, latest, producer, epoch, sequence, count = header
    if (
        length + LENGTH_END != size
        or magic != MAGIC
        or crc32c(memoryview(batch)[_CRC_START:]) != crc
        or base_offset
        or not delta + 1 == count > 0
        or attributes & _JUDGED_BITS > _HIGHEST_CODEC  # an unknown codec, or a bit that is not the producer's to set
        or first < NO_TIMESTAMP  # their order is not looked at: some clients put the last timestamp for the largest
        or latest < NO_TIMESTAMP
        or ((epoch | sequence) < 0 if producer >= 0 else attributes & TRANSACTIONAL_BIT)
    ):
        raise _produce_fault(batch, header)
    return header


def is_one_batch(buffer: Buffer) -> bool:
    """Whether these bytes are one batch of format 2, by their lengths, and nothing else. Its contents may still be wrong."""
    size = len(buffer)
    return size >= HEADER_BYTES and buffer[_MAGIC_AT] == MAGIC and _unpack_length(buffer)[0] + LENGTH_END == size


def _produce_fault(batch: Buffer, header: BatchHeader | None) -> KafkaError:
    """Why `check_produced` refuses, in the order in which Kafka's broker looks."""
    if header is None or not is_one_batch(batch):
        return _not_one_batch(batch)
    actual = crc32c(memoryview(batch)[_CRC_START:])
    if actual != header.crc:
        return _crc_differs(header, actual)
    count, attributes = header.record_count, header.attributes
    if header.base_offset:
        return invalid_record(f"base offset {header.base_offset} in a produced batch, it must be 0")
    if count <= 0 or header.last_offset_delta + 1 != count:
        return invalid_record(f"{count} records with last offset delta {header.last_offset_delta}")
    if attributes & CODEC_BITS > _HIGHEST_CODEC:
        text = f"compression codec {attributes & CODEC_BITS} does not exist, 0 to 4 do"
        return KafkaError(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, text)
    if attributes & (CONTROL_BIT | DELETE_HORIZON_BIT):
        return invalid_record(
            "a producer may not send control records" if header.control else "a delete horizon is set"
        )
    if min(header.base_timestamp, header.max_timestamp) < NO_TIMESTAMP:
        text = f"base timestamp {header.base_timestamp}, max timestamp {header.max_timestamp}; -1 stands for none"
        return KafkaError(ErrorCode.INVALID_TIMESTAMP, text)
    text = (
        f"producer id {header.producer_id}, epoch {header.producer_epoch}, base sequence {header.base_sequence}"
        f"{', transactional' if header.transactional else ''}: these do not go together"
    )
    if header.idempotent and header.base_sequence >= 0:
        return KafkaError(ErrorCode.INVALID_PRODUCER_EPOCH, text)
    return invalid_record(text)


def _not_one_batch(batch: Buffer) -> KafkaError:
    """What is wrong with bytes that are not exactly one batch of format 2."""
    size = len(batch)
    if size < LENGTH_END:
        return invalid_record(f"{size} bytes hold no record batch; a produce request has exactly one per partition")
    (length,) = _unpack_length(batch)
    if length < _SHORTEST_LENGTH:
        return corrupt_batch(f"a batch length of {length} is less than that of any batch")
    if size <= _MAGIC_AT:
        return invalid_record(f"{size} bytes hold no record batch; a produce request has exactly one per partition")
    magic = memoryview(batch)[_MAGIC_AT]
    if magic > MAGIC:
        return corrupt_batch(f"magic {magic} at byte {_MAGIC_AT} is no record format")
    if magic != MAGIC:
        return invalid_record(
            f"records of format {magic} are not accepted since Kafka 4.0; use record batches, format 2"
        )
    if length + LENGTH_END != size:
        return invalid_record(
            f"a batch that says it has {length + LENGTH_END} bytes came in {size}; exactly one is expected"
        )
    return corrupt_batch(f"a batch of {size} bytes is less than its header of {HEADER_BYTES}")


# --- changes in place ------------------------------------------------------------------------------------------------


def assign_offsets(batch: bytearray | memoryview, base_offset: int, leader_epoch: int) -> None:
    """Write where the log puts the batch into its header. The CRC doesn't cover these bytes."""
    _pack_base_offset(batch, 0, base_offset)
    _pack_leader_epoch(batch, 12, leader_epoch)


def stamp_append_time(batch: bytearray | memoryview, now_ms: int) -> None:
    """Make `now_ms` the timestamp of every record in the batch (message.timestamp.type=LogAppendTime)."""
    _pack_attributes(batch, 21, _unpack_header(batch, 0)[5] | LOG_APPEND_TIME_BIT)
    _pack_max_timestamp(batch, 35, now_ms)
    _pack_crc(batch, 17, crc32c(memoryview(batch)[_CRC_START:]))


def unstamp_append_time(batch: bytearray | memoryview) -> None:
    """Make each record's own timestamp count again, in a batch that was said to be stamped (CreateTime)."""
    _pack_attributes(batch, 21, _unpack_header(batch, 0)[5] & ~LOG_APPEND_TIME_BIT)
    _pack_crc(batch, 17, crc32c(memoryview(batch)[_CRC_START:]))


def assemble(header: BatchHeader, section: Buffer) -> bytearray:
    """A whole batch of `header` and an encoded records section, with length and CRC filled in."""
    length = HEADER_BYTES - LENGTH_END + len(section)
    if length > MAX_BATCH_BYTES - LENGTH_END:
        raise KafkaError(ErrorCode.MESSAGE_TOO_LARGE, f"a batch of {length} bytes is beyond the format's 2 GiB")
    batch = bytearray(_header.pack(*header))
    batch += section
    _pack_length(batch, 8, length)
    _pack_crc(batch, 17, crc32c(memoryview(batch)[_CRC_START:]))
    return batch


# --- faults ----------------------------------------------------------------------------------------------------------


def corrupt_batch(text: str) -> KafkaError:
    """The error for bytes that are no batch, or not the ones that were written."""
    return KafkaError(ErrorCode.CORRUPT_MESSAGE, text)


def invalid_record(text: str) -> KafkaError:
    """The error for a batch that arrived as it was sent, and breaks a rule."""
    return KafkaError(ErrorCode.INVALID_RECORD, text)


def _crc_differs(header: BatchHeader, actual: int) -> KafkaError:
    return corrupt_batch(
        f"the batch at offset {header.base_offset} has CRC {actual:#010x}, its header says {header.crc:#010x}"
    )


def _not_a_batch(header: BatchHeader, position: int) -> KafkaError:
    if header.magic in (0, 1):
        return KafkaError(
            ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT,
            f"records of format {header.magic} at position {position}; only format 2 is supported",
        )
    if header.magic != MAGIC:
        return corrupt_batch(f"magic {header.magic} at position {position} is no record format")
    return corrupt_batch(f"a batch length of {header.batch_length} at position {position} is less than a header")
