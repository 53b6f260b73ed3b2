"""What no well-meaning client sends to the search listener: it is refused, bounded, and never holds up the reactor."""

from __future__ import annotations

import gc
import gzip
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from twisted.trial.unittest import SynchronousTestCase

from chronik.listeners.search_http import MAX_BODY
from chronik.testing import Chronik
from chronik.testing.reactor_thread import call, reactor_in_thread
from tests.node.searching import ask, produce

BIG = 10 * 1024 * 1024


class Lag:
    """How long the reactor did not come round, at the most, in ms of CPU time of its thread: other processes don't count."""

    def __init__(self) -> None:
        self._reactor = reactor_in_thread()
        self._on = True
        self.longest_ms = 0.0

    async def start(self) -> None:
        """Begin to look, in the reactor's thread."""
        self._last = time.thread_time()
        self._look()

    def _look(self) -> None:
        now = time.thread_time()
        self.longest_ms = max(self.longest_ms, (now - self._last) * 1000)
        self._last = now
        if self._on:
            self._reactor.callLater(0, self._look)

    async def stop(self) -> None:
        """Look no more."""
        self._on = False


@contextmanager
def lag() -> Iterator[Lag]:
    """Look at the reactor meanwhile, without the garbage collector, which a node of its own calls seldom."""
    looking = Lag()
    gc.disable()
    call(looking.start)
    try:
        yield looking
    finally:
        call(looking.stop)
        gc.enable()


class Hostile(SynchronousTestCase):
    def setUp(self) -> None:
        self.broker = Chronik(
            directory=os.path.abspath(self.mktemp()), search_listener="127.0.0.1:0", message_max_bytes=BIG * 2
        )
        self.broker.start()
        self.addCleanup(self.broker.stop)
        self.broker.create_topic("events")
        produce(
            self.broker,
            "events",
            [(None, json.dumps({"n": number, "text": "x" * 100}).encode()) for number in range(2000)],
        )

    def raw(self, sent: bytes) -> bytes:
        """What comes back until the other side closes."""
        host, port = urlsplit(self.broker.search_url).netloc.split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(sent)
            received = b""
            while part := connection.recv(65536):
                received += part
        return received

    def test_bodies_that_are_too_large(self) -> None:
        head = b"POST /events/_search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        told = self.raw(head + b"Content-Length: %d\r\n\r\n{" % (MAX_BODY + 1))
        self.assertTrue(told.startswith(b"HTTP/1.1 413 "), told)
        self.assertEqual(json.loads(told.partition(b"\r\n\r\n")[2])["status"], 413)

    def test_bodies_that_are_no_json_by_their_type(self) -> None:
        for kind, status in [
            ("application/x-www-form-urlencoded", 415), ("multipart/form-data; boundary=x", 415), ("text/plain", 406),
            ("application/vnd.elasticsearch+json; compatible-with=7", 400), ("application/cbor", 406), ("", 406),
        ]:  # fmt: skip
            answer = ask(self.broker, "POST", "/events/_search", b"{}", content_type=kind)
            self.assertEqual(answer.status, status, kind)
            self.assertEqual(answer.body["status"], status)
        zipped = ask(
            self.broker, "POST", "/events/_search", gzip.compress(b"{" + b" " * BIG + b"}"), content_encoding="gzip"
        )
        self.assertEqual(zipped.status, 415)
        for accept, status in [("text/html", 406), ("application/vnd.elasticsearch+json;compatible-with=10", 400)]:
            self.assertEqual(ask(self.broker, "GET", "/", accept=accept).status, status)

    def test_only_this_machine_s_pages_are_answered(self) -> None:
        for headers in ({"host": "evil.example:9200"}, {"origin": "http://evil.example"}, {"origin": "null"}):
            for method, path in [
                ("GET", "/events/_search"),
                ("PUT", "/events/_mapping"),
                ("GET", "/v1/openapi.json"),
                ("GET", "/"),
            ]:
                answer = ask(self.broker, method, path, **headers)
                self.assertEqual((answer.status, answer.body["error"]["type"]), (403, "security_exception"), headers)
        own = urlsplit(self.broker.search_url).netloc
        self.assertEqual(ask(self.broker, "GET", "/", host=own, origin=f"http://{own}").status, 200)

    def test_paths_and_methods(self) -> None:
        for method, path, status in [
            ("GET", "/_nodes", 400), ("GET", "/v1", 400), ("GET", "/tail", 426), ("GET", "/v1/_search", 400),
            ("GET", "/_x/_search", 400), ("DELETE", "/events", 405), ("POST", "/_bulk", 405), ("PUT", "/events/_doc/1", 400),
            ("POST", "/", 405), ("GET", "/events/x/y", 400), ("GET", "/%ff/_search", 400), ("PUT", "/events/_search", 405),
            ("GET", "/events/_search?q=%ff", 400), ("GET", "/events/_search?q=a&q=b", 400),
            ("GET", "/..%2f..%2fetc/_search", 400),
            ("GET", "/events/_search?" + "&".join(f"a{n}=1" for n in range(60)), 400),
        ]:  # fmt: skip
            answer = ask(self.broker, method, path)
            self.assertEqual(answer.status, status, (method, path, answer.body))
            self.assertEqual(answer.body["status"], status)

    HEAVY: tuple[Any, ...] = (
        {"query": {"terms": {"n": [f"{number:012}" for number in range(65_000)]}}},
        {
            "query": {
                "bool": {"should": [{"regexp": {"text": f"(a{n}|b{{1,50}}c)*x[^q]{{1,100}}"}} for n in range(250)]}
            }
        },
        {"query": {"regexp": {"text": "(?:a{1,100}b{1,100}){1,9}" * 500}}},
        {
            "query": {
                "query_string": {
                    "query": " ".join(f"{n:x}" for n in range(500)),
                    "fields": [f"f{n}" for n in range(1000)],
                }
            }
        },
        {"query": {"bool": {"must": [{"match": {"text": "w x y z " * 40}}] * 500}}},
        b"[" * 1_000_000,
        b'{"query":' * 100_000,
        b'{"a":[' + b"1.5e300," * 200_000 + b"1]}",
        b'{"a":[' + b"{}," * 600_000 + b"1]}",
        b"{" + b",".join(b'"k%d":1' % n for n in range(150_000)) + b"}",
        b'"' + b"\\u0000" * 300_000 + b'"',
    )

    def test_nothing_holds_the_reactor(self) -> None:
        ask(self.broker, "GET", "/events/_search?q=text:x")  # the process that searches is there
        for body in self.HEAVY:
            for path in ("/events/_search", "/events/_count"):
                with lag() as looking:
                    answer = ask(self.broker, "POST", path, body)
                self.assertIn(answer.status, (200, 400), answer.body)
                self.assertLess(looking.longest_ms, 25, (path, body if isinstance(body, dict) else body[:20]))
        lines = b"".join(b'{}\n{"query":{"query_string":{"query":"' + b"a " * 200 + b'"}}}\n' for _ in range(100))
        with lag() as looking:
            answer = ask(self.broker, "POST", "/events/_msearch", lines, content_type="application/x-ndjson")
        self.assertEqual(len(answer.body["responses"]), 100)
        self.assertLess(looking.longest_ms, 25)
        with lag() as looking:
            self.assertEqual(ask(self.broker, "POST", "/_msearch", b"\n" * MAX_BODY).status, 400)
        self.assertLess(looking.longest_ms, 25)

    def test_large_answers_come_in_pieces(self) -> None:
        self.broker.create_topic("large")
        values = [json.dumps({"n": n, "body": "y" * (BIG - 1000)}).encode() for n in range(5)]
        produce(self.broker, "large", [(None, value) for value in values])
        with lag() as looking:
            answer = ask(self.broker, "GET", "/large/_search?sort=timestamp")
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.body["hits"]["total"]["value"], 5)
        self.assertEqual(answer.hits[0]["_source"], json.loads(values[0]))
        left_out = answer.body["chronik"]["without_source"]
        self.assertEqual([("_source" in hit) for hit in answer.hits], [True] * (5 - left_out) + [False] * left_out)
        self.assertEqual(left_out, 2)  # 32 MiB are the most
        self.assertLess(looking.longest_ms, 50)
        self.assertEqual(ask(self.broker, "GET", "/large/_search?pretty").status, 400)

    def test_very_many_hits(self) -> None:
        produce(self.broker, "events", [(None, b'{"n":%d}' % number) for number in range(20_000)])
        with lag() as looking:
            answer = ask(self.broker, "GET", "/events/_search?size=10000")
        self.assertEqual(len(answer.ids), 10_000)
        self.assertEqual(len(set(answer.ids)), 10_000)
        self.assertLess(looking.longest_ms, 25)

    def test_aggregations_that_are_too_wide(self) -> None:
        produce(self.broker, "events", [(None, b'{"u":"%d","v":"%d"}' % (n, n % 7)) for n in range(80_000)])
        inner = {"terms": {"field": "v"}}
        for aggs in (
            {"a": {"terms": {"field": "u", "size": 65_536}, "aggs": {"b": inner}}},
            {"a": {"histogram": {"field": "n", "interval": 0.001, "extended_bounds": {"min": 0, "max": 100_000}}}},
        ):
            answer = ask(self.broker, "POST", "/events/_search", {"size": 0, "aggs": aggs})
            self.assertEqual(answer.status, 400)
            self.assertIn("more than 65536 buckets", answer.reason)
        deep: dict[str, Any] = {"max": {"field": "n"}}
        for _ in range(50):
            deep = {"terms": {"field": "v"}, "aggs": {"x": deep}}
        self.assertEqual(ask(self.broker, "POST", "/events/_search", {"aggs": {"x": deep}}).status, 400)
        with lag() as looking:
            answer = ask(
                self.broker,
                "POST",
                "/events/_search",
                {"size": 0, "aggs": {"a": {"terms": {"field": "u", "size": 30_000}}}},
            )
        self.assertEqual(len(answer.body["aggregations"]["a"]["buckets"]), 30_000)
        self.assertLess(looking.longest_ms, 25)

    def test_values_that_are_bombs(self) -> None:
        self.broker.create_topic("bombs")
        values: list[bytes] = [
            b"[" * 1_000_000,
            b'{"a":' * 300_000,
            b'{"a":1' + b"9" * 100_000 + b"}",
            b'{"a":1e999999999}',
            b"\x00" * 500_000,
        ]
        produce(self.broker, "bombs", [(None, value) for value in values])
        for path in ("/bombs/_search?sort=timestamp", "/bombs/_search?sort=timestamp&q=a:5", "/bombs/_field_caps?fields=*",
                     "/bombs/_search?_source=a&docvalue_fields=*"):  # fmt: skip
            answer = ask(self.broker, "GET", path)
            self.assertEqual(answer.status, 200, path)
        answer = ask(self.broker, "GET", "/bombs/_search?sort=timestamp")
        self.assertEqual([hit["_source"]["value"] for hit in answer.hits[:2]], [value.decode() for value in values[:2]])

    def test_a_search_that_takes_too_long_says_so(self) -> None:
        produce(self.broker, "events", [(None, b'{"n":%d,"t":"%s"}' % (n, b"ab" * 300)) for n in range(60_000)])
        answer = ask(self.broker, "POST", "/events/_search", {
            "query": {"regexp": {"t": "(a|b)*c"}}, "timeout": "30ms", "track_total_hits": True,
        })  # fmt: skip
        self.assertEqual((answer.status, answer.body["timed_out"]), (200, True))
        self.assertEqual(answer.body["hits"]["total"]["relation"], "gte")
        counted = ask(self.broker, "GET", "/events/_count?q=t:/(a|b)*c/&timeout=30ms")
        self.assertEqual((counted.status, counted.body["error"]["type"]), (408, "timeout_exception"))
        refused = ask(
            self.broker, "GET", "/events/_search?q=t:/(a|b)*c/&timeout=30ms&allow_partial_search_results=false"
        )
        self.assertEqual(refused.status, 408)
        self.assertEqual(ask(self.broker, "GET", "/events/_search?timeout=1h").status, 400)

    def test_one_that_goes_away_is_not_searched_for_any_longer(self) -> None:
        produce(self.broker, "events", [(None, b"a" * 1000) for _ in range(20_000)])
        host, port = urlsplit(self.broker.search_url).netloc.split(":")
        for _ in range(20):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(b"GET /events/_count?q=value:/(a|b)*c/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertEqual(ask(self.broker, "GET", "/events/_count?q=n:5").body["count"], 1)

    def test_too_many_at_a_time(self) -> None:
        produce(self.broker, "events", [(None, b"ab" * 500) for _ in range(20_000)])
        statuses: list[int] = []

        def search() -> None:
            statuses.append(ask(self.broker, "GET", "/events/_count?q=value:/(a|b)*c/&timeout=2s").status)

        threads = [threading.Thread(target=search) for _ in range(130)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(statuses), 130)
        self.assertEqual(set(statuses) - {200, 408}, {429})

    def test_a_client_that_does_not_read(self) -> None:
        self.broker.create_topic("large")
        produce(self.broker, "large", [(None, b'{"b":"%s"}' % (b"z" * (BIG - 1000))) for _ in range(3)])
        host, port = urlsplit(self.broker.search_url).netloc.split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"GET /large/_search HTTP/1.1\r\nHost: localhost\r\n\r\n")
            time.sleep(1)
            self.assertEqual(ask(self.broker, "GET", "/events/_count?q=n:5").body["count"], 1)
        self.assertEqual(ask(self.broker, "GET", "/large/_count").body["count"], 3)
