"""Texts for hypothesis: log-like, of many scripts, with escapes, with bytes that are no UTF-8."""

from __future__ import annotations

from hypothesis import strategies as st

_ASCII = (
    "error", "ERROR", "connection reset", " ", "  ", "-", "_", ".", "/", '"', "=", ":", "{", "}", ",", "[", "]", "\0", "\t",
    "\r\n", "1", "250", "9", "99999999999999999", "1e5", "2.5E-3", "0.9", "-0.5", "007", "a" * 8, "B" * 16, "z" * 248,
    "q" * 255, "W" * 300,
)  # fmt: skip
_ESCAPES = (
    "\\", "\\n", '\\"', "\\u00e9", "\\ud83d", "\\uDE00", "\\uD83D\\uDE00", "a\\ud801\\udC00b", "\\u0130", "\\u", "\\u12",
    "\\x41",
)  # fmt: skip
_OTHERS = (
    "é", "\u0301", "Straße ΛΣΣ", "İK\u212aÅ\u212b", "Ⱥ" * 90, "日本語", "हिन्दी", "\u200d", "—", "ⅫⅩ", "Ⓐ",
    "²½٣", "😀", "\U00010400\U0001d7d8",
)  # fmt: skip
_NO_UTF8 = (
    b"\x80", b"\xbf", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xff",
    b"a\xe0\x81\x81b", b"a\xf0\x80\x81\x81b", b"a\xf7\xbf\xbf\xbfb",
)  # fmt: skip
_PIECES = tuple(text.encode() for text in _ASCII + _ESCAPES + _OTHERS) + _NO_UTF8
TEXTS = st.one_of(
    st.lists(st.sampled_from(_PIECES), max_size=12).map(b"".join),
    st.text(max_size=80).map(str.encode),
    st.binary(max_size=80),
)
RECORDS = st.lists(
    st.tuples(
        st.none() | TEXTS,
        st.none() | TEXTS,
        st.integers(-(2**40), 2**40),
        st.lists(st.tuples(st.text(max_size=3), st.none() | TEXTS), max_size=3),
    ),
    min_size=1,
    max_size=12,
)
"""Key, value, timestamp, headers."""

WITH_EXPONENTS = tuple(
    text.encode()
    for text in (
        "1e5", "[2,-2.5E-3]", '{"n":1E+2}', '{"n" : 1e3}', '{"n":-1e3}', "n: 1e3\n", "1.25e0,", "0e0\t", " 1e1\r", "[1e5]",
        "2,3e4,5", "x" * 60 + " 1e5", "x" * 62 + " 1e5", "x" * 63 + " 1e5", "1e5x 1e5", "1e,1e5", ":1.5e5}",
    )
)  # fmt: skip
WITHOUT_EXPONENTS = tuple(
    text.encode()
    for text in (
        '{"status":250}', "250.0", "-1.5", '{"at":"1e5","trace":"3e8f550e8400e29b"}', "550e8400-e29b-41d4", "1e5x", "1e",
        "12.e3", ".1e5", "1e+", "-e5", "e5", "1.2.3e4", "--1e5", "a1e5", "took=1e5", "1e5ms", "é1e5", "1e5é", "1e5.",
        "(1e5)", "{1e5", "1e5:", "",
    )
)  # fmt: skip
"""Values that are to be marked (`chronik.native.numbers`), and values that are not."""
