"""The node's side of search: it knows which process owns what, asks them, and puts together what they answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger

from chronik.model import PartitionId
from chronik.search.following import Following
from chronik.search.messages import AskState, PartitionState, Save, States

_SAVE_SECONDS = 10.0
_STATE_SECONDS = 10.0


class Processes(Protocol):
    """The processes that search, by their places from 0 on; or one thread in their stead."""

    size: int

    def startService(self) -> Any:
        """Begin: processes come when they are first told something."""

    def stopService(self) -> Any:
        """End them all; fires when they are gone."""


class SearchService(Service):
    """Over `processes`, which `following` tells of the logs. `ask(place, request, silence seconds)` asks one of them."""

    log = Logger()

    def __init__(
        self,
        processes: Processes,
        following: Following,
        ask: Callable[[int, msgspec.Struct, float], Deferred[Any]],
        clock: Any,
    ) -> None:
        self._processes = processes
        self._following = following
        self._ask = ask
        self._clock = clock

    def startService(self) -> None:
        """Begin to index."""
        super().startService()
        self._processes.startService()
        self._following.startService()

    async def _stop(self) -> None:
        self._following.stopService()
        saving = [self._ask(place, Save(), _SAVE_SECONDS) for place in self._following.busy_places()]
        for outcome in saving:
            outcome.addTimeout(_SAVE_SECONDS, self._clock)
        for done, result in await DeferredList(saving, consumeErrors=True):
            if not done:
                self.log.warn("an index is not saved, and will be made anew: {why}", why=result.getErrorMessage())
        await maybeDeferred(self._processes.stopService)

    def stopService(self) -> Deferred[None]:
        """Save what is indexed, and end the processes."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def states(self, partitions: Sequence[PartitionId]) -> list[PartitionState]:
        """How far the indexes of these partitions have come; one that isn't indexed (nothing is in it) is left out."""
        self._following.bounds(partitions)
        by_place: dict[int, list[tuple[bytes, int]]] = {}
        for partition in partitions:
            place = self._following.place_of(partition)
            if place is not None and place in self._following.busy_places():
                by_place.setdefault(place, []).append((partition.topic_id, partition.partition))
        found: list[PartitionState] = []
        for place, asked in by_place.items():
            states: States = await self._ask(place, AskState(tuple(asked)), _STATE_SECONDS)
            found += states.partitions
        return found
