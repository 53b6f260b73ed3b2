"""What is read out of a value: JSON, logfmt, or nothing; whatever the bytes are, nothing is raised."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.search.document import MAX_DEPTH, MAX_JSON_BYTES, Document, all_leaves, exists_at, leaves_at
from chronik.search.match import Scope, compile_query
from chronik.search.query_string import parse
from tests.search import oracle
from tests.search.records import NOW, documents


def read(value):
    return Document(0, 0, None, value)


class JsonTests(SynchronousTestCase):
    @given(documents)
    def test_as_the_oracle_reads_it(self, document):
        leaves, unparsed = oracle.parsed(document.value)
        self.assertEqual(
            sorted(map(str, all_leaves(document.tree, 10_000))), sorted(str(leaf) for leaf in leaves if leaf[0])
        )
        self.assertEqual(document.unparsed, unparsed)
        for path, _ in leaves:
            self.assertEqual(list(map(str, leaves_at(document.tree, path))), [str(v) for p, v in leaves if p == path])
            self.assertTrue(exists_at(document.tree, path))

    @given(st.binary(max_size=60), st.sampled_from([b"", b"{", b"[", b'{"a":', b'{"a":"', b" {", b"a="]))
    def test_any_bytes(self, data, start):
        document = read(start + data)
        list(all_leaves(document.tree, 100))
        self.assertIsInstance(document.folded, bytes)

    def test_numbers_are_exact(self):
        tree = read(b'{"a":[123456789012345678901234567890,0.30000000000000004,1e400,-0,250.0]}').tree
        self.assertEqual(
            leaves_at(tree, "a"),
            [123456789012345678901234567890, Decimal("0.30000000000000004"), Decimal("1e400"), 0, Decimal("250.0")],
        )

    def test_paths(self):
        tree = read(b'{"a":{"b":1,"c":{"d":null}},"a.b":[2,[3,{"c":4}],{}],"x":[],"y":{},"z":[{"k":1},{"k":[2]}]}').tree
        for path, leaves in {
            "a.b": [1, 2, 3],
            "a.b.c": [4],
            "a.c.d": [],
            "a": [],
            "z.k": [1, 2],
            "x": [],
            "": [],
            "z": [],
        }.items():
            self.assertEqual(leaves_at(tree, path), leaves, path)
        for path, there in {
            "a": True,
            "a.b": True,
            "a.c": False,
            "a.c.d": False,
            "x": False,
            "y": False,
            "z": True,
        }.items():
            self.assertEqual(exists_at(tree, path), there, path)
        self.assertEqual(leaves_at(read(b'[{"a":1},[{"a":2}],3]').tree, "a"), [1, 2])
        self.assertEqual(leaves_at(read(b'{"a":1,"a":2}').tree, "a"), [2])
        self.assertEqual(len(list(all_leaves(tree, 3))), 3)

    def test_what_is_no_json_is_unparsed_and_has_no_fields(self):
        for value in (
            b'{"a":NaN}',
            b'{"a":1,}',
            b"{'a':1}",
            b'{"a":1} x',
            b'{"a":"\xff"}',
            b'{"a":"\\ud800"}',
            b"{a=1}",
            b'{"a":' * 200_000,
            b'{"a":' + b"9" * 5000 + b"}",
            b'{"a":1e9999999999999999999999}',
            b'{"a":"' + b"x" * MAX_JSON_BYTES + b'"}',
            b'{"a":"\x01"}',
            b'{"a":01}',
        ):
            document = read(value)
            self.assertEqual((document.tree, document.unparsed), ({}, True), value[:40])
        for value in (b"", b"text", b"12", b'"a"', b"[text] more", None, b"[1,2]", b"{}"):
            document = read(value)
            self.assertEqual((list(all_leaves(document.tree, 5)), document.unparsed), ([], False), value)

    def test_depth(self):
        for depth, unparsed in (
            (MAX_DEPTH - 1, False),
            (MAX_DEPTH, False),
            (MAX_DEPTH + 1, True),
            (300, True),
            (5000, True),
        ):
            document = read(b'{"a":' * depth + b"1" + b"}" * depth)
            self.assertIsNotNone(document.tree)
            self.assertEqual(document.unparsed, unparsed, depth)
        wide = read(b'{"a":[' + b",".join([b"[{}]"] * 500) + b"]}")
        self.assertEqual((len(wide.tree["a"]), wide.unparsed), (500, False))

    def test_large_values(self):
        big = b"word " * 2_000_000
        for value in (
            big,
            b'{"msg":"' + big + b'","n":1}',
            b"[" + b"1," * 3_000_000 + b"1]",
            b"a=" + big,
            b"\xff" * 10_000_000,
        ):
            for text in ("msg:word", "n:1", "word", "a:word", "/wor.{0,3}x/", '"word x"~2', "x*"):
                compile_query(parse(text), Scope("t", 0, NOW))(read(value))


class LogfmtTests(SynchronousTestCase):
    def test_pairs(self):
        for text, pairs in {
            'level=error took=250 msg="a \\"b\\" c"': {"level": "error", "took": "250", "msg": 'a "b" c'},
            "uid=0, euid=1; (pid=2) [x=y]": {"uid": "0", "euid": "1", "pid": "2", "x": "y"},
            "logname= uid=0": {"logname": "", "uid": "0"},
            "a=1 b=2 a=3 a=4": {"a": ["1", "3", "4"], "b": "2"},
            "user.id=42 x-y=1 @t=2 _a=3": {"user.id": "42", "x-y": "1", "@t": "2", "_a": "3"},
            'open="never closed': {"open": '"never'},
            "a==b c=d=e": {"a": "=b", "c": "d=e"},
            "1a=b xa:b=c =d é=f": {},
            'm="\\n\\u00e9\\ud83d\\ude00\\ud800\\q\\\\"': {"m": "\né😀\ufffd\\q\\"},
        }.items():
            self.assertEqual(read(text.encode()).tree, pairs, text)

    def test_in_linear_time(self):
        for value in (
            b'a="' + b'\\"' * 3_000_000,
            b" a" * 3_000_000 + b"=",
            b' a="' * 1_000_000,
            b"a" * 6_000_000 + b"=",
        ):
            read(value).tree  # noqa: B018
