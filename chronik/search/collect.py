"""The best hits of a search: kept in order while records come, put together from several workers, cut to the page.

A `Collector` keeps at most as many as are wanted; what comes after them in the order is counted only. Hits are plain data, so
they travel; `merged` puts the hits of several collectors in one order.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from operator import itemgetter

import msgspec

from chronik.search.document import Document
from chronik.search.match import Scope
from chronik.search.sorting import Place, SortKey, written_place
from chronik.search.values import Key

_by_key = itemgetter(0)


class Hit(msgspec.Struct, frozen=True, array_like=True):
    """Where a hit is, and the values that it was sorted by."""

    topic: str
    partition: int
    offset: int
    values: list[Key | None]

    @property
    def place(self) -> Place:
        """Topic, partition, offset."""
        return self.topic, self.partition, self.offset

    @property
    def sort(self) -> list[Key | None]:
        """What the hit's `sort` is in a response."""
        return [*self.values, written_place(self.place)]


class Collector:
    """Keeps the first `size` hits in an order, of those after a key."""

    def __init__(self, key: SortKey, size: int, after: tuple[object, ...] | None = None) -> None:
        self._key = key
        self._size = size
        self._after = after
        self._kept: list[tuple[tuple[object, ...], Hit]] = []
        self.total = 0
        """Hits that were added, also those before `after`."""

    def add(self, document: Document, scope: Scope) -> bool:
        """A hit. Whether it is kept, for now."""
        self.total += 1
        if not self._size:
            return False
        values = self._key.values(document, scope)
        key = self._key.key(values, (scope.topic, scope.partition, document.offset))
        if self._after is not None and key <= self._after:
            return False
        kept = self._kept
        if len(kept) >= self._size:
            if key >= kept[-1][0]:
                return False
            kept.pop()
        insort(kept, (key, Hit(scope.topic, scope.partition, document.offset, values)), key=_by_key)
        return True

    def hits(self) -> list[Hit]:
        """Those that are kept, in order."""
        return [hit for _, hit in self._kept]


def merged(parts: Iterable[Iterable[Hit]], key: SortKey, size: int) -> list[Hit]:
    """The first `size` of all, in order. A hit that came twice counts once."""
    distinct: dict[Place, Hit] = {hit.place: hit for part in parts for hit in part}
    return sorted(distinct.values(), key=lambda hit: key.key(hit.values, hit.place))[:size]
