"""Finding batches in a segment by its sparse indexes, and reading from there.

The offset index gives a position a little before the wanted batch, and one a little before the end of the read; only the few
headers from there on are looked at, inside the bytes that are read anyway. Where a read ended is remembered, since the next
one usually begins there.

**An index is only a hint.** The header at an entry's position must be that of the batch which the entry names; where it isn't,
the file has rotted, and a RottenIndexError says so. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from chronik.errors import KafkaError
from chronik.interfaces import Buffer
from chronik.log.index import RottenIndexError
from chronik.wire.records import HEADER_BYTES, NO_TIMESTAMP, BatchHeader, read_header

if TYPE_CHECKING:
    from chronik.log.segment import Segment

_REMEMBERED_ENDS = 16


def read_by_index(
    segment: Segment, offset: int, max_bytes: int, upper: int, at_least_one: bool
) -> tuple[Buffer, bool, int]:
    """As `Segment.read`, of batches anywhere in `segment`. Raises RottenIndexError."""
    begin, entry = segment.last_ends.get(offset, -1), (0, 0)
    if begin < 0:
        entry = segment.index.floor(offset - segment.base_offset)
        begin = entry[1]
    want = min(max_bytes + segment.index_interval + HEADER_BYTES, segment.size - begin)
    chunk: Buffer = segment.file.pread(want, begin)
    _check(segment, entry, offset, begin, chunk)
    start, first = _find(segment, offset, begin, chunk)
    if first is None or first.next_offset > upper:
        return b"", upper <= segment.next_offset, offset
    limit = min(start + max_bytes, segment.size)
    if start + first.size > limit:
        if not at_least_one:
            return b"", False, offset
        stop, end_offset = start + first.size, first.next_offset
    else:
        stop, end_offset = _find_stop(segment, start, first, limit, upper, begin, chunk)
    ends = segment.last_ends
    if len(ends) >= _REMEMBERED_ENDS:
        del ends[next(iter(ends))]
    ends[end_offset] = stop
    if stop - begin > len(chunk):
        chunk = segment.file.pread(stop - start, start)
    elif start > begin or stop - begin < len(chunk):
        chunk = memoryview(chunk)[start - begin : stop - begin]
    return chunk, end_offset >= upper, end_offset


def seek(segment: Segment, offset: int) -> tuple[int, BatchHeader | None]:
    """Position and header of the batch that holds `offset`, or of the first after it; (size, None) at the end.

    Raises RottenIndexError.
    """
    entry = segment.index.floor(offset - segment.base_offset)
    _check(segment, entry, offset)
    return _find(segment, offset, entry[1], b"")


def seek_time(segment: Segment, entry: tuple[int, int]) -> int:
    """The position of the batch that an entry of the time index names. Raises RottenIndexError."""
    timestamp, relative = entry
    if timestamp == NO_TIMESTAMP:
        return 0
    base_offset = segment.base_offset + relative
    position, header = seek(segment, base_offset)
    if header is None or (header.base_offset, header.max_timestamp) != (base_offset, timestamp):
        raise RottenIndexError(segment.name)
    return position


def _find(segment: Segment, offset: int, position: int, chunk: Buffer) -> tuple[int, BatchHeader | None]:
    """Position and header of the first batch from `position` on that ends after `offset`; None at the segment's end."""
    for found, header in _walk(segment, position, position, chunk):
        if header.last_offset >= offset:
            return found, header
    return segment.size, None


def _find_stop(
    segment: Segment, start: int, first: BatchHeader, limit: int, upper: int, begin: int, chunk: Buffer
) -> tuple[int, int]:
    """Where the last whole batch ends that ends at or before position `limit` and offset `upper`, and its next offset."""
    if limit == segment.size and upper >= segment.next_offset:
        return segment.size, segment.next_offset
    entry = segment.index.floor_position(limit)
    if upper < segment.next_offset:
        entry = min(entry, segment.index.floor(upper - segment.base_offset))
    near = entry[1]
    stop, end_offset = start + first.size, first.next_offset
    if near <= start:
        near = stop
    else:
        if near > limit:
            raise RottenIndexError(segment.name)
        _check(segment, entry, upper, begin, chunk)
        stop = near  # a batch begins at an index entry, so the ones before it are whole
    for found, header in _walk(segment, near, begin, chunk):
        if found + header.size > limit or header.next_offset > upper:
            return found, header.base_offset
        stop, end_offset = found + header.size, header.next_offset
    return stop, end_offset


def _walk(segment: Segment, position: int, chunk_start: int, chunk: Buffer) -> Iterator[tuple[int, BatchHeader]]:
    """Headers from `position` on, out of `chunk` as far as it goes, then from the file."""
    while position < segment.size:
        header = _header_at(segment, position, chunk_start, chunk)
        yield position, header
        position += header.batch_length + 12


def _header_at(segment: Segment, position: int, chunk_start: int, chunk: Buffer) -> BatchHeader:
    at = position - chunk_start
    if at >= 0 and len(chunk) - at >= HEADER_BYTES:
        return read_header(chunk, at)
    return read_header(segment.file.pread(HEADER_BYTES, position))


def _check(segment: Segment, entry: tuple[int, int], offset: int, chunk_start: int = 0, chunk: Buffer = b"") -> None:
    """Raise RottenIndexError unless the batch that an `entry` for `offset` names is at its position."""
    relative, position = entry
    if not position:
        return  # a look-up from the start of the segment finds everything
    base_offset = segment.base_offset + relative
    try:
        found = _header_at(segment, position, chunk_start, chunk).base_offset
    except KafkaError:
        raise RottenIndexError(segment.name) from None
    if found != base_offset or found > offset:
        raise RottenIndexError(segment.name)
