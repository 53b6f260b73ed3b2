"""One share partition: which records of a partition a share group has in flight, in what state, and for whom (KIP-932).

The offsets from `start_offset` up to `next_offset` are in flight; those below are done with, those above were never given
out. They are covered by *tiles*, stretches of offsets in one state, without gaps:

- AVAILABLE: to be given out, for the first time or again;
- ACQUIRED: given to a member, which has until the tile's deadline to acknowledge it;
- ACKNOWLEDGED, ARCHIVED: done with (accepted; rejected, or given out as often as is allowed).

A tile is cut where a part of it goes another way. The start moves on over what is done with.

An acknowledgement is decided first and counts when it is in the log of the group's state: `acknowledge` returns a `Change`,
and `committed` or `failed` ends it. Until then nobody else gets these records and the start does not pass them. What a member
has given up, or has lost by its deadline, is available at once; that it is written too keeps its delivery count.

Pure: time is an argument, in ms; what the log holds is told by the bounds of its batches. Sources: KIP-932; the rules and
codes of Kafka 4.1.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush

from chronik.broker.share_tiles import (
    BECOMES,
    Acknowledgement,
    Acquired,
    Before,
    Change,
    RecordState,
    Span,
    Tile,
    by_first,
    limited,
    runs,
)
from chronik.errors import ErrorCode, KafkaError
from chronik.model import StateBatch

_DEADLINE_STEP_MS = 64
"""Deadlines fall on multiples of this: few of them have to be woken up for."""

_AVAILABLE, _ACQUIRED, _, _ARCHIVED = RecordState


class SharePartition:
    """What a group has in flight of one partition, from the state that was read from the log.

    `max_deliveries` is how often a record is given out before it is archived. Raises ValueError for `batches` that make no
    sense: with a state that is not known, or without an order.
    """

    def __init__(self, start_offset: int, batches: Iterable[StateBatch], max_deliveries: int) -> None:
        self.start_offset = self.next_offset = start_offset
        self._max_deliveries = max_deliveries
        self._tiles: list[Tile] = []
        self._wakeups: list[int] = []  # a heap of deadlines; some are over when they come
        for first, last, state, deliveries in batches:
            if last < first or (self._tiles and first < self.next_offset):
                raise ValueError(f"offsets {first} to {last} of a share partition come after {self.next_offset - 1}")
            if last < self.next_offset:
                continue
            if first > self.next_offset:  # it was with a member when the leader before ended
                self._tiles.append(Tile(self.next_offset, first - 1, _AVAILABLE, 0))
            known = RecordState(state)
            known = _AVAILABLE if known is _ACQUIRED else known
            self._tiles.append(Tile(max(first, self.next_offset), last, known, deliveries))
            self.next_offset = last + 1
        self._advance()

    # Looking.

    @property
    def in_flight(self) -> int:
        """How many offsets are between the start and what was never given out."""
        return self.next_offset - self.start_offset

    def next_fetch_offset(self) -> int:
        """Where to read next: the first record that is to be given out again, or what was never given out."""
        return next((tile.first for tile in self._tiles if tile.is_free), self.next_offset)

    def may_acquire(self, max_in_flight: int) -> bool:
        """Whether there is something to give out, where no more than about `max_in_flight` records may be in flight."""
        return self.in_flight < max_in_flight or any(tile.is_free for tile in self._tiles)

    def next_deadline(self) -> int | None:
        """When `expire` must be called next, if not for nothing."""
        return self._wakeups[0] if self._wakeups else None

    def tiles(self) -> Iterator[tuple[StateBatch, str]]:
        """All that is in flight in order, with the member that has it."""
        return ((StateBatch(tile.first, tile.last, tile.state, tile.deliveries), tile.member) for tile in self._tiles)

    # Giving out.

    def acquire(
        self,
        member: str,
        log: Sequence[Span],
        max_records: int,
        batch_size: int,
        now: int,
        lock_ms: int,
        aborted: Sequence[Span] = (),
    ) -> list[Acquired]:
        """Give `member` what is available among the batches `log`, that were read from `next_fetch_offset` on.

        At least `max_records` are given where there are so many: to the end of the batch in which the limit is reached. What
        was never given out is given in pieces of about `batch_size`. The records of `aborted` batches are archived instead.
        """
        base, last = log[0].first, log[-1].last
        self._archive_missing(base)
        deadline = -(-(now + lock_ms) // _DEADLINE_STEP_MS) * _DEADLINE_STEP_MS
        given: list[Tile] = []
        room = max_records
        index = self._index(base)
        while index < len(self._tiles) and room > 0 and self._tiles[index].first <= last:
            tile = self._tiles[index]
            if tile.is_free:
                first = max(tile.first, base)
                end = limited(log, first, min(tile.last, last), room)
                index = self._cut(first)
                self._cut(end + 1)
                tile = self._tiles[index]
                given.append(tile)
                room -= end - first + 1
            index += 1
        if room > 0 and last >= self.next_offset:
            given += self._add(log, limited(log, self.next_offset, last, room), batch_size)
        for tile in given:
            tile.state, tile.member, tile.deadline = _ACQUIRED, member, deadline
            tile.deliveries += 1
        if given and (not self._wakeups or deadline not in (self._wakeups[0], self._wakeups[-1])):
            heappush(self._wakeups, deadline)
        if not aborted:
            return [Acquired(tile.first, tile.last, tile.deliveries) for tile in given]
        return self._without(aborted, [Span(tile.first, tile.last) for tile in given])

    def _archive_missing(self, base: int) -> None:
        """The log begins at `base`, behind where it was read: what is not there any more is done with."""
        wanted = self.next_fetch_offset()
        if wanted >= base:
            return
        self._cut(base)
        for tile in self._within(wanted, base - 1):
            if tile.is_free:
                tile.become(_ARCHIVED, tile.deliveries)
        self._advance()
        if not self._tiles:
            self.start_offset = self.next_offset = max(base, self.next_offset)

    def _add(self, log: Sequence[Span], last: int, batch_size: int) -> list[Tile]:
        """Take in the offsets up to `last`, in tiles that end with batches of the log."""
        added = []
        first = self.next_offset
        for batch in log:
            if batch.first > last:
                break
            if batch.first - first >= batch_size:
                added.append(Tile(first, batch.first - 1, _AVAILABLE, 0))
                first = batch.first
        added.append(Tile(first, last, _AVAILABLE, 0))
        self._tiles += added
        self.next_offset = last + 1
        return added

    def _without(self, aborted: Sequence[Span], given: Sequence[Span]) -> list[Acquired]:
        """Archive what is of aborted transactions among `given`; the rest."""
        for batch in aborted:
            for first, last in given:
                first, last = max(first, batch.first), min(last, batch.last)
                if first <= last:
                    index = self._cut(first)
                    for tile in self._tiles[index : self._cut(last + 1)]:
                        tile.become(_ARCHIVED, tile.deliveries)
        left = [
            Acquired(tile.first, tile.last, tile.deliveries)
            for first, last in given
            for tile in self._within(first, last)
            if tile.state is _ACQUIRED
        ]
        self._advance()
        return left

    # Acknowledging.

    def acknowledge(self, member: str, acknowledgements: Iterable[Acknowledgement]) -> Change:
        """Decide what `member` says of records that it has: all of it or nothing. What lies below the start is passed over.

        Raises KafkaError: INVALID_RECORD_STATE for what it has not, INVALID_REQUEST for what was never given out and for
        types that there are not.
        """
        change = Change()
        try:
            for first, last, types in acknowledgements:
                if not all(kind in BECOMES for kind in types):
                    raise KafkaError(ErrorCode.INVALID_REQUEST, f"Invalid acknowledge type: {list(types)[:20]}")
                if last >= self.start_offset:
                    self._check_bounds(first, last)
                    for span, kind in runs(first, last, types):
                        self._decide(member, span, kind, change)
        except KafkaError:
            self.failed(change)
            raise
        return change

    def _check_bounds(self, first: int, last: int) -> None:
        if not self._tiles:
            raise KafkaError(
                ErrorCode.INVALID_RECORD_STATE,
                "Batch record not found. The request batch offsets are not found in the cache.",
            )
        for place, offset in (("first", first), ("last", last)):
            if offset >= self.next_offset:
                raise KafkaError(
                    ErrorCode.INVALID_REQUEST,
                    f"Batch record not found. The {place} offset in request is past acquired records.",
                )

    def _decide(self, member: str, span: Span, kind: int, change: Change) -> None:
        first, last = max(span.first, self.start_offset), span.last
        if first > last:
            return
        for tile in self._within(first, last):
            if tile.state is not _ACQUIRED:
                raise KafkaError(
                    ErrorCode.INVALID_RECORD_STATE,
                    "The batch cannot be acknowledged. The batch is not in the acquired state.",
                )
            if tile.member != member:
                raise KafkaError(ErrorCode.INVALID_RECORD_STATE, "Member is not the owner of batch record")
        begin = self._cut(first)
        for tile in self._tiles[begin : self._cut(last + 1)]:
            tile.before = Before(tile.state, tile.deliveries, tile.member, tile.deadline)
            state = BECOMES[kind]
            if state is _AVAILABLE and tile.deliveries >= self._max_deliveries:
                state = _ARCHIVED
            change.batches.append(tile.become(state, tile.deliveries))
            change.tiles.append(Span(tile.first, tile.last))

    def committed(self, change: Change) -> None:
        """What was decided is in the log: it counts."""
        for first, last in change.tiles:
            for tile in self._within(first, last):
                tile.before = None
        self._advance()
        self._join()

    def failed(self, change: Change) -> None:
        """It did not get there: the member has its records as before, up to their deadline."""
        for first, last in change.tiles:
            for tile in self._within(first, last):
                if tile.before is not None:
                    tile.state, tile.deliveries, tile.member, tile.deadline = tile.before
                    tile.before = None
                    if not self._wakeups or tile.deadline < self._wakeups[0]:
                        heappush(self._wakeups, tile.deadline)

    # Giving back.

    def release(self, member: str) -> list[StateBatch]:
        """The member's session is over: what it has is available again, as if it had not been given to it. What to write."""
        return [
            tile.become(_AVAILABLE, tile.deliveries - 1)
            for tile in self._tiles
            if tile.state is _ACQUIRED and tile.member == member
        ]

    def expire(self, now: int) -> list[StateBatch]:
        """Take back what was not acknowledged in time. What to write."""
        while self._wakeups and self._wakeups[0] <= now:
            heappop(self._wakeups)
        written = [
            tile.become(_ARCHIVED if tile.deliveries >= self._max_deliveries else _AVAILABLE, tile.deliveries)
            for tile in self._tiles
            if tile.state is _ACQUIRED and tile.deadline <= now
        ]
        if written:
            self._advance()
        return written

    def log_starts_at(self, offset: int) -> None:
        """What lies below `offset` is not in the log any more, whoever has it."""
        if offset <= self.start_offset:
            return
        if offset >= self.next_offset:
            self._tiles.clear()
            self.next_offset = offset
        else:
            del self._tiles[: self._cut(offset)]
        self.start_offset = offset
        self._advance()

    # Tiles.

    def _index(self, offset: int) -> int:
        """The index of the tile that `offset` is in; 0 below the start, behind the last one beyond it."""
        return (
            max(0, bisect_right(self._tiles, offset, key=by_first) - 1)
            if offset < self.next_offset
            else len(self._tiles)
        )

    def _cut(self, offset: int) -> int:
        """The index of the tile that begins at `offset`, where one begins from now on."""
        index = self._index(offset)
        if index == len(self._tiles):
            return index
        tile = self._tiles[index]
        if offset <= tile.first:
            return index
        rest = Tile(offset, tile.last, tile.state, tile.deliveries, tile.member, tile.deadline)
        rest.before = tile.before
        tile.last = offset - 1
        self._tiles.insert(index + 1, rest)
        return index + 1

    def _within(self, first: int, last: int) -> Iterator[Tile]:
        """The tiles that have any of these offsets."""
        for index in range(self._index(first), len(self._tiles)):
            tile = self._tiles[index]
            if tile.first > last:
                return
            yield tile

    def _advance(self) -> None:
        """Move the start over what is done with."""
        over = 0
        while over < len(self._tiles) and self._tiles[over].is_over:
            over += 1
        del self._tiles[:over]
        self.start_offset = self._tiles[0].first if self._tiles else self.next_offset

    def _join(self) -> None:
        """Make one tile of neighbours that are done with alike."""
        joined: list[Tile] = []
        for tile in self._tiles:
            if joined and tile.is_over and joined[-1].is_over and joined[-1].state is tile.state:
                joined[-1].last = tile.last
            else:
                joined.append(tile)
        self._tiles = joined
