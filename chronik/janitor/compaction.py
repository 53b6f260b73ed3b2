"""Compaction: lets worker processes clean the dirtiest logs, and swaps in what they have made.

A look visits every partition whose topic is compacted, in slices that leave the reactor free, and takes the dirtiest ones
above `min.cleanable.dirty.ratio`, and those with something older than `max.compaction.lag.ms`. As many logs are cleaned at a
time as there are workers. Is there nothing to do, the next look comes after `log.cleaner.backoff.ms`; otherwise as soon as a
log is done.

The worker only makes files; each segment that it reports is swapped in by the log (`chronik.log.compacted`), whose turns on
the disk are carried out in a thread. A log whose files turn out to be damaged is left alone until the node starts again; one
whose job failed for another reason (a worker that died, a full disk) is tried again, later each time. A swap that the disk has
refused in its midst is then ended first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Cooperator
from twisted.logger import Logger
from twisted.python.failure import Failure

from chronik.broker.partition import Partition
from chronik.broker.replicas import Replicas
from chronik.errors import CorruptLogError, KafkaError, StorageError
from chronik.janitor.trash import Trash
from chronik.log.cleaner import CleanedSegment, CleanProgress, CleanRequest, CleanResult
from chronik.log.index import MendingError
from chronik.log.log import Log
from chronik.log.swap import Swap
from chronik.model import PartitionId
from chronik.telemetry.metrics import CleanerMetrics
from chronik.workers.failures import JobFailedError, WorkerLostError

_SLICE_SECONDS = 0.002
_MAX_RETRY_SECONDS = 900.0
_DAMAGED = "CorruptLogError"
"""What a job is ended by whose log is damaged."""


class RunJob(Protocol):
    """Has a job done elsewhere. `progress` is told on the reactor."""

    def __call__(self, request: CleanRequest, progress: Callable[[CleanProgress], object]) -> Deferred[CleanResult]: ...


RunInThread = Callable[[Callable[[], None]], Deferred[None]]


@dataclass(frozen=True, slots=True)
class CleanerSettings:
    """The node's settings of compaction: times in ms, sizes in bytes. Buffer and bytes a second are of one worker."""

    backoff_ms: int
    workers: int
    dedupe_buffer_bytes: int
    io_bytes_per_second: float


class Compaction(Service):
    """Cleans the logs of `replicas`. `on_fatal` is told of a sync that fails."""

    log = Logger()

    def __init__(
        self,
        replicas: Replicas,
        trash: Trash,
        settings: CleanerSettings,
        metrics: CleanerMetrics,
        *,
        run_job: RunJob,
        run_in_thread: RunInThread,
        wall_clock_ms: Callable[[], int],
        secret: Callable[[], bytes],
        clock: IReactorTime,
        cooperator: Cooperator,
    ) -> None:
        self._replicas = replicas
        self._trash = trash
        self._settings = settings
        self._metrics = metrics
        self._run_job = run_job
        self._run_in_thread = run_in_thread
        self._now_ms = wall_clock_ms
        self._secret = secret
        self._clock = clock
        self._cooperator = cooperator
        self._call: IDelayedCall | None = None
        self._looking = False
        self._cleaning: dict[PartitionId, Deferred[None]] = {}
        self._uncleanable: dict[PartitionId, str] = {}
        self._failed: dict[PartitionId, tuple[int, float]] = {}  # how often in a row, and when to try again

    def startService(self) -> None:
        """Begin; the first look is one backoff from now."""
        super().startService()
        self._look_later()

    def stopService(self) -> None:
        """Clean nothing more. What is being cleaned is broken off, between two steps of its swap at the latest."""
        super().stopService()
        if self._call is not None:
            self._call.cancel()
            self._call = None
        for cleaning in list(self._cleaning.values()):
            cleaning.cancel()

    # -- which log is next --------------------------------------------------------------------------------------------

    def _look_later(self) -> None:
        if self._call is None and self.running:
            self._call = self._clock.callLater(self._settings.backoff_ms / 1000, self._look_now)

    def _look_now(self) -> None:
        self._call = None
        self.look()

    def look(self) -> Deferred[None]:
        """Look for dirty logs, and begin to clean as many as there are workers for; fires when they are begun."""
        found: list[tuple[bool, float, Partition]] = []
        if self._looking or not self.running:
            return succeed(None)
        self._looking = True

        def chosen(_: object) -> None:
            self._looking = False
            self._forget_deleted()
            self._metrics.dirtiest_ratio = max((ratio for _, ratio, _ in found), default=0.0)
            found.sort(key=lambda each: each[:2], reverse=True)
            for overdue, ratio, partition in found:
                if len(self._cleaning) >= self._settings.workers or not self.running:
                    break
                if overdue or ratio > partition.settings.min_cleanable_dirty_ratio:
                    self._begin(partition, ratio)
            if len(self._cleaning) < self._settings.workers:
                self._look_later()

        looked: Deferred[Any] = self._cooperator.coiterate(self._slices(found))
        return looked.addCallback(chosen)

    def _forget_deleted(self) -> None:
        """A topic that was deleted is uncleanable no more."""
        if self._uncleanable or self._failed:
            live = {partition.partition_id for partition in self._replicas.partitions()}
            self._uncleanable = {key: why for key, why in self._uncleanable.items() if key in live}
            self._failed = {key: state for key, state in self._failed.items() if key in live}
            self._metrics.uncleanable = len(self._uncleanable)

    def _slices(self, found: list[tuple[bool, float, Partition]]) -> Iterator[None]:
        until = time.monotonic() + _SLICE_SECONDS
        for partition in list(self._replicas.partitions()):
            wanted = partition.settings.compacted or partition.log.unfinished_swap is not None
            if wanted and self._may_clean(partition):
                try:
                    self._weigh(partition, found)
                except MendingError as error:  # the next look knows
                    self.log.info(
                        "compaction of {partition} waits: {error}", partition=str(partition.name), error=error
                    )
                except Exception:
                    self.log.failure("cannot tell what is dirty in {partition}", partition=str(partition.name))
            if time.monotonic() > until:
                yield
                until = time.monotonic() + _SLICE_SECONDS

    def _may_clean(self, partition: Partition) -> bool:
        key = partition.partition_id
        if key in self._cleaning or key in self._uncleanable or partition.log.offline is not None:
            return False
        return key not in self._failed or self._clock.seconds() >= self._failed[key][1]

    def _weigh(self, partition: Partition, found: list[tuple[bool, float, Partition]]) -> None:
        if partition.log.unfinished_swap is not None:
            found.append((True, 1.0, partition))
            return
        now_ms = self._now_ms()
        segments = partition.looked_up(partition.log.cleanable, now_ms, partition.last_stable_offset)
        if segments:
            dirtiness = partition.log.dirtiness(now_ms, segments)
            found.append((dirtiness.overdue, dirtiness.ratio, partition))

    # -- cleaning one log ---------------------------------------------------------------------------------------------

    def _begin(self, partition: Partition, ratio: float) -> None:
        key = partition.partition_id
        cleaning = Deferred.fromCoroutine(self._clean(partition, ratio))
        self._cleaning[key] = cleaning
        cleaning.addErrback(self._not_cleaned, partition)

        def ended(_: object) -> None:
            del self._cleaning[key]
            if self.running:
                self.look()

        cleaning.addCallback(ended)

    async def _clean(self, partition: Partition, ratio: float) -> None:
        log, now_ms, settings = partition.log, self._now_ms(), self._settings
        if log.unfinished_swap is not None:
            await self._end_swap(partition, log.unfinished_swap)
            return
        request = log.clean_request(
            log.cleanable(now_ms, partition.last_stable_offset),
            now_ms,
            secret=self._secret(),
            dedupe_buffer_bytes=settings.dedupe_buffer_bytes,
            io_bytes_per_second=settings.io_bytes_per_second,
        )
        began, first = self._clock.seconds(), log.segments[0].base_offset
        swaps = _Swaps(log, self._run_in_thread)
        job = self._run_job(request, lambda progress: swaps.add(progress.segment))
        try:
            result = await job
            if await swaps.done():
                await swaps.carry_out(log.cleaned_to(result.cleaned_to))
        except (JobFailedError, WorkerLostError) as error:
            await swaps.end()
            if isinstance(error, JobFailedError) and log.segments[0].base_offset != first:
                return  # segments were given up while the job read them, by retention or DeleteRecords
            raise
        finally:
            swaps.stop()
            self._discard(partition)
        self._failed.pop(partition.partition_id, None)
        self._count(result)
        self.log.info(
            "{partition} is compacted up to offset {offset}: {ratio:.0%} were dirty, {before} records in {size:.1f} MB became "
            "{after} in {left:.1f} MB, in {took:.1f} s",
            partition=str(partition.name),
            offset=result.cleaned_to,
            ratio=ratio,
            before=result.records_before,
            size=result.bytes_before / 1e6,
            after=result.records_after,
            left=result.bytes_after / 1e6,
            took=self._clock.seconds() - began,
        )
        if result.keyless:
            self.log.warn(
                "{partition}: {count} records without a key were dropped, from before the topic was compacted",
                partition=str(partition.name),
                count=result.keyless,
            )

    async def _end_swap(self, partition: Partition, swap: Swap) -> None:
        """End what an earlier job has begun; what there is to clean is found by the next look."""
        await _Swaps(partition.log, self._run_in_thread).carry_out(swap)
        self._discard(partition)
        self._failed.pop(partition.partition_id, None)

    def _count(self, result: CleanResult) -> None:
        metrics = self._metrics
        metrics.runs += 1
        metrics.bytes_read += result.bytes_read
        metrics.bytes_before += result.bytes_before
        metrics.bytes_after += result.bytes_after
        metrics.records_before += result.records_before
        metrics.records_after += result.records_after

    def _discard(self, partition: Partition) -> None:
        for path in partition.log.take_deleted():
            self._trash.discard(path, partition.settings.file_delete_delay_ms)

    def _not_cleaned(self, failure: Failure, partition: Partition) -> None:
        if failure.check(CancelledError) or not self.running or partition.log.offline is not None:
            return  # the node stops, or the topic was deleted
        error, key = failure.value, partition.partition_id
        self._metrics.failures += 1
        if isinstance(error, CorruptLogError) or (isinstance(error, JobFailedError) and error.error == _DAMAGED):
            self._uncleanable[key] = str(error)
            self._metrics.uncleanable = len(self._uncleanable)
            self.log.error("{partition} is not compacted any more: {error}", partition=str(partition.name), error=error)
            return
        times = self._failed.get(key, (0, 0.0))[0] + 1
        delay = min(self._settings.backoff_ms / 1000 * 2**times, _MAX_RETRY_SECONDS)
        self._failed[key] = times, self._clock.seconds() + delay
        self.log.error(
            "{partition} could not be compacted: {kind}: {error}; the next try is in {delay:.0f} s",
            partition=str(partition.name),
            kind=getattr(error, "error", type(error).__name__),
            error=failure.getErrorMessage(),
            delay=delay,
        )


class _Swaps:
    """The segments that a job has made, swapped into its log in their order, one at a time."""

    def __init__(self, log: Log, run_in_thread: RunInThread) -> None:
        self._log = log
        self._run_in_thread = run_in_thread
        self._waiting: list[CleanedSegment] = []
        self._under_way: Deferred[None] | None = None
        self._all = True
        self._stopped = False

    def add(self, segment: CleanedSegment | None) -> None:
        """Swap in what a job has reported."""
        if segment is None:
            return
        self._waiting.append(segment)
        if self._under_way is None:
            self._under_way = Deferred.fromCoroutine(self._run())

    async def _run(self) -> None:
        while self._waiting and not self._stopped:
            swap = self._log.begin_swap(self._waiting.pop(0))
            self._all = self._all and swap is not None
            await self.carry_out(swap)
        self._under_way = None

    async def done(self) -> bool:
        """Wait until all that was added is swapped in; False where some of it had no place any more. Raises OSError."""
        if self._under_way is not None:
            under_way, self._under_way = self._under_way, None
            await under_way
        return self._all

    async def end(self) -> None:
        """Begin nothing more, and wait for the swap that is under way: half of one would keep the log from being cleaned.

        Raises OSError.
        """
        self._stopped = True
        await self.done()

    async def carry_out(self, swap: Swap | None) -> None:
        """Drive a swap to its end. One that was settled or given up meanwhile has none left to do.

        Where the disk refuses one it is given up, or if it is too late for that, left to be ended later. Raises OSError;
        StorageError after the log has taken itself offline.
        """
        while swap is not None and swap.job is not None:
            try:
                await self._run_in_thread(swap.run)
            except StorageError as error:
                self._log.lose(error)
                raise
            except OSError:
                if not swap.must_end:
                    swap.cancel()
                raise
            swap.advance()

    def stop(self) -> None:
        """Begin nothing more. A step that is in the thread ends there; the log's stop sees to the rest."""
        self._stopped = True
        if self._under_way is not None:
            self._under_way.addErrback(lambda failure: failure.trap(OSError, StorageError, KafkaError, CancelledError))
