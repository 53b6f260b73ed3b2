"""Pruning never loses a hit: what matches has the tokens that are required."""

from __future__ import annotations

import re2
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.native.signed import signed_tokens
from chronik.search import query as q
from chronik.search.document import Document
from chronik.search.mapping import NO_MAPPING, parse_mapping
from chronik.search.match import Scope, compile_query
from chronik.search.query_string import parse
from chronik.search.regexp_parts import pieces
from chronik.search.required import IMPOSSIBLE, NUMBER_MARKER, AllOf, AnyOf, is_met, requirement
from tests.search.records import NOW, aimed, documents, mappings, queries
from tests.search.regexps import expressions


class RequirementTests(SynchronousTestCase):
    @given(aimed(), mappings)
    def test_hits_of_a_clause_hold_it(self, aimed, mapping):
        self.hold(*aimed, mapping)

    @given(st.lists(aimed(), min_size=1, max_size=3), st.integers(0, 3), queries, mappings)
    def test_hits_of_trees_hold_it(self, several, minimum, query, mapping):
        records = [record for _, found in several for record in found]
        clauses = [query for query, _ in several]
        self.hold(q.any_of([*clauses, query], minimum), records, mapping)
        self.hold(q.all_of([q.any_of(clauses), q.negated(query)]), records, mapping)

    @given(queries, st.lists(documents, max_size=5), mappings)
    def test_hits_of_any_query_hold_it(self, query, records, mapping):
        self.hold(query, records, mapping)

    @given(st.lists(expressions(), min_size=1, max_size=2), st.sampled_from(["value", "a", "key"]))
    def test_hits_of_regular_expressions_hold_it(self, several, field):
        for pattern, _ in several:
            for _, text in several:
                value = f"a={text}" if field == "a" else text
                record = Document(0, 0, text.encode(), value.encode())
                self.hold(q.regexp(field, pattern), [record], NO_MAPPING)

    def hold(self, query, records, mapping):
        try:
            matches = compile_query(query, Scope("events", 1, NOW, mapping))
        except q.QueryError:
            return
        need = requirement(query, mapping)
        for record in records:
            if matches(record):
                signed = signed_tokens(
                    record.key, record.value, [(name.encode(), value) for name, value in record.headers]
                )
                self.assertTrue(is_met(need, signed), f"{query} {need} {record.value!r} {record.key!r}")

    def test_what_is_required(self):
        types = {"status": {"type": "long"}, "host": {"type": "keyword"}, "note": {"type": "text"}}
        mapping = parse_mapping({"properties": types})
        for text, need in {
            "error": b"error",
            '"Connection reset"': AllOf((b"connection", b"reset")),
            '"connection res"*': b"connection",
            "a b": AnyOf((b"a", b"b")),
            "a AND (b OR c)": AllOf((b"a", AnyOf((b"b", b"c")))),
            "(a b c)~2": AnyOf((b"a", b"b", b"c")),
            "+a b": b"a",
            "a NOT b": b"a",
            "NOT b": None,
            "a OR NOT b": None,
            "*": None,
            "NOT *": IMPOSSIBLE,
            "user.id:alice": AllOf((b"alice", b"user", b"id")),
            "user.id:42": AllOf((AnyOf((b"42", NUMBER_MARKER)), b"user", b"id")),
            "user.id:2.50": AllOf((AnyOf((AllOf((b"2", b"50")), b"2", NUMBER_MARKER)), b"user", b"id")),
            "status:500.0": AllOf((AnyOf((b"500", NUMBER_MARKER)), b"status")),
            "host:a-1": AllOf((b"a", b"1", b"host")),
            "host.keyword:7": AllOf((AnyOf((b"7", NUMBER_MARKER)), b"host")),
            'note:"250 17"': AllOf((AnyOf((AllOf((b"250", b"17")), NUMBER_MARKER)), b"note")),
            "note:x": AllOf((b"x", b"note")),
            "b.keyword:x": AllOf((b"x", b"b")),
            "took:>5": b"took",
            "day:2026-01-01": b"day",
            "day:now": AllOf((b"now", b"day")),
            "_exists_:a.b": AllOf((b"a", b"b")),
            "key:order-*": b"order",
            "key:*-order-*": b"order",
            "key:*order-*": None,
            "err*": None,
            "path:/api/*/x": AllOf((b"api", b"x", b"path")),
            "headers.trace-id:x": AllOf((b"x", b"trace", b"id")),
            "timestamp:>now": None,
            "offset:5": None,
            "/timeout.{1,20}db/": None,
            "/ connection (reset|refused) by/": b"connection",
            "/^error: .* db$/": AllOf((b"error", b"db")),
            "/-(alpha|beta)-/": None,
            "/(-alpha-|-beta-)/": AnyOf((b"alpha", b"beta")),
            r"/ keep [a-z]+ off\ /i": AllOf((b"keep", b"off")),
            r"/ is\ /i": AnyOf((b"is", "i\u017f".encode())),
            r"/ v\d+\ /": None,
            r"a:/^2\.5$/": AllOf((AnyOf((AllOf((b"2", b"5")), NUMBER_MARKER)), b"a")),
            '"---"': IMPOSSIBLE,
        }.items():
            self.assertEqual(requirement(parse(text), mapping), need, text)

    def test_many_alternatives_are_no_requirement(self):
        self.assertEqual(requirement(q.any_term("a", map(str, range(1000))), NO_MAPPING), b"a")
        self.assertEqual(requirement(q.Term("value", "w " * 100), NO_MAPPING), b"w")
        self.assertEqual(len(requirement(q.Term("value", " ".join(map(str, range(100)))), NO_MAPPING).parts), 16)


class PieceTests(SynchronousTestCase):
    @given(expressions())
    def test_what_fits_has_the_pieces(self, expression):
        pattern, text = expression
        options = re2.Options()
        options.log_errors = False
        options.dot_nl = True
        try:
            fits = re2.compile(pattern, options).search(text)
        except re2.error:
            return
        if fits:
            self.assertTrue(self.has(text, pieces(pattern)), (pattern, text, pieces(pattern)))

    def has(self, text, part):
        if part is None:
            return True
        if hasattr(part, "text"):
            if part.folded:
                return re2.search("(?i)" + re2.escape(part.text), text) is not None
            return part.text in text
        found = [self.has(text, inner) for inner in part.parts]
        return any(found) if type(part).__name__ == "Either" else all(found)

    def test_what_is_not_understood_says_nothing(self):
        for pattern in (
            r"\Qa.b\E",
            r"\101",
            "(?x)a",
            r"a(?P=n)",
            "(" * 100 + "a" + ")" * 100,
            "a)",
            "[[:x]",
            "\\",
            "+",
            r"\é",
            r"\y",
        ):
            self.assertIsNone(pieces(pattern), pattern)
