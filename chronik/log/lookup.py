"""Finding records by time: what ListOffsets asks of a log.

The time index and batch headers lead to the one batch that holds the answer; only that one is decoded, to name the
record.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chronik.log.segment import Segment
from chronik.wire.records import NO_TIMESTAMP, BatchHeader, Record, decode_records

MAX_DECODED_BYTES = 128 << 20
"""What the one batch that is decoded may have uncompressed."""

Found = tuple[int, int, int]
"""Timestamp (ms), offset, leader epoch."""


def first_at_or_after(segments: Sequence[Segment], timestamp: int, start: int, upper: int) -> Found | None:
    """The first record from offset `start` on, below `upper`, whose timestamp is `timestamp` or later.

    Raises KafkaError where the batch cannot be read or decoded.
    """
    for segment in segments:
        if segment.base_offset >= upper:
            return None
        if segment.next_offset <= start or not segment.size or segment.newest_timestamp() < timestamp:
            continue
        for position, header in segment.batches_since(timestamp):
            if header.base_offset >= upper:
                return None
            if header.max_timestamp < timestamp or header.next_offset <= start:
                continue
            for record in _records(segment, position, header):
                if record.timestamp >= timestamp and start <= record.offset < upper:
                    return record.timestamp, record.offset, header.partition_leader_epoch
    return None


def largest_timestamp(segments: Sequence[Segment], start: int, upper: int) -> Found | None:
    """The first record, from offset `start` on and below `upper`, that has the largest timestamp of those."""
    best = NO_TIMESTAMP
    where: tuple[Segment, int, BatchHeader] | None = None
    for segment in segments:
        if not segment.size or segment.next_offset <= start or segment.base_offset >= upper:
            continue
        if segment.newest_timestamp() <= best:
            continue
        known = start <= segment.max_timestamp_offset < upper
        for position, header in segment.batches_soon(segment.max_timestamp_offset if known else segment.base_offset):
            if header.base_offset >= upper:
                break
            if header.max_timestamp > best and header.next_offset > start and header.record_count:
                best, where = header.max_timestamp, (segment, position, header)
            if known:
                break
    if where is None:
        return None
    found: Found | None = None
    for record in _records(*where):
        if start <= record.offset < upper and (found is None or record.timestamp > found[0]):
            found = record.timestamp, record.offset, where[2].partition_leader_epoch
    return found


def _records(segment: Segment, position: int, header: BatchHeader) -> Iterator[Record]:
    return decode_records(segment.file.pread(header.size, position), MAX_DECODED_BYTES)
