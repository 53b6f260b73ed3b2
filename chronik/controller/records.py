"""The records of the metadata log: what was decided about topics, brokers, configs, producer ids, quotas, features, searches.

Each record is two bytes, its type and its version, and then its fields as a msgpack array. Fields are only ever added, at
the end and with a default, together with a higher version; so an older record always reads, and a newer one, or one of an
unknown type, is refused by name instead of being half understood.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from chronik.errors import ChronikError, CorruptLogError
from chronik.model import Uuid


class MetadataVersionError(ChronikError):
    """The metadata log holds a record that a newer release wrote."""


class _Record(msgspec.Struct, array_like=True, frozen=True):
    TYPE: ClassVar[int]
    VERSION: ClassVar[int] = 1


class PartitionRow(msgspec.Struct, array_like=True, frozen=True):
    """One partition inside a topic record, as `chronik.model.PartitionState` holds it, without its number."""

    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    leader: int
    leader_epoch: int = 0
    partition_epoch: int = 0


class TopicCreated(_Record, frozen=True):
    """A topic came to be, with its partitions from 0 up and its config overrides."""

    TYPE = 1
    topic_id: Uuid
    name: str
    partitions: tuple[PartitionRow, ...]
    configs: dict[str, str]


class TopicDeleted(_Record, frozen=True):
    """A topic, its partitions and its configs are gone."""

    TYPE = 2
    topic_id: Uuid


class PartitionsAdded(_Record, frozen=True):
    """Partitions were added to a topic; the first of them has number `first`."""

    TYPE = 3
    topic_id: Uuid
    first: int
    partitions: tuple[PartitionRow, ...]


class TopicConfigChanged(_Record, frozen=True):
    """Overrides of a topic were set, or removed where the value is None."""

    TYPE = 4
    topic_id: Uuid
    changes: dict[str, str | None]


class BrokerConfigChanged(_Record, frozen=True):
    """Dynamic configs of one broker, or of all of them for node id -1, were set, or removed where the value is None."""

    TYPE = 5
    node_id: int
    changes: dict[str, str | None]


class EndpointRow(msgspec.Struct, array_like=True, frozen=True):
    """One address of a broker, as `chronik.model.Endpoint`."""

    listener: str
    host: str
    port: int


class BrokerRegistered(_Record, frozen=True):
    """A broker announced itself. `epoch` grows with every registration in the cluster; `incarnation` names the process.

    With `renews_leadership` the node was registered before: the leader epoch of every partition that it leads grows by one,
    so that clients can see where a log was cut that lost unsynced records in between (KIP-320).
    """

    TYPE = 6
    node_id: int
    epoch: int
    incarnation: Uuid
    endpoints: tuple[EndpointRow, ...]
    rack: str | None
    renews_leadership: bool


class ProducerIdsAllocated(_Record, frozen=True):
    """Producer ids below `next_producer_id` are given out; the last block of them went to broker `node_id`."""

    TYPE = 7
    node_id: int
    broker_epoch: int
    next_producer_id: int


class ClientQuotaChanged(_Record, frozen=True):
    """Quotas of an entity were set, or removed where the value is None. `entity` is as `chronik.model.QuotaEntity`."""

    TYPE = 8
    entity: tuple[tuple[str, str | None], ...]
    changes: dict[str, float | None]


class GroupConfigChanged(_Record, frozen=True):
    """Configs of a group were set, or removed where the value is None. The group need not exist."""

    TYPE = 16
    group_id: str
    changes: dict[str, str | None]


class FeatureLevelChanged(_Record, frozen=True):
    """A feature (`chronik.features`) is at this level from now on; 0 is without it."""

    TYPE = 17
    name: str
    level: int


class SearchSaved(_Record, frozen=True):
    """A search of topic `source_id` was saved as a topic of its own, which mirrors the partitions of that one.

    It ends with a `TopicDeleted`. The texts are as in `chronik.model.SavedSearch`.
    """

    TYPE = 24
    topic_id: Uuid
    name: str
    source_id: Uuid
    query: str
    mapping: str


class AlertSaved(_Record, frozen=True):
    """An alert over the saved search `search_id` was saved; the fields are those of `chronik.model.Alert`."""

    TYPE = 25
    alert_id: Uuid
    name: str
    search_id: Uuid
    over: int
    per_ms: int
    to: str


class AlertDeleted(_Record, frozen=True):
    """An alert is gone."""

    TYPE = 26
    alert_id: Uuid


class QuerySaved(_Record, frozen=True):
    """A continuous query was saved; the fields are those of `chronik.model.ContinuousQuery`."""

    TYPE = 27
    query_id: Uuid
    name: str
    text: str
    fields: str
    source_id: Uuid
    into_id: Uuid
    late_id: Uuid
    paused: bool


class QueryPaused(_Record, frozen=True):
    """A continuous query rests from now on, or goes on."""

    TYPE = 28
    query_id: Uuid
    paused: bool


class QueryDropped(_Record, frozen=True):
    """A continuous query is gone, and so is its state."""

    TYPE = 29
    query_id: Uuid


MetadataRecord = (
    TopicCreated
    | TopicDeleted
    | PartitionsAdded
    | TopicConfigChanged
    | BrokerConfigChanged
    | BrokerRegistered
    | ProducerIdsAllocated
    | ClientQuotaChanged
    | GroupConfigChanged
    | FeatureLevelChanged
    | SearchSaved
    | AlertSaved
    | AlertDeleted
    | QuerySaved
    | QueryPaused
    | QueryDropped
)

_TYPES: dict[int, type[MetadataRecord]] = {
    kind.TYPE: kind
    for kind in (
        TopicCreated,
        TopicDeleted,
        PartitionsAdded,
        TopicConfigChanged,
        BrokerConfigChanged,
        BrokerRegistered,
        ProducerIdsAllocated,
        ClientQuotaChanged,
        GroupConfigChanged,
        FeatureLevelChanged,
        SearchSaved,
        AlertSaved,
        AlertDeleted,
        QuerySaved,
        QueryPaused,
        QueryDropped,
    )
}
_ENCODER = msgspec.msgpack.Encoder()
_DECODERS: dict[int, msgspec.msgpack.Decoder[MetadataRecord]] = {
    number: msgspec.msgpack.Decoder(kind) for number, kind in _TYPES.items()
}


def encode_record(record: MetadataRecord) -> bytes:
    """The stored form of `record`."""
    return bytes((record.TYPE, record.VERSION)) + _ENCODER.encode(record)


def decode_record(data: bytes) -> MetadataRecord:
    """The inverse of `encode_record`.

    Raises MetadataVersionError for what a newer release wrote, CorruptLogError for bytes that are no record.
    """
    if len(data) < 3:
        raise CorruptLogError(f"a metadata record has at least 3 bytes, this one has {len(data)}")
    number, version = data[0], data[1]
    kind = _TYPES.get(number)
    if kind is None or version > kind.VERSION:
        raise MetadataVersionError(
            f"the metadata log holds a record of type {number} version {version}, which a newer release wrote; "
            "start that release or a later one on this data directory"
        )
    try:
        return _DECODERS[number].decode(memoryview(data)[2:])
    except msgspec.DecodeError as fault:
        raise CorruptLogError(f"metadata record of type {kind.__name__} does not decode: {fault}") from fault
