"""The index of one partition: whatever happens to the log and to the index, no record that counts is out of reach."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.log.committed import Bounds, CommittedFiles
from chronik.log.log import Log, LogConfig
from chronik.log.memory import MemoryDisk
from chronik.native.scanner import make_scanner
from chronik.native.signed import signed_tokens
from chronik.search.partition_index import GROUP_SUFFIX, PartitionIndex
from chronik.search.signatures import WrittenGroup
from chronik.wire.batches import HEADER_BYTES, assemble
from chronik.wire.records import Codec, Record, check_produced, decode_records, encode_batch
from tests.log.batches import end
from tests.log.compacting import append_keyed, compact
from tests.log.test_committed import told

LOG, INDEX = "/logs/t-0", "/search/t-0"
BLOCK = 4096
SCANNER = make_scanner()


class Written:
    """What was to be written elsewhere, written here and now, or later."""

    def __init__(self, job):
        self.job = job
        self.error = None
        self.is_done = False

    def carry_out(self):
        try:
            self.job()
        except OSError as error:
            self.error = error
        self.is_done = True

    def done(self):
        return self.is_done

    def result(self):
        if self.error is not None:
            raise self.error


class Indexed:
    """A log, and an index that follows it."""

    def __init__(self, **options):
        self.disk = MemoryDisk()
        config = LogConfig(segment_bytes=16_384, index_interval_bytes=500, delete_retention_ms=0, **options)
        self.log = Log.open(self.disk, LOG, config, 1000)
        self.lines = []
        self.later = None
        self.start()

    def start(self):
        """A new process: only what is on disk is known."""
        self.since = 0
        self.index = PartitionIndex(
            self.disk, INDEX, CommittedFiles(self.disk, LOG), SCANNER, self.write, self.lines.append, BLOCK
        )

    def write(self, job):
        written = Written(job)
        if self.later is None:
            written.carry_out()
        else:
            self.later.append(written)
        return written

    def follow(self):
        bounds, aborted = told(self.log, self.since)
        self.since = bounds.stable
        self.index.follow(bounds, aborted)

    def settle(self):
        self.follow()
        for _ in range(10_000):
            if not self.index.step():
                return
        raise AssertionError("it never comes to an end")

    def append(self, values, codec=Codec.NONE, timestamp=1000):
        records = [Record(index, timestamp + index, None, value) for index, value in enumerate(values)]
        batch = encode_batch(records, codec=codec)
        return self.log.append(memoryview(batch), check_produced(batch), 0, 1000)

    def records(self):
        """Every record that counts, by offset."""
        files = self.index.files
        return {
            record.offset: record
            for stored in files.read(files.bounds.start, files.bounds.stable)
            for record in decode_records(stored.data, 1 << 27)
            if files.bounds.start <= record.offset < files.bounds.stable
        }

    def reached(self, token):
        """Offsets that a search for the token would look at."""
        index, found = self.index, set()
        for group in index.groups:
            for at in np.flatnonzero(group.may_hold(token)):
                found.update(range(int(group.table["first"][at]), int(group.table["following"][at])))
        found.update(range(index.indexed_to, index.files.bounds.stable))
        return found


class PartitionIndexTests(SynchronousTestCase):
    def check(self, indexed, chance=None, times=20):
        """Each of some tokens: every record that holds it is looked at; the blocks are a row without gaps."""
        index, records = indexed.index, indexed.records()
        row = [
            (int(f), int(n))
            for group in index.groups
            for f, n in zip(group.table["first"], group.table["following"], strict=True)
        ]
        for (_, before), (after, _) in pairwise(row):
            self.assertEqual(before, after)
        if row:
            self.assertLessEqual(row[0][0], index.files.bounds.start)
            self.assertEqual(row[-1][1], index.indexed_to)
        self.assertLessEqual(index.indexed_to, index.read_to)
        if index.tail_is_kept:
            kept = {
                batch.header.base_offset for batch in index.tail if batch.header.next_offset > index.files.bounds.start
            }
            wanted = {s.header.base_offset for s in index.files.read(index.indexed_to, index.read_to)}
            self.assertLessEqual(wanted, kept)
        holders = {}
        for offset, record in records.items():
            for token in signed_tokens(record.key, record.value, ()):
                holders.setdefault(token, set()).add(offset)
        tokens = sorted(holders)
        for token in tokens if chance is None else chance.sample(tokens, min(times, len(tokens))):
            self.assertLessEqual(holders[token], indexed.reached(token), token)

    def test_blocks_and_a_tail(self):
        indexed = Indexed()
        for number in range(60):
            indexed.append([b"message %d word%d" % (number, number * 31)] * 19, Codec.LZ4)
        indexed.settle()
        self.check(indexed)
        state = indexed.index.state
        self.assertEqual((state.read_to, state.stable), (1140, 1140))
        self.assertGreater(state.blocks, 5)
        self.assertLess(state.indexed_to, 1140)
        self.assertLess(len(indexed.reached(b"word310") - set(range(state.indexed_to, 1140))), 500)
        for first in indexed.index.groups[0].table["first"].tolist():
            place = indexed.index.place(first)
            stored = next(indexed.index.files.read(first, 1140, place))
            self.assertEqual((stored.header.base_offset, stored.place), (first, place))

    def test_times_are_those_of_the_records(self):
        """A header that says less than its records' largest timestamp hides none of them."""
        indexed = Indexed()
        records = [Record(0, 5000, None, b"x" * 4000), Record(1, 9000, None, b"y"), Record(2, 3000, None, b"z")]
        batch = encode_batch(records)
        header = check_produced(batch)._replace(max_timestamp=3000)
        lying = assemble(header, bytes(batch[HEADER_BYTES:]))
        indexed.log.append(memoryview(lying), check_produced(lying), 0, 1000)
        indexed.append([b"more" * 200], timestamp=8000)
        indexed.settle()
        (table,) = [group.table for group in indexed.index.groups]
        self.assertEqual((int(table["first_timestamp"][0]), int(table["last_timestamp"][0])), (3000, 9000))

    def test_what_cannot_be_decoded_is_passed_over_and_counted(self):
        indexed = Indexed()
        indexed.append([b"before"])
        for damage in (b"not lz4", bytes(30)):
            batch = encode_batch([Record(0, 1, None, b"x")], codec=Codec.LZ4 if damage[0] else Codec.NONE)
            header = check_produced(batch)
            bad = assemble(header, damage)
            indexed.log.append(memoryview(bad), check_produced(bad), 0, 1000)
        indexed.append([b"after " * 1000])
        indexed.settle()
        self.assertEqual(indexed.index.undecodable, 2)
        self.assertIn(0, indexed.reached(b"before"))
        self.assertIn(3, indexed.reached(b"after"))

    def test_what_compaction_takes_is_in_no_tail(self):
        indexed = Indexed(compacted=True)
        for number in range(3):
            append_keyed(indexed.log, [(b"k", b"%d" % number)])
            indexed.log.roll(1000)
        indexed.settle()
        self.assertEqual([batch.header.base_offset for batch in indexed.index.tail], [0, 1, 2])
        indexed.log.flush()
        compact(indexed.log, indexed.disk, 10_000)
        indexed.follow()
        self.assertEqual((indexed.index.tail, indexed.index.tail_is_kept), ([], False))
        self.assertEqual(list(indexed.records()), [2])

    def test_a_stop_in_order_and_a_kill(self):
        """After the first everything is there again; after the second what was in memory is signed anew."""
        for saved in (True, False):
            indexed = Indexed()
            for number in range(300):
                indexed.append([b"%d %d" % (number, index) for index in range(400)])
            indexed.settle()
            blocks = indexed.index.state.blocks
            self.assertGreater(blocks, 256)
            if saved:
                indexed.index.save()
            indexed.start()
            indexed.follow()
            self.assertEqual(indexed.index.state.blocks, blocks if saved else 256)
            indexed.settle()
            self.check(indexed, random.Random(1))
            self.assertEqual(indexed.lines, [])

    def test_a_damaged_or_missing_group_is_made_anew(self):
        indexed = Indexed()
        for number in range(700):
            indexed.append([b"%d %d" % (number, index) for index in range(400)])
        indexed.settle()
        names = [name for name in indexed.disk.list(INDEX) if name.endswith(GROUP_SUFFIX)]
        self.assertGreaterEqual(len(names), 2)
        for damage in ("flip", "remove"):
            path = f"{INDEX}/{names[0]}"
            if damage == "flip":
                indexed.disk._files[path][30] ^= 1
            else:
                indexed.disk.remove(path)
            indexed.lines.clear()
            indexed.start()
            indexed.follow()
            self.assertEqual(indexed.index.state.blocks, 0)
            self.assertTrue(all("made anew" in line for line in indexed.lines) and indexed.lines)
            indexed.settle()
            self.check(indexed, random.Random(1))
        self.assertEqual(len([name for name in indexed.disk.list(INDEX) if name.endswith(GROUP_SUFFIX)]), len(names))

    def test_the_log_gives_up_its_start(self):
        indexed = Indexed()
        for number in range(400):
            indexed.append([b"%d %d" % (number, index) for index in range(400)])
        indexed.settle()
        group = indexed.index.groups[0]
        self.assertIsInstance(group, WrittenGroup)
        indexed.log.advance_start(int(group.table["following"][-1]) + 5)
        indexed.settle()
        self.check(indexed, random.Random(1))
        self.assertEqual([name for name in indexed.disk.list(INDEX) if name.endswith(GROUP_SUFFIX)], [])
        indexed.log.advance_start(indexed.log.end_offset)
        indexed.append([b"new " * 3000])
        indexed.settle()
        self.check(indexed)
        self.assertEqual(indexed.index.state.blocks, 1)

    def test_a_full_disk_leaves_groups_in_memory_until_it_has_room(self):
        indexed = Indexed()
        put = indexed.index._put
        indexed.index._put = lambda path, content: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        for number in range(300):
            indexed.append([b"%d %d" % (number, index) for index in range(400)])
        indexed.settle()
        self.assertEqual(len(indexed.lines), 1)
        self.assertIn("No space left", indexed.lines[0])
        self.check(indexed, random.Random(1))
        indexed.index._put = put
        for number in range(100):
            indexed.append([b"%d %d" % (number, index) for index in range(400)])
        indexed.settle()
        self.assertIsInstance(indexed.index.groups[0], WrittenGroup)
        self.check(indexed, random.Random(1))
        self.assertEqual(len(indexed.lines), 1)

    def test_it_is_made_anew_when_that_is_asked_for(self):
        indexed = Indexed()
        batch = encode_batch([Record(0, 1, None, b"x")])
        bad = assemble(check_produced(batch), bytes(30))
        indexed.log.append(memoryview(bad), check_produced(bad), 0, 1000)
        for number in range(300):
            indexed.append([b"%d %d" % (number, index) for index in range(400)])
        indexed.settle()
        before = indexed.index.state
        self.assertEqual(before.undecodable, 1)
        for _ in range(2):
            indexed.index.rebuild()
            self.assertEqual(indexed.index.state, before._replace(indexed_to=0, read_to=0, blocks=0, undecodable=0))
            self.assertEqual(indexed.reached(b"17"), set(range(before.stable)))
            with self.assertRaises(FileNotFoundError):
                indexed.disk.list(INDEX)
            indexed.settle()
            self.assertEqual(indexed.index.state, before)
            self.assertLessEqual(set(range(1 + 17 * 400, 1 + 18 * 400)), indexed.reached(b"17"))
            self.assertLess(len(indexed.reached(b"nowhere")), 2000)
            self.assertIn("made anew", indexed.lines.pop())
        self.assertEqual(indexed.lines, [])

    def test_a_group_that_is_being_written_while_it_is_thrown_away(self):
        """It may appear in the directory that is removed: that is tried again. Where it fails all the same, no hit is lost."""
        for failures in (2, 9):
            indexed = Indexed()
            for number in range(300):
                indexed.append([b"%d %d" % (number, index) for index in range(400)])
            indexed.settle()
            remove, calls = indexed.disk.remove, []

            def busy(path, remove=remove, calls=calls, failures=failures):
                calls.append(path)
                if len(calls) <= failures:
                    raise OSError(39, "Directory not empty")
                remove(path)

            indexed.disk.remove = busy
            if failures == 2:
                indexed.index.rebuild()
            else:
                self.assertRaises(OSError, indexed.index.rebuild)
            self.assertEqual(indexed.reached(b"17"), set(range(indexed.index.state.stable)))
            indexed.disk.remove = remove
            indexed.settle()
            self.check(indexed, random.Random(1))

    def test_a_damaged_log_ends_indexing_there(self):
        indexed = Indexed()
        for _ in range(3):
            indexed.append([b"word " * 1000])
        content = indexed.disk._files[f"{LOG}/{0:020d}.log"]
        content[len(content) // 2] ^= 1
        indexed.settle()
        self.assertIn("CRC", indexed.index.damage)
        self.assertEqual(indexed.index.read_to, 1)

    def test_the_log_is_cut(self):
        indexed = Indexed()
        for number in range(20):
            indexed.append([b"old%d" % number] * 200)
        indexed.settle()
        indexed.log.truncate_to(2000, 1000)
        for number in range(20):
            indexed.append([b"new%d" % number] * 200)
        # the reader hears of the cut and of what came after it at once, or one after the other
        indexed.index.follow(Bounds(0, 2000, indexed.log.generation), [])
        indexed.since = 2000
        indexed.settle()
        self.check(indexed)

    def test_the_log_has_lost_records_that_are_indexed(self):
        """A power cut took the end of the log, not of the index; when this is noticed the log is longer than before."""
        indexed = Indexed()
        for number in range(300):
            indexed.append([b"old%d" % number] * 400)
        indexed.settle()
        indexed.index.save()
        self.assertIsInstance(indexed.index.groups[0], WrittenGroup)
        for lost in (1000, 30_000):
            end = 120_000 - lost
            indexed.log.truncate_to(end, 1000)
            for number in range(100):
                indexed.append([b"new%d" % number] * 400)
            indexed.start()
            bounds, aborted = told(indexed.log)
            indexed.index.follow(bounds, aborted, end)
            self.assertLessEqual(indexed.index.state.indexed_to, end)
            self.assertEqual(indexed.index.state.blocks, 256 if lost == 1000 else 0)
            indexed.settle()
            self.check(indexed)

    def test_the_tail_can_be_dropped(self):
        indexed = Indexed()
        indexed.append([b"a"] * 20)
        indexed.settle()
        self.assertEqual(len(indexed.index.tail), 1)
        self.assertGreater(indexed.index.tail_bytes, 0)
        indexed.index.drop_tail()
        self.assertEqual((indexed.index.tail, indexed.index.tail_bytes, indexed.index.tail_is_kept), ([], 0, False))
        for _ in range(30):
            indexed.append([b"b"] * 50)
        indexed.settle()
        self.assertTrue(indexed.index.tail_is_kept)
        self.check(indexed)

    @given(st.integers(0, 2**32))
    @settings(max_examples=30, deadline=None)
    def test_whatever_happens(self, seed):
        chance = random.Random(seed)
        indexed = Indexed()
        sequences, now = {}, 1000
        if chance.random() < 0.5:
            indexed.later = []
        for _ in range(chance.randrange(20, 120)):
            log, act = indexed.log, chance.random()
            now += 10
            if act < 0.4:
                codec = chance.choice([Codec.NONE, Codec.LZ4, Codec.ZSTD])
                append_keyed(
                    log, [(b"k%d" % chance.randrange(6), b"v%d " % chance.randrange(999) * chance.randrange(200))] * 3,
                    now_ms=now, codec=codec,
                )  # fmt: skip
            elif act < 0.55:
                producer = chance.randrange(3)
                sequence = sequences.get(producer, 0)
                sequences[producer] = sequence + 2
                append_keyed(
                    log, [(b"t%d" % producer, b"x%d " % sequence * 50)] * 2, now_ms=now, producer_id=producer,
                    sequence=sequence, transactional=True,
                )  # fmt: skip
            elif act < 0.65:
                producer = chance.randrange(3)
                if log.producers.in_transaction(producer, 0):
                    end(log, producer, commit=chance.random() < 0.5, now_ms=now)
                    log.producers.committed(log.end_offset)
            elif act < 0.7:
                log.flush()
                compact(log, indexed.disk, now, upper=min(log.producers.first_unstable, log.end_offset))
            elif act < 0.74 and log.end_offset > log.start_offset:
                log.advance_start(
                    chance.randrange(log.start_offset, min(log.producers.first_unstable, log.end_offset) + 1)
                )
                log.flush()
                for path in log.take_deleted():
                    indexed.disk.remove(path)
            elif act < 0.78:
                if chance.random() < 0.5:
                    indexed.index.save()
                indexed.later = None if indexed.later is None else []
                indexed.start()
                indexed.follow()
            elif act < 0.82:
                indexed.index.drop_tail()
            elif act < 0.83:
                indexed.index.rebuild()
            elif act < 0.86 and indexed.later:
                indexed.later.pop(0).carry_out()
            else:
                for _ in range(chance.randrange(8)):
                    indexed.index.step()
            if chance.random() < 0.7:
                indexed.follow()
                self.check(indexed, chance, 5)
        indexed.follow()
        self.check(indexed, chance, 30)
        self.assertEqual(indexed.index.damage, "")
