"""The state machine of one classic group: Empty, PreparingRebalance, CompletingRebalance, Stable, Dead.

Members join and wait; when all of them (or the rebalance timeout) are there, a generation begins and the joins are answered.
Then everybody's sync waits for the assignment that the leader hands in; once it is in the log, the group is Stable and the
syncs are answered. `docs/architecture/coordinator.md` has the drawing.

Three layers, each a class on top of the one below: `rounds` (the phases of a rebalance), `joining` (who may join, and how),
and here what members do once they have joined: sync, beat, commit, leave, fall silent.

Pure: time is `now` in ms, only differences count. A request that may have to wait comes with a token, anything at all. What
is to be done outside is returned as a list of effects: `Answer` a token, or `Store` the group in the log and report to
`stored`. The caller asks `next_deadline` when to call `expire`. Membership itself is not replicated: members that a new
coordinator doesn't hear from expire there.

Sources: the group protocol of Kafka 4.1; KIP-62 (sessions and rebalance timeouts), KIP-345 (static members leave by instance
id), KIP-559 (protocol type and name).
"""

from __future__ import annotations

from typing import Any

from chronik.coordinator.deadlines import Deadlines
from chronik.coordinator.effects import Answer, Assigned, Effects, GroupState
from chronik.coordinator.joining import Joining
from chronik.coordinator.records import GroupMetadataValue
from chronik.coordinator.rounds import Timer
from chronik.coordinator.settings import GroupSettings
from chronik.coordinator.stored import members_of
from chronik.errors import ErrorCode, KafkaError
from chronik.wire.messages.leave_group import MemberIdentity, MemberResponse
from chronik.wire.messages.sync_group import SyncGroupRequest


class Group(Joining):
    """One classic group. Methods that return effects must have them carried out in order."""

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
                self._store(assignments, reason)
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

    def check_transactional_commit(self, member_id: str, instance_id: str | None, generation: int) -> None:
        """Whether a transaction may commit offsets of the group. Raises KafkaError when it may not.

        Clients from before KIP-447 name no member: they fence by their transactional id alone. A rebalance that is under way
        is nothing against it, since the transaction may be of the generation before.
        """
        if self.state is GroupState.DEAD:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE, "the group is being moved or deleted")
        if generation < 0 and (self.state is GroupState.EMPTY or not (member_id or instance_id is not None)):
            return
        self.roster.check(member_id, instance_id)
        self._check_generation(generation)

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

    # Time.

    def expire(self, now: int) -> Effects:
        """Act on every deadline that has passed."""
        while (key := self._deadlines.pop(now)) is not None:
            if key is Timer.JOIN:
                self._join_expired(now)
            elif key is Timer.SYNC:
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

    def rebalance(self, now: int) -> Effects:
        """Have all members join again."""
        self._prepare_rebalance(now)
        return self._drain()

    def turn_away(self, error: ErrorCode) -> Effects:
        """Whoever waits gets `error`, and may come again."""
        for member in self.roster:
            self._answer_join_error(member, error)
            self._answer_sync_error(member, error)
        return self._drain()

    def die(self, error: ErrorCode) -> Effects:
        """The group is not coordinated here any longer: whoever waits gets `error`."""
        self.state = GroupState.DEAD
        self._deadlines = Deadlines()
        return self.turn_away(error)
