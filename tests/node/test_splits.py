"""Splits in a whole node: made by a process of their own, taken up again after a start, gone when they aren't wanted."""

from __future__ import annotations

import os
import signal
import socket
import time
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
from twisted.trial.unittest import SynchronousTestCase

from chronik.testing import Chronik
from tests.node.searching import Answer, Message, ask, produce

WANTED = 1000


def message(number: int) -> Message:
    level = "error" if number % 10 == 0 else "info"
    return None, b"level=%s request %d of user%d took some time: %s" % (
        level.encode(), number, number % 97, b"and so on " * 15,
    )  # fmt: skip


def fill(broker: Chronik, topic: str) -> None:
    """Six thousand messages, in batches that are smaller than a block."""
    for first in range(0, 6000, 400):
        produce(broker, topic, map(message, range(first, min(first + 400, 6000))))


class SplitsTests(SynchronousTestCase):
    def start(self, directory: str, **options: Any) -> Chronik:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.admin_port = free.getsockname()[1]
        broker = Chronik(
            directory=directory,
            search_listener="127.0.0.1:0",
            search_split_messages=WANTED,
            admin_listener=f"127.0.0.1:{self.admin_port}",
            **options,
        ).start()
        self.addCleanup(broker.stop)
        return broker

    def ask(self, broker: Chronik, method: str, path: str, body: Any = None, status: int = 200) -> Answer:
        answer = ask(broker, method, path, body)
        self.assertEqual(answer.status, status, answer.body)
        return answer

    def row(self, broker: Chronik, topic: str = "full") -> dict[str, int]:
        columns = "search,splits,splits.docs,splits.size,splits.unverified"
        (row,) = self.ask(broker, "GET", f"/_cat/indices/{topic}?format=json&bytes=b&h={columns}").body
        self.assertEqual(row.pop("search"), "full" if topic == "full" else "signatures")
        return {name: int(text) for name, text in row.items()}

    def wait(self, ready: Any, what: str, seconds: float = 120.0, pause: float = 0.2) -> None:
        until = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > until:
                self.fail(f"{what} did not come true in {seconds:.0f} s")
            time.sleep(pause)

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/metrics") as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(f"{name} "):
                    return float(line.split()[1])
        raise AssertionError(f"there is no metric {name}")

    def alter(self, broker: Chronik, value: str) -> None:
        entry = ConfigEntry("chronik.search", value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, "full", incremental_configs=[entry])
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
        for done in admin.incremental_alter_configs([resource]).values():
            done.result(30)

    def test_from_a_topic_s_config_to_a_count(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        broker = self.start(directory.name)
        broker.create_topic("full", 1, configs={"chronik.search": "full"})
        broker.create_topic("plain")
        for topic in ("full", "plain"):
            fill(broker, topic)
        self.wait(lambda: self.row(broker)["splits"] >= 2, "splits")
        row = self.row(broker)
        self.assertGreaterEqual(row["splits.docs"], 2 * WANTED)
        self.assertGreater(row["splits.size"], 10_000)
        self.assertEqual(self.row(broker, "plain")["splits"], 0)
        self.assertGreaterEqual(self.metric("chronik_search_split_builds_total"), 2)
        self.assertGreaterEqual(self.metric("chronik_search_split_records_total"), 2 * WANTED)
        self.assertEqual(self.metric("chronik_search_split_failures_total"), 0)
        for query in ("error", '"of user3"', "level:error", "user17 AND NOT info", "request*"):
            body = {"query": {"query_string": {"query": query}}, "track_total_hits": True}
            full, plain = (self.ask(broker, "POST", f"/{topic}/_search", body) for topic in ("full", "plain"))
            self.assertEqual(full.ids, plain.ids, query)
            self.assertEqual(full.body["hits"]["total"], plain.body["hits"]["total"], query)
        counted = self.ask(broker, "GET", "/full/_count?q=error").body
        self.assertEqual(counted["count"], 600)
        costs = counted["chronik"]["costs"]
        self.assertGreaterEqual(costs["splits_counted"], 2)
        self.assertLess(costs["records"], 600)
        explained = self.ask(broker, "GET", "/full,plain/_explain?q=error").body
        (explanation,) = explained["explanations"]
        self.assertEqual((explanation["full"], explanation["countable"]), (["full"], True))
        best = self.ask(
            broker, "POST", "/full/_search", {"query": {"match": {"value": "user3 info"}}, "sort": ["_score"]}
        ).body
        scores = [hit["_score"] for hit in best["hits"]["hits"]]
        self.assertEqual(scores, sorted(scores, reverse=True))
        self.assertEqual(best["hits"]["max_score"], scores[0])
        self.assertTrue(all("user3 " in hit["_source"]["value"] for hit in best["hits"]["hits"]))
        self.assertEqual([hit["sort"][0] for hit in best["hits"]["hits"]], scores)
        refused = self.ask(broker, "POST", "/full,plain/_search", {"sort": ["_score"]}, 400)
        self.assertIn("chronik.search=full", refused.reason)
        # another start takes them up
        broker.stop()
        broker = self.start(directory.name)
        self.wait(lambda: self.row(broker)["splits"] >= row["splits"], "splits after a start")
        self.assertEqual(self.ask(broker, "GET", "/full/_count?q=error").body["count"], 600)
        # and who wants none any more has none
        self.alter(broker, "signatures")
        self.ask(broker, "GET", "/full/_count?q=error")
        self.wait(lambda: not list(Path(directory.name).rglob("*.split")), "that they are gone")
        self.assertEqual(self.ask(broker, "GET", "/full/_count?q=error").body["count"], 600)
        self.assertEqual(self.metric("chronik_search_split_failures_total"), 0)

    def test_processes_that_are_killed_cost_nothing_but_time(self) -> None:
        """The one that makes splits, and the one that searches."""
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        broker = self.start(directory.name)
        broker.create_topic("full", 1, configs={"chronik.search": "full"})
        fill(broker, "full")
        self.wait(lambda: list(Path(directory.name).rglob("*.unfinished")), "a build", pause=0.002)
        for part in ("jobs", "search"):
            self.wait(lambda part=part: _workers(part), f"a process for {part}")
            for pid in _workers(part):
                os.kill(pid, signal.SIGKILL)
        self.wait(lambda: self.metric("chronik_search_split_failures_total"), "a build that fails")
        path = "/_cat/indices/full?format=json&h=splits"

        def there() -> bool:
            answer = ask(broker, "GET", path)  # while a process is started again it is a 503
            return answer.status == 200 and int(answer.body[0]["splits"]) >= 2

        self.wait(there, "splits")
        self.assertEqual(self.ask(broker, "GET", "/full/_count?q=error").body["count"], 600)
        self.assertEqual([each.name for each in Path(directory.name).rglob("*.unfinished")], [])


def _workers(part: str) -> list[int]:
    """The processes of this process' node."""
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdecimal():
            try:
                command = (each / "cmdline").read_bytes().split(b"\0")
                parent = int((each / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == os.getpid() and command[-2:-1] == [part.encode()]:
                found.append(int(each.name))
    return found
