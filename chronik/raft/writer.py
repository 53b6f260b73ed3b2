"""The one thread that metadata is written in, so that the reactor never waits for the disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

_T = TypeVar("_T")


class WriterThread:
    """Call it with a blocking function and its arguments: it runs in the thread, and the Deferred fires in the reactor.

    One function runs at a time, in the order of the calls. The thread is made at the first call.
    """

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=0, maxthreads=1, name="chronik-metadata")

    def __call__(self, function: Callable[..., _T], *arguments: Any) -> Deferred[_T]:
        if not self._pool.started:
            self._pool.start()
        return deferToThreadPool(self._reactor, self._pool, function, *arguments)

    def stop(self) -> None:
        """Let the running function finish and end the thread. Blocks until then: call it when nothing is under way."""
        if self._pool.started:
            self._pool.stop()
