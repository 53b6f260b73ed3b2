"""The benchmarks' corpus is what it says: its sizes and kinds, the same from every seed, queries that hit."""

from __future__ import annotations

import json
import re

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import corpus
from chronik.wire.records import Codec, decode_records, read_header

COUNT = 20_000


class CorpusTests(SynchronousTestCase):
    def test_sizes_and_kinds(self):
        made = list(corpus.messages(COUNT))
        self.assertEqual(len(made), COUNT)
        mean = sum(len(message.value) for message in made) / COUNT
        self.assertTrue(abs(mean - corpus.MEAN_BYTES) < 1, mean)
        events = [message for message in made if message.key is not None]
        access = [message for message in made if not message.value.startswith(b"{")]
        for kind in (access, events):
            self.assertTrue(abs(len(kind) / COUNT - 0.3) < 0.01, len(kind))
        for message in made:
            if message.value.startswith(b"{"):
                parsed = json.loads(message.value)
                self.assertEqual("event" in parsed, message.key is not None)
        line = re.compile(
            rb'10\.\d+\.\d+\.\d+ - - \[27/Nov/2026:[^]]+\] "[A-Z]+ \S+ HTTP/1\.1" \d{3} \d+ "\S+" "[^"]+" web-\d+ rt=\S+ id=\S+'
        )
        self.assertTrue(all(line.fullmatch(message.value) for message in access))
        self.assertTrue(any(b'\\"' in message.value for message in made))
        self.assertFalse(all(message.value.isascii() for message in made))

    def test_a_part_is_the_same_by_itself(self):
        whole = list(corpus.messages(3500, seed=9))
        self.assertEqual(whole, list(corpus.messages(3500, seed=9)))
        self.assertEqual(whole[2000:3000], corpus.block(2, seed=9))
        self.assertNotEqual(corpus.block(2, seed=9), corpus.block(2, seed=10))
        times = [message.timestamp for message in whole]
        self.assertEqual(times, sorted(times))
        self.assertEqual(times[-1] - times[0], 349)

    def test_batches(self):
        batch = corpus.batch(3, base_offset=77)
        header = read_header(batch)
        self.assertEqual((header.codec, header.record_count, header.base_offset), (Codec.LZ4, corpus.BLOCK, 77))
        records = list(decode_records(batch, 1 << 20))
        self.assertEqual([(r.timestamp, r.key, r.value) for r in records], [tuple(m) for m in corpus.block(3)])

    def test_queries_hit_as_often_as_they_should(self):
        hits = corpus.count(COUNT)
        shares = {
            "rare term": (1, 1),
            "error": (0.015 * COUNT, 0.03 * COUNT),
            "and of three": (1, 30),
            "time range and term": (0, 0),  # two seconds in, and 10,000 messages a second
            "phrase": (0.003 * COUNT, 0.01 * COUNT),
            "regex with a literal": (0.003 * COUNT, 0.01 * COUNT),
            "regex without a literal": (0.01 * COUNT, 0.1 * COUNT),
        }
        self.assertEqual(set(hits), set(shares))
        for name, (fewest, most) in shares.items():
            self.assertTrue(fewest <= hits[name] <= most, (name, hits[name]))
        later = next(query for query in corpus.QUERIES if query.name == "time range and term")
        self.assertGreater(sum(map(later.matches, corpus.block(50))), 0)
        self.assertEqual(sum(map(later.matches, corpus.block(95))), 0)

    def test_what_queries_match(self):
        by_name = {query.name: query.matches for query in corpus.QUERIES}
        for name, value, expected in (
            ("error", b'{"level":"ERROR"}', True),
            ("error", b"errors", False),
            ("and of three", b"payments: error, timeout", True),
            ("and of three", b"payments: error", False),
            ("phrase", b"connection-reset", True),
            ("phrase", b"reset connection", False),
            ("phrase", b"connection was reset", False),
            ("regex with a literal", b"timeout of the db", True),
            ("regex with a literal", b"timeoutdb", False),
            ("regex without a literal", b"in 12345 ms", True),
            ("regex without a literal", b"in 1234 ms", False),
        ):
            self.assertEqual(by_name[name](corpus.Message(0, None, value)), expected, (name, value))
