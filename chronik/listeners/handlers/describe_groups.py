"""DescribeGroups: state, protocol and members of classic groups.

A group that doesn't exist is described as Dead, from version 6 on with GROUP_ID_NOT_FOUND and a text (KIP-1043). Without an
authorizer everybody may do everything, and the authorised operations say so (KIP-430).
"""

from __future__ import annotations

from chronik.coordinator.effects import GroupState
from chronik.coordinator.runtime import Coordinator
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import RequestContext
from chronik.steps import Steps, each
from chronik.wire.apis import ApiKey
from chronik.wire.messages.describe_groups import DescribedGroup, DescribeGroupsRequest, DescribeGroupsResponse

_NOT_FOUND_IS_AN_ERROR = 6
# READ (3), DELETE (6), DESCRIBE (8), DESCRIBE_CONFIGS (10), ALTER_CONFIGS (11): what can be done to a group.
ALL_OPERATIONS = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11


class DescribeGroupsHandler:
    """Serves DescribeGroups."""

    api_key = ApiKey.DESCRIBE_GROUPS
    min_version = 0
    max_version = 6

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def handle(self, request: DescribeGroupsRequest, context: RequestContext) -> Steps[DescribeGroupsResponse]:
        """Each group, or why it cannot be described."""

        def describe(group_id: str) -> DescribedGroup:
            group = self._describe(group_id, context.api_version)
            if request.include_authorized_operations and not group.error_code:
                group.authorized_operations = ALL_OPERATIONS
            return group

        return DescribeGroupsResponse(groups=(yield from each(request.groups, describe)))

    def _describe(self, group_id: str, version: int) -> DescribedGroup:
        try:
            described = self._coordinator.describe(group_id)
        except KafkaError as error:
            return DescribedGroup(group_id=group_id, error_code=error.code)
        if described is not None:
            return described
        dead = DescribedGroup(group_id=group_id, group_state=GroupState.DEAD.value)
        if version >= _NOT_FOUND_IS_AN_ERROR:
            dead.error_code, dead.error_message = ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} not found."
        return dead

    def refuse(self, request: DescribeGroupsRequest, version: int, error: KafkaError) -> Steps[DescribeGroupsResponse]:
        """The error for each group."""
        groups = yield from each(
            request.groups, lambda group_id: DescribedGroup(group_id=group_id, error_code=error.code)
        )
        return DescribeGroupsResponse(groups=groups)
