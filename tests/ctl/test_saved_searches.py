"""`chronik-ctl search save` and its like, and `chronik-ctl alert`, against a real node and its REST API."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from chronik.testing import Chronik
from chronik.testing.reactor_thread import call
from tests.ctl.test_commands import command, environment


class SavedSearchTests(TestCase):
    timeout = 180

    def setUp(self) -> None:
        self.broker = Chronik(admin_listener="127.0.0.1:0").start()
        self.addCleanup(self.broker.stop)
        self.broker.create_topic("events", 2)

        async def port() -> int:
            return int(self.broker._node.admin_port.getHost().port)

        self.admin = f"http://127.0.0.1:{call(port)}"

    async def ctl(self, *arguments: str, stdin: bytes = b"", admin: str | None = None) -> tuple[int, bytes, str]:
        """(exit code, stdout, stderr) of one chronik-ctl."""
        env = {**environment(self.broker.bootstrap_servers), "CHRONIK_ADMIN": admin or self.admin}
        done: Any = await deferToThread(
            subprocess.run, command(*arguments), input=stdin, capture_output=True, timeout=60, env=env
        )
        return done.returncode, done.stdout, done.stderr.decode()

    async def good(self, *arguments: str, stdin: bytes = b"") -> Any:
        code, out, err = await self.ctl(*arguments, "-o", "json", stdin=stdin)
        self.assertEqual(code, 0, err)
        return json.loads(out)

    async def test_from_saved_to_deleted(self) -> None:
        saved = await self.good("search", "save", "errors", "events", "level:error AND NOT path:/health")
        self.assertEqual(
            saved,
            {"name": "errors", "topic_id": saved["topic_id"], "source": "events", "mapping": None, "partitions": 2,
             "query": "level:error AND NOT path:/health"},
        )  # fmt: skip
        mapping = {"properties": {"took": {"type": "long"}}}
        slow = await self.good(
            "search", "save", "slow", "events", "took:>5", "--mapping", "-", stdin=json.dumps(mapping).encode()
        )
        self.assertEqual(await self.good("search", "list"), [saved, slow])
        described = await self.good("search", "describe", "slow")
        self.assertEqual(described["mapping"], mapping)
        self.assertEqual([each["high_watermark"] for each in described["partitions"]], [0, 0])
        code, out, _ = await self.ctl("search", "describe", "slow")
        self.assertEqual(code, 0)
        self.assertIn(b"took:>5", out)
        code, out, _ = await self.ctl(
            "produce", "events", "-p", "0", "-q", stdin=b'{"level":"error"}\n{"level":"info"}\n'
        )
        self.assertEqual(code, 0)
        code, out, _ = await self.ctl("consume", "errors", "--from-beginning", "-c", "1", "-f", "%p-%o %s\n")
        self.assertEqual((code, out), (0, b'0-0 {"level":"error"}\n'))
        self.assertEqual(await self.good("search", "delete", "errors", "-y"), [{"name": "errors", "deleted": True}])
        self.assertEqual(await self.good("search", "list"), [slow])

    async def test_what_goes_wrong_is_one_line(self) -> None:
        (self.scratch,) = [self.mktemp()]
        with open(self.scratch, "w") as file:
            file.write("{")
        for arguments, expected, part in (
            (("save", "x", "events", "a AND ("), 1, "position"),
            (("save", "x", "nowhere", "a"), 1, "nowhere"),
            (("save", "events", "events", "a"), 1, "TOPIC_ALREADY_EXISTS"),
            (("save", "x", "events", "timestamp:>now-1h"), 1, "now-1h"),
            (("describe", "events"), 1, "no saved search"),
            (("delete", "a b", "-y"), 1, "does not exist"),
        ):
            code, out, err = await self.ctl("search", *arguments)
            self.assertEqual((code, out, err.count("\n")), (expected, b"", 1), err)
            self.assertIn(part, err)
        code, _, err = await self.ctl("search", "save", "x", "events", "a", "--mapping", os.path.abspath(self.scratch))
        self.assertEqual(code, 2)
        self.assertIn("no JSON", err)

    async def test_where_there_is_no_rest_api(self) -> None:
        code, _, err = await self.ctl("search", "list", admin="http://127.0.0.1:9")
        self.assertEqual((code, err.count("\n")), (3, 1), err)
        self.assertIn("127.0.0.1:9", err)
        code, _, err = await self.ctl("search", "list", admin=f"http://{self.broker.bootstrap_servers}")
        self.assertEqual((code, err.count("\n")), (1, 1), err)
        code, _, err = await self.ctl("search", "list", admin="nonsense")
        self.assertEqual((code, err.count("\n")), (1, 1), err)

    async def test_alerts(self) -> None:
        self.broker.create_topic("told")
        await self.good("search", "save", "errors", "events", "error")
        saved = await self.good("alert", "save", "many", "errors", "--over", "2", "--per", "1m", "--to", "told")
        self.assertEqual(saved, {"name": "many", "search": "errors", "over": 2, "per_ms": 60_000, "to": "told"})
        self.assertEqual(await self.good("alert", "list"), [saved])
        self.assertEqual(await self.good("alert", "describe", "many"), saved)
        code, out, _ = await self.ctl("alert", "list")
        self.assertEqual((code, out.split()[-5:]), (0, [b"many", b"errors", b"2", b"1m", b"told"]))
        await self.ctl("produce", "events", "-q", "-p", "0", stdin=b"error\n" * 5)
        found = await self.good("alert", "dry-run", "errors", "--over", "2", "--per", "24h")
        self.assertEqual(
            (found["matches"], found["complete"], [each["count"] for each in found["windows"]]), (5, True, [5])
        )
        past = ("--from", "2001-01-01", "--until", "2001-01-02T00:00:00+02:00")
        found = await self.good("alert", "dry-run", "errors", "--over", "2", "--per", "24h", *past)
        self.assertEqual((found["matches"], found["windows"]), (0, []))
        code, out, err = await self.ctl("alert", "dry-run", "errors", "--over", "2", "--per", "24h")
        self.assertEqual((code, b"T00:00:00.000+00:00" in out, "1 window(s) of 5" in err), (0, True, True), err)
        for wrong in (
            ["--per", "1"],
            ["--per", "soon"],
            ["--over", "-1", "--per", "1m"],
            ["--per", "1m", "--from", "soon"],
        ):
            options = wrong if "--over" in wrong else ["--over", "1", *wrong]
            self.assertEqual((await self.ctl("alert", "dry-run", "errors", *options))[0], 2, wrong)
        code, _, err = await self.ctl("alert", "save", "x", "events", "--over", "2", "--per", "1m", "--to", "told")
        self.assertEqual((code, "no saved search" in err), (1, True))
        self.assertEqual(await self.good("alert", "delete", "many", "-y"), [{"name": "many", "deleted": True}])
        self.assertEqual(await self.good("alert", "list"), [])
