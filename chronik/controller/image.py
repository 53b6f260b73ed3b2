"""The cluster metadata as replayed from its log: brokers, topics, partitions, configs, producer ids, quotas, features.

`MetadataImage` is the one state behind everything: the controller decides against one, and every broker answers from one.
It changes only by `replay`, record by record, and is the same on every node that has replayed as far. Topics and brokers are
immutable values that are replaced whole, so whoever holds one may keep it. Listeners are told once for each entry, after all
its records. A snapshot is the shortest list of records that rebuilds the image, so there is one reading of records only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import msgspec
from zope.interface import implementer

from chronik.controller.alert_book import AlertBook
from chronik.controller.image_parts import Listeners, Sources, UnifiedNames
from chronik.controller.query_book import QueryBook
from chronik.controller.records import (
    AlertDeleted,
    AlertSaved,
    BrokerConfigChanged,
    BrokerRegistered,
    ClientQuotaChanged,
    EndpointRow,
    FeatureLevelChanged,
    GroupConfigChanged,
    MetadataRecord,
    MetadataVersionError,
    PartitionsAdded,
    ProducerIdsAllocated,
    QueryDropped,
    QueryPaused,
    QuerySaved,
    SearchSaved,
    TopicConfigChanged,
    TopicCreated,
    TopicDeleted,
    decode_record,
    encode_record,
)
from chronik.controller.topic_rows import changed, partition_of, record_of, renewed
from chronik.errors import CorruptLogError
from chronik.features import SUPPORTED, default_level
from chronik.interfaces import IClusterMetadata, IStateMachine, MetadataDelta
from chronik.model import Alert, Broker, ContinuousQuery, Endpoint, QuotaEntity, SavedSearch, Topic, Uuid

CLUSTER_WIDE = -1
"""The node id under which broker configs are kept that hold for all brokers."""

_SNAPSHOT_VERSION = 1
_snapshot_encoder = msgspec.msgpack.Encoder()
_snapshot_decoder = msgspec.msgpack.Decoder(tuple[int, list[bytes]])


@implementer(IClusterMetadata, IStateMachine)
class MetadataImage:
    """The state machine of the metadata log. Construct it empty, then restore and apply.

    `cluster_id` is the cluster's id as text and `controller_id` the node that decides: both are known from outside the log.
    `version` is the index of the last applied entry.
    """

    def __init__(self, cluster_id: str, controller_id: int) -> None:
        self.cluster_id = cluster_id
        self.controller_id = controller_id
        self.version = 0
        self.next_producer_id = 0
        self.last_broker_epoch = 0
        self._topics: dict[str, Topic] = {}
        self._names: dict[Uuid, str] = {}
        self._unified = UnifiedNames()
        self._sources = Sources()
        self._alerts = AlertBook()
        self._queries = QueryBook()
        self._brokers: dict[int, Broker] = {}
        self._incarnations: dict[int, Uuid] = {}
        self._broker_configs: dict[int, dict[str, str]] = {}
        self._group_configs: dict[str, dict[str, str]] = {}
        self._producer_block: ProducerIdsAllocated | None = None
        self._quotas: dict[QuotaEntity, dict[str, float]] = {}
        self._features: dict[str, int] = {}
        self._encoded_topics: dict[Uuid, bytes] = {}
        self._sorted_topics: tuple[Topic, ...] | None = ()
        self._sorted_brokers: tuple[Broker, ...] = ()
        self._listeners = Listeners()
        self._touched: dict[Uuid, Topic | None] = {}
        self._brokers_touched = self._quotas_touched = False

    # -- what readers see

    def topic(self, name: str) -> Topic | None:
        """The topic of that name, or None."""
        return self._topics.get(name)

    def topic_by_id(self, topic_id: Uuid) -> Topic | None:
        """The topic of that id, or None."""
        name = self._names.get(topic_id)
        return None if name is None else self._topics[name]

    def topics(self) -> Sequence[Topic]:
        """All topics, in the order of their names. Sorted once a change; the same tuple until the next."""
        if self._sorted_topics is None:
            self._sorted_topics = tuple(topic for _, topic in sorted(self._topics.items()))
        return self._sorted_topics

    def brokers(self) -> Sequence[Broker]:
        """All registered brokers, in the order of their ids."""
        return self._sorted_brokers

    def broker(self, node_id: int) -> Broker | None:
        """The broker of that id, or None."""
        return self._brokers.get(node_id)

    def incarnation(self, node_id: int) -> Uuid | None:
        """The process that last registered as that broker, or None."""
        return self._incarnations.get(node_id)

    def broker_configs(self, node_id: int | None) -> dict[str, str]:
        """Dynamic config overrides of one broker, or the cluster-wide defaults for None."""
        return dict(self._broker_configs.get(CLUSTER_WIDE if node_id is None else node_id, ()))

    def quotas(self) -> Mapping[QuotaEntity, Mapping[str, float]]:
        """The quotas of every entity that has any. Not to be changed."""
        return self._quotas

    def group_configs(self, group_id: str) -> Mapping[str, str]:
        """Config overrides of a group, which need not exist."""
        return self._group_configs.get(group_id, {})

    def feature_level(self, name: str) -> int:
        """See `IClusterMetadata`."""
        level = self._features.get(name)
        return default_level(name) if level is None else level

    def colliding(self, name: str) -> str | None:
        """A topic whose name is the same as `name` when '.' and '_' are not told apart, as in names of metrics; or None."""
        return self._unified.colliding(name)

    def searches_of(self, topic_id: Uuid) -> list[Topic]:
        """The searches that are saved over a topic, by name."""
        found = [self._topics[self._names[each]] for each in self._sources.of(topic_id)]
        return sorted(found, key=lambda topic: topic.name)

    def alerts(self) -> Sequence[Alert]:
        """All alerts, by name."""
        return self._alerts.all()

    def queries(self) -> Sequence[ContinuousQuery]:
        """All continuous queries, by name."""
        return self._queries.all()

    def subscribe(self, listener: Callable[[MetadataDelta], None]) -> Callable[[], None]:
        """Call `listener` after every entry that touched topics, brokers or quotas; returns what ends the subscription."""
        return self._listeners.subscribe(listener)

    # -- the state machine

    def apply(self, index: int, records: Sequence[bytes]) -> None:
        """Replay the entry at `index`, then tell the listeners."""
        self.apply_records(index, [decode_record(data) for data in records])

    def apply_records(self, index: int, records: Iterable[MetadataRecord]) -> None:
        """As `apply`, of records that are decoded already."""
        for record in records:
            self.replay(record)
        self.version = index
        self._publish()

    def replay(self, record: MetadataRecord) -> None:
        """Replay one record. Raises CorruptLogError when it cannot follow from what was replayed before."""
        _REPLAY[type(record)](self, record)

    def snapshot(self) -> bytes:
        """The whole state after the last applied entry. Topics that didn't change since the last time aren't encoded anew."""
        records = [encode_record(record) for record in self._without_topics()]
        topics = self.topics()
        records.extend(self._encoded_topic(topic) for topic in topics if topic.search is None)
        records.extend(self._encoded_topic(topic) for topic in topics if topic.search is not None)
        records.extend(encode_record(record) for record in self._alerts.records())
        records.extend(encode_record(record) for record in self._queries.records())
        return _snapshot_encoder.encode((_SNAPSHOT_VERSION, records))

    def restore(self, index: int, snapshot: bytes) -> None:
        """Become what `snapshot` holds; listeners see the difference as one change."""
        try:
            version, records = _snapshot_decoder.decode(snapshot)
        except msgspec.DecodeError as fault:
            raise CorruptLogError(f"the metadata snapshot at index {index} does not decode: {fault}") from fault
        if version != _SNAPSHOT_VERSION:
            raise CorruptLogError(
                f"the metadata snapshot at index {index} has version {version}, not {_SNAPSHOT_VERSION}"
            )
        before = {topic.topic_id: topic for topic in self._topics.values()}
        self._clear()
        for data in records:
            self.replay(decode_record(data))
        self.version = index
        self._touched = {topic_id: before.get(topic_id) for topic_id in {**before, **self._names}}
        self._brokers_touched = self._quotas_touched = True
        self._publish()

    # -- replaying

    def _topic_created(self, record: TopicCreated) -> None:
        self._expect_new(record)
        partitions = tuple(partition_of(number, row) for number, row in enumerate(record.partitions))
        self._put(Topic(record.topic_id, record.name, partitions, MappingProxyType(dict(record.configs))))

    def _search_saved(self, record: SearchSaved) -> None:
        self._expect_new(record)
        source = self._known(record.source_id)
        if source.search is not None:
            raise CorruptLogError(
                f"the metadata log saves search {record.name!r} over {source.name!r}, which is one too"
            )
        self._sources.add(source.topic_id, record.topic_id)
        search = SavedSearch(record.source_id, record.query, record.mapping)
        self._put(Topic(record.topic_id, record.name, source.partitions, search=search))

    def _expect_new(self, record: TopicCreated | SearchSaved) -> None:
        if record.name in self._topics or record.topic_id in self._names:
            raise CorruptLogError(f"the metadata log creates topic {record.name!r} a second time")

    def _topic_deleted(self, record: TopicDeleted) -> None:
        topic = self._known(record.topic_id)
        if self._sources.of(topic.topic_id) or self._alerts.over(topic.topic_id) or self._queries.over(topic.topic_id):
            raise CorruptLogError(
                f"the metadata log deletes topic {topic.name!r}, which searches, alerts or queries need"
            )
        if topic.search is not None:
            self._sources.discard(topic.search.source_id, topic.topic_id)
        self._touch(topic.topic_id, topic)
        del self._topics[topic.name], self._names[topic.topic_id]
        self._unified.discard(topic.name)

    def _partitions_added(self, record: PartitionsAdded) -> None:
        topic = self._known(record.topic_id)
        if record.first != len(topic.partitions):
            raise CorruptLogError(
                f"the metadata log adds partition {record.first} to topic {topic.name!r}, which has {len(topic.partitions)}"
            )
        added = tuple(partition_of(record.first + step, row) for step, row in enumerate(record.partitions))
        self._put(replace(topic, partitions=topic.partitions + added))

    def _topic_config_changed(self, record: TopicConfigChanged) -> None:
        topic = self._known(record.topic_id)
        self._put(replace(topic, configs=MappingProxyType(changed(topic.configs, record.changes))))

    def _broker_config_changed(self, record: BrokerConfigChanged) -> None:
        configs = changed(self._broker_configs.get(record.node_id, {}), record.changes)
        if configs:
            self._broker_configs[record.node_id] = configs
        else:
            self._broker_configs.pop(record.node_id, None)
        self._brokers_touched = True

    def _group_config_changed(self, record: GroupConfigChanged) -> None:
        configs = changed(self._group_configs.get(record.group_id, {}), record.changes)
        if configs:
            self._group_configs[record.group_id] = configs
        else:
            self._group_configs.pop(record.group_id, None)

    def _broker_registered(self, record: BrokerRegistered) -> None:
        endpoints = tuple(Endpoint(row.listener, row.host, row.port) for row in record.endpoints)
        self._brokers[record.node_id] = Broker(record.node_id, record.epoch, endpoints, record.rack)
        self._incarnations[record.node_id] = record.incarnation
        self._sorted_brokers = tuple(broker for _, broker in sorted(self._brokers.items()))
        self.last_broker_epoch = max(self.last_broker_epoch, record.epoch)
        self._brokers_touched = True
        if record.renews_leadership:
            self._renew_leadership(record.node_id)

    def _renew_leadership(self, node_id: int) -> None:
        for topic in list(self._topics.values()):
            if topic.search is None and any(partition.leader == node_id for partition in topic.partitions):
                self._put(replace(topic, partitions=tuple(renewed(each, node_id) for each in topic.partitions)))

    def _producer_ids_allocated(self, record: ProducerIdsAllocated) -> None:
        if record.next_producer_id < self.next_producer_id:
            raise CorruptLogError(
                f"the metadata log takes producer ids back, from {self.next_producer_id} to {record.next_producer_id}"
            )
        self.next_producer_id = record.next_producer_id
        self._producer_block = record

    def _client_quota_changed(self, record: ClientQuotaChanged) -> None:
        quotas = {**self._quotas.get(record.entity, {}), **record.changes}
        left = {key: value for key, value in quotas.items() if value is not None}
        if left:
            self._quotas[record.entity] = left
        else:
            self._quotas.pop(record.entity, None)
        self._quotas_touched = True

    def _feature_level_changed(self, record: FeatureLevelChanged) -> None:
        feature = SUPPORTED.get(record.name)
        if feature is None or not feature.min_level <= record.level <= feature.max_level:
            raise MetadataVersionError(
                f"this cluster has feature {record.name!r} at level {record.level}, which a newer release has set; start that "
                "release or a later one on this data directory"
            )
        self._features[record.name] = record.level

    # -- inside

    def _known(self, topic_id: Uuid) -> Topic:
        topic = self.topic_by_id(topic_id)
        if topic is None:
            raise CorruptLogError(f"the metadata log changes topic {topic_id.hex()}, which it never created")
        return topic

    def _put(self, topic: Topic) -> None:
        self._touch(topic.topic_id, self._topics.get(topic.name))
        self._topics[topic.name] = topic
        self._names[topic.topic_id] = topic.name
        self._unified.add(topic.name)
        for search in self.searches_of(topic.topic_id):
            if search.partitions != topic.partitions:
                self._put(replace(search, partitions=topic.partitions))

    def _touch(self, topic_id: Uuid, before: Topic | None) -> None:
        self._touched.setdefault(topic_id, before)
        self._encoded_topics.pop(topic_id, None)
        self._sorted_topics = None

    def _publish(self) -> None:
        """Tell the listeners how topics, brokers and quotas differ from the last time."""
        if not (self._touched or self._brokers_touched or self._quotas_touched):
            return
        created, changed, deleted = [], [], []
        for topic_id, before in self._touched.items():
            now = self.topic_by_id(topic_id)
            if before is None:
                if now is not None:
                    created.append(now)
            elif now is None:
                deleted.append(before)
            elif now != before:
                changed.append(now)
        delta = MetadataDelta(created, changed, deleted, self._brokers_touched, self._quotas_touched)
        self._touched, self._brokers_touched, self._quotas_touched = {}, False, False
        self._listeners.tell(delta)

    def _clear(self) -> None:
        for state in (
            self._topics,
            self._names,
            self._unified,
            self._sources,
            self._alerts,
            self._queries,
            self._brokers,
            self._incarnations,
            self._broker_configs,
            self._quotas,
            self._group_configs,
            self._features,
            self._encoded_topics,
        ):
            state.clear()
        self.next_producer_id = self.last_broker_epoch = 0
        self._producer_block = None
        self._sorted_topics, self._sorted_brokers = None, ()

    def _without_topics(self) -> Iterable[MetadataRecord]:
        for broker in self._sorted_brokers:
            endpoints = tuple(EndpointRow(each.listener, each.host, each.port) for each in broker.endpoints)
            incarnation = self._incarnations[broker.node_id]
            yield BrokerRegistered(broker.node_id, broker.epoch, incarnation, endpoints, broker.rack, False)
        for node_id, configs in sorted(self._broker_configs.items()):
            yield BrokerConfigChanged(node_id, dict(sorted(configs.items())))
        for group_id, configs in sorted(self._group_configs.items()):
            yield GroupConfigChanged(group_id, dict(sorted(configs.items())))
        if self._producer_block is not None:
            yield self._producer_block
        for entity, quotas in sorted(self._quotas.items(), key=repr):
            yield ClientQuotaChanged(entity, dict(sorted(quotas.items())))
        for name, level in sorted(self._features.items()):
            yield FeatureLevelChanged(name, level)

    def _encoded_topic(self, topic: Topic) -> bytes:
        encoded = self._encoded_topics.get(topic.topic_id)
        if encoded is None:
            encoded = self._encoded_topics[topic.topic_id] = encode_record(record_of(topic))
        return encoded


_REPLAY: dict[type, Callable[[MetadataImage, Any], None]] = {
    TopicCreated: MetadataImage._topic_created,
    TopicDeleted: MetadataImage._topic_deleted,
    PartitionsAdded: MetadataImage._partitions_added,
    TopicConfigChanged: MetadataImage._topic_config_changed,
    BrokerConfigChanged: MetadataImage._broker_config_changed,
    BrokerRegistered: MetadataImage._broker_registered,
    ProducerIdsAllocated: MetadataImage._producer_ids_allocated,
    ClientQuotaChanged: MetadataImage._client_quota_changed,
    GroupConfigChanged: MetadataImage._group_config_changed,
    FeatureLevelChanged: MetadataImage._feature_level_changed,
    SearchSaved: MetadataImage._search_saved,
    AlertSaved: lambda image, record: image._alerts.saved(record, image._known(record.search_id)),
    AlertDeleted: lambda image, record: image._alerts.deleted(record),
    QuerySaved: lambda image, record: image._queries.saved(record),
    QueryPaused: lambda image, record: image._queries.paused(record),
    QueryDropped: lambda image, record: image._queries.dropped(record),
}
