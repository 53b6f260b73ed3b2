"""One member of a classic group, and what the coordinator reads out of a consumer's subscription.

A member names the protocols (assignors) that it can follow, in its order of preference, each with metadata that only the
members understand. The one exception is protocol type "consumer": there the coordinator reads the subscribed topics, so
that offsets of a topic in use are not expired or deleted.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

CONSUMER_PROTOCOL = "consumer"


class Member:
    """A member of one group: who it is, what it can follow, and which of its requests are waiting.

    `awaiting_join` and `awaiting_sync` are the tokens of waiting requests, None where none waits. `protocols` maps names to
    metadata in the member's order of preference. Timeouts are in ms.
    """

    __slots__ = (
        "assignment",
        "awaiting_join",
        "awaiting_sync",
        "client_host",
        "client_id",
        "instance_id",
        "is_new",
        "member_id",
        "protocol_type",
        "protocols",
        "rebalance_timeout_ms",
        "session_timeout_ms",
    )

    def __init__(
        self,
        member_id: str,
        instance_id: str | None,
        client_id: str,
        client_host: str,
        rebalance_timeout_ms: int,
        session_timeout_ms: int,
        protocol_type: str,
        protocols: Mapping[str, bytes],
        assignment: bytes = b"",
    ) -> None:
        self.member_id = member_id
        self.instance_id = instance_id
        self.client_id = client_id
        self.client_host = client_host
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.session_timeout_ms = session_timeout_ms
        self.protocol_type = protocol_type
        self.protocols = protocols
        self.assignment = assignment
        self.awaiting_join: Any = None
        self.awaiting_sync: Any = None
        self.is_new = False

    @property
    def is_static(self) -> bool:
        """Whether it has a `group.instance.id`, by which it is known again after a restart (KIP-345)."""
        return self.instance_id is not None

    @property
    def is_heard(self) -> bool:
        """Whether it counts as alive without a heartbeat, because a request of it waits here.

        Not so for a member in its first join: it may have gone away without anybody noticing.
        """
        return not self.is_new and (self.awaiting_join is not None or self.awaiting_sync is not None)

    def matches(self, protocols: Mapping[str, bytes]) -> bool:
        """Whether `protocols` are the same, in the same order, with the same metadata."""
        return list(self.protocols.items()) == list(protocols.items())


def subscribed_topics(metadata: bytes) -> set[str] | None:
    """The topics in a consumer's subscription of any version, None when the bytes are not a subscription.

    Every version begins with that of version 0: an int16 version, an array of names.
    """
    try:
        _, count = struct.unpack_from(">hi", metadata)
        position = 6
        topics = set()
        if count * 2 > len(metadata):
            return None
        for _ in range(count):
            (length,) = struct.unpack_from(">h", metadata, position)
            position += 2
            if length < 0 or position + length > len(metadata):
                return None
            topics.add(metadata[position : position + length].decode())
            position += length
    except (struct.error, UnicodeDecodeError):
        return None
    return topics
