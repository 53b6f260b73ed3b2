"""States of queries through their records: values of all kinds, tombstones, other queries, damage."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.analytics.aggregate import (
    Aggregates,
    ApproximateDistinct,
    ApproximatePercentile,
    ApproximateTopK,
    CountAll,
    First,
    Sum,
)
from chronik.analytics.progress import Progress
from chronik.analytics.state import StateCodec, StateError, entries_of
from chronik.analytics.window import NEVER, Kept

AGGREGATES = Aggregates(
    [CountAll(), Sum(), First(), ApproximateDistinct(), ApproximatePercentile(0.5), ApproximateTopK(2)]
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.text(),
    st.floats(allow_nan=False),
    st.integers(-(2**100), 2**100),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.datetimes(),
    st.dates(),
    st.times(),
    st.timedeltas(),
)


def codec(query_id=b"q" * 16, aggregates=AGGREGATES):
    return StateCodec(query_id, aggregates.dump, aggregates.load)


class StateTests(SynchronousTestCase):
    @given(st.lists(VALUES, max_size=3), VALUES, st.integers(-(2**40), 2**40))
    def test_keys_and_values_of_all_kinds(self, group, value, first):
        made = AGGREGATES.begin([3, 2**70, value, {"a": 1, "b": 2, "c": 3}, ["x", "y"], [1.0, 2.0], [("x", 4)]])
        kept = Kept(tuple(group), first, first + 5, made)
        progress = Progress(offsets={0: 7, 1: 2**40}, reached={1: -3}, watermark=NEVER, closed_to=5, late=2)
        entries = list(entries_of(codec(), progress, [kept]))
        again, states = codec().read(entries)
        self.assertEqual(again, progress)
        ((key, begin, last, state),) = states
        self.assertEqual((key, begin, last), kept[:3])
        self.assertEqual(AGGREGATES.results(state), AGGREGATES.results(made))
        self.assertEqual([type(one) for one in key], [type(one) for one in group])
        self.assertEqual(state[2], (1, 2, 3, value) if value is not None else (1, 2, 3, None))

    def test_the_last_of_each_key_counts(self):
        def kept(first, count):
            return Kept(
                ("k",),
                first,
                first,
                count if count is None else [count, *AGGREGATES.begin([0, 1, None, None, None, None, None])[1:]],
            )

        one, other = codec(), codec(b"r" * 16)
        entries = [one.kept(kept(0, 1)), one.kept(kept(10, 2)), other.kept(kept(20, 9)), one.kept(kept(0, None))]
        entries += [one.progress(Progress(records=1)), one.progress(Progress(records=2)), one.kept(kept(10, 5))]
        progress, states = one.read(entries)
        self.assertEqual(progress.records, 2)
        self.assertEqual([(each.first, each.state[0]) for each in states], [(10, 5)])
        self.assertEqual(codec(b"s" * 16).read(entries), (None, []))

    def test_what_cannot_be_read(self):
        key, value = codec().kept(Kept((), 0, 0, AGGREGATES.begin([1, 1, None, None, None, None, None])))
        for damaged in (b"", b"\xc1", value[:-3], b"\x93\x02" + value[2:], value + b"x"):
            self.assertRaises(StateError, codec().read, [(key, damaged)])
        self.assertRaises(StateError, codec(aggregates=Aggregates([CountAll()])).read, [(key, value)])
