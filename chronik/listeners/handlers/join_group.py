"""JoinGroup: become a member of a classic group; answered when the generation begins.

Version 0 has no rebalance timeout, the session timeout stands for it. Before version 7 the protocol's name cannot be null.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from chronik.coordinator.effects import join_refused
from chronik.coordinator.runtime import Coordinator
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import RequestContext
from chronik.wire.apis import ApiKey
from chronik.wire.messages.join_group import JoinGroupRequest, JoinGroupResponse

_REBALANCE_TIMEOUT = 1
_NULLABLE_PROTOCOL = 7
_REFUSED_WITH_ITS_ID = frozenset({ErrorCode.INVALID_GROUP_ID, ErrorCode.INVALID_SESSION_TIMEOUT})


class JoinGroupHandler:
    """Serves JoinGroup."""

    api_key = ApiKey.JOIN_GROUP
    min_version = 0
    max_version = 9

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def handle(self, request: JoinGroupRequest, context: RequestContext) -> Deferred[JoinGroupResponse]:
        """Join; the answer may be a rebalance away."""
        version = context.api_version
        if version < _REBALANCE_TIMEOUT:
            request.rebalance_timeout_ms = request.session_timeout_ms
        joined = self._coordinator.join(request, version, context.client_id, context.client_host)
        return joined.addCallback(_in_form, version)

    def refuse(self, request: JoinGroupRequest, version: int, error: KafkaError) -> JoinGroupResponse:
        """The error alone; a member whose request is at fault gets its id back."""
        member_id = request.member_id if error.code in _REFUSED_WITH_ITS_ID else ""
        return _in_form(join_refused(member_id, error.code), version)


def _in_form(response: JoinGroupResponse, version: int) -> JoinGroupResponse:
    if response.protocol_name is None and version < _NULLABLE_PROTOCOL:
        response.protocol_name = ""
    return response
