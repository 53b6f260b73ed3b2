"""Highlights: what is marked is what was found."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.search import query as q
from chronik.search.body import Body
from chronik.search.document import Document
from chronik.search.fields import resolve
from chronik.search.highlight import Highlighter, parse_highlight
from chronik.search.mapping import NO_MAPPING, parse_mapping
from chronik.search.marks import marker_of
from chronik.search.match import Scope, compile_query
from chronik.search.query_string import parse
from tests.search.records import NOW, aimed, mappings

SCOPE = Scope("events", 3, NOW)
LONG = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen error sixteen seventeen "
    * 3
)


def highlighted(text, body, value, mapping=NO_MAPPING, key=None, headers=()):
    highlighter = Highlighter(parse_highlight(Body(body, "highlight")), parse(text), mapping, NOW)
    return highlighter.of(Document(0, 0, key, value if isinstance(value, bytes) else value.encode(), headers), SCOPE)


class HighlightTests(SynchronousTestCase):
    def test_marks(self):
        for text, value, marked in (
            ("error", "an Error, error!", "an <em>Error</em>, <em>error</em>!"),
            (
                '"connection reset"',
                "a connection reset, reset connection",
                "a <em>connection</em> <em>reset</em>, reset connection",
            ),
            ('"a d"~2', "a b c d", "<em>a</em> b c <em>d</em>"),
            ('"timed ou"*', "it timed out", "it <em>timed</em> <em>out</em>"),
            ("err*", "err error terror", "<em>err</em> <em>error</em> terror"),
            ("a b -c", "a b c", "<em>a</em> <em>b</em> c"),
            ("a NOT (b OR NOT c)", "a b c", "<em>a</em> b c"),
            ("/e.{2}t/", "éeast test", "é<em>east</em> test"),
            ("value:*b*c", "ab-xc", None),
            ("value:a*-*", "ab-xc", "<em>ab-xc</em>"),
            ("value:IN [a c]", "a b c", "<em>a</em> b <em>c</em>"),
            ("value.keyword:x", "x", None),
            ("level:error", "level=error", None),
            ("É", "été été É", "été été <em>É</em>"),
        ):
            found = highlighted(text, {"fields": {"value": {}}}, value)
            if text == "value.keyword:x":
                self.assertEqual(found, {"value": ["<em>x</em>"]})
            else:
                self.assertEqual(found, {} if marked is None else {"value": [marked]}, text)

    def test_fields(self):
        value = '{"msg":"an error","n":42,"tags":["error","x"],"ok":true}'
        mapping = parse_mapping({"properties": {"n": {"type": "long"}}})
        query = "msg:error AND n:42 AND tags:error AND ok:true AND headers.h:error"
        headers = [("h", b"error"), ("i", b"error")]
        self.assertEqual(
            highlighted(query, {"fields": {"*": {}}}, value, mapping, headers=headers),
            {
                "msg": ["an <em>error</em>"],
                "n": ["<em>42</em>"],
                "tags": ["<em>error</em>"],
                "ok": ["<em>true</em>"],
                "headers.h": ["<em>error</em>"],
            },
        )
        body = {"fields": [{"msg": {"require_field_match": False}}, {"key": {}}]}
        found = highlighted("error OR key:k", body, value, key=b"k")
        self.assertEqual(found, {"msg": ["an <em>error</em>"], "key": ["<em>k</em>"]})

    def test_fragments(self):
        (first, second) = highlighted(
            "error", {"fields": {"value": {"fragment_size": 40, "number_of_fragments": 2}}}, LONG
        )["value"]
        for fragment in (first, second):
            self.assertTrue(fragment.count("<em>error</em>") == 1 and len(fragment) <= 60, fragment)
            self.assertFalse(fragment.startswith(" "), fragment)
        (whole,) = highlighted("error", {"fields": {"value": {"number_of_fragments": 0}}}, LONG)["value"]
        self.assertEqual(whole, LONG.replace("error", "<em>error</em>"))
        self.assertEqual(
            highlighted("absent", {"fields": {"value": {"no_match_size": 15}}}, LONG), {"value": ["one two three"]}
        )
        options = {"pre_tags": ["<b>"], "post_tags": "</b>", "encoder": "html", "fields": {"value": {}}}
        self.assertEqual(highlighted("x", options, "<i>x</i>"), {"value": ["&lt;i&gt;<b>x</b>&lt;/i&gt;"]})

    @given(aimed(), mappings)
    def test_texts_stay_and_hits_have_marks(self, aimed, mapping):
        query, records = aimed
        scope = Scope("events", 1, NOW, mapping)
        try:
            matches = compile_query(query, scope)
            marker = marker_of(query, resolve(query.field, mapping), NOW) if hasattr(query, "field") else None
        except q.QueryError:
            return
        body = {"pre_tags": "\ue000", "post_tags": "\ue001", "number_of_fragments": 0, "fields": {"*": {}}}
        highlighter = Highlighter(parse_highlight(Body(body)), query, mapping, NOW)
        for record in records:
            found = highlighter.of(record, scope)
            if not matches(record) or marker is None:
                continue
            field = resolve(query.field, mapping)
            if (
                isinstance(query, (q.Term, q.Wildcard))
                and field.source in ("value", "key", "header")
                and field.kind == "text"
            ):
                self.assertIn(query.field, found, (query, record.value, record.key, record.headers))
            for text in found.get("value", ()):
                self.assertEqual(re.sub("[\ue000\ue001]", "", text), record.value.decode("utf-8", "replace"))

    @given(
        st.text("ab é-\u0301", max_size=30),
        st.sampled_from(["a", '"a b"', "a*", "/a./", '"b a"~3', "é"]),
        st.integers(18, 30),
    )
    def test_fragments_are_of_the_text(self, text, query, size):
        body = {"fields": {"value": {"fragment_size": size, "number_of_fragments": 3}}}
        for fragment in highlighted(query, body, text).get("value", []):
            self.assertIn(fragment.replace("<em>", "").replace("</em>", ""), text)
            self.assertIn("<em>", fragment)

    def test_large_texts_end_soon(self):
        for text in ("a", '"a b"~5', "/a/", "*a*", '"a a a"'):
            highlighted(text, {"fields": {"value": {}}}, "a " * 1_000_000)

    def test_errors_say_where_and_why(self):
        for body, start in (
            ({}, "highlight: `fields` is missing"),
            ({"fields": {"a*": {}}}, "highlight.fields: `a*`"),
            ({"fields": {"a": {"fragmenter": "span"}}}, "highlight.fields.a.fragmenter: not supported"),
            ({"fields": {"a": {"fragment_size": 1}}}, "highlight.fields.a.fragment_size: an integer"),
            ({"fields": {"a": {"type": "fvh"}}}, "highlight.fields.a.type: one of"),
            ({"fields": {"a": {}}, "pre_tags": []}, "highlight.pre_tags: one tag"),
            ({"fields": {"a": {}}, "tags_schema": "styled"}, "highlight.tags_schema: not supported"),
            ({"fields": [{str(n): {}} for n in range(51)]}, "highlight.fields: more than 50"),
        ):
            error = self.assertRaises(q.QueryError, parse_highlight, Body(body, "highlight"))
            self.assertTrue(str(error).startswith(start), str(error))
