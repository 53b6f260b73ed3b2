"""DescribeQuorum: who keeps the metadata log, and how far each has come (KIP-595, KIP-836, KIP-853).

On one node the quorum is that node: it leads, votes alone, and everything that is replayed is committed. Its epoch is that of
its registration, which grows with every start. It is a voter without an address of its own: nobody fetches the log from it.
"""

from __future__ import annotations

from chronik.controller.image import MetadataImage
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import RequestContext
from chronik.wire.apis import ApiKey
from chronik.wire.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumResponse,
    Node,
    PartitionDataResult,
    ReplicaState,
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

    def handle(self, request: DescribeQuorumRequest, context: RequestContext) -> DescribeQuorumResponse:
        """The quorum of the one metadata partition; nothing but that may be asked for, as in Kafka."""
        asked = [(topic.topic_name, [each.partition_index for each in topic.partitions]) for topic in request.topics]
        if asked != [(_METADATA_TOPIC, [0])]:
            return self.refuse(
                request,
                context.api_version,
                KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"only {_METADATA_TOPIC}-0 has a quorum"),
            )
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

    def refuse(self, request: DescribeQuorumRequest, version: int, error: KafkaError) -> DescribeQuorumResponse:
        """`error` for every partition that is named."""
        return DescribeQuorumResponse(
            topics=[
                TopicDataResult(
                    topic_name=topic.topic_name,
                    partitions=[
                        PartitionDataResult(
                            partition_index=each.partition_index, error_code=error.code, error_message=error.message
                        )
                        for each in topic.partitions
                    ],
                )
                for topic in request.topics
            ]
        )
