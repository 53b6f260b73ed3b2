"""Transaction markers: bytes that Kafka's clients know, and what is no marker."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chronik.model import TransactionMarker
from chronik.wire.markers import decode_marker, encode_marker
from chronik.wire.records import Record, check_produced, decode_records, encode_batch, read_header, verify

COMMIT = TransactionMarker(7, 3, True, 5)
ABORT = TransactionMarker(2**40, 0, False, 0)


class MarkerTests(SynchronousTestCase):
    def test_the_bytes_are_kafkas(self) -> None:
        batch = encode_marker(COMMIT, 1000)
        header = verify(batch)
        self.assertTrue(header.transactional and header.control)
        self.assertEqual((header.producer_id, header.producer_epoch, header.base_sequence), (7, 3, -1))
        self.assertEqual((header.base_timestamp, header.max_timestamp, header.record_count), (1000, 1000, 1))
        (record,) = decode_records(batch, 100)
        self.assertEqual((record.key, record.value), (b"\0\0\0\1", b"\0\0\0\0\0\5"))
        (record,) = decode_records(encode_marker(ABORT, 1000), 100)
        self.assertEqual((record.key, record.value), (b"\0\0\0\0", b"\0\0\0\0\0\0"))
        self.assertEqual(len(batch), 78)  # as long as Kafka's

    def test_they_come_back(self) -> None:
        for marker in (COMMIT, ABORT):
            self.assertEqual(decode_marker(encode_marker(marker, 5)), marker)

    def test_what_is_no_marker(self) -> None:
        def control(key: bytes | None, value: bytes | None, producer_id: int = 7) -> bytearray:
            return encode_batch(
                [Record(0, 0, key, value)], producer_id=producer_id, producer_epoch=0, transactional=True, control=True
            )

        kinds = [(b"\0\0\0\2", b"\0\0\0\0\0\0"), (None, b"\0\0\0\0\0\0"), (b"\0\0\0", b""), (b"\0\0\0\1", None)]
        for key, value in kinds:
            self.assertIsNone(decode_marker(control(key, value)))
        self.assertIsNone(decode_marker(control(b"\0\0\0\1", b"\0\0\0\0\0\0", producer_id=-1)))
        torn = encode_marker(COMMIT, 0)
        torn[61] = 0x7F
        self.assertIsNone(decode_marker(torn))

    def test_later_versions_begin_alike(self) -> None:
        batch = encode_batch(
            [Record(0, 0, b"\0\1\0\1more", b"\0\1\0\0\0\5more")],
            producer_id=7,
            producer_epoch=3,
            transactional=True,
            control=True,
        )
        self.assertEqual(decode_marker(batch), COMMIT)

    def test_a_producer_may_not_send_one(self) -> None:
        batch = encode_marker(COMMIT, 0)
        self.assertRaisesRegex(Exception, "control records", check_produced, batch)
        self.assertEqual(read_header(batch).size, len(batch))
