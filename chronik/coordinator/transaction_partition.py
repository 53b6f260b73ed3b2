"""One led partition of `__transaction_state`: completes what is prepared, aborts what is over its time, forgets what expired.

A transaction is completed from its record alone, wherever that comes from: an append of just now, one that was thought to have
failed, or the log that was loaded after a crash. Markers first, then the record that all are written: a crash between the two
writes the markers again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Cooperator, deferLater
from twisted.python.failure import Failure

from chronik.coordinator.hosted import HostedPartition, HostState
from chronik.coordinator.markers import Markers
from chronik.coordinator.settings import TransactionSettings
from chronik.coordinator.transaction import Transaction
from chronik.coordinator.transaction_records import TransactionEntry, decode_transaction_entry
from chronik.coordinator.transaction_shard import TransactionShard
from chronik.errors import KafkaError
from chronik.interfaces import ICommittedReader, IPartitionWriter
from chronik.model import TopicPartition

IDS_A_SLICE = 100
FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 5.0


class TransactionPartition(HostedPartition[TransactionShard, TransactionEntry]):
    """The transactional ids of one partition. `coordinator_epoch` is its leader epoch, which markers carry.

    `level` tells that of feature `transaction.version`.
    """

    def __init__(
        self,
        name: TopicPartition,
        settings: TransactionSettings,
        level: Callable[[], int],
        coordinator_epoch: int,
        markers: Markers,
        writer: IPartitionWriter,
        reader: ICommittedReader,
        clock: IReactorTime,
        cooperator: Cooperator,
        wall_clock_ms: Callable[[], int],
    ) -> None:
        super().__init__(
            name,
            lambda: TransactionShard(settings, level),
            decode_transaction_entry,
            writer,
            reader,
            clock,
            cooperator,
            wall_clock_ms,
        )
        self.coordinator_epoch = coordinator_epoch
        self._markers = markers
        self._completions: set[Deferred[None]] = set()
        self._waiting: dict[str, list[Deferred[None]]] = {}

    @property
    def wall_ms(self) -> int:
        """The time in ms since 1970."""
        return self._wall_clock_ms()

    def _opened(self) -> None:
        self._complete_prepared()

    def _appended(self, entries: Sequence[TransactionEntry]) -> None:
        self._complete_prepared()
        for transactional_id, _ in entries:
            if transactional_id in self._waiting and not self.shard.is_between(transactional_id):
                self._wake(transactional_id)

    def _closed(self) -> None:
        for completion in list(self._completions):
            completion.cancel()
        for transactional_id in list(self._waiting):
            self._wake(transactional_id)

    # Waiting.

    async def settled_down(self, transactional_id: str, seconds: float) -> None:
        """Return when the id takes requests again or the partition closes, after `seconds` at the latest."""
        waiter: Deferred[None] = Deferred(lambda waiter: waiter.callback(None))
        self._waiting.setdefault(transactional_id, []).append(waiter)
        timer = self._clock.callLater(seconds, waiter.cancel)
        try:
            await waiter
        finally:
            if timer.active():
                timer.cancel()
            waiters = self._waiting.get(transactional_id, [])
            if waiter in waiters:
                waiters.remove(waiter)
            if not waiters:
                self._waiting.pop(transactional_id, None)

    def _wake(self, transactional_id: str) -> None:
        for waiter in self._waiting.pop(transactional_id, ()):
            waiter.callback(None)

    # Completing.

    def _complete_prepared(self) -> None:
        prepared = iter(self.shard.take_prepared())
        for transactional_id, state in islice(prepared, IDS_A_SLICE):
            self._begin_completion(self.shard, transactional_id, state)
        rest = list(prepared)
        if rest:
            self._run(self._in_slices(self._beginning(self.shard, rest)))

    def _beginning(self, shard: TransactionShard, prepared: Sequence[tuple[str, Transaction]]) -> Iterator[None]:
        for position, (transactional_id, state) in enumerate(prepared):
            if position % IDS_A_SLICE == 0:
                yield
            if self.shard is not shard or self.state is not HostState.ACTIVE:
                return
            self._begin_completion(shard, transactional_id, state)

    def _begin_completion(self, shard: TransactionShard, transactional_id: str, prepared: Transaction) -> None:
        self._run(self._complete(shard, transactional_id, prepared))

    def _run(self, coroutine: object) -> None:
        """Let it run until the partition closes."""
        running: Deferred[None] = Deferred.fromCoroutine(coroutine)  # type: ignore[arg-type]
        if running.called and not isinstance(running.result, Failure):
            return
        self._completions.add(running)

        def ended(result: Failure | None) -> None:
            self._completions.discard(running)
            if isinstance(result, Failure) and not isinstance(result.value, CancelledError | KafkaError):
                self.log.failure("{partition}: a transaction is not completed", result, partition=str(self.name))

        running.addBoth(ended)

    async def _complete(self, shard: TransactionShard, transactional_id: str, prepared: Transaction) -> None:
        if not await self._markers.write(transactional_id, prepared, self.coordinator_epoch):
            return
        pause = FIRST_RETRY_SECONDS
        while self.state is HostState.ACTIVE and self.shard is shard:
            entry = shard.completed(transactional_id, prepared, self.wall_ms)
            if entry is None:
                return
            try:
                await self.append([entry])
                return
            except KafkaError as error:
                self.log.warn(
                    "{partition}: {transactional_id} has its markers, which could not be noted: {error}; "
                    "trying again in {pause:.1f} s",
                    partition=str(self.name),
                    transactional_id=transactional_id,
                    error=str(error),
                    pause=pause,
                )
            await deferLater(self._clock, pause)
            pause = min(2 * pause, LAST_RETRY_SECONDS)

    # Time.

    async def abort_timed_out(self) -> None:
        """Abort the transactions that are open for longer than their timeout."""
        if self.state is HostState.ACTIVE:
            await self._in_slices(self._aborting(self.shard))

    def _aborting(self, shard: TransactionShard) -> Iterator[None]:
        now_ms = self.wall_ms
        # All of them first: one whose abort fails is watched again, and due at once.
        for transactional_id in list(iter(lambda: shard.timed_out(now_ms), None)):
            if self.shard is not shard or self.state is not HostState.ACTIVE:
                return
            entry = shard.abort(transactional_id, now_ms)
            if entry is None:
                shard.watch(transactional_id)
            else:
                self._abort(shard, entry)
            yield

    def _abort(self, shard: TransactionShard, entry: TransactionEntry) -> None:
        def ended(result: Failure | None) -> None:
            shard.watch(entry.transactional_id)
            failed = isinstance(result, Failure)
            note = self.log.warn if failed else self.log.info
            note(
                "{partition}: the transaction of {transactional_id} is open beyond its timeout: {outcome}",
                partition=str(self.name),
                transactional_id=entry.transactional_id,
                outcome=f"not aborted: {result.getErrorMessage()}" if isinstance(result, Failure) else "aborted",
            )

        self.append([entry]).addBoth(ended)

    async def remove_expired(self) -> None:
        """Forget the transactional ids that were not used for long. Raises KafkaError when that cannot be appended."""
        if self.state is HostState.ACTIVE:
            await self._in_slices(self._removing(self.shard))

    def _removing(self, shard: TransactionShard) -> Iterator[Deferred[None] | None]:
        ids = iter(list(shard.transactions))
        while some := list(islice(ids, IDS_A_SLICE)):
            if self.shard is not shard or self.state is not HostState.ACTIVE:
                return
            entries = shard.expired(some, self.wall_ms)
            yield self.append(entries) if entries else None
