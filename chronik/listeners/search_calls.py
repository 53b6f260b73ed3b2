"""Searches on their way from an HTTP request to its answer: which topics, what is asked, what is found, and how it is said.

A short request is read here, a longer one by a process that searches: reading one may take longer than the reactor may be held.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, cast

import msgspec
from twisted.internet.defer import Deferred, DeferredLock, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from chronik.interfaces import IClusterMetadata
from chronik.listeners.http import Refusal
from chronik.listeners.search_answers import count_answer, extras_of, lost_since, search_answer, shards, total
from chronik.listeners.search_http import Call, fault_refusal, switch
from chronik.model import PartitionId, Topic, uuid_to_text
from chronik.search.explaining import Explanation
from chronik.search.gathering import Found, Options, Wanted
from chronik.search.mapping import NO_MAPPING, Mapping, parse_mapping
from chronik.search.messages import Read, ReadResult
from chronik.search.names import Choice, choose
from chronik.search.query import ALL, Query
from chronik.search.reading import read
from chronik.search.rendering import Rendering
from chronik.search.requests import ALL_HITS, TUNING, SearchRequest, Vector
from chronik.topic_config import SEARCH_MAPPING

NAME_PARAMETERS = ("ignore_unavailable", "allow_no_indices", "expand_wildcards")
"""Parameters that say what the names in a path mean."""
INLINE_BYTES = 1024
"""A request of so many bytes is read at once: in about 3 ms, at the worst."""
MAX_UNDER_WAY = 100
"""Searches at a time."""
MAX_WAITING = 1000
"""Those that wait for offsets to be reached."""

Kind = Literal["search", "count", "explain"]
_T = TypeVar("_T")


class ISearches(Protocol):
    """What searches; `chronik.search.service.SearchService`."""

    async def read(self, asked: Read) -> ReadResult:
        """Read a request."""

    async def reached(self, partition: PartitionId, offset: int) -> None:
        """Wait for a record."""

    async def search(self, query: Query, wanted: Sequence[Wanted], options: Options) -> Found:
        """Search partitions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchParts:
    """Whom searches ask. `compacted` tells of topics from which newer records take older ones away."""

    search: ISearches
    metadata: IClusterMetadata
    clock: IReactorTime
    wall_clock_ms: Callable[[], int]
    compacted: Callable[[Topic], bool]
    longest_ms: int


class _Asked(NamedTuple):
    """A request that was read, for topics; with the query for each topic, whose words depend on its mapping."""

    request: SearchRequest
    queries: dict[bytes, msgspec.Raw]
    explanations: list[tuple[list[str], Explanation]]


class Searches:
    """Carries out searches, some at a time."""

    def __init__(self, parts: SearchParts) -> None:
        self._parts = parts
        self._under_way = 0
        self._waiting = 0
        self._turns = DeferredLock()

    async def search(self, call: Call) -> list[bytes]:
        """`_search`: the answer, in pieces."""
        topics, rest = await self._addressed(call, ("search_type", "typed_keys"))
        began, now_ms = self._parts.clock.seconds(), self._parts.wall_clock_ms()
        asked = await self._read("search", call._replace(parameters=rest), topics, now_ms)
        found, extras = await self._run(asked, topics, now_ms, began, asked.request.shape)
        if not asked.request.partial:
            _expect_whole(found)
        return await self._in_steps(search_answer(found, asked.request, self._since(began), extras))

    async def count(self, call: Call) -> list[bytes]:
        """`_count`."""
        topics, rest = await self._addressed(call)
        began, now_ms = self._parts.clock.seconds(), self._parts.wall_clock_ms()
        asked = await self._read("count", call._replace(parameters=rest), topics, now_ms)
        found, extras = await self._run(asked, topics, now_ms, began, None)
        _expect_whole(found)
        return count_answer(found, extras)

    async def explain(self, call: Call) -> list[bytes]:
        """`_explain`: what a search is pruned by, and what it cost."""
        topics, rest = await self._addressed(call)
        began, now_ms = self._parts.clock.seconds(), self._parts.wall_clock_ms()
        asked = await self._read("explain", call._replace(parameters=rest), topics, now_ms)
        found, extras = await self._run(asked, topics, now_ms, began, asked.request.shape)
        answer = {
            "took": self._since(began),
            "timed_out": found.timed_out,
            "_shards": shards(found),
            "explanations": [
                {"topics": names, "tier": "signatures", **msgspec.structs.asdict(explanation)}
                for names, explanation in asked.explanations
            ],
            "hits": {"total": total(found, asked.request.count_to or ALL_HITS), "shown": len(found.hits)},
            "chronik": extras,
        }
        return [msgspec.json.encode(answer)]

    async def sample(self, topics: Sequence[Topic], size: int, shape: Rendering) -> Found:
        """The newest records of some topics, in a shape of their own."""
        options = Options(
            self._parts.wall_clock_ms(), self._parts.longest_ms / 1000, size=size, sources=False, shape=shape
        )
        return await self._counted(self._parts.search.search(ALL, _wanted(topics, None, {}), options))

    async def topics(self, names: str, parameters: dict[str, str]) -> list[Topic]:
        """The topics of these names. Raises NamesError, Refusal."""
        wildcards = parameters.get("expand_wildcards", "open")
        if not set(wildcards.split(",")) <= {"open", "all", "hidden"}:
            raise Refusal(400, f"expand_wildcards is open or all, not {wildcards[:80]!r}")
        choice = Choice(switch(parameters, "ignore_unavailable"), switch(parameters, "allow_no_indices", True))
        metadata = self._parts.metadata
        choosing = choose(names, metadata.topics(), metadata.topic, choice)
        return await self._in_steps(choosing)

    async def _in_steps(self, steps: Generator[None, None, _T]) -> _T:
        """What comes of work that lets others go on between its steps."""
        while True:
            try:
                next(steps)
            except StopIteration as end:
                result: _T = end.value
                return result
            await deferLater(self._parts.clock, 0)

    # -- steps --------------------------------------------------------------------------------------------------------

    async def _addressed(self, call: Call, also: Sequence[str] = ()) -> tuple[list[Topic], dict[str, str]]:
        """The topics that are searched, and the parameters that say something about the search itself."""
        about_names, rest = call.split(*NAME_PARAMETERS)
        for name in TUNING & rest.keys():
            del rest[name]
        if "search_type" in also and rest.pop("search_type", "query_then_fetch") != "query_then_fetch":
            raise Refusal(400, "search_type is query_then_fetch: there are no scores to be counted before")
        if "typed_keys" in also and switch(rest, "typed_keys"):
            raise Refusal(400, "typed_keys is not served: aggregations have the names that the request gave them")
        if "typed_keys" in also:
            rest.pop("typed_keys", None)
        return await self.topics(call.names, about_names), rest

    async def _read(self, kind: Kind, call: Call, topics: Sequence[Topic], now_ms: int) -> _Asked:
        """The request, read once for each mapping that the topics have."""
        by_mapping: dict[str, list[Topic]] = {}
        for topic in topics:
            by_mapping.setdefault(topic.configs.get(SEARCH_MAPPING, ""), []).append(topic)
        request = None
        queries: dict[bytes, msgspec.Raw] = {}
        explanations = []
        size = len(call.content) + sum(len(name) + len(text) for name, text in call.parameters.items())
        for text, of_it in by_mapping.items() if by_mapping else (("", []),):
            asked = Read(kind, call.parameters, call.content, now_ms, mapping_of(text))
            if size <= INLINE_BYTES:
                result = await self._turns.run(self._read_here, asked)
            else:
                result = await self._counted(self._parts.search.read(asked))
            if result.fault is not None:
                raise fault_refusal(result.fault)
            assert result.request is not None
            request = request or result.request
            queries.update(dict.fromkeys((topic.topic_id for topic in of_it), result.request.query))
            if result.explanation is not None:
                explanations.append(([topic.name for topic in of_it], result.explanation))
        assert request is not None
        return _Asked(request, queries, explanations)

    def _read_here(self, asked: Read) -> Deferred[ReadResult]:
        """Read a short request, one in a turn of the reactor."""
        return deferLater(self._parts.clock, 0, read, asked)

    async def _run(
        self, asked: _Asked, topics: list[Topic], now_ms: int, began: float, shape: Rendering | None
    ) -> tuple[Found, dict[str, Any]]:
        """Search, within the time that there is; and what is to be said beside the hits."""
        request, parts = asked.request, self._parts
        limit = parts.longest_ms if request.timeout_ms is None else request.timeout_ms
        if limit > parts.longest_ms:
            raise Refusal(400, f"timeout: a search may take {parts.longest_ms} ms here (search_timeout_ms)")
        if request.wait_for:
            if self._waiting >= MAX_WAITING:
                raise Refusal(429, f"{MAX_WAITING} searches wait for offsets; try again")
            self._waiting += 1
            try:
                await self._wait_for(request.wait_for, topics, limit / 1000)
            finally:
                self._waiting -= 1
        vector = request.vector
        now_ms = now_ms if vector is None else vector.now
        options = Options(
            now_ms,
            max(limit / 1000 - (parts.clock.seconds() - began), 0.0),
            size=request.size + request.skip,
            count_to=request.count_to,
            sort=request.sort,
            after=request.after,
            aggs=request.aggs,
            sources=False,
            shape=shape,
            skip=request.skip,
        )
        known = topics if vector is None else [topic for topic in topics if _is_of(topic, vector)]
        found = await self._counted(parts.search.search(ALL, _wanted(known, vector, asked.queries), options))
        if found.failures and len({(topic, partition) for topic, partition, _ in found.failures}) == len(found.parts):
            raise Refusal(503, f"all partitions failed: {found.failures[0][2]}")
        lost = []
        if vector is not None:
            metadata = parts.metadata
            lost = lost_since(vector, topics, found, lambda name: metadata.topic(name) is not None, parts.compacted)
        return found, extras_of(found, known, now_ms, lost)

    async def _counted(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Let the processes do it, if they don't do too much already."""
        if self._under_way >= MAX_UNDER_WAY:
            work.close()
            raise Refusal(429, f"{MAX_UNDER_WAY} searches are under way; try again")
        self._under_way += 1
        try:
            return await work
        finally:
            self._under_way -= 1

    async def _wait_for(self, offsets: dict[str, dict[int, int]], topics: Sequence[Topic], seconds: float) -> None:
        by_name = {topic.name: topic for topic in topics}
        ends = self._parts.clock.seconds() + seconds
        for name, wanted in offsets.items():
            topic = by_name.get(name)
            for partition, offset in wanted.items():
                if topic is None or not 0 <= partition < len(topic.partitions):
                    raise Refusal(400, f"chronik.wait_for: partition {partition} of {name[:249]!r} is not searched")
                place = PartitionId(topic.topic_id, partition)
                reached = Deferred.fromCoroutine(self._parts.search.reached(place, offset))
                try:
                    await reached.addTimeout(max(ends - self._parts.clock.seconds(), 0.0), self._parts.clock)
                except TimeoutError:
                    raise Refusal(
                        408,
                        f"chronik.wait_for: offset {offset} of {name}-{partition} could not be read within {seconds:g} s",
                    ) from None

    def _since(self, began: float) -> int:
        return round((self._parts.clock.seconds() - began) * 1000)


def _wanted(topics: Sequence[Topic], vector: Vector | None, queries: dict[bytes, msgspec.Raw]) -> list[Wanted]:
    wanted: list[Wanted] = []
    for topic in topics:
        mapping = mapping_of(topic.configs.get(SEARCH_MAPPING, ""))
        query = cast("Query | None", queries.get(topic.topic_id))
        state = None if vector is None else vector.topics[topic.name].partitions
        for each in topic.partitions:
            start, upper = (0, (1 << 63) - 1) if state is None else state.get(each.partition, (0, 0))
            wanted.append(Wanted(topic.name, PartitionId(topic.topic_id, each.partition), mapping, start, upper, query))
    return wanted


def _is_of(topic: Topic, vector: Vector) -> bool:
    state = vector.topics.get(topic.name)
    return state is not None and state.id == uuid_to_text(topic.topic_id)


def _expect_whole(found: Found) -> None:
    """Raise Refusal where not all was searched."""
    if found.timed_out:
        raise Refusal(408, f"not done in time: {found.total} were found until then; give it a longer `timeout`")
    if found.failures:
        topic, partition, why = found.failures[0]
        raise Refusal(503, f"partition {partition} of {topic} failed: {why}")


@lru_cache(256)
def mapping_of(text: str) -> Mapping:
    """The mapping that a topic's config holds, checked when it was set."""
    return parse_mapping(msgspec.json.decode(text)) if text else NO_MAPPING
