"""One led partition of `__consumer_offsets`: loads its shard from the log, carries out its effects, appends its records.

Memory is the log read up to `_applied`, always. An append that succeeds at that offset is replayed from memory; one that
succeeds beyond it makes the gap be read from the log first; one that fails replays nothing, and what of it may still have
reached the log is found as such a gap. Appends are not waited for by the next one: several are on their way at a time, and
each answer leaves after its own.

Loading reads whole batches and decodes them in slices, with the reactor free between two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from itertools import islice

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from chronik.coordinator.effects import Answer, Effects, Store
from chronik.coordinator.records import Entry, decode_entry
from chronik.coordinator.settings import GroupSettings
from chronik.coordinator.shard import Shard
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import ICommittedReader, IPartitionWriter
from chronik.model import TopicPartition
from chronik.wire.records import Record, decode_records, encode_batch, split_batches

SLICE_RECORDS = 200
"""Records replayed before the reactor gets its turn: about 3 ms."""

GROUPS_A_SLICE = 100
_READ_BYTES = 64 * 1024
_TOMBSTONES_A_BATCH = 500
_MAX_DECOMPRESSED = 64 * 1024 * 1024

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


class HostedPartition:
    """A shard and its log. `load` comes first, `resign` last."""

    log = Logger()

    def __init__(
        self,
        name: TopicPartition,
        settings: GroupSettings,
        writer: IPartitionWriter,
        reader: ICommittedReader,
        clock: IReactorTime,
        wall_clock_ms: Callable[[], int],
    ) -> None:
        self.name = name
        self.shard = Shard(settings)
        self.state = HostState.LOADING
        self._writer = writer
        self._reader = reader
        self._clock = clock
        self._wall_clock_ms = wall_clock_ms
        self._applied = 0
        self._wake: IDelayedCall | None = None
        self._loading: Deferred[None] | None = None
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
        self._loading = Deferred.fromCoroutine(self._load())
        self._loading.addErrback(self._load_failed)

    async def _load(self) -> None:
        started = self._clock.seconds()
        self._applied, _, _ = self._reader.bounds(self.name)
        records = 0
        while data := self._reader.read(self.name, self._applied, _READ_BYTES):
            for entries in _slices(self._replayed(data)):
                records += entries
                await deferLater(self._clock, 0)
        self.shard.open(self.now)
        self.state = HostState.ACTIVE
        note = self.log.info if self.shard.groups else self.log.debug
        note(
            "loaded {partition}: {groups} groups from {records} records in {seconds:.3f} s",
            partition=str(self.name),
            groups=len(self.shard.groups),
            records=records,
            seconds=self._clock.seconds() - started,
        )
        self._schedule()
        self._loaded()

    def _load_failed(self, failure: Failure) -> None:
        if isinstance(failure.value, CancelledError):
            return
        self.state = HostState.FAILED
        self.log.failure(
            "cannot load {partition}: its groups are not served until this node leads it anew",
            failure=failure,
            partition=str(self.name),
        )
        self._loaded()

    def _loaded(self) -> None:
        waiters, self._load_waiters = self._load_waiters, []
        for waiter in waiters:
            waiter.callback(None)

    def loaded(self) -> Deferred[None]:
        """Fires when loading is over, in whatever way."""
        if self.state is not HostState.LOADING:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._load_waiters.append(waiter)
        return waiter

    def resign(self) -> None:
        """The partition is led elsewhere, or gone: waiting requests are told to look for the coordinator again."""
        self.state = HostState.RESIGNED
        if self._loading is not None:
            self._loading.cancel()
        if self._wake is not None and self._wake.active():
            self._wake.cancel()
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
        raise KafkaError(ErrorCode.NOT_COORDINATOR, f"{self.name} is not led here")

    # The log.

    def _replayed(self, data: bytes, stop: int | None = None) -> Iterator[None]:
        """Replay the batches in `data` from `_applied` on and before offset `stop`, a step a record."""
        view = memoryview(data)
        for position, header in split_batches(data):
            if stop is not None and header.base_offset >= stop:
                return
            if header.last_offset < self._applied:
                continue
            if header.transactional or header.control:
                # Nothing writes these before transactions are served; an open transaction's offsets must never show.
                self.log.warn(
                    "{partition}: skipped the transactional batch at {offset}",
                    partition=str(self.name),
                    offset=header.base_offset,
                )
            else:
                for record in decode_records(view[position : position + header.size], _MAX_DECOMPRESSED):
                    if record.offset >= self._applied:
                        entry = decode_entry(record.key, record.value)
                        if entry is not None:
                            self.shard.replay(entry)
                        self._applied = record.offset + 1
                    yield
            self._applied = header.next_offset

    def _catch_up(self, stop: int | None = None) -> None:
        """Replay what is committed in the log before `stop` and not in memory yet: the batches of appends that failed."""
        while (stop is None or self._applied < stop) and (
            data := self._reader.read(self.name, self._applied, _READ_BYTES)
        ):
            before = self._applied
            for _ in self._replayed(data, stop):
                pass
            if self._applied == before:
                return

    def append(self, entries: Sequence[Entry]) -> Deferred[None]:
        """Append `entries` as one batch; fires when they are committed and replayed.

        Fails with the KafkaError that a group's client is to be told. Cancelling the result abandons the answer only.
        """
        done: Deferred[None] = Deferred()
        if not entries:
            done.callback(None)
            return done
        wall_ms = self._wall_clock_ms()
        batch = encode_batch(Record(i, wall_ms, *entry.encode()) for i, entry in enumerate(entries))
        self._sequence += 1
        sequence = self._sequence
        self._outstanding.add(sequence)
        self.shard.offsets.begin(entries)

        def ended(result: int | Failure) -> None:
            self.shard.offsets.end(entries)
            error = self._ended(result, entries)
            self._outstanding.discard(sequence)
            if error is None:
                done.callback(None)
            else:
                done.errback(error)
            self._settle()

        maybeDeferred(self._writer.append, self.name, batch).addBoth(ended)
        return done

    def _ended(self, result: int | Failure, entries: Sequence[Entry]) -> KafkaError | None:
        """Bring memory up to the log after an append; the error to answer when it failed."""
        if self.state is HostState.RESIGNED:
            return _answerable(result, self.log) if isinstance(result, Failure) else None
        try:
            if isinstance(result, Failure):
                self._catch_up()
                return _answerable(result, self.log)
            self._catch_up(result)
            if result >= self._applied:
                for entry in entries:
                    self.shard.replay(entry)
                self._applied = result + len(entries)
        except KafkaError as problem:
            # The log cannot be read: memory may be behind it, so this partition is served no longer.
            self.log.error(
                "{partition}: {problem}; its groups are not served until this node leads it anew",
                partition=str(self.name),
                problem=str(problem),
            )
            self.state = HostState.FAILED
            self.carry_out(self.shard.close(ErrorCode.NOT_COORDINATOR))
            return KafkaError(ErrorCode.NOT_COORDINATOR, f"{self.name} is not readable")
        return None

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
            else:
                self._store(effect)
        self._schedule()

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

    async def clean(self) -> None:
        """Delete expired offsets, and groups of which nothing is left."""
        group_ids = list(self.shard.groups)
        for start in range(0, len(group_ids), GROUPS_A_SLICE):
            if self.state is not HostState.ACTIVE:
                return
            wall_ms = self._wall_clock_ms()
            entries = [
                entry
                for group_id in group_ids[start : start + GROUPS_A_SLICE]
                for entry in self.shard.clean(group_id, wall_ms)
            ]
            await self.delete(entries)
            await deferLater(self._clock, 0)

    async def delete(self, tombstones: Sequence[Entry]) -> None:
        """Append tombstones, in batches of a moderate size: all are sent before the first is waited for."""
        batches = [
            self.append(tombstones[start : start + _TOMBSTONES_A_BATCH])
            for start in range(0, len(tombstones), _TOMBSTONES_A_BATCH)
        ]
        problem: KafkaError | None = None
        for batch in batches:
            try:
                await batch
            except KafkaError as error:
                problem = error
        if problem is not None:
            raise problem


def _slices(steps: Iterator[None]) -> Iterator[int]:
    """Take the steps in slices; a number for each slice that was done."""
    while done := sum(1 for _ in islice(steps, SLICE_RECORDS)):
        yield done


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
