"""Fetch: read record batches, at once or as soon as there are enough of them.

A request becomes a round of a fetch session (`broker.fetch_sessions`). Its partitions are read in order until the byte
limits are used up; the first one with data always gives at least one batch, however large (KIP-74). If that is less than
`min_bytes` the round waits in the purgatory of its partitions, is read again when enough was committed there, and is answered
by `max_wait_ms` in any case. Records are handed on as the log has them, without a copy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from chronik.broker.fetch_sessions import FetchRound, FetchSessions, FetchTarget, PartitionKey, Seen
from chronik.broker.partition import Partition
from chronik.broker.purgatory import WaitingFetch, Wakeups
from chronik.broker.replicas import Replicas
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import RequestContext
from chronik.telemetry.metrics import Histogram
from chronik.wire.apis import ApiKey
from chronik.wire.messages.fetch import (
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


class _Reading(NamedTuple):
    """What one pass over a round's partitions gave. `enough` ends the wait whatever `min_bytes` says."""

    results: list[tuple[FetchTarget, PartitionData]]
    size: int
    enough: bool


class FetchHandler:
    """Serves Fetch to consumers from the partitions of `replicas`; an answer holds at most `max_bytes` of records."""

    api_key = ApiKey.FETCH
    min_version = 4
    max_version = 18

    def __init__(
        self,
        replicas: Replicas,
        sessions: FetchSessions,
        wakeups: Wakeups,
        latency: Histogram,
        clock: Callable[[], float],
        reactor: Any,
        max_bytes: int,
    ) -> None:
        self._replicas = replicas
        self._sessions = sessions
        self._wakeups = wakeups
        self._latency = latency
        self._clock = clock
        self._reactor = reactor
        self._max_bytes = max_bytes

    def handle(self, request: FetchRequest, context: RequestContext) -> FetchResponse | Deferred[Any]:
        """Read; answer at once if that is enough, else when it is or when `max_wait_ms` have passed."""
        if request.isolation_level not in (_READ_UNCOMMITTED, _READ_COMMITTED):
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"there is no isolation level {request.isolation_level}")
        by_id = context.api_version >= _BY_ID
        fetch_round = self._sessions.begin(
            request.session_id,
            request.session_epoch,
            _targets(request, by_id),
            [
                (topic.topic_id if by_id else topic.topic, partition)
                for topic in request.forgotten_topics_data
                for partition in topic.partitions
            ],
            by_id,
            context.now_ms(),
        )
        reading = self._read(fetch_round, request, context.api_version)
        if reading.enough or reading.size >= request.min_bytes or request.max_wait_ms <= 0:
            self._latency.observe(self._clock() - context.received)
            return self._respond(fetch_round, reading, by_id)
        return _DelayedFetch(self, fetch_round, request, context.api_version, reading).answer

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

    def find(self, target: FetchTarget, by_id: bool) -> Partition:
        """The partition that `target` names. Raises KafkaError when it isn't here."""
        if by_id:
            return self._replicas.partition_by_id(target.topic, target.partition)  # type: ignore[arg-type]
        return self._replicas.partition(target.topic, target.partition)  # type: ignore[arg-type]

    def _read(self, fetch_round: FetchRound, request: FetchRequest, version: int) -> _Reading:
        by_id = version >= _BY_ID
        results: list[tuple[FetchTarget, PartitionData]] = []
        remaining = min(request.max_bytes, self._max_bytes)
        size, enough = 0, not fetch_round.targets
        committed_only = request.isolation_level == _READ_COMMITTED
        replica = request.replica_id if request.replica_id != _CONSUMER else request.replica_state.replica_id
        for target in fetch_round.targets:
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
                    fetched = partition.read(target.fetch_offset, limit, committed_only, at_least_one=not size)
                    data = PartitionData(
                        partition_index=target.partition,
                        high_watermark=fetched.high_watermark,
                        last_stable_offset=partition.last_stable_offset,
                        log_start_offset=fetched.log_start,
                        aborted_transactions=[] if committed_only else None,
                        records=fetched.records,
                    )
                    count = len(fetched.records)
                    size += count
                    remaining = max(0, remaining - count)
                    enough = enough or fetched.limited
            except KafkaError as error:
                enough = True
                data = _failed(target.partition, error.code)
                if version >= _LEADER_HINTS and error.code in _LEADER_CHANGES:
                    data.current_leader = self._leader(target, by_id)
            results.append((target, data))
        return _Reading(results, size, enough)

    def _leader(self, target: FetchTarget, by_id: bool) -> LeaderIdAndEpoch:
        partition = self.find(target, by_id)
        return LeaderIdAndEpoch(leader_id=partition.leader, leader_epoch=partition.leader_epoch)

    def _respond(self, fetch_round: FetchRound, reading: _Reading, by_id: bool) -> FetchResponse:
        topics: dict[Any, FetchableTopicResponse] = {}
        for target, data in reading.results:
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
            topic.partitions.append(data)
        return FetchResponse(session_id=fetch_round.session_id, responses=list(topics.values()))


class _DelayedFetch:
    """One fetch in the purgatory. Its `answer` fires with the response; cancelling it leaves the purgatory."""

    __slots__ = ("_handler", "_request", "_round", "_timer", "_version", "_waiting", "answer")

    def __init__(
        self, handler: FetchHandler, fetch_round: FetchRound, request: FetchRequest, version: int, reading: _Reading
    ) -> None:
        self._handler = handler
        self._round = fetch_round
        self._request = request
        self._version = version
        self.answer: Deferred[FetchResponse] = Deferred(self._cancelled)
        self._timer = handler._reactor.callLater(request.max_wait_ms / 1000, self._finish, True)
        self._watch(reading)

    def _watch(self, reading: _Reading) -> None:
        handler = self._handler
        self._waiting = WaitingFetch(self._request.min_bytes - reading.size, self._ready)
        for target in self._round.targets:
            self._waiting.watch(handler.find(target, self._version >= _BY_ID).fetch_waiters)

    def _ready(self, _: WaitingFetch) -> None:
        self._handler._wakeups.add(partial(self._finish, False))

    def _cancelled(self, _: Deferred[FetchResponse]) -> None:
        self._waiting.forget()
        if self._timer.active():
            self._timer.cancel()

    def _finish(self, timed_out: bool) -> None:
        """Read again, and answer if there is enough now or no time is left."""
        if self.answer.called:
            return
        handler = self._handler
        started = handler._clock()
        self._waiting.forget()
        try:
            reading = handler._read(self._round, self._request, self._version)
            if not (timed_out or reading.enough or reading.size >= self._request.min_bytes):
                self._watch(reading)
                return
            response = handler._respond(self._round, reading, self._version >= _BY_ID)
        except Exception:
            if self._timer.active():
                self._timer.cancel()
            self.answer.errback()
            return
        if self._timer.active():
            self._timer.cancel()
        handler._latency.observe(handler._clock() - started)
        self.answer.callback(response)


def _targets(request: FetchRequest, by_id: bool) -> list[FetchTarget]:
    """What the request names, each partition once: of one that is named twice, the last counts."""
    targets: dict[PartitionKey, FetchTarget] = {}
    for topic in request.topics:
        name = topic.topic_id if by_id else topic.topic
        for data in topic.partitions:
            targets[name, data.partition] = FetchTarget(
                name,
                data.partition,
                data.fetch_offset,
                data.partition_max_bytes,
                data.current_leader_epoch,
                data.last_fetched_epoch,
                data.log_start_offset,
            )
    return list(targets.values())


def _failed(partition: int, code: int) -> PartitionData:
    """A partition's refusal. As in Kafka, the list of aborted transactions is null when the partition at least exists."""
    return PartitionData(
        partition_index=partition,
        error_code=code,
        high_watermark=-1,
        aborted_transactions=[] if code in _NO_PARTITION else None,
        records=b"",
    )
