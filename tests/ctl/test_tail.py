"""`chronik-ctl tail`: how hits are printed, and the whole command against a node that stops and starts."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from twisted.trial.unittest import SynchronousTestCase

from chronik.ctl.formats import FormatError
from chronik.ctl.tail import _missing, _printer
from chronik.testing import Chronik
from tests.ctl.test_commands import command, environment
from tests.node.searching import produce

HIT = {"topic": "t", "partition": 2, "offset": 7, "timestamp": 1000, "key": "k", "value": "é\x1b[31m"}


class Pieces(SynchronousTestCase):
    def test_formats(self) -> None:
        odd = {
            "topic": "t", "partition": 0, "offset": 1, "timestamp": None, "key_base64": "/w==", "value": None,
            "headers": [{"name": "a", "value_base64": "/g=="}, {"name": "b", "value": None}],
        }  # fmt: skip
        self.assertEqual(_printer(None, "text")(HIT), "é\x1b[31m\n".encode())
        self.assertEqual(_printer(None, "text")(odd), b"\n")
        self.assertEqual(json.loads(_printer(None, "json")(HIT)), HIT)
        self.assertEqual(_printer(r"%t/%p/%o %T %k=%s %S\n", "text")(HIT), "t/2/7 1000 k=é\x1b[31m 7\n".encode())
        self.assertEqual(_printer(r"%T %k %S %h", "text")(odd), b"-1 \xff -1 a=\xfe,b=NULL")
        with self.assertRaises(FormatError):
            _printer("%q", "text")

    def test_what_is_missing(self) -> None:
        ranges = [{"topic": "t", "partition": 0, "first": 3, "last": 9}]
        self.assertEqual(
            _missing({"type": "dropped", "count": 5, "ranges": ranges}),
            "too slow: 5 message(s) were dropped, in t/0 offsets 3 to 9",
        )
        self.assertEqual(
            _missing({"type": "skipped", "reason": "they are deleted", "ranges": ranges}),
            "not looked at: t/0 offsets 3 to 9: they are deleted",
        )


class Commands(SynchronousTestCase):
    def start(self, directory: str | None = None, **options: Any) -> Chronik:
        broker = Chronik(directory=directory, **{"search_listener": "127.0.0.1:0", **options}).start()
        self.addCleanup(broker.stop)
        return broker

    def begin(self, broker: Chronik, *arguments: str, **more: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command("tail", *arguments),
            env={**environment(broker.bootstrap_servers), "CHRONIK_CTL_SEARCH_URL": broker.search_url},
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more},
        )
        self.addCleanup(lambda: process.poll() is None and process.kill())
        return process

    def clients(self, broker: Chronik) -> int:
        return int(broker._node._parts.tails.counts.clients)

    def wait(self, broker: Chronik, clients: int) -> None:
        ends = time.monotonic() + 60
        while self.clients(broker) != clients:
            self.assertLess(time.monotonic(), ends)
            time.sleep(0.05)

    def test_so_many_and_in_formats(self) -> None:
        broker = self.start()
        produce(broker, "t", [(b"k%d" % n, b'{"n":%d}' % n) for n in range(10)])
        done = self.begin(broker, "t", "n:>6", "--from", "earliest", "-c", "2").communicate(timeout=60)
        self.assertEqual(done, (b'{"n":7}\n{"n":8}\n', b""))
        out, _ = self.begin(broker, "t", "--from", '{"t":{"0":8}}', "-c", "1", "-o", "json").communicate(timeout=60)
        hit = json.loads(out)
        self.assertEqual((hit["offset"], hit["key"], hit["value"]), (8, "k8", '{"n":8}'))
        out, _ = self.begin(broker, "t", "--from", "earliest", "-c", "2", "-f", r"%o:%k\n").communicate(timeout=60)
        self.assertEqual(out, b"0:k0\n1:k1\n")

    def test_nothing_in_a_message_commands_the_terminal(self) -> None:
        broker = self.start()
        produce(broker, "t", [(None, b"plain \x1b[31m text")])
        terminal, end = pty.openpty()
        process = self.begin(broker, "t", "--from", "earliest", "-c", "1", stdout=end)
        os.close(end)
        self.assertEqual(process.wait(60), 0)
        self.assertEqual(os.read(terminal, 1000), b"plain \\x1b[31m text\r\n")
        os.close(terminal)

    def test_it_goes_on_where_it_was_when_the_node_starts_again(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        broker = self.start(directory.name)
        process = self.begin(broker, "t*", "error", "-f", r"%o %s\n")
        self.wait(broker, 1)
        produce(broker, "t", [(None, b"error 1"), (None, b"nothing")])
        assert process.stdout is not None and process.stderr is not None
        self.assertEqual(process.stdout.readline(), b"0 error 1\n")
        place = urlsplit(broker.search_url).netloc
        broker.stop()
        self.assertIn(b"the node is shutting down; trying again in 0.5 s", process.stderr.readline())
        self.assertIn(b"connection refused; trying again in 1 s", process.stderr.readline())
        broker = self.start(directory.name, search_listener="none")
        produce(broker, "t", [(None, b"error 2"), (None, b"nothing"), (None, b"error 3")])
        broker.stop()
        broker = self.start(directory.name, search_listener=place)
        self.assertEqual([process.stdout.readline() for _ in range(2)], [b"2 error 2\n", b"4 error 3\n"])
        produce(broker, "t", [(None, b"error 4")])
        self.assertEqual(process.stdout.readline(), b"5 error 4\n")
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(60), 130)
        self.wait(broker, 0)

    def test_what_goes_wrong(self) -> None:
        broker = self.start(tail_max_clients=0)
        broker.create_topic("t")
        for arguments, code, words in (
            (("t", "a AND (b"), 1, "at position 6 of the query"),
            (("gone",), 1, "takes no more"),
            (("t", "-u", "http://127.0.0.1:1"), 3, "connection refused"),
            (("t", "-u", f"http://127.0.0.1:{broker.port}", "--timeout", "2"), 1, "serves no tails"),
            (("t", "-u", "https://127.0.0.1:1"), 2, "http://"),
            (("t", "-f", "%q"), 2, "%q"),
            ((), 2, "TOPIC"),
        ):
            process = self.begin(broker, *arguments)
            _, error = process.communicate(timeout=60)
            self.assertIn(words, error.decode(), arguments)
            self.assertEqual(process.returncode, code, arguments)

    def test_a_reader_that_goes(self) -> None:
        broker = self.start()
        produce(broker, "t", [(None, b"x" * 1000)] * 5000)
        process = self.begin(broker, "t", "--from", "earliest")
        assert process.stdout is not None
        self.assertEqual(process.stdout.readline(), b"x" * 1000 + b"\n")
        process.stdout.close()
        self.assertEqual(process.wait(60), 0)
