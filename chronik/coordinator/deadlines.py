"""Deadlines by key: set, move, cancel, and ask which is next. Pure: times are numbers that the caller gives.

Heartbeats move a deadline later thousands of times a second and almost none ever falls due, so moving one later costs a
dictionary write: the heap keeps the old entry, and puts it right when it reaches the top.
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Generic, TypeVar

_K = TypeVar("_K", bound=Hashable)


class Deadlines(Generic[_K]):
    """A set of keys, each with the time at which it falls due."""

    __slots__ = ("_due", "_heap", "_order", "_queued")

    def __init__(self) -> None:
        self._due: dict[_K, int] = {}
        self._queued: dict[_K, int] = {}  # the time of a key's one live heap entry
        self._heap: list[tuple[int, int, _K]] = []
        self._order = 0  # makes heap entries comparable without comparing keys

    def set(self, key: _K, at: int) -> None:
        """Let `key` fall due at `at`, in place of whatever was set for it."""
        self._due[key] = at
        queued = self._queued.get(key)
        if queued is None or at < queued:
            self._push(key, at)

    def _push(self, key: _K, at: int) -> None:
        self._order += 1
        self._queued[key] = at
        heappush(self._heap, (at, self._order, key))

    def cancel(self, key: _K) -> None:
        """Forget `key`, which need not be set."""
        self._due.pop(key, None)

    def is_set(self, key: _K) -> bool:
        """Whether `key` is to fall due at some time."""
        return key in self._due

    def next(self) -> int | None:
        """When the earliest key falls due, None when nothing is set."""
        heap = self._heap
        while heap:
            at, _, key = heap[0]
            due = self._due.get(key)
            if due == at:
                return at
            heappop(heap)
            if self._queued.get(key) == at:  # else a later `set` has pushed an earlier entry, and this one is stale
                del self._queued[key]
                if due is not None:
                    self._push(key, due)
        return None

    def pop(self, now: int) -> _K | None:
        """Remove and return a key that is due at `now`, the earliest first; None when there is none."""
        at = self.next()
        if at is None or at > now:
            return None
        _, _, key = heappop(self._heap)
        del self._due[key]
        if self._queued.get(key) == at:
            del self._queued[key]
        return key
