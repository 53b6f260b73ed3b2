"""ShareGroupHeartbeat: join, stay in and leave a share group, whose members may read the same partitions (KIP-932)."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from chronik.coordinator.share_requests import ShareRequests
from chronik.errors import KafkaError
from chronik.listeners.context import RequestContext
from chronik.wire.apis import ApiKey
from chronik.wire.messages.share_group_heartbeat import ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse


class ShareGroupHeartbeatHandler:
    """Serves ShareGroupHeartbeat."""

    api_key = ApiKey.SHARE_GROUP_HEARTBEAT
    min_version = 1
    max_version = 1

    def __init__(self, groups: ShareRequests) -> None:
        self._groups = groups

    def handle(
        self, request: ShareGroupHeartbeatRequest, context: RequestContext
    ) -> Deferred[ShareGroupHeartbeatResponse]:
        """Answered when what it changes is in the log."""
        return self._groups.heartbeat(request, context.client_id, context.client_host)

    def refuse(
        self, request: ShareGroupHeartbeatRequest, version: int, error: KafkaError
    ) -> ShareGroupHeartbeatResponse:
        """The error, and what is wrong."""
        return ShareGroupHeartbeatResponse(error_code=error.code, error_message=error.message)
