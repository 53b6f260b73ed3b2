"""Whether a query fits, and what it costs to look for it: found out in slices, and once for equal mappings."""

from __future__ import annotations

from hypothesis import given, settings
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from chronik.search.beginnings import Beginnings
from chronik.search.fitting import MAX_COMPILED, Fitting, check_cost
from chronik.search.literals import all_literals
from chronik.search.mapping import NO_MAPPING, Mapping, Property
from chronik.search.match import Scope, check_query
from chronik.search.query import QueryError
from chronik.search.query_string import parse
from tests.search.records import NOW, mappings, queries
from tests.search.tail_world import Ticking

KEYWORD = Mapping({"code": Property("keyword")})


class Counting(Fitting):
    """Counts how often it has to find out."""

    finds = 0

    def find(self, topic, mapping):
        self.finds += 1
        return super().find(topic, mapping)


class FittingTests(SynchronousTestCase):
    def fits(self, query, mapping_of):
        """What is found for 100 topics, and in how many turns of the reactor."""
        clock = Ticking()
        beginnings = Beginnings(None, mapping_of, None, clock)
        fitting = Counting(parse(query), 0)
        done = Deferred.fromCoroutine(beginnings.fits(fitting, [f"t{number}" for number in range(100)]))
        while not done.called and clock.getDelayedCalls():
            clock.advance(0.001)
        return fitting, done, clock.turns

    def test_in_slices_and_once_for_equal_mappings(self):
        query = " AND ".join(f"*wild{number}*card*" for number in range(50))
        fitting, done, turns = self.fits(query, lambda topic: Mapping({}) if topic < "t5" else KEYWORD)
        found = self.successResultOf(done)
        self.assertEqual(fitting.finds, 2)
        self.assertEqual((found["t1"].mapping, found["t99"].mapping), (NO_MAPPING, KEYWORD))
        self.assertGreater(turns, 2 * 50 // 2 + 100 // 2 - 10)  # two looks a slice
        self.assertFalse(fitting.wide)
        self.assertGreaterEqual(fitting.cost, 2 * 4)

    def test_it_is_wide_if_it_is_for_any(self):
        by_number = Mapping({"code": Property("long")})
        fitting, done, _ = self.fits("code:1", lambda topic: NO_MAPPING if topic < "t5" else by_number)
        self.successResultOf(done)
        self.assertEqual(fitting.wide, any(not all_literals(parse("code:1"), each) for each in (NO_MAPPING, by_number)))

    def test_one_that_does_not_fit_is_refused(self):
        _, done, _ = self.fits("error AND (warn OR timestamp:never)", lambda topic: NO_MAPPING)
        self.failureResultOf(done, QueryError)

    @given(queries, mappings)
    @settings(max_examples=200, deadline=None)
    def test_clause_by_clause_is_as_a_whole(self, query, mapping):
        scope = Scope("t", 0, NOW, mapping)
        try:
            check_query(query, scope)
        except QueryError:
            self.assertRaises(QueryError, Fitting(query, NOW).found, "t", mapping)
        else:
            self.assertEqual(Fitting(query, NOW).found("t", mapping).wide, not all_literals(query, mapping))


class CostTests(SynchronousTestCase):
    def test_only_what_differs_between_partitions_or_topics_costs_more(self):
        check_cost(parse("error OR warn"), 0, MAX_COMPILED)
        check_cost(parse("partition:3 AND error"), 0, MAX_COMPILED // 3)
        self.assertRaises(QueryError, check_cost, parse("partition:3 AND error"), 0, MAX_COMPILED // 3 + 1)
        check_cost(parse("error"), MAX_COMPILED - 1, MAX_COMPILED)
        self.assertRaises(QueryError, check_cost, parse("error"), MAX_COMPILED, 1)
