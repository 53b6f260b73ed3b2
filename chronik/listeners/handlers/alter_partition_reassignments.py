"""AlterPartitionReassignments: move partitions to other replicas, or cancel a move (KIP-455, KIP-860).

A cluster of one node has nowhere to move a partition to: the replicas that it has already are accepted, others are refused.
"""

from __future__ import annotations

from chronik.controller.placement import check_assignment
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata
from chronik.listeners.context import RequestContext
from chronik.steps import Steps, each_of
from chronik.wire.apis import ApiKey
from chronik.wire.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartition,
    ReassignablePartitionResponse,
    ReassignableTopicResponse,
)


class AlterPartitionReassignmentsHandler:
    """Serves AlterPartitionReassignments from `metadata`."""

    api_key = ApiKey.ALTER_PARTITION_REASSIGNMENTS
    min_version = 0
    max_version = 1

    def __init__(self, metadata: IClusterMetadata) -> None:
        self._metadata = metadata

    def handle(
        self, request: AlterPartitionReassignmentsRequest, context: RequestContext
    ) -> Steps[AlterPartitionReassignmentsResponse]:
        """A result for each partition."""
        may_change_factor = request.allow_replication_factor_change
        responses = yield from each_of(
            request.topics,
            lambda topic: topic.partitions,
            lambda topic, asked: self._result(topic.name, asked, may_change_factor),
            lambda topic, partitions: ReassignableTopicResponse(name=topic.name, partitions=partitions),
        )
        return AlterPartitionReassignmentsResponse(
            allow_replication_factor_change=may_change_factor,
            error_message=None if request.topics else "",  # as Kafka has it
            responses=responses,
        )

    def refuse(
        self, request: AlterPartitionReassignmentsRequest, version: int, error: KafkaError
    ) -> AlterPartitionReassignmentsResponse:
        """`error` for the whole."""
        return AlterPartitionReassignmentsResponse(error_code=error.code, error_message=error.message)

    def _result(
        self, topic: str, asked: ReassignablePartition, may_change_factor: bool
    ) -> ReassignablePartitionResponse:
        try:
            self._check(topic, asked, may_change_factor)
        except KafkaError as error:
            return ReassignablePartitionResponse(
                partition_index=asked.partition_index, error_code=error.code, error_message=error.message
            )
        return ReassignablePartitionResponse(partition_index=asked.partition_index, error_message=None)

    def _check(self, name: str, asked: ReassignablePartition, may_change_factor: bool) -> None:
        """Raises KafkaError unless the partition is already as asked."""
        topic, index = self._metadata.topic(name), asked.partition_index
        if topic is None or not 0 <= index < len(topic.partitions):
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no partition {name[:249]}-{index}")
        if asked.replicas is None:
            raise KafkaError(ErrorCode.NO_REASSIGNMENT_IN_PROGRESS, f"{name}-{index} is not being moved")
        current = topic.partitions[index].replicas
        check_assignment(asked.replicas, self._metadata.brokers(), index, None)
        if len(asked.replicas) != len(current) and not may_change_factor:
            raise KafkaError(
                ErrorCode.INVALID_REPLICATION_FACTOR,
                f"{name}-{index} has {len(current)} replica(s), {len(asked.replicas)} are asked for",
            )
        if tuple(asked.replicas) != current:
            raise KafkaError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"{name}-{index} cannot be moved from {list(current)} to {asked.replicas}: this release doesn't replicate",
            )
