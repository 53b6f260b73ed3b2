"""One led partition of `__consumer_offsets`: loads its shard from the log, carries out its effects, appends its records.

What is in memory is a replay of the log (`chronik.coordinator.replay`). An append that fails replays nothing, and what of it
may still have reached the log is found later. Appends are not waited for by the next one: several are on their way at a
time, and each answer leaves after its own.

Whatever goes over many records or groups is done in slices, one slice of one partition a turn of the reactor. A partition
whose log cannot be read is loaded anew, after a pause that doubles from one failure to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from enum import Enum
from itertools import islice
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import CooperativeTask, Cooperator, TaskStopped
from twisted.logger import Logger
from twisted.python.failure import Failure

from chronik.coordinator.effects import Answer, Append, Effects, Refuse, Store
from chronik.coordinator.records import Entry
from chronik.coordinator.replay import Replay
from chronik.coordinator.settings import GroupSettings
from chronik.coordinator.shard import Shard
from chronik.coordinator.subscriptions import Topics
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import ICommittedReader, ITransactionalWriter
from chronik.model import TopicPartition
from chronik.wire.records import NO_PRODUCER_ID, Record, encode_batch

SLICE_RECORDS = 200
"""Records replayed before the reactor gets its turn: about 3 ms."""

GROUPS_A_SLICE = 100
TOMBSTONES_A_BATCH = 500
"""Offsets deleted in one batch and one turn of the reactor: about 3 ms."""

FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 60.0

_NOT_AVAILABLE = frozenset(
    {ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.REQUEST_TIMED_OUT}
)
_NOT_COORDINATOR = frozenset({ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.KAFKA_STORAGE_ERROR})
_TOO_LARGE = frozenset({ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.RECORD_LIST_TOO_LARGE, ErrorCode.INVALID_FETCH_SIZE})


class HostState(Enum):
    """Where a partition is in its life here."""

    LOADING = "loading"
    ACTIVE = "active"
    FAILED = "failed"
    RESIGNED = "resigned"


class InTransaction(NamedTuple):
    """Whose transaction records belong to; `check` is what its coordinator has agreed to (`ITransactionalWriter`)."""

    producer_id: int
    producer_epoch: int
    check: Any


class HostedPartition:
    """A shard and its log. `load` comes first, `resign` last."""

    log = Logger()

    def __init__(
        self,
        name: TopicPartition,
        settings: GroupSettings,
        writer: ITransactionalWriter,
        reader: ICommittedReader,
        clock: IReactorTime,
        cooperator: Cooperator,
        wall_clock_ms: Callable[[], int],
        topics: Topics,
    ) -> None:
        self.name = name
        self.shard = Shard(settings, topics, wall_clock_ms)
        self._settings = settings
        self._topics = topics
        self.state = HostState.LOADING
        self._writer = writer
        self._reader = reader
        self._clock = clock
        self._cooperator = cooperator
        self._wall_clock_ms = wall_clock_ms
        self._replay: Replay | None = None
        self._wake: IDelayedCall | None = None
        self._retry: IDelayedCall | None = None
        self._retry_seconds = FIRST_RETRY_SECONDS
        self._tasks: set[CooperativeTask[Iterator[Deferred[None] | None]]] = set()
        self._load_waiters: list[Deferred[None]] = []
        self._sequence = 0
        self._outstanding: set[int] = set()
        self._settle_waiters: list[tuple[int, Deferred[None]]] = []

    @property
    def now(self) -> int:
        """The clock of deadlines, in ms."""
        return int(self._clock.seconds() * 1000)

    # Life.

    def load(self) -> None:
        """Begin to read the log; the partition is active when that is done."""
        self.state = HostState.LOADING
        Deferred.fromCoroutine(self._load()).addErrback(self._failed)

    async def _load(self) -> None:
        await self.settled()  # of an earlier life: none of its appends may end in the middle of this
        started = self._clock.seconds()
        self.shard = Shard(self._settings, self._topics, self._wall_clock_ms)
        self._replay = replay = Replay(self.name, self._reader, self.shard)
        await self._in_slices(_sliced(replay.steps(), SLICE_RECORDS))
        await self._in_slices(_sliced(self.shard.opening(self.now), GROUPS_A_SLICE))
        replay.catch_up()  # markers may have been written meanwhile
        self.state = HostState.ACTIVE
        self._retry_seconds = FIRST_RETRY_SECONDS
        note = self.log.info if self.shard.group_ids() else self.log.debug
        note(
            "loaded {partition}: {groups} groups from {records} records in {seconds:.3f} s",
            partition=str(self.name),
            groups=len(self.shard.group_ids()),
            records=replay.records,
            seconds=self._clock.seconds() - started,
        )
        self._schedule()
        self._loaded()

    def _failed(self, failure: Failure) -> None:
        """The log cannot be read, so memory may be behind it: nothing is served until it has been loaded anew."""
        if self.state is HostState.RESIGNED:
            return
        self.state = HostState.FAILED
        self.log.failure(
            "cannot read {partition}: its groups are not served; loading it again in {seconds:.0f} s",
            failure=failure,
            partition=str(self.name),
            seconds=self._retry_seconds,
        )
        self._retry = self._clock.callLater(self._retry_seconds, self.load)
        self._retry_seconds = min(2 * self._retry_seconds, LAST_RETRY_SECONDS)
        self.carry_out(self.shard.close(ErrorCode.NOT_COORDINATOR))

    def _loaded(self) -> None:
        waiters, self._load_waiters = self._load_waiters, []
        for waiter in waiters:
            waiter.callback(None)

    def loaded(self) -> Deferred[None]:
        """Fires when the partition is active or resigned, however often loading fails before."""
        if self.state in (HostState.ACTIVE, HostState.RESIGNED):
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._load_waiters.append(waiter)
        return waiter

    def resign(self) -> None:
        """The partition is led elsewhere, or gone: waiting requests are told to look for the coordinator again."""
        self.state = HostState.RESIGNED
        for task in list(self._tasks):
            task.stop()
        for call in (self._wake, self._retry):
            if call is not None and call.active():
                call.cancel()
        self.carry_out(self.shard.close(ErrorCode.NOT_COORDINATOR))
        self._loaded()

    def check(self) -> Shard:
        """The shard, when it may be asked. Raises KafkaError(COORDINATOR_LOAD_IN_PROGRESS, NOT_COORDINATOR, ...)."""
        if self.state is HostState.ACTIVE:
            return self.shard
        if self.state is HostState.LOADING:
            raise KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, f"{self.name} is being read")
        if self.state is HostState.FAILED:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE, f"{self.name} could not be read")
        raise self._not_led_here()

    def _not_led_here(self) -> KafkaError:
        return KafkaError(ErrorCode.NOT_COORDINATOR, f"{self.name} is not led here")

    async def _in_slices(self, slices: Iterator[Deferred[None] | None]) -> None:
        """Take the slices one a turn, in turn with other partitions; a Deferred is waited for.

        Raises KafkaError(NOT_COORDINATOR) when the partition is resigned meanwhile.
        """
        task = self._cooperator.cooperate(slices)
        self._tasks.add(task)
        try:
            await task.whenDone()
        except TaskStopped:
            raise self._not_led_here() from None
        finally:
            self._tasks.discard(task)

    # The log.

    def append(self, entries: Sequence[Entry], transaction: InTransaction | None = None) -> Deferred[None]:
        """Append `entries` as one batch, part of a `transaction` or of none; fires when they are committed and replayed.

        Fails with the KafkaError that a group's client is to be told. Cancelling the result abandons the answer only.
        """
        if self.state is not HostState.ACTIVE:
            return fail(self._not_led_here())
        if not entries:
            return succeed(None)
        done: Deferred[None] = Deferred()
        wall_ms = self._wall_clock_ms()
        records = [Record(i, wall_ms, *entry.encode()) for i, entry in enumerate(entries)]
        self._sequence += 1
        sequence = self._sequence
        self._outstanding.add(sequence)
        offsets = self.shard.offsets
        offsets.begin(entries)

        def ended(result: int | Failure) -> None:
            offsets.end(entries)
            error = self._ended(result, entries, NO_PRODUCER_ID if transaction is None else transaction.producer_id)
            self._outstanding.discard(sequence)
            if error is None:
                done.callback(None)
            else:
                done.errback(error)
            self._settle()

        maybeDeferred(self._write, records, transaction).addBoth(ended)
        return done

    def _write(self, records: Sequence[Record], transaction: InTransaction | None) -> Deferred[int]:
        if transaction is None:
            return self._writer.append(self.name, encode_batch(records))
        batch = encode_batch(
            records,
            producer_id=transaction.producer_id,
            producer_epoch=transaction.producer_epoch,
            transactional=True,
        )
        return self._writer.append_transactional(self.name, batch, transaction.check)

    def caught_up(self, next_offset: int) -> None:
        """Bring memory up to a marker that ends at `next_offset`. While the partition is loaded, that reads it anyway."""
        if self.state is HostState.ACTIVE and self._replay is not None:
            try:
                self._replay.catch_up(next_offset)
            except Exception:  # a wall: as in `_ended`
                self._failed(Failure())  # type: ignore[no-untyped-call]

    def _ended(self, result: int | Failure, entries: Sequence[Entry], producer_id: int) -> KafkaError | None:
        """Bring memory up to the log after an append; the error to answer when it failed."""
        failed = _answerable(result, self.log) if isinstance(result, Failure) else None
        if self.state is not HostState.ACTIVE or self._replay is None:
            return failed
        try:
            if isinstance(result, Failure):
                self._replay.catch_up()
            else:
                self._replay.appended(result, entries, producer_id)
        except Exception:  # a wall: whatever went wrong in reading, the next load has to put it right
            self._failed(Failure())  # type: ignore[no-untyped-call]
            return KafkaError(ErrorCode.NOT_COORDINATOR, f"{self.name} is not readable")
        return failed

    def _settle(self) -> None:
        oldest = min(self._outstanding, default=self._sequence + 1)
        waiters, self._settle_waiters = self._settle_waiters, []
        for sequence, waiter in waiters:
            if sequence < oldest:
                waiter.callback(None)
            else:
                self._settle_waiters.append((sequence, waiter))

    def settled(self) -> Deferred[None]:
        """Fires when all appends that were begun so far have ended."""
        if not self._outstanding:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._settle_waiters.append((self._sequence, waiter))
        return waiter

    # Effects and time.

    def carry_out(self, effects: Effects) -> None:
        """Answer and store, in order; and look after the next deadline. Tokens are the Deferreds of waiting requests."""
        for effect in effects:
            if isinstance(effect, Answer):
                effect.token.callback(effect.response)
            elif isinstance(effect, Refuse):
                effect.token.errback(effect.error)
            elif isinstance(effect, Append):
                self._append(effect)
            else:
                self._store(effect)
        self._schedule()

    def _append(self, append: Append) -> None:
        shard = self.shard

        def ended(result: Failure | None) -> None:
            error = None
            if isinstance(result, Failure):
                failed = result.value
                error = failed if isinstance(failed, KafkaError) else KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR)
            if self.state is HostState.ACTIVE and self.shard is shard:
                self.carry_out(shard.written(append.group_id, error, self.now))

        self.append(append.entries).addBoth(ended)

    def _store(self, store: Store) -> None:
        def ended(result: Failure | None) -> None:
            error = None
            if isinstance(result, Failure):
                error = result.value.code if isinstance(result.value, KafkaError) else ErrorCode.UNKNOWN_SERVER_ERROR
                self.log.warn(
                    "{partition}: group {group} was not stored: {error}",
                    partition=str(self.name),
                    group=store.group.group_id,
                    error=error.name,
                )
            if self.state is HostState.ACTIVE:
                self.carry_out(self.shard.stored_or_failed(store, error, self.now))

        self.append([self.shard.store_entry(store, self._wall_clock_ms())]).addBoth(ended)

    def _schedule(self) -> None:
        """Wake up at the shard's next deadline. A wake-up that comes too early does nothing but this."""
        deadline = self.shard.next_deadline()
        if deadline is None or self.state is not HostState.ACTIVE:
            return
        at = deadline / 1000
        if self._wake is not None and self._wake.active():
            if self._wake.getTime() <= at:
                return
            self._wake.cancel()
        self._wake = self._clock.callLater(max(0.0, at - self._clock.seconds()), self._woken)

    def _woken(self) -> None:
        now = self.now
        for _ in range(GROUPS_A_SLICE):
            effects = self.shard.expire(now)
            if effects is None:
                break
            self.carry_out(effects)
        self._schedule()

    # Deleting.

    async def clean(self) -> None:
        """Delete expired offsets, and groups of which nothing is left."""
        await self._in_slices(self._cleaning())

    def _cleaning(self) -> Iterator[Deferred[None]]:
        group_ids = iter(self.shard.group_ids())
        while self.state is HostState.ACTIVE and (some := list(islice(group_ids, GROUPS_A_SLICE))):
            wall_ms = self._wall_clock_ms()
            entries = [entry for group_id in some for entry in self.shard.clean(group_id, wall_ms)]
            yield Deferred.fromCoroutine(self.delete(entries))
            if self.state is HostState.ACTIVE:
                self.carry_out(self.shard.delete_unused(some))

    async def forget_topics(self, names: Collection[str], deleted_ms: int) -> None:
        """Delete all offsets of topics that were deleted at `deleted_ms`. What is committed later is of new topics.

        Raises KafkaError when deletions cannot be appended.
        """
        while self.state is not HostState.RESIGNED:
            await self.loaded()
            await self.settled()
            shard = self.shard
            await self._in_slices(self._forgetting(shard, names, deleted_ms))
            if self.state is HostState.ACTIVE and self.shard is shard:
                return

    def _forgetting(self, shard: Shard, names: Collection[str], deleted_ms: int) -> Iterator[Deferred[None] | None]:
        steps = shard.offsets.of_topics(names, deleted_ms)
        while some := list(islice(steps, TOMBSTONES_A_BATCH)):
            entries = [entry for entry in some if entry is not None]
            if self.state is not HostState.ACTIVE or self.shard is not shard:
                return
            yield self.append(entries) if entries else None

    async def delete(self, tombstones: Sequence[Entry]) -> None:
        """Append tombstones, in batches of a moderate size: all are sent before the first is waited for."""
        if len(tombstones) <= TOMBSTONES_A_BATCH:
            await self.append(tombstones)
            return
        sent: list[Deferred[None]] = []
        problems: list[Failure] = []
        await self._in_slices(self._sending(tombstones, sent, problems))
        for batch in sent:
            await batch
        if problems:
            problems[0].raiseException()

    def _sending(
        self, tombstones: Sequence[Entry], sent: list[Deferred[None]], problems: list[Failure]
    ) -> Iterator[None]:
        for start in range(0, len(tombstones), TOMBSTONES_A_BATCH):
            batch = self.append(tombstones[start : start + TOMBSTONES_A_BATCH])
            batch.addErrback(problems.append)
            sent.append(batch)
            yield


def _sliced(steps: Iterator[None], size: int) -> Iterator[None]:
    """Take the steps in slices of `size`."""
    while sum(1 for _ in islice(steps, size)):
        yield


def _answerable(failure: Failure, log: Logger) -> KafkaError:
    """What a group's client is told when an append failed: the errors of Produce are not among those it expects."""
    error = failure.value
    if not isinstance(error, KafkaError):
        log.failure("append to __consumer_offsets failed", failure=failure)
        return KafkaError(ErrorCode.NOT_COORDINATOR, "the append failed; the node's log has the details")
    if error.code in _NOT_AVAILABLE:
        return KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE, error.message)
    if error.code in _NOT_COORDINATOR:
        return KafkaError(ErrorCode.NOT_COORDINATOR, error.message)
    if error.code in _TOO_LARGE:
        return KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, error.message)
    return error
