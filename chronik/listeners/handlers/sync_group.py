"""SyncGroup: the leader hands the assignment in, every member gets its part of it.

From version 5 on, the protocol's type and name are mandatory and must be the group's (KIP-559).
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from chronik.coordinator.runtime import Coordinator
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import RequestContext
from chronik.wire.apis import ApiKey
from chronik.wire.messages.sync_group import SyncGroupRequest, SyncGroupResponse

_PROTOCOL_IS_MANDATORY = 5


class SyncGroupHandler:
    """Serves SyncGroup."""

    api_key = ApiKey.SYNC_GROUP
    min_version = 0
    max_version = 5

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def handle(self, request: SyncGroupRequest, context: RequestContext) -> Deferred[SyncGroupResponse]:
        """Answered when the leader's assignment is in the log."""
        if context.api_version >= _PROTOCOL_IS_MANDATORY and None in (request.protocol_type, request.protocol_name):
            raise KafkaError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, "protocol type and name are mandatory")
        return self._coordinator.sync(request)

    def refuse(self, request: SyncGroupRequest, version: int, error: KafkaError) -> SyncGroupResponse:
        """The error, and no assignment."""
        return SyncGroupResponse(error_code=error.code)
