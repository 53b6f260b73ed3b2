"""The log against a list of batches, and its single promises."""

from __future__ import annotations

import errno
import tempfile
from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from chronik.errors import ErrorCode, KafkaError, StorageError
from chronik.log.disk import RealDisk
from chronik.log.log import Log, LogConfig
from chronik.log.simulated import SimulatedCrash, SimulatedDisk
from chronik.wire.records import Record, encode_batch, split_batches
from tests.log.batches import append, produced

CONFIG = LogConfig(segment_bytes=2000, index_interval_bytes=300)


class LogMachine(RuleBasedStateMachine):
    """Random calls; `batches` holds (base offset, next offset, largest timestamp, epoch) of what must be there."""

    def __init__(self):
        super().__init__()
        self.disk = SimulatedDisk()
        self.log = Log.open(self.disk, "/t-0", CONFIG, 0)
        self.batches = []
        self.start = 0
        self.epoch = 0

    @property
    def end(self):
        return self.batches[-1][1] if self.batches else self.start

    @rule(records=st.integers(1, 5), size=st.sampled_from([1, 40, 400]), timestamp=st.integers(0, 50))
    def append(self, records, size, timestamp):
        base = append(self.log, records, timestamp=timestamp, size=size, leader_epoch=self.epoch)
        assert base == self.end
        self.batches.append((base, base + records, timestamp + records - 1, self.epoch))

    @rule(counts=st.lists(st.integers(1, 3), min_size=1, max_size=6))
    def replicate(self, counts):
        data, base = bytearray(), self.end
        for count in counts:
            records = [Record(base + index, 9, None, b"v" * 90) for index in range(count)]
            data += encode_batch(records, base_offset=base, leader_epoch=self.epoch)
            self.batches.append((base, base + count, 9, self.epoch))
            base += count
        assert self.log.append_replicated(data, 0) == base

    @rule()
    def elect(self):
        self.epoch += 1
        self.log.begin_epoch(self.epoch)
        assert self.log.epochs.end_offset_for(self.epoch, self.end) == (self.epoch, self.end)

    @rule()
    def flush(self):
        self.log.flush()
        assert self.log.recovery_point == self.end
        assert self.log.durable_start == self.start

    @rule(clean=st.booleans())
    def reopen(self, clean):
        self.log.close()
        self.open(clean)

    def open(self, clean):
        self.log = Log.open(self.disk, "/t-0", CONFIG, 0, clean)
        if self.disk.exists("/t-0"):
            names = [name for name in self.disk.list("/t-0") if name.endswith(".snapshot")]
            ends = {segment.base_offset for segment in self.log.segments} | {self.log.end_offset}
            assert ends.issuperset(int(name.partition(".")[0]) for name in names), (names, ends)

    @rule()
    def die(self):
        durable, start = self.log.durable_start, self.start
        self.disk.kill()
        self.open(clean=False)
        self.start = self.log.start_offset
        assert durable <= self.start <= start, (durable, self.start, start)

    @precondition(lambda self: self.batches)
    @rule(data=st.data())
    def truncate(self, data):
        offset = data.draw(st.integers(self.start, self.end))
        self.log.truncate_to(offset, 0)
        self.batches = [b for b in self.batches if b[1] <= offset]
        if self.end < self.start:
            self.batches = []

    @rule(data=st.data())
    def advance(self, data):
        self.start = data.draw(st.integers(self.start, self.end))
        self.log.advance_start(self.start)

    @precondition(lambda self: self.batches)
    @rule(data=st.data(), max_bytes=st.sampled_from([0, 100, 700, 5000]), at_least_one=st.booleans())
    def read(self, data, max_bytes, at_least_one):
        offset = data.draw(st.integers(self.start, self.end))
        upper = data.draw(st.integers(self.start, self.end))
        got, is_all, end_offset = self.log.read(offset, max_bytes, upper, at_least_one)
        found = [(h.base_offset, h.next_offset) for _, h in split_batches(got)]
        wanted = [(b[0], b[1]) for b in self.batches if b[1] > offset and b[1] <= upper]
        assert found == wanted[: len(found)], (found, wanted)
        if any(upper == b[1] for b in self.batches) and offset < upper:  # as high watermarks are
            assert is_all == (found == wanted), (is_all, found, wanted)
        assert sum(h.size for _, h in split_batches(got)) == len(got)
        assert len(got) <= max_bytes or (at_least_one and len(found) == 1)
        if wanted and at_least_one:
            assert found
        if found:
            assert end_offset == found[-1][1]
        if wanted and not found:
            assert not at_least_one

    @rule(timestamp=st.integers(0, 60))
    def look_up(self, timestamp):
        wanted = None
        for base, following, newest, epoch in self.batches:
            first = newest - (following - base) + 1 if newest != 9 else None
            for offset in range(max(base, self.start), following):
                stamp = self._stamp(base, following, newest, offset, first)
                if stamp >= timestamp:
                    wanted = (stamp, offset, epoch)
                    break
            if wanted:
                break
        if not any(b[2] == 9 for b in self.batches):
            assert self.log.offset_for_timestamp(timestamp, self.end) == wanted
            stamps = [
                (self._stamp(b[0], b[1], b[2], offset, b[2] - (b[1] - b[0]) + 1), -offset, b[3])
                for b in self.batches
                for offset in range(max(b[0], self.start), b[1])
            ]
            best = max(stamps, default=None, key=lambda s: s[:2])
            found = self.log.max_timestamp(self.end)
            if best is None:
                assert found is None
            else:
                assert found is not None
                assert found[0] == best[0]

    @staticmethod
    def _stamp(base, following, newest, offset, first):
        return 9 if first is None else first + offset - base

    @invariant()
    def bounds(self):
        assert (self.log.start_offset, self.log.end_offset) == (self.start, self.end)
        epochs = {}
        for base, _, _, epoch in self.batches:
            epochs.setdefault(epoch, base)
        for epoch, base in epochs.items():
            if base > self.start:
                assert self.log.epochs.epoch_for(base) == epoch


class LogTests(SynchronousTestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.disk, self.path = RealDisk(), f"{directory.name}/t-0"

    def open(self, clean=True, disk=None, path=None, **config):
        return Log.open(disk or self.disk, path or self.path, LogConfig(**config), 0, clean)

    def refused(self, code, function, *args, **options):
        error = self.assertRaises(KafkaError, function, *args, **options)
        self.assertEqual(error.code, code)
        return error

    def test_snapshots_of_closes_do_not_pile_up(self):
        """A close in the midst of a segment leaves one, which the next start needs and the one after it takes away."""
        for count in range(1, 6):
            log = self.open(segment_bytes=2000)
            self.assertEqual(append(log, producer_id=1, sequence=count - 1), count - 1)
            self.assertEqual(append(log, producer_id=1, sequence=count - 1), count - 1)  # known from the snapshot
            log.close()
            names = [name for name in self.disk.list(self.path) if name.endswith(".snapshot")]
            self.assertEqual({int(name.partition(".")[0]) for name in names}, {max(count - 1, 1), count})

    def test_any_sequence_of_calls(self):
        run_state_machine_as_test(
            LogMachine,
            settings=settings(
                max_examples=40,
                stateful_step_count=30,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )

    def test_rolls_by_bytes_time_and_index(self):
        log = self.open(segment_bytes=1000)
        for _ in range(30):
            append(log, size=100)
        self.assertTrue(all(segment.size <= 1000 for segment in log.segments))
        self.assertGreater(len(log.segments), 4)
        log = self.open(path=self.path + "1", segment_ms=50)
        for timestamp in (100, 150, 151, 160):
            append(log, timestamp=timestamp)
        self.assertEqual([segment.base_offset for segment in log.segments], [0, 2])
        log = self.open(path=self.path + "2", segment_index_bytes=24, index_interval_bytes=1)
        for _ in range(9):
            append(log)
        self.assertGreater(len(log.segments), 2)
        for segment in log.segments:
            self.assertLessEqual(len(segment.index.data), 24)

    def test_a_full_disk_refuses_and_recovers(self):
        disk = SimulatedDisk(capacity=500)
        log = self.open(disk=disk, path="/t")
        for _ in range(4):
            append(log)
        error = self.refused(ErrorCode.KAFKA_STORAGE_ERROR, append, log, size=300)
        self.assertIn("full", str(error))
        self.assertEqual(log.end_offset, 4)
        disk.capacity = 5000
        self.assertEqual(append(log, size=300), 4)
        self.assertEqual(len(list(split_batches(log.read(0, 9999, 5)[0]))), 5)

    def test_what_cannot_be_undone_takes_the_log_offline(self):
        disk = SimulatedDisk(capacity=300)
        log = self.open(disk=disk, path="/t")
        append(log)
        disk.fail("truncate", ".log", OSError(errno.EIO, "Input/output error"))
        self.refused(ErrorCode.KAFKA_STORAGE_ERROR, append, log, size=300)
        disk.heal()
        error = self.refused(ErrorCode.KAFKA_STORAGE_ERROR, append, log)
        self.assertIn("offline", str(error))

    def test_reads_outside_are_refused(self):
        log = self.open()
        append(log, 3)
        log.advance_start(1)
        self.refused(ErrorCode.OFFSET_OUT_OF_RANGE, log.read, 4, 10, 3)
        self.refused(ErrorCode.OFFSET_OUT_OF_RANGE, log.advance_start, 9)
        self.assertEqual(log.read(3, 10, 3)[0], b"")

    def test_retention_by_time_and_size_deletes_through_renaming(self):
        log = self.open(segment_bytes=300, retention_ms=100, retention_bytes=-1)
        for timestamp in range(0, 300, 10):
            append(log, timestamp=timestamp, size=30)
        count = log.expired_segments(250, log.end_offset)
        self.assertGreater(count, 2)
        expected = log.segments[count].base_offset
        self.assertLessEqual(250 - log.segments[count].max_timestamp, 100)
        log.delete_oldest(count, 250)
        self.assertEqual(log.start_offset, expected)
        self.assertEqual(log.take_deleted(), [])  # not durable yet
        log.flush()
        deleted = log.take_deleted()
        self.assertGreaterEqual(len(deleted), count)
        self.assertTrue(all(path.endswith(".deleted") and self.disk.exists(path) for path in deleted))
        log.close()
        self.assertEqual(self.open().start_offset, expected)
        self.assertFalse(any(self.disk.exists(path) for path in deleted))
        log = self.open(path=self.path + "1", segment_bytes=300, retention_bytes=900, retention_ms=-1)
        for _ in range(20):
            append(log, size=30)
        log.delete_oldest(log.expired_segments(0, log.end_offset), 0)
        self.assertTrue(900 <= log.size_bytes < 1200, log.size_bytes)

    def test_an_expired_active_segment_rolls_and_goes(self):
        log = self.open(retention_ms=100)
        append(log, timestamp=5)
        self.assertEqual(log.expired_segments(1000, 1), 1)
        log.delete_oldest(1, 1000)
        log.flush()
        self.assertEqual((log.start_offset, log.end_offset, log.size_bytes), (1, 1, 0))
        log.close()
        log = self.open()
        self.assertEqual((log.start_offset, log.end_offset), (1, 1))
        self.assertEqual(append(log), 1)

    def test_offsets_that_do_not_follow_are_refused_from_a_leader(self):
        log = self.open()
        batch = encode_batch([Record(5, 0, None, b"x")], base_offset=5, leader_epoch=1)
        self.refused(ErrorCode.CORRUPT_MESSAGE, log.append_replicated, batch, 0)
        log.truncate_fully(5, 0)
        self.assertEqual(log.append_replicated(batch, 0), 6)
        self.assertEqual((log.start_offset, log.epochs.latest), (5, 1))

    def test_missing_or_broken_indexes_are_rebuilt(self):
        log = self.open(segment_bytes=3000, index_interval_bytes=300)
        for timestamp in range(60):
            append(log, timestamp=timestamp, size=50)
        log.close()
        for damage in (b"", b"123", b"\xff" * 24):
            for name in self.disk.list(self.path):
                if name.endswith("index"):
                    self.disk.replace(f"{self.path}/{name}", damage)
            log = self.open(segment_bytes=3000, index_interval_bytes=300)
            self.assertEqual(log.offset_for_timestamp(33, 60), (33, 33, 0))
            self.assertEqual(next(split_batches(log.read(20, 100, 60)[0]))[1].base_offset, 20)


class RottenIndexTests(SynchronousTestCase):
    """Index files of a plausible shape and wrong content: found out at the first look, and made anew."""

    COUNT = 120

    def setUp(self):
        self.disk = SimulatedDisk()
        log = Log.open(self.disk, "/t-0", CONFIG, 0)
        for timestamp in range(self.COUNT):
            append(log, timestamp=timestamp * 10, size=50)
        log.close()
        self.whole = {(o, n): bytes(log.read(o, n, self.COUNT)[0]) for o in range(self.COUNT) for n in (0, 500, 9000)}

    def rot(self, suffix, change):
        """Rewrite each index file, entry by entry; once all of them, once all but the last, which is looked at first."""
        for kept in (0, 1):
            self.setUp()
            self._rot(
                suffix,
                lambda entries, kept=kept: change(entries[: len(entries) - kept]) + entries[len(entries) - kept :],
            )
            self.check()

    def _rot(self, suffix, change):
        width = 8 if suffix == ".index" else 12
        changed = 0
        for name in self.disk.list("/t-0"):
            if name.endswith(suffix):
                data = self.disk.read(f"/t-0/{name}")
                entries = [data[at : at + width] for at in range(0, len(data), width)]
                rotten = b"".join(change(entries))
                changed += rotten != data
                self.disk.replace(f"/t-0/{name}", rotten)
        self.assertGreater(changed, 3)

    def check(self):
        log = Log.open(self.disk, "/t-0", CONFIG, 0, clean=True)
        self.assertIsNone(log.recovery)
        for (offset, max_bytes), data in sorted(self.whole.items(), reverse=True):
            self.assertEqual(bytes(log.read(offset, max_bytes, self.COUNT)[0]), data, (offset, max_bytes))
        for offset in range(0, self.COUNT, 7):
            self.assertEqual(log.offset_for_timestamp(offset * 10 - 3, self.COUNT), (offset * 10, offset, 0))
            self.assertEqual(len(list(split_batches(log.read(offset, 9000, offset + 1)[0]))), 1)
        newest = [segment.max_timestamp for segment in log.segments if segment.size]
        self.assertEqual(newest, [(segment.next_offset - 1) * 10 for segment in log.segments if segment.size])

    def test_positions_in_the_middle_of_batches(self):
        self.rot(
            ".index", lambda entries: [e[:4] + (int.from_bytes(e[4:], "big") - 3).to_bytes(4, "big") for e in entries]
        )

    def test_positions_of_other_batches(self):
        self.rot(".index", lambda entries: [e[:4] + entries[0][4:] for e in entries])

    def test_offsets_of_other_batches(self):
        self.rot(
            ".index", lambda entries: [(int.from_bytes(e[:4], "big") - 1).to_bytes(4, "big") + e[4:] for e in entries]
        )

    def test_entries_out_of_order(self):
        self.rot(".index", lambda entries: entries[::-1])

    def test_timestamps_that_no_batch_has(self):
        self.rot(
            ".timeindex",
            lambda entries: [(int.from_bytes(e[:8], "big") + 5).to_bytes(8, "big") + e[8:] for e in entries],
        )

    def test_times_of_other_batches(self):
        self.rot(".timeindex", lambda entries: [e[:8] + entries[0][8:] for e in entries])

    def test_a_rotten_batch_is_no_rotten_index(self):
        """The indexes are made anew once, not at every read."""
        log = Log.open(self.disk, "/t-0", CONFIG, 0, clean=True)
        sealed = log.segments[1]
        at = 2 * len(log.read(0, 0, 1)[0])
        self.disk.damage(sealed.path(".log"), at + 16)  # the third batch's magic
        read = self.disk.open(sealed.path(".log")).pread(1, 0)
        self.assertTrue(read)
        offset = sealed.base_offset + 2
        for _ in range(3):
            error = self.assertRaises(KafkaError, log.read, offset, 100, self.COUNT)
            self.assertEqual(error.code, ErrorCode.CORRUPT_MESSAGE)
        self.assertEqual(bytes(log.read(sealed.base_offset, 0, self.COUNT)[0]), self.whole[sealed.base_offset, 0])


class LazyDirectoryTests(SynchronousTestCase):
    def setUp(self):
        self.disk = SimulatedDisk()
        self.disk.make_directory("/data/topics")
        self.path = "/data/topics/t-0"

    def open(self, clean=True):
        return Log.open(self.disk, self.path, CONFIG, 0, clean)

    def test_a_log_without_a_record_touches_nothing(self):
        before = self.disk.operations
        for clean in (True, False):
            log = self.open(clean)
            self.assertEqual((log.start_offset, log.end_offset, log.size_bytes), (0, 0, 0))
            self.assertEqual((log.needs_flush, log.recovery), (False, None))
            self.assertEqual(log.read(0, 100, 0)[0], b"")
            self.assertEqual(log.expired_segments(10**15, 0), 0)
            log.flush()
            log.advance_start(0)
            log.truncate_to(0, 0)
            log.close()
        self.assertEqual(self.disk.operations, before)
        self.assertFalse(self.disk.exists(self.path))

    def test_it_is_there_for_certain_after_the_first_flush(self):
        for seed in range(20):
            self.setUp()
            log = self.open()
            append(log)
            log.flush()
            self.disk.crash(Random(seed))
            self.assertEqual(self.open(clean=False).end_offset, 1, seed)

    def test_a_name_from_before_an_unclean_shutdown_is_synced_with_the_next_flush(self):
        for seed in range(20):
            self.setUp()
            append(self.open())
            self.disk.kill()  # the page cache keeps the directory, the disk may not have it
            log = self.open(clean=False)
            append(log)
            log.flush()
            self.disk.crash(Random(seed))
            self.assertEqual(self.open(clean=False).end_offset, 2, seed)

    def test_where_it_cannot_be_made_the_append_is_refused_and_tried_again(self):
        log = self.open()
        self.disk.fail("make_directory", "t-0", OSError(errno.ENOSPC, "No space left on device"))
        error = self.assertRaises(KafkaError, append, log)
        self.assertEqual(error.code, ErrorCode.KAFKA_STORAGE_ERROR)
        self.assertIn("full", str(error))
        self.disk.heal()
        self.assertEqual(append(log), 0)

    def test_a_follower_may_begin_anywhere(self):
        log = self.open()
        log.truncate_fully(40, 0)
        self.disk.crash(Random(1))
        self.assertEqual((self.open(clean=False).start_offset, self.open(clean=False).end_offset), (40, 40))


class TruncatedTests(SynchronousTestCase):
    def test_a_power_loss_in_a_truncation_to_anywhere(self):
        """It leaves the log as it was, as it is to be, or empty at the new start: never one that cannot be opened."""
        for start in (3, 20, 60, 90):
            for operation in range(1, 60):
                for seed in range(2):
                    disk = SimulatedDisk()
                    disk.make_directory("/data")
                    log = Log.open(disk, "/data/t-0", CONFIG, 0)
                    for _ in range(60):
                        append(log, size=100)
                    log.flush()
                    log.delete_oldest(1, 0)
                    log.flush()
                    before, ended = log.start_offset, False
                    disk.crash_at = disk.operations + operation
                    try:
                        log.truncate_fully(start, 0)
                        ended = True
                    except SimulatedCrash:
                        disk.crash(Random(f"{start} {operation} {seed}"))
                    disk.crash_at = 0
                    if not ended:
                        log = Log.open(disk, "/data/t-0", CONFIG, 0)
                    self.assertIn(log.start_offset, {before, start, max(before, start)})
                    self.assertLessEqual(log.end_offset, max(60, start))
                    append(log)
                    log.close()


class LostLogTests(SynchronousTestCase):
    """A sync that fails on the reactor: told once, and nothing works any more."""

    def test_each_way(self):
        ways = [
            lambda log: log.flush(),
            lambda log: log.close(),
            lambda log: log.roll(0),
            lambda log: log.truncate_to(1, 0),
            lambda log: log.truncate_fully(9, 0),
            lambda log: log.delete_oldest(1, 0),
            lambda log: append(log, size=2000),  # rolls
        ]
        for index, way in enumerate(ways):
            disk, lost = SimulatedDisk(), []
            log = Log.open(disk, "/t-0", CONFIG, 0)
            log.on_lost = lost.append
            for _ in range(3):
                append(log)
            for kind in ("datasync", "sync_directory"):
                disk.fail(kind, "", OSError(errno.EIO, "Input/output error"))
            self.assertRaises(StorageError, way, log)
            self.assertEqual(len(lost), 1, index)
            disk.heal()
            error = self.assertRaises(KafkaError, append, log)
            self.assertIn("offline", str(error))
            self.assertIsNone(log.begin_flush())
            self.assertRaises(KafkaError, log.flush)
            log.close()
            self.assertEqual(len(lost), 1, index)

    def test_one_that_failed_on_the_thread_is_met_on_the_reactor(self):
        for way in (lambda log: log.close(), lambda log: log.truncate_fully(1, 0), lambda log: log.abandon()):
            disk, lost = SimulatedDisk(), []
            log = Log.open(disk, "/t-0", CONFIG, 0)
            log.on_lost = lost.append
            append(log)
            flush = log.begin_flush()
            disk.fail("datasync", ".log", OSError(errno.EIO, "Input/output error"))
            self.assertRaises(StorageError, flush.run)
            disk.heal()
            self.assertRaises(StorageError, way, log)
            self.assertEqual(len(lost), 1)
            self.assertEqual(log.recovery_point, 0)


class ProducerTests(SynchronousTestCase):
    def setUp(self):
        self.log = Log.open(SimulatedDisk(), "/t-0", LogConfig(), 0)

    def send(self, sequence, records=1, epoch=0):
        return append(self.log, records, producer_id=5, epoch=epoch, sequence=sequence)

    def refused(self, code, *args, **options):
        error = self.assertRaises(KafkaError, self.send, *args, **options)
        self.assertEqual(error.code, code)

    def test_the_five_batch_window(self):
        bases = [self.send(index * 2, 2) for index in range(7)]
        self.assertEqual([self.send(index * 2, 2) for index in range(2, 7)], bases[2:])
        self.refused(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, 2, 2)  # fell out of the window
        self.refused(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, 12, 1)  # not the same batch
        self.refused(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, 15)
        self.assertEqual(self.log.end_offset, 14)

    def test_an_unknown_producer_begins_anywhere(self):
        self.assertEqual(self.send(99), 0)
        self.assertEqual(self.send(100), 1)

    def test_epochs(self):
        self.send(0, epoch=1)
        self.refused(ErrorCode.INVALID_PRODUCER_EPOCH, 1, epoch=0)
        self.refused(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, 1, epoch=2)
        self.assertEqual(self.send(0, epoch=2), 1)
        self.assertEqual(self.send(1, epoch=2), 2)

    def test_sequences_wrap(self):
        self.send(2**31 - 2, 2)
        self.assertEqual(self.send(0), 2)
        self.log = Log.open(SimulatedDisk(), "/t-1", LogConfig(), 0)
        self.send(2**31 - 1, 2)
        self.assertEqual(self.send(1), 2)
        self.assertEqual(self.send(2**31 - 1, 2), 0)

    def test_expiry_forgets(self):
        batch, header = produced(timestamp=1000, producer_id=5, sequence=3)
        self.log.append(memoryview(batch), header, 0, 1000)
        self.assertEqual(self.log.producers.expire(1500, 501), 0)
        self.assertEqual(self.log.producers.expire(1501, 501), 1)
        self.assertEqual(self.log.producers.entries(), [])
