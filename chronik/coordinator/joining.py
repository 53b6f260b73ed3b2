"""Who may join a group, and how: new members, members-to-be, members that come again, static members that come back.

The middle layer of a group's state machine: it decides about the one who asks, and leaves the rebalance that may follow to
`chronik.coordinator.rounds`.

Sources: the group protocol of Kafka 4.1; KIP-345 and KIP-814 (static members), KIP-389 (the largest size of a group),
KIP-394 (member ids first).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chronik.coordinator.effects import Answer, Effects, GroupState, Joiner, StaticRejoined, Store
from chronik.coordinator.member import Member
from chronik.coordinator.rounds import Rounds
from chronik.errors import ErrorCode, KafkaError
from chronik.wire.messages.join_group import JoinGroupRequest

_MEMBER_ID_REQUIRED = 4
_SKIP_ASSIGNMENT = 9


class Joining(Rounds):
    """A group that can be joined."""

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

    # Static members.

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
                self._store({m.member_id: m.assignment for m in roster}, reason)
            else:
                self._rebalance_or_complete(now)
        elif self.state is GroupState.COMPLETING_REBALANCE:
            # The leader may be assigning to the old member id at this moment.
            self._prepare_rebalance(now)
        else:
            self._complete_if_all_joined(now)

    def stored(self, store: Store, error: ErrorCode | None, now: int) -> Effects:
        """What `store` asked for is in the log, or failed with `error`."""
        if self.state is not GroupState.DEAD and isinstance(store.reason, StaticRejoined):
            self._static_stored(store.reason, error, now)
            return self._drain()
        return super().stored(store, error, now)

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
