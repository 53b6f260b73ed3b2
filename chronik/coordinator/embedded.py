"""The protocol inside the classic group protocol: how consumers write subscriptions and assignments into opaque bytes.

The coordinator reads it where a classic group becomes a consumer group, or has classic members among its own. Each message
is an int16 version and a body; a newer version than is known parses as the newest known one, by Kafka's rule that new
versions only append.

Sources: ConsumerProtocolSubscription and ConsumerProtocolAssignment of Kafka 4.1; KIP-429 (owned partitions), KIP-881 (racks).
"""

from __future__ import annotations

import struct

from chronik.wire.codec import MalformedMessage, Message
from chronik.wire.schema import Struct, array, int32, octets, string

_version = struct.Struct(">h")
_NEWEST = 3


class OwnedTopic(Struct):
    """Partitions of one topic, by name."""

    topic: str = string()
    partitions: list[int] = array(int32())


class Subscription(Message, versions="0-3"):
    """What a consumer wants, and from version 1 on what it has."""

    topics: list[str] = array(string())
    user_data: bytes | None = octets(nullable="0+", default=None)
    owned_partitions: list[OwnedTopic] = array(OwnedTopic, "1+", ignorable=True)
    generation_id: int = int32("2+", default=-1, ignorable=True)
    rack_id: str | None = string("3+", nullable="3+", default=None, ignorable=True)


class EmbeddedAssignment(Message, versions="0-3"):
    """What a consumer gets."""

    assigned_partitions: list[OwnedTopic] = array(OwnedTopic)
    user_data: bytes | None = octets(nullable="0+", default=None)


def read_subscription(metadata: bytes) -> tuple[int, Subscription]:
    """The version and content of a subscription. Raises MalformedMessage."""
    version = _version_of(metadata)
    subscription, _ = Subscription.decode(metadata, version, 2)
    return version, subscription


def read_assignment(assignment: bytes) -> list[OwnedTopic]:
    """The partitions of an assignment; none for no bytes at all. Raises MalformedMessage."""
    if not assignment:
        return []
    content, _ = EmbeddedAssignment.decode(assignment, _version_of(assignment), 2)
    return content.assigned_partitions


def write_assignment(version: int, partitions: list[OwnedTopic]) -> bytes:
    """An assignment in the version of the subscription that it answers."""
    return _version.pack(version) + EmbeddedAssignment(assigned_partitions=partitions).encode(version)


def _version_of(data: bytes) -> int:
    if len(data) < 2:
        raise MalformedMessage("a message of the embedded consumer protocol has no version")
    (version,) = _version.unpack_from(data)
    if version < 0:
        raise MalformedMessage(f"version {version} of the embedded consumer protocol")
    return int(min(version, _NEWEST))
