"""DescribeProducers: the producers that a partition remembers, with their open transactions (KIP-664)."""

from __future__ import annotations

from chronik.broker.replicas import Replicas
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import RequestContext
from chronik.model import topic_name_fault
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

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    def handle(self, request: DescribeProducersRequest, context: RequestContext) -> DescribeProducersResponse:
        """The producers of each partition asked for."""
        return DescribeProducersResponse(
            topics=[
                TopicResponse(
                    name=topic.name, partitions=[self._answer(topic.name, index) for index in topic.partition_indexes]
                )
                for topic in request.topics
            ]
        )

    def refuse(self, request: DescribeProducersRequest, version: int, error: KafkaError) -> DescribeProducersResponse:
        """`error` for every partition."""
        return DescribeProducersResponse(
            topics=[
                TopicResponse(name=topic.name, partitions=[_failed(index, error) for index in topic.partition_indexes])
                for topic in request.topics
            ]
        )

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


def _failed(index: int, error: KafkaError) -> PartitionResponse:
    return PartitionResponse(partition_index=index, error_code=error.code, error_message=error.message)
