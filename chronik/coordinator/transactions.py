"""The transaction coordinator of a node: finds the partition that keeps a transactional id, and asks it.

`__transaction_state` has 50 partitions, each with its transactional ids; the node that leads a partition coordinates them. The
node tells the coordinator which ones it leads (`IPartitionHost`); each becomes a `TransactionPartition`. Producers come
through the handlers, the brokers that take their batches through `ITransactions`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Cooperator, deferLater
from twisted.logger import Logger
from zope.interface import implementer

from chronik.coordinator import transaction
from chronik.coordinator.markers import Markers
from chronik.coordinator.settings import TransactionSettings
from chronik.coordinator.topic import CoordinatorTopic, FoundCoordinator
from chronik.coordinator.transaction import Identity, NeedsProducerId, Transaction
from chronik.coordinator.transaction_filters import Filters
from chronik.coordinator.transaction_partition import TransactionPartition
from chronik.errors import ErrorCode, KafkaError
from chronik.features import TRANSACTION_VERSION, require_level
from chronik.interfaces import (
    IClusterMetadata,
    ICommittedReader,
    IMarkerWriter,
    IPartitionHost,
    IPartitionWriter,
    ITransactions,
)
from chronik.model import TRANSACTIONS_TOPIC, PartitionId, TopicPartition

_IDS_A_TURN = 500
_SETTLING_SECONDS = 0.1
"""How long a request waits for the change before it, before its client is told to come again: what Kafka's brokers take."""

_CONCURRENT = ErrorCode.CONCURRENT_TRANSACTIONS


@implementer(IPartitionHost, ITransactions)
class TransactionCoordinator:
    """Coordinates the transactional ids of all partitions of `__transaction_state` that this node leads.

    `ensure_topic` creates that topic where it is missing, and fires when it exists. `fresh_producer_id` gives a producer id
    that nobody ever had. `wall_clock_ms` is the time since 1970.
    """

    log = Logger()

    def __init__(
        self,
        settings: TransactionSettings,
        metadata: IClusterMetadata,
        writer: IPartitionWriter,
        reader: ICommittedReader,
        marker_writer: IMarkerWriter,
        clock: IReactorTime,
        *,
        wall_clock_ms: Callable[[], int],
        fresh_producer_id: Callable[[], Awaitable[int]],
        ensure_topic: Callable[[], Deferred[None]],
    ) -> None:
        self.settings = settings
        self.topic = CoordinatorTopic(
            TRANSACTIONS_TOPIC, metadata, settings.transaction_state_log_num_partitions, ensure_topic
        )
        self._writer = writer
        self._reader = reader
        self._metadata = metadata
        self._markers = Markers(marker_writer, metadata, clock)
        self._clock = clock
        self._wall_clock_ms = wall_clock_ms
        self._fresh_producer_id = fresh_producer_id
        self._hosted: dict[int, TransactionPartition] = {}
        # One slice of work a turn of the reactor, whatever the number of partitions that have some.
        self._cooperator = Cooperator(lambda: lambda: True, lambda tick: clock.callLater(0, tick))
        self._sweeps: dict[str, IDelayedCall] = {}

    # Life.

    def start(self) -> None:
        """Look after timeouts and unused ids from now on."""
        settings = self.settings
        self._every(settings.transaction_abort_timed_out_transaction_cleanup_interval_ms, self.abort_timed_out)
        self._every(settings.transaction_remove_expired_transaction_cleanup_interval_ms, self.remove_expired)

    def stop(self) -> None:
        """End all waiting requests and timers. What is prepared is completed after the next start."""
        for call in self._sweeps.values():
            if call.active():
                call.cancel()
        for hosted in self._hosted.values():
            hosted.resign()
        self._hosted.clear()

    def partition_led(self, partition: PartitionId, name: TopicPartition, leader_epoch: int) -> None:
        """Load the ids of a partition of `__transaction_state`; other topics are not ours."""
        if name.topic != TRANSACTIONS_TOPIC:
            return
        self.partition_resigned(partition, name)
        hosted = self._hosted[name.partition] = TransactionPartition(
            name,
            self.settings,
            self._level,
            leader_epoch,
            self._markers,
            self._writer,
            self._reader,
            self._clock,
            self._cooperator,
            self._wall_clock_ms,
        )
        hosted.load()

    def partition_resigned(self, partition: PartitionId, name: TopicPartition) -> None:
        """Let go of a partition's ids."""
        if name.topic == TRANSACTIONS_TOPIC:
            hosted = self._hosted.pop(name.partition, None)
            if hosted is not None:
                hosted.resign()

    def _every(self, interval_ms: int, sweep: Callable[[], Awaitable[None]]) -> None:
        name = sweep.__name__

        def again() -> None:
            self._sweeps[name] = self._clock.callLater(interval_ms / 1000, again)
            Deferred.fromCoroutine(sweep()).addErrback(  # type: ignore[arg-type]
                lambda failure: self.log.failure("{sweep} failed", failure, sweep=name)
            )

        self._sweeps[name] = self._clock.callLater(interval_ms / 1000, again)

    async def abort_timed_out(self) -> None:
        """Abort every transaction that is open for longer than its timeout."""
        for hosted in list(self._hosted.values()):
            await self._swept(hosted, hosted.abort_timed_out())

    async def remove_expired(self) -> None:
        """Forget every transactional id that was not used for `transactional.id.expiration.ms`."""
        for hosted in list(self._hosted.values()):
            await self._swept(hosted, hosted.remove_expired())

    async def _swept(self, hosted: TransactionPartition, sweep: Awaitable[None]) -> None:
        try:
            await sweep
        except KafkaError as error:
            self.log.warn("{partition}: left for the next time: {error}", partition=str(hosted.name), error=str(error))

    # Finding.

    async def find(self, transactional_id: str, listener: str) -> FoundCoordinator:
        """Which node coordinates the id; `__transaction_state` is created where it is missing.

        Raises KafkaError(COORDINATOR_NOT_AVAILABLE), after which clients ask again.
        """
        return await self.topic.find(transactional_id, listener)

    def _host(self, transactional_id: str) -> TransactionPartition:
        """The partition of an id, loaded or not."""
        if not transactional_id:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "a transactional id cannot be empty")
        hosted = self._hosted.get(self.topic.partition_of(transactional_id))
        if hosted is None:
            raise self.topic.not_here(transactional_id)
        return hosted

    def _level(self) -> int:
        return self._metadata.feature_level(TRANSACTION_VERSION)

    def _check_level(self, client_version: int) -> None:
        """Refuse what the log cannot say at the level that is in force: whether a transaction is one of v2."""
        if client_version >= transaction.V2:
            require_level(TRANSACTION_VERSION, self._level(), 1)

    # The producer's requests.

    async def initialise(self, transactional_id: str, timeout_ms: int, expected: Identity | None) -> Identity:
        """InitProducerId: the producer that the id has from now on, all older ones being fenced.

        Raises KafkaError: INVALID_TRANSACTION_TIMEOUT, PRODUCER_FENCED; CONCURRENT_TRANSACTIONS until what was open is ended.
        """
        hosted, fresh_id = self._host(transactional_id), None
        while True:
            shard = hosted.check()
            try:
                decided = shard.initialise(transactional_id, timeout_ms, expected, hosted.wall_ms, fresh_id)
                break
            except NeedsProducerId:
                fresh_id = await self._fresh_producer_id()
        await hosted.append([shard.entry(transactional_id, decided.state)])
        if decided.producer is None:
            raise KafkaError(_CONCURRENT, "the transaction of the producer before is being aborted")
        return decided.producer

    async def add_partitions(
        self, transactional_id: str, producer: Identity, partitions: Collection[TopicPartition], client_version: int
    ) -> None:
        """AddPartitionsToTxn: returns when the partitions are in the producer's transaction.

        Waits a moment for the end of the last transaction, rather than have the client come again at once. Raises KafkaError:
        INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED, CONCURRENT_TRANSACTIONS; UNSUPPORTED_VERSION of transactions v2 where
        feature `transaction.version` is at level 0.
        """
        hosted = self._host(transactional_id)
        until = self._clock.seconds() + _SETTLING_SECONDS
        while True:
            shard = hosted.check()
            try:
                state = shard.add(transactional_id, producer, partitions, client_version, hosted.wall_ms)
                break
            except KafkaError as error:
                left = until - self._clock.seconds()
                if error.code is not _CONCURRENT or left <= 0:
                    raise
            await hosted.settled_down(transactional_id, left)
        if state is not None:
            self._check_level(client_version)
            await hosted.append([shard.entry(transactional_id, state)])

    def verify_partitions(
        self, transactional_id: str, producer: Identity, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, ErrorCode]:
        """Which of the partitions are in the producer's transaction: NONE or TRANSACTION_ABORTABLE. Raises KafkaError."""
        return self._host(transactional_id).check().verify(transactional_id, producer, partitions)

    async def end(self, transactional_id: str, producer: Identity, commit: bool, client_version: int) -> Identity:
        """EndTxn: returns when the outcome stands in the log, with the producer that may begin the next transaction.

        Raises KafkaError: INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED, INVALID_TXN_STATE, CONCURRENT_TRANSACTIONS;
        UNSUPPORTED_VERSION as `add_partitions`.
        """
        hosted, fresh_id = self._host(transactional_id), None
        while True:
            shard = hosted.check()
            try:
                ended = shard.finish(transactional_id, producer, commit, client_version, hosted.wall_ms, fresh_id)
                break
            except NeedsProducerId:
                fresh_id = await self._fresh_producer_id()
        if ended.state is not None:
            self._check_level(client_version)
            await hosted.append([shard.entry(transactional_id, ended.state)])
        return ended.producer

    # ITransactions.

    def join(
        self,
        transactional_id: str,
        producer_id: int,
        producer_epoch: int,
        partitions: Sequence[TopicPartition],
        verify_only: bool,
    ) -> Deferred[dict[TopicPartition, ErrorCode]]:
        """What a broker asks before it takes a transactional batch, see `ITransactions`."""
        producer = Identity(producer_id, producer_epoch)
        if not verify_only:
            return Deferred.fromCoroutine(self._joined(transactional_id, producer, partitions))
        try:
            return succeed(self.verify_partitions(transactional_id, producer, partitions))
        except KafkaError as error:
            return fail(error)

    async def _joined(
        self, transactional_id: str, producer: Identity, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, ErrorCode]:
        await self.add_partitions(transactional_id, producer, partitions, transaction.V2)
        return dict.fromkeys(partitions, ErrorCode.NONE)

    # Looking.

    def describe(self, transactional_id: str) -> Transaction:
        """The state of an id. Raises KafkaError(TRANSACTIONAL_ID_NOT_FOUND)."""
        state = self._host(transactional_id).check().transactions.get(transactional_id)
        if state is None:
            raise KafkaError(
                ErrorCode.TRANSACTIONAL_ID_NOT_FOUND, f"there is no transactional id {transactional_id!r:.200}"
            )
        return state

    async def list(self, filters: Filters) -> Iterable[tuple[str, Transaction]]:
        """The ids that are coordinated here and pass the filters. Raises KafkaError(COORDINATOR_LOAD_IN_PROGRESS)."""
        found: list[tuple[str, Transaction]] = []
        now_ms = self._wall_clock_ms()
        for hosted in list(self._hosted.values()):
            states = list(hosted.check().transactions.items())
            for start in range(0, len(states), _IDS_A_TURN):
                found += [each for each in states[start : start + _IDS_A_TURN] if filters.passes(*each, now_ms)]
                if start + _IDS_A_TURN < len(states):
                    await deferLater(self._clock, 0)
        return found
