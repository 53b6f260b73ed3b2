"""Topics in the encoded form of Metadata responses, made once and kept until the metadata changes.

A `TopicView` is how one listener sees topics in one version of the API, with or without authorised operations. A change of a
topic drops that topic's bytes from every view; a change of the brokers drops the views. Most partitions of a cluster differ
in nothing but their index, so each kind is encoded once.
"""

from __future__ import annotations

import struct
from typing import Any

from chronik.interfaces import IClusterMetadata, MetadataDelta
from chronik.listeners.handlers.topology import NOT_ASKED, TOPIC_OPERATIONS, Topology, topology
from chronik.model import PartitionState, Topic, Uuid
from chronik.steps import Steps, each
from chronik.wire.codec import encode_struct
from chronik.wire.messages.metadata import MetadataResponse, MetadataResponsePartition, MetadataResponseTopic

_MAX_KINDS = 10_000
_pack_index = struct.Struct(">i").pack
_Kind = tuple[int, int, tuple[int, ...], tuple[int, ...]]


class TopicView:
    """Encoded topics for one version, one listener, with or without operations."""

    def __init__(self, metadata: IClusterMetadata, version: int, operations: bool, listener: str) -> None:
        self._metadata = metadata
        self._version = version
        self._operations = TOPIC_OPERATIONS if operations else NOT_ASKED
        self._flexible = MetadataResponse.is_flexible(version)
        self.topology: Topology = topology(metadata, listener)
        self.chunks: dict[Uuid, bytes] = {}
        self._kinds: dict[
            _Kind, tuple[bytes, bytes]
        ] = {}  # of partitions: what stands before their index, and behind it
        self._all: list[Any] = []
        self._all_version = -1

    def of(self, topic: Topic) -> bytes:
        """The encoded `topic`, an element for the response's array of topics."""
        chunk = self.chunks.get(topic.topic_id)
        if chunk is None:
            chunk = self.chunks[topic.topic_id] = encode_struct(self._element(topic), self._version, self._flexible)
        return chunk

    def all(self) -> Steps[list[Any]]:
        """All topics, encoded, by name. Not to be changed: it is the same list until the metadata changes."""
        version = self._metadata.version
        if self._all_version != version:
            made = yield from each(self._metadata.topics(), self.of)
            if self._metadata.version != version:
                return made  # of two states; the next one asks again
            self._all, self._all_version = made, version
        return self._all

    def _element(self, topic: Topic) -> MetadataResponseTopic:
        element = MetadataResponseTopic(
            name=topic.name,
            topic_id=topic.topic_id,
            is_internal=topic.internal,
            partitions=self._partitions(topic.partitions),
        )
        if self._version >= 8:
            element.topic_authorized_operations = self._operations
        return element

    def _partitions(self, partitions: tuple[PartitionState, ...]) -> list[Any]:
        """Encoded partitions, elements for the topic's array."""
        encoded = []
        leader = epoch = replicas = isr = None
        before = behind = b""
        for state in partitions:
            if state.leader_epoch != epoch or state.leader != leader or state.replicas != replicas or state.isr != isr:
                leader, epoch, replicas, isr = state.leader, state.leader_epoch, state.replicas, state.isr
                kind = (leader, epoch, replicas, isr)
                around = self._kinds.get(kind)
                if around is None:
                    if len(self._kinds) >= _MAX_KINDS:
                        self._kinds.clear()
                    around = self._kinds[kind] = self._around_index(state)
                before, behind = around
            encoded.append(b"%b%b%b" % (before, _pack_index(state.partition), behind))
        return encoded

    def _around_index(self, partition: PartitionState) -> tuple[bytes, bytes]:
        view = self.topology
        element = MetadataResponsePartition(
            error_code=view.partition_error(partition, self._version),
            leader_id=partition.leader,
            leader_epoch=partition.leader_epoch,
            replica_nodes=list(partition.replicas),
            isr_nodes=list(partition.isr),
            offline_replicas=view.offline(partition),
        )
        encoded = encode_struct(element, self._version, self._flexible)
        return encoded[:2], encoded[6:]  # in every version the index stands behind the error code


class TopicChunks:
    """The views of `metadata` that were asked for so far."""

    def __init__(self, metadata: IClusterMetadata) -> None:
        self._metadata = metadata
        self._views: dict[tuple[int, bool, str], TopicView] = {}
        metadata.subscribe(self._changed)

    def prepare(self, version: int) -> None:
        """Have the elements' codec compiled before the first view of that version."""
        flexible = MetadataResponse.is_flexible(version)
        encode_struct(MetadataResponseTopic(name=""), version, flexible)
        encode_struct(MetadataResponsePartition(), version, flexible)

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
