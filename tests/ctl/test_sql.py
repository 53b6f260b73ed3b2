"""`chronik-ctl sql`: what is shown of an answer, and the whole command against a node."""

from __future__ import annotations

import atexit
import csv
import io
import json
import subprocess
import sys
from functools import cache
from tempfile import TemporaryDirectory

import pyarrow as pa
from twisted.trial.unittest import SynchronousTestCase

from chronik.ctl.sql import cell, summary
from chronik.testing import Chronik
from tests.ctl.test_commands import environment
from tests.node.searching import produce


class Pieces(SynchronousTestCase):
    def test_cells(self) -> None:
        for value, expected in (
            ("a\nb\x1b", r"a\nb\x1b"),
            (5, 5),
            (None, None),
            ({"a": "é"}, '{"a":"é"}'),
            ([1], "[1]"),
        ):
            self.assertEqual(cell(value), expected)

    def test_summaries(self) -> None:
        counts = {"records": 5, "bytes_read": 900, "batches": 1, "segments_pruned": 0, "partitions_pruned": 0, "not_json": 0,
                  "not_text": 0, "undecodable": 0, "mistyped": {}}  # fmt: skip
        answer = {"row_count": 2, "truncated": False, "took": 3, "statistics": counts}
        self.assertEqual(summary(answer), "2 rows; 5 records of 900 bytes read; 3 ms")
        counts |= {"segments_pruned": 4, "not_json": 1, "mistyped": {"t.a": 2}}
        self.assertEqual(
            summary({**answer, "truncated": True}),
            "2 rows, more are cut off; 5 records of 900 bytes read; 4 segments passed over; 3 ms; "
            "1 values are no JSON objects; 2 values of t.a are of another type: NULL",
        )


@cache
def shared() -> Chronik:
    """A node with messages; it is stopped with the process."""
    directory = TemporaryDirectory()
    broker = Chronik(directory=directory.name, search_listener="127.0.0.1:0").start()
    atexit.register(directory.cleanup)
    atexit.register(broker.stop)
    broker.create_topic("ctl-events")
    values = [{"n": n, "level": "error" if n % 3 == 0 else "info", "took": n / 2} for n in range(30)]
    produce(broker, "ctl-events", [(b"k", json.dumps(value).encode()) for value in values])
    return broker


class Commands(SynchronousTestCase):
    def ctl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[bytes]:
        broker = shared()
        return subprocess.run(
            [sys.executable, "-m", "chronik.ctl.main", "sql", *arguments],
            env={**environment(broker.bootstrap_servers), "CHRONIK_CTL_SEARCH_URL": broker.search_url},
            input=None if stdin is None else stdin.encode(), capture_output=True, timeout=60, check=False,
        )  # fmt: skip

    def test_a_table(self) -> None:
        done = self.ctl(
            'SELECT level, count(*) AS "How many", avg(took) AS mean FROM "ctl-events" GROUP BY 1 ORDER BY 1'
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(
            [line.split() for line in done.stdout.decode().splitlines()],
            [["level", "How", "many", "mean"], ["error", "10", "6.75"], ["info", "20", "7.5"]],
        )
        self.assertRegex(done.stderr.decode(), r"^2 rows; 30 records of \d+ bytes read; \d+ ms\n$")

    def test_forms(self) -> None:
        query = 'SELECT n FROM "ctl-events" ORDER BY n LIMIT 2'
        answer = json.loads(self.ctl(query, "-o", "json").stdout)
        self.assertEqual((answer["rows"], answer["columns"]), ([[0], [1]], [{"name": "n", "type": "BIGINT"}]))
        self.assertIn("row_count: 2", self.ctl(query, "-o", "yaml").stdout.decode())
        self.assertEqual(list(csv.reader(io.StringIO(self.ctl(query, "--csv").stdout.decode()))), [["n"], ["0"], ["1"]])
        self.assertEqual(
            pa.ipc.open_stream(self.ctl("-", "--arrow", stdin=query).stdout).read_all().to_pydict(), {"n": [0, 1]}
        )

    def test_describe_and_show(self) -> None:
        self.assertIn("ctl-events", self.ctl("SHOW TOPICS").stdout.decode())
        self.assertIn("VARCHAR", self.ctl('DESCRIBE "ctl-events"').stdout.decode())

    def test_what_goes_wrong(self) -> None:
        for arguments, code, expected in (
            (("SELECT x FROM nothing",), 1, "no topic 'nothing'"), (("DROP TABLE x",), 1, "one SELECT is served"),
            (("SELEC",), 1, "syntax error"), ((), 2, "STATEMENT"), (("SELECT 1", "--csv", "-n", "100000"), 1, "max_rows"),
            (("SELECT 1", "--search-url", "http://127.0.0.1:1"), 3, "connection refused"),
        ):  # fmt: skip
            done = self.ctl(*arguments)
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertIn(expected, done.stderr.decode())
