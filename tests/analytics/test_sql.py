"""Statements over logs: what they come to beside plain Python, what is pruned, what is counted, and how it is written."""

from __future__ import annotations

import json
from typing import Any

from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.wire.compression import Codec
from chronik.wire.records import Record, encode_batch, read_header
from tests.analytics.topics import LIMITS, START, Topics
from tests.contracts.test_value_scanners import JSON
from tests.log.batches import append, end
from tests.log.compacting import compact

LEVELS = st.sampled_from(["error", "info", "wärn", 'q"uote', "new\nline", ""])
EVENTS = st.fixed_dictionaries(
    {"level": LEVELS, "ms": st.none() | st.integers(-(10**17), 10**17)},
    optional={"x": st.floats(-1e6, 1e6), "ok": st.booleans(), "user": st.fixed_dictionaries({"id": st.integers(0, 5)})},
)
STEP_MS = 600_000
VALUES = st.lists(
    EVENTS | st.sampled_from([None, b"plain", b'{"level":', b"\xff", b"[1]", b"3"]), min_size=1, max_size=60
)


def objects(values: list[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, dict)]


class Results(SynchronousTestCase):
    @given(
        VALUES,
        st.sampled_from([Codec.NONE, Codec.ZSTD, Codec.LZ4]),
        st.integers(1, 7),
        st.integers(0, 70),
        st.integers(0, 70),
    )
    @settings(deadline=None, max_examples=40)
    def test_filters_and_aggregates_are_as_in_python(
        self, values: list[Any], codec: Codec, batch: int, low: int, high: int
    ) -> None:
        topics = Topics()
        for at in range(0, len(values), batch):
            texts = [
                v if v is None or isinstance(v, bytes) else json.dumps(v).encode() for v in values[at : at + batch]
            ]
            topics.add("t", [Record(n, START + at + n, None, text, ()) for n, text in enumerate(texts)], codec=codec)
        declared = {"level": "VARCHAR", "ms": "BIGINT", "x": "DOUBLE", "ok": "BOOLEAN", "user.id": "BIGINT"}
        found = topics.sql(
            'SELECT level, count(*), sum(ms), count(x), count(*) FILTER (ok), max("user".id) FROM t '
            "WHERE level IS NOT NULL GROUP BY level",
            declared,
        )
        expected = {}
        for each in objects(values):
            expected.setdefault(each["level"], []).append(each)
        self.assertEqual(
            sorted(found.rows),
            sorted(
                (
                    level,
                    len(mine),
                    sum_of([each["ms"] for each in mine]),
                    sum("x" in each for each in mine),
                    sum(each.get("ok") is True for each in mine),
                    max((each["user"]["id"] for each in mine if "user" in each), default=None),
                )
                for level, mine in expected.items()
            ),
        )
        self.assertEqual(found.ran.counts.not_json, sum(isinstance(value, bytes) for value in values))
        between = topics.sql(
            f"SELECT _offset, level FROM t WHERE _offset >= {low} AND {high} > _offset ORDER BY 1", declared
        )
        self.assertEqual(
            between.rows,
            [(n, v["level"] if isinstance(v, dict) else None) for n, v in enumerate(values) if low <= n < high],
        )
        self.assertLessEqual(between.ran.counts.records, max(0, high - low))
        times = topics.sql(
            f"SELECT count(*) FROM t WHERE _timestamp > make_timestamp_ms({START + low}) "
            f"AND _timestamp <= make_timestamp_ms({START + high})"
        )
        self.assertEqual(times.rows, [(sum(low < n <= high for n in range(len(values))),)])

    @given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "é"]), JSON, max_size=3), min_size=1, max_size=8))
    @settings(deadline=None, max_examples=60)
    def test_any_json_can_be_read(self, values: list[Any]) -> None:
        """Whatever the inferred types are, no value makes a statement fail, and none is changed where it fits."""
        topics = Topics()
        topics.add_values("t", values)
        found = topics.sql("SELECT * FROM t ORDER BY _offset")
        self.assertEqual(len(found.rows), len(values))
        self.assertEqual(found.ran.counts.mistyped, {})
        names = [each.name for each in found.ran.columns]
        kinds = {each.name: each.type for each in found.ran.columns}
        for row, value in zip(found.rows, values, strict=True):
            self.assertEqual(json.loads(row[names.index("_value")]), value)
            for name in set(names) & {"a", "b", "é"}:
                got, expected = row[names.index(name)], value.get(name)
                if kinds[name] == "JSON" and got is not None:
                    got = json.loads(got)
                if kinds[name] in ("BIGINT", "BOOLEAN", "JSON") or (
                    kinds[name] == "VARCHAR" and isinstance(expected, str)
                ):
                    self.assertEqual(got, expected, (name, kinds[name]))
                elif kinds[name] == "DOUBLE" and expected is not None:
                    self.assertEqual(got, float(expected))

    def test_a_table_may_be_read_more_than_once(self) -> None:
        topics = Topics()
        topics.add_values("t", [{"n": n} for n in range(50)])
        for statement, expected in (
            ("SELECT count(*) FROM t a JOIN t b ON a.n = b.n + 1", 49),
            ("WITH c AS (SELECT * FROM t WHERE n < 10) SELECT count(*) FROM c x JOIN c y USING (n)", 10),
            ("SELECT count(*) FROM t WHERE n > (SELECT avg(n) FROM t)", 25),
            (
                "WITH RECURSIVE r AS (SELECT 0 AS n UNION ALL SELECT r.n + 1 FROM r JOIN t USING (n) WHERE r.n < 20) "
                "SELECT max(n) FROM r",
                20,
            ),
            ("SELECT count(*) FROM t a WHERE EXISTS (SELECT 1 FROM t b WHERE b.n = a.n * 2)", 25),
        ):
            self.assertEqual(topics.sql(statement).rows, [(expected,)], statement)

    def test_a_whole_row_is_whole(self) -> None:
        topics = Topics()
        topics.add_values("t", [{"n": 1, "s": "x"}])
        for statement in (
            "SELECT to_json(t) FROM t",
            "SELECT to_json(a) FROM t a",
            "SELECT to_json(w) FROM (FROM t) w",
        ):
            (row,) = topics.sql(statement).rows[0]
            self.assertEqual(
                {name: json.loads(row)[name] for name in ("n", "s", "_offset", "_key")},
                {"n": 1, "s": "x", "_offset": 0, "_key": "k0"},
            )

    def test_several_partitions_and_topics(self) -> None:
        topics = Topics()
        for partition in range(3):
            topics.add_values("t", [{"n": n} for n in range(partition, 30, 3)], partition)
        topics.add_values("users", [{"id": n, "name": f"u{n}"} for n in range(3)])
        self.assertEqual(topics.sql("SELECT count(*), sum(n) FROM t").rows, [(30, sum(range(30)))])
        found = topics.sql("SELECT _partition, count(*) FROM t WHERE _partition = 1 GROUP BY 1")
        self.assertEqual((found.rows, found.ran.counts.partitions_pruned), ([(1, 10)], 2))
        found = topics.sql("SELECT name, sum(n) FROM t JOIN users ON n % 3 = id GROUP BY name ORDER BY name")
        self.assertEqual(found.rows, [("u0", 135), ("u1", 145), ("u2", 155)])

    def test_aborted_open_and_control_records_are_left_out(self) -> None:
        topics = Topics()
        log = topics.log("t")
        for producer, commit in ((1, True), (2, False), (3, None)):
            append(log, 3, producer_id=producer, transactional=True)
            if commit is not None:
                end(log, producer, commit=commit)
                log.producers.committed(log.end_offset)
        self.assertEqual(topics.sql("SELECT count(*), max(_offset) FROM t").rows, [(3, 2)])

    def test_what_was_compacted_away_is_gone(self) -> None:
        topics = Topics(segment_bytes=600)
        for n in range(40):
            topics.add("t", [Record(0, START, b"k%d" % (n % 4), json.dumps({"n": n}).encode(), ())])
        log = topics.log("t")
        log.flush()
        before = topics.sql("SELECT count(*) FROM t").rows
        compact(log, topics.disk, 10_000)
        after = topics.sql("SELECT count(*), max(n) FROM t").rows
        self.assertEqual(before, [(40,)])
        self.assertLess(after[0][0], 40)
        self.assertEqual(after[0][1], 39)


def at(n: float) -> str:
    """The time of the n-th record where they are ten minutes apart, as SQL has it."""
    return f"make_timestamp_ms({START + round(n * STEP_MS)})"


class Pruning(SynchronousTestCase):
    """A thousand records, ten minutes apart, in many segments."""

    def setUp(self) -> None:
        self.topics = Topics(segment_bytes=4000)
        values = [{"n": n, "text": "x" * 50} for n in range(1000)]
        self.topics.add_values("t", values, step_ms=STEP_MS)
        self.topics.log("t").flush()

    def counts(self, where: str) -> Any:
        found = self.topics.sql(f"SELECT count(*), min(n), max(n) FROM t WHERE {where}")
        return found.rows[0], found.ran.counts

    def test_by_offset(self) -> None:
        row, counts = self.counts("_offset BETWEEN 500 AND 540")
        self.assertEqual(row, (41, 500, 540))
        self.assertGreater(counts.segments_pruned, 10)
        self.assertLessEqual(counts.segments, 3)
        self.assertEqual(counts.records, 41)

    def test_by_time(self) -> None:
        """The lower bound leaves out whole segments, by their time indexes."""
        row, counts = self.counts(f"_timestamp >= {at(990)}")
        self.assertEqual((row, counts.records), ((10, 990, 999), 10))
        self.assertGreater(counts.segments_pruned, 10)
        self.assertLessEqual(counts.segments, 3)
        row, counts = self.counts(f"_timestamp < {at(10)} AND _timestamp >= DATE '2023-11-14'")
        self.assertEqual(row, (10, 0, 9))
        self.assertLessEqual(counts.records, 11)
        row, counts = self.counts("_timestamp > now() - INTERVAL 1 MINUTE")
        self.assertEqual((row[0], counts.records, counts.segments), (0, 0, 1))

    def test_never_too_much(self) -> None:
        for where, expected in (
            ("_offset > 5.5 AND _offset < 8", (2, 6, 7)),
            ("_offset > '990'", (9, 991, 999)),
            ("_offset >= NULL", (0, None, None)),
            ("_timestamp >= '2023-11-14 22:13:20.0005'", (999, 1, 999)),
            ("_timestamp = TIMESTAMP '2023-11-14 22:23:20'", (1, 1, 1)),
            ("_timestamp >= TIMESTAMPTZ '2023-11-14 23:23:20+01:00' AND n < 10", (9, 1, 9)),
            ("_offset < 99999999999999999999", (1000, 0, 999)),
            ("_offset > -5 AND _partition >= 0 AND n = 3", (1, 3, 3)),
            ("_offset >= 10 AND _offset <= 5", (0, None, None)),
            ("_partition = 7", (0, None, None)),
        ):
            self.assertEqual(self.counts(where)[0], expected, where)

    def test_headers_that_are_a_little_wrong(self) -> None:
        """A client puts the last timestamp where the largest belongs: what is newer than its batch says is found."""
        batch = bytearray(
            encode_batch([Record(0, START + 1000, None, b'{"n":1}', ()), Record(1, START, None, b'{"n":2}', ())])
        )
        batch[35:43] = START.to_bytes(8, "big")
        self.topics.log("wrong").append(memoryview(resealed(batch)), read_header(batch), 0, 1000)
        found = self.topics.sql(f"SELECT n FROM wrong WHERE _timestamp >= make_timestamp_ms({START + 500})")
        self.assertEqual(found.rows, [(1,)])

    def test_a_time_index_that_lies_prunes_nothing(self) -> None:
        disk = self.topics.disk
        for name in disk.list("/logs/t-0"):
            if name.endswith(".timeindex"):
                disk.replace(f"/logs/t-0/{name}", bytes(12))
        row, counts = self.counts(f"_timestamp >= {at(990)}")
        self.assertEqual((row[0], counts.segments_pruned), (10, 0))

    def test_a_limit_ends_the_reading(self) -> None:
        self.topics.add_values("long", [{"n": n, "text": "x" * 2000} for n in range(20_000)], batch=1000)
        found = self.topics.sql("SELECT n FROM long LIMIT 3")
        self.assertEqual(len(found.rows), 3)
        self.assertLess(found.ran.counts.records, 20_000)


NUMBERS = {"d": "DOUBLE", "b": "BIGINT", "c": "DOUBLE", "at": "TIMESTAMP", "s": "VARCHAR"}


class Odd(SynchronousTestCase):
    def test_types_that_change_midway(self) -> None:
        topics = Topics()
        topics.add_values(
            "t",
            [{"a": n} for n in range(600)]
            + [{"a": "text"}, {"a": 1.5}, {"a": None}, {"a": {}}, {}]
            + [{"a": n} for n in range(600)],
        )
        found = topics.sql("SELECT count(*), count(a), sum(a) FROM t")
        self.assertEqual(found.rows, [(1205, 1200, 2 * sum(range(600)))])
        self.assertEqual(found.ran.counts.mistyped, {"t.a": 3})
        found = topics.sql("SELECT a FROM t WHERE _offset BETWEEN 599 AND 605", {"a": "VARCHAR"})
        self.assertEqual([row[0] for row in found.rows], ["599", "text", "1.5", None, None, None, "0"])
        self.assertEqual(found.ran.counts.mistyped, {"t.a": 1})

    def test_hostile_numbers(self) -> None:
        topics = Topics()
        topics.add_values(
            "t",
            [
                b'{"d":1e999,"b":999999999999999999,"c":99999999999999999999999,"at":9223372036854775807,"s":"1e5"}',
                b'{"d":-1e-999}',
            ],
        )
        found = topics.sql('SELECT d, b, c, "at", s FROM t ORDER BY _offset', NUMBERS)
        self.assertEqual(found.rows, [(None, 999999999999999999, 1e23, None, "1e5"), (-0.0, None, None, None, None)])

    def test_timestamps_of_no_time(self) -> None:
        topics = Topics()
        for timestamp in (-1, 0, 2**62, START):
            topics.add("t", [Record(0, timestamp, None, b"{}", ())])
        found = topics.sql("SELECT _timestamp FROM t ORDER BY _offset")
        self.assertEqual([row[0] for row in found.rows], [None, "1970-01-01T00:00:00", None, "2023-11-14T22:13:20"])

    def test_batches_that_cannot_be_decoded_are_counted(self) -> None:
        topics = Topics()
        topics.add_values("t", [{"n": 1}, {"n": 2}])
        batch, header = broken_batch()
        topics.log("t").append(memoryview(batch), header, 0, 1000)
        topics.add_values("t", [{"n": 3}])
        found = topics.sql("SELECT sum(n) FROM t")
        self.assertEqual((found.rows, found.ran.counts.undecodable), ([(6,)], 1))

    def test_a_damaged_log_is_told(self) -> None:
        topics = Topics()
        topics.add_values("t", [{"n": n} for n in range(100)])
        name = next(name for name in topics.disk.list("/logs/t-0") if name.endswith(".log"))
        content = bytearray(topics.disk.read(f"/logs/t-0/{name}"))
        content[len(content) // 2] ^= 1
        topics.disk.replace(f"/logs/t-0/{name}", content)
        found = topics.sql("SELECT sum(n) FROM t")
        assert found.ran.fault is not None
        self.assertEqual((found.ran.fault.code, found.ran.fault.status), ("log_unreadable", 503))

    def test_fields_of_one_name(self) -> None:
        topics = Topics()
        topics.add_values("t", [{"Level": "a", "level": "b", "_offset": "c"}])
        self.assertEqual(topics.sql("SELECT level, level_1, _offset, _offset_1 FROM t").rows, [("a", "b", 0, "c")])

    def test_strings_with_escapes(self) -> None:
        topics = Topics()
        texts = ["plain", "é", "a\nb", '"', "\\", "\u0000", "😀", "\u2028"]
        topics.add_values("t", [{"s": text} for text in texts])
        self.assertEqual([row[0] for row in topics.sql("SELECT s FROM t ORDER BY _offset").rows], texts)

    def test_forms(self) -> None:
        topics = Topics()
        found = topics.sql(
            "SELECT NULL AS a, '' AS b, 'x,\"y\"' AS c, 1.50::DECIMAL(5,2) AS d, {'k': [1, NULL]} AS e, true AS f, "
            "'nan'::DOUBLE AS g, "
            "DATE '2026-01-01' AS h, 'ab'::BLOB AS i, 170141183460469231731687303715884105727 AS j, "
            "'2026-01-01 00:00:00.123456789'::TIMESTAMP_NS AS k, INTERVAL 5 MINUTE IS NOT NULL AS l, uuid() IS NOT NULL AS m",
            form="csv",
        )
        head, row, _ = found.text.decode().split("\r\n")
        self.assertEqual(head, "a,b,c,d,e,f,g,h,i,j,k,l,m")
        self.assertEqual(
            row, ',"","x,""y""",1.50,"{""k"":[1,null]}",true,nan,2026-01-01,YWI=,170141183460469231731687303715884105727,'
            "2026-01-01 00:00:00.123456789,true,true"
        )  # fmt: skip
        self.assertEqual(topics.sql("SELECT 'nan'::DOUBLE, 1.50::DECIMAL(5,2)").rows, [(None, 1.5)])

    def test_an_answer_that_is_too_large(self) -> None:
        found = Topics().sql("SELECT repeat('x', 1000000) FROM range(100)", limits=LIMITS)
        assert found.ran.fault is not None
        self.assertEqual(found.ran.fault.code, "answer_too_large")


def sum_of(numbers: list[Any]) -> Any:
    there = [number for number in numbers if number is not None]
    return sum(there) if there else None


def resealed(batch: bytearray) -> bytearray:
    """The batch with the CRC that it should have."""
    batch[17:21] = crc32c(bytes(batch[21:])).to_bytes(4, "big")
    return batch


def broken_batch() -> tuple[bytearray, Any]:
    """A batch with a right CRC whose records are none."""
    batch = bytearray(encode_batch([Record(n, START, None, b'{"n":100}', ()) for n in range(2)]))
    batch[61] = 0x7F
    return resealed(batch), read_header(batch)
