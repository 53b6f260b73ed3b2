"""Looking through records without decoding them: the same as the decoder says, and hostile bytes are refused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.errors import ErrorCode, KafkaError
from chronik.wire.batches import HEADER_BYTES
from chronik.wire.record_scan import SLICE, keyless_records, read_varint, scan_records, write_varint
from chronik.wire.records import Record, decode_records, encode_batch

KEYS = st.none() | st.binary(max_size=200)
RECORDS = st.lists(
    st.tuples(KEYS, KEYS, st.integers(-1, 2**40), st.lists(st.tuples(st.text(max_size=3), KEYS), max_size=2)),
    min_size=1,
    max_size=12,
)


def batch_of(fields):
    return bytes(encode_batch([Record(i, when, key, value, h) for i, (key, value, when, h) in enumerate(fields)]))


class ScanTests(SynchronousTestCase):
    @given(RECORDS)
    def test_as_the_decoder_says(self, fields):
        batch = batch_of(fields)
        section = batch[HEADER_BYTES:]
        scanned = scan_records(section, len(fields))
        decoded = list(decode_records(batch, 1 << 20))
        self.assertEqual([r.key for r in scanned], [r.key for r in decoded])
        self.assertEqual([r.offset_delta for r in scanned], [r.offset for r in decoded])
        self.assertEqual([r.timestamp_delta + fields[0][2] for r in scanned], [r.timestamp for r in decoded])
        self.assertEqual([r.has_value for r in scanned], [r.value is not None for r in decoded])
        self.assertEqual(b"".join(section[r.start : r.stop] for r in scanned), section)
        found = [index for part in keyless_records(section, len(fields)) for index in part]
        self.assertEqual(found, [i for i, r in enumerate(decoded) if r.key is None])

    @given(RECORDS, st.data())
    def test_damage_ends_in_an_error_of_the_protocol_or_in_other_records(self, fields, data):
        section = bytearray(batch_of(fields)[HEADER_BYTES:])
        at = data.draw(st.integers(0, len(section) - 1))
        section[at] = data.draw(st.integers(0, 255))
        del section[data.draw(st.integers(1, len(section))) :]
        for scan in (scan_records, lambda *args: list(keyless_records(*args))):
            try:
                scan(bytes(section), len(fields))
            except KafkaError as error:
                self.assertEqual(error.code, ErrorCode.INVALID_RECORD)

    def test_another_count_of_records(self):
        section = batch_of([(b"k", b"v", 0, ())] * 3)[HEADER_BYTES:]
        for count in (0, 2, 4):
            for scan in (scan_records, lambda *args: list(keyless_records(*args))):
                self.assertRaises(KafkaError, scan, section, count)

    def test_in_slices(self):
        section = batch_of([(None, b"v", 0, ())] * (2 * SLICE + 1))[HEADER_BYTES:]
        self.assertEqual([len(part) for part in keyless_records(section, 2 * SLICE + 1)], [SLICE, SLICE, 1])

    @given(st.integers(-(2**63), 2**63 - 1))
    def test_varints(self, value):
        self.assertEqual(read_varint(write_varint(value), 0), (value, len(write_varint(value))))

    def test_an_endless_varint(self):
        self.assertRaises(KafkaError, read_varint, b"\xff" * 100, 0)
        self.assertRaises(IndexError, read_varint, b"\xff\xff", 0)
