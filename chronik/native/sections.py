"""What goes into the native code and comes out: records sections, the columns of one, what is wrong with one.

A section is what follows a batch's header, decompressed: the records one behind another, as in `chronik.wire.records`. A
fault is named by its record, the byte at which the bad field begins, and a reason; every implementation names the same one,
the first.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from chronik.errors import ErrorCode, KafkaError
from chronik.native.tokens import Buffer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_BYTES = 2**31 - 1
"""Of a section."""
SMALLEST_RECORD = 7
"""Bytes: length, attributes, timestamp, offset, key, value, count of headers, one each."""


class Section(NamedTuple):
    """The records of one batch, decompressed, and how many the batch's header says they are."""

    records: Buffer
    count: int  # type: ignore[assignment]  # tuples have a method of that name, which nobody calls here


class Columns(NamedTuple):
    """One row a record. Places are bytes of the section; the length of a null is -1.

    Headers are `header_count` times a name and a value, each with its length before it, from `headers_start` on; they are
    checked: `chronik.native.records.headers` reads them.
    """

    timestamp_delta: NDArray[np.int64]
    offset_delta: NDArray[np.int32]
    key_start: NDArray[np.int32]
    key_length: NDArray[np.int32]
    value_start: NDArray[np.int32]
    value_length: NDArray[np.int32]
    headers_start: NDArray[np.int32]
    header_count: NDArray[np.int32]


class Reason(IntEnum):
    """Why bytes are not the records that they should be. The numbers are those of the C code."""

    COUNT = 1
    CUT_OFF = 2
    VARINT = 3
    LENGTH = 4
    OFFSET_DELTA = 5
    HEADER_COUNT = 6
    NULL_NAME = 7
    LEFT_OVER = 8
    TRAILING = 9


_TEXTS = {
    Reason.COUNT: "so many records cannot be in so few bytes",
    Reason.CUT_OFF: "it is cut off",
    Reason.VARINT: "a varint is longer than its type",
    Reason.LENGTH: "a length is negative or goes beyond the end",
    Reason.OFFSET_DELTA: "its offset is outside of the batch",
    Reason.HEADER_COUNT: "so many headers cannot be in so few bytes",
    Reason.NULL_NAME: "a header's name is null",
    Reason.LEFT_OVER: "bytes of it are left over",
    Reason.TRAILING: "bytes follow the last record",
}


class MalformedRecords(KafkaError):
    """A section does not hold the records that it should: INVALID_RECORD, with section, record and byte counted from 0."""

    def __init__(self, reason: Reason, record: int, byte: int, section: int = 0) -> None:
        super().__init__(ErrorCode.INVALID_RECORD, f"record {record}, at byte {byte} of its section: {_TEXTS[reason]}")
        self.reason = reason
        self.record = record
        self.byte = byte
        self.section = section


def check_size(section: Section) -> None:
    """Raise ValueError for more bytes than the format can hold."""
    if len(section.records) > MAX_BYTES:
        raise ValueError(f"a records section of {len(section.records)} bytes; the most is {MAX_BYTES}")


def check_count(section: Section) -> None:
    """Raise MalformedRecords for more records than there is room for."""
    if not 0 <= section.count <= len(section.records) // SMALLEST_RECORD:
        raise MalformedRecords(Reason.COUNT, 0, 0)
