"""Fetch rounds of many partitions, served without holding up the reactor: 20,000 of them are some 300 ms of work.

What `fetch.FetchHandler` does in one piece goes on in slices here, with other requests in between. So more may be committed,
and the budget of answers spent, while a round is being read.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, TimeoutError

from chronik.broker.fetch_sessions import FetchRound, FetchTarget, PartitionKey
from chronik.broker.purgatory import WaitingFetch
from chronik.errors import KafkaError
from chronik.listeners.backlog import AnswerBacklog
from chronik.listeners.context import RequestContext
from chronik.listeners.slices import Slices
from chronik.model import Uuid
from chronik.steps import Steps
from chronik.wire.codec import encode_struct
from chronik.wire.messages.fetch import (
    FetchableTopicResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    PartitionData,
)

if TYPE_CHECKING:
    from chronik.listeners.handlers.fetch import FetchHandler, Reading

_BY_ID = 13


class LargeFetches:
    """Serves the rounds of `handler` that have many partitions."""

    def __init__(
        self,
        handler: FetchHandler,
        answers: AnswerBacklog,
        slices: Slices,
        clock: Callable[[], float],
        reactor: Any,
    ) -> None:
        self._handler = handler
        self._answers = answers
        self._slices = slices
        self._clock = clock
        self._reactor = reactor

    def begin(
        self, request: FetchRequest, context: RequestContext
    ) -> Steps[Coroutine[Deferred[Any], Any, FetchResponse]]:
        """Begin to serve a request that names so many partitions: what goes on to its answer."""
        by_id = context.api_version >= _BY_ID
        targets: dict[PartitionKey, FetchTarget] = {}
        for topic in request.topics:
            name = topic.topic_id if by_id else topic.topic
            for data in topic.partitions:
                key, target = target_of((name, data))
                targets[key] = target
                yield
            yield
        forgotten: list[PartitionKey] = []
        for left in request.forgotten_topics_data:
            name = left.topic_id if by_id else left.topic
            for partition in left.partitions:
                forgotten.append((name, partition))
                yield
            yield
        return self.serve(self._handler.begin(targets, forgotten, request, context), request, context)

    async def serve(self, fetch_round: FetchRound, request: FetchRequest, context: RequestContext) -> FetchResponse:
        """As `handle`, without holding up the reactor: a round of 20,000 partitions is some 300 ms of work."""
        version, targets = context.api_version, fetch_round.targets
        until = self._clock() + (
            self._handler.wait_seconds(request) if self._handler.may_wait(fetch_round, request) else 0
        )
        reading = self._handler.begin_reading(fetch_round, request, False)
        self._handler.waiting_partitions += len(targets)
        try:
            while True:
                # Watched before it is read, as more may come in between; what is counted twice only wakes it too early.
                woken: Deferred[object] = Deferred()
                waiting = WaitingFetch(request.min_bytes, woken.callback)
                try:
                    left = until - self._clock()
                    if left > 0:
                        await self._slices.each(targets, partial(self._watch, waiting, version))
                    self._answers.change(-reading.size)
                    reading = self._handler.begin_reading(fetch_round, request, self._answers.full)
                    await self._slices.each(targets, partial(self._read_counted, reading, request, context))
                    is_enough = reading.enough or reading.size >= request.min_bytes
                    if left <= 0 or (is_enough and (reading.size or not reading.none_at_all)):
                        break
                    if not reading.none_at_all:
                        waiting.more(reading.size)
                        with suppress(TimeoutError):
                            await woken.addTimeout(max(0.0, until - self._clock()), self._reactor)
                    await self._until_there_is_room(until)
                finally:
                    await self._slices.each(waiting.watched, partial(_unwatch, waiting))
            topics: dict[Any, FetchableTopicResponse] = {}
            may, pause_ms = self._handler.pause(reading, context)
            select = partial(self._handler.select, fetch_round, topics, version >= _BY_ID, partial(_encoded, version))
            await self._slices.each(reading.results if may else (), select)
        finally:
            self._handler.waiting_partitions -= len(targets)
            self._answers.change(-reading.size)
        self._handler.answered(context)
        return FetchResponse(
            session_id=fetch_round.session_id, throttle_time_ms=pause_ms, responses=list(topics.values())
        )

    def _watch(self, waiting: WaitingFetch, version: int, targets: Sequence[FetchTarget]) -> None:
        for target in targets:
            try:
                waiting.watch(self._handler.find(target, version >= _BY_ID).fetch_waiters)
            except KafkaError:
                waiting.wake()  # it isn't here: the read will say so

    def _read_counted(
        self, reading: Reading, request: FetchRequest, context: RequestContext, targets: Sequence[FetchTarget]
    ) -> None:
        """Read, and count what was read as an answer: others come in between that do the same."""
        if self._answers.full:
            reading.remaining, reading.none_at_all = 0, True
        before = reading.size
        self._handler.read_some(reading, request, context, targets)
        self._answers.change(reading.size - before)

    async def _until_there_is_room(self, until: float) -> None:
        """Until the node has room for answers, or no time is left."""
        while self._answers.full and self._clock() < until:
            drained: Deferred[None] = Deferred()
            self._answers.when_drained(partial(_fire, drained))
            with suppress(TimeoutError):
                await drained.addTimeout(until - self._clock(), self._reactor)


def _encoded(version: int, data: PartitionData) -> Any:
    """`data` encoded, unless it has records: they stay a buffer of their own."""
    return data if data.records else encode_struct(data, version, FetchResponse.is_flexible(version))


def _fire(drained: Deferred[None]) -> None:
    if not drained.called:
        drained.callback(None)


def _unwatch(waiting: WaitingFetch, watched: Sequence[set[WaitingFetch]]) -> None:
    for waiters in watched:
        waiters.discard(waiting)


def target_of(named: tuple[str | Uuid, FetchPartition]) -> tuple[PartitionKey, FetchTarget]:
    """What a request says of one partition. Of one that is named twice, the last counts."""
    name, data = named
    return (name, data.partition), FetchTarget(
        name,
        data.partition,
        data.fetch_offset,
        data.partition_max_bytes,
        data.current_leader_epoch,
        data.last_fetched_epoch,
        data.log_start_offset,
    )
