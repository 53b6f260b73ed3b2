"""What the answer to a Produce request waits for: the turns of batches that are prepared first, and commits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from chronik.broker.outcomes import Appended
from chronik.broker.partition import Partition
from chronik.broker.preparation import Preparation, Turn
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import HoldingUp
from chronik.listeners.handlers.produce_refusals import close_on_error
from chronik.telemetry.metrics import Histogram
from chronik.wire.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
)

ALL = -1
"""The acks that wait for all replicas in sync."""

Wait = tuple[Partition, int, PartitionProduceResponse]
"""That a partition commits all below an offset, and the answer that depends on it."""


class Waiting:
    """Holds responses back until what they wait for has come. `latency` is told how long each took; `clock` is in seconds."""

    def __init__(self, latency: Histogram, clock: Callable[[], float], reactor: Any) -> None:
        self._latency = latency
        self._clock = clock
        self._reactor = reactor

    def append_in_turn(
        self, preparation: Preparation, data: PartitionProduceData, now_ms: int, acks: int, timeout_ms: int
    ) -> Appended | Deferred[Appended]:
        """Append where batches are prepared first; at once if that is possible.

        What isn't appended within `timeout_ms` never is, but without acks: nobody would hear of it.
        """
        appended: Deferred[Appended] = Deferred()

        def done(result: Appended | Exception) -> None:
            if timeout is not None and timeout.active():
                timeout.cancel()
            if appended.called:
                return  # its client is gone
            if isinstance(result, Exception):
                appended.errback(result)
            else:
                appended.callback(result)

        def give_up(turn: Turn) -> None:
            if preparation.give_up(turn):
                done(KafkaError(ErrorCode.REQUEST_TIMED_OUT, f"not prepared within {timeout_ms} ms, not appended"))

        timeout = None
        turn = preparation.append(data.records, now_ms, acks, done)
        if isinstance(turn, Appended):
            return turn
        data.records = turn.batch  # the frame's buffer is for the next request
        if acks:
            timeout = self._reactor.callLater(max(timeout_ms, 1) / 1000, give_up, turn)
        return appended

    def after_turns(
        self,
        response: ProduceResponse,
        turns: list[Deferred[Any]],
        waits: list[Wait],
        request: ProduceRequest,
        received: float,
    ) -> HoldingUp:
        """`response` once all of `turns`, which put their results into it and into `waits`, have come."""

        async def come() -> ProduceResponse | None:
            await gatherResults(turns)
            if not request.acks:
                close_on_error(response.responses)
                return None
            if waits:
                left_ms = request.timeout_ms - int((self._clock() - received) * 1000)
                committed: ProduceResponse = await self.when_committed(response, waits, left_ms, received)
                return committed
            self._latency.observe(self._clock() - received)
            return response

        coming = Deferred.fromCoroutine(come())
        answer = HoldingUp(lambda _: coming.cancel())
        coming.chainDeferred(answer)
        return answer

    def when_committed(
        self, response: ProduceResponse, waits: list[Wait], timeout_ms: int, received: float
    ) -> Deferred[Any]:
        """`response` once every partition in `waits` has committed, with an error in those that did not in time."""
        pending = []
        for partition, end_offset, answer in waits:
            committed: Deferred[None] = Deferred()

            def done(error: Exception | None, committed: Deferred[None] = committed) -> None:
                if not committed.called:
                    if error is None:
                        committed.callback(None)
                    else:
                        committed.errback(error)

            partition.commits.wait(end_offset, done)

            def failed(failure: Any, answer: PartitionProduceResponse = answer) -> None:
                error = failure.value
                if not isinstance(error, KafkaError):
                    error = KafkaError(ErrorCode.REQUEST_TIMED_OUT, f"not committed within {timeout_ms} ms")
                answer.error_code, answer.base_offset, answer.error_message = error.code, -1, error.message

            committed.addTimeout(max(timeout_ms, 1) / 1000, self._reactor)
            committed.addErrback(failed)
            pending.append(committed)

        def answered(_: object) -> ProduceResponse:
            self._latency.observe(self._clock() - received)
            return response

        whole: Deferred[Any] = gatherResults(pending)
        return whole.addCallback(answered)


def take(
    answer: PartitionProduceResponse, partition: Partition, acks: int, waits: list[Wait], appended: Appended
) -> None:
    """Put where a batch went into its answer, and what that has still to wait for into `waits`."""
    answer.base_offset = appended.base_offset
    answer.log_append_time_ms = appended.append_time_ms
    answer.log_start_offset = appended.log_start
    if acks and partition.high_watermark < appended.end_offset and (acks == ALL or partition.syncs_first):
        waits.append((partition, appended.end_offset, answer))
