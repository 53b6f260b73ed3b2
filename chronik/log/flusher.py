"""PROVISIONAL (lead): replaced by L's."""
from __future__ import annotations
from typing import Any, Callable
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

class Flusher:
    def __init__(self, reactor: Any, on_fatal: Any, interval_ms: int) -> None:
        self._reactor = reactor; self._fatal = on_fatal; self._interval = interval_ms / 1000
        self._pool = ThreadPool(0, 1, "chronik-flush"); self._dirty: dict[Any, None] = {}; self._synced: dict[Any, Any] = {}
        self._call: Any = None
        self._busy = False
    def watch(self, log: Any, synced: Any) -> None:
        self._synced[log] = synced
        log.on_dirty = self._mark
    def _mark(self, log: Any) -> None:
        self._dirty[log] = None
        if self._call is None:
            self._call = self._reactor.callLater(self._interval, self._run)
    def request(self, log: Any) -> None:
        self._dirty[log] = None
        if not self._busy: self._run()
    def forget(self, log: Any) -> None:
        self._dirty.pop(log, None); self._synced.pop(log, None)
    def _run(self) -> None:
        if self._call is not None and self._call.active(): self._call.cancel()
        self._call = None
        if self._busy: return
        logs, self._dirty = list(self._dirty), {}
        work = [(log, f) for log in logs if (f := log.begin_flush()) is not None]
        if not work: return
        self._busy = True
        if not self._pool.started: self._pool.start()
        def run() -> None:
            for _, f in work: f.run()
        def done(_: Any) -> None:
            self._busy = False
            for log, f in work:
                log.end_flush(f)
                if log in self._synced: self._synced[log](log.recovery_point)
            if self._dirty and self._call is None: self._run()
        deferToThreadPool(self._reactor, self._pool, run).addCallbacks(done, self._fatal)
    def stop(self) -> None:
        if self._call is not None and self._call.active(): self._call.cancel()
        if self._pool.started: self._pool.stop()
