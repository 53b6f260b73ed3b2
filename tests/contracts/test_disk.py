"""The contract of IDisk and IFile, on the real disk and on the simulated one."""

from __future__ import annotations

import tempfile
from random import Random

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from chronik.interfaces import IDisk, IFile
from chronik.log.disk import RealDisk
from chronik.log.memory import MemoryDisk
from chronik.log.simulated import SimulatedDisk


class DiskContract:
    """What every disk does. `make_disk` gives one, `root` is a directory on it."""

    disk: IDisk
    root: str

    def test_provides_the_interfaces(self):
        verifyObject(IDisk, self.disk)
        verifyObject(IFile, self.disk.open(f"{self.root}/a"))

    def test_opening_does_not_create(self):
        file = self.disk.open(f"{self.root}/a")
        self.assertFalse(self.disk.exists(f"{self.root}/a"))
        self.assertEqual(file.size(), 0)
        self.assertRaises(FileNotFoundError, file.pread, 1, 0)
        self.assertRaises(FileNotFoundError, self.disk.size, f"{self.root}/a")

    def test_appends_are_read_back_at_positions(self):
        file = self.disk.open(f"{self.root}/a")
        file.append(b"hello ")
        file.append(memoryview(bytearray(b"world")))
        self.assertEqual(file.size(), 11)
        self.assertEqual(self.disk.size(f"{self.root}/a"), 11)
        self.assertEqual(file.pread(5, 6), b"world")
        self.assertEqual(file.pread(100, 6), b"world")
        self.assertEqual(file.pread(100, 11), b"")
        self.assertEqual(self.disk.read(f"{self.root}/a"), b"hello world")

    def test_a_closed_file_goes_on_at_its_end(self):
        file = self.disk.open(f"{self.root}/a")
        file.append(b"one")
        file.close()
        file.append(b"two")
        file.datasync()
        file.close()
        file.datasync()
        self.assertEqual(self.disk.open(f"{self.root}/a").pread(10, 0), b"onetwo")

    def test_truncate_cuts_and_appends_follow(self):
        file = self.disk.open(f"{self.root}/a")
        file.append(b"0123456789")
        file.truncate(4)
        file.append(b"x")
        self.assertEqual(self.disk.read(f"{self.root}/a"), b"0123x")

    def test_replace_creates_and_replaces(self):
        for durable in (True, False):
            self.disk.replace(f"{self.root}/c", b"first", durable)
            self.disk.replace(f"{self.root}/c", b"2", durable)
            self.assertEqual(self.disk.read(f"{self.root}/c"), b"2")
        self.assertEqual(self.disk.list(self.root), ["c"])

    def test_directories_are_made_listed_renamed_and_removed(self):
        self.disk.make_directory(f"{self.root}/x/y")
        self.disk.make_directory(f"{self.root}/x/y")
        self.disk.open(f"{self.root}/x/y/b").append(b"1")
        self.disk.open(f"{self.root}/x/y/a").append(b"1")
        self.assertEqual(self.disk.list(f"{self.root}/x/y"), ["a", "b"])
        self.disk.rename(f"{self.root}/x", f"{self.root}/z")
        self.disk.sync_directory(self.root)
        self.assertEqual(self.disk.list(self.root), ["z"])
        self.assertEqual(self.disk.read(f"{self.root}/z/y/a"), b"1")
        self.disk.remove(f"{self.root}/z/y/a")
        self.assertEqual(self.disk.list(f"{self.root}/z/y"), ["b"])
        self.disk.remove(f"{self.root}/z")
        self.disk.remove(f"{self.root}/z")
        self.assertFalse(self.disk.exists(f"{self.root}/z"))
        self.assertRaises(FileNotFoundError, self.disk.list, f"{self.root}/z")

    def test_directories_are_there_at_once_durably_or_not(self):
        self.disk.make_directory(f"{self.root}/p/q", durable=False)
        self.disk.make_directory(f"{self.root}/p/q", durable=False)
        self.disk.open(f"{self.root}/p/q/a").append(b"1")
        self.disk.sync_directory(f"{self.root}/p")
        self.assertEqual(self.disk.list(f"{self.root}/p/q"), ["a"])

    def test_missing_things_are_refused(self):
        self.assertRaises(FileNotFoundError, self.disk.read, f"{self.root}/no")
        self.assertRaises(FileNotFoundError, self.disk.rename, f"{self.root}/no", f"{self.root}/other")

    def test_there_is_room(self):
        size, free = self.disk.volume(self.root)
        self.assertGreater(free, 1 << 20)
        self.assertGreaterEqual(size, free)


class RealDiskTests(DiskContract, SynchronousTestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.disk, self.root = RealDisk(), directory.name

    def test_few_descriptors_serve_many_files(self):
        disk = RealDisk(max_open=8)
        files = [disk.open(f"{self.root}/{index}") for index in range(50)]
        for turn in range(3):
            for file in files:
                file.append(b"%d" % turn)
                self.assertLessEqual(disk.open_files, 8)
        for file in files:
            file.datasync()  # most of them lost their descriptor with unsynced bytes
            self.assertEqual(file.pread(9, 0), b"012")

    def test_what_is_used_stays_open(self):
        disk = RealDisk(max_open=8)
        busy, kept = disk.open(f"{self.root}/busy"), 0
        for index in range(40):
            busy.append(b"x")
            disk.open(f"{self.root}/{index}").append(b"y")
            kept += busy._fd >= 0
        self.assertGreaterEqual(kept, 38)


class MemoryDiskTests(DiskContract, SynchronousTestCase):
    def setUp(self):
        self.disk, self.root = MemoryDisk(), "/data"
        self.disk.make_directory("/data")


class SimulatedDiskTests(DiskContract, SynchronousTestCase):
    def setUp(self):
        self.disk, self.root = SimulatedDisk(), "/data"
        self.disk.make_directory("/data")

    def test_a_crash_keeps_what_was_synced_and_may_lose_the_rest(self):
        outcomes = set()
        for seed in range(40):
            disk = SimulatedDisk()
            disk.make_directory("/d")
            file = disk.open("/d/f")
            file.append(b"a" * 700)
            file.datasync()
            disk.sync_directory("/d")
            file.append(b"b" * 2000)
            disk.replace("/d/r", b"new", durable=False)
            disk.crash(Random(seed))
            content = disk.read("/d/f")
            self.assertEqual(content[:700], b"a" * 700)
            torn = (
                "whole" if len(content) == 2700 and b"\0" not in content else "lost" if len(content) == 700 else "torn"
            )
            outcomes.add((torn, disk.exists("/d/r")))
            if disk.exists("/d/r"):
                self.assertEqual(disk.read("/d/r"), b"new")
        self.assertEqual({torn for torn, _ in outcomes}, {"whole", "lost", "torn"})
        self.assertEqual({there for _, there in outcomes}, {True, False})

    def test_a_full_disk_takes_a_part(self):
        disk = SimulatedDisk(capacity=10)
        file = disk.open("/f")
        self.assertRaises(OSError, file.append, b"x" * 11)
        self.assertEqual(file.size(), 10)
