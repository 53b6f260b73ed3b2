"""The consumer: records of some partitions, in the order of each partition, from given positions or as a group's member.

`poll` hands out chunks of records that were fetched ahead; `async for record in consumer` goes over them one by one. With
`assign`, the caller names partitions and where to start. With `subscribe`, the group's coordinator assigns them, and reading
goes on from what the group has committed.

What one `poll` handed out counts as dealt with when the next one is called: that is what automatic commits write down.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from chronik.client.cluster import ClusterClient
from chronik.client.errors import ClientError
from chronik.client.fetching import Fetching
from chronik.client.group import REJOIN, GroupMember
from chronik.client.offsets import EARLIEST, LATEST, CommittedOffset, committed_offsets, list_offsets
from chronik.client.reading import Chunk, PartitionReading
from chronik.errors import ErrorCode, KafkaError
from chronik.model import TopicPartition

MAX_BATCH_BYTES = 256 * 1024 * 1024


class Start(Enum):
    """The ends of a partition, as positions."""

    BEGINNING = EARLIEST
    END = LATEST


class AtTime(NamedTuple):
    """The position of the first record at or after a time (ms since the epoch); the end where there is none."""

    timestamp_ms: int


class FromEnd(NamedTuple):
    """The position `records` before the end, or the beginning where there are fewer."""

    records: int


Position = int | Start | AtTime | FromEnd


class ConsumedRecord(NamedTuple):
    """One record and where it was. The timestamp is in ms since the epoch, -1 for none."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class Consumer:
    """Reads from the cluster behind `cluster`. Times in seconds.

    `reset` is where a group without a committed offset starts, and where reading goes on when the log no longer has the
    position; None fails there instead. `max_batch_bytes` bounds what one batch may decompress to.
    """

    log = Logger()

    def __init__(
        self,
        cluster: ClusterClient,
        *,
        reset: Start | None = Start.END,
        read_committed: bool = False,
        max_wait: float = 0.5,
        min_bytes: int = 1,
        max_bytes: int = 50 * 1024 * 1024,
        partition_bytes: int = 1024 * 1024,
        max_batch_bytes: int = MAX_BATCH_BYTES,
        auto_commit: bool = True,
        commit_interval: float = 5.0,
    ) -> None:
        self._cluster = cluster
        self._reset = reset
        self._read_committed = read_committed
        self._max_batch_bytes = max_batch_bytes
        self._auto_commit = auto_commit
        self._commit_interval = commit_interval
        self._fetching = Fetching(
            cluster,
            filled=self._wake,
            failed=self._fail,
            on_out_of_range=self._out_of_range,
            read_committed=read_committed,
            max_wait=max_wait,
            min_bytes=min_bytes,
            max_bytes=max_bytes,
            partition_bytes=partition_bytes,
        )
        self._order: list[TopicPartition] = []
        self._handed_out: dict[TopicPartition, int] = {}
        self._dealt_with: dict[TopicPartition, int] = {}
        self._committed_at = 0.0
        self._committing: Deferred[None] | None = None
        self._waiter: Deferred[None] | None = None
        self._problem: Exception | None = None
        self._member: GroupMember | None = None
        self._membership: Deferred[None] | None = None
        self._closed = False

    # --- what to read

    async def assign(self, positions: Mapping[TopicPartition, Position]) -> None:
        """Read these partitions from these positions, in place of what was read so far. Raises KafkaError for unknown ones."""
        await self._cluster.topics(sorted({partition.topic for partition in positions}))
        for partition in positions:
            self._cluster.metadata.partition(partition)
        offsets = await resolve_positions(self._cluster, positions, read_committed=self._read_committed)
        self._read(offsets)

    async def subscribe(
        self, group: str, topics: Sequence[str], *, session_timeout: float = 45.0, instance_id: str | None = None
    ) -> None:
        """Join `group`, wanting `topics`; partitions come and go as the group is rebalanced."""
        await self._cluster.topics(topics)
        self._member = GroupMember(
            self._cluster,
            group,
            topics,
            on_assigned=self._assigned,
            on_revoked=self._revoked,
            session_timeout=session_timeout,
            instance_id=instance_id,
        )
        self._committed_at = self._cluster.reactor.seconds()
        self._membership = Deferred.fromCoroutine(self._member.run())
        self._membership.addErrback(self._membership_failed)

    @property
    def assignment(self) -> list[TopicPartition]:
        """The partitions being read."""
        return list(self._fetching.readings)

    def position(self, partition: TopicPartition) -> int:
        """The offset of the next record to be handed out. Raises KeyError for a partition that is not assigned."""
        return self._fetching.readings[partition].position

    def at_end(self, partition: TopicPartition) -> bool:
        """Whether everything readable at the last response was handed out. Raises KeyError as `position` does."""
        return self._fetching.readings[partition].at_end

    @property
    def all_at_end(self) -> bool:
        """Whether partitions are assigned, and all of them are read to their ends."""
        readings = self._fetching.readings
        return bool(readings) and all(reading.at_end for reading in readings.values())

    def drop(self, partition: TopicPartition) -> None:
        """Read no more of `partition`."""
        if self._fetching.readings.pop(partition, None) is not None:
            self._order.remove(partition)

    # --- reading

    async def poll(self, limit: int = 500, timeout: float | None = None) -> list[Chunk]:
        """At least one chunk, `limit` records at most in all; an empty list when none came in `timeout` seconds (None:
        wait on), or when a response brought none, so that the caller can look at `all_at_end`.

        Raises KafkaError and ClientError for what retries did not mend.
        """
        self._dealt_with.update(self._handed_out)
        self._handed_out.clear()
        self._commit_when_due()
        chunks = self._take(limit)
        if not chunks:
            await self._more(timeout)
            chunks = self._take(limit)
        self._fetching.kick()
        return chunks

    async def __aiter__(self) -> AsyncIterator[ConsumedRecord]:
        while not self._closed:
            for partition, records, _ in await self.poll():
                for r in records:
                    yield ConsumedRecord(*partition, r.offset, r.timestamp, r.key, r.value, r.headers)

    async def commit(self) -> None:
        """Commit everything handed out so far. Raises KafkaError; with a code of `group.REJOIN` nothing was written."""
        self._dealt_with.update(self._handed_out)
        self._handed_out.clear()
        await self._commit()

    async def close(self) -> None:
        """Commit what was dealt with, leave the group, end all fetches. The cluster client stays open."""
        if self._closed:
            return
        self._closed = True
        if self._committing is not None:
            await self._committing
        if self._membership is not None:
            self._membership.cancel()
            await self._membership
        self._fetching.close()
        if self._member is not None:
            try:
                await self._member.leave()
            except (ClientError, KafkaError) as problem:
                self.log.debug("leaving the group: {problem}", problem=problem)
        self._wake()

    # --- inside

    def _read(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._fetching.readings = {tp: PartitionReading(tp, offset) for tp, offset in offsets.items()}
        self._order = list(offsets)
        self._fetching.kick()

    def _take(self, limit: int) -> list[Chunk]:
        """What is buffered, going round the partitions so that none starves the others."""
        if self._problem is not None:
            raise self._problem
        chunks: list[Chunk] = []
        for _ in range(len(self._order)):
            partition = self._order[0]
            self._order.append(self._order.pop(0))
            reading = self._fetching.readings[partition]
            while limit > 0 and (chunk := reading.take(limit, self._max_batch_bytes)) is not None:
                chunks.append(chunk)
                limit -= len(chunk.records)
            if reading.position > 0:
                self._handed_out[partition] = reading.position
            if limit <= 0:
                break
        return chunks

    async def _more(self, timeout: float | None) -> None:
        """Wait for the next response, at most `timeout` seconds."""
        self._fetching.kick()
        waiter: Deferred[None] = Deferred()
        self._waiter = waiter
        timer: IDelayedCall | None = None
        if timeout is not None:
            timer = self._cluster.reactor.callLater(timeout, self._wake)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None and timer.active():
                timer.cancel()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.called:
            waiter.callback(None)

    def _fail(self, problem: Exception) -> None:
        self._problem = problem
        self._wake()

    async def _out_of_range(self, reading: PartitionReading) -> None:
        partition, offset = reading.partition, reading.fetch_offset
        if self._reset is None:
            text = f"{partition} has no offset {offset} any more (or not yet)"
            raise KafkaError(ErrorCode.OFFSET_OUT_OF_RANGE, text)
        found = await list_offsets(self._cluster, {partition: self._reset.value})
        text = "{partition} has no offset {offset}, reading on from {found}"
        self.log.warn(text, partition=str(partition), offset=offset, found=found[partition])
        reading.position = reading.fetch_offset = found[partition]

    # --- the group

    async def _assigned(self, partitions: list[TopicPartition]) -> None:
        assert self._member is not None
        await self._cluster.topics(sorted({partition.topic for partition in partitions}))
        committed = await committed_offsets(self._cluster, self._member.group, partitions) if partitions else {}
        if self._reset is None and len(committed) < len(partitions):
            missing = next(partition for partition in partitions if partition not in committed)
            raise ClientError(f"group {self._member.group!r} has no committed offset in {missing}")
        start = self._reset or Start.BEGINNING
        positions = {tp: committed[tp].offset if tp in committed else start for tp in partitions}
        self._read(await resolve_positions(self._cluster, positions, read_committed=self._read_committed))

    async def _revoked(self, partitions: list[TopicPartition]) -> None:
        """Stop reading at once, then commit what was dealt with."""
        self._read({})
        self._handed_out.clear()
        if self._auto_commit:
            try:
                await self._commit()
            except (ClientError, KafkaError) as problem:
                self.log.warn("the last offsets were not committed: {problem}", problem=problem)
        self._dealt_with.clear()

    def _membership_failed(self, failure: Failure) -> None:
        if isinstance(failure.value, CancelledError):
            return
        problem = failure.value
        self._fail(problem if isinstance(problem, Exception) else ClientError(str(problem)))

    def _commit_when_due(self) -> None:
        if self._member is None or not self._auto_commit or self._committing is not None or not self._dealt_with:
            return
        now = self._cluster.reactor.seconds()
        if now - self._committed_at < self._commit_interval:
            return
        self._committed_at = now
        self._committing = Deferred.fromCoroutine(self._commit_quietly())

    async def _commit_quietly(self) -> None:
        try:
            await self._commit()
        except KafkaError as problem:
            if problem.code not in REJOIN:
                self._fail(problem)
        except ClientError as problem:
            self.log.warn("offsets were not committed, the next commit may: {problem}", problem=problem)
        finally:
            self._committing = None

    async def _commit(self) -> None:
        if self._member is None:
            raise ClientError("only a consumer that subscribed as a group's member can commit")
        offsets, self._dealt_with = self._dealt_with, {}
        try:
            await self._member.commit({tp: CommittedOffset(offset) for tp, offset in offsets.items()})
        except BaseException:
            self._dealt_with = {**offsets, **self._dealt_with}
            raise


async def resolve_positions(
    cluster: ClusterClient, positions: Mapping[TopicPartition, Position], *, read_committed: bool = False
) -> dict[TopicPartition, int]:
    """The offset that each position stands for now."""
    first: dict[TopicPartition, int] = {}
    ends: dict[TopicPartition, int] = {}
    for partition, position in positions.items():
        if isinstance(position, Start):
            first[partition] = position.value
        elif isinstance(position, AtTime):
            first[partition] = position.timestamp_ms
            ends[partition] = LATEST
        elif isinstance(position, FromEnd):
            first[partition] = EARLIEST
            ends[partition] = LATEST
    found = await list_offsets(cluster, first, read_committed=read_committed) if first else {}
    end = await list_offsets(cluster, ends, read_committed=read_committed) if ends else {}
    offsets: dict[TopicPartition, int] = {}
    for partition, position in positions.items():
        if isinstance(position, FromEnd):
            offsets[partition] = max(found[partition], end[partition] - position.records)
        elif isinstance(position, AtTime):
            offsets[partition] = found[partition] if found[partition] >= 0 else end[partition]
        elif isinstance(position, Start):
            offsets[partition] = found[partition]
        else:
            offsets[partition] = position
    return offsets
