"""The clients of one tail: a query over some topics, looked for once, and told to all who wait for it.

A group knows for each partition that it covers how far its hits are told (`reached`): the process that owns the partition says
how far it is with all watches together, and that counts for the group once the process has seen its watch; before, it is the
`floor` from which on it was asked to look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from chronik.model import PartitionId
from chronik.search.fitting import Fitting
from chronik.search.mapping import Mapping
from chronik.search.names import Names
from chronik.search.parcels import Missing, Parcel, ParcelHit, Place
from chronik.search.query import Query
from chronik.search.subscriber import Subscriber
from chronik.search.tail_messages import Counted, Reached, Skipped

UNTOLD = 1 << 62


class Part(NamedTuple):
    """A partition that is tailed, under the node's number of it; `process` is the place of the process that owns it."""

    number: int
    name: Place
    id: PartitionId
    process: int


class Lane:
    """How far the process is in one partition, with all watches that are wide, or with all others; and whose they are."""

    __slots__ = ("groups", "reached", "seen")

    def __init__(self) -> None:
        self.groups: set[Group] = set()
        self.reached = 0
        self.seen = -1

    def report(self, part: int, told: Reached, seen: int) -> None:
        """The process is so far; `seen` is the last watch that it knows of."""
        if told.offset < self.reached:  # it went back for a watch that begins there, and for no other
            for group in self.groups:
                cover = group.covers[part]
                if cover.since <= self.seen:
                    cover.floor = max(cover.floor, self.reached)
        self.reached, self.seen = told.offset, seen

    def forget(self) -> None:
        """The process is gone, and what it has said with it."""
        self.reached, self.seen = 0, -1


class Cover:
    """A partition that a group covers."""

    __slots__ = ("floor", "lane", "mapping", "part", "since", "wide")

    def __init__(self, part: Part, lane: Lane, wide: bool, mapping: Mapping, floor: int) -> None:
        self.part = part
        self.lane = lane
        self.wide = wide
        self.mapping = mapping
        self.floor = floor
        self.since = UNTOLD
        """The sequence of the watch with which the process was told."""

    @property
    def reached(self) -> int:
        """All hits below this offset are told."""
        return self.floor if self.lane.seen < self.since else max(self.floor, self.lane.reached)


class Key(NamedTuple):
    """Whose tails are the same: equal queries, over equal topics, with the same meaning of `now`."""

    query: Query
    names: str
    now_ms: int


class Group:
    """The clients of a tail. `behind(subscriber)` is told of those that have to be fed out of the log, `failed(subscriber)` of
    those that nothing can be given to, with what went wrong as the exception at hand.
    """

    def __init__(
        self,
        number: int,
        key: Key,
        names: Names,
        fitting: Fitting,
        behind: Callable[[Subscriber], object],
        failed: Callable[[Subscriber], object],
    ) -> None:
        self.number = number
        self.key = key
        self.names = names
        self.fitting = fitting
        self.covers: dict[int, Cover] = {}
        self.members: dict[Subscriber, None] = {}
        self.choked = False
        self.told: bytes = b""
        """The positions that were told last."""
        self._behind = behind
        self._failed = failed

    @property
    def reached(self) -> dict[int, int]:
        """For each partition, the offset below which all hits are told."""
        return {part: cover.reached for part, cover in self.covers.items()}

    @property
    def wanted(self) -> bool:
        """Whether anyone could take a hit now."""
        return any((member.live and not member.full) or member.holds for member in self.members)

    @property
    def processes(self) -> set[int]:
        """The places of the processes that own partitions of it."""
        return {cover.part.process for cover in self.covers.values()}

    def receive(
        self, hits: Sequence[ParcelHit], counted: Iterable[Counted], skipped: Iterable[Skipped]
    ) -> Iterator[None]:
        """Give all members what the process has found for this group, and yield after each."""
        parcel = Parcel(hits) if hits else None
        counted, gaps = [each for each in counted if each.part in self.covers], list(skipped)
        for member in list(self.members):
            if not member.gone:
                try:
                    self._give(member, parcel, counted, gaps)
                except Exception:
                    self._failed(member)
            yield

    def _give(
        self, member: Subscriber, parcel: Parcel | None, counted: Iterable[Counted], gaps: Iterable[Skipped]
    ) -> None:
        for each in counted:
            self._count(member, each)
        for gap in gaps:
            if member.live and gap.part in self.covers:
                member.skipped([Missing(self.covers[gap.part].part.name, gap.first, gap.following - 1)], gap.why)
            member.let_go()
        if parcel is not None:
            member.offer(parcel)

    def _count(self, member: Subscriber, told: Counted) -> None:
        if member.live:
            if told.late or member.full:
                member.drop(told.part, told.count, told.first, told.last)
            else:  # it has room, so it was for the others that nothing was sent: it gets them out of the log
                member.fall_behind(self.reached)
                self._behind(member)
        member.let_go()
