"""Live tails of a whole node, on disk and in memory, by WebSocket clients of another make."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import time
from collections import Counter
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO
from urllib.parse import urlencode, urlsplit

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from twisted.trial.unittest import SynchronousTestCase
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from chronik.listeners import tail
from chronik.testing import Chronik
from tests.node.searching import ask, produce
from tests.node.tailing import TailClient, tail_url


def values(hits: list[dict[str, Any]]) -> list[str]:
    return [hit["value"] for hit in hits]


def frame(first: int, payload: bytes) -> bytes:
    """A frame as a client sends it, masked with zeros; `first` is its first byte: FIN, reserved bits, opcode."""
    size = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return bytes((first,)) + size + bytes(4) + payload


def received(stream: BinaryIO) -> tuple[int, bytes]:
    """Opcode and payload of the next frame of the node."""
    first, size = stream.read(2)
    if size == 126:
        size = int.from_bytes(stream.read(2), "big")
    return first & 0xF, stream.read(size)


def shake_hands(raw: socket.socket) -> BinaryIO:
    """Become a WebSocket that tails topic t; frames are read from what is returned."""
    raw.sendall(
        b"GET /tail?topic=t HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
    )
    stream = raw.makefile("rb")
    if b" 101 " not in stream.readline():
        raise AssertionError("the handshake is refused")
    while stream.readline().strip():
        pass
    return stream


class Tailing(SynchronousTestCase):
    def start(self, in_memory: bool = False, processes: int = 1, **options: Any) -> Chronik:
        directory = None
        if not in_memory:
            directory = TemporaryDirectory()
            self.addCleanup(directory.cleanup)
        broker = Chronik(
            directory=directory and directory.name,
            search_listener="127.0.0.1:0",
            search_workers=processes,
            transaction_state_log_num_partitions=1,
            **options,
        ).start()
        self.addCleanup(broker.stop)
        return broker

    def tail(self, broker: Chronik, topic: str, query: str = "", since: str = "latest", **more: Any) -> TailClient:
        client = TailClient(broker, topic, query, since, **more)
        self.addCleanup(client.close)
        return client

    def check_whole(self, client: TailClient, expected: Counter[int]) -> None:
        """Each partition's offsets are in order, once each, and so many."""
        self.assertEqual(client.dropped, 0)
        for (_, partition), offsets in client.offsets.items():
            self.assertEqual(offsets, sorted(set(offsets)))
            self.assertEqual(len(offsets), expected[partition])

    def wait_for_clients(self, broker: Chronik, count: int) -> None:
        """Return once the node has so many."""
        ends = time.monotonic() + 60
        while broker._node._parts.tails.counts.clients != count:
            self.assertLess(time.monotonic(), ends)
            time.sleep(0.02)

    # -- what is told -----------------------------------------------------------------------------------------------------

    def test_what_comes_is_told_as_it_comes(self) -> None:
        for in_memory, processes in ((True, 1), (False, 1), (False, 3)):
            broker = self.start(in_memory, processes)
            broker.create_topic("orders", 3)
            produce(broker, "orders", [(None, b"an old error")])
            everything, errors = self.tail(broker, "orders"), self.tail(broker, "ord*", "level:error AND took:>100")
            self.assertEqual(errors.hello and errors.hello["query"], "level:error AND took:>100")
            self.assertEqual(everything.hello and everything.hello["positions"], {"orders": {"0": 1, "1": 0, "2": 0}})
            value = json.dumps({"level": "error", "took": 250.5, "text": 'it said "no" — naïve'}).encode()
            produce(
                broker,
                "orders",
                [(b"k", value), (b"l", b"level=info took=300")],
                1,
                headers=[("h", b"\xff"), ("i", b"x")],
            )
            produce(broker, "orders", [(b"\xfe", b"level=error took=50"), (None, None)], 2)
            (hit,) = errors.take(1)
            self.assertEqual({name: hit[name] for name in ("topic", "partition", "offset", "key")}, {
                "topic": "orders", "partition": 1, "offset": 0, "key": "k",
            })  # fmt: skip
            self.assertEqual(hit["value"].encode(), value)
            self.assertEqual(hit["headers"], [{"name": "h", "value_base64": "/w=="}, {"name": "i", "value": "x"}])
            self.assertLess(abs(hit["timestamp"] - time.time() * 1000), 60_000)
            hits = everything.take(4)
            self.assertEqual(everything.offsets, {("orders", 1): [0, 1], ("orders", 2): [0, 1]})
            (bare,) = [hit for hit in hits if hit["partition"] == 2 and hit["offset"] == 0]
            self.assertEqual((bare["key_base64"], bare["value"]), ("/g==", "level=error took=50"))
            errors.rest()
            self.assertEqual(len(errors.hits), 1)

    def test_from_the_beginning_a_time_and_where_another_has_stopped(self) -> None:
        for in_memory in (True, False):
            broker = self.start(in_memory)
            broker.create_topic("t", 2)
            for partition in (0, 1):
                for number in range(20):
                    produce(
                        broker,
                        "t",
                        [(None, b"%d word%d" % (number, number % 2))] * 50,
                        partition,
                        timestamp=1000 + number,
                    )
            client = self.tail(broker, "t", "word1", "earliest")
            client.take(1000)
            produce(broker, "t", [(None, b"more word1")] * 10, 1)
            client.take(1010)
            self.check_whole(client, Counter({0: 500, 1: 510}))
            since = self.tail(broker, "t", "word1", "1010")
            since.take(510)
            self.check_whole(since, Counter({0: 250, 1: 260}))
            client.close()
            produce(broker, "t", [(None, b"and more word1")] * 7, 0)
            following = self.tail(broker, "t", "word1", client.positions)
            following.take(7)
            produce(broker, "t", [(None, b"now word1")], 0)
            self.assertEqual(values(following.take(8)), ["and more word1"] * 7 + ["now word1"])
            self.assertEqual(following.offsets["t", 0][0], 1000)

    def test_open_and_aborted_transactions_are_not_told(self) -> None:
        broker = self.start()
        broker.create_topic("t")
        client = self.tail(broker, "t")
        settings = {"bootstrap.servers": broker.bootstrap_servers, "transactional.id": "x"}
        producer = Producer(settings)
        producer.init_transactions(30)
        producer.begin_transaction()
        producer.produce("t", b"aborted")
        producer.flush()
        produce(broker, "t", [(None, b"beside it")])
        client.rest()
        self.assertEqual(client.hits, [])
        producer.abort_transaction(30)
        self.assertEqual(values(client.take(1)), ["beside it"])
        producer.begin_transaction()
        producer.produce("t", b"committed")
        producer.commit_transaction(30)
        self.assertEqual(values(client.take(2)), ["beside it", "committed"])
        again = self.tail(broker, "t", since="earliest")
        self.assertEqual(values(again.take(2)), ["beside it", "committed"])
        again.rest()
        self.assertEqual(len(again.hits), 2)

    def test_topics_that_come_and_go(self) -> None:
        broker = self.start()
        broker.create_topic("log-a")
        client = self.tail(broker, "log-*,-log-secret", "error")
        broker.create_topic("log-b", 2)
        broker.create_topic("log-secret")
        broker.create_topic("other")
        for topic in ("log-a", "log-b", "log-secret", "other"):
            produce(broker, topic, [(None, b"an error")])
        client.take(2)
        client.rest()
        self.assertEqual(client.offsets, {("log-a", 0): [0], ("log-b", 0): [0]})
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
        admin.delete_topics(["log-b"])["log-b"].result()
        broker.create_topic("log-b")
        produce(broker, "log-b", [(None, b"another error")])
        self.assertEqual(values(client.take(3))[2], "another error")
        self.assertEqual(client.offsets["log-b", 0], [0, 0])

    def test_a_mapping_says_how_a_tail_reads_fields(self) -> None:
        broker = self.start(True)
        broker.create_topic("t")
        properties = {"code": {"type": "keyword"}}
        self.assertEqual(ask(broker, "PUT", "/t/_mapping", {"properties": properties}).status, 200)
        client = self.tail(broker, "t", "code:A-1")
        produce(broker, "t", [(None, b"code=A-1"), (None, b"code=a-1"), (None, b"code=A-1-2")])
        client.take(1)
        client.rest()
        self.assertEqual(values(client.hits), ["code=A-1"])

    # -- what goes wrong --------------------------------------------------------------------------------------------------

    def refused(self, broker: Chronik, **parameters: str) -> tuple[dict[str, Any], int]:
        """The error that is told, and the code with which the connection is closed."""
        connection = connect(tail_url(broker, **parameters), compression=None)
        with connection:
            told = json.loads(connection.recv(timeout=30))
            self.assertEqual(told.pop("type"), "error")
            with self.assertRaises(Exception) as caught:
                connection.recv(timeout=30)
            frame = caught.exception.rcvd  # type: ignore[attr-defined]
            self.assertTrue(told["reason"].startswith(frame.reason))
        self.assertEqual(frame.code, 4000 + told["status"])
        return told, frame.code

    def test_what_is_wrong_is_said_with_its_position(self) -> None:
        broker = self.start(True)
        broker.create_topic("t")
        told, code = self.refused(broker, topic="t", query="error AND (warn")
        self.assertEqual((told["position"], code), (10, 4400))
        for parameters, status, words in (
            ({}, 400, "topics are missing"),
            ({"topic": "unknown"}, 404, "no topic `unknown`"),
            ({"topic": "t,unknown*,gone"}, 404, "no topic `gone`"),
            ({"topic": "__consumer_offsets"}, 400, "not searched"),
            ({"topic": "a b/"}, 400, "no name"),
            ({"topic": "t", "since": "tomorrow?"}, 400, "from:"),
            ({"topic": "t", "since": '{"t":{"0":-1}}'}, 400, "no offset"),
            ({"topic": "t", "query": "x" * 5000}, 400, "bytes"),
            ({"topic": "t", "query": "/(/"}, 400, "regular expression"),
            ({"topic": "t", "query": "/((a{900}){900}){9}/"}, 400, "regular expression"),
            ({"topic": "t", "query": "timestamp:soon"}, 400, "soon"),
            ({"topic": "t", "size": "5"}, 400, "size"),
        ):
            told, _ = self.refused(broker, **parameters)
            self.assertEqual(told["status"], status, parameters)
            self.assertIn(words, told["reason"], parameters)
        url = f"ws://{urlsplit(broker.search_url).netloc}/tail?{urlencode([('topic', 't'), ('query', 'a'), ('query', 'b')])}"
        with connect(url) as connection:
            self.assertIn("2 times", connection.recv(timeout=30))

    def test_the_handshake_is_checked_as_every_request(self) -> None:
        broker = self.start(True)
        broker.create_topic("t")
        place = urlsplit(broker.search_url).netloc
        for headers, status in (
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": f"http://{place}"}, None),
        ):
            try:
                connect(tail_url(broker, topic="t"), additional_headers=headers).close()
                self.assertIsNone(status)
            except InvalidStatus as refused:
                self.assertEqual(refused.response.status_code, status)
        connection = http.client.HTTPConnection(place)
        connection.request("GET", "/tail?topic=t")
        self.assertEqual(connection.getresponse().status, 426)
        connection = http.client.HTTPConnection(place)
        connection.request("GET", "/tail?topic=t", headers={"Host": "evil.example", "Upgrade": "websocket"})
        self.assertEqual(connection.getresponse().status, 403)
        connection = http.client.HTTPConnection(place)
        connection.request("POST", "/tail", b"{}", {"Content-Type": "application/json"})
        self.assertEqual(connection.getresponse().status, 405)

    def test_clients_may_send_nothing(self) -> None:
        broker = self.start(True)
        broker.create_topic("t")
        for message, code in (("{}", 4400), (b"\0", 4400), ("x" * 5000, 1009)):
            client = self.tail(broker, "t")
            client.connection.send(message)
            while client.closed is None:
                client.next(30)
            self.assertEqual(client.closed[0], code)
        produce(broker, "t", [(None, b"the node lives")])
        other = self.tail(broker, "t", since="earliest")
        self.assertEqual(values(other.take(1)), ["the node lives"])

    def test_hostile_frames(self) -> None:
        """Whatever a client sends after its handshake, it is told off by the code that RFC 6455 has for it."""
        broker = self.start(True)
        broker.create_topic("t")
        for name, data, code in (
            ("not masked", b"\x81\x02hi", 1002),
            ("a reserved bit", frame(0xC1, b"hi"), 1002),
            ("an unknown opcode", frame(0x83, b"hi"), 1002),
            ("an unknown control opcode", frame(0x8B, b""), 1002),
            ("a ping in pieces", frame(0x09, b"hi"), 1002),
            ("a long ping", frame(0x89, b"x" * 126), 1002),
            ("the rest of nothing", frame(0x80, b"hi"), 1002),
            ("no UTF-8", frame(0x81, b"\xff\xfe"), 1007),
            ("a message of 4 EB", b"\x81\xff" + (1 << 62).to_bytes(8, "big") + bytes(4), 1009),
            ("a negative size", b"\x81\xff" + b"\xff" * 8 + bytes(4), 1002),
            ("pieces without an end", frame(0x01, b"x" * 500) + frame(0x00, b"x" * 500) * 2, 1009),
            ("half a code to close with", frame(0x88, b"\x03"), 1002),
            ("a code that is none", frame(0x88, (999).to_bytes(2, "big")), 1002),
            ("a reason that is no UTF-8", frame(0x88, (1000).to_bytes(2, "big") + b"\xff"), 1007),
            ("a ping, and a message", frame(0x89, b"hi") + frame(0x82, b""), 4400),
            ("a proper end", frame(0x88, (1000).to_bytes(2, "big")), 1000),
        ):
            with socket.create_connection(("127.0.0.1", urlsplit(broker.search_url).port or 0), 30) as raw:
                stream = shake_hands(raw)
                self.assertIn(b'"hello"', received(stream)[1])
                raw.sendall(data)
                opcode, payload = received(stream)
                if "ping, and" in name:
                    self.assertEqual((opcode, payload), (0xA, b"hi"))
                    opcode, payload = received(stream)
                while opcode == 0x1:  # the error, as a message
                    opcode, payload = received(stream)
                self.assertEqual((opcode, int.from_bytes(payload[:2], "big")), (0x8, code), name)
        self.wait_for_clients(broker, 0)
        client = self.tail(broker, "t")
        produce(broker, "t", [(None, b"the node lives")])
        self.assertEqual(values(client.take(1)), ["the node lives"])

    def test_handshakes_that_are_none(self) -> None:
        broker = self.start(True)
        broker.create_topic("t")
        proper = {
            "Host": "127.0.0.1", "Upgrade": "websocket", "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
        }  # fmt: skip
        for changed in (
            {"Sec-WebSocket-Version": "99"},
            {"Sec-WebSocket-Version": "x"},
            {"Sec-WebSocket-Key": "short"},
            {"Sec-WebSocket-Key": None},
            {"Connection": "close"},
        ):
            headers = {name: text for name, text in {**proper, **changed}.items() if text is not None}
            with socket.create_connection(("127.0.0.1", urlsplit(broker.search_url).port or 0), 30) as raw:
                lines = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
                raw.sendall(f"GET /tail?topic=t HTTP/1.1\r\n{lines}\r\n".encode())
                self.assertRegex(raw.makefile("rb").readline(), rb"HTTP/1.1 4[0-9][0-9] ", changed)
        self.wait_for_clients(broker, 0)

    def test_a_saved_search_is_not_tailed_but_its_source_is(self) -> None:
        broker = self.start()
        broker.create_topic("orders")
        broker.save_search("orders-errors", "orders", "error")
        told, _ = self.refused(broker, topic="orders-errors")
        self.assertEqual(told["status"], 400)
        self.assertIn("a saved search: tail `orders`", told["reason"])
        told, _ = self.refused(broker, topic="ord*,orders-errors")
        self.assertIn("a saved search", told["reason"])
        client = self.tail(broker, "orders*")
        self.assertEqual(client.hello and client.hello["positions"], {"orders": {"0": 0}})
        produce(broker, "orders", [(None, b"an error"), (None, b"nothing")])
        client.take(2)
        client.rest()
        self.assertEqual(client.offsets, {("orders", 0): [0, 1]})

    def test_limits(self) -> None:
        broker = self.start(True, tail_max_clients=3, tail_max_queries=2)
        broker.create_topic("t")
        first = self.tail(broker, "t", "a")
        self.tail(broker, "t", "b")
        told, _ = self.refused(broker, topic="t", query="c")
        self.assertEqual((told["status"], "different" in told["reason"]), (503, True))
        self.tail(broker, "t", "b")
        told, _ = self.refused(broker, topic="t", query="b")
        self.assertIn("3 tails", told["reason"])
        first.close()
        self.wait_for_clients(broker, 2)
        self.tail(broker, "t", "c")

    def test_a_slow_client_knows_exactly_how_much_it_lacks(self) -> None:
        broker = self.start()
        broker.create_topic("t", 2)
        slow = self.tail(broker, "t", "error", max_queue=1)
        fast = self.tail(broker, "t", "error")
        text = b"an error " + b"." * 1000
        for number in range(40):
            produce(broker, "t", [(None, b"%d " % number + text)] * 500, number % 2)
            fast.take(500 * (number + 1))
        self.check_whole(fast, Counter({0: 10_000, 1: 10_000}))
        slow.take(20_000, 120)
        self.assertGreater(slow.dropped, 1000)
        self.assertGreater(len(slow.hits), 100)
        self.assertEqual(len(slow.hits) + slow.dropped, 20_000)
        lacking = {
            (each["topic"], each["partition"], offset)
            for told in slow.messages
            if told["type"] == "dropped"
            for each in told["ranges"]
            for offset in range(each["first"], each["last"] + 1)
        }
        got = {(hit["topic"], hit["partition"], hit["offset"]) for hit in slow.hits}
        self.assertEqual(len(got), len(slow.hits))
        self.assertEqual(len(got | lacking), 20_000)
        produce(broker, "t", [(None, b"the last error")])
        self.assertEqual(values(slow.take(20_001))[-1], "the last error")

    def test_a_process_is_killed_in_the_midst(self) -> None:
        broker = self.start(processes=2)
        broker.create_topic("t", 4)
        live = [self.tail(broker, "t", query) for query in ("error", "", "word7")]
        past = None
        for number in range(40):
            produce(broker, "t", [(None, b"error word%d" % (index % 10)) for index in range(100)], number % 4)
            if number == 5:
                past = self.tail(broker, "t", "error", "earliest")
            if number in (10, 20, 30):
                processes = broker._node._parts.search._processes
                while len(processes.pids) < 2:
                    time.sleep(0.05)
                os.kill(processes.pids[number // 10 % 2], signal.SIGKILL)
        assert past is not None
        for client, count in ((live[0], 1000), (live[1], 1000), (live[2], 100), (past, 1000)):
            client.take(4 * count, 120)
            client.rest(0.3)
            self.check_whole(client, Counter(dict.fromkeys(range(4), count)))

    def test_a_node_starts_again_and_its_clients_go_on(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        options = {"directory": directory.name, "search_listener": "127.0.0.1:0"}
        with Chronik(**options) as broker:  # type: ignore[arg-type]
            broker.create_topic("t")
            client = self.tail(broker, "t", "error")
            produce(broker, "t", [(None, b"an error"), (None, b"nothing")] * 50)
            client.take(50)
        client.rest(5)
        self.assertEqual(client.closed and client.closed[0], 4503)
        self.assertEqual(client.messages[-1]["reason"], "the node is shutting down")
        with Chronik(**options) as broker:  # type: ignore[arg-type]
            produce(broker, "t", [(None, b"another error")])
            following = self.tail(broker, "t", "error", client.positions)
            produce(broker, "t", [(None, b"the last error")])
            self.assertEqual(values(following.take(2)), ["another error", "the last error"])

    def test_nothing_is_left_to_the_reactor_of_somebody_else(self) -> None:
        """The embedded broker has a reactor of its own, and Twisted's global one is not its business."""
        from twisted.internet import reactor

        waiting = reactor.getDelayedCalls()  # type: ignore[attr-defined]
        broker = self.start(True)
        broker.create_topic("t")
        self.tail(broker, "t")
        self.assertEqual(reactor.getDelayedCalls(), waiting)  # type: ignore[attr-defined]

    def test_a_client_that_answers_nothing_is_dropped(self) -> None:
        self.patch(tail, "_PING_SECONDS", 1)
        self.patch(tail, "_PONG_SECONDS", 1)
        broker = self.start(True)
        broker.create_topic("t")
        answering = self.tail(broker, "t")
        with socket.create_connection(("127.0.0.1", urlsplit(broker.search_url).port or 0), 30) as raw:
            shake_hands(raw)
            self.wait_for_clients(broker, 2)
            self.wait_for_clients(broker, 1)
        produce(broker, "t", [(None, b"the other one is there")])
        self.assertEqual(values(answering.take(1)), ["the other one is there"])

    def test_a_thousand_clients(self) -> None:
        broker = self.start()
        broker.create_topic("t", 2)
        self.assertEqual(_limit_of_descriptors(), True)
        clients = [self.tail(broker, "t", f"word{number % 200}") for number in range(1000)]
        produce(broker, "t", [(None, b"a word%d" % number) for number in range(200)] * 3, 0)
        produce(broker, "t", [(None, b"a word%d" % number) for number in range(200)] * 2, 1)
        for number, client in enumerate(clients):
            self.assertEqual(set(values(client.take(5, 120))), {f"a word{number % 200}"})
            self.check_whole(client, Counter({0: 3, 1: 2}))


@cache
def _limit_of_descriptors() -> bool:
    """Whether a thousand connections, both ends of them, are possible; the limit is raised if it can be."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4096 <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    return max(soft, hard) >= 4096
