"""DeleteGroups: delete groups without members, and their offsets; each group has an answer of its own."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

from chronik.coordinator.runtime import Coordinator
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import RequestContext
from chronik.listeners.parts import in_parts, joined_items
from chronik.steps import Steps
from chronik.wire.apis import ApiKey
from chronik.wire.messages.delete_groups import DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse

_PART = 50
"""Groups of one part of a request of many: each costs some 20 us, and a turn of its own."""


class DeleteGroupsHandler:
    """Serves DeleteGroups."""

    api_key = ApiKey.DELETE_GROUPS
    min_version = 0
    max_version = 2

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def handle(
        self, request: DeleteGroupsRequest, context: RequestContext
    ) -> Coroutine[Any, Any, DeleteGroupsResponse]:
        """Answered when the deletions are in the log."""
        return self._delete(dict.fromkeys(request.groups_names))

    async def _delete(self, group_ids: dict[str, None]) -> DeleteGroupsResponse:
        results = []
        for group_id in group_ids:
            code = ErrorCode.NONE
            try:
                await self._coordinator.delete(group_id)
            except KafkaError as error:
                code = error.code
            results.append(DeletableGroupResult(group_id=group_id, error_code=code))
        return DeleteGroupsResponse(results=results)

    in_turn = True

    def parts(self, request: DeleteGroupsRequest) -> Iterator[DeleteGroupsRequest]:
        """Deletions of some groups each; a name that is there twice counts once."""
        whole = DeleteGroupsRequest(groups_names=list(dict.fromkeys(request.groups_names)))
        return in_parts(whole, "groups_names", _PART)

    def joined(self, answers: Sequence[DeleteGroupsResponse]) -> Steps[DeleteGroupsResponse]:
        """One answer of those to the parts."""
        results = yield from joined_items([answer.results for answer in answers])
        return DeleteGroupsResponse(results=results)

    def refuse(self, request: DeleteGroupsRequest, version: int, error: KafkaError) -> DeleteGroupsResponse:
        """The error for each group."""
        return DeleteGroupsResponse(
            results=[
                DeletableGroupResult(group_id=group_id, error_code=error.code)
                for group_id in dict.fromkeys(request.groups_names)
            ]
        )
