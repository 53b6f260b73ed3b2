"""Alerts of a whole node: what is told, once, also after a restart, and what a dry run says of the past."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any

from chronik.errors import ErrorCode
from chronik.testing.reactor_thread import call
from chronik.wire.apis import ApiKey
from chronik.wire.records import decode_records, split_batches
from tests.conformance.case import OnDisk
from tests.differential.batches import Batch

MINUTE = 60_000
_PATIENCE = 30.0


class Alerts(OnDisk):
    options = {"offsets_topic_num_partitions": 2, "admin_listener": "127.0.0.1:0"}  # noqa: RUF012

    def setUp(self) -> None:
        super().setUp()
        self.broker.create_topic("events", 2)
        self.broker.create_topic("told", 1)
        self.broker.save_search("errors", "events", "level:error")
        self.now = int(time.time() * 1000) // MINUTE * MINUTE

    def rest(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        async def port() -> int:
            return int(self.broker._node.admin_port.getHost().port)

        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{call(port)}{path}", data, {"content-type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def save(self, name: str = "many", over: int = 3) -> None:
        body = {"name": name, "search": "errors", "over": over, "per_ms": MINUTE, "to": "told"}
        status, answer = self.rest("POST", "/v1/alerts", body)
        self.assertEqual((status, answer), (201, body))
        self.until(lambda: self.lag(name) == 0)

    def errors(self, count: int, minute: int, partition: int = 0, others: int = 2) -> None:
        """So many that match, and others, in a minute before or after this one."""
        values = [b'{"level":"error"}'] * count + [b'{"level":"info"}'] * others
        self.append("events", Batch(values, base_time=self.now + minute * MINUTE, time_step=10), partition=partition)

    def told(self) -> list[tuple[str, int, int]]:
        """(alert, window in minutes from now, count) of all that was told."""
        found = []
        data = bytes(self.fetch("told", 0).records)
        for position, header in split_batches(data):
            for record in decode_records(data[position : position + header.size], 1 << 20):
                message = json.loads(record.value or b"")
                self.assertEqual(record.key, message["alert"].encode())
                self.assertEqual((message["search"], message["source"]), ("errors", "events"))
                self.assertEqual(message["window_end"] - message["window_start"], MINUTE)
                found.append((message["alert"], (message["window_start"] - self.now) // MINUTE, message["count"]))
        return found

    def lag(self, name: str) -> int | None:
        """How far the alert's group is behind, None as long as it has committed nothing."""
        body = {"group_id": f"chronik-alert-{name}", "topics": None}
        answer = self.ask(ApiKey.OFFSET_FETCH, 7, body)
        offsets = {p.partition_index: p.committed_offset for topic in answer.topics for p in topic.partitions}
        if len(offsets) < 2:
            return None
        return sum(self.fetch("events", 0, partition=p).high_watermark - offset for p, offset in offsets.items())

    def until(self, holds: Any) -> None:
        give_up = time.monotonic() + _PATIENCE
        while not holds():
            self.assertLess(time.monotonic(), give_up)
            time.sleep(0.05)

    def test_a_window_with_too_many_is_told_once(self) -> None:
        self.errors(50, 0)  # before it was saved
        self.save()
        self.errors(2, 0, partition=0)
        self.errors(1, 0, partition=1)
        self.errors(3, 1)
        self.until(lambda: self.lag("many") == 0)
        self.assertEqual(self.told(), [])
        self.errors(1, 0, partition=1)  # late, and the fourth
        self.until(self.told)
        self.errors(5, 0)
        self.until(lambda: self.lag("many") == 0)
        self.assertEqual(self.told(), [("many", 0, 4)])

    def test_its_state_survives_a_restart(self) -> None:
        self.save()
        self.errors(4, 0)
        self.errors(3, 1)
        self.until(self.told)
        self.until(lambda: self.lag("many") == 0)
        self.broker.stop()
        self.start()
        self.errors(1, 0)
        self.errors(1, 1)
        self.until(lambda: len(self.told()) > 1)
        self.until(lambda: self.lag("many") == 0)
        self.assertEqual(self.told(), [("many", 0, 4), ("many", 1, 4)])

    def test_a_deleted_one_is_silent_and_a_new_one_of_its_name_begins_anew(self) -> None:
        self.save()
        self.errors(4, 0)
        self.until(self.told)
        self.assertEqual(self.rest("DELETE", "/v1/alerts/many")[0], 204)
        self.until(lambda: self.lag("many") is None)
        self.errors(9, 1)
        time.sleep(1.5)
        self.save(over=1)
        self.errors(2, 0)
        self.until(lambda: len(self.told()) > 1)
        self.assertEqual(self.told(), [("many", 0, 4), ("many", 0, 2)])

    def test_a_dry_run_tells_what_it_would_have_said(self) -> None:
        for minute, counts in ((0, (3, 1)), (1, (3, 0)), (2, (0, 9)), (3, (2, 2))):
            for partition, count in enumerate(counts):
                self.errors(count, minute, partition)
        rate = {"search": "errors", "over": 3, "per_ms": MINUTE}
        status, found = self.rest("POST", "/v1/alert-dry-runs", rate)
        self.assertEqual((status, found["complete"], found["matches"], found["total"]), (200, True, 20, 3))
        counted = [((each["start"] - self.now) // MINUTE, each["count"]) for each in found["windows"]]
        self.assertEqual(counted, [(0, 4), (2, 9), (3, 4)])
        self.assertEqual(
            found["reached"], {str(p): self.fetch("events", 0, partition=p).high_watermark for p in (0, 1)}
        )
        _, found = self.rest(
            "POST", "/v1/alert-dry-runs", {**rate, "from_ms": self.now + MINUTE + 5, "to_ms": self.now + 3 * MINUTE}
        )
        counted = [((each["start"] - self.now) // MINUTE, each["count"]) for each in found["windows"]]
        self.assertEqual((counted, found["matches"]), ([(2, 9)], 12))
        self.assertEqual(self.told(), [])

    def test_what_it_needs_and_what_is_refused(self) -> None:
        self.save()
        good = {"name": "b", "search": "errors", "over": 3, "per_ms": MINUTE, "to": "told"}
        for change, expected in (
            ({"name": "many"}, 409), ({"search": "events"}, 404), ({"to": "events"}, 400), ({"to": "nowhere"}, 404),
            ({"over": -1}, 400), ({"per_ms": 10}, 400), ({"per_ms": "1m"}, 400), ({"surprise": 1}, 400),
        ):  # fmt: skip
            self.assertEqual(self.rest("POST", "/v1/alerts", {**good, **change})[0], expected, change)
        self.assertEqual(self.rest("GET", "/v1/alerts/nowhere")[0], 404)
        self.assertEqual(self.rest("DELETE", "/v1/alerts/nowhere")[0], 404)
        self.assertEqual(
            self.rest("POST", "/v1/alert-dry-runs", {"search": "events", "over": 1, "per_ms": 5000})[0], 404
        )
        for name in ("errors", "told"):
            body = {"topics": [{"name": name}], "timeout_ms": 5000}
            (answer,) = self.ask(ApiKey.DELETE_TOPICS, 6, body).responses
            self.assertEqual(answer.error_code, ErrorCode.POLICY_VIOLATION)
        self.assertEqual(self.rest("POST", "/v1/alerts", good)[0], 201)
        _, listed = self.rest("GET", "/v1/alerts?limit=1")
        self.assertEqual(([each["name"] for each in listed["alerts"]], listed["next"]), (["b"], "b"))
