"""Windows against lists: what is in each when it closes, what is late, what is kept and restored."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.analytics.window import NEVER, Fixed, Part, Row, Session, windows_of

GRACE = 5
FIXED = st.builds(Fixed, st.integers(1, 30), st.integers(1, 30))
EVENTS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(-60, 60)), max_size=12)
BATCHES = st.lists(st.tuples(EVENTS, st.integers(-60, 80)), max_size=8)


class Lists:
    """States are one list of times."""

    def merge(self, into, other):
        into[0] = into[0] + other[0]

    def copy(self, state):
        return list(state)


def made(spec):
    return windows_of(spec, GRACE, Lists(), str)


def panes(spec, events):
    """The parts of fixed windows: by pane and key."""
    found = defaultdict(list)
    for key, time in events:
        found[key, time // spec.pane * spec.pane].append(time)
    return [Part(key, pane, pane, [times]) for (key, pane), times in found.items()]


def local_sessions(gap, events):
    """The parts of sessions: by key, apart by at least a gap."""
    found = []
    for key in {key for key, _ in events}:
        times = sorted(time for each, time in events if each == key)
        begin = 0
        for index in range(1, len(times) + 1):
            if index == len(times) or times[index] - times[index - 1] >= gap:
                found.append(Part(key, times[begin], times[index - 1], [times[begin:index]]))
                begin = index
    return found


def plain(rows):
    return [(row.start, row.end, row.key, sorted(row.state[0])) for row in rows]


class FixedTests(SynchronousTestCase):
    @given(FIXED, st.integers(-100, 100))
    def test_the_windows_of_a_pane(self, spec, time):
        pane = time // spec.pane * spec.pane
        wanted = [start for start in range(-200, 200) if start % spec.hop == 0 and start <= time < start + spec.size]
        self.assertEqual(list(spec.starts(pane)), wanted)

    @settings(max_examples=300)
    @given(FIXED, BATCHES)
    def test_each_window_closes_once_with_what_came_in_time(self, spec, batches):
        windows = made(spec)
        taken = defaultdict(list)
        closed_to, reached = NEVER, NEVER
        for events, watermark in [*batches, ([], 1000)]:
            late = windows.add(panes(spec, events))
            wanted_late = []
            for key, time in events:
                starts = list(spec.starts(time // spec.pane * spec.pane))
                if not starts:
                    continue
                if starts[-1] + spec.size <= closed_to:
                    wanted_late.append((key, time))
                for start in starts:
                    if start + spec.size > closed_to:
                        taken[start, key].append(time)
            told = [(part.key, time) for part in late for time in part.state[0] if list(spec.starts(part.first))]
            self.assertEqual(sorted(told), sorted(wanted_late))
            reached = max(reached, watermark)
            closed_to = reached - GRACE
            rows = plain(windows.close(reached))
            over = sorted(place for place in taken if place[0] + spec.size <= closed_to)
            wanted = [(start, start + spec.size, key, sorted(taken.pop((start, key)))) for start, key in over]
            self.assertEqual(rows, wanted)
        self.assertEqual((len(windows), list(windows.rows())), (0, []))

    @settings(max_examples=300)
    @given(FIXED, BATCHES)
    def test_what_has_changed_and_what_is_open(self, spec, batches):
        windows = made(spec)
        shown = {}
        for events, watermark in batches:
            windows.add(panes(spec, events))
            shown |= {row[:3]: row[3] for row in plain(windows.changed())}
            self.assertEqual(windows.changed(), [])
            for row in plain(windows.close(watermark)):
                self.assertEqual(shown.pop(row[:3]), row[3])
            self.assertEqual({row[:3]: row[3] for row in plain(windows.rows())}, shown)
            for key in "abc":
                wanted = {place: times for place, times in shown.items() if place[2] == key}
                self.assertEqual({row[:3]: row[3] for row in plain(windows.rows(key))}, wanted)


class SessionTests(SynchronousTestCase):
    @settings(max_examples=300)
    @given(st.integers(1, 20), BATCHES)
    def test_each_session_closes_once_with_what_came_in_time(self, gap, batches):
        windows = made(Session(gap))
        sessions = []  # of lists of (key, time)
        closed_to, reached = NEVER, NEVER
        for events, watermark in [*batches, ([], 1000)]:
            late = windows.add(local_sessions(gap, events))
            wanted_late = 0
            for part in local_sessions(gap, events):
                near = [
                    each
                    for each in sessions
                    if each[0] == part.key and part.first < max(each[1]) + gap and min(each[1]) < part.last + gap
                ]
                times = sum((each[1] for each in near), part.state[0])
                if max(times) + gap <= closed_to:
                    wanted_late += 1
                    continue
                sessions = [each for each in sessions if each not in near] + [(part.key, times)]
            self.assertEqual(len(late), wanted_late)
            reached = max(reached, watermark)
            closed_to = reached - GRACE
            rows = windows.close(reached)
            wanted = [
                (min(times), max(times) + gap, key, sorted(times))
                for key, times in sessions
                if max(times) + gap <= closed_to
            ]
            self.assertEqual(plain(rows), sorted(wanted, key=lambda row: (row[1], row[0], row[2])))
            sessions = [each for each in sessions if max(each[1]) + gap > closed_to]
            self.assertEqual(len(windows), len(sessions))
        self.assertEqual(list(windows.rows()), [])

    @settings(max_examples=200)
    @given(st.integers(1, 20), EVENTS, EVENTS)
    def test_the_order_does_not_matter(self, gap, first, second):
        together, apart = made(Session(gap)), made(Session(gap))
        together.add(local_sessions(gap, first + second))
        apart.add(local_sessions(gap, second))
        apart.add(local_sessions(gap, first))
        self.assertEqual(plain(together.close(1000)), plain(apart.close(1000)))

    def test_a_session_that_bridges_two_is_told(self):
        windows = made(Session(10))
        windows.add([Part("a", 0, 0, [[0]]), Part("a", 15, 15, [[15]])])
        self.assertEqual(plain(windows.changed()), [(0, 10, "a", [0]), (15, 25, "a", [15])])
        windows.add([Part("a", 8, 8, [[8]])])
        self.assertEqual(windows.changed(), [Row(15, 15, "a", None), Row(0, 25, "a", [[8, 0, 15]])])


class KeptTests(SynchronousTestCase):
    @settings(max_examples=300)
    @given(st.one_of(FIXED, st.builds(Session, st.integers(1, 20))), BATCHES, st.integers(0, 8))
    def test_what_is_kept_is_enough_to_go_on(self, spec, batches, cut):
        """The same answers from windows that were restored in the middle as from those that went through."""
        parts = (lambda events: local_sessions(spec.gap, events)) if isinstance(spec, Session) else (
            lambda events: panes(spec, events)
        )  # fmt: skip
        through, store = made(spec), {}
        current = through
        for number, (events, watermark) in enumerate([*batches, ([], 1000)]):
            if number == cut:
                current = made(spec)
                current.closed_to = through.closed_to
                for kept in store.values():
                    current.restore(kept._replace(state=[list(kept.state[0])]))
            late = current.add(parts(events))
            if current is not through:
                self.assertEqual([part[:3] for part in late], [part[:3] for part in through.add(parts(events))])
            rows = current.close(watermark)
            if current is not through:
                self.assertEqual(plain(rows), plain(through.close(watermark)))
            for kept in current.kept():
                if kept.state is None:
                    store.pop((kept.key, kept.first), None)
                else:
                    store[kept.key, kept.first] = kept
        self.assertEqual(store, {})
