"""Elasticsearch's JSON: what it becomes, and that everything that is not served is refused with its path."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.search.describe import describe
from chronik.search.elastic import NOT_SERVED, parse_query
from chronik.search.elastic_context import Context
from chronik.search.mapping import parse_mapping
from chronik.search.query import Limits, QueryError
from chronik.search.simple_query_string import parse_simple
from tests.search.records import NOW

MAPPING = parse_mapping(
    {
        "properties": {
            "status": {"type": "long"},
            "host": {"type": "keyword"},
            "when": {"type": "date"},
            "since": {"type": "date", "format": "epoch_second"},
            "ok": {"type": "boolean"},
            "text": {"type": "text"},
        }
    }
)
CONTEXT = Context(NOW, MAPPING)

MEANINGS = [
    ({"match_all": {}}, "*"),
    ({"match_none": {}}, "NOT *"),
    ({"term": {"a": "x"}}, "a:x"),
    ({"term": {"a": {"value": "x y", "boost": 2}}}, '(a:"x y")^2.0'),
    ({"term": {"a": 5}}, "a:5"),
    ({"term": {"a": 2.5}}, "a:2.5"),
    ({"term": {"a": Decimal("2.50")}}, "a:2.50"),
    ({"term": {"a": True}}, "a:true"),
    ({"term": {"host": {"value": "A.b", "case_insensitive": True}}}, r"host:/(?i)\A(?:A\.b)\z/"),
    ({"term": {"text": {"value": "A.b", "case_insensitive": True}}}, "text:A.b"),
    ({"term": {"_id": "3:17"}}, "_id:IN [3:17]"),
    ({"terms": {"a": ["x", 1, False]}}, 'a:IN ["x" "1" "false"]'),
    ({"terms": {"a": ["x"], "boost": 3.0}}, "(a:x)^3.0"),
    ({"terms": {"a": []}}, "NOT *"),
    ({"terms": {"_id": ["3:17", "1:2"]}}, "_id:IN [1:2 3:17]"),
    ({"match": {"a": "Quick brown"}}, "a:quick OR a:brown"),
    ({"match": {"a": {"query": "quick brown", "operator": "and"}}}, "a:quick AND a:brown"),
    ({"match": {"a": {"query": "q b f x", "minimum_should_match": "75%"}}}, "(a:q OR a:b OR a:f OR a:x)~3"),
    ({"match": {"a": {"query": "q b f", "minimum_should_match": -1}}}, "(a:q OR a:b OR a:f)~2"),
    ({"match": {"a": {"query": "q b f x", "minimum_should_match": "-30%"}}}, "(a:q OR a:b OR a:f OR a:x)~3"),
    ({"match": {"a": 2.5}}, "a:2.5 OR a:2 OR a:5"),
    ({"match": {"a": "--"}}, "NOT *"),
    ({"match": {"a": {"query": "--", "zero_terms_query": "all"}}}, "*"),
    ({"match": {"host": "A b"}}, 'host:"A b"'),
    ({"match_phrase": {"a": "quick brown"}}, 'a:"quick brown"'),
    ({"match_phrase": {"a": {"query": "quick brown", "slop": 2}}}, 'a:"quick brown"~2'),
    ({"match_phrase_prefix": {"a": "quick br"}}, 'a:"quick br"*'),
    ({"prefix": {"a": "Err"}}, "a:Err*"),
    ({"prefix": {"a": {"value": "a*b"}}}, r"a:a\*b*"),
    ({"prefix": {"host": {"value": "A.", "case_insensitive": True}}}, r"host:/(?i)\AA\./"),
    ({"wildcard": {"a": "e*r?"}}, "a:e*r?"),
    ({"wildcard": {"a": {"value": "e*"}}}, "a:e*"),
    ({"wildcard": {"a": {"wildcard": "e*"}}}, "a:e*"),
    ({"wildcard": {"a": "*"}}, "a:*"),
    ({"wildcard": {"a": "error"}}, "a:error"),
    ({"wildcard": {"a": "/x"}}, r"a:/(?i)\A(?:\/x)\z/"),
    ({"wildcard": {"host": "/x"}}, 'host:"/x"'),
    ({"wildcard": {"host": {"value": "A?.*", "case_insensitive": True}}}, r"host:/(?i)\A(?:A.\..*)\z/"),
    ({"regexp": {"a": "k.*y"}}, "a:/k.*y/"),
    ({"regexp": {"host": "k.*y|z"}}, r"host:/\A(?:k.*y|z)\z/"),
    ({"regexp": {"host": {"value": "k", "case_insensitive": True}}}, r"host:/(?i)\A(?:k)\z/"),
    ({"regexp": {"a": {"value": "a@b", "flags": "NONE"}}}, "a:/a@b/"),
    ({"regexp": {"a": r"a\@[~&]"}}, r"a:/a\@[~&]/"),
    ({"range": {"a": {"gte": 1, "lt": 2.5}}}, 'a:["1" TO "2.5"}'),
    ({"range": {"a": {"gt": "b"}}}, 'a:{"b" TO *]'),
    ({"range": {"a": {}}}, "a:*"),
    ({"range": {"a": {"gte": None, "lte": 3, "boost": 2}}}, '(a:[* TO "3"])^2.0'),
    ({"range": {"when": {"gte": "now-1d/d", "lt": "now/d"}}}, 'when:["now-1d/d" TO "now/d"}'),
    ({"range": {"a": {"gte": 1767268800000, "lte": 1767268800500, "format": "epoch_millis"}}},
     'a:["2026-01-01T12:00:00.000Z" TO "2026-01-01T12:00:00.500Z"]'),
    ({"range": {"a": {"gte": 1767268800, "format": "epoch_second"}}}, 'a:["2026-01-01T12:00:00.000Z" TO *]'),
    ({"range": {"since": {"gte": 1767268800}}}, 'since:["1767268800" TO *]'),
    ({"range": {"since": {"gte": 1767268800, "time_zone": "+01:00"}}}, 'since:["2026-01-01T12:00:00.000Z" TO *]'),
    ({"range": {"when": {"gt": "2026-01-01", "lte": "2026-01-02", "time_zone": "Europe/Berlin"}}},
     'when:["2026-01-01T23:00:00.000Z" TO "2026-01-02T22:59:59.999Z"]'),
    ({"exists": {"field": "a.b"}}, "a.b:*"),
    ({"ids": {"values": ["3:17", "1:2"]}}, "_id:IN [1:2 3:17]"),
    ({"ids": {"values": []}}, "NOT *"),
    ({"constant_score": {"filter": {"term": {"a": "x"}}, "boost": 2}}, "(a:x)^0.0 AND (*)^2.0"),
    ({"query_string": {"query": "a:x OR y", "fields": ["value^2", "key"]}}, "a:x OR (value:y)^2.0 OR key:y"),
    ({"query_string": {"query": "x y", "default_field": "msg", "default_operator": "AND"}}, "msg:x AND msg:y"),
    ({"query_string": {"query": "*", "analyze_wildcard": True}}, "*"),
    ({"simple_query_string": {"query": '"a b"~2 + c* | -d', "fields": ["x"]}}, '(x:"a b"~2 AND x:c*) OR (NOT x:d)'),
    ({"multi_match": {"query": "q b", "fields": ["a", "host^3"]}}, 'a:q OR a:b OR (host:"q b")^3.0'),
    ({"multi_match": {"query": "q b", "fields": "a", "operator": "AND"}}, "a:q AND a:b"),
    ({"multi_match": {"query": "q b", "fields": ["a", "b"], "type": "phrase", "slop": 1}}, 'a:"q b"~1 OR b:"q b"~1'),
    ({"multi_match": {"query": "q b", "type": "phrase_prefix"}}, 'value:"q b"*'),
    ({"bool": {}}, "*"),
    ({"bool": {"must": {"term": {"a": 1}}, "filter": [{"term": {"b": 2}}]}}, "a:1 AND (b:2)^0.0"),
    ({"bool": {"should": [{"term": {"a": 1}}, {"term": {"b": 2}}]}}, "a:1 OR b:2"),
    ({"bool": {"should": [{"term": {"a": 1}}], "must_not": [{"term": {"b": 2}}]}}, "a:1 AND (NOT b:2)"),
    ({"bool": {"should": [{"term": {"a": 1}}], "filter": {"term": {"b": 2}}}}, "(b:2)^0.0 AND (a:1)~0"),
    ({"bool": {"should": [{"term": {"a": 1}}, {"term": {"b": 1}}], "filter": {"term": {"c": 2}}, "minimum_should_match": 1}},
     "(c:2)^0.0 AND (a:1 OR b:1)"),
    ({"bool": {"should": [{"term": {"a": n}} for n in range(3)], "minimum_should_match": "67%"}}, "(a:0 OR a:1 OR a:2)~2"),
    ({"bool": {"should": [{"term": {"a": 1}}], "minimum_should_match": 2}}, "NOT *"),
    ({"bool": {"must_not": {"exists": {"field": "a"}}, "boost": 2.0}}, "((NOT a:*))^2.0"),
    ({"bool": {"must": [{"bool": {"must": [{"match_all": {}}, {"term": {"a": 1}}]}}, {"term": {"b": 1}}]}}, "a:1 AND b:1"),
]  # fmt: skip

ERRORS = [
    ({}, "query: an object with one key"),
    ([], "query: an object is expected"),
    ("x", "query: an object is expected"),
    ({"match_all": {}, "term": {"a": 1}}, "query: an object with one key"),
    ({"trem": {"a": 1}}, "query.trem: an unknown kind"),
    ({"nested": {"path": "a", "query": {}}}, "query.nested: this kind of query is not served"),
    ({"bool": {"must": [{"match_all": {}}, {"term": {"a": {"x": 1}}}]}}, "query.bool.must[1].term.a.x: not supported"),
    ({"bool": {"filter": {"term": {"a": [1]}}}}, "query.bool.filter.term.a: a string, a number"),
    ({"bool": {"must": "x"}}, "query.bool.must: an object"),
    ({"bool": {"mus": []}}, "query.bool.mus: not supported"),
    ({"bool": {"should": [], "minimum_should_match": "2<75%"}}, "query.bool.minimum_should_match: a number of clauses"),
    ({"bool": {"boost": -1}}, "query.bool.boost: a boost cannot"),
    ({"term": {"a": 1, "b": 2}}, "query.term: an object with one key"),
    ({"term": {"a": None}}, "query.term.a: a string"),
    ({"term": {"a": float("nan")}}, "query.term.a: a string"),
    ({"term": {"": "x"}}, "query.term.: the name of one field"),
    ({"term": {"a.*": "x"}}, "query.term.a.*: the name of one field"),
    ({"term": {"a": {"boost": 1}}}, "query.term.a: `value` is missing"),
    ({"term": {"a": {"value": "x", "_name": "n"}}}, "query.term.a._name: not supported"),
    ({"term": {"status": "x"}}, "query.term: status: `x` is no number"),
    ({"term": {"ok": "yes"}}, "query.term: ok: `yes` is neither"),
    ({"term": {"when": "soon"}}, "query.term: `soon` is no date"),
    ({"term": {"timestamp": "x"}}, "query.term: `x` is no date"),
    ({"term": {"_id": "17"}}, "query.term._id: `17` is no _id"),
    ({"term": {"a": "\ud800"}}, "query: a text has half"),
    ({"terms": {"a": {"index": "x"}}}, "query.terms.a: values of another document"),
    ({"terms": {"a": "x"}}, "query.terms.a: an array"),
    ({"terms": {"a": ["x", None]}}, "query.terms.a[1]: a string"),
    ({"terms": {"boost": 1}}, "query.terms: one field"),
    ({"match": {"a": {"query": "x", "fuzziness": "AUTO"}}}, "query.match.a.fuzziness: not supported"),
    ({"match": {"a": {"query": "x", "operator": "xor"}}}, "query.match.a.operator: one of"),
    ({"match": {"a": "w " * 201}}, "query.match.a: 201 words"),
    ({"match_phrase": {"a": {"query": "x", "slop": -1}}}, "query.match_phrase.a.slop: an integer"),
    ({"match_phrase": {"a": {"query": "w " * 65, "slop": 1}}}, "query.match_phrase: a phrase of 65 words"),
    ({"match_phrase_prefix": {"a": {"query": "x", "max_expansions": 3}}}, "query.match_phrase_prefix.a.max_expansions: not"),
    ({"match_phrase_prefix": {"status": "5"}}, "query.match_phrase_prefix: status: the beginning"),
    ({"wildcard": {"when": "2026*"}}, "query.wildcard: when: wildcards"),
    ({"regexp": {"a": "a(b"}}, "query.regexp: a: /a(b/ is no regular"),
    ({"regexp": {"a": "a~b"}}, "query.regexp.a: Lucene's operator ~"),
    ({"regexp": {"a": {"value": 'a"b"', "flags": "NONE"}}}, 'query.regexp.a.value: Lucene\'s operator "'),
    ({"regexp": {"a": {"value": "a", "flags": "INTERVAL"}}}, "query.regexp.a.flags: one of"),
    ({"regexp": {"a": "a\\"}}, "query.regexp.a: the regular expression ends"),
    ({"range": {"a": {"gte": 1, "gt": 2}}}, "query.range.a.gt: gte is there too"),
    ({"range": {"a": {"from": 1}}}, "query.range.a.from: not supported"),
    ({"range": {"a": {"gte": "x", "format": "yyyy"}}}, "query.range.a.format: `yyyy` is not supported"),
    ({"range": {"a": {"gte": "x", "format": "epoch_millis"}}}, "query.range.a: `x` is no date"),
    ({"range": {"status": {"gte": 1, "format": "epoch_millis"}}}, "query.range.status: a format"),
    ({"range": {"status": {"gte": "x"}}}, "query.range: status: `x` is no number"),
    ({"range": {"ok": {"gte": True}}}, "query.range: ok: no range"),
    ({"range": {"a": {"gte": "2026-01-01", "time_zone": "Mars"}}}, "query.range.a: `Mars` is no time zone"),
    ({"range": {"a": {"gte": 10**17, "format": "epoch_millis"}}}, "query.range.a: the years are"),
    ({"exists": {}}, "query.exists: `field` is missing"),
    ({"exists": {"field": "a*"}}, "query.exists.field: the name of one field"),
    ({"ids": {"values": ["x"]}}, "query.ids.values: `x` is no _id"),
    ({"query_string": {"query": "a AND"}}, "query.query_string.query: a clause is missing here at position 5"),
    ({"query_string": {"query": "a", "default_field": "*"}}, "query.query_string.default_field: the name"),
    ({"query_string": {"query": "a", "fields": []}}, "query.query_string.fields: a field"),
    ({"query_string": {"query": "a", "fields": ["a^x"]}}, "query.query_string.fields[0]: `x` is no boost"),
    ({"query_string": {"query": "a", "analyze_wildcard": False}}, "query.query_string.analyze_wildcard: wildcards"),
    ({"query_string": {"query": "a", "fuzziness": 1}}, "query.query_string.fuzziness: not supported"),
    ({"query_string": {"query": "status:x"}}, "query.query_string: status: `x` is no number"),
    ({"simple_query_string": {"query": "a~1"}}, "query.simple_query_string.query: fuzzy"),
    ({"simple_query_string": {"query": "a", "flags": "ALL"}}, "query.simple_query_string.flags: not supported"),
    ({"multi_match": {"query": "a", "type": "cross_fields"}}, "query.multi_match.type: one of"),
    ({"multi_match": {"query": "a", "slop": 1}}, "query.multi_match.slop: a slop is for phrases"),
    ({"multi_match": {"query": "a", "type": "phrase", "operator": "and"}}, "query.multi_match.operator: not for phrases"),
    ({"constant_score": {"boost": 1}}, "query.constant_score: `filter` is missing"),
]  # fmt: skip


# fmt: off
KEYS = [
    "bool", "must", "filter", "should", "must_not", "term", "terms", "match", "match_phrase", "range", "gte", "lt", "query",
    "fields", "prefix", "value", "wildcard", "regexp", "exists", "field", "ids", "values", "boost", "query_string",
    "multi_match", "constant_score", "a", "status",
]
# fmt: on


def nested(depth):
    query = {"match_all": {}}
    for _ in range(depth):
        query = {"bool": {"must_not": [query]}}
    return query


class ElasticTests(SynchronousTestCase):
    def test_meanings(self):
        for body, text in MEANINGS:
            self.assertEqual(describe(parse_query(body, CONTEXT)), text, body)

    def test_errors_say_where_and_why(self):
        for body, start in ERRORS:
            error = self.assertRaises(QueryError, parse_query, body, CONTEXT)
            self.assertTrue(str(error).startswith(start), f"{body}: {error}")

    def test_what_is_not_served_says_so(self):
        for kind in NOT_SERVED:
            error = self.assertRaises(QueryError, parse_query, {kind: {}}, CONTEXT)
            self.assertEqual(str(error), f"query.{kind}: this kind of query is not served")

    def test_too_large(self):
        context = Context(NOW, MAPPING, Limits(clauses=10, depth=4, text_bytes=50, terms=5))
        for body, start in (
            (
                nested(6),
                "query.bool.must_not[0].bool.must_not[0].bool.must_not[0].bool.must_not[0].bool.must_not[0]: queries are",
            ),
            (nested(100_000), "query.bool"),
            (
                {"bool": {"should": [{"term": {"a": n}} for n in range(11)]}},
                "query: the query has more than 10 clauses",
            ),
            ({"terms": {"a": list(range(6))}}, "query.terms.a: 6 values"),
            ({"ids": {"values": [f"1:{n}" for n in range(6)]}}, "query.ids.values: 6 ids"),
            ({"match": {"a": "x" * 51}}, "query.match.a: a text of 51 bytes"),
            ({"simple_query_string": {"query": "((((((a"}}, "query.simple_query_string.query: the query is nested"),
        ):
            error = self.assertRaises(QueryError, parse_query, body, context)
            self.assertTrue(str(error).startswith(start), str(error)[:200])

    @given(
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3),
                st.dictionaries(
                    st.one_of(
                        st.sampled_from(KEYS),
                        st.text(max_size=2),
                    ),
                    inner,
                    max_size=3,
                ),
            ),
            max_leaves=12,
        )
    )
    def test_whatever_is_sent_means_something_or_is_refused(self, body):
        try:
            parse_query(body, CONTEXT)
        except QueryError as error:
            self.assertTrue(error.path)


class SimpleQueryStringTests(SynchronousTestCase):
    def parse(self, text, operator="OR"):
        return describe(parse_simple(text, (("f", 1.0),), operator, Limits()))

    def test_meanings(self):
        for text, under_or, under_and in (
            ("a b", "f:a OR f:b", "f:a AND f:b"),
            ("a + b", "f:a AND f:b", "f:a AND f:b"),
            ("a | b", "f:a OR f:b", "f:a OR f:b"),
            ("a + b | c", "(f:a AND f:b) OR f:c", "(f:a AND f:b) OR f:c"),
            ("a | b + c", "(f:a OR f:b) AND f:c", "(f:a OR f:b) AND f:c"),
            ("a -b", "f:a OR (NOT f:b)", "f:a AND (NOT f:b)"),
            ("a + -(b | c)", "f:a AND (NOT (f:b OR f:c))", "f:a AND (NOT (f:b OR f:c))"),
            ('"a b"~2 "c d', 'f:"a b"~2 OR f:"c d"', 'f:"a b"~2 AND f:"c d"'),
            ("err* a-b", "f:err* OR f:a-b", "f:err* AND f:a-b"),
            (r"a\* \-b", r'f:"a*" OR f:"-b"', r'f:"a*" AND f:"-b"'),
            ("AND or a:b", 'f:"AND" OR f:or OR f:"a:b"', 'f:"AND" AND f:or AND f:"a:b"'),
        ):
            self.assertEqual((self.parse(text), self.parse(text, "AND")), (under_or, under_and), text)

    def test_what_means_nothing_is_left_out(self):
        for text, meaning in (
            ("", "NOT *"),
            ("+ | -", "NOT *"),
            ("((", "NOT *"),
            (")) a ) b", "f:a OR f:b"),
            ('"" a', "f:a"),
            ("a +", "f:a"),
            ("| a", "f:a"),
            ("a () !!! b", "f:a OR f:b"),
            ("*", "NOT *"),
            ("a\\", "f:a"),
        ):
            self.assertEqual(self.parse(text), meaning, text)

    @given(st.text('ab "+|-()~*\\2', max_size=20))
    def test_nearly_all_is_a_query(self, text):
        try:
            self.parse(text)
        except QueryError as error:
            self.assertEqual(error.reason, "fuzzy terms are not supported")
