"""The nouns that every tier shares: topics, partitions, brokers, identifiers.

All are immutable values without behaviour of their own; what happens to them lives in the tiers above.
A topic or cluster identifier is 16 raw bytes (`Uuid`); people and file names see Kafka's text form of it, 22 characters
of URL-safe base64.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

Uuid = bytes
"""Sixteen raw bytes."""

ZERO_UUID: Uuid = bytes(16)

_TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")

OFFSETS_TOPIC = "__consumer_offsets"
TRANSACTIONS_TOPIC = "__transaction_state"
SHARE_STATE_TOPIC = "__share_group_state"
QUERY_STATE_TOPIC = "__chronik_query_state"
INTERNAL_TOPICS = frozenset({OFFSETS_TOPIC, TRANSACTIONS_TOPIC, SHARE_STATE_TOPIC, QUERY_STATE_TOPIC})

USER, CLIENT_ID, IP = "user", "client-id", "ip"
"""The kinds of entities that can have a quota."""
QuotaEntity = tuple[tuple[str, str | None], ...]
"""Whom a quota is for: (kind, name) pairs in the order of the kinds; the name is None for the default of its kind."""
PRODUCER_BYTE_RATE = "producer_byte_rate"
CONSUMER_BYTE_RATE = "consumer_byte_rate"
REQUEST_PERCENTAGE = "request_percentage"
CONNECTION_CREATION_RATE = "connection_creation_rate"
CONTROLLER_MUTATION_RATE = "controller_mutation_rate"


def uuid_to_text(value: Uuid) -> str:
    """Kafka's text form of a 16-byte id: 22 characters, URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode("ascii")


def uuid_from_text(text: str) -> Uuid:
    """The 16 bytes of `text`, the inverse of `uuid_to_text`. Raises ValueError when it isn't one."""
    value = base64.b64decode(text.encode("ascii") + b"==", altchars=b"-_", validate=True)
    if len(value) != 16:
        raise ValueError(f"an id has 16 bytes, {text!r} has {len(value)}")
    return value


def topic_name_fault(name: str) -> str | None:
    """Why `name` cannot name a topic, or None when it can. The rule is Kafka's: `[a-zA-Z0-9._-]{1,249}`, not "." or ".."."""
    if name in (".", ".."):
        return f"a topic cannot be named {name!r}"
    if not _TOPIC_NAME.fullmatch(name):
        if not name:
            return "a topic name cannot be empty"
        if len(name) > 249:
            return f"a topic name has at most 249 characters, this one has {len(name)}"
        return f"topic name {name[:80]!r} may only contain letters, digits, '.', '_' and '-'"
    return None


class TopicPartition(NamedTuple):
    """A partition by name, as clients know it."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class PartitionId(NamedTuple):
    """A partition by topic id, as the disk and the metadata know it: unique over re-creations of a name."""

    topic_id: Uuid
    partition: int

    def __str__(self) -> str:
        return f"{uuid_to_text(self.topic_id)}-{self.partition}"


class SharePartitionKey(NamedTuple):
    """A partition of a topic, as one share group has it."""

    group_id: str
    topic_id: Uuid
    partition: int

    def __str__(self) -> str:
        return f"{self.group_id}:{uuid_to_text(self.topic_id)}:{self.partition}"


class StateBatch(NamedTuple):
    """What became of the records from `first` to `last`, both included, and how often they were given out.

    States are those of KIP-932: 0 available, 2 acknowledged, 4 archived.
    """

    first: int
    last: int
    state: int
    deliveries: int


class ShareState(NamedTuple):
    """What is kept of a share partition: records below `start_offset` (-1: not known yet) are done with.

    Of those above, `batches` says what is known, in order and without overlaps. `state_epoch` tells those apart who keep
    it: it grows when the offsets are set anew.
    """

    state_epoch: int
    start_offset: int
    batches: tuple[StateBatch, ...] = ()


class TransactionMarker(NamedTuple):
    """What ends a producer's transaction in one partition: a control record that commits or aborts all of its batches there.

    `producer_epoch` is the epoch that ends it (with transactions v2 one above that of the batches, KIP-890), and
    `coordinator_epoch` that of the coordinator who says so: an older one's markers are refused.
    """

    producer_id: int
    producer_epoch: int
    committed: bool
    coordinator_epoch: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address at which a broker serves one named listener."""

    listener: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Broker:
    """A registered broker: its id, its incarnation (`epoch`, from the metadata log) and its advertised addresses."""

    node_id: int
    epoch: int
    endpoints: tuple[Endpoint, ...]
    rack: str | None = None
    fenced: bool = False


@dataclass(frozen=True, slots=True)
class PartitionState:
    """What the cluster decided for one partition. `leader` is -1 while it has none."""

    partition: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    leader: int
    leader_epoch: int
    partition_epoch: int = 0


@dataclass(frozen=True, slots=True)
class SavedSearch:
    """What makes a topic a view of another one, its source: it has those records of it that match, and can only be read.

    `query` is a query string as it was written, `mapping` the JSON text of how its fields are read, empty for none.
    """

    source_id: Uuid
    query: str
    mapping: str = ""


@dataclass(frozen=True, slots=True)
class Alert:
    """More than `over` records of the saved search `search_id` in a window of `per_ms` of their own time: told in topic `to`.

    Windows lie side by side: from each multiple of `per_ms` since 1970 to the next.
    """

    alert_id: Uuid
    name: str
    search_id: Uuid
    over: int
    per_ms: int
    to: str


@dataclass(frozen=True, slots=True)
class ContinuousQuery:
    """A query, as its `text` says, over topic `source_id`; its results go to one topic, late records to another.

    `fields` is a JSON object: the SQL type of each field of the source, by dotted path, as it was when the query was saved.
    """

    query_id: Uuid
    name: str
    text: str
    fields: str
    source_id: Uuid
    into_id: Uuid
    late_id: Uuid
    paused: bool

    def needs(self, topic_id: Uuid) -> bool:
        """Whether it reads this topic or writes to it."""
        return topic_id in (self.source_id, self.into_id, self.late_id)

    def resting(self, paused: bool) -> ContinuousQuery:
        """The same, paused or not."""
        return replace(self, paused=paused)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the metadata image holds it. `configs` has the overrides only, by Kafka's names, as text.

    One that is a saved search has the partitions of its source, and no log of its own.
    """

    topic_id: Uuid
    name: str
    partitions: tuple[PartitionState, ...]
    configs: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    search: SavedSearch | None = None

    @property
    def internal(self) -> bool:
        """True for the topics that the node keeps its own state in."""
        return self.name in INTERNAL_TOPICS
