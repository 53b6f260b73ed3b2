"""One consumer group (KIP-848) as the log has it: members, epochs, targets, owners. It changes by `replay` alone.

Three epochs chase each other. The group epoch grows with every change of members, subscriptions or topics; the target
assignment is computed for a group epoch; each member moves to the epoch of the target as it gets what the target gives it. From
how far they are apart follows the state: Empty, Assigning, Reconciling, Stable.

What is decided about a group (`chronik.coordinator.drafting` and on top of it) works on a copy, to which each record is
replayed as it is decided: so a decision sees what it has decided already, and the group itself sees nothing before the
log has it. Pure.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum

from chronik.coordinator.consumer_records import (
    ConsumerKey,
    ConsumerValue,
    CurrentKey,
    CurrentValue,
    GroupEpochKey,
    GroupEpochValue,
    MemberKey,
    MemberValue,
    PartitionMetadataKey,
    RegexKey,
    RegexValue,
    TargetEpochKey,
    TargetEpochValue,
    TargetKey,
    TargetValue,
)
from chronik.coordinator.reconciling import (
    LEAVING_EPOCH,
    NOTHING,
    STATIC_LEAVING_EPOCH,
    Assignment,
    ConsumerMember,
    MemberState,
    assignment_of,
)
from chronik.errors import ErrorCode, KafkaError
from chronik.model import Uuid


class ConsumerGroupState(Enum):
    """The states, by the names that ListGroups and ConsumerGroupDescribe give them."""

    EMPTY = "Empty"
    ASSIGNING = "Assigning"
    RECONCILING = "Reconciling"
    STABLE = "Stable"
    DEAD = "Dead"


class ConsumerGroup:
    """The replayed state of one group. Its members are values; the maps are not to be changed from outside.

    `checked` is the version of the topics that the group epoch has last been held against, 0 for none since it was loaded. It
    alone is not in the log: a group that is loaded looks at its topics anew.
    """

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.epoch = 0
        self.metadata_hash = 0
        self.target_epoch = 0
        self.members: dict[str, ConsumerMember] = {}
        self.targets: dict[str, Assignment] = {}
        self.regexes: dict[str, frozenset[str]] = {}
        self.has_partition_metadata = False
        self.checked = 0
        self._statics: dict[str, str] = {}
        self._owners: dict[tuple[Uuid, int], str] = {}

    def copy(self) -> ConsumerGroup:
        """The same state, to be changed on its own."""
        other = ConsumerGroup(self.group_id)
        other.epoch, other.metadata_hash, other.target_epoch = self.epoch, self.metadata_hash, self.target_epoch
        other.has_partition_metadata, other.checked = self.has_partition_metadata, self.checked
        other.members, other.targets, other.regexes = self.members.copy(), self.targets.copy(), self.regexes.copy()
        other._statics, other._owners = self._statics.copy(), self._owners.copy()
        return other

    # What follows from the state.

    @property
    def state(self) -> ConsumerGroupState:
        """How far the group has come."""
        if not self.members:
            return ConsumerGroupState.EMPTY
        if self.epoch > self.target_epoch:
            return ConsumerGroupState.ASSIGNING
        if all(member.is_reconciled(self.target_epoch) for member in self.members.values()):
            return ConsumerGroupState.STABLE
        return ConsumerGroupState.RECONCILING

    def member(self, member_id: str) -> ConsumerMember:
        """The member of that id. Raises KafkaError(UNKNOWN_MEMBER_ID)."""
        member = self.members.get(member_id)
        if member is None:
            raise KafkaError(
                ErrorCode.UNKNOWN_MEMBER_ID, f"Member {member_id:.200} is not a member of group {self.group_id}."
            )
        return member

    def static_member(self, instance_id: str | None) -> ConsumerMember | None:
        """The member that stands for a `group.instance.id`."""
        member_id = None if instance_id is None else self._statics.get(instance_id)
        return None if member_id is None else self.members[member_id]

    def owner_of(self, topic_id: Uuid, partition: int) -> str | None:
        """The member that has the partition, or has not given it back yet."""
        return self._owners.get((topic_id, partition))

    def target_of(self, member_id: str) -> Assignment:
        """What the member shall have."""
        return self.targets.get(member_id, NOTHING)

    def topics_of(self, member: ConsumerMember) -> frozenset[str]:
        """The names of the topics that the member wants, whether they exist or not."""
        matched = self.regexes.get(member.regex) if member.regex else None
        return member.topics | matched if matched else member.topics

    def subscribes_to(self, topic: str) -> bool:
        """Whether any member wants the topic."""
        return any(topic in member.topics for member in self.members.values()) or any(
            topic in names for names in self.regexes.values()
        )

    def preferred_assignor(self, default: str) -> str:
        """The assignor that most members ask for; the first asked for of those that tie."""
        votes = Counter(member.assignor for member in self.members.values() if member.assignor is not None)
        return max(votes, key=lambda name: votes[name]) if votes else default

    def is_waiting_for_release(self, member: ConsumerMember) -> bool:
        """Whether something of the member's target is still held by another."""
        if member.state is not MemberState.UNRELEASED:
            return False
        for topic_id, wanted in self.target_of(member.member_id).items():
            for partition in wanted - member.assigned.get(topic_id, frozenset()):
                if self.owner_of(topic_id, partition) not in (None, member.member_id):
                    return True
        return False

    @property
    def classic_members(self) -> list[ConsumerMember]:
        """The members that speak the classic protocol."""
        return [member for member in self.members.values() if member.classic is not None]

    def supports(self, protocol_type: str, protocols: set[str]) -> bool:
        """Whether a classic member with these protocols could join: all classic members must have one in common."""
        if protocol_type != "consumer" or not protocols:
            return False
        common = set(protocols)
        for member in self.classic_members:
            assert member.classic is not None
            common &= {protocol.name for protocol in member.classic.supported_protocols}
        return bool(common)

    def check_epoch(self, member: ConsumerMember, epoch: int) -> None:
        """Whether a request of `member` is of its present epoch. Raises KafkaError(STALE_MEMBER_EPOCH, ILLEGAL_GENERATION)."""
        if epoch != member.epoch:
            raise KafkaError(
                ErrorCode.STALE_MEMBER_EPOCH if member.classic is None else ErrorCode.ILLEGAL_GENERATION,
                f"The received member epoch {epoch} does not match the expected member epoch {member.epoch}.",
            )

    # The log.

    def replay(self, key: ConsumerKey, value: ConsumerValue | None) -> None:
        """Take over one record, in the order of the log. A group whose `epoch` is deleted is no more: see `is_deleted`."""
        if isinstance(key, CurrentKey):
            assert value is None or isinstance(value, CurrentValue)
            self._replay_current(key.member_id, value)
        elif isinstance(key, MemberKey):
            if value is None:
                self._remove(key.member_id)
            else:
                assert isinstance(value, MemberValue)
                self._put(self._known(key.member_id).subscribed(value))
        elif isinstance(key, TargetKey):
            if value is None:
                self.targets.pop(key.member_id, None)
            else:
                assert isinstance(value, TargetValue)
                self.targets[key.member_id] = assignment_of(value.topic_partitions)
        elif isinstance(key, TargetEpochKey):
            assert value is None or isinstance(value, TargetEpochValue)
            self.target_epoch = 0 if value is None else value.assignment_epoch
        elif isinstance(key, GroupEpochKey):
            if value is not None:
                assert isinstance(value, GroupEpochValue)
                self.epoch, self.metadata_hash = value.epoch, value.metadata_hash
        elif isinstance(key, RegexKey):
            if value is None:
                self.regexes.pop(key.regular_expression, None)
            else:
                assert isinstance(value, RegexValue)
                self.regexes[key.regular_expression] = frozenset(value.topics)
        elif isinstance(key, PartitionMetadataKey):
            self.has_partition_metadata = value is not None

    def _known(self, member_id: str) -> ConsumerMember:
        return self.members.get(member_id) or ConsumerMember(member_id)

    def _replay_current(self, member_id: str, value: CurrentValue | None) -> None:
        if value is not None:
            self._put(self._known(member_id).placed(value))
        elif member_id in self.members:
            nothing = CurrentValue(member_epoch=LEAVING_EPOCH, previous_member_epoch=LEAVING_EPOCH)
            self._put(self.members[member_id].placed(nothing))

    def _put(self, member: ConsumerMember) -> None:
        old = self.members.get(member.member_id)
        if old is None or old.assigned is not member.assigned or old.revoking is not member.revoking:
            self._release(old)
            for place in member.holds():
                self._owners[place] = member.member_id
        if member.instance_id is not None:
            self._statics[member.instance_id] = member.member_id
        self.members[member.member_id] = member

    def _remove(self, member_id: str) -> None:
        member = self.members.pop(member_id, None)
        self._release(member)
        if member is not None and member.instance_id is not None and self._statics.get(member.instance_id) == member_id:
            del self._statics[member.instance_id]

    def _release(self, member: ConsumerMember | None) -> None:
        if member is not None:
            for place in member.holds():
                if self._owners.get(place) == member.member_id:
                    del self._owners[place]


def has_left_for_a_while(member: ConsumerMember) -> bool:
    """Whether it is a static member that said it would be back."""
    return member.epoch == STATIC_LEAVING_EPOCH
