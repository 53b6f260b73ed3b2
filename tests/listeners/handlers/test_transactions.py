"""Transactions through the handlers: Produce with a coordinator that takes its time, Fetch, OffsetFetch, DescribeProducers."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import succeed
from twisted.trial.unittest import SynchronousTestCase

from chronik.broker.fetch_sessions import FetchSessions
from chronik.errors import ErrorCode
from chronik.listeners.handlers.describe_producers import DescribeProducersHandler
from chronik.listeners.handlers.list_offsets import ListOffsetsHandler
from chronik.listeners.handlers.produce import ProduceHandler
from chronik.listeners.handlers.txn_offset_commit import TxnOffsetCommitHandler
from chronik.model import TopicPartition, TransactionMarker
from chronik.telemetry.metrics import Histogram
from chronik.wire.compression import Codec
from chronik.wire.frames import encode_request
from chronik.wire.messages.describe_producers import DescribeProducersRequest, TopicRequest
from chronik.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from chronik.wire.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from chronik.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from chronik.wire.produce_shape import ProduceShape
from chronik.wire.records import split_batches
from tests.broker.test_transactional import Coordinator
from tests.broker.test_transactions import batch
from tests.coordinator.test_transactional_offsets import txn_request
from tests.coordinator.world import World
from tests.listeners.handlers.hosting import Hosting
from tests.listeners.handlers.serving import Serving

T = TopicPartition("t", 0)


class DataTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.hosting = Hosting()
        self.hosting.create("t", 2)
        self.coordinator = Coordinator()
        clock = self.hosting.clock
        self.produce = ProduceHandler(self.hosting.replicas, Histogram(), clock.seconds, clock, self.coordinator)
        self.fetch = self.hosting.fetch_handler(FetchSessions(10, 1000, lambda: 1))

    def send(self, sequence: int, version: int = 12, acks: int = -1, name: str | None = "id", epoch: int = 0) -> Any:
        data = PartitionProduceData(index=0, records=batch(1, epoch, sequence, transactional=True))
        topic = TopicProduceData(name="t", partition_data=[data])
        request = ProduceRequest(transactional_id=name, acks=acks, timeout_ms=1000, topic_data=[topic])
        return self.hosting.begin(self.produce, request, version)

    def answer(self, deferred: Any) -> tuple[int, int]:
        (topic,) = self.successResultOf(deferred).responses
        (answer,) = topic.partition_responses
        return answer.error_code, answer.base_offset

    def marker(self, commit: bool, epoch: int = 1) -> None:
        self.successResultOf(self.hosting.replicas.write_marker(T, TransactionMarker(1, epoch, commit, 3)))

    def fetched(self, committed: bool = True, offset: int = 0, max_wait_ms: int = 0, min_bytes: int = 1) -> Any:
        partition = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 20)
        request = FetchRequest(
            max_wait_ms=max_wait_ms,
            min_bytes=min_bytes,
            max_bytes=1 << 20,
            isolation_level=int(committed),
            topics=[FetchTopic(topic="t", partitions=[partition])],
        )
        return self.hosting.begin(self.fetch, request, 11)

    def partition_of(self, deferred: Any) -> Any:
        return self.successResultOf(deferred).responses[0].partitions[0]

    def test_versions(self) -> None:
        self.assertEqual(self.answer(self.send(0, version=12)), (0, 0))
        self.marker(True)
        self.assertEqual(self.answer(self.send(0, version=11, epoch=1)), (0, 2))
        self.assertEqual([question[4] for question in self.coordinator.asked], [False, True])
        self.marker(True, epoch=2)
        self.coordinator.code = ErrorCode.TRANSACTION_ABORTABLE
        self.assertEqual(self.answer(self.send(0, 10, epoch=2))[0], ErrorCode.INVALID_TXN_STATE)
        self.assertEqual(self.answer(self.send(0, 11, epoch=2))[0], ErrorCode.TRANSACTION_ABORTABLE)

    def test_pipelined_requests_keep_their_order(self) -> None:
        self.coordinator.slow = True
        first, second = self.send(0), self.send(1)
        self.assertNoResult(first)
        self.assertNoResult(second)
        self.coordinator.answer()
        self.assertEqual((self.answer(first), self.answer(second)), ((0, 0), (0, 1)))

    def test_where_batches_are_compressed_anew(self) -> None:
        """The one that the coordinator has to be asked about is appended as it was compressed, at once or in its turn."""
        self.hosting.create("z", compression_type="lz4")
        self.coordinator.slow = True
        for sequence, size in ((0, 10), (1, 100_000)):
            sent = batch(1, 0, sequence, transactional=True, value=b"x" * size)
            topic = TopicProduceData(name="z", partition_data=[PartitionProduceData(index=0, records=sent)])
            request = ProduceRequest(transactional_id="id", acks=-1, timeout_ms=1000, topic_data=[topic])
            waiting = self.hosting.begin(self.produce, request, 12)
            self.hosting.clock.pump([0] * 5)
            if not sequence:
                self.assertNoResult(waiting)
                self.coordinator.answer()
            self.assertEqual(self.answer(waiting), (0, sequence))
        data = self.hosting.partition("z").read(0, 1 << 20, False, True).records
        self.assertEqual([header.codec for _, header in split_batches(data)], [Codec.LZ4] * 2)

    def test_a_client_that_has_gone_does_not_stop_its_batch(self) -> None:
        self.coordinator.slow = True
        waiting = self.send(0)
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        self.coordinator.answer()
        self.assertEqual(self.hosting.partition("t").log.end_offset, 1)

    def test_without_a_transactional_id(self) -> None:
        """The whole request is refused, also where its transaction is open, and where it has the shape of one before."""
        refused = (ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, -1)
        self.assertEqual(self.answer(self.send(0, name=None)), refused)
        self.assertEqual(self.answer(self.send(0)), (0, 0))
        self.assertEqual(self.answer(self.send(1, name=None)), refused)
        sent = (batch(), batch(1, 0, 1, transactional=True))
        parts = [PartitionProduceData(index=index, records=each) for index, each in enumerate(sent)]
        both = ProduceRequest(acks=-1, topic_data=[TopicProduceData(name="t", partition_data=parts)])
        (topic,) = self.successResultOf(self.hosting.begin(self.produce, both, 9)).responses
        self.assertEqual([answer.error_code for answer in topic.partition_responses], [refused[0]] * 2)
        first = ProduceRequest(acks=-1, topic_data=[TopicProduceData(name="t", partition_data=parts[:1])])
        frame = memoryview(bytearray(b"".join(encode_request(first, 9, 1, "c"))))[4:]
        shape = ProduceShape.of(frame, 9, first)
        assert shape is not None
        answer = self.produce.handle_shaped(shape, 0, memoryview(batch(1, 0, 1, transactional=True)), 5, 0, 0.0)
        self.assertEqual(self.answer(succeed(answer)), refused)
        garbage = bytearray(b"\xff" * 100)  # has all bits, and is no transactional batch
        answer = self.produce.handle_shaped(shape, 0, memoryview(garbage), 6, 0, 0.0)
        self.assertEqual(self.answer(succeed(answer)), (ErrorCode.CORRUPT_MESSAGE, -1))
        self.assertEqual(self.hosting.partition("t").log.end_offset, 1)

    def test_refusals(self) -> None:
        self.coordinator.code = ErrorCode.CONCURRENT_TRANSACTIONS
        self.assertEqual(self.answer(self.send(0)), (ErrorCode.NOT_ENOUGH_REPLICAS, -1))

    def test_readers(self) -> None:
        self.send(0)
        data = self.partition_of(self.fetched())
        self.assertEqual((len(data.records), data.last_stable_offset, data.high_watermark), (0, 0, 1))
        self.assertEqual(data.aborted_transactions, [])
        self.assertIsNone(self.partition_of(self.fetched(committed=False)).aborted_transactions)
        waiting = self.fetched(max_wait_ms=1000, min_bytes=100)
        self.assertNoResult(waiting)
        self.send(1)
        self.hosting.clock.advance(0)
        self.assertNoResult(waiting)
        self.marker(False)
        self.hosting.clock.advance(0)
        data = self.partition_of(waiting)
        self.assertEqual([(a.producer_id, a.first_offset) for a in data.aborted_transactions], [(1, 0)])
        self.assertEqual((data.last_stable_offset, data.high_watermark), (3, 3))

    def test_list_offsets_and_describe_producers(self) -> None:
        self.send(0)
        self.send(1)
        latest = ListOffsetsTopic(name="t", partitions=[ListOffsetsPartition(partition_index=0, timestamp=-1)])
        offsets = [
            self.hosting.ask(
                ListOffsetsHandler(self.hosting.replicas), ListOffsetsRequest(isolation_level=level, topics=[latest]), 7
            )
            .topics[0]
            .partitions[0]
            .offset
            for level in (0, 1)
        ]
        self.assertEqual(offsets, [2, 0])
        request = DescribeProducersRequest(topics=[TopicRequest(name="t", partition_indexes=[0])])
        for start, coordinator_epoch in ((0, -1), (-1, 3)):
            described = self.hosting.ask(DescribeProducersHandler(self.hosting.replicas), request)
            (producer,) = described.topics[0].partitions[0].active_producers
            self.assertEqual(
                (producer.current_txn_start_offset, producer.coordinator_epoch), (start, coordinator_epoch)
            )
            self.marker(True)


class TxnOffsetCommitTests(SynchronousTestCase):
    def send(self, version: int, code: ErrorCode = ErrorCode.NONE, **places: int) -> dict[tuple[str, int], int]:
        world = World()
        agreeing = world.transactions
        agreeing.code = code
        handler = TxnOffsetCommitHandler(world.coordinator, world.metadata)
        request = txn_request({TopicPartition(name, index): 5 for name, index in places.items()})
        answer = Serving().ask(handler, request, version)
        self.asked = agreeing.asked
        return {(t.name, p.partition_index): p.error_code for t in answer.topics for p in t.partitions}

    def test_every_version(self) -> None:
        for version in range(6):
            self.assertEqual(self.send(version, events=1), {("events", 1): 0})
            self.assertEqual([question[4] for question in self.asked], [version < 5])

    def test_what_does_not_exist_is_refused_alone(self) -> None:
        self.assertEqual(self.send(3, events=1, nowhere=0), {("events", 1): 0, ("nowhere", 0): 3})
        self.assertEqual(self.send(3, events=10), {("events", 10): 3})
        self.assertEqual(self.asked, [])

    def test_what_clients_are_told(self) -> None:
        codes = ErrorCode
        for version, code, told in (
            (5, codes.CONCURRENT_TRANSACTIONS, codes.COORDINATOR_LOAD_IN_PROGRESS),
            (1, codes.CONCURRENT_TRANSACTIONS, codes.COORDINATOR_NOT_AVAILABLE),
            (5, codes.PRODUCER_FENCED, codes.INVALID_PRODUCER_EPOCH),
            (3, codes.TRANSACTION_ABORTABLE, codes.INVALID_TXN_STATE),
            (4, codes.TRANSACTION_ABORTABLE, codes.TRANSACTION_ABORTABLE),
        ):
            self.assertEqual(self.send(version, code, events=1), {("events", 1): told})
