"""ListGroups: the groups that this node coordinates, filtered by state and type."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from chronik.coordinator.runtime import Coordinator
from chronik.errors import KafkaError
from chronik.listeners.context import RequestContext
from chronik.wire.apis import ApiKey
from chronik.wire.messages.list_groups import ListGroupsRequest, ListGroupsResponse


class ListGroupsHandler:
    """Serves ListGroups."""

    api_key = ApiKey.LIST_GROUPS
    min_version = 0
    max_version = 5

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def handle(self, request: ListGroupsRequest, context: RequestContext) -> Coroutine[Any, Any, ListGroupsResponse]:
        """All of them, or COORDINATOR_LOAD_IN_PROGRESS while some are still being read."""
        return self._list(request)

    async def _list(self, request: ListGroupsRequest) -> ListGroupsResponse:
        return ListGroupsResponse(groups=await self._coordinator.list(request.states_filter, request.types_filter))

    def refuse(self, request: ListGroupsRequest, version: int, error: KafkaError) -> ListGroupsResponse:
        """The error alone."""
        return ListGroupsResponse(error_code=error.code)
