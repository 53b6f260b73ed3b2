"""The best hits of a search, kept in order while records come: the first `size` after a place, the others only counted.

Two ways to the same order (`chronik.search.sorting`). By time alone, the usual one, a hit costs a comparison of three numbers,
and blocks in which nothing better can be are not looked at. By other values each hit has a key, and all blocks count.

What is kept is the records, so that nothing is read twice; of all of them together at most `MAX_BYTES`. Where there are more,
the last in the order are kept without what they hold, since their sources would not fit into the answer anyway.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections.abc import Sequence
from heapq import heapify, heappush, heapreplace
from operator import itemgetter
from typing import NamedTuple

from chronik.search.document import Document
from chronik.search.match import NO_TIMESTAMP, Scope
from chronik.search.sorting import After, Sort, SortKey
from chronik.search.values import Key

MAX_BYTES = 64 << 20
_EACH_BYTES = 100
_NEVER = 1 << 63
"""The time of a record without one, which is the last where the oldest are first; and where the newest are, its negative."""

_by_key = itemgetter(0)


class Kept(NamedTuple):
    """A hit that is kept: the number of its part, the values that it was sorted by, and the record; not `whole`, without
    what it holds.
    """

    part: int
    values: Sequence[Key | None]
    document: Document
    whole: bool


class Hits(ABC):
    """The hits of a search so far. `count_to`: how many are to be counted, -1 for all."""

    def __init__(self, size: int, count_to: int) -> None:
        self._size = size
        self._count_to = count_to
        self._bytes = 0
        self.total = 0
        self.stopped = False
        """Whether something was not looked at, because nothing in it was wanted any more."""

    @abstractmethod
    def found(self, part: int, document: Document) -> None:
        """Another hit."""

    @abstractmethod
    def in_order(self) -> list[Kept]:
        """Those that are kept, the first first."""

    @abstractmethod
    def _could_be_kept(self, first_timestamp: int, last_timestamp: int) -> bool:
        """Whether a record between these timestamps could still be kept."""

    @abstractmethod
    def _make_lighter(self) -> None:
        """Empty the last in the order, until what is kept has half of `MAX_BYTES`."""

    def wanted(self, first_timestamp: int, last_timestamp: int) -> bool:
        """Whether a record between these timestamps could still be kept or counted."""
        if self._count_to < 0 or self.total < self._count_to:
            return True
        if self._size and self._could_be_kept(first_timestamp, last_timestamp):
            return True
        self.stopped = True
        return False

    def _weigh(self, document: Document) -> None:
        self._bytes += _size(document)
        if self._bytes > MAX_BYTES:
            self._make_lighter()


class ByTime(Hits):
    """By the records' timestamps, then by their places; rising or falling."""

    def __init__(
        self, scopes: Sequence[Scope], size: int, count_to: int, oldest_first: bool, after: After | None = None
    ) -> None:
        super().__init__(size, count_to)
        self._oldest_first = oldest_first
        self._sign = sign = -1 if oldest_first else 1
        places = sorted((scope.topic, scope.partition) for scope in scopes)
        rank_of = {place: rank for rank, place in enumerate(places)}
        self._ranks = [sign * rank_of[scope.topic, scope.partition] for scope in scopes]
        self._part_at = {rank: part for part, rank in enumerate(self._ranks)}
        self._after = None if after is None else self._entry_of(after, places)
        self._heap: list[tuple[int, int, int, Document]] = []  # the last in the order is the first here

    def found(self, part: int, document: Document) -> None:
        """Another hit."""
        self.total += 1
        if not self._size:
            return
        time = document.timestamp
        if time == NO_TIMESTAMP:
            time = _NEVER if self._oldest_first else -_NEVER
        entry = (self._sign * time, self._ranks[part], self._sign * document.offset)
        if self._after is not None and entry >= self._after:
            return
        if len(self._heap) < self._size:
            heappush(self._heap, (*entry, _alone(document)))
        elif entry > self._heap[0][:3]:
            gone = heapreplace(self._heap, (*entry, _alone(document)))
            self._bytes -= _size(gone[3])
        else:
            return
        self._weigh(document)

    def in_order(self) -> list[Kept]:
        """Those that are kept, the first first."""
        kept = []
        for _, rank, _, document in sorted(self._heap, key=lambda entry: entry[:3], reverse=True):
            values = (document.timestamp if document.timestamp != NO_TIMESTAMP else None,)
            kept.append(Kept(self._part_at[rank], values, document, not isinstance(document, _Emptied)))
        return kept

    def _could_be_kept(self, first_timestamp: int, last_timestamp: int) -> bool:
        worst, best = sorted((self._sign * first_timestamp, self._sign * last_timestamp))
        if first_timestamp <= NO_TIMESTAMP <= last_timestamp:
            worst = -_NEVER
        if self._after is not None and worst > self._after[0]:
            return False
        return len(self._heap) < self._size or best >= self._heap[0][0]

    def _make_lighter(self) -> None:
        lightest = sorted(self._heap, key=lambda entry: entry[:3])
        for at, entry in enumerate(lightest):
            if self._bytes <= MAX_BYTES // 2:
                break
            if not isinstance(entry[3], _Emptied):
                self._bytes -= _size(entry[3]) - _EACH_BYTES
                lightest[at] = (*entry[:3], _Emptied(entry[3].offset, entry[3].timestamp, None, None))
        self._heap = lightest
        heapify(self._heap)

    def _entry_of(self, after: After, places: Sequence[tuple[str, int]]) -> tuple[float, float, float]:
        """What is just behind the hits that come before, as they are compared."""
        (time,) = after.values
        sign = self._sign
        moment = time if isinstance(time, int) else -sign * _NEVER
        if after.place is None:
            return sign * moment, -len(places) - 1, 0
        topic, partition, offset = after.place
        rank: float = bisect_left(places, (topic, partition))
        if rank == len(places) or places[int(rank)] != (topic, partition):
            rank -= 0.5  # between two of those that are here
        return sign * moment, sign * rank, sign * offset


class ByValues(Hits):
    """By the values of fields: a key for each part makes the hits comparable."""

    def __init__(
        self, scopes: Sequence[Scope], keys: Sequence[SortKey], size: int, count_to: int, after: After | None = None
    ) -> None:
        super().__init__(size, count_to)
        self._scopes = scopes
        self._keys = keys
        self._after = None if after is None or not keys else keys[0].key(after.values, after.place)
        self._kept: list[tuple[tuple[object, ...], Kept]] = []

    def found(self, part: int, document: Document) -> None:
        """Another hit."""
        self.total += 1
        if not self._size:
            return
        scope, sort = self._scopes[part], self._keys[part]
        values = sort.values(document, scope)
        key = sort.key(values, (scope.topic, scope.partition, document.offset))
        if self._after is not None and key <= self._after:
            return
        kept = self._kept
        if len(kept) >= self._size:
            if key >= kept[-1][0]:
                return
            self._bytes -= _size(kept.pop()[1].document)
        insort(kept, (key, Kept(part, values, _alone(document), True)), key=_by_key)
        self._weigh(document)

    def in_order(self) -> list[Kept]:
        """Those that are kept, the first first."""
        return [hit for _, hit in self._kept]

    def _could_be_kept(self, first_timestamp: int, last_timestamp: int) -> bool:
        return True

    def _make_lighter(self) -> None:
        for at in range(len(self._kept) - 1, -1, -1):
            if self._bytes <= MAX_BYTES // 2:
                return
            key, hit = self._kept[at]
            if hit.whole:
                self._bytes -= _size(hit.document) - _EACH_BYTES
                empty = _Emptied(hit.document.offset, hit.document.timestamp, None, None)
                self._kept[at] = (key, hit._replace(document=empty, whole=False))


class _Emptied(Document):
    """A record without what it holds."""

    __slots__ = ()


def _alone(document: Document) -> Document:
    """The record without what was read out of its value, which takes many times its bytes."""
    return Document(document.offset, document.timestamp, document.key, document.value, document.headers)


def _size(document: Document) -> int:
    size = _EACH_BYTES + len(document.key or b"") + len(document.value or b"")
    return size + sum(len(name) + len(value or b"") for name, value in document.headers)


def keeping(sort: Sort, scopes: Sequence[Scope], size: int, count_to: int, after: After | None = None) -> Hits:
    """What keeps the hits of a search over parts, each in its scope."""
    if sort.by_time:
        return ByTime(scopes, size, count_to, not sort.descending, after)
    by_topic = {scope.topic: scope.mapping for scope in scopes}
    keys = {topic: SortKey(sort, mapping) for topic, mapping in by_topic.items()}
    return ByValues(scopes, [keys[scope.topic] for scope in scopes], size, count_to, after)
