"""One led partition of a coordinator's topic: loads its shard from the log and appends its records.

What is in memory is a replay of the log (`chronik.coordinator.replay`). An append that fails replays nothing, and what of it
may still have reached the log is found later. Appends are not waited for by the next one: several are on their way at a
time, and each answer leaves after its own.

Whatever goes over many records is done in slices, one slice of one partition a turn of the reactor. A partition whose log
cannot be read is loaded anew, after a pause that doubles from one failure to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from itertools import islice
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import CooperativeTask, Cooperator, TaskStopped
from twisted.logger import Logger
from twisted.python.failure import Failure

from chronik.coordinator.hosting import HostedShard, LogEntry
from chronik.coordinator.replay import Replay
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import ICommittedReader, IPartitionWriter
from chronik.model import TopicPartition
from chronik.wire.records import NO_PRODUCER_ID, Record, encode_batch

SLICE_RECORDS = 200
"""Records replayed before the reactor gets its turn: about 3 ms."""

OPENED_A_SLICE = 100

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


_E = TypeVar("_E", bound=LogEntry)
_S = TypeVar("_S", bound=HostedShard[Any])


class HostedPartition(Generic[_S, _E]):
    """A shard and its log. `load` comes first, `resign` last.

    `new_shard` makes an empty shard, and `decode` an entry of a record. The methods `_opened`, `_appended` and `_closed`
    are for what a coordinator does at these moments.
    """

    log = Logger()

    def __init__(
        self,
        name: TopicPartition,
        new_shard: Callable[[], _S],
        decode: Callable[[bytes | None, bytes | None], _E | None],
        writer: IPartitionWriter,
        reader: ICommittedReader,
        clock: IReactorTime,
        cooperator: Cooperator,
        wall_clock_ms: Callable[[], int],
    ) -> None:
        self.name = name
        self.shard = new_shard()
        self._new_shard = new_shard
        self._decode = decode
        self.state = HostState.LOADING
        self._writer = writer
        self._reader = reader
        self._clock = clock
        self._cooperator = cooperator
        self._wall_clock_ms = wall_clock_ms
        self._replay: Replay[_E] | None = None
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
        self.shard = self._new_shard()
        self._replay = replay = Replay(self.name, self._reader, self.shard, self._decode)
        await self._in_slices(_sliced(replay.steps(), SLICE_RECORDS))
        await self._in_slices(_sliced(self.shard.opening(self.now), OPENED_A_SLICE))
        replay.catch_up()  # markers may have been written meanwhile
        self.state = HostState.ACTIVE
        self._retry_seconds = FIRST_RETRY_SECONDS
        held = self.shard.held()
        note = self.log.info if held else self.log.debug
        note(
            "loaded {partition}: {held} from {records} records in {seconds:.3f} s",
            partition=str(self.name),
            held=held or "nothing",
            records=replay.records,
            seconds=self._clock.seconds() - started,
        )
        self._opened()
        self._loaded()

    def _failed(self, failure: Failure) -> None:
        """The log cannot be read, so memory may be behind it: nothing is served until it has been loaded anew."""
        if self.state is HostState.RESIGNED:
            return
        self.state = HostState.FAILED
        self.log.failure(
            "cannot read {partition}: what it holds is not served; loading it again in {seconds:.0f} s",
            failure=failure,
            partition=str(self.name),
            seconds=self._retry_seconds,
        )
        self._retry = self._clock.callLater(self._retry_seconds, self.load)
        self._retry_seconds = min(2 * self._retry_seconds, LAST_RETRY_SECONDS)
        self._closed()

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
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        self._closed()
        self._loaded()

    def _opened(self) -> None:
        """The shard is loaded, and asked from now on."""

    def _appended(self, entries: Sequence[_E]) -> None:
        """An append has ended and its result is told: memory has caught up with the log."""

    def _closed(self) -> None:
        """The shard is not asked any more: it is resigned, or to be loaded anew."""

    def check(self) -> _S:
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

    def append(self, entries: Sequence[_E]) -> Deferred[None]:
        """Append `entries` as one batch; fires when they are committed and replayed.

        Fails with the KafkaError that a coordinator's client is to be told. Cancelling the result abandons the answer only.
        """
        return self._append(entries, lambda records: self._writer.append(self.name, encode_batch(records)))

    def _append(
        self,
        entries: Sequence[_E],
        write: Callable[[Sequence[Record]], Deferred[int]],
        producer_id: int = NO_PRODUCER_ID,
    ) -> Deferred[None]:
        """As `append`, by `write`; of a transaction of the producer where there is one."""
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
        shard = self.shard
        shard.begin(entries)

        def ended(result: int | Failure) -> None:
            shard.end(entries)
            error = self._ended(result, entries, producer_id)
            self._outstanding.discard(sequence)
            if error is None:
                done.callback(None)
            else:
                done.errback(error)
            self._settle()
            if self.state is HostState.ACTIVE and self.shard is shard:
                self._appended(entries)

        maybeDeferred(write, records).addBoth(ended)
        return done

    def _ended(self, result: int | Failure, entries: Sequence[_E], producer_id: int) -> KafkaError | None:
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

    def caught_up(self, next_offset: int) -> None:
        """Bring memory up to a marker that ends at `next_offset`. While the partition is loaded, that reads it anyway."""
        if self.state is HostState.ACTIVE and self._replay is not None:
            try:
                self._replay.catch_up(next_offset)
            except Exception:  # a wall: as in `_ended`
                self._failed(Failure())  # type: ignore[no-untyped-call]

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


def _sliced(steps: Iterator[None], size: int) -> Iterator[None]:
    """Take the steps in slices of `size`."""
    while sum(1 for _ in islice(steps, size)):
        yield


def _answerable(failure: Failure, log: Logger) -> KafkaError:
    """What a client is told when an append failed: the errors of Produce are not among those it expects."""
    error = failure.value
    if not isinstance(error, KafkaError):
        log.failure("an append to a coordinator's topic failed", failure=failure)
        return KafkaError(ErrorCode.NOT_COORDINATOR, "the append failed; the node's log has the details")
    if error.code in _NOT_AVAILABLE:
        return KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE, error.message)
    if error.code in _NOT_COORDINATOR:
        return KafkaError(ErrorCode.NOT_COORDINATOR, error.message)
    if error.code in _TOO_LARGE:
        return KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, error.message)
    return error
