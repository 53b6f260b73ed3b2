"""The node's side of search: it knows which process owns what, asks them, and puts together what they answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from chronik.errors import ErrorCode, KafkaError
from chronik.model import PartitionId
from chronik.search.following import Following
from chronik.search.gathering import Found, FoundHit, Options, Wanted, narrowed
from chronik.search.mapping import NO_MAPPING
from chronik.search.messages import (
    AskState,
    Finish,
    Hits,
    PartitionState,
    Read,
    ReadResult,
    Rebuild,
    Save,
    Search,
    SearchedPart,
    States,
)
from chronik.search.query import Query, QueryError
from chronik.search.saved_service import Selecting

_SILENCE_SECONDS = 10.0
_AT_ONCE = 100
"""Partitions whose bounds are looked up in one turn of the reactor: some 20 us each."""
_AGAIN_SECONDS = 0.05
_SAVE_SECONDS = 10.0
_STATE_SECONDS = 10.0


class Processes(Protocol):
    """The processes that search, or one thread in their stead."""

    def startService(self) -> Any:
        """Begin: processes come when they are first told something."""

    def stopService(self) -> Any:
        """End them all; fires when they are gone."""

    def has_begun(self, place: int) -> bool:
        """Whether the one in this place is there: if not, it knows nothing that could be saved."""


class SearchService(Service):
    """Over `processes`, which `following` tells of the logs.

    `ask(place, request, silence seconds[, progress])` asks one of them; it fails with QueryError where the query is at fault.
    What `selecting` asks them is about saved searches.
    """

    log = Logger()

    def __init__(
        self,
        processes: Processes,
        following: Following,
        ask: Callable[..., Deferred[Any]],
        selecting: Selecting,
        clock: Any,
    ) -> None:
        self.selecting = selecting
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
        places = [place for place in self._following.busy_places() if self._processes.has_begun(place)]
        saving = [self._ask(place, Save(), _SAVE_SECONDS) for place in places]
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

    async def read(self, asked: Read) -> ReadResult:
        """The request that is asked to be read, by a process: large ones take longer than the reactor may be held."""
        place = next(iter(self._following.busy_places()), 0)
        read: ReadResult = await self._ask(place, asked, _SILENCE_SECONDS)
        return read

    async def reached(self, partition: PartitionId, offset: int) -> None:
        """Return when the record at this offset can be found. Raises KafkaError when the partition isn't here."""
        while True:
            more: Deferred[None] = Deferred()
            forget = self._following.when_more(partition, offset, partial(more.callback, None))
            if forget is None:
                return
            try:
                await more
            finally:
                forget()

    async def search(self, query: Query, wanted: Sequence[Wanted], options: Options) -> Found:
        """The records of `wanted` that match. Raises QueryError for a query that does not fit their fields."""
        bounds = await self._bounds([each.partition for each in wanted])
        found = Found([narrowed(each, *bounds.get(each.partition, (0, 0))) for each in wanted])
        for number, each in enumerate(wanted):
            if each.partition not in bounds:
                found.fail(number, "the partition is not on this node")
        waiting = [number for number, part in enumerate(found.parts) if part.start < part.upper]
        heard: list[_Heard] = []
        ends = self._clock.seconds() + options.seconds
        while waiting:
            queries = [query if (own := wanted[number].query) is None else own for number in waiting]
            waiting = await self._ask_for(
                queries, waiting, options, found, max(ends - self._clock.seconds(), 0.0), heard
            )
            if waiting and self._clock.seconds() >= ends:
                found.timed_out = True
                break
            if waiting:  # a process that has just begun anew: it is told of them first
                await deferLater(self._clock, _AGAIN_SECONDS)
                self._following.bounds([_id(found.parts[number]) for number in waiting])
        for _ in found.finishing(options):
            await deferLater(self._clock, 0)
        if options.aggs:
            await self._finish_aggregations(wanted, options, found, heard)
        return found

    async def _ask_for(
        self,
        queries: list[Query],
        numbers: list[int],
        options: Options,
        found: Found,
        seconds: float,
        heard: list[_Heard],
    ) -> list[int]:
        """Ask for these parts, each with its query; add what comes. Those that their process doesn't know yet."""
        by_place: dict[tuple[int, int], tuple[Query, list[int]]] = {}
        for number, query in zip(numbers, queries, strict=True):
            place = self._following.place_of(_id(found.parts[number]))
            if place is None:
                found.fail(number, "the topic was deleted")
            else:
                by_place.setdefault((place, id(query)), (query, []))[1].append(number)
        asking: list[Deferred[Any]] = []
        hearing: list[_Heard] = []
        alone = len(by_place) == 1 and not heard
        for (place, _), (query, asked) in by_place.items():
            request = Search(
                query=query,
                parts=tuple(found.parts[number] for number in asked),
                now_ms=options.now_ms,
                size=options.size,
                count_to=options.count_to,
                oldest_first=options.oldest_first,
                sources=options.sources,
                shape=options.shape,
                skip=options.skip if alone else 0,
                sort=options.sort,
                after=options.after,
                aggs=options.aggs,
                alone=alone,
                seconds=seconds,
            )
            hearing.append(_Heard(found, asked))
            asking.append(self._ask(place, request, _SILENCE_SECONDS, hearing[-1].hear))
        unknown: list[int] = []
        for each, (done, answer) in zip(hearing, await DeferredList(asking, consumeErrors=True), strict=True):
            if done:
                found.add(answer, each.asked, each.hits)
                each.finished = answer.aggs_finished
                heard.append(each)
                unknown += [each.asked[number] for number in answer.unknown]
            elif answer.check(QueryError, CancelledError):
                answer.raiseException()
            else:
                for number in each.asked:
                    found.fail(number, answer.getErrorMessage())
        return unknown

    async def _finish_aggregations(
        self, wanted: Sequence[Wanted], options: Options, found: Found, heard: Sequence[_Heard]
    ) -> None:
        """Let a process put together what several have counted, where not one alone has done it all."""
        if len(heard) == 1 and heard[0].finished:
            found.aggregations = heard[0].aggs
            return
        mapping = wanted[0].mapping if wanted else NO_MAPPING
        request = Finish(options.aggs, options.now_ms, tuple(b"".join(each.aggs) for each in heard), mapping)
        place = next(iter(self._following.busy_places()), 0)
        await self._ask(place, request, _SILENCE_SECONDS, lambda some: found.aggregations.append(some.aggs))

    async def _bounds(self, partitions: Sequence[PartitionId]) -> dict[PartitionId, tuple[int, int]]:
        """Where the partitions begin and end now, some in each turn of the reactor."""
        found: dict[PartitionId, tuple[int, int]] = {}
        for at in range(0, len(partitions), _AT_ONCE):
            if at:
                await deferLater(self._clock, 0)
            found.update(self._following.bounds(partitions[at : at + _AT_ONCE]))
        return found

    async def states(self, partitions: Sequence[PartitionId]) -> list[PartitionState]:
        """How far the indexes of these partitions have come; one that isn't indexed (nothing is in it) is left out.

        Raises KafkaError where a process does not know of its partitions in time.
        """
        return await self._ask_each_place(partitions, AskState)

    async def rebuild(self, partitions: Sequence[PartitionId]) -> list[PartitionState]:
        """Have the indexes of these partitions made anew from their logs. They are searched all the time.

        Returns their states at the beginning: it goes on in the background. Raises KafkaError as `states` does.
        """
        return await self._ask_each_place(partitions, Rebuild)

    async def _ask_each_place(
        self, partitions: Sequence[PartitionId], request: type[AskState] | type[Rebuild]
    ) -> list[PartitionState]:
        found: list[PartitionState] = []
        ends = self._clock.seconds() + _STATE_SECONDS
        waiting = list(partitions)
        while True:
            bounds = await self._bounds(waiting)
            by_place: dict[int, list[tuple[bytes, int]]] = {}
            for partition in waiting:
                start, stable = bounds.get(partition, (0, 0))
                place = self._following.place_of(partition)
                if place is not None and start < stable:
                    by_place.setdefault(place, []).append((partition.topic_id, partition.partition))
            asked: set[tuple[bytes, int]] = set()
            for place, several in by_place.items():
                states: States = await self._ask(place, request(tuple(several)), _STATE_SECONDS)
                found += states.partitions
                asked.update(several)
            asked -= {(each.topic_id, each.partition) for each in found}
            if not asked:
                return found
            if self._clock.seconds() >= ends:
                why = f"a process that searches does not know of {len(asked)} partitions yet"
                raise KafkaError(ErrorCode.REQUEST_TIMED_OUT, why)
            waiting = [PartitionId(*each) for each in asked]
            await deferLater(self._clock, _AGAIN_SECONDS)  # it has just begun, and is told of them first


class _Heard:
    """What one process tells on its way, of the parts of these numbers."""

    def __init__(self, found: Found, asked: list[int]) -> None:
        self._found = found
        self.asked = asked
        self.hits: list[FoundHit] = []
        self.aggs: list[bytes] = []
        self.finished = False

    def hear(self, some: Hits) -> None:
        """Some more."""
        self.hits += self._found.placed(some.hits, self.asked)
        if some.rest:
            self.hits[-1].rendered.append(some.rest)
        if some.aggs:
            self.aggs.append(some.aggs)


def _id(part: SearchedPart) -> PartitionId:
    return PartitionId(part.topic_id, part.partition)
