"""`chronik-ctl search`: what is asked and how it is shown, and the whole command against a node."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from functools import cache
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chronik.client.errors import BadResponse
from chronik.ctl.runner import CommandFailed
from chronik.ctl.search import marked, printable, request_body, row, shown, summary, url_of
from chronik.ctl.search_client import decoded
from chronik.testing import Chronik
from tests.ctl.test_commands import environment
from tests.node.searching import produce

START = 1_795_755_600_000


class Pieces(SynchronousTestCase):
    def test_where_the_listener_is(self) -> None:
        for bootstrap, expected in [
            ("127.0.0.1:9092", "http://127.0.0.1:9200"), ("a:1,b:2", "http://a:9200"), ("host", "http://host:9200"),
            ("[::1]:9092", "http://[::1]:9200"),
        ]:  # fmt: skip
            self.assertEqual(url_of(bootstrap), expected)

    def test_what_is_asked(self) -> None:
        clause = {"query_string": {"query": "a"}}
        self.assertEqual(
            request_body("a", 5, None, None, False, False),
            {"query": {"bool": {"filter": [clause]}}, "size": 5, "track_total_hits": False},
        )
        body = request_body("a", 0, "now-1h", "now", True, False)
        self.assertEqual(body["query"]["bool"]["filter"][1], {"range": {"timestamp": {"gte": "now-1h", "lt": "now"}}})
        self.assertEqual((body["sort"], body["track_total_hits"]), ([{"timestamp": "asc"}], True))

    def test_hits(self) -> None:
        fields = {"timestamp": ["2026-11-27T05:00:00.000Z"], "partition": [3], "offset": [7], "headers.h": ["x", None]}
        hit = {"_index": "t", "_id": "3:7", "_source": {"a": "é\x1b[31m"}, "fields": fields}
        found = shown(hit)
        self.assertEqual(found, {
            "topic": "t", "partition": 3, "offset": 7, "timestamp": "2026-11-27T05:00:00.000Z", "key": None,
            "headers": {"h": ["x", None]}, "value": {"a": "é\x1b[31m"},
        })  # fmt: skip
        self.assertEqual(row(found)["message"], '{"a":"é\\u001b[31m"}')
        for source, value in [({"value": "text"}, "text"), ({"value": None}, None), ({}, {}), (None, None)]:
            self.assertEqual(shown({**hit, "_source": source})["value"], value)

    def test_nothing_in_a_message_commands_the_terminal(self) -> None:
        self.assertEqual(printable("a\nb\x1b]0;x\x07\x9bé\u202e\u2028"), r"a\nb\x1b]0;x\x07\x9bé\u202e\u2028")
        self.assertIsNone(printable(None))

    def test_what_stands_out(self) -> None:
        hits = [{"highlight": {"a": ["x \ue000err.or\ue001 y", "\ue000b\ue001"]}}, {}]
        pattern = marked(hits)
        assert pattern is not None
        self.assertEqual(pattern.findall("err.or errxor b abc b1 (b)"), ["err.or", "b", "b"])
        self.assertIsNone(marked([{}]))

    def test_summaries(self) -> None:
        def said(total: Any, timed_out: bool = False) -> str:
            return summary({"hits": {} if total is None else {"total": total}, "took": 3, "timed_out": timed_out}, 2)

        self.assertEqual(said(None), "2 shown, 3 ms")
        self.assertEqual(said({"value": 9, "relation": "eq"}), "2 of 9, 3 ms")
        self.assertEqual(
            said({"value": 9, "relation": "gte"}, True), "2 of at least 9, 3 ms, not all was searched in time"
        )

    def test_answers(self) -> None:
        good = {"hits": {"hits": []}, "took": 1, "timed_out": False}
        self.assertEqual(decoded("u", 200, json.dumps(good).encode()), good)
        with self.assertRaises(CommandFailed) as refused:
            decoded("u", 400, b'{"error": {"reason": "q: no"}, "status": 400}')
        self.assertEqual(str(refused.exception), "q: no (HTTP status 400 from u)")
        for status, content in [
            (200, b"<html>"),
            (200, b"[]"),
            (200, b"{}"),
            (500, b"{}"),
            (404, b'{"error": "x"}'),
            (200, b"\xff"),
        ]:
            with self.assertRaises(BadResponse):
                decoded("u", status, content)


@cache
def shared() -> Chronik:
    """A node with messages to be found; it is stopped with the process."""
    broker = Chronik(search_listener="127.0.0.1:0").start()
    broker.create_topic("ctl-events")
    for number in range(30):
        value = {"n": number, "level": "error" if number % 3 == 0 else "info"}
        produce(broker, "ctl-events", [(b"k%d" % number, json.dumps(value).encode())], timestamp=START + number * 1000)
    produce(broker, "ctl-lines", [(None, b"plain \x1b[31m text")])
    return broker


class Commands(SynchronousTestCase):
    def ctl(self, *arguments: str, url: str | None = None) -> subprocess.CompletedProcess[str]:
        broker = shared()
        return subprocess.run(
            [sys.executable, "-m", "chronik.ctl.main", "search", *arguments],
            env={**environment(broker.bootstrap_servers), "CHRONIK_CTL_SEARCH_URL": url or broker.search_url},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def found(self, *arguments: str) -> Any:
        done = self.ctl(*arguments, "-o", "json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_a_table(self) -> None:
        done = self.ctl("ctl-events", "level:error AND n:<7", "-n", "2", "--count")
        self.assertEqual([line.split(None, 3) for line in done.stdout.splitlines()], [
            ["TIME", "PLACE", "KEY", "MESSAGE"],
            ["2026-11-27T05:00:06.000Z", "0:6", "k6", '{"n":6,"level":"error"}'],
            ["2026-11-27T05:00:03.000Z", "0:3", "k3", '{"n":3,"level":"error"}'],
        ])  # fmt: skip
        self.assertRegex(done.stderr, r"^2 of 3, \d+ ms\n$")

    def test_what_was_found_stands_out_on_a_terminal(self) -> None:
        ours, theirs = pty.openpty()
        try:
            broker = shared()
            done = subprocess.run(
                [sys.executable, "-m", "chronik.ctl.main", "search", "ctl-events", "level:error", "-n", "1"],
                env={
                    **environment(broker.bootstrap_servers), "CHRONIK_CTL_SEARCH_URL": broker.search_url, "TERM": "xterm",
                    "COLUMNS": "120",
                },
                stdout=theirs, stderr=subprocess.PIPE, timeout=60, check=False,
            )  # fmt: skip
            self.assertEqual(done.returncode, 0, done.stderr)
            shown = os.read(ours, 65536).decode()
        finally:
            os.close(ours)
            os.close(theirs)
        self.assertIn("\x1b[1;7merror\x1b[0m", shown)
        self.assertNotIn("\ue000", shown)

    def test_json_and_yaml(self) -> None:
        found = self.found("ctl-events", "n:5")
        self.assertEqual([hit["offset"] for hit in found["hits"]], [5])
        self.assertEqual(found["hits"][0]["value"], {"n": 5, "level": "info"})
        self.assertEqual(found["hits"][0]["key"], "k5")
        self.assertIn("offset: 5", self.ctl("ctl-events", "n:5", "-o", "yaml").stdout)

    def test_times_and_order(self) -> None:
        found = self.found(
            "find", "ctl-events", "--from", "2026-11-27T05:00:10Z", "--to", str(START + 13_000), "--oldest-first"
        )
        self.assertEqual([hit["offset"] for hit in found["hits"]], [10, 11, 12])
        self.assertEqual(self.found("ctl-events", "-n", "0")["total"], {"value": 30, "relation": "eq"})

    def test_several_topics_and_what_is_no_json(self) -> None:
        done = self.ctl("ctl-*", "plain OR n:1")
        self.assertIn("TOPIC", done.stdout)
        self.assertIn(r"plain \x1b[31m text", done.stdout)

    def test_what_goes_wrong(self) -> None:
        for arguments, code, expected in [
            (("ctl-events", "a )"), 1, "q"), (("nope", "a"), 1, "no such index [nope] (HTTP status 404"),
            (("ctl-events", "a", "--search-url", "http://127.0.0.1:1"), 3, "connection refused"),
            (("ctl-events", "-n", "20000"), 2, "20000"), ((), 2, ""),
        ]:  # fmt: skip
            done = self.ctl(*arguments)
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertIn(expected, done.stderr + done.stdout)
