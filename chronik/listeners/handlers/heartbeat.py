"""Heartbeat: a member says that it lives, and learns whether its group rebalances."""

from __future__ import annotations

from chronik.coordinator.runtime import Coordinator
from chronik.errors import KafkaError
from chronik.listeners.context import RequestContext
from chronik.wire.apis import ApiKey
from chronik.wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse


class HeartbeatHandler:
    """Serves Heartbeat."""

    api_key = ApiKey.HEARTBEAT
    min_version = 0
    max_version = 4

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def handle(self, request: HeartbeatRequest, context: RequestContext) -> HeartbeatResponse:
        """Renew the member's session. A rebalance is told by an error: see `Group.heartbeat`."""
        self._coordinator.heartbeat(
            request.group_id, request.member_id, request.group_instance_id, request.generation_id
        )
        return HeartbeatResponse()

    def refuse(self, request: HeartbeatRequest, version: int, error: KafkaError) -> HeartbeatResponse:
        """The error alone."""
        return HeartbeatResponse(error_code=error.code)
