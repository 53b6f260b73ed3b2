"""Counts by windows: each window is told once, when it has too many; the state is a short text, and comes back whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.search.rates import MAX_WINDOWS, RateWindows

BEGINS = st.integers(0, 40).map(lambda number: number * 60_000)
ADDED = st.lists(st.lists(st.tuples(BEGINS, st.integers(1, 9)), max_size=5), max_size=20)


class RateTests(SynchronousTestCase):
    @given(ADDED, st.integers(0, 30), st.data())
    def test_every_window_that_is_over_is_told_once_and_no_other(self, added, over, data):
        """Whatever comes in whichever order, though the state is written and read again in between."""
        windows, told, counts = RateWindows("a", over), [], {}
        for some in added:
            windows.add(some)
            for begin, count in some:
                counts[begin] = counts.get(begin, 0) + count
            for begin, count in windows.exceeded():
                self.assertEqual(count, counts[begin])
                windows.told(begin)
                told.append(begin)
            if data.draw(st.booleans()):
                windows = RateWindows.restored("a", over, windows.text())
        self.assertEqual(sorted(told), sorted(begin for begin, count in counts.items() if count > over))
        self.assertEqual(windows.late, 0)

    def test_it_is_over_and_not_just_at_the_limit(self):
        windows = RateWindows("a", 3)
        windows.add([(0, 3)])
        self.assertEqual(windows.exceeded(), [])
        windows.add([(0, 1)])
        self.assertEqual(windows.exceeded(), [(0, 4)])

    def test_the_newest_are_kept_and_what_is_older_comes_too_late(self):
        windows = RateWindows("a", 0)
        for number in range(MAX_WINDOWS):
            windows.add([(1000 * (number + 10), 1)])
            windows.told(1000 * (number + 10))
        windows.add([(5000, 2)])
        self.assertEqual((windows.late, windows.exceeded()), (2, []))
        windows.add([(1000 * (MAX_WINDOWS + 10), 1)])
        self.assertEqual(windows.exceeded(), [(1000 * (MAX_WINDOWS + 10), 1)])
        windows.add([(10_000, 7)])  # it was the oldest
        self.assertEqual(windows.late, 9)
        again = RateWindows.restored("a", 0, windows.text())
        self.assertEqual((again.late, again.text()), (9, windows.text()))

    def test_the_state_fits_beside_an_offset(self):
        windows = RateWindows("x" * 22, 0)
        windows.add([(1_800_000_000_000 + 1000 * number, 2**40) for number in range(200)])
        for begin, _ in windows.exceeded():
            windows.told(begin)
        windows.late = 2**50
        self.assertLess(len(windows.text()), 4096)

    def test_a_state_of_something_else_is_none(self):
        self.assertIsNone(RateWindows.restored("b", 0, RateWindows("a", 0).text()))
        for text in ("", "{", "[]", '{"alert":"a"}', "\ud800"):
            self.assertIsNone(RateWindows.restored("a", 0, text))
