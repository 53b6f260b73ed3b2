"""Continuous queries on a whole node: by HTTP, through kill -9 of node and process, read by a transactional consumer."""

from __future__ import annotations

import json
import os
import random
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from twisted.trial.unittest import SynchronousTestCase

from tests.peers.chronik_node import ChronikNode
from tests.test_node import QUIET

PARTITIONS = 3
DEATHS = int(os.environ.get("CHRONIK_CRASHES", "6"))
COUNTS = (
    "CREATE CONTINUOUS QUERY counts AS SELECT path, count(*) AS n, sum(size) AS bytes FROM access"
    " GROUP BY path, TUMBLE(at, INTERVAL 1 SECOND) GRACE INTERVAL 1 HOUR INTO counted"
)
SETTINGS = {"query_interval_ms": "20", "query_idle_ms": "3000", "query_ahead_ms": str(300 * 86_400_000)}


class QueryCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.node = ChronikNode(Path(os.path.abspath(self.mktemp())), SETTINGS)
        self.addCleanup(self.node.stop)
        self.node.start()
        self.admin = AdminClient({"bootstrap.servers": self.node.bootstrap, **QUIET})
        self.admin.create_topics([NewTopic("access", PARTITIONS, 1)])["access"].result(20)
        self.producer = Producer({"bootstrap.servers": self.node.bootstrap, "enable.idempotence": True, **QUIET})
        self.wanted: dict[tuple[str, int], tuple[int, int]] = {}

    def http(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.node.search_port}{path}",
            None if body is None else json.dumps(body).encode(),
            {"content-type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def create(self, text: str = COUNTS) -> Any:
        status, answer = self.http("POST", "/v1/queries", {"query": text})
        self.assertEqual(status, 200, answer)
        return answer

    def send(self, path: str, at: int, size: int, partition: int) -> None:
        self.producer.produce("access", json.dumps({"path": path, "at": at, "size": size}), partition=partition)
        n, total = self.wanted.get((path, at // 1000 * 1000), (0, 0))
        self.wanted[path, at // 1000 * 1000] = n + 1, total + size

    def first(self) -> None:
        """A record by which the topic's fields are known."""
        self.send("/first", 0, 0, 0)
        self.flush()

    def flush(self) -> None:
        self.assertEqual(self.producer.flush(60), 0)

    def until(self, what: str, holds: Any, seconds: float = 60) -> Any:
        ends = time.monotonic() + seconds
        while True:
            found = holds()
            if found:
                return found
            self.assertLess(time.monotonic(), ends, f"{what}: {self.http('GET', '/v1/queries/counts')}")
            time.sleep(0.05)

    def state(self) -> Any:
        return self.http("GET", "/v1/queries/counts")[1]

    def caught_up(self) -> bool:
        state = self.state()
        return state["state"] == "running" and state["lag"] == 0

    def read(self, topic: str, partitions: int = PARTITIONS) -> list[Any]:
        """All records of a topic."""
        consumer = Consumer(
            {"bootstrap.servers": self.node.bootstrap, "group.id": "r", "isolation.level": "read_committed",
             "enable.partition.eof": True, **QUIET}
        )  # fmt: skip
        places = [TopicPartition(topic, number, 0) for number in range(partitions)]
        consumer.assign(places)
        found, ended = [], set()
        while len(ended) < len(places):
            for message in consumer.consume(1000, 1.0):
                if message.error():
                    ended.add(message.partition())
                else:
                    found.append(message)
        consumer.close()
        return found

    def results(self) -> dict[tuple[str, int], tuple[int, int]]:
        """What is in the topic of results; each window once."""
        found: dict[tuple[str, int], tuple[int, int]] = {}
        for message in self.read("counted"):
            key, value = json.loads(message.key()), json.loads(message.value())
            place = key["path"], key["window_start"]
            self.assertNotIn(place, found)
            found[place] = value["n"], value["bytes"]
        return found


class Queries(QueryCase):
    def test_from_created_to_dropped(self) -> None:
        for number in range(300):
            self.send(f"/{number % 7}", number * 20, number, number % PARTITIONS)
        self.flush()
        answer = self.create(COUNTS.replace("1 HOUR", "0 SECONDS"))
        self.assertEqual((answer["source"], answer["into"], answer["late"]), ("access", "counted", "counted-late"))
        self.until("all is read", self.caught_up)
        self.until("idle partitions hold nothing back", lambda: self.results() == self.wanted, 90)
        state = self.state()
        self.assertEqual((state["counts"]["records"], state["counts"]["late"]), (300, 0))
        (group,) = self.admin.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions("chronik-query-counts")]
        ).values()
        committed = {each.partition: each.offset for each in group.result(20).topic_partitions}
        self.assertEqual(committed, dict.fromkeys(range(PARTITIONS), 100))
        with urllib.request.urlopen(f"http://127.0.0.1:{self.node.admin_port}/metrics") as answer:
            text = answer.read().decode()
        self.assertIn('chronik_query_records_total{query="counts"} 300.0', text)
        self.assertIn('chronik_query_lag{query="counts"} 0.0', text)
        status, explained = self.http("GET", "/v1/queries/counts/explain?key=%5B%22/3%22%5D&start=1000")
        self.assertEqual(status, 200, explained)
        offsets = [(number // PARTITIONS, number % PARTITIONS) for number in range(50, 100) if number % 7 == 3]
        self.assertEqual(
            explained["offsets"],
            {str(each): [offset for offset, partition in offsets if partition == each] for each in range(PARTITIONS)},
        )
        self.assertEqual((explained["window"]["n"], explained["window"]["bytes"]), self.wanted["/3", 1000])
        self.send("/late", 5, 1, 0)
        self.flush()
        self.until("the late one is counted", lambda: self.state()["counts"]["late"] == 1)
        (late,) = self.read("counted-late")
        self.assertEqual(json.loads(late.value())["path"], "/late")
        self.assertEqual(dict(late.headers())["chronik.late.query"], b"counts")
        self.assertEqual(self.http("POST", "/v1/queries/counts/pause")[1]["state"], "paused")
        self.assertEqual(self.http("GET", "/v1/queries")[1]["queries"][0]["state"], "paused")
        self.assertEqual(self.http("POST", "/v1/queries/counts/resume")[0], 200)
        self.until("it goes on", self.caught_up)
        self.assertEqual(self.http("DELETE", "/v1/queries/counts")[0], 200)
        self.assertEqual(self.http("GET", "/v1/queries/counts")[0], 404)
        self.until("its state is taken away", lambda: not self.state_keys())
        groups = self.admin.list_consumer_groups().result(20).valid
        self.assertNotIn("chronik-query-counts", {group.group_id for group in groups})

    def state_keys(self) -> set[bytes]:
        """The keys that have a value in the topic of states."""
        left: dict[bytes, bytes] = {}
        for message in self.read("__chronik_query_state", partitions=16):
            if message.value() is None:
                left.pop(message.key(), None)
            else:
                left[message.key()] = message.value()
        return set(left)

    def test_open_windows_can_be_looked_at(self) -> None:
        self.first()
        self.create()
        for number in range(30):
            self.send("/a" if number % 3 else "/b", number * 100, 1, number % PARTITIONS)
        self.flush()
        self.until("all is read", self.caught_up)
        _, answer = self.http("GET", "/v1/queries/counts/windows?key=%5B%22/b%22%5D&from=1000")
        self.assertEqual(
            [(each["path"], each["window_start"], each["n"]) for each in answer["windows"]],
            [("/b", 1000, 3), ("/b", 2000, 3)],
        )

    def test_what_is_refused(self) -> None:
        self.first()
        for text, status, why in (
            ("SELECT 1", 400, "CREATE CONTINUOUS QUERY"),
            (COUNTS.replace("access", "nowhere"), 404, "nowhere"),
            (COUNTS.replace("sum(size)", "sum(nothing)"), 400, "nothing"),
            (COUNTS.replace("sum(size)", "sum(read_text('/etc/passwd'))"), 400, "read_text"),
            (COUNTS.replace("INTO counted", "INTO access"), 400, "access"),
            (COUNTS.replace(" GRACE INTERVAL 1 HOUR", ""), 400, "GRACE"),
        ):
            got, answer = self.http("POST", "/v1/queries", {"query": text})
            self.assertEqual(got, status, answer)
            self.assertIn(why, answer["error"]["reason"])
        self.create()
        self.assertEqual(self.http("POST", "/v1/queries", {"query": COUNTS})[0], 409)


class Killed(QueryCase):
    def test_the_results_are_those_of_one_go(self) -> None:
        """kill -9 of the node, and of the process that runs the query, while records come."""
        chance = random.Random(11)
        self.first()
        self.create(COUNTS.replace("1 HOUR", "5 SECONDS"))
        at = 0
        for number in range(DEATHS):
            for _ in range(400):
                at += chance.randrange(8)
                self.send(
                    f"/{chance.randrange(20)}",
                    at + chance.randrange(500),
                    chance.randrange(100),
                    chance.randrange(PARTITIONS),
                )
            self.flush()
            time.sleep(chance.random() * 0.5)
            if number % 2:
                self.node.kill()
                self.node.start()
            else:
                self.kill_process()
        self.until("all is read", self.caught_up, 120 + 3 * DEATHS)
        self.until("the results are there", lambda: len(self.results()) >= len(self.wanted), 120)
        self.assertEqual(self.results(), self.wanted)
        self.assertEqual(self.state()["counts"]["late"], 0)

    def kill_process(self) -> None:
        """The one that runs queries."""
        for child in Path(f"/proc/{self.node.process.pid}/task/{self.node.process.pid}/children").read_text().split():
            if b"queries" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(int(child), signal.SIGKILL)
