"""In which offsets, times and partitions hits can be at all: what the planner leaves out before it looks at any block.

Intervals are inclusive, and as wide as they have to be: a record outside of them is no hit, one inside may be none either.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from chronik.search.dates import resolve_date
from chronik.search.fields import resolve
from chronik.search.mapping import NO_MAPPING
from chronik.search.numbers import Number, parse_number
from chronik.search.query import And, AnyTerm, Boost, Ids, Nothing, Or, Query, QueryError, Range, Term
from chronik.search.ranges import interval

_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


class Interval(NamedTuple):
    """From the first to the last; none where the first is greater."""

    first: int = _LEAST
    last: int = _MOST


EVERYTHING = Interval()
NONE = Interval(1, 0)


class Bounds(NamedTuple):
    """Of hits: their timestamps in ms, offsets, and partitions."""

    timestamps: Interval = EVERYTHING
    offsets: Interval = EVERYTHING
    partitions: Interval = EVERYTHING

    @property
    def empty(self) -> bool:
        """Whether there can be no hit."""
        return any(interval.first > interval.last for interval in self)


_EVERYWHERE = Bounds()
_NOWHERE = Bounds(NONE, NONE, NONE)


def bounds(query: Query, now_ms: int) -> Bounds:
    """Where hits can be. Raises QueryError as compiling the query does."""
    match query:
        case Nothing():
            return _NOWHERE
        case And():
            return _common([bounds(clause, now_ms) for clause in query.clauses])
        case Or():
            return _hull([bounds(clause, now_ms) for clause in query.clauses]) if query.minimum else _EVERYWHERE
        case Boost():
            return bounds(query.clause, now_ms)
        case Ids():
            partitions, offsets = zip(*query.ids, strict=True)
            return Bounds(offsets=_around(offsets), partitions=_around(partitions))
        case Term() | AnyTerm() | Range():
            return _of_clause(query, now_ms)
        case _:
            return _EVERYWHERE


def _of_clause(query: Term | AnyTerm | Range, now_ms: int) -> Bounds:
    match resolve(query.field, NO_MAPPING).source:  # the mapping says nothing of these
        case "timestamp":
            return Bounds(timestamps=_instants(query, now_ms))
        case "offset":
            return Bounds(offsets=_numbers(query))
        case "partition":
            return Bounds(partitions=_numbers(query))
        case _:
            return _EVERYWHERE


def _instants(query: Term | AnyTerm | Range, now_ms: int) -> Interval:
    if isinstance(query, Range):
        return Interval(*interval(query, now_ms))
    texts = query.texts if isinstance(query, AnyTerm) else (query.text,)
    return Interval(
        min(resolve_date(text, now_ms) for text in texts),
        max(resolve_date(text, now_ms, round_up=True) for text in texts),
    )


def _numbers(query: Term | AnyTerm | Range) -> Interval:
    if isinstance(query, Range):
        first, last = _LEAST, _MOST
        if query.lower is not None:
            lower = _number(query.lower)
            first = _up(lower) + (not query.include_lower and _up(lower) == lower)
        if query.upper is not None:
            upper = _number(query.upper)
            last = _down(upper) - (not query.include_upper and _down(upper) == upper)
        return Interval(first, last)
    wanted = [_number(text) for text in (query.texts if isinstance(query, AnyTerm) else (query.text,))]
    return Interval(min(map(_up, wanted)), max(map(_down, wanted)))


def _number(text: str) -> Number:
    number = parse_number(text)
    if number is None:
        raise QueryError(f"`{text:.50}` is no number")
    return number


def _up(number: Number) -> int:
    return math.ceil(_clamped(number))


def _down(number: Number) -> int:
    return math.floor(_clamped(number))


def _clamped(number: Number) -> Number:
    """The number, or one beyond all offsets: a decimal may be far too large to make an int of it."""
    if isinstance(number, Decimal) and number.adjusted() > 30:
        return -(1 << 64) if number < 0 else 1 << 64
    return number


def _around(values: Iterable[int]) -> Interval:
    values = list(values)
    return Interval(min(values), max(values))


def _common(parts: list[Bounds]) -> Bounds:
    return Bounds(
        *(Interval(max(one.first for one in axis), min(one.last for one in axis)) for axis in zip(*parts, strict=True))
    )


def _hull(parts: list[Bounds]) -> Bounds:
    parts = [part for part in parts if not part.empty]
    if not parts:
        return _NOWHERE
    return Bounds(
        *(Interval(min(one.first for one in axis), max(one.last for one in axis)) for axis in zip(*parts, strict=True))
    )
