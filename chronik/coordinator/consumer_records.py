"""What the coordinator writes into `__consumer_offsets` about groups of the consumer protocol (KIP-848), in Kafka's format.

Each kind of key goes with one kind of value, all of version 0. One group is spread over many records: its epoch (3), each
member as it subscribed (5), the epoch of the target assignment (6), each member's target (7), each member's current
assignment (8), and what each regular expression matched (16). Kind 4 is what Kafka 4.0 kept of topics; since 4.1 it only
deletes it, and so do we.

Sources: the coordinator's message definitions of Kafka 4.1; KIP-1101 (the metadata hash in place of kind 4).
"""

from __future__ import annotations

from chronik.wire.codec import Message
from chronik.wire.schema import Struct, array, int8, int32, int64, octets, string, struct, uuid


class GroupEpochKey(Message, versions="3"):
    """Kind 3: which group."""

    group: str = string()


class GroupEpochValue(Message, versions="0", flexible="0+"):
    """The group exists, and its subscriptions and topics are those of `epoch`. `metadata_hash` tells the topics apart."""

    epoch: int = int32()
    metadata_hash: int = int64(default=0, tagged="0+", tag=0, ignorable=True)


class PartitionMetadataKey(Message, versions="4"):
    """Kind 4: which group."""

    group: str = string()


class PartitionRacks(Struct):
    """The racks of one partition's replicas."""

    partition: int = int32()
    racks: list[str] = array(string())


class TopicMetadata(Struct):
    """A topic as the group last saw it."""

    topic_id: bytes = uuid()
    topic_name: str = string()
    num_partitions: int = int32()
    partition_metadata: list[PartitionRacks] = array(PartitionRacks)


class PartitionMetadataValue(Message, versions="0", flexible="0+"):
    """The topics that a group subscribes to, as Kafka 4.0 wrote them."""

    topics: list[TopicMetadata] = array(TopicMetadata)


class MemberKey(Message, versions="5"):
    """Kind 5: which member of which group."""

    group: str = string()
    member_id: str = string()


class ClassicProtocol(Struct):
    """A protocol that a classic member can follow, and its embedded subscription."""

    name: str = string()
    metadata: bytes = octets()


class ClassicMetadata(Struct):
    """What only a member of the classic protocol has."""

    session_timeout_ms: int = int32()
    supported_protocols: list[ClassicProtocol] = array(ClassicProtocol)


class MemberValue(Message, versions="0", flexible="0+"):
    """A member as it subscribed. `classic_member_metadata` is None for members of the consumer protocol."""

    instance_id: str | None = string(nullable="0+")
    rack_id: str | None = string(nullable="0+")
    client_id: str = string()
    client_host: str = string()
    subscribed_topic_names: list[str] = array(string())
    subscribed_topic_regex: str | None = string(nullable="0+")
    rebalance_timeout_ms: int = int32(default=-1)
    server_assignor: str | None = string(nullable="0+")
    classic_member_metadata: ClassicMetadata | None = struct(
        ClassicMetadata, nullable="0+", default=None, tagged="0+", tag=0
    )


class TargetEpochKey(Message, versions="6"):
    """Kind 6: which group."""

    group: str = string()


class TargetEpochValue(Message, versions="0", flexible="0+"):
    """The group epoch for which the targets were computed."""

    assignment_epoch: int = int32()


class TargetKey(Message, versions="7"):
    """Kind 7: which member of which group."""

    group: str = string()
    member_id: str = string()


class TopicPartitions(Struct):
    """Partitions of one topic."""

    topic_id: bytes = uuid()
    partitions: list[int] = array(int32())


class TargetValue(Message, versions="0", flexible="0+"):
    """What the member shall have."""

    topic_partitions: list[TopicPartitions] = array(TopicPartitions)


class CurrentKey(Message, versions="8"):
    """Kind 8: which member of which group."""

    group: str = string()
    member_id: str = string()


class CurrentValue(Message, versions="0", flexible="0+"):
    """What the member has, and what it has to give back; `state` is a `MemberState`."""

    member_epoch: int = int32()
    previous_member_epoch: int = int32()
    state: int = int8()
    assigned_partitions: list[TopicPartitions] = array(TopicPartitions)
    partitions_pending_revocation: list[TopicPartitions] = array(TopicPartitions)


class RegexKey(Message, versions="16"):
    """Kind 16: which regular expression in which group."""

    group: str = string()
    regular_expression: str = string()


class RegexValue(Message, versions="0", flexible="0+"):
    """The topics that it matched, by metadata `version`, at `timestamp` (ms since 1970)."""

    topics: list[str] = array(string())
    version: int = int64()
    timestamp: int = int64()


ConsumerKey = GroupEpochKey | PartitionMetadataKey | MemberKey | TargetEpochKey | TargetKey | CurrentKey | RegexKey
ConsumerValue = (
    GroupEpochValue | PartitionMetadataValue | MemberValue | TargetEpochValue | TargetValue | CurrentValue | RegexValue
)

CONSUMER_KINDS: dict[int, tuple[type[ConsumerKey], type[ConsumerValue]]] = {
    3: (GroupEpochKey, GroupEpochValue),
    4: (PartitionMetadataKey, PartitionMetadataValue),
    5: (MemberKey, MemberValue),
    6: (TargetEpochKey, TargetEpochValue),
    7: (TargetKey, TargetValue),
    8: (CurrentKey, CurrentValue),
    16: (RegexKey, RegexValue),
}
"""The key and value of each kind of record about a consumer group."""
