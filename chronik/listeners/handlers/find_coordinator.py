"""FindCoordinator: which node coordinates a group or a transactional id, or keeps a share partition.

While share groups are not served, the keys of share partitions are refused with INVALID_REQUEST. Clients take that as final
and say so at once; COORDINATOR_NOT_AVAILABLE would have them ask until their own timeout.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

from chronik.coordinator.runtime import Coordinator as GroupCoordinator
from chronik.coordinator.share_coordinator import ShareCoordinator, key_of
from chronik.coordinator.transactions import TransactionCoordinator
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import RequestContext
from chronik.listeners.dispatch import Gate
from chronik.listeners.parts import in_parts, joined_items
from chronik.steps import Steps
from chronik.wire.apis import ApiKey
from chronik.wire.messages.find_coordinator import Coordinator, FindCoordinatorRequest, FindCoordinatorResponse

_BATCHED = 4
_GROUP = 0
_TRANSACTION = 1
_SHARE = 2
_SHARES_SINCE = 6
_NO_NODE = -1


class FindCoordinatorHandler:
    """Serves FindCoordinator for groups and transactional ids; for share partitions where they are served."""

    api_key = ApiKey.FIND_COORDINATOR
    min_version = 0
    max_version = 6

    def __init__(
        self,
        groups: GroupCoordinator,
        transactions: TransactionCoordinator,
        shares: ShareCoordinator,
        share_gate: Gate,
    ) -> None:
        self._coordinators = {_GROUP: groups.topic, _TRANSACTION: transactions.topic, _SHARE: shares.topic}
        self._share_gate = share_gate

    def handle(
        self, request: FindCoordinatorRequest, context: RequestContext
    ) -> Coroutine[Any, Any, FindCoordinatorResponse]:
        """One key up to version 3, several from 4 on, each with an error of its own."""
        return self._find(request, context)

    async def _find(self, request: FindCoordinatorRequest, context: RequestContext) -> FindCoordinatorResponse:
        if context.api_version >= _BATCHED:
            found = [await self._find_one(key, request.key_type, context) for key in request.coordinator_keys]
            return FindCoordinatorResponse(coordinators=found)
        one = await self._find_one(request.key, request.key_type, context)
        return FindCoordinatorResponse(
            error_code=one.error_code,
            error_message=one.error_message or ErrorCode.NONE.name,
            node_id=one.node_id,
            host=one.host,
            port=one.port,
        )

    async def _find_one(self, key: str, key_type: int, context: RequestContext) -> Coordinator:
        try:
            topic = self._coordinators.get(key_type)
            if topic is None or (key_type == _SHARE and not self._serves_shares(context.api_version)):
                raise KafkaError(ErrorCode.INVALID_REQUEST, f"key type {key_type} has no coordinator here")
            if key_type == _SHARE:
                key_of(key)
            node = await topic.find(key, context.listener)
        except KafkaError as error:
            return _failed(key, error)
        return Coordinator(key=key, node_id=node.node_id, host=context.dialable(node.host), port=node.port)

    def _serves_shares(self, version: int) -> bool:
        try:
            self._share_gate()
        except KafkaError:
            return False
        return version >= _SHARES_SINCE

    in_turn = True

    def parts(self, request: FindCoordinatorRequest) -> Iterator[FindCoordinatorRequest]:
        """Questions for some keys each."""
        return in_parts(request, "coordinator_keys")

    def joined(self, answers: Sequence[FindCoordinatorResponse]) -> Steps[FindCoordinatorResponse]:
        """One answer of those to the parts."""
        found = yield from joined_items([answer.coordinators for answer in answers])
        return FindCoordinatorResponse(coordinators=found)

    def refuse(self, request: FindCoordinatorRequest, version: int, error: KafkaError) -> FindCoordinatorResponse:
        """The error, from version 4 on for each key."""
        if version >= _BATCHED:
            return FindCoordinatorResponse(coordinators=[_failed(key, error) for key in request.coordinator_keys])
        one = _failed("", error)
        return FindCoordinatorResponse(
            error_code=one.error_code, error_message=one.error_message, node_id=_NO_NODE, port=_NO_NODE
        )


def _failed(key: str, error: KafkaError) -> Coordinator:
    return Coordinator(
        key=key, node_id=_NO_NODE, port=_NO_NODE, error_code=error.code, error_message=error.message or error.code.name
    )
