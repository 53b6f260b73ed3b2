"""Produce: append one record batch to each of some partitions.

The batch stays opaque: its header and CRC are checked, base offset and leader epoch are patched in place in the receive
buffer, and the bytes are appended. `acks=all` waits for the high watermark, which on topics of durability `fsync` moves
when the bytes are on disk; there `acks=1` waits for it too. `acks=0` is never answered; if its append fails the connection
is closed, which is how such a producer learns of it. What has to be compressed anew, or looked through for records without a
key, may have to wait for its turn; meanwhile its connection stands still.

A connection repeats itself: what is common to its requests is kept as a `ProduceShape`, and `handle_shaped` serves those
that fit it without decoding or encoding a message.

A transactional batch whose producer has no transaction open in the partition comes back unappended, and is appended by
`broker.transactional` once the transaction's coordinator has agreed. Such a producer must want an answer (acks). A request
with transactional batches that names no transactional id is refused as a whole.

Versions 0 to 2 are advertised, because old librdkafka refuses to compress otherwise (KAFKA-18659), and refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from chronik.broker.checks import UncheckedTransaction
from chronik.broker.outcomes import Appended
from chronik.broker.partition import Partition
from chronik.broker.replicas import Replicas
from chronik.broker.transactional import PendingBatch, TransactionalAppends, produce_error
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import ITransactions
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.produce_refusals import (
    FLAGS_AT,
    Refusals,
    check_transactional_id,
    close_on_error,
    refuse_all,
    refused,
)
from chronik.listeners.handlers.produce_waiting import ALL, Wait, Waiting, take
from chronik.listeners.parts import joined_topics, topics_in_parts
from chronik.model import INTERNAL_TOPICS
from chronik.steps import Steps
from chronik.telemetry.metrics import Histogram
from chronik.wire.apis import ApiKey
from chronik.wire.batches import CODEC_BITS, TRANSACTIONAL_BIT
from chronik.wire.codec import Buffer
from chronik.wire.compression import Codec
from chronik.wire.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from chronik.wire.produce_shape import ProduceShape
from chronik.wire.records import is_one_batch, read_header

_ACKS = (0, 1, ALL)
_BY_ID = 13
_ZSTD_SINCE = 7
_ZSTD_TOO_NEW = (ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, f"zstd needs Produce {_ZSTD_SINCE} or later (KIP-110)")
_ABORTABLE_SINCE = 11
"""Clients of this version know TRANSACTION_ABORTABLE."""
_IMPLICIT_SINCE = 12
"""Clients of this version leave it to the broker to add partitions to their transactions (transactions v2)."""


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
        self._waiting = Waiting(latency, clock, reactor)
        self._refusals = Refusals(self._find, clock)

    def handle(self, request: ProduceRequest, context: RequestContext) -> ProduceResponse | Deferred[Any] | None:
        """Append every batch; answer at once, or when what must be waited for is committed."""
        acks = request.acks
        check_transactional_id(request)
        if acks not in _ACKS:
            raise KafkaError(ErrorCode.INVALID_REQUIRED_ACKS, f"acks is {acks}; 0, 1 and -1 (all) exist")
        return self._append(request, context.api_version, context.now_ms(), context.received)

    def _append(
        self, request: ProduceRequest, version: int, now_ms: int, received: float
    ) -> ProduceResponse | Deferred[Any] | None:
        acks, by_id, zstd_is_known = request.acks, version >= _BY_ID, version >= _ZSTD_SINCE
        unchecked: list[_Unchecked] = []
        responses: list[TopicProduceResponse] = []
        waits: list[Wait] = []
        turns: list[Deferred[Any]] = []
        for topic in request.topic_data:
            answers = []
            for data in topic.partition_data:
                try:
                    partition = self._find(topic, data, by_id)
                    if not zstd_is_known and _is_zstd(data.records):
                        answers.append(refused(data.index, KafkaError(*_ZSTD_TOO_NEW)))
                        continue
                    if partition.preparation is None:
                        outcome: Appended | Deferred[Appended] = partition.append(data.records, now_ms, acks)
                    else:
                        outcome = self._waiting.append_in_turn(
                            partition.preparation, data, now_ms, acks, request.timeout_ms
                        )
                    if isinstance(outcome, Deferred) and acks:
                        outcome.addErrback(self._recheck, partition, request, data, version, now_ms)
                except UncheckedTransaction as error:
                    if not acks:  # who learns of failures by a closed connection cannot be told of one later
                        answers.append(self._refusals.not_appended(topic, data, by_id, error))
                        continue
                    unchecked.append(_Unchecked(error, partition, data, now_ms, acks, version))
                    outcome = unchecked[-1].appended
                except Exception as error:
                    answers.append(self._refusals.not_appended(topic, data, by_id, error))
                    continue
                answer = PartitionProduceResponse(index=data.index)
                answers.append(answer)
                taken = partial(take, answer, partition, acks, waits)
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
            return self._waiting.after_turns(response, turns, waits, request, received)
        if not acks:
            close_on_error(responses)
            return None
        if not waits:
            self._latency.observe(self._clock() - received)
            return response
        return self._waiting.when_committed(response, waits, request.timeout_ms, received)

    def _check(self, unchecked: list[_Unchecked], request: ProduceRequest, version: int) -> None:
        """Append what the coordinator of the request's transaction agrees to."""
        assert request.transactional_id is not None  # it has a transactional batch
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
        answers[place] = self._refusals.not_appended(topic, data, by_id, failure.value)  # type: ignore[arg-type]

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
        if shape.transactional_id is None and len(batch) > FLAGS_AT and batch[FLAGS_AT] & TRANSACTIONAL_BIT:
            request = shape.request(index, batch)
            try:
                check_transactional_id(request)
            except KafkaError as error:
                return refuse_all(request, shape.key_and_version & 0xFFFF, error)
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
            answer = self._refusals.not_appended(topic, topic.partition_data[0], by_id, error)
            response = _alone(shape, answer)
            if not acks:
                close_on_error(response.responses)
            return response
        if not acks:
            return None
        if partition.high_watermark < end_offset and (acks == ALL or partition.syncs_first):
            answer = PartitionProduceResponse(
                index=index, base_offset=base_offset, log_append_time_ms=append_time, log_start_offset=log_start
            )
            return self._waiting.when_committed(
                _alone(shape, answer), [(partition, end_offset, answer)], shape.timeout_ms, received
            )
        self._latency.observe(self._clock() - received)
        return shape.answer(correlation_id, index, base_offset, append_time, log_start)

    in_turn = False

    def parts(self, request: ProduceRequest) -> Iterator[ProduceRequest]:
        """Requests for some partitions each, whose batches are appended in the same order."""
        return topics_in_parts(request, "topic_data", "partition_data")

    def joined(self, answers: Sequence[ProduceResponse]) -> Steps[ProduceResponse]:
        """One answer of those to the parts."""
        named = attrgetter("name", "topic_id")
        responses = yield from joined_topics([answer.responses for answer in answers], named, "partition_responses")
        return ProduceResponse(responses=responses)

    def refuse(self, request: ProduceRequest, version: int, error: KafkaError) -> ProduceResponse:
        """`error` for every partition of the request. Raises CloseConnection when acks is 0."""
        return refuse_all(request, version, error)

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


def _alone(shape: ProduceShape, answer: PartitionProduceResponse) -> ProduceResponse:
    """The response whose only answer is `answer`."""
    return ProduceResponse(
        responses=[TopicProduceResponse(name=shape.topic, topic_id=shape.topic_id, partition_responses=[answer])]
    )


def _is_zstd(records: Buffer | None) -> bool:
    """Whether this is a batch in zstd; what is no batch is found out later."""
    return records is not None and is_one_batch(records) and read_header(records).attributes & CODEC_BITS == Codec.ZSTD
