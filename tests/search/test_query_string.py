"""The query string: what it means, that what is described reads back, and where errors are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.search import query as q
from chronik.search.describe import describe
from chronik.search.query_string import parse
from tests.search.queries import ANY_QUERY

MEANINGS = [
    # text, what it is under OR, the same under AND where that is another
    ("a", "value:a", None),
    ("a b", "value:a OR value:b", "value:a AND value:b"),
    ("a b AND c", "value:a OR (value:b AND value:c)", "value:a AND value:b AND value:c"),
    ("a b OR c", "value:a OR value:b OR value:c", "(value:a AND value:b) OR value:c"),
    ("a AND b OR c AND d", "(value:a AND value:b) OR (value:c AND value:d)", None),
    ("a && b || !c", "(value:a AND value:b) OR (NOT value:c)", None),
    ("NOT a AND b", "(NOT value:a) AND value:b", None),
    ("NOT (a OR b)", "NOT (value:a OR value:b)", None),
    ("NOT NOT a", "value:a", None),
    ("a NOT b", "value:a AND (NOT value:b)", None),
    ("a -b", "value:a AND (NOT value:b)", None),
    ("NOT b a", "value:a AND (NOT value:b)", "(NOT value:b) AND value:a"),
    ("a OR NOT b", "value:a OR (NOT value:b)", None),
    ("NOT a OR b", "(NOT value:a) OR value:b", None),
    (
        "a b NOT c OR d",
        "value:a OR value:b OR (NOT value:c) OR value:d",
        "(value:a AND value:b AND (NOT value:c)) OR value:d",
    ),
    ("-a -b", "(NOT value:a) AND (NOT value:b)", None),
    ("+a b -c", "value:a AND (value:b)~0 AND (NOT value:c)", "value:a AND value:b AND (NOT value:c)"),
    ("+a +b", "value:a AND value:b", None),
    ("(a b c)~2", "(value:a OR value:b OR value:c)~2", None),
    ("(a b)~2", "value:a AND value:b", None),
    ("(a b OR c -d)~2", "(value:a OR value:b OR value:c)~2 AND (NOT value:d)", None),
    ("(a AND b c)~1", "(value:a AND value:b) OR value:c", "value:a AND value:b AND value:c"),
    ("(a)~5", "NOT *", None),
    (
        "and or not to",
        "value:and OR value:or OR value:not OR value:to",
        "value:and AND value:or AND value:not AND value:to",
    ),
    (
        "ANDROID ORDER NOTHING",
        "value:ANDROID OR value:ORDER OR value:NOTHING",
        "value:ANDROID AND value:ORDER AND value:NOTHING",
    ),
    ('NOT"a b"', 'NOT value:"a b"', None),
    ("level:(error OR warn)", "level:error OR level:warn", None),
    ("level:(error host:x)", "level:error OR host:x", "level:error AND host:x"),
    ("level: error", "level:error", None),
    ('"connection reset"', 'value:"connection reset"', None),
    ('msg:"a b"~2', 'msg:"a b"~2', None),
    ('"timed ou"*', 'value:"timed ou"*', None),
    (r'"a \"b\" \\ c"', r'value:"a \"b\" \\ c"', None),
    ("path:/health", 'path:"/health"', None),
    ("path:/health path:/", 'path:"/health" OR path:"/"', 'path:"/health" AND path:"/"'),
    (
        "path:/api/v1 /time.{1,20}db/",
        'path:"/api/v1" OR value:/time.{1,20}db/',
        'path:"/api/v1" AND value:/time.{1,20}db/',
    ),
    ("/a b:c/", "value:/a b:c/", None),
    (r"/a\/b/", r"value:/a\/b/", None),
    ("/A/i", "value:/(?i)A/", None),
    ("user.id:42", "user.id:42", None),
    ("took:>250", 'took:{"250" TO *]', None),
    ("took:<=-2.5", 'took:[* TO "-2.5"]', None),
    ("took:[1 TO 5}", 'took:["1" TO "5"}', None),
    ('took:{* TO "a b"]', 'took:[* TO "a b"]', None),
    ("took:[* TO *]", "took:*", None),
    ("timestamp:>=2026-01-01T10:00:00Z", 'timestamp:["2026-01-01T10:00:00Z" TO *]', None),
    ("timestamp:[now-1h/d TO now]", 'timestamp:["now-1h/d" TO "now"]', None),
    ("key:order-*", r"key:order\-*", None),
    ("path:/api/*", r"path:\/api\/*", None),
    ("a**b?", "value:a*b?", None),
    (r"a\*b", r'value:"a*b"', None),
    (r"a\*b*", r"value:a\*b*", None),
    ("_exists_:user.id", "user.id:*", None),
    ("user.id:*", "user.id:*", None),
    ("*", "*", None),
    ("*:*", "*", None),
    ("level:IN [error warn]", 'level:IN ["error" "warn"]', None),
    ("level:IN", 'level:"IN"', None),
    ("_id:3:1234", "_id:IN [3:1234]", None),
    ('_id:"3:1234"', "_id:IN [3:1234]", None),
    ("_id:IN [3:2 3:1]", "_id:IN [3:1 3:2]", None),
    ("a^2 (b c)^0.5", "(value:a)^2.0 OR ((value:b OR value:c))^0.5", "(value:a)^2.0 AND ((value:b AND value:c))^0.5"),
    (r"user\:name:x", r"user\:name:x", None),
    ("a:b:c", 'a:"b:c"', None),
    (r"\AND", 'value:"AND"', None),
]

ERRORS = [
    ("", 0, "empty"),
    ("  ", 0, "empty"),
    ("()", 0, "empty"),
    ("(a", 0, "nothing closes the parenthesis"),
    ("a (b (c) d", 2, "nothing closes the parenthesis"),
    ("a) b", 1, "none opens"),
    ("a AND", 5, "missing"),
    ("AND a", 0, "nothing stands before AND"),
    ("|| a", 0, "nothing stands before ||"),
    ("a OR AND b", 8, "missing"),
    ("a AND AND b", 9, "missing"),
    ("NOT", 3, "missing"),
    ("a - b", 2, "nothing follows the -"),
    ('"a b', 0, "quotes"),
    ("f:[1 TO 2", 2, "nothing closes the range"),
    ("f:[1 2]", 4, "TO"),
    ("f:[ TO 2]", 6, "TO"),
    ("f:IN [a", 5, "nothing closes the set"),
    ("f:IN []", 5, "empty"),
    ("f:", 2, "nothing follows f:"),
    ("(f:)", 3, "nothing follows f:"),
    ("f:>", 3, "missing"),
    ("a~", 1, "fuzzy"),
    ("a~1 b", 1, "fuzzy"),
    ("init()", 4, "quotes"),
    ("a[0]", 1, "quotes"),
    ("a]", 1, "unexpected ]"),
    ("a{b", 1, "quotes"),
    ("a^b", 1, "unexpected ^"),
    ("a^1e999", 1, "boost"),
    ("meta.*:x", 0, "wildcards"),
    ("b *:x", 2, "wildcards"),
    ("_id:x", 0, "no _id"),
    ("a _id:IN [3:1 3-2]", 2, "no _id"),
    ("_id:3:99999999999999999999", 0, "no _id"),
    ("\\", 0, "backslash"),
    ('a"b"', 1, 'unexpected "'),
    ("a \ud800", 2, "surrogate"),
]


class QueryStringTests(SynchronousTestCase):
    def test_meanings(self):
        for text, under_or, under_and in MEANINGS:
            self.assertEqual(describe(parse(text)), under_or, text)
            self.assertEqual(describe(parse(text, default_operator="AND")), under_and or under_or, text)

    def test_errors_say_where_and_why(self):
        for text, position, reason in ERRORS:
            error = self.assertRaises(q.QueryError, parse, text)
            self.assertEqual((error.position, reason in error.reason), (position, True), f"{text!r}: {error}")

    @given(ANY_QUERY)
    def test_what_is_described_reads_back(self, query):
        for operator in ("OR", "AND"):
            self.assertEqual(parse(describe(query), default_operator=operator), query, describe(query))

    @given(st.text('ab:*?"\\/()[]{}~^+-!&|<>= \tANDORTIN_id01.', max_size=30))
    def test_whatever_is_written_means_something_or_is_refused(self, text):
        try:
            query = parse(text)
        except q.QueryError as error:
            self.assertTrue(0 <= error.position <= len(text))
        else:
            self.assertEqual(parse(describe(query)), query, describe(query))

    @given(ANY_QUERY)
    def test_queries_travel(self, query):
        self.assertEqual(q.decode(q.encode(query)), query)

    def test_what_is_no_query_is_refused(self):
        for data in (b"", b"\xc0", b"\x81\xa4type\xa1x", b"\x82" * 5000):
            self.assertRaises(q.QueryError, q.decode, data)

    def test_several_fields(self):
        query = parse("a b:c >5 /x/", fields=(("value", 1.0), ("key", 2.0)))
        self.assertEqual(
            describe(query),
            'value:a OR (key:a)^2.0 OR b:c OR value:{"5" TO *] OR (key:{"5" TO *])^2.0 OR value:/x/ OR (key:/x/)^2.0',
        )

    def test_too_large(self):
        limits = q.Limits(query_bytes=1000, clauses=10, depth=4, text_bytes=50, terms=5)
        for text, reason in (
            ("a" * 1001, "1001 bytes"),
            ("a " * 11, "more than 10 clauses"),
            ("(" * 5 + "a" + ")" * 5, "deeper than 4"),
            ("é" * 26, "52 bytes"),
            ("a:IN [1 2 3 4 5 6]", "6 values"),
            ("a" * 51 + ":b", "51 bytes"),
        ):
            error = self.assertRaises(q.QueryError, parse, text, limits=limits)
            self.assertIn(reason, str(error))
        parse("(((a b))) " + "c " * 4, limits=limits)

    def test_hostile_texts_end_soon(self):
        for text in (
            "(" * 14_000,
            '"' + "\\" * 14_001,
            "NOT " * 4_000 + "a",
            "/" * 14_000,
            "a:" * 8_000,
            "+" * 14_000,
            "\\" * 14_001,
        ):
            try:
                parse(text)
            except q.QueryError:
                continue

    def test_errors_name_the_place(self):
        self.assertEqual(str(q.QueryError("no", 3)), "no at position 3")
        self.assertEqual(str(q.QueryError("no", path="query.bool.must[1]")), "query.bool.must[1]: no")


class ConstructorTests(SynchronousTestCase):
    def test_one_form_for_one_meaning(self):
        a, b, c = (q.Term("f", text) for text in "abc")
        self.assertEqual(q.all_of([]), q.ALL)
        self.assertEqual(q.all_of([a]), a)
        self.assertEqual(q.all_of([a, q.ALL, q.all_of([b, c])]), q.And((a, b, c)))
        self.assertEqual(q.all_of([a, q.NOTHING]), q.NOTHING)
        self.assertEqual(q.any_of([]), q.NOTHING)
        self.assertEqual(q.any_of([a, q.any_of([b, c]), q.NOTHING]), q.Or((a, b, c)))
        self.assertEqual(q.any_of([a, b], 2), q.And((a, b)))
        self.assertEqual(q.any_of([a, b], 3), q.NOTHING)
        self.assertEqual(q.any_of([q.any_of([a, b]), b, c], 2), q.Or((q.Or((a, b)), b, c), 2))
        self.assertEqual(q.any_of([a], 0), q.Or((a,), 0))
        self.assertEqual(q.negated(q.negated(a)), a)
        self.assertEqual(q.boosted(q.boosted(a, 2.0), 0.5), a)
        self.assertEqual(q.wildcard("f", "***"), q.Exists("f"))
        self.assertEqual(q.wildcard("f", "a**\\b\\*\\"), q.Wildcard("f", "a*b\\*\\\\"))
        self.assertEqual(q.regexp("f", ""), q.Exists("f"))
        self.assertRaises(q.QueryError, q.regexp, "f", "a\\")
        self.assertEqual(q.regexp("f", "a\\/b "), q.Regexp("f", "a/b\\ "))
        self.assertEqual(q.between("f", None, None), q.Exists("f"))
        self.assertEqual(q.between("f", "1", None, False, False), q.Range("f", "1", None, False, True))

    def test_queries_are_walked_in_their_order(self):
        query = parse("a (b NOT c)^2 d")
        self.assertEqual([one.text for one in q.walk(query) if isinstance(one, q.Term)], ["a", "b", "c", "d"])
