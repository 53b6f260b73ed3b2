"""What the coordinator writes into `__consumer_offsets` about share groups (KIP-932), in Kafka's format.

Each kind of key goes with one kind of value, all of version 0. One group is spread over many records: each member as it
subscribed (10), the group epoch (11), the epoch of the target assignment (12), each member's target (13), each member's
assignment (14), and of which partitions the share coordinator keeps state (15).

Source: the coordinator's message definitions of Kafka 4.1.
"""

from __future__ import annotations

from chronik.coordinator.consumer_records import TopicPartitions
from chronik.wire.codec import Message
from chronik.wire.schema import Struct, array, int8, int32, int64, string, uuid


class ShareMemberKey(Message, versions="10"):
    """Kind 10: which member of which group."""

    group: str = string()
    member_id: str = string()


class ShareMemberValue(Message, versions="0", flexible="0+"):
    """A member as it subscribed."""

    rack_id: str | None = string(nullable="0+")
    client_id: str = string()
    client_host: str = string()
    subscribed_topic_names: list[str] = array(string())


class ShareEpochKey(Message, versions="11"):
    """Kind 11: which group."""

    group: str = string()


class ShareEpochValue(Message, versions="0", flexible="0+"):
    """The group exists, and its subscriptions and topics are those of `epoch`. `metadata_hash` tells the topics apart."""

    epoch: int = int32()
    metadata_hash: int = int64()


class ShareTargetEpochKey(Message, versions="12"):
    """Kind 12: which group."""

    group: str = string()


class ShareTargetEpochValue(Message, versions="0", flexible="0+"):
    """The group epoch for which the targets were computed."""

    assignment_epoch: int = int32()


class ShareTargetKey(Message, versions="13"):
    """Kind 13: which member of which group."""

    group: str = string()
    member_id: str = string()


class ShareTargetValue(Message, versions="0", flexible="0+"):
    """What the member shall have."""

    topic_partitions: list[TopicPartitions] = array(TopicPartitions)


class ShareCurrentKey(Message, versions="14"):
    """Kind 14: which member of which group."""

    group: str = string()
    member_id: str = string()


class ShareCurrentValue(Message, versions="0", flexible="0+"):
    """What the member has, and since which epoch; `state` is always 0, stable."""

    member_epoch: int = int32()
    previous_member_epoch: int = int32()
    state: int = int8()
    assigned_partitions: list[TopicPartitions] = array(TopicPartitions)


class ShareStateKey(Message, versions="15"):
    """Kind 15: which group."""

    group: str = string()


class TopicPartitionsInfo(Struct):
    """Partitions of one topic, which is named too."""

    topic_id: bytes = uuid()
    topic_name: str = string()
    partitions: list[int] = array(int32())


class TopicInfo(Struct):
    """A topic by its id and name."""

    topic_id: bytes = uuid()
    topic_name: str = string()


class ShareStateValue(Message, versions="0", flexible="0+"):
    """Of which partitions state is being set up, of which it is kept, and of which topics it is being deleted."""

    initializing_topics: list[TopicPartitionsInfo] = array(TopicPartitionsInfo)
    initialized_topics: list[TopicPartitionsInfo] = array(TopicPartitionsInfo)
    deleting_topics: list[TopicInfo] = array(TopicInfo)


ShareKey = ShareMemberKey | ShareEpochKey | ShareTargetEpochKey | ShareTargetKey | ShareCurrentKey | ShareStateKey
ShareValue = (
    ShareMemberValue | ShareEpochValue | ShareTargetEpochValue | ShareTargetValue | ShareCurrentValue | ShareStateValue
)

SHARE_KINDS: dict[int, tuple[type[ShareKey], type[ShareValue]]] = {
    10: (ShareMemberKey, ShareMemberValue),
    11: (ShareEpochKey, ShareEpochValue),
    12: (ShareTargetEpochKey, ShareTargetEpochValue),
    13: (ShareTargetKey, ShareTargetValue),
    14: (ShareCurrentKey, ShareCurrentValue),
    15: (ShareStateKey, ShareStateValue),
}
"""The key and value of each kind of record about a share group."""
