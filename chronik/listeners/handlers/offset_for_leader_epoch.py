"""OffsetForLeaderEpoch: where a leader epoch ended, so that clients and followers detect truncation (KIP-101, KIP-320)."""

from __future__ import annotations

from collections.abc import Callable

from chronik.broker.interfaces import IReadablePartitions
from chronik.errors import KafkaError
from chronik.listeners.context import RequestContext
from chronik.steps import Steps, each_of
from chronik.wire.apis import ApiKey
from chronik.wire.messages.offset_for_leader_epoch import (
    EpochEndOffset,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
    OffsetForLeaderTopicResult,
)


class OffsetForLeaderEpochHandler:
    """Serves OffsetForLeaderEpoch from the epoch checkpoints of `replicas`."""

    api_key = ApiKey.OFFSET_FOR_LEADER_EPOCH
    min_version = 2
    max_version = 4

    def __init__(self, replicas: IReadablePartitions) -> None:
        self._replicas = replicas

    def handle(
        self, request: OffsetForLeaderEpochRequest, context: RequestContext
    ) -> Steps[OffsetForLeaderEpochResponse]:
        """For each partition the largest epoch at or below the one asked for, and its end offset; -1 and -1 if none."""
        return (yield from _each_partition(request, self._answer))

    def refuse(
        self, request: OffsetForLeaderEpochRequest, version: int, error: KafkaError
    ) -> Steps[OffsetForLeaderEpochResponse]:
        """`error` for every partition."""
        return _each_partition(request, lambda _, data: EpochEndOffset(error_code=error.code, partition=data.partition))

    def _answer(self, topic: OffsetForLeaderTopic, data: OffsetForLeaderPartition) -> EpochEndOffset:
        try:
            partition = self._replicas.partition(topic.topic, data.partition)
            partition.check_leader_epoch(data.current_leader_epoch)
        except KafkaError as error:
            return EpochEndOffset(error_code=error.code, partition=data.partition)
        epoch, end_offset = partition.epoch_end(data.leader_epoch)
        return EpochEndOffset(partition=data.partition, leader_epoch=epoch, end_offset=end_offset)


def _each_partition(
    request: OffsetForLeaderEpochRequest,
    answer: Callable[[OffsetForLeaderTopic, OffsetForLeaderPartition], EpochEndOffset],
) -> Steps[OffsetForLeaderEpochResponse]:
    topics = yield from each_of(
        request.topics,
        lambda topic: topic.partitions,
        answer,
        lambda topic, partitions: OffsetForLeaderTopicResult(topic=topic.topic, partitions=partitions),
    )
    return OffsetForLeaderEpochResponse(topics=topics)
