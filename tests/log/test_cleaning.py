"""What compaction keeps: the rules one by one, on a log in memory."""

from __future__ import annotations

from hashlib import blake2b

from twisted.trial.unittest import SynchronousTestCase

from chronik.errors import CorruptLogError
from chronik.log.cleaning import BYTES_PER_KEY, Source, group
from chronik.log.log import Log, LogConfig
from chronik.log.simulated import SimulatedDisk
from chronik.wire.compression import Codec
from chronik.wire.records import decode_records, read_header, split_batches, stamp_append_time
from tests.log.compacting import ABORT, COMMIT, append_keyed, append_marker, compact, keyed, read_all, records_of

DIRECTORY = "/data/topics/t-0"
DAY = 24 * 3_600_000


class CompactingTestCase(SynchronousTestCase):
    config = LogConfig(compacted=True, index_interval_bytes=200, retention_ms=-1, delete_retention_ms=DAY)

    def setUp(self):
        self.disk = SimulatedDisk()
        self.disk.make_directory("/data/topics")
        self.log = Log.open(self.disk, DIRECTORY, self.config, 0)

    def seal(self, now_ms=1000):
        """Make what is there cleanable."""
        self.log.roll(now_ms)
        append_keyed(self.log, [(b"active", b"")])
        self.log.flush()

    def kept(self):
        return [(offset, record.key, record.value) for offset, record in sorted(records_of(self.log).items())]


class KeepingTests(CompactingTestCase):
    def test_the_last_of_every_key_stays_where_it_was(self):
        append_keyed(self.log, [(b"a", b"1"), (b"b", b"1"), (b"a", b"2")])
        append_keyed(self.log, [(b"c", b"1"), (b"b", b"2")], timestamp=2000)
        self.seal()
        result = compact(self.log, self.disk, 5000)
        self.assertEqual(self.kept(), [(2, b"a", b"2"), (3, b"c", b"1"), (4, b"b", b"2"), (5, b"active", b"")])
        self.assertEqual((result.records_before, result.records_after, result.cleaned_to), (5, 3, 5))
        self.assertEqual([record.timestamp for record in records_of(self.log).values()], [1002, 2000, 2001, 1000])
        self.assertEqual([header.base_offset for header, _ in read_all(self.log)], [0, 3, 5])

    def test_a_clean_log_is_not_cleaned_again(self):
        append_keyed(self.log, [(b"a", b"1")])
        self.seal()
        compact(self.log, self.disk, 5000)
        self.assertIsNone(compact(self.log, self.disk, 6000))

    def test_a_log_of_which_nothing_goes_is_left_as_it_is(self):
        append_keyed(self.log, [(b"a", b"1"), (b"b", b"1")])
        self.seal()
        before = self.log.segments
        compact(self.log, self.disk, 5000)
        self.assertEqual(self.log.segments, before)
        self.assertEqual(self.log.first_dirty, 2)

    def test_every_codec_is_kept(self):
        for codec in Codec:
            append_keyed(self.log, [(b"k%d" % codec, b"old"), (b"x%d" % codec, b"v" * 200)], codec=codec)
            append_keyed(self.log, [(b"k%d" % codec, b"new")], codec=codec)
        self.seal()
        compact(self.log, self.disk, 5000)
        batches = read_all(self.log)
        self.assertEqual([header.codec for header, _ in batches[:-1]], [codec for codec in Codec for _ in range(2)])
        self.assertEqual([value for _, key, value in self.kept() if key[:1] == b"k"], [b"new"] * 5)

    def test_append_times_stay(self):
        batch, _ = keyed([(b"a", b"1"), (b"b", b"1")])
        stamp_append_time(batch, 7777)
        self.log.append(memoryview(batch), read_header(batch), 0, 0)
        append_keyed(self.log, [(b"a", b"2")])
        self.seal()
        compact(self.log, self.disk, 9000)
        self.assertEqual([record.timestamp for record in records_of(self.log).values()], [7777, 1000, 1000])

    def test_records_without_a_key_go(self):
        append_keyed(self.log, [(None, b"1"), (b"a", b"1")])
        self.seal()
        self.assertEqual(compact(self.log, self.disk, 5000).keyless, 1)
        self.assertEqual([key for _, key, _ in self.kept()], [b"a", b"active"])

    def test_long_keys_are_told_apart(self):
        keys = [b"k" * 15, b"k" * 16, b"k" * 17, b"k" * 300]
        digest = blake2b(b"k" * 16, digest_size=16, key=bytes(16)).digest()
        append_keyed(self.log, [(key, b"old") for key in [*keys, digest, b""]])
        append_keyed(self.log, [(key, b"new") for key in keys[1:]])
        self.seal()
        compact(self.log, self.disk, 5000)
        self.assertEqual(
            [(key, value) for _, key, value in self.kept()][:-1],
            [(b"k" * 15, b"old"), (digest, b"old"), (b"", b"old")] + [(key, b"new") for key in keys[1:]],
        )

    def test_the_rest_is_left_for_another_pass_where_keys_do_not_fit(self):
        for index in range(40):
            append_keyed(self.log, [(b"%d" % (index % 20), b"%d" % index)])
        self.seal()
        ends = []
        while (result := compact(self.log, self.disk, 5000, buffer_bytes=8 * BYTES_PER_KEY)) is not None:
            ends.append(result.cleaned_to)
            self.assertEqual(self.log.first_dirty, result.cleaned_to)
        self.assertEqual(ends, [8, 16, 24, 32, 40])
        self.assertEqual([offset for offset, _, _ in self.kept()], list(range(20, 41)))

    def test_a_batch_beyond_the_buffer_is_cleaned_all_the_same(self):
        append_keyed(self.log, [(b"%d" % (index % 30), b"%d" % index) for index in range(60)])
        self.seal()
        compact(self.log, self.disk, 5000, buffer_bytes=1)
        self.assertEqual([offset for offset, _, _ in self.kept()], list(range(30, 61)))

    def test_only_below_the_last_stable_offset(self):
        append_keyed(self.log, [(b"a", b"1")])
        self.log.roll(0)
        append_keyed(self.log, [(b"a", b"2")])
        self.seal()
        compact(self.log, self.disk, 5000, upper=1)
        self.assertEqual([value for _, key, value in self.kept()], [b"1", b"2", b""])
        self.assertEqual(self.log.first_dirty, 1)

    def test_a_young_segment_waits_for_the_lag(self):
        self.log.configure(LogConfig(compacted=True, min_compaction_lag_ms=10_000, retention_ms=-1))
        append_keyed(self.log, [(b"a", b"1"), (b"a", b"2")], timestamp=100_000)
        self.seal()
        self.assertIsNone(compact(self.log, self.disk, 110_000))
        self.assertIsNotNone(compact(self.log, self.disk, 110_001 + 10))

    def test_an_overdue_segment_is_told(self):
        self.log.configure(LogConfig(compacted=True, max_compaction_lag_ms=10_000, retention_ms=-1))
        append_keyed(self.log, [(b"a", b"1")], timestamp=100_000)
        self.seal()
        segments = self.log.cleanable(0, self.log.end_offset)
        self.assertEqual(self.log.dirtiness(110_000, segments)[2], False)
        self.assertEqual(self.log.dirtiness(110_001, segments)[2], True)

    def test_the_longest_lag_seals_the_active_segment(self):
        self.log.configure(LogConfig(compacted=True, max_compaction_lag_ms=10_000, retention_ms=-1))
        append_keyed(self.log, [(b"a", b"1")], timestamp=100_000)
        append_keyed(self.log, [(b"a", b"2")], timestamp=110_001)
        self.assertEqual(len(self.log.segments), 2)

    def test_small_segments_become_one(self):
        for index in range(10):
            append_keyed(self.log, [(b"%d" % index, b"v")])
            self.log.roll(0)
        self.seal()
        compact(self.log, self.disk, 5000)
        self.assertEqual([segment.base_offset for segment in self.log.segments], [0, 10])
        self.assertEqual(len(self.log.take_deleted()), 3 * 10)  # logs and indexes
        self.assertEqual([name for name in self.disk.list(DIRECTORY) if "cleaned" in name or "swap" in name], [])

    def test_groups_keep_to_the_limits(self):
        sources = [Source(base, base + 10, 100, 5) for base in range(0, 100, 10)]
        for limits, sizes in (
            ((250, 100, 99), [2] * 5),
            ((9999, 15, 99), [3, 3, 3, 1]),
            ((9999, 999, 4), [4, 4, 2]),
            ((50, 100, 99), [1] * 10),
        ):
            self.assertEqual([len(each) for each in group(sources, *limits)], sizes)
        wide = [Source(0, 2**31, 1, 1), Source(2**31, 2**31 + 5, 1, 1)]
        self.assertEqual([len(each) for each in group(wide, 10, 10, 10)], [1, 1])

    def test_damage_ends_the_job_and_nothing_goes(self):
        append_keyed(self.log, [(b"a", b"1" * 50), (b"a", b"2")])
        self.seal()
        path = self.log.segments[0].path(".log")
        self.disk.damage(path, 90)
        before = self.disk.read(path)
        error = self.assertRaises(CorruptLogError, compact, self.log, self.disk, 5000)
        self.assertIn(path, str(error))
        self.assertIn("CRC", str(error))
        self.assertEqual(self.disk.read(path), before)


class MarkerTests(CompactingTestCase):
    """Delete markers, and those that end transactions."""

    def test_a_delete_marker_stays_until_its_horizon(self):
        append_keyed(self.log, [(b"a", b"1"), (b"b", b"1")], timestamp=500)
        append_keyed(self.log, [(b"x", b"1"), (b"a", None)], timestamp=600, codec=Codec.LZ4)
        self.seal()
        compact(self.log, self.disk, 5000)
        header, records = read_all(self.log)[1]
        self.assertEqual((header.has_delete_horizon, header.base_timestamp), (True, 5000 + DAY))
        self.assertEqual(
            [(r.offset, r.timestamp, r.key, r.value) for r in records], [(2, 600, b"x", b"1"), (3, 601, b"a", None)]
        )
        self.seal()
        compact(self.log, self.disk, 5000 + DAY - 1)
        self.assertIn((3, b"a", None), self.kept())
        self.seal()
        compact(self.log, self.disk, 5000 + DAY)
        self.assertNotIn((3, b"a", None), self.kept())
        self.assertIn((2, b"x", b"1"), self.kept())
        self.assertEqual(records_of(self.log)[2].timestamp, 600)

    def test_aborted_records_go_and_their_markers_later(self):
        append_keyed(self.log, [(b"a", b"kept")])
        append_keyed(self.log, [(b"a", b"aborted")], producer_id=7, transactional=True)
        append_marker(self.log, ABORT, 7)
        append_keyed(self.log, [(b"b", b"1")], producer_id=7, sequence=1, transactional=True)
        append_marker(self.log, COMMIT, 7)
        append_keyed(self.log, [(b"b", b"2")], producer_id=7, sequence=2, transactional=True)
        append_marker(self.log, COMMIT, 7)
        self.seal()
        compact(self.log, self.disk, 5000)
        self.assertEqual(
            [(key, value) for _, key, value in self.kept()], [(b"a", b"kept"), (b"b", b"2"), (b"active", b"")]
        )
        self.assertEqual([h.base_offset for h, _ in read_all(self.log) if h.control], [2, 4, 6])
        self.seal()
        compact(self.log, self.disk, 6000)
        markers = [h for h, _ in read_all(self.log) if h.control]
        self.assertEqual([(h.base_offset, h.has_delete_horizon) for h in markers], [(2, True), (4, True), (6, False)])
        self.seal()
        compact(self.log, self.disk, 6000 + DAY)
        self.assertEqual([h.base_offset for h, _ in read_all(self.log) if h.control], [6])

    def test_the_sequence_of_a_producer_survives_its_records(self):
        append_keyed(self.log, [(b"a", b"1"), (b"a", b"2")], producer_id=7, timestamp=900)
        append_keyed(self.log, [(b"a", b"3")])
        append_keyed(self.log, [(b"c", b"3")])
        self.seal()
        compact(self.log, self.disk, 5000)
        header, records = read_all(self.log)[0]
        self.assertEqual((header.base_offset, header.last_offset, header.last_sequence, records), (0, 1, 1, []))
        self.assertEqual(header.max_timestamp, 901)
        self.log.close()
        for name in self.disk.list(DIRECTORY):
            if name.endswith(".snapshot") or name == "checkpoint":
                self.disk.remove(f"{DIRECTORY}/{name}")
        log = Log.open(self.disk, DIRECTORY, self.config, 0)
        self.assertEqual([entry.last_sequence for entry in log.producers.entries()], [1])

    def test_the_end_of_every_segment_survives(self):
        append_keyed(self.log, [(b"a", b"1")])
        append_keyed(self.log, [(b"b", b"1")])
        self.log.roll(0)
        append_keyed(self.log, [(b"b", b"2")])
        self.log.configure(LogConfig(compacted=True, segment_bytes=100, retention_ms=-1))  # no groups
        self.seal()
        compact(self.log, self.disk, 5000)
        self.assertEqual(
            [(h.base_offset, h.last_offset, h.record_count) for h, _ in read_all(self.log)],
            [(0, 0, 1), (1, 1, 0), (2, 2, 1), (3, 3, 1)],
        )


class TimeTests(CompactingTestCase):
    """ListOffsets on a log with gaps, whose emptied batches have timestamps that no record has."""

    def filled(self):
        append_keyed(self.log, [(b"a", b"1")], timestamp=9000, producer_id=7)  # is emptied, the producer's last
        append_keyed(self.log, [(b"a", b"2"), (b"b", b"1"), (b"b", b"2")], timestamp=2000)
        append_keyed(self.log, [(b"c", b"1")], timestamp=4000)
        self.seal()
        compact(self.log, self.disk, 10_000)

    def test_by_timestamp(self):
        self.filled()
        end = self.log.end_offset
        for timestamp, wanted in ((0, (2000, 1, 0)), (2001, (2002, 3, 0)), (2003, (4000, 4, 0)), (4001, None)):
            self.assertEqual(self.log.offset_for_timestamp(timestamp, end), wanted)

    def test_the_largest(self):
        self.filled()
        self.assertEqual(self.log.max_timestamp(self.log.end_offset), (4000, 4, 0))
        self.log.close()
        for name in self.disk.list(DIRECTORY):
            if name.endswith("index"):
                self.disk.remove(f"{DIRECTORY}/{name}")
        log = Log.open(self.disk, DIRECTORY, self.config, 0, clean=True)
        self.assertEqual(log.max_timestamp(log.end_offset), (4000, 4, 0))
        self.assertEqual(log.offset_for_timestamp(2001, log.end_offset), (2002, 3, 0))

    def test_reads_begin_anywhere(self):
        for index in range(200):
            append_keyed(self.log, [(b"%d" % (index % 7 if index < 150 else index), b"v" * 30)], timestamp=index)
        self.seal()
        compact(self.log, self.disk, 10_000)
        offsets = sorted(records_of(self.log))
        self.assertGreater(offsets[0], 100)
        for start in range(self.log.end_offset):
            for max_bytes in (1, 300, 1 << 20):
                data = self.log.read(start, max_bytes, self.log.end_offset)[0]
                found = [
                    r.offset for p, h in split_batches(data) for r in decode_records(data[p : p + h.size], 1 << 20)
                ]
                found = [offset for offset in found if offset >= start]
                wanted = [offset for offset in offsets if offset >= start]
                self.assertEqual(found, wanted[: len(found)])
                self.assertTrue(found)


class RefusedSwapTests(CompactingTestCase):
    """The disk refuses one step of a swap: before it counts nothing has happened, after that it is ended later."""

    cases = (
        ("rename", "cleaner.tmp", False),
        ("rename", ".index.cleaned", False),
        ("rename", ".timeindex.cleaned", False),
        ("rename", ".log.cleaned", False),
        ("append", ".snapshot.tmp", True),
        ("rename", "000.log", True),
        ("rename", ".index.swap", True),
        ("rename", ".timeindex.swap", True),
        ("rename", ".log.swap", True),
    )

    def refuse(self, operation, suffix):
        """A compaction that meets the refusal; the swap that is left."""
        self.setUp()
        append_keyed(self.log, [(b"a", b"1"), (b"b", b"1")])
        append_keyed(self.log, [(b"a", b"aborted")], producer_id=1, transactional=True)
        append_marker(self.log, ABORT, 1)
        append_keyed(self.log, [(b"a", b"2")], timestamp=2000)
        self.seal()
        self.disk.fail(operation, suffix, OSError(28, "No space left on device"))
        self.assertRaises(OSError, compact, self.log, self.disk, 5000)
        return self.log.unfinished_swap

    def names(self):
        return [name for name in self.disk.list(DIRECTORY) if name.endswith((".swap", ".cleaned"))]

    def check(self):
        self.assertEqual(self.kept(), [(1, b"b", b"1"), (4, b"a", b"2"), (5, b"active", b"")])
        self.assertEqual(self.names(), [])

    def test_each_step(self):
        for operation, suffix, counts in self.cases:
            swap = self.refuse(operation, suffix)
            self.assertEqual(swap.must_end, counts, suffix)
            if counts:
                self.assertEqual([offset for offset, *_ in self.kept()], [1, 4, 5])  # read by the names that there are
                self.assertIsNone(self.log.begin_swap(None))  # nothing else of this log meanwhile
                self.assertRaises(OSError, swap.settle)
                self.disk.heal()
                swap.settle()
            else:
                swap.cancel()
                self.assertEqual([offset for offset, *_ in self.kept()], [0, 1, 2, 4, 5])
                self.assertEqual([name for name in self.names() if name.endswith(".swap")], [])
                self.disk.heal()
            self.assertIsNone(self.log.unfinished_swap)
            compact(self.log, self.disk, 5000)
            self.check()
            self.log = Log.open(self.disk, DIRECTORY, self.config, 0)
            self.check()

    def test_a_close_leaves_it_to_the_next_start(self):
        for operation, suffix, _ in self.cases:
            if operation == "append":
                continue  # nor could the close write what it has to
            self.refuse(operation, suffix)
            self.log.close()
            self.disk.heal()
            self.log = Log.open(self.disk, DIRECTORY, self.config, 0, clean=True)
            compact(self.log, self.disk, 5000)
            self.check()
