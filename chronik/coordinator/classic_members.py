"""Members of the classic protocol in a consumer group: what JoinGroup, SyncGroup, Heartbeat and LeaveGroup mean there.

To its classic members a consumer group looks like a classic one that rebalances often. Nobody leads and nobody waits: a join
is answered at once with the member's epoch as the generation, its sync with what it has been assigned. Where the coordinator
wants something of the member (give partitions back, fetch new ones), its heartbeat is answered REBALANCE_IN_PROGRESS, and it
joins again; what it still has it says in its subscription.

Pure. Sources: KIP-848, online migration; the checks and codes of Kafka 4.1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from chronik.coordinator.consumer_group import ConsumerGroup
from chronik.coordinator.consumer_records import ClassicMetadata, ClassicProtocol
from chronik.coordinator.drafting import Draft
from chronik.coordinator.effects import Joiner, join_refused
from chronik.coordinator.embedded import OwnedTopic, Subscription, read_subscription, write_assignment
from chronik.coordinator.heartbeats import check_size, check_static
from chronik.coordinator.member import CONSUMER_PROTOCOL
from chronik.coordinator.reconciling import Assignment, ConsumerMember, MemberState
from chronik.coordinator.subscriptions import Topics
from chronik.errors import ErrorCode, KafkaError
from chronik.wire.codec import MalformedMessage
from chronik.wire.messages.join_group import JoinGroupRequest, JoinGroupResponse
from chronik.wire.messages.leave_group import MemberIdentity, MemberResponse
from chronik.wire.messages.sync_group import SyncGroupRequest, SyncGroupResponse

_MEMBER_ID_REQUIRED = 4


class Joined(NamedTuple):
    """A classic member's join: the answer, and whom it took the place of (as a static member), by member id."""

    response: JoinGroupResponse
    replaced: ConsumerMember | None


def join(draft: Draft, request: JoinGroupRequest, joiner: Joiner) -> Joined:
    """Take in or bring forward a classic member. Raises KafkaError for a request to be refused."""
    group = draft.group
    instance_id = request.group_instance_id
    member_id = request.member_id or f"{instance_id or joiner.client_id}-{joiner.fresh_id}"
    check_size(group, member_id, draft.settings)
    if not group.supports(request.protocol_type, {protocol.name for protocol in request.protocols}):
        raise KafkaError(
            ErrorCode.INCONSISTENT_GROUP_PROTOCOL, f"Member {member_id:.200}'s protocols are not supported."
        )
    if not request.member_id and instance_id is None and joiner.api_version >= _MEMBER_ID_REQUIRED:
        return Joined(join_refused(member_id, ErrorCode.MEMBER_ID_REQUIRED), None)
    subscription = _subscription_of(request)
    replaced = group.static_member(instance_id)
    if replaced is not None and not request.member_id:
        member = draft.replace(replaced, member_id)
    elif instance_id is not None and request.member_id:
        member, replaced = check_static(replaced, member_id, instance_id), None
    else:
        member, replaced = group.members.get(member_id) or ConsumerMember(member_id), None
    changed = draft.subscribe(
        replace(
            member,
            instance_id=instance_id,
            rack_id=member.rack_id if subscription.rack_id is None else subscription.rack_id,
            client_id=joiner.client_id,
            client_host=joiner.client_host,
            rebalance_timeout_ms=request.rebalance_timeout_ms,
            topics=frozenset(subscription.topics),
            regex="",
            assignor=None,
            classic=ClassicMetadata(
                session_timeout_ms=request.session_timeout_ms,
                supported_protocols=[
                    ClassicProtocol(name=protocol.name, metadata=bytes(protocol.metadata))
                    for protocol in request.protocols
                ],
            ),
        )
    )
    draft.look_at_topics(bump=changed)
    draft.compute_target()
    member = draft.reconcile(member_id, _owned(subscription, draft.topics))
    return Joined(
        JoinGroupResponse(
            member_id=member_id,
            generation_id=member.epoch,
            protocol_type=CONSUMER_PROTOCOL,
            protocol_name=protocol_of(member),
            leader="",
        ),
        replaced,
    )


def _subscription_of(request: JoinGroupRequest) -> Subscription:
    """What the member wants: all its protocols carry the same."""
    try:
        _, subscription = read_subscription(bytes(request.protocols[0].metadata))
    except MalformedMessage as error:
        raise KafkaError(
            ErrorCode.INCONSISTENT_GROUP_PROTOCOL, f"the embedded subscription cannot be read: {error}"
        ) from error
    return subscription


def _owned(subscription: Subscription, topics: Topics) -> Assignment:
    """What the member says it has. An eager member says nothing: it gave everything back before it joined."""
    owned: dict[bytes, frozenset[int]] = {}
    for part in subscription.owned_partitions:
        topic = topics.get(part.topic)
        if topic is not None:
            owned[topic.topic_id] = owned.get(topic.topic_id, frozenset()) | frozenset(part.partitions)
    return owned


def protocol_of(member: ConsumerMember) -> str:
    """The protocol that the member was told the group follows."""
    assert member.classic is not None
    return member.classic.supported_protocols[0].name


def check_member(group: ConsumerGroup, member_id: str, instance_id: str | None, generation: int) -> ConsumerMember:
    """The classic member, if it is the one it says, of that generation. Raises KafkaError."""
    if instance_id is None:
        member = group.member(member_id)
    else:
        member = check_static(group.static_member(instance_id), member_id, instance_id)
    if member.classic is None:
        raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID, f"Member {member_id:.200} does not use the classic protocol.")
    if generation != member.epoch:
        raise KafkaError(
            ErrorCode.ILLEGAL_GENERATION,
            f"The request generation id {generation} is not equal to the member epoch {member.epoch} of member "
            f"{member_id:.200}.",
        )
    return member


def sync(group: ConsumerGroup, request: SyncGroupRequest, topics: Topics) -> SyncGroupResponse:
    """What the member has been assigned. Raises KafkaError, REBALANCE_IN_PROGRESS among others."""
    member = check_member(group, request.member_id, request.group_instance_id, request.generation_id)
    name = protocol_of(member)
    if request.protocol_type not in (None, CONSUMER_PROTOCOL):
        raise KafkaError(
            ErrorCode.INCONSISTENT_GROUP_PROTOCOL, f"{request.protocol_type!r:.200} is not the group's protocol type"
        )
    if request.protocol_name not in (None, name):
        raise KafkaError(
            ErrorCode.INCONSISTENT_GROUP_PROTOCOL, f"{request.protocol_name!r:.200} is not the group's {name!r}"
        )
    if group.epoch > member.epoch and member.state is not MemberState.UNREVOKED:
        raise KafkaError(ErrorCode.REBALANCE_IN_PROGRESS)
    return SyncGroupResponse(
        protocol_type=request.protocol_type,
        protocol_name=request.protocol_name,
        assignment=embedded_assignment(member, member.assigned, topics),
    )


def embedded_assignment(member: ConsumerMember, assignment: Assignment, topics: Topics) -> bytes:
    """`assignment` as the classic member understands it. Topics that are gone are left out."""
    assert member.classic is not None
    version, _ = read_subscription(member.classic.supported_protocols[0].metadata)
    named = ((topics.name_of(topic_id), partitions) for topic_id, partitions in assignment.items())
    return write_assignment(
        version, [OwnedTopic(topic=name, partitions=sorted(parts)) for name, parts in named if name is not None]
    )


def must_rejoin(group: ConsumerGroup, member: ConsumerMember) -> bool:
    """Whether the member shall join again: its epoch is behind, or it has to give back, or can get what it waited for."""
    if member.epoch < group.epoch or member.state is MemberState.UNREVOKED:
        return True
    return member.state is MemberState.UNRELEASED and not group.is_waiting_for_release(member)


def leave(draft: Draft, identities: list[MemberIdentity]) -> tuple[list[MemberResponse], list[str]]:
    """Which members leave, each by its member id or its instance id alone: the answers, and their ids.

    An operator may so remove members of the consumer protocol too.
    """
    group = draft.group
    responses, left = [], []
    for identity in identities:
        code, member_id = ErrorCode.NONE, identity.member_id
        try:
            member = _leaver(group, identity)
            member_id = member.member_id
            if member_id not in left:
                left.append(member_id)
        except KafkaError as error:
            code = error.code
        responses.append(
            MemberResponse(member_id=member_id, group_instance_id=identity.group_instance_id, error_code=code)
        )
    return responses, left


def _leaver(group: ConsumerGroup, identity: MemberIdentity) -> ConsumerMember:
    if identity.group_instance_id is None:
        return group.member(identity.member_id)
    known = group.static_member(identity.group_instance_id)
    member_id = identity.member_id or (known.member_id if known is not None else "")
    return check_static(known, member_id, identity.group_instance_id)
