"""Requests of many elements, served without holding up the reactor: 20,000 partitions are some 10 ms only to be decoded.

Such a request is decoded in slices, and handled in slices where its handler takes steps. Meanwhile its connection takes no
other request, and its frame is held.

One request of a node is decoded at a time: what is decoded takes some fifty times the bytes of its frame, and the frames of
the others wait.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from twisted.internet.defer import CancelledError, DeferredLock

from chronik.listeners.context import CloseConnection, RequestContext
from chronik.listeners.dispatch import Route
from chronik.listeners.slices import Slices
from chronik.steps import Steps


class HeldFrame(NamedTuple):
    """The bytes of a request, whose fields begin at `body`. `release` is called when they are needed no more."""

    frame: memoryview
    release: Callable[[], None]
    body: int


class ManyElementRequests:
    """Serves them for all connections of a node. `clock` is monotonic, in seconds."""

    def __init__(self, slices: Slices, clock: Callable[[], float]) -> None:
        self.slices = slices
        self._clock = clock
        self._decoding = DeferredLock()

    async def serve(
        self, held: HeldFrame, route: Route, context: RequestContext, refuse: Callable[[Any, BaseException], Any]
    ) -> tuple[Any, float]:
        """The response, None where there is to be none, and for how many seconds the reactor worked for it.

        `refuse(request, error)` makes the response to one that was decoded and then failed. Raises MalformedMessage and
        CloseConnection: the connection is to be ended.
        """
        work = _Work(self._clock)
        try:
            request = await self._decoded(held, route, work)
            try:
                route.check_served()
                answer = route.handler.handle(request, context)
                if isinstance(answer, Generator):
                    answer = await self.slices.finish(work.timed(answer))
            except (CloseConnection, CancelledError):
                raise
            except Exception as error:
                answer = refuse(request, error)
        finally:
            held.release()
        try:
            if hasattr(answer, "__await__"):
                answer = await answer
        except (CloseConnection, CancelledError):
            raise
        except Exception as error:
            answer = refuse(request, error)
        if isinstance(answer, Generator):
            answer = await self.slices.finish(work.timed(answer))
        return answer, work.seconds

    async def _decoded(self, held: HeldFrame, route: Route, work: _Work) -> Any:
        await self._decoding.acquire()
        try:
            steps = route.request.decode_in_steps(held.frame, route.version, held.body)
            request, _ = await self.slices.finish(work.timed(steps))
        finally:
            self._decoding.release()
        return request


class _Work:
    """How long the reactor has worked for a request."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.seconds = 0.0

    def timed(self, steps: Steps[Any]) -> Steps[Any]:
        """The same steps, timed."""
        while True:
            began = self._clock()
            try:
                next(steps)
            except StopIteration as end:
                return end.value
            finally:
                self.seconds += self._clock() - began
            yield
