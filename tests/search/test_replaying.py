"""The past of a tail against plain matching: page by page, in order, each hit once, in blocks or not in any yet."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.search import rows
from chronik.search.document import Document
from chronik.search.match import Scope, compile_query
from chronik.search.messages import SearchedPart
from chronik.search.query import QueryError
from chronik.search.query_string import parse
from chronik.search.replaying import replay
from chronik.search.tail_messages import Replay
from chronik.wire.records import Codec
from tests.search.test_partition_index import SCANNER, Indexed
from tests.search.test_tailing import QUERIES, TOPIC_ID, values


class ReplayTests(SynchronousTestCase):
    def setUp(self):
        self.now = 0.0

    def clock(self):
        self.now += 0.001
        return self.now

    def replay(self, indexed, query, start, upper, between=lambda: None, **limits):
        """One request about all partitions: (answer, hits by partition)."""
        engine = SimpleNamespace(
            index_of=lambda partition: indexed.get(partition.partition) and indexed[partition.partition].index,
            scanner=SCANNER,
        )
        parts = tuple(SearchedPart("t", TOPIC_ID, number, start[number], upper[number]) for number in start)
        limits = {"max_hits": 10**6, "max_bytes": 10**9, "seconds": 10**6} | limits
        steps = replay(engine, Replay(query=parse(query), parts=parts, now_ms=0, **limits), self.clock)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                answer = end.value
                break
            between()
        hits = {}
        for hit in answer.hits:
            content = json.loads(hit.json)
            self.assertEqual(content["offset"], hit.offset)
            hits.setdefault(content["partition"], []).append(hit.offset)
        return answer, hits

    def truth(self, each, number, query, start, upper):
        fits = compile_query(parse(query), Scope("t", number, 0))
        return [
            offset
            for offset, record in sorted(each.records().items())
            if start <= offset < upper
            and fits(Document(offset, record.timestamp, record.key, record.value, record.headers))
        ]

    def made(self, chance, batches):
        each = Indexed()
        for _ in range(batches):
            each.append(values(chance, 20), chance.choice([Codec.NONE, Codec.LZ4]))
        each.follow()
        for _ in range(chance.randrange(60)):
            each.index.step()
        return each

    def test_signatures_leave_out_what_cannot_have_it(self):
        each = Indexed()
        for number in range(300):
            each.append([b"word%d %d" % (number, index) for index in range(400)])
        each.settle()
        decoded = []
        unpack = rows.decode
        self.patch(rows, "decode", lambda stored: decoded.append(stored) or unpack(stored))
        _, hits = self.replay({0: each}, "word7", {0: 0}, {0: 120_000})
        self.assertEqual(hits, {0: list(range(2800, 3200))})
        self.assertLess(len(decoded), 10)
        answer, hits = self.replay({0: each}, "word7", {0: 2900}, {0: 2910})
        self.assertEqual((hits, answer.reached), ({0: list(range(2900, 2910))}, (2910,)))

    def test_it_says_how_far_it_came(self):
        each = Indexed()
        each.append([b"error"] * 10)
        each.settle()
        answer, hits = self.replay({0: each}, "error", {0: 2}, {0: 8}, max_hits=3)
        self.assertEqual((hits, answer.reached), ({0: [2, 3, 4]}, (5,)))
        answer, hits = self.replay({0: each}, "error", {0: 5}, {0: 8}, max_hits=3)
        self.assertEqual((hits, answer.reached), ({0: [5, 6, 7]}, (8,)))
        answer, hits = self.replay({0: each}, "error", {0: 2}, {0: 8}, max_bytes=10)
        self.assertEqual((hits, answer.reached), ({0: [2]}, (3,)))
        answer, _ = self.replay({0: each}, "error", {0: 8}, {0: 100})
        self.assertEqual(answer.reached, (10,))

    def test_it_ends_when_its_time_is_over_and_has_come_further(self):
        each = Indexed()
        for _ in range(50):
            each.append([b"warn"] * 10)
        each.follow()
        at, asked = 0, 0
        while at < 500:
            answer, _ = self.replay({0: each}, "error", {0: at}, {0: 500}, seconds=0.003)
            self.assertGreater(answer.reached[0], at)
            at, asked = answer.reached[0], asked + 1
        self.assertGreater(asked, 5)

    def test_what_is_unknown_or_damaged_is_said_and_the_rest_is_told(self):
        good, bad = Indexed(), Indexed()
        for each in (good, bad):
            each.append([b"error"] * 3)
            each.append([b"error"] * 3)
            each.follow()
        log = next(content for path, content in bad.disk._files.items() if path.endswith(".log"))
        log[-5] ^= 1
        answer, hits = self.replay({0: bad, 2: good}, "error", {0: 0, 1: 0, 2: 0}, {0: 6, 1: 6, 2: 6})
        self.assertEqual(hits, {0: [0, 1, 2], 2: [0, 1, 2, 3, 4, 5]})
        self.assertEqual((answer.unknown, answer.reached), ((1,), (3, 0, 6)))
        ((part, why),) = answer.failures
        self.assertEqual(part, 0)
        self.assertIn("CRC", why)

    def test_a_query_that_does_not_fit_is_refused(self):
        each = Indexed()
        each.append([b"x"])
        each.follow()
        with self.assertRaises(QueryError):
            self.replay({0: each}, "timestamp:never", {0: 0}, {0: 1})

    @given(st.integers(0, 2**32))
    @settings(max_examples=40, deadline=None)
    def test_page_by_page_whatever_happens_meanwhile(self, seed):
        """Between any two steps the index goes on, tails are dropped, files and groups are replaced, and the log grows."""
        chance = random.Random(seed)
        indexed = {number: self.made(chance, chance.randrange(1, 40)) for number in range(chance.randrange(1, 3))}
        query = chance.choice(QUERIES)
        start = {number: chance.randrange(each.log.end_offset) for number, each in indexed.items()}
        upper = {number: each.log.end_offset for number, each in indexed.items()}
        truth = {
            number: self.truth(each, number, query, start[number], upper[number]) for number, each in indexed.items()
        }

        def between():
            each, act = indexed[chance.choice(list(indexed))], chance.random()
            if act < 0.4:
                each.index.step()
            elif act < 0.5:
                each.index.drop_tail()
            elif act < 0.6:
                each.append([b"error 12"] * 5)
                each.follow()
            elif act < 0.7:
                each.log.generation += 1
                each.follow()
            elif act < 0.75 and each.index.groups:
                each.index.distrust(chance.choice(each.index.groups), ValueError("the test says so"))

        limits = {"max_hits": chance.choice([1, 7, 10**6]), "seconds": chance.choice([0.002, 0.05, 10**6])}
        told = {number: [] for number in indexed}
        at = dict(start)
        for _ in range(100_000):
            answer, hits = self.replay(indexed, query, at, upper, between, **limits)
            for number, offsets in hits.items():
                told[number] += offsets
            self.assertEqual((answer.unknown, answer.failures), ((), ()))
            at = dict(zip(at, answer.reached, strict=True))
            if at == upper:
                break
        self.assertEqual(told, truth)
