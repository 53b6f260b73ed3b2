"""What the share coordinator writes into `__share_group_state`: what became of the records of share partitions (KIP-932).

The format is Kafka's: the key is an int16 kind, the group, the topic id and the partition; the value an int16 version and a
body. A *snapshot* (kind 0) is all there is to know of a share partition, and without a value its end; an *update* (kind 1)
is what changed since.

Source: the share coordinator's message definitions of Kafka 4.1; KIP-915 (records of unknown kinds are skipped).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from chronik.model import SharePartitionKey
from chronik.model import StateBatch as Stated
from chronik.wire.codec import MalformedMessage, Message
from chronik.wire.schema import Struct, array, int8, int16, int32, int64, string, uuid

_version = struct.Struct(">h")
_VALUE_VERSION = 0


class PartitionKey(Message, versions="0"):
    """Kinds 0 and 1: which share partition."""

    group_id: str = string()
    topic_id: bytes = uuid()
    partition: int = int32()


class StateBatch(Struct):
    """Records that became the same: 0 available, 2 acknowledged, 4 archived."""

    first_offset: int = int64()
    last_offset: int = int64()
    delivery_state: int = int8()
    delivery_count: int = int16()


class SnapshotValue(Message, versions="0", flexible="0+"):
    """All of a share partition. Times are in ms since 1970."""

    snapshot_epoch: int = int32()
    state_epoch: int = int32()
    leader_epoch: int = int32()
    start_offset: int = int64()
    create_timestamp: int = int64()
    write_timestamp: int = int64()
    state_batches: list[StateBatch] = array(StateBatch)


class UpdateValue(Message, versions="0", flexible="0+"):
    """What changed. A start offset or leader epoch of -1 is as before."""

    snapshot_epoch: int = int32()
    leader_epoch: int = int32()
    start_offset: int = int64()
    state_batches: list[StateBatch] = array(StateBatch)


_KINDS: dict[int, type[SnapshotValue] | type[UpdateValue]] = {0: SnapshotValue, 1: UpdateValue}


class ShareEntry(NamedTuple):
    """One record to be written, or read back; a `value` of None is the end of a share partition."""

    key: SharePartitionKey
    value: SnapshotValue | UpdateValue | None

    def encode(self) -> tuple[bytes, bytes | None]:
        """Key and value as they stand in the log."""
        kind = 1 if isinstance(self.value, UpdateValue) else 0
        group_id, topic_id, partition = self.key
        named = PartitionKey(group_id=group_id, topic_id=topic_id, partition=partition)
        key = _version.pack(kind) + named.encode(0)
        if self.value is None:
            return key, None
        return key, _version.pack(_VALUE_VERSION) + self.value.encode(_VALUE_VERSION)


def decode_share_entry(key: bytes | None, value: bytes | None) -> ShareEntry | None:
    """What a record of the topic says; None for a kind that this release does not know, to be skipped (KIP-915).

    Raises MalformedMessage for bytes that don't parse, and for a version that is not known.
    """
    if key is None or len(key) < 2:
        raise MalformedMessage("a record of __share_group_state has no kind in its key")
    (kind,) = _version.unpack_from(key)
    value_class = _KINDS.get(kind)
    if value_class is None:
        return None
    named, _ = PartitionKey.decode(key, 0, 2)
    place = SharePartitionKey(named.group_id, bytes(named.topic_id), named.partition)
    if value is None:
        return None if value_class is UpdateValue else ShareEntry(place, None)
    if len(value) < 2:
        raise MalformedMessage(f"the value of share partition {place} has no version")
    (version,) = _version.unpack_from(value)
    if version != _VALUE_VERSION:
        raise MalformedMessage(f"{value_class.__name__} has version 0 only, the log has {version} for {place}")
    return ShareEntry(place, value_class.decode(value, version, 2)[0])


def to_batches(batches: tuple[Stated, ...]) -> list[StateBatch]:
    """As they stand in the log."""
    return [
        StateBatch(first_offset=first, last_offset=last, delivery_state=state, delivery_count=deliveries)
        for first, last, state, deliveries in batches
    ]


def from_batches(batches: list[StateBatch]) -> list[Stated]:
    """The inverse of `to_batches`."""
    return [Stated(each.first_offset, each.last_offset, each.delivery_state, each.delivery_count) for each in batches]
