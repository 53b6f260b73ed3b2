"""Consumer groups seen from outside: how they are listed and described, and who may commit and fetch their offsets. Pure.

Sources: KIP-848, KIP-1099 (member types); the checks and codes of Kafka 4.1.
"""

from __future__ import annotations

from chronik.coordinator.consumer_group import ConsumerGroup
from chronik.coordinator.member import CONSUMER_PROTOCOL
from chronik.coordinator.offsets import OffsetStore, tombstone
from chronik.coordinator.reconciling import Assignment, ConsumerMember
from chronik.coordinator.records import NO_TIMESTAMP, Entry
from chronik.coordinator.subscriptions import Topics
from chronik.errors import ErrorCode, KafkaError
from chronik.wire.messages.consumer_group_describe import Assignment as DescribedAssignment
from chronik.wire.messages.consumer_group_describe import DescribedGroup, TopicPartitions
from chronik.wire.messages.consumer_group_describe import Member as DescribedMember
from chronik.wire.messages.describe_groups import DescribedGroup as ClassicDescribedGroup
from chronik.wire.messages.describe_groups import DescribedGroupMember as ClassicDescribedMember
from chronik.wire.messages.list_groups import ListedGroup

_EPOCHS_SINCE = 9  # of OffsetCommit
_CLASSIC_MEMBER, _CONSUMER_MEMBER = 0, 1


def consumer_listing(group: ConsumerGroup) -> ListedGroup:
    """The group as ListGroups has it."""
    return ListedGroup(
        group_id=group.group_id,
        protocol_type=CONSUMER_PROTOCOL,
        group_state=group.state.value,
        group_type="consumer",
    )


def describe_consumer_group(group: ConsumerGroup, topics: Topics, default_assignor: str) -> DescribedGroup:
    """The group as ConsumerGroupDescribe has it. Topics that are gone are left out."""
    return DescribedGroup(
        group_id=group.group_id,
        group_state=group.state.value,
        group_epoch=group.epoch,
        assignment_epoch=group.target_epoch,
        assignor_name=group.preferred_assignor(default_assignor),
        members=[_member(member, group.target_of(member.member_id), topics) for member in group.members.values()],
    )


def summary(group: ConsumerGroup, default_assignor: str) -> ClassicDescribedGroup:
    """The group in the form of a classic one, for those who look at groups of either kind; the assignor is its protocol."""
    return ClassicDescribedGroup(
        group_id=group.group_id,
        group_state=group.state.value,
        protocol_type=CONSUMER_PROTOCOL,
        protocol_data=group.preferred_assignor(default_assignor),
        members=[
            ClassicDescribedMember(
                member_id=member.member_id,
                group_instance_id=member.instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
            )
            for member in group.members.values()
        ],
    )


def _member(member: ConsumerMember, target: Assignment, topics: Topics) -> DescribedMember:
    return DescribedMember(
        member_id=member.member_id,
        instance_id=member.instance_id,
        rack_id=member.rack_id,
        member_epoch=member.epoch,
        client_id=member.client_id,
        client_host=member.client_host,
        subscribed_topic_names=sorted(member.topics),
        subscribed_topic_regex=member.regex,
        assignment=_assignment(member.assigned, topics),
        target_assignment=_assignment(target, topics),
        member_type=_CONSUMER_MEMBER if member.classic is None else _CLASSIC_MEMBER,
    )


def _assignment(assignment: Assignment, topics: Topics) -> DescribedAssignment:
    named = ((topic_id, topics.name_of(topic_id), partitions) for topic_id, partitions in assignment.items())
    return DescribedAssignment(
        topic_partitions=[
            TopicPartitions(topic_id=topic_id, topic_name=name, partitions=sorted(partitions))
            for topic_id, name, partitions in named
            if name is not None
        ]
    )


def check_commit(group: ConsumerGroup, member_id: str, epoch: int, version: int) -> None:
    """Whether offsets may be committed. Raises KafkaError(UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH, ...)."""
    if epoch < 0 and not group.members:
        return  # a consumer that assigns its partitions itself, or an administrator
    member = group.member(member_id)
    if member.classic is None and version < _EPOCHS_SINCE:
        raise KafkaError(
            ErrorCode.UNSUPPORTED_VERSION,
            "OffsetCommit version 9 or above must be used by members using the modern group protocol",
        )
    group.check_epoch(member, epoch)


def check_fetch(group: ConsumerGroup, member_id: str | None, epoch: int) -> None:
    """Whether offsets may be fetched; who names no member may. Raises the same."""
    if member_id is None and epoch < 0:
        return
    group.check_epoch(group.member(member_id or ""), epoch)


def expired_offsets(group: ConsumerGroup, offsets: OffsetStore, now_ms: int, retention_ms: int) -> list[Entry]:
    """The records that delete what was committed longer than the retention ago, of topics that nobody subscribes to."""
    entries = []
    for place, committed in offsets.all(group.group_id).items():
        due = committed.committed_ms + retention_ms
        if committed.expires_ms != NO_TIMESTAMP:
            due = committed.expires_ms
        if now_ms < due or group.subscribes_to(place.topic) or offsets.pending.has(group.group_id, place):
            continue
        if not offsets.is_in_flight(group.group_id, place):
            entries.append(tombstone(group.group_id, place))
    return entries
