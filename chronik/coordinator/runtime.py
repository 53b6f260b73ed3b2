"""The group coordinator of a node: finds the partition that keeps a group, and asks it.

`__consumer_offsets` has 50 partitions, each with its groups; the node that leads a partition coordinates them. The node tells
the coordinator which ones it leads (`IPartitionHost`); each becomes a `GroupPartition`. Every operation here answers with a
value or a Deferred, or raises KafkaError for what concerns the whole request; the handlers turn that into the form of
their API and version.

Cluster metadata is read for where a group's coordinator is, and for topics that are deleted: their offsets go too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Cooperator, deferLater
from zope.interface import implementer

from chronik.coordinator.consumer_describe import check_fetch, describe_consumer_group, summary
from chronik.coordinator.effects import Answer, Joiner
from chronik.coordinator.group_partition import GroupPartition, InTransaction
from chronik.coordinator.heartbeats import Heartbeater, check_request
from chronik.coordinator.offsets import FetchedOffset
from chronik.coordinator.records import Entry
from chronik.coordinator.resolving import look_up
from chronik.coordinator.settings import GroupSettings
from chronik.coordinator.share_offsets import delete_share_state
from chronik.coordinator.subscriptions import Topics
from chronik.coordinator.topic import CoordinatorTopic, FoundCoordinator
from chronik.coordinator.upkeep import Upkeep
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import (
    IClusterMetadata,
    ICommittedReader,
    IMarkerListener,
    IPartitionHost,
    IShareStates,
    ITransactionalWriter,
    ITransactions,
    MetadataDelta,
)
from chronik.model import OFFSETS_TOPIC, PartitionId, TopicPartition
from chronik.wire.messages.consumer_group_describe import DescribedGroup as ConsumerDescribedGroup
from chronik.wire.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)
from chronik.wire.messages.describe_groups import DescribedGroup
from chronik.wire.messages.join_group import JoinGroupRequest, JoinGroupResponse
from chronik.wire.messages.leave_group import MemberIdentity, MemberResponse
from chronik.wire.messages.list_groups import ListedGroup
from chronik.wire.messages.offset_commit import OffsetCommitRequest, OffsetCommitResponse
from chronik.wire.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from chronik.wire.messages.txn_offset_commit import TxnOffsetCommitRequest, TxnOffsetCommitResponse

_GROUPS_A_TURN = 500


@implementer(IPartitionHost, IMarkerListener)
class Coordinator:
    """Coordinates the groups of all partitions of `__consumer_offsets` that this node leads.

    `ensure_offsets_topic` creates that topic where it is missing, and fires when it exists. `fresh_id` makes the random part
    of member ids. `wall_clock_ms` is the time since 1970. `transactions` are asked before a transaction commits offsets,
    `share_states` keep what became of share groups' records.
    """

    def __init__(
        self,
        settings: GroupSettings,
        metadata: IClusterMetadata,
        writer: ITransactionalWriter,
        reader: ICommittedReader,
        clock: IReactorTime,
        *,
        wall_clock_ms: Callable[[], int],
        fresh_id: Callable[[], str],
        ensure_offsets_topic: Callable[[], Deferred[None]],
        transactions: ITransactions,
        share_states: IShareStates,
    ) -> None:
        self.settings = settings
        self._metadata = metadata
        self._writer = writer
        self._reader = reader
        self._clock = clock
        self._wall_clock_ms = wall_clock_ms
        self._fresh_id = fresh_id
        self._transactions = transactions
        self.share_states = share_states
        self.topic = CoordinatorTopic(
            OFFSETS_TOPIC, metadata, settings.offsets_topic_num_partitions, ensure_offsets_topic
        )
        self._hosted: dict[int, GroupPartition] = {}
        # One slice of work a turn of the reactor, whatever the number of partitions that have some.
        self._cooperator = Cooperator(lambda: lambda: True, lambda tick: clock.callLater(0, tick))
        self.upkeep = Upkeep(self._hosted, settings.offsets_retention_check_interval_ms, clock, wall_clock_ms)
        self._unsubscribe: Callable[[], None] | None = None
        self._topics = Topics(metadata)

    # Life.

    def start(self) -> None:
        """Look after expired offsets and deleted topics from now on."""
        self._unsubscribe = self._metadata.subscribe(self._metadata_changed)
        self.upkeep.start()

    def stop(self) -> None:
        """End all waiting requests and timers."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        self.upkeep.stop()
        for hosted in self._hosted.values():
            hosted.resign()
        self._hosted.clear()

    def partition_led(self, partition: PartitionId, name: TopicPartition, leader_epoch: int) -> None:
        """Load the groups of a partition of `__consumer_offsets`; other topics are not ours."""
        if name.topic != OFFSETS_TOPIC:
            return
        self.partition_resigned(partition, name)
        hosted = self._hosted[name.partition] = GroupPartition(
            name,
            self.settings,
            self._writer,
            self._reader,
            self._clock,
            self._cooperator,
            self._wall_clock_ms,
            self._topics,
            self.share_states,
        )
        hosted.load()

    def partition_resigned(self, partition: PartitionId, name: TopicPartition) -> None:
        """Let go of a partition's groups."""
        if name.topic == OFFSETS_TOPIC:
            hosted = self._hosted.pop(name.partition, None)
            if hosted is not None:
                hosted.resign()

    def marker_committed(self, partition: TopicPartition, next_offset: int) -> None:
        """A transaction was ended in a partition of `__consumer_offsets`: its offsets count now, or are gone."""
        hosted = self._hosted.get(partition.partition) if partition.topic == OFFSETS_TOPIC else None
        if hosted is not None:
            hosted.caught_up(next_offset)

    def _metadata_changed(self, delta: MetadataDelta) -> None:
        self._topics.changed(delta)
        # No topic ever has fewer partitions than before, so a deleted one is all there is to forget.
        deleted = [topic for topic in delta.deleted if topic.name != OFFSETS_TOPIC]
        if deleted:
            self.upkeep.forget(deleted)

    # Finding.

    async def find(self, group_id: str, listener: str) -> FoundCoordinator:
        """Which node coordinates the group; `__consumer_offsets` is created where it is missing.

        Raises KafkaError(COORDINATOR_NOT_AVAILABLE), after which clients ask again.
        """
        return await self.topic.find(group_id, listener)

    def host(self, group_id: str, allow_empty: bool = False) -> GroupPartition:
        """The partition of a group, loaded or not."""
        if not group_id and not allow_empty:
            raise KafkaError(ErrorCode.INVALID_GROUP_ID, "a group id cannot be empty")
        hosted = self._hosted.get(self.topic.partition_of(group_id))
        if hosted is None:
            raise self.topic.not_here(group_id)
        return hosted

    # Membership.

    def join(
        self, request: JoinGroupRequest, version: int, client_id: str | None, client_host: str
    ) -> Deferred[JoinGroupResponse]:
        """JoinGroup: fires when the member is in a generation, or has to be told something else."""
        hosted = self.host(request.group_id)
        low, high = self.settings.group_min_session_timeout_ms, self.settings.group_max_session_timeout_ms
        if not low <= request.session_timeout_ms <= high:
            raise KafkaError(
                ErrorCode.INVALID_SESSION_TIMEOUT,
                f"a session timeout of {request.session_timeout_ms} ms is outside {low} to {high}",
            )
        shard = hosted.check()
        answer: Deferred[JoinGroupResponse] = Deferred()
        joiner = Joiner(client_id or "", f"/{client_host}", version, self._fresh_id())
        hosted.carry_out(shard.join(request, joiner, answer, hosted.now))
        return answer

    def sync(self, request: SyncGroupRequest) -> Deferred[SyncGroupResponse]:
        """SyncGroup: fires when the leader's assignment is in the log."""
        hosted = self.host(request.group_id)
        shard = hosted.check()
        answer: Deferred[SyncGroupResponse] = Deferred()
        hosted.carry_out(shard.sync(request, answer, hosted.now))
        return answer

    def heartbeat(self, group_id: str, member_id: str, instance_id: str | None, generation: int) -> None:
        """Heartbeat. While the group is loading nothing is known against it."""
        hosted = self.host(group_id)
        try:
            shard = hosted.check()
        except KafkaError as error:
            if error.code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
                return
            raise
        try:
            shard.heartbeat(group_id, member_id, instance_id, generation, hosted.now)
        finally:
            if group_id in shard.consumers.groups:
                hosted.carry_out([])  # a classic member there may have been given time to join again

    def leave(self, group_id: str, members: list[MemberIdentity]) -> Deferred[list[MemberResponse]]:
        """LeaveGroup, in the form of many members; every member of an unknown group is unknown."""
        hosted = self.host(group_id)
        shard = hosted.check()
        answer: Deferred[list[MemberResponse]] = Deferred()
        hosted.carry_out(shard.leave(group_id, members, answer, hosted.now))
        return answer

    def consumer_heartbeat(
        self, request: ConsumerGroupHeartbeatRequest, version: int, client_id: str | None, client_host: str
    ) -> Deferred[ConsumerGroupHeartbeatResponse]:
        """ConsumerGroupHeartbeat: fires when what it changes is in the log."""
        check_request(request, version, self.settings)
        hosted = self.host(request.group_id)
        shard = hosted.check()
        pattern = request.subscribed_topic_regex
        if pattern and not self._topics.knows(pattern):
            again = partial(self.consumer_heartbeat, request, version, client_id, client_host)
            looked_up = Deferred.fromCoroutine(look_up(self._topics, pattern, self._clock))
            return looked_up.addCallback(lambda _: again())
        answer: Deferred[ConsumerGroupHeartbeatResponse] = Deferred()
        sender = Heartbeater(client_id or "", f"/{client_host}", version, self._fresh_id())
        hosted.carry_out(shard.consumers.heartbeat(request, sender, answer, hosted.now))
        return answer

    # Offsets.

    def commit(self, request: OffsetCommitRequest, version: int) -> Deferred[OffsetCommitResponse]:
        """OffsetCommit: fires when the offsets are in the log."""
        hosted = self.host(request.group_id, allow_empty=True)
        decision = hosted.check().commits.commit(request, version, hosted.now, self._wall_clock_ms())
        return hosted.append(decision.entries).addCallback(lambda _: decision.response)

    async def commit_in_transaction(self, request: TxnOffsetCommitRequest, implicit: bool) -> TxnOffsetCommitResponse:
        """TxnOffsetCommit: the offsets count when the transaction is committed; answered when they are in the log.

        With `implicit` the partition of the group is added to the transaction (transactions v2), otherwise it must be in
        it. The member is looked at after that, right before the append, so that no rebalance comes in between. Raises
        KafkaError: what `ITransactions.join` fails with, and what the group has against it.
        """
        hosted = self.host(request.group_id)
        hosted.check()
        producer_id, epoch = request.producer_id, request.producer_epoch
        check = self._writer.check_transaction(hosted.name, producer_id, epoch)
        if check is not None:
            await self._join(request, hosted.name, implicit)
        decision = hosted.check().commits.commit_in_transaction(request, self._wall_clock_ms())
        await hosted.append_in_transaction(decision.entries, InTransaction(producer_id, epoch, check))
        return decision.response

    async def _join(self, request: TxnOffsetCommitRequest, partition: TopicPartition, implicit: bool) -> None:
        """Have the transaction's coordinator agree that the partition belongs to it."""
        codes = await self._transactions.join(
            request.transactional_id, request.producer_id, request.producer_epoch, [partition], not implicit
        )
        code = codes.get(partition, ErrorCode.INVALID_TXN_STATE)
        if code is not ErrorCode.NONE:
            raise KafkaError(code, f"{partition} is not in the producer's transaction")

    async def fetch_offsets(
        self,
        group_id: str,
        wanted: Sequence[TopicPartition] | None,
        require_stable: bool,
        member_id: str | None = None,
        member_epoch: int = -1,
    ) -> list[FetchedOffset]:
        """What the group committed in the `wanted` partitions, None for everywhere. An unknown group has committed nothing.

        With `require_stable` it waits for the commits that are on their way, and an offset that a transaction is about to
        replace is not told. A member of a consumer group may be named, with its epoch.

        Raises KafkaError(UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH) if it is not that.
        """
        hosted = self.host(group_id, allow_empty=True)
        shard = hosted.check()
        consumers = shard.consumers.groups.get(group_id)
        if consumers is not None:
            check_fetch(consumers, member_id, member_epoch)
        if require_stable and shard.offsets.is_in_flight(group_id):
            await hosted.settled()
            shard = hosted.check()
        found: list[FetchedOffset] = []
        for some in shard.offsets.fetched(group_id, wanted, require_stable):
            if found:
                await deferLater(self._clock, 0)
            found += some
        return found

    async def delete_offsets(
        self, group_id: str, wanted: Sequence[TopicPartition]
    ) -> list[tuple[TopicPartition, ErrorCode]]:
        """OffsetDelete: a code for each partition, after the deletion is in the log."""
        hosted = self.host(group_id)
        tombstones, codes = hosted.check().commits.delete(group_id, wanted)
        await hosted.delete(tombstones)
        return codes

    # Groups.

    async def list(self, states: Collection[str] = (), types: Collection[str] = ()) -> list[ListedGroup]:
        """All groups that are coordinated here and pass the filters, which are compared without case."""
        groups: list[ListedGroup] = []
        wanted_states = {name.strip().lower() for name in states}
        wanted_types = {name.lower() for name in types}
        turn = 0
        for hosted in list(self._hosted.values()):
            shard = hosted.check()
            groups += shard.list(wanted_states, wanted_types)
            turn += len(shard.group_ids())
            if turn > _GROUPS_A_TURN:
                turn = 0
                await deferLater(self._clock, 0)
        return groups

    def describe(self, group_id: str) -> DescribedGroup | None:
        """One group, None when there is none of that name."""
        return self.host(group_id, allow_empty=True).check().describe(group_id)

    def summary(self, group_id: str) -> DescribedGroup | None:
        """One group of either protocol, None when there is none of that name."""
        shard = self.host(group_id, allow_empty=True).check()
        group = shard.consumers.groups.get(group_id)
        return shard.describe(group_id) if group is None else summary(group, self.settings.default_assignor)

    def delete(self, group_id: str) -> Deferred[None]:
        """Delete an empty group with its offsets. Fails with KafkaError(NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND).

        Cancelling the result abandons the answer only: the group's requests wait for the deletion, so it has to end.
        """
        answer: Deferred[None] = Deferred()
        Deferred.fromCoroutine(self._delete(group_id)).addCallbacks(answer.callback, answer.errback)
        return answer

    async def _delete(self, group_id: str) -> None:
        hosted = self.host(group_id, allow_empty=True)
        if group_id in hosted.check().shares.groups:
            await delete_share_state(hosted, self.share_states, group_id, None, self._clock)
        shard = hosted.check()
        turn: Deferred[list[Entry]] = Deferred()
        hosted.carry_out(
            shard.turns.take(group_id, turn, lambda now: [Answer(turn, shard.delete_group(group_id))], hosted.now)
        )
        tombstones = await turn
        try:
            await hosted.delete(tombstones)
        finally:
            hosted.carry_out(shard.written(group_id, None, hosted.now))

    def describe_consumer_group(self, group_id: str) -> ConsumerDescribedGroup:
        """One group of the consumer protocol. Raises KafkaError(GROUP_ID_NOT_FOUND)."""
        shard = self.host(group_id).check()
        group = shard.consumers.existing(group_id)
        return describe_consumer_group(group, self._topics, self.settings.default_assignor)
