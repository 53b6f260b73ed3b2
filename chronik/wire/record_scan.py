"""A records section looked through without making records of it: what compaction and the key check need, and no more.

`scan_records` gives for every record where it begins and ends, its offset, its key and whether it has a value;
`keyless_records` only which have no key. Both are loops over records, at a microsecond or two a record: they run in a
worker process or in a thread, or on few records (see `chronik.broker.key_check`).

Varints are read in line where they have one or two bytes, which nearly all have.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from chronik.errors import KafkaError
from chronik.wire.batches import invalid_record
from chronik.wire.compiler import uvarint

SLICE = 500
"""Records between two times that `keyless_records` lets go: a third of a millisecond."""


class ScannedRecord(NamedTuple):
    """Where a record is in its section, and what tells whether it stays.

    The bytes from `start` to `stop` are the whole record, with its length; from `tail` on they don't depend on the batch's
    base timestamp.
    """

    start: int
    stop: int
    tail: int
    timestamp_delta: int
    offset_delta: int
    key: bytes | None
    has_value: bool


def scan_records(section: bytes, count: int) -> list[ScannedRecord]:
    """The `count` records of a decompressed section, all of it. Raises KafkaError(INVALID_RECORD) where they are not there."""
    found: list[ScannedRecord] = []
    note, make = found.append, tuple.__new__
    position = 0
    try:
        for _ in range(count):
            start = position
            length, position = read_varint(section, position)
            stop = position + length
            position += 1  # attributes
            if length < 0 or stop > len(section):
                raise _broken(len(found), count, f"{length} bytes declared, {len(section) - position + 1} remain")
            timestamp_delta = section[position]
            position += 1
            if timestamp_delta & 0x81:
                timestamp_delta, position = read_varint(section, position - 1)
            else:
                timestamp_delta >>= 1
            tail = position
            offset_delta = section[position]
            position += 1
            if offset_delta & 0x81:
                offset_delta, position = read_varint(section, position - 1)
            else:
                offset_delta >>= 1
            size = section[position]
            position += 1
            if size & 0x81:
                size, position = read_varint(section, position - 1)
            else:
                size >>= 1
            key = None
            if size >= 0:
                key = section[position : position + size]
                position += size
            elif size != -1:
                raise _broken(len(found), count, f"a key of {size} bytes")
            if position >= stop:
                raise _broken(len(found), count, f"its key ends {position - stop} bytes beyond it")
            size = section[position]  # of the value; null is -1, which is 1 in one byte
            has_value = size != 1 and (size != 0x81 or read_varint(section, position)[0] >= 0)
            note(make(ScannedRecord, (start, stop, tail, timestamp_delta, offset_delta, key, has_value)))
            position = stop
    except IndexError:
        raise _broken(len(found), count, "it is cut off") from None
    if position != len(section):
        raise invalid_record(f"{len(section) - position} bytes follow the last of {count} records")
    return found


def keyless_records(section: bytes, count: int) -> Iterator[list[int]]:
    """The indexes of records without a key, `SLICE` records at a time. Raises KafkaError as `scan_records` does."""
    end, position = len(section), 0
    for begin in range(0, count, SLICE):
        missing: list[int] = []
        for index in range(begin, min(begin + SLICE, count)):
            try:
                byte = section[position]
                if byte & 0x81:
                    length, position = read_varint(section, position)
                else:
                    length, position = byte >> 1, position + 1
                stop = position + length
                if length < 0 or stop > end:
                    raise _broken(index, count, f"{length} bytes declared, {end - position} remain")
                position += 1  # attributes
                while section[position] & 0x80:  # the timestamp
                    position += 1
                position += 1
                while section[position] & 0x80:  # the offset
                    position += 1
                position += 1
                size = section[position]
                if size & 0x81 and read_varint(section, position)[0] < 0:
                    missing.append(index)
                if position >= stop:
                    raise _broken(index, count, "it ends before its key")
                position = stop
            except IndexError:
                raise _broken(index, count, "it is cut off") from None
        yield missing
    if position != end:
        raise invalid_record(f"{end - position} bytes follow the last of {count} records")


def read_varint(section: bytes, position: int) -> tuple[int, int]:
    """The signed varint at `position`, and the position after it. IndexError at the end of the section."""
    value = section[position]
    position += 1
    if value < 0x80:
        return value >> 1 ^ -(value & 1), position
    byte = section[position]
    position += 1
    value = value & 0x7F | (byte & 0x7F) << 7
    shift = 14
    while byte >= 0x80:
        byte = section[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if shift > 70:
            raise invalid_record("a varint runs over 64 bits")
    return value >> 1 ^ -(value & 1), position


def write_varint(value: int) -> bytes:
    """`value` as a signed varint."""
    return uvarint(value << 1 if value >= 0 else ~value << 1 | 1)


def _broken(index: int, count: int, fault: str) -> KafkaError:
    return invalid_record(f"record {index} of {count}: {fault}")
