"""Scans find what a look at every record finds: whatever is in blocks, in tails, too old, aborted, or given up."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.native.signed import signed_tokens
from chronik.search.document import Document
from chronik.search.match import Scope, compile_query
from chronik.search.patterns import Patterns
from chronik.search.query_string import parse
from chronik.search.required import AnyOf
from chronik.search.scan import EARLIEST, LATEST, Limits, Part, Scan
from chronik.wire.records import Codec
from tests.search.test_partition_index import SCANNER, Indexed

ALWAYS = Limits()
WORDS = [b"error", b"warn", b"Reset", b"connection", b"user42", b"\xff\xfe", "Größe".encode(), b"a-b"]


def clock():
    clock.now += 0.001
    return clock.now


clock.now = 0.0


def run(scan, wanted=lambda first, last: True):
    hits, pauses = [], 0
    for _ in scan.run(lambda part, document: hits.append((part, document.offset)), wanted):
        pauses += 1
    return hits, pauses


class ScanTests(SynchronousTestCase):
    def scan(self, indexed, query, requirement=None, literals=None, limits=ALWAYS, newest_first=True):
        parts = []
        for number, each in enumerate(indexed):
            start, upper, _ = each.index.files.bounds
            fits = compile_query(parse(query), Scope("t", number, 0))
            parts.append(Part(each.index, start, upper, fits, requirement, literals))
        return Scan(parts, limits, SCANNER, clock, newest_first)

    def truth(self, indexed, query, limits=ALWAYS):
        found = set()
        for number, each in enumerate(indexed):
            fits = compile_query(parse(query), Scope("t", number, 0))
            for offset, record in each.records().items():
                document = Document(offset, record.timestamp, record.key, record.value, record.headers)
                if fits(document) and limits.first_timestamp <= record.timestamp <= limits.last_timestamp:
                    found.add((number, offset))
        return found

    def make(self, chance, batches=60):
        indexed = Indexed()
        for number in range(batches):
            values = [
                b" ".join(chance.choices(WORDS, k=chance.randrange(1, 8))) + b" %d" % chance.randrange(500)
                for _ in range(20)
            ]
            indexed.append(
                values, chance.choice([Codec.NONE, Codec.LZ4]), timestamp=1000 + number * 1500 + chance.randrange(5000)
            )
        indexed.follow()
        for _ in range(chance.randrange(30)):
            indexed.index.step()
        return indexed

    def test_pruning_changes_nothing_but_the_costs(self):
        chance = random.Random(7)
        indexed = [self.make(chance), self.make(chance)]
        for each in indexed:
            each.settle()
        token = b"413"
        for query, requirement, literals in (
            ("413", token, None),
            ("413", None, Patterns([token])),
            ("413 OR 412", AnyOf((token, b"412")), Patterns([b"413", b"412"])),
        ):
            plain, pruned = self.scan(indexed, query), self.scan(indexed, query, requirement, literals)
            expected = self.truth(indexed, query)
            self.assertTrue(expected)
            for scan in (plain, pruned):
                hits, _ = run(scan)
                self.assertEqual(sorted(hits), sorted(expected))
            self.assertLess(pruned.costs.records, plain.costs.records / 2)
            if requirement is not None:
                self.assertGreater(pruned.costs.pruned_by_signatures, 0)
                self.assertLess(pruned.costs.scanned_blocks, plain.costs.scanned_blocks)

    def test_times_prune_and_decide(self):
        chance = random.Random(3)
        indexed = [self.make(chance)]
        limits = Limits(20_000, 30_000)
        scan = self.scan(indexed, "error", limits=limits)
        self.assertEqual(set(run(scan)[0]), self.truth(indexed, "error", limits))
        self.assertGreater(scan.costs.pruned_by_bounds, 0)

    def test_order_of_blocks_lets_it_stop(self):
        chance = random.Random(5)
        indexed = [self.make(chance)]
        indexed[0].settle()
        for newest_first in (True, False):
            seen = []

            def wanted(first, last, seen=seen, sign=1 if newest_first else -1):
                seen.append(last if sign > 0 else -first)
                return len(seen) < 5

            scan = self.scan(indexed, "error", newest_first=newest_first)
            run(scan, wanted)
            self.assertEqual(seen, sorted(seen, reverse=True))
            self.assertLess(scan.costs.scanned_blocks + scan.costs.tails, 6)

    def test_a_damaged_group_is_searched_by_its_log(self):
        indexed = Indexed()
        for number in range(300):
            indexed.append([b"word%d %d" % (number, index) for index in range(400)])
        indexed.settle()
        (path,) = [p for p in indexed.disk._files if p.endswith(".signatures")]
        content = indexed.disk._files[path]
        for at in range(len(content) // 2, len(content)):
            content[at] ^= 0xFF
        scan = self.scan([indexed], "word17", b"word17")
        self.assertEqual(set(run(scan)[0]), {(0, 17 * 400 + n) for n in range(400)})
        self.assertIn("made anew", indexed.lines[-1])
        indexed.settle()
        scan = self.scan([indexed], "word17", b"word17")
        self.assertEqual(len(run(scan)[0]), 400)
        self.assertLess(scan.costs.scanned_blocks, 10)

    def test_a_part_that_cannot_be_read_is_told_and_the_others_answer(self):
        good, bad = Indexed(), Indexed()
        for each in (good, bad):
            each.append([b"error"] * 3)
            each.follow()
        next(iter(bad.disk._files.values()))[80] ^= 1
        scan = self.scan([bad, good], "error")
        self.assertEqual({part for part, _ in run(scan)[0]}, {1})
        self.assertEqual(list(scan.failures), [0])
        self.assertIn("CRC", scan.failures[0])

    @given(st.integers(0, 2**32))
    @settings(max_examples=25, deadline=None)
    def test_whatever_is_where_and_whatever_happens_meanwhile(self, seed):
        """Between any two steps of a scan the index goes on, tails are dropped, and files are replaced."""
        chance = random.Random(seed)
        indexed = [self.make(chance, chance.randrange(1, 40)) for _ in range(chance.randrange(1, 3))]
        word = chance.choice(["error", "reset", "größe", "413", "17", "a"])
        low, high = sorted(chance.choices([EARLIEST, LATEST, *range(1000, 100_000, 9000)], k=2))
        limits = Limits(low, high)
        expected = self.truth(indexed, word, limits)
        token = word.encode()
        requirement = chance.choice([None, token])
        literals = Patterns([token]) if word.isascii() and chance.random() < 0.5 else None
        scan = self.scan(indexed, word, requirement, literals, limits, chance.random() < 0.5)
        hits = []
        for _ in scan.run(lambda part, document: hits.append((part, document.offset)), lambda first, last: True):
            each = chance.choice(indexed)
            act = chance.random()
            if act < 0.5:
                each.index.step()
            elif act < 0.6:
                each.index.drop_tail()
            elif act < 0.7:
                each.append([b"error 413 17 a"] * 5)
                each.follow()
            elif act < 0.8:
                each.log.generation += 1
                each.follow()
            elif act < 0.85:
                each.index.rebuild()
        self.assertEqual(len(hits), len(set(hits)))
        self.assertEqual(set(hits), expected)
        self.assertEqual(scan.failures, {})

    def test_tokens_are_those_of_the_signatures(self):
        self.assertIn("größe".encode(), signed_tokens(None, "GRÖSSE größe".encode(), ()))
