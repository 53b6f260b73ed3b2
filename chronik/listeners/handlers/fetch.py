"""Fetch: read record batches, at once or as soon as there are enough of them.

A request becomes a round of a fetch session (`broker.fetch_sessions`). Its partitions are read in order until the byte
limits are used up; the first one with data always gives at least one batch, however large (KIP-74). If that is less than
`min_bytes` the round waits in the purgatory of its partitions, is read again when enough was committed there, and is answered
by `max_wait_ms` in any case. Records are handed on as the log has them, without a copy.

A reader of isolation level read_committed sees what lies below the last stable offset, waits for that to move, and is told
the aborted transactions among what it gets, which it leaves out itself.

Where a saved search has no records, its readers come forward all the same (`gaps`).

A round of more than `LARGE` partitions is served in slices, with other requests in between.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred

from chronik.broker.fetch_sessions import FetchRound, FetchSessions, FetchTarget, PartitionKey, Seen
from chronik.broker.interfaces import IReadablePartition, IReadablePartitions
from chronik.broker.outcomes import Fetched
from chronik.broker.purgatory import WaitingFetch, Wakeups
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.backlog import AnswerBacklog
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.gaps import with_gap
from chronik.listeners.handlers.large_fetch import LargeFetches, target_of
from chronik.listeners.slices import Slices
from chronik.listeners.throttling import Throttles
from chronik.steps import Steps
from chronik.telemetry.metrics import Histogram
from chronik.wire.apis import ApiKey
from chronik.wire.messages.fetch import (
    AbortedTransaction,
    EpochEndOffset,
    FetchableTopicResponse,
    FetchRequest,
    FetchResponse,
    LeaderIdAndEpoch,
    PartitionData,
)

_LEADER_HINTS = 16  # KIP-951; the field is older, for followers
_LEADER_CHANGES = (ErrorCode.FENCED_LEADER_EPOCH, ErrorCode.NOT_LEADER_OR_FOLLOWER)
_NO_PARTITION = (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.UNKNOWN_TOPIC_ID)
_BY_ID = 13
_READ_UNCOMMITTED, _READ_COMMITTED = 0, 1
_CONSUMER = -1

LARGE = 500
"""Partitions of one round above which it is read and answered in slices: each takes the reactor some 10 us."""
MAX_WAITING_PARTITIONS = 500_000
"""Partitions of all waiting rounds together, some 400 bytes each; beyond, a fetch is answered with what there is."""


class Reading:
    """What was read of a round's partitions so far. `enough` ends the wait whatever `min_bytes` says.

    `remaining` bytes of records may still be read; the first partition with data gives a whole batch even so, unless
    `none_at_all`.
    """

    __slots__ = ("enough", "none_at_all", "remaining", "results", "size")

    def __init__(self, max_bytes: int, enough: bool, none_at_all: bool = False) -> None:
        self.results: list[tuple[FetchTarget, PartitionData]] = []
        self.size = 0
        self.enough = enough
        self.remaining = max_bytes
        self.none_at_all = none_at_all


class FetchHandler:
    """Serves Fetch to consumers from the partitions of `replicas`; an answer holds at most `max_bytes` of records.

    While `answers`, the node's budget, is spent, fetches that wait go on waiting, and get no records when their time is up.
    None waits longer than `max_wait_ms`.
    """

    api_key = ApiKey.FETCH
    min_version = 4
    max_version = 18

    def __init__(
        self,
        replicas: IReadablePartitions,
        sessions: FetchSessions,
        wakeups: Wakeups,
        latency: Histogram,
        clock: Callable[[], float],
        reactor: Any,
        max_bytes: int,
        max_wait_ms: int,
        answers: AnswerBacklog,
        throttles: Throttles,
        slices: Slices,
    ) -> None:
        self._replicas = replicas
        self._sessions = sessions
        self._wakeups = wakeups
        self._answers = answers
        self._throttles = throttles
        self._max_wait_ms = max_wait_ms
        self._large = LargeFetches(self, answers, slices, clock, reactor)
        self.waiting_partitions = 0
        self._latency = latency
        self._clock = clock
        self._reactor = reactor
        self._max_bytes = max_bytes

    def handle(
        self, request: FetchRequest, context: RequestContext
    ) -> FetchResponse | Deferred[Any] | Coroutine[Deferred[Any], Any, FetchResponse]:
        """Read; answer at once if that is enough, else when it is or when `max_wait_ms` have passed."""
        if request.isolation_level not in (_READ_UNCOMMITTED, _READ_COMMITTED):
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"there is no isolation level {request.isolation_level}")
        if self._throttles.active:
            request.max_bytes = min(request.max_bytes, self._throttles.most_to_fetch(context))
        by_id = context.api_version >= _BY_ID
        named = [
            (topic.topic_id if by_id else topic.topic, data) for topic in request.topics for data in topic.partitions
        ]
        fetch_round = self.begin(
            dict(map(target_of, named)),
            [
                (topic.topic_id if by_id else topic.topic, partition)
                for topic in request.forgotten_topics_data
                for partition in topic.partitions
            ],
            request,
            context,
        )
        if len(fetch_round.targets) > LARGE:
            return self._large.serve(fetch_round, request, context)
        reading = self.read(fetch_round, request, context)
        if reading.enough or reading.size >= request.min_bytes or not self.may_wait(fetch_round, request):
            self.answered(context)
            return self._respond(fetch_round, reading, context)
        return _DelayedFetch(self, fetch_round, request, context, reading).answer

    def handle_many(
        self, request: FetchRequest, context: RequestContext
    ) -> Steps[Coroutine[Deferred[Any], Any, FetchResponse]]:
        """As `handle`, of a request of many elements."""
        if request.isolation_level not in (_READ_UNCOMMITTED, _READ_COMMITTED):
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"there is no isolation level {request.isolation_level}")
        if self._throttles.active:
            request.max_bytes = min(request.max_bytes, self._throttles.most_to_fetch(context))
        return self._large.begin(request, context)

    def begin(
        self,
        targets: dict[PartitionKey, FetchTarget],
        forgotten: Sequence[PartitionKey],
        request: FetchRequest,
        context: RequestContext,
    ) -> FetchRound:
        """The round of a session, or of none, that a request is."""
        return self._sessions.begin(
            request.session_id,
            request.session_epoch,
            targets,
            forgotten,
            context.api_version >= _BY_ID,
            context.now_ms(),
        )

    def may_wait(self, fetch_round: FetchRound, request: FetchRequest) -> bool:
        """Whether there is room for this round among those that wait, and it is to."""
        held = self.waiting_partitions + len(fetch_round.targets)
        return request.max_wait_ms > 0 and held <= MAX_WAITING_PARTITIONS

    def wait_seconds(self, request: FetchRequest) -> float:
        """How long `request` may wait."""
        return min(request.max_wait_ms, self._max_wait_ms) / 1000

    def refuse(self, request: FetchRequest, version: int, error: KafkaError) -> FetchResponse:
        """The error at the top level, where version 7 and later have it, else for every partition."""
        if version >= 7:
            return FetchResponse(error_code=error.code)
        return FetchResponse(
            responses=[
                FetchableTopicResponse(
                    topic=topic.topic, partitions=[_failed(data.partition, error.code) for data in topic.partitions]
                )
                for topic in request.topics
            ]
        )

    def find(self, target: FetchTarget, by_id: bool) -> IReadablePartition:
        """The partition that `target` names. Raises KafkaError when it isn't here."""
        if by_id:
            return self._replicas.partition_by_id(target.topic, target.partition)  # type: ignore[arg-type]
        return self._replicas.partition(target.topic, target.partition)  # type: ignore[arg-type]

    def begin_reading(self, fetch_round: FetchRound, request: FetchRequest, none_at_all: bool) -> Reading:
        """An empty pass, with its limit of bytes."""
        limit = 0 if none_at_all else min(request.max_bytes, self._max_bytes)
        return Reading(limit, not fetch_round.targets, none_at_all)

    def read(
        self, fetch_round: FetchRound, request: FetchRequest, context: RequestContext, none: bool = False
    ) -> Reading:
        """One pass over the partitions of a round. With `none`, no records are read."""
        reading = self.begin_reading(fetch_round, request, none)
        self.read_some(reading, request, context, fetch_round.targets)
        return reading

    def read_some(
        self, reading: Reading, request: FetchRequest, context: RequestContext, targets: Sequence[FetchTarget]
    ) -> None:
        """Read `targets` as far as they go into `reading`."""
        version = context.api_version
        by_id = version >= _BY_ID
        results, remaining, size, enough = reading.results, reading.remaining, reading.size, reading.enough
        committed_only = request.isolation_level == _READ_COMMITTED
        replica = request.replica_id if request.replica_id != _CONSUMER else request.replica_state.replica_id
        for target in targets:
            try:
                partition = self.find(target, by_id)
                if replica >= 0:
                    raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER, f"node {replica} holds no replica of this")
                partition.check_leader_epoch(target.current_leader_epoch)
                diverging = partition.diverging_epoch(target.last_fetched_epoch, target.fetch_offset)
                if diverging is not None:
                    enough = True
                    data = PartitionData(
                        partition_index=target.partition,
                        high_watermark=partition.high_watermark,
                        last_stable_offset=partition.last_stable_offset,
                        log_start_offset=partition.log_start_offset,
                        diverging_epoch=EpochEndOffset(epoch=diverging[0], end_offset=diverging[1]),
                        records=b"",
                    )
                else:
                    limit = min(target.max_bytes, remaining)
                    fetched = partition.read(
                        target.fetch_offset, limit, committed_only, not (size or reading.none_at_all)
                    )
                    count = len(fetched.records)  # without the gap: nobody's wait ends for that
                    data = PartitionData(
                        partition_index=target.partition,
                        high_watermark=fetched.high_watermark,
                        last_stable_offset=partition.last_stable_offset,
                        log_start_offset=fetched.log_start,
                        aborted_transactions=_aborted(fetched) if committed_only else None,
                        records=with_gap(fetched, context.peer.software),
                    )
                    size += count
                    remaining = max(0, remaining - count)
                    enough = enough or fetched.limited
            except KafkaError as error:
                enough = True
                data = _failed(target.partition, error.code)
                if version >= _LEADER_HINTS and error.code in _LEADER_CHANGES:
                    data.current_leader = self._leader(target, by_id)
            results.append((target, data))
        reading.remaining, reading.size, reading.enough = remaining, size, enough

    def answered(self, context: RequestContext) -> None:
        """A request was served, without a wait on the way."""
        self._latency.observe(self._clock() - context.received)

    def _leader(self, target: FetchTarget, by_id: bool) -> LeaderIdAndEpoch:
        partition = self.find(target, by_id)
        return LeaderIdAndEpoch(leader_id=partition.leader, leader_epoch=partition.leader_epoch)

    def pause(self, reading: Reading, context: RequestContext) -> tuple[bool, int]:
        """Whether the client may have what was read, and how many ms it has to pause."""
        if not (self._throttles.active and reading.size):
            return True, 0
        return self._throttles.fetched(context, reading.size)

    def _respond(self, fetch_round: FetchRound, reading: Reading, context: RequestContext) -> FetchResponse:
        version = context.api_version
        may, pause_ms = self.pause(reading, context)
        if not may:
            return FetchResponse(session_id=fetch_round.session_id, throttle_time_ms=pause_ms)
        topics: dict[Any, FetchableTopicResponse] = {}
        self.select(fetch_round, topics, version >= _BY_ID, None, reading.results)
        return FetchResponse(
            session_id=fetch_round.session_id, throttle_time_ms=pause_ms, responses=list(topics.values())
        )

    def select(
        self,
        fetch_round: FetchRound,
        topics: dict[Any, FetchableTopicResponse],
        by_id: bool,
        encode: Callable[[PartitionData], Any] | None,
        results: Sequence[tuple[FetchTarget, PartitionData]],
    ) -> None:
        """Put what belongs into the answer into `topics`, in the form that `encode` gives it."""
        for target, data in results:
            records = data.records
            seen = Seen(data.high_watermark, data.log_start_offset)
            if not fetch_round.select(target, data.error_code, bool(records), seen):
                continue
            topic = topics.get(target.topic)
            if topic is None:
                topic = topics[target.topic] = FetchableTopicResponse()
                if by_id:
                    topic.topic_id = target.topic  # type: ignore[assignment]
                else:
                    topic.topic = target.topic  # type: ignore[assignment]
            topic.partitions.append(data if encode is None else encode(data))


class _DelayedFetch:
    """One fetch in the purgatory. Its `answer` fires with the response; cancelling it leaves the purgatory."""

    __slots__ = ("_context", "_handler", "_request", "_round", "_timer", "_waiting", "answer")

    def __init__(
        self,
        handler: FetchHandler,
        fetch_round: FetchRound,
        request: FetchRequest,
        context: RequestContext,
        reading: Reading,
    ) -> None:
        self._handler = handler
        self._round = fetch_round
        self._request = request
        self._context = context
        self.answer: Deferred[FetchResponse] = Deferred(self._cancelled)
        self._timer = handler._reactor.callLater(handler.wait_seconds(request), self._finish, True)
        handler.waiting_partitions += len(fetch_round.targets)
        self._watch(reading)

    def _watch(self, reading: Reading) -> None:
        handler = self._handler
        stable = self._request.isolation_level == _READ_COMMITTED
        self._waiting = WaitingFetch(self._request.min_bytes - reading.size, self._ready)
        for target in self._round.targets:
            partition = handler.find(target, self._context.api_version >= _BY_ID)
            self._waiting.watch(partition.stable_waiters if stable else partition.fetch_waiters)

    def _ready(self, _: WaitingFetch) -> None:
        self._handler._wakeups.add(partial(self._finish, False))

    def _cancelled(self, _: Deferred[FetchResponse]) -> None:
        self._waiting.forget()
        self._end()

    def _end(self) -> None:
        self._handler.waiting_partitions -= len(self._round.targets)
        if self._timer.active():
            self._timer.cancel()

    def _finish(self, timed_out: bool) -> None:
        """Read again, and answer if there is enough now or no time is left."""
        if self.answer.called:
            return
        handler = self._handler
        is_full = handler._answers.full
        if is_full and not timed_out:
            handler._answers.when_drained(self._drained)
            return
        started = handler._clock()
        self._waiting.forget()
        try:
            reading = handler.read(self._round, self._request, self._context, none=is_full)
            if not (timed_out or reading.enough or reading.size >= self._request.min_bytes):
                self._watch(reading)
                return
            response = handler._respond(self._round, reading, self._context)
        except Exception:
            self._end()
            self.answer.errback()
            return
        self._end()
        handler._latency.observe(handler._clock() - started)
        self.answer.callback(response)

    def _drained(self) -> None:
        """The node has room for answers again: those that waited for it take their turns."""
        if not self.answer.called:
            self._ready(self._waiting)


def _aborted(fetched: Fetched) -> list[AbortedTransaction]:
    return [AbortedTransaction(producer_id=one.producer_id, first_offset=one.first_offset) for one in fetched.aborted]


def _failed(partition: int, code: int) -> PartitionData:
    """A partition's refusal. As in Kafka, the list of aborted transactions is null when the partition at least exists."""
    return PartitionData(
        partition_index=partition,
        error_code=code,
        high_watermark=-1,
        aborted_transactions=[] if code in _NO_PARTITION else None,
        records=b"",
    )
