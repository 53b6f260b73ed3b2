"""DescribeProducers: the producers that a partition remembers, with their open transactions (KIP-664)."""

from __future__ import annotations

from collections.abc import Callable

from chronik.broker.interfaces import IReadablePartitions
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import RequestContext
from chronik.model import topic_name_fault
from chronik.steps import Steps, each_of
from chronik.wire.apis import ApiKey
from chronik.wire.messages.describe_producers import (
    DescribeProducersRequest,
    DescribeProducersResponse,
    PartitionResponse,
    ProducerState,
    TopicResponse,
)


class DescribeProducersHandler:
    """Serves DescribeProducers from the producer state of `replicas`."""

    api_key = ApiKey.DESCRIBE_PRODUCERS
    min_version = 0
    max_version = 0

    def __init__(self, replicas: IReadablePartitions) -> None:
        self._replicas = replicas

    def handle(self, request: DescribeProducersRequest, context: RequestContext) -> Steps[DescribeProducersResponse]:
        """The producers of each partition asked for."""
        return (yield from _each_partition(request, self._answer))

    def refuse(
        self, request: DescribeProducersRequest, version: int, error: KafkaError
    ) -> Steps[DescribeProducersResponse]:
        """`error` for every partition."""
        return _each_partition(request, lambda _, index: _failed(index, error))

    def _answer(self, topic: str, index: int) -> PartitionResponse:
        try:
            fault = topic_name_fault(topic)
            if fault is not None:
                raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, fault)
            partition = self._replicas.partition(topic, index)
        except KafkaError as error:
            return _failed(index, error)
        return PartitionResponse(
            partition_index=index,
            active_producers=[
                ProducerState(
                    producer_id=producer.producer_id,
                    producer_epoch=producer.epoch,
                    last_sequence=producer.last_sequence,
                    last_timestamp=producer.last_timestamp,
                    coordinator_epoch=producer.coordinator_epoch,
                    current_txn_start_offset=producer.transaction_first_offset,
                )
                for producer in partition.producers()
            ],
        )


def _each_partition(
    request: DescribeProducersRequest, answer: Callable[[str, int], PartitionResponse]
) -> Steps[DescribeProducersResponse]:
    topics = yield from each_of(
        request.topics,
        lambda topic: topic.partition_indexes,
        lambda topic, index: answer(topic.name, index),
        lambda topic, partitions: TopicResponse(name=topic.name, partitions=partitions),
    )
    return DescribeProducersResponse(topics=topics)


def _failed(index: int, error: KafkaError) -> PartitionResponse:
    return PartitionResponse(partition_index=index, error_code=error.code, error_message=error.message)
