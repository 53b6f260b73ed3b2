"""Which token a search for a number may require: of whatever way JSON can write an equal number."""

from __future__ import annotations

import json
from decimal import Decimal, localcontext

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.native.numbers import MARKER, needs_marker, number_token
from chronik.native.signed import signed_tokens
from tests.native.texts import WITH_EXPONENTS, WITHOUT_EXPONENTS

DIGITS = st.text("0123456789", min_size=1, max_size=22)
WHOLE = DIGITS.map(lambda digits: digits.lstrip("0") or "0")
FRACTIONS = st.just("") | DIGITS.map(lambda digits: "." + digits)
EXPONENTS = st.just("") | st.tuples(st.sampled_from(["e", "E", "e+", "E-"]), st.integers(0, 30)).map(
    lambda parts: f"{parts[0]}{parts[1]}"
)
LITERALS = st.one_of(
    st.tuples(st.sampled_from(["", "-"]), WHOLE, FRACTIONS, EXPONENTS).map("".join),
    st.floats(allow_nan=False, allow_infinity=False).map(json.dumps),
    st.integers(-(2**70), 2**70).map(str),
)
"""Numbers of JSON, written in all ways."""


def write_anew(number, draw):
    """The same number, written in some way."""
    with localcontext() as context:
        context.prec = 500
        text = format(number, "f")
        if draw(st.booleans()):
            return text + ("" if "." in text else ".") + "0" * draw(st.integers(1, 5))
        return draw(st.sampled_from([text, f"{number:e}", f"{number:E}", f"{number * 10:f}E-1"]))


def document(literal, layout):
    return (
        '{"status":%s}',
        '{"a": [1, %s ], "b": "x"}',
        "[%s]",
        "%s",
        ' {"deep":{"n":\n%s\n}}',
        '{"s":"1 2","n":%s,"t":true}',
        '[{"n":\t%s\r\n}]',
    )[layout] % literal  # fmt: skip


class NumberTokenTests(SynchronousTestCase):
    @given(LITERALS, st.integers(0, 6), st.data())
    @settings(deadline=None, max_examples=500)
    def test_a_value_with_an_equal_number_has_the_token_or_the_marker(self, literal, layout, data):
        sought = Decimal(literal)
        written = write_anew(sought, data.draw)
        value = document(written, layout)
        numbers = []
        json.loads(
            value,
            parse_float=lambda text: numbers.append(Decimal(text)),
            parse_int=lambda text: numbers.append(int(text)),
        )
        self.assertIn(sought, numbers)
        signed = signed_tokens(None, value.encode(), ())
        self.assertTrue(number_token(sought) in signed or MARKER in signed, (value, signed))
        self.assertEqual(MARKER in signed, "e" in written.lower())

    @given(st.floats(allow_nan=False, allow_infinity=False))
    @example(-0.0)
    @example(1e300)
    @settings(deadline=None)
    def test_of_doubles(self, number):
        signed = signed_tokens(None, json.dumps({"n": number}).encode(), ())
        self.assertTrue(number_token(number) in signed or MARKER in signed)

    def test_the_token(self):
        for number, token in (
            (250, b"250"),
            (250.0, b"250"),
            (-250.75, b"250"),
            (0.5, b"0"),
            (-0.0, b"0"),
            (2**70, b"1180591620717411303424"),
            (Decimal("-12.5"), b"12"),
            (Decimal("1e3"), b"1000"),
            (Decimal("0e5"), b"0"),
            (Decimal("123e-9"), b"0"),
            (Decimal("1e300"), b"1" + b"0" * 254),
            (Decimal("12e999999999"), b"12" + b"0" * 253),
        ):
            self.assertEqual(number_token(number), token)

    def test_what_needs_a_marker(self):
        for text in WITH_EXPONENTS:
            self.assertTrue(needs_marker(text), text)
        for text in WITHOUT_EXPONENTS:
            self.assertFalse(needs_marker(text), text)

    def test_a_million_digits_take_no_time(self):
        """Each byte is looked at a few times, not a million times: this would take hours otherwise."""
        for text in (b"9" * 1_000_000, b"0." + b"9" * 1_000_000 + b"x", b"9" * 1_000_000 + b"e5x", b"1e" * 500_000):
            self.assertFalse(needs_marker(text))
