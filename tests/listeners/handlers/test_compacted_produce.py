"""Produce to a compacted topic: records without a key are refused, and large batches are checked elsewhere, in their order."""

from __future__ import annotations

from os import urandom
from typing import Any

from crc32c import crc32c
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from chronik.broker.key_check import INLINE_RECORDS, MAX_NAMED
from chronik.broker.preparation import SMALL_BYTES
from chronik.controller.commands import AlterConfigs, ConfigOperation, ConfigResource, Operation, ResourceType
from chronik.errors import ErrorCode
from chronik.listeners.handlers.produce import ProduceHandler
from chronik.telemetry.metrics import Histogram
from chronik.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from chronik.wire.records import Codec, Record, decode_records, encode_batch, split_batches
from tests.broker.test_transactional import Coordinator
from tests.listeners.handlers.hosting import NOW, Hosting

LARGE = INLINE_RECORDS + 1


def batch(pairs: list[tuple[bytes | None, bytes]], codec: Codec = Codec.NONE, **options: Any) -> bytes:
    records = [Record(index, NOW, key, value) for index, (key, value) in enumerate(pairs)]
    return bytes(encode_batch(records, codec=codec, **options))


def large(value: bytes = b"", keyless: tuple[int, ...] = (), codec: Codec = Codec.NONE) -> bytes:
    return batch([(None if index in keyless else b"k", value) for index in range(LARGE)], codec)


class CompactedTopics(SynchronousTestCase):
    def setUp(self) -> None:
        self.hosting = Hosting()
        self.hosting.create("c", cleanup_policy="compact")
        self.hosting.create("__consumer_offsets", cleanup_policy="compact")
        self.threads = self.hosting.threads
        self.threads.held = []
        self.handler = ProduceHandler(
            self.hosting.replicas, Histogram(), self.hosting.clock.seconds, self.hosting.clock, Coordinator()
        )

    def begin(self, *batches: bytes, topic: str = "c", acks: int = 1) -> list[Any]:
        """The answers will be in what is returned."""
        answers: list[Any] = []
        for each in batches:
            data = [PartitionProduceData(index=0, records=each)]
            asked = ProduceRequest(
                acks=acks, timeout_ms=1000, topic_data=[TopicProduceData(name=topic, partition_data=data)]
            )
            begun: Deferred[Any] = self.hosting.begin(self.handler, asked, 9)
            begun.addCallback(lambda response: response.responses[0].partition_responses[0]).addBoth(answers.append)
        return answers

    def refused(self, *batches: bytes) -> Any:
        (answer,) = self.begin(*batches)
        self.assertEqual((answer.error_code, answer.base_offset), (ErrorCode.INVALID_RECORD, -1), answer)
        return answer

    def stored(self) -> list[tuple[bytes | None, bytes | None]]:
        data, found = self.hosting.partition("c").log.read(0, 1 << 24, 1 << 40)[0], []
        position = 0
        while position < len(data):
            size = int.from_bytes(data[position + 8 : position + 12], "big") + 12
            found += [(r.key, r.value) for r in decode_records(data[position : position + size], 1 << 24)]
            position += size
        return found

    def test_every_codec_with_keys(self) -> None:
        for codec in Codec:
            (answer,) = self.begin(batch([(b"k", b"v"), (b"", b"")], codec))
            self.assertEqual((answer.error_code, answer.base_offset), (0, 2 * codec))
        self.assertEqual(self.threads.held, [])

    def test_records_without_a_key_are_named(self) -> None:
        for codec in Codec:
            answer = self.refused(batch([(b"k", b"v"), (None, b"v"), (b"k", b"v"), (None, b"v")], codec))
            self.assertEqual([error.batch_index for error in answer.record_errors], [1, 3])
            self.assertIn("key", answer.record_errors[0].batch_index_error_message)
            self.assertEqual(answer.log_start_offset, 0)
        self.assertEqual(self.stored(), [])

    def test_a_key_that_is_null_in_more_bytes_than_it_takes(self) -> None:
        sent = bytearray(batch([(None, b"v")]))
        at = sent.index(b"\x01\x02v")  # the lengths -1 and 1, and the value
        sent[at : at + 1] = b"\x81\x00"
        sent[61] += 2  # the record is a byte longer
        sent[8:12] = (len(sent) - 12).to_bytes(4, "big")
        sent[17:21] = crc32c(bytes(sent[21:])).to_bytes(4, "big")
        self.refused(bytes(sent))

    def test_what_is_no_row_of_records(self) -> None:
        for count in (1, 3):
            sent = bytearray(batch([(b"k", b"v"), (b"k", b"v")]))
            sent[57:61], sent[23:27] = count.to_bytes(4, "big"), (count - 1).to_bytes(4, "big")
            sent[17:21] = crc32c(bytes(sent[21:])).to_bytes(4, "big")
            self.assertEqual(self.refused(bytes(sent)).record_errors, [])

    def test_other_topics_take_what_has_no_key(self) -> None:
        self.hosting.create("t")
        self.hosting.create("both", cleanup_policy="compact,delete")
        for topic, code in (("t", 0), ("both", ErrorCode.INVALID_RECORD)):
            (answer,) = self.begin(batch([(None, b"v")]), topic=topic)
            self.assertEqual(answer.error_code, code, topic)

    def carry_out(self) -> None:
        """What threads were given, and what is left to later turns of the event loop."""
        while self.threads.held:
            self.threads.do()
        self.hosting.clock.advance(0)

    def test_large_batches_wait_for_their_turn(self) -> None:
        answers = self.begin(large(b"a"), batch([(b"k", b"b")]), large(b"c", (2, 4000)), large(b"d", codec=Codec.ZSTD))
        self.assertEqual((answers, len(self.threads.held or [])), ([], 3))
        self.threads.do(2)
        self.threads.do(1)
        self.assertEqual(answers, [])  # they come after the first
        self.threads.do(0)
        self.assertEqual([answer.base_offset for answer in answers], [0, LARGE, -1, LARGE + 1])
        self.assertEqual([error.batch_index for error in answers[2].record_errors], [2, 4000])
        self.assertEqual([value for _, value in self.stored()], [b"a"] * LARGE + [b"b"] + [b"d"] * LARGE)
        (answer,) = self.begin(batch([(b"k", b"e")]))  # nothing waits any more
        self.assertEqual(answer.base_offset, 2 * LARGE + 1)
        self.assertEqual(self.threads.bytes, 0)

    def test_a_small_batch_that_grows_large_is_checked_elsewhere(self) -> None:
        answers = self.begin(batch([(b"k", bytes(2 << 20))], Codec.ZSTD))
        self.assertEqual(answers, [])
        self.carry_out()
        self.assertEqual(answers[0].error_code, 0)

    def test_a_refusal_names_so_many_and_no_more(self) -> None:
        answers = self.begin(large(keyless=tuple(range(LARGE))))
        self.carry_out()
        self.assertEqual(len(answers[0].record_errors), MAX_NAMED)

    def test_what_waits_is_counted(self) -> None:
        sent = [large(b"0123"), large(b"0123")]
        self.begin(*sent)
        self.assertEqual(self.threads.bytes, sum(map(len, sent)))

    def test_what_is_not_checked_in_time_is_never_appended(self) -> None:
        answers = self.begin(large(b"a"))
        self.hosting.clock.advance(1.1)
        self.assertEqual([answer.error_code for answer in answers], [ErrorCode.REQUEST_TIMED_OUT])
        self.carry_out()
        self.assertEqual(self.stored(), [])

    def test_a_policy_that_comes_while_batches_wait_holds_for_them(self) -> None:
        self.hosting.create("later", compression_type="zstd")
        incompressible = urandom(2 * SMALL_BYTES)
        answers = self.begin(batch([(None, incompressible)]), batch([(b"k", incompressible)]), topic="later")
        change = ConfigOperation("cleanup.policy", Operation.SET, "compact")
        self.hosting.cluster.do(AlterConfigs(((ConfigResource(ResourceType.TOPIC, "later"), (change,)),)))
        self.carry_out()
        self.assertEqual([answer.error_code for answer in answers], [ErrorCode.INVALID_RECORD, 0])

    def test_a_topic_that_is_deleted_meanwhile(self) -> None:
        answers = self.begin(large(b"a"), large(b"b"))
        self.hosting.delete("c")
        self.carry_out()
        self.assertEqual(len(answers), 2)
        for answer in answers:
            self.assertNotEqual(answer.error_code, 0)

    def test_idempotent_producers_keep_their_sequence(self) -> None:
        records = [Record(index, NOW, b"k", b"") for index in range(LARGE)]
        first = bytes(encode_batch(records, producer_id=7, producer_epoch=0, base_sequence=0))
        second = bytes(encode_batch(records[:1], producer_id=7, producer_epoch=0, base_sequence=LARGE))
        answers = self.begin(first, second, first)
        self.carry_out()
        self.assertEqual([(answer.error_code, answer.base_offset) for answer in answers], [(0, 0), (0, LARGE), (0, 0)])


class MixedTests(SynchronousTestCase):
    """Everything that an append may wait for, in one partition: keys, another codec, a transaction's coordinator."""

    def setUp(self) -> None:
        self.hosting = Hosting()
        self.hosting.create("m", cleanup_policy="compact", compression_type="zstd")
        self.threads = self.hosting.threads
        self.threads.held = []
        self.coordinator = Coordinator()
        self.coordinator.slow = True
        self.handler = ProduceHandler(
            self.hosting.replicas, Histogram(), self.hosting.clock.seconds, self.hosting.clock, self.coordinator
        )
        self.answers: list[tuple[bytes, int, int]] = []

    def send(self, value: bytes, count: int = 1, sequence: int = 0, transactional: bool = True) -> None:
        options: dict[str, Any] = {"producer_id": 1, "producer_epoch": 0, "base_sequence": sequence}
        sent = batch([(b"k", value)] * count, **(options | {"transactional": True} if transactional else {}))
        data = [PartitionProduceData(index=0, records=sent)]
        asked = ProduceRequest(
            transactional_id="id" if transactional else None,
            acks=1,
            timeout_ms=1000,
            topic_data=[TopicProduceData(name="m", partition_data=data)],
        )
        begun: Deferred[Any] = self.hosting.begin(self.handler, asked, 11)

        def answered(response: Any) -> None:
            answer = response.responses[0].partition_responses[0]
            self.answers.append((value, answer.error_code, answer.base_offset))

        begun.addCallback(answered).addErrback(self.fail)

    def begin(self) -> None:
        """Large and small ones of one transaction, and of a producer without any, in turns."""
        self.send(b"t0", LARGE)
        self.send(b"p0", transactional=False)
        self.send(b"t1", 1, LARGE)
        self.send(b"p1", LARGE, transactional=False)
        self.send(b"t2", LARGE, LARGE + 1)
        self.assertEqual((len(self.threads.held or []), self.coordinator.asked, self.answers), (3, [], []))

    def stored(self) -> list[bytes]:
        data, found = self.hosting.partition("m").log.read(0, 1 << 24, 1 << 40)[0], []
        for position, header in split_batches(data):
            assert header.codec == Codec.ZSTD
            found.append(next(decode_records(data[position : position + header.size], 1 << 24)).value or b"")
        return found

    def test_the_coordinator_is_asked_in_the_batch_s_turn_and_producers_keep_their_order(self) -> None:
        for order in ((0, 0, 0), (2, 1, 0), (1, 0, 0)):
            self.setUp()
            self.begin()
            for place in order[:2]:
                self.threads.do(place)
            self.threads.do(0)
            self.assertEqual(len(self.coordinator.asked), 1)
            self.assertEqual(self.stored(), [b"p0", b"p1"])
            self.send(b"t3", 1, 2 * LARGE + 1)  # while nothing is in the queue any more
            self.coordinator.answer()
            self.assertEqual(self.stored(), [b"p0", b"p1", b"t0", b"t1", b"t2", b"t3"])
            self.assertEqual([error for _, error, _ in self.answers], [0] * 6)
            self.assertEqual((self.threads.bytes, self.hosting.partition("m").is_awaited), (0, False))

    def test_an_answer_that_comes_while_others_are_in_the_queue(self) -> None:
        self.begin()
        self.threads.do(0)
        self.coordinator.answer()
        self.assertEqual(self.stored(), [b"p0", b"t0", b"t1"])
        self.threads.do(1)
        self.threads.do(0)
        self.assertEqual(self.stored(), [b"p0", b"t0", b"t1", b"p1", b"t2"])
        self.assertEqual([error for _, error, _ in self.answers], [0] * 5)

    def test_a_refusal_leaves_the_rest_in_order(self) -> None:
        self.begin()
        self.threads.do(0)
        self.coordinator.answer(ErrorCode.INVALID_TXN_STATE)
        self.coordinator.slow = False
        self.threads.do(0)
        self.threads.do(0)
        self.assertEqual(self.stored(), [b"p0", b"p1"])  # t2 cannot begin where t0 is missing
        errors = {value: error for value, error, _ in self.answers}
        self.assertEqual(errors[b"t0"], ErrorCode.INVALID_TXN_STATE)
        self.assertEqual(errors[b"t2"], ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER)
