"""What has to be known before a tail can begin, found out in slices: the reactor is free in between.

Which topics it has, where its partitions begin and end, from where on the client wants them, and whether its query fits their
fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from twisted.internet.task import deferLater

from chronik.model import PartitionId
from chronik.search.fitting import Fit, Fitting
from chronik.search.following import Following
from chronik.search.handing_out import SLICE_SECONDS
from chronik.search.mapping import Mapping
from chronik.search.names import Names
from chronik.search.starts import LATEST, Begun, Start, start_offset
from chronik.search.tail_group import Part

_AT_ONCE = 50


class _Slices:
    """Of the reactor's time."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._ends = clock.seconds() + SLICE_SECONDS

    async def pause(self) -> None:
        """Let others go on, if it is time to."""
        if self._clock.seconds() >= self._ends:
            await deferLater(self._clock, 0)
            self._ends = self._clock.seconds() + SLICE_SECONDS


class Beginnings:
    """`mapping_of` gives a topic's mapping, `offset_at` the first offset of a partition at or after a time in ms, if there is
    one.
    """

    def __init__(
        self,
        following: Following,
        mapping_of: Callable[[str], Mapping],
        offset_at: Callable[[PartitionId, int], int | None],
        clock: Any,
    ) -> None:
        self._following = following
        self._mapping_of = mapping_of
        self._offset_at = offset_at
        self._clock = clock

    async def topics(self, names: Names, topics: Iterable[str]) -> list[str]:
        """Those among the topics that the names are for."""
        slices = _Slices(self._clock)
        found = []
        for topic in topics:
            if names.has(topic):
                found.append(topic)
            await slices.pause()
        return found

    async def fits(self, fitting: Fitting, topics: Iterable[str]) -> dict[str, Fit]:
        """How a query fits the fields of these topics. Raises QueryError where it doesn't."""
        slices = _Slices(self._clock)
        found: dict[str, Fit] = {}
        for topic in topics:
            mapping = self._mapping_of(topic)
            if fitting.known(mapping) is None:
                for _ in fitting.find(topic, mapping):
                    await slices.pause()
            found[topic] = fitting.found(topic, mapping)
            await slices.pause()
        return found

    async def bounds(self, parts: list[Part]) -> dict[int, tuple[int, int]]:
        """Log start and stable offset of each, by its number."""
        found: dict[int, tuple[int, int]] = {}
        for at in range(0, len(parts), _AT_ONCE):
            if at:
                await deferLater(self._clock, 0)
            some = parts[at : at + _AT_ONCE]
            known = self._following.bounds([part.id for part in some])
            found.update((part.number, known[part.id]) for part in some if part.id in known)
        return found

    async def begun(self, start: Start, parts: list[Part], bounds: dict[int, tuple[int, int]]) -> dict[int, Begun]:
        """Where a tail begins in each; nothing for one that begins with its group. Raises KafkaError."""
        begun: dict[int, Begun] = {}
        if start.kind == LATEST:
            return begun
        slices = _Slices(self._clock)
        for part in parts:
            if part.number in bounds:
                first, stable = bounds[part.number]
                at_time = partial(self._offset_at, part.id)
                begun[part.number] = start_offset(start, part.name, first, max(stable, first), at_time)
            await slices.pause()
        return begun
