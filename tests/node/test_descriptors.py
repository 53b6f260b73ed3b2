"""A node that may hold very few files open: partitions take turns."""

from __future__ import annotations

import os
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from twisted.trial.unittest import SynchronousTestCase

from tests.peers.chronik_node import ChronikNode
from tests.test_node import QUIET

PARTITIONS, ROUNDS, LIMIT = 200, 3, 64


class DescriptorTests(SynchronousTestCase):
    def test_200_partitions_at_a_limit_of_64_files(self) -> None:
        node = ChronikNode(Path(os.path.abspath(self.mktemp())), {"flush_interval_ms": "100"}, descriptors=LIMIT)
        self.addCleanup(node.stop)
        node.start()
        admin = AdminClient({"bootstrap.servers": node.bootstrap, **QUIET})
        for durability in ("interval", "fsync"):
            wanted = NewTopic(durability, PARTITIONS, 1, config={"chronik.durability": durability})
            admin.create_topics([wanted])[durability].result(20)
        self.produce(node)
        held = len(os.listdir(f"/proc/{node.process.pid}/fd"))
        self.assertLess(held, LIMIT)
        self.check(node)
        node.stop()
        self.assertTrue((node.data / "clean-shutdown").exists())
        node.start()
        self.check(node)
        node.kill()
        node.start()
        self.check(node)

    def produce(self, node: ChronikNode) -> None:
        refused: list[object] = []
        producer = Producer({"bootstrap.servers": node.bootstrap, "linger.ms": 0, **QUIET})
        for number in range(ROUNDS):
            for partition in range(PARTITIONS):
                for topic in ("interval", "fsync"):
                    producer.produce(
                        topic,
                        f"{partition} {number}",
                        partition=partition,
                        on_delivery=lambda error, _: refused.append(error) if error else None,
                    )
            self.assertEqual(producer.flush(30), 0)
        self.assertEqual(refused, [])

    def check(self, node: ChronikNode) -> None:
        """Every message is there, in its order."""
        consumer = Consumer({"bootstrap.servers": node.bootstrap, "group.id": "unused", **QUIET})
        for topic in ("interval", "fsync"):
            found: dict[int, list[str]] = {partition: [] for partition in range(PARTITIONS)}
            consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
            for _ in range(200):
                for message in consumer.consume(1000, 0.2):
                    self.assertIsNone(message.error())
                    found[message.partition()].append(message.value().decode())
                if sum(map(len, found.values())) >= PARTITIONS * ROUNDS:
                    break
            wanted = {partition: [f"{partition} {n}" for n in range(ROUNDS)] for partition in range(PARTITIONS)}
            self.assertEqual(found, wanted)
        consumer.close()
