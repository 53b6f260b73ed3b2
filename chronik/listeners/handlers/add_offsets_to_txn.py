"""AddOffsetsToTxn: enter a group's offsets in a transaction, which is the partition of `__consumer_offsets` that keeps them."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from chronik.coordinator.runtime import Coordinator
from chronik.coordinator.transaction import V1, Identity
from chronik.coordinator.transactions import TransactionCoordinator
from chronik.errors import KafkaError
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.fencing import fenced_code
from chronik.model import TopicPartition
from chronik.wire.apis import ApiKey
from chronik.wire.messages.add_offsets_to_txn import AddOffsetsToTxnRequest, AddOffsetsToTxnResponse

_PRODUCER_FENCED_SINCE = 2


class AddOffsetsToTxnHandler:
    """Serves AddOffsetsToTxn. `groups` knows where a group's offsets are kept."""

    api_key = ApiKey.ADD_OFFSETS_TO_TXN
    min_version = 0
    max_version = 4

    def __init__(self, transactions: TransactionCoordinator, groups: Coordinator) -> None:
        self._transactions = transactions
        self._groups = groups

    def handle(
        self, request: AddOffsetsToTxnRequest, context: RequestContext
    ) -> Coroutine[Any, Any, AddOffsetsToTxnResponse]:
        """Answered when the partition is in the transaction."""
        return self._add(request)

    async def _add(self, request: AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse:
        offsets = self._groups.topic
        partition = TopicPartition(offsets.name, offsets.partition_of(request.group_id))
        producer = Identity(request.producer_id, request.producer_epoch)
        # Clients of transactions v2 don't send this: TxnOffsetCommit enters the partition for them.
        await self._transactions.add_partitions(request.transactional_id, producer, [partition], V1)
        return AddOffsetsToTxnResponse()

    def refuse(self, request: AddOffsetsToTxnRequest, version: int, error: KafkaError) -> AddOffsetsToTxnResponse:
        """The error."""
        return AddOffsetsToTxnResponse(error_code=fenced_code(error.code, version >= _PRODUCER_FENCED_SINCE))
