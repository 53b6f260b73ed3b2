"""One share group (KIP-932) as the log has it: members, epochs, targets, and of which partitions state is kept.

As in a consumer group, the group epoch grows with every change of members, subscriptions or topics, and the target is computed
for a group epoch. But a partition may have many owners, so a member takes its target over at once: there is nothing to give
back. It is Empty without members, else Stable.

Only partitions of which the share coordinator keeps state are assigned. It is set up when somebody subscribes: until then
they are *initialising*.

It changes by `replay` alone; decisions work on a copy, to which each record is replayed as it is decided. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from chronik.coordinator.reconciling import Assignment, assignment_of, listed
from chronik.coordinator.share_group_records import (
    ShareCurrentKey,
    ShareCurrentValue,
    ShareEpochKey,
    ShareEpochValue,
    ShareKey,
    ShareMemberKey,
    ShareMemberValue,
    ShareStateKey,
    ShareStateValue,
    ShareTargetEpochKey,
    ShareTargetEpochValue,
    ShareTargetKey,
    ShareTargetValue,
    ShareValue,
    TopicInfo,
    TopicPartitionsInfo,
)
from chronik.errors import ErrorCode, KafkaError
from chronik.model import Uuid

NOBODY = -1
"""The epoch of a member that is out."""


@dataclass(frozen=True, slots=True)
class ShareMember:
    """One member. `topics` are names, whether they exist or not."""

    member_id: str
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    topics: frozenset[str] = frozenset()
    epoch: int = 0
    previous_epoch: int = 0
    assigned: Assignment = field(default_factory=dict, hash=False)

    def subscription(self) -> ShareMemberValue:
        """The record of its subscription."""
        return ShareMemberValue(
            rack_id=self.rack_id,
            client_id=self.client_id,
            client_host=self.client_host,
            subscribed_topic_names=sorted(self.topics),
        )

    def place(self) -> ShareCurrentValue:
        """The record of its epoch and partitions."""
        return ShareCurrentValue(
            member_epoch=self.epoch,
            previous_member_epoch=self.previous_epoch,
            assigned_partitions=listed(self.assigned),
        )


class Kept(NamedTuple):
    """Partitions of one topic, of which state is kept or set up."""

    name: str
    partitions: frozenset[int]


class ShareGroup:
    """The replayed state of one group. Its members are values; the maps are not to be changed from outside.

    `checked` is the version of the topics that the group has last been held against, 0 for none since it was loaded or since
    state is kept of other partitions. It alone is not in the log: a group that is loaded looks at its topics anew.
    """

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.epoch = 0
        self.metadata_hash = 0
        self.target_epoch = 0
        self.members: dict[str, ShareMember] = {}
        self.targets: dict[str, Assignment] = {}
        self.initialising: Mapping[Uuid, Kept] = {}
        self.initialised: Mapping[Uuid, Kept] = {}
        self.deleting: Mapping[Uuid, str] = {}
        self.has_state = False
        self.checked = 0

    def copy(self) -> ShareGroup:
        """The same state, to be changed on its own."""
        other = ShareGroup(self.group_id)
        other.epoch, other.metadata_hash, other.target_epoch = self.epoch, self.metadata_hash, self.target_epoch
        other.members, other.targets = self.members.copy(), self.targets.copy()
        other.initialising, other.initialised, other.deleting = self.initialising, self.initialised, self.deleting
        other.has_state, other.checked = self.has_state, self.checked
        return other

    # What follows from the state.

    @property
    def state(self) -> str:
        """By the name that ListGroups and ShareGroupDescribe give it."""
        return "Stable" if self.members else "Empty"

    def member(self, member_id: str) -> ShareMember:
        """The member of that id. Raises KafkaError(UNKNOWN_MEMBER_ID)."""
        member = self.members.get(member_id)
        if member is None:
            raise KafkaError(
                ErrorCode.UNKNOWN_MEMBER_ID, f"Member {member_id:.200} is not a member of group {self.group_id}."
            )
        return member

    def topics(self) -> frozenset[str]:
        """The names of all topics that anybody wants."""
        return frozenset().union(*(member.topics for member in self.members.values()))

    def has_unassigned(self, wanted: frozenset[Uuid]) -> bool:
        """Whether state is kept of partitions of `wanted` topics that are in nobody's target."""
        given: dict[Uuid, set[int]] = {}
        for target in self.targets.values():
            for topic_id, partitions in target.items():
                given.setdefault(topic_id, set()).update(partitions)
        return any(
            topic_id in wanted and not kept.partitions <= given.get(topic_id, set())
            for topic_id, kept in self.initialised.items()
        )

    def check_empty(self) -> None:
        """Raises KafkaError(NON_EMPTY_GROUP)."""
        if self.members:
            raise KafkaError(ErrorCode.NON_EMPTY_GROUP, f"group {self.group_id!r:.200} has members")

    # The log.

    def replay(self, key: ShareKey, value: ShareValue | None) -> None:
        """Take over one record, in the order of the log. A group whose epoch is deleted is no more."""
        if isinstance(key, ShareMemberKey):
            if value is None:
                self.members.pop(key.member_id, None)
            else:
                assert isinstance(value, ShareMemberValue)
                self.members[key.member_id] = replace(
                    self._known(key.member_id),
                    rack_id=value.rack_id,
                    client_id=value.client_id,
                    client_host=value.client_host,
                    topics=frozenset(value.subscribed_topic_names),
                )
        elif isinstance(key, ShareCurrentKey):
            assert value is None or isinstance(value, ShareCurrentValue)
            self._replay_current(key.member_id, value)
        elif isinstance(key, ShareTargetKey):
            if value is None:
                self.targets.pop(key.member_id, None)
            else:
                assert isinstance(value, ShareTargetValue)
                self.targets[key.member_id] = assignment_of(value.topic_partitions)
        elif isinstance(key, ShareTargetEpochKey):
            assert value is None or isinstance(value, ShareTargetEpochValue)
            self.target_epoch = 0 if value is None else value.assignment_epoch
        elif isinstance(key, ShareEpochKey):
            if value is not None:
                assert isinstance(value, ShareEpochValue)
                self.epoch, self.metadata_hash = value.epoch, value.metadata_hash
        elif isinstance(key, ShareStateKey):
            assert value is None or isinstance(value, ShareStateValue)
            self._replay_state(value)

    def _known(self, member_id: str) -> ShareMember:
        return self.members.get(member_id) or ShareMember(member_id)

    def _replay_current(self, member_id: str, value: ShareCurrentValue | None) -> None:
        if value is not None:
            self.members[member_id] = replace(
                self._known(member_id),
                epoch=value.member_epoch,
                previous_epoch=value.previous_member_epoch,
                assigned=assignment_of(value.assigned_partitions),
            )
        elif member_id in self.members:
            member = self.members[member_id]
            self.members[member_id] = replace(member, epoch=NOBODY, previous_epoch=NOBODY, assigned={})

    def _replay_state(self, value: ShareStateValue | None) -> None:
        self.has_state = value is not None
        value = value or ShareStateValue()
        self.initialising = _kept(value.initializing_topics)
        self.initialised = _kept(value.initialized_topics)
        self.deleting = {topic.topic_id: topic.topic_name for topic in value.deleting_topics}
        self.checked = 0


def _kept(topics: list[TopicPartitionsInfo]) -> Mapping[Uuid, Kept]:
    return {topic.topic_id: Kept(topic.topic_name, frozenset(topic.partitions)) for topic in topics}


def state_value(
    initialising: Mapping[Uuid, Kept], initialised: Mapping[Uuid, Kept], deleting: Mapping[Uuid, str]
) -> ShareStateValue:
    """The record of which partitions state is kept."""

    def infos(topics: Mapping[Uuid, Kept]) -> list[TopicPartitionsInfo]:
        return [
            TopicPartitionsInfo(topic_id=topic_id, topic_name=kept.name, partitions=sorted(kept.partitions))
            for topic_id, kept in topics.items()
            if kept.partitions
        ]

    return ShareStateValue(
        initializing_topics=infos(initialising),
        initialized_topics=infos(initialised),
        deleting_topics=[TopicInfo(topic_id=topic_id, topic_name=name) for topic_id, name in deleting.items()],
    )


def with_more(topics: Mapping[Uuid, Kept], more: Mapping[Uuid, Kept]) -> dict[Uuid, Kept]:
    """The partitions of both."""
    out = dict(topics)
    for topic_id, kept in more.items():
        before = out.get(topic_id)
        out[topic_id] = kept if before is None else Kept(kept.name, before.partitions | kept.partitions)
    return out


def without(topics: Mapping[Uuid, Kept], fewer: Mapping[Uuid, Kept]) -> dict[Uuid, Kept]:
    """The partitions of `topics` that are not in `fewer`."""
    none = Kept("", frozenset())
    left = {
        topic_id: Kept(kept.name, kept.partitions - fewer.get(topic_id, none).partitions)
        for topic_id, kept in topics.items()
    }
    return {topic_id: kept for topic_id, kept in left.items() if kept.partitions}
