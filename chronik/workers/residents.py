"""Worker processes that stay: a fixed number of them, each of which owns a part of the node's partitions and answers for it.

Unlike a worker of the pool, one of these has a place, a number from 0 on, and may do many jobs side by side. It is started when
it is first told or asked something. What it knows dies with it; a new process in its place is told all of it again by the
`welcome` that the caller gives, before anything else.

A process that is silent for the time that a job allows is killed, and all its jobs fail with it. One that dies is started
again: at once the first time, then later and later (`chronik.workers.restarts`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from chronik.telemetry.metrics import WorkerMetrics
from chronik.workers.failures import JobFailedError, WorkerLostError
from chronik.workers.messages import (
    Alive,
    Cancel,
    Done,
    Failed,
    FromWorker,
    JobKind,
    NewsKind,
    Progress,
    Start,
    Tell,
    frame,
    packed,
    unpacked,
)
from chronik.workers.process import WorkerProcess
from chronik.workers.restarts import Restarts

News = tuple[NewsKind, msgspec.Struct]


class _Job:
    def __init__(
        self, kind: JobKind, data: bytes, silence: float, progress: Callable[[Any], object], cancel: Callable[[], None]
    ) -> None:
        self.kind = kind
        self.frame = data
        self.silence = silence
        self.progress = progress
        self.sent = False
        self.done: Deferred[Any] = Deferred(lambda _: cancel())


class _Place:
    """Where one process is, or will be again."""

    def __init__(self) -> None:
        self.worker: WorkerProcess | None = None
        self.welcomed = False
        self.jobs: dict[int, _Job] = {}
        self.restarts = Restarts()
        self.start_again: Any = None


class ResidentWorkers(Service):
    """`size` processes of `command`. `welcome(place)` gives what a new process in a place must be told first."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        size: int,
        metrics: WorkerMetrics,
        command: Sequence[str],
        welcome: Callable[[int], Iterable[News]],
    ) -> None:
        self._reactor = reactor
        self._command = command
        self._welcome = welcome
        self.metrics = metrics
        self._places = [_Place() for _ in range(size)]
        self._ending: set[WorkerProcess] = set()  # gone, but not reaped yet
        self._jobs = 0
        self._stopped = False

    @property
    def size(self) -> int:
        """How many places there are."""
        return len(self._places)

    @property
    def pids(self) -> list[int]:
        """The process ids of those that live."""
        workers = [place.worker for place in self._places]
        return [worker.pid for worker in workers if worker is not None and worker.pid is not None]

    def has_begun(self, place: int) -> bool:
        """Whether the process in a place is there, and has been told what it must know."""
        return self._places[place].welcomed

    def tell(self, place: int, kind: NewsKind, body: msgspec.Struct) -> None:
        """Let the process in a place know something. One that isn't there yet is started, and learns it by its welcome."""
        where = self._places[place]
        if where.welcomed and where.worker is not None:
            where.worker.send(frame(Tell(kind.name, packed(body))))
        else:
            self._start(where)

    def ask(
        self,
        place: int,
        kind: JobKind,
        request: msgspec.Struct,
        *,
        silence_seconds: float,
        progress: Callable[[Any], object] = lambda _: None,
    ) -> Deferred[Any]:
        """Let the process in a place do a job; fires with the kind's result. Cancelling it ends the job, not the process.

        Fails with JobFailedError, WorkerLostError.
        """
        if self._stopped:
            return fail(WorkerLostError("the node is shutting down"))
        self._jobs += 1
        number, where = self._jobs, self._places[place]

        def cancel() -> None:
            if where.jobs.pop(number, None) is not None and where.welcomed and where.worker is not None:
                where.worker.send(frame(Cancel(number)))
                self._watch(where)

        job = _Job(kind, frame(Start(number, kind.name, packed(request))), silence_seconds, progress, cancel)
        where.jobs[number] = job
        if where.welcomed and where.worker is not None:
            self._send(where, job)
        else:
            self._start(where)
        return job.done

    def stopService(self) -> Deferred[Any]:
        """Kill all, and fail what they do. Fires when the processes are gone."""
        super().stopService()
        self._stopped = True
        for where in self._places:
            if where.start_again is not None:
                where.start_again.cancel()
                where.start_again = None
            if where.worker is not None:
                where.worker.kill("the node is shutting down")
            self._fail_jobs(where, "the node is shutting down")
        return DeferredList([worker.ended for worker in self._ending])

    # -- WorkerOwner --------------------------------------------------------------------------------------------------

    def ready(self, worker: WorkerProcess) -> None:
        """See `WorkerOwner`."""
        index = next(index for index, where in enumerate(self._places) if where.worker is worker)
        where = self._places[index]
        where.welcomed = True
        for kind, body in self._welcome(index):
            worker.send(frame(Tell(kind.name, packed(body))))
        for job in where.jobs.values():
            self._send(where, job)

    def received(self, worker: WorkerProcess, message: FromWorker) -> None:
        """See `WorkerOwner`."""
        where = next(where for where in self._places if where.worker is worker)
        if isinstance(message, Progress):
            job = where.jobs.get(message.job)
            if job is not None:
                job.progress(unpacked(message.body, job.kind.progress))
        elif isinstance(message, Done | Failed):
            job = where.jobs.pop(message.job, None)
            if job is not None:
                where.restarts.finished()
                self.metrics.jobs += 1
                if isinstance(message, Done):
                    job.done.callback(unpacked(message.result, job.kind.result))
                else:
                    job.done.errback(Failure(JobFailedError(message.error, message.text)))
        elif not isinstance(message, Alive):
            raise AssertionError(f"{type(message).__name__} of a worker that is ready")
        if where.worker is worker:
            self._watch(where)

    def lost(self, worker: WorkerProcess, cause: str, wanted: bool) -> None:
        """See `WorkerOwner`. Its jobs fail; another one takes its place."""
        where = next(where for where in self._places if where.worker is worker)
        where.worker, where.welcomed = None, False
        if not worker.ended.called:
            self._ending.add(worker)
            worker.ended.addCallback(lambda _: self._ending.discard(worker))
        if not wanted:
            self.metrics.deaths += 1
            delay = where.restarts.died()
            self.log.error(
                "{worker} has ended ({cause}) with {count} job(s); it is started again in {delay:.0f} s",
                worker=worker,
                cause=cause,
                count=len(where.jobs),
                delay=delay,
            )
            if not self._stopped:
                where.start_again = self._reactor.callLater(delay, self._try_again, where)
        self._fail_jobs(where, cause)

    # -- one place ----------------------------------------------------------------------------------------------------

    def _start(self, where: _Place) -> None:
        if where.worker is None and where.start_again is None and not self._stopped:
            where.worker = WorkerProcess(self, self._reactor)
            self.metrics.started += 1
            where.worker.spawn(self._command)

    def _try_again(self, where: _Place) -> None:
        where.start_again = None
        self._start(where)

    def _send(self, where: _Place, job: _Job) -> None:
        assert where.worker is not None
        where.worker.send(job.frame)
        job.sent = True
        self._watch(where)

    def _watch(self, where: _Place) -> None:
        """Expect a sign of life within the shortest time that a job allows; none where there is no job."""
        if where.worker is None:
            return
        silence = min((job.silence for job in where.jobs.values() if job.sent), default=None)
        if silence is None:
            where.worker.rest()
        else:
            where.worker.expect(silence)

    def _fail_jobs(self, where: _Place, cause: str) -> None:
        jobs, where.jobs = list(where.jobs.values()), {}
        for job in jobs:
            job.done.errback(Failure(WorkerLostError(f"the worker process has ended: {cause}")))
