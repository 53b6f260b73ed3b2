"""OffsetForLeaderEpoch: where a leader epoch ended, so that clients and followers detect truncation (KIP-101, KIP-320)."""

from __future__ import annotations

from chronik.broker.replicas import Replicas
from chronik.errors import KafkaError
from chronik.listeners.context import RequestContext
from chronik.wire.apis import ApiKey
from chronik.wire.messages.offset_for_leader_epoch import (
    EpochEndOffset,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
)


class OffsetForLeaderEpochHandler:
    """Serves OffsetForLeaderEpoch from the epoch checkpoints of `replicas`."""

    api_key = ApiKey.OFFSET_FOR_LEADER_EPOCH
    min_version = 2
    max_version = 4

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    def handle(self, request: OffsetForLeaderEpochRequest, context: RequestContext) -> OffsetForLeaderEpochResponse:
        """For each partition the largest epoch at or below the one asked for, and its end offset; -1 and -1 if none."""
        return OffsetForLeaderEpochResponse(
            topics=[
                OffsetForLeaderTopicResult(
                    topic=topic.topic, partitions=[self._answer(topic.topic, data) for data in topic.partitions]
                )
                for topic in request.topics
            ]
        )

    def refuse(
        self, request: OffsetForLeaderEpochRequest, version: int, error: KafkaError
    ) -> OffsetForLeaderEpochResponse:
        """`error` for every partition."""
        return OffsetForLeaderEpochResponse(
            topics=[
                OffsetForLeaderTopicResult(
                    topic=topic.topic,
                    partitions=[
                        EpochEndOffset(error_code=error.code, partition=data.partition) for data in topic.partitions
                    ],
                )
                for topic in request.topics
            ]
        )

    def _answer(self, topic: str, data: OffsetForLeaderPartition) -> EpochEndOffset:
        try:
            partition = self._replicas.partition(topic, data.partition)
            partition.check_leader_epoch(data.current_leader_epoch)
        except KafkaError as error:
            return EpochEndOffset(error_code=error.code, partition=data.partition)
        epoch, end_offset = partition.epoch_end(data.leader_epoch)
        return EpochEndOffset(partition=data.partition, leader_epoch=epoch, end_offset=end_offset)
