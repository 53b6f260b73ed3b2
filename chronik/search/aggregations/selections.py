"""Buckets that are named: `range` and `date_range`, `filter` and `filters`, `missing`. A record may be in several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from chronik.search.aggregations.base import Aggregation, Bucket, Group, Result
from chronik.search.document import Document
from chronik.search.match import Matcher, Scope, compile_query
from chronik.search.query import Query

Select = Callable[[Document, Scope], list[int]]
"""The buckets of a record, by their numbers."""


class Named(NamedTuple):
    """A bucket's key, and what else is shown of it."""

    key: str | None
    more: dict[str, object]


class Selection(Aggregation[list[Bucket]]):
    """A fixed list of buckets. `keyed`: the result has them under their keys."""

    def __init__(self, within: Group, names: list[Named], select: Select, keyed: bool) -> None:
        self._within = within
        self._names = names
        self._select = select
        self._keyed = keyed

    def start(self) -> list[Bucket]:
        return [self._within.bucket() for _ in self._names]

    def add(self, state: list[Bucket], document: Document, scope: Scope) -> None:
        for number in self._select(document, scope):
            self._within.add_to(state[number], document, scope)

    def merge(self, state: list[Bucket], other: list[Bucket]) -> None:
        for mine, theirs in zip(state, other, strict=True):
            self._within.merge_into(mine, theirs)

    def pack(self, state: list[Bucket]) -> object:
        return [self._within.pack_bucket(bucket) for bucket in state]

    def unpack(self, data: Any) -> list[Bucket]:
        return [self._within.unpack_bucket(bucket) for bucket in data]

    def result(self, state: list[Bucket]) -> Result:
        shown = [self._within.result_of(bucket) for bucket in state]
        if self._keyed:
            return {"buckets": {str(name.key): name.more | one for name, one in zip(self._names, shown, strict=True)}}
        buckets = [
            ({} if name.key is None else {"key": name.key}) | name.more | one
            for name, one in zip(self._names, shown, strict=True)
        ]
        return {"buckets": buckets}


class Single(Aggregation[Bucket]):
    """One bucket of the records that are selected."""

    def __init__(self, within: Group, select: Callable[[Document, Scope], bool]) -> None:
        self._within = within
        self._select = select

    def start(self) -> Bucket:
        return self._within.bucket()

    def add(self, state: Bucket, document: Document, scope: Scope) -> None:
        if self._select(document, scope):
            self._within.add_to(state, document, scope)

    def merge(self, state: Bucket, other: Bucket) -> None:
        self._within.merge_into(state, other)

    def pack(self, state: Bucket) -> object:
        return self._within.pack_bucket(state)

    def unpack(self, data: Any) -> Bucket:
        return self._within.unpack_bucket(data)

    def result(self, state: Bucket) -> Result:
        return self._within.result_of(state)

    def metric(self, state: Bucket, name: str) -> float | None:
        return state.count if name in ("", "_count") else self._within.metric(state, name)


def matching(query: Query) -> Callable[[Document, Scope], bool]:
    """Whether a record matches, wherever it is. The query is compiled for each partition that comes."""
    matchers: dict[tuple[str, int], Matcher] = {}

    def fits(document: Document, scope: Scope) -> bool:
        place = scope.topic, scope.partition
        matcher = matchers.get(place)
        if matcher is None:
            matcher = matchers[place] = compile_query(query, scope)
        return matcher(document)

    return fits


def by_queries(queries: list[Query], others: bool) -> Select:
    """A bucket for each query; one more for records that match none, where `others`."""
    tests = [matching(query) for query in queries]

    def select(document: Document, scope: Scope) -> list[int]:
        found = [number for number, test in enumerate(tests) if test(document, scope)]
        return [len(tests)] if others and not found else found

    return select


def by_ranges(
    read: Callable[[Document, Scope], list[Any]], ranges: list[tuple[float | None, float | None]], missing: float | None
) -> Select:
    """A bucket for each range, from inclusive, to exclusive."""

    def select(document: Document, scope: Scope) -> list[int]:
        values = read(document, scope) or ([] if missing is None else [missing])
        return [
            number
            for number, (low, high) in enumerate(ranges)
            if any((low is None or value >= low) and (high is None or value < high) for value in values)
        ]

    return select
