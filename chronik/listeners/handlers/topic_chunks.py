"""Topics in the encoded form of Metadata responses, made once and kept until the metadata changes.

A `TopicView` is how one listener sees topics in one version of the API, with or without authorised operations. A change of a
topic drops that topic's bytes from every view; a change of the brokers drops the views.
"""

from __future__ import annotations

from typing import Any

from chronik.interfaces import IClusterMetadata, MetadataDelta
from chronik.listeners.handlers.topology import NOT_ASKED, TOPIC_OPERATIONS, Topology, topology
from chronik.model import Topic, Uuid
from chronik.wire.codec import encode_struct
from chronik.wire.messages.metadata import MetadataResponse, MetadataResponsePartition, MetadataResponseTopic


class TopicView:
    """Encoded topics for one version, one listener, with or without operations."""

    def __init__(self, metadata: IClusterMetadata, version: int, operations: bool, listener: str) -> None:
        self._metadata = metadata
        self._version = version
        self._operations = TOPIC_OPERATIONS if operations else NOT_ASKED
        self._flexible = MetadataResponse.is_flexible(version)
        self.topology: Topology = topology(metadata, listener)
        self.chunks: dict[Uuid, bytes] = {}
        self._all: list[Any] = []
        self._all_version = -1

    def of(self, topic: Topic) -> bytes:
        """The encoded `topic`, an element for the response's array of topics."""
        chunk = self.chunks.get(topic.topic_id)
        if chunk is None:
            chunk = self.chunks[topic.topic_id] = encode_struct(self._element(topic), self._version, self._flexible)
        return chunk

    def all(self) -> list[Any]:
        """All topics, encoded, by name. Not to be changed: it is the same list until the metadata changes."""
        if self._all_version != self._metadata.version:
            self._all = [self.of(topic) for topic in self._metadata.topics()]
            self._all_version = self._metadata.version
        return self._all

    def _element(self, topic: Topic) -> MetadataResponseTopic:
        view = self.topology
        element = MetadataResponseTopic(
            name=topic.name,
            topic_id=topic.topic_id,
            is_internal=topic.internal,
            partitions=[
                MetadataResponsePartition(
                    error_code=view.partition_error(each, self._version),
                    partition_index=each.partition,
                    leader_id=each.leader,
                    leader_epoch=each.leader_epoch,
                    replica_nodes=list(each.replicas),
                    isr_nodes=list(each.isr),
                    offline_replicas=view.offline(each),
                )
                for each in topic.partitions
            ],
        )
        if self._version >= 8:
            element.topic_authorized_operations = self._operations
        return element


class TopicChunks:
    """The views of `metadata` that were asked for so far."""

    def __init__(self, metadata: IClusterMetadata) -> None:
        self._metadata = metadata
        self._views: dict[tuple[int, bool, str], TopicView] = {}
        metadata.subscribe(self._changed)

    def view(self, version: int, operations: bool, listener: str) -> TopicView:
        """The view for a request of that version on that listener."""
        key = (version, operations, listener)
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = TopicView(self._metadata, version, operations, listener)
        return view

    def _changed(self, delta: MetadataDelta) -> None:
        if delta.brokers_changed:
            self._views.clear()
            return
        for view in self._views.values():
            for topic in (*delta.changed, *delta.deleted):
                view.chunks.pop(topic.topic_id, None)
