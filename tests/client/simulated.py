"""A cluster in memory for the producer: one broker with Kafka's sequence check, on a clock, that fails as it is told.

It stands where `ClusterClient` stands, and takes real requests with real batches. Failures come from a seeded generator:
connections that break before or after the append, answers of NOT_LEADER, lost requests.
"""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

from chronik.client.cluster import ClusterClient
from chronik.client.errors import ConnectionClosed, Unreachable
from chronik.errors import ErrorCode
from chronik.model import TopicPartition
from chronik.wire.messages.init_producer_id import InitProducerIdResponse
from chronik.wire.messages.metadata import (
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from chronik.wire.messages.produce import (
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceResponse,
)
from chronik.wire.records import check_produced, decode_records

TOPIC_ID = b"t" * 16


class SimulatedPartition:
    """A log, and for each producer the last five batches: (first sequence, last sequence, base offset)."""

    def __init__(self) -> None:
        self.values: list[bytes | None] = []
        self.producers: dict[int, list[tuple[int, int, int]]] = {}

    def append(self, batch: Any, max_bytes: int) -> tuple[ErrorCode, int]:
        header = check_produced(batch)
        if len(batch) > max_bytes:
            return ErrorCode.MESSAGE_TOO_LARGE, -1
        if header.producer_id >= 0:
            known = self.producers.setdefault(header.producer_id, [])
            for first, last, offset in known:
                if (first, last) == (header.base_sequence, header.last_sequence):
                    return ErrorCode.NONE, offset
            expected = known[-1][1] + 1 if known else 0
            if header.base_sequence != expected:
                return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1
            known.append((header.base_sequence, header.last_sequence, len(self.values)))
            del known[:-5]
        offset = len(self.values)
        self.values += [record.value for record in decode_records(batch, 1 << 24)]
        return ErrorCode.NONE, offset


class SimulatedCluster:
    """What `Producer` asks of a ClusterClient. `trouble` is the chance (0 to 1) that a produce request meets a failure."""

    request_timeout = 30.0

    def __init__(self, seed: int, partitions: int = 2, trouble: float = 0.0, max_bytes: int = 1 << 20) -> None:
        from chronik.client.metadata import Metadata

        self.reactor = Clock()
        self.metadata = Metadata()
        self.logs = {i: SimulatedPartition() for i in range(partitions)}
        self.trouble = trouble
        self.max_bytes = max_bytes
        self.requests = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self._random = random.Random(seed)
        self._next_producer_id = 0
        self._queue: list[tuple[ProduceRequest, Deferred[Any]]] = []
        self._serving = False

    retrying = ClusterClient.retrying
    pause = ClusterClient.pause
    _closed = False

    async def refresh(self, names: Any, create: bool = False) -> Any:
        await deferLater(self.reactor, 0.001)
        parts = [MetadataResponsePartition(partition_index=i, leader_id=1) for i in self.logs]
        topic = MetadataResponseTopic(name="t", topic_id=TOPIC_ID, partitions=parts)
        broker = MetadataResponseBroker(node_id=1, host="sim", port=1)
        self.metadata.update(MetadataResponse(brokers=[broker], controller_id=1, topics=[topic]), True)
        return self.metadata

    async def send_to_any(self, request: Any) -> Any:
        await deferLater(self.reactor, 0.001)
        self._next_producer_id += 1
        return InitProducerIdResponse(producer_id=self._next_producer_id, producer_epoch=0)

    async def connection(self, node_id: int, lane: str) -> SimulatedCluster:
        if self._random.random() < self.trouble / 4:
            raise Unreachable("no broker answers at sim:1: refused")
        return self

    def version_of(self, request: Any, highest: int) -> int:
        return 13

    def request(
        self, request: ProduceRequest, *, version: int, timeout: float, expects_response: bool
    ) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        self.requests += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self._queue.append((request, answer))
        self.reactor.callLater(0.002, self._serve)
        return answer

    def _serve(self) -> None:
        if not self._queue:
            return
        request, answer = self._queue.pop(0)
        fate = self._random.random()
        if fate < self.trouble / 2:  # the connection breaks; this request may have been carried out
            if fate < self.trouble / 4:
                self._carry_out(request)
            lost, self._queue = [(request, answer), *self._queue], []
            self.in_flight -= len(lost)
            for _, waiting in lost:
                waiting.errback(ConnectionClosed("the connection to sim:1 was lost"))
            return
        refusing = fate < self.trouble
        response = self._carry_out(request, ErrorCode.NOT_LEADER_OR_FOLLOWER if refusing else None)
        self.in_flight -= 1
        answer.callback(response)

    def _carry_out(self, request: ProduceRequest, refusal: ErrorCode | None = None) -> ProduceResponse:
        topics = []
        for topic in request.topic_data:
            assert topic.topic_id == TOPIC_ID
            answers = []
            for data in topic.partition_data:
                if refusal is not None and self._random.random() < 0.5:
                    code, offset = refusal, -1
                else:
                    code, offset = self.logs[data.index].append(data.records, self.max_bytes)
                answers.append(PartitionProduceResponse(index=data.index, error_code=code, base_offset=offset))
            topics.append(TopicProduceResponse(topic_id=TOPIC_ID, partition_responses=answers))
        return ProduceResponse(responses=topics)

    def run(self, deferred: Deferred[Any], limit: float = 600.0) -> None:
        """Let time pass until `deferred` has fired."""
        while not deferred.called:
            if self.reactor.seconds() > limit:
                raise AssertionError(f"nothing happened in {limit} simulated seconds")
            self.reactor.advance(0.001)


def stored(cluster: SimulatedCluster, partition: TopicPartition) -> list[bytes | None]:
    """The values in one partition's log."""
    return cluster.logs[partition.partition].values
