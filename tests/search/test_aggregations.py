"""Aggregations: against plain second ones, the same for split records, and what is refused."""

from __future__ import annotations

import json
import math
from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.search.aggregations.base import TooManyBuckets
from chronik.search.aggregations.parse import parse_aggregations
from chronik.search.body import Body
from chronik.search.document import Document
from chronik.search.elastic_context import Context
from chronik.search.mapping import parse_mapping
from chronik.search.match import Scope
from chronik.search.query import QueryError
from tests.search.records import NOW

HOUR = 3_600_000
MAPPING = parse_mapping({"properties": {"day": {"type": "date"}, "level": {"type": "keyword"}}})
CONTEXT = Context(NOW, MAPPING)


def scope(partition=0):
    return Scope("events", partition, NOW, MAPPING)


def record(offset, fields, when=NOW, key=b"k"):
    return Document(offset, when, key, json.dumps(fields).encode())


def plain(value):
    """What a client sees: JSON."""
    return json.loads(msgspec.json.encode(value))


def counted(body, records, parts=1, context=CONTEXT, limit=65_536):
    """The result over the records, counted in so many parts that travel."""
    packed = []
    for part in range(parts):
        worker = parse_aggregations(Body(body, "aggs"), context, limit)
        state = worker.start()
        for number, one in enumerate(records):
            if number % parts == part:
                worker.add(state, one, scope(part))
        packed.append(msgspec.msgpack.decode(msgspec.msgpack.encode(worker.pack(state))))
    node = parse_aggregations(Body(body, "aggs"), context, limit)
    return plain(node.result(node.merged(packed)))


fields = st.fixed_dictionaries(
    {},
    optional={
        "n": st.one_of(
            st.integers(-5, 40), st.sampled_from([0.5, 2.25, "7", "x"]), st.lists(st.integers(0, 3), max_size=3)
        ),
        "s": st.one_of(st.sampled_from(["a", "b", "c", "B"]), st.booleans(), st.integers(0, 2), st.none()),
        "t": st.lists(st.sampled_from(["x", "y", "z"]), max_size=3),
        "day": st.sampled_from(["2026-01-01", "2026-01-02T05:00:00Z", "2026-02-01", "soon", NOW]),
    },
)
batches = st.lists(fields, max_size=25).map(
    lambda many: [record(offset, one, NOW + offset * HOUR) for offset, one in enumerate(many)]
)

METRICS = {
    "sum": {"sum": {"field": "n"}},
    "stats": {"stats": {"field": "n"}},
    "count": {"value_count": {"field": "t"}},
    "distinct": {"cardinality": {"field": "s"}},
    "p": {"percentiles": {"field": "n", "percents": [0, 50, 95, 100]}},
}
BODIES = [
    METRICS,
    {"a": {"terms": {"field": "s"}, "aggs": METRICS}},
    {"a": {"terms": {"field": "t", "size": 2, "order": {"_key": "desc"}, "missing": "none"}}},
    {"a": {"terms": {"field": "n", "order": [{"_count": "asc"}, {"_key": "asc"}], "min_doc_count": 2}}},
    {"a": {"terms": {"field": "s", "order": {"m": "desc"}}, "aggs": {"m": {"max": {"field": "n"}}}}},
    {
        "a": {
            "terms": {"field": "s", "order": {"e.std_deviation": "asc"}},
            "aggs": {"e": {"extended_stats": {"field": "n"}}},
        }
    },
    {"a": {"terms": {"field": "t", "include": ["x", "y"], "exclude": "y.*"}}},
    {"a": {"histogram": {"field": "n", "interval": 5}, "aggs": {"m": {"avg": {"field": "n"}}}}},
    {"a": {"histogram": {"field": "n", "interval": 2.5, "offset": 1, "min_doc_count": 1, "keyed": True, "missing": 3}}},
    {
        "a": {
            "histogram": {
                "field": "n",
                "interval": 10,
                "extended_bounds": {"min": -20, "max": 60},
                "hard_bounds": {"max": 30},
            }
        }
    },
    {"a": {"date_histogram": {"field": "timestamp", "fixed_interval": "3h"}, "aggs": METRICS}},
    {
        "a": {
            "date_histogram": {
                "field": "timestamp",
                "fixed_interval": "1h",
                "min_doc_count": 1,
                "format": "epoch_millis",
            }
        }
    },
    {
        "a": {
            "date_histogram": {
                "field": "day",
                "calendar_interval": "month",
                "time_zone": "Europe/Berlin",
                "order": {"_key": "desc"},
            }
        }
    },
    {
        "a": {
            "range": {"field": "n", "ranges": [{"to": 0}, {"from": 0, "to": 2}, {"from": 1, "key": "high"}]},
            "aggs": METRICS,
        }
    },
    {"a": {"date_range": {"field": "day", "ranges": [{"to": "2026-01-02"}, {"from": "now/d", "to": "now+1d/d"}]}}},
    {"a": {"filter": {"term": {"s": "a"}}, "aggs": {"b": {"terms": {"field": "t"}}}}},
    {"a": {"filters": {"filters": {"x": {"term": {"t": "x"}}, "n": {"exists": {"field": "n"}}}, "other_bucket": True}}},
    {"a": {"filters": {"filters": [{"query_string": {"query": "s:a OR s:b"}}, {"range": {"n": {"gt": 1}}}]}}},
    {"a": {"missing": {"field": "n"}, "aggs": METRICS}},
    {
        "a": {
            "composite": {
                "size": 3,
                "sources": [{"s": {"terms": {"field": "s"}}}, {"t": {"terms": {"field": "t", "order": "desc"}}}],
            },
            "aggs": {"m": {"max": {"field": "n"}}},
        }
    },
    {
        "a": {
            "composite": {
                "size": 100,
                "sources": [
                    {"n": {"histogram": {"field": "n", "interval": 4, "missing_bucket": True}}},
                    {"d": {"date_histogram": {"field": "day", "calendar_interval": "1d"}}},
                ],
            }
        }
    },
    {"a": {"top_hits": {"size": 2, "from": 1, "sort": [{"n": "desc"}]}}},
    {"a": {"terms": {"field": "t"}, "aggs": {"b": {"top_hits": {"size": 1, "_source": False}}}}},
    {"a": {"percentile_ranks": {"field": "n", "values": [0, 3], "keyed": False}}},
]


def numbers(one):
    given = json.loads(one.value).get("n")
    for value in given if isinstance(given, list) else [given]:
        if isinstance(value, (int, float)):
            yield value
        elif value == "7":
            yield 7


def keys(one, name):
    given = json.loads(one.value).get(name)
    return [value for value in (given if isinstance(given, list) else [given]) if value is not None]


def rounded(value):
    """With floats rounded: sums may differ in their last bits by the order of adding."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list) else value


class CountTests(SynchronousTestCase):
    @given(st.sampled_from(BODIES), batches, st.integers(2, 4))
    def test_parts_make_the_whole(self, body, records, parts):
        one = counted(body, records)
        several = counted(body, records, parts)
        for hit in self.hits(one) + self.hits(several):  # their partition is that of the part
            hit.pop("_id"), hit.pop("sort")
        if "top_hits" not in json.dumps(body):
            self.assertEqual(rounded(several), rounded(one))

    def hits(self, result):
        if isinstance(result, dict):
            if "_index" in result:
                return [result]
            return [hit for inner in result.values() for hit in self.hits(inner)]
        return [hit for inner in result for hit in self.hits(inner)] if isinstance(result, list) else []

    @given(batches)
    def test_metrics(self, records):
        result = counted(METRICS, records)
        found = [value for one in records for value in numbers(one)]
        self.assertEqual(result["sum"]["value"], sum(found))
        self.assertEqual(
            result["stats"],
            {
                "count": len(found),
                "min": min(found, default=None),
                "max": max(found, default=None),
                "avg": sum(found) / len(found) if found else None,
                "sum": sum(found),
            },
        )
        self.assertEqual(result["count"]["value"], sum(len(keys(one, "t")) for one in records))
        self.assertEqual(result["distinct"]["value"], len({(type(k), k) for one in records for k in keys(one, "s")}))
        ordered = sorted(found)
        percents = result["p"]["values"]
        self.assertEqual((percents["0.0"], percents["100.0"]), (ordered[0], ordered[-1]) if found else (None, None))
        if len(found) % 2:
            self.assertEqual(percents["50.0"], ordered[len(found) // 2])

    @given(batches, st.integers(1, 5))
    def test_terms(self, records, size):
        result = counted(
            {"a": {"terms": {"field": "s", "size": size}, "aggs": {"m": {"max": {"field": "n"}}}}}, records
        )["a"]
        counts = Counter((RANKS[type(k)], k) for one in records for k in keys(one, "s"))
        best = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:size]
        self.assertEqual(
            [(bucket["key"], bucket["doc_count"]) for bucket in result["buckets"]],
            [(int(key) if kind == 2 else key, count) for (kind, key), count in best],
        )
        self.assertEqual(result["sum_other_doc_count"], counts.total() - sum(count for _, count in best))
        self.assertEqual(result["doc_count_error_upper_bound"], 0)
        for bucket, ((_, key), _) in zip(result["buckets"], best, strict=True):
            within = [
                v
                for one in records
                if any(k is key or (k == key and type(k) is type(key)) for k in keys(one, "s"))
                for v in numbers(one)
            ]
            self.assertEqual(bucket["m"]["value"], max(within, default=None))

    @given(batches, st.sampled_from([1, 2.5, 7]), st.integers(0, 2))
    def test_histogram(self, records, interval, least):
        body = {"a": {"histogram": {"field": "n", "interval": interval, "min_doc_count": least}}}
        buckets = counted(body, records)["a"]["buckets"]
        counts = Counter(index for one in records for index in {math.floor(value / interval) for value in numbers(one)})
        indexes = range(min(counts), max(counts) + 1) if counts else []
        self.assertEqual(
            [(b["key"], b["doc_count"]) for b in buckets],
            [(i * interval, counts[i]) for i in indexes if counts[i] >= least],
        )

    @given(batches)
    def test_date_histogram(self, records):
        buckets = counted({"a": {"date_histogram": {"field": "timestamp", "fixed_interval": "3h"}}}, records)["a"][
            "buckets"
        ]
        counts = Counter(one.timestamp // (3 * HOUR) for one in records)
        self.assertEqual(
            [(b["key"], b["doc_count"]) for b in buckets],
            [(3 * HOUR * i, counts[i]) for i in (range(min(counts), max(counts) + 1) if counts else ())],
        )
        if buckets:
            self.assertEqual(buckets[0]["key_as_string"], "2026-01-01T12:00:00.000Z")

    @given(batches)
    def test_selections(self, records):
        body = {
            "r": {"range": {"field": "n", "ranges": [{"to": 0}, {"from": 0, "to": 2}, {"from": 1, "key": "high"}]}},
            "f": {
                "filters": {
                    "filters": {"x": {"term": {"t": "x"}}, "n": {"exists": {"field": "n"}}},
                    "other_bucket": True,
                }
            },
            "m": {"missing": {"field": "n"}},
            "one": {"filter": {"term": {"t": "y"}}},
        }
        result = counted(body, records)

        def count(test):
            return sum(1 for one in records if test(one))

        self.assertEqual(
            result["r"]["buckets"],
            [
                {"key": "*-0.0", "to": 0.0, "doc_count": count(lambda one: any(v < 0 for v in numbers(one)))},
                {
                    "key": "0.0-2.0",
                    "from": 0.0,
                    "to": 2.0,
                    "doc_count": count(lambda one: any(0 <= v < 2 for v in numbers(one))),
                },
                {"key": "high", "from": 1.0, "doc_count": count(lambda one: any(v >= 1 for v in numbers(one)))},
            ],
        )
        x, n = count(lambda one: "x" in keys(one, "t")), count(lambda one: keys(one, "n"))
        neither = count(lambda one: "x" not in keys(one, "t") and not keys(one, "n"))
        self.assertEqual(
            result["f"]["buckets"], {"x": {"doc_count": x}, "n": {"doc_count": n}, "_other_": {"doc_count": neither}}
        )
        self.assertEqual(result["m"], {"doc_count": len(records) - n})
        self.assertEqual(result["one"], {"doc_count": count(lambda one: "y" in keys(one, "t"))})

    @given(batches, st.integers(1, 4), st.integers(1, 3), st.booleans())
    def test_composite_pages_are_all_there_is(self, records, size, parts, missing):
        sources = [
            {"s": {"terms": {"field": "s", "missing_bucket": missing}}},
            {"t": {"terms": {"field": "t", "order": "desc"}}},
        ]
        found, after = [], {}
        while True:
            body = {"a": {"composite": {"size": size, "sources": sources, **after}}}
            result = counted(body, records, parts)["a"]
            if not result["buckets"]:
                break
            found += [(tuple(bucket["key"].values()), bucket["doc_count"]) for bucket in result["buckets"]]
            after = {"after": result["after_key"]}
        counts = Counter()
        for one in records:
            for s in keys(one, "s") or ([None] if missing else []):
                counts.update({(type(s).__name__, s, t) for t in set(keys(one, "t"))})
        self.assertEqual(
            sorted((type(k[0]).__name__, *map(str, k), n) for k, n in found),
            sorted((kind, str(s), str(t), n) for (kind, s, t), n in counts.items()),
        )

    @given(batches, st.integers(1, 3), st.integers(0, 2), st.integers(1, 3))
    def test_top_hits(self, records, size, skipped, parts):
        body = {"a": {"top_hits": {"size": size, "from": skipped, "sort": ["offset"]}}}
        hits = counted(body, records, parts)["a"]["hits"]
        self.assertEqual(hits["total"], {"value": len(records), "relation": "eq"})
        self.assertEqual(
            [hit["sort"][0] for hit in hits["hits"]], [r.offset for r in records][skipped : skipped + size]
        )


class SketchTests(SynchronousTestCase):
    def test_many_values(self):
        records = [record(n, {"n": n * 7919 % 20_011, "u": f"user{n % 9001}"}) for n in range(20_011)]
        body = {
            "p": {"percentiles": {"field": "n", "percents": [1, 50, 99]}},
            "r": {"percentile_ranks": {"field": "n", "values": [5000]}},
            "exact": {"cardinality": {"field": "u", "precision_threshold": 10_000}},
            "about": {"cardinality": {"field": "u", "precision_threshold": 100}},
        }
        for parts in (1, 3):
            result = counted(body, records, parts)
            for percent, value in result["p"]["values"].items():
                self.assertTrue(abs(value - float(percent) / 100 * 20_011) < 20, (percent, value))
            self.assertTrue(24.5 < result["r"]["values"]["5000.0"] < 25.5, result["r"])
            self.assertEqual(result["exact"]["value"], 9001)
            self.assertTrue(abs(result["about"]["value"] - 9001) < 9001 * 0.04, result["about"])

    def test_percentiles_of_numbers_of_all_sizes(self):
        records = [record(n, {"n": (-1.0) ** n * 10.0 ** (n % 600 - 300)}) for n in range(6000)]
        values = counted({"p": {"percentiles": {"field": "n", "percents": [0, 25, 49, 75, 100]}}}, records, 2)["p"][
            "values"
        ]
        ordered = sorted(json.loads(one.value)["n"] for one in records)
        self.assertEqual((values["0.0"], values["100.0"]), (ordered[0], ordered[-1]))
        found = list(values.values())
        self.assertEqual(found, sorted(found))

    def test_terms_beyond_what_is_kept_say_their_error(self):
        from chronik.search.aggregations.base import Budget, Group
        from chronik.search.aggregations.terms import TermsAggregation

        budget = Budget(1000)
        terms = TermsAggregation(
            CONTEXT.field("u"), Group({}, budget), 5, [("_count", True)], 1, None, None, True, kept=20
        )
        state = terms.start()
        users = [f"u{n % 300}" for n in range(3000)] + ["big"] * 500 + [f"v{n}" for n in range(100)]
        for n, user in enumerate(users):
            terms.add(state, record(n, {"u": user}), scope())
        other = terms.unpack(msgspec.msgpack.decode(msgspec.msgpack.encode(terms.pack(state))))
        terms.merge(state, other)
        result = terms.result(state)
        self.assertEqual(result["buckets"][0]["key"], "big")
        error = result["doc_count_error_upper_bound"]
        self.assertTrue(1000 - error <= result["buckets"][0]["doc_count"] <= 1000)
        self.assertGreater(error, 0)
        self.assertEqual(result["buckets"][0]["doc_count_error_upper_bound"], error)
        self.assertEqual(result["sum_other_doc_count"] + sum(b["doc_count"] for b in result["buckets"]), 2 * len(users))
        self.assertLess(budget.limit - budget.left, 100)


RANKS = {int: 0, str: 1, bool: 2}
DAYS = [record(n, {"n": n, "ok": n % 2 == 0, "day": f"2026-0{n % 3 + 1}-15"}, NOW + n * HOUR) for n in range(6)]


class ShapeTests(SynchronousTestCase):
    def test_shapes_are_those_of_elasticsearch(self):
        for body, result in (
            (
                {"terms": {"field": "ok", "size": 1}},
                {
                    "doc_count_error_upper_bound": 0,
                    "sum_other_doc_count": 3,
                    "buckets": [{"key": 0, "key_as_string": "false", "doc_count": 3}],
                },
            ),
            (
                {"terms": {"field": "day", "size": 1, "order": {"_key": "desc"}}},
                {
                    "doc_count_error_upper_bound": 0,
                    "sum_other_doc_count": 4,
                    "buckets": [{"key": 1773532800000, "key_as_string": "2026-03-15T00:00:00.000Z", "doc_count": 2}],
                },
            ),
            ({"min": {"field": "day"}}, {"value": 1768435200000.0, "value_as_string": "2026-01-15T00:00:00.000Z"}),
            ({"avg": {"field": "absent"}}, {"value": None}),
            ({"sum": {"field": "absent"}}, {"value": 0.0}),
            ({"avg": {"field": "absent", "missing": 3}}, {"value": 3.0}),
            (
                {"extended_stats": {"field": "n", "sigma": 1}},
                {
                    "count": 6,
                    "min": 0.0,
                    "max": 5.0,
                    "avg": 2.5,
                    "sum": 15.0,
                    "sum_of_squares": 55.0,
                    "variance": 2.916667,
                    "variance_population": 2.916667,
                    "variance_sampling": 3.5,
                    "std_deviation": 1.707825,
                    "std_deviation_population": 1.707825,
                    "std_deviation_sampling": 1.870829,
                    "std_deviation_bounds": {"upper": 4.207825, "lower": 0.792175},
                },
            ),
            (
                {"date_histogram": {"field": "day", "calendar_interval": "month", "format": "epoch_millis"}},
                {
                    "buckets": [
                        {"key_as_string": str(key), "key": key, "doc_count": 2}
                        for key in (1767225600000, 1769904000000, 1772323200000)
                    ]
                },
            ),
            (
                {
                    "date_histogram": {
                        "field": "timestamp",
                        "calendar_interval": "day",
                        "time_zone": "+13:00",
                        "keyed": True,
                    }
                },
                {
                    "buckets": {
                        "2026-01-02T00:00:00.000+13:00": {
                            "key_as_string": "2026-01-02T00:00:00.000+13:00",
                            "key": 1767265200000,
                            "doc_count": 6,
                        }
                    }
                },
            ),
            (
                {"date_histogram": {"field": "timestamp", "fixed_interval": "1d", "offset": "+6h", "min_doc_count": 1}},
                {"buckets": [{"key_as_string": "2026-01-01T06:00:00.000Z", "key": 1767247200000, "doc_count": 6}]},
            ),
            (
                {
                    "date_histogram": {
                        "field": "absent",
                        "fixed_interval": "1h",
                        "extended_bounds": {"min": NOW, "max": "now+1h"},
                    }
                },
                {
                    "buckets": [
                        {"key_as_string": "2026-01-01T12:00:00.000Z", "key": NOW, "doc_count": 0},
                        {"key_as_string": "2026-01-01T13:00:00.000Z", "key": NOW + HOUR, "doc_count": 0},
                    ]
                },
            ),
            (
                {"histogram": {"field": "n", "interval": 3}},
                {"buckets": [{"key": 0.0, "doc_count": 3}, {"key": 3.0, "doc_count": 3}]},
            ),
            (
                {"date_range": {"field": "day", "ranges": [{"to": "2026-02-01"}], "keyed": True}},
                {
                    "buckets": {
                        "*-2026-02-01T00:00:00.000Z": {
                            "to": 1769904000000.0,
                            "to_as_string": "2026-02-01T00:00:00.000Z",
                            "doc_count": 2,
                        }
                    }
                },
            ),
            (
                {
                    "composite": {
                        "size": 1,
                        "sources": [
                            {
                                "d": {
                                    "date_histogram": {
                                        "field": "day",
                                        "calendar_interval": "1M",
                                        "format": "strict_date_optional_time",
                                        "order": "desc",
                                    }
                                }
                            }
                        ],
                        "after": {"d": "2026-03-01T00:00:00.000Z"},
                    }
                },
                {
                    "after_key": {"d": "2026-02-01T00:00:00.000Z"},
                    "buckets": [{"key": {"d": "2026-02-01T00:00:00.000Z"}, "doc_count": 2}],
                },
            ),
            (
                {"percentiles": {"field": "n", "percents": ["50"], "keyed": False}},
                {"values": [{"key": 50.0, "value": 2.5}]},
            ),
            (
                {"top_hits": {"size": 1}},
                {
                    "hits": {
                        "total": {"value": 6, "relation": "eq"},
                        "max_score": None,
                        "hits": [
                            {
                                "_index": "events",
                                "_id": "0:5",
                                "_score": None,
                                "sort": [NOW + 5 * HOUR, "events:0:5"],
                                "_source": {"n": 5, "ok": False, "day": "2026-03-15"},
                            }
                        ],
                    }
                },
            ),
        ):
            self.assertEqual(rounded(counted({"a": body}, DAYS)["a"]), result, body)

    def test_hostile_values(self):
        values = [
            b'{"n":1e999,"day":1e30}',
            b'{"n":-1e400,"day":"9999-12-31T23:59:59.999Z"}',
            b'{"n":123456789012345678901234567890}',
            b'{"n":"\xff"}',
            b"{",
            b"\xff",
            None,
            b'{"day":-62135596800001}',
            b'{"n":0.1,"day":253402300799999}',
        ]
        records = [
            Document(n, when, None, value) for n, value in enumerate(values) for when in (-1, 0, 1 << 62, -(1 << 62))
        ]
        for kind, body in (
            ("terms", {"field": "n"}),
            ("stats", {"field": "n"}),
            ("extended_stats", {"field": "n"}),
            ("percentiles", {"field": "n"}),
            ("cardinality", {"field": "n"}),
            ("histogram", {"field": "n", "interval": 0.001, "min_doc_count": 1}),
            (
                "date_histogram",
                {"field": "timestamp", "calendar_interval": "1y", "min_doc_count": 1, "time_zone": "America/New_York"},
            ),
            (
                "date_histogram",
                {"field": "day", "calendar_interval": "1d", "min_doc_count": 1, "time_zone": "Europe/Berlin"},
            ),
            (
                "date_histogram",
                {"field": "timestamp", "fixed_interval": "1d", "min_doc_count": 1, "time_zone": "+01:00"},
            ),
            ("top_hits", {"sort": ["n", "day"]}),
            ("composite", {"sources": [{"n": {"terms": {"field": "n"}}}, {"d": {"terms": {"field": "day"}}}]}),
        ):
            counted({"a": {kind: body}}, records, 2)

    def test_buckets_are_bounded(self):
        records = [record(n, {"n": n * 1000}, NOW + n * HOUR) for n in range(50)]
        for body in (
            {"terms": {"field": "n"}},
            {"histogram": {"field": "n", "interval": 1}},
            {"histogram": {"field": "n", "interval": 1, "min_doc_count": 1}},
            {"date_histogram": {"field": "timestamp", "fixed_interval": "1ms"}},
            {"date_histogram": {"field": "x", "fixed_interval": "1s", "extended_bounds": {"min": 0, "max": "now"}}},
            {"terms": {"field": "topic"}, "aggs": {"b": {"terms": {"field": "n"}}}},
        ):
            error = self.assertRaises(TooManyBuckets, counted, {"a": body}, records, limit=40)
            self.assertIn("more than 40 buckets", str(error))
        counted({"a": {"composite": {"size": 10, "sources": [{"n": {"terms": {"field": "n"}}}]}}}, records, 3, limit=40)

    def test_errors_say_where_and_why(self):
        deep = {"terms": {"field": "a"}}
        for _ in range(9):
            deep = {"terms": {"field": "a"}, "aggs": {"x": deep}}
        for body, start in (
            ([], "aggs: an object"),
            ({"a": {}}, "aggs.a: one kind"),
            ({"a": {"terms": {"field": "x"}, "min": {"field": "x"}}}, "aggs.a: one kind"),
            ({"a": {"terms": {"field": "x"}, "aggs": {}, "aggregations": {}}}, "aggs.a: one kind"),
            ({"a": {"derivative": {"buckets_path": "x"}}}, "aggs.a.derivative: this kind of aggregation is not known"),
            ({"a[b]": {"min": {"field": "x"}}}, "aggs: `a[b]` is no name"),
            ({"a": {"min": {"field": "x"}, "aggs": {}}}, "aggs.a.aggs: there are no aggregations within min"),
            ({"a": {"min": {}}}, "aggs.a.min: `field` is missing"),
            ({"a": {"min": {"script": "x"}}}, "aggs.a.min.script: not supported"),
            (
                {"a": {"terms": {"field": "x"}, "aggs": {"b": {"max": {"field": 3}}}}},
                "aggs.a.aggs.b.max.field: a string",
            ),
            ({"a": {"terms": {"field": "x", "size": 0}}}, "aggs.a.terms.size: an integer from 1"),
            ({"a": {"terms": {"field": "x", "order": {"b": "asc"}}}}, "aggs.a.terms.order: `b` is neither"),
            (
                {"a": {"terms": {"field": "x", "order": {"b": "asc"}}, "aggs": {"b": {"stats": {"field": "x"}}}}},
                "aggs.a.terms.order.b: `` is no number of stats",
            ),
            (
                {"a": {"terms": {"field": "x", "order": {"b": "asc"}}, "aggs": {"b": {"terms": {"field": "x"}}}}},
                "aggs.a.terms.order.b: this aggregation has no number",
            ),
            ({"a": {"terms": {"field": "x", "include": "("}}}, "aggs.a.terms.include: /\\A(?:()\\z/ is no"),
            ({"a": {"terms": {"field": "x", "min_doc_count": -1}}}, "aggs.a.terms.min_doc_count: an integer from 0"),
            ({"a": {"histogram": {"field": "x", "interval": 0}}}, "aggs.a.histogram.interval: an interval"),
            (
                {"a": {"histogram": {"field": "x", "interval": 1, "extended_bounds": {"min": 2, "max": 1}}}},
                "aggs.a.histogram.extended_bounds: min is greater",
            ),
            ({"a": {"date_histogram": {"field": "x"}}}, "aggs.a.date_histogram: either"),
            (
                {"a": {"date_histogram": {"field": "x", "interval": "1d"}}},
                "aggs.a.date_histogram.interval: not supported",
            ),
            (
                {"a": {"date_histogram": {"field": "x", "fixed_interval": "1M"}}},
                "aggs.a.date_histogram.fixed_interval: a duration",
            ),
            (
                {"a": {"date_histogram": {"field": "x", "fixed_interval": "0s"}}},
                "aggs.a.date_histogram.fixed_interval: an interval",
            ),
            (
                {"a": {"date_histogram": {"field": "x", "calendar_interval": "2d"}}},
                "aggs.a.date_histogram.calendar_interval: one of",
            ),
            (
                {"a": {"date_histogram": {"field": "x", "fixed_interval": "1d", "time_zone": "x"}}},
                "aggs.a.date_histogram.time_zone: `x` is no time zone",
            ),
            (
                {"a": {"date_histogram": {"field": "x", "fixed_interval": "1d", "format": "yyyy"}}},
                "aggs.a.date_histogram.format: `yyyy` is not supported",
            ),
            ({"a": {"range": {"field": "x", "ranges": []}}}, "aggs.a.range.ranges: 1 to"),
            (
                {"a": {"range": {"field": "x", "ranges": [{"from": "y"}]}}},
                "aggs.a.range.ranges[0].from: a finite number",
            ),
            (
                {"a": {"date_range": {"field": "x", "ranges": [{"from": "y"}]}}},
                "aggs.a.date_range.ranges[0].from: `y` is no date",
            ),
            ({"a": {"filter": {"trem": {}}}}, "aggs.a.filter.trem: an unknown kind"),
            ({"a": {"filters": {"filters": {}}}}, "aggs.a.filters.filters: 1 to"),
            (
                {"a": {"filters": {"filters": {"x": {"term": {}}}}}},
                "aggs.a.filters.filters.x.term: an object with one key",
            ),
            ({"a": {"percentiles": {"field": "x", "percents": [101]}}}, "aggs.a.percentiles.percents: percents are"),
            ({"a": {"percentiles": {"field": "x", "hdr": {}}}}, "aggs.a.percentiles.hdr: not supported"),
            ({"a": {"composite": {"sources": []}}}, "aggs.a.composite.sources: 1 to"),
            ({"a": {"composite": {"sources": [{"s": {"geotile_grid": {}}}]}}}, "aggs.a.composite.sources[0].s: terms,"),
            (
                {"a": {"composite": {"sources": [{"s": {"terms": {"field": "x"}}}] * 2}}},
                "aggs.a.composite.sources: two sources",
            ),
            (
                {"a": {"composite": {"sources": [{"s": {"terms": {"field": "x"}}}], "after": {"t": 1}}}},
                "aggs.a.composite.after.t: not",
            ),
            (
                {"a": {"composite": {"sources": [{"s": {"terms": {"field": "x"}}}], "after": {}}}},
                "aggs.a.composite.after: `s` is missing",
            ),
            ({"a": {"top_hits": {"sort": "_score"}}}, "aggs.a.top_hits.sort: sorting by score"),
            ({"a": {"top_hits": {"size": 101}}}, "aggs.a.top_hits.size: an integer"),
            ({str(n): {"min": {"field": "x"}} for n in range(101)}, "aggs: more than 100"),
            ({"x": deep}, "aggs.x.aggs.x"),
        ):
            error = self.assertRaises(QueryError, parse_aggregations, Body(body, "aggs"), CONTEXT)
            self.assertTrue(str(error).startswith(start), f"{error} is not {start}")
