"""Batch headers: what is read, what a producer may send, what is changed in place."""

from __future__ import annotations

import struct
from collections.abc import Callable

from crc32c import crc32c
from twisted.trial.unittest import SynchronousTestCase

from chronik.errors import ErrorCode, KafkaError
from chronik.wire.records import (
    HEADER_BYTES,
    BatchHeader,
    Codec,
    Record,
    assign_offsets,
    check_produced,
    decode_records,
    encode_batch,
    is_one_batch,
    read_header,
    recompress,
    split_batches,
    stamp_append_time,
    unstamp_append_time,
    verify,
)

NOW = 1_700_000_000_000
RECORDS = [Record(i, NOW + i, b"key-%d" % i, b"value" * i) for i in range(5)]
BATCH = bytes(encode_batch(RECORDS))

AT = {  # position and form of each header field
    "base_offset": (0, ">q"),
    "batch_length": (8, ">i"),
    "partition_leader_epoch": (12, ">i"),
    "magic": (16, ">b"),
    "crc": (17, ">I"),
    "attributes": (21, ">h"),
    "last_offset_delta": (23, ">i"),
    "base_timestamp": (27, ">q"),
    "max_timestamp": (35, ">q"),
    "producer_id": (43, ">q"),
    "producer_epoch": (51, ">h"),
    "base_sequence": (53, ">i"),
    "record_count": (57, ">i"),
}


def altered(batch: bytes = BATCH, **fields: int) -> bytearray:
    """`batch` with header fields overwritten, and the CRC that goes with it."""
    out = bytearray(batch)
    for name, value in fields.items():
        position, layout = AT[name]
        struct.pack_into(layout, out, position, value)
    if "crc" not in fields:
        struct.pack_into(">I", out, 17, crc32c(out[21:]))
    return out


class BatchTestCase(SynchronousTestCase):
    def refused(self, code: ErrorCode, text: str, call: Callable[..., object], *arguments: object) -> None:
        error = self.assertRaises(KafkaError, call, *arguments)
        self.assertEqual(error.code, code, str(error))
        self.assertIn(text, str(error))


class HeaderTests(BatchTestCase):
    def test_fields_stand_where_the_format_puts_them(self) -> None:
        values = {name: 3 + i for i, name in enumerate(AT)} | {"magic": 2, "batch_length": 100}
        batch = altered(bytes(112), **values)
        self.assertEqual(read_header(batch)._asdict(), values)
        self.assertEqual(tuple(AT), BatchHeader._fields)

    def test_properties(self) -> None:
        header = read_header(
            altered(base_offset=1000, attributes=0x10 | 0x08 | 3, base_sequence=2**31 - 2, producer_id=0)
        )
        self.assertEqual((header.size, header.last_offset, header.next_offset), (len(BATCH), 1004, 1005))
        self.assertEqual((header.codec, header.log_append_time, header.transactional), (Codec.LZ4, True, True))
        self.assertEqual((header.control, header.has_delete_horizon, header.idempotent), (False, False, True))
        self.assertEqual(header.last_sequence, 2)
        header = read_header(altered(attributes=0x20 | 0x40 | 5))
        self.assertEqual((header.control, header.has_delete_horizon, header.idempotent), (True, True, False))
        self.refused(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, "codec 5", lambda: header.codec)

    def test_what_is_no_header(self) -> None:
        corrupt, old = ErrorCode.CORRUPT_MESSAGE, ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT
        self.refused(corrupt, "60 bytes at position 5", read_header, bytes(5) + BATCH[:60], 5)
        self.refused(old, "format 1 at position 0", read_header, altered(magic=1))
        self.refused(corrupt, "magic 3", read_header, altered(magic=3))
        self.refused(corrupt, "magic -1", read_header, altered(magic=-1))
        for length in (48, 0, -1, -(2**31)):
            self.refused(corrupt, f"batch length of {length}", read_header, altered(batch_length=length))

    def test_verify(self) -> None:
        self.assertEqual(verify(b"junk" + BATCH + b"junk", 4), read_header(BATCH))
        for position in range(21, len(BATCH)):
            flipped = bytearray(BATCH)
            flipped[position] ^= 0x40
            self.refused(ErrorCode.CORRUPT_MESSAGE, "has CRC", verify, flipped)
        self.refused(ErrorCode.CORRUPT_MESSAGE, f"{len(BATCH) - 1} remain", verify, BATCH[:-1])

    def test_split(self) -> None:
        other = encode_batch(RECORDS, base_offset=0, codec=Codec.GZIP)
        several = BATCH + other + BATCH
        found = list(split_batches(several))
        self.assertEqual([position for position, _ in found], [0, len(BATCH), len(BATCH) + len(other)])
        self.assertEqual([header for _, header in found], [read_header(BATCH), read_header(other), read_header(BATCH)])
        for size in range(len(several) + 1):  # what a fetch has cut off is left out
            whole = [position for position, header in found if position + header.size <= size]
            self.assertEqual([position for position, _ in split_batches(several[:size])], whole)
        self.refused(ErrorCode.CORRUPT_MESSAGE, "magic 9", list, split_batches(BATCH + altered(magic=9)))


class ProducedTests(BatchTestCase):
    """Every rule of `check_produced`, with Kafka's code for it."""

    def test_accepted(self) -> None:
        for batch in (
            BATCH,
            bytearray(BATCH),
            memoryview(BATCH),
            *(bytes(encode_batch(RECORDS, codec=codec)) for codec in Codec),
            altered(producer_id=0, producer_epoch=0, base_sequence=0),
            altered(producer_id=7, producer_epoch=1, base_sequence=5, attributes=0x10),
            altered(producer_id=-1, producer_epoch=0, base_sequence=0),  # KafkaJS and sarama leave zeros there
            altered(base_timestamp=-1, max_timestamp=-1),
            altered(base_timestamp=NOW, max_timestamp=NOW - 1),
            altered(partition_leader_epoch=12),
            altered(attributes=0x08),  # append times, which is overruled later
        ):
            self.assertEqual(check_produced(batch), read_header(batch))

    def refused_as(self, code: ErrorCode, text: str, **fields: int) -> None:
        self.refused(code, text, check_produced, altered(**fields))

    def test_not_one_batch(self) -> None:
        for size in range(17):
            self.refused(ErrorCode.INVALID_RECORD, f"{size} bytes hold no record batch", check_produced, BATCH[:size])
        for size in range(17, HEADER_BYTES):
            self.refused(ErrorCode.INVALID_RECORD, f"came in {size}", check_produced, BATCH[:size])
            cut = altered(batch_length=size - 12)[:size]
            expected = "less than that of any batch" if size < 26 else "less than its header"
            self.refused(ErrorCode.CORRUPT_MESSAGE, expected, check_produced, cut)
        for batch in (BATCH[:-1], BATCH + BATCH, BATCH + b"\x00"):
            self.refused(ErrorCode.INVALID_RECORD, f"came in {len(batch)}", check_produced, batch)
        for length in (13, 0, -1, -13, -(2**31)):
            self.refused_as(ErrorCode.CORRUPT_MESSAGE, f"batch length of {length} is less", batch_length=length)
        self.refused_as(ErrorCode.INVALID_RECORD, "says it has 26 bytes", batch_length=14)

    def test_one_batch(self) -> None:
        for batch in (BATCH, bytearray(BATCH), memoryview(BATCH), altered(crc=1, record_count=-1)):
            self.assertTrue(is_one_batch(batch))
        for batch in (b"", BATCH[:60], BATCH[:-1], BATCH + b"\x00", altered(magic=1), altered(batch_length=-1)):
            self.assertFalse(is_one_batch(batch))

    def test_formats(self) -> None:
        for magic in (0, 1):
            self.refused_as(ErrorCode.INVALID_RECORD, f"format {magic} are not accepted since Kafka 4.0", magic=magic)
            message_set = altered(magic=magic)[:40]
            self.refused(ErrorCode.INVALID_RECORD, f"format {magic}", check_produced, message_set)
        self.refused_as(ErrorCode.CORRUPT_MESSAGE, "magic 3 at byte 16", magic=3)

    def test_crc_comes_before_the_contents(self) -> None:
        for fields in ({}, {"base_offset": 1}, {"record_count": -1}, {"attributes": 0x20}):
            self.refused_as(ErrorCode.CORRUPT_MESSAGE, "has CRC", **fields, crc=1)
        for position in range(21, len(BATCH)):
            flipped = bytearray(BATCH)
            flipped[position] ^= 1
            self.refused(ErrorCode.CORRUPT_MESSAGE, "has CRC", check_produced, flipped)

    def test_offsets_and_counts(self) -> None:
        self.refused_as(ErrorCode.INVALID_RECORD, "base offset 1", base_offset=1)
        self.refused_as(ErrorCode.INVALID_RECORD, "base offset -1", base_offset=-1)
        for count, delta in ((0, -1), (-1, -2), (5, 5), (5, 3), (4, 4), (-(2**31), 2**31 - 1)):
            self.refused_as(ErrorCode.INVALID_RECORD, f"{count} records", record_count=count, last_offset_delta=delta)

    def test_attributes(self) -> None:
        for codec in (5, 6, 7):
            self.refused_as(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, f"codec {codec}", attributes=codec)
        self.refused_as(ErrorCode.INVALID_RECORD, "control records", attributes=0x20)
        self.refused_as(ErrorCode.INVALID_RECORD, "delete horizon", attributes=0x40)

    def test_timestamps(self) -> None:
        for base, largest in ((-2, 5), (10, -2), (-(2**63), -(2**63))):
            text = f"base timestamp {base}, max timestamp {largest}"
            self.refused_as(ErrorCode.INVALID_TIMESTAMP, text, base_timestamp=base, max_timestamp=largest)

    def test_producers(self) -> None:
        for fields in (
            {"producer_id": 1, "producer_epoch": 0, "base_sequence": -1},
            {"producer_id": 1, "producer_epoch": -1, "base_sequence": -1},
            {"producer_id": -1, "attributes": 0x10},
        ):
            self.refused_as(ErrorCode.INVALID_RECORD, "do not go together", **fields)
        fields = {"producer_id": 1, "producer_epoch": -1, "base_sequence": 0}
        self.refused_as(ErrorCode.INVALID_PRODUCER_EPOCH, "do not go together", **fields)


class ChangeTests(BatchTestCase):
    def test_assign_offsets(self) -> None:
        """In place, also through a view into a larger buffer; CRC and records stay."""
        frame = bytearray(b"before" + BATCH + b"after")
        view = memoryview(frame)[6 : 6 + len(BATCH)]
        assign_offsets(view, 2**40, 17)
        header = verify(view)
        self.assertEqual((header.base_offset, header.partition_leader_epoch), (2**40, 17))
        self.assertEqual(header.crc, read_header(BATCH).crc)
        self.assertEqual(bytes(view[16:]), BATCH[16:])
        self.assertEqual((frame[:6], frame[-5:]), (b"before", b"after"))
        self.assertEqual([record.offset for record in decode_records(view, 10_000)], [2**40 + i for i in range(5)])

    def test_stamp_append_time(self) -> None:
        for codec in Codec:
            batch = encode_batch(RECORDS, codec=codec)
            stamp_append_time(memoryview(batch), NOW + 99_000)
            header = verify(batch)
            self.assertEqual((header.log_append_time, header.max_timestamp), (True, NOW + 99_000))
            self.assertEqual((header.base_timestamp, header.codec), (NOW, codec))
            self.assertEqual({record.timestamp for record in decode_records(batch, 10_000)}, {NOW + 99_000})

    def test_unstamp_append_time(self) -> None:
        """The records' own times count again; the codec stays."""
        for codec in Codec:
            batch = encode_batch(RECORDS, codec=codec)
            stamp_append_time(batch, NOW + 4)
            unstamp_append_time(memoryview(batch))
            self.assertEqual(verify(batch), read_header(encode_batch(RECORDS, codec=codec)))
            self.assertEqual(list(decode_records(batch, 10_000)), RECORDS)

    def test_recompress(self) -> None:
        """From every codec to every codec; all but size, codec and CRC stays."""
        for source in Codec:
            batch = encode_batch(RECORDS, codec=source, producer_id=4, producer_epoch=2, base_sequence=8)
            for target in Codec:
                result = recompress(batch, target, 10_000)
                header, before = verify(result), read_header(batch)
                self.assertEqual(header.codec, target)
                same = {"attributes": 0, "crc": 0, "batch_length": 0}
                self.assertEqual(header._replace(**same), before._replace(**same))
                self.assertEqual(list(decode_records(result, 10_000)), RECORDS)
                self.assertEqual(check_produced(result), header)

    def test_recompress_is_bounded(self) -> None:
        batch = encode_batch([Record(0, NOW, None, bytes(100_000))], codec=Codec.GZIP)
        self.refused(ErrorCode.MESSAGE_TOO_LARGE, "more than 50000", recompress, batch, Codec.ZSTD, 50_000)
