"""The partitions of a node: what a start finds on disk, what a deletion leaves, what cannot be opened."""

from __future__ import annotations

from dataclasses import replace

from twisted.logger import eventAsText, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from chronik.log.memory import MemoryDisk
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
