"""Produce on real partitions in memory: what is stored, and how each refusal is answered."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IRequestHandler
from chronik.listeners.context import CloseConnection, HoldingUp, RequestContext
from chronik.listeners.handlers.produce import ProduceHandler
from chronik.model import OFFSETS_TOPIC, TRANSACTIONS_TOPIC
from chronik.telemetry.metrics import Histogram
from chronik.wire.batches import assemble
from chronik.wire.frames import encode_request, read_request_header, response_body
from chronik.wire.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from chronik.wire.records import Codec, Record, decode_records, encode_batch, read_header, stamp_append_time, verify
from tests.broker.test_transactional import Coordinator
from tests.listeners.handlers.hosting import NOW, Hosting

RECORDS = [Record(i, NOW + i, None, b"value-%d" % i) for i in range(3)]


def batch(count: int = 1, timestamp: int = NOW, **options: Any) -> bytes:
    """A good batch of so many records."""
    records = [Record(i, timestamp, None, b"value") for i in range(count)]
    return bytes(encode_batch(records, **options))


def request(records: bytes | None, topic: str = "t", partition: int = 0, acks: int = 1, **topic_fields: Any) -> Any:
    data = [PartitionProduceData(index=partition, records=records)]
    topics = [TopicProduceData(name=topic, partition_data=data, **topic_fields)]
    return ProduceRequest(acks=acks, timeout_ms=1000, topic_data=topics)


class ProduceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.hosting = Hosting()
        self.topic_id = self.hosting.create("t", 2)
        self.handler = ProduceHandler(
            self.hosting.replicas, Histogram(), self.hosting.clock.seconds, self.hosting.clock, Coordinator()
        )

    def ask(self, asked: ProduceRequest, version: int = 9) -> PartitionProduceResponse:
        """The answer for the only partition of a request."""
        response = self.hosting.ask(self.handler, asked, version)
        (topic,) = response.responses
        (answer,) = topic.partition_responses
        assert isinstance(answer, PartitionProduceResponse)
        return answer

    def stored(self, topic: str = "t", partition: int = 0) -> bytes:
        return bytes(self.hosting.partition(topic, partition).read(0, 1 << 20, False, at_least_one=True).records)

    def refused(self, code: ErrorCode, log_start: int, asked: ProduceRequest, version: int = 9) -> Any:
        answer = self.ask(asked, version)
        self.assertEqual((answer.error_code, answer.base_offset), (code, -1), answer)
        self.assertEqual(answer.log_start_offset, log_start)
        self.assertEqual(bool(answer.error_message), version >= 8)
        return answer

    def test_it_is_a_request_handler(self) -> None:
        self.assertTrue(verifyObject(IRequestHandler, self.handler, tentative=True))

    def test_every_version_by_name_or_by_id(self) -> None:
        for number, version in enumerate(range(3, 14)):
            asked = request(batch(2), "" if version >= 13 else "t", topic_id=self.topic_id)
            answer = self.ask(asked, version)
            self.assertEqual((answer.error_code, answer.base_offset), (ErrorCode.NONE, number * 2))
            self.assertEqual(answer.log_append_time_ms, -1)

    def test_what_is_stored_is_what_was_sent(self) -> None:
        """All but base offset and leader epoch, which the CRC leaves out."""
        sent = bytes(encode_batch(RECORDS, codec=Codec.LZ4))
        self.ask(request(sent))
        self.assertEqual(self.stored()[16:], sent[16:])
        self.assertEqual(list(decode_records(self.stored(), 10_000)), RECORDS)

    def test_nowhere_to_append(self) -> None:
        for version, asked, code in (
            (9, request(batch(), "nowhere"), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
            (9, request(batch(), "t", 2), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
            (9, request(batch(), "t", -1), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
            (13, request(batch(), topic_id=b"\x09" * 16), ErrorCode.UNKNOWN_TOPIC_ID),
        ):
            self.refused(code, -1, asked, version)

    def test_the_nodes_own_topics_are_not_for_clients(self) -> None:
        for name in (OFFSETS_TOPIC, TRANSACTIONS_TOPIC):
            topic_id = self.hosting.create(name)
            for version, fields in ((9, {"topic": name}), (13, {"topic": "", "topic_id": topic_id})):
                answer = self.ask(request(batch(), **fields), version)  # type: ignore[arg-type]
                self.assertEqual((answer.error_code, answer.base_offset), (ErrorCode.INVALID_TOPIC_EXCEPTION, -1))
            self.assertEqual(self.hosting.partition(name).high_watermark, 0)

    def test_acks_that_are_none(self) -> None:
        for acks in (2, -2):
            self.refused(ErrorCode.INVALID_REQUIRED_ACKS, -1, request(batch(), acks=acks))

    def test_bytes_that_are_no_single_batch_are_answered_without_the_logs_start(self) -> None:
        for records in (None, b"", batch()[:-1], batch() + batch()):
            self.refused(ErrorCode.INVALID_RECORD, -1, request(records))
        flipped = bytearray(batch())
        flipped[-1] ^= 1
        self.refused(ErrorCode.CORRUPT_MESSAGE, -1, request(bytes(flipped)))
        self.assertEqual(self.hosting.partition("t").high_watermark, 0)

    def test_wrong_contents_are_answered_with_the_logs_start(self) -> None:
        for _ in range(3):
            self.ask(request(batch()))
        self.hosting.partition("t").delete_records(2, lambda error: None)
        self.refused(ErrorCode.INVALID_RECORD, 2, request(batch(control=True)))
        without_epoch = batch(producer_id=5, producer_epoch=-1, base_sequence=0)
        self.refused(ErrorCode.INVALID_PRODUCER_EPOCH, 2, request(without_epoch))

    def test_a_refused_timestamp_names_the_record_where_there_is_one_only(self) -> None:
        far = NOW + 3_600_001
        answer = self.refused(ErrorCode.INVALID_TIMESTAMP, 0, request(batch(timestamp=far)))
        (fault,) = answer.record_errors
        self.assertEqual((fault.batch_index, fault.batch_index_error_message), (0, answer.error_message))
        self.assertEqual(self.ask(request(batch(timestamp=far - 1))).error_code, ErrorCode.NONE)
        answer = self.refused(ErrorCode.INVALID_TIMESTAMP, 0, request(batch(2, timestamp=far)))
        self.assertEqual(answer.record_errors, [])

    def test_zstd_is_for_version_7(self) -> None:
        zstd = batch(codec=Codec.ZSTD)
        self.refused(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, -1, request(zstd), 6)
        self.assertEqual(self.ask(request(batch(codec=Codec.GZIP)), 6).error_code, ErrorCode.NONE)
        self.assertEqual(self.ask(request(zstd), 7).base_offset, 1)

    def test_only_the_topic_says_what_timestamps_mean(self) -> None:
        """A producer's claim of append times is taken back, and one's own time is put over the records' where asked for."""
        claimed = encode_batch(RECORDS)
        stamp_append_time(claimed, NOW + 5)
        self.ask(request(bytes(claimed)))
        self.assertFalse(verify(self.stored()).log_append_time)
        self.assertEqual(list(decode_records(self.stored(), 10_000)), RECORDS)
        self.hosting.create("stamped", message_timestamp_type="LogAppendTime")
        answer = self.ask(request(bytes(encode_batch(RECORDS)), "stamped"))
        self.assertEqual(answer.log_append_time_ms, NOW)
        self.assertEqual({each.timestamp for each in decode_records(self.stored("stamped"), 10_000)}, {NOW})

    def test_one_partition_twice_is_appended_twice(self) -> None:
        asked = request(batch())
        asked.topic_data[0].partition_data.append(PartitionProduceData(index=0, records=batch()))
        response = self.hosting.ask(self.handler, asked, 9)
        self.assertEqual([each.base_offset for each in response.responses[0].partition_responses], [0, 1])

    def test_each_partition_is_answered_for_itself(self) -> None:
        asked = request(batch(), partition=1)
        asked.topic_data[0].partition_data.append(PartitionProduceData(index=0, records=b"\0" * 80))
        response = self.hosting.ask(self.handler, asked, 9)
        codes = [each.error_code for each in response.responses[0].partition_responses]
        self.assertEqual(codes, [ErrorCode.NONE, ErrorCode.CORRUPT_MESSAGE])

    def test_without_acks_nothing_is_answered_and_a_fault_closes(self) -> None:
        context_free = request(batch(), acks=0)
        self.assertRaises(AttributeError, self.hosting.ask, self.handler, context_free, 9)  # None has no encoding
        self.assertEqual(self.hosting.partition("t").high_watermark, 1)
        self.assertRaises(CloseConnection, self.hosting.ask, self.handler, request(b"", acks=0), 9)

    def test_without_acks_a_refusal_closes_too(self) -> None:
        for code in (ErrorCode.UNSUPPORTED_VERSION, ErrorCode.UNKNOWN_SERVER_ERROR):
            error = KafkaError(code, "as asked")
            self.assertRaises(CloseConnection, self.handler.refuse, request(batch(), acks=0), 2, error)
            self.assertEqual(len(self.handler.refuse(request(batch(), acks=1), 2, error).responses), 1)

    def test_a_durable_topic_answers_when_the_bytes_are_on_disk(self) -> None:
        self.hosting.create("safe", chronik_durability="fsync")
        for acks in (1, -1):
            answers: list[Any] = []
            self.hosting.begin(self.handler, request(batch(), "safe", acks=acks), 9).addCallback(answers.append)
            self.assertEqual(answers, [])
            self.hosting.clock.advance(0)
            self.assertEqual(answers[0].responses[0].partition_responses[0].error_code, ErrorCode.NONE)

    def test_what_is_not_on_disk_in_time_is_told(self) -> None:
        self.hosting.create("safe", chronik_durability="fsync")
        self.hosting.worker.stuck = True
        answers: list[Any] = []
        self.hosting.begin(self.handler, request(batch(), "safe"), 9).addCallback(answers.append)
        self.hosting.clock.advance(1.5)
        (answer,) = answers[0].responses[0].partition_responses
        self.assertEqual((answer.error_code, answer.base_offset), (ErrorCode.REQUEST_TIMED_OUT, -1))

    # -- compressed anew

    def begin(self, size: int = 200_000, **options: Any) -> list[Any]:
        """Ask for a large batch to be appended where the topic has its own codec; what is answered, in a list."""
        outcome: list[Any] = []
        records = encode_batch([Record(0, NOW, None, bytes(size))])
        deferred = self.hosting.begin(self.handler, request(bytes(records), "coded", **options), 9)
        deferred.addBoth(outcome.append)
        if not outcome:
            outcome.append(deferred)
        return outcome

    def result(self, outcome: list[Any]) -> tuple[int, int]:
        """Error code and offset."""
        (answer,) = outcome[-1].responses[0].partition_responses
        return answer.error_code, answer.base_offset

    def hold_threads(self) -> Any:
        self.hosting.create("coded", compression_type="lz4")
        self.hosting.threads.held = []
        return self.hosting.threads

    def test_compressed_anew_it_is_answered_when_it_is_appended(self) -> None:
        for acks in (1, -1):
            with self.subTest(acks=acks):
                threads = self.hold_threads() if acks == 1 else self.hosting.threads
                outcomes = [self.begin(acks=acks), self.begin(10, acks=acks)]
                self.assertEqual([len(each) for each in outcomes], [1, 1])
                threads.do()
                expected = [(ErrorCode.NONE, n + (0 if acks == 1 else 2)) for n in (0, 1)]
                self.assertEqual([self.result(each) for each in outcomes], expected)
        self.assertNotIn("give_up", {call.func.__name__ for call in self.hosting.clock.getDelayedCalls()})

    def test_what_does_not_get_its_turn_in_time_is_not_appended(self) -> None:
        threads = self.hold_threads()
        outcomes = [self.begin(), self.begin(10)]
        self.hosting.clock.advance(1.5)
        self.assertEqual([self.result(each) for each in outcomes], [(ErrorCode.REQUEST_TIMED_OUT, -1), (0, 0)])
        threads.do()
        self.assertEqual(self.hosting.partition("coded").log.end_offset, 1)

    def test_it_is_appended_though_its_client_is_gone(self) -> None:
        threads = self.hold_threads()
        outcome = self.begin()
        outcome[0].cancel()
        threads.do()
        self.assertEqual(self.hosting.partition("coded").log.end_offset, 1)

    def test_compressed_anew_without_acks(self) -> None:
        threads = self.hold_threads()
        answer = self.handler.handle(
            request(bytearray(encode_batch([Record(0, NOW, None, bytes(200_000))])), "coded", acks=0),
            RequestContext(None, 9, "test", NOW),  # type: ignore[arg-type]
        )
        self.assertIsInstance(answer, HoldingUp)
        self.hosting.clock.advance(100)
        threads.do()
        self.assertIsNone(self.successResultOf(answer))
        self.assertEqual(self.hosting.partition("coded").log.end_offset, 1)

    def test_a_deletion_without_acks_closes(self) -> None:
        self.hold_threads()
        outcome = self.begin(acks=0)
        self.hosting.delete("coded")
        outcome[-1].trap(CloseConnection)

    def test_contents_that_cannot_be_compressed_anew(self) -> None:
        threads = self.hold_threads()
        sent = encode_batch([Record(0, NOW, None, b"x" * 200_000)])
        header = read_header(sent)
        damaged = assemble(header._replace(attributes=Codec.GZIP), bytes(sent[61:]))
        outcome: list[Any] = []
        self.hosting.begin(self.handler, request(bytes(damaged), "coded"), 9).addBoth(outcome.append)
        threads.do()
        self.assertEqual(self.result(outcome), (ErrorCode.CORRUPT_MESSAGE, -1))


class Shaped:
    """A handler that serves each request as one whose shape is known, where it can have one."""

    def __init__(self, handler: ProduceHandler) -> None:
        self._handler = handler
        self.api_key, self.refuse = handler.api_key, handler.refuse
        self.min_version, self.max_version = handler.min_version, handler.max_version
        self.served = 0

    def handle(self, request: ProduceRequest, context: RequestContext) -> Any:
        version = context.api_version
        frame = memoryview(bytearray(b"".join(encode_request(request, version, 77, context.client_id))))[4:]
        header = read_request_header(frame, request.is_flexible(version))
        shape = self._handler.shape(frame, version, ProduceRequest.decode(frame, version, header.body)[0])
        if shape is None:
            return self._handler.handle(request, context)
        found = shape.split(frame)
        assert found is not None
        self.served += 1
        answer = self._handler.handle_shaped(shape, *found, 77, context.now_ms(), context.received)
        if not isinstance(answer, bytes):
            return answer
        correlation, body = response_body(memoryview(answer)[4:], ProduceResponse, version)
        assert correlation == 77
        return ProduceResponse.decode(memoryview(answer)[4:], version, body)[0]


class ShapedProduceTests(ProduceTests):
    """All of the same, of requests whose shape is known."""

    def setUp(self) -> None:
        super().setUp()
        self.handler: Any = Shaped(self.handler)

    def test_it_is_really_served_so(self) -> None:
        self.ask(request(batch()))
        self.ask(request(b"wrong"), 9)
        self.assertEqual(self.handler.served, 2)
