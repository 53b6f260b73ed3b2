"""One led partition of `__consumer_offsets`: carries out the effects of its groups, wakes them up, and deletes what expired.

Whatever goes over many groups or offsets is done in slices, one slice of one partition a turn of the reactor.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Cooperator
from twisted.python.failure import Failure

from chronik.coordinator.effects import Answer, Append, Effects, Initialise, Refuse, Store
from chronik.coordinator.hosted import HostedPartition, HostState
from chronik.coordinator.records import Entry, decode_entry
from chronik.coordinator.settings import GroupSettings
from chronik.coordinator.shard import Shard
from chronik.coordinator.share_group import without
from chronik.coordinator.share_settling import among, each_partition
from chronik.coordinator.subscriptions import Topics
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import ICommittedReader, IShareStates, ITransactionalWriter
from chronik.model import TopicPartition, Uuid
from chronik.wire.records import Record, encode_batch

_UNKNOWN = -1
"""A start offset that is left to the partition's leader to find."""
GROUPS_A_SLICE = 100
TOMBSTONES_A_BATCH = 500
"""Offsets deleted in one batch and one turn of the reactor: about 3 ms."""


class InTransaction(NamedTuple):
    """Whose transaction records belong to; `check` is what its coordinator has agreed to (`ITransactionalWriter`)."""

    producer_id: int
    producer_epoch: int
    check: Any


class GroupPartition(HostedPartition[Shard, Entry]):
    """A partition of `__consumer_offsets`: carries out the effects of its groups, wakes them up, and deletes."""

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
        states: IShareStates,
    ) -> None:
        new_shard = partial(Shard, settings, topics, wall_clock_ms)
        super().__init__(name, new_shard, decode_entry, writer, reader, clock, cooperator, wall_clock_ms)
        self._transactional_writer = writer
        self._states = states
        self._wake: IDelayedCall | None = None

    def _opened(self) -> None:
        self._schedule()

    def _closed(self) -> None:
        if self._wake is not None and self._wake.active():
            self._wake.cancel()
        self.carry_out(self.shard.close(ErrorCode.NOT_COORDINATOR))

    def append_in_transaction(self, entries: Sequence[Entry], transaction: InTransaction) -> Deferred[None]:
        """As `append`, as a part of a `transaction`: it counts when that is committed."""

        def write(records: Sequence[Record]) -> Deferred[int]:
            batch = encode_batch(
                records,
                producer_id=transaction.producer_id,
                producer_epoch=transaction.producer_epoch,
                transactional=True,
            )
            return self._transactional_writer.append_transactional(self.name, batch, transaction.check)

        return self._append(entries, write, transaction.producer_id)

    # Effects and time.

    def carry_out(self, effects: Effects) -> None:
        """Answer and store, in order; and look after the next deadline. Tokens are the Deferreds of waiting requests."""
        for effect in effects:
            if isinstance(effect, Answer):
                effect.token.callback(effect.response)
            elif isinstance(effect, Refuse):
                effect.token.errback(effect.error)
            elif isinstance(effect, Append):
                self._write(effect)
            elif isinstance(effect, Initialise):
                self._run(self._initialise(effect))
            else:
                self._store(effect)
        self._schedule()

    def _write(self, append: Append) -> None:
        shard = self.shard

        def ended(result: Failure | None) -> None:
            error = None
            if isinstance(result, Failure):
                failed = result.value
                error = failed if isinstance(failed, KafkaError) else KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR)
            if self.state is HostState.ACTIVE and self.shard is shard:
                self.carry_out(shard.written(append.group_id, error, self.now))

        self.append(append.entries).addBoth(ended)

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        Deferred.fromCoroutine(coroutine).addErrback(
            lambda failure: self.log.failure(
                "{partition}: a share group is not set up", failure, partition=str(self.name)
            )
        )

    async def _initialise(self, effect: Initialise) -> None:
        """Have state kept of a share group's partitions, and tell the group."""
        shard, group_id = self.shard, effect.group_id
        failures = await each_partition(
            group_id, effect.topics, lambda key: self._states.initialise(key, effect.state_epoch, _UNKNOWN), self._clock
        )
        for error in list(failures.values())[:1]:
            self.log.warn(
                "{partition}: no state is kept of {count} partition(s) of share group {group}, for now: {error}",
                partition=str(self.name),
                count=len(failures),
                group=group_id,
                error=str(error),
            )
        failed = among(effect.topics, failures)
        if self.state is HostState.ACTIVE and self.shard is shard:
            kept = without(effect.topics, failed)
            self.carry_out(shard.shares.settled(group_id, kept, failed, None, self.now))

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

    async def forget_share_state(self, topic_ids: Collection[Uuid]) -> None:
        """Take what deleted topics had out of what share groups know."""
        while self.state is not HostState.RESIGNED:
            await self.loaded()
            shard = self.shard
            await self._in_slices(self._carrying_out(shard.shares.forget_topics(topic_ids, self.now)))
            if self.state is HostState.ACTIVE and self.shard is shard:
                return

    def _carrying_out(self, steps: Iterator[Effects]) -> Iterator[None]:
        for effects in steps:
            if self.state is HostState.ACTIVE:
                self.carry_out(effects)
            yield

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
