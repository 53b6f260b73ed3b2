"""What the coordinator's tests run in: a log in memory that can hold back and fail appends, and a cluster of one node.

The log is a real sequence of encoded batches: what was appended is what is read, so replay is tested on bytes.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from chronik.coordinator.runtime import Coordinator
from chronik.coordinator.settings import GroupSettings
from chronik.errors import ErrorCode, KafkaError
from chronik.features import default_level
from chronik.group_config import Bounded, GroupTimes
from chronik.interfaces import (
    IClusterMetadata,
    ICommittedReader,
    IShareStates,
    ITransactionalWriter,
    ITransactions,
    MetadataDelta,
)
from chronik.model import (
    OFFSETS_TOPIC,
    Alert,
    Broker,
    ContinuousQuery,
    Endpoint,
    PartitionId,
    PartitionState,
    SharePartitionKey,
    ShareState,
    Topic,
    TopicPartition,
    TransactionMarker,
)
from chronik.wire.markers import encode_marker
from chronik.wire.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest, TopicPartitions
from chronik.wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from chronik.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from chronik.wire.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from chronik.wire.records import assign_offsets, read_header

SHORT_SESSIONS = GroupTimes(session=Bounded(10_000, 1_000, 60_000))
"""Members of the consumer protocol may be silent for 10 s."""

WALL = 1_700_000_000_000


@implementer(ITransactionalWriter, ICommittedReader)
class MemoryLog:
    """Partitions as lists of batches. While `holding`, appends wait for `release`; `failing` makes new ones fail.

    With `torn` a failing append reaches the log all the same, as when the leader is lost before it could answer. While
    `unreadable`, reads fail; `reads` counts them. While `late`, appends are written at once, and `answers` has who waits for
    which offset.

    `checks` has (producer id, epoch) of each transaction that the coordinator was to ask about, `open` those that have
    written something, and `agreed` those whose question still stands: a marker takes it away.
    """

    def __init__(self) -> None:
        self.batches: dict[TopicPartition, list[bytes]] = {}
        self.holding = False
        self.failing: ErrorCode | None = None
        self.torn = False
        self.late = False
        self.answers: list[tuple[Deferred[int], int]] = []
        self.unreadable = False
        self.reads = 0
        self.held: list[tuple[TopicPartition, bytearray, Deferred[int]]] = []
        self.checks: list[tuple[int, int]] = []
        self.open: set[tuple[int, int]] = set()
        self.agreed: set[tuple[int, int]] = set()

    def end(self, partition: TopicPartition) -> int:
        batches = self.batches.get(partition)
        return read_header(batches[-1]).next_offset if batches else 0

    def append(self, partition: TopicPartition, batch: bytearray) -> Deferred[int]:
        if self.failing is not None:
            if self.torn:
                self._write(partition, batch)
            return fail(KafkaError(self.failing))
        waiting: Deferred[int] = Deferred()
        if self.late:
            self.answers.append((waiting, self._write(partition, batch)))
            return waiting
        if self.holding:
            self.held.append((partition, batch, waiting))
            return waiting
        return succeed(self._write(partition, batch))

    def check_transaction(
        self, partition: TopicPartition, producer_id: int, producer_epoch: int
    ) -> tuple[int, int] | None:
        if (producer_id, producer_epoch) in self.open:
            return None
        self.checks.append((producer_id, producer_epoch))
        self.agreed.add((producer_id, producer_epoch))
        return producer_id, producer_epoch

    def append_transactional(self, partition: TopicPartition, batch: bytearray, check: Any) -> Deferred[int]:
        header = read_header(batch)
        assert header.transactional
        producer = header.producer_id, header.producer_epoch
        if producer not in self.open and (check != producer or producer not in self.agreed):
            return fail(
                KafkaError(ErrorCode.INVALID_TXN_STATE, "its transaction was ended while its coordinator was asked")
            )
        self.open.add(producer)
        return self.append(partition, batch)

    def write_marker(self, partition: TopicPartition, marker: TransactionMarker) -> None:
        for known in (self.open, self.agreed):
            known.difference_update([producer for producer in known if producer[0] == marker.producer_id])
        self._write(partition, encode_marker(marker, WALL))

    def _write(self, partition: TopicPartition, batch: bytearray) -> int:
        base = self.end(partition)
        assign_offsets(batch, base, 0)
        self.batches.setdefault(partition, []).append(bytes(batch))
        return base

    def answer(self, count: int = 1) -> None:
        """Let so many of the appends that were `late` be committed, the oldest first."""
        for _ in range(min(count, len(self.answers))):
            waiting, offset = self.answers.pop(0)
            waiting.callback(offset)

    def release(self, error: ErrorCode | None = None, index: int = 0) -> None:
        """Let the held append at `index` succeed, or fail with `error`."""
        partition, batch, waiting = self.held.pop(index)
        if error is None:
            waiting.callback(self._write(partition, batch))
        else:
            waiting.errback(KafkaError(error))

    def release_all(self) -> None:
        self.holding = False
        while self.held:
            self.release()

    def bounds(self, partition: TopicPartition) -> tuple[int, int, int]:
        end = self.end(partition)
        return 0, end, end

    def read(self, partition: TopicPartition, offset: int, max_bytes: int) -> bytes:
        self.reads += 1
        if self.unreadable:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "the disk cannot be read")
        out = b""
        for batch in self.batches.get(partition, ()):
            if read_header(batch).next_offset > offset:
                if out and len(out) + len(batch) > max_bytes:
                    break
                out += batch
        return out


@implementer(IClusterMetadata)
class OneNode:
    """A cluster of node 1, with the topics in `all`."""

    cluster_id = "test"
    controller_id = 1
    version = 1

    def __init__(self, **topics: int) -> None:
        self.all: dict[str, Topic] = {}
        self.listeners: list[Any] = []
        self.groups: dict[str, dict[str, str]] = {}
        self.levels: dict[str, int] = {}  # of features, other than by default
        for name, partitions in topics.items():
            self.create(name, partitions)

    def create(self, name: str, partitions: int) -> Topic:
        states = tuple(PartitionState(index, (1,), (1,), 1, 0) for index in range(partitions))
        topic = self.all[name] = Topic(name.encode().ljust(16, b"-")[:16], name, states)
        return topic

    def delete(self, name: str) -> None:
        gone = self.all.pop(name)
        self.tell(MetadataDelta(deleted=[gone]))

    def tell(self, delta: MetadataDelta) -> None:
        for listener in self.listeners:
            listener(delta)

    def topic(self, name: str) -> Topic | None:
        return self.all.get(name)

    def topic_by_id(self, topic_id: bytes) -> Topic | None:
        return next((topic for topic in self.all.values() if topic.topic_id == topic_id), None)

    def topics(self) -> list[Topic]:
        return [self.all[name] for name in sorted(self.all)]

    def brokers(self) -> list[Broker]:
        return [Broker(1, 1, (Endpoint("PLAINTEXT", "localhost", 9092), Endpoint("OTHER", "elsewhere", 9192)))]

    def broker_configs(self, node_id: int | None) -> dict[str, str]:
        return {}

    def group_configs(self, group_id: str) -> dict[str, str]:
        return self.groups.get(group_id, {})

    def feature_level(self, name: str) -> int:
        return self.levels.get(name, default_level(name))

    def alerts(self) -> list[Alert]:
        """See `IClusterMetadata`."""
        return []

    def queries(self) -> list[ContinuousQuery]:
        """See `IClusterMetadata`."""
        return []

    def subscribe(self, listener: Any) -> Any:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)


@implementer(ITransactions)
class Agreeing:
    """Agrees, unless `error` or `code` says otherwise; answers with `waiting` when that is set."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.error: KafkaError | None = None
        self.code = ErrorCode.NONE
        self.waiting: Deferred[Any] | None = None

    def join(
        self, transactional_id: str, producer_id: int, producer_epoch: int, partitions: Any, verify_only: bool
    ) -> Deferred[dict[TopicPartition, ErrorCode]]:
        self.asked.append((transactional_id, producer_id, producer_epoch, tuple(partitions), verify_only))
        if self.error is not None:
            return fail(self.error)
        return self.waiting or succeed(dict.fromkeys(partitions, self.code))


@implementer(IShareStates)
class MemoryStates:
    """What a share coordinator keeps, in a dictionary: (state epoch, start offset). `failing` says how it refuses.

    While `holding`, operations wait for `release`.
    """

    def __init__(self) -> None:
        self.kept: dict[SharePartitionKey, tuple[int, int]] = {}
        self.failing: dict[int, ErrorCode] = {}
        self.holding = False
        self.held: list[Deferred[None]] = []

    async def _turn(self, key: SharePartitionKey) -> None:
        if self.holding:
            waiting: Deferred[None] = Deferred()
            self.held.append(waiting)
            await waiting
        if key.partition in self.failing:
            raise KafkaError(self.failing[key.partition])

    def release_all(self) -> None:
        self.holding = False
        held, self.held = self.held, []
        for waiting in held:
            waiting.callback(None)

    async def read(self, key: SharePartitionKey, leader_epoch: int) -> ShareState:
        await self._turn(key)
        return ShareState(*self.kept[key])

    async def write(
        self, key: SharePartitionKey, state_epoch: int, leader_epoch: int, start_offset: int, batches: Any
    ) -> None:
        await self._turn(key)
        self.kept[key] = (state_epoch, start_offset)

    async def initialise(self, key: SharePartitionKey, state_epoch: int, start_offset: int) -> None:
        await self._turn(key)
        self.kept[key] = (state_epoch, start_offset)

    async def delete(self, key: SharePartitionKey) -> None:
        await self._turn(key)
        self.kept.pop(key, None)

    async def start_of(self, key: SharePartitionKey) -> tuple[int, int]:
        await self._turn(key)
        return self.kept.get(key, (0, -1))[1], 0


class World:
    """A coordinator on one partition of `__consumer_offsets`, with its log, its clock and its cluster."""

    def __init__(self, settings: GroupSettings | None = None, log: MemoryLog | None = None, led: bool = True) -> None:
        self.settings = settings or GroupSettings(group_initial_rebalance_delay_ms=0)
        self.clock = Clock()
        self.log = log or MemoryLog()
        self.metadata = OneNode(events=10, logs=10)
        self.created = 0
        self.transactions = Agreeing()
        self.states = MemoryStates()
        ids = count(1)
        self.coordinator = Coordinator(
            self.settings,
            self.metadata,
            self.log,
            self.log,
            self.clock,
            wall_clock_ms=lambda: WALL + int(self.clock.seconds() * 1000),
            fresh_id=lambda: f"id{next(ids)}",
            ensure_offsets_topic=self._create,
            transactions=self.transactions,
            share_states=self.states,
        )
        self.coordinator.start()
        if led:
            self.lead()

    def _create(self) -> Deferred[None]:
        self.created += 1
        self.metadata.create(OFFSETS_TOPIC, 1)
        return succeed(None)

    def lead(self, load: bool = True) -> None:
        """Lead the partition; with `load`, until it is loaded."""
        topic = self.metadata.topic(OFFSETS_TOPIC) or self.metadata.create(OFFSETS_TOPIC, 1)
        self.coordinator.partition_led(PartitionId(topic.topic_id, 0), TopicPartition(OFFSETS_TOPIC, 0), 0)
        if load:
            self.settle()

    def resign(self) -> None:
        self.coordinator.partition_resigned(PartitionId(bytes(16), 0), TopicPartition(OFFSETS_TOPIC, 0))

    def settle(self) -> None:
        """Let everything run that is due now."""
        for _ in range(20):
            self.clock.advance(0)

    @property
    def shard(self) -> Any:
        return self.coordinator._hosted[0].shard

    def beat(self, request: ConsumerGroupHeartbeatRequest, version: int = 1) -> Any:
        """The answer to a heartbeat of the consumer protocol, or its KafkaError."""
        try:
            return self.result(self.coordinator.consumer_heartbeat(request, version, "client", "host"))
        except KafkaError as error:
            return error

    def result(self, operation: Any) -> Any:
        """What a Deferred or coroutine came to; fails the test when it still waits. KafkaErrors are returned."""
        results: list[Any] = []
        if not isinstance(operation, Deferred):
            operation = Deferred.fromCoroutine(operation)
        operation.addBoth(results.append)
        for _ in range(20):
            if results:
                break
            self.clock.advance(0)
        assert results, "it still waits"
        return getattr(results[0], "value", results[0])


def heartbeat_request(
    member: str,
    epoch: int = 0,
    topics: list[str] | None = None,
    *,
    group: str = "g",
    instance: str | None = None,
    regex: str | None = None,
    owned: dict[bytes, Any] | None = None,
    assignor: str | None = None,
    rebalance: int | None = None,
) -> ConsumerGroupHeartbeatRequest:
    """ConsumerGroupHeartbeat. What joins says in full what it is asked for: `owned` and `rebalance` have defaults then."""
    if epoch == 0:
        owned = {} if owned is None else owned
        rebalance = 60_000 if rebalance is None else rebalance
    return ConsumerGroupHeartbeatRequest(
        group_id=group,
        member_id=member,
        member_epoch=epoch,
        instance_id=instance,
        rebalance_timeout_ms=-1 if rebalance is None else rebalance,
        subscribed_topic_names=topics,
        subscribed_topic_regex=regex,
        server_assignor=assignor,
        topic_partitions=None
        if owned is None
        else [TopicPartitions(topic_id=topic_id, partitions=sorted(parts)) for topic_id, parts in owned.items()],
    )


def subscription(*topics: str) -> bytes:
    """A consumer's subscription, version 0."""
    out = b"\x00\x00" + len(topics).to_bytes(4, "big")
    for topic in topics:
        out += len(topic).to_bytes(2, "big") + topic.encode()
    return out + b"\xff\xff\xff\xff"


def join_request(
    member: str = "",
    *,
    group: str = "g",
    instance: str | None = None,
    session: int = 10_000,
    rebalance: int = 60_000,
    protocols: tuple[tuple[str, bytes], ...] = (("range", subscription("events")),),
    kind: str = "consumer",
) -> JoinGroupRequest:
    return JoinGroupRequest(
        group_id=group,
        session_timeout_ms=session,
        rebalance_timeout_ms=rebalance,
        member_id=member,
        group_instance_id=instance,
        protocol_type=kind,
        protocols=[JoinGroupRequestProtocol(name=name, metadata=metadata) for name, metadata in protocols],
    )


def sync_request(
    member: str,
    generation: int,
    assignments: dict[str, bytes] | None = None,
    *,
    group: str = "g",
    instance: str | None = None,
    protocol: tuple[str | None, str | None] = (None, None),
) -> SyncGroupRequest:
    return SyncGroupRequest(
        group_id=group,
        generation_id=generation,
        member_id=member,
        group_instance_id=instance,
        protocol_type=protocol[0],
        protocol_name=protocol[1],
        assignments=[
            SyncGroupRequestAssignment(member_id=name, assignment=part) for name, part in (assignments or {}).items()
        ],
    )


def commit_request(
    offsets: dict[tuple[str, int], int],
    *,
    member: str = "",
    generation: int = -1,
    group: str = "g",
    metadata: str | None = None,
    retention: int = -1,
    instance: str | None = None,
) -> OffsetCommitRequest:
    topics: dict[str, list[OffsetCommitRequestPartition]] = {}
    for (topic, partition), offset in offsets.items():
        topics.setdefault(topic, []).append(
            OffsetCommitRequestPartition(
                partition_index=partition,
                committed_offset=offset,
                committed_metadata=metadata,
                committed_leader_epoch=3,
            )
        )
    return OffsetCommitRequest(
        group_id=group,
        generation_id_or_member_epoch=generation,
        member_id=member,
        group_instance_id=instance,
        retention_time_ms=retention,
        topics=[OffsetCommitRequestTopic(name=name, partitions=parts) for name, parts in topics.items()],
    )
