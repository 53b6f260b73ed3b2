"""Batches in a piece of a log, by columns: where each is, and what its header says.

A log of batches of one record has hundreds of thousands of them a second: nothing is done for each of these in Python. A
piece of a segment is looked over in one call (`IRecordScanner.look_over`), which gives a table with a row for each whole batch
whose CRC is right; what counts of them is chosen by column, and signed in one more call (`sign_batches`).

Here are the columns, what both implementations share, and `look_over` in plain Python: the definition, and the twin's way.
For the format see `chronik.wire.batches`, a sibling that is not imported here.
"""

from __future__ import annotations

from struct import Struct

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from chronik.native.sections import MAX_BYTES
from chronik.native.tokens import Buffer

HEADER_BYTES = 61
MAGIC = 2
APPEND_TIME_BIT = 0x08
CODEC_BITS = 0x07
EARLIEST, LATEST = -(2**63), 2**63 - 1

BATCH = np.dtype(
    [
        ("position", np.int64),
        ("size", np.int64),
        ("records", np.int64),
        ("records_size", np.int64),
        ("base_offset", np.int64),
        ("following", np.int64),
        ("base_timestamp", np.int64),
        ("max_timestamp", np.int64),
        ("producer_id", np.int64),
        ("last_offset_delta", np.int32),
        ("record_count", np.int32),
        ("attributes", np.int32),
        ("codec", np.int32),
    ]
)
"""`position` in the buffer and `size`, header included, in bytes; the same of its `records`, which are elsewhere once they are
decompressed. `following` is the offset after the batch, within 64 bits. The rest as in the header, unchecked; `codec` is of
the attributes."""

SIGNED = np.dtype([("first_timestamp", np.int64), ("last_timestamp", np.int64), ("reason", np.int64)])
"""What `sign_batches` says of a batch: the least and the largest timestamp of its records (ms, modulo 2**64; that of the append
where it stands for all of them), and a `Reason` if it has a fault, else 0. Without records LATEST and EARLIEST."""

_LENGTH_END, _CRC_AT, _CRC_START = 12, 17, 21
_unpack = Struct(">qiibIhiqqqhii").unpack_from


def look_over(buffer: Buffer, upper: int) -> NDArray[np.void]:
    """See `IRecordScanner.look_over`."""
    view, end, position = memoryview(buffer), len(buffer), 0
    found: list[tuple[int, ...]] = []
    while end - position >= HEADER_BYTES:
        base, length, _, magic, crc, attributes, delta, first, latest, producer, _, _, count = _unpack(buffer, position)
        size = length + _LENGTH_END
        if magic != MAGIC or not HEADER_BYTES <= size <= end - position:
            break
        if crc32c(view[position + _CRC_START : position + size]) != crc:
            break
        following = min(max(base + delta + 1, EARLIEST), LATEST)
        places = position, size, position + HEADER_BYTES, size - HEADER_BYTES
        codec = attributes & CODEC_BITS
        found.append((*places, base, following, first, latest, producer, delta, count, attributes, codec))
        position += size
        if following >= upper:
            break
    return np.array(found, BATCH)


def with_right_crcs(buffer: Buffer, rows: NDArray[np.void], beyond: int) -> NDArray[np.void]:
    """The rows before the first of more than `beyond` bytes whose CRC is wrong."""
    view = memoryview(buffer)
    for number in (rows["size"] > beyond).nonzero()[0].tolist():
        at = int(rows["position"][number])
        stated = int.from_bytes(view[at + _CRC_AT : at + _CRC_START], "big")
        if crc32c(view[at + _CRC_START : at + int(rows["size"][number])]) != stated:
            return rows[:number]
    return rows


def check_kind(rows: NDArray[np.void]) -> None:
    """Raise ValueError for what is no table of batches."""
    if rows.dtype != BATCH:
        raise ValueError(f"rows of {rows.dtype} are none of batches")


def not_within() -> ValueError:
    """The error for rows whose records are not where they say."""
    return ValueError("the records of a batch are not within their buffer, or have 2 GiB or more")


def check_rows(buffer: Buffer, rows: NDArray[np.void]) -> None:
    """Raise ValueError for what is no table of batches whose records are within the buffer."""
    check_kind(rows)
    records, size = rows["records"], rows["records_size"]
    if ((records < 0) | (size < 0) | (size > MAX_BYTES) | (records > len(buffer) - size)).any():
        raise not_within()
