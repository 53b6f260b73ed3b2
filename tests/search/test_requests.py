"""Elasticsearch's requests to search: what they become, and that everything that is not served is refused by its name."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.search.describe import describe
from chronik.search.elastic_context import Context
from chronik.search.mapping import parse_mapping
from chronik.search.messages import Read, ReadResult
from chronik.search.query import QueryError, decode
from chronik.search.reading import read
from chronik.search.rendering import FieldWish, Shape
from chronik.search.requests import (
    ALL_HITS,
    COUNT_TO,
    SearchRequest,
    TopicState,
    Vector,
    duration_ms,
    json_body,
    read_count,
    read_search,
)
from chronik.search.sorting import After, Sort, SortField
from tests.search.records import NOW

CONTEXT = Context(NOW)


def search(body: Any = None, **parameters: str) -> SearchRequest:
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {name.removesuffix("__"): text for name, text in parameters.items()}
    return read_search(given, content, CONTEXT)


def _state(offsets: list[int]) -> dict[str, Any]:
    return {"chronik": {"vector": {"now": 1, "topics": {"a": {"id": "x", "partitions": {"0": offsets}}}}}}


class Searches(SynchronousTestCase):
    def test_nothing_said_is_all_of_it_newest_first(self) -> None:
        for request in (search(), search({}), search(b"  \n")):
            self.assertEqual(describe(decode(request.query)), "*")
            self.assertEqual((request.size, request.skip, request.count_to), (10, 0, COUNT_TO))
            self.assertEqual((request.sort, request.after, request.aggs, request.shape), (None, None, b"", Shape()))
            self.assertTrue(request.partial)
            self.assertIsNone(request.timeout_ms)

    def test_the_query_of_the_body_and_of_the_url_mean_the_same(self) -> None:
        in_body = search({"query": {"query_string": {"query": "a:x AND b", "default_field": "msg"}}})
        in_url = search(q="a:x AND b", df="msg")
        self.assertEqual(in_body.query, in_url.query)
        self.assertEqual(describe(decode(search(q="a b", default_operator="and").query)), "value:a AND value:b")
        self.assertEqual(describe(decode(search(q="x", analyze_wildcard="true").query)), "value:x")

    def test_sizes(self) -> None:
        for request in (search({"size": 5, "from": 7}), search(size="5", from__="7"), search({"size": 5}, from__="7")):
            self.assertEqual((request.size, request.skip), (5, 7))
        self.assertEqual(search({"size": 0}).size, 0)
        self.assertEqual(search({"size": 10_000}).size, 10_000)

    def test_totals(self) -> None:
        for body, expected in [
            ({}, COUNT_TO), ({"track_total_hits": True}, ALL_HITS), ({"track_total_hits": False}, 0),
            ({"track_total_hits": 7}, 7), ({"track_total_hits": -1}, ALL_HITS), ({"track_total_hits": None}, COUNT_TO),
        ]:  # fmt: skip
            self.assertEqual(search(body).count_to, expected, body)
        for text, expected in [("true", ALL_HITS), ("false", 0), ("", ALL_HITS), ("12", 12), ("-1", ALL_HITS)]:
            self.assertEqual(search(track_total_hits=text).count_to, expected, text)
        request = search(rest_total_hits_as_int="true")
        self.assertEqual((request.count_to, request.total_as_int), (ALL_HITS, True))

    def test_sorting(self) -> None:
        time, newest = SortField("timestamp"), SortField("timestamp", True, greatest=True)
        for sort, expected in [
            ("timestamp", (time,)), ({"timestamp": "desc"}, (newest,)), ([{"timestamp": {"order": "asc"}}], (time,)),
            ([{"timestamp": {"order": "desc", "unmapped_type": "boolean"}}, "_doc"], (newest,)),
            ({"_doc": {"order": "desc"}, "timestamp": {"order": "desc", "unmapped_type": "boolean"}}, (newest,)),
            ({"b": "asc", "a": {"order": "desc"}}, (SortField("b"), SortField("a", True, greatest=True))),
            (["a", {"b": "desc", "c": "asc"}], (SortField("a"), SortField("b", True, greatest=True), SortField("c"))),
            ("_doc", ()), ([], ()),
        ]:  # fmt: skip
            request = search({"sort": sort})
            assert request.sort is not None
            self.assertEqual((request.sort.fields, request.shape.sort), (expected, True), sort)
        both = (SortField("a"), SortField("b"))
        for text, expected in [("timestamp", (time,)), ("timestamp:desc,_doc", (newest,)), ("a:asc,b", both)]:
            self.assertEqual(search(sort=text).sort, Sort(expected))
        self.assertIsNone(search().sort)

    def test_going_on_behind_a_hit(self) -> None:
        for sort, after, expected in [
            ("timestamp", [5], After((5,))), ("timestamp", [5, "t:0:7"], After((5,), ("t", 0, 7))),
            ("timestamp", ["2026-01-01T12:00:00Z"], After((NOW,))), ("timestamp", [None], After((None,))),
            (["a", "b"], ["x", 2.0, "a:b:1:2"], After(("x", 2), ("a:b", 1, 2))),
        ]:  # fmt: skip
            self.assertEqual(search({"sort": sort, "search_after": after}).after, expected)

    def test_aggregations_travel_as_they_came(self) -> None:
        aggs = {"a": {"terms": {"field": "level"}, "aggs": {"m": {"max": {"field": "n", "missing": 1.10}}}}}
        for name in ("aggs", "aggregations"):
            self.assertEqual(json.loads(search({name: aggs}).aggs), aggs)
        self.assertEqual(search({"aggs": {}}).aggs, b"")

    def test_what_of_the_source_is_shown(self) -> None:
        for shape, requests in [
            (Shape(source=False), [search({"_source": False}), search(_source="false")]),
            (Shape(includes=("a", "b.*")), [search({"_source": ["a", "b.*"]}), search(_source="a,b.*"),
                                            search(_source_includes="a,b.*"), search({"_source": {"includes": ["a", "b.*"]}})]),
            (Shape(includes=("a",), excludes=("a.b",)), [search({"_source": {"include": "a", "excludes": ["a.b"]}}),
                                                        search(_source="a", _source_excludes="a.b")]),
            (Shape(), [search({"_source": True}), search(_source="true")]),
            (Shape(includes=("x",)), [search({"_source": "x"})]),
        ]:  # fmt: skip
            for request in requests:
                self.assertEqual(request.shape, shape)

    def test_fields(self) -> None:
        wishes = (
            FieldWish("user.*"),
            FieldWish("timestamp", "iso"),
            FieldWish("when", "epoch_millis"),
            FieldWish("key"),
        )
        request = search(
            {
                "fields": ["user.*", {"field": "timestamp", "format": "strict_date_optional_time_nanos"}],
                "docvalue_fields": [{"field": "when", "format": "epoch_millis"}, "key"],
                "script_fields": {},
            }
        )
        self.assertEqual(request.shape.fields, wishes)
        self.assertEqual(search(docvalue_fields="a,b").shape.fields, (FieldWish("a"), FieldWish("b")))

    def test_times(self) -> None:
        for text, expected in [
            ("500ms", 500), ("10s", 10_000), ("1m", 60_000), ("2h", 7_200_000), ("1d", 86_400_000), ("5000micros", 5),
            ("0ms", 0), ("-1", None),
        ]:  # fmt: skip
            self.assertEqual(search({"timeout": text}).timeout_ms, expected, text)
            self.assertEqual(search(timeout=text).timeout_ms, expected, text)
        for text in ("10", "1.5s", "s", "", "10 s", "-2s", "9999999999s", "1w", "\u0661s"):
            with self.assertRaises(QueryError):
                duration_ms(json_body(json.dumps({"timeout": text}).encode())["timeout"])

    def test_an_earlier_state_and_offsets_to_wait_for(self) -> None:
        vector = Vector(NOW, {"events": TopicState("id", {0: (3, 10), 7: (0, 0)})})
        told = json.loads(msgspec.json.encode(vector))
        request = search({"chronik": {"vector": told, "wait_for": {"events": {"0": 41}}}})
        self.assertEqual(request.vector, vector)
        self.assertEqual(request.wait_for, {"events": {0: 41}})
        self.assertEqual(read_count({}, json.dumps({"chronik": {"vector": told}}).encode(), CONTEXT).vector, vector)

    def test_it_travels(self) -> None:
        request = search({"query": {"term": {"a": 1}}, "size": 3, "_source": ["a"], "fields": ["b"]}, timeout="1s")
        self.assertEqual(msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=SearchRequest), request)

    REFUSED = (
        ({"min_score": 1}, {}, "min_score: not served: there are no scores"),
        ({"suggest": {}}, {}, "suggest: not served"),
        ({"surprise": 1}, {}, "surprise: unknown"),
        ({"explain": True}, {}, "explain: not served"),
        ({"script_fields": {"x": {}}}, {}, "script_fields: scripts are not run"),
        ({"size": -1}, {}, "size: an integer from 0 to 10000"),
        ({"size": 10_001}, {}, "size: an integer from 0 to 10000"),
        ({"size": 6000, "from": 6000}, {}, "from: from and size are 12000 together"),
        ({"size": 1.5}, {}, "size: an integer"),
        ({"size": 1}, {"size": "1"}, "size: it is in the URL too"),
        ({"query": {"match_all": {}}}, {"q": "x"}, "query: there is q in the URL too"),
        ({"query": {"nested": {}}}, {}, "query.nested: this kind of query is not served"),
        ({"query": []}, {}, "query: an object is expected"),
        ({"sort": "_score"}, {}, "sort[0]: sorting by score takes an index with scores"),
        ({"sort": [{"_score": "desc"}]}, {}, "sort[0]: sorting by score"),
        ({"sort": [{"timestamp": "up"}]}, {}, "sort[0].timestamp.order: one of asc, desc"),
        ({"sort": [{"a": {"nested": {}}}]}, {}, "sort[0].a.nested: not supported"),
        ({}, {"sort": "timestamp:up"}, "sort[0].timestamp.order: one of asc, desc"),
        ({"search_after": [1]}, {}, "search_after: it goes with a sort"),
        ({"search_after": [1], "sort": "timestamp", "from": 1}, {}, "search_after: from is 0 with it"),
        ({"search_after": ["x"], "sort": "timestamp"}, {}, "search_after: milliseconds are expected"),
        ({"search_after": [1.5], "sort": "timestamp"}, {}, "search_after: milliseconds are expected"),
        ({"search_after": [1, 2, 3], "sort": "timestamp"}, {}, "search_after: 1 values are expected"),
        ({"search_after": [1, "a:1:99999999999999999999"], "sort": "timestamp"}, {}, "search_after[1]: the place of a hit"),
        ({"aggs": {"a": {"magic": {}}}}, {}, "aggs.a.magic: this kind of aggregation is not known"),
        ({"aggs": {}, "aggregations": {}}, {}, "aggregations: aggs is there too"),
        ({"highlight": {"fields": {"a*": {}}}}, {}, "highlight.fields: `a*`"),
        ({"track_total_hits": "many"}, {}, "track_total_hits: an integer"),
        ({"track_total_hits": False}, {"rest_total_hits_as_int": "true"}, "track_total_hits: with rest_total_hits_as_int"),
        ({"_source": 5}, {}, "_source: a string is expected"),
        ({"_source": {"only": "a"}}, {}, "_source.only: not supported"),
        ({"_source": ["a"]}, {"_source": "a"}, "_source: it is in the URL too"),
        ({"_source": ["x"] * 101}, {}, "_source: 101 names, 100 are allowed"),
        ({"fields": [{"field": "a", "format": "yyyy"}]}, {}, "fields[0].format: one of"),
        ({"fields": [""]}, {}, "fields[0]: the name of a field"),
        ({"fields": ["x"] * 101}, {}, "101 fields are asked for"),
        ({"timeout": "soon"}, {}, "timeout: a time with its unit"),
        ({"chronik": {"vector": {"now": 1}}}, {}, "chronik: Object missing required field"),
        (_state([5, 1]), {}, "chronik.vector: no offsets"),
        (_state([0, 2**64]), {}, "chronik"),
        ({"chronik": {"wait_for": {"a": {"0": -1}}}}, {}, "chronik.wait_for: no offsets"),
        ({"chronik": {"else": 1}}, {}, "chronik.else: not supported"),
        ({}, {"q": "a AND"}, "q: a clause is missing here at position 5"),
        ({}, {"q": "a", "df": "*"}, "df: the name of one field"),
        ({}, {"q": "a", "default_operator": "xor"}, "q: one of or, OR, and, AND"),
        ({}, {"df": "a"}, "df: it goes with q"),
        ({}, {"surprise": "1"}, "unrecognized parameter `surprise`"),
        ({}, {"routing": "1"}, "the parameter `routing` is not served"),
        ({}, {"scroll": "1m"}, "the parameter `scroll` is not served"),
        ({}, {"allow_partial_search_results": "perhaps"}, "allow_partial_search_results: one of"),
        (b"[]", {}, "the body: an object is expected"),
        (b"5", {}, "the body: an object is expected"),
        (b"{", {}, "the body is no JSON"),
        (b'{"size": 1} {"size": 2}', {}, "the body is no JSON"),
        (b"\xff", {}, "the body is no JSON"),
        (b"[" * 100_000, {}, "the body is no JSON"),
        (b'{"size":' + b"9" * 5000 + b"}", {}, ""),
        (b'{"size":1e999999999}', {}, "size: an integer"),
    )  # fmt: skip

    def test_what_is_not_served_is_refused_by_its_name(self) -> None:
        for body, parameters, expected in self.REFUSED:
            given = {"from__" if name == "from" else name: text for name, text in parameters.items()}
            with self.assertRaises(QueryError) as caught:
                search(body, **given)
            self.assertIn(expected, str(caught.exception), body)

    def test_a_count_takes_a_query_only(self) -> None:
        request = read_count({"q": "x", "timeout": "1s"}, b"", CONTEXT)
        self.assertEqual(
            (request.size, request.count_to, request.timeout_ms, request.partial), (0, ALL_HITS, 1000, False)
        )
        for body, parameters in [({"size": 1}, {}), ({"sort": []}, {}), ({}, {"size": "1"}), ({}, {"min_score": "1"})]:
            with self.assertRaises(QueryError):
                read_count(parameters, json.dumps(body).encode(), CONTEXT)

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), lambda inner: st.lists(
        inner, max_size=3) | st.dictionaries(st.sampled_from(["query", "size", "from", "sort", "_source", "fields", "chronik",
        "vector", "wait_for", "timeout", "track_total_hits", "now", "topics", "partitions", "id", "includes", "field", "format",
        "timestamp", "order", "bool", "must", "term", "range", "a"]), inner, max_size=4), max_leaves=12))  # fmt: skip
    def test_any_json_is_read_or_refused(self, value: Any) -> None:
        try:
            request = search(json.dumps(value).encode())
        except QueryError as fault:
            self.assertTrue(str(fault))
        else:
            self.assertLessEqual(request.size + request.skip, 10_000)


class ReadInAProcess(SynchronousTestCase):
    def test_a_fault_keeps_its_place(self) -> None:
        result = read(Read("search", {"q": "a )"}, b"", NOW))
        assert result.fault is not None
        self.assertEqual((result.fault.path, result.fault.position), ("q", 2))
        self.assertIsNone(result.request)

    def test_the_mapping_decides_what_a_text_means(self) -> None:
        body = json.dumps({"query": {"match": {"host": "Web 1"}}}).encode()
        mapped = parse_mapping({"properties": {"host": {"type": "keyword"}}})
        for mapping, expected in [(mapped, 'host:"Web 1"'), (parse_mapping({}), "host:web OR host:1")]:
            result = read(Read("explain", {}, body, NOW, mapping))
            assert result.request is not None and result.explanation is not None
            self.assertEqual(describe(decode(result.request.query)), expected)
            self.assertEqual(result.explanation.query, expected)

    def test_an_explanation_says_what_is_pruned_by(self) -> None:
        body = json.dumps({"query": {"query_string": {"query": 'level:error "connection reset" timestamp:[0 TO 5]',
                                                      "default_operator": "and"}}}).encode()  # fmt: skip
        explanation = read(Read("explain", {}, body, NOW)).explanation
        assert explanation is not None
        self.assertEqual(explanation.tokens, "(error AND level AND connection AND reset)")
        assert explanation.literals is not None
        self.assertTrue(
            any("reset" in literal or "connect" in literal for literal in explanation.literals), explanation
        )
        self.assertEqual((explanation.timestamps, explanation.offsets), ((0, 5), None))
        nothing = read(Read("explain", {"q": "NOT a"}, b"", NOW)).explanation
        assert nothing is not None
        self.assertEqual((nothing.tokens, nothing.literals), (None, None))

    def test_results_travel(self) -> None:
        for result in (read(Read("explain", {"q": "a"}, b"", NOW)), read(Read("count", {"size": "1"}, b"", NOW))):
            self.assertEqual(msgspec.msgpack.decode(msgspec.msgpack.encode(result), type=ReadResult), result)
