"""Finding what can be read by topic and partition: what has a log, and the saved searches, which are views of such.

`SavedTopics` follows the metadata: a partition of a saved search is made when it is first asked for, and closed when the search
is deleted.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from chronik.broker.interfaces import IReadablePartition, IReadablePartitions
from chronik.broker.replicas import Replicas
from chronik.broker.saved_partition import Pace, SavedPartition
from chronik.broker.selected import Kept
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata, ISelector, MetadataDelta
from chronik.model import SavedSearch, Topic, TopicPartition, Uuid
from chronik.telemetry.metrics import TopicMetrics

MAX_KEPT_BYTES = 64 << 20
"""What was selected and is kept for those who read, in all partitions of a node together."""


@implementer(IReadablePartitions)
class SavedTopics:
    """Over the partitions of `replicas`. `selector` carries searches out, None where this node has no processes that search."""

    def __init__(
        self,
        replicas: Replicas,
        metadata: IClusterMetadata,
        selector: ISelector | None,
        metrics_for: Callable[[str], TopicMetrics],
        clock: IReactorTime,
    ) -> None:
        self._replicas = replicas
        self._metadata = metadata
        self._selector = selector
        self._metrics_for = metrics_for
        self._kept = Kept(MAX_KEPT_BYTES)
        self._pace = Pace(clock.callLater)
        self._searches: dict[str, Topic] = {}
        self._searches_by_id: dict[Uuid, Topic] = {}
        self._partitions: dict[Uuid, dict[int, SavedPartition]] = {}
        for topic in metadata.topics():
            self._put(topic)
        metadata.subscribe(self._changed)

    def stop(self) -> None:
        """Select nothing any more."""
        self._pace.stop()
        self._selector = None
        for topic_id in list(self._partitions):
            self._close(topic_id)

    def partition(self, topic: str, index: int) -> IReadablePartition:
        """See `IReadablePartitions`. UNKNOWN_SERVER_ERROR: a search, and this node doesn't search."""
        found = self._searches.get(topic)
        return self._replicas.partition(topic, index) if found is None else self._saved(found, index)

    def partition_by_id(self, topic_id: Uuid, index: int) -> IReadablePartition:
        """See `IReadablePartitions`; likewise."""
        found = self._searches_by_id.get(topic_id)
        return self._replicas.partition_by_id(topic_id, index) if found is None else self._saved(found, index)

    def bounds(self, partition: TopicPartition) -> tuple[int, int]:
        """Log start and high watermark. Raises KafkaError when the partition isn't here."""
        found = self.partition(*partition)
        return found.log_start_offset, found.high_watermark

    def _saved(self, topic: Topic, index: int) -> IReadablePartition:
        by_index = self._partitions.setdefault(topic.topic_id, {})
        found = by_index.get(index)
        if found is not None:
            return found
        search = topic.search
        assert isinstance(search, SavedSearch)
        if not 0 <= index < len(topic.partitions):
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"{topic.name} has no partition {index}")
        if self._selector is None:
            raise KafkaError(
                ErrorCode.UNKNOWN_SERVER_ERROR,
                f"{topic.name} is a saved search, and no process of this node searches: search_workers is 0",
            )
        source = self._replicas.partition_by_id(search.source_id, index)
        name = TopicPartition(topic.name, index)
        found = by_index[index] = SavedPartition(
            name, source, search, self._selector, self._kept, self._pace, self._metrics_for(topic.name)
        )
        return found

    def _changed(self, delta: MetadataDelta) -> None:
        for topic in delta.deleted:
            if topic.search is not None:
                self._searches.pop(topic.name, None)
                self._searches_by_id.pop(topic.topic_id, None)
                self._close(topic.topic_id)
        for topic in (*delta.created, *delta.changed):
            self._put(topic)

    def _put(self, topic: Topic) -> None:
        if topic.search is not None:
            self._searches[topic.name] = self._searches_by_id[topic.topic_id] = topic

    def _close(self, topic_id: Uuid) -> None:
        for partition in self._partitions.pop(topic_id, {}).values():
            partition.close()
