"""All share partitions of one partition of `__share_group_state`: what is kept of them, decisions and replay (KIP-932).

A decision returns the record to write; only its replay changes anything. Of one share partition, one record is on its way at
a time (`chronik.coordinator.share_state_partition`), so each decision stands on what is in the log.

Of several statements about one record the one with more deliveries stands, and of those the higher state: what leaders decide
about a record goes that way only.

An update costs what changed; after some of them a snapshot says all of it, and what stands before the oldest snapshot that is
needed can go: `redundant_before`.

Pure. Sources: KIP-932; the checks and codes of Kafka 4.1.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

from chronik.coordinator.settings import ShareSettings
from chronik.coordinator.share_records import ShareEntry, SnapshotValue, UpdateValue, from_batches, to_batches
from chronik.errors import ErrorCode, KafkaError
from chronik.model import SharePartitionKey, ShareState, StateBatch, Uuid
from chronik.wire.records import NO_PRODUCER_ID

UNKNOWN = -1
"""A start offset that nobody has decided yet, and an epoch that a request leaves as it is."""


class Kept(NamedTuple):
    """What is known of a share partition, as the log has it. Times are in ms since 1970."""

    snapshot_epoch: int
    state_epoch: int
    leader_epoch: int
    start_offset: int
    batches: tuple[StateBatch, ...]
    created_ms: int = 0
    written_ms: int = 0

    @property
    def state(self) -> ShareState:
        """What a leader of the partition wants to know."""
        return ShareState(self.state_epoch, self.start_offset, self.batches)


class Summary(NamedTuple):
    """A share partition without its batches."""

    state_epoch: int
    leader_epoch: int
    start_offset: int


_NOTHING = Summary(0, 0, UNKNOWN)
_first, _last = attrgetter("first"), attrgetter("last")


class ShareShard:
    """One partition's share partitions. `exists` says whether a topic has a partition."""

    def __init__(self, settings: ShareSettings, exists: Callable[[Uuid, int], bool]) -> None:
        self.settings = settings
        self.kept: dict[SharePartitionKey, Kept] = {}
        self._exists = exists
        self._leader_epochs: dict[SharePartitionKey, int] = {}
        self._state_epochs: dict[SharePartitionKey, int] = {}
        self._updates: dict[SharePartitionKey, int] = {}  # since the last snapshot
        self._snapshots: dict[SharePartitionKey, int] = {}  # offsets of the last one
        self._end = 0

    # The log.

    def replay(self, entry: ShareEntry, offset: int = -1, producer_id: int = NO_PRODUCER_ID) -> None:
        """Take over the record at `offset`, in the order of the log."""
        key, value = entry
        self._end = offset + 1
        if value is None:
            for known in (self.kept, self._leader_epochs, self._state_epochs, self._updates, self._snapshots):
                known.pop(key, None)
            return
        self._leader_epochs[key] = max(value.leader_epoch, self._leader_epochs.get(key, value.leader_epoch))
        if isinstance(value, SnapshotValue):
            self._state_epochs[key] = max(value.state_epoch, self._state_epochs.get(key, value.state_epoch))
            self._updates[key] = 0
            self._snapshots[key] = offset
            self.kept[key] = Kept(
                value.snapshot_epoch,
                value.state_epoch,
                value.leader_epoch,
                value.start_offset,
                combined(from_batches(value.state_batches), value.start_offset),
                value.create_timestamp,
                value.write_timestamp,
            )
            return
        self._updates[key] = self._updates.get(key, 0) + 1
        self._snapshots.setdefault(key, offset)
        before = self.kept.get(key) or Kept(value.snapshot_epoch, 0, value.leader_epoch, value.start_offset, ())
        self.kept[key] = _updated(before, value.leader_epoch, value.start_offset, from_batches(value.state_batches))

    def end_transaction(self, producer_id: int, committed: bool) -> None:
        """Nothing here is written in transactions."""

    def opening(self, now: int) -> Iterator[None]:
        """The log is read: nothing is to be brought to life."""
        return iter(())

    def begin(self, entries: Sequence[ShareEntry]) -> None:
        """These records are being appended."""

    def end(self, entries: Sequence[ShareEntry]) -> None:
        """The append of these records came to its end."""

    def held(self) -> str:
        """How many share partitions there are, for the node's log."""
        return f"{len(self.kept)} share partitions" if self.kept else ""

    # Decisions.

    def initialise(self, key: SharePartitionKey, state_epoch: int, start_offset: int, now_ms: int) -> ShareEntry:
        """Keep a share partition from now on, or anew. Raises KafkaError(FENCED_STATE_EPOCH, ...)."""
        _check_key(key)
        if state_epoch != UNKNOWN and self._state_epochs.get(key, state_epoch) > state_epoch:
            raise _fenced_state(key)
        self._check_exists(key)
        known = self.kept.get(key)
        kept = Kept(0 if known is None else known.snapshot_epoch + 1, state_epoch, 0, start_offset, (), now_ms, now_ms)
        return ShareEntry(key, _snapshot(kept))

    def write(
        self,
        key: SharePartitionKey,
        state_epoch: int,
        leader_epoch: int,
        start_offset: int,
        batches: Sequence[StateBatch],
        now_ms: int,
    ) -> ShareEntry:
        """Keep what became of records. Raises KafkaError: INVALID_REQUEST for what is not kept, FENCED_LEADER_EPOCH, ..."""
        _check_key(key)
        known = self.kept.get(key)
        if known is None:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "Write operation on uninitialized share partition not allowed.")
        if leader_epoch != UNKNOWN and self._leader_epochs[key] > leader_epoch:
            raise _fenced_leader(key)
        if state_epoch != UNKNOWN and self._state_epochs.get(key, state_epoch) > state_epoch:
            raise _fenced_state(key)
        self._check_exists(key)
        return self._record(key, known, state_epoch, leader_epoch, start_offset, batches, now_ms)

    def _record(
        self,
        key: SharePartitionKey,
        known: Kept,
        state_epoch: int,
        leader_epoch: int,
        start_offset: int,
        batches: Sequence[StateBatch],
        now_ms: int,
    ) -> ShareEntry:
        """What says so: an update, or now and then a snapshot."""
        is_due = self._updates.get(key, 0) >= self.settings.share_coordinator_snapshot_update_records_per_snapshot
        if not is_due and state_epoch <= known.state_epoch:
            update = UpdateValue(
                snapshot_epoch=known.snapshot_epoch,
                leader_epoch=leader_epoch,
                start_offset=start_offset,
                state_batches=to_batches(combined(batches, start_offset)),
            )
            return ShareEntry(key, update)
        after = _updated(known, leader_epoch, start_offset, batches)._replace(
            snapshot_epoch=known.snapshot_epoch + 1,
            state_epoch=known.state_epoch if state_epoch == UNKNOWN else state_epoch,
            created_ms=now_ms,
            written_ms=now_ms,
        )
        return ShareEntry(key, _snapshot(after))

    def read(self, key: SharePartitionKey, leader_epoch: int, now_ms: int) -> tuple[ShareEntry | None, ShareState]:
        """What is kept of a share partition, for its leader: older ones are fenced from then on. Raises KafkaError."""
        _check_key(key)
        known = self.kept.get(key)
        if known is None:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "Read operation on uninitialized share partition not allowed.")
        if self._leader_epochs[key] > leader_epoch:
            raise _fenced_leader(key)
        self._check_exists(key)
        if self._leader_epochs[key] == leader_epoch:
            return None, known.state
        entry = self._record(key, known, known.state_epoch, leader_epoch, known.start_offset, (), now_ms)
        return entry, known.state

    def summary(self, key: SharePartitionKey) -> Summary:
        """Where a share partition starts. Raises KafkaError(UNKNOWN_TOPIC_OR_PARTITION, INVALID_REQUEST)."""
        _check_key(key)
        self._check_exists(key)
        kept = self.kept.get(key)
        return _NOTHING if kept is None else Summary(kept.state_epoch, kept.leader_epoch, kept.start_offset)

    def delete(self, key: SharePartitionKey) -> ShareEntry | None:
        """Keep a share partition no longer; None where it is not kept anyway. Raises KafkaError."""
        _check_key(key)
        self._check_exists(key)
        return ShareEntry(key, None) if key in self.kept else None

    def _check_exists(self, key: SharePartitionKey) -> None:
        if not self._exists(key.topic_id, key.partition):
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition.")

    # Tidying up.

    def of_topics(self, topic_ids: Iterable[Uuid]) -> list[ShareEntry]:
        """The records that end all share partitions of topics."""
        gone = frozenset(topic_ids)
        return [ShareEntry(key, None) for key in self.kept if key.topic_id in gone]

    def cold(self, written_before_ms: int) -> list[SharePartitionKey]:
        """Share partitions whose last snapshot is older, where it keeps much from being deleted."""
        if self._end - min(self._snapshots.values(), default=self._end) <= 1000 + 10 * len(self.kept):
            return []
        return [key for key, kept in self.kept.items() if kept.written_ms <= written_before_ms]

    def refresh(self, key: SharePartitionKey, now_ms: int) -> ShareEntry | None:
        """A snapshot of a share partition as it is; None where it is gone."""
        known = self.kept.get(key)
        if known is None:
            return None
        return ShareEntry(key, _snapshot(known._replace(snapshot_epoch=known.snapshot_epoch + 1, written_ms=now_ms)))

    def redundant_before(self) -> int:
        """The offset below which nothing in the log is needed."""
        return min(self._snapshots.values(), default=self._end)


def combined(batches: Iterable[StateBatch], start_offset: int) -> tuple[StateBatch, ...]:
    """What `batches` say together of the records from `start_offset` on (-1: of all): in order, without overlaps."""
    waiting = sorted(batch for batch in batches if batch.last >= max(start_offset, batch.first))
    waiting.reverse()
    stops = sorted({edge for batch in waiting for edge in (max(batch.first, start_offset), batch.last + 1)})
    out: list[StateBatch] = []
    said: list[tuple[int, int, int]] = []  # a heap of (-deliveries, -state, last)
    for first, stop in pairwise(stops):
        while waiting and waiting[-1].first <= first:
            batch = waiting.pop()
            heappush(said, (-batch.deliveries, -batch.state, batch.last))
        while said and said[0][2] < first:
            heappop(said)
        if said:
            deliveries, state = -said[0][0], -said[0][1]
            before = out[-1] if out else None
            if before is not None and before[1:] == (first - 1, state, deliveries):
                out[-1] = before._replace(last=stop - 1)
            else:
                out.append(StateBatch(first, stop - 1, state, deliveries))
    return tuple(out)


def merged(known: Sequence[StateBatch], news: Sequence[StateBatch], start_offset: int) -> tuple[StateBatch, ...]:
    """As `combined` of both, where `known` is that already: only what `news` touch is looked at."""
    begin = bisect_left(known, start_offset, key=_last)
    if not news:
        return tuple(_cut(known[begin:], start_offset))
    low, high = min(each.first for each in news), max(each.last for each in news)
    left = max(
        begin, bisect_left(known, low, key=_last) - 1
    )  # with the neighbours: they may become one with what is new
    right = max(left, bisect_right(known, high, key=_first)) + 1
    touched = combined((*known[left:right], *news), start_offset)
    return (*_cut(known[begin:left], start_offset), *touched, *known[right:])


def _cut(batches: Sequence[StateBatch], start_offset: int) -> Sequence[StateBatch]:
    if batches and batches[0].first < start_offset:
        return (batches[0]._replace(first=start_offset), *batches[1:])
    return batches


def _updated(before: Kept, leader_epoch: int, start_offset: int, batches: Iterable[StateBatch]) -> Kept:
    start = before.start_offset if start_offset == UNKNOWN else start_offset
    return before._replace(
        leader_epoch=before.leader_epoch if leader_epoch == UNKNOWN else leader_epoch,
        start_offset=start,
        batches=merged(before.batches, tuple(batches), start),
    )


def _snapshot(kept: Kept) -> SnapshotValue:
    return SnapshotValue(
        snapshot_epoch=kept.snapshot_epoch,
        state_epoch=kept.state_epoch,
        leader_epoch=kept.leader_epoch,
        start_offset=kept.start_offset,
        create_timestamp=kept.created_ms,
        write_timestamp=kept.written_ms,
        state_batches=to_batches(kept.batches),
    )


def _check_key(key: SharePartitionKey) -> None:
    if key.partition < 0:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "The partition id cannot be a negative number.")


def _fenced_leader(key: SharePartitionKey) -> KafkaError:
    return KafkaError(ErrorCode.FENCED_LEADER_EPOCH, f"{key} has a leader of a newer epoch")


def _fenced_state(key: SharePartitionKey) -> KafkaError:
    return KafkaError(ErrorCode.FENCED_STATE_EPOCH, f"{key} was set up anew in a newer epoch")
