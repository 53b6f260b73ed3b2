"""Leader epochs: what OffsetForLeaderEpoch answers, cutting from both ends, the file."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chronik.errors import CorruptLogError
from chronik.log.epochs import LeaderEpochs


class LeaderEpochsTests(SynchronousTestCase):
    def setUp(self):
        self.epochs = LeaderEpochs()
        for epoch, start in ((2, 10), (3, 20), (7, 30)):
            self.assertTrue(self.epochs.assign(epoch, start))

    def test_end_offsets(self):
        answers = {epoch: self.epochs.end_offset_for(epoch, 40) for epoch in (-1, 0, 2, 3, 5, 7, 8)}
        self.assertEqual(
            answers, {-1: (-1, -1), 0: (0, 10), 2: (2, 20), 3: (3, 30), 5: (3, 30), 7: (7, 40), 8: (-1, -1)}
        )
        self.assertEqual(LeaderEpochs().end_offset_for(0, 5), (-1, -1))

    def test_epoch_of_an_offset(self):
        self.assertEqual([self.epochs.epoch_for(offset) for offset in (9, 10, 19, 20, 99)], [-1, 2, 2, 3, 7])

    def test_an_epoch_is_assigned_once(self):
        self.assertFalse(self.epochs.assign(7, 35))
        self.assertFalse(self.epochs.assign(4, 35))

    def test_an_epoch_that_wrote_nothing_gives_way(self):
        self.epochs.assign(8, 30)
        self.assertEqual(self.epochs.entries(), [(2, 10), (3, 20), (8, 30)])

    def test_epochs_that_wrote_nothing_are_answered_for_by_the_next(self):
        for epoch in (8, 9, 12):
            self.epochs.assign(epoch, 40)
            for earlier in range(7, epoch):
                self.assertEqual(self.epochs.end_offset_for(earlier, 40), (7, 40))
            self.assertEqual(self.epochs.end_offset_for(epoch, 40), (epoch, 40))
        empty = LeaderEpochs()
        empty.assign(3, 5)
        empty.assign(4, 5)
        self.assertEqual([empty.end_offset_for(epoch, 5) for epoch in (2, 3, 4)], [(2, 5), (3, 5), (4, 5)])

    def test_cutting(self):
        self.assertTrue(self.epochs.truncate_from_end(30))
        self.assertFalse(self.epochs.truncate_from_end(30))
        self.assertTrue(self.epochs.truncate_from_start(25))
        self.assertFalse(self.epochs.truncate_from_start(25))
        self.assertEqual(self.epochs.entries(), [(3, 25)])

    def test_the_file(self):
        other = LeaderEpochs()
        content = self.epochs.encode()
        other.restore(content, "/e")
        self.assertEqual(other.entries(), self.epochs.entries())
        for position in range(len(content)):
            damaged = bytearray(content)
            damaged[position] ^= 1
            self.assertRaises(CorruptLogError, other.restore, bytes(damaged), "/e")
            self.assertRaises(CorruptLogError, other.restore, content[:position], "/e")
