"""One partition as tails see it: how far it is looked through, for which watches, and how late that is.

A partition that is watched has two lanes at most: one for the watches of which only candidates are decided, and one for those
that are **wide**, whose every record is. So a query that is slow makes wide ones late, and no others.

A lane goes forward record by record. All its watches are at the same place, except that hits of a watch count from its `floor`
on. A watch that begins below the place takes the lane back there: for the others the floor is then where they were.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from chronik.model import PartitionId
from chronik.search.match import Matcher
from chronik.search.rows import BatchReader

_MAX_MARKS = 4096


class Watched(NamedTuple):
    """A watch in a lane: its hits count from offset `floor` on."""

    matcher: Matcher
    floor: int


class Lane:
    """A lane of the partition that the node calls `part`."""

    def __init__(self, part: int, topic: str, partition: PartitionId, wide: bool) -> None:
        self.part = part
        self.topic = topic
        self.partition = partition
        self.wide = wide
        self.at = 0
        """The first offset that is not looked at yet."""
        self.watched: dict[int, Watched] = {}
        self.going: Iterator[None] | None = None
        """What goes through the log just now."""
        self.reader = BatchReader()
        self._marks: deque[tuple[int, float]] = deque()  # ends of the log, and when they were there

    def add(self, number: int, matcher: Matcher, floor: int) -> None:
        """Look for another watch."""
        if not self.watched:
            self.at, self.going = floor, None
        elif floor < self.at:
            for other, (known, least) in self.watched.items():
                self.watched[other] = Watched(known, max(least, self.at))
            self.at, self.going = floor, None
        self.watched[number] = Watched(matcher, floor)

    def remove(self, number: int) -> None:
        """Look for a watch no more."""
        self.watched.pop(number, None)

    def reaches(self, stable: int, now: float) -> None:
        """The log can be read so far, as of now."""
        marks = self._marks
        if not marks or marks[-1][0] < stable:
            if len(marks) >= _MAX_MARKS:
                marks.pop()  # rather the old ones: these say how late it is
            marks.append((stable, now))

    def lateness(self, now: float) -> float:
        """For how long the next record has been there to be looked at; 0 where there is none."""
        marks = self._marks
        while marks and marks[0][0] <= self.at:
            marks.popleft()
        return now - marks[0][1] if marks else 0.0
