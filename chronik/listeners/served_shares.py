"""The Kafka APIs of share groups (KIP-932), where they are served: the option `group.share.enable` says so."""

from __future__ import annotations

from typing import Any

from chronik.broker.share_partitions import SharePartitions
from chronik.config import Config
from chronik.controller.image import MetadataImage
from chronik.coordinator.runtime import Coordinator
from chronik.coordinator.share_coordinator import ShareCoordinator
from chronik.coordinator.share_requests import ShareRequests
from chronik.listeners.backlog import AnswerBacklog
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
from chronik.listeners.throttling import Throttles


def share_apis(
    config: Config,
    reactor: Any,
    groups: Coordinator,
    metadata: MetadataImage,
    states: ShareCoordinator,
    shares: SharePartitions,
    answers: AnswerBacklog,
    throttles: Throttles,
) -> list[Any]:
    """One handler for each API."""
    if not config.group_share_enable:
        return []
    requests = ShareRequests(groups, metadata, reactor)
    return [
        ShareGroupHeartbeatHandler(requests),
        ShareGroupDescribeHandler(groups),
        ShareFetchHandler(shares, reactor, config.fetch_max_bytes, config.connections_max_idle_ms, answers, throttles),
        ShareAcknowledgeHandler(shares, reactor),
        InitializeShareGroupStateHandler(states, reactor),
        ReadShareGroupStateHandler(states, reactor),
        WriteShareGroupStateHandler(states, reactor),
        DeleteShareGroupStateHandler(states, reactor),
        ReadShareGroupStateSummaryHandler(states, reactor),
        DescribeShareGroupOffsetsHandler(requests),
        AlterShareGroupOffsetsHandler(requests),
        DeleteShareGroupOffsetsHandler(requests),
    ]
