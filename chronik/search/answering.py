"""Answering a search in the process that owns its partitions: the query is compiled, candidates are gone through, hits kept."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import lru_cache
from heapq import heappush, heapreplace

import msgspec

from chronik.model import PartitionId
from chronik.search.bounds import Bounds, bounds
from chronik.search.document import Document
from chronik.search.engine import Engine
from chronik.search.literals import literals
from chronik.search.mapping import Mapping
from chronik.search.match import Scope, compile_query
from chronik.search.messages import Answer, Hit, Hits, Search
from chronik.search.patterns import Patterns
from chronik.search.query import Query
from chronik.search.rendering import Renderer, place_only, renderer
from chronik.search.required import Requirement, requirement
from chronik.search.scan import Limits, Part, Scan

MAX_ANSWER_BYTES = 32 << 20
"""What the sources of all hits together may have. Those that come after are left without."""

_STEP_BYTES = 256 << 10
_EACH_BYTES = 2048
"""What a hit counts beside its bytes: writing and reading it takes time too."""

Steps = Generator[Hits | None, None, Answer]


def answer(engine: Engine, request: Search, clock: Callable[[], float]) -> Steps:
    """Search, in steps. Raises QueryError for a query that doesn't fit the fields."""
    began = clock()
    within = bounds(request.query, request.now_ms)
    parts: list[Part] = []
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
        numbers.append(number)
    kept = _Kept(request.size, request.count_to, request.oldest_first)
    scan = Scan(parts, _limits(within), engine.scanner, clock, newest_first=not request.oldest_first)
    timed_out = False
    for _ in scan.run(kept.found, kept.wanted):
        if clock() - began > request.seconds:
            timed_out = True
            break
        yield None
    scan.costs.seconds = clock() - began
    hits = yield from _hits(kept.in_order(), numbers, request, 0 if unknown else request.skip)
    return Answer(
        hits=hits,
        total=kept.total,
        exact=not (kept.stopped or timed_out or unknown or scan.failures),
        timed_out=timed_out,
        unknown=tuple(unknown),
        failures=tuple((numbers[part], why) for part, why in scan.failures.items()),
        indexed_to={number: part.indexed.indexed_to for number, part in zip(numbers, parts, strict=True)},
        costs=scan.costs,
    )


class _Kept:
    """The first hits in the order so far, and the number of all that were found."""

    def __init__(self, size: int, count_to: int, oldest_first: bool) -> None:
        self._size = size
        self._count_to = count_to
        self._sign = -1 if oldest_first else 1
        self._heap: list[tuple[int, int, int, Document]] = []  # the last in the order is the first here
        self.total = 0
        self.stopped = False

    def found(self, part: int, document: Document) -> None:
        """Another hit."""
        self.total += 1
        if not self._size:
            return
        entry = (self._sign * document.timestamp, -part, self._sign * document.offset, document)
        if len(self._heap) < self._size:
            heappush(self._heap, entry)
        elif entry[:3] > self._heap[0][:3]:
            heapreplace(self._heap, entry)

    def wanted(self, first_timestamp: int, last_timestamp: int) -> bool:
        """Whether a record between these timestamps could still be kept or counted."""
        if self._count_to < 0 or self.total < self._count_to:
            return True
        if self._size:
            best = last_timestamp if self._sign > 0 else -first_timestamp
            if len(self._heap) < self._size or best >= self._heap[0][0]:
                return True
        self.stopped = True
        return False

    def in_order(self) -> list[tuple[int, Document]]:
        """(part, record) of the hits that are kept, the first first."""
        return [(-entry[1], entry[3]) for entry in sorted(self._heap, key=lambda entry: entry[:3], reverse=True)]


def _hits(
    kept: list[tuple[int, Document]], numbers: list[int], request: Search, skip: int
) -> Generator[Hits, None, tuple[Hit, ...]]:
    """The hits as they are answered, some at a time; what comes of it are the last of them."""
    hits: list[Hit] = []
    left = MAX_ANSWER_BYTES
    write = _Writing(request) if request.shape is not None else None
    since = 0
    for rank, (part, document) in enumerate(kept):
        number = numbers[part]
        if rank < skip:
            hit, size = Hit(number, document.offset, document.timestamp), 0
        elif write is not None:
            hit = write.hit(number, document, left)
            size = len(hit.rendered)
        else:
            hit, size = _plain(number, document, request.sources and left > 0)
        left -= size
        since += size + _EACH_BYTES
        if len(hit.rendered) > _STEP_BYTES:
            rendered, hit = hit.rendered, msgspec.structs.replace(hit, rendered=hit.rendered[:_STEP_BYTES])
            yield Hits((*hits, hit))
            for at in range(_STEP_BYTES, len(rendered), _STEP_BYTES):
                yield Hits((), rendered[at : at + _STEP_BYTES])
        else:
            hits.append(hit)
            if since <= _STEP_BYTES:
                continue
            yield Hits(tuple(hits))
        since = 0
        hits.clear()
    return tuple(hits)


def _plain(number: int, document: Document, source: bool) -> tuple[Hit, int]:
    if not source:
        return Hit(number, document.offset, document.timestamp), 0
    size = len(document.key or b"") + len(document.value or b"")
    size += sum(len(name) + len(value or b"") for name, value in document.headers)
    return Hit(number, document.offset, document.timestamp, document.key, document.value, tuple(document.headers)), size


class _Writing:
    """Writes hits as JSON, each topic's by its mapping."""

    def __init__(self, request: Search) -> None:
        self._request = request
        self._renderers: dict[bytes, Renderer] = {}

    def hit(self, number: int, document: Document, left: int) -> Hit:
        """A hit of at most `left` bytes, without its source where it has more."""
        request, part = self._request, self._request.parts[number]
        assert request.shape is not None
        render = self._renderers.get(part.topic_id)
        if render is None:
            render = self._renderers[part.topic_id] = renderer(request.shape, part.mapping)
        scope = Scope(part.topic, part.partition, request.now_ms, part.mapping)
        place = [document.timestamp, f"{part.topic}:{part.partition}:{document.offset}"]
        whole = left > 0 and len(document.value or b"") <= left
        rendered = render(document, scope, place) if whole else b""
        if not whole or len(rendered) > left:
            return Hit(number, document.offset, document.timestamp, rendered=place_only(document, scope), whole=False)
        return Hit(number, document.offset, document.timestamp, rendered=rendered)


def _filters(query: Query, mapping: Mapping) -> tuple[Requirement | None, Patterns | None]:
    patterns = literals(query, mapping)
    return requirement(query, mapping), None if patterns is None else _compiled(patterns)


@lru_cache(256)
def _compiled(patterns: tuple[bytes, ...]) -> Patterns:
    return Patterns(patterns)


def _limits(within: Bounds) -> Limits:
    return Limits(within.timestamps.first, within.timestamps.last)
