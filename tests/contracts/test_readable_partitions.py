"""The contract of IReadablePartition: a partition with a log, and a saved search that every record matches."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from chronik.broker.interfaces import IReadablePartition, IReadablePartitions
from chronik.broker.purgatory import WaitingFetch
from chronik.controller.commands import RegisterBroker
from chronik.errors import ErrorCode, KafkaError
from chronik.model import Endpoint
from chronik.wire.records import Record, decode_records, encode_batch, split_batches
from tests.broker.searching import SearchHosting
from tests.listeners.handlers.hosting import NOW

MOST = 1 << 20


class Contract:
    """The tests; `name` is the topic that is read."""

    name: str

    def setUp(self) -> None:
        self.hosting = SearchHosting()
        self.hosting.create("events", 2)
        self.hosting.save("all", "events", "*")
        self.readable = self.hosting.saved.partition(self.name, 0)

    def append(self, count=1, timestamp=NOW):
        records = [Record(number, timestamp + number, b"k", b"value") for number in range(count)]
        self.hosting.partition("events").append(encode_batch(records), NOW)

    def read(self, offset, limit=MOST, at_least_one=True):
        self.readable.read(offset, limit, True, at_least_one)  # a view begins to look
        fetched = self.readable.read(offset, limit, True, at_least_one)
        data = bytes(fetched.records)
        return [
            (record.offset, record.timestamp, record.key, record.value)
            for position, header in split_batches(data)
            for record in decode_records(data[position : position + header.size], MOST)
        ], fetched

    def test_provides_the_interface(self):
        self.assertTrue(verifyObject(IReadablePartition, self.readable))
        self.assertTrue(verifyObject(IReadablePartitions, self.hosting.saved))
        self.assertTrue(verifyObject(IReadablePartitions, self.hosting.replicas))
        self.assertEqual(tuple(self.readable.name), (self.name, 0))

    def test_all_that_is_committed_in_order(self):
        self.append(3)
        self.append(2)
        found, fetched = self.read(0)
        self.assertEqual(found, [(n, NOW + n % 3, b"k", b"value") for n in range(5)])
        self.assertEqual((fetched.high_watermark, fetched.log_start, fetched.limited), (5, 0, False))
        self.assertEqual([offset for offset, *_ in self.read(4)[0]], [3, 4])
        self.assertEqual(self.read(5)[0], [])

    def test_limits(self):
        for _ in range(3):
            self.append()
        size = len(self.read(0)[1].records) // 3
        for limit, at_least_one, count in ((1, True, 1), (1, False, 0), (2 * size, True, 2), (3 * size, False, 3)):
            found, fetched = self.read(0, limit, at_least_one)
            self.assertEqual((len(found), fetched.limited), (count, count < 3))

    def test_outside(self):
        self.append(5)
        self.hosting.partition("events").delete_records(2, lambda _: None)
        for offset in (-1, 1, 6):
            error = self.assertRaises(KafkaError, self.readable.read, offset, MOST, True, True)
            self.assertEqual(error.code, ErrorCode.OFFSET_OUT_OF_RANGE)
        self.assertEqual(self.read(2)[1].log_start, 2)

    def test_offsets_by_time(self):
        self.append(3, NOW)
        self.append(3, NOW + 100)
        self.assertEqual(self.readable.offset_for_timestamp(NOW + 50), (NOW + 100, 3, 0))
        self.assertIsNone(self.readable.offset_for_timestamp(NOW + 1000))
        self.assertEqual(self.readable.max_timestamp(), (NOW + 102, 5, 0))

    def test_epochs(self):
        self.append(2)
        self.hosting.cluster.do(RegisterBroker(0, b"again".ljust(16), (Endpoint("PLAINTEXT", "h", 1),)))
        self.append(2)
        self.assertEqual((self.readable.leader, self.readable.leader_epoch), (0, 1))
        self.readable.check_leader_epoch(1)
        error = self.assertRaises(KafkaError, self.readable.check_leader_epoch, 0)
        self.assertEqual(error.code, ErrorCode.FENCED_LEADER_EPOCH)
        self.assertEqual([self.readable.epoch_end(epoch) for epoch in (0, 1)], [(0, 2), (1, 4)])
        self.assertEqual([self.readable.epoch_of(offset) for offset in (0, 2, 4)], [0, 1, 1])
        self.assertEqual(self.readable.diverging_epoch(0, 3), (0, 2))
        self.assertIsNone(self.readable.diverging_epoch(1, 3))
        data = bytes(self.read(0)[1].records)
        self.assertEqual([header.partition_leader_epoch for _, header in split_batches(data)], [0, 1])

    def test_who_waits_is_woken(self):
        self.readable.read(0, MOST, True, True)
        woken = []
        waiting = WaitingFetch(1, woken.append)
        waiting.watch(self.readable.stable_waiters)
        self.append()
        self.hosting.clock.advance(0.1)
        self.assertEqual(woken, [waiting])


class PartitionTests(Contract, SynchronousTestCase):
    name = "events"


class SavedPartitionTests(Contract, SynchronousTestCase):
    name = "all"
