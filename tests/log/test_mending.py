"""Indexes of a large segment that have rotted or are lost: made anew in slices, while look-ups are refused."""

from __future__ import annotations

import errno
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from chronik.errors import ErrorCode, KafkaError
from chronik.log import mending, recovery
from chronik.log import segment as segment_module
from chronik.log.index import MendingError
from chronik.log.log import Log
from chronik.log.segment import file_name
from chronik.log.simulated import SimulatedDisk
from tests.log.batches import append
from tests.log.test_log import CONFIG


class UnreadableFile:
    """A file of a disk that fails, for now."""

    def pread(self, size, position):
        raise OSError(errno.EIO, "not now")


class MendingTests(SynchronousTestCase):
    """With appends in between."""

    def setUp(self):
        self.patch(segment_module, "MENDED_AT_ONCE", 1000)
        self.patch(mending, "SLICE_BYTES", 3000)
        self.disk = SimulatedDisk()
        config = replace(CONFIG, segment_bytes=1 << 20, segment_index_bytes=1 << 20)
        log = Log.open(self.disk, "/t-0", config, 0)
        for timestamp in range(200):
            append(log, timestamp=timestamp * 10, size=50)
        self.whole = bytes(log.read(0, 1 << 20, 200)[0])
        log.close()
        (name,) = (name for name in self.disk.list("/t-0") if name.endswith(".index"))
        data = self.disk.read(f"/t-0/{name}")
        entries = [(data[at : at + 4], data[at + 4 : at + 8]) for at in range(0, len(data), 8)]
        positions = [position for _, position in entries[:-1]]
        moved = zip(entries[1:-1], positions, strict=False)  # each has the position of the one before it
        rotten = [entries[0], *((offset, position) for (offset, _), position in moved), entries[-1]]
        self.disk.replace(f"/t-0/{name}", b"".join(offset + position for offset, position in rotten))
        self.log = Log.open(self.disk, "/t-0", config, 0, clean=True)
        self.assertIsNone(self.log.recovery)
        self.calls = []

    def refused(self, look_up):
        return self.assertRaises(MendingError, look_up)

    def test_slices(self):
        error = self.refused(lambda: self.log.read(100, 500, 200))
        self.assertEqual(error.code, ErrorCode.KAFKA_STORAGE_ERROR)
        error.mend(self.calls.append)
        self.refused(lambda: self.log.read(100, 500, 200)).mend(self.calls.append)
        slices = 0
        while self.calls:
            (call,) = self.calls
            self.calls.clear()
            call()
            slices += 1
            append(self.log, timestamp=5000 + slices, size=50)
        self.assertGreater(slices, 5)
        end = self.log.end_offset
        self.assertEqual(end, 200 + slices)
        for offset in range(0, 200, 9):
            found = bytes(self.log.read(offset, 1 << 20, 200)[0])
            self.assertEqual(found, self.whole[len(self.whole) - len(found) :])
            self.assertEqual(self.log.offset_for_timestamp(offset * 10, end), (offset * 10, offset, 0))
        self.assertEqual(self.log.offset_for_timestamp(5001, end)[1], 200)

    def mend(self, look_up):
        """Refused, and mended in slices; how many there were."""
        self.refused(look_up).mend(self.calls.append)
        slices = 0
        while self.calls:
            self.calls.pop()()
            slices += 1
        return slices

    def sealed(self, *lost):
        """The log again, with its segment sealed, and without the files of it that end like `lost`."""
        self.log.roll(0)
        append(self.log, timestamp=9000, size=50)
        config = self.log.config
        self.log.close()
        for suffix in lost:
            self.disk.remove(self.log.segments[0].path(suffix))
        self.log = Log.open(self.disk, "/t-0", config, 0, clean=True)

    def test_lost_indexes_of_a_sealed_segment_are_made_anew_in_slices(self):
        look_ups = {
            "read": lambda: self.log.read(100, 500, 200),
            "first at or after": lambda: self.log.offset_for_timestamp(1000, 200),
            "newest": lambda: self.log.max_timestamp(200),
            "retention": lambda: self.log.expired_segments(10_000, 200),
            "compaction": lambda: self.log.cleanable(10_000, 200),
        }
        for lost in ((".index",), (".timeindex",), (".index", ".timeindex")):
            for name, look_up in look_ups.items():
                with self.subTest(lost=lost, look_up=name):
                    self.setUp()
                    self.log.configure(
                        replace(self.log.config, retention_ms=1, compacted=True, min_compaction_lag_ms=1)
                    )
                    self.mend(lambda: self.log.read(100, 500, 200))
                    expected = look_up()
                    self.sealed(*lost)
                    self.assertGreater(self.mend(look_up), 5)
                    found = look_up()
                    self.assertEqual(found if name != "compaction" else len(found), expected or len(found))

    def test_slices_are_of_some_batches_at_the_most(self):
        self.patch(mending, "SLICE_BYTES", 1 << 20)
        self.patch(mending, "SLICE_BATCHES", 10)
        self.assertEqual(self.mend(lambda: self.log.read(100, 500, 200)), 20 + 1)

    def test_a_disk_that_cannot_be_read_now_is_tried_again(self):
        self.refused(lambda: self.log.read(100, 500, 200)).mend(self.calls.append)
        segment = self.log.segments[0]
        whole, segment.file = segment.file, UnreadableFile()
        self.calls.pop()()
        self.assertEqual(self.calls, [])
        segment.file = whole
        self.mend(lambda: self.log.read(100, 500, 200))
        self.assertEqual(self.log.read(100, 500, 200)[2] > 100, True)

    def test_lost_indexes_of_the_last_segment_are_made_anew_while_the_log_is_opened(self):
        self.patch(recovery, "_STEP_BATCHES", 10)
        self.patch(recovery, "MENDED_AT_ONCE", 1000)
        self.mend(lambda: self.log.read(100, 500, 200))
        append(self.log, timestamp=4000, size=50)
        self.log.close()
        whole = {name: self.disk.read(f"/t-0/{name}") for name in self.disk.list("/t-0")}
        for lost in ((), (".index",), (".timeindex",)):
            for suffix in lost:
                self.disk.remove(f"/t-0/{file_name(0, suffix)}")
            steps = Log.opening(self.disk, "/t-0", self.log.config, 0, True)
            count = 0
            with self.assertRaises(StopIteration) as opened:
                while True:
                    self.assertLessEqual(next(steps).verified, len(self.whole))
                    count += 1
            self.assertEqual(count, 20 if lost else 0)
            log = opened.exception.value
            self.assertIsNone(log.recovery)
            self.assertEqual(log.offset_for_timestamp(1000, 200), (1000, 100, 0))
            append(log, timestamp=5000, size=50)
            log.truncate_to(201, 0)
            log.close()
            self.assertEqual(
                {name: self.disk.read(f"/t-0/{name}") for name in whole if "index" in name},
                {name: data for name, data in whole.items() if "index" in name},
            )

    def test_a_log_that_has_rotted_itself_is_told(self):
        self.refused(lambda: self.log.read(100, 500, 200)).mend(self.calls.append)
        self.log.segments[0].file.truncate(5000)
        while self.calls:
            self.calls.pop()()
        error = self.assertRaises(KafkaError, self.log.read, 100, 500, 200)
        self.assertEqual(error.code, ErrorCode.CORRUPT_MESSAGE)

    def test_a_truncation_comes_first(self):
        self.refused(lambda: self.log.read(100, 500, 200)).mend(self.calls.append)
        self.calls.pop()()
        self.log.truncate_to(150, 0)
        while self.calls:
            self.calls.pop()()
        self.assertEqual(bytes(self.log.read(0, 1 << 20, 150)[0]), self.whole[: len(self.whole) * 150 // 200])
