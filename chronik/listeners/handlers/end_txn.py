"""EndTxn: commit or abort a transaction; answered when the outcome stands in the log, before its markers are written.

The version says which transactions a client uses: from 5 on v2, where every transaction ends with a new epoch that the answer
carries, so that a request that is late cannot end a later transaction (KIP-890).
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from chronik.coordinator.transaction import V1, V2, Identity
from chronik.coordinator.transactions import TransactionCoordinator
from chronik.errors import KafkaError
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.fencing import fenced_code
from chronik.wire.apis import ApiKey
from chronik.wire.messages.end_txn import EndTxnRequest, EndTxnResponse

_PRODUCER_FENCED_SINCE = 2
_TRANSACTIONS_V2_SINCE = 5


class EndTxnHandler:
    """Serves EndTxn."""

    api_key = ApiKey.END_TXN
    min_version = 0
    max_version = 5

    def __init__(self, transactions: TransactionCoordinator) -> None:
        self._transactions = transactions

    def handle(self, request: EndTxnRequest, context: RequestContext) -> Coroutine[Any, Any, EndTxnResponse]:
        """Who may begin the next transaction."""
        return self._end(request, V2 if context.api_version >= _TRANSACTIONS_V2_SINCE else V1)

    async def _end(self, request: EndTxnRequest, client_version: int) -> EndTxnResponse:
        producer = Identity(request.producer_id, request.producer_epoch)
        following = await self._transactions.end(request.transactional_id, producer, request.committed, client_version)
        return EndTxnResponse(producer_id=following.producer_id, producer_epoch=following.epoch)

    def refuse(self, request: EndTxnRequest, version: int, error: KafkaError) -> EndTxnResponse:
        """The error, with no producer."""
        return EndTxnResponse(error_code=fenced_code(error.code, version >= _PRODUCER_FENCED_SINCE))
