"""Records, and the batches of version 2 that they travel and are stored in.

A record is a length and then, all but the contents as zigzag varints::

    attributes | timestamp delta | offset delta | key length, key | value length, value | count of headers
    for each header: name length, name | value length, value

Deltas are to the base timestamp and base offset of the batch; a length of -1 is null. Records are never decoded between
a producer and a consumer: this is for the node's own topics, for tools and for indexing. The data path works on headers
(`check_produced`, `split_batches`, `assign_offsets`), see `chronik.wire.batches`.

Sources: KIP-98 (the format), KIP-82 (headers).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from chronik.errors import KafkaError
from chronik.wire.batches import (
    CODEC_BITS,
    CONTROL_BIT,
    HEADER_BYTES,
    MAGIC,
    NO_PRODUCER_ID,
    NO_TIMESTAMP,
    TRANSACTIONAL_BIT,
    BatchHeader,
    Buffer,
    assemble,
    assign_offsets,
    check_produced,
    corrupt_batch,
    invalid_record,
    is_one_batch,
    read_header,
    split_batches,
    stamp_append_time,
    unstamp_append_time,
    verify,
)
from chronik.wire.compression import Codec, compress, decompress

__all__ = [
    "HEADER_BYTES",
    "MAGIC",
    "NO_PRODUCER_ID",
    "NO_TIMESTAMP",
    "BatchHeader",
    "Codec",
    "Record",
    "assign_offsets",
    "check_produced",
    "decode_records",
    "encode_batch",
    "is_one_batch",
    "read_header",
    "recompress",
    "split_batches",
    "stamp_append_time",
    "unstamp_append_time",
    "verify",
]


class Record(NamedTuple):
    """One record. In a batch that is not appended yet, offsets count from 0. `timestamp` is in ms, -1 for none."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


def encode_batch(
    records: Iterable[Record],
    *,
    base_offset: int = 0,
    leader_epoch: int = -1,
    codec: Codec = Codec.NONE,
    level: int | None = None,
    producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    transactional: bool = False,
    control: bool = False,
) -> bytearray:
    """One batch of `records`, whose offsets ascend from `base_offset` or later. It is writable, for `assign_offsets`.

    Raises ValueError for no records and for offsets that don't ascend.
    """
    section = bytearray()
    count = last = 0
    base_timestamp = max_timestamp = NO_TIMESTAMP
    previous = base_offset - 1
    for record in records:
        if record.offset <= previous:
            raise ValueError(f"offset {record.offset} follows {previous} in a batch from {base_offset} on")
        if not count:
            base_timestamp = record.timestamp
        if record.timestamp > max_timestamp:
            max_timestamp = record.timestamp
        previous = record.offset
        last = previous - base_offset
        body = _encode_record(record, record.timestamp - base_timestamp, last)
        section += _zigzag(len(body))
        section += body
        count += 1
    if not count:
        raise ValueError("a batch has at least one record")
    attributes = codec | (TRANSACTIONAL_BIT if transactional else 0) | (CONTROL_BIT if control else 0)
    header = BatchHeader(
        base_offset=base_offset,
        batch_length=0,
        partition_leader_epoch=leader_epoch,
        magic=MAGIC,
        crc=0,
        attributes=attributes,
        last_offset_delta=last,
        base_timestamp=base_timestamp,
        max_timestamp=max_timestamp,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        record_count=count,
    )
    return assemble(header, compress(codec, section, level))


def _encode_record(record: Record, timestamp_delta: int, offset_delta: int) -> bytearray:
    body = bytearray(1)  # attributes, unused by the format so far
    body += _zigzag(timestamp_delta)
    body += _zigzag(offset_delta)
    _put_bytes(body, record.key)
    _put_bytes(body, record.value)
    body += _zigzag(len(record.headers))
    for name, value in record.headers:
        _put_bytes(body, name.encode())
        _put_bytes(body, value)
    return body


def _put_bytes(out: bytearray, value: bytes | None) -> None:
    if value is None:
        out.append(1)  # -1
    else:
        out += _zigzag(len(value))
        out += value


def _zigzag(value: int) -> bytes:
    """`value` as a signed varint: 0, -1, 1, -2, ... become 0, 1, 2, 3, ..."""
    value = value << 1 if value >= 0 else ~value << 1 | 1
    if value < _SHORT:
        return _VARINTS[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_SHORT = 0x4000
_VARINTS = [bytes((n,)) if n < 0x80 else bytes((n & 0x7F | 0x80, n >> 7)) for n in range(_SHORT)]
"""All of one byte or two: lengths, and deltas within a batch."""


def decode_records(batch: Buffer, max_bytes: int) -> Iterator[Record]:
    """The records of one whole batch, in order. The CRC is not looked at: see `verify`.

    The records section may decompress to `max_bytes` at most. Raises KafkaError: INVALID_RECORD where the section is
    not what the header says, and those of `read_header` and `decompress`.
    """
    header = read_header(batch)
    if header.size > len(batch):
        raise corrupt_batch(f"the batch has {header.size} bytes, {len(batch)} are here")
    if header.record_count < 0:
        raise invalid_record(f"the batch says it has {header.record_count} records")
    section = memoryview(decompress(header.codec, memoryview(batch)[HEADER_BYTES : header.size], max_bytes))
    base_offset, last_delta = header.base_offset, header.last_offset_delta
    append_time = header.max_timestamp if header.log_append_time else None
    end, position = len(section), 0
    for index in range(header.record_count):
        try:
            length, position = _read_zigzag(section, position, 32)
            stop = position + length
            if length < 0 or stop > end:
                raise invalid_record(f"{length} bytes declared, {end - position} remain")
            delta, offset_delta, key, value, headers, position = _decode_record(section[:stop], position)
            if position != stop:
                raise invalid_record(f"{stop - position} of its {length} bytes are left over")
            if not 0 <= offset_delta <= last_delta:
                raise invalid_record(f"offset delta {offset_delta} is outside 0 to {last_delta}")
        except IndexError:
            raise invalid_record(
                f"record {index} of {header.record_count}, in the batch at {base_offset}, is cut off"
            ) from None
        except KafkaError as problem:
            raise invalid_record(
                f"record {index} of {header.record_count}, in the batch at {base_offset}: {problem.message}"
            ) from None
        timestamp = header.base_timestamp + delta if append_time is None else append_time
        yield Record(base_offset + offset_delta, timestamp, key, value, headers)
    if position != end:
        raise invalid_record(f"{end - position} bytes follow the last record of the batch at {base_offset}")


_Decoded = tuple[int, int, bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...], int]


def _decode_record(b: memoryview, p: int) -> _Decoded:
    """What the record body at `p` holds, and the position after it. `b` ends where the body has to."""
    p += 1  # attributes, unused by the format so far
    timestamp_delta, p = _read_zigzag(b, p, 64)
    offset_delta, p = _read_zigzag(b, p, 32)
    key, p = _read_bytes(b, p)
    value, p = _read_bytes(b, p)
    count, p = _read_zigzag(b, p, 32)
    if not count:
        return timestamp_delta, offset_delta, key, value, (), p
    # A header takes two bytes at least: a length for its name and one for its value.
    if not 0 <= count * 2 <= len(b) - p:
        raise invalid_record(f"{count} headers declared, {len(b) - p} bytes remain")
    headers: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        name, p = _read_bytes(b, p)
        if name is None:
            raise invalid_record("a header's name is null")
        content, p = _read_bytes(b, p)
        headers.append((str(name, "utf-8", "replace"), content))
    return timestamp_delta, offset_delta, key, value, tuple(headers), p


def _read_bytes(b: memoryview, p: int) -> tuple[bytes | None, int]:
    length, p = _read_zigzag(b, p, 32)
    if length == -1:
        return None, p
    stop = p + length
    if length < 0 or stop > len(b):
        raise invalid_record(f"{length} bytes declared, {len(b) - p} remain")
    return bytes(b[p:stop]), stop


def _read_zigzag(b: memoryview, p: int, bits: int) -> tuple[int, int]:
    """The signed varint at `p` and the position after it. IndexError at the end of `b`."""
    byte = b[p]
    p += 1
    if byte < 0x80:
        return byte >> 1 ^ -(byte & 1), p
    value = byte & 0x7F
    shift = 7
    while True:
        byte = b[p]
        p += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift >= bits:
            raise invalid_record(f"a varint runs over {bits} bits")
    if value >> bits:
        raise invalid_record(f"a varint exceeds {bits} bits")
    return value >> 1 ^ -(value & 1), p


def recompress(batch: Buffer, codec: Codec, max_bytes: int, level: int | None = None) -> bytearray:
    """The same batch with its records compressed by `codec`, for topics whose compression.type names one.

    The records section is handled as a whole; records are not decoded. It may have up to `max_bytes` uncompressed.
    Raises KafkaError like `decompress`.
    """
    header = read_header(batch)
    plain = decompress(header.codec, memoryview(batch)[HEADER_BYTES : header.size], max_bytes)
    return assemble(header._replace(attributes=header.attributes & ~CODEC_BITS | codec), compress(codec, plain, level))
