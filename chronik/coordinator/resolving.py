"""Looks up what a new pattern matches before it is asked about, without holding up the reactor."""

from __future__ import annotations

from itertools import islice

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from chronik.coordinator.subscriptions import Topics

STEPS_A_TURN = 100
"""Steps of `Topics.resolving` in one turn of the reactor: about two milliseconds."""


async def look_up(topics: Topics, pattern: str, clock: IReactorTime) -> None:
    """Let `topics` know what `pattern` matches."""
    steps = topics.resolving(pattern)
    while sum(1 for _ in islice(steps, STEPS_A_TURN)) == STEPS_A_TURN:
        await deferLater(clock, 0)
