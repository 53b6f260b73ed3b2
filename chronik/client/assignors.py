"""Who reads what: the classic group protocol's client-side assignors, range and round-robin.

Each is a pure function from the members' subscriptions and the topics' partition counts to an assignment. The group's leader
runs it and sends every member its share, in the embedded "consumer" protocol, which is coded here as well.

Source: Kafka's `RangeAssignor` and `RoundRobinAssignor` documentation; ConsumerProtocolSubscription/-Assignment versions 0-3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle

from chronik.client.errors import BadResponse
from chronik.model import TopicPartition
from chronik.wire.codec import MalformedMessage, Message
from chronik.wire.schema import Struct, array, int16, int32, octets, string

PROTOCOL_TYPE = "consumer"

Assignment = dict[str, list[TopicPartition]]
Assignor = Callable[[Mapping[str, Sequence[str]], Mapping[str, int]], Assignment]


class ProtocolVersion(Message, versions="0"):
    """The version that stands before each embedded message."""

    version: int = int16()


class TopicPartitions(Struct):
    """Some partitions of one topic."""

    topic: str = string()
    partitions: list[int] = array(int32())


class ConsumerProtocolSubscription(Message, versions="0-3"):
    """What a member tells the leader: the topics it wants, and what it holds."""

    topics: list[str] = array(string())
    user_data: bytes | None = octets(nullable="0+", default=None)
    owned_partitions: list[TopicPartitions] = array(TopicPartitions, "1+", ignorable=True)
    generation_id: int = int32("2+", default=-1, ignorable=True)
    rack_id: str | None = string("3+", nullable="3+", default=None, ignorable=True)


class ConsumerProtocolAssignment(Message, versions="0-3"):
    """What the leader tells a member: its partitions."""

    assigned_partitions: list[TopicPartitions] = array(TopicPartitions)
    user_data: bytes | None = octets(nullable="0+", default=None)


def encode_subscription(topics: Sequence[str]) -> bytes:
    """The metadata that a member of a group joins with."""
    version = 1
    return ProtocolVersion(version=version).encode(0) + ConsumerProtocolSubscription(topics=sorted(topics)).encode(
        version
    )


def decode_subscription(data: bytes) -> list[str]:
    """The topics in a member's metadata. A newer version is read as the newest known. Raises BadResponse."""
    try:
        prefix, position = ProtocolVersion.decode(data, 0)
        version = min(prefix.version, ConsumerProtocolSubscription.VERSIONS.highest)
        return ConsumerProtocolSubscription.decode(data, version, position)[0].topics
    except MalformedMessage as problem:
        raise BadResponse(f"a group member's subscription cannot be read: {problem.message}") from None


def encode_assignment(partitions: Sequence[TopicPartition]) -> bytes:
    """A member's share, as SyncGroup carries it."""
    topics: dict[str, list[int]] = {}
    for topic, partition in partitions:
        topics.setdefault(topic, []).append(partition)
    assignment = ConsumerProtocolAssignment(
        assigned_partitions=[TopicPartitions(topic=t, partitions=sorted(p)) for t, p in sorted(topics.items())]
    )
    return ProtocolVersion(version=1).encode(0) + assignment.encode(1)


def decode_assignment(data: bytes) -> list[TopicPartition]:
    """A member's partitions; none in an empty assignment. Raises BadResponse."""
    if not data:
        return []
    try:
        prefix, position = ProtocolVersion.decode(data, 0)
        version = min(prefix.version, ConsumerProtocolAssignment.VERSIONS.highest)
        assignment, _ = ConsumerProtocolAssignment.decode(data, version, position)
    except MalformedMessage as problem:
        raise BadResponse(f"a group's assignment cannot be read: {problem.message}") from None
    return [TopicPartition(t.topic, p) for t in assignment.assigned_partitions for p in t.partitions]


def range_assignor(members: Mapping[str, Sequence[str]], partitions: Mapping[str, int]) -> Assignment:
    """Topic by topic, each member in the order of ids takes a run of neighbouring partitions; the first ones take one more."""
    assignment: Assignment = {member: [] for member in members}
    for topic in sorted({topic for topics in members.values() for topic in topics}):
        takers = sorted(member for member, topics in members.items() if topic in topics)
        each, extra = divmod(partitions.get(topic, 0), len(takers))
        start = 0
        for index, member in enumerate(takers):
            stop = start + each + (index < extra)
            assignment[member] += [TopicPartition(topic, p) for p in range(start, stop)]
            start = stop
    return assignment


def round_robin_assignor(members: Mapping[str, Sequence[str]], partitions: Mapping[str, int]) -> Assignment:
    """All partitions of all topics in order, dealt one by one to the members that want the topic."""
    assignment: Assignment = {member: [] for member in members}
    wanted = sorted({topic for topics in members.values() for topic in topics})
    turns = cycle(sorted(members))
    for topic in wanted:
        for partition in range(partitions.get(topic, 0)):
            member = next(turns)
            while topic not in members[member]:
                member = next(turns)
            assignment[member].append(TopicPartition(topic, partition))
    return assignment


ASSIGNORS: dict[str, Assignor] = {"range": range_assignor, "roundrobin": round_robin_assignor}
"""By the names that Kafka's clients use on the wire."""
