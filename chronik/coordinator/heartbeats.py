"""ConsumerGroupHeartbeat decided: joining, staying in and leaving a group of the consumer protocol (KIP-848).

Each function takes a `Draft` and writes to it what the request changes; the answer it returns is due once that is in the log.
Timers are not touched here: `chronik.coordinator.consumer_shard` sets them by what the group looks like afterwards.

Pure. Sources: KIP-848; the checks and codes of Kafka 4.1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from chronik.coordinator.consumer_group import ConsumerGroup, has_left_for_a_while
from chronik.coordinator.drafting import Draft
from chronik.coordinator.reconciling import (
    JOINING_EPOCH,
    LEAVING_EPOCH,
    NOTHING,
    STATIC_LEAVING_EPOCH,
    Assignment,
    ConsumerMember,
    is_within,
)
from chronik.coordinator.settings import GroupSettings
from chronik.coordinator.subscriptions import compile_subscription
from chronik.errors import ErrorCode, KafkaError
from chronik.wire.messages.consumer_group_heartbeat import Assignment as ResponseAssignment
from chronik.wire.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)

_MEMBERS_NAME_THEMSELVES = 1
_UNSET = -1


class Heartbeater(NamedTuple):
    """Who sends a heartbeat, beside what it says. `fresh_id` is a new random text, for a member that has no id."""

    client_id: str
    client_host: str
    api_version: int
    fresh_id: str


def check_request(request: ConsumerGroupHeartbeatRequest, version: int, settings: GroupSettings) -> None:
    """Whether the request makes sense, whatever the group. Raises KafkaError(INVALID_REQUEST, ...)."""
    epoch = request.member_epoch
    if version >= _MEMBERS_NAME_THEMSELVES or epoch > 0 or epoch == LEAVING_EPOCH:
        _not_empty(request.member_id, "MemberId")
    _not_empty(request.group_id, "GroupId")
    _not_empty(request.instance_id, "InstanceId")
    _not_empty(request.rack_id, "RackId")
    if epoch == JOINING_EPOCH:
        if request.rebalance_timeout_ms == _UNSET:
            raise _invalid("RebalanceTimeoutMs must be provided in first request.")
        if request.topic_partitions is None or request.topic_partitions:
            raise _invalid("TopicPartitions must be empty when (re-)joining.")
        if request.subscribed_topic_names is None and request.subscribed_topic_regex is None:
            raise _invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.")
    elif epoch == STATIC_LEAVING_EPOCH:
        if request.instance_id is None:
            raise _invalid("InstanceId can't be null.")
    elif epoch < STATIC_LEAVING_EPOCH:
        raise _invalid("MemberEpoch is invalid.")
    if request.rebalance_timeout_ms < _UNSET:
        raise _invalid("RebalanceTimeoutMs is invalid.")
    assignor, supported = request.server_assignor, settings.group_consumer_assignors
    if assignor is not None and assignor not in supported:
        raise KafkaError(
            ErrorCode.UNSUPPORTED_ASSIGNOR,
            f"ServerAssignor {assignor:.200} is not supported. Supported assignors: {', '.join(supported)}.",
        )


def _invalid(message: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_REQUEST, message)


def _not_empty(value: str | None, name: str) -> None:
    if value is not None and not value.strip():
        raise _invalid(f"{name} can't be empty.")


# Joining and staying.


def heartbeat(
    draft: Draft, request: ConsumerGroupHeartbeatRequest, sender: Heartbeater
) -> ConsumerGroupHeartbeatResponse:
    """Take in, renew or bring forward the member that asks. Raises KafkaError for a request to be refused."""
    joins = request.member_epoch == JOINING_EPOCH
    owned = owned_partitions(request.topic_partitions)
    member_id = request.member_id or sender.fresh_id
    check_size(draft.group, member_id, draft.settings)
    if request.instance_id is None:
        member = _dynamic(draft.group, member_id, request.member_epoch, owned)
    else:
        member = _static(draft, member_id, request.instance_id, request.member_epoch, owned)
    before = member.assigned
    if request.subscribed_topic_regex and request.subscribed_topic_regex != member.regex:
        compile_subscription(request.subscribed_topic_regex)
    updated = _updated(member, request, sender)
    changed = draft.subscribe(updated)
    draft.look_at_topics(bump=changed or draft.group.epoch == 0)
    draft.compute_target()
    member = draft.reconcile(member_id, owned)
    response = ConsumerGroupHeartbeatResponse(
        member_id=member_id,
        member_epoch=member.epoch,
        heartbeat_interval_ms=draft.topics.heartbeat_interval_ms(request.group_id, draft.settings.group_consumer),
    )
    in_full = request.rebalance_timeout_ms != _UNSET and owned is not None
    in_full = in_full and (request.subscribed_topic_names is not None or request.subscribed_topic_regex is not None)
    if joins or in_full or member.assigned != before:
        response.assignment = ResponseAssignment(
            topic_partitions=[
                TopicPartitions(topic_id=topic_id, partitions=sorted(partitions))
                for topic_id, partitions in member.assigned.items()
            ]
        )
    return response


def owned_partitions(topics: Iterable[TopicPartitions] | None) -> Assignment | None:
    """What a member says it has; None when it doesn't say."""
    return None if topics is None else {topic.topic_id: frozenset(topic.partitions) for topic in topics}


def check_size(group: ConsumerGroup, member_id: str, settings: GroupSettings) -> None:
    """Whether the group has room. Raises KafkaError(GROUP_MAX_SIZE_REACHED)."""
    limit = settings.group_consumer_max_size
    if len(group.members) >= limit and member_id not in group.members:
        raise KafkaError(
            ErrorCode.GROUP_MAX_SIZE_REACHED,
            f"The consumer group has reached its maximum capacity of {limit} members.",
        )


def _updated(member: ConsumerMember, request: ConsumerGroupHeartbeatRequest, sender: Heartbeater) -> ConsumerMember:
    """The member with what the request says of it; null fields are as before."""
    names = request.subscribed_topic_names
    return replace(
        member,
        instance_id=member.instance_id if request.instance_id is None else request.instance_id,
        rack_id=member.rack_id if request.rack_id is None else request.rack_id,
        client_id=sender.client_id,
        client_host=sender.client_host,
        rebalance_timeout_ms=(
            member.rebalance_timeout_ms if request.rebalance_timeout_ms == _UNSET else request.rebalance_timeout_ms
        ),
        topics=member.topics if names is None else frozenset(names),
        regex=member.regex if request.subscribed_topic_regex is None else request.subscribed_topic_regex,
        assignor=member.assignor if request.server_assignor is None else request.server_assignor,
        classic=None,
    )


def _dynamic(group: ConsumerGroup, member_id: str, epoch: int, owned: Assignment | None) -> ConsumerMember:
    """The member of that id; one that joins may be new."""
    if epoch == JOINING_EPOCH and member_id not in group.members:
        return ConsumerMember(member_id)
    member = group.member(member_id)
    _check_epoch(member, epoch, owned)
    return member


def _static(draft: Draft, member_id: str, instance_id: str, epoch: int, owned: Assignment | None) -> ConsumerMember:
    """The member that stands for the instance id. One that joins takes the place of one that has left."""
    known = draft.group.static_member(instance_id)
    if epoch != JOINING_EPOCH:
        member = check_static(known, member_id, instance_id)
        _check_epoch(member, epoch, owned)
        return member
    if known is None:
        return draft.group.members.get(member_id) or ConsumerMember(member_id)
    if known.member_id == member_id and known.classic is None and not has_left_for_a_while(known):
        _check_epoch(known, epoch, owned)  # the answer to its join was lost
        return known
    if known.classic is None and not has_left_for_a_while(known):
        raise KafkaError(
            ErrorCode.UNRELEASED_INSTANCE_ID,
            f"Static member {member_id:.200} with instance id {instance_id:.200} cannot join the group because the "
            f"instance id is owned by {known.member_id} member.",
        )
    return draft.replace(known, member_id)


def check_static(member: ConsumerMember | None, member_id: str, instance_id: str) -> ConsumerMember:
    """The static member, if it is the one it says. Raises KafkaError(UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID)."""
    if member is None:
        raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID, f"Instance id {instance_id:.200} is unknown.")
    if member.member_id != member_id:
        raise KafkaError(
            ErrorCode.FENCED_INSTANCE_ID,
            f"Static member {member_id:.200} with instance id {instance_id:.200} was fenced by member "
            f"{member.member_id}.",
        )
    return member


def _check_epoch(member: ConsumerMember, epoch: int, owned: Assignment | None) -> None:
    """Whether the member is where we know it. It may be one epoch behind, where the answer that moved it was lost."""
    if epoch == member.epoch or (
        epoch < member.epoch and epoch == member.previous_epoch and is_within(owned, member.assigned)
    ):
        return
    relation = "greater" if epoch > member.epoch else "smaller"
    raise KafkaError(
        ErrorCode.FENCED_MEMBER_EPOCH,
        f"The consumer group member has a {relation} member epoch ({epoch}) than the one known by the group coordinator "
        f"({member.epoch}). The member must abandon all its partitions and rejoin.",
    )


# Leaving.


def leaving(draft: Draft, request: ConsumerGroupHeartbeatRequest) -> ConsumerMember:
    """The member that leaves. Raises KafkaError when it is not known."""
    if request.instance_id is None:
        return draft.group.member(request.member_id)
    return check_static(draft.group.static_member(request.instance_id), request.member_id, request.instance_id)


def leave_for_a_while(draft: Draft, member: ConsumerMember) -> None:
    """A static member says that it will be back: it keeps what it has until its session ends."""
    draft.place(replace(member, epoch=STATIC_LEAVING_EPOCH, revoking=NOTHING))


def remove_members(draft: Draft, member_ids: Iterable[str]) -> None:
    """Members are out: what they had is free, and a new group epoch begins."""
    for member_id in member_ids:
        draft.remove(member_id)
    draft.look_at_topics(bump=True)
