"""All consumer groups of one partition of `__consumer_offsets`: whose turn it is, timers, replay, and looking at them.

A group's requests take turns. While records of one decision are on their way to the log, the group's next requests wait; the
next is decided when the log has them and they are replayed. So every decision stands on what is in the log, and one whose
append fails has changed nothing. A heartbeat that changes nothing writes nothing.

Timers live in memory. A coordinator that loads a group gives each member one session timeout to be heard.

Pure: what is to be done outside is returned as effects, and `written` tells the end of an `Append`. Source: KIP-848.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple

from chronik.coordinator import classic_members, heartbeats, migration
from chronik.coordinator.consumer_group import ConsumerGroup
from chronik.coordinator.consumer_records import ConsumerKey, ConsumerValue, GroupEpochKey
from chronik.coordinator.deadlines import Deadlines
from chronik.coordinator.drafting import Draft
from chronik.coordinator.effects import Answer, Append, Effects, GroupState, Joiner, Refuse
from chronik.coordinator.group import Group
from chronik.coordinator.heartbeats import Heartbeater
from chronik.coordinator.reconciling import JOINING_EPOCH, STATIC_LEAVING_EPOCH, ConsumerMember, MemberState
from chronik.coordinator.records import GroupMetadataKey
from chronik.coordinator.settings import GroupSettings
from chronik.coordinator.subscriptions import Topics
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


class _Step(NamedTuple):
    """A request whose turn has not come. `token` is who waits for its answer, None for a timer."""

    token: Any
    decide: Callable[[int], Effects]


class _Writing(NamedTuple):
    """What becomes of an `Append`: who is answered what; what is decided next; which timer is set again if it fails."""

    token: Any
    response: Any
    again: Callable[[int], Effects] | None
    due: _Due | None
    checked: int


class ConsumerGroups:
    """`classic` has the live classic groups of the same partition, for those that change their protocol."""

    def __init__(
        self,
        settings: GroupSettings,
        topics: Topics,
        wall_clock_ms: Callable[[], int],
        classic: Mapping[str, Group],
    ) -> None:
        self.groups: dict[str, ConsumerGroup] = {}
        self._settings = settings
        self._topics = topics
        self._wall_clock_ms = wall_clock_ms
        self._classic = classic
        self._waiting: dict[str, deque[_Step]] = {}
        self._writing: dict[str, _Writing] = {}
        self._storing: dict[str, int] = {}
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

    # Turns.

    def is_busy(self, group_id: str) -> bool:
        """Whether records of the group are on their way to the log."""
        return group_id in self._writing or group_id in self._storing

    def is_changing(self, group_id: str) -> bool:
        """Whether a decision of a consumer group is on its way: of a classic group it means that it is to become one."""
        return group_id in self._writing

    def take_turn(self, group_id: str, token: Any, decide: Callable[[int], Effects], now: int) -> Effects:
        """Decide now, or when what is on its way is in the log. A KafkaError that is raised then is the answer."""
        if self.is_busy(group_id):
            self._waiting.setdefault(group_id, deque()).append(_Step(token, decide))
            return []
        return self._decide(token, decide, now)

    def _decide(self, token: Any, decide: Callable[[int], Effects], now: int) -> Effects:
        try:
            return decide(now)
        except KafkaError as error:
            return [] if token is None else [Refuse(token, error)]

    def _finish(
        self,
        draft: Draft,
        token: Any,
        response: Any,
        again: Callable[[int], Effects] | None = None,
        due: _Due | None = None,
    ) -> Effects:
        """Write what was drafted and answer then; at once where nothing is to be written."""
        if not draft.entries:
            return [] if token is None else [Answer(token, response)]
        group_id = draft.group.group_id
        self._writing[group_id] = _Writing(token, response, again, due, draft.group.checked)
        return [Append(group_id, draft.entries)]

    def hold(self, group_id: str) -> None:
        """Let the group's requests wait until `written`: records are appended without an `Append`. To be asked in its turn."""
        self._writing[group_id] = _Writing(None, None, None, None, 0)

    def written(self, group_id: str, error: KafkaError | None, now: int) -> Effects:
        """The group's records are in the log, or failed: answer, and decide what waits."""
        writing = self._writing.pop(group_id, None)
        if writing is None:
            return []
        out: Effects = []
        group = self.groups.get(group_id)
        if error is None:
            if group is not None:
                group.checked = max(group.checked, writing.checked)
            if writing.again is not None:
                out += self._decide(writing.token, writing.again, now)
            elif writing.token is not None:
                out.append(Answer(writing.token, writing.response))
        else:
            if writing.due is not None:
                self._deadlines.set(writing.due, now + _RETRY_MS)
            if writing.token is not None:
                out.append(Refuse(writing.token, error))
        return out + self._go_on(group_id, now)

    def classic_storing(self, group_id: str) -> None:
        """A record of the group, as a classic one, is on its way to the log."""
        self._storing[group_id] = self._storing.get(group_id, 0) + 1

    def classic_stored(self, group_id: str, now: int) -> Effects:
        """It came to its end."""
        left = self._storing.pop(group_id, 0) - 1
        if left > 0:
            self._storing[group_id] = left
            return []
        return self._go_on(group_id, now)

    def _go_on(self, group_id: str, now: int) -> Effects:
        out: Effects = []
        waiting = self._waiting.get(group_id)
        while waiting and not self.is_busy(group_id):
            step = waiting.popleft()
            out += self._decide(step.token, step.decide, now)
        if not waiting:
            self._waiting.pop(group_id, None)
        return out

    def close(self, error: KafkaError) -> Effects:
        """The groups live elsewhere from now on: whoever waits gets `error`."""
        tokens = [writing.token for writing in self._writing.values()]
        tokens += [step.token for steps in self._waiting.values() for step in steps]
        self._writing, self._waiting, self._storing = {}, {}, {}
        self._deadlines = Deadlines()
        return [Refuse(token, error) for token in tokens if token is not None]

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
        return self.take_turn(due.group_id, None, lambda now: self._expired(due, now), now)

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

        return self.take_turn(request.group_id, token, decide, now)

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
        if not joins:
            text = "Consumer group {} not found." if classic is None else "Group {} is not a consumer group."
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
            text = "Group {} is not a consumer group." if group_id in self._classic else "Group {} not found."
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
        if group is None or group.members or self.is_busy(group_id):
            return []
        return self._finish(self.tombstones(group_id), None, None)
