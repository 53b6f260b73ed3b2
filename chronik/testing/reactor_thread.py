"""The one reactor thread that all embedded brokers of a process share.

It runs a reactor of its own, which is not installed as Twisted's global one: so it works beside a reactor or an asyncio
loop that already runs, and leaves to the tests which reactor they install. It starts with the first broker and ends with the
process.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

_T = TypeVar("_T")
_lock = threading.Lock()
_running: Any = None


def reactor_in_thread() -> Any:
    """The reactor, running in its daemon thread."""
    global _running
    with _lock:
        if _running is None:
            reactor = _new_reactor()
            started = threading.Event()
            reactor.callWhenRunning(started.set)
            thread = threading.Thread(
                target=reactor.run, kwargs={"installSignalHandlers": False}, name="chronik-reactor", daemon=True
            )
            thread.start()
            started.wait()
            atexit.register(_stop, reactor, thread)
            _running = reactor
    return _running


def call(function: Callable[..., Coroutine[Deferred[Any], Any, _T]], *arguments: Any, timeout: float = 30.0) -> _T:
    """Run a coroutine function in the reactor thread; return its result here, or raise what it raised."""
    reactor = reactor_in_thread()
    outcome: Future[_T] = Future()

    def failed(failure: Failure) -> None:
        outcome.set_exception(failure.value)

    def begin() -> None:
        Deferred.fromCoroutine(function(*arguments)).addCallbacks(outcome.set_result, failed)

    reactor.callFromThread(begin)
    return outcome.result(timeout)


def _new_reactor() -> Any:
    try:
        from twisted.internet.epollreactor import EPollReactor as Reactor
    except ImportError:  # not Linux
        from twisted.internet.selectreactor import SelectReactor as Reactor
    return Reactor()


def _stop(reactor: Any, thread: threading.Thread) -> None:
    reactor.callFromThread(reactor.stop)
    thread.join(5)
