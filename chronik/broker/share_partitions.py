"""All share partitions that this node leads: loaded when they are first fetched, written, unlocked in time, and let go.

A share partition is a group's view of a partition, so it is led where the partition is. What became of records is kept by the
share coordinator (`IShareStates`), which is asked when a share partition is first fetched, and told of every change. One that
is fenced there, because it was set up anew or is led elsewhere, is let go, and loaded anew when it is fetched again.

Sources: KIP-932; Kafka 4.1.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from chronik.broker.interfaces import IReadablePartition, IReadablePartitions
from chronik.broker.purgatory import WaitingFetch
from chronik.broker.share_partition import SharePartition
from chronik.broker.share_sessions import Sharer, ShareSessions
from chronik.broker.share_tiles import Acknowledgement
from chronik.errors import ErrorCode, KafkaError
from chronik.group_config import (
    EARLIEST,
    KAFKA_TIMES,
    LATEST,
    READ_COMMITTED,
    READ_UNCOMMITTED,
    SHARE_ISOLATION,
    SHARE_LOCK_DURATION,
    SHARE_OFFSET_RESET,
    Bounded,
    reset_duration_ms,
)
from chronik.interfaces import IClusterMetadata, IPartitionHost, IShareStates, MetadataDelta
from chronik.model import PartitionId, SharePartitionKey, StateBatch, TopicPartition, uuid_to_text

_UNKNOWN = -1
_AT_ONCE = 500
"""Stretches of records that are written in one piece: some milliseconds."""
_AGAIN_SECONDS = 0.05
_MAX_AGAIN_SECONDS = 1.0

_UNAVAILABLE = frozenset(
    {ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS}
)
_FENCED = frozenset({ErrorCode.FENCED_LEADER_EPOCH, ErrorCode.FENCED_STATE_EPOCH})
_AS_IT_IS = frozenset({ErrorCode.GROUP_ID_NOT_FOUND, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION})


@dataclass(frozen=True, slots=True)
class ShareLimits:
    """What the node allows share groups, under Kafka's defaults."""

    max_sessions: int = 2_000
    max_record_locks: int = 2_000
    max_deliveries: int = 5
    lock: Bounded = KAFKA_TIMES.share_lock


class LedShare:
    """One share partition that is led here. `share` is None until it is loaded; `waiters` wait for it, or for records of it."""

    def __init__(self, key: SharePartitionKey, partition: IReadablePartition) -> None:
        self.key = key
        self.partition = partition
        self.leader_epoch = partition.leader_epoch
        self.state_epoch = 0
        self.kept_start = _UNKNOWN
        """The start offset that the share coordinator is known to have."""
        self.share: SharePartition | None = None
        self.error: KafkaError | None = None
        self.gone = False
        self.waiters: set[WaitingFetch] = set()
        self.wakeup: IDelayedCall | None = None

    def wake(self) -> None:
        """There may be records to give out now."""
        for waiter in tuple(self.waiters):
            waiter.wake()


@implementer(IPartitionHost)
class SharePartitions:
    """The share partitions over `partitions`, and the sessions of those who fetch them."""

    log = Logger()

    def __init__(
        self,
        partitions: IReadablePartitions,
        states: IShareStates,
        metadata: IClusterMetadata,
        limits: ShareLimits,
        clock: IReactorTime,
        wall_clock_ms: Callable[[], int],
    ) -> None:
        self.sessions = ShareSessions(limits.max_sessions)
        self.limits = limits
        self._partitions = partitions
        self._states = states
        self._metadata = metadata
        self._clock = clock
        self._wall_clock_ms = wall_clock_ms
        self._led: dict[SharePartitionKey, LedShare] = {}
        self._by_group: dict[str, set[SharePartitionKey]] = {}
        metadata.subscribe(self._changed)

    @property
    def now(self) -> int:
        """The clock of locks, in ms."""
        return int(self._clock.seconds() * 1000)

    # What groups have of their own.

    def lock_ms(self, group_id: str) -> int:
        """How long members of a group have records to themselves."""
        return self.limits.lock.of(self._metadata.group_configs(group_id), SHARE_LOCK_DURATION)

    def committed_only(self, group_id: str) -> bool:
        """Whether a group sees committed records alone."""
        isolation = self._metadata.group_configs(group_id).get(SHARE_ISOLATION, READ_UNCOMMITTED)
        return isolation == READ_COMMITTED

    # Finding and loading.

    def get(self, group_id: str, partition_id: PartitionId, check: bool = False) -> LedShare:
        """The share partition, loaded or being loaded. With `check`, one that was set up anew meanwhile is soon let go.

        Raises KafkaError: UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION.
        """
        key = SharePartitionKey(group_id, *partition_id)
        led = self._led.get(key)
        if led is None:
            led = self._led[key] = LedShare(key, self._partitions.partition_by_id(*partition_id))
            self._by_group.setdefault(group_id, set()).add(key)
            self._run(self._load(led), led)
        elif check and led.share is not None:
            self._run(self._check(led), led)
        return led

    def exists(self, partition_id: PartitionId) -> None:
        """Raises KafkaError(UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION) unless the partition is here."""
        self._partitions.partition_by_id(*partition_id)

    def known(self, group_id: str, partition_id: PartitionId) -> LedShare:
        """One that was fetched before. Raises KafkaError(UNKNOWN_TOPIC_OR_PARTITION)."""
        led = self._led.get(SharePartitionKey(group_id, *partition_id))
        if led is None or led.share is None:
            raise KafkaError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                f"nothing of {uuid_to_text(partition_id.topic_id)}-{partition_id.partition} was given to the group",
            )
        return led

    def _run(self, coroutine: Coroutine[Any, Any, None], led: LedShare) -> None:
        Deferred.fromCoroutine(coroutine).addErrback(
            lambda failure: self.log.failure("share partition {key} failed", failure, key=str(led.key))
        )

    async def _load(self, led: LedShare) -> None:
        """Waits for a coordinator that is not there yet: a member that is told so gives up (Kafka's leaders wait too)."""
        delay = _AGAIN_SECONDS
        while not led.gone:
            try:
                led.share = await self._begin(led)
            except KafkaError as error:
                if error.code in _UNAVAILABLE:
                    self.log.debug("share partition {key} waits: {error}", key=str(led.key), error=str(error))
                    await deferLater(self._clock, delay)
                    delay = min(2 * delay, _MAX_AGAIN_SECONDS)
                    continue
                led.error = _for_client(error)
            except ValueError as error:
                text = f"what is kept of {led.key} makes no sense: {error}"
                led.error = KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, text)
            break
        if led.error is not None:
            self.log.warn("share partition {key} is not loaded: {error}", key=str(led.key), error=str(led.error))
            self._drop(led)
        led.wake()

    async def _begin(self, led: LedShare) -> SharePartition:
        state = await self._states.read(led.key, led.leader_epoch)
        start = state.start_offset
        if start == _UNKNOWN:
            # Written before anything is given out: after a restart it must not be somewhere else.
            start = self._first_offset(led)
            await self._states.write(led.key, state.state_epoch, led.leader_epoch, start, ())
        led.state_epoch, led.kept_start = state.state_epoch, start
        return SharePartition(start, state.batches, self.limits.max_deliveries)

    async def _check(self, led: LedShare) -> None:
        """A write would be fenced too, but there may be nothing to write as long as what is known is of old.

        A group of the same name may have the same epochs, but it begins further back.
        """
        try:
            state = await self._states.read(led.key, led.leader_epoch)
            is_current = state.state_epoch == led.state_epoch and state.start_offset >= led.kept_start
        except KafkaError as error:
            is_current = error.code in _UNAVAILABLE
        if not is_current:
            self._drop(led)

    def _first_offset(self, led: LedShare) -> int:
        """Where a group begins that never read the partition. Raises KafkaError."""
        reset = self._metadata.group_configs(led.key.group_id).get(SHARE_OFFSET_RESET, LATEST)
        partition = led.partition
        if reset == EARLIEST:
            return partition.log_start_offset
        ago_ms = reset_duration_ms(reset)
        found = None if ago_ms is None else partition.offset_for_timestamp(self._wall_clock_ms() - ago_ms)
        return partition.high_watermark if found is None else found[1]

    # Letting go.

    def _drop(self, led: LedShare) -> None:
        led.gone = True
        if self._led.get(led.key) is led:
            del self._led[led.key]
            keys = self._by_group[led.key.group_id]
            keys.discard(led.key)
            if not keys:
                del self._by_group[led.key.group_id]
        if led.wakeup is not None and led.wakeup.active():
            led.wakeup.cancel()
        led.wake()

    def partition_led(self, partition: PartitionId, name: TopicPartition, leader_epoch: int) -> None:
        """Share partitions are loaded when they are fetched."""

    def partition_resigned(self, partition: PartitionId, name: TopicPartition) -> None:
        """Let go of what groups have of a partition."""
        for led in [led for key, led in self._led.items() if key[1:] == partition]:
            self._drop(led)

    def _changed(self, delta: MetadataDelta) -> None:
        """Let go of what groups have of saved searches that are deleted: nobody resigns these."""
        gone = {topic.topic_id for topic in delta.deleted if topic.search is not None}
        if gone:
            for led in [led for key, led in self._led.items() if key.topic_id in gone]:
                self._drop(led)

    def stop(self) -> None:
        """Let go of all."""
        for led in list(self._led.values()):
            self._drop(led)

    # Sessions that end.

    def close_session(self, sharer: Sharer) -> None:
        """A member is done here: what it has is free, and a group without members is let go."""
        if self.sessions.close(sharer):
            self._released([sharer])

    def disconnected(self, connection: Hashable) -> None:
        """A connection is gone, and the sessions that it had."""
        self._released(self.sessions.disconnected(connection))

    def _released(self, sharers: Sequence[Sharer]) -> None:
        for sharer in sharers:
            member = uuid_to_text(sharer.member_id)
            for led in self._led_for(sharer.group_id):
                if led.share is not None:
                    self._write_later(led, led.share.release(member))
        for group_id in {sharer.group_id for sharer in sharers}:
            if not self.sessions.has_members(group_id):
                for led in self._led_for(group_id):
                    self._drop(led)

    def _led_for(self, group_id: str) -> list[LedShare]:
        return [self._led[key] for key in self._by_group.get(group_id, ())]

    # Changes.

    def acknowledge(self, led: LedShare, member: str, acknowledgements: Sequence[Acknowledgement]) -> Deferred[None]:
        """Take what a member says of records; fires when it is in the log. Fails with KafkaError: all of it or nothing.

        Cancelling the result abandons the answer only.
        """
        answer: Deferred[None] = Deferred()
        taking = Deferred.fromCoroutine(self._acknowledge(led, member, acknowledgements))
        taking.addCallbacks(answer.callback, answer.errback)
        return answer

    async def _acknowledge(self, led: LedShare, member: str, acknowledgements: Sequence[Acknowledgement]) -> None:
        share = led.share
        assert share is not None
        change = share.acknowledge(member, acknowledgements)
        if not change.batches:
            return
        try:
            await self._write(led, change.batches)
        except KafkaError as error:
            share.failed(change)
            self._schedule(led)
            raise _for_client(error) from error
        share.committed(change)
        led.wake()

    async def _write(self, led: LedShare, batches: Sequence[StateBatch]) -> None:
        share = led.share
        assert share is not None
        start = share.start_offset
        try:
            await self._states.write(led.key, led.state_epoch, led.leader_epoch, start, batches)
        except KafkaError as error:
            if error.code not in _UNAVAILABLE:
                self.log.info("share partition {key} is let go: {error}", key=str(led.key), error=str(error))
                self._drop(led)
            raise
        led.kept_start = max(led.kept_start, start)

    def _write_later(self, led: LedShare, batches: Sequence[StateBatch]) -> None:
        """Write what counts already. What is lost of it costs a delivery count."""
        if batches:
            led.wake()
            writing = Deferred.fromCoroutine(self._write_all(led, batches))
            writing.addErrback(partial(self._not_written, led))

    async def _write_all(self, led: LedShare, batches: Sequence[StateBatch]) -> None:
        for start in range(0, len(batches), _AT_ONCE):
            if start:
                await deferLater(self._clock, 0)
            await self._write(led, batches[start : start + _AT_ONCE])

    def _not_written(self, led: LedShare, failure: Failure) -> None:
        if isinstance(failure.value, KafkaError):
            self.log.warn("{key}: released records were not noted: {error}", key=str(led.key), error=failure.value)
        else:
            self.log.failure("{key}: released records were not noted", failure, key=str(led.key))

    # Locks.

    def given(self, led: LedShare) -> None:
        """Records were given out: their locks end in time."""
        self._schedule(led)

    def _schedule(self, led: LedShare) -> None:
        due = None if led.share is None or led.gone else led.share.next_deadline()
        if due is None:
            return
        at = due / 1000
        if led.wakeup is not None and led.wakeup.active():
            if led.wakeup.getTime() <= at:
                return
            led.wakeup.cancel()
        led.wakeup = self._clock.callLater(max(0.0, at - self._clock.seconds()), self._expire, led)

    def _expire(self, led: LedShare) -> None:
        if led.share is not None and not led.gone:
            self._write_later(led, led.share.expire(self.now))
            self._schedule(led)


def _for_client(error: KafkaError) -> KafkaError:
    """What a member is told when its records' state cannot be read or written, by Kafka's codes."""
    if error.code in _UNAVAILABLE:
        return KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE, error.message)
    if error.code in _FENCED:
        return KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER, error.message)
    if error.code in _AS_IT_IS:
        return error
    return KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, error.message)
