"""The node's worker processes: started when there is something to do, given one job at a time, killed when they hang.

`submit` gives a job to a worker that is idle, starts another one while there are less than `size`, or lets the job wait. A
worker must give a sign of life within the job's own `silence_seconds`; one that doesn't is killed. A job whose worker dies
fails with `WorkerLostError` and is not tried again here: who asked for it knows whether that is right, and a job that kills
every worker must not come back by itself.

A worker that dies before it has finished any job makes the next start wait, twice as long each time, up to a minute; each
death is one line in the node's log. One that has had nothing to do for a while is ended.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

import chronik
from chronik.errors import ChronikError
from chronik.telemetry.metrics import WorkerMetrics
from chronik.workers.messages import (
    Configure,
    Done,
    Failed,
    FrameError,
    FrameReader,
    JobKind,
    Progress,
    Ready,
    Start,
    frame,
    from_worker,
    packed,
    unpacked,
)
from chronik.workers.serving import ANSWERS_FD, JOBS_FD

NICE = 10
_MAX_BACKOFF_SECONDS = 60.0
_START_SECONDS = 60.0
_IDLE_SECONDS = 300.0
_REAP_SECONDS = 0.1
_LINE_BYTES = 2000
_SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(chronik.__file__)))

MAIN = (sys.executable, "-m", "chronik.worker_main")
"""The command of a worker process."""


class JobFailedError(ChronikError):
    """A job has raised an exception in its worker, whose class is called `error`."""

    def __init__(self, error: str, text: str) -> None:
        super().__init__(text)
        self.error = error


class WorkerLostError(ChronikError):
    """The worker that did a job has died, or was killed."""


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
        self.worker: _Worker | None = None
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

    def __init__(self, reactor: Any, size: int, metrics: WorkerMetrics, command: Sequence[str] = MAIN) -> None:
        self._reactor = reactor
        self._size = size
        self._command = command
        self.metrics = metrics
        self._workers: list[_Worker] = []
        self._ending: set[_Worker] = set()  # gone, but not reaped yet
        self._waiting: deque[_Job] = deque()
        self._jobs = 0
        self._deaths_in_a_row = 0
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
            worker = next((each for each in self._workers if each.idle), None)
            if worker is not None:
                worker.start(self._waiting.popleft())
                continue
            starting = sum(each.starting for each in self._workers)
            if len(self._workers) < self._size and starting < len(self._waiting) and self._start_again is None:
                self._spawn()
                continue
            return

    def _spawn(self) -> None:
        worker = _Worker(self, self._reactor)
        self._workers.append(worker)
        self.metrics.started += 1
        self._reactor.spawnProcess(
            worker,
            self._command[0],
            self._command,
            env=environment(os.environ),
            childFDs={0: "w", 1: "r", 2: "r", JOBS_FD: "w", ANSWERS_FD: "r"},
        )

    # -- told by the workers ------------------------------------------------------------------------------------------

    def _finished(self) -> None:
        self._deaths_in_a_row = 0
        self.metrics.jobs += 1

    def _lost(self, worker: _Worker, cause: str, wanted: bool) -> None:
        """A worker is gone: its job fails, and another one may start, at once or later."""
        self._workers.remove(worker)
        if not worker.ended.called:
            self._ending.add(worker)
            worker.ended.addCallback(lambda _: self._ending.discard(worker))
        job, worker.job = worker.job, None
        if job is not None:
            job.worker = None
        if not wanted:
            self.metrics.deaths += 1
            self._deaths_in_a_row += 1
            delay = min(2.0 ** (self._deaths_in_a_row - 1), _MAX_BACKOFF_SECONDS)
            self.log.error(
                "worker process {pid} has ended ({cause}) {doing}; the next one starts in {delay:.0f} s at the earliest",
                pid=worker.pid,
                cause=cause,
                doing=f"while it did a {job.kind.name} job" if job is not None else "without a job",
                delay=delay,
            )
            if not self._stopped and self._start_again is None:
                self._start_again = self._reactor.callLater(delay, self._try_again)
        if job is not None and not job.done.called:
            job.done.errback(Failure(WorkerLostError(f"the worker process has ended: {cause}")))
        self._assign()

    def _try_again(self) -> None:
        self._start_again = None
        self._assign()


class _Worker(ProcessProtocol):
    """One worker process, as the pool sees it."""

    transport: Any

    def __init__(self, pool: WorkerPool, reactor: Any) -> None:
        self._pool = pool
        self._reactor = reactor
        self._reader = FrameReader()
        self._timer: Any = None
        self._cause = ""
        self._gone = self._wanted = False
        self._printed = b""
        self.starting = True
        self.pid: int | None = None
        self.job: _Job | None = None
        self.ended: Deferred[None] = Deferred()

    @property
    def idle(self) -> bool:
        """Whether it can be given a job."""
        return not (self.starting or self._gone or self._cause) and self.job is None

    def start(self, job: _Job) -> None:
        """Do this job."""
        self.job, job.worker = job, self
        self.transport.writeToChild(JOBS_FD, job.frame)
        self._expect(job.silence, "it gave no sign of life for {:.0f} s")

    def kill(self, cause: str, wanted: bool = True) -> None:
        """End it at once. `wanted` is for what is no fault of its own."""
        if not self._cause:
            self._cause, self._wanted = cause, wanted
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")
        self._is_gone("killed")

    def _expect(self, seconds: float, complaint: str) -> None:
        self._cancel_timer()
        self._timer = self._reactor.callLater(seconds, lambda: self.kill(complaint.format(seconds), wanted=False))

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    # -- ProcessProtocol ----------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """The process was started."""
        self.pid = self.transport.pid
        self.transport.closeChildFD(0)
        self.transport.writeToChild(JOBS_FD, frame(Configure(NICE)))
        self._expect(_START_SECONDS, "it was not ready after {:.0f} s")

    def childDataReceived(self, child_fd: int, data: bytes) -> None:
        """It tells something, or something in it has printed."""
        if child_fd != ANSWERS_FD:
            self._print(data)
            return
        try:
            for body in self._reader.feed(data):
                self._received(body)
        except FrameError as error:
            self.kill(str(error), wanted=False)

    def _received(self, body: bytes) -> None:
        message, job = from_worker(body), self.job
        if isinstance(message, Ready):
            self.starting = False
        elif job is None or message.job != job.number:
            return  # of a job that was cancelled
        elif isinstance(message, Progress):
            self._expect(job.silence, "it gave no sign of life for {:.0f} s")
            job.progress(unpacked(message.body, job.kind.progress))
            return
        else:
            self.job = job.worker = None
            self._pool._finished()
            if isinstance(message, Done):
                job.done.callback(unpacked(message.result, job.kind.result))
            elif isinstance(message, Failed):
                job.done.errback(Failure(JobFailedError(message.error, message.text)))
        if self.idle:
            self._cancel_timer()
            self._timer = self._reactor.callLater(_IDLE_SECONDS, self.kill, "it had nothing to do")
            self._pool._assign()

    def _print(self, data: bytes) -> None:
        """Whole lines of what was printed go to the node's log."""
        *lines, self._printed = (self._printed + data).split(b"\n")
        self._printed = self._printed[-_LINE_BYTES:]
        for line in lines:
            text = line[:_LINE_BYTES].decode("utf-8", "replace")
            self._pool.log.warn("worker process {pid}: {text}", pid=self.pid, text=text)

    def childConnectionLost(self, child_fd: int) -> None:
        """Its end of a pipe is closed: of that which it answers on, it is dead."""
        if child_fd == ANSWERS_FD:
            self._is_gone("it closed its pipe")
            try:
                self.transport.signalProcess("KILL")
            except ProcessExitedAlready:
                return
            self._reap()

    def _reap(self) -> None:
        """Where the reactor doesn't hear of ended children (it is not on the main thread), ask for this one."""
        if self.transport.pid is not None:
            self.transport.reapProcess()
        if self.transport.pid is not None and not self.ended.called:
            self._timer = self._reactor.callLater(_REAP_SECONDS, self._reap)

    def processEnded(self, reason: Failure) -> None:
        """It is reaped, and its pipes are closed."""
        self._is_gone(reason.getErrorMessage())
        self._cancel_timer()
        if not self.ended.called:
            self.ended.callback(None)

    def _is_gone(self, cause: str) -> None:
        if self._gone:
            return
        self._gone, self.starting = True, False
        self._cancel_timer()
        self._pool._lost(self, self._cause or cause, self._wanted)


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The worker finds this very package, wherever the node had it from."""
    path = os.pathsep.join(filter(None, [_SOURCE, inherited.get("PYTHONPATH", "")]))
    return {**inherited, "PYTHONPATH": path}
