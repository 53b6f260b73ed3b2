"""InitProducerId: a producer id, for idempotence alone or for a transactional id.

Without a transactional id it is a fresh one, which needs the metadata log only once in a thousand. An idempotent producer
that lost its sequence asks again, naming the id it had, and gets a fresh one: there is nothing that an epoch would have
to fence (KIP-360). With a transactional id, the coordinator of that id answers.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred

from chronik.controller.producer_ids import ProducerIds
from chronik.coordinator.transaction import NO_EPOCH, NO_PRODUCER_ID, Identity
from chronik.coordinator.transactions import TransactionCoordinator
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.fencing import fenced_code
from chronik.wire.apis import ApiKey
from chronik.wire.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

_PRODUCER_FENCED_SINCE = 4


class InitProducerIdHandler:
    """Serves InitProducerId."""

    api_key = ApiKey.INIT_PRODUCER_ID
    min_version = 0
    max_version = 5

    def __init__(self, producer_ids: ProducerIds, transactions: TransactionCoordinator) -> None:
        self._producer_ids = producer_ids
        self._transactions = transactions

    def handle(
        self, request: InitProducerIdRequest, context: RequestContext
    ) -> InitProducerIdResponse | Coroutine[Deferred[Any], Any, InitProducerIdResponse]:
        """A fresh id with epoch 0, at once while the block lasts; of a transactional id, its producer with the next epoch."""
        if (request.producer_id == NO_PRODUCER_ID) != (request.producer_epoch == NO_EPOCH):
            raise KafkaError(ErrorCode.INVALID_REQUEST, "a producer id and its epoch go together")
        if request.transactional_id is not None:
            return self._initialise(request.transactional_id, request)
        producer_id = self._producer_ids.take_now()
        if producer_id is not None:
            return InitProducerIdResponse(producer_id=producer_id, producer_epoch=0)
        return self._take_later()

    async def _take_later(self) -> InitProducerIdResponse:
        return InitProducerIdResponse(producer_id=await self._producer_ids.take(), producer_epoch=0)

    async def _initialise(self, transactional_id: str, request: InitProducerIdRequest) -> InitProducerIdResponse:
        has_one = request.producer_id != NO_PRODUCER_ID
        expected = Identity(request.producer_id, request.producer_epoch) if has_one else None
        producer = await self._transactions.initialise(transactional_id, request.transaction_timeout_ms, expected)
        return InitProducerIdResponse(producer_id=producer.producer_id, producer_epoch=producer.epoch)

    def refuse(self, request: InitProducerIdRequest, version: int, error: KafkaError) -> InitProducerIdResponse:
        """`error`, with no id."""
        code = fenced_code(error.code, version >= _PRODUCER_FENCED_SINCE)
        return InitProducerIdResponse(error_code=code, producer_id=NO_PRODUCER_ID, producer_epoch=NO_EPOCH)
