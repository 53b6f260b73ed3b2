"""Requests of many elements, served without holding up the reactor: 20,000 partitions are some 10 ms only to be decoded.

Such a request is decoded in slices, and handled in slices: where its handler takes steps, or has a `handle_many` for them, or
part by part where it is about things that are answered one by one (`chronik.listeners.parts`). Meanwhile its connection takes
no other request, and its frame is held.

One request of a node is decoded at a time: what is decoded takes some fifty times the bytes of its frame, and the frames of
the others wait.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, NamedTuple

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.python.failure import Failure

from chronik.errors import KafkaError
from chronik.listeners.context import CloseConnection, RequestContext
from chronik.listeners.dispatch import Route
from chronik.listeners.slices import Slices
from chronik.steps import Steps, at_once


class HeldFrame(NamedTuple):
    """The bytes of a request, whose fields begin at `body`. `release` says that they are needed no more; twice is harmless."""

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
        self, held: HeldFrame, route: Route, context: RequestContext, fault: Callable[[Failure], KafkaError]
    ) -> tuple[Any, float]:
        """The response, None where there is to be none, and for how many seconds the reactor worked for it.

        `fault` says what the client is told of a request that was decoded and then failed. Raises MalformedMessage and
        CloseConnection: the connection is to be ended.
        """
        work = _Work(self._clock)
        try:
            request = await self._decoded(held, route, work)
            try:
                answer = await self._answered(request, held, route, context, work)
            except (CloseConnection, CancelledError):
                raise
            except Exception:
                answer = await self._refused(request, route, fault(Failure()), work)
        finally:
            held.release()
        return answer, work.seconds

    async def _decoded(self, held: HeldFrame, route: Route, work: _Work) -> Any:
        await self._decoding.acquire()
        try:
            steps = route.request.decode_in_steps(held.frame, route.version, held.body)
            request, _ = await self.slices.finish(work.timed(steps))
        finally:
            self._decoding.release()
        return request

    async def _answered(self, request: Any, held: HeldFrame, route: Route, context: RequestContext, work: _Work) -> Any:
        route.check_served()
        if hasattr(route.handler, "parts"):
            begun = await self._begun(request, route, context, work)
            held.release()
            return await self._joined(begun, route, work)
        answer = getattr(route.handler, "handle_many", route.handler.handle)(request, context)
        if isinstance(answer, Generator):
            answer = await self.slices.finish(work.timed(answer))
        held.release()
        return await answer if isinstance(answer, Awaitable) else answer

    async def _refused(self, request: Any, route: Route, error: KafkaError, work: _Work) -> Any:
        if hasattr(route.handler, "parts"):
            steps = _parts_refused(request, route, error)
        else:
            refusal = route.handler.refuse(request, route.version, error)
            if not isinstance(refusal, Generator):
                return refusal
            steps = refusal
        return await self.slices.finish(work.timed(steps))

    # -- in parts

    async def _begun(self, request: Any, route: Route, context: RequestContext, work: _Work) -> list[tuple[Any, Any]]:
        """Begin all parts of `request`: each with its answer, or a Deferred of it.

        Where one of them is to end the connection, CloseConnection is raised after the last.
        """
        begun: list[tuple[Any, Any]] = []
        closing: CloseConnection | None = None
        pace = self.slices.pace()
        try:
            for part in route.handler.parts(request):
                try:
                    answer = work.of(route.handler.handle, part, context)
                    if isinstance(answer, Coroutine):
                        answer = Deferred.fromCoroutine(answer)
                    if route.handler.in_turn and isinstance(answer, Deferred):
                        answer = await answer
                except CloseConnection as reason:
                    closing = closing or reason
                    continue
                except KafkaError as error:
                    answer = _refusal(part, route, error)
                begun.append((part, answer))
                await pace.turn()
            if closing is not None:
                raise closing
        except BaseException:
            _give_up(begun)
            raise
        return begun

    async def _joined(self, begun: list[tuple[Any, Any]], route: Route, work: _Work) -> Any:
        """The answer that those to the parts come to; None where they have none."""
        answers = []
        pace = self.slices.pace()
        try:
            for part, answer in begun:
                try:
                    answers.append(await answer if isinstance(answer, Deferred) else answer)
                except KafkaError as error:
                    answers.append(_refusal(part, route, error))
                await pace.turn()
        except BaseException:
            _give_up(begun)
            raise
        if answers[0] is None:
            return None
        return await self.slices.finish(work.timed(route.handler.joined(answers)))


def _refusal(part: Any, route: Route, error: KafkaError) -> Any:
    refusal = route.handler.refuse(part, route.version, error)
    return at_once(refusal) if isinstance(refusal, Generator) else refusal


def _parts_refused(request: Any, route: Route, error: KafkaError) -> Steps[Any]:
    answers = []
    for part in route.handler.parts(request):
        answers.append(_refusal(part, route, error))
        yield
    return (yield from route.handler.joined(answers))


def _give_up(begun: list[tuple[Any, Any]]) -> None:
    """Nobody waits for the answers to these parts any more."""
    for _, answer in begun:
        if isinstance(answer, Deferred):
            answer.addErrback(_dropped)
            answer.cancel()


def _dropped(_: Failure) -> None:
    """It was given up."""


class _Work:
    """How long the reactor has worked for a request."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.seconds = 0.0

    def of(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of `function`, timed."""
        began = self._clock()
        try:
            return function(*arguments)
        finally:
            self.seconds += self._clock() - began

    def timed(self, steps: Steps[Any]) -> Steps[Any]:
        """The same steps, timed."""
        while True:
            try:
                self.of(next, steps)
            except StopIteration as end:
                return end.value
            yield
