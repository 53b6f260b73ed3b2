"""Conformance 9 to 16: produce and the idempotent producer."""

from __future__ import annotations

import socket
import struct
import time

from chronik.broker.key_check import INLINE_RECORDS
from chronik.errors import ErrorCode
from chronik.wire.apis import ApiKey
from chronik.wire.frames import encode_request
from chronik.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from chronik.wire.records import Record, encode_batch
from tests.conformance.case import ConformanceCase
from tests.differential.batches import TIME, Batch, describe

_LARGEST_SEQUENCE = 2**31 - 1


def idempotent(sequence: int, count: int = 1, producer: int = 4000, epoch: int = 0) -> bytes:
    """A batch of an idempotent producer."""
    values = [b"v"] * count
    return Batch(values, producer_id=producer, producer_epoch=epoch, base_sequence=sequence).encode()


class ProduceTests(ConformanceCase):
    def test_09_the_crc_is_checked_before_anything_else(self) -> None:
        topic = self.topic()
        good = Batch().encode()
        self.assertEqual(self.produce(topic, good).error_code, ErrorCode.NONE)
        for at in range(21, len(good)):  # every byte that it covers: attributes, counts, times, records
            damaged = bytearray(good)
            damaged[at] ^= 1
            self.assertEqual(self.produce(topic, bytes(damaged)).error_code, ErrorCode.CORRUPT_MESSAGE, at)
        wrong_twice = Batch(last_offset_delta=7, crc=1).encode()
        self.assertEqual(self.produce(topic, wrong_twice).error_code, ErrorCode.CORRUPT_MESSAGE)
        self.assertEqual(self.produce(topic, Batch(leader_epoch=77).encode()).error_code, ErrorCode.NONE)  # not covered

    def test_10_header_fields_agree_with_each_other(self) -> None:
        topic = self.topic()
        for batch in (
            Batch(base_offset=5),
            Batch(count=0),
            Batch(count=-1),
            Batch(count=2),
            Batch(last_offset_delta=1),
            Batch(last_offset_delta=-1, count=0),
        ):
            self.assertEqual(self.produce(topic, batch.encode()).error_code, ErrorCode.INVALID_RECORD, batch)
        self.assertEqual(self.produce(topic, Batch().encode()).base_offset, 0)

    def test_11_a_batch_above_max_message_bytes(self) -> None:
        topic = self.topic(max_message_bytes="1000")
        largest = 1000 - len(Batch((b"",)).encode()) - 2  # the lengths of record and value take two bytes then
        self.assertEqual(self.produce(topic, Batch((b"x" * largest,)).encode()).error_code, ErrorCode.NONE)
        over = self.produce(topic, Batch((b"x" * (largest + 1),)).encode())
        self.assertEqual(over.error_code, ErrorCode.MESSAGE_TOO_LARGE)

    def test_12_records_without_a_key_on_a_compacted_topic(self) -> None:
        topic = self.topic(cleanup_policy="compact")
        keyed = bytes(encode_batch([Record(0, TIME, b"k", b"v")]))
        mixed = bytes(
            encode_batch([Record(0, TIME, b"k", b"v"), Record(1, TIME, None, b"v"), Record(2, TIME, None, None)])
        )
        self.assertEqual(self.produce(topic, keyed).error_code, ErrorCode.NONE)
        refused = self.produce(topic, mixed)
        self.assertEqual((refused.error_code, refused.base_offset), (ErrorCode.INVALID_RECORD, -1))
        self.assertEqual([error.batch_index for error in refused.record_errors], [1, 2])
        many = [Record(index, TIME, b"k", b"v") for index in range(INLINE_RECORDS)]
        keyless = [*many, Record(INLINE_RECORDS, TIME, None, b"v")]
        self.assertEqual(self.produce(topic, bytes(encode_batch(keyless))).error_code, ErrorCode.INVALID_RECORD)
        self.assertEqual(self.produce(topic, keyed).base_offset, 1)  # nothing of the refused ones was appended

    def test_13_a_retry_is_answered_with_its_first_offset(self) -> None:
        topic = self.topic()
        first = [self.produce(topic, idempotent(n)).base_offset for n in range(5)]
        again = [self.produce(topic, idempotent(n)) for n in range(5)]
        self.assertEqual([each.base_offset for each in again], first)
        self.assertEqual({each.error_code for each in again}, {ErrorCode.NONE})
        self.assertEqual(self.fetch(topic, 0).high_watermark, 5)
        self.assertEqual(self.produce(topic, idempotent(5)).base_offset, 5)
        forgotten = self.produce(topic, idempotent(0)).error_code  # only five batches are remembered
        self.assertEqual(forgotten, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER)

    def test_14_sequences_hold_on_every_acks_path(self) -> None:
        topic = self.topic()
        for turn, acks in enumerate((1, -1, 1, -1)):
            self.assertEqual(self.produce(topic, idempotent(turn), acks=acks).error_code, ErrorCode.NONE)
            gap = self.produce(topic, idempotent(turn + 2), acks=acks)
            self.assertEqual(gap.error_code, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER)

    def test_14_batches_of_one_partition_keep_their_order(self) -> None:
        """Pipelined on one connection, five under way as an idempotent client has them."""
        topic = self.topic()
        frames = []
        for number in range(50):
            data = [PartitionProduceData(index=0, records=idempotent(number))]
            request = ProduceRequest(
                acks=-1, timeout_ms=5000, topic_data=[TopicProduceData(name=topic, partition_data=data)]
            )
            frames.append(b"".join(bytes(part) for part in encode_request(request, 9, number, "c")))
        with socket.create_connection(("127.0.0.1", self.broker.port), 5) as connection:
            connection.sendall(b"".join(frames))
            for number in range(50):
                (size,) = struct.unpack(">i", connection.recv(4, socket.MSG_WAITALL))
                answer = connection.recv(size, socket.MSG_WAITALL)
                self.assertEqual(answer[:4], struct.pack(">i", number))
        fetched = describe(self.fetch(topic, 0).records)
        assert isinstance(fetched, list)
        self.assertEqual([each["base_sequence"] for each in fetched], list(range(50)))
        self.assertEqual([each["base_offset"] for each in fetched], list(range(50)))

    def test_15_no_idempotent_producer_is_told_an_unknown_error(self) -> None:
        """Not even where the append meets a defect (KAFKA-14034): a storage error, which it retries."""
        topic = self.topic()
        partition = self.broker._node.replicas.partition(topic, 0)

        def broken(*_: object) -> int:
            raise ZeroDivisionError("a defect")

        whole = partition.log
        partition.log = type("Broken", (), {"append": broken, "end_offset": 0, "start_offset": 0})()
        try:
            answers = [self.produce(topic, idempotent(0)) for _ in range(3)]  # the last ones are of a known shape
        finally:
            partition.log = whole
        self.assertEqual({each.error_code for each in answers}, {ErrorCode.KAFKA_STORAGE_ERROR})
        self.assertEqual(self.produce(topic, idempotent(0)).base_offset, 0)
        self.flushLoggedErrors(ZeroDivisionError)

    def test_16_produce_never_waits_for_the_creation_of_a_topic(self) -> None:
        begun = time.monotonic()
        answer = self.produce("nobody-made-this", Batch().encode())
        self.assertEqual(answer.error_code, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        self.assertLess(time.monotonic() - begun, 1.0)


class MoreProduceTests(ConformanceCase):
    def test_acks_0_is_never_answered(self) -> None:
        topic = self.topic()
        body = {
            "acks": 0,
            "timeout_ms": 1000,
            "topic_data": [{"name": topic, "partition_data": [{"index": 0, "records": Batch().encode()}]}],
        }
        for _ in range(3):
            self.session.begin("", ApiKey.PRODUCE, 9, body)
        after = self.ask(ApiKey.METADATA, 12, {"topics": []})  # its answer is the next that comes
        self.assertEqual(after.topics, [])
        self.assertEqual(self.fetch(topic, 0).high_watermark, 3)

    def test_acks_0_with_a_fault_closes(self) -> None:
        body = {
            "acks": 0,
            "timeout_ms": 1000,
            "topic_data": [{"name": "none", "partition_data": [{"index": 0, "records": Batch().encode()}]}],
        }
        self.assertIsNone(self.session.ask("fault", ApiKey.PRODUCE, 9, body))
        (outcome,) = self.session.transcript.values()
        self.assertEqual(outcome, {"closed": True})

    def test_offsets_and_epoch_are_patched_and_the_crc_holds(self) -> None:
        topic = self.topic()
        for _ in range(2):
            self.append(topic, Batch((b"a", b"b"), leader_epoch=99))
        first, second = describe(self.fetch(topic, 0).records)  # type: ignore[misc]
        self.assertEqual((first["base_offset"], second["base_offset"]), (0, 2))
        self.assertTrue(first["crc_holds"] and second["crc_holds"])
        self.assertEqual(first["partition_leader_epoch"], self.broker._node.replicas.partition(topic, 0).leader_epoch)
        self.assertEqual(first["payload"], second["payload"])

    def test_an_unknown_producer_may_begin_anywhere(self) -> None:
        topic = self.topic()
        self.assertEqual(self.produce(topic, idempotent(41)).error_code, ErrorCode.NONE)
        self.assertEqual(self.produce(topic, idempotent(42)).error_code, ErrorCode.NONE)

    def test_the_sequence_wraps_to_0(self) -> None:
        topic = self.topic()
        for sequence in (_LARGEST_SEQUENCE - 1, _LARGEST_SEQUENCE, 0, 1):
            self.assertEqual(self.produce(topic, idempotent(sequence)).error_code, ErrorCode.NONE, sequence)
        topic_of_pairs = topic + "-pairs"
        self.broker.create_topic(topic_of_pairs)
        self.assertEqual(self.produce(topic_of_pairs, idempotent(_LARGEST_SEQUENCE, 2)).error_code, ErrorCode.NONE)
        self.assertEqual(self.produce(topic_of_pairs, idempotent(1)).error_code, ErrorCode.NONE)

    def test_a_client_may_raise_its_epoch_and_begin_at_0(self) -> None:
        topic = self.topic()
        self.assertEqual(self.produce(topic, idempotent(0)).error_code, ErrorCode.NONE)
        self.assertEqual(self.produce(topic, idempotent(0, epoch=1)).error_code, ErrorCode.NONE)
        self.assertEqual(self.produce(topic, idempotent(1)).error_code, ErrorCode.INVALID_PRODUCER_EPOCH)
        later = self.produce(topic, idempotent(5, epoch=2)).error_code
        self.assertEqual(later, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER)

    def test_append_time_is_stamped_and_answered(self) -> None:
        topic = self.topic(message_timestamp_type="LogAppendTime")
        answer = self.produce(topic, Batch().encode())
        self.assertGreater(answer.log_append_time_ms, TIME)
        (stored,) = describe(self.fetch(topic, 0).records)  # type: ignore[misc]
        self.assertEqual((stored["max_timestamp"], stored["crc_holds"]), (answer.log_append_time_ms, True))
