"""LeaveGroup: members leave at once, instead of when their sessions run out.

Up to version 2 one member leaves, and its error is the response's. From version 3 on there are several, by member id or by
instance id alone, each with an error of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from twisted.internet.defer import Deferred

from chronik.coordinator.runtime import Coordinator
from chronik.errors import KafkaError
from chronik.listeners.context import RequestContext
from chronik.listeners.parts import in_parts, joined_items
from chronik.steps import Steps
from chronik.wire.apis import ApiKey
from chronik.wire.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberIdentity

_BATCHED = 3


class LeaveGroupHandler:
    """Serves LeaveGroup."""

    api_key = ApiKey.LEAVE_GROUP
    min_version = 0
    max_version = 5

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def handle(self, request: LeaveGroupRequest, context: RequestContext) -> Deferred[LeaveGroupResponse]:
        """Take the members out; the others rebalance."""
        if context.api_version >= _BATCHED:
            left = self._coordinator.leave(request.group_id, request.members)
            return left.addCallback(lambda members: LeaveGroupResponse(members=members))
        left = self._coordinator.leave(request.group_id, [MemberIdentity(member_id=request.member_id)])
        return left.addCallback(lambda members: LeaveGroupResponse(error_code=members[0].error_code))

    in_turn = True

    def parts(self, request: LeaveGroupRequest) -> Iterator[LeaveGroupRequest]:
        """Some members each."""
        return in_parts(request, "members")

    def joined(self, answers: Sequence[LeaveGroupResponse]) -> Steps[LeaveGroupResponse]:
        """One answer of those to the parts."""
        members = yield from joined_items([answer.members for answer in answers])
        return LeaveGroupResponse(error_code=answers[0].error_code, members=members)

    def refuse(self, request: LeaveGroupRequest, version: int, error: KafkaError) -> LeaveGroupResponse:
        """The error alone."""
        return LeaveGroupResponse(error_code=error.code)
