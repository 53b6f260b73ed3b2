"""What a log acts on of its topic's settings."""

from __future__ import annotations

from dataclasses import dataclass

NO_LIMIT = -1
MAX_SEGMENT_BYTES = 0x7FFFFFFF
"""Positions in an offset index have four bytes."""


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Settings of one log, named as Kafka's topic configs. Sizes in bytes, times in ms, -1 for no limit."""

    segment_bytes: int = 1 << 30
    segment_ms: int = 7 * 24 * 3_600_000
    segment_jitter_ms: int = 0
    segment_index_bytes: int = 10 << 20
    index_interval_bytes: int = 4096
    retention_ms: int = 7 * 24 * 3_600_000
    retention_bytes: int = NO_LIMIT
    compacted: bool = False
    """Whether offsets may have gaps, since compaction took records away: here, or at a leader."""
    delete_retention_ms: int = 24 * 3_600_000
    min_compaction_lag_ms: int = 0
    max_compaction_lag_ms: int = 2**63 - 1
    flush_bytes: int = 8 << 20
    """Unsynced bytes at which a sync is asked for before its time."""
    flush_ms: int = 2**63 - 1
    """How long a write may stay unsynced, where that is less than what the node syncs at anyway."""
    producer_expiration_ms: int = 24 * 3_600_000
