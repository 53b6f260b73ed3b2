"""What is planned with never loses a hit: bounds of offsets and times, and byte patterns for a pre-filter."""

from __future__ import annotations

import re
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.native.signed import signed_tokens
from chronik.search import query as q
from chronik.search.bounds import EVERYTHING, Interval, bounds
from chronik.search.document import Document
from chronik.search.literals import literals
from chronik.search.mapping import NO_MAPPING, parse_mapping
from chronik.search.match import Scope, compile_query
from chronik.search.query_string import parse
from chronik.search.required import is_met, requirement
from tests.search.records import DAY, NOW, TIMES, aimed, documents, mappings, queries
from tests.search.regexps import expressions

OTHER_DIGITS = (b"2.5017e2", b"25e1", b"0.25E+3", b"250")
FOR_NUMBERS = ("250", "250.17", "250.0", ">249", "IN [250 7]")
FOR_DIGITS = ("2?0", "25*", "*50", "25*0*", "/250/", "/^250(\\.17)?$/")


class PlanningTests(SynchronousTestCase):
    @given(aimed(), mappings, st.integers(0, 2))
    def test_hits_of_a_clause(self, aimed, mapping, partition):
        self.hold(*aimed, mapping, partition)

    @given(st.lists(aimed(), min_size=1, max_size=3), st.integers(0, 3), queries, mappings, st.integers(0, 2))
    def test_hits_of_trees(self, several, minimum, query, mapping, partition):
        records = [record for _, found in several for record in found]
        clauses = [query for query, _ in several]
        self.hold(q.any_of([*clauses, query], minimum), records, mapping, partition)
        self.hold(q.all_of([q.any_of(clauses), q.negated(query)]), records, mapping, partition)

    @given(queries, st.lists(documents, max_size=5), mappings, st.integers(0, 2))
    def test_hits_of_any_query(self, query, records, mapping, partition):
        self.hold(query, records, mapping, partition)

    @given(st.lists(expressions(), min_size=1, max_size=2), st.sampled_from(["value", "a", "key"]))
    def test_hits_of_regular_expressions(self, several, field):
        for pattern, _ in several:
            for _, text in several:
                value = f"a={text}" if field == "a" else text
                self.hold(q.regexp(field, pattern), [Document(0, 0, text.encode(), value.encode())], NO_MAPPING, 1)

    @given(
        st.sampled_from(["offset", "partition", "timestamp"]),
        st.sampled_from(
            ["0", "1", "2.5", "-1", "1e30", "-1e9000", "15", "20.0", str(NOW), str(NOW - 1), "99999999999999999"]
        ),
        st.sampled_from(["0", "1", "30", "1.5", "1e9000", str(NOW + 1), "now"]),
        st.tuples(st.booleans(), st.booleans()),
        st.integers(0, 2),
    )
    def test_hits_of_ranges(self, field, lower, upper, closed, partition):
        records = [Document(offset, when, None, b"") for offset in (0, 1, 2, 15, 29, 30) for when in TIMES]
        for query in (q.between(field, lower, upper, *closed), q.Term(field, lower), q.any_term(field, [lower, upper])):
            self.hold(query, records, NO_MAPPING, partition)
            self.hold(q.all_of([query, q.between("offset", "1", None, closed[1])]), records, NO_MAPPING, partition)

    def test_hits_of_numbers_in_other_digits(self):
        """What is looked for are digits that the value does not have."""
        records = [Document(0, 0, None, b'{"a":%s,"b":[{"a":%s}]}' % (number, number)) for number in OTHER_DIGITS]
        for kind, queries_of_kind in (
            (None, [*FOR_NUMBERS, *FOR_DIGITS]),
            ("text", [*FOR_DIGITS, '"250 17"', "250"]),
            ("keyword", [*FOR_DIGITS, "250.17", "250"]),
            ("long", [*FOR_NUMBERS, "25*", "250.*"]),
        ):
            mapping = NO_MAPPING if kind is None else parse_mapping({"properties": {"a": {"type": kind}}})
            matched = 0
            for text in queries_of_kind:
                query = parse(f"a:{text}")
                self.hold(query, records, mapping, 1)
                matches = compile_query(query, Scope("events", 1, NOW, mapping))
                need = requirement(query, mapping)
                for record in filter(matches, records):
                    matched += 1
                    self.assertTrue(is_met(need, signed_tokens(None, record.value, [])), (text, need, record.value))
            self.assertGreater(matched, 2 * len(queries_of_kind))

    def hold(self, query, records, mapping, partition):
        try:
            matches = compile_query(query, Scope("events", partition, NOW, mapping))
        except q.QueryError:
            return
        limits = bounds(query, NOW)
        patterns = literals(query, mapping)
        found = None if patterns is None else [re.compile(pattern, re.IGNORECASE) for pattern in patterns]
        for record in records:
            if not matches(record):
                continue
            for interval, value in zip(limits, (record.timestamp, record.offset, partition), strict=True):
                self.assertTrue(
                    interval.first <= value <= interval.last, (query, limits, record.timestamp, record.offset)
                )
            if found is not None:
                parts = [
                    record.key,
                    record.value,
                    *(v for _, v in record.headers),
                    *(n.encode() for n, _ in record.headers),
                ]
                there = any(pattern.search(part) for pattern in found for part in parts if part is not None)
                self.assertTrue(there, (query, patterns, record.value, record.key))

    def test_bounds(self):
        for text, timestamps, offsets, partitions in (
            ("timestamp:>=2026-01-01", Interval(NOW - DAY // 2, EVERYTHING.last), EVERYTHING, EVERYTHING),
            ("timestamp:{now-1h TO now} AND error", Interval(NOW - 3_599_999, NOW - 1), EVERYTHING, EVERYTHING),
            ("offset:[5 TO 10} AND partition:1", EVERYTHING, Interval(5, 9), Interval(1, 1)),
            ("offset:(5 OR 8) AND partition:IN [0 2]", EVERYTHING, Interval(5, 8), Interval(0, 2)),
            ("offset:>2.5 AND offset:<1e400", EVERYTHING, Interval(3, EVERYTHING.last), EVERYTHING),
            ("offset:2.5", EVERYTHING, Interval(3, 2), EVERYTHING),
            ("_id:IN [0:5 2:3]", EVERYTHING, Interval(3, 5), Interval(0, 2)),
            ("offset:5 OR error", EVERYTHING, EVERYTHING, EVERYTHING),
            ("NOT offset:5", EVERYTHING, EVERYTHING, EVERYTHING),
            ("took:>5", EVERYTHING, EVERYTHING, EVERYTHING),
        ):
            self.assertEqual(bounds(parse(text), NOW), (timestamps, offsets, partitions), text)
        for text in ("offset:5 AND offset:6", "NOT *", "timestamp:>now AND timestamp:<now-1d", "offset:{5 TO 6}"):
            self.assertTrue(bounds(parse(text), NOW).empty, text)
        self.assertFalse(bounds(parse("(offset:5 AND offset:6) OR offset:9"), NOW).empty)
        for text in ("offset:x", "partition:[a TO b]", "timestamp:tomorrow"):
            self.assertRaises(q.QueryError, bounds, parse(text), NOW)

    def test_literals(self):
        mapping = parse_mapping({"properties": {"status": {"type": "long"}, "when": {"type": "date"}}})
        for text, patterns in {
            "error": [rb"error"],
            "disk OR kill": [rb"d(?:i|\xc4\xb0)s(?:k|\xe2\x84\xaa)", rb"(?:k|\xe2\x84\xaa)(?:i|\xc4\xb0)ll"],
            '"a connection reset"': [rb"connect(?:i|\xc4\xb0)on"],
            "error AND NOT b": [rb"error"],
            "ab AND connect": [rb"connect"],
            "level:error": [rb"\\", rb"error"],
            "level:>b": [rb"\\", rb"level"],
            "status:500": [rb"500", rb"[0-9][eE]", rb"\\"],
            "status:5": [rb"\\", rb"status"],
            "when:2026-01-01": [rb"\\", rb"when"],
            "day:2026-01-01": [rb"\\", rb"day"],
            "key:order-*": [rb"order\x2d"],
            "*a*": None,
            "a": None,
            "NOT error": None,
            "error OR a": None,
            "*": None,
            "+error b": [rb"error"],
            "/timeout.{1,20}db/": [rb"t(?:i|\xc4\xb0)meout"],
            "/less/i": [rb"le(?:s|\xc5\xbf)(?:s|\xc5\xbf)"],
            "/(ab|cd)e/": [rb"ab", rb"cd"],
            "été": [rb"(?:\xc3\xa9|\xc3\x89)t(?:\xc3\xa9|\xc3\x89)"],
            "a.b.c:x": None,
        }.items():
            got = literals(parse(text), mapping)
            wanted = (
                None
                if patterns is None
                else {re.sub(rb"[\xc3\xc4\xc5\xe2\x84\xaa\xa9\x89\xb0\xbf]", self.escape, p) for p in patterns}
            )
            self.assertEqual(None if got is None else set(got), wanted, text)
        self.assertIsNone(literals(q.any_term("value", [f"word{n}" for n in range(100)]), NO_MAPPING))
        self.assertIsNone(literals(q.Term("n", str(Decimal("1e9000"))), NO_MAPPING))

    def escape(self, match):
        return b"\\x%02x" % match.group()[0]
