"""What the coordinator writes into `__consumer_offsets`: keys, values, and which partition holds a group.

The format is Kafka's, so its tools read our topic and a copied topic can be read here. A key is an int16 that says what
kind of record it is (0 and 1: a committed offset, 2: a classic group; those of consumer groups are in
`chronik.coordinator.consumer_records`, those of share groups in `chronik.coordinator.share_group_records`) and a body; a
value is an int16 version and a body; a null value is a tombstone. What is written: offsets as value version 3 (version 1 when
the client set a retention of its own, which only that version can carry), classic groups as version 3.

Source: the coordinator's message definitions of Kafka 4.1; KIP-915 (records of unknown kinds are skipped).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from chronik.coordinator.consumer_records import CONSUMER_KINDS, ConsumerKey, ConsumerValue
from chronik.coordinator.share_group_records import SHARE_KINDS, ShareKey, ShareValue
from chronik.wire.codec import MalformedMessage, Message
from chronik.wire.schema import Struct, array, int32, int64, octets, string, uuid

_version = struct.Struct(">h")

OFFSET_KINDS = (0, 1)
_OFFSET_KIND = 1
_GROUP_KIND = 2
_OFFSET_VALUE_VERSION = 3
_OFFSET_VALUE_WITH_EXPIRY = 1
_GROUP_VALUE_VERSION = 3
NO_TIMESTAMP = -1


class OffsetCommitKey(Message, versions="0-1"):
    """Kinds 0 and 1: whose offset it is, and of which partition."""

    group: str = string()
    topic: str = string()
    partition: int = int32()


class OffsetCommitValue(Message, versions="0-4", flexible="4+"):
    """A committed position. `expire_timestamp` is -1 unless the client (OffsetCommit v2 to v4) set a retention."""

    offset: int = int64()
    leader_epoch: int = int32("3+", default=-1, ignorable=True)
    metadata: str = string()
    commit_timestamp: int = int64()
    expire_timestamp: int = int64("1", default=-1, ignorable=True)
    topic_id: bytes = uuid("4+", tagged="4+", tag=0, ignorable=True)


class GroupMetadataKey(Message, versions="2"):
    """Kind 2: which group it is."""

    group: str = string()


class MemberMetadata(Struct):
    """One member as it was when its generation became stable."""

    member_id: str = string()
    group_instance_id: str | None = string("3+", nullable="3+", default=None, ignorable=True)
    client_id: str = string()
    client_host: str = string()
    rebalance_timeout: int = int32("1+", default=-1, ignorable=True)
    session_timeout: int = int32()
    subscription: bytes = octets()
    assignment: bytes = octets()


class GroupMetadataValue(Message, versions="0-4", flexible="4+"):
    """A group at the end of a rebalance. Without members it is Empty, with members it comes back Stable."""

    protocol_type: str = string()
    generation: int = int32()
    protocol: str | None = string(nullable="0+")
    leader: str | None = string(nullable="0+")
    current_state_timestamp: int = int64("2+", default=-1, ignorable=True)
    members: list[MemberMetadata] = array(MemberMetadata)


Key = OffsetCommitKey | GroupMetadataKey | ConsumerKey | ShareKey
Value = OffsetCommitValue | GroupMetadataValue | ConsumerValue | ShareValue

_KIND_OF: dict[type[Key], int] = {
    OffsetCommitKey: _OFFSET_KIND,
    GroupMetadataKey: _GROUP_KIND,
    **{key: kind for kind, (key, _) in CONSUMER_KINDS.items()},
    **{key: kind for kind, (key, _) in SHARE_KINDS.items()},
}
_CLASSES: dict[int, tuple[type[Key], type[Value]]] = {
    **dict.fromkeys(OFFSET_KINDS, (OffsetCommitKey, OffsetCommitValue)),
    _GROUP_KIND: (GroupMetadataKey, GroupMetadataValue),
    **CONSUMER_KINDS,
    **SHARE_KINDS,
}


class Entry(NamedTuple):
    """One record to be written, or read back. A value of None is a tombstone."""

    key: Key
    value: Value | None

    def encode(self) -> tuple[bytes, bytes | None]:
        """Key and value as they stand in the log."""
        kind = _KIND_OF[type(self.key)]
        key = _version.pack(kind) + self.key.encode(kind)
        if self.value is None:
            return key, None
        version = _version_of(self.value)
        return key, _version.pack(version) + self.value.encode(version)


def _version_of(value: Value) -> int:
    """The version that `value` is written in."""
    if isinstance(value, GroupMetadataValue):
        return _GROUP_VALUE_VERSION
    if isinstance(value, OffsetCommitValue):
        return _OFFSET_VALUE_VERSION if value.expire_timestamp == NO_TIMESTAMP else _OFFSET_VALUE_WITH_EXPIRY
    return 0


def decode_entry(key: bytes | None, value: bytes | None) -> Entry | None:
    """What a record of the topic says; None for a kind that this release does not know, to be skipped (KIP-915).

    Raises MalformedMessage for bytes that don't parse, and for a version of a known value that is not known.
    """
    if key is None or len(key) < 2:
        raise MalformedMessage("a record of __consumer_offsets has no kind in its key")
    (kind,) = _version.unpack_from(key)
    classes = _CLASSES.get(kind)
    if classes is None:
        return None
    key_class, value_class = classes
    decoded, _ = key_class.decode(key, kind, 2)
    if value is None:
        return Entry(decoded, None)
    if len(value) < 2:
        raise MalformedMessage(f"the value of {decoded!r:.200} has no version")
    (version,) = _version.unpack_from(value)
    if not value_class.VERSIONS.has(version):
        raise MalformedMessage(f"{value_class.__name__} has versions {value_class.VERSIONS}, the log has {version}")
    content, _ = value_class.decode(value, version, 2)
    return Entry(decoded, content)


def java_hash(text: str) -> int:
    """Java's hash of a string, an int32."""
    value = 0
    for (unit,) in struct.iter_unpack(">H", text.encode("utf-16-be", "surrogatepass")):
        value = (31 * value + unit) & 0xFFFFFFFF
    return value - 0x1_0000_0000 if value >= 0x8000_0000 else value


def partition_for(group_id: str, partitions: int) -> int:
    """The partition of `__consumer_offsets` that keeps `group_id`: Java's string hash without its sign, modulo the count."""
    value = java_hash(group_id)
    # Java's abs(int) leaves the lowest number negative; Kafka takes 0 for it.
    return (0 if value == -0x8000_0000 else abs(value)) % partitions
