"""DeleteRecords: move the start of partitions forward, giving up what lies before (KIP-107).

A new start counts at once and is answered when it is durable: the partitions of a request share a group of the flusher. Where
the disk is full it is answered with KAFKA_STORAGE_ERROR; it counts all the same, and becomes durable when there is room.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure

from chronik.broker.replicas import Replicas
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.complaint import Complaint
from chronik.listeners.context import RequestContext
from chronik.model import INTERNAL_TOPICS
from chronik.steps import Steps, each_of
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

_DISK_MS = 1_000
"""What the disk gets at the least. The timeout is for replicas that are slow to follow: Kafka deletes at once with 0 ms too."""


class DeleteRecordsHandler:
    """Serves DeleteRecords on the partitions of `replicas`."""

    api_key = ApiKey.DELETE_RECORDS
    min_version = 0
    max_version = 2

    log = Logger()

    def __init__(self, replicas: Replicas, clock: Callable[[], float], reactor: Any) -> None:
        self._replicas = replicas
        self._complaint = Complaint(self.log, clock)
        self._reactor = reactor

    def handle(
        self, request: DeleteRecordsRequest, context: RequestContext
    ) -> Steps[DeleteRecordsResponse | Deferred[DeleteRecordsResponse]]:
        """Advance each partition's start, and answer when all are durable, or after `timeout_ms` (_DISK_MS at the least)."""
        waits: list[Deferred[None]] = []
        response = yield from _each_partition(
            request, lambda topic, data: self._delete(topic, data, request.timeout_ms, waits)
        )
        if not waits:
            return response
        return gatherResults(waits).addCallback(lambda _: response)

    def refuse(self, request: DeleteRecordsRequest, version: int, error: KafkaError) -> Steps[DeleteRecordsResponse]:
        """`error` for every partition."""
        return _each_partition(request, lambda _, data: _failed(data, error.code))

    def _delete(
        self, topic: str, data: DeleteRecordsPartition, timeout_ms: int, waits: list[Deferred[None]]
    ) -> DeleteRecordsPartitionResult:
        """The result for one partition. What it has to wait for goes to `waits`, and fails the result when it fails."""
        durable: Deferred[None] = Deferred()

        def done(error: Exception | None) -> None:
            if durable.called:
                return  # timed out
            if error is None:
                durable.callback(None)
            else:
                durable.errback(error)

        try:
            if topic in INTERNAL_TOPICS:
                raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"records of {topic} are the node's own")
            partition = self._replicas.partition(topic, data.partition_index)
            before = partition.high_watermark if data.offset == _HIGH_WATERMARK else data.offset
            low_watermark = partition.delete_records(before, done)
        except KafkaError as error:
            return _failed(data, error.code)
        result = DeleteRecordsPartitionResult(partition_index=data.partition_index, low_watermark=low_watermark)

        def failed(failure: Failure) -> None:
            error = failure.value
            result.error_code = error.code if isinstance(error, KafkaError) else ErrorCode.REQUEST_TIMED_OUT
            result.low_watermark = _NO_WATERMARK
            if result.error_code == ErrorCode.KAFKA_STORAGE_ERROR:  # the answer has no room for the reason
                self._complaint.refused(str(error))

        if not durable.called:
            waits.append(durable.addTimeout(max(timeout_ms, _DISK_MS) / 1000, self._reactor).addErrback(failed))
        return result


def _each_partition(
    request: DeleteRecordsRequest, result: Callable[[str, DeleteRecordsPartition], DeleteRecordsPartitionResult]
) -> Steps[DeleteRecordsResponse]:
    topics = yield from each_of(
        request.topics,
        lambda topic: topic.partitions,
        lambda topic, data: result(topic.name, data),
        lambda topic, partitions: DeleteRecordsTopicResult(name=topic.name, partitions=partitions),
    )
    return DeleteRecordsResponse(topics=topics)


def _failed(data: DeleteRecordsPartition, code: ErrorCode) -> DeleteRecordsPartitionResult:
    return DeleteRecordsPartitionResult(
        partition_index=data.partition_index, low_watermark=_NO_WATERMARK, error_code=code
    )
