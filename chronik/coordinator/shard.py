"""All groups of one partition of `__consumer_offsets`: decisions, replay, expiry. Pure.

Two kinds of state. What is in the log, `stored` (groups at their last stable generation) and `offsets`, changes by `replay`
alone. The live `groups` with their members and waiting requests stand on top of it; they are made from the stored ones
by `opening`, and end with `close`. A decision that must survive returns a `Decision`: records, and the answer that is due once
they are in the log.

Those are the classic groups. Groups of the consumer protocol are in `consumers` (`chronik.coordinator.consumer_shard`); a group
id is in the one or the other. While a group changes from one to the other, its requests wait there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from chronik.coordinator import offsets
from chronik.coordinator.consumer_describe import check_commit, consumer_listing, expired_offsets
from chronik.coordinator.consumer_group import ConsumerGroup
from chronik.coordinator.consumer_shard import ConsumerGroups
from chronik.coordinator.deadlines import Deadlines
from chronik.coordinator.effects import Answer, Effect, Effects, GroupState, Joiner, Store, join_refused
from chronik.coordinator.group import Group
from chronik.coordinator.offsets import OffsetStore
from chronik.coordinator.records import (
    NO_TIMESTAMP,
    Entry,
    GroupMetadataKey,
    GroupMetadataValue,
    OffsetCommitKey,
    OffsetCommitValue,
)
from chronik.coordinator.settings import GroupSettings
from chronik.coordinator.subscriptions import Topics
from chronik.errors import ErrorCode, KafkaError
from chronik.model import TopicPartition
from chronik.wire.messages.describe_groups import DescribedGroup, DescribedGroupMember
from chronik.wire.messages.join_group import JoinGroupRequest
from chronik.wire.messages.leave_group import MemberIdentity, MemberResponse
from chronik.wire.messages.list_groups import ListedGroup
from chronik.wire.messages.offset_commit import OffsetCommitRequest, OffsetCommitResponse
from chronik.wire.messages.sync_group import SyncGroupRequest
from chronik.wire.messages.txn_offset_commit import TxnOffsetCommitRequest, TxnOffsetCommitResponse
from chronik.wire.records import NO_PRODUCER_ID

CLASSIC = "classic"
CONSUMER = "consumer"
_LOOK_AGAIN_MS = 100
"""After this long a group whose deadline has passed while it changed its protocol is looked at again."""

_GROUP_ID_NOT_FOUND_SINCE = 9  # of OffsetCommit


class Decision(NamedTuple):
    """Records to append in one batch, and the answer once they are committed."""

    entries: list[Entry]
    response: OffsetCommitResponse


class TransactionalDecision(NamedTuple):
    """As `Decision`, for records that belong to a transaction."""

    entries: list[Entry]
    response: TxnOffsetCommitResponse


class Shard:
    """One partition's groups. `now` is a clock for deadlines, `wall_ms` the time since 1970; both in ms."""

    def __init__(self, settings: GroupSettings, topics: Topics, wall_clock_ms: Callable[[], int]) -> None:
        self.settings = settings
        self.stored: dict[str, GroupMetadataValue] = {}
        self.offsets = OffsetStore()
        self.groups: dict[str, Group] = {}
        self.consumers = ConsumerGroups(settings, topics, wall_clock_ms, self.groups)
        self._deadlines: Deadlines[str] = Deadlines()
        self._live = False
        self._now = 0  # when a group was last asked or expired

    # The log.

    def replay(self, entry: Entry, offset: int = -1, producer_id: int = NO_PRODUCER_ID) -> None:
        """Take over the record at `offset`, in the order of the log; of a transaction if there is a `producer_id`."""
        key, value = entry
        if isinstance(key, OffsetCommitKey):
            assert value is None or isinstance(value, OffsetCommitValue)
            self.offsets.replay(key, value, offset, producer_id)
            if self._live and value is not None and not self._has(key.group):
                self.groups[key.group] = Group(key.group, self.settings)
        elif not isinstance(key, GroupMetadataKey):
            assert not isinstance(value, OffsetCommitValue | GroupMetadataValue)
            self.consumers.replay(key, value)
            if value is not None and self.groups.pop(key.group, None) is not None:
                self._deadlines.cancel(key.group)  # it has changed its protocol; nobody waits in it
            elif self._live and value is None and not self._has(key.group) and self._has_offsets(key.group):
                self.groups[key.group] = Group(key.group, self.settings)
        elif isinstance(value, GroupMetadataValue):
            self.stored[key.group] = value
            if self._live and key.group not in self.groups:
                self._changed_back(key.group, value)
        else:
            self.stored.pop(key.group, None)
            group = self.groups.get(key.group)
            if group is not None and group.is_unused and not self._has_offsets(key.group):
                del self.groups[key.group]

    def _has(self, group_id: str) -> bool:
        return group_id in self.groups or group_id in self.consumers.groups

    def _changed_back(self, group_id: str, value: GroupMetadataValue) -> None:
        """A consumer group has become a classic one: its members have to join again."""
        group = self.groups[group_id] = Group.restored(group_id, value, self.settings, self._now)
        if value.members:
            group.rebalance(self._now)
        self._settle(group_id)

    def _has_offsets(self, group_id: str) -> bool:
        return bool(self.offsets.all(group_id)) or self.offsets.pending.has(group_id)

    def end_transaction(self, producer_id: int, committed: bool) -> None:
        """Take over a marker, in the order of the log: what the producer's transaction committed counts, or is gone."""
        self.offsets.end_transaction(producer_id, committed)

    def opening(self, now: int) -> Iterator[None]:
        """The log is read: bring the groups to life, a step a group. Nothing else may happen to the shard meanwhile."""
        self._now = now
        yield from self.consumers.opening(now)
        for group_id, value in self.stored.items():
            self.groups[group_id] = Group.restored(group_id, value, self.settings, now)
            self._settle(group_id)
            yield
        for group_id in self.offsets.groups():
            if not self._has(group_id):
                self.groups[group_id] = Group(group_id, self.settings)
            yield
        self._live = True

    def close(self, error: ErrorCode) -> Effects:
        """The groups live elsewhere from now on: whoever waits gets `error`."""
        self._live = False
        effects = [effect for group in self.groups.values() for effect in group.die(error)]
        self.groups.clear()
        self._deadlines = Deadlines()
        return effects + self.consumers.close(KafkaError(error, "the group is coordinated elsewhere"))

    def begin(self, entries: Sequence[Entry]) -> None:
        """These records are being appended."""
        self.offsets.begin(entries)

    def end(self, entries: Sequence[Entry]) -> None:
        """The append of these records came to its end, one way or the other."""
        self.offsets.end(entries)

    def held(self) -> str:
        """How many groups there are, for the node's log."""
        groups = len(self.group_ids())
        return f"{groups} groups" if groups else ""

    def store_entry(self, store: Store, wall_ms: int) -> Entry:
        """The record that a `Store` effect asks for."""
        store.value.current_state_timestamp = wall_ms
        return Entry(GroupMetadataKey(group=store.group.group_id), store.value)

    def stored_or_failed(self, store: Store, error: ErrorCode | None, now: int) -> Effects:
        """Report the end of a `Store` effect to its group."""
        group_id = store.group.group_id
        effects = store.group.stored(store, error, now)
        self._settle(group_id, effects)
        return effects + self.consumers.classic_stored(group_id, now)

    def written(self, group_id: str, error: KafkaError | None, now: int) -> Effects:
        """Report the end of an `Append` effect."""
        self._now = now
        return self.consumers.written(group_id, error, now)

    # Time.

    def next_deadline(self) -> int | None:
        """When `expire` must be called next."""
        classic, consumer = self._deadlines.next(), self.consumers.next_deadline()
        return classic if consumer is None else consumer if classic is None else min(classic, consumer)

    def expire(self, now: int) -> Effects | None:
        """Let one group act on its passed deadlines; None when there is none left that has any."""
        self._now = now
        group_id = self._deadlines.pop(now)
        if group_id is None:
            return self.consumers.expire(now)
        group = self.groups.get(group_id)
        if group is None:
            return []
        if self.consumers.is_changing(group_id):
            self._deadlines.set(group_id, now + _LOOK_AGAIN_MS)
            return []
        effects = group.expire(now)
        self._settle(group_id, effects)
        return effects

    def _settle(self, group_id: str, effects: Sequence[Effect] = ()) -> None:
        """Keep the group's next deadline in view, and what it has on its way to the log."""
        for effect in effects:
            if isinstance(effect, Store):
                self.consumers.classic_storing(group_id)
        group = self.groups.get(group_id)
        deadline = None if group is None else group.next_deadline()
        if deadline is None:
            self._deadlines.cancel(group_id)
        else:
            self._deadlines.set(group_id, deadline)

    # Membership.

    def join(self, request: JoinGroupRequest, joiner: Joiner, token: Any, now: int) -> Effects:
        """JoinGroup. A group comes to be with its first member."""

        def anew(now: int) -> Effects:
            return self.join(request, joiner, token, now)

        if self.consumers.is_changing(request.group_id):
            return self.consumers.take_turn(request.group_id, token, anew, now)
        if request.group_id in self.consumers.groups:
            return self.consumers.join(request, joiner, token, now, anew)
        group = self.groups.get(request.group_id)
        if group is None:
            if request.member_id:
                return [Answer(token, join_refused(request.member_id, ErrorCode.UNKNOWN_MEMBER_ID))]
            group = self.groups[request.group_id] = Group(request.group_id, self.settings)
        effects = group.join(request, joiner, token, now)
        self._settle(request.group_id, effects)
        if group.is_unused and not self._is_kept(request.group_id):
            del self.groups[request.group_id]  # the join was refused: it leaves no group behind
        return effects

    def sync(self, request: SyncGroupRequest, token: Any, now: int) -> Effects:
        """SyncGroup. Raises KafkaError for a request to be refused."""
        if self.consumers.is_changing(request.group_id):
            return self.consumers.take_turn(request.group_id, token, lambda now: self.sync(request, token, now), now)
        if request.group_id in self.consumers.groups:
            return self.consumers.sync(request, token, now)
        effects = self._member_of(request.group_id).sync(request, token, now)
        self._settle(request.group_id, effects)
        return effects

    def heartbeat(self, group_id: str, member_id: str, instance_id: str | None, generation: int, now: int) -> None:
        """Heartbeat. Raises KafkaError for what the member must be told."""
        if group_id in self.consumers.groups:
            self.consumers.classic_heartbeat(group_id, member_id, instance_id, generation, now)
            return
        self._member_of(group_id).heartbeat(member_id, instance_id, generation, now)

    def leave(self, group_id: str, members: list[MemberIdentity], token: Any, now: int) -> Effects:
        """LeaveGroup, already in the form of many members: the answer is a list of `MemberResponse`."""
        if self.consumers.is_changing(group_id):
            return self.consumers.take_turn(group_id, token, lambda now: self.leave(group_id, members, token, now), now)
        if group_id in self.consumers.groups:
            return self.consumers.leave(group_id, members, token)
        group = self.groups.get(group_id)
        if group is None:
            return [Answer(token, [_unknown(member) for member in members])]
        responses, effects = group.leave(members, now)
        self._settle(group_id, effects)
        return [Answer(token, responses), *effects]

    def _member_of(self, group_id: str) -> Group:
        group = self.groups.get(group_id)
        if group is None:
            raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID, f"there is no group {group_id!r:.200}")
        return group

    def _is_kept(self, group_id: str) -> bool:
        return group_id in self.stored or bool(self.offsets.known(group_id))

    # Offsets.

    def commit(self, request: OffsetCommitRequest, version: int, now: int, wall_ms: int) -> Decision:
        """OffsetCommit. Raises KafkaError when the member may not commit at all."""
        group = self.groups.get(request.group_id)
        generation = request.generation_id_or_member_epoch
        consumers = self.consumers.groups.get(request.group_id)
        if consumers is not None:
            check_commit(consumers, request.member_id, generation, version)
        elif group is not None:
            group.check_commit(request.member_id, request.group_instance_id, generation, now)
        elif generation >= 0:
            if version >= _GROUP_ID_NOT_FOUND_SINCE:
                raise KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {request.group_id} not found.")
            raise KafkaError(ErrorCode.ILLEGAL_GENERATION, f"Group {request.group_id} not found.")
        entries, response = offsets.commit(request, wall_ms, self.settings.offset_metadata_max_bytes)
        return Decision(entries, response)

    def commit_in_transaction(self, request: TxnOffsetCommitRequest, wall_ms: int) -> TransactionalDecision:
        """TxnOffsetCommit. Raises KafkaError when the member may not commit at all."""
        group = self.groups.get(request.group_id)
        consumers = self.consumers.groups.get(request.group_id)
        if consumers is not None:
            if request.generation_id >= 0 or request.member_id:
                _check_consumer(consumers, request)
        elif group is not None:
            group.check_transactional_commit(request.member_id, request.group_instance_id, request.generation_id)
        elif request.generation_id >= 0:
            raise KafkaError(ErrorCode.ILLEGAL_GENERATION, f"Group {request.group_id} not found.")
        return TransactionalDecision(
            *offsets.commit_in_transaction(request, wall_ms, self.settings.offset_metadata_max_bytes)
        )

    def delete_offsets(
        self, group_id: str, wanted: Sequence[TopicPartition]
    ) -> tuple[list[Entry], list[tuple[TopicPartition, ErrorCode]]]:
        """OffsetDelete: the records, and a code for each partition. Raises KafkaError(GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP)."""
        consumers = self.consumers.groups.get(group_id)
        if consumers is not None:
            codes = [(place, _deletable(consumers.subscribes_to(place.topic))) for place in dict.fromkeys(wanted)]
            return self.offsets.tombstones(group_id, [place for place, code in codes if not code]), codes
        group = self._existing(group_id)
        busy = group is not None and group.state is not GroupState.EMPTY
        if group is not None and busy and not group.roster.is_consumer:
            raise KafkaError(ErrorCode.NON_EMPTY_GROUP, f"group {group_id!r:.200} has members")
        allowed, codes = [], []
        for place in dict.fromkeys(wanted):
            if group is not None and group.roster.subscribes_to(place.topic):
                codes.append((place, ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC))
            else:
                allowed.append(place)
                codes.append((place, ErrorCode.NONE))
        return self.offsets.tombstones(group_id, allowed), codes

    def delete_group(self, group_id: str) -> list[Entry]:
        """DeleteGroups, for one: the records. Raises KafkaError(GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP).

        To be asked in the group's turn; `written` must be called when they are in the log, or failed.
        """
        tombstones = self.offsets.tombstones(group_id, self.offsets.known(group_id))
        if group_id in self.consumers.groups:
            tombstones += self.consumers.tombstones(group_id).entries
            self.consumers.hold(group_id)
            return tombstones
        group = self._existing(group_id)
        if group is not None and group.state is not GroupState.EMPTY:
            raise KafkaError(ErrorCode.NON_EMPTY_GROUP, f"group {group_id!r:.200} has members")
        self.consumers.hold(group_id)
        return [*tombstones, _group_tombstone(group_id)]

    def _existing(self, group_id: str) -> Group | None:
        """The group; None for one whose first commit is still on its way."""
        group = self.groups.get(group_id)
        if group is None and not self.offsets.is_in_flight(group_id):
            raise KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} not found.")
        return group

    def clean(self, group_id: str, wall_ms: int) -> list[Entry]:
        """The records that delete the group's expired offsets, and a classic group when nothing of it is left."""
        consumers = self.consumers.groups.get(group_id)
        if consumers is not None:
            return expired_offsets(consumers, self.offsets, wall_ms, self.settings.offsets_retention_ms)
        group = self.groups.get(group_id)
        if group is None:
            return []
        stored = self.stored.get(group_id)
        emptied_ms = NO_TIMESTAMP if stored is None or stored.members else stored.current_state_timestamp
        entries, none_left = self.offsets.expired(group, emptied_ms, wall_ms, self.settings.offsets_retention_ms)
        if none_left and group.is_unused:
            entries.append(_group_tombstone(group_id))
        return entries

    def group_ids(self) -> list[str]:
        """Every group, of either protocol."""
        return [*self.groups, *self.consumers.groups]

    def delete_unused(self, group_ids: Iterable[str]) -> Effects:
        """Delete those consumer groups that have neither members nor offsets."""
        return [
            effect
            for group_id in group_ids
            if not self.offsets.known(group_id)
            for effect in self.consumers.delete_unused(group_id)
        ]

    # Looking.

    def list(self, states: Collection[str], types: Collection[str]) -> list[ListedGroup]:
        """ListGroups. Filters are compared without case; an empty one lets all pass, an unknown name none."""
        wanted_types = {name.lower() for name in types}
        wanted = {name.strip().lower() for name in states}
        found = []
        if not types or CONSUMER in wanted_types:
            found += [consumer_listing(group) for group in self.consumers.groups.values()]
        if not types or CLASSIC in wanted_types:
            found += self._classic_listings()
        return [listed for listed in found if not wanted or listed.group_state.lower() in wanted]

    def _classic_listings(self) -> Iterator[ListedGroup]:
        return (
            ListedGroup(
                group_id=group.group_id,
                protocol_type=group.roster.protocol_type or "",
                group_state=group.state.value,
                group_type=CLASSIC,
            )
            for group in self.groups.values()
        )

    def describe(self, group_id: str) -> DescribedGroup | None:
        """DescribeGroups, for one; None when there is no such group. Metadata is shown of stable groups only."""
        group = self.groups.get(group_id)
        if group is None:
            return None
        protocol = (group.roster.protocol_name or "") if group.state is GroupState.STABLE else ""
        return DescribedGroup(
            group_id=group_id,
            group_state=group.state.value,
            protocol_type=group.roster.protocol_type or "",
            protocol_data=protocol,
            members=[
                DescribedGroupMember(
                    member_id=member.member_id,
                    group_instance_id=member.instance_id,
                    client_id=member.client_id,
                    client_host=member.client_host,
                    member_metadata=member.protocols.get(protocol, b""),
                    member_assignment=member.assignment,
                )
                for member in group.roster
            ],
        )


def _check_consumer(group: ConsumerGroup, request: TxnOffsetCommitRequest) -> None:
    """Whether a member of a consumer group may commit in a transaction; its clients know the error of classic groups."""
    try:
        check_commit(group, request.member_id, request.generation_id, _GROUP_ID_NOT_FOUND_SINCE)
    except KafkaError as error:
        if error.code is ErrorCode.STALE_MEMBER_EPOCH:
            raise KafkaError(ErrorCode.ILLEGAL_GENERATION, error.message) from None
        raise


def _deletable(subscribed: bool) -> ErrorCode:
    return ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC if subscribed else ErrorCode.NONE


def _unknown(member: MemberIdentity) -> MemberResponse:
    return MemberResponse(
        member_id=member.member_id,
        group_instance_id=member.group_instance_id,
        error_code=ErrorCode.UNKNOWN_MEMBER_ID,
    )


def _group_tombstone(group_id: str) -> Entry:
    return Entry(GroupMetadataKey(group=group_id), None)
