"""Where patterns fit in raw bytes: everywhere that a plain search finds them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.search.patterns import Patterns, TooManyPlaces

LETTERS = b"abcdxyz"


class PatternsTests(SynchronousTestCase):
    def test_whatever_the_case_and_every_place_once(self):
        self.assertEqual(Patterns([b"ab", b"cab"]).ends(b"AB..cAb"), [2, 7])

    def test_what_follows_the_data_is_no_place(self):
        self.assertEqual(Patterns([b"a\\x00"]).ends(b"a\0.a"), [2])

    def test_a_short_literal_at_the_very_end_of_few_bytes(self):
        patterns = Patterns([b"aa", b"bbb" + b"x" * 45, b"cd"])
        for size in range(50):
            self.assertEqual(patterns.ends(b"." * size + b"aa"), [size + 2], size)

    def test_more_places_than_are_kept(self):
        self.assertRaises(TooManyPlaces, Patterns([b"a"]).ends, b"a" * 70_000)

    @given(
        st.lists(st.text(LETTERS.decode(), min_size=2, max_size=48), min_size=1, max_size=12),
        st.integers(0, 11),
        st.integers(0, 80),
        st.integers(0, 20),
    )
    @settings(max_examples=200, deadline=None)
    def test_as_a_plain_search(self, literals, chosen, before, behind):
        literal = literals[chosen % len(literals)]
        data = ("." * before + literal + "." * behind).encode()
        expected = {
            at + len(each) for each in literals for at in range(len(data)) if data.startswith(each.encode(), at)
        }
        self.assertEqual(Patterns([each.encode() for each in literals]).ends(data), sorted(expected))
