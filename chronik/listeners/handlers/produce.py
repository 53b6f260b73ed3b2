"""Produce: append one record batch to each of some partitions.

The batch stays opaque: its header and CRC are checked, base offset and leader epoch are patched in place in the receive
buffer, and the bytes are appended. `acks=all` waits for the high watermark, which on topics of durability `fsync` moves
when the bytes are on disk; there `acks=1` waits for it too. `acks=0` is never answered; if its append fails the connection
is closed, which is how such a producer learns of it. What has to be compressed anew, or looked through for records without a
key, may have to wait for its turn; meanwhile its connection stands still.

A connection repeats itself: what is common to its requests is kept as a `ProduceShape`, and `handle_shaped` serves those
that fit it without decoding or encoding a message.

A transactional batch whose producer has no transaction open in the partition comes back unappended, and is appended by
`broker.transactional` once the transaction's coordinator has agreed. Such a producer must want an answer (acks).

Versions 0 to 2 are advertised, because old librdkafka refuses to compress otherwise (KAFKA-18659), and refused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure

from chronik.broker.checks import UncheckedTransaction
from chronik.broker.key_check import KeylessRecords
from chronik.broker.partition import Appended, Partition
from chronik.broker.preparation import Preparation, Turn
from chronik.broker.replicas import Replicas
from chronik.broker.transactional import PendingBatch, TransactionalAppends, produce_error
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import ITransactions
from chronik.listeners.complaint import Complaint
from chronik.listeners.context import CloseConnection, HoldingUp, RequestContext
from chronik.model import INTERNAL_TOPICS
from chronik.telemetry.metrics import Histogram
from chronik.wire.apis import ApiKey
from chronik.wire.batches import CODEC_BITS
from chronik.wire.codec import Buffer
from chronik.wire.compression import Codec
from chronik.wire.messages.produce import (
    BatchIndexAndErrorMessage,
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from chronik.wire.produce_shape import ProduceShape
from chronik.wire.records import is_one_batch, read_header

_ALL = -1
_ACKS = (0, 1, _ALL)
_BY_ID = 13
_ZSTD_SINCE = 7
_ZSTD_TOO_NEW = (ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, f"zstd needs Produce {_ZSTD_SINCE} or later (KIP-110)")
_AT_FAULT = frozenset(
    {
        ErrorCode.INVALID_RECORD,
        ErrorCode.INVALID_TIMESTAMP,
        ErrorCode.INVALID_PRODUCER_EPOCH,
        ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
        ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
    }
)
"""What is wrong with the records themselves, other than their size and checksum."""
_ABORTABLE_SINCE = 11
"""Clients of this version know TRANSACTION_ABORTABLE."""
_IMPLICIT_SINCE = 12
"""Clients of this version leave it to the broker to add partitions to their transactions (transactions v2)."""
_Wait = tuple[Partition, int, PartitionProduceResponse]
"""What an answer waits for: that a partition commits all below an offset."""


class _Unchecked:
    """A batch that the coordinator of its transaction has to be asked about. `appended` fires with where it went."""

    __slots__ = ("appended", "data", "pending")

    def __init__(
        self,
        error: UncheckedTransaction,
        partition: Partition,
        data: PartitionProduceData,
        now_ms: int,
        acks: int,
        version: int,
    ) -> None:
        self.appended: Deferred[Appended] = Deferred()
        self.data = data
        self.pending = PendingBatch(
            partition, error.batch, error.header, now_ms, acks, partial(self._done, version >= _ABORTABLE_SINCE)
        )

    def _done(self, abortable: bool, _: PendingBatch, result: Appended | Exception) -> None:
        if self.appended.called:
            return  # its client is gone
        if isinstance(result, KafkaError):
            self.appended.errback(produce_error(result, abortable))
        elif isinstance(result, Exception):
            self.appended.errback(result)
        else:
            self.appended.callback(result)


class ProduceHandler:
    """Serves Produce on the partitions of `replicas`."""

    api_key = ApiKey.PRODUCE
    min_version = 3
    max_version = 13
    advertised_min_version = 0
    pipelined = True  # while one waits for the disk, the next is appended; request and answer are small without records

    log = Logger()

    def __init__(
        self,
        replicas: Replicas,
        latency: Histogram,
        clock: Callable[[], float],
        reactor: Any,
        transactions: ITransactions,
    ) -> None:
        self._replicas = replicas
        self._transactional = TransactionalAppends(transactions)
        self._latency = latency
        self._clock = clock
        self._reactor = reactor
        self._complaint = Complaint(self.log, clock)

    def handle(self, request: ProduceRequest, context: RequestContext) -> ProduceResponse | Deferred[Any] | None:
        """Append every batch; answer at once, or when what must be waited for is committed."""
        acks = request.acks
        if acks not in _ACKS:
            raise KafkaError(ErrorCode.INVALID_REQUIRED_ACKS, f"acks is {acks}; 0, 1 and -1 (all) exist")
        return self._append(request, context.api_version, context.now_ms(), context.received)

    def _append(
        self, request: ProduceRequest, version: int, now_ms: int, received: float
    ) -> ProduceResponse | Deferred[Any] | None:
        acks, by_id, zstd_is_known = request.acks, version >= _BY_ID, version >= _ZSTD_SINCE
        unchecked: list[_Unchecked] = []
        responses: list[TopicProduceResponse] = []
        waits: list[_Wait] = []
        turns: list[Deferred[Any]] = []
        for topic in request.topic_data:
            answers = []
            for data in topic.partition_data:
                try:
                    partition = self._find(topic, data, by_id)
                    if not zstd_is_known and _is_zstd(data.records):
                        answers.append(_failed(data.index, KafkaError(*_ZSTD_TOO_NEW)))
                        continue
                    if partition.preparation is None:
                        outcome: Appended | Deferred[Appended] = partition.append(data.records, now_ms, acks)
                    else:
                        outcome = self._append_in_turn(partition.preparation, data, now_ms, acks, request.timeout_ms)
                    if isinstance(outcome, Deferred) and acks:
                        outcome.addErrback(self._recheck, partition, request, data, version, now_ms)
                except UncheckedTransaction as error:
                    if not acks:  # who learns of failures by a closed connection cannot be told of one later
                        answers.append(self._not_appended(topic, data, by_id, error))
                        continue
                    unchecked.append(_Unchecked(error, partition, data, now_ms, acks, version))
                    outcome = unchecked[-1].appended
                except Exception as error:
                    answers.append(self._not_appended(topic, data, by_id, error))
                    continue
                answer = PartitionProduceResponse(index=data.index)
                answers.append(answer)
                taken = partial(_take, answer, partition, acks, waits)
                if isinstance(outcome, Deferred):
                    failed = partial(self._put_failure, answers, len(answers) - 1, topic, data, by_id)
                    turns.append(outcome.addCallbacks(taken, failed))
                else:
                    taken(outcome)
            responses.append(
                TopicProduceResponse(name=topic.name, topic_id=topic.topic_id, partition_responses=answers)
            )
        response = ProduceResponse(responses=responses)
        if unchecked:
            self._check(unchecked, request, version)
        if turns:
            return self._after_turns(response, turns, waits, request, received)
        if not acks:
            _close_on_error(responses)
            return None
        if not waits:
            self._latency.observe(self._clock() - received)
            return response
        return self._when_committed(response, waits, request.timeout_ms, received)

    def _check(self, unchecked: list[_Unchecked], request: ProduceRequest, version: int) -> None:
        """Append what the coordinator of the request's transaction agrees to."""
        pending = [item.pending for item in unchecked]
        self._transactional.append(pending, request.transactional_id, version >= _IMPLICIT_SINCE)
        for item in unchecked:
            item.data.records = item.pending.batch  # a copy, where it has to wait

    def _recheck(
        self,
        failure: Failure,
        partition: Partition,
        request: ProduceRequest,
        data: PartitionProduceData,
        version: int,
        now_ms: int,
    ) -> Any:
        """What had to wait for its turn to be prepared, and may turn out then to need the coordinator."""
        error = failure.value
        if not isinstance(error, UncheckedTransaction):
            return failure
        item = _Unchecked(error, partition, data, now_ms, request.acks, version)
        self._check([item], request, version)
        return item.appended

    def _append_in_turn(
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

    def _after_turns(
        self,
        response: ProduceResponse,
        turns: list[Deferred[Any]],
        waits: list[_Wait],
        request: ProduceRequest,
        received: float,
    ) -> HoldingUp:
        """`response` once all of `turns`, which put their results into it and into `waits`, have come."""

        async def come() -> ProduceResponse | None:
            await gatherResults(turns)
            if not request.acks:
                _close_on_error(response.responses)
                return None
            if waits:
                left_ms = request.timeout_ms - int((self._clock() - received) * 1000)
                committed: ProduceResponse = await self._when_committed(response, waits, left_ms, received)
                return committed
            self._latency.observe(self._clock() - received)
            return response

        coming = Deferred.fromCoroutine(come())
        answer = HoldingUp(lambda _: coming.cancel())
        coming.chainDeferred(answer)
        return answer

    def _put_failure(
        self,
        answers: list[PartitionProduceResponse],
        place: int,
        topic: TopicProduceData,
        data: PartitionProduceData,
        by_id: bool,
        failure: Failure,
    ) -> None:
        if failure.check(CancelledError):
            return  # the client is gone: nobody is answered
        answers[place] = self._not_appended(topic, data, by_id, failure.value)  # type: ignore[arg-type]

    def shape(self, frame: memoryview, version: int, request: ProduceRequest) -> ProduceShape | None:
        """What `handle_shaped` can serve requests by that repeat this one; None where each has to be decoded."""
        shape = ProduceShape.of(frame, version, request) if request.acks in _ACKS else None
        if shape is None:
            return None
        (topic,) = request.topic_data
        try:
            self._find(topic, topic.partition_data[0], shape.by_id)
        except KafkaError:
            return None
        return shape

    def handle_shaped(
        self, shape: ProduceShape, index: int, batch: memoryview, correlation_id: int, now_ms: int, received: float
    ) -> bytes | ProduceResponse | Deferred[Any] | None:
        """As `handle`, for a request of a known shape: the whole response frame, where nothing goes wrong or has to wait."""
        acks, by_id = shape.acks, shape.by_id
        try:
            if by_id:
                partition = self._replicas.partition_by_id(shape.topic_id, index)
            else:
                partition = self._replicas.partition(shape.topic, index)
            if partition.preparation is not None:
                return self._append(shape.request(index, batch), shape.key_and_version & 0xFFFF, now_ms, received)
            base_offset, end_offset, append_time, log_start = partition.append(batch, now_ms, acks)
        except UncheckedTransaction:
            return self._append(shape.request(index, batch), shape.key_and_version & 0xFFFF, now_ms, received)
        except Exception as error:
            (topic,) = shape.request(index, batch).topic_data
            answer = self._not_appended(topic, topic.partition_data[0], by_id, error)
            response = _alone(shape, answer)
            if not acks:
                _close_on_error(response.responses)
            return response
        if not acks:
            return None
        if partition.high_watermark < end_offset and (acks == _ALL or partition.syncs_first):
            answer = PartitionProduceResponse(
                index=index, base_offset=base_offset, log_append_time_ms=append_time, log_start_offset=log_start
            )
            return self._when_committed(
                _alone(shape, answer), [(partition, end_offset, answer)], shape.timeout_ms, received
            )
        self._latency.observe(self._clock() - received)
        return shape.answer(correlation_id, index, base_offset, append_time, log_start)

    def refuse(self, request: ProduceRequest, version: int, error: KafkaError) -> ProduceResponse:
        """`error` for every partition of the request. The unknown becomes a storage error, which producers retry.

        Raises CloseConnection when acks is 0: such a producer would take the answer for that of its next request.
        """
        if not request.acks:
            raise CloseConnection(f"Produce version {version} with acks=0 was refused: {error.message}")
        if error.code == ErrorCode.UNKNOWN_SERVER_ERROR:
            error = KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, error.message)
        return ProduceResponse(
            responses=[
                TopicProduceResponse(
                    name=topic.name,
                    topic_id=topic.topic_id,
                    partition_responses=[_failed(data.index, error) for data in topic.partition_data],
                )
                for topic in request.topic_data
            ]
        )

    def _not_appended(
        self, topic: TopicProduceData, data: PartitionProduceData, by_id: bool, error: Exception
    ) -> PartitionProduceResponse:
        """The answer for a batch whose append raised `error`."""
        if isinstance(error, KafkaError):
            if error.code == ErrorCode.KAFKA_STORAGE_ERROR:
                self._complaint.refused(str(error))
            return self._refused(topic, data, by_id, error)
        # An idempotent producer must not see an unknown error: it would give up its sequence (KAFKA-14034).
        self.log.failure("append to {topic}-{partition} failed", Failure(error), topic=topic.name, partition=data.index)
        return _failed(
            data.index, KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "the append failed; the node's log has the details")
        )

    def _find(self, topic: TopicProduceData, data: PartitionProduceData, by_id: bool) -> Partition:
        """The partition of `data`. Raises KafkaError, also for the node's own topics: clients have no say there."""
        if by_id:
            partition = self._replicas.partition_by_id(topic.topic_id, data.index)
        else:
            partition = self._replicas.partition(topic.name, data.index)
        name = partition.name.topic
        if name in INTERNAL_TOPICS:
            raise KafkaError(
                ErrorCode.INVALID_TOPIC_EXCEPTION, f"{name} is kept by the node; clients cannot append to it"
            )
        return partition

    def _refused(
        self, topic: TopicProduceData, data: PartitionProduceData, by_id: bool, error: KafkaError
    ) -> PartitionProduceResponse:
        """The answer for a refused batch.

        Like Kafka's, it has the log's start where it is the contents of one whole batch that are at fault, and names
        the record where that is known without decoding any: in a batch of one (KIP-467).
        """
        answer = _failed(data.index, error)
        if error.code in _AT_FAULT and data.records is not None and is_one_batch(data.records):
            answer.log_start_offset = self._find(topic, data, by_id).log_start_offset
            if error.code == ErrorCode.INVALID_TIMESTAMP and read_header(data.records).record_count == 1:
                answer.record_errors = [
                    BatchIndexAndErrorMessage(batch_index=0, batch_index_error_message=error.message)
                ]
        if isinstance(error, KeylessRecords):
            text = f"{topic.name}-{data.index} is compacted: a record needs a key"
            answer.record_errors = [
                BatchIndexAndErrorMessage(batch_index=each, batch_index_error_message=text) for each in error.indexes
            ]
        return answer

    def _when_committed(
        self,
        response: ProduceResponse,
        waits: list[_Wait],
        timeout_ms: int,
        received: float,
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


def _take(
    answer: PartitionProduceResponse, partition: Partition, acks: int, waits: list[_Wait], appended: Appended
) -> None:
    """Put where a batch went into its answer, and what that has still to wait for into `waits`."""
    answer.base_offset = appended.base_offset
    answer.log_append_time_ms = appended.append_time_ms
    answer.log_start_offset = appended.log_start
    if acks and partition.high_watermark < appended.end_offset and (acks == _ALL or partition.syncs_first):
        waits.append((partition, appended.end_offset, answer))


def _alone(shape: ProduceShape, answer: PartitionProduceResponse) -> ProduceResponse:
    """The response whose only answer is `answer`."""
    return ProduceResponse(
        responses=[TopicProduceResponse(name=shape.topic, topic_id=shape.topic_id, partition_responses=[answer])]
    )


def _failed(index: int, error: KafkaError) -> PartitionProduceResponse:
    return PartitionProduceResponse(
        index=index, error_code=error.code, base_offset=-1, log_start_offset=-1, error_message=error.message
    )


def _is_zstd(records: Buffer | None) -> bool:
    """Whether this is a batch in zstd; what is no batch is found out later."""
    return records is not None and is_one_batch(records) and read_header(records).attributes & CODEC_BITS == Codec.ZSTD


def _close_on_error(responses: list[TopicProduceResponse]) -> None:
    for topic in responses:
        for answer in topic.partition_responses:
            if answer.error_code:
                code = ErrorCode(answer.error_code).name
                raise CloseConnection(f"append to {topic.name}-{answer.index} with acks=0 failed: {code}")
