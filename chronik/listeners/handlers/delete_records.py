"""DeleteRecords: move the start of partitions forward, giving up what lies before (KIP-107)."""

from __future__ import annotations

from chronik.broker.replicas import Replicas
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import RequestContext
from chronik.model import INTERNAL_TOPICS
from chronik.wire.apis import ApiKey
from chronik.wire.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsPartitionResult,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)

_HIGH_WATERMARK = -1
_NO_WATERMARK = -1


class DeleteRecordsHandler:
    """Serves DeleteRecords on the partitions of `replicas`."""

    api_key = ApiKey.DELETE_RECORDS
    min_version = 0
    max_version = 2

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    def handle(self, request: DeleteRecordsRequest, context: RequestContext) -> DeleteRecordsResponse:
        """Advance each partition's start; the new start is durable when the answer leaves."""
        return DeleteRecordsResponse(
            topics=[
                DeleteRecordsTopicResult(
                    name=topic.name, partitions=[self._delete(topic.name, data) for data in topic.partitions]
                )
                for topic in request.topics
            ]
        )

    def refuse(self, request: DeleteRecordsRequest, version: int, error: KafkaError) -> DeleteRecordsResponse:
        """`error` for every partition."""
        return DeleteRecordsResponse(
            topics=[
                DeleteRecordsTopicResult(
                    name=topic.name, partitions=[_failed(data, error.code) for data in topic.partitions]
                )
                for topic in request.topics
            ]
        )

    def _delete(self, topic: str, data: DeleteRecordsPartition) -> DeleteRecordsPartitionResult:
        try:
            if topic in INTERNAL_TOPICS:
                raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"records of {topic} are the node's own")
            partition = self._replicas.partition(topic, data.partition_index)
            before = partition.high_watermark if data.offset == _HIGH_WATERMARK else data.offset
            low_watermark = partition.delete_records(before)
        except KafkaError as error:
            return _failed(data, error.code)
        return DeleteRecordsPartitionResult(partition_index=data.partition_index, low_watermark=low_watermark)


def _failed(data: DeleteRecordsPartition, code: ErrorCode) -> DeleteRecordsPartitionResult:
    return DeleteRecordsPartitionResult(
        partition_index=data.partition_index, low_watermark=_NO_WATERMARK, error_code=code
    )
