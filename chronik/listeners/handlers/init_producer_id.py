"""InitProducerId: a fresh producer id for an idempotent producer.

Ids come from blocks that the controller allocates to this broker and that are never given twice, so an id needs the metadata
log only once in a thousand. An idempotent producer that lost its sequence asks again, naming the id it had, and gets a fresh
one: without a transactional id there is nothing that an epoch would have to fence (KIP-360).

A transactional id is refused with UNSUPPORTED_VERSION, which clients take as final: this node has no transactions yet.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from chronik.controller.commands import AllocateProducerIds
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata, IController
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.proposing import propose
from chronik.wire.apis import ApiKey
from chronik.wire.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

_ALLOCATION_TIMEOUT_MS = 10_000


class InitProducerIdHandler:
    """Serves InitProducerId for broker `node_id`, with blocks of ids from `controller`."""

    api_key = ApiKey.INIT_PRODUCER_ID
    min_version = 0
    max_version = 5

    _log = Logger()

    def __init__(self, controller: IController, metadata: IClusterMetadata, node_id: int, clock: IReactorTime) -> None:
        self._controller = controller
        self._metadata = metadata
        self._node_id = node_id
        self._clock = clock
        self._next = self._end = 0
        self._waiting: list[Deferred[None]] | None = None

    def handle(
        self, request: InitProducerIdRequest, context: RequestContext
    ) -> InitProducerIdResponse | Coroutine[Deferred[Any], Any, InitProducerIdResponse]:
        """A fresh id with epoch 0: at once while the block lasts."""
        _check(request)
        if self._next < self._end:
            return self._take()
        return self._take_later()

    def refuse(self, request: InitProducerIdRequest, version: int, error: KafkaError) -> InitProducerIdResponse:
        """`error`, with no id."""
        return InitProducerIdResponse(error_code=error.code, producer_id=-1, producer_epoch=-1)

    def _take(self) -> InitProducerIdResponse:
        producer_id, self._next = self._next, self._next + 1
        return InitProducerIdResponse(producer_id=producer_id, producer_epoch=0)

    async def _take_later(self) -> InitProducerIdResponse:
        while self._next >= self._end:
            await self._next_block()
        return self._take()

    def _next_block(self) -> Deferred[None]:
        """Fires when a new block has come. All who wait share one allocation; each has a Deferred of its own to cancel."""
        mine: Deferred[None] = Deferred()
        if self._waiting is not None:
            self._waiting.append(mine)
            return mine
        self._waiting = [mine]
        Deferred.fromCoroutine(self._allocate()).addCallbacks(self._allocated, self._not_allocated)
        return mine

    async def _allocate(self) -> None:
        epoch = next((each.epoch for each in self._metadata.brokers() if each.node_id == self._node_id), -1)
        command = AllocateProducerIds(self._node_id, epoch)
        block = await propose(self._controller, command, _ALLOCATION_TIMEOUT_MS, self._clock)
        self._next, self._end = block.first, block.first + block.count

    def _allocated(self, _: None) -> None:
        for waiting in self._all_waiting():
            waiting.callback(None)

    def _not_allocated(self, failure: Failure) -> None:
        self._log.failure("no producer ids for broker {node}", failure, node=self._node_id)
        for waiting in self._all_waiting():
            # What Kafka's brokers answer while they have no ids: clients try again.
            waiting.errback(KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, "no producer ids to give out yet"))

    def _all_waiting(self) -> list[Deferred[None]]:
        waiting, self._waiting = self._waiting or [], None
        return waiting


def _check(request: InitProducerIdRequest) -> None:
    if request.transactional_id == "":
        raise KafkaError(ErrorCode.INVALID_REQUEST, "a transactional id cannot be empty")
    if (request.producer_id == -1) != (request.producer_epoch == -1):
        raise KafkaError(ErrorCode.INVALID_REQUEST, "a producer id and its epoch go together")
    if request.transactional_id is not None:
        raise KafkaError(ErrorCode.UNSUPPORTED_VERSION, "this node has no transactions yet")
