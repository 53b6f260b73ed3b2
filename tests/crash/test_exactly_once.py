"""Exactly-once copy jobs under kill -9 of the broker and of the jobs: what they copied is the input, once.

Two jobs copy the same topic at the same time, two processes each: Kafka's own TransactionalMessageCopier (transactions v2, with
aborts at random) and `tests.crash.copier` on librdkafka (transactions v1). Meanwhile EndTxn requests of older transactions
are sent again on purpose (KIP-890): none may end a later one. A reader of read_committed watches: it must never see what
is not there in the end.

`CHRONIK_TRANSACTIONS` says how many transactions the jobs make together (100 by default; the whole run is 10,000).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from chronik.errors import ErrorCode
from chronik.wire.apis import ApiKey
from tests.differential.session import Session
from tests.peers import cache, java
from tests.peers.chronik_node import REPOSITORY, ChronikNode

TRANSACTIONS = int(os.environ.get("CHRONIK_TRANSACTIONS", "100"))
SEED = int(os.environ.get("CHRONIK_CRASH_SEED", "1"))
SIZE = 10
PARTITIONS = 4
SOURCE = "source"
_COPIER = "org.apache.kafka.tools.TransactionalMessageCopier"
_REFUSALS = (
    ErrorCode.PRODUCER_FENCED,
    ErrorCode.INVALID_PRODUCER_EPOCH,
    ErrorCode.INVALID_TXN_STATE,
    ErrorCode.INVALID_PRODUCER_ID_MAPPING,
    ErrorCode.CONCURRENT_TRANSACTIONS,
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
)


class Job:
    """A copy job: its processes, started again whenever they end, until its group has committed the whole input."""

    def __init__(self, name: str, lines: Sequence[list[str]], log: Path) -> None:
        self.name, self.target, self.group = name, f"copied-by-{name}", f"copiers-{name}"
        self._lines = lines
        self._log = open(log, "ab")  # noqa: SIM115  for as long as the job runs
        self._running: list[subprocess.Popen[bytes] | None] = [None] * len(lines)
        self.starts = 0

    def keep_running(self) -> None:
        """Start what has ended."""
        for number, child in enumerate(self._running):
            if child is None or child.poll() is not None:
                self.starts += 1
                self._running[number] = subprocess.Popen(
                    self._lines[number], cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
                )

    def kill(self, chance: random.Random) -> None:
        """SIGKILL to one of the processes."""
        child = chance.choice(self._running)
        if child is not None:
            child.kill()
            child.wait()

    def stop(self) -> None:
        """End all processes."""
        for child in self._running:
            if child is not None and child.poll() is None:
                child.send_signal(signal.SIGKILL)
                child.wait()
        self._log.close()


class Replayer:
    """Learns who the transactional producers are, and sends EndTxn in the name of who they were before."""

    def __init__(self, address: tuple[str, int], transactional_ids: Sequence[str], chance: random.Random) -> None:
        self._address = address
        self._ids = transactional_ids
        self._chance = chance
        self._known: dict[str, list[tuple[int, int]]] = {name: [] for name in transactional_ids}
        self.sent: Counter[ErrorCode] = Counter()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            session = None
            try:
                session = Session(self._address)
                while not self._stopping.is_set():
                    self._look(session)
                    self._repeat(session)
                    time.sleep(0.02)
            except OSError:
                time.sleep(0.1)  # the broker is dead for now
            finally:
                if session is not None:
                    session.close()

    def _ask(self, session: Session, key: ApiKey, version: int, body: dict[str, Any]) -> Any:
        answer = session.ask("", key, version, body, unrecorded=True)
        if answer is None:
            raise ConnectionResetError
        return answer

    def _look(self, session: Session) -> None:
        body = {"transactional_ids": list(self._ids)}
        for state in self._ask(session, ApiKey.DESCRIBE_TRANSACTIONS, 0, body).transaction_states:
            known = self._known[state.transactional_id]
            identity = (state.producer_id, state.producer_epoch)
            if not state.error_code and (not known or known[-1] != identity):
                known.append(identity)

    def _repeat(self, session: Session) -> None:
        """An end in the name of an identity at least two epochs old: the last but one could be a retry that is due."""
        name = self._chance.choice(self._ids)
        if len(self._known[name]) < 3:
            return
        producer_id, epoch = self._chance.choice(self._known[name][:-2])
        if producer_id == self._known[name][-1][0] and epoch >= self._known[name][-1][1] - 1:
            return
        body = {
            "transactional_id": name,
            "producer_id": producer_id,
            "producer_epoch": epoch,
            "committed": self._chance.random() < 0.5,
        }
        answer = self._ask(session, ApiKey.END_TXN, self._chance.choice((3, 4, 5)), body)
        self.sent[ErrorCode(answer.error_code)] += 1

    def finish(self) -> None:
        """Stop sending."""
        self._stopping.set()
        self._thread.join(10)


class Watcher:
    """A reader of read_committed in a thread: everything that it was ever shown, by (partition, offset)."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.seen: dict[tuple[int, int], bytes] = {}
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"watcher-{topic}",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "reconnect.backoff.max.ms": 250,
                "log_level": 0,
            }
        )
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            for message in self._consumer.consume(1000, 0.2):
                if message.error() is None:
                    self.seen[message.partition(), message.offset()] = message.value()

    def finish(self) -> None:
        """Stop reading."""
        self._stopping.set()
        self._thread.join(10)
        self._consumer.close()


class ExactlyOnce(unittest.TestCase):
    """One node, two jobs, many deaths, one reckoning."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="chronik-exactly-once-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.chance = random.Random(SEED)
        self.node = ChronikNode(self.directory, {"transactional.id.expiration.ms": "3600000"})
        self.node.start()
        self.addCleanup(self.node.stop)
        self.count = TRANSACTIONS * SIZE // 2

    def jobs(self) -> list[Job]:
        bootstrap = self.node.bootstrap
        try:
            java_lines = [
                java.command(
                    _COPIER,
                    [
                        "--broker-list", bootstrap, "--input-topic", SOURCE, "--input-partition", "0",
                        "--output-topic", "copied-by-java", "--consumer-group", "copiers-java",
                        "--transactional-id", f"java-{number}", "--transaction-size", str(SIZE),
                        "--transaction-timeout", "20000", "--enable-random-aborts", "--group-mode", "--use-group-metadata",
                    ],
                    java.TOOL_OPTIONS,
                )
                for number in range(2)
            ]  # fmt: skip
        except cache.PeerMissing as missing:
            raise unittest.SkipTest(str(missing)) from None
        own_lines = [
            [sys.executable, "-m", "tests.crash.copier", bootstrap, f"librdkafka-{number}", "copiers-librdkafka", SOURCE,
             "copied-by-librdkafka", str(SIZE)]
            for number in range(2)
        ]  # fmt: skip
        return [
            Job("java", java_lines, self.directory / "java.log"),
            Job("librdkafka", own_lines, self.directory / "librdkafka.log"),
        ]

    def test_the_copy_is_the_input_once(self) -> None:
        """Kill the node, and the jobs, at random moments until all is copied."""
        bootstrap = self.node.bootstrap
        jobs = self.jobs()
        create(bootstrap, SOURCE, *(job.target for job in jobs))
        expected = fill(bootstrap, self.count)
        ids = [f"{job.name}-{number}" for job in jobs for number in range(2)]
        replayer = Replayer(("127.0.0.1", self.node.port), ids, random.Random(SEED + 1))
        watchers = {job.target: Watcher(bootstrap, job.target) for job in jobs}
        kills = {"node": 0, "job": 0}
        # A killed member holds its group up for its session's length, about as long as it takes until the next one is killed.
        give_up = time.monotonic() + 240 + TRANSACTIONS * 0.15
        try:
            waiting = list(jobs)
            while waiting:
                self.assertLess(time.monotonic(), give_up, f"not copied in time by {[job.name for job in waiting]}")
                for job in waiting:
                    job.keep_running()
                time.sleep(self.chance.uniform(0.5, 3.0))
                if self.chance.random() < 0.4 or not kills["node"]:
                    self.node.kill()
                    self.node.start()
                    kills["node"] += 1
                elif self.chance.random() < 0.5:
                    self.chance.choice(waiting).kill(self.chance)
                    kills["job"] += 1
                waiting = [job for job in waiting if committed(bootstrap, job.group) < self.count]
        finally:
            replayer.finish()
            for job in jobs:
                job.stop()
        for job in jobs:
            found = read_committed(bootstrap, job.target)
            by_partition = {partition: [value for _, value in records] for partition, records in found.items()}
            self.assertEqual(by_partition, expected, f"{job.name}: the copy is not the input, once and in order")
            there = {(partition, offset): value for partition, records in found.items() for offset, value in records}
            self.until(lambda there=there, job=job: len(watchers[job.target].seen) >= len(there))  # type: ignore[misc]
            watchers[job.target].finish()
            self.assertEqual(watchers[job.target].seen, there, f"{job.name}: a reader saw something else meanwhile")
        self.assertGreater(kills["node"], 0)
        accepted = {code: count for code, count in replayer.sent.items() if code not in _REFUSALS}
        self.assertEqual(accepted, {}, "an end of an older transaction was accepted")
        if TRANSACTIONS >= 1000:
            self.assertGreater(sum(replayer.sent.values()), 100)
        print(f"exactly once: {kills}, starts {[job.starts for job in jobs]}, late ends {dict(replayer.sent)}")

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until `holds()`, for a while."""
        give_up = time.monotonic() + 30
        while not holds() and time.monotonic() < give_up:
            time.sleep(0.05)


def create(bootstrap: str, *topics: str) -> None:
    """The topics of a run."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in topics]).values():
        future.result(30)


def fill(bootstrap: str, count: int) -> dict[int, list[bytes]]:
    """Produce numbers; by partition in their order."""
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 20})
    expected: dict[int, list[bytes]] = {partition: [] for partition in range(PARTITIONS)}
    for number in range(count):
        value = b"%d" % number
        expected[number % PARTITIONS].append(value)
        producer.produce(SOURCE, value, partition=number % PARTITIONS)
        if number % 10_000 == 0:
            producer.poll(0)
    assert producer.flush(60) == 0
    return expected


def committed(bootstrap: str, group: str) -> int:
    """How many messages the group has committed."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        (future,) = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]).values()
        found = future.result(10).topic_partitions or []
    except (KafkaException, TimeoutError):  # the broker was just killed, or loads: asked again later
        return 0
    return sum(max(place.offset, 0) for place in found)


def read_committed(bootstrap: str, topic: str) -> dict[int, list[tuple[int, bytes]]]:
    """Everything that a reader of read_committed is shown: by partition the (offset, value) pairs in their order."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "reckoning",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    found: dict[int, list[tuple[int, bytes]]] = {partition: [] for partition in range(PARTITIONS)}
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in found])
        ended: set[int] = set()
        give_up = time.monotonic() + 120
        while len(ended) < PARTITIONS:
            if time.monotonic() > give_up:
                raise AssertionError(f"{topic}: partitions {set(found) - ended} have no end: a transaction is open")
            for message in consumer.consume(5000, 0.2):
                if message.error():
                    ended.add(message.partition())
                else:
                    found[message.partition()].append((message.offset(), message.value()))
    finally:
        consumer.close()
    return found


if __name__ == "__main__":
    unittest.main()
