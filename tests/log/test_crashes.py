"""A log on a disk that loses power: at every single operation of a workload, with several outcomes for what wasn't synced."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from chronik.errors import CorruptLogError, StorageError
from chronik.log.log import Log, LogConfig
from chronik.log.simulated import SimulatedCrash, SimulatedDisk
from chronik.wire.records import assign_offsets, check_produced, split_batches
from tests.log.batches import produced

DIRECTORY = "/data/topics/t-0"
CONFIG = LogConfig(segment_bytes=1500, index_interval_bytes=200, retention_bytes=4000, retention_ms=-1)
STEPS = 45


class Workload:
    """Random steps on a log, and beside them what must be true: batches, what is durable, where the start may be."""

    def __init__(self, seed):
        self.disk = SimulatedDisk()
        self.disk.make_directory("/data/topics")
        self.disk.operations = 0
        self.random = Random(seed)
        self.batches = []  # (base offset, next offset, bytes, producer id, sequence)
        self.durable_end = 0
        self.empty_end = 0  # where the log ends while it has no batches
        self.cutting_to = None  # where a truncation that is under way ends the log
        self.durable_start = 0
        self.asked_start = 0
        self.sequences = {}
        self.epoch = 0
        self.log = None

    @property
    def end(self):
        return self.batches[-1][1] if self.batches else self.empty_end

    def run(self):
        self.log = Log.open(self.disk, DIRECTORY, CONFIG, 0)
        for step in range(STEPS):
            name = self.random.choices(
                ["append", "flush", "flush_between", "advance", "retain", "reopen", "elect", "truncate"],
                [60, 12, 8, 5, 5, 3, 4, 4],
            )[0]
            getattr(self, name)(step)
            self.durable_start = self.log.durable_start

    def append(self, step):
        records, producer_id = self.random.randint(1, 4), self.random.choice([-1, 7, 8])
        sequence = self.sequences.get(producer_id, 0)
        batch, header = produced(
            records,
            timestamp=step * 10,
            producer_id=producer_id,
            sequence=sequence,
            size=self.random.choice([5, 60, 300]),
        )
        # Noted first: a crash in the append may leave the batch.
        base = self.end
        patched = bytearray(batch)
        patched[0:8], patched[12:16] = base.to_bytes(8, "big"), self.epoch.to_bytes(4, "big")
        self.batches.append((base, base + records, bytes(patched), producer_id, sequence))
        if producer_id >= 0:
            self.sequences[producer_id] = sequence + records
        assert self.log.append(memoryview(batch), header, self.epoch, step) == base

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
        self.sequences = {b[3]: b[4] + b[1] - b[0] for b in before if b[3] >= 0}
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
        remembered = {entry.producer_id: entry for entry in log.producers.entries()}
        newest = {b[3]: b for b in wanted if b[3] >= 0}
        for producer_id, batch in newest.items():
            self.assertEqual(remembered[producer_id].last_sequence, batch[4] + batch[1] - batch[0] - 1, where)
        end = log.end_offset
        for batch in newest.values():
            retry, header = produced_again(batch)
            self.assertEqual(log.append(retry, header, 99, 10_000), batch[0], where)
        self.assertEqual(log.end_offset, end, where)
        for producer_id in (7, 8):
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
