"""A group that changes its protocol while it works: classic to consumer, and back (KIP-848, online migration).

Up: the first member of the consumer protocol joins a classic group of consumers. The group's last assignment becomes target and
present assignment of everybody, its generation the group epoch; its members stay, and are served as classic members of a
consumer group. Down: the last member of the consumer protocol leaves one that has classic members. What they were to have
becomes the assignment of a classic group, which then rebalances.

One batch of records holds the whole change: the tombstones of what was and the records of what is, so a crash leaves the one
or the other. Pure.
"""

from __future__ import annotations

from chronik.coordinator.classic_members import embedded_assignment
from chronik.coordinator.consumer_records import (
    ClassicMetadata,
    ClassicProtocol,
    GroupEpochKey,
    GroupEpochValue,
    TargetEpochKey,
    TargetEpochValue,
    TargetKey,
    TargetValue,
)
from chronik.coordinator.drafting import Draft
from chronik.coordinator.embedded import read_assignment, read_subscription
from chronik.coordinator.group import Group
from chronik.coordinator.member import CONSUMER_PROTOCOL, Member
from chronik.coordinator.reconciling import ConsumerMember, listed
from chronik.coordinator.records import GroupMetadataKey, GroupMetadataValue
from chronik.coordinator.roster import Roster
from chronik.coordinator.settings import GroupSettings
from chronik.coordinator.stored import value_of
from chronik.coordinator.subscriptions import Topics
from chronik.errors import ErrorCode, KafkaError
from chronik.model import Uuid
from chronik.wire.codec import MalformedMessage


def upgrade(draft: Draft, classic: Group) -> None:
    """Write the classic group as a consumer group. Raises KafkaError(GROUP_ID_NOT_FOUND) where that is not to be."""
    settings, roster = draft.settings, classic.roster
    group_id = classic.group_id
    refusal = KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} is not a consumer group.")
    if not settings.allows_upgrade or not roster.is_consumer or len(roster) > settings.group_consumer_max_size:
        raise refusal
    try:
        members = [_consumer_member(member, classic.generation, roster, draft.topics) for member in roster]
    except MalformedMessage as error:
        raise KafkaError(
            ErrorCode.GROUP_ID_NOT_FOUND,
            f"Cannot upgrade the classic group {group_id} to consumer group because the embedded consumer protocol is "
            f"malformed.",
        ) from error
    draft.write(GroupMetadataKey(group=group_id), None)
    for member in members:
        draft.subscribe(member)
    draft.change(GroupEpochKey(group=group_id), GroupEpochValue(epoch=classic.generation))
    for member in members:
        draft.change(
            TargetKey(group=group_id, member_id=member.member_id),
            TargetValue(topic_partitions=listed(member.assigned)),
        )
    draft.change(TargetEpochKey(group=group_id), TargetEpochValue(assignment_epoch=classic.generation))
    for member in members:
        draft.place(member)


def _consumer_member(member: Member, generation: int, roster: Roster, topics: Topics) -> ConsumerMember:
    """Raises MalformedMessage where its subscription or assignment cannot be read."""
    metadata = member.protocols.get(roster.protocol_name or "") or next(iter(member.protocols.values()), b"")
    _, subscription = read_subscription(metadata)
    assigned: dict[Uuid, frozenset[int]] = {}
    for part in read_assignment(member.assignment):
        topic = topics.get(part.topic)
        if topic is not None and part.partitions:
            assigned[topic.topic_id] = frozenset(part.partitions)
    return ConsumerMember(
        member.member_id,
        member.instance_id,
        subscription.rack_id,
        member.client_id,
        member.client_host,
        member.rebalance_timeout_ms,
        frozenset(subscription.topics),
        classic=ClassicMetadata(
            session_timeout_ms=member.session_timeout_ms,
            supported_protocols=[ClassicProtocol(name=name, metadata=data) for name, data in member.protocols.items()],
        ),
        epoch=generation,
        previous_epoch=generation,
        assigned=assigned,
    )


def can_downgrade(draft: Draft, leaving: list[str], settings: GroupSettings) -> bool:
    """Whether without the `leaving` members only classic ones are left, and the group is to become a classic one."""
    gone = set(leaving)
    left = [member for member_id, member in draft.group.members.items() if member_id not in gone]
    return (
        bool(left)
        and all(member.classic is not None for member in left)
        and settings.allows_downgrade
        and len(left) <= settings.group_max_size
    )


def downgrade(draft: Draft, leaving: list[str]) -> None:
    """Write the consumer group without the `leaving` members as a classic group."""
    group = draft.group
    gone = set(leaving)
    roster = Roster()
    assignments: dict[str, bytes] = {}
    for member_id, member in group.members.items():
        if member_id not in gone:
            roster.add(_classic_member(member))
            assignments[member_id] = embedded_assignment(member, group.target_of(member_id), draft.topics)
    roster.protocol_name = roster.selected_protocol()
    value: GroupMetadataValue = value_of(roster, group.epoch, assignments)
    value.current_state_timestamp = draft.wall_ms
    draft.delete_group()
    draft.write(GroupMetadataKey(group=group.group_id), value)


def _classic_member(member: ConsumerMember) -> Member:
    assert member.classic is not None
    return Member(
        member.member_id,
        member.instance_id,
        member.client_id,
        member.client_host,
        member.rebalance_timeout_ms,
        member.classic.session_timeout_ms,
        CONSUMER_PROTOCOL,
        {protocol.name: protocol.metadata for protocol in member.classic.supported_protocols},
    )
