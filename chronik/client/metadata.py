"""What a client knows of a cluster: brokers, topics, leaders. A cache that metadata responses are folded into.

Values only, no I/O: `ClusterClient` asks, this remembers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from chronik.client.errors import error_code
from chronik.errors import ErrorCode, KafkaError
from chronik.model import ZERO_UUID, TopicPartition, Uuid
from chronik.wire.messages.metadata import MetadataResponse, MetadataResponseTopic


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """A broker as it advertises itself on the listener that was asked."""

    node_id: int
    host: str
    port: int
    rack: str | None = None


@dataclass(frozen=True, slots=True)
class PartitionView:
    """A partition as last seen. `leader` is -1 while it has none."""

    partition: int
    leader: int
    leader_epoch: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    offline: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TopicView:
    """A topic as last seen; `partitions` are in the order of their numbers. `topic_id` is zero from old brokers."""

    name: str
    topic_id: Uuid
    internal: bool
    partitions: tuple[PartitionView, ...]


class Metadata:
    """The newest known state. `errors` has the topics that were asked for and could not be described."""

    def __init__(self) -> None:
        self.cluster_id: str | None = None
        self.controller_id = -1
        self.brokers: dict[int, BrokerAddress] = {}
        self.topics: dict[str, TopicView] = {}
        self.errors: dict[str, ErrorCode] = {}
        self._names: dict[Uuid, str] = {}

    def update(self, response: MetadataResponse, all_topics: bool) -> None:
        """Fold a response in. When it covers `all_topics`, topics that it doesn't name are forgotten."""
        self.cluster_id = response.cluster_id
        self.controller_id = response.controller_id
        self.brokers = {b.node_id: BrokerAddress(b.node_id, b.host, b.port, b.rack) for b in response.brokers}
        if all_topics:
            self.topics = {}
            self.errors = {}
            self._names = {}
        for topic in response.topics:
            self._update_topic(topic)

    def _update_topic(self, topic: MetadataResponseTopic) -> None:
        name = topic.name
        if name is None:
            return
        former = self.topics.get(name)
        if topic.error_code:
            self.errors[name] = error_code(topic.error_code)
            if self.errors[name] in (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.TOPIC_AUTHORIZATION_FAILED):
                self.topics.pop(name, None)
            return
        self.errors.pop(name, None)
        if former is not None and former.topic_id != topic.topic_id:
            self._names.pop(former.topic_id, None)
        partitions = sorted(topic.partitions, key=lambda p: p.partition_index)
        self.topics[name] = TopicView(
            name,
            topic.topic_id,
            topic.is_internal,
            tuple(
                PartitionView(
                    p.partition_index,
                    p.leader_id,
                    p.leader_epoch,
                    tuple(p.replica_nodes),
                    tuple(p.isr_nodes),
                    tuple(p.offline_replicas),
                )
                for p in partitions
            ),
        )
        if topic.topic_id != ZERO_UUID:
            self._names[topic.topic_id] = name

    def topic(self, name: str) -> TopicView:
        """The topic of that name. Raises KafkaError with the broker's reason, or UNKNOWN_TOPIC_OR_PARTITION."""
        topic = self.topics.get(name)
        if topic is None:
            code = self.errors.get(name, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            raise KafkaError(code, f"topic {name!r}")
        return topic

    def topic_name(self, topic_id: Uuid) -> str | None:
        """The name of a topic by its id, or None."""
        return self._names.get(topic_id)

    def topic_id(self, name: str) -> Uuid:
        """The id of a topic, zero when unknown (old brokers have none)."""
        topic = self.topics.get(name)
        return ZERO_UUID if topic is None else topic.topic_id

    def have_ids(self, names: Iterable[str]) -> bool:
        """Whether every one of the topics has a known id, as the newest Produce and Fetch versions want."""
        return all(self.topic_id(name) != ZERO_UUID for name in names)

    def partition(self, partition: TopicPartition) -> PartitionView:
        """The state of one partition. Raises KafkaError(UNKNOWN_TOPIC_OR_PARTITION) when the topic hasn't got it."""
        for view in self.topic(partition.topic).partitions:
            if view.partition == partition.partition:
                return view
        count = len(self.topics[partition.topic].partitions)
        raise KafkaError(
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            f"topic {partition.topic!r} has {count} partitions, none numbered {partition.partition}",
        )

    def leader(self, partition: TopicPartition) -> int:
        """The node id of a partition's leader, -1 while it has none or is unknown."""
        topic = self.topics.get(partition.topic)
        if topic is None or partition.partition >= len(topic.partitions) or partition.partition < 0:
            return -1
        return topic.partitions[partition.partition].leader
