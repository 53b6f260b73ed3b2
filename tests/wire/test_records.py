"""Records: what is encoded comes back, other clients' decoders agree, and no wrong varint gets through."""

from __future__ import annotations

from typing import Any

from aiokafka.record import MemoryRecords as AiokafkaRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.record import MemoryRecords as KafkaPythonRecords
from kafka.record import MemoryRecordsBuilder
from twisted.trial.unittest import SynchronousTestCase

from chronik.errors import ErrorCode, KafkaError
from chronik.wire.batches import assemble
from chronik.wire.compression import compress
from chronik.wire.records import (
    HEADER_BYTES,
    Codec,
    Record,
    decode_records,
    encode_batch,
    read_header,
    verify,
)

NOW = 1_700_000_000_000
SAMPLE = [
    Record(0, NOW, b"key", b"value", (("trace", b"\x01"), ("größe", None), ("", b""))),
    Record(1, NOW - 70_000, None, b"x" * 5000),
    Record(2, NOW + 70_000, b"", None),
    Record(3, NOW, b"k" * 64, b"v" * 63, tuple((f"h{i}", b"%d" % i) for i in range(70))),
]

optional_bytes = st.none() | st.binary(max_size=200)
headers = st.lists(
    st.tuples(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), optional_bytes), max_size=4
)


@st.composite
def record_lists(draw: st.DrawFn) -> list[Record]:
    """Records with ascending offsets, gaps between them as after compaction, timestamps in any order."""
    offset = draw(st.sampled_from((0, 7, 2**40)))
    records = []
    for _ in range(draw(st.integers(1, 8))):
        timestamp = draw(st.integers(-1, 2**45))
        records.append(Record(offset, timestamp, draw(optional_bytes), draw(optional_bytes), tuple(draw(headers))))
        offset += draw(st.sampled_from((1, 1, 2, 200, 100_000)))
    return records


class RoundTripTests(SynchronousTestCase):
    @settings(max_examples=60, deadline=None, database=None, derandomize=True)
    @given(record_lists(), st.sampled_from(Codec))
    def test_any_records(self, records: list[Record], codec: Codec) -> None:
        batch = encode_batch(records, base_offset=records[0].offset, codec=codec)
        header = verify(batch)
        self.assertEqual((header.base_offset, header.last_offset), (records[0].offset, records[-1].offset))
        self.assertEqual(header.record_count, len(records))
        self.assertEqual(header.max_timestamp, max(record.timestamp for record in records))
        self.assertEqual(list(decode_records(batch, 1 << 20)), records)

    def test_header_values(self) -> None:
        batch = encode_batch(
            SAMPLE[:1], leader_epoch=4, producer_id=2**40, producer_epoch=32767, base_sequence=2**31 - 1, control=True
        )
        header = verify(batch)
        self.assertEqual((header.partition_leader_epoch, header.producer_id), (4, 2**40))
        self.assertEqual((header.producer_epoch, header.base_sequence), (32767, 2**31 - 1))
        self.assertEqual((header.control, header.transactional), (True, False))

    def test_what_is_no_batch(self) -> None:
        self.assertRaises(ValueError, encode_batch, [])
        self.assertRaises(ValueError, encode_batch, [SAMPLE[1], SAMPLE[0]])
        self.assertRaises(ValueError, encode_batch, [SAMPLE[1], SAMPLE[1]])
        self.assertRaises(ValueError, encode_batch, SAMPLE, base_offset=1)


class OtherClientsTests(SynchronousTestCase):
    """Batches of ours in other clients' decoders, and theirs in ours.

    aiokafka has all codecs; kafka-python asks for packages for snappy and zstd that this project has no other use for. Java
    is covered by the golden bytes, librdkafka by the tests with real clients, as it decodes nothing outside a connection.
    """

    KAFKA_PYTHON_CODECS = (Codec.NONE, Codec.GZIP, Codec.LZ4)

    def seen_by(self, decoder: Any, batch: bytes) -> list[Record]:
        found = decoder(batch).next_batch()
        self.assertTrue(found.validate_crc())
        return [Record(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in found]

    def test_aiokafka_reads_ours(self) -> None:
        for codec in Codec:
            self.assertEqual(
                self.seen_by(AiokafkaRecords, bytes(encode_batch(SAMPLE, codec=codec))), SAMPLE, codec.name
            )

    def test_kafka_python_reads_ours(self) -> None:
        for codec in self.KAFKA_PYTHON_CODECS:
            batch = bytes(encode_batch(SAMPLE, codec=codec))
            self.assertEqual(self.seen_by(KafkaPythonRecords, batch), SAMPLE, codec.name)

    def test_blocks(self) -> None:
        """More than one block of each codec's framing."""
        large = [Record(i, NOW, None, bytes(range(256)) * 500) for i in range(4)]
        for codec in Codec:
            self.assertEqual(self.seen_by(AiokafkaRecords, bytes(encode_batch(large, codec=codec))), large, codec.name)

    def test_ours_reads_aiokafka(self) -> None:
        for codec in Codec:
            builder = DefaultRecordBatchBuilder(
                magic=2,
                compression_type=int(codec),
                is_transactional=0,
                producer_id=-1,
                producer_epoch=-1,
                base_sequence=-1,
                batch_size=1 << 20,
            )
            for record in SAMPLE:
                builder.append(record.offset, record.timestamp, record.key, record.value, list(record.headers))
            self.same_records(bytes(builder.build()), codec)

    def test_ours_reads_kafka_python(self) -> None:
        for codec in self.KAFKA_PYTHON_CODECS:
            builder = MemoryRecordsBuilder(magic=2, compression_type=int(codec), batch_size=1 << 20)
            for record in SAMPLE:
                builder.append(record.timestamp, record.key, record.value, list(record.headers))
            builder.close()
            self.same_records(bytes(builder.buffer()), codec)

    def same_records(self, batch: bytes, codec: Codec) -> None:
        self.assertEqual(verify(batch).codec, codec)
        self.assertEqual(list(decode_records(batch, 1 << 20)), SAMPLE)


def batch_of(section: bytes, count: int = 1, delta: int = 0, codec: Codec = Codec.NONE) -> bytearray:
    """A batch with that records section, whatever it says."""
    header = read_header(encode_batch([Record(0, NOW, None, None)]))
    header = header._replace(attributes=int(codec), record_count=count, last_offset_delta=delta)
    return assemble(header, compress(codec, section))


class StrictnessTests(SynchronousTestCase):
    def refused(self, batch: bytes | bytearray, text: str, code: ErrorCode = ErrorCode.INVALID_RECORD) -> None:
        error = self.assertRaises(KafkaError, list, decode_records(batch, 1 << 16))
        self.assertEqual(error.code, code, str(error))
        self.assertIn(text, str(error))

    def test_the_smallest_record(self) -> None:
        """What the cases below are variations of: length, attributes, two deltas, null key, null value, no headers."""
        batch = batch_of(b"\x0c\x00\x00\x00\x01\x01\x00")
        self.assertEqual(list(decode_records(batch, 100)), [Record(0, NOW, None, None)])

    def test_cut_sections(self) -> None:
        section = bytes(encode_batch(SAMPLE))[HEADER_BYTES:]
        for size in range(len(section)):
            self.refused(batch_of(section[:size], count=4, delta=3), "of 4, in the batch at 0")

    def test_counts(self) -> None:
        record = b"\x0c\x00\x00\x00\x01\x01\x00"
        self.refused(batch_of(record, count=2), "record 1 of 2")
        self.refused(batch_of(record * 2), "7 bytes follow the last record")
        self.refused(batch_of(record, count=-1), "-1 records")
        self.refused(batch_of(b"", count=2**31 - 1), "record 0 of 2147483647")

    def test_lengths(self) -> None:
        self.refused(
            batch_of(b"\x0e\x00\x00\x00\x01\x01\x00"), "record 0 of 1, in the batch at 0: 7 bytes declared, 6 remain"
        )
        self.refused(batch_of(b"\x0a\x00\x00\x00\x01\x01\x00"), "is cut off")
        self.refused(batch_of(b"\x0e\x00\x00\x00\x01\x01\x00\x00"), "1 of its 7 bytes are left over")
        self.refused(batch_of(b"\x0b\x00\x00\x00\x01\x01\x00"), "-6 bytes declared")
        self.refused(batch_of(b"\x00"), "is cut off")
        self.refused(batch_of(b"\x0c\x00\x00\x00\x03\x01\x00"), "-2 bytes declared")
        self.refused(batch_of(b"\x0c\x00\x00\x00\x01\x7f\x00"), "-64 bytes declared")
        self.refused(batch_of(b"\x0c\x00\x00\x00\x01\x10\x00"), "8 bytes declared, 1 remain")

    def test_a_value_may_not_reach_into_the_next_record(self) -> None:
        self.refused(
            batch_of(b"\x0c\x00\x00\x00\x01\x04\x00" + b"\x0c\x00\x00\x02\x01\x01\x00", 2, 1), "2 bytes declared, 1"
        )

    def test_headers(self) -> None:
        self.refused(batch_of(b"\x0c\x00\x00\x00\x01\x01\x01"), "-1 headers declared")
        self.refused(batch_of(b"\x0c\x00\x00\x00\x01\x01\x02"), "1 headers declared, 0 bytes remain")
        self.refused(batch_of(b"\x10\x00\x00\x00\x01\x01\x02\x01\x01"), "a header's name is null")
        batch = batch_of(b"\x12\x00\x00\x00\x01\x01\x02\x02\xff\x01")
        self.assertEqual(next(decode_records(batch, 100)).headers, (("\ufffd", None),))

    def test_offsets(self) -> None:
        for delta in (b"\x01", b"\x02", b"\xfe\xff\xff\xff\x0f"):
            size = bytes([(5 + len(delta)) * 2])
            self.refused(batch_of(size + b"\x00\x00" + delta + b"\x01\x01\x00"), "outside 0 to 0")

    def test_varints(self) -> None:
        for varint, text in (
            (b"\x80\x80\x80\x80\x80\x00", "runs over 32 bits"),
            (b"\xff\xff\xff\xff\x1f", "exceeds 32 bits"),
        ):
            self.refused(batch_of(varint), text)
            size = bytes([(5 + len(varint)) * 2])
            self.refused(batch_of(size + b"\x00\x00" + varint + b"\x01\x01\x00"), text)
        for varint, text in (
            (b"\x80" * 10 + b"\x00", "runs over 64 bits"),
            (b"\xff" * 9 + b"\x02", "exceeds 64 bits"),
        ):
            self.refused(batch_of(bytes([(5 + len(varint)) * 2]) + b"\x00" + varint + b"\x00\x01\x01\x00"), text)

    def test_extreme_timestamps(self) -> None:
        """Deltas use all of their 64 bits."""
        for delta in (2**62, -(2**62)):
            records = [Record(0, 0, None, None), Record(1, delta, None, None)]
            self.assertEqual(list(decode_records(encode_batch(records), 100)), records)

    def test_bombs(self) -> None:
        for codec in Codec:
            large = b"\x0c\x00\x00\x00\x01\x01\x00" * 20_000
            self.refused(batch_of(large, codec=codec), "", ErrorCode.MESSAGE_TOO_LARGE)
        self.refused(batch_of(b"", codec=Codec.GZIP)[:-1], "bytes, ", ErrorCode.CORRUPT_MESSAGE)
