"""Compacted topics through real clients: what kcat and confluent-kafka read after compaction is the last record of every key.

Pointed at Apache Kafka (CHRONIK_COMPAT_BROKER=kafka), the same tests pass on what its own cleaner leaves.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import time
import unittest
import urllib.request
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.compat.node import ON_KAFKA
from tests.peers import kcat
from tests.peers.apache_kafka import ApacheKafka
from tests.peers.cache import PeerMissing
from tests.peers.chronik_node import ChronikNode

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
SEGMENT_MS = 1500
SETTINGS = {"log.cleaner.backoff.ms": "100", "log.cleaner.min.cleanable.ratio": "0.01"}
Found = list[tuple[int, bytes, bytes | None]]


class Compaction(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="chronik-compaction-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        try:
            self.broker = (ApacheKafka if ON_KAFKA else ChronikNode)(self.directory, SETTINGS)
            self.broker.start()
        except PeerMissing as missing:
            raise unittest.SkipTest(str(missing)) from None
        self.addCleanup(self.broker.stop)
        self.admin = AdminClient({"bootstrap.servers": self.broker.bootstrap})

    def create(self, topic: str, **configs: str) -> None:
        named = {name.replace("_", "."): value for name, value in configs.items()}
        new = NewTopic(topic, 1, 1, config={"cleanup.policy": "compact", "segment.ms": str(SEGMENT_MS), **named})
        self.admin.create_topics([new])[topic].result(30)

    def fill(self, topic: str, codec: str, count: int, seed: int, size: int = 30) -> Found:
        """Produce, seal the segment, and tell what compaction must leave."""
        chance = random.Random(seed)
        producer = Producer(
            {"bootstrap.servers": self.broker.bootstrap, "compression.type": codec, "linger.ms": 5, "acks": "all"}
        )
        last: dict[bytes, tuple[int, bytes | None]] = {}
        for offset in range(count):
            key = b"key-of-some-length-%d" % chance.randrange(count // 20)
            value = None if chance.random() < 0.05 else chance.randbytes(size)
            last[key] = offset, value
            producer.produce(topic, value, key, on_delivery=self.delivered)
            producer.poll(0)
        producer.flush(60)
        time.sleep(SEGMENT_MS / 1000 + 0.2)
        producer.produce(topic, b"", b"end", on_delivery=self.delivered)
        producer.flush(60)
        last[b"end"] = count, b""
        return sorted((offset, key, value) for key, (offset, value) in last.items())

    def delivered(self, error: KafkaError | None, _: object) -> None:
        if error is not None:
            raise KafkaException(error)

    def read(self, topic: str) -> Found:
        consumer = Consumer(
            {
                "bootstrap.servers": self.broker.bootstrap,
                "group.id": "x",
                "enable.partition.eof": True,
                "enable.auto.commit": False,
            }
        )
        consumer.assign([TopicPartition(topic, 0, 0)])
        found: Found = []
        try:
            while True:
                message = consumer.poll(30)
                self.assertIsNotNone(message)
                if message.error() is None:
                    found.append((message.offset(), message.key(), message.value()))
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    return found
                else:
                    raise KafkaException(message.error())
        finally:
            consumer.close()

    def await_compacted(self, topic: str, wanted: Found) -> None:
        until = time.monotonic() + 60
        while (found := self.read(topic)) != wanted:
            self.assertLess(time.monotonic(), until, f"{topic}: {len(found)} records, {len(wanted)} should be left")
            self.assertLessEqual(set(wanted), set(found), "compaction has taken what it must not")
            time.sleep(0.3)

    def test_the_last_of_every_key_is_read_whatever_the_codec(self) -> None:
        wanted = {}
        for seed, codec in enumerate(CODECS):
            self.create(codec)
            wanted[codec] = self.fill(codec, codec, 2000, seed)
        for codec in CODECS:
            with self.subTest(codec=codec):
                self.await_compacted(codec, wanted[codec])
                by_kcat = [(offset, key, value) for _, offset, key, value in kcat.consume(self.broker.bootstrap, codec)]
                self.assertEqual(by_kcat, [(offset, key, value or b"") for offset, key, value in wanted[codec]])

    def test_records_without_a_key_are_refused(self) -> None:
        self.create("keyed")
        errors: list[KafkaError] = []
        producer = Producer({"bootstrap.servers": self.broker.bootstrap, "acks": "all"})
        producer.produce("keyed", b"x", None, on_delivery=lambda error, _: errors.append(error))
        producer.flush(30)
        self.assertEqual([error.code() for error in errors], [KafkaError.INVALID_RECORD])

    def test_compact_and_delete(self) -> None:
        """Retention takes whole segments of what compaction has left."""
        self.create("both", cleanup_policy="compact,delete", retention_ms="86400000")
        self.await_compacted("both", self.fill("both", "lz4", 1000, 7))

    @unittest.skipIf(ON_KAFKA, "Kafka's cleaner is a thread")
    def test_workers_and_the_node_killed_while_they_compact(self) -> None:
        self.broker.stop()
        assert isinstance(self.broker, ChronikNode)
        slow = {**SETTINGS, "log.cleaner.io.max.bytes.per.second": "4000000"}
        self.broker = ChronikNode(self.directory / "slow", slow)
        self.broker.start()
        self.addCleanup(self.broker.stop)
        self.admin = AdminClient({"bootstrap.servers": self.broker.bootstrap})
        self.create("t", segment_bytes="1048576", segment_ms="604800000")
        wanted = self.fill("t", "none", 30_000, 3, size=400)
        for _ in range(2):
            os.kill(self.worker(), signal.SIGKILL)
            self.assertLessEqual(set(wanted), set(self.read("t")))
        self.worker()
        self.assertEqual(self.metric("chronik_worker_deaths_total"), 2)
        self.broker.kill()
        self.broker.start()
        self.assertLessEqual(set(wanted), set(self.read("t")))
        until = time.monotonic() + 60
        while self.metric("chronik_cleaner_runs_total") < 1:
            self.assertLess(time.monotonic(), until)
            time.sleep(0.2)
        found = self.read("t")
        self.assertLessEqual(set(wanted), set(found))
        self.assertLess(len(found), 6000)  # of 30,000: all but the active segment's are the last of their keys
        left = [path.name for path in self.broker.data.rglob("*") if path.suffix in (".cleaned", ".swap")]
        self.assertEqual(left, [])

    def worker(self) -> int:
        """The process id of a worker that compacts, when there is one."""
        until = time.monotonic() + 30
        while not (found := self.workers()):
            self.assertLess(time.monotonic(), until, "no worker compacts")
            time.sleep(0.02)
        return found[0]

    def workers(self) -> list[int]:
        if not any(self.broker.data.rglob("*.cleaned")):
            return []
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.broker.process.pid and b"chronik.worker_main" in (path / "cmdline").read_bytes():
                    found.append(int(path.name))
            except OSError:
                continue  # it has ended meanwhile
        return found

    def metric(self, name: str) -> float:
        assert isinstance(self.broker, ChronikNode)
        with urllib.request.urlopen(f"http://127.0.0.1:{self.broker.admin_port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(name + " "))
