"""Ranges: what their bounds are, and which values lie between.

Values are compared as the field's kind says: numbers, instants, or texts code point by code point (`text` and `keyword`). In a
dynamic field the bounds say what is compared:

- both are numbers: numbers, and texts that are one;
- both are dates (`now…`, or ISO 8601 with a dash): texts that are ISO dates, and numbers as epoch milliseconds;
- else: texts.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, tzinfo
from typing import TypeVar

from chronik.search.conditions import Condition, instants, number_of, numbers
from chronik.search.dates import is_date, resolve_date
from chronik.search.fields import Field
from chronik.search.numbers import Number, parse_number, text_of_number
from chronik.search.query import QueryError, Range

Comparable = TypeVar("Comparable", int, Number, str)


def of_range(query: Range, field: Field, now_ms: int) -> Condition:
    """The condition of a range. Raises QueryError for bounds that the field's kind has not."""
    kind = field.kind
    bounds = [bound for bound in (query.lower, query.upper) if bound is not None]
    if kind == "dynamic":
        if all(parse_number(bound) is not None for bound in bounds):
            kind = "number"
        elif all(is_date(bound) for bound in bounds):
            kind = "date"
    if kind == "number":
        lower, upper = (None if bound is None else number_of(bound, field) for bound in (query.lower, query.upper))
        return numbers(_between(lower, upper, query))
    if kind == "date":
        first, last = interval(query, now_ms, field.seconds)
        return instants(field, lambda value: first <= value <= last)
    if kind == "boolean":
        raise QueryError(f"{field.name}: no range of true and false")
    fits = _between(query.lower, query.upper, query)
    if field.kind == "dynamic":
        return Condition(fits, cost=1.5)
    return Condition(fits, lambda n: fits(text_of_number(n)), cost=1.5)


def interval(query: Range, now_ms: int, seconds: bool = False, zone: tzinfo = UTC) -> tuple[int, int]:
    """The first and the last instant, in ms, of a range of dates. Raises QueryError."""
    first, last = -(1 << 63), (1 << 63) - 1
    if query.lower is not None:
        after = not query.include_lower
        first = resolve_date(query.lower, now_ms, after, zone, seconds) + after
    if query.upper is not None:
        last = resolve_date(query.upper, now_ms, query.include_upper, zone, seconds) - (not query.include_upper)
    return first, last


def _between(lower: Comparable | None, upper: Comparable | None, query: Range) -> Callable[[Comparable], bool]:
    if lower is None:
        if upper is None:
            return lambda value: True
        return (lambda value: value <= upper) if query.include_upper else (lambda value: value < upper)
    if upper is None:
        return (lambda value: value >= lower) if query.include_lower else (lambda value: value > lower)

    def fits(value: Comparable) -> bool:
        if value < lower or value > upper:
            return False
        return (query.include_lower or value != lower) and (query.include_upper or value != upper)

    return fits
