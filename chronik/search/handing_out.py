"""Handing what the processes have found to the groups that wait for it, in slices, so that the reactor is free in between.

While a batch is handed out the groups are uneven: some have it, some don't. What has to know how far a group is waits until
they are even (`when_even`). A batch is acknowledged (`taken`) when all have it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from chronik.search.parcels import ParcelHit
from chronik.search.tail_group import Group
from chronik.search.tail_messages import Counted, Matched, Skipped
from chronik.search.tail_parts import TailParts

SLICE_SECONDS = 0.002


class _Share:
    """What of a batch is one group's."""

    def __init__(self) -> None:
        self.hits: list[ParcelHit] = []
        self.counted: list[Counted] = []
        self.skipped: list[Skipped] = []


class HandingOut:
    """To `groups`, by their numbers. `taken(place, size)` tells a process that so much is dealt with; `changed` is told of a
    group whose members may take no more now.
    """

    def __init__(
        self,
        parts: TailParts,
        groups: dict[int, Group],
        taken: Callable[[int, int], object],
        changed: Callable[[Group], object],
        clock: Any,
    ) -> None:
        self._parts = parts
        self._groups = groups
        self._taken = taken
        self._changed = changed
        self._clock = clock
        self._batches: deque[tuple[int, Matched]] = deque()
        self._shares: deque[tuple[Group, _Share]] | None = None  # of the first batch, once it is begun
        self._giving: Iterator[None] | None = None  # to the first of these groups, once it is begun
        self._when_even: list[Callable[[], object]] = []
        self._call: Any = None

    def add(self, place: int, told: Matched) -> None:
        """A process has found something."""
        self._batches.append((place, told))
        self._soon()

    def when_even(self, job: Callable[[], object]) -> None:
        """Do a job when all groups are equally far: now, or after the batch that is handed out."""
        if self._shares is None:
            job()
        else:
            self._when_even.append(job)

    def finish(self, place: int) -> None:
        """Hand out all that a process has told at once: it is gone, and its groups' positions must be right."""
        while any(each == place for each, _ in self._batches):
            self._step(float("inf"))

    def stop(self) -> None:
        """Hand out nothing more."""
        self._batches.clear()
        self._shares = self._giving = None
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _soon(self) -> None:
        if self._call is None and self._batches:
            self._call = self._clock.callLater(0, self._slice)

    def _slice(self) -> None:
        self._call = None
        ends = self._clock.seconds() + SLICE_SECONDS
        while self._batches:
            self._step(ends)
            if self._clock.seconds() >= ends:
                break
        self._soon()

    def _step(self, ends: float) -> None:
        """Go on with the first batch until then."""
        place, told = self._batches[0]
        if self._shares is None:
            self._shares = self._shared(told)
        while self._shares:
            if not self._give(ends):
                return
        for each in told.reached:
            lane = self._parts.known_lane(each.part, each.wide)
            if lane is not None:
                lane.report(each.part, each, told.seen)
        self._batches.popleft()
        self._shares = None
        self._taken(place, told.size)
        jobs, self._when_even = self._when_even, []
        for job in jobs:
            job()

    def _give(self, ends: float) -> bool:
        """Go on to give the first group its share; False when the time is over before the end."""
        assert self._shares
        group, share = self._shares[0]
        if self._giving is None:
            self._giving = group.receive(share.hits, share.counted, share.skipped)
        for _ in self._giving:
            if self._clock.seconds() >= ends:
                return False
        self._giving = None
        self._shares.popleft()
        self._changed(group)
        return True

    def _shared(self, told: Matched) -> deque[tuple[Group, _Share]]:
        """The shares of the groups in a batch."""
        shares: dict[int, _Share] = {}

        def of(number: int) -> _Share:
            share = shares.get(number)
            if share is None:
                share = shares[number] = _Share()
            return share

        for hit in told.hits:
            parcel_hit = ParcelHit(hit.part, hit.offset, hit.json)
            for number in hit.watches:
                of(number).hits.append(parcel_hit)
        for count in told.counted:
            of(count.watch).counted.append(count)
        for gap in told.skipped:
            lane = self._parts.known_lane(gap.part, gap.wide)
            for group in lane.groups if lane is not None else ():
                if group.covers[gap.part].since <= told.seen and group.covers[gap.part].reached < gap.following:
                    of(group.number).skipped.append(gap)
        return deque((self._groups[number], share) for number, share in shares.items() if number in self._groups)
