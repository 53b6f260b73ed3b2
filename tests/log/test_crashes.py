"""A log on a disk that loses power: at every single operation of a workload, with several outcomes for what wasn't synced."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from chronik.errors import CorruptLogError, StorageError
from chronik.log.aborted import NEVER
from chronik.log.log import Log, LogConfig
from chronik.log.simulated import SimulatedCrash, SimulatedDisk
from chronik.model import TransactionMarker
from chronik.wire.markers import encode_marker
from chronik.wire.records import assign_offsets, check_produced, read_header, split_batches
from tests.log.batches import produced

DIRECTORY = "/data/topics/t-0"
CONFIG = LogConfig(segment_bytes=1500, index_interval_bytes=200, retention_bytes=4000, retention_ms=-1)
STEPS = 45
IDEMPOTENT = (7, 8)
TRANSACTIONAL = (20, 21, 22)


class Batch(NamedTuple):
    """One batch that was or may have been appended. `kind`: plain, transactional, or the marker that it is."""

    base: int
    end: int
    data: bytes
    producer_id: int
    sequence: int
    kind: str = "plain"


def transactions(batches):
    """What is open and what was aborted after `batches`: {producer id: first offset}, [(id, first, last, last stable)]."""
    still_open, aborted = {}, []
    for batch in batches:
        if batch.kind == "transactional":
            still_open.setdefault(batch.producer_id, batch.base)
        elif batch.kind != "plain":
            first = still_open.pop(batch.producer_id, None)
            if first is not None and batch.kind == "abort":
                stable = min([*still_open.values(), batch.end])
                aborted.append((batch.producer_id, first, batch.base, stable))
    return still_open, aborted


class Workload:
    """Random steps on a log, and beside them what must be true: batches, what is durable, where the start may be."""

    def __init__(self, seed):
        self.disk = SimulatedDisk()
        self.disk.make_directory("/data/topics")
        self.disk.operations = 0
        self.random = Random(seed)
        self.batches = []
        self.durable_end = 0
        self.empty_end = 0  # where the log ends while it has no batches
        self.cutting_to = None  # where a truncation that is under way ends the log
        self.durable_start = 0
        self.asked_start = 0
        self.sequences = {}
        self.epochs = {}
        self.epoch = 0
        self.log = None

    @property
    def end(self):
        return self.batches[-1][1] if self.batches else self.empty_end

    def run(self):
        self.log = Log.open(self.disk, DIRECTORY, CONFIG, 0)
        for step in range(STEPS):
            name = self.random.choices(
                [
                    "append",
                    "transact",
                    "end",
                    "flush",
                    "flush_between",
                    "advance",
                    "retain",
                    "reopen",
                    "elect",
                    "truncate",
                ],
                [35, 15, 15, 12, 8, 5, 5, 3, 4, 4],
            )[0]
            getattr(self, "end_transaction" if name == "end" else name)(step)
            self.durable_start = self.log.durable_start

    def append(self, step):
        self.write(step, self.random.choice([-1, *IDEMPOTENT]))

    def transact(self, step):
        self.write(step, self.random.choice(TRANSACTIONAL), "transactional")

    def write(self, step, producer_id, kind="plain"):
        records = self.random.randint(1, 4)
        sequence = self.sequences.get(producer_id, 0)
        batch, header = produced(
            records,
            timestamp=step * 10,
            producer_id=producer_id,
            sequence=sequence,
            size=self.random.choice([5, 60, 300]),
            epoch=self.epochs.get(producer_id, 0),
            transactional=kind == "transactional",
        )
        # Noted first: a crash in the append may leave the batch.
        base = self.end
        patched = bytearray(batch)
        patched[0:8], patched[12:16] = base.to_bytes(8, "big"), self.epoch.to_bytes(4, "big")
        self.batches.append(Batch(base, base + records, bytes(patched), producer_id, sequence, kind))
        if producer_id >= 0:
            self.sequences[producer_id] = sequence + records
        assert self.log.append(memoryview(batch), header, self.epoch, step) == base

    def end_transaction(self, step):
        """A marker, also where nothing is open; now and then with a newer epoch, as KIP-890 has it."""
        producer_id, kind = self.random.choice(TRANSACTIONAL), self.random.choice(["commit", "abort"])
        epoch = self.epochs.get(producer_id, 0) + self.random.choice([0, 1])
        marker = TransactionMarker(producer_id, epoch, kind == "commit", 0)
        base = self.end
        patched = encode_marker(marker, step)
        patched[0:8], patched[12:16] = base.to_bytes(8, "big"), self.epoch.to_bytes(4, "big")
        self.batches.append(Batch(base, base + 1, bytes(patched), producer_id, -1, kind))
        if epoch != self.epochs.get(producer_id, 0):
            self.epochs[producer_id], self.sequences[producer_id] = epoch, 0
        assert self.log.append_marker(marker, self.epoch, step)[0] == base + 1

    def flush(self, step):
        self.log.flush()
        self.durable_end = max(self.durable_end, self.log.recovery_point)

    def flush_between(self, step):
        flush = self.log.begin_flush()
        self.append(step)
        if flush is not None:
            flush.run()
            if self.random.random() < 0.5:
                self.append(step)
            self.log.end_flush(flush)
        self.durable_end = max(self.durable_end, self.log.recovery_point)

    def advance(self, step):
        if self.end > self.log.start_offset:
            self.asked_start = max(self.asked_start, self.random.randint(self.log.start_offset, self.end))
            self.log.advance_start(self.asked_start)

    def retain(self, step):
        count = self.log.expired_segments(step, self.end)
        if count:
            segments = self.log.segments
            start = segments[count].base_offset if count < len(segments) else self.end
            self.asked_start = max(self.asked_start, start)
            self.log.delete_oldest(count, step)
        for path in self.log.take_deleted():
            self.disk.remove(path)

    def reopen(self, step):
        self.log.close()
        self.durable_end = self.end
        self.durable_start = self.log.durable_start
        assert self.durable_start == self.log.start_offset
        self.log = Log.open(self.disk, DIRECTORY, CONFIG, step, clean=True)
        assert self.log.recovery is None

    def truncate(self, step):
        """As a follower whose leader lacks the end: the batches are forgotten when that is done, a crash may keep them."""
        start = self.log.start_offset
        offset = self.random.randint(start, self.end)
        kept = [b for b in self.batches if b[1] <= offset]
        end = kept[-1][1] if kept else 0
        if offset == self.end:
            return
        if end <= max(start, self.log.segments[0].base_offset):
            kept, end = [], start
        self.durable_end = min(self.durable_end, end)
        self.cutting_to = end
        self.log.truncate_to(offset, step)
        self.cutting_to = None
        assert self.log.end_offset == end, (self.log.end_offset, end, offset)
        before = [b for b in self.batches if b[1] <= end]
        self.sequences, self.epochs = {}, {}
        for batch in before:
            header = read_header(batch.data)
            if self.epochs.get(batch.producer_id, 0) != header.producer_epoch:
                self.sequences[batch.producer_id] = 0
            if batch.producer_id >= 0:
                self.epochs[batch.producer_id] = header.producer_epoch
            if batch.sequence >= 0 and batch.producer_id >= 0:
                self.sequences[batch.producer_id] = batch.sequence + batch.end - batch.base
        self.batches, self.empty_end, self.epoch = kept, end, self.epoch + 1

    def elect(self, step):
        self.epoch += 1


class CrashTests(SynchronousTestCase):
    def check(self, workload, where, clean=False):
        """Everything that has to hold of the log after it was opened again."""
        log = Log.open(workload.disk, DIRECTORY, CONFIG, 10_000, clean)
        self.assertGreaterEqual(log.end_offset, workload.durable_end, where)
        self.assertLessEqual(log.end_offset, max(workload.end, workload.asked_start), where)
        self.assertGreaterEqual(log.start_offset, workload.durable_start, where)
        self.assertLessEqual(log.start_offset, workload.asked_start, where)
        wanted = [b for b in workload.batches if b[1] > log.start_offset and b[1] <= log.end_offset]
        offset, found = log.start_offset, []
        while offset < log.end_offset:
            data = log.read(offset, 700, log.end_offset)[0]
            self.assertTrue(data, where)
            for position, header in split_batches(data):
                found.append((header.base_offset, bytes(data[position : position + header.size])))
                offset = header.next_offset
        self.assertEqual(found, [(b[0], b[2]) for b in wanted], where)
        end = log.end_offset
        self.check_transactions(workload, log, end, where)
        remembered = {entry.producer_id: entry for entry in log.producers.entries()}
        newest = {b[3]: b for b in wanted if b[3] in IDEMPOTENT}
        for producer_id, batch in newest.items():
            self.assertEqual(remembered[producer_id].last_sequence, batch[4] + batch[1] - batch[0] - 1, where)
        for batch in newest.values():
            retry, header = produced_again(batch)
            self.assertEqual(log.append(retry, header, 99, 10_000), batch[0], where)
        self.assertEqual(log.end_offset, end, where)
        for producer_id in IDEMPOTENT:
            lost = [b for b in workload.batches if b[3] == producer_id and b[0] >= end]
            for batch in lost[:1]:
                retry, header = produced_again(batch)
                base = log.append(retry, header, 99, 10_000)
                self.assertGreaterEqual(base, end, where)
                self.assertEqual(log.append(*produced_again(batch), 99, 10_000), base, where)
        log.close()
        again = Log.open(workload.disk, DIRECTORY, CONFIG, 10_000, clean=True)
        self.assertIsNone(again.recovery)
        self.assertEqual((again.start_offset, again.end_offset), (log.start_offset, log.end_offset), where)
        self.assertEqual(again.epochs.entries(), log.epochs.entries(), where)
        self.check_transactions(workload, again, end, where)

    def check_transactions(self, workload, log, end, where):
        """What is open and what was aborted is a matter of the batches that are left before `end`."""
        left = [batch for batch in workload.batches if batch.end <= end]
        if not log.size_bytes:
            left = []
        still_open, aborted = transactions(left)
        self.assertEqual(log.producers.first_unstable, min(still_open.values(), default=NEVER), where)
        entries = {entry.producer_id: entry.transaction_first_offset for entry in log.producers.entries()}
        for producer_id in TRANSACTIONAL:
            self.assertEqual(entries.get(producer_id, -1), still_open.get(producer_id, -1), where)
        start = log.start_offset
        for offset, upper in ((start, end), ((start + end) // 2, end), (start, (start + end) // 2)):
            wanted = [entry for entry in aborted if entry[2] >= offset and entry[1] < upper]
            self.assertEqual([tuple(entry) for entry in log.aborted_between(offset, upper)], wanted, where)

    def cut_everywhere(self, seed, outcomes):
        whole = Workload(seed)
        whole.run()
        self.assertGreater(len(whole.log.segments) + len(whole.log.take_deleted()), 1)
        for operation in range(1, whole.disk.operations + 1):
            for outcome in outcomes:
                workload = Workload(seed)
                workload.disk.crash_at = operation
                self.assertRaises(SimulatedCrash, workload.run)
                if outcome == "kill":
                    workload.disk.kill()
                    # Nothing that was written is lost.
                    reached = workload.log.end_offset if workload.log else 0
                    if workload.cutting_to is not None:
                        reached = workload.cutting_to
                    acknowledged = [b for b in workload.batches if b[1] <= reached]
                    if acknowledged:
                        workload.durable_end = max(workload.durable_end, acknowledged[-1][1])
                else:
                    workload.disk.crash(Random(f"{seed} {operation} {outcome}"))
                self.check(workload, f"seed {seed}, operation {operation}, outcome {outcome}")
        return whole.disk.operations

    def test_power_loss_at_every_operation(self):
        cuts = sum(self.cut_everywhere(seed, ["a", "b", "kill"]) for seed in range(3))
        self.assertGreater(cuts, 300)

    def test_crash_during_recovery(self):
        """A second crash, at each operation of the recovery from the first."""
        for seed in range(4):
            operation = 0
            while True:
                operation += 1
                workload = Workload(seed)
                workload.disk.crash_at = 120
                self.assertRaises(SimulatedCrash, workload.run)
                workload.disk.crash(Random(seed))
                workload.disk.crash_at = workload.disk.operations + operation
                try:
                    log = Log.open(workload.disk, DIRECTORY, CONFIG, 1)
                    log.close()
                except SimulatedCrash:
                    workload.disk.crash(Random(f"{seed} {operation}"))
                    self.check(workload, f"seed {seed}, second crash at {operation}")
                else:
                    break
            self.assertGreater(operation, 2)


def produced_again(batch):
    """What the producer sent for a batch: (writable bytes, header)."""
    sent = bytearray(batch[2])
    assign_offsets(sent, 0, -1)
    return memoryview(sent), check_produced(sent)


class DamageTests(SynchronousTestCase):
    def filled(self, close):
        disk = SimulatedDisk()
        log = Log.open(disk, DIRECTORY, CONFIG, 0)
        for index in range(10):
            batch, header = produced(1, size=100)
            log.append(memoryview(batch), header, 0, index)
        log.flush()
        if close:
            log.close()
        return disk, log

    def test_damage_below_the_recovery_point_is_told_and_nothing_is_cut(self):
        disk, log = self.filled(close=True)
        path = log.segments[-1].path(".log")
        size = disk.size(path)
        disk.damage(path, 100)
        error = self.assertRaises(CorruptLogError, Log.open, disk, DIRECTORY, CONFIG, 0)
        self.assertIn(DIRECTORY, str(error))
        self.assertIn("restore", str(error))
        self.assertEqual(disk.size(path), size)

    def test_a_missing_segment_is_told(self):
        disk, _ = self.filled(close=True)
        for name in disk.list(DIRECTORY):
            if name.endswith(".log"):
                disk.remove(f"{DIRECTORY}/{name}")
        self.assertRaises(CorruptLogError, Log.open, disk, DIRECTORY, CONFIG, 0)

    def test_a_failed_sync_latches(self):
        disk, log = self.filled(close=False)
        batch, header = produced()
        log.append(memoryview(batch), header, 0, 0)
        disk.fail("datasync", ".log", OSError(5, "Input/output error"))
        self.assertRaises(StorageError, log.flush)
        self.assertLess(log.recovery_point, log.end_offset)
