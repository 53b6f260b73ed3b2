"""One section walked through in plain Python: what the records are, and where the first fault is.

The definition that C and numpy are held against, and the twin's way for what numpy is no good at: headers, and faults. Two
microseconds a record.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from chronik.native.sections import SMALLEST_RECORD, MalformedRecords, Reason
from chronik.native.tokens import Buffer

Headers = list[tuple[int, int, int, int]]


class Row(NamedTuple):
    """One record: the fields of `Columns`."""

    timestamp_delta: int
    offset_delta: int
    key_start: int
    key_length: int
    value_start: int
    value_length: int
    headers_start: int
    header_count: int


class Fault(Exception):
    """What is wrong, and at which byte."""

    def __init__(self, reason: Reason, byte: int) -> None:
        super().__init__(reason, byte)
        self.reason = reason
        self.byte = byte


def walk(section: Buffer, count: int, last_offset_delta: int) -> Iterator[Row]:
    """The `count` records of a section, all of it. Raises MalformedRecords at the first fault, after the records before it."""
    end = len(section)
    if count < 0 or count * SMALLEST_RECORD > end:
        raise MalformedRecords(Reason.COUNT, 0, 0)
    at = 0
    for record in range(count):
        try:
            row, at = _record(section, at, end, last_offset_delta)
        except Fault as fault:
            raise MalformedRecords(fault.reason, record, fault.byte) from None
        yield row
    if at != end:
        raise MalformedRecords(Reason.TRAILING, count, at)


def header_places(b: Buffer, start: int, count: int, stop: int | None = None) -> tuple[Headers, int]:
    """Name start, name length, value start, value length of each header from `start` on, and the byte after them.

    Raises Fault where they are not all before `stop`; those of `Columns` are.
    """
    found: Headers = []
    position, stop = start, len(b) if stop is None else stop
    for _ in range(count):
        at = position
        name, size, position = _bytes(b, at, stop)
        if size < 0:
            raise Fault(Reason.NULL_NAME, at)
        value, length, position = _bytes(b, position, stop)
        found.append((name, size, value, length))
    return found, position


def headers(section: Buffer, start: int, count: int) -> list[tuple[bytes, bytes | None]]:
    """Name and value of each header of a record in `Columns`."""
    return [
        (bytes(section[name : name + size]), bytes(section[value : value + length]) if length >= 0 else None)
        for name, size, value, length in header_places(section, start, count)[0]
    ]


def _record(b: Buffer, at: int, end: int, last_offset_delta: int) -> tuple[Row, int]:
    length, position = _varint(b, at, end, 32)
    stop = position + length
    if length < 0 or stop > end:
        raise Fault(Reason.LENGTH, at)
    if position == stop:
        raise Fault(Reason.CUT_OFF, position)  # there is no room for its attributes, which mean nothing so far
    timestamp_delta, position = _varint(b, position + 1, stop, 64)
    at = position
    offset_delta, position = _varint(b, at, stop, 32)
    if not 0 <= offset_delta <= last_offset_delta:
        raise Fault(Reason.OFFSET_DELTA, at)
    key_start, key_length, position = _bytes(b, position, stop)
    value_start, value_length, position = _bytes(b, position, stop)
    at = position
    count, position = _varint(b, at, stop, 32)
    if count < 0 or count * 2 > stop - position:
        raise Fault(Reason.HEADER_COUNT, at)
    headers_start = position
    if count:
        position = header_places(b, position, count, stop)[1]
    if position != stop:
        raise Fault(Reason.LEFT_OVER, position)
    row = Row(
        timestamp_delta, offset_delta, key_start, key_length, value_start, value_length, headers_start, count
    )  # fmt: skip
    return row, stop


def _bytes(b: Buffer, at: int, stop: int) -> tuple[int, int, int]:
    """Start, length (-1 for null) and end of the bytes whose length stands at `at`."""
    length, start = _varint(b, at, stop, 32)
    if length == -1:
        return start, -1, start
    if length < 0 or start + length > stop:
        raise Fault(Reason.LENGTH, at)
    return start, length, start + length


def _varint(b: Buffer, at: int, stop: int, bits: int) -> tuple[int, int]:
    """The signed varint at `at`, and the position after it."""
    value = shift = 0
    position = at
    while True:
        if position >= stop:
            raise Fault(Reason.CUT_OFF, at)
        byte = b[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift >= bits:
            raise Fault(Reason.VARINT, at)
    if value >> bits:
        raise Fault(Reason.VARINT, at)
    return value >> 1 ^ -(value & 1), position
