"""Committed offsets: what groups have committed, what may be committed, and what has expired.

Pure. Decisions return the records to append and never change anything; `OffsetStore.replay` and `end_transaction`, which
follow the log, alone do. An offset whose commit is on its way to the log counts as present for deletion and as fresh for
expiry: `begin` and `end` mark it. So does one that a transaction has committed which is not over yet.

Of an offset that a transaction commits and one committed outside of it in the meantime, the later record counts,
wherever the marker is: compaction may have moved that closer.

Sources: KIP-211 (when offsets expire), KIP-496 (OffsetDelete), KIP-320 (leader epochs).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from chronik.coordinator.effects import GroupState
from chronik.coordinator.group import Group
from chronik.coordinator.pending import PendingOffsets
from chronik.coordinator.records import NO_TIMESTAMP, Entry, OffsetCommitKey, OffsetCommitValue
from chronik.errors import ErrorCode
from chronik.model import TopicPartition
from chronik.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from chronik.wire.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
)
from chronik.wire.records import NO_PRODUCER_ID

NO_RETENTION_OF_ITS_OWN = -1
FETCHED_AT_ONCE = 2_000
"""Offsets that are looked up in one piece, in about a millisecond."""


class Committed(NamedTuple):
    """One committed offset. Times are in ms since 1970; `expires_ms` is -1 unless the client set a retention."""

    offset: int
    leader_epoch: int
    metadata: str
    committed_ms: int
    expires_ms: int = NO_TIMESTAMP
    record_offset: int = -1
    """Where its record is in the log."""


class FetchedOffset(NamedTuple):
    """What is answered of one partition: an offset or none, or that a transaction is about to replace it."""

    place: TopicPartition
    committed: Committed | None
    is_unstable: bool = False


class OffsetStore:
    """Offsets by group, topic and partition."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[TopicPartition, Committed]] = {}
        self._in_flight: dict[str, Counter[TopicPartition]] = {}
        self.pending: PendingOffsets[Committed] = PendingOffsets()

    def get(self, group_id: str, topic: str, partition: int) -> Committed | None:
        """What the group last committed there."""
        group = self._groups.get(group_id)
        return None if group is None else group.get(TopicPartition(topic, partition))

    def all(self, group_id: str) -> dict[TopicPartition, Committed]:
        """Everything the group has committed; not to be changed."""
        return self._groups.get(group_id, {})

    def groups(self) -> Iterator[str]:
        """The groups that have offsets, or would have if a transaction were committed."""
        return iter(dict.fromkeys((*self._groups, *self.pending.groups())))

    def replay(
        self, key: OffsetCommitKey, value: OffsetCommitValue | None, record_offset: int, producer_id: int
    ) -> None:
        """Take over one record of the log; `producer_id` is not -1 when it is part of a transaction."""
        where = TopicPartition(key.topic, key.partition)
        if value is not None:
            committed = Committed(
                value.offset,
                value.leader_epoch,
                value.metadata,
                value.commit_timestamp,
                value.expire_timestamp,
                record_offset,
            )
            if producer_id == NO_PRODUCER_ID:
                self._groups.setdefault(key.group, {})[where] = committed
            else:
                self.pending.add(producer_id, key.group, where, committed)
            return
        self.pending.forget(key.group, where)
        group = self._groups.get(key.group)
        if group is not None:
            group.pop(where, None)
            if not group:
                del self._groups[key.group]

    def end_transaction(self, producer_id: int, is_committed: bool) -> None:
        """Take over a marker of the log."""
        for group_id, where, committed in self.pending.take(producer_id):
            if is_committed:
                offsets = self._groups.setdefault(group_id, {})
                known = offsets.get(where)
                if known is None or known.record_offset < committed.record_offset:
                    offsets[where] = committed

    def begin(self, entries: Iterable[Entry]) -> None:
        """These records are being appended."""
        for key, value in entries:
            if value is not None and isinstance(key, OffsetCommitKey):
                counts = self._in_flight.setdefault(key.group, Counter())
                counts[TopicPartition(key.topic, key.partition)] += 1

    def end(self, entries: Iterable[Entry]) -> None:
        """The append of these records came to its end, one way or the other."""
        for key, value in entries:
            if value is not None and isinstance(key, OffsetCommitKey):
                counts = self._in_flight[key.group]
                where = TopicPartition(key.topic, key.partition)
                counts[where] -= 1
                if not counts[where]:
                    del counts[where]
                if not counts:
                    del self._in_flight[key.group]

    def is_in_flight(self, group_id: str, where: TopicPartition | None = None) -> bool:
        """Whether a commit of the group, to `where` or anywhere, is on its way to the log."""
        counts = self._in_flight.get(group_id)
        return counts is not None and (where is None or where in counts)

    def fetched(
        self, group_id: str, wanted: Sequence[TopicPartition] | None, require_stable: bool
    ) -> Iterator[list[FetchedOffset]]:
        """What is answered of the `wanted` partitions, None for everywhere: some at a time, as it is at that time.

        With `require_stable` an offset that a transaction is about to replace is not told.
        """
        places = list(self.all(group_id)) if wanted is None else wanted
        for start in range(0, len(places), FETCHED_AT_ONCE):
            offsets = self.all(group_id)
            yield [
                FetchedOffset(place, None, is_unstable=True)
                if require_stable and self.pending.has(group_id, place)
                else FetchedOffset(place, offsets.get(place))
                for place in places[start : start + FETCHED_AT_ONCE]
            ]

    def known(self, group_id: str) -> list[TopicPartition]:
        """Where the group has an offset, or is about to have one."""
        return list(
            dict.fromkeys((*self.all(group_id), *self._in_flight.get(group_id, ()), *self.pending.of_group(group_id)))
        )

    def tombstones(self, group_id: str, where: Iterable[TopicPartition]) -> list[Entry]:
        """The records that delete those of `where` that the group has."""
        known = set(self.known(group_id))
        return [tombstone(group_id, place) for place in where if place in known]

    def of_topics(self, names: Collection[str], until_ms: int) -> Iterator[Entry | None]:
        """The records that delete every group's offsets of these topics that were committed up to `until_ms`.

        A step an offset, None for one that stays; anything may happen to the offsets between two steps.
        """
        for group_id in list(self.groups()):
            for place, committed in (self.pending.of_group(group_id) | self.all(group_id)).items():
                ours = place.topic in names and committed.committed_ms <= until_ms
                yield tombstone(group_id, place) if ours else None

    def expired(self, group: Group, emptied_ms: int, now_ms: int, retention_ms: int) -> tuple[list[Entry], bool]:
        """The records that delete the group's expired offsets, and whether it then has none left.

        A group without members keeps its offsets for the retention since it became empty, at `emptied_ms` (-1 when that is not
        known). A stable consumer group loses those of topics that it no longer subscribes to, a consumer without
        group membership all, each the retention after its commit. Other groups lose none.
        """
        offsets = self.all(group.group_id)
        roster = group.roster
        pending = self.pending
        if not offsets:
            return [], not self.is_in_flight(group.group_id) and not pending.has(group.group_id)
        since_emptied = roster.protocol_type is not None and group.state is GroupState.EMPTY
        if roster.protocol_type is not None and not since_emptied:
            known = roster.is_consumer and roster.subscribed is not None
            if not known or group.state is not GroupState.STABLE:
                return [], False
        entries = []
        for place, committed in offsets.items():
            base = emptied_ms if since_emptied and emptied_ms != NO_TIMESTAMP else committed.committed_ms
            due = committed.expires_ms if committed.expires_ms != NO_TIMESTAMP else base + retention_ms
            if now_ms < due or roster.subscribes_to(place.topic):
                continue
            if not self.is_in_flight(group.group_id, place) and not pending.has(group.group_id, place):
                entries.append(tombstone(group.group_id, place))
        none_left = len(entries) == len(offsets)
        return entries, none_left and not self.is_in_flight(group.group_id) and not pending.has(group.group_id)


def tombstone(group_id: str, where: TopicPartition) -> Entry:
    """The record that deletes one offset."""
    return Entry(OffsetCommitKey(group=group_id, topic=where.topic, partition=where.partition), None)


def commit(
    request: OffsetCommitRequest, now_ms: int, metadata_max_bytes: int
) -> tuple[list[Entry], OffsetCommitResponse]:
    """The records and the answer of a commit that its group allows. Metadata that is too long is refused one by one."""
    retention = request.retention_time_ms
    expires = NO_TIMESTAMP if retention == NO_RETENTION_OF_ITS_OWN else now_ms + retention
    entries: list[Entry] = []
    topics = []
    for topic in request.topics:
        codes = _commit(entries, request.group_id, topic, now_ms, expires, metadata_max_bytes)
        partitions = [OffsetCommitResponsePartition(partition_index=index, error_code=code) for index, code in codes]
        topics.append(OffsetCommitResponseTopic(name=topic.name, partitions=partitions))
    return entries, OffsetCommitResponse(topics=topics)


def commit_in_transaction(
    request: TxnOffsetCommitRequest, now_ms: int, metadata_max_bytes: int
) -> tuple[list[Entry], TxnOffsetCommitResponse]:
    """As `commit`, of offsets that count when the transaction is committed."""
    entries: list[Entry] = []
    topics = []
    for topic in request.topics:
        codes = _commit(entries, request.group_id, topic, now_ms, NO_TIMESTAMP, metadata_max_bytes)
        partitions = [TxnOffsetCommitResponsePartition(partition_index=index, error_code=code) for index, code in codes]
        topics.append(TxnOffsetCommitResponseTopic(name=topic.name, partitions=partitions))
    return entries, TxnOffsetCommitResponse(topics=topics)


def _commit(
    entries: list[Entry],
    group_id: str,
    topic: OffsetCommitRequestTopic | TxnOffsetCommitRequestTopic,
    now_ms: int,
    expires_ms: int,
    metadata_max_bytes: int,
) -> list[tuple[int, ErrorCode]]:
    """Add the records of one topic to `entries`; (partition, code) for each of its partitions."""
    codes = []
    for item in topic.partitions:
        metadata, code = item.committed_metadata or "", ErrorCode.NONE
        if _utf16_units(metadata) > metadata_max_bytes:
            code = ErrorCode.OFFSET_METADATA_TOO_LARGE
        else:
            entries.append(
                Entry(
                    OffsetCommitKey(group=group_id, topic=topic.name, partition=item.partition_index),
                    OffsetCommitValue(
                        offset=item.committed_offset,
                        leader_epoch=item.committed_leader_epoch,
                        metadata=metadata,
                        commit_timestamp=now_ms,
                        expire_timestamp=expires_ms,
                    ),
                )
            )
        codes.append((item.partition_index, code))
    return codes


def _utf16_units(text: str) -> int:
    """The length of `text` as Kafka measures it: in Java characters, not in bytes."""
    return len(text) if text.isascii() else len(text.encode("utf-16-be", "surrogatepass")) // 2
