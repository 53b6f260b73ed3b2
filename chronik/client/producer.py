"""The producer: records in, offsets out, in batches.

`send` puts a record into its partition's open batch and returns a Deferred of where it was stored. A batch goes when it is
full or has lingered; all due batches with the same leader travel in one request, and up to five requests are under way to a
broker at a time. What fails for a passing reason is sent again (`batches` tells how order and uniqueness survive that) until
the delivery timeout.

Idempotent by default: the cluster drops the copies that retries make. With `acks=0` nothing is answered, and offsets are -1.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, fail, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from chronik.client.batches import (
    LOST_ITS_PLACE,
    NOBODY,
    RECORD_OVERHEAD,
    Header,
    PartitionQueue,
    PendingRecord,
    ProducerBatch,
    ProducerIdentity,
    record_size,
)
from chronik.client.cluster import ClusterClient
from chronik.client.errors import ClientError, ConnectionClosed, DeliveryTimedOut, Unreachable, check, error_code
from chronik.client.produce_requests import ProduceRequests
from chronik.client.queues import RecordMetadata, RecordQueues
from chronik.errors import RETRIABLE, ErrorCode, KafkaError
from chronik.model import TopicPartition
from chronik.wire.messages.init_producer_id import InitProducerIdRequest
from chronik.wire.records import Codec

_RETRY_PAUSE = 0.1
_MAX_REQUEST_BYTES = 4 * 1024 * 1024
_IDENTITY_WAIT = frozenset(
    {ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.CONCURRENT_TRANSACTIONS}
)
_TOO_LARGE = frozenset({ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.RECORD_LIST_TOO_LARGE})


class Producer:
    """Produces to the cluster behind `cluster`.

    `compression` is none, gzip, snappy, lz4 or zstd; `batch_bytes` bounds a batch before compression, `buffer_bytes` what may
    wait (`room` waits for space, `send` fails beyond twice as much). Times are in seconds. With `create_topics`, unknown topics
    are created where the cluster does that.
    """

    log = Logger()

    def __init__(
        self,
        cluster: ClusterClient,
        *,
        acks: int = -1,
        idempotent: bool | None = None,
        compression: str = "none",
        compression_level: int | None = None,
        batch_bytes: int = 256 * 1024,
        linger: float = 0.005,
        buffer_bytes: int = 32 * 1024 * 1024,
        delivery_timeout: float = 120.0,
        max_in_flight: int = 5,
        create_topics: bool = True,
        choose: random.Random | None = None,
    ) -> None:
        if acks not in (-1, 0, 1):
            raise ValueError(f"acks is 0, 1 or -1 (all), not {acks}")
        if idempotent and acks != -1:
            raise ValueError("an idempotent producer needs acks=-1 (all)")
        self._idempotent = acks == -1 if idempotent is None else idempotent
        if not 1 <= max_in_flight <= 5:
            raise ValueError(f"1 to 5 requests may be in flight, not {max_in_flight}: brokers remember five batches")
        self._cluster = cluster
        self._reactor = cluster.reactor
        self._send = ProduceRequests(cluster, acks, Codec[compression.upper()], compression_level)
        self._linger = linger
        self._buffer_bytes = buffer_bytes
        self._delivery_timeout = delivery_timeout
        # Without sequence numbers, a batch that is sent again could overtake another: one at a time keeps the order.
        in_flight = max_in_flight if self._idempotent or acks == 0 else 1
        self._queues = RecordQueues(
            cluster.metadata,
            choose or random.Random(),
            batch_bytes=batch_bytes,
            buffer_bytes=buffer_bytes,
            max_in_flight=in_flight,
        )
        self._max_requests = max_in_flight
        self._create_topics = create_topics
        self._requests: dict[int, int] = {}
        self._identity: ProducerIdentity | None = None if self._idempotent else NOBODY
        self._hurry = False
        self._timer: IDelayedCall | None = None
        self._tasks: set[Deferred[None]] = set()
        self._refreshing = False
        self._identifying = False
        self._closed = False

    # --- for callers

    def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Sequence[Header] = (),
        timestamp_ms: int | None = None,
        partition: int | None = None,
    ) -> Deferred[RecordMetadata]:
        """Send one record; the Deferred fires with its RecordMetadata once the broker has it (by `acks`).

        Fails with KafkaError (refused), DeliveryTimedOut, or ClientError when the buffer is full. Cancelling only stops the
        caller's wait: the record is sent all the same.
        """
        now = self._reactor.seconds()
        record = PendingRecord(key, value, headers, int(now * 1000) if timestamp_ms is None else timestamp_ms)
        size = record_size(record) if headers or key else RECORD_OVERHEAD + (len(value) if value else 0)
        if self._closed:
            return fail(ClientError("this producer is closed"))
        if self._queues.buffered > 2 * self._buffer_bytes:
            return fail(
                ClientError(f"{self._queues.buffered} bytes wait to be sent: await room() between calls of send()")
            )
        waiter: Deferred[RecordMetadata] = Deferred()
        filled = self._queues.add(topic, record, waiter, partition, size, now)
        if filled is None:
            self._refresh()
        elif filled:
            self._drain()
        elif self._timer is None:
            self._timer = self._reactor.callLater(self._linger, self._tick)
        return waiter

    def room(self) -> Deferred[None]:
        """Fires when less than `buffer_bytes` wait to be sent, at once where that is so already."""
        return self._queues.room()

    def flush(self) -> Deferred[None]:
        """Send everything without lingering; fires when every record sent so far has been answered for, well or ill."""
        done = self._queues.empty()
        if not done.called:
            self._hurry = True
            done.addBoth(self._calm)
            self._drain()
        return done

    def _calm(self, result: Any) -> Any:
        self._hurry = False
        return result

    async def close(self, timeout: float | None = None) -> None:
        """Flush for at most `timeout` seconds, then fail what is left. The cluster client stays open."""
        flushed = self.flush()
        if timeout is not None:
            flushed.addTimeout(timeout, self._reactor)
        try:
            await flushed
        except TimeoutError:
            pass  # what could not be sent is failed below
        finally:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._queues.fail_everything(ClientError("the producer was closed before the record was delivered"))
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await gatherResults(tasks, consumeErrors=True)

    def _tick(self) -> None:
        self._timer = None
        self._drain()

    # --- out of the queues

    def _drain(self) -> None:
        """Send what is due, and see to it that what is not due yet will be."""
        if self._closed:
            return
        now = self._reactor.seconds()
        hurry = self._hurry
        by_node: dict[int, list[PartitionQueue]] = {}
        leaderless = False
        wake_at: float | None = None
        for queue in list(self._queues.active):
            if queue.idle:
                del self._queues.active[queue]
                continue
            expired = queue.expired(now, self._delivery_timeout)
            if expired is not None:
                self._refuse(queue, expired, self._late(queue))
            due_at = queue.due_at(self._linger, hurry)
            if due_at is None:
                continue
            if due_at > now:
                wake_at = due_at if wake_at is None else min(wake_at, due_at)
                continue
            if not self._identify(queue):
                continue
            node_id = self._cluster.metadata.leader(queue.partition)
            if node_id < 0:
                leaderless = True
            elif not queue.in_flight or queue.node_id == node_id:
                by_node.setdefault(node_id, []).append(queue)
        for node_id, queues in by_node.items():
            self._fill_requests(node_id, queues, now, hurry)
        if leaderless:
            self._refresh()
        if wake_at is not None and self._timer is None:
            self._timer = self._reactor.callLater(wake_at - now, self._tick)

    def _fill_requests(self, node_id: int, queues: list[PartitionQueue], now: float, hurry: bool) -> None:
        """Make requests of one batch a partition, while batches are due and the broker may have more requests."""
        while queues and self._requests.get(node_id, 0) < self._max_requests:
            taken: list[tuple[PartitionQueue, ProducerBatch]] = []
            size = 0
            for queue in queues:
                if size < _MAX_REQUEST_BYTES:
                    batch = queue.take(node_id)
                    size += batch.size
                    taken.append((queue, batch))
            self._requests[node_id] = self._requests.get(node_id, 0) + 1
            self._start(self._deliver(node_id, taken))
            queues = [q for q in queues if self._ready(q, now, hurry)]

    def _ready(self, queue: PartitionQueue, now: float, hurry: bool) -> bool:
        due_at = queue.due_at(self._linger, hurry)
        return due_at is not None and due_at <= now

    async def _deliver(self, node_id: int, taken: list[tuple[PartitionQueue, ProducerBatch]]) -> None:
        """Send one request and settle its batches by the answer."""
        try:
            response = await self._send.batches(node_id, [(queue.partition, batch) for queue, batch in taken])
        except CancelledError:
            raise
        except (ClientError, KafkaError) as problem:
            unsent = isinstance(problem, (Unreachable, KafkaError))
            retry_at = self._reactor.seconds() + _RETRY_PAUSE
            for queue, batch in taken:
                self._retry(queue, batch, not unsent, retry_at, problem)
            if not isinstance(problem, ConnectionClosed):
                self.log.debug("produce to broker {node}: {problem}", node=node_id, problem=problem)
            self._refresh()
        else:
            self._settle(taken, response)
        finally:
            self._requests[node_id] -= 1
        self._drain()

    # --- settling

    def _settle(self, taken: list[tuple[PartitionQueue, ProducerBatch]], response: Any) -> None:
        if response is None:  # acks=0
            for queue, batch in taken:
                self._queues.accept(queue, batch, -1, -1)
            return
        answers = {}
        for topic in response.responses:
            name = topic.name or self._cluster.metadata.topic_name(topic.topic_id) or ""
            for answer in topic.partition_responses:
                answers[TopicPartition(name, answer.index)] = answer
        refresh = False
        for queue, batch in taken:
            answer = answers.get(queue.partition)
            if answer is None:
                code, message = ErrorCode.UNKNOWN_SERVER_ERROR, "the broker's answer leaves the partition out"
            else:
                code, message = error_code(answer.error_code), answer.error_message
            if answer is not None and code in (ErrorCode.NONE, ErrorCode.DUPLICATE_SEQUENCE_NUMBER):
                self._queues.accept(queue, batch, answer.base_offset, answer.log_append_time_ms)
                continue
            error = KafkaError(code, f"{queue.partition}: {message}" if message else str(queue.partition))
            if code in LOST_ITS_PLACE and (not queue.is_oldest(batch) or batch.identity != queue.identity):
                self._retry(queue, batch, False, 0.0, error)  # a batch before this one failed: not appended
            elif code in RETRIABLE and code != ErrorCode.CORRUPT_MESSAGE:
                # The broker may have appended it where it only timed out waiting for replicas.
                uncertain = code in (ErrorCode.REQUEST_TIMED_OUT, ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND)
                self._retry(queue, batch, uncertain, self._reactor.seconds() + _RETRY_PAUSE, error)
                refresh = True
            elif code in _TOO_LARGE and len(batch.records) > 1:
                self._queues.fail(queue.refused(batch), error)
                queue.split(batch)
                self._queues.active[queue] = None
            else:
                self._refuse(queue, batch, error)
        if refresh:
            self._refresh()

    def _retry(
        self, queue: PartitionQueue, batch: ProducerBatch, uncertain: bool, retry_at: float, problem: Exception
    ) -> None:
        queue.failed(batch, uncertain, retry_at)
        queue.last_problem = problem
        self._queues.active[queue] = None
        self._queues.fail(queue.stranded(), problem)
        if self._reactor.seconds() - batch.born >= self._delivery_timeout and batch in queue.resend:
            self._refuse(queue, batch, self._late(queue))

    def _late(self, queue: PartitionQueue) -> DeliveryTimedOut:
        why = f"; the last failure was: {queue.last_problem}" if queue.last_problem is not None else ""
        return DeliveryTimedOut(f"{queue.partition}: not delivered within {self._delivery_timeout:g} s{why}")

    def _refuse(self, queue: PartitionQueue, batch: ProducerBatch, error: Exception) -> None:
        lost = queue.refused(batch)
        self._queues.active[queue] = None
        self._queues.fail([batch, *lost], error)

    # --- what must be known first

    def _identify(self, queue: PartitionQueue) -> bool:
        """Whether the queue has an identity; where not, one is asked for."""
        if queue.identity is None:
            if self._identity is not None and self._identity == queue.spoilt_identity:
                self._identity = None
            queue.identity = self._identity
        if queue.identity is None and not self._identifying:
            self._identifying = True
            self._start(self._get_identity())
        return queue.identity is not None

    async def _get_identity(self) -> None:
        async def attempt() -> ProducerIdentity:
            request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=0)
            response = await self._cluster.send_to_any(request)
            check(response.error_code, "a producer id")
            return ProducerIdentity(response.producer_id, response.producer_epoch)

        try:
            self._identity = await self._cluster.retrying(attempt, _IDENTITY_WAIT, self._delivery_timeout)
        except (ClientError, KafkaError) as problem:
            self._queues.fail_unidentified(problem)
        finally:
            self._identifying = False
        self._drain()

    def _refresh(self) -> None:
        """Ask for the metadata of the topics in use, once at a time, again until every topic is known or given up."""
        if not self._refreshing and not self._closed:
            self._refreshing = True
            self._start(self._get_metadata())

    async def _get_metadata(self) -> None:
        pause = 0.0
        try:
            while True:
                if pause:
                    await self._cluster.pause(pause)
                pause = min(pause * 2, 1.0) or 0.05
                problem: Exception | None = None
                try:
                    await self._cluster.refresh(self._queues.topics(), create=self._create_topics)
                except (ClientError, KafkaError) as failure:
                    problem = failure
                now = self._reactor.seconds()
                self._queues.place(now, problem, self._delivery_timeout, self._create_topics)
                complete = problem is None and not self._queues.unplaced
                for queue in self._queues.leaderless():
                    complete = False
                    expired = queue.expired(now, self._delivery_timeout)
                    if expired is not None:
                        self._refuse(queue, expired, self._late(queue))
                if complete:
                    break
        finally:
            self._refreshing = False
        self._drain()

    def _start(self, work: Any) -> None:
        """Run a coroutine of this producer's own, kept until it ends, and logged when it fails unforeseen."""
        task: Deferred[None] = Deferred.fromCoroutine(work)
        self._tasks.add(task)

        def ended(result: Failure | None) -> None:
            self._tasks.discard(task)
            if result is not None and not isinstance(result.value, CancelledError):
                self.log.failure("the producer failed unexpectedly", failure=result)
                self._queues.fail_everything(
                    ClientError(f"the producer failed unexpectedly: {result.getErrorMessage()}")
                )

        task.addBoth(ended)


__all__ = ["Producer", "RecordMetadata"]
