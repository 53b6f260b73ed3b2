"""The rounds of a classic group: the join phase, the sync phase, and the stable time until the next rebalance.

The lowest layer of a group's state machine (`chronik.coordinator.group` is the whole): its state, generation, members and
deadlines, how a rebalance begins, goes on and ends, and the answers to those who wait for it.

Sources: the group protocol of Kafka 4.1; KIP-134 (the first rebalance waits), KIP-559 (protocol type and name).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from chronik.coordinator.deadlines import Deadlines
from chronik.coordinator.effects import Answer, Assigned, Effects, GroupState, StaticRejoined, Store, join_refused
from chronik.coordinator.member import Member
from chronik.coordinator.roster import Roster
from chronik.coordinator.settings import GroupSettings
from chronik.coordinator.stored import value_of
from chronik.errors import ErrorCode, KafkaError
from chronik.wire.messages.join_group import JoinGroupResponse, JoinGroupResponseMember
from chronik.wire.messages.sync_group import SyncGroupResponse


class Timer(Enum):
    """The deadlines that are the group's own; all others are those of members, by member id."""

    JOIN = "join"
    SYNC = "sync"


class Rounds:
    """A group's state, and its way from one generation to the next. What is to be done outside gathers in `_out`."""

    def __init__(self, group_id: str, settings: GroupSettings) -> None:
        self.group_id = group_id
        self.state = GroupState.EMPTY
        self.generation = 0
        self.roster = Roster()
        self._settings = settings
        self._deadlines: Deadlines[str | Timer] = Deadlines()
        self._out: Effects = []
        self._initial: tuple[int, int] | None = None  # of the first rebalance: its delay now, and what remains (ms)
        self._new_member_added = False

    # The join phase.

    def _rebalance_or_complete(self, now: int) -> None:
        if self.state is GroupState.PREPARING_REBALANCE:
            self._complete_if_all_joined(now)
        else:
            self._prepare_rebalance(now)

    def _complete_if_all_joined(self, now: int) -> None:
        """End the join phase when everybody is there. The first rebalance of a group waits out its delay instead."""
        if self.state is GroupState.PREPARING_REBALANCE and self._initial is None and self.roster.all_joined:
            self._complete_join(now)

    def _members_gone(self, now: int) -> None:
        if self.state in (GroupState.STABLE, GroupState.COMPLETING_REBALANCE):
            self._prepare_rebalance(now)
        else:
            self._complete_if_all_joined(now)

    def _prepare_rebalance(self, now: int) -> None:
        if self.state is GroupState.COMPLETING_REBALANCE:
            self._fail_syncs(ErrorCode.REBALANCE_IN_PROGRESS, now)
        self.roster.pending_sync.clear()
        self._deadlines.cancel(Timer.SYNC)
        first = self.state is GroupState.EMPTY
        self.state = GroupState.PREPARING_REBALANCE
        timeout = self.roster.rebalance_timeout_ms
        if first:
            delay = self._settings.group_initial_rebalance_delay_ms
            self._initial = (delay, max(timeout - delay, 0))
            self._new_member_added = False
            self._deadlines.set(Timer.JOIN, now + delay)
        elif self.roster.all_joined:
            self._complete_join(now)
        else:
            self._deadlines.set(Timer.JOIN, now + timeout)

    def _join_expired(self, now: int) -> None:
        if self.state is not GroupState.PREPARING_REBALANCE:
            return
        if self._initial is not None and self._new_member_added and self._initial[1]:
            delay, remaining = self._initial
            self._new_member_added = False
            following = min(self._settings.group_initial_rebalance_delay_ms, remaining)
            self._initial = (following, max(remaining - delay, 0))
            self._deadlines.set(Timer.JOIN, now + following)
        else:
            self._complete_join(now)

    def _complete_join(self, now: int) -> None:
        """The join phase is over: who has not come is out, unless static; a generation begins."""
        roster = self.roster
        self._deadlines.cancel(Timer.JOIN)
        for absent in [m for m in roster if m.awaiting_join is None and not m.is_static]:
            self._remove(absent.member_id, ErrorCode.UNKNOWN_MEMBER_ID)
        if len(roster) and not roster.elect():
            # Only static members are left, and none has come: wait for one, or until their sessions run out.
            self._deadlines.set(Timer.JOIN, now + roster.rebalance_timeout_ms)
            return
        self._initial = None
        self.generation += 1
        if not len(roster):
            roster.protocol_name = None
            roster.read_subscriptions()
            self.state = GroupState.EMPTY
            self._store({}, None)
            return
        roster.protocol_name = roster.selected_protocol()
        roster.read_subscriptions()
        self.state = GroupState.COMPLETING_REBALANCE
        for member in roster:
            if member.awaiting_join is not None:
                self._answer_join(member, self._joined(member))
            self._expect(member, now)
            member.is_new = False
        roster.pending_sync = set(roster.members)
        self._deadlines.set(Timer.SYNC, now + roster.rebalance_timeout_ms)

    # The sync phase.

    def stored(self, store: Store, error: ErrorCode | None, now: int) -> Effects:
        """What `store` asked for is in the log, or failed with `error`."""
        if self.state is not GroupState.DEAD and isinstance(store.reason, Assigned):
            self._assignment_stored(store.reason, error, now)
        return self._drain()

    def _assignment_stored(self, reason: Assigned, error: ErrorCode | None, now: int) -> None:
        if self.state is not GroupState.COMPLETING_REBALANCE or reason.generation != self.generation:
            return
        if error is not None:
            self._fail_syncs(error, now)
            self._rebalance_or_complete(now)
            return
        self.state = GroupState.STABLE
        for member in self.roster:
            member.assignment = reason.assignments.get(member.member_id, b"")
            if member.awaiting_sync is not None:
                self._answer_sync(member, self._synced(member))
                self._expect(member, now)

    def _fail_syncs(self, error: ErrorCode, now: int) -> None:
        for member in self.roster:
            member.assignment = b""
            if member.awaiting_sync is not None:
                self._answer_sync_error(member, error)
                self._expect(member, now)

    def _sync_expired(self, now: int) -> None:
        """Members that did not ask for their assignment in time are out."""
        if self.roster.pending_sync and self.state in (GroupState.COMPLETING_REBALANCE, GroupState.STABLE):
            for member_id in list(self.roster.pending_sync):
                self._remove(member_id, ErrorCode.UNKNOWN_MEMBER_ID)
            self._prepare_rebalance(now)

    # Members.

    def _expect(self, member: Member, now: int) -> None:
        """The member's session runs from now."""
        self._deadlines.set(member.member_id, now + member.session_timeout_ms)

    def _check_generation(self, generation: int) -> None:
        if generation != self.generation:
            raise KafkaError(ErrorCode.ILLEGAL_GENERATION, f"generation {generation} is not {self.generation}")

    def _remove(self, member_id: str, error: ErrorCode) -> None:
        member = self.roster.members.get(member_id)
        if member is not None:
            self._answer_join_error(member, error)
            self._answer_sync_error(member, error)
        self._deadlines.cancel(member_id)
        self.roster.remove(member_id)

    # Effects.

    def _drain(self) -> Effects:
        out, self._out = self._out, []
        return out

    def _store(self, assignments: Mapping[str, bytes], reason: Assigned | StaticRejoined | None) -> None:
        """Have the group with these assignments written to the log, because of `reason`."""
        self._out.append(Store(self, value_of(self.roster, self.generation, assignments), reason))

    def _refuse_join(self, token: Any, member_id: str, error: ErrorCode) -> None:
        self._out.append(Answer(token, join_refused(member_id, error)))

    def _answer_join(self, member: Member, response: JoinGroupResponse) -> None:
        self._out.append(Answer(member.awaiting_join, response))
        self.roster.set_awaiting_join(member, None)

    def _answer_join_error(self, member: Member, error: ErrorCode) -> None:
        if member.awaiting_join is not None:
            self._refuse_join(member.awaiting_join, member.member_id, error)
            self.roster.set_awaiting_join(member, None)

    def _answer_sync(self, member: Member, response: SyncGroupResponse) -> None:
        self._out.append(Answer(member.awaiting_sync, response))
        member.awaiting_sync = None

    def _answer_sync_error(self, member: Member, error: ErrorCode) -> None:
        if member.awaiting_sync is not None:
            self._answer_sync(member, SyncGroupResponse(error_code=error))

    def _joined(self, member: Member) -> JoinGroupResponse:
        """The current generation, for the leader with the members that it has to assign to."""
        roster = self.roster
        name = roster.protocol_name or ""
        members = []
        if member.member_id == roster.leader_id:
            members = [
                JoinGroupResponseMember(
                    member_id=m.member_id, group_instance_id=m.instance_id, metadata=m.protocols.get(name, b"")
                )
                for m in roster
            ]
        return JoinGroupResponse(
            generation_id=self.generation,
            protocol_type=roster.protocol_type,
            protocol_name=roster.protocol_name,
            leader=roster.leader_id or "",
            member_id=member.member_id,
            members=members,
        )

    def _synced(self, member: Member) -> SyncGroupResponse:
        return SyncGroupResponse(
            protocol_type=self.roster.protocol_type,
            protocol_name=self.roster.protocol_name,
            assignment=member.assignment,
        )
