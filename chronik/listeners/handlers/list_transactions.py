"""ListTransactions: the transactional ids that this node coordinates, filtered by state, producer, duration and pattern."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from chronik.coordinator.transaction_filters import filters
from chronik.coordinator.transactions import TransactionCoordinator
from chronik.errors import KafkaError
from chronik.listeners.context import RequestContext
from chronik.listeners.slices import Slices
from chronik.steps import each
from chronik.wire.apis import ApiKey
from chronik.wire.messages.list_transactions import ListTransactionsRequest, ListTransactionsResponse, TransactionState


class ListTransactionsHandler:
    """Serves ListTransactions."""

    api_key = ApiKey.LIST_TRANSACTIONS
    min_version = 0
    max_version = 2

    def __init__(self, transactions: TransactionCoordinator, slices: Slices) -> None:
        self._transactions = transactions
        self._slices = slices

    def handle(
        self, request: ListTransactionsRequest, context: RequestContext
    ) -> Coroutine[Any, Any, ListTransactionsResponse]:
        """All of them, or COORDINATOR_LOAD_IN_PROGRESS while some are still being read."""
        return self._list(request)

    async def _list(self, request: ListTransactionsRequest) -> ListTransactionsResponse:
        wanted, unknown = filters(
            request.state_filters,
            request.producer_id_filters,
            request.duration_filter,
            request.transactional_id_pattern,
        )
        listed = each(
            await self._transactions.list(wanted),
            lambda found: TransactionState(
                transactional_id=found[0], producer_id=found[1].producer_id, transaction_state=found[1].state.text
            ),
        )
        return ListTransactionsResponse(
            unknown_state_filters=unknown, transaction_states=await self._slices.take(listed)
        )

    def refuse(self, request: ListTransactionsRequest, version: int, error: KafkaError) -> ListTransactionsResponse:
        """The error alone."""
        return ListTransactionsResponse(error_code=error.code)
