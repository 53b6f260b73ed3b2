"""One led partition of `__share_group_state`: requests of one share partition take turns, and what is not needed is deleted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Cooperator
from twisted.python.failure import Failure

from chronik.coordinator.hosted import HostedPartition, HostState
from chronik.coordinator.settings import ShareSettings
from chronik.coordinator.share_records import ShareEntry, decode_share_entry
from chronik.coordinator.share_shard import ShareShard
from chronik.errors import KafkaError
from chronik.interfaces import ICommittedReader, ILogTrimmer, IPartitionWriter
from chronik.model import SharePartitionKey, TopicPartition, Uuid

_KEYS_A_SLICE = 100

_R = TypeVar("_R")
Decide = Callable[[ShareShard], tuple[ShareEntry | None, _R]]
"""Decides on what is in the log: the record to write, if any, and the answer that is due once it is written."""


class ShareStatePartition(HostedPartition[ShareShard, ShareEntry]):
    """The share partitions of one partition of the topic."""

    def __init__(
        self,
        name: TopicPartition,
        settings: ShareSettings,
        exists: Callable[[Uuid, int], bool],
        writer: IPartitionWriter,
        reader: ICommittedReader,
        trimmer: ILogTrimmer,
        clock: IReactorTime,
        cooperator: Cooperator,
        wall_clock_ms: Callable[[], int],
    ) -> None:
        super().__init__(
            name,
            lambda: ShareShard(settings, exists),
            decode_share_entry,
            writer,
            reader,
            clock,
            cooperator,
            wall_clock_ms,
        )
        self._settings = settings
        self._trimmer = trimmer
        self._busy: set[SharePartitionKey] = set()
        self._waiting: dict[SharePartitionKey, deque[tuple[Deferred[Any], Decide[Any]]]] = {}

    @property
    def wall_ms(self) -> int:
        """The time in ms since 1970."""
        return self._wall_clock_ms()

    def _closed(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for turns in waiting.values():
            for answer, _ in turns:
                answer.errback(self._not_led_here())

    # Turns.

    def take_turn(self, key: SharePartitionKey, decide: Decide[_R]) -> Deferred[_R]:
        """Decide when nothing of the share partition is on its way; fires with the answer when the record is in the log.

        Fails with the KafkaError that the decision raises, or with what the append fails with.
        """
        if key in self._busy:
            answer: Deferred[_R] = Deferred()
            self._waiting.setdefault(key, deque()).append((answer, decide))
            return answer
        try:
            entry, result = decide(self.check())
        except KafkaError as error:
            return fail(error)
        if entry is None:
            return succeed(result)
        self._busy.add(key)
        return self.append([entry]).addBoth(self._written, key, result)

    def _written(self, outcome: Failure | None, key: SharePartitionKey, result: _R) -> _R | Failure:
        self._busy.discard(key)
        turns = self._waiting.get(key)
        while turns and key not in self._busy:
            answer, decide = turns.popleft()
            if not answer.called:
                self.take_turn(key, decide).addBoth(answer.callback)
        if not turns:
            self._waiting.pop(key, None)
        return outcome if isinstance(outcome, Failure) else result

    # Tidying up.

    async def tidy(self) -> None:
        """Say anew what stands far back in the log, and give up the log before what is needed. Raises KafkaError."""
        if self.state is not HostState.ACTIVE:
            return
        before_ms = self.wall_ms - self._settings.share_coordinator_cold_partition_snapshot_interval_ms
        await self._in_slices(self._refreshing(self.shard.cold(before_ms)))
        offset = self.check().redundant_before()
        start, _, _ = self._reader.bounds(self.name)
        if offset > start:
            await self._trimmer.trim(self.name, offset)

    def _refreshing(self, keys: Iterable[SharePartitionKey]) -> Iterator[Deferred[None] | None]:
        for key in keys:
            if self.state is not HostState.ACTIVE:
                return
            yield self.take_turn(key, lambda shard, key=key: (shard.refresh(key, self.wall_ms), None))  # type: ignore[misc]

    async def forget_topics(self, topic_ids: Iterable[Uuid]) -> None:
        """Keep nothing of deleted topics. Raises KafkaError when that cannot be appended."""
        while self.state is not HostState.RESIGNED:
            await self.loaded()
            await self.settled()
            shard = self.shard
            entries = shard.of_topics(topic_ids)
            for start in range(0, len(entries), _KEYS_A_SLICE):
                await self.append(entries[start : start + _KEYS_A_SLICE])
            if self.state is HostState.ACTIVE and self.shard is shard:
                return
