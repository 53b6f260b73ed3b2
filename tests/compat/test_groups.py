"""Consumer groups of real clients, each member a process: members join, leave, are killed; every message is consumed.

The node is killed as well, between commits: no offset that a client was told to be committed is lost.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import unittest
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, ConsumerGroupType, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.compat.node import WHOLE, BrokerTestCase
from tests.peers import cache, java, kafkajs_peer
from tests.peers.chronik_node import REPOSITORY, ChronikNode

PARTITIONS = 6
SESSION_MS = 6_000
STATIC_SESSION_MS = 20_000
"""Long enough for any client to come back within, also on a busy machine."""

QUIET = {"log_level": 2}
"""Without librdkafka's lines about a node that is gone: here that is the plan."""

_numbers = itertools.count()


class Member:
    """One member in a process of its own: what it owns now, what it has taken, and how often its share changed."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self.owned: set[int] = set()
        self.taken: set[tuple[int, int]] = set()
        self.changes = 0
        self.process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(b"{"):
                self._heard(json.loads(line))
        self.process.stdout.close()

    def _heard(self, said: dict[str, object]) -> None:
        match said:
            case {"owned": list(partitions)}:
                self.owned, self.changes = set(partitions), self.changes + 1
            case {"took": list(messages)}:
                self.taken |= {(partition, offset) for partition, offset in messages}
            case {
                "name": "partitions_assigned",
                "partitions": list(partitions),
            }:  # Java's VerifiableConsumer from here on
                self.owned |= {place["partition"] for place in partitions}
                self.changes += 1
            case {"name": "partitions_revoked", "partitions": list(partitions)}:
                self.owned -= {place["partition"] for place in partitions}
            case {"name": "record_data", "partition": int(partition), "offset": int(offset)}:
                self.taken.add((partition, offset))

    def end(self, number: int) -> None:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        self.process.wait(20)
        self._reader.join(5)


def command(
    client: str, bootstrap: str, group: str, topic: str, instance: str | None
) -> tuple[list[str], dict[str, str]]:
    """The command line and environment of a member."""
    session_ms = SESSION_MS if instance is None else STATIC_SESSION_MS
    if client == "kafkajs":
        script = kafkajs_peer.RECIPE / "member.js"
        line = [cache.program("node", "nodejs"), str(script), bootstrap, group, topic]
        return line, {"CHRONIK_KAFKAJS": str(kafkajs_peer.packages())}
    if client.startswith("java"):
        options = [
            "--bootstrap-server",
            bootstrap,
            "--topic",
            topic,
            "--group-id",
            group,
        ]
        options += ["--reset-policy", "earliest", "--verbose"]
        if client == "java-consumer":
            options += ["--group-protocol", "consumer"]
        else:
            options += ["--session-timeout", str(session_ms)]
        if client == "java-cooperative":
            options += ["--assignment-strategy", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"]
        if instance is not None:
            options += ["--group-instance-id", instance]
        return java.command(java.VERIFIABLE_CONSUMER, options, java.TOOL_OPTIONS), {}
    line = [sys.executable, "-m", "tests.compat.group_member", client, bootstrap, group, topic, str(session_ms)]
    return line + ([] if instance is None else [instance]), {}


class GroupTestCase(BrokerTestCase):
    """Members of one group on one topic."""

    def setUp(self) -> None:
        super().setUp()
        number = next(_numbers)
        self.topic, self.group = f"grouped-{number}", f"members-{number}"
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap, **QUIET})
        self.admin.create_topics([NewTopic(self.topic, PARTITIONS, 1)])[self.topic].result(30)
        self.sent: set[tuple[int, int]] = set()

    def join(self, client: str, instance: str | None = None) -> Member:
        """A new member."""
        member = Member(*command(client, self.bootstrap, self.group, self.topic, instance))

        def clear() -> None:
            if member.process.poll() is None:
                member.end(signal.SIGKILL)

        self.addCleanup(clear)
        return member

    def produce(self, count: int) -> None:
        """More messages, over all partitions."""
        producer = Producer({"bootstrap.servers": self.bootstrap, **QUIET})
        for number in range(count):
            producer.produce(
                self.topic,
                b"message %d" % number,
                partition=number % PARTITIONS,
                on_delivery=lambda error, message: self.sent.add((message.partition(), message.offset())),
            )
        self.assertEqual(producer.flush(30), 0)

    def eventually(self, what: Callable[[], bool], told: Callable[[], object], seconds: float = 40.0) -> None:
        """Wait for something to become true."""
        end = time.monotonic() + seconds
        while not what():
            if time.monotonic() > end:
                self.fail(f"not within {seconds} s: {told()}")
            time.sleep(0.05)

    def shared_by(self, *members: Member) -> None:
        """Wait until these members own all partitions, each partition once and nobody nothing."""

        def settled() -> bool:
            owned = sorted(partition for member in members for partition in member.owned)
            return owned == list(range(PARTITIONS)) and all(member.owned for member in members)

        self.eventually(settled, lambda: [member.owned for member in members])

    def committed(self) -> dict[int, int]:
        """The group's committed offsets."""
        wanted = [ConsumerGroupTopicPartitions(self.group)]
        found = self.admin.list_consumer_group_offsets(wanted)[self.group].result(30)
        return {place.partition: place.offset for place in found.topic_partitions}

    def all_taken(self, *members: Member) -> None:
        """Wait until what was produced has been consumed by these members and committed."""
        ends = {partition: 1 + max(o for p, o in self.sent if p == partition) for partition, _ in self.sent}
        self.eventually(
            lambda: self.sent <= set().union(*(member.taken for member in members)),
            lambda: f"missing {sorted(self.sent - set().union(*(member.taken for member in members)))[:20]}",
        )
        self.eventually(lambda: self.committed() == ends, lambda: f"{self.committed()} instead of {ends}")


class Rebalances(GroupTestCase):
    """Members come, go and die."""

    def life(self, client: str) -> None:
        """One alone; a second joins; a third, as the first is killed; the second leaves; nothing is lost on the way."""
        self.produce(120)
        first = self.join(client)
        self.shared_by(first)
        second = self.join(client)
        self.shared_by(first, second)
        self.produce(120)
        first.end(signal.SIGKILL)
        third = self.join(client)
        self.shared_by(second, third)
        self.produce(120)
        second.end(signal.SIGTERM)
        left = time.monotonic()
        self.shared_by(third)
        self.assertLess(time.monotonic() - left, 5.0, "a member that leaves is waited for as if it were dead")
        self.produce(120)
        self.all_taken(first, second, third)

    def static(self, client: str) -> None:
        """A static member is killed and comes back within its session: it has its share again, the other notices nothing."""
        self.comes_back(client, signal.SIGKILL)

    def static_break(self, client: str) -> None:
        """A static member closes and comes back within its session: it has its share again, the other notices nothing."""
        self.comes_back(client, signal.SIGTERM)

    def comes_back(self, client: str, ended_by: signal.Signals) -> None:
        """One of two static members is ended and comes back."""
        self.produce(60)
        first, second = self.join(client, "one"), self.join(client, "two")
        self.shared_by(first, second)
        time.sleep(2)  # the last rebalance is over for both
        share, changes = set(first.owned), second.changes
        first.end(ended_by)
        again = self.join(client, "one")
        self.shared_by(again, second)
        self.assertEqual((again.owned, second.changes), (share, changes))
        self.produce(60)
        self.all_taken(first, again, second)

    def group_type(self) -> ConsumerGroupType:
        """The protocol that the group follows."""
        return self.admin.describe_consumer_groups([self.group])[self.group].result(30).type

    def migration(self, client: str) -> None:
        """A classic group takes in members of the consumer protocol, works with both, and goes back when they have left."""
        self.produce(120)
        first = self.join("confluent-cooperative-sticky")
        self.shared_by(first)
        self.assertEqual(self.group_type(), ConsumerGroupType.CLASSIC)
        second = self.join(client)
        self.shared_by(first, second)
        self.assertEqual(self.group_type(), ConsumerGroupType.CONSUMER)
        self.produce(120)
        third = self.join("confluent-cooperative-sticky")
        self.shared_by(first, second, third)
        self.produce(120)
        second.end(signal.SIGTERM)
        self.shared_by(first, third)
        self.assertEqual(self.group_type(), ConsumerGroupType.CLASSIC)
        self.produce(120)
        self.all_taken(first, second, third)

    def replaced(self, client: str) -> None:
        """All members of a classic group are replaced one by one by those of the consumer protocol."""
        self.produce(120)
        old = [self.join("confluent-range"), self.join("confluent-range")]
        self.shared_by(*old)
        new = []
        for member in list(old):
            new.append(self.join(client))
            self.shared_by(*old, *new)
            member.end(signal.SIGTERM)
            old.remove(member)
            self.shared_by(*old, *new)
            self.produce(60)
        self.assertEqual(self.group_type(), ConsumerGroupType.CONSUMER)
        self.eventually(lambda: len(self.committed()) == PARTITIONS, self.committed)


def _test(step: Callable[[Rebalances, str], None], client: str) -> Callable[[Rebalances], None]:
    def test(self: Rebalances) -> None:
        step(self, client)

    test.__doc__ = f"{client}: {step.__doc__}"
    return test


_CONFLUENT = ("confluent-range", "confluent-cooperative-sticky")
_CLIENTS = (*_CONFLUENT, "kafka-python", "aiokafka", "kafkajs", "java", "java-cooperative")
_STATIC = (*_CONFLUENT, "aiokafka", "java")

_CONSUMER = ("confluent-consumer", "java-consumer")
"""Clients of the consumer protocol."""

for _client in _CONSUMER if WHOLE else _CONSUMER[:1]:
    for _step in (Rebalances.life, Rebalances.static_break, Rebalances.migration, Rebalances.replaced):
        setattr(Rebalances, f"test_{_step.__name__}_{_client.replace('-', '_')}", _test(_step, _client))
for _client in _CLIENTS if WHOLE else _CONFLUENT[1:]:
    setattr(Rebalances, f"test_life_{_client.replace('-', '_')}", _test(Rebalances.life, _client))
for _client in _STATIC if WHOLE else ():
    setattr(Rebalances, f"test_static_{_client.replace('-', '_')}", _test(Rebalances.static, _client))


class Operators(GroupTestCase):
    """kafka-consumer-groups while a group is in use, and after."""

    def tool(self, *arguments: str) -> str:
        """What ConsumerGroupCommand said."""
        done = java.run(java.GROUPS, "--bootstrap-server", self.bootstrap, *arguments)
        return (done.stdout + done.stderr).decode("utf-8", "replace")

    @unittest.skipUnless(WHOLE, "CHRONIK_COMPAT=1 runs the Java tools on a group in use")
    def test_group_in_use(self) -> None:
        """Looked at from all sides; what would pull the ground from under it is refused; then everything is allowed."""
        self.produce(60)
        members = [self.join("confluent-range"), self.join("confluent-range", "fixed")]
        self.shared_by(*members)
        self.all_taken(*members)
        group, of_group = self.group, ("--group", self.group)
        self.assertRegex(self.tool("--list", "--state", "Stable"), rf"{group}\s+Stable")
        said = self.tool("--describe", *of_group)
        self.assertEqual(said.count(self.topic), PARTITIONS, said)
        self.assertRegex(said, rf"{group}\s+{self.topic}\s+0\s+10\s+10\s+0\s+\S+\s+/127.0.0.1\s+\S+")
        said = self.tool("--describe", *of_group, "--members", "--verbose")
        self.assertRegex(said, rf"{group}\s+\S+\s+fixed\s+/127.0.0.1\s+\S+\s+3\s")
        self.assertRegex(self.tool("--describe", *of_group, "--state"), rf"{group}\s.*\srange\s+Stable\s.*2")
        reset = ("--reset-offsets", *of_group, "--topic", self.topic, "--execute")
        self.assertIn("the current state is Stable", self.tool(*reset, "--to-earliest"))
        self.assertIn("GroupNotEmptyException", self.tool("--delete", *of_group))
        said = self.tool("--delete-offsets", *of_group, "--topic", self.topic)
        self.assertIn("GroupSubscribedToTopicException", said)
        for member in members:
            member.end(signal.SIGTERM)
        # A static member that closes stays until its session is over, or an operator removes it.
        self.eventually(lambda: "Empty" in self.tool("--describe", *of_group, "--state"), lambda: "not empty")
        self.tool(*reset, "--to-offset", "4")
        self.assertEqual(self.committed(), dict.fromkeys(range(PARTITIONS), 4))
        self.tool(*reset, "--shift-by", "-1")
        self.assertEqual(self.committed(), dict.fromkeys(range(PARTITIONS), 3))
        self.tool(*reset, "--to-latest")
        self.assertEqual(self.committed(), dict.fromkeys(range(PARTITIONS), 10))
        self.tool("--delete-offsets", *of_group, "--topic", f"{self.topic}:0,1")
        self.assertEqual(sorted(self.committed()), [2, 3, 4, 5])
        self.assertIn("successful", self.tool("--delete", *of_group))
        self.assertIn(f"Group {group} not found", self.tool("--describe", *of_group))

    @unittest.skipUnless(WHOLE, "CHRONIK_COMPAT=1 runs the Java tools on a group in use")
    def test_consumer_group_in_use(self) -> None:
        """A group of the consumer protocol, looked at from all sides."""
        self.produce(60)
        members = [self.join("confluent-consumer"), self.join("java-consumer")]
        self.shared_by(*members)
        self.all_taken(*members)
        group, of_group = self.group, ("--group", self.group)
        self.assertRegex(self.tool("--list", "--state", "Stable"), rf"{group}\s+Stable")
        self.assertRegex(self.tool("--list", "--type", "consumer"), rf"{group}\s+Consumer")
        said = self.tool("--describe", *of_group)
        self.assertRegex(said, rf"{group}\s+{self.topic}\s+0\s+10\s+10\s+0\s+\S+\s+/127.0.0.1\s+\S+")
        said = self.tool("--describe", *of_group, "--members", "--verbose")
        self.assertEqual(len(re.findall(rf"{group}\s+\S+\s+\S*\s*/127.0.0.1\s+\S+\s+3\s", said)), 2, said)
        self.assertRegex(self.tool("--describe", *of_group, "--state"), rf"{group}\s.*\suniform\s+Stable\s.*2")
        whose = ("--bootstrap-server", self.bootstrap, "--entity-type", "groups", "--entity-name", group)
        added = java.run(java.CONFIGS, *whose, "--alter", "--add-config", "consumer.session.timeout.ms=7000")
        self.assertIn(f"Completed updating config for group {group}", (added.stdout + added.stderr).decode())
        shown = java.run(java.CONFIGS, *whose, "--describe").stdout.decode()
        self.assertIn("consumer.session.timeout.ms=7000", shown)
        self.assertIn("GroupNotEmptyException", self.tool("--delete", *of_group))
        self.assertIn("GroupSubscribedToTopic", self.tool("--delete-offsets", *of_group, "--topic", self.topic))
        for member in members:
            member.end(signal.SIGTERM)
        self.eventually(lambda: "Empty" in self.tool("--describe", *of_group, "--state"), lambda: "not empty")
        self.tool("--reset-offsets", *of_group, "--topic", self.topic, "--execute", "--to-offset", "4")
        self.assertEqual(self.committed(), dict.fromkeys(range(PARTITIONS), 4))
        self.assertIn("successful", self.tool("--delete", *of_group))
        self.assertIn(f"Group {group} not found", self.tool("--describe", *of_group))

    @unittest.skipUnless(WHOLE, "CHRONIK_COMPAT=1 runs the Java tools on a group in use")
    def test_console_consumer(self) -> None:
        """kafka-console-consumer in the consumer protocol, by name and by regular expression."""
        self.produce(60)
        for choice in (("--topic", self.topic), ("--include", f"{self.topic[:-1]}[{self.topic[-1]}]")):
            said = java.run(
                *(java.CONSOLE_CONSUMER, "--bootstrap-server", self.bootstrap, *choice, "--from-beginning"),
                *("--max-messages", "60", "--timeout-ms", "30000", "--group", f"{self.group}{choice[0]}"),
                *("--consumer-property", "group.protocol=consumer"),
            )
            self.assertEqual(len(set(said.stdout.splitlines())), 60, said.stderr[-2000:])


class RegularExpressions(GroupTestCase):
    """Subscription by a pattern that the broker resolves."""

    def test_topics_come_and_go(self) -> None:
        """confluent-kafka: topics that match are found when they are made, and forgotten when they are deleted."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": self.group,
                "group.protocol": "consumer",
                "auto.offset.reset": "earliest",
                **QUIET,
            }
        )
        self.addCleanup(consumer.close)
        consumer.subscribe([f"^{self.topic}(-.*)?$"])

        def owned() -> set[str]:
            consumer.consume(10, 0.1)
            return {place.topic for place in consumer.assignment()}

        self.eventually(lambda: owned() == {self.topic}, owned)
        more = f"{self.topic}-more"
        self.admin.create_topics([NewTopic(more, 1, 1)])[more].result(30)
        self.eventually(lambda: owned() == {self.topic, more}, owned)
        self.admin.delete_topics([more])[more].result(30)
        self.eventually(lambda: owned() == {self.topic}, owned)


class KilledNode(unittest.TestCase):
    """kill -9 of the node."""

    def commit(self, consumer: Consumer, offset: int) -> bool:
        """Whether the node said in time that it committed `offset`."""
        results: list[TopicPartition] = []

        def ask() -> None:
            results.extend(consumer.commit(offsets=[TopicPartition("t", 0, offset)], asynchronous=False))

        asking = threading.Thread(target=ask, daemon=True)  # confluent-kafka waits as long as the node is away
        asking.start()
        asking.join(2)
        return bool(results) and results[0].error is None

    def test_no_commit_is_lost(self) -> None:
        """Whatever a client was told to be committed is there after each restart, and nothing that was never tried."""
        with TemporaryDirectory() as directory, ChronikNode(Path(directory)) as node:
            settings = {"bootstrap.servers": node.bootstrap, "group.id": "g", "enable.auto.commit": False, **QUIET}
            admin = AdminClient({"bootstrap.servers": node.bootstrap, **QUIET})
            admin.create_topics([NewTopic("t", 1, 1)])["t"].result(30)
            told = 0
            for round_ in range(10 if WHOLE else 2):
                consumer = Consumer(settings)
                killer = threading.Timer(0.5 + round_ * 0.037, node.kill)
                killer.start()
                while killer.is_alive():
                    if self.commit(consumer, told + 1):
                        told += 1
                killer.join()
                node.start()
                fresh = Consumer(settings)
                (found,) = fresh.committed([TopicPartition("t", 0)], 30)
                fresh.close()
                # The commit that was on its way when the node died may have been stored or not.
                self.assertIn(found.offset, (told, told + 1))
                told = found.offset
            self.assertGreater(told, 20)
