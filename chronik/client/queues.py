"""What a producer holds: the records of all topics, in their partitions' queues, and how much that is.

A record gets its partition here: the one it names, its key's, or the topic's sticky one. Records of a topic whose partitions
are not known yet wait apart. The queues count the bytes of all unanswered records, and say when there is room again and when
nothing is left.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

from twisted.internet.defer import Deferred

from chronik.client.batches import PartitionQueue, PendingRecord, ProducerBatch
from chronik.client.errors import DeliveryTimedOut
from chronik.client.metadata import Metadata
from chronik.client.partitioner import StickyPartition, partition_for_key
from chronik.errors import RETRIABLE, ErrorCode, KafkaError
from chronik.model import TopicPartition


class RecordMetadata(NamedTuple):
    """Where a record is. `offset` is -1 when the broker didn't say; the timestamp is the log's for LogAppendTime."""

    partition: TopicPartition
    offset: int
    timestamp_ms: int


class _Early(NamedTuple):
    """A record that came before its topic's partitions were known. `born` is in seconds."""

    record: PendingRecord
    waiter: Deferred[RecordMetadata]
    partition: int | None
    size: int
    born: float


class _Topic:
    """A topic's queues; `count` is its number of partitions, 0 while unknown."""

    def __init__(self, choose: random.Random) -> None:
        self.count = 0
        self.queues: dict[int, PartitionQueue] = {}
        self.sticky = StickyPartition(choose)
        self.early: list[_Early] = []


class RecordQueues:
    """The queues of one producer. `active` has those that may have something to send."""

    def __init__(
        self, metadata: Metadata, choose: random.Random, *, batch_bytes: int, buffer_bytes: int, max_in_flight: int
    ) -> None:
        self.active: dict[PartitionQueue, None] = {}
        self.buffered = 0
        """Bytes of the records that were not answered for yet."""
        self._metadata = metadata
        self._choose = choose
        self._batch_bytes = batch_bytes
        self._buffer_bytes = buffer_bytes
        self._max_in_flight = max_in_flight
        self._topics: dict[str, _Topic] = {}
        self._room: list[Deferred[None]] = []
        self._empty: list[Deferred[None]] = []

    # --- in

    def add(
        self,
        topic: str,
        record: PendingRecord,
        waiter: Deferred[RecordMetadata],
        partition: int | None,
        size: int,
        now: float,
    ) -> bool | None:
        """Take a record in. True when that filled a batch, None when the topic's partitions must be found out first."""
        state = self._topics.get(topic)
        if state is None:
            state = self._topics[topic] = _Topic(self._choose)
        self.buffered += size
        if not state.count:
            state.early.append(_Early(record, waiter, partition, size, now))
            return None
        return self._enqueue(topic, state, record, waiter, partition, size, now)

    def _enqueue(
        self,
        topic: str,
        state: _Topic,
        record: PendingRecord,
        waiter: Deferred[RecordMetadata],
        partition: int | None,
        size: int,
        now: float,
    ) -> bool:
        sticky = False
        if partition is None:
            if record.key is not None:
                partition = partition_for_key(record.key, state.count)
            else:
                sticky = True
                partition = state.sticky.partition
                if partition < 0:
                    partition = self._move(topic, state)
        elif not 0 <= partition < state.count:
            message = f"topic {topic!r} has partitions 0 to {state.count - 1}, not {partition}"
            self._fail_early(
                [_Early(record, waiter, partition, size, now)],
                KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, message),
            )
            return False
        queue = state.queues.get(partition)
        if queue is None:
            queue = PartitionQueue(TopicPartition(topic, partition), self._batch_bytes, self._max_in_flight)
            state.queues[partition] = queue
        filled = queue.append(record, waiter, size, now)
        self.active[queue] = None
        if filled and sticky:
            self._move(topic, state)
        return filled

    def _move(self, topic: str, state: _Topic) -> int:
        leader = self._metadata.leader
        available = [p for p in range(state.count) if leader(TopicPartition(topic, p)) >= 0]
        return state.sticky.move(state.count, available)

    # --- what the metadata say

    def topics(self) -> list[str]:
        """The names of all topics that anything was sent to."""
        return list(self._topics)

    @property
    def unplaced(self) -> bool:
        """Whether records wait for their topic's partitions to be known."""
        return any(state.early for state in self._topics.values())

    def leaderless(self) -> Iterator[PartitionQueue]:
        """Queues with records whose partition has no known leader."""
        for queue in list(self.active):
            if not queue.idle and self._metadata.leader(queue.partition) < 0:
                yield queue

    def place(self, now: float, problem: Exception | None, timeout: float, create: bool) -> None:
        """Put records into queues where the metadata now have their topic. Fail those whose topic won't come: refused, not
        there (unless the cluster is to `create` it), or waited for longer than `timeout` seconds; `problem` is what the last
        request for metadata failed with."""
        for name, state in self._topics.items():
            topic = self._metadata.topics.get(name)
            if topic is not None and topic.partitions:
                state.count = len(topic.partitions)
                early, state.early = state.early, []
                for record, waiter, partition, size, _ in early:
                    self._enqueue(name, state, record, waiter, partition, size, now)
            elif state.early:
                code = self._metadata.errors.get(name) if problem is None else None
                hopeless = code is not None and (
                    code not in RETRIABLE or (code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION and not create)
                )
                if hopeless or now - state.early[0].born >= timeout:
                    error = KafkaError(code, f"topic {name!r}") if code is not None else problem
                    early, state.early = state.early, []
                    self._fail_early(early, error or DeliveryTimedOut(f"topic {name!r} did not appear in the metadata"))

    # --- out

    def accept(self, queue: PartitionQueue, batch: ProducerBatch, base_offset: int, append_time: int) -> None:
        """The broker has the batch: tell who waits for its records. -1 for an offset or a time that it didn't say."""
        queue.succeeded(batch)
        partition = queue.partition
        for index, (record, waiter) in enumerate(zip(batch.records, batch.waiters, strict=True)):
            if not waiter.called:
                offset = base_offset + index if base_offset >= 0 else -1
                timestamp = append_time if append_time >= 0 else record.timestamp_ms
                waiter.callback(RecordMetadata(partition, offset, timestamp))
        self._release(batch)

    def fail(self, batches: list[ProducerBatch], error: Exception) -> None:
        """These batches, which are in no queue any more, will not be delivered."""
        for batch in batches:
            for waiter in batch.waiters:
                if not waiter.called:
                    waiter.errback(error)
            self._release(batch)

    def fail_unidentified(self, error: Exception) -> None:
        """No producer id can be had: fail what needs one."""
        for queue in list(self.active):
            if queue.identity is None:
                self.fail(queue.clear(), error)

    def fail_everything(self, error: Exception) -> None:
        """Fail all records, also those in flight: their answers must not be settled afterwards."""
        for state in self._topics.values():
            early, state.early = state.early, []
            self._fail_early(early, error)
            for queue in state.queues.values():
                in_flight, queue.in_flight = queue.in_flight, []
                self.fail([*in_flight, *queue.clear()], error)

    def _fail_early(self, early: list[_Early], error: Exception) -> None:
        for one in early:
            self.buffered -= one.size
            if not one.waiter.called:
                one.waiter.errback(error)
        self._wake()

    def _release(self, batch: ProducerBatch) -> None:
        self.buffered -= batch.size
        batch.records, batch.waiters, batch.encoded = [], [], None
        self._wake()

    # --- waiting for it

    def room(self) -> Deferred[None]:
        """Fires when less than `buffer_bytes` are held."""
        ready: Deferred[None] = Deferred()
        if self.buffered < self._buffer_bytes:
            ready.callback(None)
        else:
            self._room.append(ready)
        return ready

    def empty(self) -> Deferred[None]:
        """Fires when nothing is held."""
        done: Deferred[None] = Deferred()
        if not self.buffered:
            done.callback(None)
        else:
            self._empty.append(done)
        return done

    def _wake(self) -> None:
        waiting: list[Deferred[None]] = []
        if self.buffered < self._buffer_bytes:
            waiting, self._room = self._room, []
        if not self.buffered:
            waiting, self._empty = [*waiting, *self._empty], []
        for one in waiting:
            if not one.called:
                one.callback(None)
