"""Which of the oldest segments may go: pure functions over (largest timestamp, size), oldest first.

All take only the segments that may be touched at all: those wholly below the high watermark.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chronik.log.config import NO_LIMIT


def expired_by_time(max_timestamps: Iterable[int], now_ms: int, retention_ms: int) -> int:
    """How many have only records older than `retention_ms`, up to the first that doesn't."""
    if retention_ms == NO_LIMIT:
        return 0
    count = 0
    for timestamp in max_timestamps:
        if now_ms - timestamp <= retention_ms:
            break
        count += 1
    return count


def expired_by_size(sizes: Sequence[int], total_bytes: int, retention_bytes: int) -> int:
    """How many can go so that the log of `total_bytes` keeps at least `retention_bytes`."""
    if retention_bytes == NO_LIMIT:
        return 0
    excess = total_bytes - retention_bytes
    count = 0
    for size in sizes:
        if size > excess:
            break
        excess -= size
        count += 1
    return count


def below_start(next_offsets: Iterable[int], log_start: int) -> int:
    """How many end at or before the log start (after DeleteRecords)."""
    count = 0
    for next_offset in next_offsets:
        if next_offset > log_start:
            break
        count += 1
    return count
