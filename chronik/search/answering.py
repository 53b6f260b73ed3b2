"""Answering a search in the process that owns its partitions: the query is compiled, candidates are gone through, hits kept."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import lru_cache

from chronik.model import PartitionId
from chronik.search.bounds import Bounds, bounds
from chronik.search.counting import Counting
from chronik.search.document import Document
from chronik.search.engine import Engine
from chronik.search.kept import keeping
from chronik.search.literals import literals
from chronik.search.mapping import Mapping
from chronik.search.match import Scope, compile_query
from chronik.search.messages import Answer, Hits, Search
from chronik.search.patterns import Patterns
from chronik.search.query import Query
from chronik.search.required import Requirement, requirement
from chronik.search.scan import Limits, Part, Scan
from chronik.search.sorting import NEWEST_FIRST, OLDEST_FIRST
from chronik.search.writing import pieces, written

Steps = Generator[Hits | None, None, Answer]


def answer(engine: Engine, request: Search, clock: Callable[[], float]) -> Steps:
    """Search, in steps. Raises QueryError for a query that doesn't fit the fields."""
    began = clock()
    within = bounds(request.query, request.now_ms)
    parts: list[Part] = []
    scopes: list[Scope] = []
    numbers: list[int] = []
    unknown: list[int] = []
    filters: dict[bytes, tuple[Requirement | None, Patterns | None]] = {}
    for number, asked in enumerate(request.parts):
        index = engine.index_of(PartitionId(asked.topic_id, asked.partition))
        start, upper = max(asked.start, within.offsets.first), min(asked.upper, within.offsets.last + 1)
        if start >= upper or not within.partitions.first <= asked.partition <= within.partitions.last:
            continue
        if index is None:
            unknown.append(number)
            continue
        if asked.topic_id not in filters:
            filters[asked.topic_id] = _filters(request.query, asked.mapping)
        scope = Scope(asked.topic, asked.partition, request.now_ms, asked.mapping)
        parts.append(Part(index, start, upper, compile_query(request.query, scope), *filters[asked.topic_id]))
        scopes.append(scope)
        numbers.append(number)
    sort = request.sort or (OLDEST_FIRST if request.oldest_first else NEWEST_FIRST)
    counting = Counting(request.aggs, scopes) if request.aggs else None
    count_to = request.count_to if counting is None else -1
    kept = keeping(sort, scopes, request.size, count_to, request.after)
    scan = Scan(parts, _limits(within), engine.scanner, clock, newest_first=sort.descending or not sort.by_time)

    def counted(part: int, document: Document) -> None:
        kept.found(part, document)
        counting.found(part, document)  # type: ignore[union-attr]

    timed_out = False
    for _ in scan.run(kept.found if counting is None else counted, kept.wanted):
        if clock() - began > request.seconds:
            timed_out = True
            break
        yield None
    scan.costs.seconds = clock() - began
    hits = yield from written(kept.in_order(), numbers, scopes, request, 0 if unknown else request.skip)
    finished = counting is not None and request.alone and counting.alone and not unknown
    if counting is not None:
        for piece in pieces(counting.result() if finished else counting.packed()):
            yield Hits((), aggs=piece)
    return Answer(
        hits=hits,
        total=kept.total,
        exact=not (kept.stopped or timed_out or unknown or scan.failures),
        timed_out=timed_out,
        unknown=tuple(unknown),
        failures=tuple((numbers[part], why) for part, why in scan.failures.items()),
        indexed_to={number: part.indexed.indexed_to for number, part in zip(numbers, parts, strict=True)},
        aggs_finished=finished,
        costs=scan.costs,
    )


def _filters(query: Query, mapping: Mapping) -> tuple[Requirement | None, Patterns | None]:
    patterns = literals(query, mapping)
    return requirement(query, mapping), None if patterns is None else _compiled(patterns)


@lru_cache(256)
def _compiled(patterns: tuple[bytes, ...]) -> Patterns:
    return Patterns(patterns)


def _limits(within: Bounds) -> Limits:
    return Limits(within.timestamps.first, within.timestamps.last)
