"""Opening a partition's log: with which settings, and what the operator is told while it is verified."""

from __future__ import annotations

from collections.abc import Callable, Generator

from twisted.logger import Logger

from chronik.log.config import NO_LIMIT
from chronik.log.log import Log, LogConfig
from chronik.log.recovery import Progress
from chronik.topic_config import TopicSettings

TELL_EVERY_SECONDS = 3.0


def log_config(settings: TopicSettings, flush_bytes: int, producer_expiration_ms: int) -> LogConfig:
    """The part of a topic's settings that its logs act on. Retention is for topics whose cleanup.policy has `delete`."""
    expires = "delete" in settings.cleanup_policy
    return LogConfig(
        segment_bytes=settings.segment_bytes,
        segment_ms=settings.segment_ms,
        segment_jitter_ms=settings.segment_jitter_ms,
        segment_index_bytes=settings.segment_index_bytes,
        index_interval_bytes=settings.index_interval_bytes,
        retention_ms=settings.retention_ms if expires else NO_LIMIT,
        retention_bytes=settings.retention_bytes if expires else NO_LIMIT,
        compacted=settings.compacted,
        delete_retention_ms=settings.delete_retention_ms,
        min_compaction_lag_ms=settings.min_compaction_lag_ms,
        max_compaction_lag_ms=settings.max_compaction_lag_ms,
        flush_bytes=flush_bytes,
        flush_ms=settings.flush_ms,
        producer_expiration_ms=producer_expiration_ms,
    )


class Verification:
    """Tells of logs that must be verified after an unclean shutdown: every few seconds how far it is, and what was lost."""

    log = Logger()

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told = clock()

    def follow(self, name: str, steps: Generator[Progress, None, Log]) -> Generator[None, None, Log]:
        """Open a log step by step. `name` is what its partition is called."""
        while True:
            try:
                progress = next(steps)
            except StopIteration as opened:
                log: Log = opened.value
                break
            now = self._clock()
            if now - self._told >= TELL_EVERY_SECONDS:
                self._told = now
                self.log.info(
                    "verifying {partition} after an unclean shutdown: {verified:.0f} MB of {total:.0f} MB",
                    partition=name,
                    verified=progress.verified / 1e6,
                    total=progress.total / 1e6,
                )
            yield
        if log.recovery is not None and log.recovery.cut_bytes:
            self.log.info(
                "{partition} ends at offset {end}: {cut} unsynced bytes after it were not whole, {reason}",
                partition=name,
                end=log.end_offset,
                cut=log.recovery.cut_bytes,
                reason=log.recovery.reason,
            )
        return log
