"""What is found and what is not, case by case, as docs/search.md has it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chronik.search.document import Document
from chronik.search.elastic import parse_query
from chronik.search.elastic_context import Context
from chronik.search.mapping import parse_mapping
from chronik.search.match import Scope, check_query, compile_query
from chronik.search.query import QueryError
from chronik.search.query_string import parse
from tests.search import oracle
from tests.search.records import DAY, NOW

MAPPING = parse_mapping(
    {
        "properties": {
            "text": {"type": "text"},
            "kw": {"type": "keyword"},
            "num": {"type": "double"},
            "when": {"type": "date"},
            "since": {"type": "date", "format": "epoch_second"},
            "ok": {"type": "boolean"},
        }
    }
)
LONG, LONGER = "x" * 255, "x" * 300

CASES = [
    # query, value, whether it is found
    # words
    ("error", "an Error, there", True),
    ("error", "errors terror", False),
    ("error", "", False),
    ("ÉTÉ", "un été", True),
    ("ete", "un été", False),
    ('"connection reset"', "Connection\n-- reset by", True),
    ('"connection reset"', "reset connection", False),
    ('"connection reset"', "connection was reset", False),
    ('"connection reset"', "connection reset", True),
    ('"a b a"', "a b b a b a", True),
    ("a-b", "x a_b y", True),
    ("a-b", "a x b", False),
    ('"a c"~1', "a b c", True),
    ('"a c"~1', "a b b c", False),
    ('"c a"~2', "a c", True),
    ('"c a"~1', "a c", False),
    ('"a a"~3', "a b", False),
    ('"a a"~1', "a b a", True),
    ('"a b c"~2', "b a c", True),
    ('"timed ou"*', "it timed out", True),
    ('"timed ou"*', "it timed in", False),
    ('"timed"*', "timeddd", True),
    ('"err err"*~2', "err x error", True),
    ('"err err"*~2', "err x", False),
    (LONGER, LONGER, True),
    (LONGER, LONG, True),
    (LONG, LONGER, True),
    ("x" * 254, LONGER, False),
    (f'"{LONGER} b"', f"{LONGER} b", True),
    (f'"{LONG} b"', f"{LONG}yyy b", True),
    (f'"a {LONG}"', f"a {LONGER}", True),
    (f"{'x' * 200}*", LONGER, True),
    (f"*{'x' * 255}", LONGER, True),
    ("*yz", f"{LONG}yz", False),
    # wildcards
    ("err*", "an ERROR", True),
    ("err*", "terror", False),
    ("*rr?r", "terror", True),
    ("*rr?r", "errors", False),
    ("e*r", "e r", False),
    ("value:an*there", "an there", False),
    ("value:an*\\ there", "AN Error, There", True),
    ("value:n\\ *", "an error", False),
    ("kw:Ab*", '{"kw":"Abc d"}', True),
    ("kw:ab*", '{"kw":"Abc d"}', False),
    ("path:/api/*", '{"path":"/API/x"}', True),
    ("path:/api/*", '{"path":"/v1/api/x"}', False),
    ("n:25*", '{"n":2.5e2}', True),
    ("n:2?0", '{"n":250}', True),
    ("n:*5", '{"n":250}', False),
    ("n:250.*", '{"n":250.50}', True),
    # regular expressions
    ("/an.*there/", "an\nerror there", True),
    ("/AN/", "an", False),
    ("/AN/i", "an", True),
    ("/^error$/", "an error", False),
    ("n:/^25/", '{"n":2.5e2}', True),
    ("kw:/b/", '{"kw":"abc"}', True),
    # numbers
    ("n:250", '{"n":250.0}', True),
    ("n:250", '{"n":2.5e2}', True),
    ("n:250", '{"n":[1,"x 250 y"]}', True),
    ("n:250", '{"n":"250.0"}', True),
    ("n:250.0", '{"n":"250"}', False),
    ("n:250", '{"n":2500}', False),
    ("n:9007199254740993", '{"n":9007199254740992}', False),
    ("n:9007199254740993", '{"n":9007199254740993.0}', True),
    ("n:250", "n=250", True),
    ("n:>249", "n=250", True),
    ("n:>250", '{"n":250.0000000000000000001}', True),
    ("n:>250", '{"n":250}', False),
    ("n:[250 TO 251}", '{"n":251}', False),
    ("n:>5", '{"n":"7"}', True),
    ("n:>5", '{"n":"07"}', False),
    ("n:>5", '{"n":"x"}', False),
    ("n:>5", '{"n":true}', False),
    ("num:250.0", '{"num":"250"}', True),
    ("num:250", '{"num":"x 250"}', False),
    ("text:250", '{"text":250.5}', True),
    ("text:250", '{"text":2505}', False),
    ("kw:250", '{"kw":250.0}', False),
    ("kw:250", '{"kw":250}', True),
    ("kw:250", '{"kw":2.5e2}', True),
    # booleans
    ("b:true", '{"b":true}', True),
    ("b:TRUE", '{"b":true}', True),
    ("b:true", '{"b":"not true"}', True),
    ("b:false", '{"b":true}', False),
    ("ok:true", '{"ok":"true"}', True),
    ("ok:true", '{"ok":"not true"}', False),
    # exact
    ("s.keyword:Ab", '{"s":"Ab"}', True),
    ("s.keyword:ab", '{"s":"Ab"}', False),
    ("s.keyword:Ab", '{"s":"Ab c"}', False),
    ('s.keyword:"a\\"b"', '{"s":"a\\"b"}', True),
    ('s.keyword:"é"', '{"s":"\\u00e9"}', True),
    ("s:IN [a 7]", '{"s":7}', True),
    ('s:IN [x "b c"]', '{"s":"a b c"}', True),
    ('s:IN [x "b c"]', '{"s":"b a c"}', False),
    ("kw:IN [A b]", '{"kw":"A"}', True),
    ("kw:IN [A b]", '{"kw":"a"}', False),
    # dates
    ("d:2026-01-01", '{"d":"2026-01-01T23:59:59.999Z"}', True),
    ("d:2026-01-01", '{"d":"2026-01-02T00:00:00Z"}', False),
    ("d:2026-01-01", '{"d":"from 2026-01-01 on"}', True),
    ("d:2026-01-01", '{"d":1767268800000}', True),
    ('d:"2026-01-01"*', '{"d":"2026-01-01T23:59:59.999Z"}', True),
    ("d:1234-56", '{"d":"1234-56"}', True),
    ("d:[1234-56 TO 1234-60]", '{"d":"1234-57"}', True),
    ("d:IN [x 2026-01-01]", '{"d":"2026-01-01T23:59:59.999Z"}', True),
    ("d:IN [x 2026-01-01]", '{"d":"2026-01-02"}', False),
    ("d:now", '{"d":"2026-01-01T12:00:00Z"}', False),
    ("text:2026-01-01", '{"text":"2026-01-01T23:59:59.999Z"}', False),
    ("when:2026-01-01", '{"when":"2026-01-01T23:59:59.999Z"}', True),
    ("when:2026-01-01", '{"when":"2026-01-02"}', False),
    ("when:>2026-01-01", '{"when":"2026-01-01T12:00:00Z"}', False),
    ("when:>2026-01-01", '{"when":"2026-01-02"}', True),
    ("when:>=2026-01-01", '{"when":"2026-01-01"}', True),
    ("when:<=2026-01-01", '{"when":"2026-01-01T12:00:00Z"}', True),
    ("when:<2026-01-01", '{"when":"2025-12-31T23:59:59.999Z"}', True),
    ("when:<2026-01-01", '{"when":"2026-01-01"}', False),
    ("when:>now", '{"when":1767268800001}', True),
    ("since:1767268800", '{"since":1767268800}', True),
    ("since:>=now", '{"since":1767268800}', True),
    ("since:>now", '{"since":1767268800.5}', True),
    ("d:>2026-01-01", '{"d":"2026-03-01T00:00+02:00"}', True),
    ("d:>2026-01-01", '{"d":"later"}', False),
    ("d:[2026 TO 2027]", '{"d":2026}', True),
    ("d:[a TO c]", '{"d":"b"}', True),
    ("d:[a TO c]", '{"d":"cc"}', False),
    ("d:[a TO c}", '{"d":"c"}', False),
    # fields
    ("a.b:x", '{"a":{"b":"x"}}', True),
    ("a.b:x", '{"a.b":"x"}', True),
    ("a.b:x", '{"a":[{"b":["y",["x"]]}]}', True),
    ("a.b:x", '{"a":{"b":{"c":"x"}}}', False),
    ("a.b.c:x", '{"a.b":{"c":"x"}}', True),
    ("a:x", '[{"a":"x"}]', True),
    ("A:x", '{"a":"x"}', False),
    ("value.timestamp:x", '{"timestamp":"x"}', True),
    ("value.a:x", '{"a":"x"}', True),
    ("a:x", '{"a":"\\u0078"}', True),
    ("a:x", '{"\\u0061":"x"}', True),
    ("a:x", '{"a":"y","a":"x"}', True),
    ("a:y", '{"a":"y","a":"x"}', False),
    ("a:x", '{"a":"x",}', False),
    ("a:x", "text a=x, more", True),
    ("a:x", "text (a=x}", True),
    ("a.keyword:x", "text (a=x}", True),
    ('a.keyword:"x y"', 'a="x y"', True),
    ("a:*", '{"a":null}', False),
    ("a:*", '{"a":[]}', False),
    ("a:*", '{"a":[{}]}', False),
    ("a:*", '{"a":{"b":0}}', True),
    ("a:*", '{"a.b":0}', True),
    ("a:*", '{"ab":0}', False),
    ("NOT a:x", '{"b":1}', True),
    ("key:order-*", "", True),
    ("key:order", "", True),
    ("key.keyword:order-17", "", True),
    ("key:17", "", True),
    ("key:>5", "", False),
    ("headers.h:one", "", True),
    ("headers.h:two", "", True),
    ("headers.h:three", "", False),
    ("headers:three", "", True),
    ("headers.n:*", "", False),
    ("offset:5", "", True),
    ("offset:>5", "", False),
    ("partition:3 topic:x", "", True),
    ("topic:events", "", True),
    ("topic:event", "", False),
    ("_id:3:5", "", True),
    ("_id:4:5", "", False),
    ("timestamp:2026-01-01", "", True),
    ("timestamp:>now", "", False),
    # compounds
    ("(a b c)~2", "c b", True),
    ("(a b c)~2", "c", False),
    ("+a b", "a", True),
    ("+a b", "b", False),
    ("a -b", "a b", False),
    ("(a b c)~0", "x", True),
]


class HitTests(SynchronousTestCase):
    def test_cases(self):
        scope = Scope("events", 3, NOW, MAPPING)
        for text, value, found in CASES:
            query = parse(text)
            record = Document(
                5, NOW, b"order-17", value.encode(), [("h", b"One"), ("h", b"two"), ("o", b"three"), ("n", None)]
            )
            self.assertEqual(compile_query(query, scope)(record), found, f"{text[:60]} in {value[:60]}")
            if "d:>" not in text:
                self.assertEqual(oracle.matches(query, record, MAPPING, "events", 3), found, f"the oracle: {text[:60]}")

    def test_what_is_not_there(self):
        scope = Scope("events", 3, NOW, MAPPING)
        nothing = Document(5, -1, None, None)
        for text in (
            "value:*",
            "key:*",
            "headers:*",
            "timestamp:*",
            "timestamp:>0",
            "a:*",
            "/^/",
            "value:/x*/",
            "key:a*",
            "a:<5",
            "error",
        ):
            self.assertFalse(compile_query(parse(text), scope)(nothing), text)
        for text in ("*", "offset:*", "partition:*", "topic:*", "NOT value:*", "NOT timestamp:<now"):
            self.assertTrue(compile_query(parse(text), scope)(nothing), text)

    def test_bytes_that_are_not_utf8(self):
        scope = Scope("events", 3, NOW)
        record = Document(0, 0, b"\xffkey\xff", b"a\xffb caf\xc3", [("h", b"\xff")])
        for text, found in (
            ('"a b"', True),
            ("caf", True),
            ("value:a?b*", False),
            ("value:a?b\\ *", True),
            ("/a.b/", True),
            ("key:?key?", False),
            ("key.keyword:*key*", True),
            ("key:key", True),
            ("headers.h:/^.$/", True),
            ("headers.h.keyword:\ufffd", True),
        ):
            self.assertEqual(compile_query(parse(text), scope)(record), found, text)

    def test_what_does_not_fit_a_field_is_refused(self):
        for text in (
            "num:x",
            "when:x",
            "ok:5",
            "when:2026*",
            "ok:/x/",
            "ok:>1",
            "offset:x",
            "timestamp:x",
            "partition:[1 TO x]",
            "a:/(/",
            '"a b"~1001',
            'num:"1"*',
            "since:>soon",
            "num:IN [1 x]",
        ):
            self.assertRaises(QueryError, check_query, parse(text), Scope("events", 3, NOW, MAPPING))
        self.assertRaises(QueryError, check_query, parse(f'"{"w " * 65}"~1'), Scope("events", 3, NOW, MAPPING))

    def test_cost_orders_clauses(self):
        """What needs the value parsed is asked last: here it would take the record's JSON for nothing."""
        record = Document(5, NOW, b"k", b'{"a":1}')
        for text in ("a:1 AND offset:6", "a:/x/ AND key:z", "a:* AND timestamp:<now-1d", "a:1 AND absent"):
            self.assertFalse(compile_query(parse(text), Scope("events", 3, NOW))(record))
            self.assertIsNone(record._tree, text)

    def test_both_languages_find_the_same(self):
        records = [
            Document(n, NOW - n * DAY, f"k-{n}".encode(), b'{"n":%d,"s":"word%d Two"}' % (n, n % 3)) for n in range(12)
        ]
        scope = Scope("events", 3, NOW)
        for text, body in (
            ("n:5", {"term": {"n": 5}}),
            ("s:word1", {"match": {"s": "Word1"}}),
            ('s:"word1 two"', {"match_phrase": {"s": "word1 two"}}),
            ("n:[3 TO 5}", {"range": {"n": {"gte": 3, "lt": 5}}}),
            ("key:k-1*", {"prefix": {"key": "k-1"}}),
            ("s:two AND NOT n:7", {"bool": {"must": {"match": {"s": "two"}}, "must_not": {"term": {"n": 7}}}}),
            ("timestamp:>=now-3d/d", {"range": {"timestamp": {"gte": "now-3d/d"}}}),
            ("_id:IN [3:1 3:2]", {"ids": {"values": ["3:1", "3:2"]}}),
        ):
            first = compile_query(parse(text), scope)
            second = compile_query(parse_query(body, Context(NOW)), scope)
            found = [record.offset for record in records if first(record)]
            self.assertEqual(found, [record.offset for record in records if second(record)], text)
            self.assertTrue(0 < len(found) < 12, text)
