"""AddPartitionsToTxn: enter partitions in a transaction before the first write to them.

Up to version 3 a producer sends one transaction. From 4 on brokers send several, each to be entered or only to be looked up
(KIP-890). A transaction is entered whole or not at all: where one of its partitions cannot be, the others are answered
OPERATION_NOT_ATTEMPTED. The answer has the topics and partitions as they were asked for, one that came twice as well.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from chronik.coordinator.transaction import V1, V2, Identity
from chronik.coordinator.transactions import TransactionCoordinator
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.fencing import fenced_code
from chronik.listeners.slices import Slices
from chronik.model import INTERNAL_TOPICS, TopicPartition
from chronik.steps import Steps, each_of
from chronik.wire.apis import ApiKey
from chronik.wire.messages.add_partitions_to_txn import (
    AddPartitionsToTxnPartitionResult,
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTopicResult,
    AddPartitionsToTxnTransaction,
)

_PRODUCER_FENCED_SINCE = 2
_BATCHED_SINCE = 4


class AddPartitionsToTxnHandler:
    """Serves AddPartitionsToTxn for the topics in `metadata`."""

    api_key = ApiKey.ADD_PARTITIONS_TO_TXN
    min_version = 0
    max_version = 5

    def __init__(self, transactions: TransactionCoordinator, metadata: IClusterMetadata, slices: Slices) -> None:
        self._transactions = transactions
        self._metadata = metadata
        self._slices = slices

    def handle(
        self, request: AddPartitionsToTxnRequest, context: RequestContext
    ) -> Coroutine[Any, Any, AddPartitionsToTxnResponse]:
        """Answered when the partitions are in their transactions."""
        return self._add(request, context.api_version)

    async def _add(self, request: AddPartitionsToTxnRequest, version: int) -> AddPartitionsToTxnResponse:
        if version >= _BATCHED_SINCE:
            results = []
            pace = self._slices.pace()
            for each in request.transactions:
                codes = await self._add_one(each, version)
                topic_results = await self._slices.take(_answered(each.topics, codes.__getitem__))
                results.append(
                    AddPartitionsToTxnResult(transactional_id=each.transactional_id, topic_results=topic_results)
                )
                await pace.turn()
            return AddPartitionsToTxnResponse(results_by_transaction=results)
        one = _as_one(request)
        codes = await self._add_one(one, version)
        results_by_topic = await self._slices.take(_answered(one.topics, codes.__getitem__))
        return AddPartitionsToTxnResponse(results_by_topic_v3_and_below=results_by_topic)

    async def _add_one(self, wanted: AddPartitionsToTxnTransaction, version: int) -> Mapping[TopicPartition, ErrorCode]:
        partitions, faults = await self._slices.take(self._looked_at(wanted.topics, version))
        if faults:
            return {place: faults.get(place, ErrorCode.OPERATION_NOT_ATTEMPTED) for place in partitions}
        producer = Identity(wanted.producer_id, wanted.producer_epoch)
        try:
            if wanted.verify_only:
                return self._transactions.verify_partitions(wanted.transactional_id, producer, partitions)
            client_version = V2 if version >= _BATCHED_SINCE else V1
            await self._transactions.add_partitions(wanted.transactional_id, producer, partitions, client_version)
        except KafkaError as error:
            return dict.fromkeys(partitions, fenced_code(error.code, version >= _PRODUCER_FENCED_SINCE))
        return dict.fromkeys(partitions, ErrorCode.NONE)

    def _looked_at(
        self, topics: Iterable[AddPartitionsToTxnTopic], version: int
    ) -> Steps[tuple[list[TopicPartition], dict[TopicPartition, ErrorCode]]]:
        """All that are named, each once, and why some of them cannot be in a transaction."""
        places: dict[TopicPartition, None] = {}
        faults: dict[TopicPartition, ErrorCode] = {}
        for topic in topics:
            for number in topic.partitions:
                place = TopicPartition(topic.name, number)
                if place not in places:
                    places[place] = None
                    fault = self._fault(place, version)
                    if fault:
                        faults[place] = fault
                yield
            yield
        return list(places), faults

    def _fault(self, place: TopicPartition, version: int) -> ErrorCode:
        """Why a partition cannot be in a transaction. The node's own topics are for brokers to enter, not for clients.

        A saved search can only be read.
        """
        if version < _BATCHED_SINCE and place.topic in INTERNAL_TOPICS:
            return ErrorCode.TOPIC_AUTHORIZATION_FAILED
        topic = self._metadata.topic(place.topic)
        if topic is None or not 0 <= place.partition < len(topic.partitions):
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        return ErrorCode.NONE if topic.search is None else ErrorCode.INVALID_TOPIC_EXCEPTION

    def refuse(
        self, request: AddPartitionsToTxnRequest, version: int, error: KafkaError
    ) -> Steps[AddPartitionsToTxnResponse]:
        """The error; below version 4 at every partition."""
        if version >= _BATCHED_SINCE:
            return AddPartitionsToTxnResponse(error_code=error.code)
        code = fenced_code(error.code, version >= _PRODUCER_FENCED_SINCE)
        results_by_topic = yield from _answered(request.v3_and_below_topics, lambda _: code)
        return AddPartitionsToTxnResponse(results_by_topic_v3_and_below=results_by_topic)


def _as_one(request: AddPartitionsToTxnRequest) -> AddPartitionsToTxnTransaction:
    return AddPartitionsToTxnTransaction(
        transactional_id=request.v3_and_below_transactional_id,
        producer_id=request.v3_and_below_producer_id,
        producer_epoch=request.v3_and_below_producer_epoch,
        topics=request.v3_and_below_topics,
    )


def _answered(
    topics: Iterable[AddPartitionsToTxnTopic], code_of: Callable[[TopicPartition], ErrorCode]
) -> Steps[list[AddPartitionsToTxnTopicResult]]:
    """`topics` as they were asked for, with what became of each partition."""

    def partition(topic: AddPartitionsToTxnTopic, number: int) -> AddPartitionsToTxnPartitionResult:
        code = code_of(TopicPartition(topic.name, number))
        return AddPartitionsToTxnPartitionResult(partition_index=number, partition_error_code=code)

    return (
        yield from each_of(
            topics,
            lambda topic: topic.partitions,
            partition,
            lambda topic, made: AddPartitionsToTxnTopicResult(name=topic.name, results_by_partition=made),
        )
    )
