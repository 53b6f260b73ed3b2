"""All consumer groups of one partition of `__consumer_offsets`: their requests, timers, replay, and looking at them.

A group's requests take turns (`chronik.coordinator.turns`). A heartbeat that changes nothing writes nothing.

Timers live in memory. A coordinator that loads a group gives each member one session timeout to be heard.

Pure: what is to be done outside is returned as effects, and `written` tells the end of an `Append`. Source: KIP-848.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple

from chronik.coordinator import classic_members, heartbeats, migration
from chronik.coordinator.consumer_group import ConsumerGroup
from chronik.coordinator.consumer_records import ConsumerKey, ConsumerValue, GroupEpochKey
from chronik.coordinator.deadlines import Deadlines
from chronik.coordinator.drafting import Draft
from chronik.coordinator.effects import Answer, Effects, GroupState, Joiner
from chronik.coordinator.group import Group
from chronik.coordinator.heartbeats import Heartbeater
from chronik.coordinator.reconciling import JOINING_EPOCH, STATIC_LEAVING_EPOCH, ConsumerMember, MemberState
from chronik.coordinator.records import GroupMetadataKey
from chronik.coordinator.settings import GroupSettings
from chronik.coordinator.subscriptions import Topics
from chronik.coordinator.turns import Turns
from chronik.errors import ErrorCode, KafkaError
from chronik.wire.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)
from chronik.wire.messages.join_group import JoinGroupRequest
from chronik.wire.messages.leave_group import MemberIdentity
from chronik.wire.messages.sync_group import SyncGroupRequest

_RETRY_MS = 1_000
"""A member that could not be removed because the append failed is removed again after this long."""


class Timer(Enum):
    """What a member is given time for."""

    SESSION = "to be heard"
    REVOKE = "to give partitions back"
    JOIN = "to join again, as a classic member that was told to"
    SYNC = "to fetch its assignment, as a classic member that has joined"


class _Due(NamedTuple):
    group_id: str
    member_id: str
    timer: Timer


class ConsumerGroups:
    """`classic` has the live classic groups of the same partition, for those that change their protocol.

    `turns` are those of all groups of the partition; `is_share` says whether a group is a share group.
    """

    def __init__(
        self,
        settings: GroupSettings,
        topics: Topics,
        wall_clock_ms: Callable[[], int],
        classic: Mapping[str, Group],
        turns: Turns,
        is_share: Callable[[str], bool],
    ) -> None:
        self.groups: dict[str, ConsumerGroup] = {}
        self._settings = settings
        self._topics = topics
        self._wall_clock_ms = wall_clock_ms
        self._classic = classic
        self._turns = turns
        self._is_share = is_share
        self._deadlines: Deadlines[_Due] = Deadlines()

    # The log.

    def replay(self, key: ConsumerKey, value: ConsumerValue | None) -> None:
        """Take over one record, in the order of the log."""
        group = self.groups.get(key.group)
        if group is None:
            if value is None:
                return
            group = self.groups[key.group] = ConsumerGroup(key.group)
        group.replay(key, value)
        if value is None and isinstance(key, GroupEpochKey):
            del self.groups[key.group]

    def opening(self, now: int) -> Iterator[None]:
        """The log is read: members have a session to be heard. A step a group, and some for each pattern."""
        for group in self.groups.values():
            for pattern in {member.regex for member in group.members.values() if member.regex}:
                yield from self._topics.resolving(pattern)
            for member in group.members.values():
                self._expect(group.group_id, member, now)
                if member.state is MemberState.UNREVOKED and member.classic is None:
                    self._set(Timer.REVOKE, group.group_id, member.member_id, now + member.rebalance_timeout_ms)
            yield

    # Deciding.

    def _finish(
        self,
        draft: Draft,
        token: Any,
        response: Any,
        again: Callable[[int], Effects] | None = None,
        due: _Due | None = None,
    ) -> Effects:
        """Write what was drafted and answer then. A timer that is `due` falls due again if that fails."""
        group_id, checked = draft.group.group_id, draft.group.checked

        def ended(error: KafkaError | None, now: int) -> Effects:
            group = self.groups.get(group_id)
            if error is None and group is not None:
                group.checked = max(group.checked, checked)
            elif error is not None and due is not None:
                self._deadlines.set(due, now + _RETRY_MS)
            return []

        return self._turns.finish(group_id, draft.entries, token, response, again, ended)

    def close(self) -> None:
        """The groups live elsewhere from now on."""
        self._deadlines = Deadlines()

    def _draft(self, group_id: str) -> Draft:
        return Draft(group_id, self.groups.get(group_id), self._settings, self._topics, self._wall_clock_ms())

    # Time.

    def next_deadline(self) -> int | None:
        """When `expire` must be called next."""
        return self._deadlines.next()

    def expire(self, now: int) -> Effects | None:
        """Act on one deadline that has passed; None when there is none."""
        due = self._deadlines.pop(now)
        if due is None:
            return None
        return self._turns.take(due.group_id, None, lambda now: self._expired(due, now), now)

    def _expired(self, due: _Due, now: int) -> Effects:
        """The member is out, unless it has been heard while this waited for its turn."""
        group = self.groups.get(due.group_id)
        member = None if group is None else group.members.get(due.member_id)
        if group is None or member is None or self._deadlines.is_set(due):
            return []
        if due.timer is Timer.REVOKE and member.state is not MemberState.UNREVOKED:
            return []
        draft = self._draft(due.group_id)
        self._take_out(draft, [due.member_id])
        return self._finish(draft, None, None, due=due)

    def _take_out(self, draft: Draft, member_ids: list[str]) -> None:
        """Write that members are out; where only classic members are left, the group becomes a classic one."""
        had_consumers = any(draft.group.members[member_id].classic is None for member_id in member_ids)
        if had_consumers and migration.can_downgrade(draft, member_ids, self._settings):
            migration.downgrade(draft, member_ids)
        else:
            heartbeats.remove_members(draft, member_ids)

    def _set(self, timer: Timer, group_id: str, member_id: str, at: int) -> None:
        self._deadlines.set(_Due(group_id, member_id, timer), at)

    def _cancel(self, timer: Timer, group_id: str, member_id: str) -> None:
        self._deadlines.cancel(_Due(group_id, member_id, timer))

    def _expect(self, group_id: str, member: ConsumerMember, now: int) -> None:
        """The member's session runs from now."""
        session = self._topics.session_timeout_ms(group_id, self._settings.group_consumer)
        if member.classic is not None:
            session = member.classic.session_timeout_ms
        self._set(Timer.SESSION, group_id, member.member_id, now + session)

    # Members of the consumer protocol.

    def heartbeat(self, request: ConsumerGroupHeartbeatRequest, sender: Heartbeater, token: Any, now: int) -> Effects:
        """ConsumerGroupHeartbeat, in the group's turn; the request itself has been checked."""
        leaves = request.member_epoch < JOINING_EPOCH

        def decide(now: int) -> Effects:
            return self._leave(request, token) if leaves else self._heartbeat(request, sender, token, now)

        return self._turns.take(request.group_id, token, decide, now)

    def _heartbeat(self, request: ConsumerGroupHeartbeatRequest, sender: Heartbeater, token: Any, now: int) -> Effects:
        group_id = request.group_id
        draft = self._draft(group_id)
        classic = self._converted(draft, request.member_epoch == JOINING_EPOCH)
        response = heartbeats.heartbeat(draft, request, sender)
        member = draft.group.members[str(response.member_id)]
        self._expect(group_id, member, now)
        for timer in (Timer.JOIN, Timer.SYNC):
            self._cancel(timer, group_id, member.member_id)  # of a classic member that it may have been
        before = self.groups[group_id].members.get(member.member_id) if group_id in self.groups else None
        if member.state is not MemberState.UNREVOKED:
            self._cancel(Timer.REVOKE, group_id, member.member_id)
        elif before is None or (before.state, before.epoch) != (member.state, member.epoch):
            self._set(Timer.REVOKE, group_id, member.member_id, now + member.rebalance_timeout_ms)
        if classic is not None:
            for each in draft.group.classic_members:
                self._expect(group_id, each, now)
            return classic.turn_away(ErrorCode.REBALANCE_IN_PROGRESS) + self._finish(draft, token, response)
        return self._finish(draft, token, response)

    def _converted(self, draft: Draft, joins: bool) -> Group | None:
        """Make a consumer group of what is there, if that may be; the classic group that it is made of."""
        group_id = draft.group.group_id
        classic = self._classic.get(group_id)
        if group_id in self.groups:
            return None
        is_share = self._is_share(group_id)
        if not joins or is_share:
            is_other = is_share or classic is not None
            text = "Group {} is not a consumer group." if is_other else "Consumer group {} not found."
            raise KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, text.format(group_id[:249]))
        if classic is None:
            return None
        if classic.state is GroupState.EMPTY:
            draft.write(GroupMetadataKey(group=group_id), None)
        else:
            migration.upgrade(draft, classic)
        return classic

    def existing(self, group_id: str) -> ConsumerGroup:
        """The group of that id. Raises KafkaError(GROUP_ID_NOT_FOUND)."""
        group = self.groups.get(group_id)
        if group is None:
            is_other = group_id in self._classic or self._is_share(group_id)
            text = "Group {} is not a consumer group." if is_other else "Group {} not found."
            raise KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, text.format(group_id[:249]))
        return group

    def _leave(self, request: ConsumerGroupHeartbeatRequest, token: Any) -> Effects:
        self.existing(request.group_id)
        draft = self._draft(request.group_id)
        member = heartbeats.leaving(draft, request)
        response = ConsumerGroupHeartbeatResponse(member_id=member.member_id, member_epoch=request.member_epoch)
        if request.member_epoch == STATIC_LEAVING_EPOCH:
            heartbeats.leave_for_a_while(draft, member)
            self._cancel(Timer.REVOKE, request.group_id, member.member_id)
        else:
            self._take_out(draft, [member.member_id])
        return self._finish(draft, token, response)

    # Members of the classic protocol.

    def join(
        self, request: JoinGroupRequest, joiner: Joiner, token: Any, now: int, anew: Callable[[int], Effects]
    ) -> Effects:
        """JoinGroup to a group that is here, in its turn. An empty one is deleted, and `anew` decides the join then."""
        group_id = request.group_id
        draft = self._draft(group_id)
        if not draft.group.members:
            draft.delete_group()
            return self._finish(draft, token, None, again=anew)
        joined = classic_members.join(draft, request, joiner)
        response = joined.response
        if response.error_code:
            return [Answer(token, response)]
        member = draft.group.members[response.member_id]
        self._expect(group_id, member, now)
        self._cancel(Timer.JOIN, group_id, member.member_id)
        self._set(Timer.SYNC, group_id, member.member_id, now + member.rebalance_timeout_ms)
        replaced_last = joined.replaced is not None and joined.replaced.classic is None
        if replaced_last and migration.can_downgrade(draft, [], self._settings):
            migration.downgrade(draft, [])
        return self._finish(draft, token, response)

    def sync(self, request: SyncGroupRequest, token: Any, now: int) -> Effects:
        """SyncGroup to a group that is here. Raises KafkaError for a request to be refused."""
        group = self.groups[request.group_id]
        response = classic_members.sync(group, request, self._topics)
        self._cancel(Timer.SYNC, request.group_id, request.member_id)
        self._expect(request.group_id, group.members[request.member_id], now)
        return [Answer(token, response)]

    def classic_heartbeat(
        self, group_id: str, member_id: str, instance_id: str | None, generation: int, now: int
    ) -> None:
        """Heartbeat to a group that is here. Raises KafkaError, REBALANCE_IN_PROGRESS among others."""
        group = self.groups[group_id]
        member = classic_members.check_member(group, member_id, instance_id, generation)
        self._expect(group_id, member, now)
        if classic_members.must_rejoin(group, member):
            due = _Due(group_id, member_id, Timer.JOIN)
            if not self._deadlines.is_set(due):
                self._deadlines.set(due, now + member.rebalance_timeout_ms)
            raise KafkaError(ErrorCode.REBALANCE_IN_PROGRESS)

    def leave(self, group_id: str, members: list[MemberIdentity], token: Any) -> Effects:
        """LeaveGroup to a group that is here, in its turn."""
        draft = self._draft(group_id)
        responses, left = classic_members.leave(draft, members)
        if left:
            self._take_out(draft, left)
        return self._finish(draft, token, responses)

    # Deleting.

    def tombstones(self, group_id: str) -> Draft:
        """What deletes the group. Raises KafkaError(NON_EMPTY_GROUP)."""
        draft = self._draft(group_id)
        if draft.group.members:
            raise KafkaError(ErrorCode.NON_EMPTY_GROUP, f"group {group_id!r:.200} has members")
        draft.delete_group()
        return draft

    def delete_unused(self, group_id: str) -> Effects:
        """Delete a group without members, unless something of it is on its way."""
        group = self.groups.get(group_id)
        if group is None or group.members or self._turns.is_busy(group_id):
            return []
        return self._finish(self.tombstones(group_id), None, None)
