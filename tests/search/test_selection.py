"""What a saved search selects is what a plain filter over the log selects: the same records, bytes, offsets and times."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.errors import KafkaError
from chronik.search.document import Document
from chronik.search.match import Scope, compile_query
from chronik.search.query import QueryError
from chronik.search.query_string import parse
from chronik.search.rebatching import BATCH_BYTES
from chronik.search.saved import check_saved
from chronik.search.saved_messages import CountMatches, Piece, Select
from chronik.search.selecting import count, select
from chronik.wire.batches import HEADER_BYTES, LOG_APPEND_TIME_BIT, assemble
from chronik.wire.record_scan import write_varint
from chronik.wire.records import Codec, Record, check_produced, decode_records, encode_batch, split_batches, verify
from tests.log.compacting import ABORT, COMMIT, append_keyed, append_marker, compact
from tests.search.test_partition_index import SCANNER, Indexed

WORDS = [b"error", b"warn", b"Reset", b"connection", b"user42", b"\xff\xfe", "Größe".encode(), b"a-b"]
QUERIES = ["error", "reset AND NOT warn", "größe", "key:k3", "key:k*", "*", "413", "offset:[20 TO 60]", "user42 OR 17",
           "timestamp:<1970-01-01T00:00:30", "partition:1", "headers.h:x", "/b$/"]  # fmt: skip
TOPIC = bytes(16)


class Here:
    """The process that owns one partition."""

    scanner = SCANNER

    def __init__(self, indexed):
        self.indexed = indexed

    def index_of(self, partition):
        return self.indexed.index if partition == (TOPIC, 0) else None


class Clock:
    """Each look takes a millisecond."""

    now = 0.0

    def __call__(self):
        self.now += 0.001
        return self.now


def selected(indexed, query, start, upper, *, between=lambda: None, seconds=1e9, scan_bytes=1 << 40, max_bytes=1 << 40):
    """(answer, bytes of all batches)."""
    request = Select(
        topic="t", topic_id=TOPIC, partition=0, start=start, upper=upper, query=query, mapping="",
        seconds=seconds, scan_bytes=scan_bytes, max_bytes=max_bytes,
    )  # fmt: skip
    steps, data = select(Here(indexed), request, Clock()), b""
    while True:
        try:
            told = next(steps)
        except StopIteration as end:
            return end.value, data + end.value.data
        if isinstance(told, Piece):
            data += told.data
        between()


def records_in(data):
    """Every record of these batches, and what is true of all such batches checked."""
    found = []
    for position, header in split_batches(data):
        batch = data[position : position + header.size]
        verify(batch)
        assert (header.producer_id, header.producer_epoch, header.base_sequence) == (-1, -1, -1)
        assert header.attributes & ~LOG_APPEND_TIME_BIT == 0
        records = list(decode_records(batch, 1 << 27))
        assert len(records) == header.record_count > 0
        assert all(header.base_offset <= record.offset < header.next_offset for record in records)
        assert header.max_timestamp == max(record.timestamp for record in records)
        found += records
    return found


def truth(indexed, query, start, upper):
    """What a look at every record finds."""
    fits = compile_query(parse(query), Scope("t", 0, 0))
    return [
        record
        for offset, record in sorted(indexed.records().items())
        if start <= offset < upper
        and fits(Document(offset, record.timestamp, record.key, record.value, record.headers))
    ]


class SelectionTests(SynchronousTestCase):
    def fill(self, chance, batches):
        """A log of keyed batches, whole transactions among them, indexed to somewhere."""
        indexed = Indexed(compacted=True)
        for number in range(batches):
            records = [
                (b"k%d" % chance.randrange(30), None if chance.random() < 0.05 else self.value(chance))
                for _ in range(chance.randrange(1, 25))
            ]
            codec = chance.choice([Codec.NONE, Codec.LZ4, Codec.ZSTD])
            producer = chance.choice([-1, -1, 5, 6])
            options = {}
            if producer >= 0:
                options = {"producer_id": producer, "epoch": 0, "sequence": self.sequences.get(producer, 0)}
                self.sequences[producer] = options["sequence"] + len(records)
                if producer == 6:
                    options["transactional"] = True
            append_keyed(indexed.log, records, codec=codec, timestamp=1000 + number * 1500, **options)
            if producer == 6 and chance.random() < 0.7:
                append_marker(indexed.log, chance.choice([ABORT, COMMIT]), 6)
            if chance.random() < 0.1:
                indexed.log.roll(1000)
        indexed.follow()
        for _ in range(chance.randrange(30)):
            indexed.index.step()
        return indexed

    def value(self, chance):
        return b" ".join(chance.choices(WORDS, k=chance.randrange(1, 8))) + b" %d" % chance.randrange(500)

    def setUp(self):
        self.sequences = {}

    @given(st.integers(0, 2**32))
    @settings(max_examples=60, deadline=None)
    def test_whatever_the_log_is_like_and_whatever_happens_meanwhile(self, seed):
        """Transactions, compaction and cuts before; steps of the index, dropped tails and new files in between."""
        chance = random.Random(seed)
        self.sequences = {}
        indexed = self.fill(chance, chance.randrange(1, 60))
        if chance.random() < 0.5:
            indexed.log.flush()
            compact(indexed.log, indexed.disk, 10_000, upper=indexed.index.files.bounds.stable)
            for path in indexed.log.take_deleted():
                indexed.disk.remove(path)
        if chance.random() < 0.5:
            indexed.log.advance_start(chance.randrange(indexed.index.files.bounds.stable + 1))
        indexed.follow()
        bounds = indexed.index.files.bounds
        query = chance.choice(QUERIES)
        start = chance.randrange(bounds.start, bounds.stable + 1)
        expected = truth(indexed, query, start, bounds.stable)

        def between():
            act = chance.random()
            if act < 0.4:
                indexed.index.step()
            elif act < 0.5:
                indexed.index.drop_tail()
            elif act < 0.6:
                append_keyed(indexed.log, [(b"k3", b"error 413 17 user42")] * 5)
                indexed.follow()
            elif act < 0.7:
                indexed.log.generation += 1
                indexed.follow()
            elif act < 0.73:
                indexed.index.rebuild()

        found, at, rounds = [], start, 0
        while at < bounds.stable:
            answer, data = selected(
                indexed, query, at, bounds.stable, between=between,
                seconds=chance.choice([0.001, 0.05, 1e9]),
                scan_bytes=chance.choice([1, 5000, 1 << 30]),
                max_bytes=chance.choice([1, 300, 1 << 30]),
            )  # fmt: skip
            self.assertEqual(answer.failure, "")
            self.assertGreater(answer.reached, at)
            self.assertEqual([size for _, size in answer.ends], [h.size for _, h in split_batches(data)])
            self.assertEqual([end for end, _ in answer.ends], [h.next_offset for _, h in split_batches(data)])
            found += records_in(data)
            at, rounds = answer.reached, rounds + 1
        self.assertEqual(at, bounds.stable if start < bounds.stable else start)
        self.assertEqual(found, expected)

    @given(st.integers(0, 2**32))
    @settings(max_examples=20, deadline=None)
    def test_counts_by_windows_are_those_of_the_records(self, seed):
        chance = random.Random(seed)
        self.sequences = {}
        indexed = self.fill(chance, chance.randrange(1, 40))
        bounds = indexed.index.files.bounds
        query, per_ms = chance.choice(QUERIES), chance.choice([1000, 4000, 60_000])
        expected = {}
        for record in truth(indexed, query, bounds.start, bounds.stable):
            begin = record.timestamp // per_ms * per_ms
            expected[begin] = expected.get(begin, 0) + 1
        found, at = {}, bounds.start
        while at < bounds.stable:
            request = CountMatches(
                topic="t", topic_id=TOPIC, partition=0, start=at, upper=bounds.stable, query=query, mapping="",
                seconds=chance.choice([0.001, 1e9]), scan_bytes=chance.choice([1, 1 << 40]), per_ms=per_ms,
            )  # fmt: skip
            steps = count(Here(indexed), request, Clock())
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    counted = end.value
                    break
                indexed.index.step()
            self.assertGreater(counted.reached, at)
            at = counted.reached
            for begin, number in counted.windows:
                found[begin] = found.get(begin, 0) + number
        self.assertEqual(found, expected)

    def test_blocks_without_a_hit_are_passed_over(self):
        indexed = Indexed()
        for number in range(300):
            indexed.append([b"word%d %d" % (number, each) for each in range(100)], Codec.LZ4)
        indexed.settle()
        answer, data = selected(indexed, "word17", 0, 30_000)
        self.assertEqual([record.offset for record in records_in(data)], list(range(1700, 1800)))
        self.assertEqual(answer.reached, 30_000)
        self.assertGreater(answer.costs.pruned_by_signatures, answer.costs.blocks * 0.9)
        self.assertLess(answer.costs.scanned_bytes, 60_000)

    def test_a_batch_that_matches_as_a_whole_keeps_its_bytes(self):
        indexed = Indexed()
        records = [Record(n, 1000 + 7 * n, b"k", b"error", [("h", b"x"), ("n", None)]) for n in range(3)]
        batch = encode_batch(records, producer_id=9, producer_epoch=0, base_sequence=0)
        indexed.log.append(memoryview(batch), check_produced(batch), 4, 1000)
        indexed.follow()
        _, data = selected(indexed, "error", 0, 3)
        self.assertEqual(data[HEADER_BYTES:], batch[HEADER_BYTES:])
        self.assertEqual(next(split_batches(data))[1].partition_leader_epoch, 4)

    def test_large_batches_are_divided(self):
        """One that stands for 5 MB, of which all match: parts of at most a megabyte, and it may end between them."""
        indexed = Indexed()
        values = [b"error %d " % number + b"x" * 10_000 for number in range(500)]
        indexed.append([b"before"])
        indexed.append(values, Codec.ZSTD)
        indexed.follow()
        answer, data = selected(indexed, "error", 0, 501)
        headers = [header for _, header in split_batches(data)]
        self.assertGreater(len(headers), 4)
        self.assertLess(max(header.size for header in headers), BATCH_BYTES + 100)
        self.assertEqual([record.value for record in records_in(data)], values)
        self.assertEqual([record.timestamp for record in records_in(data)], list(range(1000, 1500)))
        self.assertEqual(headers[0].base_offset, 1)
        self.assertEqual([h.base_offset for h in headers[1:]], [h.next_offset for h in headers[:-1]])
        at, found = 0, []
        while at < 501:
            answer, data = selected(indexed, "error", at, 501, max_bytes=100)
            self.assertLess(len(data), BATCH_BYTES + 100)
            found += records_in(data)
            at = answer.reached
        self.assertEqual([record.value for record in found], values)

    def test_records_of_a_batch_in_no_order(self):
        """Whatever offsets a client has written into its batch, each record is there, once."""
        bodies = [(3, b"a"), (1, b"b"), (1, b"c"), (0, b"d"), (2, b"e")]
        section = b""
        for delta, value in bodies:
            value = value + b" error " + b"x" * 400_000
            body = b"\0\0" + write_varint(delta) + b"\1" + write_varint(len(value)) + value + b"\0"
            section += write_varint(len(body)) + body
        header = check_produced(encode_batch([Record(n, 1000, None, b"") for n in range(5)]))
        batch = assemble(header, section)
        indexed = Indexed()
        indexed.log.append(memoryview(batch), header, 0, 1000)
        indexed.follow()
        at, found = 0, []
        while at < 5:
            answer, data = selected(indexed, "error", at, 5, max_bytes=1)
            found += [(record.offset, record.value[:1]) for record in records_in(data)]
            at = answer.reached
        self.assertEqual(found, [(0, b"d"), (1, b"b"), (1, b"c"), (2, b"e"), (3, b"a")])

    def test_log_append_time_stays(self):
        indexed = Indexed()
        batch = encode_batch([Record(n, 1000 + n, None, b"error" if n % 2 else b"warn") for n in range(6)])
        header = check_produced(batch)._replace(attributes=LOG_APPEND_TIME_BIT, max_timestamp=77_000)
        batch = assemble(header, bytes(batch[HEADER_BYTES:]))
        indexed.log.append(memoryview(batch), check_produced(batch), 0, 1000)
        indexed.follow()
        _, data = selected(indexed, "error", 0, 6)
        self.assertEqual(
            [(record.offset, record.timestamp) for record in records_in(data)], [(n, 77_000) for n in (1, 3, 5)]
        )
        self.assertTrue(next(split_batches(data))[1].log_append_time)

    def test_a_damaged_log_is_read_as_far_as_it_goes(self):
        indexed = Indexed()
        for _ in range(3):
            indexed.append([b"error"])
        indexed.follow()
        content = next(content for path, content in indexed.disk._files.items() if path.endswith(".log"))
        content[-3] ^= 1
        answer, data = selected(indexed, "error", 0, 3)
        self.assertEqual(([r.offset for r in records_in(data)], answer.reached), ([0, 1], 2))
        self.assertIn("CRC", answer.failure)
        answer, data = selected(indexed, "error", 2, 3)
        self.assertEqual((answer.reached, data), (2, b""))

    def test_what_cannot_be_decoded_is_passed_over(self):
        indexed = Indexed()
        indexed.append([b"error"])
        batch = encode_batch([Record(0, 1, None, b"error")])
        bad = assemble(check_produced(batch), bytes(30))
        indexed.log.append(memoryview(bad), check_produced(bad), 0, 1000)
        indexed.append([b"error"])
        indexed.follow()
        answer, data = selected(indexed, "*", 0, 3)
        self.assertEqual([record.offset for record in records_in(data)], [0, 2])
        self.assertEqual(answer.costs.undecodable, 1)

    def test_a_partition_that_the_process_does_not_know(self):
        request = Select(
            topic="t", topic_id=TOPIC, partition=1, start=0, upper=5, query="a", mapping="", seconds=1, scan_bytes=1,
            max_bytes=1,
        )  # fmt: skip
        with self.assertRaises(StopIteration) as end:
            next(select(Here(Indexed()), request, Clock()))
        self.assertTrue(end.exception.value.unknown)

    def test_a_query_of_another_release(self):
        indexed = Indexed()
        indexed.append([b"x"])
        indexed.follow()
        self.assertRaises(QueryError, selected, indexed, "a AND (", 0, 1)


class CheckTests(SynchronousTestCase):
    """Which searches can be saved."""

    def test_what_can(self):
        for query in ("level:error", "timestamp:[2026-01-01 TO 2026-02-01]", "msg:now", "now", "a:[now-old TO x]", "*"):
            check_saved(query, "")
        check_saved("took:>5", '{"properties": {"took": {"type": "long"}}}')

    def test_what_cannot(self):
        for query, mapping, why in (
            ("a AND (", "", "position"),
            ("", "", ""),
            ("/(/", "", ""),
            ("timestamp:>now-1h", "", "now-1h"),
            ("timestamp:now", "", "now"),
            ("NOT (a OR at:[now/d TO now])", "", "now/d"),
            ("at:now-5m", '{"properties": {"at": {"type": "date"}}}', "now-5m"),
            ("a", "{", "mapping"),
            ("a", "[" * 100_000, "mapping"),
            ("a", '{"properties": {"a": {"type": "shape"}}}', "shape"),
            ("took:x", '{"properties": {"took": {"type": "long"}}}', "took"),
            ("a" * 20_000, "", "allowed"),
        ):
            with self.assertRaisesRegex(QueryError, why, msg=query[:50]):
                check_saved(query, mapping)
        self.assertNotIsInstance(QueryError(""), KafkaError)
