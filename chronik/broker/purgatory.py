"""Where requests wait: produce for the high watermark, fetch for bytes to read.

A partition keeps a `CommitQueue` of those who wait for an offset to be committed, and a set of `WaitingFetch`es that
want more to read. Both are told by the partition when its high watermark moves. Committed waiters are called at once,
in order: a producer's answer comes first. Fetches are only marked ready; `Wakeups` finishes them a slice at a time on
later turns of the event loop, so that a thousand of them cannot hold up an acknowledgement.

Pure: the event loop is an injected `call_soon`, deadlines belong to the caller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class CommitQueue:
    """Callbacks waiting for the high watermark to reach an offset. Offsets are added in ascending order."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Callable[[Exception | None], None]]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, end_offset: int, done: Callable[[Exception | None], None]) -> None:
        """Call `done(None)` once everything below `end_offset` is committed, or `done(error)` if that cannot be."""
        self._waiting.append((end_offset, done))

    def committed(self, high_watermark: int) -> None:
        """The high watermark is now `high_watermark`."""
        waiting = self._waiting
        while waiting and waiting[0][0] <= high_watermark:
            waiting.popleft()[1](None)

    def fail(self, error: Exception) -> None:
        """Nothing more will be committed here by this leader."""
        waiting, self._waiting = self._waiting, deque()
        for _, done in waiting:
            done(error)


class WaitingFetch:
    """A fetch that waits for `missing` more bytes on any of the partitions it watches, or for an event on one of them."""

    __slots__ = ("_ready", "is_ready", "missing", "watched")

    def __init__(self, missing: int, ready: Callable[[WaitingFetch], None]) -> None:
        self.missing = missing
        self.is_ready = False
        self._ready = ready
        self.watched: list[set[WaitingFetch]] = []

    def watch(self, waiters: set[WaitingFetch]) -> None:
        """Be told what is committed in the partition of `waiters`."""
        waiters.add(self)
        self.watched.append(waiters)

    def more(self, count: int) -> None:
        """`count` more bytes can be read from a watched partition."""
        self.missing -= count
        if self.missing <= 0:
            self.wake()

    def wake(self) -> None:
        """Let the fetch look again: enough bytes came, or its partition changed leader, was deleted or truncated."""
        if not self.is_ready:
            self.is_ready = True
            self._ready(self)

    def forget(self) -> None:
        """Stop watching: the fetch was answered, timed out, or its client is gone."""
        for waiters in self.watched:
            waiters.discard(self)
        self.watched.clear()


def bytes_committed(waiters: set[WaitingFetch], count: int) -> None:
    """Tell all of a partition's waiting fetches that `count` more bytes can be read."""
    for waiter in tuple(waiters):
        waiter.more(count)


def wake_all(waiters: set[WaitingFetch]) -> None:
    """Let all of a partition's waiting fetches look again."""
    for waiter in tuple(waiters):
        waiter.wake()


class Wakeups:
    """Finishes ready fetches in slices of `per_turn`, each slice on a turn of the event loop of its own."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], object], per_turn: int = 32) -> None:
        self._call_soon = call_soon
        self._per_turn = per_turn
        self._ready: deque[Callable[[], None]] = deque()
        self._scheduled = False

    def add(self, finish: Callable[[], None]) -> None:
        """Call `finish` on a later turn."""
        self._ready.append(finish)
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self._run)

    def _run(self) -> None:
        for _ in range(min(self._per_turn, len(self._ready))):
            self._ready.popleft()()
        self._scheduled = bool(self._ready)
        if self._scheduled:
            self._call_soon(self._run)
