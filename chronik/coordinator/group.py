"""The state machine of one classic group: Empty, PreparingRebalance, CompletingRebalance, Stable, Dead.

Members join and wait; when all of them (or the rebalance timeout) are there, a generation begins and the joins are answered.
Then everybody's sync waits for the assignment that the leader hands in; once it is in the log, the group is Stable and the
syncs are answered. `docs/architecture/coordinator.md` has the drawing.

Pure: time is `now` in ms, only differences count. A request that may have to wait comes with a token, anything at all. What
is to be done outside is returned as a list of effects: `Answer` a token, or `Store` the group in the log and report to
`stored`. The caller asks `next_deadline` when to call `expire`. Membership itself is not replicated: members that a new
coordinator doesn't hear from expire there.

Sources: the group protocol of Kafka 4.1; KIP-62, KIP-134 (the first rebalance waits), KIP-345 and KIP-814 (static
members), KIP-394 (member ids first), KIP-559 (protocol type and name).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from chronik.coordinator.deadlines import Deadlines
from chronik.coordinator.effects import (
    Answer,
    Assigned,
    Effects,
    GroupState,
    Joiner,
    StaticRejoined,
    Store,
)
from chronik.coordinator.member import Member
from chronik.coordinator.records import GroupMetadataValue
from chronik.coordinator.roster import Roster
from chronik.coordinator.settings import GroupSettings
from chronik.coordinator.stored import members_of, value_of
from chronik.errors import ErrorCode, KafkaError
from chronik.wire.messages.join_group import JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember
from chronik.wire.messages.leave_group import MemberIdentity, MemberResponse
from chronik.wire.messages.sync_group import SyncGroupRequest, SyncGroupResponse

_MEMBER_ID_REQUIRED = 4
_SKIP_ASSIGNMENT = 9


class _Timer(Enum):
    JOIN = "join"
    SYNC = "sync"


class Group:
    """One classic group. Methods that return effects must have them carried out in order."""

    def __init__(self, group_id: str, settings: GroupSettings) -> None:
        self.group_id = group_id
        self.state = GroupState.EMPTY
        self.generation = 0
        self.roster = Roster()
        self._settings = settings
        self._deadlines: Deadlines[str | _Timer] = Deadlines()
        self._out: Effects = []
        self._initial: tuple[int, int] | None = (
            None  # of the first rebalance: current delay, what remains after it (ms)
        )
        self._new_member_added = False

    @classmethod
    def restored(cls, group_id: str, value: GroupMetadataValue, settings: GroupSettings, now: int) -> Group:
        """The group as a stored value describes it: Stable when it had members, who have a session timeout to be heard."""
        group = cls(group_id, settings)
        roster = group.roster
        group.generation = value.generation
        for member in members_of(value):
            roster.add(member)
            group._expect(member, now)
        roster.protocol_type = value.protocol_type or None
        roster.protocol_name = value.protocol
        roster.leader_id = value.leader if value.leader in roster.members else next(iter(roster.members), None)
        roster.read_subscriptions()
        group.state = GroupState.STABLE if value.members else GroupState.EMPTY
        if len(roster) > settings.group_max_size:
            group._prepare_rebalance(now)
        return group

    @property
    def is_unused(self) -> bool:
        """Whether nobody is in it or about to be."""
        return self.state is GroupState.EMPTY and not self.roster.pending

    def next_deadline(self) -> int | None:
        """When `expire` must be called next, None for never. Heartbeats only ever move it later."""
        return self._deadlines.next()

    # Joining.

    def join(self, request: JoinGroupRequest, joiner: Joiner, token: Any, now: int) -> Effects:
        """Join or rejoin. The answer may be among the effects, or be an effect of a later call."""
        roster, member_id = self.roster, request.member_id
        protocols = {protocol.name: bytes(protocol.metadata) for protocol in request.protocols}
        if not self._accepts(member_id):
            self._remove(member_id, ErrorCode.GROUP_MAX_SIZE_REACHED)
            self._refuse_join(token, "", ErrorCode.GROUP_MAX_SIZE_REACHED)
        elif self.state is GroupState.DEAD:
            self._refuse_join(token, member_id, ErrorCode.COORDINATOR_NOT_AVAILABLE)
        elif not self._supports(request.protocol_type, protocols):
            self._refuse_join(token, member_id, ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        elif not member_id:
            new_id = f"{request.group_instance_id or joiner.client_id}-{joiner.fresh_id}"
            if roster.static_id(request.group_instance_id) is not None:
                self._rejoin_static(request, protocols, joiner, new_id, token, now)
            elif request.group_instance_id is None and joiner.api_version >= _MEMBER_ID_REQUIRED:
                roster.pending.add(new_id)
                self._deadlines.set(new_id, now + request.session_timeout_ms)
                self._refuse_join(token, new_id, ErrorCode.MEMBER_ID_REQUIRED)
            else:
                self._add(request, protocols, joiner, new_id, token, now)
        elif member_id in roster.pending:
            if request.group_instance_id is not None:
                self._refuse_join(token, member_id, ErrorCode.UNKNOWN_MEMBER_ID)
            else:
                self._add(request, protocols, joiner, member_id, token, now)
        else:
            self._rejoin(request, protocols, token, now)
        return self._drain()

    def _accepts(self, member_id: str) -> bool:
        """Whether `group.max.size` has room. In a rebalance those count who have joined it: the last ones are left out."""
        member, limit = self.roster.members.get(member_id), self._settings.group_max_size
        if self.state in (GroupState.EMPTY, GroupState.DEAD):
            return True
        if self.state is GroupState.PREPARING_REBALANCE:
            return (member is not None and member.awaiting_join is not None) or self.roster.awaiting_join < limit
        return member is not None or len(self.roster) < limit

    def _supports(self, protocol_type: str, protocols: Mapping[str, bytes]) -> bool:
        if self.state is GroupState.EMPTY:
            return bool(protocol_type and protocols)
        return self.roster.supports(protocol_type, protocols)

    def _add(
        self,
        request: JoinGroupRequest,
        protocols: Mapping[str, bytes],
        joiner: Joiner,
        member_id: str,
        token: Any,
        now: int,
    ) -> None:
        member = Member(
            member_id,
            request.group_instance_id,
            joiner.client_id,
            joiner.client_host,
            request.rebalance_timeout_ms,
            request.session_timeout_ms,
            request.protocol_type,
            protocols,
        )
        member.is_new = True
        member.awaiting_join = token
        self._new_member_added = self._initial is not None
        self.roster.add(member)
        self._deadlines.set(member_id, now + self._settings.group_new_member_join_timeout_ms)
        self._rebalance_or_complete(now)

    def _rejoin(self, request: JoinGroupRequest, protocols: Mapping[str, bytes], token: Any, now: int) -> None:
        """A known member joins again."""
        try:
            member = self.roster.check(request.member_id, request.group_instance_id)
        except KafkaError as error:
            self._refuse_join(token, request.member_id, error.code)
            return
        unchanged = member.matches(protocols)
        leads = member.member_id == self.roster.leader_id
        if self.state is GroupState.EMPTY:
            self._refuse_join(token, member.member_id, ErrorCode.UNKNOWN_MEMBER_ID)
        elif (self.state is GroupState.COMPLETING_REBALANCE and unchanged) or (
            self.state is GroupState.STABLE and unchanged and not leads
        ):
            # It lost the answer to its join, or has nothing new to say: it may have the current generation again.
            self._out.append(Answer(token, self._joined(member)))
        else:
            # A leader that joins again always starts a rebalance: that is how it tells of changes outside the group.
            self._update(member, request, protocols, token)
            self._rebalance_or_complete(now)

    def _update(self, member: Member, request: JoinGroupRequest, protocols: Mapping[str, bytes], token: Any) -> None:
        self.roster.set_protocols(member, protocols)
        member.rebalance_timeout_ms = request.rebalance_timeout_ms
        member.session_timeout_ms = request.session_timeout_ms
        self._answer_join_error(member, ErrorCode.REBALANCE_IN_PROGRESS)  # an older join of it that still waits
        self.roster.set_awaiting_join(member, token)

    def _rejoin_static(
        self,
        request: JoinGroupRequest,
        protocols: Mapping[str, bytes],
        joiner: Joiner,
        new_id: str,
        token: Any,
        now: int,
    ) -> None:
        """A static member is back without its member id: it gets a new one, and whoever used the old one is fenced."""
        roster = self.roster
        instance_id = request.group_instance_id or ""
        old_id, old_leader = roster.static_id(instance_id) or "", roster.leader_id
        member = roster.members[old_id]
        self._answer_join_error(member, ErrorCode.FENCED_INSTANCE_ID)
        self._answer_sync_error(member, ErrorCode.FENCED_INSTANCE_ID)
        old = Member(
            old_id,
            instance_id,
            member.client_id,
            member.client_host,
            member.rebalance_timeout_ms,
            member.session_timeout_ms,
            member.protocol_type,
            member.protocols,
        )
        self._deadlines.cancel(old_id)
        roster.rename(instance_id, new_id)
        member.client_id, member.client_host = joiner.client_id, joiner.client_host
        self._update(member, request, protocols, token)
        self._expect(member, now)
        if self.state is GroupState.STABLE:
            if roster.selected_protocol() == roster.protocol_name:
                reason = StaticRejoined(token, joiner.api_version, new_id, old_id, old, old_leader)
                self._out.append(Store(self, self._value(self._assignments()), reason))
            else:
                self._rebalance_or_complete(now)
        elif self.state is GroupState.COMPLETING_REBALANCE:
            # The leader may be assigning to the old member id at this moment.
            self._prepare_rebalance(now)
        else:
            self._complete_if_all_joined(now)

    def _static_stored(self, reason: StaticRejoined, error: ErrorCode | None, now: int) -> None:
        roster = self.roster
        member = roster.members.get(reason.new_id)
        if member is None or member.awaiting_join is not reason.token:
            return  # it left, joined again or was fenced meanwhile, and was answered then
        if self.state is not GroupState.STABLE:
            return  # a rebalance began meanwhile: this join counts for it
        if error is not None:
            roster.set_protocols(member, reason.old.protocols)
            for name in ("client_id", "client_host", "rebalance_timeout_ms", "session_timeout_ms"):
                setattr(member, name, getattr(reason.old, name))
            roster.set_awaiting_join(member, None)
            self._deadlines.cancel(reason.new_id)
            roster.rename(reason.old.instance_id or "", reason.old_id)
            self._expect(member, now)
            self._refuse_join(reason.token, "", error)
            return
        response = self._joined(member)
        if reason.api_version >= _SKIP_ASSIGNMENT:
            response.skip_assignment = member.member_id == roster.leader_id
        else:
            # An older leader would assign again, in vain. It learns of its old id as the leader, so it follows (KIP-345).
            response.leader, response.members = reason.old_leader or "", []
        self._answer_join(member, response)

    # Rebalancing.

    def _rebalance_or_complete(self, now: int) -> None:
        if self.state is GroupState.PREPARING_REBALANCE:
            self._complete_if_all_joined(now)
        else:
            self._prepare_rebalance(now)

    def _complete_if_all_joined(self, now: int) -> None:
        """End the join phase when everybody is there. The first rebalance of a group waits out its delay instead."""
        if self.state is GroupState.PREPARING_REBALANCE and self._initial is None and self.roster.all_joined:
            self._complete_join(now)

    def _prepare_rebalance(self, now: int) -> None:
        if self.state is GroupState.COMPLETING_REBALANCE:
            self._fail_syncs(ErrorCode.REBALANCE_IN_PROGRESS, now)
        self.roster.pending_sync.clear()
        self._deadlines.cancel(_Timer.SYNC)
        first = self.state is GroupState.EMPTY
        self.state = GroupState.PREPARING_REBALANCE
        timeout = self.roster.rebalance_timeout_ms
        if first:
            delay = self._settings.group_initial_rebalance_delay_ms
            self._initial = (delay, max(timeout - delay, 0))
            self._new_member_added = False
            self._deadlines.set(_Timer.JOIN, now + delay)
        elif self.roster.all_joined:
            self._complete_join(now)
        else:
            self._deadlines.set(_Timer.JOIN, now + timeout)

    def _join_expired(self, now: int) -> None:
        if self.state is not GroupState.PREPARING_REBALANCE:
            return
        if self._initial is not None and self._new_member_added and self._initial[1]:
            delay, remaining = self._initial
            self._new_member_added = False
            following = min(self._settings.group_initial_rebalance_delay_ms, remaining)
            self._initial = (following, max(remaining - delay, 0))
            self._deadlines.set(_Timer.JOIN, now + following)
        else:
            self._complete_join(now)

    def _complete_join(self, now: int) -> None:
        """The join phase is over: who has not come is out, unless static; a generation begins."""
        roster = self.roster
        self._deadlines.cancel(_Timer.JOIN)
        for absent in [m for m in roster if m.awaiting_join is None and not m.is_static]:
            self._remove(absent.member_id, ErrorCode.UNKNOWN_MEMBER_ID)
        if len(roster) and not roster.elect():
            # Only static members are left, and none has come: wait for one, or until their sessions run out.
            self._deadlines.set(_Timer.JOIN, now + roster.rebalance_timeout_ms)
            return
        self._initial = None
        self.generation += 1
        if not len(roster):
            roster.protocol_name = None
            roster.read_subscriptions()
            self.state = GroupState.EMPTY
            self._out.append(Store(self, self._value({}), None))
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
        self._deadlines.set(_Timer.SYNC, now + roster.rebalance_timeout_ms)

    # Syncing.

    def sync(self, request: SyncGroupRequest, token: Any, now: int) -> Effects:
        """Ask for the assignment, as the leader also hand it in. Raises KafkaError for a request to be refused."""
        roster = self.roster
        if self.state is GroupState.DEAD:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE, "the group is being moved or deleted")
        member = roster.check(request.member_id, request.group_instance_id)
        self._check_generation(request.generation_id)
        for asked, actual in (
            (request.protocol_type, roster.protocol_type),
            (request.protocol_name, roster.protocol_name),
        ):
            if asked is not None and actual is not None and asked != actual:
                raise KafkaError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, f"{asked!r:.200} is not the group's {actual!r}")
        if self.state is GroupState.PREPARING_REBALANCE:
            raise KafkaError(ErrorCode.REBALANCE_IN_PROGRESS)
        roster.pending_sync.discard(member.member_id)
        if self.state is GroupState.STABLE:
            self._out.append(Answer(token, self._synced(member)))
        else:
            self._answer_sync_error(member, ErrorCode.REBALANCE_IN_PROGRESS)  # an older sync of it that still waits
            member.awaiting_sync = token
            if member.member_id == roster.leader_id:
                given = {item.member_id: bytes(item.assignment) for item in request.assignments}
                assignments = {member_id: given.get(member_id, b"") for member_id in roster.members}
                reason = Assigned(self.generation, assignments)
                self._out.append(Store(self, self._value(assignments), reason))
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

    def stored(self, store: Store, error: ErrorCode | None, now: int) -> Effects:
        """What `store` asked for is in the log, or failed with `error`."""
        if self.state is not GroupState.DEAD:
            if isinstance(store.reason, Assigned):
                self._assignment_stored(store.reason, error, now)
            elif isinstance(store.reason, StaticRejoined):
                self._static_stored(store.reason, error, now)
        return self._drain()

    # Staying and leaving.

    def heartbeat(self, member_id: str, instance_id: str | None, generation: int, now: int) -> None:
        """Note that a member lives. Raises KafkaError, REBALANCE_IN_PROGRESS among others, for what it must be told."""
        if self.state is GroupState.DEAD:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE, "the group is being moved or deleted")
        member = self.roster.check(member_id, instance_id)
        self._check_generation(generation)
        self._expect(member, now)
        if self.state is GroupState.PREPARING_REBALANCE:
            raise KafkaError(ErrorCode.REBALANCE_IN_PROGRESS)

    def check_commit(self, member_id: str, instance_id: str | None, generation: int, now: int) -> None:
        """Whether offsets may be committed, which keeps a session alive. Raises KafkaError when they may not."""
        if self.state is GroupState.DEAD:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE, "the group is being moved or deleted")
        if generation < 0 and self.state is GroupState.EMPTY:
            return  # a consumer that assigns its partitions itself, or an administrator
        if generation < 0 and not member_id and instance_id is None:
            raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID, "the group has members, only they may commit")
        member = self.roster.check(member_id, instance_id)
        self._check_generation(generation)
        if self.state is GroupState.COMPLETING_REBALANCE:
            raise KafkaError(ErrorCode.REBALANCE_IN_PROGRESS)
        self._expect(member, now)

    def leave(self, members: list[MemberIdentity], now: int) -> tuple[list[MemberResponse], Effects]:
        """Take members out, each by its member id, or by its instance id alone. Answers one by one."""
        if self.state is GroupState.DEAD:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE, "the group is being moved or deleted")
        responses, left = [], False
        for identity in members:
            member_id, code = identity.member_id, ErrorCode.NONE
            try:
                if not member_id:
                    member_id = self.roster.static_id(identity.group_instance_id) or ""
                if member_id not in self.roster.pending:
                    self.roster.check(member_id, identity.group_instance_id)
                self._remove(member_id, ErrorCode.UNKNOWN_MEMBER_ID)
                left = True
            except KafkaError as error:
                code = error.code
            responses.append(
                MemberResponse(
                    member_id=identity.member_id, group_instance_id=identity.group_instance_id, error_code=code
                )
            )
        if left:
            self._members_gone(now)
        return responses, self._drain()

    def _members_gone(self, now: int) -> None:
        if self.state in (GroupState.STABLE, GroupState.COMPLETING_REBALANCE):
            self._prepare_rebalance(now)
        else:
            self._complete_if_all_joined(now)

    def expire(self, now: int) -> Effects:
        """Act on every deadline that has passed."""
        while (key := self._deadlines.pop(now)) is not None:
            if key is _Timer.JOIN:
                self._join_expired(now)
            elif key is _Timer.SYNC:
                self._sync_expired(now)
            elif isinstance(key, str):
                self._session_expired(key, now)
        return self._drain()

    def _session_expired(self, member_id: str, now: int) -> None:
        roster = self.roster
        member = roster.members.get(member_id)
        if member_id in roster.pending:
            roster.pending.discard(member_id)
            if self.state is GroupState.PREPARING_REBALANCE and roster.all_joined:
                self._complete_join(now)
        elif member is not None and member.is_heard:
            self._expect(member, now)  # it waits for us: look again a session later
        elif member is not None:
            self._remove(member_id, ErrorCode.UNKNOWN_MEMBER_ID)
            if self.state is not GroupState.PREPARING_REBALANCE:
                self._members_gone(now)
            elif roster.all_joined:
                self._complete_join(now)

    def _sync_expired(self, now: int) -> None:
        """Members that did not ask for their assignment in time are out."""
        if self.roster.pending_sync and self.state in (GroupState.COMPLETING_REBALANCE, GroupState.STABLE):
            for member_id in list(self.roster.pending_sync):
                self._remove(member_id, ErrorCode.UNKNOWN_MEMBER_ID)
            self._prepare_rebalance(now)

    def die(self, error: ErrorCode) -> Effects:
        """The group is not coordinated here any longer: whoever waits gets `error`."""
        self.state = GroupState.DEAD
        for member in self.roster:
            self._answer_join_error(member, error)
            self._answer_sync_error(member, error)
        self._deadlines = Deadlines()
        return self._drain()

    # Small parts.

    def _drain(self) -> Effects:
        out, self._out = self._out, []
        return out

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

    def _refuse_join(self, token: Any, member_id: str, error: ErrorCode) -> None:
        self._out.append(Answer(token, JoinGroupResponse(member_id=member_id, error_code=error)))

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

    def _assignments(self) -> dict[str, bytes]:
        return {member.member_id: member.assignment for member in self.roster}

    def _value(self, assignments: Mapping[str, bytes]) -> GroupMetadataValue:
        return value_of(self.roster, self.generation, assignments)
