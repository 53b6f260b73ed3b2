"""ElectLeaders: have partitions elect their preferred leader, or any that is left (KIP-183, KIP-460).

A partition has one replica as yet, which leads it: no election is ever needed. Which partitions exist is told all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata
from chronik.listeners.context import RequestContext
from chronik.model import PartitionState
from chronik.steps import Steps, each_of
from chronik.wire.apis import ApiKey
from chronik.wire.messages.elect_leaders import (
    ElectLeadersRequest,
    ElectLeadersResponse,
    PartitionResult,
    ReplicaElectionResult,
    TopicPartitions,
)

_PREFERRED, _UNCLEAN = 0, 1


class ElectLeadersHandler:
    """Serves ElectLeaders from `metadata`."""

    api_key = ApiKey.ELECT_LEADERS
    min_version = 0
    max_version = 2

    def __init__(self, metadata: IClusterMetadata) -> None:
        self._metadata = metadata

    def handle(self, request: ElectLeadersRequest, context: RequestContext) -> Steps[ElectLeadersResponse]:
        """A result for each partition that is named; without names, for those of all that could not be led as asked."""
        if request.election_type not in (_PREFERRED, _UNCLEAN):
            raise KafkaError(
                ErrorCode.INVALID_REQUEST,
                f"there is no election of type {request.election_type}: 0 (preferred) and 1 (unclean) exist",
            )
        named = request.topic_partitions
        if named is None:
            named = [
                TopicPartitions(topic=topic.name, partitions=list(range(len(topic.partitions))))
                for topic in self._metadata.topics()
            ]
        results = yield from _each_partition(
            named, lambda topic, index: self._result(topic, index, request.election_type)
        )
        if request.topic_partitions is None:
            for result in results:
                result.partition_result = [
                    each for each in result.partition_result if each.error_code != ErrorCode.ELECTION_NOT_NEEDED
                ]
                yield
        return ElectLeadersResponse(replica_election_results=results)

    def refuse(self, request: ElectLeadersRequest, version: int, error: KafkaError) -> Steps[ElectLeadersResponse]:
        """`error` for every partition that is named, and from version 1 on for the whole."""
        results = yield from _each_partition(
            request.topic_partitions or (), lambda _, index: _failed(index, error.code, error.message)
        )
        return ElectLeadersResponse(error_code=error.code if version > 0 else 0, replica_election_results=results)

    def _result(self, name: str, index: int, election_type: int) -> PartitionResult:
        topic = self._metadata.topic(name)
        if topic is None or not 0 <= index < len(topic.partitions):
            return _failed(index, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no partition {name[:249]}-{index}")
        if _is_led(topic.partitions[index], election_type):
            return _failed(index, ErrorCode.ELECTION_NOT_NEEDED, "the partition is led as it was asked for")
        return _failed(index, ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE, f"no replica of {name}-{index} can lead it now")


def _each_partition(
    named: Iterable[TopicPartitions], result: Callable[[str, int], PartitionResult]
) -> Steps[list[ReplicaElectionResult]]:
    return each_of(
        named,
        lambda topic: topic.partitions,
        lambda topic, index: result(topic.topic, index),
        lambda topic, results: ReplicaElectionResult(topic=topic.topic, partition_result=results),
    )


def _is_led(partition: PartitionState, election_type: int) -> bool:
    return partition.leader == partition.replicas[0] if election_type == _PREFERRED else partition.leader >= 0


def _failed(index: int, code: ErrorCode, message: str | None) -> PartitionResult:
    return PartitionResult(partition_id=index, error_code=code, error_message=message)
