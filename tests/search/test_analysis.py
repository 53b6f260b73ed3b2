"""What a token is, over all of Unicode."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.native.unicode import code_points
from chronik.search.analysis import MAX_TOKEN_BYTES, fold, origins, tokens, word_spans, words
from tests.search import oracle
from tests.search.records import texts

ALL = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]


class AnalysisTests(SynchronousTestCase):
    def test_every_code_point_folds_by_itself(self):
        for char in ALL:
            folded = "i" if char == "\u0130" else char.lower()
            if fold(char) != folded or fold(f"\u03a3{char}a") != f"\u03c3{folded}a" or fold(folded) != folded:
                self.fail(f"U+{ord(char):04x}")
            if (unicodedata.category(char)[0] in "LN") != (unicodedata.category(folded)[0] in "LN"):
                self.fail(f"U+{ord(char):04x} changes its category")

    def test_every_code_point_is_part_of_a_word_or_not(self):
        for char in ALL:
            category = unicodedata.category(char)[0]
            expected = [f"a{fold(char)}b"] if category in "LNM" else ["a", "b"]
            if words(f"a{char}b") != expected or words(char) != ([fold(char)] if category in "LN" else []):
                self.fail(f"U+{ord(char):04x}")

    def test_folding_is_that_of_the_table(self):
        lower = code_points().lower
        for char in ALL:
            if unicodedata.category(char)[0] in "LNM" and ord(fold(char)) != lower.get(ord(char), ord(char)):
                self.fail(f"U+{ord(char):04x}")

    def test_origins_of_every_code_point(self):
        for char in ALL:
            if fold(char) != char and char not in origins()[fold(char)]:
                self.fail(f"U+{ord(char):04x}")

    def test_tokens(self):
        for data, expected in {
            b"GET /api/v1?x=1 HTTP/1.1": b"get api v1 x 1 http 1 1",
            b"a_b-c.d": b"a b c d",
            "Straße ÉTÉ \u0301a\u0301".encode(): "straße été a\u0301".encode(),
            b"a\xffb\xc3": b"a b",
            "٣Ⅷ½ ①".encode(): "٣ⅷ½ ①".encode(),
            b"": b"",
        }.items():
            self.assertEqual(tokens(data), expected.split(), data)

    def test_long_runs_are_cut_to_whole_code_points(self):
        self.assertEqual(tokens(b"x" * 256 + b" y"), [b"x" * MAX_TOKEN_BYTES, b"y"])
        self.assertEqual(tokens("é".encode() * 200), ["é".encode() * 127])
        self.assertEqual(words("中" * 85 + "z"), ["中" * 85])
        self.assertEqual(word_spans("a" * 300 + " b"), [(0, 300, "a" * 255), (301, 302, "b")])

    @given(st.one_of(texts, st.text(max_size=30)))
    def test_as_the_oracle_says(self, text):
        self.assertEqual(words(text), oracle.tokens(text))
        spans = word_spans(text)
        self.assertEqual([word for _, _, word in spans], words(text))
        for start, end, word in spans:
            self.assertTrue(fold(text[start:end]).startswith(word))
