"""Putting together what the processes answer: one row of hits in order, one total, and what is missing said.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice
from typing import Any, NamedTuple

from chronik.model import PartitionId
from chronik.search.mapping import NO_MAPPING, Mapping
from chronik.search.match import NO_TIMESTAMP
from chronik.search.messages import Answer, Costs, Hit, SearchedPart
from chronik.search.query import Query
from chronik.search.rendering import Rendering
from chronik.search.sorting import After, Sort, SortKey

_AT_ONCE = 200
"""Hits that are put in order in one step."""


class Wanted(NamedTuple):
    """A partition to be searched. `start` and `upper` may narrow what there is: a search at an earlier state of the log.

    `query`: what is searched for in it, where that is said in other words than elsewhere: its mapping may want that.
    """

    topic: str
    partition: PartitionId
    mapping: Mapping = NO_MAPPING
    start: int = 0
    upper: int = 2**63 - 1
    query: Query | None = None


class Options(NamedTuple):
    """What of the hits is wanted: see `chronik.search.messages.Search`."""

    now_ms: int
    seconds: float
    size: int = 10
    count_to: int = 0
    oldest_first: bool = False
    sources: bool = True
    shape: Rendering | None = None
    skip: int = 0
    sort: Sort | None = None
    after: After | None = None
    aggs: bytes = b""


class FoundHit(NamedTuple):
    """A record that matches, where it is, and the pieces of what was rendered of it."""

    topic: str
    partition: int
    hit: Hit
    rendered: list[bytes]


@dataclass
class Found:
    """What came of a search. `parts` says what was searched: its offsets are the vector that makes the search repeatable.

    `exact`: `total` is all there are, else there may be more. `failures` are partitions of which not all was searched, with
    why.
    """

    parts: Sequence[SearchedPart]
    hits: list[FoundHit] = field(default_factory=list)
    total: int = 0
    exact: bool = True
    timed_out: bool = False
    failures: list[tuple[str, int, str]] = field(default_factory=list)
    """(topic, partition, why)."""
    costs: Costs = field(default_factory=Costs)
    indexed_to: dict[int, int] = field(default_factory=dict)
    """By the number of the part. What was searched beyond it was looked at record by record."""
    aggregations: list[bytes] = field(default_factory=list)
    """Their results as JSON, in pieces."""
    _runs: list[list[FoundHit]] = field(default_factory=list)
    """What each process found, in order."""

    def placed(self, hits: Sequence[Hit], numbers: Sequence[int]) -> list[FoundHit]:
        """Hits of a process that was asked for the parts of these numbers."""
        parts = [self.parts[number] for number in numbers]
        return [FoundHit(parts[hit.part].topic, parts[hit.part].partition, hit, [hit.rendered]) for hit in hits]

    def add(self, answer: Answer, numbers: Sequence[int], told: Sequence[FoundHit] = ()) -> None:
        """What the process answered that was asked for the parts of these numbers; `told` are hits that it told before."""
        self._runs.append([*told, *self.placed(answer.hits, numbers)])
        self.total += answer.total
        self.exact = self.exact and (answer.exact or bool(answer.unknown))
        self.timed_out = self.timed_out or answer.timed_out
        for number, why in answer.failures:
            self.fail(numbers[number], why)
        for number, offset in answer.indexed_to.items():
            self.indexed_to[numbers[number]] = offset
        for name in Costs.__struct_fields__:
            setattr(self.costs, name, getattr(self.costs, name) + getattr(answer.costs, name))

    def fail(self, number: int, why: str) -> None:
        """Not all of a part was searched."""
        part = self.parts[number]
        self.failures.append((part.topic, part.partition, why))
        self.exact = False

    def finishing(self, options: Options) -> Iterator[None]:
        """All have answered: put their hits in one order, some in each step."""
        self.exact = self.exact and not self.timed_out
        runs, self._runs = [run for run in self._runs if run], []
        if len(runs) == 1:
            self.hits = runs[0][: options.size]
            return
        key, falling = _order(options)
        for hit in islice(merge(*runs, key=key, reverse=falling), options.size):
            self.hits.append(hit)
            if not len(self.hits) % _AT_ONCE:
                yield


def _order(options: Options) -> tuple[Callable[[FoundHit], Any], bool]:
    """What compares as the hits do, and whether the greatest is the first."""
    sort = options.sort
    if sort is not None and not sort.by_time:
        sort_key = SortKey(sort, NO_MAPPING).key
        return lambda each: sort_key(each.hit.values, (each.topic, each.partition, each.hit.offset)), False
    if options.oldest_first if sort is None else not sort.descending:
        return lambda each: (_time_of(each.hit, 1 << 63), each.topic, each.partition, each.hit.offset), False
    return lambda each: (_time_of(each.hit, -1 << 63), each.topic, each.partition, each.hit.offset), True


def _time_of(hit: Hit, none: int) -> int:
    """The time of a hit; of those without one, `none`."""
    return hit.timestamp if hit.timestamp != NO_TIMESTAMP else none


def narrowed(wanted: Wanted, start: int, stable: int) -> SearchedPart:
    """The part of the log, which has offsets `start` to `stable`, that is wanted."""
    first, upper = max(wanted.start, start), min(wanted.upper, stable)
    return SearchedPart(
        wanted.topic, wanted.partition.topic_id, wanted.partition.partition, first, max(first, upper), wanted.mapping
    )
