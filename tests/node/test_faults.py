"""A whole node on a disk that fails: a sync that fails ends it, a full disk is refused and gets well again."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import eventAsText, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from chronik.config import Config
from chronik.errors import StorageError
from chronik.interfaces import IDisk, IFile
from chronik.log.disk import RealDisk
from chronik.services import Node, make_node
from tests.test_node import QUIET


@implementer(IFile)
class FaultyFile:
    """A real file, and the faults of its disk."""

    def __init__(self, disk: FaultyDisk, path: str) -> None:
        self._disk = disk
        self._file = disk.real.open(path)
        self.path = path

    def append(self, buffer: Any) -> None:
        if any(part in self.path for part in self._disk.full):
            self._file.append(memoryview(buffer)[:10])  # as much as fits
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        self._file.append(buffer)

    def datasync(self) -> None:
        self._disk.refuse_sync(self.path)
        self._file.datasync()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@implementer(IDisk)
class FaultyDisk:
    """The real disk: syncs of paths that have `broken` in them fail, and files that have one of `full` take nothing."""

    def __init__(self) -> None:
        self.real = RealDisk()
        self.broken: str | None = None
        self.full: set[str] = set()

    def open(self, path: str) -> FaultyFile:
        return FaultyFile(self, path)

    def refuse_sync(self, path: str) -> None:
        if self.broken is not None and self.broken in path:
            raise StorageError(f"cannot sync {path}: Input/output error; the node stops")

    def sync_directory(self, path: str) -> None:
        self.refuse_sync(path)
        self.real.sync_directory(path)

    def replace(self, path: str, content: Any, durable: bool = True) -> None:
        self.refuse_sync(path)
        if any(part in path for part in self.full):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        self.real.replace(path, content, durable)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class FaultTests(TestCase):
    async def setUp(self) -> None:
        self.disk = FaultyDisk()
        self.fatal: list[Failure] = []
        self.failed: Deferred[None] = Deferred()
        await self.start()
        self.lines: list[str] = []
        observer = lambda event: self.lines.append(eventAsText(event))  # noqa: E731
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    async def start(self, **settings: str) -> None:
        config = Config.resolve(
            {
                "data_directory": os.path.abspath(self.mktemp()),
                "listeners": "127.0.0.1:0",
                "admin_listener": "none",
                "search_listener": "none",
                "flush_interval_ms": "100000",
                **settings,
            }
        )

        def fatal(failure: Failure) -> None:
            self.fatal.append(failure)
            if not self.failed.called:
                self.failed.callback(None)

        self.node: Node = make_node(config, fatal, disk=self.disk)  # type: ignore[arg-type]
        self.node.startService()
        self.addCleanup(self.node.stopService)
        await self.node.ready
        self.config = config
        self.servers = f"127.0.0.1:{self.node.kafka_ports[0][1].getHost().port}"

    def create(self, name: str, **configs: str) -> Any:
        wanted = NewTopic(name, 1, 1, config={key.replace("_", "."): value for key, value in configs.items()})
        admin = AdminClient({"bootstrap.servers": self.servers, **QUIET})
        return deferToThread(lambda: admin.create_topics([wanted])[name].result(10))

    def produce(self, topic: str, values: list[str], seconds: float = 2.0, **config: object) -> Any:
        """How many were acknowledged, and the codes of the others."""
        settings = {
            "bootstrap.servers": self.servers,
            "delivery.timeout.ms": int(seconds * 1000),
            "retry.backoff.ms": 50,
            "linger.ms": 0,
            **QUIET,
            **config,
        }

        def run() -> tuple[int, list[int]]:
            results: list[Any] = []
            producer = Producer(settings)
            for value in values:
                producer.produce(topic, value, on_delivery=lambda error, _: results.append(error))
                producer.flush(seconds + 2)
            return len([r for r in results if r is None]), [r.code() for r in results if r is not None]

        return deferToThread(run)

    def assert_dead(self) -> None:
        (failure,) = self.fatal
        failure.trap(StorageError)
        self.assertIn("cannot sync", failure.getErrorMessage())
        self.assertNotIn("\n", failure.getErrorMessage())

    async def assert_nothing_is_acknowledged(self, *topics: str) -> None:
        for topic in topics:
            acknowledged, _ = await self.produce(topic, ["after"], seconds=1)
            self.assertEqual(acknowledged, 0)
        self.assertEqual(len(self.fatal), 1)

    async def assert_no_clean_stop(self) -> None:
        await self.node.stopService()
        self.assertFalse(os.path.exists(os.path.join(self.config.data_directory, "clean-shutdown")))
        self.assertEqual(len(self.fatal), 1)
        self.flushLoggedErrors()

    async def test_a_failed_sync_of_an_fsync_topic_is_never_acknowledged(self) -> None:
        await self.create("safe", chronik_durability="fsync")
        await self.create("other")
        self.assertEqual(await self.produce("safe", ["a", "b"]), (2, []))
        self.disk.broken = ".log"
        acknowledged, _ = await self.produce("safe", ["c"], seconds=1)
        self.assertEqual(acknowledged, 0)
        self.assert_dead()
        self.disk.broken = None
        await self.assert_nothing_is_acknowledged("safe", "other")
        await self.assert_no_clean_stop()

    async def test_a_failed_sync_of_the_first_roll(self) -> None:
        """The roll syncs the directory on the reactor, inside a produce request."""
        await self.create("rolls", segment_bytes=str(2**20))
        await self.create("other")
        self.assertEqual(await self.produce("other", ["x"]), (1, []))
        big = os.urandom(300_000).hex()
        self.assertEqual(await self.produce("rolls", [big]), (1, []))
        self.disk.broken = "/topics/"
        acknowledged, _ = await self.produce("rolls", [big], seconds=1)
        self.assertEqual(acknowledged, 0)
        self.assert_dead()
        self.disk.broken = None
        await self.assert_nothing_is_acknowledged("rolls", "other")
        await self.assert_no_clean_stop()

    async def test_a_failed_sync_of_delete_records(self) -> None:
        await self.create("cut")
        self.assertEqual(await self.produce("cut", ["a", "b"]), (2, []))
        self.disk.broken = "checkpoint"
        admin = AdminClient({"bootstrap.servers": self.servers, **QUIET})

        def delete() -> None:
            for future in admin.delete_records([TopicPartition("cut", 0, 1)], request_timeout=1).values():
                future.result(3)

        with self.assertRaises(KafkaException):
            await deferToThread(delete)
        self.assert_dead()
        await self.assert_nothing_is_acknowledged("cut")
        await self.assert_no_clean_stop()

    async def test_a_failed_sync_of_a_topics_deletion(self) -> None:
        await self.create("gone")
        await self.create("other")
        self.assertEqual(await self.produce("gone", ["a"]), (1, []))
        self.disk.broken = "/topics"
        admin = AdminClient({"bootstrap.servers": self.servers, **QUIET})
        with self.assertRaises(KafkaException):
            await deferToThread(lambda: admin.delete_topics(["gone"], request_timeout=1)["gone"].result(3))
        self.assert_dead()
        self.disk.broken = None
        await self.assert_nothing_is_acknowledged("other")
        await self.assert_no_clean_stop()

    async def test_a_failed_sync_at_the_stop(self) -> None:
        await self.create("late")
        self.assertEqual(await self.produce("late", ["a"]), (1, []))
        self.disk.broken = ".log"
        await self.assert_no_clean_stop()
        self.assert_dead()

    async def test_a_full_disk_refuses_and_gets_well(self) -> None:
        await self.create("filling")
        await self.create("other")
        self.assertEqual(await self.produce("filling", ["a", "b"]), (2, []))
        self.assertEqual(await self.produce("other", ["x"]), (1, []))
        topic = self.node.metadata.topic("filling")
        assert topic is not None
        partition = self.node.replicas.partition("filling", 0)
        self.disk.full = {f"/{partition.log.name}/"}
        acknowledged, codes = await self.produce("filling", ["c"], seconds=1, retries=0)
        self.assertEqual((acknowledged, codes), (0, [KafkaError.KAFKA_STORAGE_ERROR]))
        self.assertTrue(
            [line for line in self.lines if partition.log.name in line and "the disk is full" in line], self.lines
        )
        self.assertEqual(await self.produce("other", ["y"]), (1, []))
        self.assertEqual(len(bytes(partition.read(0, 10_000, True, True).records)), partition.log.size_bytes)
        self.disk.full = set()
        self.assertEqual(await self.produce("filling", ["c"]), (1, []))
        self.assertEqual(partition.high_watermark, 3)
        self.assertEqual(self.fatal, [])

    async def test_a_full_disk_fails_delete_records_and_gets_well(self) -> None:
        await self.create("cut")
        self.assertEqual(await self.produce("cut", ["a", "b"]), (2, []))
        log = self.node.replicas.partition("cut", 0).log
        self.disk.full = {"/checkpoint"}
        admin = AdminClient({"bootstrap.servers": self.servers, **QUIET})

        def delete(before: int) -> int | None:
            (future,) = admin.delete_records([TopicPartition("cut", 0, before)], request_timeout=5).values()
            try:
                return future.result(8).low_watermark
            except KafkaException as error:
                return error.args[0].code()

        began = time.monotonic()
        self.assertEqual(await deferToThread(lambda: delete(1)), KafkaError.KAFKA_STORAGE_ERROR)
        self.assertLess(time.monotonic() - began, 2)
        self.assertTrue([line for line in self.lines if "cut-0" in line and "No space left" in line], self.lines)
        self.assertEqual((log.start_offset, log.durable_start), (1, 0))
        self.disk.full = set()
        self.assertEqual(await deferToThread(lambda: delete(2)), 2)
        self.assertEqual((log.start_offset, log.durable_start), (2, 2))
        self.assertEqual(self.fatal, [])

    async def test_flush_messages_of_one_is_acknowledged_from_the_disk(self) -> None:
        await self.create("each", flush_messages="1")
        self.assertEqual(await self.produce("each", ["a", "b"]), (2, []))
        self.assertEqual(self.node.replicas.partition("each", 0).log.recovery_point, 2)

    async def test_flush_messages_and_flush_ms_sync_before_the_nodes_time(self) -> None:
        await self.create("some", flush_messages="3")
        await self.create("soon", flush_ms="50")
        await self.create("never")
        for topic in ("some", "soon", "never"):
            self.assertEqual(await self.produce(topic, ["a", "b"]), (2, []))
        logs = {topic: self.node.replicas.partition(topic, 0).log for topic in ("some", "soon", "never")}
        await self.until(lambda: logs["soon"].recovery_point == 2)
        self.assertEqual(logs["some"].recovery_point, 0)
        self.assertEqual(await self.produce("some", ["c"]), (1, []))
        await self.until(lambda: logs["some"].recovery_point == 3)
        self.assertEqual(logs["never"].recovery_point, 0)

    async def until(self, condition: Any) -> None:
        end = time.monotonic() + 5
        while not condition():
            self.assertLess(time.monotonic(), end)
            turn: Deferred[None] = Deferred()
            reactor.callLater(0.01, turn.callback, None)  # type: ignore[attr-defined]
            await turn


class ProcessTests(SynchronousTestCase):
    def test_the_process_ends_with_one_line(self) -> None:
        """As `twistd` runs it: exit status 1, one line that says what to do, nothing acknowledged."""
        directory = os.path.abspath(self.mktemp())
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.node.faulty_node", directory],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        try:
            assert child.stdout is not None
            port = child.stdout.readline().strip()
            outcome: list[Any] = []
            producer = Producer({"bootstrap.servers": f"127.0.0.1:{port}", "delivery.timeout.ms": 1500, **QUIET})
            producer.produce("safe", "lost", on_delivery=lambda error, _: outcome.append(error))
            self.assertEqual(child.wait(20), 1)
            producer.flush(5)
            _, errors = child.communicate(timeout=10)
        finally:
            child.kill()
            child.wait()
            for stream in (child.stdout, child.stderr):
                if stream is not None:
                    stream.close()
        told = [line for line in errors.splitlines() if line.startswith("chronik: ")]
        self.assertEqual(len(told), 1, errors)
        self.assertIn("cannot sync", told[0])
        self.assertIsNotNone(outcome[0])
        self.assertFalse(os.path.exists(os.path.join(directory, "clean-shutdown")))
