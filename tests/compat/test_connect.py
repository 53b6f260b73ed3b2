"""Kafka Connect in distributed mode: the lines of a file arrive in another, also when the worker dies on the way."""

from __future__ import annotations

import time
import unittest
import uuid
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from tests.compat.node import BrokerTestCase
from tests.peers.kafka_connect import Worker

COUNT = 2_000
PATIENCE = 90.0


class Files(BrokerTestCase):
    """The file source and the file sink around one topic."""

    def test_lines_through_a_killed_worker(self) -> None:
        """Once each and in order in the topic (the source is exactly-once), each at least once in the sink's file."""
        name = f"connect-{uuid.uuid4().hex[:8]}"
        lines = [f"{name} line {number}" for number in range(COUNT)]
        with TemporaryDirectory() as place:
            directory = Path(place)
            source, sink = directory / "source.txt", directory / "sink.txt"
            sink.touch()
            source.write_text("".join(f"{line}\n" for line in lines[: COUNT // 2]))
            admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 2})
            admin.create_topics([NewTopic(name, 1, 1)])[name].result(30)
            worker = Worker(directory, self.bootstrap, name)
            worker.start()
            try:
                connector = "org.apache.kafka.connect.file.FileStream"
                tasks = {"tasks.max": "1"}
                worker.put(
                    "out", {"connector.class": f"{connector}SinkConnector", "topics": name, "file": str(sink), **tasks}
                )
                chunk = {"batch.size": "50", **tasks}
                worker.put(
                    "in",
                    {"connector.class": f"{connector}SourceConnector", "topic": name, "file": str(source), **chunk},
                )
                self.wait(worker, lambda: len(sink.read_text().splitlines()) > 0)
                worker.kill()
                with open(source, "a") as more:
                    more.writelines(f"{line}\n" for line in lines[COUNT // 2 :])
                worker.start()
                self.wait(worker, lambda: lines[-1] in sink.read_text().splitlines())
                self.assertTrue(worker.running("in") and worker.running("out"))
            finally:
                worker.stop()
            self.assertEqual(self.committed(name), lines)
            self.assertEqual(list(dict.fromkeys(sink.read_text().splitlines())), lines)
        for kind in ("config", "offset", "status"):
            self.assertEqual(self.cleanup_policy(admin, f"{name}-{kind}"), "compact")

    def wait(self, worker: Worker, done: Callable[[], bool]) -> None:
        """Wait until `done`, for PATIENCE seconds."""
        give_up = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > give_up:
                self.fail(f"nothing came in {PATIENCE} s:\n{worker.process.log_end()}")
            time.sleep(0.1)

    def committed(self, topic: str) -> list[str]:
        """What a read_committed consumer finds in the one partition of a topic."""
        settings = {"bootstrap.servers": self.bootstrap, "group.id": topic, "enable.partition.eof": True}
        consumer = Consumer({**settings, "isolation.level": "read_committed", "enable.auto.commit": False})
        found = []
        try:
            consumer.assign([TopicPartition(topic, 0, 0)])
            while (message := consumer.poll(30)) is not None and message.error() is None:
                found.append(message.value().decode())
        finally:
            consumer.close()
        return found

    def cleanup_policy(self, admin: AdminClient, topic: str) -> str:
        """The topic's setting as the broker describes it."""
        resource = ConfigResource(ResourceType.TOPIC, topic)
        return str(admin.describe_configs([resource])[resource].result(30)["cleanup.policy"].value)


if __name__ == "__main__":
    unittest.main()
