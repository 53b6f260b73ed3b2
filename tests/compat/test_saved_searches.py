"""Saved searches through real clients: each reads exactly the records that match, at their offsets, and comes to the end.

The source grows meanwhile, by plain batches, in every codec, and by transactions of which some are aborted.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from tests.compat.clients import CLIENTS, CODECS, PATIENCE
from tests.compat.node import ON_KAFKA, BrokerTestCase
from tests.peers import cache, java
from tests.peers.chronik_node import ChronikNode

PARTITIONS = 3
Found = tuple[int, int, bytes | None, bytes]
"""(partition, offset, key, value)"""


class Source:
    """Fills a topic, and knows which of its records match `level:error`."""

    def __init__(self, bootstrap: str, topic: str, seed: int = 1) -> None:
        self.matching: set[Found] = set()
        self.count = 0
        self._bootstrap = bootstrap
        self._topic = topic
        self._chance = random.Random(seed)

    def fill(self, count: int, errors: float, codec: str = "lz4", transactional: bool | None = None) -> None:
        """Produce so many records; `transactional` says whether by a transaction, and whether that is committed."""
        options: dict[str, Any] = {"bootstrap.servers": self._bootstrap, "compression.type": codec, "linger.ms": 5}
        if transactional is not None:
            options["transactional.id"] = f"{self._topic}-{self.count}"
        producer = Producer(options)
        sent: list[Found] = []
        if transactional is not None:
            producer.init_transactions(PATIENCE)
            producer.begin_transaction()

        def delivered(error: KafkaError | None, message: Any) -> None:
            assert error is None, error
            if b'"error"' in message.value():
                sent.append((message.partition(), message.offset(), message.key(), message.value()))

        for _ in range(count):
            level = "error" if self._chance.random() < errors else self._chance.choice(["info", "warn", "debug"])
            value = json.dumps({"level": level, "n": self.count, "msg": "x" * self._chance.randrange(100)}).encode()
            key = None if self._chance.random() < 0.2 else b"k%d" % self._chance.randrange(50)
            producer.produce(
                self._topic, value, key, partition=self._chance.randrange(PARTITIONS), on_delivery=delivered
            )
            producer.poll(0)
            self.count += 1
        assert not producer.flush(PATIENCE)
        if transactional is not None:
            (producer.commit_transaction if transactional else producer.abort_transaction)(PATIENCE)
        if transactional is not False:
            self.matching.update(sent)

    def grow(self, seconds: float) -> None:
        """All of it in turn for so long, and a lot that doesn't match at the end."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            self.fill(150, 0.03, self._chance.choice(CODECS), self._chance.choice([None, None, True, False]))
            time.sleep(0.05)
        self.fill(600, 0.0)


@unittest.skipIf(ON_KAFKA, "Kafka has no saved searches")
class SavedSearches(BrokerTestCase):
    broker: ChronikNode

    def setUp(self) -> None:
        super().setUp()
        self.directory = Path(tempfile.mkdtemp(prefix="chronik-saved-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap})

    def saved(self, name: str, codecs: tuple[str, ...] = CODECS) -> tuple[Source, str]:
        """A source with something in it, and the search over it."""
        new = NewTopic(name, PARTITIONS, 1, config={"segment.bytes": "1048576"})
        self.admin.create_topics([new])[name].result(30)
        status, answer = self.rest(
            "POST", "/v1/searches", {"name": f"{name}-errors", "source": name, "query": "level:error"}
        )
        self.assertEqual(status, 201, answer)
        source = Source(self.bootstrap, name)
        for codec in codecs:
            source.fill(300, 0.05, codec)
        for committed in (True, False):
            source.fill(100, 0.2, transactional=committed)
        source.fill(400, 0.0)
        return source, f"{name}-errors"

    def rest(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.broker.admin_port}{path}",
            None if body is None else json.dumps(body).encode(),
            {"content-type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def lag(self, group: str, topic: str) -> dict[int, int]:
        """By partition, from what a group has committed to the end."""
        places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        ends = {
            place.partition: found.result(PATIENCE).offset
            for place, found in self.admin.list_offsets({place: OffsetSpec.latest() for place in places}).items()
        }
        (committed,) = self.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]).values()
        at = {
            each.partition: each.offset for each in committed.result(PATIENCE).topic_partitions if each.topic == topic
        }
        return {partition: end - at.get(partition, 0) for partition, end in ends.items()}

    def until_no_lag(self, group: str, topic: str) -> None:
        give_up = time.monotonic() + PATIENCE
        while any((lag := self.lag(group, topic)).values()):
            self.assertLess(time.monotonic(), give_up, f"{group} lags by {lag}")
            time.sleep(0.2)

    # -- the tests ----------------------------------------------------------------------------------------------------

    def test_every_client_reads_exactly_what_matches(self) -> None:
        source, found = self.saved("still")
        wanted = sorted(source.matching)
        self.assertGreater(len(wanted), 50)
        for client in CLIENTS:
            with self.subTest(client=client.name):
                try:
                    read = client.consume(self.bootstrap, found, len(wanted))
                except cache.PeerMissing as missing:
                    self.skipTest(str(missing))
                self.assertEqual(
                    sorted((p, o, k or None, v) for p, o, k, v in read), [(p, o, k, v) for p, o, k, v in wanted]
                )

    def growing(self, source: Source) -> threading.Thread:
        thread = threading.Thread(target=source.grow, args=(6.0,))
        thread.start()
        self.addCleanup(thread.join)
        return thread

    def test_confluent_kafka_in_groups_of_both_protocols(self) -> None:
        for protocol in ("classic", "consumer"):
            with self.subTest(protocol=protocol):
                self.read_by_confluent_kafka(protocol)

    def read_by_confluent_kafka(self, protocol: str) -> None:
        """Two members, of which one leaves in the midst; what one has committed the other doesn't read again."""
        source, found = self.saved(f"confluent-{protocol}")
        options = {
            "bootstrap.servers": self.bootstrap, "group.id": f"g-{protocol}", "auto.offset.reset": "earliest",
            "check.crcs": True, "group.protocol": protocol, "auto.commit.interval.ms": 200,
        }  # fmt: skip
        consumers = [Consumer(options), Consumer(options)]
        for consumer in consumers:
            consumer.subscribe([found])
        growing = self.growing(source)
        read: list[Found] = []
        errors: list[Any] = []
        give_up = time.monotonic() + 2 * PATIENCE
        began = time.monotonic()
        while growing.is_alive() or len(read) < len(source.matching):
            self.assertLess(time.monotonic(), give_up, f"{len(read)} of {len(source.matching)}")
            if len(consumers) > 1 and time.monotonic() - began > 3:
                consumers.pop().close()  # it commits
            for consumer in consumers:
                for message in consumer.consume(500, 0.1):
                    if message.error():
                        errors.append(message.error())
                    else:
                        read.append((message.partition(), message.offset(), message.key(), message.value()))
        stop = threading.Event()
        polling = threading.Thread(target=self.poll_until, args=(consumers[0], stop, read))
        polling.start()
        try:
            self.until_no_lag(f"g-{protocol}", found)
        finally:
            stop.set()
            polling.join()
            consumers[0].close()
        self.assertEqual(errors, [])
        self.assertEqual(sorted(read), sorted(source.matching))

    @staticmethod
    def poll_until(consumer: Consumer, stop: threading.Event, read: list[Found]) -> None:
        while not stop.is_set():
            message = consumer.poll(0.1)
            if message is not None and not message.error():
                read.append((message.partition(), message.offset(), message.key(), message.value()))

    def test_the_java_console_consumer_and_its_groups(self) -> None:
        source, found = self.saved("java")
        line = java.command(
            java.CONSOLE_CONSUMER,
            [
                *(
                    "--bootstrap-server",
                    self.bootstrap,
                    "--topic",
                    found,
                    "--group",
                    "g-java",
                    "--from-beginning",
                ),
                *("--timeout-ms", "20000", "--consumer-property", "auto.commit.interval.ms=300"),
                *("--property", "print.partition=true", "--property", "print.offset=true"),
                *("--property", "print.key=true"),
            ],
            java.TOOL_OPTIONS,
        )
        with open(self.directory / "java.out", "wb") as output, open(self.directory / "java.err", "wb") as said:
            consumer = subprocess.Popen(line, stdout=output, stderr=said, stdin=subprocess.DEVNULL)
        self.addCleanup(consumer.kill)
        self.growing(source).join()
        self.until_no_lag("g-java", found)
        described = java.run(java.GROUPS, "--bootstrap-server", self.bootstrap, "--describe", "--group", "g-java")
        lags = re.findall(rf"g-java\s+{found}\s+\d+\s+\d+\s+\d+\s+(\d+)", described.stdout.decode())
        self.assertEqual(lags, ["0"] * PARTITIONS, described.stdout.decode())
        consumer.wait(120)
        lines = (self.directory / "java.out").read_bytes().splitlines()
        read = []
        for each in lines:
            partition, offset, key, value = each.split(b"\t")
            read.append(
                (int(partition.split(b":")[1]), int(offset.split(b":")[1]), None if key == b"null" else key, value)
            )
        self.assertEqual(sorted(read, key=repr), sorted(source.matching, key=repr))
        self.assertEqual(consumer.returncode, 0, (self.directory / "java.err").read_text()[-2000:])

    def test_kcat_in_a_group(self) -> None:
        source, found = self.saved("kcat")
        line = [
            cache.program("kcat", "kcat"), "-b", self.bootstrap, "-G", "g-kcat", "-u", "-f", "%p\t%o\t%k\t%s\n",
            "-X", "auto.offset.reset=earliest", "-X", "auto.commit.interval.ms=200", found,
        ]  # fmt: skip
        with open(self.directory / "kcat.out", "wb") as output, open(self.directory / "kcat.err", "wb") as said:
            consumer = subprocess.Popen(line, stdout=output, stderr=said, stdin=subprocess.DEVNULL)
        self.addCleanup(consumer.kill)
        self.growing(source).join()
        self.until_no_lag("g-kcat", found)
        consumer.send_signal(signal.SIGINT)
        consumer.wait(30)
        read = []
        for each in (self.directory / "kcat.out").read_bytes().splitlines():
            partition, offset, key, value = each.split(b"\t")
            read.append((int(partition), int(offset), key or None, value))
        self.assertEqual(sorted(read, key=repr), sorted(source.matching, key=repr))
        self.assertNotIn(b"too large", (self.directory / "kcat.err").read_bytes())

    def test_producers_are_told_at_once(self) -> None:
        """No client goes on trying to write where nothing can be written."""
        _, found = self.saved("written", ("none",))
        errors: list[Any] = []
        for idempotent in (False, True):
            producer = Producer({"bootstrap.servers": self.bootstrap, "enable.idempotence": idempotent})
            producer.produce(found, b"x", on_delivery=lambda error, _: errors.append(error))
            self.assertEqual(producer.flush(20), 0)
        self.assertEqual([error.code() for error in errors], [KafkaError.TOPIC_EXCEPTION] * 2)
        done = java.run(
            java.CONSOLE_PRODUCER,
            "--bootstrap-server",
            self.bootstrap,
            "--topic",
            found,
            stdin=b"x\n",
            timeout=60,
        )
        self.assertIn(b"InvalidTopicException", done.stdout + done.stderr)

    def test_kafka_s_tools_show_what_it_is(self) -> None:
        _, found = self.saved("shown", ("none",))
        said = java.run(java.TOPICS, "--bootstrap-server", self.bootstrap, "--describe", "--topic", found)
        text = said.stdout.decode()
        self.assertIn(f"PartitionCount: {PARTITIONS}", text)
        self.assertIn("chronik.search.query=level:error", text)
        self.assertIn("chronik.search.source=shown", text)
        refused = java.run(
            java.CONFIGS, "--bootstrap-server", self.bootstrap, "--alter", "--entity-type", "topics",
            "--entity-name", found, "--add-config", "retention.ms=5",
        )  # fmt: skip
        self.assertIn(b"PolicyViolationException", refused.stdout + refused.stderr)
