"""What a hit is: against a plain second implementation, over random records and queries and over real log lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.search import query as q
from chronik.search.describe import describe
from chronik.search.match import Scope, compile_query
from chronik.search.query import QueryError
from chronik.search.query_string import parse
from tests.search import oracle
from tests.search.loghub import loghub
from tests.search.records import NOW, aimed, documents, leaf_queries, mappings, queries


def both(query, record, scope):
    """What the matcher says, and what the oracle says; None is refused."""
    try:
        says = compile_query(query, scope)(record)
    except QueryError:
        says = None
    try:
        truth = oracle.matches(query, record, scope.mapping, scope.topic, scope.partition)
    except oracle.Refused:
        truth = None
    return says, truth


class OracleTests(SynchronousTestCase):
    @given(leaf_queries, st.lists(documents, min_size=1, max_size=8), mappings, st.integers(0, 2))
    def test_one_clause(self, query, records, mapping, partition):
        self.compare(query, records, Scope("events", partition, NOW, mapping))

    @given(queries, st.lists(documents, min_size=1, max_size=8), mappings, st.integers(0, 2))
    def test_trees(self, query, records, mapping, partition):
        self.compare(query, records, Scope("events", partition, NOW, mapping))

    @given(aimed(), mappings)
    def test_clauses_that_find_something(self, aimed, mapping):
        self.compare(*aimed, Scope("events", 1, NOW, mapping))

    @given(st.lists(aimed(), min_size=2, max_size=4), st.integers(0, 3), mappings)
    def test_trees_that_find_something(self, several, minimum, mapping):
        records = [record for _, found in several for record in found]
        clauses = [query for query, _ in several]
        scope = Scope("events", 1, NOW, mapping)
        self.compare(q.any_of(clauses, minimum), records, scope)
        self.compare(q.all_of([q.any_of(clauses[:2]), q.negated(clauses[-1])]), records, scope)

    def test_real_lines(self):
        records = loghub()
        scope = Scope("events", 1, NOW)
        for text in (
            "error", "authentication failure", '"check pass"', "sshd", "rhost:218*", "uid:0 AND NOT euid:0", "user:root",
            "value:*authen*", "/port \\d+ ssh2/", "/[0-9]{1,3}(\\.[0-9]{1,3}){3}/", '"failed from"~3', "ambient:>0", "0x0",
            "blk_38865049064139660", "NOT kernel", "_exists_:ruser", "ready:*", "user:(root OR guest)", "workerEnv in error",
        ):  # fmt: skip
            query = parse(text, default_operator="AND")
            hits = compile_query(query, scope)
            found = [record.offset for record in records if hits(record)]
            truth = [record.offset for record in records if oracle.matches(query, record, scope.mapping, "events", 1)]
            self.assertEqual(found, truth, text)
            self.assertTrue(0 < len(found) < len(records), text)

    def compare(self, query, records, scope):
        for record in records:
            says, truth = both(query, record, scope)
            self.assertEqual(
                says,
                truth,
                f"{describe(query)!r} ({query!r}) on value={record.value!r} key={record.key!r} {record.headers!r}",
            )
