"""ShareFetch: records for a member of a share group, to have to itself for a while; it may acknowledge earlier ones (KIP-932).

A request is a round of a share session. Its partitions are looked at in turn, another one first each time, until the limits of
records and bytes are reached; what is given out is handed on as whole batches, as the log has them. If there is nothing, the
round waits for commits, and for records that others give back, `max_wait_ms` at most.

Many partitions are looked at in slices, with other requests in between.
"""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import deferLater

from chronik.broker.purgatory import WaitingFetch
from chronik.broker.share_partitions import LedShare, SharePartitions
from chronik.broker.share_reading import Taken, Wanted, readable, take
from chronik.broker.share_sessions import Sharer, ShareRound
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.backlog import AnswerBacklog
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.sharing import acknowledge, outcomes, places, said, sharer
from chronik.listeners.slices import Slices
from chronik.listeners.throttling import Throttles
from chronik.model import PartitionId, uuid_to_text
from chronik.steps import Steps
from chronik.wire.apis import ApiKey
from chronik.wire.codec import Buffer
from chronik.wire.messages.share_fetch import (
    AcquiredRecords,
    PartitionData,
    ShareFetchableTopicResponse,
    ShareFetchRequest,
    ShareFetchResponse,
)

_RETRY_SECONDS = 0.05
"""How soon a round looks again, when the node's answers are over their budget."""


class _Target(NamedTuple):
    place: PartitionId
    led: LedShare | None
    error: KafkaError | None


class _Found:
    """What a round has found so far: of each partition that was read or refused."""

    def __init__(self) -> None:
        self.taken: dict[PartitionId, Taken] = {}
        self.errors: dict[PartitionId, KafkaError] = {}
        self.records = 0
        self.size = 0
        self.passed = False


class ShareFetchHandler:
    """Serves ShareFetch; an answer holds about `max_bytes` of records at most, and none waits longer than `max_wait_ms`."""

    api_key = ApiKey.SHARE_FETCH
    min_version = 1
    max_version = 1

    def __init__(
        self,
        shares: SharePartitions,
        reactor: Any,
        max_bytes: int,
        max_wait_ms: int,
        answers: AnswerBacklog,
        throttles: Throttles,
        slices: Slices,
    ) -> None:
        self._shares = shares
        self._reactor = reactor
        self._max_bytes = max_bytes
        self._max_wait_ms = max_wait_ms
        self._answers = answers
        self._throttles = throttles
        self._slices = slices

    def handle(self, request: ShareFetchRequest, context: RequestContext) -> Coroutine[Any, Any, ShareFetchResponse]:
        """Answered when there are records, when `max_wait_ms` have passed, and not before acknowledgements are in the log."""
        return self._fetch(request, context)

    def refuse(self, request: ShareFetchRequest, version: int, error: KafkaError) -> ShareFetchResponse:
        """The error, and what is wrong."""
        return ShareFetchResponse(error_code=error.code, error_message=error.message)

    async def _fetch(self, request: ShareFetchRequest, context: RequestContext) -> ShareFetchResponse:
        who = sharer(request.group_id, request.member_id)
        acknowledgements = await self._slices.take(said(request.topics))
        wanted = await self._slices.take(places(request.topics))
        forgotten = await self._slices.take(places(request.forgotten_topics_data))
        try:
            fetch_round = self._shares.sessions.fetch(
                who,
                request.share_session_epoch,
                wanted,
                forgotten,
                bool(acknowledgements),
                (context.listener, context.peer.connection_id),
            )
        except KafkaError as error:
            if error.code is ErrorCode.SHARE_SESSION_LIMIT_REACHED:  # its client would ask again at once
                await deferLater(self._reactor, self._wait_seconds(request))
            raise
        begun = await acknowledge(self._shares, who, acknowledgements, self._slices)
        found = _Found() if fetch_round is None else await self._round(fetch_round, who, request, context)
        codes = await outcomes(begun, self._slices)
        if fetch_round is None:
            self._shares.close_session(who)
        pause_ms = self._throttles.gave(context, found.size) if self._throttles.active and found.size else 0
        return ShareFetchResponse(
            throttle_time_ms=pause_ms,
            acquisition_lock_timeout_ms=self._shares.lock_ms(who.group_id),
            responses=await self._slices.take(_responses(fetch_round, found, codes)),
        )

    def _wait_seconds(self, request: ShareFetchRequest) -> float:
        return max(0, min(request.max_wait_ms, self._max_wait_ms)) / 1000

    # One round.

    async def _round(
        self, fetch_round: ShareRound, who: Sharer, request: ShareFetchRequest, context: RequestContext
    ) -> _Found:
        """Look until something is found or no time is left."""
        until = self._reactor.seconds() + self._wait_seconds(request)
        targets = [_Target(place, None, None) for place in fetch_round.targets]
        max_bytes = min(request.max_bytes, self._max_bytes)
        if self._throttles.active:
            max_bytes = min(max_bytes, self._throttles.most_to_fetch(context))
        while True:
            left = until - self._reactor.seconds()
            waiting: WaitingFetch | None = None
            woken: Deferred[object] = Deferred()
            try:
                if left > 0:  # watched before it is looked at: looking takes turns
                    waiting = WaitingFetch(max(1, request.min_bytes), woken.callback)
                found, targets = await self._look(
                    targets, who, request, max_bytes, waiting, fetch_round.full, left <= 0
                )
                refused_all = bool(found.errors) and len(found.errors) == len(targets)
                if waiting is None or found.records or refused_all or not targets:
                    return found
                if self._answers.full:
                    await deferLater(self._reactor, min(left, _RETRY_SECONDS))
                elif found.passed:
                    await deferLater(self._reactor, 0)
                else:
                    with suppress(TimeoutError):
                        await woken.addTimeout(max(0.0, left), self._reactor)
            finally:
                if waiting is not None:
                    waiting.forget()

    def _found(self, who: Sharer, target: _Target, check: bool) -> _Target:
        """The target as it is led now, or why it is not."""
        led = target.led
        if target.error is None and (led is None or (led.gone and led.error is None)):
            try:
                led = self._shares.get(who.group_id, target.place, check and led is None)
                if led.gone and led.error is None:  # it was let go just now
                    led = self._shares.get(who.group_id, target.place)
            except KafkaError as error:
                return target._replace(led=None, error=error)
        if led is not None and led.error is not None:
            return target._replace(led=None, error=led.error)
        return target._replace(led=led)

    async def _look(
        self,
        targets: list[_Target],
        who: Sharer,
        request: ShareFetchRequest,
        max_bytes: int,
        waiting: WaitingFetch | None,
        check: bool,
        is_last: bool,
    ) -> tuple[_Found, list[_Target]]:
        """One pass over all partitions, which begins to load them. With too few bytes it takes nothing, unless it `is_last`."""
        committed_only = self._shares.committed_only(who.group_id)
        current: list[_Target] = []
        found = _Found()
        acquirable: list[LedShare] = []
        missing = 0 if is_last or request.min_bytes <= 1 else request.min_bytes
        pace = self._slices.pace()
        for target in targets:
            await pace.turn()
            target = self._found(who, target, check)
            current.append(target)
            led = target.led
            if led is None:
                assert target.error is not None
                found.errors[target.place] = target.error
                continue
            if waiting is not None:
                waiting.watch(led.waiters)
                waiting.watch(led.partition.stable_waiters if committed_only else led.partition.fetch_waiters)
            if led.share is not None and led.share.may_acquire(self._shares.limits.max_record_locks):
                acquirable.append(led)
                if missing > 0:
                    missing -= self._readable(led, missing, committed_only)
        if missing > 0 and waiting is not None:
            waiting.more(request.min_bytes - missing)
        if self._answers.full or missing > 0 or request.max_records <= 0:
            return found, current
        for led in acquirable:
            await pace.turn()
            if found.records >= request.max_records:
                break
            if not led.gone:
                self._take(led, who, request, max_bytes // len(acquirable), max_bytes, committed_only, found)
        return found, current

    def _readable(self, led: LedShare, limit: int, committed_only: bool) -> int:
        assert led.share is not None
        try:
            return readable(led.share, led.partition, limit, committed_only)
        except KafkaError:
            return limit  # it says so when it is read

    def _take(
        self,
        led: LedShare,
        who: Sharer,
        request: ShareFetchRequest,
        share_of_bytes: int,
        max_bytes: int,
        committed_only: bool,
        found: _Found,
    ) -> None:
        assert led.share is not None
        place = PartitionId(led.key.topic_id, led.key.partition)
        wanted = Wanted(
            member=uuid_to_text(who.member_id),
            records=min(request.max_records - found.records, self._shares.limits.max_record_locks),
            batch_size=max(1, request.batch_size),
            size=min(share_of_bytes, max_bytes - found.size),
            committed_only=committed_only,
            lock_ms=self._shares.lock_ms(who.group_id),
            now=self._shares.now,
        )
        try:
            taken = take(led.share, led.partition, wanted, at_least_one=not found.size)
        except KafkaError as error:
            found.errors[place] = error
            return
        found.taken[place] = taken
        found.records += taken.records
        found.size += taken.size
        found.passed = found.passed or taken.passed
        if taken.acquired:
            self._shares.given(led)


def _responses(
    fetch_round: ShareRound | None, found: _Found, codes: dict[PartitionId, KafkaError | None]
) -> Steps[list[ShareFetchableTopicResponse]]:
    """What is told of each partition: records, errors, and how its acknowledgements went."""
    topics: dict[bytes, ShareFetchableTopicResponse] = {}
    answers: dict[PartitionId, PartitionData] = {}
    for place in [] if fetch_round is None else fetch_round.targets:
        yield
        taken, error = found.taken.get(place), found.errors.get(place)
        if taken is None and error is None:
            continue
        data = _data(place, taken, error)
        assert fetch_round is not None
        if fetch_round.select(place, data.error_code, bool(data.acquired_records)):
            answers[place] = data
    for place, refusal in codes.items():
        yield
        data = answers.setdefault(place, _data(place, None, None))
        if refusal is not None:
            data.acknowledge_error_code = refusal.code
            data.acknowledge_error_message = refusal.message
    for place, data in answers.items():
        yield
        topic = topics.get(place.topic_id)
        if topic is None:
            topic = topics[place.topic_id] = ShareFetchableTopicResponse(topic_id=place.topic_id)
        topic.partitions.append(data)
    return list(topics.values())


def _data(place: PartitionId, taken: Taken | None, error: KafkaError | None) -> PartitionData:
    data = PartitionData(partition_index=place.partition, records=b"")
    if error is not None:
        data.error_code, data.error_message = error.code, error.message
    elif taken is not None:
        data.records = _joined(taken.buffers)
        data.acquired_records = [
            AcquiredRecords(first_offset=first, last_offset=last, delivery_count=count)
            for first, last, count in taken.acquired
        ]
    return data


def _joined(buffers: list[Buffer]) -> Buffer:
    return buffers[0] if len(buffers) == 1 else b"".join(buffers)
