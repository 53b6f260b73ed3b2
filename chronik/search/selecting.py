"""Selecting what a saved search finds, and counting it, in the process that owns the partition."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import lru_cache
from typing import NamedTuple

from chronik.model import PartitionId
from chronik.search.engine import Engine
from chronik.search.messages import Costs
from chronik.search.patterns import Patterns
from chronik.search.rebatching import Rebatching
from chronik.search.saved import compiled
from chronik.search.saved_messages import Counted, CountMatches, Piece, Select, Selected
from chronik.search.scan import Limits, Part
from chronik.search.selection import Matched, Selection

_PIECE_BYTES = 4 << 20
_MAX_WINDOWS = 50_000
"""Windows that one count may have, at which it ends."""


class _Prepared(NamedTuple):
    """What is to be gone through. `upper` is where it ends as the request has it."""

    part: Part
    limits: Limits
    upper: int

    def reached(self, selection: Selection) -> int:
        """How far a selection has come: nothing matches behind the part's own end."""
        return self.upper if selection.reached >= self.part.upper else selection.reached


def select(engine: Engine, request: Select, clock: Callable[[], float]) -> Generator[Piece | None, None, Selected]:
    """Select, in steps; what is found goes out in pieces. Raises QueryError for a search that cannot be carried out."""
    prepared = _prepared(engine, request)
    if prepared is None:
        return Selected(reached=request.start, unknown=True, costs=Costs())
    began = clock()
    made = Rebatching(request.max_bytes)

    def enough() -> bool:
        return made.size >= request.max_bytes or _is_spent(request, selection, clock() - began)

    selection = Selection(prepared.part, prepared.limits, engine.scanner, clock, enough)
    for _ in selection.run(made.take):
        if sum(map(len, made.batches)) >= _PIECE_BYTES:
            yield from _pieces(made.clear())
        yield None
    data = made.clear()
    if len(data) > _PIECE_BYTES:
        yield from _pieces(data)
        data = b""
    selection.costs.seconds = clock() - began
    return Selected(
        reached=prepared.reached(selection),
        data=data,
        ends=tuple(made.ends),
        records=made.records,
        failure=selection.failure,
        costs=selection.costs,
    )


def count(engine: Engine, request: CountMatches, clock: Callable[[], float]) -> Generator[None, None, Counted]:
    """Count what matches by windows, in steps. Raises QueryError as `select` does."""
    prepared = _prepared(engine, request)
    if prepared is None:
        return Counted(reached=request.start, unknown=True, costs=Costs())
    began = clock()
    windows: dict[int, int] = {}

    def take(matched: Matched) -> int:
        for timestamp in matched.timestamps[matched.rows].tolist():
            begin = timestamp - timestamp % request.per_ms
            windows[begin] = windows.get(begin, 0) + 1
        return matched.batch.header.next_offset

    def enough() -> bool:
        return len(windows) >= _MAX_WINDOWS or _is_spent(request, selection, clock() - began)

    selection = Selection(prepared.part, prepared.limits, engine.scanner, clock, enough)
    yield from selection.run(take)
    selection.costs.seconds = clock() - began
    return Counted(
        reached=prepared.reached(selection),
        windows=tuple(sorted(windows.items())),
        failure=selection.failure,
        costs=selection.costs,
    )


def _prepared(engine: Engine, request: Select | CountMatches) -> _Prepared | None:
    """None where the process doesn't know of the partition (yet)."""
    index = engine.index_of(PartitionId(request.topic_id, request.partition))
    if index is None:
        return None
    search = compiled(request.query, request.mapping, request.topic, request.partition)
    within = search.within
    start, upper = max(request.start, within.offsets.first), min(request.upper, within.offsets.last + 1)
    if not within.partitions.first <= request.partition <= within.partitions.last:
        upper = start
    patterns = None if search.patterns is None else _patterns(search.patterns)
    part = Part(index, start, upper, search.matcher, search.need, patterns)
    return _Prepared(part, Limits(within.timestamps.first, within.timestamps.last), request.upper)


def _is_spent(request: Select | CountMatches, selection: Selection, seconds: float) -> bool:
    return selection.costs.scanned_bytes >= request.scan_bytes or seconds >= request.seconds


def _pieces(data: bytes) -> Generator[Piece, None, None]:
    for at in range(0, len(data), _PIECE_BYTES):
        yield Piece(data[at : at + _PIECE_BYTES])


@lru_cache(64)
def _patterns(patterns: tuple[bytes, ...]) -> Patterns:
    return Patterns(patterns)
