"""Buckets by several sources at once, page by page: `composite`.

Only the first `size` keys after the one to go on from are kept, in their order, so a state stays small whatever the number of
keys is; and their counts are exact: a key that was let go had `size` others before it, and is never needed.
"""

from __future__ import annotations

import itertools
from bisect import insort
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from chronik.search.aggregations.base import Aggregation, Bucket, Group, Result
from chronik.search.aggregations.terms import inner, outer
from chronik.search.document import Document
from chronik.search.match import Scope
from chronik.search.sorting import SortField, component
from chronik.search.values import Key

MAX_KEYS_OF_A_RECORD = 1000
"""A record with several values in several sources is in many buckets; of those beyond, the first count."""


class Source(NamedTuple):
    """A part of the keys: how it is read, its order, how it is written; whether records without a value are kept, with null."""

    name: str
    read: Callable[[Document, Scope], Sequence[Key | None]]
    order: SortField
    missing_bucket: bool
    write: Callable[[Key], Key]


Keys = tuple[Any, ...]
_by_place = itemgetter(0)


class Page:
    """Buckets by their keys, and the keys in order."""

    __slots__ = ("buckets", "order")

    def __init__(self) -> None:
        self.buckets: dict[Keys, Bucket] = {}
        self.order: list[tuple[tuple[object, ...], Keys]] = []


class Composite(Aggregation[Page]):
    """Buckets by the values of all sources."""

    def __init__(self, sources: list[Source], within: Group, size: int, after: Sequence[Key | None] | None) -> None:
        self._sources = sources
        self._within = within
        self._size = size
        self._after = None if after is None else self._order(tuple(map(inner, after)))

    def start(self) -> Page:
        return Page()

    def add(self, state: Page, document: Document, scope: Scope) -> None:
        choices: list[Sequence[Any]] = []
        for source in self._sources:
            values = source.read(document, scope)
            if not values:
                if not source.missing_bucket:
                    return
                values = (None,)
            choices.append(list(dict.fromkeys(map(inner, values))))
        for key in itertools.islice(itertools.product(*choices), MAX_KEYS_OF_A_RECORD):
            bucket = state.buckets.get(key) or self._make(state, key)
            if bucket is not None:
                self._within.add_to(bucket, document, scope)

    def merge(self, state: Page, other: Page) -> None:
        self._within.merge_buckets(state.buckets, other.buckets)
        self._put_in_order(state)
        for _, key in state.order[self._size :]:
            self._let_go(state, key)
        del state.order[self._size :]

    def pack(self, state: Page) -> object:
        return [[list(map(outer, key)), self._within.pack_bucket(bucket)] for key, bucket in state.buckets.items()]

    def unpack(self, data: Any) -> Page:
        state = Page()
        state.buckets = {tuple(map(inner, key)): self._within.unpack_bucket(bucket) for key, bucket in data}
        self._put_in_order(state)
        return state

    def result(self, state: Page) -> Result:
        shown: list[Result] = [
            {"key": self._shown(key)} | self._within.result_of(state.buckets[key]) for _, key in state.order
        ]
        return ({"after_key": shown[-1]["key"]} if shown else {}) | {"buckets": shown}

    def _make(self, state: Page, key: Keys) -> Bucket | None:
        """A bucket for a new key; None where the key is not on this page."""
        place = self._order(key)
        if self._after is not None and place <= self._after:
            return None
        if len(state.order) >= self._size:
            if place > state.order[-1][0]:
                return None
            self._let_go(state, state.order.pop()[1])
        insort(state.order, (place, key), key=_by_place)
        bucket = state.buckets[key] = self._within.bucket()
        return bucket

    def _let_go(self, state: Page, key: Keys) -> None:
        del state.buckets[key]
        self._within.budget.give_back(1)

    def _put_in_order(self, state: Page) -> None:
        state.order = sorted(((self._order(key), key) for key in state.buckets), key=_by_place)

    def _order(self, key: Keys) -> tuple[object, ...]:
        return tuple(component(outer(part), source.order) for part, source in zip(key, self._sources, strict=True))

    def _shown(self, key: Keys) -> Result:
        return {
            source.name: None if part is None else source.write(outer(part))
            for part, source in zip(key, self._sources, strict=True)
        }
