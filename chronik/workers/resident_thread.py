"""A worker that stays, as a thread of the node: for data that no other process can see, because it is in memory only.

The same jobs in the same turns as in a process (`chronik.workers.residing`), and the same face as `ResidentWorkers`, of one
place. What it does in Python holds the interpreter, and so the reactor: it is for tests and small data.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from threading import Thread
from typing import Any

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from chronik.workers.failures import JobFailedError, WorkerLostError
from chronik.workers.messages import (
    Cancel,
    Done,
    Failed,
    FromWorker,
    JobKind,
    NewsKind,
    Progress,
    Start,
    Tell,
    ToWorker,
    packed,
    unpacked,
)
from chronik.workers.residing import Residence, waiting

_Job = tuple[JobKind, Callable[[Any], object], "Deferred[Any]"]


class ResidentThread(Service):
    """One thread. `furnish(send)` makes the `Residence` in it, when it is first told or asked something."""

    size = 1

    def __init__(
        self,
        reactor: Any,
        furnish: Callable[[Callable[[FromWorker], object]], Residence],
        welcome: Callable[[int], Iterable[tuple[NewsKind, msgspec.Struct]]],
    ) -> None:
        self._reactor = reactor
        self._furnish = furnish
        self._welcome = welcome
        self._inbox: SimpleQueue[ToWorker | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._under_way: dict[int, _Job] = {}
        self._jobs = 0
        self._stopped = False

    def has_begun(self, place: int) -> bool:
        """See `ResidentWorkers`."""
        return self._thread is not None

    def tell(self, place: int, kind: NewsKind, body: msgspec.Struct) -> None:
        """See `ResidentWorkers`."""
        if self._started():
            self._inbox.put(Tell(kind.name, packed(body)))

    def ask(
        self,
        place: int,
        kind: JobKind,
        request: msgspec.Struct,
        *,
        silence_seconds: float,
        progress: Callable[[Any], object] = lambda _: None,
    ) -> Deferred[Any]:
        """See `ResidentWorkers`; a thread cannot be lost, nor killed for its silence."""
        if self._stopped:
            return fail(WorkerLostError("the node is shutting down"))
        self._started()
        self._jobs += 1
        number = self._jobs

        def cancel(_: Deferred[Any]) -> None:
            if self._under_way.pop(number, None) is not None:
                self._inbox.put(Cancel(number))

        done: Deferred[Any] = Deferred(cancel)
        self._under_way[number] = kind, progress, done
        self._inbox.put(Start(number, kind.name, packed(request)))
        return done

    def stopService(self) -> Deferred[Any]:
        """Fail what is under way, and end the thread. Fires when it has ended."""
        super().stopService()
        self._stopped = True
        jobs, self._under_way = list(self._under_way.values()), {}
        for _, _, done in jobs:
            done.errback(Failure(WorkerLostError("the node is shutting down")))
        ended: Deferred[Any] = Deferred()
        if self._thread is None:
            ended.callback(None)
            return ended
        self._inbox.put(None)
        self._ended = ended
        return ended

    def _started(self) -> bool:
        """Whether it runs already; if not it is started, and told what it must know."""
        if self._thread is not None or self._stopped:
            return not self._stopped
        self._thread = Thread(target=self._run, name="chronik-resident", daemon=True)
        self._thread.start()
        for kind, body in self._welcome(0):
            self._inbox.put(Tell(kind.name, packed(body)))
        return True

    def _run(self) -> None:
        residence = self._furnish(lambda message: self._reactor.callFromThread(self._received, message))
        messages: deque[ToWorker] = deque()
        while True:
            for message in waiting(self._inbox, 0.0 if messages else residence.patience):
                if message is None:
                    self._reactor.callFromThread(self._has_ended)
                    return
                messages.append(message)
            residence.take_some(messages)
            residence.turn()

    def _has_ended(self) -> None:
        self._ended.callback(None)

    def _received(self, message: FromWorker) -> None:
        number = getattr(message, "job", None)
        job = self._under_way.get(number) if number is not None else None
        if job is None or number is None:
            return
        kind, progress, done = job
        if isinstance(message, Progress):
            progress(unpacked(message.body, kind.progress))
            return
        del self._under_way[number]
        if isinstance(message, Done):
            done.callback(unpacked(message.result, kind.result))
        elif isinstance(message, Failed):
            done.errback(Failure(JobFailedError(message.error, message.text)))
