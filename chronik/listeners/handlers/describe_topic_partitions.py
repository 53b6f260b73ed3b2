"""DescribeTopicPartitions: topics and their partitions, a page at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from heapq import merge

from chronik.config_def import shorten
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.topology import TOPIC_OPERATIONS, Topology, topology
from chronik.model import INTERNAL_TOPICS, PartitionState, topic_name_fault
from chronik.steps import Steps, each
from chronik.wire.apis import ApiKey
from chronik.wire.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
)

MAX_PARTITIONS = 2000
"""The most partitions in one answer, whatever the client allows: Kafka's `max.request.partition.size.limit`."""

_SORTED_AT_ONCE = 1000

_NEWEST_METADATA = 13
"""Partition errors are those of this version of Metadata."""


class DescribeTopicPartitionsHandler:
    """Serves DescribeTopicPartitions from `metadata`, in the order of topic names."""

    api_key = ApiKey.DESCRIBE_TOPIC_PARTITIONS
    min_version = 0
    max_version = 0

    def __init__(self, metadata: IClusterMetadata) -> None:
        self._metadata = metadata

    def handle(
        self, request: DescribeTopicPartitionsRequest, context: RequestContext
    ) -> Steps[DescribeTopicPartitionsResponse]:
        """One page, from the request's cursor on, with a cursor to the next one if there is more."""
        names = yield from self._names(request)
        view = topology(self._metadata, context.listener)
        cursor = request.cursor
        room = max(min(MAX_PARTITIONS, request.response_partition_limit), 1)
        topics: list[DescribeTopicPartitionsResponseTopic] = []
        for name in names:
            yield
            if not room:
                return DescribeTopicPartitionsResponse(
                    topics=topics, next_cursor=Cursor(topic_name=name, partition_index=0)
                )
            first = cursor.partition_index if cursor is not None and cursor.topic_name == name else 0
            found, more = self._topic(name, first, room, view)
            topics.append(found)
            room -= len(found.partitions)
            if more:
                following = Cursor(topic_name=name, partition_index=first + len(found.partitions))
                return DescribeTopicPartitionsResponse(topics=topics, next_cursor=following)
        return DescribeTopicPartitionsResponse(topics=topics)

    def refuse(
        self, request: DescribeTopicPartitionsRequest, version: int, error: KafkaError
    ) -> Steps[DescribeTopicPartitionsResponse]:
        """`error` for every topic that the request names."""
        topics = yield from each(
            request.topics,
            lambda topic: DescribeTopicPartitionsResponseTopic(error_code=error.code, name=topic.name),
        )
        return DescribeTopicPartitionsResponse(topics=topics)

    def _names(self, request: DescribeTopicPartitionsRequest) -> Steps[Iterable[str]]:
        """The names to answer, in their order, from the cursor's on. Raises KafkaError for a cursor that makes no sense."""
        cursor = request.cursor
        names = yield from self._asked(request)
        if cursor is None:
            return (yield from _ascending(list(names)))
        if request.topics and cursor.topic_name not in names:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST, f"the cursor is at topic {shorten(cursor.topic_name)}, which isn't asked for"
            )
        if cursor.partition_index < 0:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST, f"the cursor is at partition {cursor.partition_index}; they begin at 0"
            )
        return (yield from _ascending([name for name in names if name >= cursor.topic_name]))

    def _asked(self, request: DescribeTopicPartitionsRequest) -> Steps[Collection[str]]:
        """All names, without repetition."""
        names: dict[str, None] = {}
        for topic in request.topics or self._metadata.topics():
            names[topic.name] = None
            yield
        return names

    def _topic(
        self, name: str, first: int, room: int, view: Topology
    ) -> tuple[DescribeTopicPartitionsResponseTopic, bool]:
        """The topic with at most `room` partitions from `first` on, and whether it has more."""
        topic = self._metadata.topic(name)
        if topic is None:
            invalid = topic_name_fault(name) is not None
            return DescribeTopicPartitionsResponseTopic(
                error_code=ErrorCode.INVALID_TOPIC_EXCEPTION if invalid else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                name=name,
                is_internal=name in INTERNAL_TOPICS,
                topic_authorized_operations=TOPIC_OPERATIONS,
            ), False
        page = topic.partitions[first : first + room]
        return DescribeTopicPartitionsResponseTopic(
            name=name,
            topic_id=topic.topic_id,
            is_internal=topic.internal,
            partitions=[_partition(partition, view) for partition in page],
            topic_authorized_operations=TOPIC_OPERATIONS,
        ), first + len(page) < len(topic.partitions) and bool(page)


def _ascending(names: Sequence[str]) -> Steps[Iterable[str]]:
    """`names` sorted: some at a time, and put together as one asks for them."""
    runs = []
    for start in range(0, len(names), _SORTED_AT_ONCE):
        runs.append(sorted(names[start : start + _SORTED_AT_ONCE]))
        yield
    return merge(*runs)


def _partition(partition: PartitionState, view: Topology) -> DescribeTopicPartitionsResponsePartition:
    return DescribeTopicPartitionsResponsePartition(
        error_code=view.partition_error(partition, _NEWEST_METADATA),
        partition_index=partition.partition,
        leader_id=partition.leader,
        leader_epoch=partition.leader_epoch,
        replica_nodes=list(partition.replicas),
        isr_nodes=list(partition.isr),
        eligible_leader_replicas=[],
        last_known_elr=[],
        offline_replicas=view.offline(partition),
    )
