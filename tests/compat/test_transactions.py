"""Transactions as clients use them: commit, abort, a copy job with its offsets, zombies, timeouts, and a node that dies."""

from __future__ import annotations

import itertools
import re
import time
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.compat.node import ON_KAFKA, BrokerTestCase
from tests.peers import java

_numbers = itertools.count()
_run = f"{time.time_ns() % 10**9}"


class TransactionCase(BrokerTestCase):
    """A topic of two partitions of its own, with librdkafka's clients."""

    def setUp(self) -> None:
        super().setUp()
        self.name = f"txn-{_run}-{next(_numbers)}"
        self.create(self.name)

    def create(self, topic: str, partitions: int = 2) -> None:
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(30)

    def producer(self, timeout_ms: int = 30_000, **options: Any) -> Producer:
        """A transactional producer, initialised: all older ones of the name are fenced."""
        settings = {
            "bootstrap.servers": self.bootstrap,
            "transactional.id": self.name,
            "transaction.timeout.ms": timeout_ms,
            **options,
        }
        producer = Producer(settings)
        producer.init_transactions(30)
        return producer

    def consumer(self, isolation: str = "read_committed", group: str = "reader", **options: Any) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": f"{self.name}-{group}",
                "isolation.level": isolation,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                **options,
            }
        )

    def read(self, isolation: str = "read_committed", topic: str | None = None) -> list[bytes]:
        """All values up to the end, which for read_committed is the last stable offset; sorted."""
        consumer = self.consumer(isolation, f"g{next(_numbers)}")
        places = [TopicPartition(topic or self.name, number, 0) for number in range(2)]
        consumer.assign(places)
        found: list[bytes] = []
        ended: set[int] = set()
        until = time.monotonic() + 30
        while len(ended) < len(places):
            self.assertLess(time.monotonic(), until, f"no end of the partitions; found {found}")
            message = consumer.poll(1)
            if message is None:
                continue
            if message.error() is None:
                found.append(message.value())
                ended.discard(message.partition())
            else:
                ended.add(message.partition())
        consumer.close()
        return sorted(found)

    def eventually(self, expected: list[bytes], isolation: str = "read_committed") -> None:
        """A commit is answered before its markers are written, so what is read may lag a little."""
        until = time.monotonic() + 20
        while (found := self.read(isolation)) != expected and time.monotonic() < until:
            time.sleep(0.2)
        self.assertEqual(found, expected)

    def send(self, producer: Producer, *values: bytes, flush: bool = True) -> None:
        for number, value in enumerate(values):
            producer.produce(self.name, value, partition=number % 2)
        if flush:
            producer.flush(30)


class Transactions(TransactionCase):
    """librdkafka, which uses transactions v1."""

    def test_what_is_committed_is_read_and_what_is_aborted_is_not(self) -> None:
        producer = self.producer()
        for commit, values in ((True, [b"a1", b"a2"]), (False, [b"b1", b"b2"]), (True, [b"c1", b"c2"])):
            producer.begin_transaction()
            self.send(producer, *values)
            if commit:
                producer.commit_transaction(30)
            else:
                producer.abort_transaction(30)
        self.eventually([b"a1", b"a2", b"c1", b"c2"])
        self.assertEqual(self.read("read_uncommitted"), [b"a1", b"a2", b"b1", b"b2", b"c1", b"c2"])

    def test_what_is_open_is_not_read(self) -> None:
        producer = self.producer()
        producer.begin_transaction()
        self.send(producer, b"1", b"2")
        self.assertEqual(self.read(), [])
        producer.commit_transaction(30)
        self.eventually([b"1", b"2"])

    def test_a_zombie_is_fenced(self) -> None:
        zombie = self.producer()
        zombie.begin_transaction()
        self.send(zombie, b"of the zombie")
        producer = self.producer()
        producer.begin_transaction()
        self.send(producer, b"good")
        with self.assertRaises(KafkaException) as raised:
            self.send(zombie, b"late", flush=False)
            zombie.commit_transaction(30)
        self.assertTrue(raised.exception.args[0].fatal(), raised.exception)
        producer.commit_transaction(30)
        self.eventually([b"good"])

    def test_many_small_transactions(self) -> None:
        producer = self.producer()
        for number in range(100):
            producer.begin_transaction()
            self.send(producer, b"%03d-0" % number, b"%03d-1" % number, flush=False)
            if number % 3:
                producer.commit_transaction(30)
            else:
                producer.flush(30)
                producer.abort_transaction(30)
        self.eventually(sorted(b"%03d-%d" % (n, half) for n in range(100) if n % 3 for half in range(2)))

    def test_a_copy_job_commits_its_offsets_with_what_it_writes(self) -> None:
        source = f"{self.name}-source"
        self.create(source)
        feed = Producer({"bootstrap.servers": self.bootstrap})
        for number in range(60):
            feed.produce(source, b"%02d" % number, partition=number % 2)
        feed.flush(30)
        producer = self.producer()
        copied = 0
        for job in range(3):  # each takes over where the last committed, and aborts once on its way
            consumer = self.consumer(group="copy", **{"session.timeout.ms": 6000})
            consumer.subscribe([source])
            for step in range(3):
                messages = [each for each in consumer.consume(8, 10) if each.error() is None]
                producer.begin_transaction()
                for message in messages:
                    producer.produce(self.name, message.value(), partition=message.partition())
                offsets = [
                    TopicPartition(
                        source, partition, 1 + max(m.offset() for m in messages if m.partition() == partition)
                    )
                    for partition in {message.partition() for message in messages}
                ]
                if offsets:
                    producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), 30)
                if step == 1 and job < 2:
                    producer.abort_transaction(30)
                    break  # what was consumed is consumed again by the next job
                producer.commit_transaction(30)
                copied += len(messages)
            consumer.close()
        found = self.read()
        self.assertEqual(len(found), copied)
        self.assertEqual(len(set(found)), copied, "something was copied twice")
        self.assertGreater(copied, 8)

    def test_an_abandoned_transaction_is_aborted_after_its_timeout(self) -> None:
        producer = self.producer(timeout_ms=1_000)
        producer.begin_transaction()
        self.send(producer, b"abandoned")
        other = Producer({"bootstrap.servers": self.bootstrap})
        other.produce(self.name, b"after it", partition=0)
        other.flush(30)
        self.assertEqual(self.read(), [], "it hides what comes after it")
        self.eventually([b"after it"])  # the coordinator looks every 10 s
        with self.assertRaises(KafkaException):
            producer.commit_transaction(30)

    def test_a_node_that_dies_keeps_outcomes(self) -> None:
        if ON_KAFKA:
            self.skipTest("the broker of this run is not ours to kill")
        producer = self.producer()
        producer.begin_transaction()
        self.send(producer, b"committed-0", b"committed-1")
        producer.commit_transaction(30)
        producer.begin_transaction()
        self.send(producer, b"open-0", b"open-1")
        self.broker.kill()
        self.broker.start()
        self.assertEqual(self.read(), [b"committed-0", b"committed-1"])
        producer.commit_transaction(60)
        self.eventually(sorted([b"committed-0", b"committed-1", b"open-0", b"open-1"]))


class JavaTransactions(TransactionCase):
    """The Java client (transactions v2) and Kafka's tools, on what it and librdkafka did."""

    def tool(self, main: str, *arguments: str) -> str:
        done = java.run(main, *arguments)
        said = (done.stdout + done.stderr).decode("utf-8", "replace")
        self.assertEqual(done.returncode, 0, f"{main} {' '.join(arguments)}:\n{said[-3000:]}")
        return said

    def transactions(self, *arguments: str) -> list[list[str]]:
        """What kafka-transactions printed, as columns."""
        said = self.tool(java.TRANSACTIONS, "--bootstrap-server", self.bootstrap, *arguments)
        return [line.split() for line in said.splitlines()]

    def test_java_commits_by_v2(self) -> None:
        """Every transaction ends with a new epoch, and all that was written is read."""
        self.tool(
            java.PRODUCER_PERFORMANCE,
            *("--topic", self.name, "--num-records", "3000", "--record-size", "100", "--throughput", "3000"),
            *("--transactional-id", self.name, "--transaction-duration-ms", "50"),
            *("--producer-props", f"bootstrap.servers={self.bootstrap}"),
        )
        until = time.monotonic() + 20
        while len(self.read()) < 3000 and time.monotonic() < until:
            time.sleep(0.2)
        self.assertEqual(len(self.read()), 3000)
        _, *rows = self.transactions("describe", "--transactional-id", self.name)
        _, name, _, epoch, state, *_ = rows[0]
        self.assertEqual((name, state), (self.name, "CompleteCommit"))
        self.assertGreater(int(epoch), 3, "the epoch did not move on with each transaction")

    def test_kafka_transactions(self) -> None:
        """List and describe, and abort what hangs."""
        producer = self.producer()
        producer.begin_transaction()
        self.send(producer, b"1", b"2")
        listed = self.transactions("list")
        self.assertIn([self.name, "Ongoing"], [[row[0], row[3]] for row in listed if len(row) == 4])
        _, *rows = self.transactions("describe", "--transactional-id", self.name)
        self.assertEqual({f"{self.name}-0", f"{self.name}-1"}, set(rows[0][-1].split(",")))
        said = self.transactions("describe-producers", "--topic", self.name, "--partition", "0")
        self.assertEqual(said[1][-1], "0", "where the open transaction began")
        self.transactions("abort", "--topic", self.name, "--partition", "0", "--start-offset", "0")
        self.transactions("abort", "--topic", self.name, "--partition", "1", "--start-offset", "0")
        other = Producer({"bootstrap.servers": self.bootstrap})
        other.produce(self.name, b"after it", partition=0)
        other.flush(30)
        self.eventually([b"after it"])

    def test_kafka_reads_our_log_of_transactions(self) -> None:
        """kafka-dump-log decodes `__transaction_state` as we have written it."""
        if ON_KAFKA:
            self.skipTest("it is Kafka's own log")
        producer = self.producer()
        producer.begin_transaction()
        self.send(producer, b"1", b"2")
        producer.commit_transaction(30)
        logs = [path for path in self.broker.data.glob("topics/*/*.log") if self.name.encode() in path.read_bytes()]
        said = ""
        for path in logs:
            said += self.tool(java.DUMP_LOG, "--transaction-log-decoder", "--print-data-log", "--files", str(path))
        states = re.findall(rf"transactionalId[=:\"]+{self.name}.*?(?:state|transactionStatus)[=:\"]+(\w+)", said)
        self.assertGreaterEqual(len(states), 4, said[-3000:])
