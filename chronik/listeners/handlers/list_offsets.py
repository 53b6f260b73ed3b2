"""ListOffsets: the first, last or newest offset of partitions, or the first at or after a time.

Timestamps below zero are questions of their own: -1 the end that the isolation level lets the reader see, -2 the start, -3
the record with the largest timestamp (KIP-734), -4 the start of what is on local disk (KIP-405) and -5 the end of what is
tiered, which without tiering is unknown (KIP-1005).
"""

from __future__ import annotations

from chronik.broker.interfaces import IReadablePartition, IReadablePartitions
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import RequestContext
from chronik.steps import Steps, each_of
from chronik.wire.apis import ApiKey
from chronik.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)

LATEST = -1
EARLIEST = -2
MAX_TIMESTAMP = -3
EARLIEST_LOCAL = -4
LATEST_TIERED = -5
_SINCE_VERSION = {MAX_TIMESTAMP: 7, EARLIEST_LOCAL: 8, LATEST_TIERED: 9}
_EPOCHS_SINCE = 4
_READ_UNCOMMITTED, _READ_COMMITTED = 0, 1
_NO_TIMESTAMP = -1
_NO_OFFSET = -1


class ListOffsetsHandler:
    """Serves ListOffsets from the partitions of `replicas`."""

    api_key = ApiKey.LIST_OFFSETS
    min_version = 1
    max_version = 10

    def __init__(self, replicas: IReadablePartitions) -> None:
        self._replicas = replicas

    def handle(self, request: ListOffsetsRequest, context: RequestContext) -> Steps[ListOffsetsResponse]:
        """Answer each partition by itself; one that is named twice is refused."""
        if request.isolation_level not in (_READ_UNCOMMITTED, _READ_COMMITTED):
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"there is no isolation level {request.isolation_level}")
        named: set[tuple[str, int]] = set()
        twice: set[tuple[str, int]] = set()
        for topic in request.topics:
            for data in topic.partitions:
                place = topic.name, data.partition_index
                (twice if place in named else named).add(place)
                yield
            yield
        told = set()
        topics = []
        for topic in request.topics:
            answers = []
            for data in topic.partitions:
                yield
                place = topic.name, data.partition_index
                try:
                    if place in twice:
                        if place in told:
                            continue
                        told.add(place)
                        raise KafkaError(ErrorCode.INVALID_REQUEST, "the partition is named twice")
                    answers.append(self._answer(topic.name, data, request, context.api_version))
                except KafkaError as error:
                    answers.append(
                        ListOffsetsPartitionResponse(partition_index=data.partition_index, error_code=error.code)
                    )
            topics.append(ListOffsetsTopicResponse(name=topic.name, partitions=answers))
            yield
        return ListOffsetsResponse(topics=topics)

    def refuse(self, request: ListOffsetsRequest, version: int, error: KafkaError) -> Steps[ListOffsetsResponse]:
        """`error` for every partition."""
        topics = yield from each_of(
            request.topics,
            lambda topic: topic.partitions,
            lambda _, data: ListOffsetsPartitionResponse(partition_index=data.partition_index, error_code=error.code),
            lambda topic, partitions: ListOffsetsTopicResponse(name=topic.name, partitions=partitions),
        )
        return ListOffsetsResponse(topics=topics)

    def _answer(
        self, topic: str, data: ListOffsetsPartition, request: ListOffsetsRequest, version: int
    ) -> ListOffsetsPartitionResponse:
        if version < _SINCE_VERSION.get(data.timestamp, 0) or data.timestamp < LATEST_TIERED:
            raise KafkaError(ErrorCode.UNSUPPORTED_VERSION, f"timestamp {data.timestamp} is unknown to this version")
        partition = self._replicas.partition(topic, data.partition_index)
        partition.check_leader_epoch(data.current_leader_epoch)
        timestamp, offset, epoch = _look_up(partition, data.timestamp, request.isolation_level)
        answer = ListOffsetsPartitionResponse(partition_index=data.partition_index, timestamp=timestamp, offset=offset)
        if version >= _EPOCHS_SINCE:
            answer.leader_epoch = epoch
        return answer


def _look_up(partition: IReadablePartition, timestamp: int, isolation_level: int) -> tuple[int, int, int]:
    """(timestamp, offset, leader epoch) as the answer has them, -1 for what there is none of."""
    visible = partition.last_stable_offset if isolation_level == _READ_COMMITTED else partition.high_watermark
    if timestamp == LATEST:
        return _NO_TIMESTAMP, visible, partition.leader_epoch
    if timestamp in (EARLIEST, EARLIEST_LOCAL):
        start = partition.log_start_offset
        return _NO_TIMESTAMP, start, partition.epoch_of(start)
    if timestamp == LATEST_TIERED:
        return _NO_TIMESTAMP, _NO_OFFSET, -1
    found = partition.max_timestamp() if timestamp == MAX_TIMESTAMP else partition.offset_for_timestamp(timestamp)
    if found is None or found[1] >= visible:
        return _NO_TIMESTAMP, _NO_OFFSET, -1
    return found
