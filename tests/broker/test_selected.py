"""What was selected and is kept for readers: each gets all of it, in order, whatever the limits; memory is bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.broker.selected import READ_AHEAD, Kept, Run

STEPS = st.lists(st.tuples(st.lists(st.integers(1, 30), max_size=4), st.integers(0, 20)), max_size=8)


def grown(run, sizes, gap, number=0):
    """Let a run grow by batches of these sizes, each of one offset, and a gap behind them."""
    ends, data = [], b""
    for size in sizes:
        number += 1
        ends.append((run.reached + len(ends) + 1, size))
        data += bytes([number]) * size
    run.extend(data, ends, run.reached + len(sizes) + gap)
    return number


class RunTests(SynchronousTestCase):
    @given(STEPS, st.integers(0, 40), st.data())
    def test_a_reader_gets_every_batch_once(self, steps, limit, data):
        run, number = Run(100), 0
        for sizes, gap in steps:
            number = grown(run, sizes, gap, number)
        found, at = [], 100
        while True:
            before = at
            taken, at, is_all = run.take(at, limit, True)
            self.assertTrue(run.holds(at))
            self.assertLessEqual(len(taken), max(limit, 30))
            self.assertEqual(run.unread == 0, is_all)
            found += list(dict.fromkeys(taken))
            if is_all:
                break
            self.assertGreater(at, before)
        self.assertEqual(found, list(range(1, number + 1)))
        self.assertEqual(run.take(run.reached, 100, True), (b"", run.reached, True))

    def test_one_batch_at_least_or_none(self):
        run = Run(0)
        grown(run, [10, 10], 5)
        self.assertEqual(run.take(0, 5, True), (b"\1" * 10, 1, False))
        self.assertEqual(run.take(0, 5, False), (b"", 0, False))
        self.assertEqual(run.take(0, 20, False), (b"\1" * 10 + b"\2" * 10, 2, True))
        self.assertEqual(run.take(1, 20, True), (b"\2" * 10, 2, True))
        self.assertEqual(run.take(4, 20, True), (b"", 4, True))
        self.assertFalse(run.holds(8))

    def test_what_lies_behind_a_reader_is_kept_for_another_one_but_not_for_ever(self):
        run = Run(0)
        for number in range(6):
            run.extend(bytes(400_000), [(number + 1, 400_000)], number + 1)
            run.take(number, 1 << 20, True)
        self.assertEqual((run.start, run.reached), (3, 6))
        self.assertLess(run.size, READ_AHEAD + 2 * 400_000)
        self.assertFalse(run.holds(2))
        self.assertEqual(len(run.take(4, 1 << 20, True)[0]), 800_000)

    def test_runs_that_hold_the_same(self):
        one, other = Run(0), Run(5)
        one.extend(b"", (), 10)
        other.extend(b"", (), 10)
        self.assertEqual((one.covers(other), other.covers(one)), (True, False))


class KeptTests(SynchronousTestCase):
    def test_what_was_used_longest_ago_goes_first(self):
        kept, runs = Kept(1000), [Run(0) for _ in range(4)]
        for run in runs[:3]:
            grown(run, [200, 200], 0)
            kept.used(run)
            kept.used(run)
        self.assertEqual([run.kept for run in runs], [False, True, True, True])
        self.assertEqual(kept.size, 800)
        kept.used(runs[1])
        grown(runs[3], [300], 0)
        kept.used(runs[3])
        self.assertEqual([run.kept for run in runs], [False, True, False, True])
        kept.drop(runs[1])
        kept.drop(runs[1])
        self.assertEqual((kept.size, runs[1].kept), (300, False))
        grown(runs[3], [5000], 0)
        kept.used(runs[3])
        self.assertTrue(runs[3].kept)
