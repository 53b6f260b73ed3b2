"""What share partitions are made of: stretches of offsets, the states they are in, and what is said of them. Pure.

Source: KIP-932.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from enum import IntEnum
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from chronik.model import StateBatch

by_first = attrgetter("first")


class RecordState(IntEnum):
    """The states, by the numbers that the log of the group's state has for them."""

    AVAILABLE = 0
    ACQUIRED = 1
    ACKNOWLEDGED = 2
    ARCHIVED = 4


_AVAILABLE, _ACQUIRED, _ACKNOWLEDGED, _ARCHIVED = RecordState
_DONE = frozenset({_ACKNOWLEDGED, _ARCHIVED})

GAP, ACCEPT, RELEASE, REJECT = range(4)
"""What a client says of a record, by the numbers on the wire; a gap is an offset without a record."""
BECOMES = {GAP: _ARCHIVED, ACCEPT: _ACKNOWLEDGED, RELEASE: _AVAILABLE, REJECT: _ARCHIVED}


class Span(NamedTuple):
    """Offsets from `first` to `last`, both included: a batch of the log, or a part of one."""

    first: int
    last: int


class Acquired(NamedTuple):
    """Records that a member was given, and how often they have been given out by now."""

    first: int
    last: int
    deliveries: int


class Acknowledgement(NamedTuple):
    """What a client says of the records from `first` to `last`: one type for all, or one for each."""

    first: int
    last: int
    types: Sequence[int]


class Before(NamedTuple):
    """What a tile was before a change that is on its way."""

    state: RecordState
    deliveries: int
    member: str
    deadline: int


class Tile:
    """A stretch of offsets in one state. `before` is what it was, while a change of it is on its way."""

    __slots__ = ("before", "deadline", "deliveries", "first", "last", "member", "state")

    def __init__(
        self, first: int, last: int, state: RecordState, deliveries: int, member: str = "", deadline: int = 0
    ) -> None:
        self.first = first
        self.last = last
        self.state = state
        self.deliveries = deliveries
        self.member = member
        self.deadline = deadline
        self.before: Before | None = None

    def become(self, state: RecordState, deliveries: int) -> StateBatch:
        """Be in a state in which nobody has it."""
        self.state, self.deliveries, self.member, self.deadline = state, deliveries, "", 0
        return StateBatch(self.first, self.last, state, deliveries)

    @property
    def is_free(self) -> bool:
        """Whether it may be given out."""
        return self.state is _AVAILABLE and self.before is None

    @property
    def is_over(self) -> bool:
        """Whether it is done with for good."""
        return self.state in _DONE and self.before is None


class Change:
    """Acknowledgements on their way to the log: `batches` is what to write."""

    __slots__ = ("batches", "tiles")

    def __init__(self) -> None:
        self.batches: list[StateBatch] = []
        self.tiles: list[Span] = []


def limited(log: Sequence[Span], first: int, last: int, room: int) -> int:
    """The last offset to give from `first` on, for `room` records: the end of the batch that reaches the limit."""
    limit = max(first, log[0].first) + room - 1
    if limit >= last:
        return last
    batch = log[bisect_right(log, limit, key=by_first) - 1]
    return min(last, batch.last) if limit <= batch.last else limit


def runs(first: int, last: int, types: Sequence[int]) -> Iterator[tuple[Span, int]]:
    """Stretches of one type each."""
    if len(types) == 1:
        yield Span(first, last), types[0]
        return
    for kind, run in groupby(types):
        end = first + sum(1 for _ in run) - 1
        yield Span(first, end), kind
        first = end + 1
