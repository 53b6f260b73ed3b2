"""`chronik-ctl search index` and `rebuild`, and the REST API behind them, against a node with processes that search."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from chronik.search.partition_index import GROUP_SUFFIX
from chronik.testing import Chronik
from chronik.testing.reactor_thread import call
from tests.ctl.test_commands import command, environment
from tests.node.searching import ask, produce

LINES = 40_000


class SearchIndexTests(TestCase):
    timeout = 180

    def setUp(self) -> None:
        home = Path(mkdtemp())
        self.addCleanup(shutil.rmtree, home)
        self.data = home / "data"
        self.broker = Chronik(
            directory=self.data, admin_listener="127.0.0.1:0", search_listener="127.0.0.1:0", search_workers=2
        ).start()
        self.addCleanup(self.broker.stop)

        async def port() -> int:
            return int(self.broker._node.admin_port.getHost().port)

        self.admin = f"http://127.0.0.1:{call(port)}"

    async def ctl(self, *arguments: str) -> tuple[int, bytes, str]:
        """(exit code, stdout, stderr) of one `chronik-ctl search`."""
        env = {**environment(self.broker.bootstrap_servers), "CHRONIK_ADMIN": self.admin}
        done: Any = await deferToThread(
            subprocess.run, command("search", *arguments), capture_output=True, timeout=120, env=env
        )
        return done.returncode, done.stdout, done.stderr.decode()

    async def good(self, *arguments: str) -> tuple[Any, str]:
        code, out, err = await self.ctl(*arguments, "-o", "json")
        self.assertEqual(code, 0, err)
        return json.loads(out), err

    def found(self) -> int:
        answer = ask(self.broker, "GET", "/events/_count?q=word777")
        return int(answer.body["count"])

    async def test_an_index_is_thrown_away_and_made_anew(self) -> None:
        self.broker.create_topic("events", 3)
        for partition in range(2):
            produce(
                self.broker, "events", ((None, b"line %d of word%d" % (n, n % 1000)) for n in range(LINES)), partition
            )
        hits = self.found()
        self.assertEqual(hits, 2 * LINES // 1000)
        rebuilt, said = await self.good("rebuild", "events")
        self.assertIn(f"100%: {2 * LINES:,} of {2 * LINES:,} offsets are indexed", said)
        self.assertEqual(self.found(), hits)
        shown, said = await self.good("index", "events")
        self.assertEqual((shown, said), (rebuilt, ""))
        self.assertEqual((shown["topic"], shown["done"]), ("events", True))
        self.assertEqual([each["partition"] for each in shown["partitions"]], [0, 1])
        for each in shown["partitions"]:
            self.assertEqual((each["log_start_offset"], each["end_offset"], each["signed_to"]), (0, LINES, LINES))
            self.assertGreater(each["blocks"], 1)
            self.assertEqual((each["undecodable"], each["damage"]), (0, None))

        begun, _ = await self.good("rebuild", "events", "--no-wait")
        self.assertFalse(begun["done"])
        self.assertEqual({each["signed_to"] for each in begun["partitions"]}, {0})
        self.assertEqual(self.found(), hits)

        code, out, _ = await self.ctl("index", "events")
        self.assertEqual(code, 0)
        self.assertIn(b"SIGNED", out.upper())

    async def test_a_log_that_is_damaged_ends_it(self) -> None:
        self.broker.create_topic("events", 1)
        produce(self.broker, "events", [(None, b"line %d" % n) for n in range(2000)])
        (log,) = self.data.rglob("topics/*/*.log")
        content = bytearray(log.read_bytes())
        content[len(content) // 2] ^= 0xFF
        log.write_bytes(content)
        code, out, err = await self.ctl("rebuild", "events", "-o", "json")
        self.assertEqual(code, 1, err)
        self.assertIn("CRC", err)
        self.assertIn("CRC", json.loads(out)["partitions"][0]["damage"])

    async def test_what_has_no_index_is_refused(self) -> None:
        self.broker.create_topic("events", 1)
        self.broker.save_search("errors", "events", "error")
        for name, part in (("nowhere", "there is no topic"), ("errors", "it reads that of 'events'")):
            for verb in ("index", "rebuild"):
                code, _, err = await self.ctl(verb, name)
                self.assertEqual(code, 1)
                self.assertIn(part, err)
        empty, said = await self.good("rebuild", "events")
        self.assertEqual(
            (empty, said), ({"topic": "events", "done": True, "partitions": []}, "100%: 0 of 0 offsets are indexed\n")
        )
        self.assertEqual(list(self.data.rglob(f"*{GROUP_SUFFIX}")), [])
