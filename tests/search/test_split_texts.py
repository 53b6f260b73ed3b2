"""What is in a split, and what it is asked: the tokens of the signatures; and proposals that lose no hit, or are exact."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.native.signed import signed_tokens
from chronik.native.tokens import tokens
from chronik.search.mapping import NO_MAPPING
from chronik.search.match import QueryError, Scope, compile_query
from chronik.search.query import And, AnyTerm, Not, Or, Range, Term, Wildcard
from chronik.search.query_string import parse
from chronik.search.splits.proposals import EVERYTHING, Anywhere, Every, Proposal, Words, fits, proposal
from chronik.search.splits.texts import other_text, text_of, word_of
from tests.search.records import NOW, aimed, documents, mappings, queries

SCOPE = Scope("events", 1, NOW, NO_MAPPING)


def words_of(document):
    named = [(name.encode(), content) for name, content in document.headers]
    value = text_of(document.value or b"").split()
    return value, frozenset(other_text(document.key, document.value, named).split())


class TextTests(SynchronousTestCase):
    @given(documents)
    @settings(max_examples=400, deadline=None)
    def test_the_words_are_the_tokens_that_are_signed(self, document):
        value, other = words_of(document)
        self.assertEqual(value, [token.decode() for token in tokens(document.value or b"")])
        named = [(name.encode(), content) for name, content in document.headers]
        signed = signed_tokens(document.key, document.value, named)
        self.assertEqual({*value, *other}, {word_of(token) for token in signed})

    def test_runs_that_are_too_long_are_cut(self):
        for text in (b"x" * 255, b"x" * 256, b"a " + b"Y" * 600 + b" b", b"x" * 254 + b"-" + b"z" * 300):
            self.assertEqual(text_of(text).split(), [token.decode() for token in tokens(text)])


class ProposalTests(SynchronousTestCase):
    def check(self, query, records, mapping=NO_MAPPING):
        scope = Scope("events", 1, NOW, mapping)
        try:
            matcher = compile_query(query, scope)
        except QueryError:
            return
        asked = proposal(query, scope)
        for document in records:
            if asked.tree is None:
                self.assertFalse(asked.exact)
                return
            proposed = fits(asked.tree, *words_of(document), document.timestamp, document.offset)
            hit = matcher(document)
            if hit or asked.exact:
                self.assertEqual(proposed, hit, (query, asked, document.value))

    @given(queries, st.lists(documents, max_size=8), mappings)
    @settings(max_examples=1500, deadline=None)
    def test_no_hit_is_lost_and_what_is_exact_is_so(self, query, records, mapping):
        self.check(query, records, mapping)

    @given(aimed(), mappings)
    @settings(max_examples=800, deadline=None)
    def test_also_where_the_query_is_aimed_at_a_record(self, pair, mapping):
        query, records = pair
        self.check(query, records, mapping)
        self.check(Not(query), records, mapping)

    def test_what_is_exact(self):
        for text in (
            "error", '"connection reset"', "error AND reset", "error OR reset", "error AND NOT reset", "*", "value:IN [a b]",
            "timestamp:>now-1h AND error", "offset:[3 TO 5} AND error", "partition:1 AND error", "topic:events error^3",
            "-error", "timestamp:2026-01-01", "offset:7", "error^2", "timestamp:IN [2025-12 2026-01-01]",
        ):  # fmt: skip
            self.assertTrue(proposal(parse(text), SCOPE).exact, text)
        for text in (
            "level:error",
            '"a b"~2',
            "err*",
            "/err/",
            "value.keyword:error",
            "key:error",
            "took:>5",
            "_id:1:3",
            "(a b c)~2",
        ):
            self.assertFalse(proposal(parse(text), SCOPE).exact, text)

    def test_what_is_asked(self):
        def tree(query):
            return proposal(query, SCOPE).tree

        self.assertEqual(tree(Term("value", "Connection-Reset")), Words(("connection", "reset")))
        self.assertEqual(tree(And((Term("value", "a"), Wildcard("value", "b*")))), Every((Words(("a",)),)))
        self.assertIsNone(tree(Or((Term("value", "a"), Wildcard("value", "b*")))))
        self.assertIsNone(tree(Not(Term("level", "error"))))
        self.assertEqual(tree(Range("took", "5")), Anywhere("took"))
        self.assertIsNone(tree(Range("value", "5")))
        self.assertEqual(tree(Term("partition", "1")), EVERYTHING)
        many = AnyTerm("value", tuple(f"w{n}" for n in range(300)))
        self.assertEqual(proposal(many, SCOPE), Proposal(None, False))
