"""Share groups (KIP-932) by the Java client, the only one that has them, and by Kafka's tools.

Several members read one topic while one of them is killed, or the node is. No record whose acknowledgement was confirmed is
ever given out again, and every record is accepted or rejected in the end.
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.compat.node import ON_KAFKA, WHOLE, BrokerTestCase, started
from tests.compat.test_java_tools import ToolTestCase
from tests.peers import java
from tests.peers.chronik_node import ChronikNode
from tests.peers.process import PeerProcess

SHARER = Path(__file__).parent / "java" / "Sharer.java"
SETTINGS = {
    "group.share.enable": "true",
    "group.share.min.session.timeout.ms": "3000",
    "group.share.session.timeout.ms": "6000",
    "group.share.min.heartbeat.interval.ms": "200",
    "group.share.heartbeat.interval.ms": "500",
    "group.share.min.record.lock.duration.ms": "2000",
    "group.share.record.lock.duration.ms": "5000",
    "share.coordinator.state.topic.num.partitions": "5",
}
PARTITIONS = 3
_numbers = itertools.count()


class Event(NamedTuple):
    """What a member wrote of one record: given (G), accepted (A), released (R), rejected (J), or who knows (?)."""

    what: str
    time_ns: int
    partition: int
    offset: int
    delivery: int
    value: str

    @property
    def place(self) -> tuple[int, int]:
        """Which record."""
        return self.partition, self.offset


class Member:
    """One Java share consumer in a process of its own."""

    def __init__(self, directory: Path, bootstrap: str, topic: str, group: str, rule: str) -> None:
        self.log = directory / f"member-{next(_numbers)}.log"
        line = java.own_command(SHARER, [bootstrap, topic, group, rule], java.TOOL_OPTIONS)
        self.process = PeerProcess("a share consumer", line, self.log)
        self.process.start()

    def events(self) -> list[Event]:
        """What it has written so far."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            parts = line.split(" ")
            if len(parts) == 6 and parts[0] in "GARJ?":
                what, *numbers, value = parts
                found.append(Event(what, *map(int, numbers), value))
        return found


class ShareCase(BrokerTestCase):
    """A broker that serves share groups, a topic and a group that begins at its beginning."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="chronik-share-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.broker = started(self.directory / "broker", SETTINGS)
        self.addCleanup(lambda: self.broker.stop())
        self.bootstrap = self.broker.bootstrap
        self.members: list[Member] = []

    def create(self, topic: str, partitions: int = PARTITIONS) -> None:
        """A topic."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(30)

    def configure(self, group: str, **configs: str) -> None:
        """Configs of a group, by kafka-configs."""
        values = {"share.auto.offset.reset": "earliest"} | {k.replace("_", "."): v for k, v in configs.items()}
        entity = ("--entity-type", "groups", "--entity-name", group)
        change = ",".join(f"{name}={value}" for name, value in values.items())
        done = java.run(java.CONFIGS, "--bootstrap-server", self.bootstrap, "--alter", *entity, "--add-config", change)
        self.assertEqual(done.returncode, 0, (done.stdout + done.stderr).decode())

    def produce(self, topic: str, *values: str, partitions: int = PARTITIONS) -> None:
        """Records, in batches of some, to all partitions in turn."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 1, "batch.num.messages": 20})
        for number, value in enumerate(values):
            producer.produce(topic, value.encode(), partition=number % partitions)
        self.assertEqual(producer.flush(60), 0)

    def save_search(self, name: str, source: str, query: str) -> None:
        """A saved search over the topic `source`."""
        self.rest("POST", "/v1/searches", {"name": name, "source": source, "query": query})

    def rest(self, method: str, path: str, body: object = None) -> None:
        """A request of the admin listener, which must succeed."""
        assert isinstance(self.broker, ChronikNode)
        data = None if body is None else json.dumps(body).encode()
        place = f"http://127.0.0.1:{self.broker.admin_port}{path}"
        request = urllib.request.Request(place, data, {"content-type": "application/json"}, method=method)
        urllib.request.urlopen(request).close()

    def member(self, topic: str, group: str, rule: str = "mixed") -> Member:
        """Another member, running."""
        member = Member(self.directory, self.bootstrap, topic, group, rule)
        self.addCleanup(member.process.kill)
        self.members.append(member)
        return member

    def events(self) -> list[Event]:
        """What all members have written, in the order of time."""
        return sorted((event for member in self.members for event in member.events()), key=lambda event: event.time_ns)

    def eventually(self, what: str, holds: Callable[[], bool], seconds: float = 90) -> None:
        """Wait until `holds()`."""
        until = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > until:
                said = "\n".join(member.log.read_text(errors="replace")[-1500:] for member in self.members)
                self.fail(f"not within {seconds} s: {what}\n{said}")
            time.sleep(0.1)

    def settled(self) -> set[tuple[int, int]]:
        """The records of which a member knows that they are accepted or rejected."""
        return {event.place for event in self.events() if event.what in "AJ"}

    def maybe(self) -> set[tuple[int, int]]:
        """The records of which no member knows how it went."""
        return {event.place for event in self.events() if event.what == "?"}

    def until(self, count: int, what: str) -> None:
        """Wait until so many records were dealt with, in all likelihood."""
        self.eventually(what, lambda: len(self.settled() | self.maybe()) >= count, 180)

    def check(self, values: list[str]) -> None:
        """Every record was dealt with, and none was given out after that."""
        done: dict[tuple[int, int], Event] = {}
        by_value: dict[str, list[Event]] = {}
        for event in self.events():
            by_value.setdefault(event.value, []).append(event)
            if event.what == "G" and event.place in done:
                self.fail(f"given out after {done[event.place]}: {event}")
            elif event.what in "AJ":
                self.assertNotIn(event.place, done)
                done[event.place] = event
        self.assertEqual(set(by_value), set(values))
        for value, events in by_value.items():
            ends = [event.what for event in events if event.what in "AJ?"]
            self.assertTrue(ends, events)
            if "?" not in ends:
                self.assertEqual(ends, ["J" if value.endswith("3") else "A"], events)
            self.assertEqual(len({event.place for event in events}), 1, events)


class Sharing(ShareCase):
    """Members, and what becomes of records when something dies."""

    def test_members_share_the_records_and_one_is_killed(self) -> None:
        """What it had and had not acknowledged is given to the others. It is one partition, so all of them have it."""
        topic, group, count = "shared", "workers", 3000 if WHOLE else 600
        self.create(topic, 1)
        self.configure(group)
        holder = self.member(topic, group, "hold")
        values = [f"v{number}" for number in range(count)]
        self.produce(topic, *values, partitions=1)
        self.eventually("a member holds records", lambda: bool(holder.events()))
        held = {event.place for event in holder.events()}
        workers = [self.member(topic, group) for _ in range(3)]

        def share_the_work() -> bool:
            new = [f"w{len(values) + number}" for number in range(20)]
            values.extend(new)
            self.produce(topic, *new, partitions=1)
            return sum(bool(worker.events()) for worker in workers) > 1

        self.eventually("the others share what comes", share_the_work)
        holder.process.kill()
        self.eventually("all is dealt with", lambda: len(self.settled()) == len(values))
        again = {event.place: event.delivery for event in self.events() if event.what == "G" and event.place in held}
        self.assertEqual(set(again), held)
        self.check(values)

    def test_nothing_is_lost_or_comes_again_when_the_node_is_killed(self) -> None:
        """Kill it in the middle of the work, again and again, and restart it in order once."""
        if ON_KAFKA:
            self.skipTest("the broker of this run is not ours to kill")
        topic, group, rounds, each = "killed", "survivors", 6 if WHOLE else 2, 400
        self.create(topic)
        self.configure(group)
        for _ in range(2):
            self.member(topic, group)
        values: list[str] = []
        for number in range(rounds + 1):
            new = [f"r{number}-{each_number}" for each_number in range(each)]
            goal = len(self.settled() | self.maybe()) + each // 4
            self.produce(topic, *new)
            values += new
            self.until(goal, "the work goes on")
            if number < rounds:
                self.broker.kill()
            else:
                self.broker.stop()
            time.sleep(0.3)
            self.broker.start()
        self.until(len(values), "all is dealt with")
        for member in self.members:
            self.assertEqual(member.process.stop(), 143, member.log.read_text()[-2000:])
        last = self.member(topic, group, "accept")
        self.produce(topic, "end", "end", "end")
        self.eventually("all partitions are read to their end", lambda: len(last.events()) >= 6)
        self.assertLessEqual({event.place for event in last.events() if event.value != "end"}, self.maybe())
        self.members.remove(last)
        self.check(values)

    def test_a_saved_search(self) -> None:
        """Members share what matches, through the death of the node. Saved anew under its name, it is another topic."""
        if ON_KAFKA:
            self.skipTest("Kafka has no saved searches")
        topic, group = "searched", "finders"
        self.create(topic)
        self.save_search("errors", topic, "level:error")
        self.configure(group)
        wanted: list[str] = []
        for number in range(2):
            values = [
                f'{{"level":"{"error" if each % 7 == 0 else "info"}","n":{number * 1000 + each}}}'
                for each in range(400)
            ]
            wanted += [value for value in values if "error" in value]
            self.produce(topic, *values)
            for _ in range(2):
                self.member("errors", group)
            self.until(len(wanted), "what matches is read")
            if not number:
                self.broker.kill()
                self.broker.start()
        self.check(wanted)
        for member in self.members:
            member.process.stop()  # they would have the topic created
        self.members.clear()
        self.rest("DELETE", "/v1/searches/errors")
        self.save_search("errors", topic, "level:error")
        self.member("errors", group)
        self.until(len(wanted), "the new one is read from its beginning")
        self.check(wanted)

    def test_read_committed(self) -> None:
        """What a transaction aborted is never given out."""
        topic, group = "committed", "readers"
        self.create(topic)
        self.configure(group, share_isolation_level="read_committed")
        producer = Producer({"bootstrap.servers": self.bootstrap, "transactional.id": "sharing"})
        producer.init_transactions(30)
        expected = []
        for number in range(12):
            producer.begin_transaction()
            for partition in range(PARTITIONS):
                producer.produce(topic, f"t{number}-{partition}".encode(), partition=partition)
            producer.flush(30)
            if number % 3:
                producer.abort_transaction(30)
            else:
                producer.commit_transaction(30)
                expected += [f"t{number}-{partition}" for partition in range(PARTITIONS)]
        self.member(topic, group, "accept")
        self.eventually("the committed ones are read", lambda: len(self.settled()) >= len(expected))
        time.sleep(1)
        self.assertEqual(sorted({event.value for event in self.events()}), sorted(expected))


class Tools(ShareCase, ToolTestCase):
    """kafka-console-share-consumer, kafka-share-groups and kafka-features."""

    def test_kafka_features_turns_them_on(self) -> None:
        """At level 0 of share.version a share consumer is refused, at level 1 it is served."""
        self.broker.stop()
        self.broker = started(self.directory / "another", {**SETTINGS, "group.share.enable": "false"})
        self.bootstrap = self.broker.bootstrap
        self.create("featured")
        self.configure("featured-group")
        self.produce("featured", "one", "two", "three")
        consumer = ("--topic", "featured", "--group", "featured-group", "--max-messages", "3", "--timeout-ms", "20000")
        self.assertIn("UnsupportedVersionException", self.tool(java.CONSOLE_SHARE_CONSUMER, *consumer))
        self.tool(java.FEATURES, "upgrade", "--feature", "share.version=1")
        said = self.tool(java.CONSOLE_SHARE_CONSUMER, *consumer)
        self.assertEqual(
            sorted(line for line in said.splitlines() if line in ("one", "two", "three")), ["one", "three", "two"]
        )

    def test_console_share_consumer_and_share_groups(self) -> None:
        """Read, look at the group, and delete it, bit by bit."""
        topic, group = "tools", "tooled"
        self.create(topic)
        self.configure(group)
        values = [f"v{number}" for number in range(90)]
        self.produce(topic, *values)
        said = self.tool(
            java.CONSOLE_SHARE_CONSUMER,
            *("--topic", topic, "--group", group, "--max-messages", "90", "--timeout-ms", "60000"),
        )
        self.assertEqual(sorted(line for line in said.splitlines() if line.startswith("v")), sorted(values))
        self.assertIn(group, self.tool(java.SHARE_GROUPS, "--list").split())
        said = self.tool(java.SHARE_GROUPS, "--list", "--state")
        self.assertRegex(said, rf"{group}\s+Empty")
        self.member(topic, group, "accept")
        described = ("--describe", "--group", group)

        def has_a_member() -> bool:
            return f"{topic}:0,1,2" in self.tool(java.SHARE_GROUPS, *described, "--members")

        self.eventually("the member is seen", has_a_member)
        self.assertRegex(self.tool(java.SHARE_GROUPS, *described, "--state"), rf"{group}\s+\S+.*Stable\s+1")
        said = self.tool(java.SHARE_GROUPS, "--delete", "--group", group)
        self.assertIn("not EMPTY", said)
        said = self.tool(java.SHARE_GROUPS, *described)
        for partition in range(PARTITIONS):
            self.assertRegex(said, rf"{group}\s+{topic}\s+{partition}\s+(\d+|-)")
        self.members[0].process.stop()
        self.eventually("the group is empty", lambda: "Empty" in self.tool(java.SHARE_GROUPS, *described, "--state"))
        said = self.tool(java.SHARE_GROUPS, "--delete-offsets", "--group", group, "--topic", topic)
        self.assertRegex(said, rf"{topic}\s+Successful")
        said = self.tool(java.SHARE_GROUPS, "--delete", "--group", group)
        self.assertIn("successful", said)
        self.assertNotIn(group, self.tool(java.SHARE_GROUPS, "--list").split())
