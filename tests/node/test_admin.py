"""The admin listener of a whole node, over real sockets: every operation, every kind of refusal, the document, the metrics."""

from __future__ import annotations

import json
import os
from typing import Any

import treq
from openapi_spec_validator import validate
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool

from chronik.config import Config
from chronik.listeners.admin_http import MAX_BODY
from chronik.listeners.admin_schema import OPERATIONS
from chronik.services import Node, make_node


class _Raw(Protocol):
    """Sends bytes; `done` fires with all that came until the other side closed."""

    def __init__(self, sent: bytes) -> None:
        self.sent, self.received, self.done = sent, b"", Deferred[bytes]()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self.sent)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.done.callback(self.received)


class AdminListener(TestCase):
    async def setUp(self) -> None:
        config = Config.resolve(
            {
                "data_directory": os.path.abspath(self.mktemp()),
                "listeners": "127.0.0.1:0",
                "admin_listener": "127.0.0.1:0",
                "search_listener": "none",
                "offsets_topic_num_partitions": "1",
            }
        )
        self.failures: list[Failure] = []
        self.node: Node = make_node(config, self.failures.append)
        self.node.startService()
        self.addCleanup(self.node.stopService)
        await self.node.ready
        assert self.node.admin_port is not None
        self.port: int = self.node.admin_port.getHost().port
        self.pool = HTTPConnectionPool(reactor, persistent=False)
        self.http = treq.client.HTTPClient(Agent(reactor, pool=self.pool))

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
        """(status, decoded JSON or None, headers)."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"content-type": "application/json"} if data is not None else {}
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        response = await self.http.request(method, f"http://127.0.0.1:{self.port}{path}", data=data, headers=sent)
        content = await response.content()
        kind = (response.headers.getRawHeaders("content-type") or [""])[0]
        return response.code, json.loads(content) if "json" in kind else content, response.headers

    async def test_health(self) -> None:
        status, health, _ = await self.ask("GET", "/v1/health")
        self.assertEqual((status, health["live"], health["ready"], health["node_id"]), (200, True, True, 1))
        self.assertEqual(health["cluster_id"], self.node.metadata.cluster_id)
        self.assertEqual(health["listeners"][0]["port"], self.node.kafka_ports[0][1].getHost().port)

    async def test_the_life_of_a_topic(self) -> None:
        new = {"name": "events", "partitions": 3, "configs": {"retention.ms": "1000"}}
        status, topic, headers = await self.ask("POST", "/v1/topics", new)
        self.assertEqual((status, len(topic["partitions"])), (201, 3))
        self.assertEqual(headers.getRawHeaders("location"), ["/v1/topics/events"])
        status, listed, _ = await self.ask("GET", "/v1/topics")
        self.assertEqual([(t["name"], t["partitions"]) for t in listed["topics"]], [("events", 3)])
        change = {"configs": {"retention.ms": None, "segment.bytes": "2097152"}}
        status, topic, _ = await self.ask("PATCH", "/v1/topics/events", change)
        self.assertEqual((status, topic["configs"]), (200, {"segment.bytes": "2097152"}))
        status, topic, _ = await self.ask("GET", "/v1/topics/events")
        first = topic["partitions"][0]
        self.assertEqual((first["leader"], first["log_start_offset"], first["high_watermark"]), (1, 0, 0))
        self.assertEqual((await self.ask("DELETE", "/v1/topics/events"))[:2], (204, b""))
        self.assertEqual((await self.ask("GET", "/v1/topics/events"))[0], 404)

    async def test_the_life_of_a_saved_search(self) -> None:
        await self.ask("POST", "/v1/topics", {"name": "events", "partitions": 3})
        mapping = {"properties": {"took": {"type": "long"}}}
        new = {"name": "slow", "source": "events", "query": "took:>500 AND NOT path:/health", "mapping": mapping}
        status, search, headers = await self.ask("POST", "/v1/searches", new)
        self.assertEqual(status, 201, search)
        self.assertEqual(headers.getRawHeaders("location"), ["/v1/searches/slow"])
        self.assertEqual(search, {**new, "partitions": 3, "topic_id": search["topic_id"]})
        self.assertEqual((await self.ask("GET", "/v1/searches/slow"))[:2], (200, search))
        self.assertEqual(
            (await self.ask("POST", "/v1/searches", {"name": "all", "source": "events", "query": "*"}))[0], 201
        )
        mapped = {"name": "mapped", "configs": {"chronik.search.mapping": json.dumps(mapping)}}
        await self.ask("POST", "/v1/topics", mapped)
        taken = {"name": "taken", "source": "mapped", "query": "took:>5"}
        self.assertEqual((await self.ask("POST", "/v1/searches", taken))[1]["mapping"], mapping)
        status, problem, _ = await self.ask("POST", "/v1/searches", {**taken, "name": "x", "query": "took:soon"})
        self.assertEqual((status, "took" in problem["detail"]), (400, True))
        self.assertEqual((await self.ask("DELETE", "/v1/searches/taken"))[0], 204)
        _, listed, _ = await self.ask("GET", "/v1/searches?limit=1")
        self.assertEqual(([each["name"] for each in listed["searches"]], listed["next"]), (["all"], "all"))
        _, listed, _ = await self.ask("GET", "/v1/searches?after=all")
        self.assertEqual(listed, {"searches": [search], "next": None})
        status, topic, _ = await self.ask("GET", "/v1/topics/slow")
        self.assertEqual((status, topic["topic_id"], len(topic["partitions"])), (200, search["topic_id"], 3))
        self.assertEqual((topic["partitions"][0]["high_watermark"], topic["partitions"][0]["size_bytes"]), (0, None))
        status, problem, _ = await self.ask("DELETE", "/v1/topics/events")
        self.assertEqual((status, problem["code"]), (400, "POLICY_VIOLATION"))
        self.assertIn("all, slow", problem["detail"])
        self.assertEqual((await self.ask("DELETE", "/v1/searches/slow"))[:2], (204, b""))
        self.assertEqual((await self.ask("DELETE", "/v1/topics/all"))[:2], (204, b""))
        self.assertEqual((await self.ask("GET", "/v1/searches"))[1], {"searches": [], "next": None})
        self.assertEqual((await self.ask("DELETE", "/v1/topics/events"))[0], 204)

    async def test_searches_that_cannot_be_saved(self) -> None:
        await self.ask("POST", "/v1/topics", {"name": "events"})
        good = {"name": "s", "source": "events", "query": "a"}
        for change, expected, code, detail in [
            ({"query": "a AND ("}, 400, "INVALID_REQUEST", "position"),
            ({"query": "timestamp:>now-1h"}, 400, "INVALID_REQUEST", "now-1h"),
            ({"query": "x" * 20_000}, 400, None, ""),
            ({"query": ""}, 400, None, ""),
            ({"mapping": {"properties": {"a": {"type": "shape"}}}}, 400, "INVALID_REQUEST", "shape"),
            ({"mapping": []}, 400, None, ""),
            ({"name": "events"}, 409, "TOPIC_ALREADY_EXISTS", ""),
            ({"name": "../x"}, 400, None, ""),
            ({"source": "nowhere"}, 404, "UNKNOWN_TOPIC_OR_PARTITION", "nowhere"),
            ({"surprise": 1}, 400, None, ""),
        ]:
            status, problem, _ = await self.ask("POST", "/v1/searches", {**good, **change})
            self.assertEqual((status, problem["code"]), (expected, code), (change, problem))
            self.assertIn(detail, problem["detail"])
        for method in ("GET", "DELETE"):
            for name in ("events", "nowhere"):
                status, problem, _ = await self.ask(method, f"/v1/searches/{name}")
                self.assertEqual((status, problem["code"]), (404, "UNKNOWN_TOPIC_OR_PARTITION"))
        self.assertEqual((await self.ask("GET", "/v1/topics/events"))[0], 200)

    async def test_pages(self) -> None:
        for name in ("a", "b", "c"):
            await self.ask("POST", "/v1/topics", {"name": name})
        _, page, _ = await self.ask("GET", "/v1/topics?limit=2")
        self.assertEqual(([t["name"] for t in page["topics"]], page["next"]), (["a", "b"], "b"))
        _, page, _ = await self.ask("GET", "/v1/topics?limit=2&after=b")
        self.assertEqual(([t["name"] for t in page["topics"]], page["next"]), (["c"], None))
        for query in ("limit=0", "limit=x", "limit=1001", "after=%ff"):
            self.assertEqual((await self.ask("GET", f"/v1/topics?{query}"))[0], 400, query)

    async def test_groups_that_are_not_there(self) -> None:
        await self.ask("GET", "/v1/groups")
        self.assertEqual((await self.ask("GET", "/v1/groups"))[1], {"groups": [], "next": None})
        for method in ("GET", "DELETE"):
            status, problem, _ = await self.ask(method, "/v1/groups/some/thing")
            self.assertEqual((status, problem["code"]), (404, "GROUP_ID_NOT_FOUND"))

    async def test_refusals_are_problem_documents(self) -> None:
        await self.ask("POST", "/v1/topics", {"name": "taken"})
        for method, path, body, expected, code in [
            ("GET", "/v1/topics/none", None, 404, "UNKNOWN_TOPIC_OR_PARTITION"),
            ("DELETE", "/v1/topics/none", None, 404, "UNKNOWN_TOPIC_OR_PARTITION"),
            ("POST", "/v1/topics", {"name": "taken"}, 409, "TOPIC_ALREADY_EXISTS"),
            ("POST", "/v1/topics", {"name": "../x"}, 400, None),
            ("POST", "/v1/topics", {"name": ".."}, 400, "INVALID_TOPIC_EXCEPTION"),
            ("POST", "/v1/topics", {"name": "x", "replication_factor": 3}, 400, "INVALID_REPLICATION_FACTOR"),
            ("POST", "/v1/topics", {"name": "x", "configs": {"no.such": "1"}}, 400, "INVALID_CONFIG"),
            ("POST", "/v1/topics", {"name": "x", "surprise": 1}, 400, None),
            ("POST", "/v1/topics", b"[" * 5000, 400, None),
            ("POST", "/v1/topics", b"\xff", 400, None),
            ("PATCH", "/v1/topics/taken", {"configs": {"retention.ms": "x"}}, 400, "INVALID_CONFIG"),
            ("GET", "/nothing", None, 404, None),
        ]:
            status, problem, headers = await self.ask(method, path, body)
            self.assertEqual((status, problem["status"], problem["code"]), (expected, expected, code), (path, problem))
            self.assertEqual(headers.getRawHeaders("content-type"), ["application/problem+json"])
            self.assertTrue(problem["detail"])
        status, _, _ = await self.ask("POST", "/v1/topics", {"name": "x"}, content_type="text/plain")
        self.assertEqual(status, 415)

    async def test_other_methods_are_told_which_there_are(self) -> None:
        status, problem, headers = await self.ask("PUT", "/v1/topics")
        self.assertEqual((status, problem["status"]), (405, 405))
        self.assertEqual(headers.getRawHeaders("allow"), ["GET, HEAD, POST"])

    async def test_only_this_machine_s_pages_are_answered(self) -> None:
        for headers in ({"host": "evil.example:8080"}, {"origin": "http://evil.example"}, {"origin": "null"}):
            for path in ("/v1/topics", "/metrics", "/v1/openapi.json"):
                self.assertEqual((await self.ask("GET", path, **headers))[0], 403, headers)
        own = f"localhost:{self.port}"
        self.assertEqual((await self.ask("GET", "/v1/health", host=own, origin=f"http://{own}"))[0], 200)

    async def raw(self, sent: bytes) -> bytes:
        endpoint = HostnameEndpoint(reactor, b"127.0.0.1", self.port)
        protocol = await connectProtocol(endpoint, _Raw(sent))
        return await protocol.done

    async def test_a_large_body_is_refused_before_it_is_read(self) -> None:
        head = b"POST /v1/topics HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        told = await self.raw(head + b"Content-Length: %d\r\n\r\n{" % (MAX_BODY + 1))
        self.assertTrue(told.startswith(b"HTTP/1.1 413 "), told)
        chunk = b"%x\r\n%s\r\n" % (MAX_BODY // 2, b" " * (MAX_BODY // 2))
        chunked = await self.raw(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 3)
        self.assertTrue(chunked.startswith(b"HTTP/1.1 413 "), chunked)

    async def test_a_form_is_refused_before_it_is_taken_apart(self) -> None:
        for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=b"):
            status, problem, _ = await self.ask("POST", "/v1/topics", b"a=1&" * 100_000, content_type=kind)
            self.assertEqual((status, problem["status"]), (415, 415))

    async def test_a_path_that_is_no_text_is_refused(self) -> None:
        status, problem, _ = await self.ask("GET", "/v1/topics/%ff")
        self.assertEqual((status, problem["status"]), (400, 400))

    async def test_the_document_is_valid_openapi_and_names_every_route(self) -> None:
        status, document, _ = await self.ask("GET", "/v1/openapi.json")
        self.assertEqual((status, document["openapi"]), (200, "3.1.0"))
        validate(document)
        described = {(m.upper(), path) for path, item in document["paths"].items() for m in item}
        self.assertEqual(described, {(op.method, op.path) for op in OPERATIONS})

    async def test_metrics(self) -> None:
        await self.ask("POST", "/v1/topics", {"name": "events"})
        status, text, headers = await self.ask("GET", "/metrics")
        self.assertEqual(status, 200)
        self.assertTrue(headers.getRawHeaders("content-type")[0].startswith("text/plain; version=0.0.4"))
        for name in (
            b"chronik_messages_received_total",
            b"chronik_messages_stored_total",
            b"chronik_produce_latency_seconds_bucket",
            b"chronik_fetch_latency_seconds_bucket",
            b'chronik_storage_usage_bytes{topic="events"} 0.0',
            b"chronik_reactor_lag_seconds_bucket",
            b"process_cpu_seconds_total",
        ):
            self.assertIn(name, text)
