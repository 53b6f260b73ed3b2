"""ShareGroupDescribe: epochs, members and assignments of share groups (KIP-932).

A group that doesn't exist or is of another protocol is GROUP_ID_NOT_FOUND.
"""

from __future__ import annotations

from chronik.coordinator.runtime import Coordinator
from chronik.errors import KafkaError
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.describe_groups import ALL_OPERATIONS
from chronik.steps import Steps, each
from chronik.wire.apis import ApiKey
from chronik.wire.messages.share_group_describe import (
    DescribedGroup,
    ShareGroupDescribeRequest,
    ShareGroupDescribeResponse,
)


class ShareGroupDescribeHandler:
    """Serves ShareGroupDescribe."""

    api_key = ApiKey.SHARE_GROUP_DESCRIBE
    min_version = 1
    max_version = 1

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def handle(self, request: ShareGroupDescribeRequest, context: RequestContext) -> Steps[ShareGroupDescribeResponse]:
        """Each group, or why it cannot be described."""

        def describe(group_id: str) -> DescribedGroup:
            group = self._describe(group_id)
            if request.include_authorized_operations and not group.error_code:
                group.authorized_operations = ALL_OPERATIONS
            return group

        return ShareGroupDescribeResponse(groups=(yield from each(request.group_ids, describe)))

    def _describe(self, group_id: str) -> DescribedGroup:
        try:
            return self._coordinator.host(group_id).check().shares.describe(group_id)
        except KafkaError as error:
            return _refused(group_id, error)

    def refuse(
        self, request: ShareGroupDescribeRequest, version: int, error: KafkaError
    ) -> Steps[ShareGroupDescribeResponse]:
        """The error for each group."""
        groups = yield from each(request.group_ids, lambda group_id: _refused(group_id, error))
        return ShareGroupDescribeResponse(groups=groups)


def _refused(group_id: str, error: KafkaError) -> DescribedGroup:
    return DescribedGroup(group_id=group_id, error_code=error.code, error_message=error.message)
