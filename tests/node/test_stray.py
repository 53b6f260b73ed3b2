"""The ways back from a `.stray` directory, as docs/operations.md has them, on real directories."""

from __future__ import annotations

import json
import shutil
import urllib.request
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from twisted.trial.unittest import SynchronousTestCase

from chronik.errors import StorageError
from chronik.testing import Chronik
from tests.test_node import QUIET

MESSAGES = [f"message {n}".encode() for n in range(50)]


class StrayTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.topics = self.directory / "topics"
        self.running: Chronik | None = None
        self.addCleanup(self.stop)

    def start(self) -> Chronik:
        self.running = Chronik(directory=str(self.directory), admin_listener="127.0.0.1:0").start()
        return self.running

    def stop(self) -> None:
        if self.running is not None:
            self.running.stop()
            self.running = None

    def fill(self) -> None:
        """A topic of two partitions, with messages in both."""
        node = self.start()
        node.create_topic("t", 2)
        producer = Producer({"bootstrap.servers": node.bootstrap_servers, **QUIET})
        for number, message in enumerate(MESSAGES):
            producer.produce("t", message, partition=number % 2)
        self.assertEqual(producer.flush(10), 0)

    def read(self) -> list[bytes]:
        """All that the topic holds."""
        assert self.running is not None
        consumer = Consumer({"bootstrap.servers": self.running.bootstrap_servers, "group.id": "g", **QUIET})
        try:
            consumer.assign([TopicPartition("t", index, 0) for index in (0, 1)])
            found: list[bytes] = []
            while len(found) < len(MESSAGES):
                message = consumer.poll(10)
                if message is None:
                    break
                found.append(message.value())
            return sorted(found)
        finally:
            consumer.close()

    def names(self) -> list[str]:
        return sorted(path.name for path in self.topics.iterdir())

    def test_an_older_meta_is_replaced_by_the_newer_one(self) -> None:
        self.start()
        self.stop()
        shutil.copytree(self.directory / "meta", self.directory / "older")
        self.fill()
        self.stop()
        partitions = self.names()
        (self.directory / "meta").rename(self.directory / "newer")
        (self.directory / "older").rename(self.directory / "meta")
        self.start()
        self.assertEqual(self.names(), [f"{name}.stray" for name in partitions])
        self.stop()
        shutil.rmtree(self.directory / "meta")
        (self.directory / "newer").rename(self.directory / "meta")
        for name in partitions:
            (self.topics / f"{name}.stray").rename(self.topics / name)
        self.start()
        self.assertEqual(self.names(), partitions)
        self.assertEqual(self.read(), sorted(MESSAGES))

    def test_after_a_lost_meta_the_partitions_move_to_a_new_directory(self) -> None:
        self.fill()
        self.stop()
        shutil.rmtree(self.directory / "meta")
        self.assertRaises(StorageError, self.start)
        aside = self.directory.with_name("aside")
        self.directory.rename(aside)
        node = self.start()
        node.create_topic("t", 2)
        new_id = self.topic_id(node)
        self.stop()
        for partition in (aside / "topics").iterdir():
            partition.rename(self.topics / f"{new_id}-{partition.name.rpartition('-')[2]}")
        node = self.start()
        self.assertEqual(self.read(), sorted(MESSAGES))
        producer = Producer({"bootstrap.servers": node.bootstrap_servers, **QUIET})
        outcome: list[Any] = []
        producer.produce("t", b"after", partition=0, on_delivery=lambda error, at: outcome.append((error, at.offset())))
        producer.flush(10)
        self.assertEqual(outcome, [(None, len(MESSAGES) // 2)])

    def topic_id(self, node: Any) -> str:
        port = node._node.admin_port.getHost().port
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/topics/t", timeout=10) as answer:
            found: str = json.load(answer)["topic_id"]
        return found
