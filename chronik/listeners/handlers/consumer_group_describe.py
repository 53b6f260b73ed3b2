"""ConsumerGroupDescribe: epochs, members and assignments of groups of the consumer protocol (KIP-848).

A group that doesn't exist or is a classic one is GROUP_ID_NOT_FOUND; clients then ask DescribeGroups.
"""

from __future__ import annotations

from chronik.coordinator.runtime import Coordinator
from chronik.errors import KafkaError
from chronik.features import GROUP_VERSION, require_level
from chronik.interfaces import IClusterMetadata
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.describe_groups import ALL_OPERATIONS
from chronik.steps import Steps, each
from chronik.wire.apis import ApiKey
from chronik.wire.messages.consumer_group_describe import (
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
    DescribedGroup,
)


class ConsumerGroupDescribeHandler:
    """Serves ConsumerGroupDescribe."""

    api_key = ApiKey.CONSUMER_GROUP_DESCRIBE
    min_version = 0
    max_version = 1

    def __init__(self, coordinator: Coordinator, metadata: IClusterMetadata) -> None:
        self._coordinator = coordinator
        self._metadata = metadata

    def handle(
        self, request: ConsumerGroupDescribeRequest, context: RequestContext
    ) -> Steps[ConsumerGroupDescribeResponse]:
        """Each group, or why it cannot be described. Served where feature `group.version` is at level 1."""
        require_level(GROUP_VERSION, self._metadata.feature_level(GROUP_VERSION), 1)

        def describe(group_id: str) -> DescribedGroup:
            group = self._describe(group_id)
            if request.include_authorized_operations and not group.error_code:
                group.authorized_operations = ALL_OPERATIONS
            return group

        return ConsumerGroupDescribeResponse(groups=(yield from each(request.group_ids, describe)))

    def _describe(self, group_id: str) -> DescribedGroup:
        try:
            return self._coordinator.describe_consumer_group(group_id)
        except KafkaError as error:
            return _refused(group_id, error)

    def refuse(
        self, request: ConsumerGroupDescribeRequest, version: int, error: KafkaError
    ) -> Steps[ConsumerGroupDescribeResponse]:
        """The error for each group."""
        groups = yield from each(request.group_ids, lambda group_id: _refused(group_id, error))
        return ConsumerGroupDescribeResponse(groups=groups)


def _refused(group_id: str, error: KafkaError) -> DescribedGroup:
    return DescribedGroup(group_id=group_id, error_code=error.code, error_message=error.message)
