"""All groups of one partition of `__consumer_offsets`: decisions, replay, expiry. Pure.

Two kinds of state. What is in the log, `stored` (groups at their last stable generation) and `offsets`, changes by `replay`
alone. The live `groups` with their members and waiting requests stand on top of it; they are made from the stored ones
by `opening`, and end with `close`. What is decided about offsets is in `commits` (`chronik.coordinator.commits`).

Those are the classic groups. Groups of the consumer protocol are in `consumers` (`chronik.coordinator.consumer_shard`), share
groups in `shares` (`chronik.coordinator.share_groups`); a group id is in one of them. A group's requests take turns
(`chronik.coordinator.turns`): while it changes from one protocol to another, they wait.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from chronik.coordinator.classic_describe import CLASSIC, classic_listing, describe_classic_group
from chronik.coordinator.commits import Commits
from chronik.coordinator.consumer_describe import consumer_listing, expired_offsets
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
from chronik.coordinator.share_group_records import ShareKey, ShareValue
from chronik.coordinator.share_groups import SHARE_PROTOCOL, ShareGroups
from chronik.coordinator.subscriptions import Topics
from chronik.coordinator.turns import Turns
from chronik.errors import ErrorCode, KafkaError
from chronik.wire.messages.describe_groups import DescribedGroup
from chronik.wire.messages.join_group import JoinGroupRequest
from chronik.wire.messages.leave_group import MemberIdentity, MemberResponse
from chronik.wire.messages.list_groups import ListedGroup
from chronik.wire.messages.sync_group import SyncGroupRequest
from chronik.wire.records import NO_PRODUCER_ID

CONSUMER = "consumer"
_LOOK_AGAIN_MS = 100
"""After this long a group whose deadline has passed while it changed its protocol is looked at again."""


class Shard:
    """One partition's groups. `now` is a clock for deadlines, `wall_ms` the time since 1970; both in ms."""

    def __init__(self, settings: GroupSettings, topics: Topics, wall_clock_ms: Callable[[], int]) -> None:
        self.settings = settings
        self.stored: dict[str, GroupMetadataValue] = {}
        self.offsets = OffsetStore()
        self.groups: dict[str, Group] = {}
        self.turns = Turns()
        self.consumers = ConsumerGroups(settings, topics, wall_clock_ms, self.groups, self.turns, self._is_share)
        self.shares = ShareGroups(settings, topics, self.turns, self._is_not_share)
        self.commits = Commits(
            self.groups, self.consumers.groups, self.shares.groups, self.offsets, settings.offset_metadata_max_bytes
        )
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
        elif isinstance(key, ShareKey):
            assert value is None or isinstance(value, ShareValue)
            self.shares.replay(key, value)
        elif not isinstance(key, GroupMetadataKey):
            assert not isinstance(value, OffsetCommitValue | GroupMetadataValue | ShareValue)
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
        return self._is_not_share(group_id) or self._is_share(group_id)

    def _is_share(self, group_id: str) -> bool:
        return group_id in self.shares.groups

    def _is_not_share(self, group_id: str) -> bool:
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
        yield from self.shares.opening(now)
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
        self.consumers.close()
        self.shares.close()
        return effects + self.turns.close(KafkaError(error, "the group is coordinated elsewhere"))

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
        return effects + self.turns.stored(group_id, now)

    def written(self, group_id: str, error: KafkaError | None, now: int) -> Effects:
        """Report the end of an `Append` effect."""
        self._now = now
        return self.turns.written(group_id, error, now)

    # Time.

    def next_deadline(self) -> int | None:
        """When `expire` must be called next."""
        all_of_them = (self._deadlines.next(), self.consumers.next_deadline(), self.shares.next_deadline())
        return min((deadline for deadline in all_of_them if deadline is not None), default=None)

    def expire(self, now: int) -> Effects | None:
        """Let one group act on its passed deadlines; None when there is none left that has any."""
        self._now = now
        group_id = self._deadlines.pop(now)
        if group_id is None:
            effects = self.consumers.expire(now)
            return self.shares.expire(now) if effects is None else effects
        group = self.groups.get(group_id)
        if group is None:
            return []
        if self.turns.is_changing(group_id):
            self._deadlines.set(group_id, now + _LOOK_AGAIN_MS)
            return []
        effects = group.expire(now)
        self._settle(group_id, effects)
        return effects

    def _settle(self, group_id: str, effects: Sequence[Effect] = ()) -> None:
        """Keep the group's next deadline in view, and what it has on its way to the log."""
        for effect in effects:
            if isinstance(effect, Store):
                self.turns.storing(group_id)
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

        if self.turns.is_changing(request.group_id):
            return self.turns.take(request.group_id, token, anew, now)
        if request.group_id in self.consumers.groups:
            return self.consumers.join(request, joiner, token, now, anew)
        if self._is_share(request.group_id):
            return [Answer(token, join_refused("", ErrorCode.INCONSISTENT_GROUP_PROTOCOL))]
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
        if self.turns.is_changing(request.group_id):
            return self.turns.take(request.group_id, token, lambda now: self.sync(request, token, now), now)
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
        if self.turns.is_changing(group_id):
            return self.turns.take(group_id, token, lambda now: self.leave(group_id, members, token, now), now)
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

    # Deletion.

    def delete_group(self, group_id: str) -> list[Entry]:
        """DeleteGroups, for one: the records. Raises KafkaError(GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP).

        To be asked in the group's turn; `written` must be called when they are in the log, or failed.
        """
        tombstones = self.offsets.tombstones(group_id, self.offsets.known(group_id))
        if group_id in self.consumers.groups:
            tombstones += self.consumers.tombstones(group_id).entries
            self.turns.hold(group_id)
            return tombstones
        if self._is_share(group_id):
            tombstones += self.shares.tombstones(group_id).entries
            self.turns.hold(group_id)
            return tombstones
        group = self.commits.existing(group_id)
        if group is not None and group.state is not GroupState.EMPTY:
            raise KafkaError(ErrorCode.NON_EMPTY_GROUP, f"group {group_id!r:.200} has members")
        self.turns.hold(group_id)
        return [*tombstones, _group_tombstone(group_id)]

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
        """Every group, of any protocol."""
        return [*self.groups, *self.consumers.groups, *self.shares.groups]

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
        """ListGroups. Filters are in lower case; an empty one lets all pass, an unknown name none."""
        found: list[ListedGroup] = []
        if not types or CONSUMER in types:
            found += [consumer_listing(group) for group in self.consumers.groups.values()]
        if not types or CLASSIC in types:
            found += [classic_listing(group) for group in self.groups.values()]
        if not types or SHARE_PROTOCOL in types:
            found += self.shares.listings()
        return [listed for listed in found if not states or listed.group_state.lower() in states]

    def describe(self, group_id: str) -> DescribedGroup | None:
        """DescribeGroups, for one; None when there is no such group."""
        group = self.groups.get(group_id)
        return None if group is None else describe_classic_group(group)


def _unknown(member: MemberIdentity) -> MemberResponse:
    return MemberResponse(
        member_id=member.member_id,
        group_instance_id=member.group_instance_id,
        error_code=ErrorCode.UNKNOWN_MEMBER_ID,
    )


def _group_tombstone(group_id: str) -> Entry:
    return Entry(GroupMetadataKey(group=group_id), None)
