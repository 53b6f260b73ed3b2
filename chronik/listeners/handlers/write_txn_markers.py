"""WriteTxnMarkers: end transactions in partitions of this broker, as their coordinator, or an operator, has decided.

Each partition is answered for itself, when its marker is committed. Kafka's `kafka-transactions.sh --abort` ends a transaction
by this that its coordinator does not know of.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IMarkerWriter
from chronik.listeners.context import RequestContext
from chronik.listeners.slices import Slices
from chronik.model import TopicPartition, TransactionMarker
from chronik.steps import Steps, each_of
from chronik.wire.apis import ApiKey
from chronik.wire.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerPartitionResult,
    WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)


class WriteTxnMarkersHandler:
    """Serves WriteTxnMarkers through `writer`."""

    api_key = ApiKey.WRITE_TXN_MARKERS
    min_version = 1
    max_version = 1

    _log = Logger()

    def __init__(self, writer: IMarkerWriter, slices: Slices) -> None:
        self._writer = writer
        self._slices = slices

    def handle(
        self, request: WriteTxnMarkersRequest, context: RequestContext
    ) -> Coroutine[Any, Any, WriteTxnMarkersResponse]:
        """A code for each partition of each marker. All are begun before the first is waited for."""
        return self._write(request)

    async def _write(self, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse:
        begun: deque[tuple[int, TopicPartition, Deferred[ErrorCode]]] = deque()
        pace = self._slices.pace()
        for marker in request.markers:
            places: set[TopicPartition] = set()  # each once
            for asked in marker.topics:
                for number in asked.partition_indexes:
                    place = TopicPartition(asked.name, number)
                    if place not in places:
                        places.add(place)
                        answer = Deferred.fromCoroutine(self._write_one(place, _marker(marker)))
                        begun.append((marker.producer_id, place, answer))
                    await pace.turn()
            await pace.turn()
        results: dict[int, WritableTxnMarkerResult] = {}  # a producer without partitions is not answered for
        topics: dict[tuple[int, str], WritableTxnMarkerTopicResult] = {}
        while begun:
            await pace.turn()
            producer_id, place, written = begun.popleft()
            code = await written
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

    def refuse(
        self, request: WriteTxnMarkersRequest, version: int, error: KafkaError
    ) -> Steps[WriteTxnMarkersResponse]:
        """The error at every partition: the response has no other place for it."""
        markers = []
        for marker in request.markers:
            topics = yield from each_of(
                marker.topics,
                lambda topic: topic.partition_indexes,
                lambda _, number: WritableTxnMarkerPartitionResult(partition_index=number, error_code=error.code),
                lambda topic, partitions: WritableTxnMarkerTopicResult(name=topic.name, partitions=partitions),
            )
            markers.append(WritableTxnMarkerResult(producer_id=marker.producer_id, topics=topics))
            yield
        return WriteTxnMarkersResponse(markers=markers)


def _marker(marker: WritableTxnMarker) -> TransactionMarker:
    return TransactionMarker(
        marker.producer_id, marker.producer_epoch, marker.transaction_result, marker.coordinator_epoch
    )
