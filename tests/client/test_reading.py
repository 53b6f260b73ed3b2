"""One partition being read: positions, limits, transactions, damage."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chronik.client.reading import PartitionReading
from chronik.errors import ErrorCode, KafkaError
from chronik.model import TopicPartition
from chronik.wire.records import Codec, Record, encode_batch

MAX = 1 << 20


def batch(first: int, count: int, producer: int = -1, transactional: bool = False, control: bool = False) -> bytes:
    records = [Record(first + i, 1000 + first + i, None, b"%d" % (first + i)) for i in range(count)]
    return bytes(
        encode_batch(
            records,
            base_offset=first,
            producer_id=producer,
            producer_epoch=0 if producer >= 0 else -1,
            base_sequence=0 if producer >= 0 and not control else -1,
            transactional=transactional,
            control=control,
        )
    )


def offsets(reading: PartitionReading, limit: int = 100) -> list[int]:
    got: list[int] = []
    while (chunk := reading.take(limit, MAX)) is not None:
        got += [record.offset for record in chunk.records]
    return got


class ReadingTests(SynchronousTestCase):
    def reading(self, offset: int = 0) -> PartitionReading:
        return PartitionReading(TopicPartition("t", 0), offset)

    def test_a_fetch_that_begins_inside_a_batch(self) -> None:
        reading = self.reading(3)
        reading.fill(batch(0, 5) + batch(5, 2), 7)
        self.assertEqual((reading.fetch_offset, reading.at_end), (7, False))
        self.assertEqual(offsets(reading), [3, 4, 5, 6])
        self.assertEqual((reading.position, reading.at_end, reading.buffered_bytes), (7, True, 0))

    def test_limits_do_not_lose_the_rest(self) -> None:
        reading = self.reading()
        reading.fill(batch(0, 5), 5)
        chunk = reading.take(2, MAX)
        assert chunk is not None
        self.assertEqual(([r.offset for r in chunk.records], reading.position), ([0, 1], 2))
        self.assertEqual(offsets(reading, 2), [2, 3, 4])

    def test_a_batch_cut_off_at_the_end_is_fetched_again(self) -> None:
        reading = self.reading()
        reading.fill(batch(0, 2) + batch(2, 2)[:-1], 4)
        self.assertEqual(offsets(reading), [0, 1])
        self.assertEqual((reading.fetch_offset, reading.position, reading.at_end), (2, 2, False))

    def test_aborted_transactions_and_markers_are_passed_over(self) -> None:
        """Producer 7 aborts 0 and 1, then commits 4; producer 8 commits 2."""
        reading = self.reading()
        log = [
            batch(0, 2, 7, transactional=True),
            batch(2, 1, 8, transactional=True),
            batch(3, 1, 7, transactional=True, control=True),
            batch(4, 1, 7, transactional=True),
            batch(5, 1, 8, transactional=True, control=True),
            batch(6, 1, 7, transactional=True, control=True),
        ]
        reading.fill(b"".join(log), 7, aborted=[(0, 7)])
        self.assertEqual(offsets(reading), [2, 4])
        self.assertEqual((reading.position, reading.at_end), (7, True))

    def test_a_damaged_batch_is_refused(self) -> None:
        damaged = bytearray(batch(0, 2))
        damaged[-1] ^= 1
        reading = self.reading()
        reading.fill(damaged, 2)
        self.assertEqual(self.assertRaises(KafkaError, reading.take, 1, MAX).code, ErrorCode.CORRUPT_MESSAGE)

    def test_bytes_without_a_whole_batch_are_refused(self) -> None:
        problem = self.assertRaises(KafkaError, self.reading().fill, batch(0, 2)[:-1], 2)
        self.assertIn("hold no whole batch", str(problem))

    def test_a_decompression_bomb_is_refused(self) -> None:
        bomb = encode_batch([Record(0, 0, None, bytes(MAX))], codec=Codec.GZIP)
        reading = self.reading()
        reading.fill(bomb, 1)
        self.assertEqual(self.assertRaises(KafkaError, reading.take, 1, MAX // 2).code, ErrorCode.MESSAGE_TOO_LARGE)
