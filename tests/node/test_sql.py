"""SQL by HTTP on a whole node: processes, limits, forms of answers, what is refused, and what goes on beside it."""

from __future__ import annotations

import atexit
import csv
import http.client
import io
import json
import os
import subprocess
import sys
import time
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
from confluent_kafka import Producer
from openapi_spec_validator import validate
from twisted.trial.unittest import SynchronousTestCase

from chronik.testing import Chronik
from chronik.workers.process import environment
from tests.analytics.hostile import HOSTILE
from tests.node.searching import Answer, ask, produce
from tests.node.test_search_hostile import lag

EVENTS = 3000


def event(number: int) -> bytes:
    return json.dumps(
        {"n": number, "level": "error" if number % 10 == 0 else "info", "ms": number / 4, "user": {"id": number % 7}}
    ).encode()


@cache
def shared() -> Chronik:
    """One node for many tests, none of which changes what is in it."""
    directory = TemporaryDirectory()
    broker = Chronik(
        directory=directory.name,
        search_listener="127.0.0.1:0",
        sql_workers="1",
        sql_timeout_ms="20000",
        sql_memory_bytes=str(256 << 20),
        transaction_state_log_num_partitions=1,
    ).start()
    atexit.register(directory.cleanup)
    atexit.register(broker.stop)
    broker.create_topic("events", 3)
    broker.create_topic("mixed-values")
    broker.create_topic("empty", 2)
    for partition in range(3):
        mine = [(b"k%d" % n, event(n)) for n in range(partition, EVENTS, 3)]
        produce(broker, "events", mine, partition, headers=[("trace", b"t1"), ("raw", b"\xff")])
    values: list[bytes | None] = [b'{"a":%d}' % n for n in range(50)]
    values += [b'{"a":"text"}', b'{"a":', b"plain", b"\xff\xfe", None, b"[1]", b'{"b":1}']
    produce(broker, "mixed-values", [(None, value) for value in values])
    return broker


class SqlTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.broker = shared()

    def post(self, query: str, status: int = 200, accept: str = "application/json", **body: Any) -> Answer:
        answer = ask(self.broker, "POST", "/v1/sql", {"query": query, **body}, accept=accept)
        self.assertEqual(answer.status, status, answer.body)
        return answer

    def rows(self, query: str, **body: Any) -> list[Any]:
        return list(self.post(query, **body).body["rows"])

    def test_select(self) -> None:
        answer = self.post(
            "SELECT level, count(*) AS c, sum(n), avg(ms) FROM events GROUP BY level ORDER BY level"
        ).body
        errors, infos = [n for n in range(EVENTS) if n % 10 == 0], [n for n in range(EVENTS) if n % 10]
        self.assertEqual(
            answer["rows"],
            [
                ["error", len(errors), sum(errors), sum(errors) / 4 / len(errors)],
                ["info", len(infos), sum(infos), sum(infos) / 4 / len(infos)],
            ],
        )
        self.assertEqual([each["name"] for each in answer["columns"]], ["level", "c", "sum(n)", "avg(ms)"])
        self.assertEqual([each["type"] for each in answer["columns"]], ["VARCHAR", "BIGINT", "HUGEINT", "DOUBLE"])
        self.assertEqual((answer["row_count"], answer["truncated"]), (2, False))
        self.assertEqual(answer["snapshot"], {"events": {str(p): [0, EVENTS // 3] for p in range(3)}})
        self.assertEqual(answer["statistics"]["records"], EVENTS)

    def test_columns_of_every_record(self) -> None:
        (row,) = self.rows(
            "SELECT _partition, _offset, _key, _headers, _value, _timestamp > TIMESTAMP '2020-01-01' FROM events "
            "WHERE _partition = 1 AND _offset = 5"
        )
        headers = [{"key": "trace", "value": "t1"}, {"key": "raw", "value": None}]
        self.assertEqual(row, [1, 5, "k16", headers, event(16).decode(), True])

    def test_describe_and_show(self) -> None:
        found = {row[0]: row[1:] for row in self.rows("DESCRIBE events;")}
        self.assertEqual(found["n"], ["BIGINT", "inferred", 100])
        self.assertEqual(found["user"], ['STRUCT("id" BIGINT)', "inferred", 100])
        self.assertEqual(found["_offset"], ["BIGINT", "record", None])
        topics = {row[0]: row[1:3] for row in self.rows("show topics")}
        self.assertEqual(topics["events"], [3, EVENTS])
        self.assertEqual(self.rows('describe "empty"')[0][0], "_partition")
        self.assertEqual(self.rows("SELECT count(*), max(_offset) FROM empty"), [[0, None]])

    def test_declared_types(self) -> None:
        self.broker.create_topic("x-declared")
        mapping = {
            "properties": {
                "at": {"type": "date"},
                "code": {"type": "keyword"},
                "user": {"properties": {"id": {"type": "double"}}},
            }
        }
        ask(self.broker, "PUT", "/x-declared/_mapping", mapping)
        produce(
            self.broker,
            "x-declared",
            [
                (None, b'{"at":1700000000000,"code":7,"user":{"id":1,"x":"y"}}'),
                (None, b'{"at":"2023-11-14T23:13:20+01:00"}'),
            ],
        )
        self.assertEqual(
            self.rows('SELECT "at", code, "user" FROM "x-declared" ORDER BY _offset'),
            [["2023-11-14T22:13:20", "7", {"id": 1.0, "x": "y"}], ["2023-11-14T22:13:20", None, None]],
        )
        self.assertEqual(
            {row[0]: row[1:3] for row in self.rows('DESCRIBE "x-declared"')}["at"], ["TIMESTAMP", "declared"]
        )

    def test_values_that_are_not_json_and_types_that_change(self) -> None:
        answer = self.post(
            'SELECT count(*), count(a), sum(TRY_CAST(a AS BIGINT)), count(_value) FROM "mixed-values"'
        ).body
        self.assertEqual(answer["rows"], [[57, 51, sum(range(50)), 55]])
        told = answer["statistics"]
        self.assertEqual((told["not_json"], told["not_text"], told["mistyped"]), (4, 1, {}))

    def test_csv(self) -> None:
        answer = self.post("SELECT n, level, user FROM events WHERE n < 2 ORDER BY n", accept="text/csv")
        self.assertEqual(
            list(csv.reader(io.StringIO(answer.body.decode()))),
            [["n", "level", "user"], ["0", "error", '{"id":0}'], ["1", "info", '{"id":1}']],
        )
        self.assertIn("text/csv", answer.headers["content-type"])
        about = json.loads(answer.headers["chronik-sql"])
        self.assertEqual((about["row_count"], about["truncated"]), (2, False))
        self.assertEqual(about["snapshot"]["events"]["0"], [0, EVENTS // 3])

    def test_arrow(self) -> None:
        answer = self.post("SELECT n, user FROM events ORDER BY n", format="arrow", max_rows=100)
        table = pa.ipc.open_stream(answer.body).read_all()
        self.assertEqual(table.column("n").to_pylist(), list(range(100)))
        self.assertTrue(json.loads(answer.headers["chronik-sql"])["truncated"])

    def test_lines_of_progress(self) -> None:
        answer = self.post(
            "SELECT sum(hash(a.range + b.range)) > 0, (SELECT count(*) FROM events) FROM range(60000) a, range(3000) b",
            format="ndjson",
        )
        *progress, last = [json.loads(line) for line in answer.body.splitlines()]
        self.assertGreater(len(progress), 0)
        self.assertEqual(set(progress[0]["progress"]), {"offsets", "of", "records", "bytes_read"})
        self.assertEqual(last["answer"]["rows"], [[True, EVENTS]])
        answer = self.post("SELECT nothing FROM events", 400, format="ndjson")
        self.assertEqual(answer.body["error"]["type"], "binding_exception")

    def test_rows_are_cut_off(self) -> None:
        answer = self.post("SELECT n FROM events", max_rows=10).body
        self.assertEqual((len(answer["rows"]), answer["row_count"], answer["truncated"]), (10, 10, True))
        answer = self.post("SELECT n FROM events LIMIT 10", max_rows=10).body
        self.assertFalse(answer["truncated"])

    def test_limits(self) -> None:
        for limits in (
            {"max_rows": 10_001},
            {"timeout_ms": 20_001},
            {"memory_bytes": 1 << 40},
            {"threads": 3},
            {"max_rows": 0},
            {"rows": 1},
        ):
            self.post("SELECT 1", 400, **limits)
        began = time.monotonic()
        refused = self.post(
            "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
            408,
            timeout_ms=1000,
        )
        self.assertEqual(refused.body["error"]["type"], "timeout")
        self.assertLess(time.monotonic() - began, 15)
        refused = self.post(
            "SELECT count(*) FROM (SELECT DISTINCT hash(range) FROM range(100000000))", 400, memory_bytes=64 << 20
        )
        self.assertEqual(refused.body["error"]["type"], "memory_limit")
        for beyond in ("length(list_sort(range(300000000))::VARCHAR)", "length(repeat('x', 4000000000))"):
            refused = self.post(f"SELECT {beyond}", 400)
            self.assertEqual(refused.body["error"]["type"], "memory_limit")
        self.assertEqual(self.rows("SELECT 1"), [[1]])

    def test_hostile_statements(self) -> None:
        """Each is refused as the client's fault, and the broker does not feel it."""
        for statement in HOSTILE:
            answer = ask(self.broker, "POST", "/v1/sql", {"query": statement})
            self.assertIn(answer.status, (400, 404), (statement[:100], answer.body))
            self.assertIn(
                answer.body["error"]["type"],
                {"unsupported_statement", "parsing_exception", "unknown_topic"},
                statement[:100],
            )
        self.broker.create_topic("x-after")
        produce(self.broker, "x-after", [(None, b"{}")])
        self.assertEqual(self.rows('SELECT count(*) FROM "x-after"'), [[1]])

    def test_large_answers_do_not_hold_the_reactor(self) -> None:
        self.rows("SELECT 1")
        for form in ("json", "ndjson", "csv"):
            with lag() as looking:
                answer = self.post("SELECT repeat('x', 5000) FROM range(10000)", format=form)
            self.assertGreater(len(str(answer.body)), 50_000_000)
            self.assertLess(looking.longest_ms, 25, form)

    def test_what_is_no_request(self) -> None:
        for body in (b"", b"{", b"[]", b'{"query":1}', b"{}", b'{"query":"SELECT 1","x":1}', b"\xff"):
            self.assertEqual(ask(self.broker, "POST", "/v1/sql", body).status, 400, body)
        self.assertEqual(ask(self.broker, "POST", "/v1/sql?a=b", {"query": "SELECT 1"}).status, 400)
        self.assertEqual(ask(self.broker, "GET", "/v1/sql").status, 405)
        self.post("SELECT 1", 406, accept="image/png")
        self.assertEqual(
            ask(self.broker, "POST", "/v1/sql", {"query": "SELECT 1"}, origin="http://evil.example").status, 403
        )

    def test_topics_that_are_none(self) -> None:
        for name in (
            "nothing",
            '"Events"',
            "__consumer_offsets",
            "__transaction_state",
            "main.events",
            "information_schema.tables",
        ):
            self.assertEqual(self.post(f"SELECT * FROM {name}", 404).body["error"]["type"], "unknown_topic", name)
        self.post("DESCRIBE nothing", 404)

    def test_a_table_expression_may_be_called_as_a_topic_is(self) -> None:
        self.assertEqual(
            self.rows("WITH events AS (SELECT * FROM events WHERE n < 5) SELECT count(*) FROM events"), [[5]]
        )
        self.assertEqual(self.rows("WITH empty AS (SELECT 1 AS x) SELECT x FROM empty"), [[1]])

    def test_only_what_is_committed_is_read(self) -> None:
        self.broker.create_topic("x-transactions")
        for commit in (True, False, None):
            producer = Producer(
                {"bootstrap.servers": self.broker.bootstrap_servers, "transactional.id": f"sql-{commit}"}
            )
            producer.init_transactions()
            producer.begin_transaction()
            producer.produce("x-transactions", json.dumps({"commit": str(commit)}).encode())
            producer.flush()
            if commit is True:
                producer.commit_transaction()
            elif commit is False:
                producer.abort_transaction()
        self.assertEqual(self.rows('SELECT "commit" FROM "x-transactions"'), [["True"]])
        producer.abort_transaction()
        self.assertEqual(self.rows('SELECT "commit" FROM "x-transactions"'), [["True"]])

    def test_what_was_acknowledged_is_found(self) -> None:
        self.broker.create_topic("x-fresh")
        for number in range(1, 6):
            produce(self.broker, "x-fresh", [(None, b'{"n":1}')])
            self.assertEqual(self.rows('SELECT sum(n) FROM "x-fresh"'), [[number]])

    def test_who_goes_away_ends_the_statement(self) -> None:
        connection = http.client.HTTPConnection(urlsplit(self.broker.search_url).netloc, timeout=60)
        query = "SELECT sum(hash(a.range + b.range)) FROM range(1000000) a, range(10000000) b"
        self.rows("SELECT 1")
        connection.request("POST", "/v1/sql", json.dumps({"query": query}), {"content-type": "application/json"})
        time.sleep(1.5)
        before = set(sql_processes())
        connection.close()
        until = time.monotonic() + 10
        while before <= set(sql_processes()) and time.monotonic() < until:
            time.sleep(0.05)
        self.assertEqual(len(before - set(sql_processes())), 1)
        self.assertEqual(self.rows("SELECT 1"), [[1]])

    def test_a_process_that_dies_is_told(self) -> None:
        self.rows("SELECT 1")
        connection = http.client.HTTPConnection(urlsplit(self.broker.search_url).netloc, timeout=60)
        query = "SELECT sum(hash(a.range + b.range)) FROM range(1000000) a, range(10000000) b"
        connection.request("POST", "/v1/sql", json.dumps({"query": query}), {"content-type": "application/json"})
        time.sleep(1)
        for pid in sql_processes():
            os.kill(pid, 9)
        response = connection.getresponse()
        self.assertEqual((response.status, json.loads(response.read())["error"]["type"]), (503, "process_lost"))
        connection.close()
        self.assertEqual(self.rows("SELECT 1"), [[1]])

    def test_the_document_tells_of_it(self) -> None:
        document = ask(self.broker, "GET", "/v1/openapi.json").body
        validate(document)
        content = document["paths"]["/v1/sql"]["post"]["responses"]["200"]["content"]
        self.assertEqual(
            set(content),
            {"application/json", "text/csv", "application/vnd.apache.arrow.stream", "application/x-ndjson"},
        )


class NotServed(SynchronousTestCase):
    def test_the_node_itself_loads_neither_duckdb_nor_arrow(self) -> None:
        look = (
            "import sys, chronik.services, chronik.http_sites; print({'duckdb', 'pyarrow', 'numpy'} & set(sys.modules))"
        )
        done = subprocess.run(
            [sys.executable, "-c", look],
            env=environment(os.environ),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        self.assertEqual(done.stdout, "set()\n")

    def test_in_memory_and_without_processes(self) -> None:
        with Chronik(search_listener="127.0.0.1:0") as broker:
            answer = ask(broker, "POST", "/v1/sql", {"query": "SELECT 1"})
            self.assertEqual((answer.status, answer.body["error"]["type"]), (501, "not_served"))


def sql_processes() -> list[int]:
    """The processes that run SQL for a node in this process."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
                with open(f"/proc/{name}/stat") as file:
                    state, parent = file.read().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if (
                words[-2:-1] == [b"sql"]
                and b"chronik.worker_main" in words
                and int(parent) == os.getpid()
                and state != "Z"
            ):
                found.append(int(name))
    return found
