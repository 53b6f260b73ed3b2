"""Syncing in the background: one thread for the whole node that makes logs durable, and tells when it has.

Two rhythms share the thread. A log of durability `interval` is marked dirty by itself and synced at the next tick, or
sooner: after its `flush_ms` when that is less, at once when it holds `flush_bytes`. A log of durability `fsync` is
asked for by `request` after each append: where the thread is idle it starts at the end of this reactor turn, so that
all requests of the turn share one sync; where it is busy, all that came meanwhile is the next group. Nobody waits for
a window.

What a sync does is a `chronik.log.flush.Flush`. When one fails, the pages it was to write may be lost while the
kernel calls them clean, so a second try would report success: the flusher latches, never syncs or acknowledges again,
and calls `on_fatal`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol

from twisted.python.failure import Failure

from chronik.log.flush import Flush
from chronik.log.log import Log
from chronik.log.state import tell_nobody

Synced = Callable[[int], object]
_Work = Sequence[tuple[Log, Flush]]


class IFlusherReactor(Protocol):
    """What the flusher needs of a reactor: timers, and a way in from its thread."""

    def callLater(self, delay: float, function: Callable[..., object], *args: Any) -> Any: ...

    def callFromThread(self, function: Callable[..., object], *args: Any) -> None: ...


class Worker:
    """A thread that carries out jobs in their order. Started with the first; ends, after all of them, with `stop`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread: Thread | None = None

    def start(self, job: Callable[[], object]) -> None:
        """Carry out `job` on the thread. It must not raise."""
        if self._thread is None:
            self._thread = Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def stop(self) -> None:
        """Wait for the last job."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


class Flusher:
    """Syncs the logs it watches: dirty ones every `interval_ms`, those requested as soon as it can.

    `on_fatal(failure)` is called on the reactor's thread when a sync has failed; it must end the process.
    """

    def __init__(
        self,
        reactor: IFlusherReactor,
        on_fatal: Callable[[Failure], object],
        interval_ms: int = 1000,
        worker: Worker | None = None,
    ) -> None:
        self._reactor = reactor
        self._on_fatal = on_fatal
        self._interval = interval_ms / 1000
        self._worker = Worker("chronik-flush") if worker is None else worker
        self._synced: dict[Log, Synced] = {}
        self._dirty: dict[Log, None] = {}
        self._urgent: dict[Log, None] = {}
        self._sooner: dict[Log, Any] = {}  # the timers of logs whose flush.ms is below the interval
        self._tick: Any = None
        self._turn: Any = None
        self._busy = False
        self.failed: Exception | None = None

    def watch(self, log: Log, synced: Synced) -> None:
        """Flush `log` from now on, and call `synced(offset)` whenever all below `offset` has become durable."""
        self._synced[log] = synced
        log.on_dirty = self._mark
        if log.needs_flush:
            self._mark(log)

    def forget(self, log: Log) -> None:
        """Leave `log` alone: it is closed or deleted."""
        log.on_dirty = tell_nobody
        self._synced.pop(log, None)
        self._dirty.pop(log, None)
        self._urgent.pop(log, None)
        timer = self._sooner.pop(log, None)
        if timer is not None:
            timer.cancel()

    def request(self, log: Log) -> None:
        """Flush `log` as soon as possible: somebody waits for it."""
        if log in self._urgent:
            return
        self._urgent[log] = None
        if not self._busy and self._turn is None:
            self._turn = self._reactor.callLater(0, self._begin_urgent)

    def stop(self) -> None:
        """End the timers and the thread; what is dirty stays for `Log.close` to sync. Blocks for a sync under way."""
        for log in tuple(self._synced):
            self.forget(log)
        for call in (self._tick, self._turn):
            if call is not None and call.active():
                call.cancel()
        self._tick = self._turn = None
        self._worker.stop()

    def _mark(self, log: Log) -> None:
        if log.unsynced_bytes >= log.config.flush_bytes:
            self.request(log)
            return
        if log.config.flush_ms < self._interval * 1000:
            if log not in self._sooner:
                self._sooner[log] = self._reactor.callLater(log.config.flush_ms / 1000, self._due, log)
            return
        self._dirty[log] = None
        if self._tick is None:
            self._tick = self._reactor.callLater(self._interval, self._begin_dirty)

    def _due(self, log: Log) -> None:
        del self._sooner[log]
        self.request(log)

    def _begin_dirty(self) -> None:
        self._tick = None
        self._urgent |= self._dirty
        self._dirty.clear()
        if not self._busy and self._turn is None:
            self._begin_urgent()

    def _begin_urgent(self) -> None:
        self._turn = None
        if self._busy or self.failed is not None:
            return
        logs, self._urgent = self._urgent, {}
        work = [(log, flush) for log in logs if (flush := log.begin_flush()) is not None]
        if work:
            self._busy = True
            self._worker.start(lambda: self._carry_out(work))

    def _carry_out(self, work: _Work) -> None:
        """On the thread. Whatever goes wrong in a flush, other than a full disk, means that it is not durable."""
        error: Exception | None = None
        try:
            for _, flush in work:
                flush.run()
        except Exception as problem:
            error = problem
        self._reactor.callFromThread(self._done, work, error)

    def _done(self, work: _Work, error: Exception | None) -> None:
        if error is not None:
            self.failed = error  # and busy for ever
            self._on_fatal(Failure(error))  # type: ignore[no-untyped-call]
            return
        self._busy = False
        for log, flush in work:
            log.end_flush(flush)
            synced = self._synced.get(log)
            if synced is not None:
                synced(log.recovery_point)
                if flush.error is not None:  # a full disk kept a checkpoint from being written
                    self._mark(log)
        if self._urgent and self._turn is None:
            self._begin_urgent()
