"""DescribeQuorum: who keeps the metadata log, and how far each has come (KIP-595, KIP-836, KIP-853).

On one node the quorum is that node: it leads, votes alone, and everything that is replayed is committed. Its epoch is that of
its registration, which grows with every start. It is a voter without an address of its own: nobody fetches the log from it.
"""

from __future__ import annotations

from chronik.controller.image import MetadataImage
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import RequestContext
from chronik.steps import Steps, each_of
from chronik.wire.apis import ApiKey
from chronik.wire.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumResponse,
    Node,
    PartitionData,
    PartitionDataResult,
    ReplicaState,
    TopicData,
    TopicDataResult,
)

_METADATA_TOPIC = "__cluster_metadata"


class DescribeQuorumHandler:
    """Serves DescribeQuorum from `metadata`."""

    api_key = ApiKey.DESCRIBE_QUORUM
    min_version = 0
    max_version = 2

    def __init__(self, metadata: MetadataImage) -> None:
        self._metadata = metadata

    def handle(self, request: DescribeQuorumRequest, context: RequestContext) -> Steps[DescribeQuorumResponse]:
        """The quorum of the one metadata partition; nothing but that may be asked for, as in Kafka."""
        if request.topics != [TopicData(topic_name=_METADATA_TOPIC, partitions=[PartitionData(partition_index=0)])]:
            unknown = KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"only {_METADATA_TOPIC}-0 has a quorum")
            return (yield from self.refuse(request, context.api_version, unknown))
        metadata, end = self._metadata, self._metadata.version + 1
        voter = ReplicaState(
            replica_id=metadata.controller_id,
            log_end_offset=end,
            last_fetch_timestamp=context.now_ms(),
            last_caught_up_timestamp=context.now_ms(),
        )
        partition = PartitionDataResult(
            leader_id=metadata.controller_id,
            leader_epoch=metadata.last_broker_epoch,
            high_watermark=end,
            current_voters=[voter],
        )
        return DescribeQuorumResponse(
            topics=[TopicDataResult(topic_name=_METADATA_TOPIC, partitions=[partition])],
            nodes=[Node(node_id=metadata.controller_id)] if context.api_version >= 2 else [],
        )

    def refuse(self, request: DescribeQuorumRequest, version: int, error: KafkaError) -> Steps[DescribeQuorumResponse]:
        """`error` for every partition that is named."""
        topics = yield from each_of(
            request.topics,
            lambda topic: topic.partitions,
            lambda _, asked: PartitionDataResult(
                partition_index=asked.partition_index, error_code=error.code, error_message=error.message
            ),
            lambda topic, partitions: TopicDataResult(topic_name=topic.topic_name, partitions=partitions),
        )
        return DescribeQuorumResponse(topics=topics)
