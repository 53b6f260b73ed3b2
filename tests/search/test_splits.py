"""Splits: the same hits with and without them, whatever happens to the log and to their files; and counts that are taken."""

from __future__ import annotations

import os
import random
import tempfile
from itertools import pairwise

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.native.signed import signed_tokens
from chronik.search.match import QueryError
from chronik.search.messages import Rebuild
from chronik.search.query_string import parse
from chronik.search.scan import Part, Unit, _pieces_of
from chronik.search.splits import building
from chronik.search.splits.building import build
from chronik.search.splits.inverted import InvertedIndex, InvertedWriter, SplitError
from chronik.search.splits.manifest import MANIFEST, read_manifest
from chronik.search.splits.messages import SplitBuilt
from chronik.search.splits.planning import MAX_PROPOSED, Choice
from chronik.search.splits.proposals import Anywhere, Every, Offsets, Some, Times, Without, Words, fits
from chronik.search.splits.texts import other_text, text_of, word_of
from chronik.wire.records import Codec
from tests.log.batches import end
from tests.log.compacting import append_keyed, compact
from tests.search.records import NOW, aimed, documents, mappings, queries
from tests.search.splitting import PARTITION, SCANNER, TOPIC, Searched

leaves = st.one_of(
    st.lists(st.sampled_from(["a", "b", "error", "order", "17", "é"]), min_size=1, max_size=3).map(
        lambda w: Words(tuple(w))
    ),
    st.sampled_from(["a", "error", "h", "17", "#", "i"]).map(Anywhere),
    st.tuples(
        st.sampled_from([-(2**63), -1, 0, NOW - 1, NOW, NOW + 1, 2**63 - 1]), st.sampled_from([-1, NOW, 2**63 - 1])
    ).map(lambda pair: Times(*pair)),
    st.tuples(st.integers(-5, 40), st.sampled_from([-1, 0, 7, 25, 2**63 - 1])).map(lambda pair: Offsets(*pair)),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: Every(tuple(parts))),
        st.lists(inner, max_size=3).map(lambda parts: Some(tuple(parts))),
        inner.map(Without),
    ),
    max_leaves=6,
)


class InvertedTests(SynchronousTestCase):
    @given(st.lists(documents, min_size=1, max_size=12), st.lists(trees, min_size=1, max_size=12))
    @settings(max_examples=30, deadline=None)
    def test_tantivy_says_what_the_definition_says(self, records, asked):
        with tempfile.TemporaryDirectory(prefix="chronik-inverted-") as path:
            writer = InvertedWriter(path, 16 << 20)
            texts = []
            for offset, each in enumerate(records):
                named = [(name.encode(), content) for name, content in each.headers]
                texts.append((text_of(each.value or b""), other_text(each.key, each.value, named)))
                writer.add(offset, each.timestamp, *texts[-1])
            writer.finish()
            index = InvertedIndex(path)
            self.assertEqual(index.records, len(records))
            for tree in asked:
                expected = [
                    offset
                    for offset, (value, other) in enumerate(texts)
                    if fits(tree, value.split(), frozenset(other.split()), records[offset].timestamp, offset)
                ]
                self.assertEqual(index.count(tree), len(expected), tree)
                self.assertEqual(index.offsets(tree, 100).tolist(), expected, tree)
                self.assertEqual(index.offsets(tree, 2).tolist(), expected[-2:], tree)

    def test_what_is_no_index_is_an_error_of_ours(self):
        with tempfile.TemporaryDirectory(prefix="chronik-inverted-") as path:
            self.assertRaises(SplitError, InvertedIndex, path)
            self.assertRaises(SplitError, InvertedIndex, f"{path}/nothing")
            self.assertRaises(SplitError, InvertedWriter, f"{path}/nothing")


class SplitsTests(SynchronousTestCase):
    def make(self, **options):
        searched = Searched(**options)
        self.addCleanup(searched.close)
        return searched

    def filled(self, batches=40, **options):
        searched = self.make(**options)
        for number in range(batches):
            searched.append(
                [b"error %d of the day user%d" % (index, number) for index in range(10)], timestamp=NOW + number * 1000
            )
        searched.settle()
        return searched

    def check(self, searched, query, mapping=None):
        """With splits, without, and by a plain look: the same hits in the same order, and the same total."""
        options = {} if mapping is None else {"mapping": mapping}
        try:
            truth = searched.truth(query, **options)
        except QueryError:
            self.assertRaises(QueryError, searched.search, searched.full, query, **options)
            return None
        hits, plain = searched.search(searched.plain, query, **options)
        again, full = searched.search(searched.full, query, **options)
        self.assertEqual(sorted(hit.offset for hit in hits), truth, query)
        self.assertEqual([hit.offset for hit in again], [hit.offset for hit in hits], query)
        self.assertEqual([(hit.key, hit.value) for hit in again], [(hit.key, hit.value) for hit in hits])
        self.assertEqual((plain.total, full.total, full.exact), (len(truth), len(truth), True), query)
        none, counted = searched.search(searched.full, query, size=0, **options)
        self.assertEqual((none, counted.total, counted.exact), ([], len(truth), True), query)
        few, some = searched.search(searched.full, query, size=3, **options)
        self.assertEqual([hit.offset for hit in few], [hit.offset for hit in hits[:3]], query)
        self.assertEqual((some.total, some.exact), (len(truth), True), query)
        self.assertEqual((full.failures, counted.failures), ((), ()))
        return full.costs

    # -- what is made -------------------------------------------------------------------------------------------------

    def test_splits_follow_each_other_and_never_take_the_tail(self):
        searched = self.filled()
        row = [
            (split.manifest.first, split.manifest.following, split.manifest.records) for split in searched.splits.ready
        ]
        self.assertGreater(len(row), 3)
        self.assertEqual(row[0][0], 0)
        for (_, before, records), (after, _, _) in pairwise(row):
            self.assertEqual(before, after)
            self.assertGreaterEqual(records, searched.split_messages)
        self.assertLessEqual(row[-1][1], searched.full.index_of((TOPIC, PARTITION)).indexed_to)
        state = searched.splits.state
        self.assertEqual((state.splits, state.split_records), (len(row), sum(records for _, _, records in row)))
        self.assertEqual(state.split_bytes, sum(split.manifest.bytes for split in searched.splits.ready))
        self.assertEqual(searched.lines, [])

    def test_they_are_there_after_a_start(self):
        searched = self.filled()
        before = searched.paths()
        searched.start()
        searched.follow()
        self.assertEqual(searched.due(), ())  # they are verified first
        searched.settle()
        self.assertEqual(searched.paths(), before)
        self.assertEqual([split.path for split in searched.splits.ready], before)
        self.assertEqual(searched.lines, [])

    def test_a_topic_that_wants_none_any_more_has_none(self):
        searched = self.filled()
        searched.split_messages = 0
        searched.settle()
        self.assertEqual((searched.paths(), searched.splits.ready), ([], []))
        searched.split_messages = 40
        searched.settle()
        self.assertGreater(len(searched.paths()), 3)
        searched.split_messages = 0
        searched.start()
        searched.settle()
        self.assertEqual(searched.paths(), [])

    def test_an_index_that_is_to_be_made_anew_gets_new_splits_too(self):
        searched = self.filled(batches=12)
        before = len(searched.paths())
        searched.full.rebuild(Rebuild(((TOPIC, PARTITION),)))
        self.assertEqual((searched.paths(), searched.splits.ready), ([], []))
        self.check(searched, parse("error"))
        searched.settle()
        self.assertEqual(len(searched.splits.ready), before)
        self.check(searched, parse("error"))

    # -- planning -----------------------------------------------------------------------------------------------------

    def test_a_count_is_taken_without_a_look(self):
        searched = self.filled()
        for text in (
            "error",
            '"of the day"',
            "error AND NOT user7",
            "timestamp:>now AND error",
            "*",
            "offset:<300 user3",
        ):
            query = parse(text)
            costs = searched.search(searched.full, query, size=0)[1].costs
            plain = searched.search(searched.plain, query, size=0)[1]
            self.assertEqual(costs.splits, costs.splits_counted, text)
            self.assertGreater(costs.counted_hits, 0)
            self.assertLess(costs.records, 100, text)
            self.assertGreater(plain.costs.records, 250 if "user3" not in text else 1)
            self.check(searched, query)

    def test_hits_to_be_shown_are_looked_at_and_no_others(self):
        searched = self.filled()
        tail = 400 - searched.splits.ready[-1].manifest.following
        hits, found = searched.search(searched.full, parse("error"), size=tail + 5)
        self.assertEqual((len(hits), found.total, found.exact), (tail + 5, 400, True))
        self.assertLess(found.costs.records, 250)
        rare = searched.search(searched.full, parse("user3 AND level:x OR value:user3"))[1]
        self.assertEqual((rare.total, rare.costs.proposed_records), (10, 10))
        self.assertLessEqual(rare.costs.records, 10 + tail)

    def test_what_cannot_be_counted_is_proposed(self):
        searched = self.filled()
        costs = self.check(searched, parse('value.keyword:"error 3 of the day user17"'))
        self.assertEqual(costs.splits_counted, 0)
        self.assertEqual(costs.splits_proposing, 1)
        self.assertEqual(costs.proposed_records, 1)
        self.assertGreater(costs.pruned_by_splits, 2)

    def test_too_many_are_left_to_signatures(self):
        searched = self.make(split_messages=2 * MAX_PROPOSED, block_bytes=1 << 16)
        for _ in range(30):
            searched.append([b"error"] * 1000, Codec.LZ4)
        searched.settle()
        costs = self.check(searched, parse("error"))
        self.assertEqual((costs.splits, costs.splits_counted, costs.splits_too_wide), (1, 1, 1))
        hits, found = searched.search(searched.full, parse("error"), size=5)
        self.assertEqual((len(hits), found.total, found.exact), (5, 30_000, True))

    def test_a_part_of_a_split_is_asked_for_that_part(self):
        searched = self.filled()
        searched.log.advance_start(17)
        searched.follow()
        self.assertEqual(searched.splits.ready[0].manifest.first, 0)
        costs = self.check(searched, parse("error"))
        self.assertEqual(costs.splits, costs.splits_counted)

    def test_a_split_that_lies_is_noticed_by_these_tests(self):
        searched = self.make()
        for number in range(40):
            searched.append([b"error %d of the day user%d" % (index, number % 9) for index in range(10)])
        searched.follow()
        searched.steps()
        self.patch(building, "text_of", lambda data: text_of(data).replace("user3", ""))
        searched.build_due()
        self.check(searched, parse("user4"))
        self.assertRaises(self.failureException, self.check, searched, parse("user3"))
        self.assertRaises(self.failureException, self.check, searched, parse("user3 AND value.keyword:*day*"))

    def test_what_is_counted_is_not_looked_at_again_beside_it(self):
        """A block, or the tail, of which a part is in a split."""
        part = Part(None, 0, 100, None)
        nothing, some = np.array([], np.int64), np.array([41, 45], np.int64)
        for choice, expected in (
            (Choice(0, 50, nothing, True), [(50, 80, None, False)]),
            (Choice(0, 50, some, True), [(40, 50, [41, 45], True), (50, 80, None, False)]),
            (Choice(0, 50, None, True), [(40, 50, None, True), (50, 80, None, False)]),
            (Choice(60, 100, nothing, False), [(40, 60, None, False)]),
            (Choice(50, 60, nothing, True), [(40, 50, None, False), (60, 80, None, False)]),
            (Choice(0, 100, nothing, True), []),
            (Choice(80, 100, some, True), [(40, 80, None, False)]),
        ):
            found = _pieces_of(Unit(0, 40, 80, 0, 0, 0), part, [choice])
            shown = [
                (unit.first, unit.following, None if unit.proposed is None else unit.proposed.tolist(), unit.counted)
                for unit in found
            ]
            self.assertEqual(shown, expected, choice)

    # -- what goes wrong ----------------------------------------------------------------------------------------------

    def test_damaged_files_are_found_and_made_anew(self):
        chance = random.Random(4)
        searched = self.filled(batches=12)
        kinds = [MANIFEST, ".managed.json", "meta.json", ".fast", ".fieldnorm", ".idx", ".pos", ".store", ".term"]
        files = read_manifest(searched.disk, searched.paths()[0]).files
        self.assertEqual({name for name in files if not name.endswith(tuple(kinds))}, set())
        for kind in kinds:
            for damage in ("flip", "cut", "remove"):
                name = next(name for name in os.listdir(searched.paths()[0]) if name.endswith(kind))
                path = f"{searched.paths()[0]}/{name}"
                content = bytearray(searched.disk.read(path))
                if damage == "flip" and not content:
                    content += b"x"
                elif damage == "flip":
                    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
                elif damage == "cut":
                    del content[len(content) // 2 :]
                os.unlink(path)
                if damage != "remove":
                    with open(path, "wb") as file:
                        file.write(content)
                count = len(searched.paths())
                searched.lines.clear()
                searched.start()
                searched.follow()
                searched.steps()
                self.assertEqual(len(searched.splits.ready), count - 1, (name, damage))
                self.assertEqual(len(searched.lines), 1)
                self.assertIn("the split is made anew", searched.lines[0])
                self.check(searched, parse("error OR user3"))
                searched.settle()
                self.assertEqual(len(searched.splits.ready), count)
                self.check(searched, parse("error OR user3"))

    def test_a_question_that_fails_costs_the_split_and_nothing_else(self):
        searched = self.filled()
        broken = searched.splits.ready[1]
        number = len(searched.splits.ready)

        class Broken:
            def count(self, tree):
                raise SplitError("it has rotted")

        searched.splits.ready[1] = broken._replace(inverted=Broken())
        self.check(searched, parse("error"))
        self.assertIn("it has rotted; the split is made anew", searched.lines[-1])
        self.assertEqual(len(searched.splits.ready), number - 1)
        searched.settle()
        self.assertEqual(len(searched.splits.ready), number)

    def test_a_build_that_dies_leaves_nothing_that_counts(self):
        """Whenever it dies: what it left is no split, and the next one removes it."""
        searched = self.make()
        for number in range(8):
            searched.append([b"error %d" % number * 20] * 10)
        searched.follow()
        searched.steps()
        (due,) = searched.due()

        class Killed(Exception):
            pass

        class Dying:
            """A disk on which the process dies at the n-th thing that it does."""

            def __init__(self, disk, left):
                self.disk = disk
                self.left = left

            def __getattr__(self, name):
                self.left -= 1
                if self.left < 0:
                    raise Killed
                return getattr(self.disk, name)

        for left in range(200):
            try:
                build(due, Dying(searched.disk, left), SCANNER, lambda progress: None)
                break
            except Killed:
                pass
            self.assertEqual(searched.paths(), [])
            searched.start()
            searched.follow()
            searched.steps()
            self.assertEqual(searched.splits.ready, [])
        self.assertGreater(left, 10)
        self.assertEqual(len(searched.paths()), 1)
        self.assertEqual([n for n in os.listdir(f"{searched.root}/search/full") if "unfinished" in n], [])
        searched.start()
        searched.settle()
        self.check(searched, parse("error"))

    def test_a_disk_that_is_nearly_full_is_left_to_the_logs(self):
        searched = self.make()
        for number in range(12):
            searched.append([b"error %d" % number * 20] * 10)
        searched.follow()
        searched.steps()
        (due,) = searched.due()
        self.patch(searched.disk, "volume", lambda path: (1 << 40, 1 << 29))
        self.assertRaises(SplitError, build, due, searched.disk, SCANNER, lambda progress: None)
        self.assertEqual(os.listdir(f"{searched.root}/search/full"), [])

    def test_a_log_that_was_cut_and_grew_again_has_none_of_the_old_splits(self):
        for restarted in (False, True):
            searched = self.filled()
            cut = searched.splits.ready[1].manifest.first + 10
            searched.log.truncate_to(cut, 1000)
            searched.since = cut
            if restarted:
                searched.start()
            else:
                searched.follow()
            for _ in range(60):
                searched.append([b"other words"] * 10)
            searched.follow()
            self.check(searched, parse("error"))
            searched.settle()
            for text in ("error", "other", "user3"):
                self.check(searched, parse(text))
            self.assertIn("made anew", "".join(searched.lines))

    def test_in_a_compacted_topic_they_propose_and_never_count(self):
        searched = self.make(compacted=True)
        for number in range(60):
            append_keyed(searched.log, [(b"k%d" % (number % 7), b"error v%d" % number * 20)] * 4)
            if not number % 10:
                searched.log.roll(1000)
        searched.settle()
        self.assertGreater(len(searched.splits.ready), 1)
        self.check(searched, parse("error"))
        searched.log.flush()
        compact(searched.log, searched.disk, 10_000)
        searched.follow()
        costs = self.check(searched, parse("error"))
        self.assertEqual(costs.splits_counted, 0)
        self.assertLess(len(searched.truth(parse("error"))), 240)

    def test_a_topic_that_was_compacted_once_has_its_splits_made_anew_before_they_count(self):
        searched = self.filled()
        searched.compacted = True
        searched.follow()
        self.assertEqual({split.may_count for split in searched.splits.ready}, {False})
        self.assertFalse(read_manifest(searched.disk, searched.paths()[0]).exact)
        searched.start()
        searched.compacted = False
        searched.follow()
        searched.steps()
        self.assertEqual(searched.splits.ready, [])
        searched.settle()
        self.assertEqual({split.may_count for split in searched.splits.ready}, {True})
        self.check(searched, parse("error"))

    def test_retention_takes_them(self):
        searched = self.filled()
        gone = searched.splits.ready[1].manifest.following
        count = len(searched.paths())
        searched.log.advance_start(gone)
        searched.settle()
        self.assertEqual(len(searched.paths()), count - 2)
        self.check(searched, parse("error"))

    def test_what_cannot_be_decoded_is_in_no_split(self):
        from chronik.wire.batches import assemble
        from chronik.wire.records import Record, check_produced, encode_batch

        searched = self.make()
        for number in range(12):
            searched.append([b"error %d" % number * 20] * 10)
            for damage in (b"not lz4", bytes(30)):
                batch = encode_batch([Record(0, 1, None, b"x")], codec=Codec.LZ4 if damage[0] else Codec.NONE)
                bad = assemble(check_produced(batch), damage)
                searched.log.append(memoryview(bad), check_produced(bad), 0, 1000)
        searched.settle()
        self.assertTrue(searched.splits.ready)
        _, found = searched.search(searched.full, parse("error"), size=0)
        self.assertEqual(found.total, 120)

    # -- whatever happens ---------------------------------------------------------------------------------------------

    @given(
        st.integers(0, 2**32),
        st.lists(documents, min_size=4, max_size=20),
        st.lists(queries, min_size=4, max_size=8),
        mappings,
    )
    @settings(max_examples=8, deadline=None, report_multiple_bugs=False, suppress_health_check=list(HealthCheck))
    def test_random_records_and_queries(self, seed, records, asked, mapping):
        chance = random.Random(seed)
        searched = Searched(split_messages=60, block_bytes=2048)
        try:
            for _ in range(chance.randrange(6, 20)):
                searched.append_documents(chance.choices(records, k=16), chance.choice([Codec.NONE, Codec.LZ4]))
                searched.append([b"something to fill blocks with " * 30])
                if chance.random() < 0.2:
                    searched.settle()
            searched.settle()
            self.assertTrue(searched.splits.ready)
            for query in asked:
                self.check(searched, query, mapping)
        finally:
            searched.close()

    @given(st.integers(0, 2**32), aimed())
    @settings(max_examples=8, deadline=None, report_multiple_bugs=False, suppress_health_check=list(HealthCheck))
    def test_queries_aimed_at_a_record(self, seed, pair):
        query, records = pair
        chance = random.Random(seed)
        searched = Searched(split_messages=50, block_bytes=2048)
        try:
            for _ in range(12):
                searched.append_documents(chance.choices(records, k=15))
                searched.append([b"something to fill blocks with " * 30])
            searched.settle()
            self.assertTrue(searched.splits.ready)
            self.check(searched, query)
        finally:
            searched.close()

    @given(st.integers(0, 2**32), st.booleans())
    @settings(max_examples=25, deadline=None, report_multiple_bugs=False, suppress_health_check=list(HealthCheck))
    def test_whatever_happens(self, seed, compacted):
        """Transactions that are aborted, compaction, DeleteRecords, starts, builds that are never taken, files that rot."""
        chance = random.Random(seed)
        searched = Searched(split_messages=30, block_bytes=2048, compacted=compacted)
        log, sequences, now = searched.log, {}, 1000
        words = [b"error", b"reset", b"connection", b"v1", b"v2", b"v3"]
        asked = [
            "error",
            '"connection reset"',
            "v1 AND NOT error",
            "key:k1",
            "reset OR v3",
            "offset:<100 AND v2",
            "level:v1",
        ]
        try:
            for _ in range(chance.randrange(30, 90)):
                act = chance.random()
                now += 10
                if act < 0.4:
                    value = b" ".join(chance.choices(words, k=chance.randrange(1, 60)))
                    append_keyed(
                        log, [(b"k%d" % chance.randrange(6), value)] * 3, now_ms=now, codec=chance.choice([*Codec][:1])
                    )
                elif act < 0.55:
                    producer = chance.randrange(3)
                    sequence = sequences.get(producer, 0)
                    sequences[producer] = sequence + 2
                    append_keyed(
                        log, [(b"t%d" % producer, b"error v1 " * 30)] * 2, now_ms=now, producer_id=producer,
                        sequence=sequence, transactional=True,
                    )  # fmt: skip
                elif act < 0.65:
                    producer = chance.randrange(3)
                    if log.producers.in_transaction(producer, 0):
                        end(log, producer, commit=chance.random() < 0.5, now_ms=now)
                        log.producers.committed(log.end_offset)
                elif act < 0.7 and compacted:
                    log.flush()
                    compact(log, searched.disk, now, upper=min(log.producers.first_unstable, log.end_offset))
                elif act < 0.74 and log.end_offset > log.start_offset:
                    log.advance_start(
                        chance.randrange(log.start_offset, min(log.producers.first_unstable, log.end_offset) + 1)
                    )
                    log.flush()
                    for path in log.take_deleted():
                        searched.disk.remove(path)
                elif act < 0.78:
                    searched.start()
                elif act < 0.82 and searched.splits is not None and searched.due():
                    build(searched.due()[0], searched.disk, SCANNER, lambda progress: None)  # it is never told of
                elif act < 0.85 and searched.splits is not None and searched.paths():
                    path = chance.choice(searched.paths())
                    name = chance.choice(sorted(os.listdir(path)))
                    content = bytearray(searched.disk.read(f"{path}/{name}") or b"x")
                    content[chance.randrange(len(content))] ^= 1
                    os.unlink(f"{path}/{name}")  # what is mapped stays as it is
                    with open(f"{path}/{name}", "wb") as file:
                        file.write(content)
                    searched.start()
                elif chance.random() < 0.5:
                    searched.follow()
                    searched.steps(chance.randrange(20))
                else:
                    searched.settle()
                if chance.random() < 0.4:
                    searched.follow()
                    self.check(searched, parse(chance.choice(asked)))
            searched.settle()
            for text in asked:
                self.check(searched, parse(text))
        finally:
            searched.close()

    def test_tokens_that_are_signed_are_words(self):
        self.assertEqual({word_of(t) for t in signed_tokens(b"k", b"2e5 \\u0041", ())}, {"k", "2e5", "u0041", "a", "#"})


class TellingTests(SynchronousTestCase):
    def test_one_that_is_told_of_late_is_removed_where_none_is_wanted(self):
        searched = Searched()
        self.addCleanup(searched.close)
        for number in range(20):
            searched.append([b"error %d" % number * 20] * 10)
        searched.follow()
        searched.steps()
        (due,) = searched.due()
        made = build(due, searched.disk, SCANNER, lambda progress: None)
        searched.split_messages = 0
        searched.follow()
        searched.full.built(SplitBuilt(TOPIC, PARTITION, made.name))
        self.assertEqual(searched.paths(), [])
