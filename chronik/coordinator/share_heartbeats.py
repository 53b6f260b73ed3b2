"""What is decided about a share group: members that join, stay and leave, and state that is set up and deleted (KIP-932).

A `ShareDraft` starts at the group as the log has it; each record that is written to it is replayed to a copy at once, so later
steps build on earlier ones, and a decision that writes nothing copies nothing.

Pure. Sources: KIP-932; the checks, codes and order of records of Kafka 4.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from chronik.coordinator.reconciling import JOINING_EPOCH, LEAVING_EPOCH, Assignment, listed
from chronik.coordinator.records import Entry
from chronik.coordinator.settings import GroupSettings
from chronik.coordinator.share_assignor import assign_simple
from chronik.coordinator.share_group import Kept, ShareGroup, ShareMember, state_value, with_more, without
from chronik.coordinator.share_group_records import (
    ShareCurrentKey,
    ShareEpochKey,
    ShareEpochValue,
    ShareKey,
    ShareMemberKey,
    ShareStateKey,
    ShareTargetEpochKey,
    ShareTargetEpochValue,
    ShareTargetKey,
    ShareTargetValue,
    ShareValue,
)
from chronik.coordinator.subscriptions import Topics, metadata_hash
from chronik.errors import ErrorCode, KafkaError
from chronik.model import Uuid
from chronik.wire.messages.share_group_heartbeat import Assignment as ResponseAssignment
from chronik.wire.messages.share_group_heartbeat import (
    ShareGroupHeartbeatRequest,
    ShareGroupHeartbeatResponse,
    TopicPartitions,
)


class ShareDraft:
    """The records of one decision, and the group as it will be with them. `settling` has what is being set up right now."""

    def __init__(
        self,
        group_id: str,
        group: ShareGroup | None,
        settings: GroupSettings,
        topics: Topics,
        settling: Mapping[Uuid, Kept],
    ) -> None:
        self.entries: list[Entry] = []
        self.settings = settings
        self.topics = topics
        self.settling = settling
        self._is_copy = group is None
        self.group = ShareGroup(group_id) if group is None else group

    def change(self, key: ShareKey, value: ShareValue | None) -> None:
        """Decide that this record is written, and see the group with it from now on."""
        if not self._is_copy:
            self.group, self._is_copy = self.group.copy(), True
        self.entries.append(Entry(key, value))
        self.group.replay(key, value)

    # Members.

    def subscribe(self, member: ShareMember) -> bool:
        """Write the member as it subscribes now; whether it wants other topics than before, or is new."""
        group = self.group
        old = group.members.get(member.member_id)
        if old == member:
            return False
        self.change(ShareMemberKey(group=group.group_id, member_id=member.member_id), member.subscription())
        return old is None or old.topics != member.topics

    def remove(self, member_id: str) -> None:
        """A member is out, and a new group epoch begins."""
        group_id = self.group.group_id
        self.change(ShareCurrentKey(group=group_id, member_id=member_id), None)
        self.change(ShareTargetKey(group=group_id, member_id=member_id), None)
        self.change(ShareMemberKey(group=group_id, member_id=member_id), None)
        self._begin_epoch(self._seen())

    # Epochs.

    def _existing(self) -> dict[str, Uuid]:
        """The topics that anybody wants and that there are."""
        found = ((name, self.topics.get(name)) for name in self.group.topics())
        return {name: topic.topic_id for name, topic in found if topic is not None}

    def _seen(self) -> int:
        return metadata_hash(topic for name in self.group.topics() if (topic := self.topics.get(name)) is not None)

    def _begin_epoch(self, seen: int) -> None:
        value = ShareEpochValue(epoch=self.group.epoch + 1, metadata_hash=seen)
        self.change(ShareEpochKey(group=self.group.group_id), value)

    def look_at_topics(self, bump: bool) -> dict[Uuid, Kept]:
        """Begin a new group epoch if `bump` says so, or topics are others, or more can be assigned.

        Which partitions are to be set up, so that they can be assigned later.
        """
        group = self.group
        if not bump and group.checked == self.topics.version:
            return {}
        existing = self._existing()
        seen = self._seen()
        if bump or seen != group.metadata_hash or group.has_unassigned(frozenset(existing.values())):
            self._begin_epoch(seen)
        missing: dict[Uuid, Kept] = {}
        for name, topic_id in sorted(existing.items()):
            topic = self.topics.get(name)
            assert topic is not None
            missing[topic_id] = Kept(name, frozenset(range(len(topic.partitions))))
        missing = without(without(missing, self.group.initialised), self.settling)
        if missing:
            self.keep(
                with_more(self.group.initialising, missing),
                self.group.initialised,
                without_topics(self.group.deleting, missing),
            )
        self.group.checked = self.topics.version
        return missing

    def compute_target(self) -> None:
        """Compute the target of the group epoch, if it is not there yet. Only what changes is written."""
        group = self.group
        if group.target_epoch >= group.epoch:
            return
        members: dict[str, frozenset[Uuid]] = {}
        partitions: dict[Uuid, frozenset[int]] = {}
        for member_id, member in group.members.items():
            existing = [topic for name in member.topics if (topic := self.topics.get(name)) is not None]
            members[member_id] = frozenset(topic.topic_id for topic in existing)
            for topic in existing:
                kept = group.initialised.get(topic.topic_id)
                if kept is not None:
                    partitions[topic.topic_id] = frozenset(p for p in kept.partitions if p < len(topic.partitions))
        for member_id, target in assign_simple(members, partitions, group.targets).items():
            if group.targets.get(member_id) != target:
                self.change(
                    ShareTargetKey(group=group.group_id, member_id=member_id),
                    ShareTargetValue(topic_partitions=listed(target)),
                )
        self.change(ShareTargetEpochKey(group=group.group_id), ShareTargetEpochValue(assignment_epoch=self.group.epoch))

    def reconcile(self, member_id: str) -> ShareMember:
        """Bring a member to its target; the member then."""
        group = self.group
        member = group.members[member_id]
        if member.epoch != group.target_epoch:
            moved = replace(
                member,
                epoch=group.target_epoch,
                previous_epoch=member.epoch,
                assigned=group.targets.get(member_id, {}),
            )
            self.change(ShareCurrentKey(group=group.group_id, member_id=member_id), moved.place())
        return self.group.members[member_id]

    # State.

    def keep(
        self, initialising: Mapping[Uuid, Kept], initialised: Mapping[Uuid, Kept], deleting: Mapping[Uuid, str]
    ) -> None:
        """Write of which partitions state is kept."""
        value = state_value(initialising, initialised, deleting)
        self.change(ShareStateKey(group=self.group.group_id), value)

    def delete_group(self) -> None:
        """Write the tombstones of all that the group has."""
        group, group_id = self.group, self.group.group_id
        for member_id in list(group.targets):
            self.change(ShareTargetKey(group=group_id, member_id=member_id), None)
        self.change(ShareTargetEpochKey(group=group_id), None)
        if group.has_state:
            self.change(ShareStateKey(group=group_id), None)
        self.change(ShareEpochKey(group=group_id), None)


def without_topics(deleting: Mapping[Uuid, str], topics: Iterable[Uuid]) -> dict[Uuid, str]:
    """`deleting` without what is kept again, or gone."""
    gone = frozenset(topics)
    return {topic_id: name for topic_id, name in deleting.items() if topic_id not in gone}


def check_share_request(request: ShareGroupHeartbeatRequest) -> None:
    """Whether the request makes sense, whatever the group. Raises KafkaError(INVALID_REQUEST)."""
    for value, name in ((request.member_id, "MemberId"), (request.group_id, "GroupId"), (request.rack_id, "RackId")):
        if value is not None and not value.strip():
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"{name} can't be empty.")
    if request.member_epoch == JOINING_EPOCH:
        if not request.subscribed_topic_names:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "SubscribedTopicNames must be set in first request.")
    elif request.member_epoch < LEAVING_EPOCH:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "MemberEpoch is invalid.")


def share_heartbeat(
    draft: ShareDraft, request: ShareGroupHeartbeatRequest, client_id: str, client_host: str
) -> tuple[ShareGroupHeartbeatResponse, dict[Uuid, Kept]]:
    """Take in or renew the member that asks: the answer, and which partitions are to be set up. Raises KafkaError."""
    group, member_id = draft.group, request.member_id
    joins = request.member_epoch == JOINING_EPOCH
    limit = draft.settings.group_share_max_size
    if len(group.members) >= limit and member_id not in group.members:
        raise KafkaError(
            ErrorCode.GROUP_MAX_SIZE_REACHED, f"The share group has reached its maximum capacity of {limit} members."
        )
    if joins and member_id not in group.members:
        member = ShareMember(member_id)
    else:
        member = group.member(member_id)
        _check_epoch(member, request.member_epoch)
    before = member.assigned
    names = request.subscribed_topic_names
    updated = replace(
        member,
        rack_id=member.rack_id if request.rack_id is None else request.rack_id,
        client_id=client_id,
        client_host=client_host,
        topics=member.topics if names is None else frozenset(names),
    )
    changed = draft.subscribe(updated)
    missing = draft.look_at_topics(bump=changed)
    draft.compute_target()
    member = draft.reconcile(member_id)
    response = ShareGroupHeartbeatResponse(
        member_id=member_id,
        member_epoch=member.epoch,
        heartbeat_interval_ms=draft.topics.share_heartbeat_interval_ms(request.group_id, draft.settings.group_consumer),
    )
    if joins or names is not None or member.assigned != before:
        response.assignment = _assignment(member.assigned)
    return response, missing


def _check_epoch(member: ShareMember, epoch: int) -> None:
    """Whether the member is where we know it. It may be one epoch behind, where the answer that moved it was lost."""
    if epoch > member.epoch:
        raise KafkaError(
            ErrorCode.FENCED_MEMBER_EPOCH,
            f"The share group member has a greater member epoch ({epoch}) than the one known by the group coordinator "
            f"({member.epoch}). The member must abandon all its partitions and rejoin.",
        )
    if epoch < member.epoch and epoch != member.previous_epoch:
        raise KafkaError(
            ErrorCode.FENCED_MEMBER_EPOCH,
            f"The share group member has a smaller member epoch ({epoch}) than the one known by the group coordinator "
            f"({member.epoch}), and it does not match the previous member epoch ({member.previous_epoch}). The member "
            f"must abandon all its partitions and rejoin.",
        )


def _assignment(assigned: Assignment) -> ResponseAssignment:
    return ResponseAssignment(
        topic_partitions=[
            TopicPartitions(topic_id=topic_id, partitions=sorted(partitions))
            for topic_id, partitions in assigned.items()
        ]
    )
