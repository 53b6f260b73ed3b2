"""What is known of a query's hits before any record is looked at: what the search is pruned by."""

from __future__ import annotations

import msgspec

from chronik.native.numbers import MARKER as NUMBER_MARKER
from chronik.search.bounds import EVERYTHING, Interval, bounds
from chronik.search.describe import describe
from chronik.search.literals import literals
from chronik.search.mapping import Mapping
from chronik.search.match import Scope
from chronik.search.query import Query
from chronik.search.required import AllOf, Requirement, requirement
from chronik.search.splits.proposals import proposal

_MAX_SHOWN = 64


class Explanation(msgspec.Struct, frozen=True):
    """A query in its canonical form, and what every hit has.

    `tokens`: the words that it holds, which signatures are asked for; `literals`: byte patterns of which it has one, for the
    pre-filter. Both are None where nothing is sure, so all is looked at. The intervals are inclusive, None for all there is.

    What a split can do, where the topic has them: `countable`, tell the number of hits without a look at any; `proposable`,
    tell which records may be hits.
    """

    query: str
    tokens: str | None
    literals: list[str] | None
    timestamps: tuple[int, int] | None
    offsets: tuple[int, int] | None
    partitions: tuple[int, int] | None
    countable: bool = False
    proposable: bool = False


def explained(query: Query, mapping: Mapping, now_ms: int) -> Explanation:
    """What is known of the query's hits. Raises QueryError where it does not fit the fields."""
    within = bounds(query, now_ms)
    asked = proposal(query, Scope("", 0, now_ms, mapping))  # whatever the topic and the partition
    need, patterns = requirement(query, mapping), literals(query, mapping)
    return Explanation(
        describe(query),
        None if need is None else _written(need),
        None if patterns is None else [pattern.decode("utf-8", "backslashreplace") for pattern in patterns],
        _interval(within.timestamps),
        _interval(within.offsets),
        _interval(within.partitions),
        countable=asked.exact,
        proposable=asked.tree is not None,
    )


def _interval(interval: Interval) -> tuple[int, int] | None:
    return None if interval == EVERYTHING else (interval.first, interval.last)


def _written(need: Requirement) -> str:
    if isinstance(need, bytes):
        return "(a number with an exponent)" if need == NUMBER_MARKER else need.decode("utf-8", "backslashreplace")
    parts = [_written(part) for part in need.parts[:_MAX_SHOWN]]
    if len(need.parts) > _MAX_SHOWN:
        parts.append(f"... ({len(need.parts)} in all)")
    if not parts:
        return "(nothing can match)"
    return f"({(' AND ' if isinstance(need, AllOf) else ' OR ').join(parts)})"
