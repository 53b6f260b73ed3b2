"""Giving the reactor back inside of a long piece of work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from twisted.internet.task import deferLater

SLICE_SECONDS = 0.002
_STEP = 64

_Item = TypeVar("_Item")


class Slices:
    """Does work on many items, a slice of about `SLICE_SECONDS` a turn of `reactor`. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float], reactor: Any) -> None:
        self._clock = clock
        self._reactor = reactor

    async def each(
        self, items: Sequence[_Item], work: Callable[[Sequence[_Item]], object], step: int | None = None
    ) -> None:
        """Call `work` with all of `items`, `step` at a time (64 by default), in order. What it raises ends it."""
        until, step = self._clock() + SLICE_SECONDS, step or _STEP
        for start in range(0, len(items), step):
            work(items[start : start + step])
            if self._clock() >= until:
                await deferLater(self._reactor, 0)
                until = self._clock() + SLICE_SECONDS
