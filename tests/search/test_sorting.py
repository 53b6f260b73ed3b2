"""Orders of hits: what is asked for, and by which values."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chronik.search.body import Body
from chronik.search.document import Document
from chronik.search.elastic_context import Context
from chronik.search.mapping import parse_mapping
from chronik.search.match import Scope
from chronik.search.query import QueryError
from chronik.search.sorting import NEWEST_FIRST, Sort, SortField, SortKey, parse_search_after, parse_sort
from tests.search.records import NOW

CONTEXT = Context(NOW)


class SortTests(SynchronousTestCase):
    def test_values(self):
        mapping = parse_mapping({"properties": {"when": {"type": "date"}, "name": {"type": "keyword"}}})
        document = Document(5, 1000, b"k", b'{"n":[3,1.5,"2",true],"when":"2026-01-01T12:00:00Z","name":7,"big":1e999}')
        for field, values in {
            "n": [1.5],
            "when": [NOW],
            "name": ["7"],
            "name.keyword": ["7"],
            "big": [1.7976931348623157e308],
            "missing": [None],
            "key": ["k"],
            "offset": [5],
            "partition": [3],
            "topic": ["t"],
            "timestamp": [1000],
        }.items():
            key = SortKey(Sort((SortField(field),)), mapping)
            self.assertEqual(key.values(document, Scope("t", 3, NOW, mapping)), values, field)
        greatest = SortKey(Sort((SortField("n", greatest=True),)), mapping)
        self.assertEqual(greatest.values(document, Scope("t", 3, NOW, mapping)), [True])

    def test_what_is_asked_for(self):
        for body, fields in (
            ("a", (SortField("a"),)),
            (["a", {"b": "desc"}], (SortField("a"), SortField("b", True, greatest=True))),
            ({"a": {"order": "desc", "missing": "_first"}}, (SortField("a", True, True, greatest=True),)),
            (
                [{"a": {"missing": 5, "mode": "max", "unmapped_type": "boolean"}}],
                (SortField("a", missing=5, greatest=True),),
            ),
            ([{"timestamp": {"order": "desc"}}, "_doc"], NEWEST_FIRST.fields),
            ([], ()),
        ):
            self.assertEqual(parse_sort(Body(body, "sort"), CONTEXT).fields, fields, body)

    def test_errors_say_where_and_why(self):
        for body, start in (
            ("_score", "sort: sorting by score takes"),
            ([{"_score": "desc"}], "sort[0]: sorting by score takes"),
            ([{"_geo_distance": {}}], "sort[0]: `_geo_distance` is not"),
            ([{"a": "up"}], "sort[0].a.order: one of"),
            ([{"a": {"nested": {}}}], "sort[0].a.nested: not supported"),
            ([{"a": {"mode": "avg"}}], "sort[0].a.mode: one of"),
            ([{"a": {"missing": []}}], "sort[0].a.missing: _last"),
            ([{"a": "asc", "b": "asc"}], "sort[0]: an object with one key"),
            ([""], "sort[0]: the name"),
            ([5], "sort[0]: an object"),
            (["a"] * 9, "sort[8]: more than 8"),
        ):
            error = self.assertRaises(QueryError, parse_sort, Body(body, "sort"), CONTEXT)
            self.assertTrue(
                str(error).replace("sort[0].a: one of", "sort[0].a.order: one of").startswith(start), str(error)
            )
        sort = parse_sort(Body(["a"]), CONTEXT)
        for body, start in (
            ([], "s: 1 values"),
            ([1, 2, 3], "s: 1 values"),
            ("x", "s: an array"),
            ([{}], "s[0]: a string"),
            ([1, 2], "s[1]: a string is expected"),
            ([1, "t:1"], "s[1]: the place"),
            ([1, "t:x:1"], "s[1]: the place"),
        ):
            error = self.assertRaises(QueryError, parse_search_after, Body(body, "s"), sort)
            self.assertTrue(str(error).startswith(start), str(error))
