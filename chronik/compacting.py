"""What compacts the topics of a node: the service that chooses logs, and the pool of workers that clean them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.task import Cooperator
from twisted.internet.threads import deferToThreadPool

from chronik.broker.replicas import Replicas
from chronik.config import Config
from chronik.interfaces import IDisk
from chronik.janitor.compaction import CleanerSettings, Compaction
from chronik.janitor.trash import Trash
from chronik.log.cleaner import CleanProgress, CleanRequest, CleanResult
from chronik.log.disk import RealDisk
from chronik.telemetry.metrics import NodeMetrics
from chronik.worker_main import clean_throttled
from chronik.workers.jobs import CLEAN
from chronik.workers.pool import WorkerPool
from chronik.workers.process import main_of

_SILENCE_SECONDS = 120.0
_SECRET_BYTES = 16


def compacting(
    config: Config,
    reactor: Any,
    metrics: NodeMetrics,
    *,
    disk: IDisk,
    replicas: Replicas,
    trash: Trash,
    cooperator: Cooperator,
) -> list[IService]:
    """The services, not started. None with log.cleaner.enable=false.

    Worker processes see the file system only: another disk is cleaned in a thread.
    """
    if not config.log_cleaner_enable:
        return []
    pool = WorkerPool(reactor, config.log_cleaner_threads, metrics.workers, main_of("jobs"))

    def in_thread(job: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), job, *arguments)

    def in_worker(request: CleanRequest, progress: Callable[[CleanProgress], object]) -> Deferred[CleanResult]:
        return pool.submit(CLEAN, request, silence_seconds=_SILENCE_SECONDS, progress=progress)

    def here(request: CleanRequest, progress: Callable[[CleanProgress], object]) -> Deferred[CleanResult]:
        return in_thread(clean_throttled, request, disk, partial(reactor.callFromThread, progress))

    compaction = Compaction(
        replicas,
        trash,
        CleanerSettings(
            config.log_cleaner_backoff_ms,
            config.log_cleaner_threads,
            config.log_cleaner_dedupe_buffer_size // config.log_cleaner_threads,
            config.log_cleaner_io_max_bytes_per_second / config.log_cleaner_threads,
        ),
        metrics.cleaner,
        run_job=in_worker if isinstance(disk, RealDisk) else here,
        run_in_thread=in_thread,
        wall_clock_ms=lambda: time.time_ns() // 1_000_000,
        secret=lambda: secrets.token_bytes(_SECRET_BYTES),
        clock=reactor,
        cooperator=cooperator,
    )
    return [pool, compaction]
