"""The threads that prepare large batches. The reactor goes on meanwhile: compression is in C that releases the GIL, and a check
of keys, which is not, pauses every few hundred microseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

_PAUSE_SECONDS = 50e-6


class CompressionThreads:
    """Provides `preparation.ICompressionThreads` by up to `count` threads, started when there is work.

    `hold(count)` is told of every batch that waits, in bytes, and again, negative, when it no longer does.
    """

    def __init__(self, reactor: Any, count: int, hold: Callable[[int], None]) -> None:
        self.hold = hold
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=0, maxthreads=count, name="chronik-compress")
        self._started = self._stopped = False

    def run(self, work: Callable[[], bytearray], done: Callable[[bytearray | Exception], None]) -> None:
        """See `ICompressionThreads`. After `stop`, nothing is done."""
        if self._stopped:
            return
        if not self._started:
            self._started = True
            self._pool.start()

        def on_thread(succeeded: bool, result: Any) -> None:
            outcome = result.value if isinstance(result, Failure) else result
            self._reactor.callFromThread(self._hand_over, done, outcome)

        self._pool.callInThreadWithCallback(on_thread, self._unless_stopped, work)

    def pause(self) -> None:
        """See `ICompressionThreads`."""
        time.sleep(_PAUSE_SECONDS)

    def soon(self, call: Callable[[], None]) -> None:
        """See `ICompressionThreads`."""
        self._reactor.callLater(0, call)

    def stop(self) -> None:
        """End the threads after what each is doing; what is left is dropped. Blocks for some 100 ms at most."""
        self._stopped = True
        if self._started:
            self._pool.stop()

    def _unless_stopped(self, work: Callable[[], bytearray]) -> bytearray:
        return bytearray() if self._stopped else work()

    def _hand_over(self, done: Callable[[bytearray | Exception], None], outcome: bytearray | Exception) -> None:
        if not self._stopped:
            done(outcome)
