"""Continuous queries against one SQL statement over all records: any order, late ones, restarts, each kind of window."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections import defaultdict

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.analytics.columns import ColumnMaker
from chronik.analytics.connection import PARSING, open_connection
from chronik.analytics.execution import Execution
from chronik.analytics.messages import Counts, SqlFault
from chronik.analytics.plan import plan_query
from chronik.analytics.progress import Progress
from chronik.analytics.reading import Chunk
from chronik.analytics.schema import infer
from chronik.analytics.statement import StatementError
from chronik.analytics.task import Times, WindowTask
from chronik.native.scanner import make_scanner
from chronik.native.sections import Section
from chronik.native.value_scanner import make_value_scanner
from chronik.wire.batches import HEADER_BYTES
from chronik.wire.records import Record, encode_batch

SAMPLE = [b'{"path": "a", "ms": 1.5, "size": 1, "at": 1, "user": {"name": "x"}}']
SCHEMA = infer(SAMPLE, {})
EXACT = (
    "path AS p, user.name AS n, count(*) AS c, count(ms) AS cm, sum(size) AS s, sum(ms) AS sm, avg(size) AS a, min(ms) AS lo,"
    " max(size) AS hi, min(user.name) AS first_name, first(size) AS f, last(ms) AS l,"
    " count(*) FILTER (WHERE size > 2) AS big"
)
EXAMPLES = 500 if os.environ.get("CHRONIK_TEST_SLOW") else 20
HOUR = 3_600_000
NOW = 10 * HOUR
connection = duckdb.connect(config={"threads": "1"})
connection.execute("SET timezone = 'UTC'")


def made(select):
    text = f"CREATE CONTINUOUS QUERY q AS {select} INTO results"
    plan = plan_query(text, [column.name for column in SCHEMA.columns])
    return Execution(plan, SCHEMA, open_connection(PARSING))


def table(execution, records):
    """Of (partition, offset, value), as a reader of the log gives it; and how many are no JSON."""
    counts = Counts()
    maker = ColumnMaker(execution.columns, "t", make_value_scanner(), counts)
    batches = []
    for partition, some in itertools.groupby(sorted(records, key=lambda each: each[0]), key=lambda each: each[0]):
        chosen = list(some)
        encoded = [
            Record(number, 1000, None, None if value is None else value.encode())
            for number, (_, _, value) in enumerate(chosen)
        ]
        batch = encode_batch(encoded)
        content = memoryview(batch)[HEADER_BYTES:]
        columns = make_scanner().columns(Section(bytes(content), len(chosen)), len(chosen) - 1)
        offsets = np.array([offset for _, offset, _ in chosen], np.int64)
        chunk = Chunk(bytes(content), offsets, np.full(len(chosen), 1000, np.int64), columns, 0)
        batches.append(maker.batch(chunk, partition))
    return pa.Table.from_batches(batches, schema=maker.schema), counts.not_json


NUMBERS = st.one_of(st.none(), st.integers(-3, 9))
REALS = st.one_of(st.none(), st.floats(-1e6, 1e6), st.just(2), st.just("no number"))
VALUES = st.fixed_dictionaries(
    {"at": st.one_of(st.integers(0, 300), st.integers(0, 300), st.integers(0, 300), st.none(), st.just(-5))},
    optional={
        "path": st.sampled_from(["/a", "/b", None, "ä"]),
        "ms": REALS,
        "size": NUMBERS,
        "user": st.one_of(st.none(), st.just(7), st.fixed_dictionaries({"name": st.sampled_from(["x", "y", None])})),
    },
).map(json.dumps)
RECORDS = st.tuples(
    st.integers(0, 2), st.one_of(VALUES, VALUES, VALUES, st.none(), st.sampled_from(["", "no", "[1]", "{"]))
)
BATCHES = st.lists(st.lists(RECORDS, max_size=12), max_size=8)
WINDOWS = st.one_of(
    st.integers(1, 120).map(lambda size: f"TUMBLE(at, INTERVAL {size} MILLISECONDS)"),
    st.tuples(st.integers(1, 60), st.integers(0, 60)).map(
        lambda both: f"HOP(at, INTERVAL {both[0]} MILLISECONDS, INTERVAL {both[0] + both[1]} MILLISECONDS)"
    ),
    st.integers(1, 40).map(lambda gap: f"SESSION(at, INTERVAL {gap} MILLISECONDS)"),
)


def plain_table(records):
    partitions, offsets, values = zip(*records, strict=True) if records else ([], [], [])
    kinds = pa.int32(), pa.int64(), pa.string()
    arrays = [pa.array(column, kind) for column, kind in zip((partitions, offsets, values), kinds, strict=True)]
    return pa.table(arrays, names=["_partition", "_offset", "_value"])


def windows_in_one_go(window, where, records):
    """The same by one statement over all records, the windows spelled out."""
    connection.register("all_rows", plain_table(records))
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE everything AS SELECT _partition, _offset, j.path AS path, j.ms AS ms, j.size AS size,"
        " j.at AS tm, j.user.name AS name FROM (SELECT _partition, _offset, TRY(from_json(_value,"
        """ '{"path":"VARCHAR","ms":"DOUBLE","size":"BIGINT","at":"BIGINT","user":{"name":"VARCHAR"}}')) AS j FROM all_rows)"""
    )
    kind, *lengths = window
    passed = f"SELECT * FROM everything WHERE tm >= 0 AND ({where})"
    if kind == "SESSION":
        over = "OVER (PARTITION BY path, name ORDER BY tm)"
        source = (
            f"SELECT *, min(tm) OVER (PARTITION BY path, name, s) AS ws, max(tm) OVER (PARTITION BY path, name, s) +"
            f" {lengths[0]} AS we FROM (SELECT *, sum(b) {over} AS s FROM (SELECT *, CASE WHEN tm - lag(tm) {over} <"
            f" {lengths[0]} THEN 0 ELSE 1 END AS b FROM ({passed})))"
        )
    else:
        hop, size = lengths
        source = (
            f"SELECT *, ws + {size} AS we FROM (SELECT *, unnest(range(((tm - {size}) // {hop} - 1) * {hop},"
            f" tm + 1, {hop})) AS ws FROM ({passed})) WHERE ws <= tm AND ws + {size} > tm"
        )
    query = (
        "SELECT ws, we, path, name, count(*), count(ms), sum(size), sum(ms), avg(size), min(ms), max(size), min(name),"
        " arg_min(size, row(tm, _partition, _offset)) FILTER (WHERE size IS NOT NULL),"
        f" arg_max(ms, row(tm, _partition, _offset)) FILTER (WHERE ms IS NOT NULL), count(*) FILTER (WHERE size > 2)"
        f" FROM ({source}) GROUP BY ws, we, path, name"
    )
    return {tuple(row[:4]): row[4:] for row in connection.sql(query).fetchall()}


def numbers(sql):
    """The kind and lengths of a window clause: hop and size, or the gap."""
    kind = sql.split("(")[0]
    lengths = [int(each.split()[1]) for each in sql.split(", ")[1:]]
    return [kind, lengths[0], lengths[-1]] if kind != "SESSION" else [kind, lengths[0]]


class TruthTests(SynchronousTestCase):
    def same(self, found, wanted):
        self.assertEqual(found.keys(), wanted.keys())
        for place, values in wanted.items():
            for one, other in zip(found[place], values, strict=True):
                if isinstance(other, float) and one is not None:
                    self.assertTrue(math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-6), (place, one, other))
                else:
                    self.assertEqual(one, other, place)

    def through(self, execution, batches, cuts, times):
        """All batches, with restarts at `cuts`: the results, the late records, and the progress."""
        stored, progress, task, now = {}, b"", None, NOW
        results, late = [], []
        offsets = defaultdict(int)
        for number, batch in enumerate([*batches, None, None]):
            if task is None or (number in cuts and number <= len(batches)):
                restored = [
                    each._replace(state=execution.aggregates.load(msgspec.msgpack.decode(each.state)))
                    for each in stored.values()
                ]
                before = msgspec.msgpack.decode(progress, type=Progress) if progress else None
                task = WindowTask(execution, times, now, before, restored)
            now = NOW if batch is not None else now + 2 * times.idle + HOUR
            records = []
            for partition, value in batch or ():
                records.append((partition, offsets[partition], value))
                offsets[partition] += 1
            waiting = dict.fromkeys(range(3), batch is not None)
            rows, not_json = table(execution, records) if records else (None, 0)
            step = task.step(rows, dict(offsets), waiting, now, not_json)
            results += step.results
            late += step.late
            for each in step.kept:
                if each.state is None:
                    stored.pop((each.key, each.first), None)
                else:
                    dumped = msgspec.msgpack.encode(execution.aggregates.dump(each.state))
                    stored[each.key, each.first] = each._replace(state=dumped)
            progress = msgspec.msgpack.encode(task.progress)
        self.assertEqual((len(task), stored), (0, {}))
        return results, late, task.progress

    @settings(max_examples=EXAMPLES, deadline=None, report_multiple_bugs=False)
    @given(
        WINDOWS,
        BATCHES,
        st.sets(st.integers(0, 8)),
        st.sampled_from(["true", "size IS NULL OR size > 0", "path <> '/b'"]),
    )
    def test_all_in_time(self, window, batches, cuts, where):
        """With grace for all, each window comes once, and has what the whole has."""
        execution = made(
            f"SELECT {EXACT}, window_start FROM t WHERE {where} GROUP BY path, user.name, {window} GRACE INTERVAL 1 HOUR"
        )
        results, late, progress = self.through(execution, batches, cuts, Times(idle=1000, earliest=0))
        self.assertEqual(late, [])
        found = {}
        for key, start, end, values in results:
            place = start, end, *key
            self.assertNotIn(place, found)
            self.assertEqual((values.pop("p"), values.pop("n"), values.pop("window_start")), (*key, start))
            found[place] = tuple(values.values())
        offsets = defaultdict(int)
        records = []
        for partition, value in (each for batch in batches for each in batch):
            records.append((partition, offsets[partition], value))
            offsets[partition] += 1
        wanted = windows_in_one_go(numbers(window), where, records)
        self.same(found, wanted)
        self.assertEqual(progress.records, len(records))
        self.assertEqual(progress.offsets, dict(offsets))

    @settings(max_examples=EXAMPLES, deadline=None, report_multiple_bugs=False)
    @given(WINDOWS, BATCHES, st.sets(st.integers(0, 8)), st.integers(0, 50))
    def test_late_records_are_those_that_no_window_has(self, window, batches, cuts, grace):
        execution = made(f"SELECT count(*) AS c FROM t GROUP BY {window} GRACE INTERVAL {grace} MILLISECONDS")
        results, late, progress = self.through(execution, batches, cuts, Times(idle=1000, earliest=0))
        self.assertEqual(progress.late, len(late))
        self.assertEqual(len(set(late)), len(late))
        places = [result[:3] for result in results]
        self.assertEqual(len(set(places)), len(places))
        counted = sum(result.values["c"] for result in results)
        self.assertEqual(progress.records, progress.passed + progress.late + progress.untimed + progress.outside)
        if window.startswith(("TUMBLE", "SESSION")):
            self.assertEqual(counted, progress.passed)

    @settings(max_examples=EXAMPLES, deadline=None, report_multiple_bugs=False)
    @given(WINDOWS, BATCHES, st.sets(st.integers(0, 8)))
    def test_changes_end_where_final_results_are(self, window, batches, cuts):
        select = f"SELECT {EXACT} FROM t GROUP BY path, user.name, {window}"
        final, _, _ = self.through(made(f"{select} GRACE INTERVAL 20 MILLISECONDS"), batches, cuts, Times(idle=1000))
        changes, _, _ = self.through(
            made(f"{select} EMIT CHANGES GRACE INTERVAL 20 MILLISECONDS"), batches, cuts, Times(idle=1000)
        )
        shown = {}
        for key, start, end, values in changes:
            shown.pop((key, start), None)
            if values is not None:
                shown[key, start] = end, values
        self.assertEqual(shown, {(key, start): (end, values) for key, start, end, values in final})


class ResultTests(SynchronousTestCase):
    def run_through(self, select, values):
        execution = made(select)
        task = WindowTask(execution, Times(idle=1), NOW)
        rows, _ = table(execution, [(0, number, value) for number, value in enumerate(values)])
        step = task.step(rows, {0: len(values)}, {0: False}, NOW)
        return step.results + task.step(None, {}, {0: False}, NOW + 2 * HOUR).results

    def test_outputs_and_having(self):
        values = [json.dumps({"at": 5, "path": path, "size": size}) for path, size in (("a", 1), ("a", 2), ("b", 9))]
        results = self.run_through(
            "SELECT upper(path) || '!' AS name, sum(size) / count(*) AS mean, window_end - window_start AS length FROM t"
            " GROUP BY path, TUMBLE(at, INTERVAL 1 SECOND) HAVING count(*) > 1 GRACE INTERVAL 0 SECONDS",
            values,
        )
        self.assertEqual([result.values for result in results], [{"name": "A!", "mean": 1.5, "length": 1000}])

    def test_no_record_stops_a_query(self):
        values = [json.dumps({"at": 5, "path": path, "size": 1}) for path in ("7", "x", "8")]
        (result,) = self.run_through(
            "SELECT sum(CAST(path AS BIGINT)) AS s, count(*) AS n, count(*) FILTER (WHERE CAST(path AS BIGINT) > 7) AS f,"
            " CAST('x' || count(*) AS BIGINT) AS none FROM t WHERE CAST(path AS BIGINT) > 0 OR size = 1"
            " GROUP BY TUMBLE(at, INTERVAL 1 SECOND) GRACE INTERVAL 0 SECONDS",
            values,
        )
        self.assertEqual(result.values, {"s": 15, "n": 2, "f": 1, "none": None})

    def test_sketches(self):
        values = [
            json.dumps({"at": 5, "ms": n, "path": f"/{n % 700}", "user": {"name": "ab"[n % 3 == 0]}})
            for n in range(2000)
        ]
        (result,) = self.run_through(
            "SELECT approx_percentile(ms, 0.9) AS p, approx_count_distinct(path) AS d, approx_top_k(user.name, 1) AS top FROM t"
            " GROUP BY TUMBLE(at, INTERVAL 1 SECOND) GRACE INTERVAL 0 SECONDS",
            values,
        )
        self.assertTrue(abs(result.values["p"] - 1800) < 2000 * 0.01, result)
        self.assertTrue(abs(result.values["d"] - 700) < 700 * 0.05, result)
        self.assertEqual(result.values["top"], [{"value": "a", "count": 1333}])

    def test_sums_beyond_64_bits(self):
        values = [json.dumps({"at": 5, "size": 9 * 10**17}) for _ in range(30)]
        (result,) = self.run_through(
            "SELECT sum(size) AS s FROM t GROUP BY TUMBLE(at, INTERVAL 1 SECOND) GRACE INTERVAL 0 SECONDS", values
        )
        self.assertEqual(result.values["s"], 270 * 10**17)

    def test_without_windows(self):
        execution = made("SELECT upper(path) AS p, ms * 2 AS twice FROM t WHERE size > 1")
        records = [(0, 0, '{"path":"a","size":2,"ms":4}'), (0, 1, '{"size":1}'), (1, 0, "no"), (1, 1, None)]
        rows, not_json = table(execution, records)
        batch, results = execution.select(rows)
        self.assertEqual(results, [(0, 0, {"p": "A", "twice": 8.0})])
        self.assertEqual((batch.records, batch.passed, not_json), (4, 1, 1))

    def test_what_the_engine_refuses(self):
        for select, why in (
            ("SELECT nothing(path) AS x FROM t", "nothing"),
            (
                "SELECT count(*) AS c FROM t WHERE size GROUP BY TUMBLE(at, INTERVAL 1 SECOND) GRACE INTERVAL 0 SECONDS",
                "WHERE",
            ),
            ("SELECT sum(path) AS c FROM t GROUP BY TUMBLE(at, INTERVAL 1 SECOND) GRACE INTERVAL 0 SECONDS", "sum"),
            (
                "SELECT upper(count(*)) AS c FROM t GROUP BY TUMBLE(at, INTERVAL 1 SECOND) GRACE INTERVAL 0 SECONDS",
                "upper",
            ),
        ):
            error = self.assertRaises(StatementError, made, select)
            self.assertIn(why, str(error))
        for function in ("current_setting('threads')", "getvariable('x')", "nextval('x')"):
            self.assertRaises(SqlFault, made, f"SELECT {function} AS x FROM t")
