"""Giving the reactor back inside of a long piece of work.

Work comes as steps (`chronik.steps`). A slice of them takes about `SLICE_SECONDS`; the node's cooperator carries out one slice
of one piece of work a turn of the reactor, whatever there is to do, and requests come in between.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Cooperator, TaskStopped
from twisted.python.failure import Failure

from chronik.steps import Steps

SLICE_SECONDS = 0.002
_STEP = 64

_T = TypeVar("_T")
_Item = TypeVar("_Item")


class Slices:
    """Takes steps a slice at a time. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float], cooperator: Cooperator) -> None:
        self._clock = clock
        self._cooperator = cooperator

    def begin(self, steps: Steps[Any]) -> Any:
        """Take one slice at once: the result of `steps`, or where they weren't all, a coroutine that goes on to it.

        A result that is itself to be waited for is. Raises what the steps raise.
        """
        until = self._clock() + SLICE_SECONDS
        try:
            while True:
                next(steps)
                if self._clock() >= until:
                    return self._go_on(steps)
        except StopIteration as end:
            return end.value

    async def _go_on(self, steps: Steps[Any]) -> Any:
        result = await self.finish(steps)
        return await result if isinstance(result, Awaitable) else result

    def finish(self, steps: Steps[_T]) -> Deferred[_T]:
        """The result of `steps`, all of them taken on later turns. Cancelling it ends them where they are."""
        result: list[_T] = []
        task = self._cooperator.cooperate(self._sliced(steps, result))
        finished: Deferred[_T] = Deferred(lambda _: task.stop())

        def ended(outcome: Any) -> None:
            if isinstance(outcome, Failure) and outcome.check(TaskStopped):
                steps.close()  # `finished` is being cancelled
            elif isinstance(outcome, Failure):
                finished.errback(outcome)
            else:
                finished.callback(result[0])

        task.whenDone().addBoth(ended)
        return finished

    def _sliced(self, steps: Steps[_T], result: list[_T]) -> Iterator[None]:
        """A step of the cooperator for each slice; the last one puts the result into `result`."""
        until = self._clock() + SLICE_SECONDS
        try:
            while True:
                next(steps)
                if self._clock() >= until:
                    yield
                    until = self._clock() + SLICE_SECONDS
        except StopIteration as end:
            result.append(end.value)

    def pace(self) -> Pace:
        """For a coroutine that loops: `await pace.turn()` in every round gives the reactor back when a slice is over."""
        return Pace(self, self._clock)

    async def take(self, steps: Steps[_T]) -> _T:
        """The result of `steps`: one slice of them is taken at once."""
        result: Any = self.begin(steps)
        if isinstance(result, Coroutine):
            result = await result
        taken: _T = result
        return taken

    async def each(
        self, items: Sequence[_Item], work: Callable[[Sequence[_Item]], object], step: int | None = None
    ) -> None:
        """Call `work` with all of `items`, `step` at a time (64 by default), in order; the first slice of it at once.

        What it raises ends it.
        """
        await self.take(_in_parts(items, work, step or _STEP))


class Pace:
    """How much of its slice a coroutine has used; the first begins at once."""

    def __init__(self, slices: Slices, clock: Callable[[], float]) -> None:
        self._slices = slices
        self._clock = clock
        self._until = clock() + SLICE_SECONDS

    async def turn(self) -> None:
        """Wait for the next slice, if this one is over."""
        if self._clock() >= self._until:
            await self._slices.finish(_nothing())
            self._until = self._clock() + SLICE_SECONDS


def _nothing() -> Steps[None]:
    yield from ()


def _in_parts(items: Sequence[_Item], work: Callable[[Sequence[_Item]], object], step: int) -> Steps[None]:
    for start in range(0, len(items), step):
        work(items[start : start + step])
        yield
