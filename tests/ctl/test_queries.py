"""`chronik-ctl query` against a node, from created to dropped."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from chronik.testing import Chronik
from tests.ctl.test_commands import environment
from tests.node.searching import produce

STATEMENT = (
    "CREATE CONTINUOUS QUERY counts AS SELECT level, count(*) AS n FROM events"
    " GROUP BY level, TUMBLE(at, INTERVAL 1 SECOND) GRACE INTERVAL 1 HOUR INTO counted"
)


class Commands(SynchronousTestCase):
    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.broker = Chronik(directory=directory.name, search_listener="127.0.0.1:0").start()
        self.addCleanup(self.broker.stop)
        self.broker.create_topic("events")
        values = [{"at": n * 100, "level": "error" if n % 3 == 0 else "info"} for n in range(20)]
        produce(self.broker, "events", [(b"k", json.dumps(value).encode()) for value in values])

    def run_ctl(self, *words: str, code: int = 0, stdin: str = "") -> str:
        line = [sys.executable, "-m", "chronik.ctl.main", "query", *words, "-u", self.broker.search_url]
        done = subprocess.run(
            line,
            input=stdin,
            capture_output=True,
            text=True,
            env=environment(self.broker.bootstrap_servers),
            timeout=60,
        )
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stdout if code == 0 else done.stderr

    def state(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.run_ctl("describe", "counts", "-o", "json"))
        return found

    def test_from_created_to_dropped(self) -> None:
        created = json.loads(self.run_ctl("create", "-", "--late", "too-late", "-o", "json", stdin=STATEMENT))
        self.assertEqual((created["name"], created["into"], created["late"]), ("counts", "counted", "too-late"))
        ends = time.monotonic() + 60
        while not ((state := self.state())["state"] == "running" and state["lag"] == 0):
            self.assertLess(time.monotonic(), ends, state)
        self.assertIn("counted: records", self.run_ctl("describe", "counts"))
        self.assertRegex(self.run_ctl("list"), r"counts +events +counted +running +0 +20 +0")
        shown = self.run_ctl("windows", "counts", "--key", "error", "--from", "1000")
        self.assertRegex(shown, r"LEVEL +N +WINDOW-START +WINDOW-END\nerror +3 +1000 +2000\n$")
        self.assertIn("paused", self.run_ctl("pause", "counts"))
        self.assertNotIn("paused", self.run_ctl("resume", "counts"))
        self.run_ctl("drop", "counts")
        self.assertIn("there is no query 'counts'", self.run_ctl("describe", "counts", code=1))

    def test_what_is_refused_says_why(self) -> None:
        self.assertIn("GRACE", self.run_ctl("create", STATEMENT.replace(" GRACE INTERVAL 1 HOUR", ""), code=1))
