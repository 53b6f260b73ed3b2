"""What was selected of a partition for those who read a saved search, and is kept until they have it.

A `Run` is what lies between two offsets without a gap: the batches that were found there, and the knowledge that there is
nothing else. It grows at its end as the selection goes on. Readers at different places have runs of their own; those who
have come to the end of what there is share one. `Kept` bounds the memory of all runs of a node: what was read longest ago goes
first, and is selected anew if anybody still wants it.

Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from operator import itemgetter

READ_AHEAD = 1 << 20
"""Bytes of batches that nobody has read yet, at which a run goes on no further."""
_KEPT_BEHIND = 1 << 20
"""Bytes of batches that a reader has behind him and another one may want."""


class Run:
    """The batches from offset `start` on; everything below `reached` was looked at."""

    __slots__ = ("_batches", "kept", "reached", "resting", "selecting", "size", "start", "unread")

    def __init__(self, start: int) -> None:
        self.start = self.reached = start
        self._batches: list[tuple[int, bytes]] = []
        self.size = 0
        self.unread = 0
        self.selecting = False
        """Whether what comes next is being looked for."""
        self.resting = False
        """Whether that has failed, and is tried again in a while."""
        self.kept = True

    def holds(self, offset: int) -> bool:
        """Whether a reader at `offset` can go on here."""
        return self.start <= offset <= self.reached

    def covers(self, other: Run) -> bool:
        """Whether nothing is in `other` that isn't here."""
        return self.start <= other.start and other.reached <= self.reached

    def extend(self, data: bytes, ends: Sequence[tuple[int, int]], reached: int) -> None:
        """More was found: batches, each given by the offset behind it and its size."""
        position = 0
        for following, size in ends:
            self._batches.append((following, data[position : position + size]))
            position += size
        self.size += position
        self.unread += position
        self.reached = max(self.reached, reached)

    def take(self, offset: int, max_bytes: int, at_least_one: bool) -> tuple[bytes, int, bool]:
        """Batches for a reader at `offset`: their bytes, where he is behind them, and whether that is all there is here."""
        first = bisect_right(self._batches, offset, key=itemgetter(0))
        taken: list[bytes] = []
        size = 0
        for following, batch in self._batches[first:]:
            if size + len(batch) > max_bytes and (taken or not at_least_one):
                break
            taken.append(batch)
            size += len(batch)
            offset = following
        rest = self._batches[first + len(taken) :]
        self.unread = sum(len(batch) for _, batch in rest)
        self._forget_before(first)
        return taken[0] if len(taken) == 1 else b"".join(taken), offset, not rest

    def _forget_before(self, index: int) -> None:
        """Forget batches before this one, but for the last of them."""
        behind, gone = sum(len(batch) for _, batch in self._batches[:index]), 0
        while behind > _KEPT_BEHIND:
            self.start, batch = self._batches[gone]
            behind -= len(batch)
            self.size -= len(batch)
            gone += 1
        del self._batches[:gone]


class Kept:
    """All runs of a node, within `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._runs: OrderedDict[Run, int] = OrderedDict()  # and the bytes that each counts for
        self.size = 0

    def used(self, run: Run) -> None:
        """`run` was read, or has grown. The runs that were used longest ago may have to go for it: they aren't `kept`."""
        self.size += run.size - self._runs.pop(run, 0)
        self._runs[run] = run.size
        while self.size > self._max_bytes and len(self._runs) > 1:
            other, size = self._runs.popitem(last=False)
            self.size -= size
            other.kept = False

    def drop(self, run: Run) -> None:
        """Nobody needs `run` any more."""
        self.size -= self._runs.pop(run, 0)
        run.kept = False
