"""Compaction against a plain dictionary, on a disk that loses power: whatever is missing is missing for a reason.

The model keeps every record that was ever appended, and what became of its transaction. A record that the log doesn't have
any more must be superseded by a later one of its key, belong to an aborted transaction, be a delete marker past its horizon, or
lie below the log's start. All that are there are as they were, offset, timestamp, key and value.
"""

from __future__ import annotations

import contextlib
from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.trial.unittest import SynchronousTestCase

from chronik.log.cleaning import BYTES_PER_KEY
from chronik.log.log import Log, LogConfig
from chronik.log.simulated import SimulatedCrash, SimulatedDisk
from chronik.wire.compression import Codec
from tests.log.compacting import ABORT, COMMIT, append_keyed, append_marker, compact, read_all

DIRECTORY = "/data/topics/t-0"
RETENTION = 1000
CONFIG = LogConfig(
    compacted=True,
    segment_bytes=900,
    index_interval_bytes=200,
    retention_ms=-1,
    retention_bytes=-1,
    delete_retention_ms=RETENTION,
)
IDEMPOTENT, TRANSACTIONAL = 7, 8


class Model:
    """A log, and beside it what must be true of it."""

    def __init__(self, disk):
        self.disk = disk
        self.log = None
        self.now = 10_000
        self.records = {}  # offset: (key, value, timestamp, producer id)
        self.open_from = None  # the first offset of the open transaction
        self.aborted = []
        self.sequences = {IDEMPOTENT: 0, TRANSACTIONAL: 0}
        self.swept = {}  # offset of a delete marker: the time of the first pass over it that may have put a horizon
        self.start = 0
        self.durable_end = 0
        self.batches = []  # (base, next, producer, sequence), markers with sequence None

    def open(self, clean=False):
        self.log = Log.open(self.disk, DIRECTORY, CONFIG, self.now, clean)

    @property
    def stable(self):
        return self.log.end_offset if self.open_from is None else self.open_from

    def produce(self, pairs, codec, producer_id):
        base = self.log.end_offset
        options = {}
        if producer_id >= 0:
            options = {"producer_id": producer_id, "sequence": self.sequences[producer_id]}
        if producer_id == TRANSACTIONAL:
            options["transactional"] = True
        for index, (key, value) in enumerate(pairs):  # noted first: a crash may leave them
            self.records[base + index] = (key, value, self.now + index, producer_id)
        self.batches.append((base, base + len(pairs), producer_id, options.get("sequence")))
        if producer_id == TRANSACTIONAL and self.open_from is None:
            self.open_from = base
        append_keyed(self.log, pairs, codec=codec, timestamp=self.now, now_ms=self.now, **options)
        if producer_id >= 0:
            self.sequences[producer_id] += len(pairs)
        self.now += len(pairs)

    def end_transaction(self, kind):
        offset = self.log.end_offset
        self.batches.append((offset, offset + 1, TRANSACTIONAL, None))
        if kind == ABORT:
            self.aborted.append((TRANSACTIONAL, self.open_from, offset))
        self.open_from = None
        append_marker(self.log, kind, TRANSACTIONAL, timestamp=self.now)

    def flush(self):
        self.log.flush()
        self.durable_end = self.log.recovery_point

    def roll(self):
        self.log.roll(self.now)

    def compact(self, keys, between=lambda: None):
        segments = self.log.cleanable(self.now, self.stable)
        if segments:
            for offset, record in self.records.items():
                if record[1] is None and offset < segments[-1].next_offset:
                    self.swept.setdefault(offset, self.now)
        compact(
            self.log,
            self.disk,
            self.now,
            upper=self.stable,
            buffer_bytes=keys * BYTES_PER_KEY,
            between=between,
        )
        for path in self.log.take_deleted():
            self.disk.remove(path)

    def advance_start(self, offset):
        self.start = max(self.start, offset)
        self.log.advance_start(offset)

    def reopen(self):
        self.log.close()
        self.durable_end = self.log.end_offset
        self.open(clean=True)
        assert self.log.recovery is None

    def recover(self):
        """The node starts after a crash; the model forgets what the crash took."""
        self.open()
        end = self.log.end_offset
        assert end >= self.durable_end, (end, self.durable_end)
        assert not self.batches or end in {0, self.start, *(b[1] for b in self.batches)}, end
        self.records = {offset: record for offset, record in self.records.items() if offset < end}
        self.batches = [batch for batch in self.batches if batch[1] <= end]
        self.aborted = [each for each in self.aborted if each[2] < end]
        self.swept = {offset: when for offset, when in self.swept.items() if offset < end}
        for producer_id in self.sequences:
            mine = [b for b in self.batches if b[2] == producer_id and b[3] is not None]
            self.sequences[producer_id] = mine[-1][3] + mine[-1][1] - mine[-1][0] if mine else 0
        self.open_from = None
        for base, _, producer_id, sequence in self.batches:
            if producer_id == TRANSACTIONAL:
                self.open_from = None if sequence is None else base if self.open_from is None else self.open_from
        self.flush()

    def check(self):
        log = self.log
        batches = read_all(log)
        found = {record.offset: record for header, records in batches if not header.control for record in records}
        for offset, record in found.items():
            key, value, timestamp, _ = self.records[offset]
            assert (record.key, record.value, record.timestamp) == (key, value, timestamp), offset
        newest, stable = {}, self.stable
        for offset in sorted(self.records):
            key, _, _, producer_id = self.records[offset]
            if offset < stable and not self.is_aborted(offset, producer_id):
                newest[key] = offset
        for offset in self.records.keys() - found.keys():
            if offset < log.start_offset:
                continue
            key, value, _, producer_id = self.records[offset]
            if self.is_aborted(offset, producer_id) or newest.get(key, -1) > offset:
                continue
            assert value is None and self.swept[offset] + RETENTION <= self.now, (offset, key, value)
        ends = [header.base_offset for header, _ in batches]
        assert ends == sorted(ends)
        if log.end_offset > log.start_offset:
            assert batches[-1][0].next_offset == log.end_offset
        known = {entry.producer_id: entry.last_sequence for entry in log.producers.entries()}
        for producer_id, sequence in self.sequences.items():
            mine = [b for b in self.batches if b[2] == producer_id and b[3] is not None]
            if mine and mine[-1][0] >= log.start_offset:
                assert known[producer_id] == sequence - 1, (producer_id, known, sequence)

    def is_aborted(self, offset, producer_id):
        return any(pid == producer_id and first <= offset <= last for pid, first, last in self.aborted)


KEYS = st.sampled_from([b"a", b"b", b"c", b"d", b"a-key-of-more-than-fifteen-bytes", b""])
VALUES = st.sampled_from([b"x", b"y" * 40, b"", None])
PAIRS = st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=6)


class CompactedLogMachine(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed):
        disk = SimulatedDisk()
        disk.make_directory("/data/topics")
        self.random = Random(seed)
        self.model = Model(disk)
        self.model.open()

    @rule(
        pairs=PAIRS,
        codec=st.sampled_from(list(Codec)),
        producer_id=st.sampled_from([-1, -1, IDEMPOTENT, TRANSACTIONAL]),
    )
    def produce(self, pairs, codec, producer_id):
        self.model.produce(pairs, codec, producer_id)

    @precondition(lambda self: self.model.open_from is not None)
    @rule(kind=st.sampled_from([ABORT, COMMIT]))
    def end_transaction(self, kind):
        self.model.end_transaction(kind)

    @rule(keys=st.sampled_from([1, 3, 100]))
    def compact(self, keys):
        self.model.roll()
        self.model.flush()
        self.model.compact(keys)

    @rule()
    def compact_with_reads_between(self):
        self.model.roll()
        self.model.flush()
        self.model.compact(100, between=self.model.check)

    @rule(share=st.floats(0, 1))
    def give_up_the_start_while_compacting(self, share):
        """DeleteRecords between two steps of a swap."""
        model, once = self.model, []

        def between():
            if not once:
                once.append(1)
                model.advance_start(model.log.start_offset + int(share * (model.stable - model.log.start_offset)))
                model.flush()

        model.roll()
        model.flush()
        model.compact(100, between=between)
        model.flush()

    @rule(passed=st.sampled_from([1, RETENTION // 2, RETENTION]))
    def time_passes(self, passed):
        self.model.now += passed

    @rule(share=st.floats(0, 1))
    def delete_records(self, share):
        log = self.model.log
        self.model.advance_start(log.start_offset + int(share * (self.model.stable - log.start_offset)))

    @rule()
    def restart(self):
        self.model.reopen()

    @rule(operations=st.integers(1, 60), kill=st.booleans(), keys=st.sampled_from([2, 100]))
    def crash_while_compacting(self, operations, kill, keys):
        model = self.model
        model.disk.crash_at = model.disk.operations + operations
        try:
            model.roll()
            model.flush()
            model.compact(keys)
            model.produce([(b"a", b"z")], Codec.NONE, -1)
        except SimulatedCrash:
            pass
        if kill:
            model.disk.kill()
        else:
            model.disk.crash(self.random)
        model.recover()

    @invariant()
    def holds(self):
        if hasattr(self, "model"):
            self.model.check()


class ModelTests(SynchronousTestCase):
    def test_any_history(self):
        from hypothesis.stateful import run_state_machine_as_test

        run_state_machine_as_test(
            CompactedLogMachine,
            settings=settings(
                max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )


def fill(model):
    """A log with a few segments and something of everything, half of it clean."""
    random = Random(5)
    for step in range(30):
        pairs = [(b"k%d" % random.randrange(6), random.choice([b"v" * 60, None])) for _ in range(random.randint(1, 4))]
        model.produce(pairs, random.choice(list(Codec)), random.choice([-1, IDEMPOTENT, TRANSACTIONAL]))
        if model.open_from is not None and step % 3 == 0:
            model.end_transaction(random.choice([ABORT, COMMIT]))
        if step == 15:
            model.roll()
            model.flush()
            model.compact(100)
            model.now += RETENTION
    if model.open_from is not None:
        model.end_transaction(COMMIT)
    model.roll()
    model.flush()


class CutTests(SynchronousTestCase):
    def begin(self):
        disk = SimulatedDisk()
        disk.make_directory("/data/topics")
        model = Model(disk)
        model.open()
        fill(model)
        return model

    def test_a_crash_at_every_operation_of_a_compaction(self):
        """And after each, another at every operation of the recovery."""
        whole = self.begin()
        before = whole.disk.operations
        whole.compact(100)
        operations = whole.disk.operations - before
        self.assertGreater(operations, 30)
        for operation in range(1, operations + 1):
            for outcome in ("a", "b", "c", "kill"):
                again = 0
                while True:
                    model = self.begin()
                    model.disk.crash_at = model.disk.operations + operation
                    self.assertRaises(SimulatedCrash, model.compact, 100)
                    self.end(model, outcome)
                    if not again:
                        model.recover()
                        model.check()
                        model.compact(100)
                        model.check()
                    else:
                        model.disk.crash_at = model.disk.operations + again
                        try:
                            model.recover()
                        except SimulatedCrash:
                            self.end(model, outcome)
                            model.recover()
                        else:
                            model.check()
                            break
                        model.check()
                    again += 1
                    if outcome in "bc":
                        break

    def end(self, model, outcome):
        if outcome == "kill":
            model.disk.kill()
        else:
            model.disk.crash(Random(f"{model.disk.operations} {outcome}"))

    def test_a_stop_between_any_two_steps(self):
        """The node stops in order while a swap is under way: it is ended then."""
        for wanted in range(1, 12):
            model, passed = self.begin(), []

            def between(model=model, passed=passed, wanted=wanted):
                passed.append(1)
                if len(passed) == wanted:
                    model.log.close()

            model.compact(100, between=between)
            self.assertEqual([n for n in model.disk.list(DIRECTORY) if n.endswith(".swap")], [])
            model.open(clean=len(passed) >= wanted)
            model.check()

    def test_a_deleted_topic_between_any_two_steps(self):
        for wanted in range(1, 6):
            model, passed = self.begin(), []

            def between(model=model, passed=passed, wanted=wanted):
                passed.append(1)
                if len(passed) == wanted:
                    model.log.abandon()
                    model.disk.rename(DIRECTORY, DIRECTORY + ".deleted")

            with contextlib.suppress(FileNotFoundError):  # the job's own files went with the directory
                model.compact(100, between=between)
            self.assertFalse(model.disk.exists(DIRECTORY))
