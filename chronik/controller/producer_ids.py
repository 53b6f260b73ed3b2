"""Fresh producer ids for this broker: out of blocks that the controller allocates and never gives twice.

A block has a thousand ids, so one id in a thousand needs the metadata log. All who wait for the next block share one
allocation.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from chronik.controller.commands import AllocateProducerIds
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata, IController

_ALLOCATION_TIMEOUT_SECONDS = 10.0


class ProducerIds:
    """Gives out the ids of broker `node_id`."""

    _log = Logger()

    def __init__(self, controller: IController, metadata: IClusterMetadata, node_id: int, clock: IReactorTime) -> None:
        self._controller = controller
        self._metadata = metadata
        self._node_id = node_id
        self._clock = clock
        self._next = self._end = 0
        self._waiting: list[Deferred[None]] | None = None

    def take_now(self) -> int | None:
        """A fresh id, None when the block is used up."""
        if self._next >= self._end:
            return None
        producer_id, self._next = self._next, self._next + 1
        return producer_id

    async def take(self) -> int:
        """A fresh id. Raises KafkaError(COORDINATOR_LOAD_IN_PROGRESS) when no block can be had: clients try again."""
        while (producer_id := self.take_now()) is None:
            await self._next_block()
        return producer_id

    def _next_block(self) -> Deferred[None]:
        """Fires when a new block has come. Each who waits has a Deferred of its own to cancel."""
        mine: Deferred[None] = Deferred()
        if self._waiting is not None:
            self._waiting.append(mine)
            return mine
        self._waiting = [mine]
        Deferred.fromCoroutine(self._allocate()).addCallbacks(self._allocated, self._not_allocated)
        return mine

    async def _allocate(self) -> None:
        epoch = next((each.epoch for each in self._metadata.brokers() if each.node_id == self._node_id), -1)
        answer: Deferred[object] = self._controller.propose(AllocateProducerIds(self._node_id, epoch))
        if not answer.called:
            answer.addTimeout(_ALLOCATION_TIMEOUT_SECONDS, self._clock)
        block = await answer
        self._next, self._end = block.first, block.first + block.count  # type: ignore[attr-defined]

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
