"""What runs a node's continuous queries: the processes, the service that asks them, and how their steps are written.

A step is a transaction of the node's own, by the same coordinator as clients' transactions: results, late records, changes of
the state, and the source's offsets, as those of group `chronik-query-<name>`, whose lag any tool can show.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
from twisted.application.service import IService
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.task import deferLater

from chronik.analytics.interfaces import Written
from chronik.analytics.query_messages import Producer
from chronik.analytics.runner import QueryRunner, QueryTimes
from chronik.broker.followed import FollowedLogs
from chronik.broker.outcomes import Appended
from chronik.broker.partition import Partition
from chronik.broker.replicas import Replicas
from chronik.broker.transactional import PendingBatch, TransactionalAppends
from chronik.config import Config
from chronik.coordinator.runtime import Coordinator
from chronik.coordinator.transaction import V2, Identity
from chronik.coordinator.transactions import TransactionCoordinator
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata, IDisk
from chronik.log.disk import RealDisk
from chronik.model import QUERY_STATE_TOPIC, ContinuousQuery, Topic, TopicPartition, uuid_to_text
from chronik.query_jobs import KINDS
from chronik.telemetry.metrics import NodeMetrics
from chronik.wire.batches import read_header
from chronik.wire.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from chronik.workers.failures import WorkerLostError
from chronik.workers.process import main_of
from chronik.workers.residents import ResidentWorkers

GROUP_PREFIX = "chronik-query-"
_TRANSACTION_TIMEOUT_MS = 60_000
_ALL = -1
_AT_ONCE = 8
"""Batches that are appended in one turn of the reactor: some 100 us each."""
_TRIES = 100
_AGAIN_SECONDS = 0.05
_LATER = frozenset(
    {
        ErrorCode.CONCURRENT_TRANSACTIONS,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.NOT_COORDINATOR,
    }
)
_Result = TypeVar("_Result")


def continuous(
    config: Config,
    reactor: Any,
    metrics: NodeMetrics,
    *,
    disk: IDisk,
    metadata: IClusterMetadata,
    replicas: Replicas,
    groups: Coordinator,
    transactions: TransactionCoordinator,
    create_topic: Callable[[str], Deferred[Any]],
    declared: Callable[[Topic], dict[str, str]],
    wall_clock_ms: Callable[[], int],
) -> tuple[QueryRunner | None, list[IService]]:
    """The service, and what is to be started for it, in this order. `declared` tells the types of a topic's fields.

    None with query_workers=0, and where data is in memory: a process needs files to read.
    """
    if not config.query_workers or not isinstance(disk, RealDisk):
        return None, []
    processes = ResidentWorkers(reactor, config.query_workers, metrics.workers, main_of("queries"), lambda place: ())

    def ask(
        place: int, request: msgspec.Struct, silence_seconds: float, progress: Callable[[Any], object] = lambda _: None
    ) -> Deferred[Any]:
        return processes.ask(place, KINDS[type(request)], request, silence_seconds=silence_seconds, progress=progress)

    def ensure_state_topic() -> Deferred[Any]:
        return succeed(None) if metadata.topic(QUERY_STATE_TOPIC) is not None else create_topic(QUERY_STATE_TOPIC)

    times = QueryTimes(config.query_interval_ms, config.query_idle_ms, config.query_ahead_ms)
    writer = StepWriter(replicas, groups, transactions, wall_clock_ms, reactor)
    runner = QueryRunner(
        metadata,
        FollowedLogs(replicas.partition_by_id),
        ask,
        WorkerLostError,
        processes.size,
        writer,
        ensure_state_topic,
        declared,
        times,
        wall_clock_ms,
        reactor,
    )
    metrics.queries = runner.metrics
    return runner, [processes, runner]


class StepWriter:
    """See `chronik.analytics.interfaces.QueryWriter`."""

    def __init__(
        self,
        replicas: Replicas,
        groups: Coordinator,
        transactions: TransactionCoordinator,
        wall_clock_ms: Callable[[], int],
        clock: Any,
    ) -> None:
        self._replicas = replicas
        self._groups = groups
        self._transactions = transactions
        self._appends = TransactionalAppends(transactions)
        self._now_ms = wall_clock_ms
        self._clock = clock

    async def begin(self, query: ContinuousQuery) -> Producer:
        """See `QueryWriter`."""
        transactional_id = _transactional_id(query)
        identity = await self._patiently(
            partial(self._transactions.initialise, transactional_id, _TRANSACTION_TIMEOUT_MS, None)
        )
        return Producer(identity.producer_id, identity.epoch)

    async def commit(self, query: ContinuousQuery, producer: Producer, step: Written) -> Producer:
        """See `QueryWriter`."""
        transactional_id = _transactional_id(query)
        await self._append(transactional_id, step)
        await self._commit_offsets(query, producer, step)
        identity = await self._patiently(
            partial(self._transactions.end, transactional_id, Identity(producer.producer_id, producer.epoch), True, V2)
        )
        return Producer(identity.producer_id, identity.epoch)

    async def forget(self, query: ContinuousQuery) -> None:
        """See `QueryWriter`."""
        try:
            await self._groups.delete(GROUP_PREFIX + query.name)
        except KafkaError as error:
            if error.code not in (ErrorCode.GROUP_ID_NOT_FOUND, ErrorCode.NOT_COORDINATOR):
                raise

    async def erase(self, topic: str, partition: int, batches: Sequence[bytes]) -> None:
        """See `QueryWriter`."""
        for batch in batches:
            await self._replicas.append(TopicPartition(topic, partition), bytearray(batch))

    async def _append(self, transactional_id: str, step: Written) -> None:
        """Append all batches; return when they are committed."""
        waiting: list[Deferred[None]] = []
        for start in range(0, len(step.batches), _AT_ONCE):
            if start:
                await deferLater(self._clock, 0)
            pending: list[PendingBatch] = []
            for topic, index, batch in step.batches[start : start + _AT_ONCE]:
                partition = self._replicas.partition(topic, index)
                committed: Deferred[None] = Deferred()
                waiting.append(committed)
                data = bytearray(batch)
                done = partial(_appended, partition, committed)
                pending.append(PendingBatch(partition, data, read_header(data), self._now_ms(), _ALL, done))
            self._appends.append(pending, transactional_id, implicit=True)
        outcomes: list[tuple[bool, Any]] = await DeferredList(waiting, consumeErrors=True)
        for is_committed, problem in outcomes:
            if not is_committed:
                problem.raiseException()

    async def _commit_offsets(self, query: ContinuousQuery, producer: Producer, step: Written) -> None:
        partitions = [
            TxnOffsetCommitRequestPartition(partition_index=partition, committed_offset=offset, committed_metadata="")
            for partition, offset in sorted(step.offsets.items())
        ]
        request = TxnOffsetCommitRequest(
            transactional_id=_transactional_id(query),
            group_id=GROUP_PREFIX + query.name,
            producer_id=producer.producer_id,
            producer_epoch=producer.epoch,
            topics=[TxnOffsetCommitRequestTopic(name=step.source, partitions=partitions)],
        )
        response = await self._patiently(partial(self._groups.commit_in_transaction, request, implicit=True))
        for topic in response.topics:
            for each in topic.partitions:
                if each.error_code:
                    raise KafkaError(ErrorCode(each.error_code), f"offset of {topic.name}-{each.partition_index}")

    async def _patiently(self, attempt: Callable[[], Awaitable[_Result]]) -> _Result:
        """Try until the last transaction is ended, or the coordinator is there. Raises KafkaError."""
        for left in reversed(range(_TRIES)):
            try:
                return await attempt()
            except KafkaError as error:
                if error.code not in _LATER or not left:
                    raise
            await deferLater(self._clock, _AGAIN_SECONDS)
        raise AssertionError("there is a last try")


def _appended(
    partition: Partition, committed: Deferred[None], pending: PendingBatch, outcome: Appended | Exception
) -> None:
    if isinstance(outcome, Exception):
        committed.errback(outcome)
    elif partition.high_watermark >= outcome.end_offset:
        committed.callback(None)
    else:
        partition.commits.wait(
            outcome.end_offset, lambda error: committed.callback(None) if error is None else committed.errback(error)
        )


def _transactional_id(query: ContinuousQuery) -> str:
    return f"{GROUP_PREFIX}{uuid_to_text(query.query_id)}"
