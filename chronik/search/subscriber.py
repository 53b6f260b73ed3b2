"""One client of a tail: what it still has to get, what it was too slow for, and where it is.

A subscriber is **live** when it gets what its group gets, as it comes. What it cannot take at once is queued, up to
`QUEUE_BYTES`; what comes then is dropped, and counted: a notice stands in the queue where the hits would have been.

One that begins in the past is **behind**: it is fed with pages out of the log, as fast as it takes them, and nothing of that is
dropped. Meanwhile it may **hold** what its group gets, up to the same bound: once the pages have reached the point from which
on it holds, what is held follows, and it is live. Where it held too much, it goes on with pages.

Pure. `sink` is the connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from chronik.search.parcels import Missing, Note, Parcel, Place, dropped_note, skipped_note

QUEUE_BYTES = 256 << 10
_NOTICE_BYTES = 200


class Sink(Protocol):
    """The connection to a client. It says `paused` and `resumed` to its subscriber."""

    def send(self, message: Parcel | Note) -> None:
        """Send a message."""

    def close(self, status: int, reason: str, position: int | None = None) -> None:
        """Say what is wrong, and close the connection."""


class Budget:
    """What the queues of all subscribers together may have."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, size: int) -> bool:
        """Take so much, if it is there."""
        if self.used + size > self.limit:
            return False
        self.used += size
        return True

    def give_back(self, size: int) -> None:
        """It is free again."""
        self.used -= size


class _Notice:
    """Hits that were dropped, where they would have stood in the queue."""

    def __init__(self) -> None:
        self.count = 0
        self.ranges: dict[int, tuple[int, int]] = {}  # by partition

    def add(self, part: int, count: int, first: int, last: int) -> None:
        low, high = self.ranges.get(part, (first, last))
        self.ranges[part] = min(low, first), max(high, last)
        self.count += count


class Subscriber:
    """Sends to `sink`. `places` names partitions by the node's numbers of them.

    `at` is, while it is behind, for each partition the next offset that it has to get.
    """

    def __init__(self, sink: Sink, budget: Budget, places: Callable[[int], Place], at: Mapping[int, int]) -> None:
        self._sink = sink
        self._budget = budget
        self._places = places
        self.at = dict(at)
        self.live = False
        self.paused = False
        self.gone = False
        self.has_room: Callable[[], object] = lambda: None
        """Is called when it takes more again."""
        self.sent = self.dropped = 0
        self._queue: deque[Parcel | Note | _Notice] = deque()
        self._queued = 0
        self._full = False
        self._floors: dict[int, int] = {}
        self._held: list[Parcel] | None = None
        self._held_bytes = 0
        self._held_from: dict[int, int] = {}

    # -- the connection -----------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """The client takes nothing more for now."""
        self.paused = True

    def resume(self) -> None:
        """It takes more."""
        self.paused = False
        self._drain()
        if not self.paused and not self.gone:
            self.has_room()

    def leave(self) -> None:
        """The connection is gone."""
        self.gone, self.live = True, False
        self._budget.give_back(self._queued + self._held_bytes)
        self._queued = self._held_bytes = 0
        self._queue.clear()
        self._held = None

    @property
    def full(self) -> bool:
        """Whether something had to be dropped, and nothing was taken since."""
        return self._full

    @property
    def free(self) -> bool:
        """Whether all that there was is taken."""
        return not (self.paused or self._queue or self.gone)

    # -- messages -----------------------------------------------------------------------------------------------------

    def tell(self, note: Note) -> None:
        """Send something that is no hit, in its turn. A few of these are queued whatever their size."""
        if self.free:
            self._sink.send(note)
        elif not self.gone:
            self._queue.append(note)
            self._queued += note.size
            self._budget.used += note.size

    def skipped(self, missing: Iterable[Missing], reason: str) -> None:
        """Something was not even looked at."""
        self.tell(skipped_note(missing, reason))

    def offer(self, parcel: Parcel) -> None:
        """What the group gets: for one that is live or holds."""
        if self._floors:
            parcel = self._above_floors(parcel)
            if not parcel.hits:
                return
        if self.live:
            self._put(parcel)
        elif self._held is not None:
            if self._held_bytes + parcel.size > QUEUE_BYTES or not self._budget.take(parcel.size):
                self.let_go()
            else:
                self._held.append(parcel)
                self._held_bytes += parcel.size

    def drop(self, part: int, count: int, first: int, last: int) -> None:
        """Hits that are counted only."""
        if last < self._floors.get(part, 0):
            return
        self.dropped += count
        self._notice().add(part, count, first, last)
        self._drain()

    def _put(self, parcel: Parcel) -> None:
        if self.free:
            self._sink.send(parcel)
            self.sent += len(parcel.hits)
        elif (self._queued and self._queued + parcel.size > QUEUE_BYTES) or not self._budget.take(parcel.size):
            self._full = True
            self.dropped += len(parcel.hits)
            notice = self._notice()
            for part, offset, _ in parcel.hits:
                notice.add(part, 1, offset, offset)
        else:
            self._queue.append(parcel)
            self._queued += parcel.size

    def _notice(self) -> _Notice:
        last = self._queue[-1] if self._queue else None
        if not isinstance(last, _Notice):
            last = _Notice()
            self._queue.append(last)
            self._queued += _NOTICE_BYTES
            self._budget.used += _NOTICE_BYTES
        return last

    def _drain(self) -> None:
        queue = self._queue
        while queue and not self.paused:
            message = queue.popleft()
            size = _NOTICE_BYTES if isinstance(message, _Notice) else message.size
            self._queued -= size
            self._budget.give_back(size)
            self._full = False
            if isinstance(message, _Notice):
                ranges = [Missing(self._places(part), *both) for part, both in sorted(message.ranges.items())]
                message = dropped_note(message.count, ranges)
            elif isinstance(message, Parcel):
                self.sent += len(message.hits)
            self._sink.send(message)

    def refuse(self, status: int, reason: str) -> None:
        """It cannot go on."""
        self._sink.close(status, reason)

    # -- behind -------------------------------------------------------------------------------------------------------

    def fall_behind(self, at: Mapping[int, int]) -> None:
        """From these offsets on it is fed with pages."""
        self.live = False
        self.at = {part: max(offset, self._floors.get(part, 0)) for part, offset in at.items()}
        self._floors.clear()

    def page(self, parcel: Parcel) -> None:
        """A page out of the log. The next one waits until this one is taken."""
        if self.free:
            self._sink.send(parcel)
            self.sent += len(parcel.hits)
        elif not self.gone:
            self._queue.append(parcel)
            self._queued += parcel.size
            self._budget.used += parcel.size

    def hold(self, reached: Mapping[int, int]) -> None:
        """Hold what the group gets from now on; all below these offsets it has got before."""
        self.let_go()
        self._held = []
        self._held_from = dict(reached)

    @property
    def holds(self) -> bool:
        """Whether it holds all that the group got since `hold`."""
        return self._held is not None

    def let_go(self) -> None:
        """Hold nothing any more."""
        self._held = None
        self._budget.give_back(self._held_bytes)
        self._held_bytes = 0

    def join(self) -> None:
        """It has all up to `at`: what it holds follows, as far as it lies behind that, and it is live."""
        held = self._held or []
        self.let_go()
        self._floors = {part: at for part, at in self.at.items() if at > self._held_from.get(part, 0)}
        self.live = True
        for parcel in held:
            self.offer(parcel)

    def _above_floors(self, parcel: Parcel) -> Parcel:
        """The parcel without what it has already. A partition's floor is no more once something lies above it."""
        above = parcel.since(self._floors)
        for hit in above.hits:
            self._floors.pop(hit.part, None)
        return above
