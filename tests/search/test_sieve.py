"""Many queries in one pass: every query that a record is a hit of is among the candidates, and few others are."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.search.document import Document
from chronik.search.literals import all_literals, cost, literals
from chronik.search.mapping import NO_MAPPING
from chronik.search.match import Scope, compile_query
from chronik.search.query import QueryError
from chronik.search.query_string import parse
from chronik.search.sieve import Sieve
from tests.search.records import NOW, aimed, documents, mappings, queries


def raw(document):
    """The bytes of a record, about as a batch has them: what stands between is never a word's beginning."""
    parts = [document.key or b"", document.value or b""]
    for name, content in document.headers:
        parts += [name.encode(), content or b""]
    return b"\x07".join([b"", *parts])


def record(value, key=None):
    return Document(0, 0, key, value)


class SieveTests(SynchronousTestCase):
    def sieve(self, *texts):
        sieve = Sieve()
        for number, text in enumerate(texts):
            sieve.add(number, all_literals(parse(text), NO_MAPPING))
        return sieve

    def candidates(self, sieve, document):
        data = raw(document)
        found = set(sieve.candidates(sieve.found(data), document))
        if found:
            self.assertTrue(sieve.lets_through(b"before" + data + b"after"))
        return found

    def of(self, sieve, value):
        return sieve.candidates(sieve.found(value), record(value))

    def test_each_query_by_its_own_words(self):
        sieve = self.sieve("timeout", '"connection reset"', "error OR warn", "level:error")
        for value, expected in (
            (b"nothing of it", set()),
            (b"a TIMEOUT", {0}),
            (b"connection lost", set()),
            (b"reset, then a connection", {1}),
            (b"Warn and timeout", {0, 2}),
            (b'{"level":"error"}', {2, 3}),
        ):
            self.assertEqual(self.candidates(sieve, record(value)), expected, value)
        self.assertFalse(sieve.lets_through(b"nothing of it"))

    def test_what_is_written_with_escapes_and_exponents_is_found_and_the_rest_is_not(self):
        sieve = self.sieve("level:error", "took:2500", "msg:timeout", "plain", "user:x\\\\y", "took:2.5e3")
        for value, expected in (
            (rb'{"level":"err\u006fr"}', {0}),
            (rb'{"l\u0065vel":"error"}', {0}),
            (rb'{"msg":"a \"quoted\" text","level":"info"}', set()),
            (rb'{"msg":"\"timeout\""}', {2}),
            (b'{"took":2.5e3}', {1, 5}),
            (b'{"took":-2.5E+3}', {1, 5}),
            (b'{"took":[1e3]}', set()),
            (b"took=2500", {1, 5}),
            (b'{"took":"2.5e3"}', {5}),
            (b"took=2.5e3", {5}),
            (rb'msg="tim\u0065out"', {2}),
            (rb"\plain", {3}),
            (rb'{"user":"x\\y"}', {4}),
            (b'{"id":"550e8400-e29b-41d4"}', set()),
        ):
            self.assertEqual(self.candidates(sieve, record(value)), expected, value)

    def test_queries_come_and_go(self):
        sieve = Sieve()
        self.assertFalse(sieve.lets_through(b"word7"))
        for number in range(300):
            sieve.add(number, all_literals(parse(f"word{number}x"), NO_MAPPING))
            self.assertEqual(self.of(sieve, b"word%dx" % number), [number])
            self.assertEqual(self.of(sieve, b"word%dx" % (number // 2)), [number // 2])
        for number in range(0, 300, 2):
            sieve.discard(number)
        self.assertEqual(len(sieve), 150)
        self.assertEqual(self.of(sieve, b"word100x word101x"), [101])
        self.assertFalse(sieve.lets_through(b"word100x"))
        sieve.add(100, all_literals(parse("word100x OR other"), NO_MAPPING))
        self.assertEqual(self.of(sieve, b"word100x"), [100])
        self.assertEqual(self.of(sieve, b"other"), [100])
        sieve.discard(100)
        sieve.discard(100)
        self.assertEqual(self.of(sieve, b"word100x other word299x"), [299])
        sieve.discard(299)
        for number in range(1, 299, 2):
            sieve.discard(number)
        self.assertEqual((len(sieve), sieve._users, sieve._anchored, sieve._otherwise), (0, {}, {}, 0))

    def test_so_many_patterns_that_they_are_compiled_in_parts(self):
        sieve = Sieve()
        for number in range(300):
            sieve.add(number, [[b"word%dx%dx" % (number, each) for each in range(30)]])
            if number % 7 == 0:
                found = self.of(sieve, b"word%dx3x word%dx4x" % (number, number // 2))
                self.assertEqual(set(found), {number, number // 2})
        for number in range(100):
            sieve.discard(number)
        sieve.add(0, [[b"%dwordx" % each for each in range(14_000)]])
        self.check_parts(sieve, 2)
        for number in range(300):
            found = self.of(sieve, b"word%dx29x %dwordx" % (number, number))
            self.assertEqual(set(found), {0} if number < 100 else {0, number})

    def test_letters_of_several_forms_cost_more(self):
        sieve = self.sieve(*(f"чрезвычайно{number}длинноеслово" for number in range(300)))
        self.check_parts(sieve, 2)
        for number in range(0, 300, 7):
            self.assertIn(number, self.of(sieve, f"ЧРЕЗВЫЧАЙНО{number}ДЛИННОЕСЛОВО".encode()))

    def check_parts(self, sieve, least):
        """All is compiled, in steps, in so many databases at least of which none is too large."""
        steps = 0
        while not sieve.is_compiled:
            sieve.compile_some()
            steps += 1
        self.assertGreaterEqual(steps, least)
        known = [pattern for database in sieve._databases for pattern in database.known]
        self.assertEqual(len(known), len(set(known)))
        self.assertLessEqual(set(sieve._users), set(known))
        self.assertLessEqual(max(sum(map(cost, database.known)) for database in sieve._databases), 12_000)
        self.assertLess(len(known), 2 * len(sieve._users))

    def test_a_word_that_many_queries_have_tells_little(self):
        """Each is looked for by what it has alone; all that it wants has to be there."""
        sieve = self.sieve(*(f'"connection u{number}x"' for number in range(100)), "connection")
        self.assertEqual(self.candidates(sieve, record(b"connection u17x")), {17, 100})
        self.assertEqual(self.candidates(sieve, record(b"u17x u18x")), set())
        anchors = [sieve._wanted[number].anchor for number in range(100)]
        self.assertGreater(len(set(anchors)), 95)

    def test_one_pattern_of_several_queries(self):
        sieve = self.sieve("error", "error", "value:error", "key:error")
        self.assertEqual(self.candidates(sieve, record(b"an error")), {0, 1, 2, 3})
        sieve.discard(1)
        self.assertEqual(self.candidates(sieve, record(b"an error")), {0, 2, 3})

    def test_a_short_literal_at_the_very_end_of_few_bytes(self):
        sieve = self.sieve("headers.h:/aa/", f"value:*bbb{'x' * 45}*", "value:*cd*")
        for size in range(50):
            self.assertEqual(sieve.found(b"." * size + b"aa"), {b"aa"}, size)

    @given(st.lists(queries, min_size=1, max_size=6), st.lists(documents, min_size=1, max_size=4), mappings)
    @settings(max_examples=200, deadline=None)
    def test_no_hit_is_lost(self, asked, records, mapping):
        self.hold(asked, records, mapping)

    @given(st.lists(aimed(), min_size=1, max_size=3), mappings)
    @settings(max_examples=300, deadline=None)
    def test_no_hit_is_lost_of_queries_that_find_something(self, pairs, mapping):
        self.hold([query for query, _ in pairs], [each for _, records in pairs for each in records], mapping)

    def hold(self, asked, records, mapping):
        sieve, matchers = Sieve(), {}
        for number, query in enumerate(asked):
            sets = all_literals(query, mapping)
            self.assertEqual(bool(sets), literals(query, mapping) is not None)
            try:
                matcher = compile_query(query, Scope("events", 1, NOW, mapping))
            except QueryError:
                continue
            if sets:
                sieve.add(number, sets)
                matchers[number] = matcher
        for document in records:
            hits = {number for number, matcher in matchers.items() if matcher(document)}
            if hits:
                self.assertLessEqual(hits, self.candidates(sieve, document))
