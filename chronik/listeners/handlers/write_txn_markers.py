"""WriteTxnMarkers: end transactions in partitions of this broker, as their coordinator, or an operator, has decided.

Each partition is answered for itself, when its marker is committed. Kafka's `kafka-transactions.sh --abort` ends a transaction
by this that its coordinator does not know of.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IMarkerWriter
from chronik.listeners.context import RequestContext
from chronik.model import TopicPartition, TransactionMarker
from chronik.wire.apis import ApiKey
from chronik.wire.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerPartitionResult,
    WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)

_PARTITIONS_A_TURN = 50


class WriteTxnMarkersHandler:
    """Serves WriteTxnMarkers through `writer`."""

    api_key = ApiKey.WRITE_TXN_MARKERS
    min_version = 1
    max_version = 1

    _log = Logger()

    def __init__(self, writer: IMarkerWriter, clock: IReactorTime) -> None:
        self._writer = writer
        self._clock = clock

    def handle(
        self, request: WriteTxnMarkersRequest, context: RequestContext
    ) -> Coroutine[Any, Any, WriteTxnMarkersResponse]:
        """A code for each partition of each marker. All are begun before the first is waited for."""
        return self._write(request)

    async def _write(self, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse:
        begun: list[tuple[int, TopicPartition, Deferred[ErrorCode]]] = []
        for marker in request.markers:
            for place in _partitions(marker):
                answer = Deferred.fromCoroutine(self._write_one(place, _marker(marker)))
                begun.append((marker.producer_id, place, answer))
                if len(begun) % _PARTITIONS_A_TURN == 0:
                    await deferLater(self._clock, 0)
        written = [(producer_id, place, await answer) for producer_id, place, answer in begun]
        results: dict[int, WritableTxnMarkerResult] = {}  # a producer without partitions is not answered for
        topics: dict[tuple[int, str], WritableTxnMarkerTopicResult] = {}
        for producer_id, place, code in written:
            if producer_id not in results:
                results[producer_id] = WritableTxnMarkerResult(producer_id=producer_id)
            topic = topics.get((producer_id, place.topic))
            if topic is None:
                topic = topics[producer_id, place.topic] = WritableTxnMarkerTopicResult(name=place.topic)
                results[producer_id].topics.append(topic)
            topic.partitions.append(WritableTxnMarkerPartitionResult(partition_index=place.partition, error_code=code))
        return WriteTxnMarkersResponse(markers=list(results.values()))

    async def _write_one(self, place: TopicPartition, marker: TransactionMarker) -> ErrorCode:
        if marker.producer_id < 0:
            return ErrorCode.INVALID_PRODUCER_ID_MAPPING
        if marker.producer_epoch < 0:
            return ErrorCode.INVALID_PRODUCER_EPOCH
        try:
            await self._writer.write_marker(place, marker)
        except KafkaError as error:
            return error.code
        except Exception:  # a wall: what became of the other partitions must be answered all the same
            self._log.failure("no marker in {partition}", partition=str(place))
            return ErrorCode.UNKNOWN_SERVER_ERROR
        return ErrorCode.NONE

    def refuse(self, request: WriteTxnMarkersRequest, version: int, error: KafkaError) -> WriteTxnMarkersResponse:
        """The error at every partition: the response has no other place for it."""
        return WriteTxnMarkersResponse(
            markers=[
                WritableTxnMarkerResult(
                    producer_id=marker.producer_id,
                    topics=[
                        WritableTxnMarkerTopicResult(
                            name=topic.name,
                            partitions=[
                                WritableTxnMarkerPartitionResult(partition_index=number, error_code=error.code)
                                for number in topic.partition_indexes
                            ],
                        )
                        for topic in marker.topics
                    ],
                )
                for marker in request.markers
            ]
        )


def _marker(marker: WritableTxnMarker) -> TransactionMarker:
    return TransactionMarker(
        marker.producer_id, marker.producer_epoch, marker.transaction_result, marker.coordinator_epoch
    )


def _partitions(marker: WritableTxnMarker) -> list[TopicPartition]:
    """All of them, each once."""
    return list(
        dict.fromkeys(
            TopicPartition(topic.name, number) for topic in marker.topics for number in topic.partition_indexes
        )
    )
