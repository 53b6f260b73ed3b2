"""Whatever is asked, in whatever state a topic and its index are: what is found is what is there.

Every form of the query language (`forms`), as a query string and as JSON, is put to random worlds (`worlds`), through the
reading of requests and the whole engine, by every tier; a plain look at every record, in Python, says what is right. A bounded
slice runs always. `CHRONIK_TRUTH=20000` asks so many queries of random worlds, and a tenth of them of the whole of loghub.
"""

from __future__ import annotations

import os
from functools import lru_cache
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from benchmarks import corpus
from chronik.search import query as q
from chronik.search.mapping import NO_MAPPING, parse_mapping
from chronik.search.signatures import OpenGroup, WrittenGroup
from chronik.wire.records import Codec
from tests.search.loghub import loghub
from tests.search.records import NOW, documents
from tests.search.truth import forms, values
from tests.search.truth.forms import Form, Makers
from tests.search.truth.judge import Seen, judge, true_hits
from tests.search.truth.planting import planted
from tests.search.truth.worlds import World, Written, random_world

WHOLE = int(os.environ.get("CHRONIK_TRUTH", "0"))
QUERIES = WHOLE or 80
WORLDS = max(8, WHOLE // 100)
A_WORLD = 4
"""Queries that are asked of a world at a time."""

MAPPINGS = [
    NO_MAPPING,
    NO_MAPPING,
    *(
        parse_mapping({"properties": properties})
        for properties in (
            {"a": {"type": "keyword"}, "level": {"type": "text"}, "key": {"type": "keyword"}},
            {"a": {"type": "long"}, "user": {"properties": {"id": {"type": "double"}}}, "headers.h": {"type": "long"}},
            {"a": {"type": "date"}, "msg": {"type": "boolean"}, "level": {"type": "date", "format": "epoch_second"}},
        )
    ),
]


@lru_cache(8)
def world_of(seed: int) -> World:
    """A random world, which no test changes."""
    return random_world(seed, values.written, MAPPINGS[seed % len(MAPPINGS)])


def filled(batches: list[list[Written]], partitions: int, unindexed: int) -> World:
    """A world of these batches in turn, the last of them not indexed; one batch in twenty in a transaction."""
    chance, world = Random(4), World(partitions)
    for number, batch in enumerate(batches):
        partition = world.partitions[number % partitions]
        if number == len(batches) - unindexed:
            world.follow()
            world.index(1_000_000)
        if chance.random() < 0.05:
            partition.end(partition.transact([batch]), commit=chance.random() < 0.5)
        else:
            partition.append(batch, chance.choice(list(Codec)))
    world.partitions[0].delete_records(70)
    world.partitions[-1].transact([batches[0]])
    world.follow()
    return world


@lru_cache(1)
def loghub_world() -> World:
    """All of loghub: blocks in files and in memory, and a tail."""
    lines: list[Written] = [(NOW - 30_000_000 + line.timestamp, None, line.value, ()) for line in loghub()]
    return filled([lines[at : at + 40] for at in range(0, len(lines), 40)], 1, 12)


@lru_cache(1)
def corpus_world() -> World:
    """A second of the benchmarks' corpus in one partition, the same."""
    messages: list[Written] = [(*message, ()) for message in corpus.messages(10_000)]
    return filled([messages[at : at + 12] for at in range(0, len(messages), 12)], 1, 12)


def examples(queries: int) -> settings:
    """For so many queries."""
    return settings(max_examples=max(1, queries // A_WORLD))


class TruthTests(SynchronousTestCase):
    """Hits are the same as by a plain look at every record."""

    def test_random_worlds(self) -> None:
        seen = Seen()

        @given(st.integers(0, WORLDS - 1), st.integers(0, 2**32))
        @examples(QUERIES)
        def hold(seed: int, chances: int) -> None:
            world, chance = world_of(seed), Random(chances)
            makers = Makers(chance, world.truth(), world.mapping)
            for _ in range(A_WORLD):
                judge(world, makers.form(), seen)

        hold()
        signed, tail = seen.costs["signatures"], seen.costs["tail"]
        self.assertGreater(signed.pruned_by_signatures, 0)
        self.assertGreater(signed.scanned_blocks, 0)
        self.assertGreater(min(signed.tail_bytes, tail.tail_bytes), 0)
        self.assertEqual((tail.blocks, tail.scanned_blocks), (0, 0))
        self.assertGreater(signed.filtered_batches, 0)
        self.assertGreater(seen.found, seen.queries / 4)
        self.assertLess(seen.refused, seen.queries / 2)

    @given(st.lists(documents, min_size=1, max_size=6), st.integers(0, 2**32))
    @settings(max_examples=max(10, QUERIES // 8))
    def test_awkward_records(self, awkward, chances) -> None:
        """Records that hypothesis makes, among others so that they are in blocks; queries aimed at them."""
        chance = Random(chances)
        world = World(1, chance.choice(MAPPINGS))
        partition = world.partitions[0]
        for record in awkward:
            partition.append([(record.timestamp, record.key, record.value, record.headers)], chance.choice(list(Codec)))
            partition.append([values.written(chance) for _ in range(chance.choice([1, 40]))])
        world.follow()
        world.index(chance.choice([2, 1000]))
        aimed_at = {record.value for record in awkward}
        makers = Makers(chance, [each for each in world.truth() if each[1].value in aimed_at], world.mapping)
        for _ in range(A_WORLD):
            judge(world, makers.form(1), Seen())

    def test_loghub(self) -> None:
        world, seen = loghub_world(), Seen()

        @given(st.integers(0, 2**32))
        @settings(max_examples=max(5, WHOLE // 10))
        def hold(chances: int) -> None:
            judge(world, Makers(Random(chances), world.truth(), world.mapping).form(1), seen)

        hold()
        if seen.queries >= 50:  # of fewer none may have found anything
            self.assertGreater(seen.found, 0)

    def test_the_benchmarks_queries(self) -> None:
        """Those of `benchmarks.corpus`, whose meaning is said there once more."""
        world, seen = corpus_world(), Seen()
        for query in corpus.QUERIES:
            form = Form(query.text, None, lambda record, _, query=query: query.matches(_message(record)))
            judge(world, form, seen)
        self.assertGreaterEqual(seen.found, len(corpus.QUERIES) - 1)  # the time range lies before these messages end


class ExerciseTests(SynchronousTestCase):
    """That all of the machinery had a part in it."""

    def test_what_worlds_are(self) -> None:
        """Blocks in memory, tails, starts that moved; records that were aborted, undecided, compacted away."""
        found = set()
        for seed in range(8):
            world = world_of(seed)
            for partition, index in zip(world.partitions, world.indexes(), strict=True):
                offsets = partition.counting()
                state = index.state
                marks = {
                    "blocks": state.blocks > 2,
                    "a tail": state.indexed_to < state.stable,
                    "all of a tail read": state.indexed_to < state.read_to == state.stable,
                    "given up": partition.log.start_offset > 0,
                    "undecided": partition.stable < partition.log.end_offset,
                    "gaps": len(offsets) < state.stable - state.start,
                    "segments": len(world.disk.list(partition.log.directory)) > 4,
                    "compacted": partition.log.config.compacted and partition.log.first_dirty > 0,
                    "expired": partition.log.config.retention_bytes > 0 and partition.log.start_offset > 0,
                }
                found |= {name for name, holds in marks.items() if holds}
        missing = marks.keys() - found
        self.assertEqual(missing, set())

    def test_explain_proves_it(self) -> None:
        """Bounds and signatures prune, of groups in files and in memory; hits are in all of these, and in the tail."""
        world = corpus_world()
        (index,) = world.indexes()
        kinds = [type(group) for group in index.groups]
        self.assertEqual(kinds, [WrittenGroup, OpenGroup])
        edge, tail = int(index.groups[1].table["first"][0]), index.indexed_to
        for text, means, of_each in (
            ("error", q.Term("value", "error"), ("scanned_blocks", "tails", "tail_bytes", "filtered_batches")),
            (
                "session AND stock",
                q.And((q.Term("value", "session"), q.Term("value", "stock"))),
                ("pruned_by_signatures",),
            ),
            ("offset:[100 TO 9995]", q.Range("offset", "100", "9995"), ("pruned_by_bounds", "scanned_blocks", "tails")),
            ("/order_[pc]/", q.Regexp("value", "order_[pc]"), ("scanned_blocks", "tails")),
        ):
            seen = Seen()
            form = Form(text, None, forms.asks(means))
            judge(world, form, seen)
            costs = seen.costs["signatures"]
            for name in of_each:
                self.assertGreater(getattr(costs, name), 0, (text, name))
            if "offset" not in text:
                offsets = sorted(offset for _, offset in _hits(world, form))
                self.assertLess(offsets[0], edge, text)
                self.assertTrue(any(edge <= offset < tail for offset in offsets), text)
                self.assertGreaterEqual(offsets[-1], tail, text)

    def test_a_cleared_bit_is_found_out(self) -> None:
        """The look at every record notices a signature that hides a word, in memory and in a file."""
        chance, world = Random(5), corpus_world()
        for turn in range(6):
            with planted(world, chance, written=bool(turn % 2)) as hidden:
                form = Form(hidden.word, None, forms.asks(q.Term("value", hidden.word)))
                with self.assertRaisesRegex(AssertionError, "by signatures misses"):
                    judge(world, form, Seen())
        judge(world, form, Seen())


def _message(record):
    return corpus.Message(record.timestamp, record.key, record.value)


def _hits(world: World, form: Form) -> set[tuple[int, int]]:
    found = true_hits(world, form)
    assert found is not None
    return found
