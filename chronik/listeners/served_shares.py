"""The Kafka APIs of share groups (KIP-932), and whether they are served: by feature `share.version`, or by option.

As in Kafka 4.1, where they are a preview, level 1 of the feature serves them, and so does `group.share.enable` at any level.
"""

from __future__ import annotations

from typing import Any

from chronik.broker.share_partitions import SharePartitions
from chronik.config import Config
from chronik.controller.image import MetadataImage
from chronik.coordinator.runtime import Coordinator
from chronik.coordinator.share_coordinator import ShareCoordinator
from chronik.coordinator.share_requests import ShareRequests
from chronik.features import SHARE_VERSION, require_level
from chronik.interfaces import IClusterMetadata
from chronik.listeners.backlog import AnswerBacklog
from chronik.listeners.dispatch import Gate
from chronik.listeners.handlers.alter_share_group_offsets import AlterShareGroupOffsetsHandler
from chronik.listeners.handlers.delete_share_group_offsets import DeleteShareGroupOffsetsHandler
from chronik.listeners.handlers.delete_share_group_state import DeleteShareGroupStateHandler
from chronik.listeners.handlers.describe_share_group_offsets import DescribeShareGroupOffsetsHandler
from chronik.listeners.handlers.initialize_share_group_state import InitializeShareGroupStateHandler
from chronik.listeners.handlers.read_share_group_state import ReadShareGroupStateHandler
from chronik.listeners.handlers.read_share_group_state_summary import ReadShareGroupStateSummaryHandler
from chronik.listeners.handlers.share_acknowledge import ShareAcknowledgeHandler
from chronik.listeners.handlers.share_fetch import ShareFetchHandler
from chronik.listeners.handlers.share_group_describe import ShareGroupDescribeHandler
from chronik.listeners.handlers.share_group_heartbeat import ShareGroupHeartbeatHandler
from chronik.listeners.handlers.write_share_group_state import WriteShareGroupStateHandler
from chronik.listeners.slices import Slices
from chronik.listeners.throttling import Throttles
from chronik.wire.apis import ApiKey

SHARE_APIS = (
    ApiKey.SHARE_GROUP_HEARTBEAT,
    ApiKey.SHARE_GROUP_DESCRIBE,
    ApiKey.SHARE_FETCH,
    ApiKey.SHARE_ACKNOWLEDGE,
    ApiKey.INITIALIZE_SHARE_GROUP_STATE,
    ApiKey.READ_SHARE_GROUP_STATE,
    ApiKey.WRITE_SHARE_GROUP_STATE,
    ApiKey.DELETE_SHARE_GROUP_STATE,
    ApiKey.READ_SHARE_GROUP_STATE_SUMMARY,
    ApiKey.DESCRIBE_SHARE_GROUP_OFFSETS,
    ApiKey.ALTER_SHARE_GROUP_OFFSETS,
    ApiKey.DELETE_SHARE_GROUP_OFFSETS,
)


def share_gate(config: Config, metadata: IClusterMetadata) -> Gate:
    """Raises KafkaError(UNSUPPORTED_VERSION) while share groups are not served."""

    def check() -> None:
        if not config.group_share_enable:
            require_level(SHARE_VERSION, metadata.feature_level(SHARE_VERSION), 1)

    return check


def share_apis(
    config: Config,
    reactor: Any,
    groups: Coordinator,
    metadata: MetadataImage,
    states: ShareCoordinator,
    shares: SharePartitions,
    answers: AnswerBacklog,
    throttles: Throttles,
    slices: Slices,
) -> list[Any]:
    """One handler for each API."""
    requests = ShareRequests(groups, metadata, reactor)
    return [
        ShareGroupHeartbeatHandler(requests),
        ShareGroupDescribeHandler(groups),
        ShareFetchHandler(
            shares, reactor, config.fetch_max_bytes, config.connections_max_idle_ms, answers, throttles, slices
        ),
        ShareAcknowledgeHandler(shares, slices),
        InitializeShareGroupStateHandler(states, slices),
        ReadShareGroupStateHandler(states, slices),
        WriteShareGroupStateHandler(states, slices),
        DeleteShareGroupStateHandler(states, slices),
        ReadShareGroupStateSummaryHandler(states, slices),
        DescribeShareGroupOffsetsHandler(requests, slices),
        AlterShareGroupOffsetsHandler(requests, slices),
        DeleteShareGroupOffsetsHandler(requests, slices),
    ]
