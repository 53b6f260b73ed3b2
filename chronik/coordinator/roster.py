"""The members of one classic group and what follows from them: leader, static members, votes for a protocol.

Pure book-keeping under `chronik.coordinator.group`, which decides when anything here changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from chronik.coordinator.member import CONSUMER_PROTOCOL, Member, subscribed_topics
from chronik.errors import ErrorCode, KafkaError


class Roster:
    """Members in the order in which they came, the members-to-be (`pending`), and the leader among the former."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self.pending: set[str] = set()
        self.pending_sync: set[str] = set()
        self.leader_id: str | None = None
        self.protocol_type: str | None = None
        self.protocol_name: str | None = None
        self.subscribed: set[str] | None = None
        self._statics: dict[str, str] = {}
        self._supported: Counter[str] = Counter()
        self._awaiting_join = 0

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self.members.values())

    def add(self, member: Member) -> None:
        """Take a member in. The first one sets the protocol type, and leads until an election."""
        if not self.members:
            self.protocol_type = member.protocol_type
        if member.instance_id is not None:
            self._statics[member.instance_id] = member.member_id
        self.members[member.member_id] = member
        self.pending.discard(member.member_id)
        self._supported.update(member.protocols.keys())
        self._awaiting_join += member.awaiting_join is not None
        if self.leader_id is None:
            self.leader_id = member.member_id

    def remove(self, member_id: str) -> Member | None:
        """Take a member or member-to-be out; another member leads if it led."""
        self.pending.discard(member_id)
        self.pending_sync.discard(member_id)
        member = self.members.pop(member_id, None)
        if member is None:
            return None
        self._supported.subtract(member.protocols.keys())
        self._awaiting_join -= member.awaiting_join is not None
        if member.instance_id is not None and self._statics.get(member.instance_id) == member_id:
            del self._statics[member.instance_id]
        if self.leader_id == member_id:
            self.leader_id = next(iter(self.members), None)
        return member

    def rename(self, instance_id: str, new_id: str) -> Member:
        """Give the static member `instance_id` a new member id. It keeps assignment, place and leadership."""
        old_id = self._statics[instance_id]
        member = self.members[old_id]
        member.member_id = new_id
        self.members = {m.member_id: m for m in self.members.values()}
        self._statics[instance_id] = new_id
        self.pending_sync = {new_id if known == old_id else known for known in self.pending_sync}
        if self.leader_id == old_id:
            self.leader_id = new_id
        return member

    def static_id(self, instance_id: str | None) -> str | None:
        """The member id that now stands for a `group.instance.id`."""
        return None if instance_id is None else self._statics.get(instance_id)

    def check(self, member_id: str, instance_id: str | None) -> Member:
        """The member, if it is the one it says. Raises KafkaError(UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID)."""
        if instance_id is not None:
            current = self._statics.get(instance_id)
            if current is None:
                raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID, f"no member has the instance id {instance_id!r:.200}")
            if current != member_id:
                raise KafkaError(ErrorCode.FENCED_INSTANCE_ID, f"instance id {instance_id!r:.200} has a newer member")
        member = self.members.get(member_id)
        if member is None:
            raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID, f"{member_id!r:.200} is not a member")
        return member

    def set_protocols(self, member: Member, protocols: Mapping[str, bytes]) -> None:
        """Replace what `member` can follow."""
        self._supported.subtract(member.protocols.keys())
        member.protocols = protocols
        self._supported.update(protocols.keys())

    def set_awaiting_join(self, member: Member, token: Any) -> None:
        """Let `token` be the waiting join of `member`; None when it was answered."""
        self._awaiting_join += (token is not None) - (member.awaiting_join is not None)
        member.awaiting_join = token

    @property
    def is_consumer(self) -> bool:
        """Whether the members are consumers of topics, whose subscriptions can be read."""
        return self.protocol_type == CONSUMER_PROTOCOL

    @property
    def awaiting_join(self) -> int:
        """How many members have a join waiting."""
        return self._awaiting_join

    @property
    def all_joined(self) -> bool:
        """Whether every member's join waits, and nobody holds a member id that it hasn't used yet."""
        return len(self.members) == self._awaiting_join and not self.pending

    @property
    def rebalance_timeout_ms(self) -> int:
        """The longest rebalance timeout of all members."""
        return max((member.rebalance_timeout_ms for member in self), default=0)

    def supports(self, protocol_type: str, protocols: Mapping[str, bytes]) -> bool:
        """Whether someone of that type with those protocols could follow a protocol that all members can follow."""
        return self.protocol_type == protocol_type and any(
            self._supported[name] == len(self.members) for name in protocols
        )

    def selected_protocol(self) -> str:
        """The protocol that all members support and most of them like best. There must be members."""
        everyone = len(self.members)
        candidates = {name for name, count in self._supported.items() if count == everyone}
        votes = Counter(next(name for name in member.protocols if name in candidates) for member in self)
        return max(votes, key=lambda name: votes[name])

    def elect(self) -> bool:
        """Let the leader be one whose join waits. False when there is no member like that."""
        leader = self.members.get(self.leader_id or "")
        if leader is None:
            return False
        if leader.awaiting_join is not None:
            return True
        for member in self:
            if member.awaiting_join is not None:
                self.leader_id = member.member_id
                return True
        return False

    def read_subscriptions(self) -> None:
        """Work out `subscribed`: the topics of all consumers; None where that cannot be known."""
        self.subscribed = None
        if not self.is_consumer:
            return
        topics: set[str] = set()
        for member in self:
            if self.protocol_name is None:
                return
            subscription = subscribed_topics(member.protocols.get(self.protocol_name, b""))
            if subscription is None:
                return
            topics |= subscription
        self.subscribed = topics

    def subscribes_to(self, topic: str) -> bool:
        """Whether the group uses `topic`. A consumer group whose subscriptions cannot be read may use any."""
        if self.subscribed is None:
            return self.is_consumer
        return topic in self.subscribed
