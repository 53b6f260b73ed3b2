"""What one decision about a consumer group is going to write, and the steps that all such decisions are made of.

A `Draft` starts at the group as the log has it. Each record that is written to it is replayed to a copy at once, so later
steps build on earlier ones; a decision that writes nothing copies nothing. The steps: take a member in, change or remove it;
hold the group against its topics and begin a new group epoch; compute the target; bring one member closer to it.

Pure. Source: KIP-848; the order of the records is Kafka 4.1's.
"""

from __future__ import annotations

from dataclasses import replace

from chronik.coordinator.assignors import ASSIGNORS, Subscriber
from chronik.coordinator.consumer_group import ConsumerGroup
from chronik.coordinator.consumer_records import (
    ConsumerKey,
    ConsumerValue,
    CurrentKey,
    GroupEpochKey,
    GroupEpochValue,
    MemberKey,
    PartitionMetadataKey,
    RegexKey,
    RegexValue,
    TargetEpochKey,
    TargetEpochValue,
    TargetKey,
    TargetValue,
)
from chronik.coordinator.reconciling import Assignment, ConsumerMember, listed, reconcile
from chronik.coordinator.records import Entry, Key, Value
from chronik.coordinator.settings import GroupSettings
from chronik.coordinator.subscriptions import Topics, metadata_hash
from chronik.model import Uuid


class Draft:
    """The records of one decision, and the group as it will be with them. `wall_ms` is the time since 1970."""

    def __init__(
        self, group_id: str, group: ConsumerGroup | None, settings: GroupSettings, topics: Topics, wall_ms: int
    ) -> None:
        self.entries: list[Entry] = []
        self.settings = settings
        self.topics = topics
        self.wall_ms = wall_ms
        self._is_copy = group is None
        self.group = ConsumerGroup(group_id) if group is None else group

    def write(self, key: Key, value: Value | None) -> None:
        """Decide that this record is written."""
        self.entries.append(Entry(key, value))

    def change(self, key: ConsumerKey, value: ConsumerValue | None) -> None:
        """Decide that this record of the group is written, and see the group with it from now on."""
        if not self._is_copy:
            self.group, self._is_copy = self.group.copy(), True
        self.write(key, value)
        self.group.replay(key, value)

    # Members.

    def subscribe(self, member: ConsumerMember) -> bool:
        """Write the member as it subscribes now; whether its subscription is another one, or it is new."""
        group = self.group
        old = group.members.get(member.member_id)
        if old == member:
            return False
        self.change(MemberKey(group=group.group_id, member_id=member.member_id), member.subscription())
        return old is None or old.topics != member.topics or old.regex != member.regex

    def place(self, member: ConsumerMember) -> None:
        """Write the member's epoch and partitions."""
        self.change(CurrentKey(group=self.group.group_id, member_id=member.member_id), member.place())

    def remove(self, member_id: str) -> None:
        """Take a member out."""
        group_id = self.group.group_id
        self.change(CurrentKey(group=group_id, member_id=member_id), None)
        self.change(TargetKey(group=group_id, member_id=member_id), None)
        self.change(MemberKey(group=group_id, member_id=member_id), None)

    def replace(self, old: ConsumerMember, member_id: str) -> ConsumerMember:
        """Let a static member go on under a new member id, with what it had."""
        target = self.group.target_of(old.member_id)
        self.remove(old.member_id)
        member = replace(old, member_id=member_id, epoch=0, previous_epoch=0)
        group_id = self.group.group_id
        self.change(MemberKey(group=group_id, member_id=member_id), member.subscription())
        self.change(TargetKey(group=group_id, member_id=member_id), TargetValue(topic_partitions=listed(target)))
        self.place(member)
        return self.group.members[member_id]

    # Epochs.

    def look_at_topics(self, bump: bool) -> None:
        """Resolve patterns, and begin a new group epoch if topics are others than before, or if `bump` says so."""
        group = self.group
        if not bump and group.checked == self.topics.version:
            return
        wanted = {member.regex for member in group.members.values() if member.regex}
        for pattern in [known for known in group.regexes if known not in wanted]:
            self.change(RegexKey(group=group.group_id, regular_expression=pattern), None)
        for pattern in sorted(wanted):
            matched = self.topics.matching(pattern)
            if group.regexes.get(pattern) != matched:
                self.change(
                    RegexKey(group=group.group_id, regular_expression=pattern),
                    RegexValue(topics=sorted(matched), version=self.topics.version, timestamp=self.wall_ms),
                )
            group = self.group
        group = self.group
        names = frozenset().union(*map(group.topics_of, group.members.values()))
        seen = metadata_hash(topic for name in names if (topic := self.topics.get(name)) is not None)
        if bump or seen != group.metadata_hash:
            if group.has_partition_metadata:
                self.change(PartitionMetadataKey(group=group.group_id), None)
            value = GroupEpochValue(epoch=group.epoch + 1, metadata_hash=seen)
            self.change(GroupEpochKey(group=group.group_id), value)
        self.group.checked = self.topics.version

    def compute_target(self) -> None:
        """Compute the target of the group epoch, if it is not there yet. Only what changes is written."""
        group = self.group
        if group.target_epoch >= group.epoch:
            return
        counts: dict[Uuid, int] = {}
        members: dict[str, Subscriber] = {}
        found: dict[frozenset[str], frozenset[Uuid]] = {}  # most members subscribe to the same topics
        for member_id, member in group.members.items():
            names = group.topics_of(member)
            topic_ids = found.get(names)
            if topic_ids is None:
                existing = [topic for name in names if (topic := self.topics.get(name)) is not None]
                counts.update((topic.topic_id, len(topic.partitions)) for topic in existing)
                topic_ids = found[names] = frozenset(topic.topic_id for topic in existing)
            members[member_id] = Subscriber(topic_ids, group.target_of(member_id), member.instance_id)
        assignor = ASSIGNORS[group.preferred_assignor(self.settings.default_assignor)]
        for member_id, target in assignor(members, counts).items():
            if group.targets.get(member_id) != target:
                self.change(
                    TargetKey(group=group.group_id, member_id=member_id), TargetValue(topic_partitions=listed(target))
                )
        self.change(TargetEpochKey(group=group.group_id), TargetEpochValue(assignment_epoch=group.epoch))

    def reconcile(self, member_id: str, owned: Assignment | None) -> ConsumerMember:
        """Bring a member one step closer to its target; the member then."""
        group = self.group
        member = group.members[member_id]
        moved = reconcile(member, group.target_epoch, group.target_of(member_id), group.owner_of, owned)
        if moved != member:
            self.place(moved)
        return self.group.members[member_id]

    def delete_group(self) -> None:
        """Write the tombstones of all that the group has."""
        group, group_id = self.group, self.group.group_id
        for member_id in list(group.members):
            self.remove(member_id)
        for member_id in list(self.group.targets):
            self.change(TargetKey(group=group_id, member_id=member_id), None)
        self.change(TargetEpochKey(group=group_id), None)
        for pattern in list(group.regexes):
            self.change(RegexKey(group=group_id, regular_expression=pattern), None)
        if group.has_partition_metadata:
            self.change(PartitionMetadataKey(group=group_id), None)
        self.change(GroupEpochKey(group=group_id), None)
