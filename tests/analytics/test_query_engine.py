"""Continuous queries as a process runs them: over logs, with what they write read back as a consumer reads it."""

from __future__ import annotations

import json
import random

from twisted.trial.unittest import SynchronousTestCase

from chronik.analytics import query_engine
from chronik.analytics.column_text import columns_text
from chronik.analytics.query_engine import QueryEngine
from chronik.analytics.query_messages import Close, Explain, LookUp, Open, Producer, TakeStep, Targets
from chronik.analytics.schema import infer
from chronik.wire.batches import split_batches
from chronik.wire.records import Record, check_produced, decode_records
from tests.analytics.topics import Topics, encoded

QUERY = b"q" * 16
COUNTS = (
    "CREATE CONTINUOUS QUERY counts AS SELECT path, count(*) AS n, sum(size) AS bytes FROM events"
    " GROUP BY path, TUMBLE(at, INTERVAL 1 SECOND) GRACE INTERVAL 500 MILLISECONDS INTO results"
)
SCHEMA = infer([b'{"path": "a", "size": 1, "at": 1}'], {})
NOW = 10_000_000


class Queries:
    """A source, and the topics that a query writes to, which this writes as the node would."""

    def __init__(self, text=COUNTS, idle_ms=1000, partitions=2):
        self.topics = Topics(segment_bytes=5000)
        self.text = text
        self.now = NOW
        self.idle_ms = idle_ms
        self.engine = QueryEngine(self.topics.disk)
        self.epoch = 0
        for partition in range(partitions):
            self.topics.log("events", partition)
        for topic in ("results", "late", "state"):
            self.topics.log(topic)

    def produce(self, values, partition=0):
        self.topics.add(
            "events",
            [Record(n, 1000 + n, b"k%d" % n, encoded(v), (("h", b"x"),)) for n, v in enumerate(values)],
            partition,
        )

    def open(self):
        (state,) = self.topics.table("state").partitions
        asked = Open(QUERY, self.text, columns_text(SCHEMA.columns), state, self.idle_ms, 3_600_000, self.now)
        return last(self.engine.open(asked))

    def step(self, write=True):
        """A step; what it comes to is written, or lost."""
        source = self.topics.table("events").partitions
        asked = TakeStep(QUERY, source, Producer(7, self.epoch), Targets(into=1, late=1), self.now)
        told = []
        stepped = last(self.engine.step(asked), told)
        if write and not stepped.fault:
            self.epoch += 1
            for each in told:
                header = check_produced(each.batch)
                assert (header.producer_id, header.transactional) == (7, True)
                self.write({"into": "results"}.get(each.to, each.to), each.partition, bytearray(each.batch))
        return stepped

    def write(self, topic, partition, batch):
        """As a batch without a transaction: what is committed is the node's business."""
        records = list(decode_records(batch, 1 << 30))
        self.topics.add(topic, [record._replace(offset=n) for n, record in enumerate(records)], partition)

    def all(self):
        """Steps until there is nothing more to read."""
        while self.step().more:
            pass

    def read(self, topic):
        """All records of a topic: (key, value) and headers."""
        found = []
        log = self.topics.log(topic)
        at = log.start_offset
        while at < log.end_offset:
            data = log.read(at, 1 << 20, log.end_offset)[0]
            for position, header in split_batches(data):
                found += decode_records(data[position : position + header.size], 1 << 30)
                at = header.next_offset
        return found

    def results(self):
        """By path and window start."""
        found = {}
        for record in self.read("results"):
            key, value = json.loads(record.key), json.loads(record.value)
            place = key["path"], key["window_start"]
            assert place not in found, place
            assert (value["path"], value["window_start"], value["window_end"]) == (*place, place[1] + 1000)
            assert record.timestamp == place[1] + 999
            found[place] = value["n"], value["bytes"]
        return found


def last(steps, told=None):
    while True:
        try:
            something = next(steps)
            if something is not None:
                told.append(something)
        except StopIteration as end:
            return end.value


def event(path, at, size=1):
    return {"path": path, "at": at, "size": size}


class EngineTests(SynchronousTestCase):
    def test_windows_come_when_the_watermark_has_passed(self):
        queries = Queries()
        self.assertEqual(queries.open().offsets, {})
        queries.produce([event("/a", 10), event("/b", 999, 5), event("/a", 500), event("/a", 1000)])
        queries.produce([event("/a", 20), event("/c", 1400)], 1)
        queries.all()
        self.assertEqual(queries.results(), {})
        queries.produce([event("/a", 1500)])
        queries.all()
        self.assertEqual(queries.results(), {})
        queries.produce([event("/a", 1500)], 1)
        queries.all()
        self.assertEqual(queries.results(), {("/a", 0): (3, 3), ("/b", 0): (1, 5)})

    def test_time_alone_ends_windows(self):
        queries = Queries()
        queries.open()
        queries.produce([event("/a", 10)])
        stepped = queries.step()
        self.assertEqual(stepped.again_ms, 1000)
        queries.now += 1000
        stepped = queries.step()
        self.assertEqual(queries.results(), {})
        self.assertEqual(stepped.again_ms, 200)
        queries.now += 500
        self.assertEqual(queries.step().again_ms, -1)
        self.assertEqual(queries.results(), {("/a", 0): (1, 1)})

    def test_late_records_go_out_as_they_were(self):
        queries = Queries(partitions=1)
        queries.open()
        queries.produce([event("/a", 10), event("/a", 3000)])
        queries.all()
        queries.produce([event("/a", 20), event("/b", 2900)])
        stepped = queries.step()
        self.assertEqual((stepped.counts["late"], stepped.counts["passed"]), (1, 3))
        (late,) = queries.read("late")
        self.assertEqual((late.key, json.loads(late.value), late.timestamp), (b"k0", event("/a", 20), 1000))
        self.assertEqual(
            dict(late.headers),
            {
                "h": b"x",
                "chronik.late.query": b"counts",
                "chronik.late.partition": b"0",
                "chronik.late.offset": b"2",
                "chronik.late.closed_to": b"2500",
            },
        )

    def test_it_goes_on_from_what_was_written(self):
        """Whatever dies, at any step, written or not: each window comes once, and has all."""
        chance = random.Random(5)
        self.patch(query_engine, "STEP_RECORDS", 7)
        for _ in range(15):
            queries, wanted = Queries(), {}
            queries.open()
            at = 0
            for _ in range(25):
                events = [
                    event(chance.choice("/abc"), max(0, at + chance.randrange(400)), chance.randrange(9))
                    for _ in range(5)
                ]
                at += chance.randrange(150)
                for each in events:
                    place = each["path"], each["at"] // 1000 * 1000
                    n, size = wanted.get(place, (0, 0))
                    wanted[place] = n + 1, size + each["size"]
                queries.produce(events, chance.randrange(2))
                written = chance.random() < 0.8
                stepped = queries.step(written)
                if not written or chance.random() < 0.1:
                    if chance.random() < 0.5:
                        queries.engine = QueryEngine(queries.topics.disk)
                    queries.open()
            queries.all()
            queries.now += 1_000_000
            queries.all()
            queries.now += 1_000_000
            stepped = queries.step()
            self.assertEqual(stepped.counts["late"], 0)
            self.assertEqual(queries.results(), wanted)
            self.assertEqual(
                stepped.offsets, {number: queries.topics.log("events", number).end_offset for number in range(2)}
            )

    def test_looking_at_open_windows(self):
        queries = Queries()
        queries.open()
        queries.produce([event("/a", 10), event("/b", 1000, 4), event("/a", 2500)])
        queries.all()

        def windows(key=None, first=0, last=10_000, most=10):
            found = queries.engine.look_up(LookUp(QUERY, key, first, last, most))
            return [(each["path"], each["window_start"], each["n"]) for each in json.loads(found.windows)], found.more

        self.assertEqual(windows(), ([("/a", 0, 1), ("/b", 1000, 1), ("/a", 2000, 1)], False))
        self.assertEqual(windows('["/a"]'), ([("/a", 0, 1), ("/a", 2000, 1)], False))
        self.assertEqual(windows(first=1000, last=1000), ([("/b", 1000, 1)], False))
        self.assertEqual(windows(most=2), ([("/a", 0, 1), ("/b", 1000, 1)], True))
        queries.engine.close(Close(QUERY))
        self.assertTrue(queries.engine.look_up(LookUp(QUERY, None, 0, 1, 1)).unknown)
        self.assertIn("not open", queries.step().fault)

    def explain(self, queries, key, start):
        source = queries.topics.table("events").partitions
        late = queries.topics.table("late").partitions
        asked = Explain(queries.text, columns_text(SCHEMA.columns), source, late, key, start, 3_600_000, queries.now)
        return last(queries.engine.explain(asked))

    def test_windows_explained(self):
        queries = Queries()
        queries.open()
        queries.produce(
            [event("/a", 10), event("/b", 1000, 4), event("/a", 900, 3), event("/a", 5000), None, event("x", 5000)]
        )
        queries.produce([event("/a", 20, 7), event("/a", 5000)], 1)
        queries.all()
        queries.produce([event("/a", 30, 100), event("/a", 4600)])
        self.assertEqual(queries.step().counts["late"], 1)
        found = self.explain(queries, '["/a"]', 0)
        self.assertEqual((found.records, found.offsets), (3, {0: [0, 2], 1: [0]}))
        self.assertEqual(
            json.loads(found.recomputed), {"path": "/a", "n": 3, "bytes": 11, "window_start": 0, "window_end": 1000}
        )
        self.assertEqual(queries.results()["/a", 0], (3, 11))
        self.assertEqual(self.explain(queries, '["/a"]', 4000).offsets, {0: [7]})
        self.assertTrue(self.explain(queries, '["/a"]', 2000).unknown)
        self.assertTrue(self.explain(queries, '["/none"]', 0).unknown)
        self.assertIn("1 expression", self.explain(queries, "[]", 0).fault)

    def test_a_session_explained(self):
        text = COUNTS.replace("TUMBLE(at, INTERVAL 1 SECOND)", "SESSION(at, INTERVAL 1 SECOND)")
        queries = Queries(text)
        queries.open()
        queries.produce([event("/a", 10), event("/a", 900), event("/a", 1800), event("/a", 2800), event("/b", 20)])
        queries.all()
        found = self.explain(queries, '["/a"]', 10)
        self.assertEqual((found.offsets, json.loads(found.recomputed)["window_end"]), ({0: [0, 1, 2]}, 2800))

    def test_without_windows(self):
        text = "CREATE CONTINUOUS QUERY large AS SELECT path, size * 2 AS twice FROM events WHERE size > 3 INTO results"
        queries = Queries(text)
        queries.open()
        queries.produce([event("/a", 10, 4), event("/a", 10, 1), b"no json", None, event("/b", 1, 9)])
        stepped = queries.step()
        found = [(record.key, json.loads(record.value), record.timestamp) for record in queries.read("results")]
        self.assertEqual(found, [(b"k0", {"path": "/a", "twice": 8}, 1000), (b"k4", {"path": "/b", "twice": 18}, 1004)])
        self.assertEqual(
            {name: stepped.counts[name] for name in ("records", "passed", "not_json")},
            {"records": 5, "passed": 2, "not_json": 1},
        )

    def test_a_state_that_cannot_be_read(self):
        queries = Queries()
        queries.open()
        queries.produce([event("/a", 10)])
        queries.step()
        key = queries.read("state")[0].key
        queries.topics.add("state", [Record(0, 1, key, b"\xc1")])
        self.assertIn("its state cannot be read", queries.open().fault)

    def test_what_retention_took_is_counted(self):
        queries = Queries(partitions=1)
        queries.open()
        queries.produce([event("/a", 10), event("/a", 20)])
        queries.step()
        for _ in range(3):
            queries.produce([event("/a", 30)] * 3)
        queries.topics.log("events").advance_start(7)
        self.assertEqual(queries.step().counts["missed"], 5)
        self.assertEqual(queries.step().counts["missed"], 5)
        queries.open()
        self.assertEqual(queries.step().counts["missed"], 5)

    def test_too_many_keys(self):
        self.patch(query_engine, "MAX_STATES", 10)
        queries = Queries()
        queries.open()
        queries.produce([event(f"/{n}", 10) for n in range(11)])
        self.assertIn("11 keys in open windows", queries.step(write=False).fault)
        self.assertIn("not open", queries.step(write=False).fault)
