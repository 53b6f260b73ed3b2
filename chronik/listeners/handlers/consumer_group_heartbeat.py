"""ConsumerGroupHeartbeat: join, stay in and leave a group whose assignment the coordinator decides (KIP-848).

Served where feature `group.version` is at level 1: below it, nothing of what is asked is done.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from chronik.coordinator.runtime import Coordinator
from chronik.errors import KafkaError
from chronik.features import GROUP_VERSION, require_level
from chronik.interfaces import IClusterMetadata
from chronik.listeners.context import RequestContext
from chronik.wire.apis import ApiKey
from chronik.wire.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)


class ConsumerGroupHeartbeatHandler:
    """Serves ConsumerGroupHeartbeat."""

    api_key = ApiKey.CONSUMER_GROUP_HEARTBEAT
    min_version = 0
    max_version = 1

    def __init__(self, coordinator: Coordinator, metadata: IClusterMetadata) -> None:
        self._coordinator = coordinator
        self._metadata = metadata

    def handle(
        self, request: ConsumerGroupHeartbeatRequest, context: RequestContext
    ) -> Deferred[ConsumerGroupHeartbeatResponse]:
        """Answered when what it changes is in the log."""
        require_level(GROUP_VERSION, self._metadata.feature_level(GROUP_VERSION), 1)
        return self._coordinator.consumer_heartbeat(
            request, context.api_version, context.client_id, context.client_host
        )

    def refuse(
        self, request: ConsumerGroupHeartbeatRequest, version: int, error: KafkaError
    ) -> ConsumerGroupHeartbeatResponse:
        """The error, and what is wrong."""
        return ConsumerGroupHeartbeatResponse(error_code=error.code, error_message=error.message)
