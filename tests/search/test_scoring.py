"""Scores: the formula, by hand; and hits in the order of their scores, with splits and without, as a plain look has them."""

from __future__ import annotations

import json
import math
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.search.answering import statistics
from chronik.search.document import Document
from chronik.search.elastic import parse_query
from chronik.search.elastic_context import Context
from chronik.search.mapping import NO_MAPPING, parse_mapping
from chronik.search.match import QueryError, Scope, compile_query
from chronik.search.messages import AskStatistics, SearchedPart
from chronik.search.query_string import parse
from chronik.search.rendering import Shape
from chronik.search.scoring import NO_STATISTICS, Statistics, compile_score, scored_words, together
from chronik.search.sorting import BY_SCORE, After
from chronik.search.splits import planning
from tests.search.oracle import tokens
from tests.search.records import NOW, documents, mappings, queries
from tests.search.splitting import PARTITION, TOPIC, Searched

SCOPE = Scope("events", 1, NOW, NO_MAPPING)
KNOWN = Statistics(1000, 8000, {"error": 100, "reset": 10, "the": 990})


def idf(count, total=1000):
    return math.log(1 + (total - count + 0.5) / (count + 0.5))


def bm25(weight, times, length, mean=8.0):
    return weight * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * length / mean))


def scored(query, value, known=KNOWN, **more):
    query = parse(query) if isinstance(query, str) else query
    return compile_score(query, SCOPE, known)(Document(5, NOW, more.get("key"), value, more.get("headers", ())))


class FormulaTests(SynchronousTestCase):
    def check(self, found, expected):
        self.assertAlmostEqual(found, expected, 9)

    def test_words(self):
        self.check(scored("error", b"an error"), bm25(idf(100), 1, 2))
        self.check(scored("error", b"error error of the day"), bm25(idf(100), 2, 5))
        self.check(scored("nowhere", b"nowhere"), bm25(idf(0), 1, 1))
        self.check(scored("error reset", b"error x"), bm25(idf(100), 1, 2))
        self.check(scored("error reset", b"error reset"), bm25(idf(100), 1, 2) + bm25(idf(10), 1, 2))
        self.check(scored('"the error"', b"the error, the error"), bm25(idf(990) + idf(100), 2, 4))
        self.assertGreater(scored("reset", b"a reset"), scored("error", b"a error"))
        self.assertGreater(scored("error", b"error"), scored("error", b"error and much beside it"))

    def test_fields_weigh_as_the_value_s_words(self):
        self.check(scored("level:error", b'{"level":"error"}'), bm25(idf(100), 1, 2))
        self.check(scored("key:error", b"a b", key=b"error"), bm25(idf(100), 1, 2))
        self.check(scored("headers.h:error", None, headers=[("h", b"error")]), bm25(idf(100), 1, 0))

    def test_what_only_holds_counts_one(self):
        for query in (
            "value:IN [error x]",
            "err*",
            "/err/",
            "offset:>1",
            "value:*",
            "*",
            "key.keyword:error",
            '"err"*',
        ):
            self.check(scored(query, b"error", key=b"error"), 1.0)

    def test_sums_boosts_filters_and_what_isn_t_there(self):
        one = bm25(idf(100), 1, 1)
        self.check(scored("error^3", b"error"), 3 * one)
        self.check(scored("(error OR offset:5)^2", b"error"), 2 * one + 2)
        self.check(scored("error AND NOT reset", b"error"), one)
        self.check(scored("NOT reset", b"error"), 0)
        self.check(scored("error^0", b"error"), 0)
        self.check(scored("reset OR (error AND offset:7)", b"reset error"), bm25(idf(10), 1, 2))
        self.check(scored("error OR (a b reset)~2", b"error reset"), bm25(idf(100), 1, 2))
        should = parse_query(
            {"bool": {"filter": [{"match": {"value": "error"}}], "should": [{"match": {"value": "reset"}}]}},
            Context(NOW, NO_MAPPING),
        )
        self.check(scored(should, b"error"), 0)
        self.check(scored(should, b"error reset"), bm25(idf(10), 1, 2))

    def test_a_mapping_decides_what_has_words(self):
        mapping = parse_mapping({"properties": {"a": {"type": "keyword"}}})
        scope = Scope("events", 1, NOW, mapping)
        found = compile_score(parse("a:error"), scope, KNOWN)(Document(1, NOW, None, b'{"a":"error"}'))
        self.assertEqual(found, 1.0)
        self.assertEqual(scored_words(parse("a:error b:reset error"), mapping), ["reset", "error"])

    def test_without_statistics_all_words_weigh_alike(self):
        self.assertEqual(scored("error", b"error x", NO_STATISTICS), scored("nowhere", b"nowhere x", NO_STATISTICS))
        self.assertGreater(scored("error", b"error error", NO_STATISTICS), scored("error", b"error", NO_STATISTICS))

    def test_statistics_are_added_up(self):
        found = together([KNOWN, Statistics(1, 2, {"error": 1, "x": 1}), NO_STATISTICS])
        self.assertEqual(found, Statistics(1001, 8002, {"error": 101, "reset": 10, "the": 990, "x": 1}))

    @given(queries, documents, mappings)
    @settings(max_examples=500, deadline=None)
    def test_every_hit_has_a_score(self, query, document, mapping):
        scope = Scope("events", 1, NOW, mapping)
        try:
            fits = compile_query(query, scope)
        except QueryError:
            return
        if fits(document):
            score = compile_score(query, scope, KNOWN)(document)
            self.assertTrue(math.isfinite(score), (query, document.value))
            self.assertGreaterEqual(score, 0.0)


WORDS = ["error", "reset", "connection", "the", "of", "day", "a", "b"]
ASKED = [
    "error",
    "error reset",
    '"connection reset"',
    "the AND NOT error",
    "reset^3 OR day",
    "a b offset:>20",
    "(the of day)~2",
]


class RankingTests(SynchronousTestCase):
    def statistics_of(self, searched, query):
        bounds = searched.full.index_of((TOPIC, PARTITION)).files.bounds
        part = SearchedPart("events", TOPIC, PARTITION, bounds.start, bounds.stable)
        steps = statistics(searched.full, AskStatistics(query, (part,)))
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    @given(st.integers(0, 2**32))
    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), report_multiple_bugs=False)
    def test_the_best_first_page_by_page(self, seed):
        chance = random.Random(seed)
        searched = Searched(split_messages=60, block_bytes=2048)
        try:
            for _ in range(30):
                values = [" ".join(chance.choices(WORDS, k=chance.randrange(1, 40))).encode() for _ in range(8)]
                searched.append(values, timestamp=NOW)
            if chance.random() < 0.8:
                searched.settle()
                self.assertTrue(searched.splits.ready)
            else:
                searched.follow()
                searched.steps()
            for text in ASKED:
                query = parse(text)
                known = self.statistics_of(searched, query)
                self.check_statistics(searched, query, known)
                score = compile_score(query, Scope("events", PARTITION, NOW, NO_MAPPING), known)
                by_offset = {each.offset: each for each in searched.records()}
                truth = sorted(searched.truth(query), key=lambda offset: (-score(by_offset[offset]), -offset))
                for engine in (searched.full, searched.plain):
                    hits, found = searched.search(engine, query, sort=BY_SCORE, statistics=known)
                    self.assertEqual([hit.offset for hit in hits], truth, text)
                    self.assertEqual([hit.values[0] for hit in hits], [score(by_offset[offset]) for offset in truth])
                    self.assertEqual((found.total, found.exact), (len(truth), True))
                    hits, found = searched.search(engine, query, size=7, sort=BY_SCORE, statistics=known)
                    self.assertEqual([hit.offset for hit in hits], truth[:7], text)
                    self.assertEqual(found.total, len(truth))
                    if len(hits) == 7:
                        place = After((hits[-1].values[0],), ("events", PARTITION, hits[-1].offset))
                        hits, _ = searched.search(engine, query, size=7, sort=BY_SCORE, statistics=known, after=place)
                        self.assertEqual([hit.offset for hit in hits], truth[7:14], text)
        finally:
            searched.close()

    def rank(self, seed, alike):
        """Search for the best three in many ways; how many splits were ranked, and how many in vain."""
        chance = random.Random(seed)
        searched = Searched(split_messages=200, block_bytes=2048)
        self.patch(planning, "RANKED", 10)
        asked = (
            *ASKED,
            "error^0.5 OR reset OR (day^4 AND of)",
            "the timestamp:>now-1h",
            "a AND (b OR day OR offset:<90)",
        )
        ranked = in_vain = 0
        try:
            for _ in range(70):
                longest = 4 if alike else chance.choice([4, 40])
                values = [" ".join(chance.choices(WORDS, k=chance.randrange(3, longest))).encode() for _ in range(8)]
                searched.append(values, timestamp=NOW)
            searched.settle()
            self.assertGreater(len(searched.splits.ready), 1)
            for text in asked:
                query = parse(text)
                known = self.statistics_of(searched, query)
                plain, _ = searched.search(searched.plain, query, size=3, sort=BY_SCORE, statistics=known)
                hits, found = searched.search(searched.full, query, size=3, sort=BY_SCORE, statistics=known)
                self.assertEqual([(h.offset, h.values) for h in hits], [(h.offset, h.values) for h in plain], text)
                self.assertEqual((found.total, found.exact), (len(searched.truth(query)), True))
                ranked += found.costs.splits_ranked
                in_vain += found.costs.ranked_in_vain
        finally:
            searched.close()
        return ranked, in_vain

    @given(st.integers(0, 2**32), st.booleans())
    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), report_multiple_bugs=False)
    def test_the_best_of_many_without_a_look_at_all(self, seed, alike):
        """Whatever the values are like, they are those that a look at all of them gives."""
        self.rank(seed, alike)

    def test_splits_are_ranked_and_some_in_vain(self):
        ranked, in_vain = self.rank(5, False)
        self.assertTrue(0 < in_vain < ranked, (ranked, in_vain))

    def test_where_many_are_as_good_all_are_looked_at(self):
        """The newest of them come first; tantivy tells the oldest. A bound that is too low would be noticed."""
        searched = Searched(split_messages=600, block_bytes=2048)
        self.addCleanup(searched.close)
        self.patch(planning, "RANKED", 10)
        self.patch(planning, "MAX_PROPOSED", 100)
        for number in range(100):
            searched.append([b"error x" if number < 60 else b"other words than these"] * 10, timestamp=NOW + number)
        searched.settle()
        query = parse("error")
        known = self.statistics_of(searched, query)

        def best():
            hits, found = searched.search(searched.full, query, size=3, sort=BY_SCORE, statistics=known)
            return [hit.offset for hit in hits], found.costs.ranked_in_vain

        self.assertEqual(best(), ([599, 598, 597], 1))
        self.patch(planning, "bound", lambda ranked, manifest, last: 0.0)
        offsets, in_vain = best()
        self.assertNotEqual(offsets, [599, 598, 597])
        self.assertEqual(in_vain, 0)

    def test_many_words_need_no_look_at_all(self):
        searched = Searched(split_messages=900, block_bytes=2048)
        self.addCleanup(searched.close)
        self.patch(planning, "RANKED", 10)
        chance = random.Random(1)
        for number in range(100):
            values = [
                b"error %d " % n * chance.randrange(1, 4) + b"reset connection" * (n % 10 == 3) for n in range(10)
            ]
            searched.append(values, timestamp=NOW + number)
        searched.settle()
        query = parse("error reset connection")
        known = self.statistics_of(searched, query)
        hits, found = searched.search(searched.full, query, size=3, sort=BY_SCORE, statistics=known)
        plain, _ = searched.search(searched.plain, query, size=3, sort=BY_SCORE, statistics=known)
        self.assertEqual([hit.offset for hit in hits], [hit.offset for hit in plain])
        self.assertEqual((found.total, found.costs.splits_ranked), (1000, 1))

    def check_statistics(self, searched, query, known):
        """They are those of the records in splits."""
        ends = [(split.manifest.first, split.manifest.following) for split in searched.splits.ready]
        inside = [
            tokens(each.value.decode()) for each in searched.records() if any(f <= each.offset < n for f, n in ends)
        ]
        self.assertEqual(known.records, len(inside))
        for word, count in known.frequencies.items():
            self.assertEqual(count, sum(word in each for each in inside), word)
        self.assertEqual(known.words, sum(map(len, inside)))
        self.assertEqual(set(known.frequencies), set(scored_words(query, NO_MAPPING)) if inside else set())

    def test_hits_are_written_with_their_scores_in_any_order(self):
        searched = Searched()
        self.addCleanup(searched.close)
        searched.append([b"error", b"error error", b"an error of the day"])
        searched.follow()
        for sort in (BY_SCORE, None):
            hits, _ = searched.search(
                searched.full, parse("error"), sort=sort, statistics=KNOWN, shape=Shape(sort=sort is not None)
            )
            rendered = [json.loads(hit.rendered) for hit in hits]
            self.assertEqual(
                [each["_id"] for each in rendered], ["1:1", "1:0", "1:2"] if sort else ["1:2", "1:1", "1:0"]
            )
            for each in rendered:
                value = (b"error", b"error error", b"an error of the day")[int(each["_id"][2:])]
                self.assertEqual(each["_score"], scored("error", value))
                if sort:
                    self.assertEqual(each["sort"], [each["_score"], f"events:{each['_id']}"])
        hits, _ = searched.search(searched.full, parse("error"), shape=Shape())
        self.assertEqual({json.loads(hit.rendered)["_score"] for hit in hits}, {None})
