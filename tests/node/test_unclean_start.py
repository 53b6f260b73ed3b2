"""Starting on what an unclean end has left: verified in steps, told in the log, synced where the topic promises it."""

from __future__ import annotations

import os
import shutil
import socket
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import eventAsText, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from chronik.broker import opening, unopened
from chronik.config import Config
from chronik.errors import StorageError
from chronik.services import Node, make_node
from tests.node.test_faults import FaultyDisk
from tests.test_node import QUIET


class RecordingDisk(FaultyDisk):
    """Notes the paths of data that were synced."""

    def __init__(self) -> None:
        super().__init__()
        self.synced: list[str] = []

    def refuse_sync(self, path: str) -> None:
        self.synced.append(path)
        super().refuse_sync(path)


class UncleanStartTests(TestCase):
    async def setUp(self) -> None:
        """`left`: the data directory of a node that was cut off while it had unsynced records of two topics."""
        home = os.path.abspath(self.mktemp())
        self.left = home + "-left"
        node, _ = self.make(home, FaultyDisk())
        await node.ready
        servers = f"127.0.0.1:{node.kafka_ports[0][1].getHost().port}"

        def fill() -> None:
            admin = AdminClient({"bootstrap.servers": servers, **QUIET})
            wanted = [NewTopic(name, 1, 1, config={"segment.bytes": str(2**20)}) for name in ("becomes-safe", "plain")]
            wanted[0].config["chronik.durability"] = "fsync"
            for future in admin.create_topics(wanted).values():
                future.result(10)
            producer = Producer({"bootstrap.servers": servers, **QUIET})
            for _ in range(6):
                for topic in ("becomes-safe", "plain"):
                    producer.produce(topic, os.urandom(600_000))
                    assert producer.flush(10) == 0

        await deferToThread(fill)
        shutil.copytree(home, self.left)
        await node.stopService()
        self.lines: list[str] = []
        observer = lambda event: self.lines.append(eventAsText(event, includeSystem=False))  # noqa: E731
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def make(self, directory: str, disk: FaultyDisk, port: int = 0) -> tuple[Node, list[Failure]]:
        config = Config.resolve(
            {
                "data_directory": directory,
                "listeners": f"127.0.0.1:{port}",
                "admin_listener": "none",
                "search_listener": "none",
                "flush_interval_ms": "100000",
            }
        )
        fatal: list[Failure] = []
        node = make_node(config, fatal.append, disk=disk)  # type: ignore[arg-type]
        node.startService()
        self.addCleanup(node.stopService)
        return node, fatal

    async def test_recovered_bytes_of_an_fsync_topic_are_synced_before_they_are_served(self) -> None:
        disk = RecordingDisk()
        synced: list[str] = []
        node, fatal = self.make(self.left, disk)
        node.ready.addCallback(lambda ready: synced.extend(disk.synced) or ready)  # type: ignore[func-returns-value]
        await node.ready
        safe, plain = (node.replicas.partition(topic, 0).log for topic in ("becomes-safe", "plain"))
        for log in (safe, plain):
            self.assertIsNotNone(log.recovery)
            self.assertEqual(log.end_offset, 6)
        self.assertEqual(safe.recovery_point, 6)
        files = {path for path in synced if path.startswith(safe.directory) and path.endswith(".log")}
        self.assertIn(safe.segments[-1].path(".log"), files)
        self.assertFalse([path for path in synced if path.startswith(plain.directory) and path.endswith(".log")])
        self.assertEqual(fatal, [])

    async def test_where_they_cannot_be_synced_the_node_does_not_start(self) -> None:
        disk = FaultyDisk()
        disk.broken = ".log"
        node, fatal = self.make(self.left, disk)
        await self.ended(node, fatal)
        (failure,) = fatal
        failure.trap(StorageError)
        self.assertFalse(node.ready.called)

    async def test_progress_is_told(self) -> None:
        self.patch(opening, "TELL_EVERY_SECONDS", 0.0)
        node, _ = self.make(self.left, FaultyDisk())
        await node.ready
        told = [line for line in self.lines if "verifying plain-0 after an unclean shutdown" in line]
        self.assertGreater(len(told), 2, self.lines)
        self.assertIn("MB of 3 MB", told[-1].replace("4 MB", "3 MB"))

    async def test_a_stop_in_the_midst_of_verifying(self) -> None:
        """Nothing is marked clean then, and the next start verifies everything."""
        self.patch(unopened, "_START_SLICE_SECONDS", 0.0)
        node, fatal = self.make(self.left, FaultyDisk())
        verifying: Any = opening.Verification.follow
        stopped: list[Any] = []

        def stop_at_the_second_step(self: Any, name: Any, steps: Any) -> Any:
            inner, count = verifying(self, name, steps), 0
            while True:
                try:
                    next(inner)
                except StopIteration as opened:
                    return opened.value
                count += 1
                if count == 2 and not stopped:
                    stopped.append(deferLater(reactor, 0, node.stopService))  # type: ignore[arg-type]
                yield

        self.patch(opening.Verification, "follow", stop_at_the_second_step)
        await self.ended(node, fatal, stopped)
        self.assertEqual(len(stopped), 1)
        await stopped[0]
        self.assertEqual(fatal, [])
        self.assertFalse(os.path.exists(os.path.join(self.left, "clean-shutdown")))
        self.patch(opening.Verification, "follow", verifying)
        again, _ = self.make(self.left, FaultyDisk())
        await again.ready
        for topic in ("becomes-safe", "plain"):
            log = again.replicas.partition(topic, 0).log
            self.assertEqual(log.end_offset, 6)
            self.assertIsNotNone(log.recovery)

    async def test_a_start_that_fails_before_verifying_marks_nothing_clean(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            node, fatal = self.make(self.left, FaultyDisk(), taken.getsockname()[1])
            await self.ended(node, fatal)
        self.assertEqual(len(fatal), 1)
        self.assertFalse(os.path.exists(os.path.join(self.left, "clean-shutdown")))

    async def ended(self, node: Node, fatal: list[Failure], stopped: list[Any] | None = None) -> None:
        """Wait until the start has failed or was stopped."""
        for _ in range(500):
            if fatal or stopped:
                return
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]
        self.fail("the start has not ended")
