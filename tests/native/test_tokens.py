"""Tokens, code point by code point; the table of code points against Python's own; escapes; spans."""

from __future__ import annotations

import json
import unicodedata
from unittest import skipUnless

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.native.escapes import unescape
from chronik.native.signed import signed_tokens
from chronik.native.tokens import MAX_BYTES, spans, tokens
from chronik.native.unicode import BLOCK, CODE_POINTS, VERSION, code_points, flat, generate
from chronik.native.unicode_14 import LOWER, MARKS, STARTS
from tests.native.texts import TEXTS


def kind_of(code):
    """1 for what begins a token, 2 for a mark, 0 for what separates, by the ranges themselves."""
    for kind, ranges in ((1, code_points().starts), (2, code_points().marks)):
        if any(first <= code <= last for first, last in ranges):
            return kind
    return 0


def slow_tokens(data):
    """The definition, followed word by word."""
    found, run, kinds = [], "", {}
    for character in data.decode("utf-8", "replace") + "\0":
        kind = kinds.setdefault(character, kind_of(ord(character)))
        if kind == 1 or (kind == 2 and run):
            run += character
        elif run:
            token = b""
            for each in run:
                form = chr(code_points().lower.get(ord(each), ord(each))).encode()
                if len(token) + len(form) > MAX_BYTES:
                    break
                token += form
            found.append(token)
            run = ""
    return found


class TokenTests(SynchronousTestCase):
    def test_examples(self):
        for text, expected in (
            ("", []),
            ("GET /api/v1/Orders?id=42 HTTP/1.1", ["get", "api", "v1", "orders", "id", "42", "http", "1", "1"]),
            ("snake_case kebab-case CamelCase", ["snake", "case", "kebab", "case", "camelcase"]),
            ("Grüße, Жизнь e\u0301te\u0301", ["grüße", "жизнь", "e\u0301te\u0301"]),
            ("\u0301abc", ["abc"]),  # a mark begins nothing
            ("İstanbul 5\u212a ΛΣ", ["istanbul", "5k", "λ\u03c3"]),  # simple lower case: no dot above, no final sigma
            ("Ⅻ ² ٣½", ["ⅻ", "²", "٣½"]),
            ("don't 3.14 a\u200db Ⓐ 😀", ["don", "t", "3", "14", "a", "b"]),
            ("日本語 हिन्दी", ["日本語", "हिन्दी"]),
        ):
            self.assertEqual(tokens(text.encode()), [token.encode() for token in expected], text)

    def test_what_is_not_utf8_separates(self):
        for text in (
            b"a\xffb",
            b"a\xc3b",
            b"a\xe2\x82b",
            b"a\xed\xa0\x80b",
            b"a\xc0\xafb",
            b"a\xf4\x90\x80\x80b",
            b"a\xf0\x9fb",
        ):
            self.assertEqual(tokens(text), [b"a", b"b"], text)
        self.assertEqual(tokens(b"a\xc3"), [b"a"])

    def test_long_runs_are_cut_to_whole_code_points(self):
        self.assertEqual(tokens(b"A" * 255), [b"a" * 255])
        self.assertEqual(tokens(b"A" * 1000 + b" b"), [b"a" * 255, b"b"])
        self.assertEqual(tokens("é".encode() * 128), ["é".encode() * 127])
        self.assertEqual(tokens(("é" * 127 + "xy z").encode()), [("é" * 127 + "x").encode(), b"z"])
        self.assertEqual(
            tokens(("é" * 127 + "日x").encode()), [("é" * 127).encode()]
        )  # nothing after the first that is too much
        self.assertEqual(tokens("Ⱥ".encode() * 90), ["ⱥ".encode() * 85])  # two bytes that become three
        self.assertEqual(tokens("\u212a".encode() * 300), [b"k" * 255])  # three that become one

    @given(TEXTS)
    @settings(deadline=None)
    def test_as_defined(self, data):
        expected = slow_tokens(data)
        self.assertEqual(tokens(data), expected)
        self.assertEqual(tokens(memoryview(bytearray(data))), expected)

    @given(TEXTS)
    @settings(deadline=None)
    def test_spans_are_where_the_tokens_are_read(self, data):
        found = list(spans(data))
        self.assertEqual([token.text for token in found], tokens(data))
        self.assertEqual([token.position for token in found], list(range(len(found))))
        end = 0
        for token in found:
            self.assertTrue(end <= token.start < token.stop <= len(data))
            self.assertEqual(tokens(data[token.start : token.stop]), [token.text])
            self.assertEqual(tokens(data[end : token.start]), [])
            end = token.stop
        self.assertEqual(tokens(data[end:]), [])


class TableTests(SynchronousTestCase):
    def test_fixed(self):
        """The table is a part of the format of what is on disk: whoever changes it changes VERSION and the index's format."""
        self.assertEqual(VERSION, "14.0.0")
        table = code_points()
        self.assertEqual(sum(last - first + 1 for first, last in table.starts), 131_756 + 1_791)
        self.assertEqual(sum(last - first + 1 for first, last in table.marks), 2_408)
        self.assertEqual((len(table.lower), sum(table.lower.values())), (1_407, 34_668_822))

    @skipUnless(unicodedata.unidata_version == VERSION, f"this Python has Unicode {unicodedata.unidata_version}")
    def test_as_python_has_it(self):
        text = generate()
        for name, value in (("STARTS", STARTS), ("MARKS", MARKS), ("LOWER", LOWER)):
            generated = text.split(f"{name} = (")[1].split(")")[0]
            self.assertEqual("".join(line.strip().strip('"') for line in generated.splitlines()), value)

    def test_the_flat_form_is_the_same(self):
        table, (blocks, entries) = code_points(), flat()
        expected = [0] * CODE_POINTS
        for kind, ranges in ((1, table.starts), (2, table.marks)):
            for first, last in ranges:
                expected[first : last + 1] = [kind] * (last + 1 - first)
        for code, low in table.lower.items():
            self.assertEqual(expected[code], 1)
            expected[code] += (low - code) * 4
        self.assertEqual([entries[blocks[c // BLOCK] * BLOCK + c % BLOCK] for c in range(CODE_POINTS)], expected)
        self.assertTrue(all(kind_of(low) == 1 for low in table.lower.values()))


class EscapeTests(SynchronousTestCase):
    def test_examples(self):
        for text, expected in (
            (rb"a\nb\t\"c\"\\n\/", b'a\nb\t"c"\\n/'),
            (rb"\u00e9\u0041\u65e5", "éA日".encode()),
            (rb"\ud83d\ude00 \uD83D\uDE00", "😀 😀".encode()),
            (rb"\ud83dx \ude00\ud83d\ud83d\ude00", "\ufffdx \ufffd\ufffd😀".encode()),
            (rb"\x41 \u12 \u12g4 \ud83d\u0041 " + b"\\", rb"\x41 \u12 \u12g4 " + "\ufffdA \\".encode()),
            (b"\\u0000\\\xff", b"\0\\\xff"),
        ):
            self.assertEqual(unescape(text), expected)

    @given(st.text())
    @settings(deadline=None)
    def test_a_parsed_string_is_in_what_is_signed(self, text):
        for ascii in (True, False):
            value = json.dumps({"field": text}, ensure_ascii=ascii).encode("utf-8", "surrogatepass")
            self.assertLessEqual(len(unescape(value)), len(value))
            if ascii or not any("\ud800" <= character < "\ue000" for character in text):
                parsed = json.loads(value)["field"].encode("utf-8", "replace")
                self.assertLessEqual(set(tokens(parsed)), signed_tokens(None, value, ()))
