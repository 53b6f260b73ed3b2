"""The partitions of a node: what a start finds on disk, what a deletion leaves, what cannot be opened."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

from twisted.logger import eventAsText, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from chronik.errors import CorruptLogError, ErrorCode, KafkaError
from chronik.log.memory import MemoryDisk
from chronik.log.state import tell_nobody
from chronik.wire.records import Record, encode_batch
from tests.listeners.handlers.hosting import NOW, Hosting


def append(hosting: Hosting, topic: str, index: int = 0) -> None:
    hosting.partition(topic, index).append(encode_batch([Record(0, NOW, None, b"x")]), NOW)


class ReplicasTestCase(SynchronousTestCase):
    """`lines` are those of the node's log."""

    def setUp(self) -> None:
        self.lines: list[str] = []
        observer = lambda event: self.lines.append(eventAsText(event, includeTimestamp=False))  # noqa: E731
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def told(self, *parts: str) -> list[str]:
        """The lines that have all of `parts`."""
        return [line for line in self.lines if all(part in line for part in parts)]


class DurabilityTests(ReplicasTestCase):
    def test_who_waits_for_the_disk_is_answered_when_durability_changes(self) -> None:
        hosting = Hosting()
        hosting.create("t", chronik_durability="fsync")
        partition = hosting.partition("t")
        hosting.worker.stuck = True
        append(hosting, "t")
        answers: list[object] = []
        partition.commits.wait(1, answers.append)
        hosting.clock.advance(0)
        self.assertEqual((partition.high_watermark, answers), (0, []))
        partition.configure(replace(partition.settings, durability="interval"))
        self.assertEqual((partition.high_watermark, answers), (1, [None]))
        partition.configure(replace(partition.settings, durability="fsync"))
        self.assertEqual(partition.high_watermark, 1)

    def test_a_sync_commits_whatever_the_durability_is_now(self) -> None:
        hosting = Hosting()
        hosting.create("t", chronik_durability="fsync")
        partition = hosting.partition("t")
        hosting.worker.stuck = True
        append(hosting, "t")
        partition.syncs_first = False
        partition.synced(1)
        self.assertEqual(partition.high_watermark, 1)


class FaultyDisk(MemoryDisk):
    """Paths that end as one of `unreadable` cannot be listed, those of `fixed` not be renamed."""

    def __init__(self) -> None:
        super().__init__()
        self.unreadable: tuple[str, ...] = ()
        self.fixed: tuple[str, ...] = ()
        self.tries = 0

    def list(self, path: str) -> list[str]:
        if self.unreadable and path.endswith(self.unreadable):
            self.tries += 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)
        return super().list(path)

    def rename(self, source: str, target: str) -> None:
        if self.fixed and source.endswith(self.fixed):
            raise OSError(errno.EIO, os.strerror(errno.EIO), source)
        super().rename(source, target)


class OpeningTests(ReplicasTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.disk = FaultyDisk()
        self.hosting = Hosting(self.disk)

    def refused(self, index: int) -> str:
        error = self.assertRaises(KafkaError, self.hosting.partition, "t", index)
        self.assertEqual(error.code, ErrorCode.KAFKA_STORAGE_ERROR)
        return str(error)

    def opened(self) -> list[int]:
        return sorted(partition.name.partition for partition in self.hosting.replicas.partitions())

    def test_one_that_cannot_be_opened_keeps_no_other_and_is_tried_again(self) -> None:
        self.disk.unreadable = ("-0", "-2")
        self.hosting.create("t", 4)
        self.hosting.clock.pump([0] * 10)
        self.assertEqual(self.opened(), [1, 3])
        self.assertEqual(len(self.told("-0 cannot be opened", os.strerror(errno.EMFILE))), 1)
        for _ in range(3):
            self.assertIn(os.strerror(errno.EMFILE), self.refused(2))
        self.assertEqual(self.disk.tries, 2)
        self.disk.unreadable = ("-2",)
        self.hosting.clock.pump([5, 0, 0, 0])
        self.assertEqual(self.opened(), [0, 1, 3])
        self.refused(2)
        self.disk.unreadable = ()
        self.hosting.clock.pump([5, 0, 0, 0])
        self.assertEqual(self.opened(), [0, 1, 2, 3])
        append(self.hosting, "t", 2)
        self.assertEqual(self.hosting.clock.getDelayedCalls()[1:], [])  # the flusher's

    def test_a_request_that_cannot_open_one_leaves_it_to_be_tried_again(self) -> None:
        self.disk.unreadable = ("-0",)
        self.hosting.create("t")
        self.refused(0)
        self.disk.unreadable = ()
        self.hosting.clock.pump([5, 0, 0, 0])
        self.assertEqual(self.hosting.partition("t").high_watermark, 0)

    def test_a_damaged_log_keeps_the_node_from_starting(self) -> None:
        self.hosting.create("t")
        append(self.hosting, "t")
        path = self.hosting.partition("t").log.directory
        self.hosting.replicas.stop()
        self.disk.replace(f"{path}/checkpoint", b"nonsense")
        replicas, (started, clock) = self.hosting.again()
        clock.pump([0, 0])
        failure = self.failureResultOf(started, CorruptLogError)
        self.assertIn(path, failure.getErrorMessage())
        self.assertEqual(list(replicas.partitions()), [])

    def test_an_unopened_partition_is_deleted_with_its_directory(self) -> None:
        self.hosting.create("t", 2)
        append(self.hosting, "t")
        path = self.hosting.partition("t").log.directory
        self.hosting.replicas.stop()
        replicas, (started, clock) = self.hosting.again()
        self.hosting.delete("t")
        clock.pump([0, 0])
        self.successResultOf(started)
        self.assertEqual(list(replicas.partitions()), [])
        self.assertEqual([gone for gone, _ in self.hosting.discarded], [path + ".deleted"])

    def test_segments_roll_with_jitter(self) -> None:
        """The tests' random number is always a half."""
        self.hosting.create("t", segment_ms="1000", segment_jitter_ms="1000")
        log = self.hosting.partition("t").log
        for after, segments in ((0, 1), (400, 1), (600, 2)):
            batch = encode_batch([Record(0, NOW + after, None, b"x")])
            self.hosting.partition("t").append(batch, NOW)
            self.assertEqual(len(log.segments), segments)


class DeletionTests(ReplicasTestCase):
    def test_a_directory_that_stays_keeps_no_other(self) -> None:
        disk = FaultyDisk()
        hosting = Hosting(disk)
        hosting.create("t", 3)
        answers: list[object] = []
        logs = []
        for index in range(3):
            append(hosting, "t", index)
            partition = hosting.partition("t", index)
            partition.commits.wait(9, answers.append)
            logs.append(partition.log)
        disk.fixed = ("-0", "-1")
        hosting.delete("t")
        self.assertEqual(len(answers), 3)
        self.assertEqual([path for path, _ in hosting.discarded], [logs[2].directory + ".deleted"])
        self.assertEqual(len(self.told("of a deleted topic stays")), 2)
        for log in logs:
            self.assertIsNotNone(log.offline)
            self.assertEqual(log.on_dirty, tell_nobody)


class StrayTests(ReplicasTestCase):
    def test_data_that_the_metadata_does_not_know_is_kept(self) -> None:
        disk = MemoryDisk()
        names = set()
        for suffix in (".stray", ".stray2"):  # the same partition is lost twice
            hosting = Hosting(disk)
            hosting.create("t")
            append(hosting, "t")
            name = hosting.partition("t").log.name
            hosting.replicas.stop()
            names.add(name + suffix)
            for _ in range(2):  # the second start leaves it alone
                lost = Hosting(disk)
                self.assertEqual(set(disk.list("/topics")), names)
                self.assertEqual(lost.discarded, [])
            self.assertEqual(len(self.told(f"/topics/{name} belongs to no topic", name + suffix)), 1)
        self.assertEqual(len(self.told("restore meta/")), 2)
        self.assertIn("00000000000000000000.log", disk.list(f"/topics/{name}.stray"))

    def test_what_a_deletion_left_goes(self) -> None:
        disk = MemoryDisk()
        hosting = Hosting(disk)
        hosting.create("t")
        append(hosting, "t")
        path = hosting.partition("t").log.directory
        hosting.delete("t")
        self.assertEqual([given_up for given_up, _ in hosting.discarded], [path + ".deleted"])
        self.assertEqual(Hosting(disk).discarded, [(path + ".deleted", 0)])
        self.assertEqual(self.told("no topic"), [])
