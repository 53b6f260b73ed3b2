"""The contract of IValueScanner, on the compiled one and on the one in Python, against msgspec and the definition."""

from __future__ import annotations

import json

import msgspec
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase
from zope.interface.verify import verifyObject

from chronik.native.interfaces import IValueScanner
from chronik.native.library import find
from chronik.native.records import headers, walk
from chronik.native.sections import MalformedRecords
from chronik.native.value_twin import PlainValueScanner
from chronik.native.values import DEEPEST, Kind, State, read_value
from chronik.wire.batches import HEADER_BYTES
from chronik.wire.records import Record, encode_batch
from tests.native.texts import RECORDS, TEXTS

SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.differing_executors])
_NAMES = st.sampled_from(["a", "b", "level", "ms", "é", 'q"q', "", "\n", "😀", "A"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=12,
)
OBJECTS = st.dictionaries(_NAMES, JSON, max_size=6)
KINDS = {type(None): {Kind.NULL}, bool: {Kind.BOOLEAN}, int: {Kind.INTEGER, Kind.NUMBER}, float: {Kind.NUMBER},
         str: {Kind.STRING, Kind.ESCAPED}, dict: {Kind.OBJECT}, list: {Kind.ARRAY}}  # fmt: skip
NOT_JSON = (
    b"", b" ", b"plain", b"{", b"}", b"{}}", b"[1,]", b'{"a":1,}', b'{"a"}', b'{"a":}', b"{'a':1}", b'{"a":01}', b'{"a":1.}',
    b'{"a":.5}', b'{"a":1e}', b'{"a":+1}', b'{"a":-}', b'{"a":NaN}', b'{"a":nul}', b'{"a":1 2}', b"[1 2]", b"[}", b'{"a":[}',
    b'{"a":"\n"}', b'{"a":"\\x"}', b'{"a":"\\u12"}', b'{"a":"\\ud83d"}', b'{"a":"\\udc00"}', b'{"a":"\\ud83d\\u0041"}',
    b'{"a":"\xff"}', b'{"a":"\xed\xa0\x80"}', b'\xff{"a":1}', b'{"a":1}\x00', b"\xef\xbb\xbf{}", b'{"a":"', b'{"a":"\\', b'{"a',
    b"[" * 101 + b"]" * 101,
    b'{"a":' * 101 + b"1" + b"}" * 101, b"tru", b"truex", b"1 1", b"--1", b"/**/1", b'{,"a":1}', b"[,1]",
    b'{"a":1,,"b":2}', b'{1:2}', b'"a" "b"', b'{"a" 1}', b'{"a":1;}',
)  # fmt: skip


def places(values):
    """The values one behind another, with something between them."""
    content, starts, lengths = b"#", [], []
    for value in values:
        starts.append(len(content))
        lengths.append(-1 if value is None else len(value))
        content += (value or b"") + b"}"
    return content, np.array(starts, np.int32), np.array(lengths, np.int32)


class ValueScannerContract:
    scanner: IValueScanner

    def members(self, values, names):
        content, starts, lengths = places(values)
        found = self.scanner.members(content, starts, lengths, names)
        rows = []
        for number, value in enumerate(values):
            inside = {}
            for row, name in enumerate(names):
                kind, start, length = (int(each[row, number]) for each in found[1:])
                self.assertEqual(length == -1, kind == Kind.ABSENT)
                if kind:
                    inside[name] = (kind, content[start : start + length])
            if value is not None:
                state, expected = read_value(value, names)
                self.assertEqual(int(found.states[number]), state, value)
                expected = {n: (m.kind, value[m.start : m.start + m.length]) for n, m in expected.items()}
                self.assertEqual(inside, expected, value)
            rows.append((State(int(found.states[number])), inside))
        return rows

    def test_provides_the_interface(self):
        verifyObject(IValueScanner, self.scanner)

    @given(st.lists(OBJECTS, max_size=4), st.lists(_NAMES, max_size=4, unique=True), st.booleans(), st.data())
    @SETTINGS
    def test_members_are_those_of_the_object(self, objects, names, ascii_only, data):
        texts = [
            json.dumps(each, ensure_ascii=ascii_only, indent=data.draw(st.none() | st.just(1))) for each in objects
        ]
        names = [name.encode() for name in names]
        for tree, (state, found) in zip(objects, self.members([text.encode() for text in texts], names), strict=True):
            self.assertEqual(state, State.OBJECT)
            self.assertEqual(set(found), {name for name in names if name.decode() in tree})
            for name, (kind, text) in found.items():
                value = tree[name.decode()]
                self.assertIn(kind, KINDS[type(value)])
                quoted = b'"' + text + b'"' if isinstance(value, str) else text
                self.assertEqual(json.loads(quoted), value)
                if kind == Kind.INTEGER:
                    self.assertLess(abs(value), 2**63)

    def test_what_is_no_json(self):
        names = [b"a", b"b"]
        for value in NOT_JSON:
            self.assertEqual(self.members([value], names), [(State.NO_JSON, {})], value)

    def test_what_is_json_but_no_object(self):
        for value in (
            b"1",
            b" [1,{}] ",
            b'"a"',
            b"null",
            b"-0.5e+3",
            b"true",
            b"[" * DEEPEST + b"]" * DEEPEST,
            b"[[],[]]",
        ):
            self.assertEqual(self.members([value], [b"a"]), [(State.OTHER, {})], value)

    def test_the_last_of_a_name_counts_and_escapes_are_resolved(self):
        found = self.members(
            [b'{"a":1,"\\u0061":"x\\ny","b":{"a":2}}', None, b'{"b":123456789012345678901}', b"{}"], [b"b", b"a"]
        )
        self.assertEqual(found[0], (State.OBJECT, {b"a": (Kind.ESCAPED, b"x\\ny"), b"b": (Kind.OBJECT, b'{"a":2}')}))
        self.assertEqual(
            found[1:],
            [(State.NO_VALUE, {}), (State.OBJECT, {b"b": (Kind.NUMBER, b"123456789012345678901")}), (State.OBJECT, {})],
        )

    @given(OBJECTS.map(lambda each: json.dumps(each).encode()), st.data())
    @settings(SETTINGS, max_examples=300)
    def test_damage_is_judged_as_msgspec_does(self, value, data):
        damaged = bytearray(value)
        for _ in range(data.draw(st.integers(1, 2))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        del damaged[data.draw(st.integers(1, len(damaged))) :]
        ((state, _),) = self.members([bytes(damaged)], [b"a", b"level"])
        try:
            tree = msgspec.json.decode(bytes(damaged))
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
            tree = msgspec.UNSET
        if state == State.NO_JSON:  # msgspec lets some things pass that are none, such as control characters
            return
        self.assertIsNot(tree, msgspec.UNSET, bytes(damaged))
        self.assertEqual(state == State.OBJECT, isinstance(tree, dict))

    @given(st.lists(st.none() | TEXTS, max_size=6))
    @SETTINGS
    def test_texts_and_bytes_are_gathered(self, texts):
        content, starts, lengths = places(texts)
        for as_text in (False, True):
            found = self.scanner.gather(content, starts, lengths, None, as_text)
            at, got = 0, []
            for end, valid in zip(found.ends.tolist(), found.valid.tolist(), strict=True):
                got.append(bytes(found.data[at:end]) if valid else None)
                at = end
            self.assertEqual(len(found.data), at)
            self.assertEqual(
                got, [None if as_text and text is not None and not is_text(text) else text for text in texts]
            )

    def test_escapes_are_resolved_where_they_are(self):
        content, starts, lengths = places([b"a\\nb", b"a\\nb", b"\\ud83d\\ude00", None])
        kinds = np.array([Kind.ESCAPED, Kind.STRING, Kind.ESCAPED, Kind.ABSENT], np.uint8)
        found = self.scanner.gather(content, starts, lengths, kinds)
        self.assertEqual(bytes(found.data), b"a\nba\\nb" + "😀".encode())
        self.assertEqual(found.ends.tolist(), [3, 7, 11, 11])
        self.assertEqual(found.valid.tolist(), [True, True, True, False])

    @given(RECORDS)
    @SETTINGS
    def test_headers(self, fields):
        batch = encode_batch([Record(i, when, key, value, h) for i, (key, value, when, h) in enumerate(fields)])
        section = bytes(batch[HEADER_BYTES:])
        rows = list(walk(section, len(fields), 2**31 - 1))
        starts = np.array([row.headers_start for row in rows], np.int32)
        counts = np.array([row.header_count for row in rows], np.int32)
        found = self.scanner.header_places(section, starts, counts)
        got = [
            (section[n : n + size], section[v : v + length] if length >= 0 else None)
            for n, size, v, length in zip(*(each.tolist() for each in found), strict=True)
        ]
        self.assertEqual(got, [pair for row in rows for pair in headers(section, row.headers_start, row.header_count)])

    def test_places_outside_are_refused(self):
        for start, length in ((-1, 1), (0, 4), (3, 1), (2**31 - 1, 2**31 - 1)):
            starts, lengths = np.array([start], np.int32), np.array([length], np.int32)
            self.assertRaises(ValueError, self.scanner.members, b"abc", starts, lengths, [])
            self.assertRaises(ValueError, self.scanner.gather, b"abc", starts, lengths)
        one = np.array([0], np.int32)
        self.assertRaises(ValueError, self.scanner.members, b"abc", one, one, [b"a", b"a"])
        self.assertRaises(ValueError, self.scanner.members, b"abc", one, one, [b"a" * 513])
        self.assertRaises(ValueError, self.scanner.header_places, b"abc", one, np.array([4], np.int32))

    def test_what_are_no_headers(self):
        one = np.array([1], np.int32)
        self.assertRaises(MalformedRecords, self.scanner.header_places, b"\0\x01\x01", one, one)


def is_text(text):
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


class PlainValueScannerTests(ValueScannerContract, SynchronousTestCase):
    def setUp(self):
        self.scanner = PlainValueScanner()


class CompiledValueScannerTests(ValueScannerContract, SynchronousTestCase):
    def setUp(self):
        found = find()
        if found.path is None:
            raise SkipTest(found.text)
        from chronik.native.compiled_values import CompiledValueScanner

        self.scanner = CompiledValueScanner(found.path)
