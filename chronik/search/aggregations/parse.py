"""Aggregations out of a request's JSON: `{"levels": {"terms": {"field": "level"}, "aggs": {…}}}`.

What is not known is refused with its path, as in queries. `Aggregations` is what a request has of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from chronik.search.aggregations.base import Aggregation, Budget, Group, Result
from chronik.search.aggregations.parse_buckets import (
    composite,
    date_histogram,
    date_range,
    filter_,
    filters,
    histogram,
    missing,
    range_,
    terms,
)
from chronik.search.aggregations.parse_metrics import (
    cardinality,
    number,
    percentile_ranks,
    percentiles,
    top_hits,
    value_count,
)
from chronik.search.body import Body
from chronik.search.document import Document
from chronik.search.elastic_context import Context
from chronik.search.match import Scope

MAX_BUCKETS = 65_536
MAX_AGGREGATIONS = 100
MAX_DEPTH = 8

_NAME = re.compile(r"[^\[\]>]{1,200}")
_Leaf = Callable[[Body, Context], Aggregation[Any]]
_Grouping = Callable[[Body, Context, Group], Aggregation[Any]]


def _numbers(kind: str) -> _Leaf:
    return lambda body, context: number(kind, body, context)


_LEAVES: dict[str, _Leaf] = {
    **{kind: _numbers(kind) for kind in ("min", "max", "sum", "avg", "stats", "extended_stats")},
    "value_count": value_count,
    "percentiles": percentiles,
    "percentile_ranks": percentile_ranks,
    "cardinality": cardinality,
    "top_hits": top_hits,
}
_GROUPINGS: dict[str, _Grouping] = {
    "terms": terms,
    "histogram": histogram,
    "date_histogram": date_histogram,
    "range": range_,
    "date_range": date_range,
    "filter": filter_,
    "filters": filters,
    "missing": missing,
    "composite": composite,
}


class Aggregations:
    """The aggregations of a request. A worker starts a state and adds records; the node merges the packed ones."""

    def __init__(self, group: Group) -> None:
        self._group = group

    def start(self) -> list[Any]:
        """The state of no records."""
        return self._group.start()

    def add(self, state: list[Any], document: Document, scope: Scope) -> None:
        """One hit more. Raises TooManyBuckets."""
        self._group.add(state, document, scope)

    def pack(self, state: list[Any]) -> list[object]:
        """The state as plain data, for msgpack."""
        return self._group.pack(state)

    def merged(self, packed: list[list[Any]]) -> list[Any]:
        """The state of several that were packed. Raises TooManyBuckets."""
        state = self._group.start()
        for one in packed:
            self._group.merge(state, self._group.unpack(one))
        return state

    def result(self, state: list[Any]) -> Result:
        """The results under their names, as in a response. Raises TooManyBuckets."""
        return self._group.result(state)


def parse_aggregations(body: Body, context: Context, max_buckets: int = MAX_BUCKETS) -> Aggregations:
    """What is asked for. Raises QueryError."""
    counter = [0]
    return Aggregations(_group(body, context, Budget(max_buckets), counter, 1))


def _group(body: Body, context: Context, budget: Budget, counter: list[int], depth: int) -> Group:
    if depth > MAX_DEPTH:
        raise body.error(f"aggregations are nested deeper than {MAX_DEPTH} levels")
    found: dict[str, Aggregation[Any]] = {}
    for name in body.names():
        counter[0] += 1
        if counter[0] > MAX_AGGREGATIONS:
            raise body.error(f"more than {MAX_AGGREGATIONS} aggregations")
        if _NAME.fullmatch(name) is None:
            raise body.error(f"`{name:.50}` is no name of an aggregation: [, ] and > cannot be in it")
        found[name] = _aggregation(body[name], context, budget, counter, depth)
    return Group(found, budget)


def _aggregation(body: Body, context: Context, budget: Budget, counter: list[int], depth: int) -> Aggregation[Any]:
    names = body.names()
    inner = [name for name in names if name in ("aggs", "aggregations")]
    kinds = [name for name in names if name not in inner]
    if len(kinds) != 1 or len(inner) > 1:
        raise body.error("one kind of aggregation is expected, and aggs for those within it")
    kind = kinds[0]
    content = body[kind]
    if kind in _LEAVES:
        if inner:
            raise body[inner[0]].error(f"there are no aggregations within {kind}")
        return _LEAVES[kind](content, context)
    if kind not in _GROUPINGS:
        known = ", ".join(sorted([*_LEAVES, *_GROUPINGS]))
        raise content.error(f"this kind of aggregation is not known: {known} are")
    within = body[inner[0]] if inner else Body({}, body.inside("aggs"))
    return _GROUPINGS[kind](content, context, _group(within, context, budget, counter, depth + 1))
