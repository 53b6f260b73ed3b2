"""Having splits made: asks the processes that search which ones they would like, and lets another process make them.

One at a time on the node. A split that could not be made, or was made and not taken, is due again; then its partition waits,
longer each time: the disk may be full. What a process asks for is asked of it again after each split, so nothing is kept here
that could go stale.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from chronik.errors import ChronikError
from chronik.model import PartitionId
from chronik.search.splits.messages import AskDue, BuildSplit, Built, Due, SplitBuilt
from chronik.telemetry.metrics import SplitMetrics

_LOOK_SECONDS = 5.0
_SILENCE_SECONDS = 10.0
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 10.0, 900.0
_AT_ONCE = 100
"""Splits that a process tells of: of those one is taken whose partition need not wait."""


class Splitting(Service):
    """`places` tells which processes have partitions with splits. `ask(place, request, silence seconds)` asks one of them,
    `tell(place, news)` tells it something. `build` has a split made; it fails where that can't be.
    """

    log = Logger()

    def __init__(
        self,
        places: Callable[[], set[int]],
        ask: Callable[..., Deferred[Any]],
        tell: Callable[[int, SplitBuilt], object],
        build: Callable[[BuildSplit], Deferred[Built]],
        metrics: SplitMetrics,
        clock: Any,
    ) -> None:
        self._places = places
        self._ask = ask
        self._tell = tell
        self._build = build
        self._metrics = metrics
        self._clock = clock
        self._working: Deferred[None] | None = None
        self._waits: dict[PartitionId, tuple[float, float]] = {}
        """Of partitions with a failure: how long they wait, in seconds, and until when."""
        self._last: dict[PartitionId, int] = {}
        """Where the last split of a partition began."""

    def startService(self) -> None:
        """Begin to look."""
        super().startService()  # type: ignore[no-untyped-call]
        self._working = Deferred.fromCoroutine(self._work())
        self._working.addErrback(self._ended)

    def stopService(self) -> None:
        """Let no more be made; what is being made is broken off."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._working is not None:
            self._working.cancel()

    def _ended(self, failure: Any) -> None:
        if failure.check(CancelledError) is None:
            self.log.failure("no more splits are made until the node starts again", failure)

    async def _work(self) -> None:
        while True:
            made = False
            for place in sorted(self._places()):
                wanted = await self._next_of(place)
                if wanted is not None:
                    await self._make(place, wanted)
                    made = True
            if not made:
                await deferLater(self._clock, _LOOK_SECONDS)

    async def _next_of(self, place: int) -> BuildSplit | None:
        """The first that is due in a place and need not wait."""
        try:
            due: Due = await self._ask(place, AskDue(_AT_ONCE), _SILENCE_SECONDS)
        except ChronikError as error:
            self.log.debug("place {place} doesn't say which splits are due: {error}", place=place, error=error)
            return None
        now = self._clock.seconds()
        for each in due.splits:
            if self._waits.get(_of(each), (0.0, now))[1] <= now:
                return each
        return None

    async def _make(self, place: int, wanted: BuildSplit) -> None:
        metrics, began, partition = self._metrics, self._clock.seconds(), _of(wanted)
        metrics.building += 1
        try:
            built = await self._build(wanted)
        except ChronikError as error:
            metrics.failures += 1
            self.log.warn(
                "the split of offsets {first} to {following} in {index} could not be made: {error}; "
                "it is tried again in {wait:.0f} s",
                first=wanted.first,
                following=wanted.following,
                index=wanted.index,
                error=error,
                wait=self._wait(partition),
            )
            return
        finally:
            metrics.building -= 1
        if self._last.get(partition) == wanted.first:
            self._wait(partition)  # it was made before, and not taken
        else:
            self._waits.pop(partition, None)
        self._last[partition] = wanted.first
        metrics.builds += 1
        metrics.records += built.records
        metrics.bytes += built.bytes
        metrics.seconds += self._clock.seconds() - began
        self._tell(place, SplitBuilt(wanted.topic_id, wanted.partition, built.name))

    def _wait(self, partition: PartitionId) -> float:
        """Let a partition wait, twice as long each time; the seconds."""
        now = self._clock.seconds()
        for gone in [each for each, (_, until) in self._waits.items() if until < now - _LONGEST_WAIT_SECONDS]:
            del self._waits[gone]
            self._last.pop(gone, None)
        wait = min(2 * self._waits.get(partition, (_FIRST_WAIT_SECONDS / 2, 0.0))[0], _LONGEST_WAIT_SECONDS)
        self._waits[partition] = wait, now + wait
        return wait


def _of(split: BuildSplit) -> PartitionId:
    return PartitionId(split.topic_id, split.partition)
