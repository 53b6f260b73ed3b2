"""Fetching: keeps the buffers of some partitions filled by long polls to their leaders.

One fetch at a time runs to each broker, for those partitions of which little is buffered, so that a slow reader bounds the
memory by itself. Leaders that move are found again; an offset that the log no longer has goes to `on_out_of_range`.

Sources: KIP-74 (size limits), KIP-227 (sessions; these fetches have none), KIP-516 (topic ids).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chronik.client.cluster import ClusterClient
from chronik.client.errors import ClientError, error_code
from chronik.client.offsets import LEADER_MOVED
from chronik.client.reading import PartitionReading
from chronik.errors import ErrorCode, KafkaError
from chronik.model import TopicPartition
from chronik.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic

LANE = "fetch"
_RETRY_PAUSE = 0.2
_PASSING = LEADER_MOVED | {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode.UNKNOWN_TOPIC_ID,
    ErrorCode.INCONSISTENT_TOPIC_ID,
    ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR,
}


class Fetching:
    """Fills `readings`. `filled` is called after every response, `failed` with what cannot be retried. Times in seconds."""

    log = Logger()

    def __init__(
        self,
        cluster: ClusterClient,
        *,
        filled: Callable[[], None],
        failed: Callable[[Exception], None],
        on_out_of_range: Callable[[PartitionReading], Awaitable[None]],
        read_committed: bool = False,
        max_wait: float = 0.5,
        min_bytes: int = 1,
        max_bytes: int = 50 * 1024 * 1024,
        partition_bytes: int = 1024 * 1024,
        patience: float = 30.0,
    ) -> None:
        self.readings: dict[TopicPartition, PartitionReading] = {}
        self._cluster = cluster
        self._filled = filled
        self._failed = failed
        self._on_out_of_range = on_out_of_range
        self._read_committed = read_committed
        self._max_wait = max_wait
        self._min_bytes = min_bytes
        self._max_bytes = max_bytes
        self._partition_bytes = partition_bytes
        self._patience = patience
        self._running: dict[int, Deferred[None]] = {}
        self._failing_since: float | None = None
        self._closed = False

    def kick(self) -> None:
        """Start fetches for what wants filling; call after a change of `readings` and after taking from one."""
        if self._closed:
            return
        by_node: dict[int, list[PartitionReading]] = {}
        for partition, reading in self.readings.items():
            if reading.buffered_bytes * 2 < self._partition_bytes:
                by_node.setdefault(self._cluster.metadata.leader(partition), []).append(reading)
        for node_id, readings in by_node.items():
            if node_id not in self._running:
                self._start(node_id, readings)

    def close(self) -> None:
        """End all fetches."""
        self._closed = True
        self.readings = {}
        for running in list(self._running.values()):
            running.cancel()

    def _start(self, node_id: int, readings: list[PartitionReading]) -> None:
        running = Deferred.fromCoroutine(self._find() if node_id < 0 else self._fetch(node_id, readings))
        self._running[node_id] = running

        def ended(result: Failure | None) -> None:
            self._running.pop(node_id, None)
            if result is None:
                self.kick()
            elif not isinstance(result.value, CancelledError):
                problem = result.value
                self._failed(problem if isinstance(problem, Exception) else ClientError(str(problem)))

        running.addBoth(ended)

    async def _find(self) -> None:
        """Partitions without a known leader: ask for the metadata again after a pause."""
        await self._again(KafkaError(ErrorCode.LEADER_NOT_AVAILABLE, "a partition has no leader"))

    async def _again(self, problem: Exception) -> None:
        """After a passing failure: a pause, newer metadata, and another try; raise `problem` once patience is at an end."""
        now = self._cluster.reactor.seconds()
        if self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since > self._patience:
            raise problem
        await self._cluster.pause(_RETRY_PAUSE)
        try:
            await self._cluster.refresh(sorted({partition.topic for partition in self.readings}))
        except (ClientError, KafkaError) as failure:
            self.log.debug("no metadata: {problem}", problem=failure)

    async def _fetch(self, node_id: int, readings: list[PartitionReading]) -> None:
        asked = {reading.partition: reading.fetch_offset for reading in readings}
        try:
            response = await self._send(node_id, asked)
        except CancelledError:
            raise
        except (ClientError, KafkaError) as failure:
            await self._again(failure)
            return
        code = error_code(response.error_code)
        problem = KafkaError(code, f"fetching from broker {node_id}") if code else None
        for topic in response.responses:
            name = topic.topic or self._cluster.metadata.topic_name(topic.topic_id) or ""
            for data in topic.partitions:
                partition = TopicPartition(name, data.partition_index)
                reading = self.readings.get(partition)
                if reading is not None and reading in readings and reading.fetch_offset == asked.get(partition):
                    problem = await self._take_in(reading, data) or problem
        if problem is None:
            self._failing_since = None
            self._filled()
            return
        self._filled()
        if problem.code not in _PASSING:
            raise problem
        await self._again(problem)

    async def _send(self, node_id: int, asked: dict[TopicPartition, int]) -> Any:
        metadata = self._cluster.metadata
        topics: dict[str, FetchTopic] = {}
        for partition, offset in asked.items():
            topic = topics.get(partition.topic)
            if topic is None:
                topic_id = metadata.topic_id(partition.topic)
                topic = topics[partition.topic] = FetchTopic(topic=partition.topic, topic_id=topic_id)
            view = metadata.partition(partition)
            topic.partitions.append(
                FetchPartition(
                    partition=partition.partition,
                    current_leader_epoch=view.leader_epoch,
                    fetch_offset=offset,
                    partition_max_bytes=self._partition_bytes,
                )
            )
        request = FetchRequest(
            max_wait_ms=int(self._max_wait * 1000),
            min_bytes=self._min_bytes,
            max_bytes=self._max_bytes,
            isolation_level=int(self._read_committed),
            topics=list(topics.values()),
        )
        highest = 18 if metadata.have_ids(topics) else 12
        timeout = self._cluster.request_timeout + self._max_wait
        return await self._cluster.send(node_id, request, lane=LANE, timeout=timeout, highest=highest)

    async def _take_in(self, reading: PartitionReading, data: Any) -> KafkaError | None:
        """Put one partition's answer into its reading; return its error, if it is one that concerns the caller."""
        code = error_code(data.error_code)
        if code == ErrorCode.OFFSET_OUT_OF_RANGE:
            await self._on_out_of_range(reading)
            return None
        if code:
            return KafkaError(code, f"fetching {reading.partition} at offset {reading.fetch_offset}")
        end = data.last_stable_offset if self._read_committed and data.last_stable_offset >= 0 else data.high_watermark
        aborted = [(a.first_offset, a.producer_id) for a in data.aborted_transactions or ()]
        reading.fill(data.records or b"", end, aborted)
        return None
