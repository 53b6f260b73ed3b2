"""The first hits of a bucket: `top_hits`."""

from __future__ import annotations

from bisect import insort
from operator import itemgetter
from typing import Any

import msgspec

from chronik.search.aggregations.base import Aggregation, Result
from chronik.search.document import Document
from chronik.search.match import Scope
from chronik.search.sorting import SortKey, written_place
from chronik.search.sources import source_of
from chronik.search.values import Key

_by_key = itemgetter(0)


class Kept(msgspec.Struct, array_like=True):
    """A hit: its place, the values that it is sorted by, and its source as JSON (empty where it is not wanted)."""

    topic: str
    partition: int
    offset: int
    values: list[Key | None]
    source: bytes


class Top:
    """The first hits in order, and how many there were."""

    __slots__ = ("hits", "total")

    def __init__(self) -> None:
        self.hits: list[tuple[tuple[object, ...], Kept]] = []
        self.total = 0


class TopHits(Aggregation[Top]):
    """The first `size` hits after the first `skipped` in an order."""

    def __init__(self, key: SortKey, size: int, skipped: int, with_source: bool) -> None:
        self._key = key
        self._size = size
        self._skipped = skipped
        self._with_source = with_source

    def start(self) -> Top:
        return Top()

    def add(self, state: Top, document: Document, scope: Scope) -> None:
        state.total += 1
        values = self._key.values(document, scope)
        key = self._key.key(values, (scope.topic, scope.partition, document.offset))
        if len(state.hits) >= self._size + self._skipped:
            if not state.hits or key >= state.hits[-1][0]:
                return
            state.hits.pop()
        source = source_of(document) if self._with_source else b""
        kept = Kept(scope.topic, scope.partition, document.offset, values, source)
        insort(state.hits, (key, kept), key=_by_key)

    def merge(self, state: Top, other: Top) -> None:
        state.total += other.total
        state.hits = sorted(state.hits + other.hits, key=_by_key)[: self._size + self._skipped]

    def pack(self, state: Top) -> object:
        return [state.total, [msgspec.to_builtins(kept, builtin_types=(bytes,)) for _, kept in state.hits]]

    def unpack(self, data: Any) -> Top:
        state = Top()
        state.total = data[0]
        for packed in data[1]:
            kept = Kept(*packed)
            state.hits.append((self._key.key(kept.values, (kept.topic, kept.partition, kept.offset)), kept))
        return state

    def result(self, state: Top) -> Result:
        hits = [self._shown(kept) for _, kept in state.hits[self._skipped :]]
        return {"hits": {"total": {"value": state.total, "relation": "eq"}, "max_score": None, "hits": hits}}

    def _shown(self, kept: Kept) -> Result:
        shown: Result = {"_index": kept.topic, "_id": f"{kept.partition}:{kept.offset}", "_score": None}
        if self._with_source:
            shown["_source"] = msgspec.Raw(kept.source)
        return shown | {"sort": [*kept.values, written_place((kept.topic, kept.partition, kept.offset))]}
