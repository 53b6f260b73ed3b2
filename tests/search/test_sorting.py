"""Orders of hits: total, the same for pages and for merged parts."""

from __future__ import annotations

from functools import cmp_to_key

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.search.body import Body
from chronik.search.collect import Collector, Hit, merged
from chronik.search.document import Document
from chronik.search.elastic_context import Context
from chronik.search.mapping import NO_MAPPING, parse_mapping
from chronik.search.match import Scope
from chronik.search.query import QueryError
from chronik.search.sorting import NEWEST_FIRST, Sort, SortField, SortKey, parse_search_after, parse_sort
from tests.search.records import FIELDS, NOW, documents, mappings

CONTEXT = Context(NOW)

sort_fields = st.builds(
    SortField,
    st.sampled_from(FIELDS),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, None, None, 7, "m", 0.5]),
    st.booleans(),
)
placed = st.lists(st.tuples(documents, st.integers(0, 1), st.sampled_from("tu")), max_size=12)
sorts = st.lists(sort_fields, max_size=3).map(lambda fields: Sort(tuple(fields)))


def kind(value):
    return 2 if isinstance(value, bool) else 1 if isinstance(value, str) else 0


def compared(one, other, sort):
    """As the docs say, one pair at a time."""
    for a, b, field in zip(one.values, other.values, sort.fields, strict=True):
        if a is None or b is None:
            if (a is None) != (b is None):
                return (1 if a is None else -1) * (-1 if field.first else 1)
            continue
        x, y = (kind(a), a), (kind(b), b)
        if x != y:
            return (-1 if x < y else 1) * (-1 if field.descending else 1)
    if one.place == other.place:
        return 0
    return (-1 if one.place < other.place else 1) * (-1 if sort.descending else 1)


class SortTests(SynchronousTestCase):
    @given(sorts, placed, mappings, st.integers(1, 4))
    def test_one_order_for_pages_and_parts(self, sort, records, mapping, size):
        key = SortKey(sort, mapping)
        scopes = {(topic, p): Scope(topic, p, NOW, mapping) for topic in "tu" for p in (0, 1)}
        whole = Collector(key, 100)
        parts = {place: Collector(key, 100) for place in scopes}
        records = list(
            {(document.offset, p, topic): (document, scopes[topic, p]) for document, p, topic in records}.values()
        )
        for document, scope in records:
            whole.add(document, scope)
            parts[scope.topic, scope.partition].add(document, scope)
        hits = whole.hits()
        self.assertEqual(hits, sorted(hits, key=cmp_to_key(lambda a, b: compared(a, b, sort))))
        self.assertEqual(merged([part.hits() for part in parts.values()], key, 100), hits)
        self.assertEqual(merged([part.hits() for part in parts.values()], key, size), hits[:size])
        pages, after = [], None
        while True:
            page = Collector(key, size, after)
            for document, scope in records:
                page.add(document, scope)
            page = merged([page.hits()], key, size)
            if not page:
                break
            pages += page
            sent = msgspec.json.decode(msgspec.json.encode(page[-1].sort))
            after = parse_search_after(Body(sent, "search_after"), sort, key)
        self.assertEqual(pages, hits)
        for hit in hits:
            self.assertEqual(msgspec.msgpack.decode(msgspec.msgpack.encode(hit), type=Hit), hit)

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

    def test_without_a_place_all_with_equal_values_are_behind(self):
        sort = parse_sort(Body([{"timestamp": "asc"}]), CONTEXT)
        key = SortKey(sort, NO_MAPPING)
        after = parse_search_after(Body([10]), sort, key)
        collector = Collector(key, 10, after)
        for offset, when in enumerate([9, 10, 10, 11, 12]):
            collector.add(Document(offset, when, None, None), Scope("t", 0, NOW))
        self.assertEqual([hit.offset for hit in collector.hits()], [3, 4])
        self.assertEqual((collector.total, Collector(key, 0).hits()), (5, []))

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
        key = SortKey(sort, NO_MAPPING)
        for body, start in (
            ([], "s: 1 values"),
            ([1, 2, 3], "s: 1 values"),
            ("x", "s: an array"),
            ([{}], "s[0]: a string"),
            ([1, 2], "s[1]: a string is expected"),
            ([1, "t:1"], "s[1]: the place"),
            ([1, "t:x:1"], "s[1]: the place"),
        ):
            error = self.assertRaises(QueryError, parse_search_after, Body(body, "s"), sort, key)
            self.assertTrue(str(error).startswith(start), str(error))
