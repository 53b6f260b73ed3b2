"""The node's worker processes: started when there is something to do, given one job at a time, killed when they hang.

`submit` gives a job to a worker that is idle, starts another one while there are less than `size`, or lets the job wait. A
worker must give a sign of life within the job's own `silence_seconds`; one that doesn't is killed. A job whose worker dies
fails with `WorkerLostError` and is not tried again here: who asked for it knows whether that is right, and a job that kills
every worker must not come back by itself.

A worker that dies before it has finished any job makes the next start wait, twice as long each time, up to a minute; each
death is one line in the node's log. One that has had nothing to do for a while is ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from chronik.telemetry.metrics import WorkerMetrics
from chronik.workers.failures import JobFailedError, WorkerLostError
from chronik.workers.messages import Done, Failed, FromWorker, JobKind, Progress, Start, frame, packed, unpacked
from chronik.workers.process import WorkerProcess
from chronik.workers.restarts import Restarts

_IDLE_SECONDS = 300.0


class _Job:
    """A job on its way."""

    def __init__(
        self, number: int, kind: JobKind, request: msgspec.Struct, silence: float, progress: Callable[[Any], object]
    ) -> None:
        self.kind = kind
        self.number = number
        self.silence = silence
        self.progress = progress
        self.frame = frame(Start(number, kind.name, packed(request)))
        self.worker: WorkerProcess | None = None
        self.done: Deferred[Any] = Deferred(self._cancelled)
        self.waiting: deque[_Job] | None = None

    def _cancelled(self, _: Deferred[Any]) -> None:
        if self.worker is not None:
            self.worker.kill("its job was cancelled")
        elif self.waiting is not None and self in self.waiting:
            self.waiting.remove(self)


class WorkerPool(Service):
    """Up to `size` workers, processes of `command`."""

    log = Logger()

    def __init__(self, reactor: Any, size: int, metrics: WorkerMetrics, command: Sequence[str]) -> None:
        self._reactor = reactor
        self._size = size
        self._command = command
        self.metrics = metrics
        self._workers: dict[WorkerProcess, _Job | None] = {}
        self._ending: set[WorkerProcess] = set()  # gone, but not reaped yet
        self._waiting: deque[_Job] = deque()
        self._jobs = 0
        self._restarts = Restarts()
        self._start_again: Any = None
        self._stopped = False

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that live."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    def submit(
        self,
        kind: JobKind,
        request: msgspec.Struct,
        *,
        silence_seconds: float,
        progress: Callable[[Any], object] = lambda _: None,
    ) -> Deferred[Any]:
        """Let a worker do a job; fires with the kind's result. `progress` is called with what the job tells on its way.

        Fails with JobFailedError, WorkerLostError. Cancelling it kills the worker.
        """
        if self._stopped:
            return fail(WorkerLostError("the node is shutting down"))
        self._jobs += 1
        job = _Job(self._jobs, kind, request, silence_seconds, progress)
        job.waiting = self._waiting
        self._waiting.append(job)
        self._assign()
        return job.done

    def stopService(self) -> Deferred[Any]:
        """Kill all workers, and fail what they do and what waits. Fires when the processes are gone."""
        super().stopService()
        self._stopped = True
        if self._start_again is not None:
            self._start_again.cancel()
            self._start_again = None
        for job in list(self._waiting):
            job.done.errback(Failure(WorkerLostError("the node is shutting down")))
        self._waiting.clear()
        ended = [worker.ended for worker in (*self._workers, *self._ending)]
        for worker in list(self._workers):
            worker.kill("the node is shutting down")
        return DeferredList(ended)

    def _assign(self) -> None:
        """Give waiting jobs to idle workers; start one where there are too few."""
        while self._waiting and not self._stopped:
            worker = next((each for each, job in self._workers.items() if job is None and each.usable), None)
            if worker is not None:
                self._give(worker, self._waiting.popleft())
                continue
            starting = sum(each.starting for each in self._workers)
            if len(self._workers) < self._size and starting < len(self._waiting) and self._start_again is None:
                self._spawn()
                continue
            return

    def _give(self, worker: WorkerProcess, job: _Job) -> None:
        self._workers[worker], job.worker = job, worker
        worker.send(job.frame)
        worker.expect(job.silence)

    def _spawn(self) -> None:
        worker = WorkerProcess(self, self._reactor)
        self._workers[worker] = None
        self.metrics.started += 1
        worker.spawn(self._command)

    # -- WorkerOwner --------------------------------------------------------------------------------------------------

    def ready(self, worker: WorkerProcess) -> None:
        """See `WorkerOwner`."""
        self._rest(worker)

    def received(self, worker: WorkerProcess, message: FromWorker) -> None:
        """See `WorkerOwner`."""
        job = self._workers.get(worker)
        if job is None or getattr(message, "job", None) != job.number:
            return  # of a job that was cancelled
        if isinstance(message, Progress):
            worker.expect(job.silence)
            job.progress(unpacked(message.body, job.kind.progress))
            return
        self._workers[worker] = job.worker = None
        self._restarts.finished()
        self.metrics.jobs += 1
        if isinstance(message, Done):
            job.done.callback(unpacked(message.result, job.kind.result))
        elif isinstance(message, Failed):
            job.done.errback(Failure(JobFailedError(message.error, message.text)))
        self._rest(worker)

    def lost(self, worker: WorkerProcess, cause: str, wanted: bool) -> None:
        """See `WorkerOwner`. Its job fails, and another worker may start, at once or later."""
        job = self._workers.pop(worker)
        if not worker.ended.called:
            self._ending.add(worker)
            worker.ended.addCallback(lambda _: self._ending.discard(worker))
        if job is not None:
            job.worker = None
        if not wanted:
            self.metrics.deaths += 1
            delay = self._restarts.died()
            self.log.error(
                "{worker} has ended ({cause}) {doing}; the next one starts in {delay:.0f} s at the earliest",
                worker=worker,
                cause=cause,
                doing=f"while it did a {job.kind.name} job" if job is not None else "without a job",
                delay=delay,
            )
            if not self._stopped and self._start_again is None:
                self._start_again = self._reactor.callLater(delay, self._try_again)
        if job is not None and not job.done.called:
            job.done.errback(Failure(WorkerLostError(f"the worker process has ended: {cause}")))
        self._assign()

    def _rest(self, worker: WorkerProcess) -> None:
        """It has no job now; it gets the next one, or is ended after a while."""
        if worker in self._workers and self._workers[worker] is None and worker.usable:
            worker.rest(_IDLE_SECONDS, lambda: worker.kill("it had nothing to do"))
            self._assign()

    def _try_again(self) -> None:
        self._start_again = None
        self._assign()
