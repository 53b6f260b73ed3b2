"""Putting together what the processes answer: one row of hits in order, one total, and what is missing said.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from chronik.model import PartitionId
from chronik.search.mapping import NO_MAPPING, Mapping
from chronik.search.messages import Answer, Costs, Hit, SearchedPart
from chronik.search.query import Query
from chronik.search.rendering import Rendering


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
    _answers: int = 0

    def placed(self, hits: Sequence[Hit], numbers: Sequence[int]) -> list[FoundHit]:
        """Hits of a process that was asked for the parts of these numbers."""
        parts = [self.parts[number] for number in numbers]
        return [FoundHit(parts[hit.part].topic, parts[hit.part].partition, hit, [hit.rendered]) for hit in hits]

    def add(self, answer: Answer, numbers: Sequence[int], told: Sequence[FoundHit] = ()) -> None:
        """What the process answered that was asked for the parts of these numbers; `told` are hits that it told before."""
        self.hits += told
        self.hits += self.placed(answer.hits, numbers)
        self._answers += 1
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

    def finish(self, options: Options) -> None:
        """All have answered."""
        sign = 1 if options.oldest_first else -1
        if self._answers > 1:  # each comes in order
            self.hits.sort(
                key=lambda each: (sign * each.hit.timestamp, each.topic, each.partition, sign * each.hit.offset)
            )
        del self.hits[options.size :]
        self.exact = self.exact and not self.timed_out


def narrowed(wanted: Wanted, start: int, stable: int) -> SearchedPart:
    """The part of the log, which has offsets `start` to `stable`, that is wanted."""
    first, upper = max(wanted.start, start), min(wanted.upper, stable)
    return SearchedPart(
        wanted.topic, wanted.partition.topic_id, wanted.partition.partition, first, max(first, upper), wanted.mapping
    )
