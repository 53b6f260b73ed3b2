"""Retention: gives up the oldest segments of each log by `retention.ms` and `retention.bytes`, and forgets idle producers.

A round visits every partition, in slices that leave the reactor free; the decision is the log's own (`expired_segments`).
Files of segments that were given up are renamed by the log once that is durable, and come here to be removed after
`file.delete.delay.ms`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Cooperator, LoopingCall
from twisted.logger import Logger

from chronik.broker.partition import Partition
from chronik.broker.replicas import Replicas
from chronik.janitor.trash import Trash
from chronik.log.index import MendingError

_SLICE_SECONDS = 0.002


class Retention(Service):
    """Runs a round every `interval_ms`."""

    log = Logger()

    def __init__(
        self,
        replicas: Replicas,
        trash: Trash,
        interval_ms: int,
        wall_clock_ms: Callable[[], int],
        clock: IReactorTime,
        cooperator: Cooperator,
    ) -> None:
        self._replicas = replicas
        self._trash = trash
        self._interval = interval_ms / 1000
        self._now_ms = wall_clock_ms
        self._cooperator = cooperator
        self._loop = LoopingCall(self.round)
        self._loop.clock = clock

    def startService(self) -> None:
        """Begin; the first round is one interval from now."""
        super().startService()
        self._loop.start(self._interval, now=False).addErrback(
            lambda failure: self.log.failure("retention has stopped", failure)
        )

    def stopService(self) -> None:
        """No more rounds."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()

    def round(self) -> Deferred[Iterator[None]]:
        """Visit every partition once."""
        return self._cooperator.coiterate(self._slices())

    def _slices(self) -> Iterator[None]:
        until = time.monotonic() + _SLICE_SECONDS
        for partition in list(self._replicas.partitions()):
            try:
                self._visit(partition)
            except MendingError as error:  # the next round knows
                self.log.info("retention of {partition} waits: {error}", partition=str(partition.name), error=error)
            except Exception:
                self.log.failure("retention of {partition} failed", partition=str(partition.name))
            if time.monotonic() > until:
                yield
                until = time.monotonic() + _SLICE_SECONDS

    def _visit(self, partition: Partition) -> None:
        log, now_ms = partition.log, self._now_ms()
        for path in log.take_deleted():
            self._trash.discard(path, partition.settings.file_delete_delay_ms)
        if log.offline is not None:
            return
        log.producers.expire(now_ms, log.config.producer_expiration_ms)
        expired = partition.looked_up(log.expired_segments, now_ms, partition.high_watermark)
        if expired:
            before = log.start_offset
            log.delete_oldest(expired, now_ms)
            self.log.info(
                "{partition}: {count} segment(s) expired, log start {before} -> {after}",
                partition=str(partition.name),
                count=expired,
                before=before,
                after=log.start_offset,
            )
