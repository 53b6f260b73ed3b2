"""Transactions in one partition: what is stable, what a read_committed reader gets, who is woken when.

The stateful model beside it is a plain list of batches: what is visible is computed from it anew at every look. What the
partition gives is read as our own consumer reads it, and must be the same.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chronik.broker.checks import MAX_IDLE_CHECKS, TransactionChecks, UncheckedTransaction
from chronik.broker.compression_threads import CompressionThreads
from chronik.broker.partition import Partition
from chronik.broker.partition_transactions import append_marker, append_offsets
from chronik.broker.purgatory import WaitingFetch
from chronik.client.reading import PartitionReading
from chronik.errors import ErrorCode, KafkaError
from chronik.log.config import LogConfig
from chronik.log.log import Log
from chronik.log.simulated import SimulatedDisk
from chronik.model import PartitionId, PartitionState, TopicPartition, TransactionMarker
from chronik.telemetry.metrics import TopicMetrics
from chronik.topic_config import topic_settings
from chronik.wire.records import Record, encode_batch

NAME = TopicPartition("t", 0)
NOW = 1_700_000_000_000
CONFIG = LogConfig(segment_bytes=1500, index_interval_bytes=300)


def opened(disk: Any, clean: bool = True, **configs: str) -> Partition:
    log = Log.open(disk, "/t-0", CONFIG, NOW, clean)
    named = {key.replace("_", "."): value for key, value in configs.items()}
    return Partition(
        NAME,
        PartitionId(bytes(16), 0),
        log,
        PartitionState(0, (0,), (0,), 0, 1),
        topic_settings(named, {}),
        TopicMetrics("t"),
        lambda _: None,
        CompressionThreads(Clock(), 1, lambda _: None),
    )


def batch(
    producer_id: int = -1,
    epoch: int = 0,
    sequence: int = 0,
    *,
    records: int = 1,
    transactional: bool = False,
    value: bytes = b"v",
) -> bytearray:
    known = producer_id >= 0
    return encode_batch(
        [Record(index, NOW, None, value + b"%d" % index) for index in range(records)],
        producer_id=producer_id,
        producer_epoch=epoch if known else -1,
        base_sequence=sequence if known else -1,
        transactional=transactional,
    )


def begin(partition: Partition, producer_id: int, epoch: int = 0, sequence: int = 0, **options: Any) -> int:
    """Append a transactional batch, which the coordinator agrees to where it has to be asked; its base offset."""
    check = partition.transactions.check(producer_id, epoch, sequence, implicit=False)
    sent = batch(producer_id, epoch, sequence, transactional=True, **options)
    return partition.append(sent, NOW, -1, check).base_offset


def end(partition: Partition, producer_id: int, epoch: int = 0, *, commit: bool, coordinator_epoch: int = 0) -> int:
    return append_marker(partition, TransactionMarker(producer_id, epoch, commit, coordinator_epoch), NOW)


def sync(partition: Partition) -> None:
    """The disk has caught up."""
    partition.log.flush()
    partition.synced(partition.log.recovery_point)


def visible(partition: Partition, offset: int, max_bytes: int = 1 << 20) -> tuple[dict[int, bytes], int]:
    """What a read_committed consumer makes of one read: values by offset, and its position afterwards."""
    fetched = partition.read(offset, max_bytes, committed_only=True, at_least_one=True)
    reading = PartitionReading(NAME, offset)
    aborted = [(transaction.first_offset, transaction.producer_id) for transaction in fetched.aborted]
    reading.fill(fetched.records, partition.last_stable_offset, aborted)
    found: dict[int, bytes] = {}
    while (chunk := reading.take(1000, 1 << 20)) is not None:
        found.update({record.offset: record.value or b"" for record in chunk.records})
    return found, reading.position


class PartitionCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.disk = SimulatedDisk()
        self.partition = opened(self.disk)

    def code_of(self, function: Any, *args: Any, **options: Any) -> ErrorCode:
        error = self.assertRaises(KafkaError, function, *args, **options)
        return error.code


class StabilityTests(PartitionCase):
    def test_readers_stop_where_a_transaction_is_open(self) -> None:
        partition = self.partition
        partition.append(batch(), NOW)
        begin(partition, 1, records=3)
        partition.append(batch(), NOW)
        self.assertEqual((partition.last_stable_offset, partition.high_watermark), (1, 5))
        self.assertEqual(sorted(visible(partition, 0)[0]), [0])
        self.assertEqual(visible(partition, 1), ({}, 1))
        end(partition, 1, commit=True)
        self.assertEqual(partition.last_stable_offset, 6)
        self.assertEqual(sorted(visible(partition, 0)[0]), [0, 1, 2, 3, 4])

    def test_aborted_batches_are_told(self) -> None:
        partition = self.partition
        begin(partition, 1)
        end(partition, 1, commit=False)
        partition.append(batch(), NOW)
        fetched = partition.read(0, 1 << 20, committed_only=True, at_least_one=True)
        self.assertEqual([(a.producer_id, a.first_offset) for a in fetched.aborted], [(1, 0)])
        self.assertEqual(sorted(visible(partition, 0)[0]), [2])
        self.assertEqual(list(partition.read(2, 1 << 20, True, True).aborted), [])
        self.assertEqual(partition.read(0, 1 << 20, False, True).aborted, ())

    def test_a_marker_counts_when_it_is_committed(self) -> None:
        """Topics of durability fsync: until the marker is on disk, what it ends is not stable."""
        partition = opened(SimulatedDisk(), chronik_durability="fsync")
        begin(partition, 1)
        sync(partition)
        self.assertEqual((partition.high_watermark, partition.last_stable_offset), (1, 0))
        end(partition, 1, commit=True)
        self.assertEqual((partition.high_watermark, partition.last_stable_offset), (1, 0))
        sync(partition)
        self.assertEqual((partition.high_watermark, partition.last_stable_offset), (2, 2))

    def test_deleted_records_hold_nothing_back(self) -> None:
        begin(self.partition, 1)
        self.partition.append(batch(), NOW)
        self.partition.delete_records(2, lambda _: None)
        self.assertEqual(self.partition.last_stable_offset, 2)
        self.partition.append(batch(), NOW)
        self.assertEqual(self.partition.last_stable_offset, 2)
        end(self.partition, 1, commit=False)
        self.assertEqual(self.partition.last_stable_offset, 4)

    def test_recovered_logs_are_stable_as_before(self) -> None:
        begin(self.partition, 1)
        end(self.partition, 1, commit=False)
        begin(self.partition, 2)
        for clean in (True, False):
            self.partition.log.close() if clean else self.disk.kill()
            self.partition = opened(self.disk, clean)
            self.assertEqual(self.partition.last_stable_offset, 2)
            self.assertEqual(visible(self.partition, 0), ({}, 2))


class WaitingTests(PartitionCase):
    def waiter(self, missing: int) -> WaitingFetch:
        waiting = WaitingFetch(missing, lambda _: None)
        waiting.watch(self.partition.stable_waiters)
        return waiting

    def test_without_transactions_bytes_are_counted(self) -> None:
        waiting = self.waiter(100)
        self.partition.append(batch(), NOW)
        self.assertFalse(waiting.is_ready)
        self.partition.append(batch(), NOW)
        self.assertTrue(waiting.is_ready)

    def test_what_is_not_stable_wakes_nobody(self) -> None:
        begin(self.partition, 1)
        waiting = self.waiter(1)
        begin(self.partition, 1, sequence=1)
        self.partition.append(batch(), NOW)
        self.assertFalse(waiting.is_ready)
        end(self.partition, 1, commit=True)
        self.assertTrue(waiting.is_ready)

    def test_they_are_woken_as_soon_as_the_last_stable_offset_moves(self) -> None:
        """However few bytes the marker has: what lay before it can be read now."""
        begin(self.partition, 1)
        begin(self.partition, 2)
        waiting = self.waiter(10**6)
        end(self.partition, 2, commit=True)
        self.assertFalse(waiting.is_ready)
        end(self.partition, 1, commit=False)
        self.assertTrue(waiting.is_ready)

    def test_resigning_wakes(self) -> None:
        waiting = self.waiter(1)
        self.partition.resign(KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER))
        self.assertTrue(waiting.is_ready)


class CheckTests(PartitionCase):
    def test_the_first_batch_must_be_agreed_to(self) -> None:
        sent = batch(1, transactional=True)
        error = self.assertRaises(UncheckedTransaction, self.partition.append, sent, NOW)
        self.assertEqual((error.code, error.header.producer_id), (ErrorCode.INVALID_TXN_STATE, 1))
        self.assertEqual(self.partition.log.end_offset, 0)
        begin(self.partition, 1)
        self.partition.append(batch(1, 0, 1, transactional=True), NOW)
        self.assertIsNone(self.partition.transactions.check(1, 0, 2, implicit=False))

    def test_a_retry_needs_no_agreement(self) -> None:
        begin(self.partition, 1)
        end(self.partition, 1, commit=True)
        again = self.partition.append(batch(1, transactional=True), NOW)
        self.assertEqual((again.base_offset, self.partition.log.end_offset), (0, 2))

    def test_another_epoch_is_another_transaction(self) -> None:
        begin(self.partition, 1)
        self.assertRaises(UncheckedTransaction, self.partition.append, batch(1, 1, transactional=True), NOW)
        stale = batch(1, 0, 1, transactional=True)
        end(self.partition, 1, 1, commit=False)
        self.assertEqual(self.code_of(self.partition.append, stale, NOW), ErrorCode.INVALID_PRODUCER_EPOCH)

    def test_a_marker_takes_the_agreement_away(self) -> None:
        """Agreed for a transaction that was aborted meanwhile, by its timeout: the batch would stay open for ever."""
        check = self.partition.transactions.check(1, 0, 0, implicit=False)
        end(self.partition, 1, commit=False)
        code = self.code_of(self.partition.append, batch(1, transactional=True), NOW, -1, check)
        self.assertEqual((code, self.partition.last_stable_offset), (ErrorCode.INVALID_TXN_STATE, 1))

    def test_a_gap_at_the_beginning_is_refused(self) -> None:
        """The first batch was refused; the second, which its producer sent behind it, must not come first."""
        self.partition.transactions.check(1, 0, 0, implicit=False)
        check = self.partition.transactions.check(1, 0, 5, implicit=False)
        code = self.code_of(self.partition.append, batch(1, 0, 5, transactional=True), NOW, -1, check)
        self.assertEqual(code, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER)
        begin(self.partition, 1)

    def test_an_unknown_producer_of_transactions_v2_begins_at_0(self) -> None:
        check = self.partition.transactions.check(1, 0, 5, implicit=True)
        code = self.code_of(self.partition.append, batch(1, 0, 5, transactional=True), NOW, -1, check)
        self.assertEqual(code, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER)
        begin(self.partition, 2, sequence=5)  # v1

    def test_limits_come_after_the_agreement_and_count(self) -> None:
        partition = opened(SimulatedDisk(), max_message_bytes="200")
        check = partition.transactions.check(1, 0, 0, implicit=False)
        large = batch(1, transactional=True, value=b"x" * 300)
        self.assertEqual(self.code_of(partition.append, large, NOW, -1, check), ErrorCode.MESSAGE_TOO_LARGE)
        begin(partition, 1)

    def test_received_messages_are_counted_once(self) -> None:
        sent = batch(1, transactional=True)
        self.assertRaises(UncheckedTransaction, self.partition.append, sent, NOW)
        self.partition.append(sent, NOW, -1, self.partition.transactions.check(1, 0, 0, implicit=False))
        metrics = self.partition.metrics
        self.assertEqual((metrics.messages_received, metrics.messages_stored), (1, 1))

    def test_what_coordinators_write_is_for_all_replicas(self) -> None:
        """As acks=all: where too few replicas are in sync it is refused, and tried again later."""
        partition = opened(self.disk, min_insync_replicas="2")
        begin(partition, 7)
        partition.update(PartitionState(0, (0, 1, 2), (0,), 0, 1))
        lacking = ErrorCode.NOT_ENOUGH_REPLICAS
        self.assertEqual(self.code_of(end, partition, 7, commit=True), lacking)
        offsets = batch(7, sequence=-1, transactional=True)
        self.assertEqual(self.code_of(append_offsets, partition, offsets, NOW, None), lacking)
        self.assertEqual(partition.log.end_offset, 1)
        partition.update(PartitionState(0, (0, 1, 2), (0, 1), 0, 1))
        append_offsets(partition, batch(7, sequence=-1, transactional=True), NOW, None)
        self.assertEqual(end(partition, 7, commit=True), 3)

    def test_idle_checks_are_bounded(self) -> None:
        checks = TransactionChecks()
        waited_for = checks.begin(0, 0, 0, False)
        waited_for.waiting.append(None)
        for producer_id in range(1, 2 * MAX_IDLE_CHECKS):
            checks.begin(producer_id, 0, 0, False)
        self.assertLessEqual(len(checks._checks), MAX_IDLE_CHECKS)
        self.assertIs(checks.begin(0, 0, 0, False), waited_for)

    def test_offsets_of_the_group_coordinator_have_no_sequence(self) -> None:
        partition = self.partition
        commit = encode_batch([Record(0, NOW, b"k", b"v")], producer_id=1, producer_epoch=0, transactional=True)
        self.assertRaises(UncheckedTransaction, append_offsets, partition, bytearray(commit), NOW, None)
        check = partition.transactions.check(1, 0, -1, implicit=False)
        for expected in (0, 1, 2):
            self.assertEqual(append_offsets(partition, bytearray(commit), NOW, check)[0], expected)
        self.assertEqual((partition.last_stable_offset, partition.high_watermark), (0, 3))
        end(partition, 1, 1, commit=True)
        self.assertEqual(partition.last_stable_offset, 4)
        code = self.code_of(append_offsets, partition, bytearray(commit), NOW, check)
        self.assertEqual(code, ErrorCode.INVALID_PRODUCER_EPOCH)
        partition.log.close()
        self.assertEqual(opened(self.disk).last_stable_offset, 4)


class Transaction:
    """One transaction of the model: its producer, first offset, and how it ended at which offset."""

    def __init__(self, producer_id: int, first: int) -> None:
        self.producer_id = producer_id
        self.first = first
        self.marker: int | None = None
        self.committed = False


class PartitionModel(RuleBasedStateMachine):
    """`values` has every record by offset, with its transaction; `open` the transactions without a marker."""

    PRODUCERS = (1, 2, 3)

    def __init__(self) -> None:
        super().__init__()
        self.disk = SimulatedDisk()
        self.partition = opened(self.disk, chronik_durability="fsync")
        self.values: dict[int, tuple[bytes, Transaction | None]] = {}
        self.transactions: list[Transaction] = []
        self.open: dict[int, Transaction] = {}
        self.epochs = dict.fromkeys(self.PRODUCERS, 0)
        self.sequences = dict.fromkeys(self.PRODUCERS, 0)
        self.end = self.start = self.high_watermark = 0
        self.written = 0

    def note(self, records: int, transaction: Transaction | None, value: bytes) -> None:
        for index in range(records):
            self.values[self.end + index] = value + b"%d" % index, transaction
        self.end += records

    def value(self, size: int) -> bytes:
        self.written += 1
        return b"%d " % self.written + b"." * size

    @rule(records=st.integers(1, 3), size=st.sampled_from([1, 50, 300]))
    def plain(self, records: int, size: int) -> None:
        value = self.value(size)
        assert self.partition.append(batch(records=records, value=value), NOW).base_offset == self.end
        self.note(records, None, value)

    @rule(producer_id=st.sampled_from(PRODUCERS), records=st.integers(1, 3), size=st.sampled_from([1, 50, 300]))
    def transact(self, producer_id: int, records: int, size: int) -> None:
        value, epoch, sequence = self.value(size), self.epochs[producer_id], self.sequences[producer_id]
        base = begin(self.partition, producer_id, epoch, sequence, records=records, value=value)
        assert base == self.end
        self.sequences[producer_id] += records
        transaction = self.open.get(producer_id)
        if transaction is None:
            transaction = self.open[producer_id] = Transaction(producer_id, base)
            self.transactions.append(transaction)
        self.note(records, transaction, value)

    @rule(producer_id=st.sampled_from(PRODUCERS), commit=st.booleans(), newer=st.booleans())
    def finish(self, producer_id: int, commit: bool, newer: bool) -> None:
        if newer:
            self.epochs[producer_id] += 1
            self.sequences[producer_id] = 0
        assert end(self.partition, producer_id, self.epochs[producer_id], commit=commit) == self.end + 1
        transaction = self.open.pop(producer_id, None)
        if transaction is not None:
            transaction.marker, transaction.committed = self.end, commit
        self.end += 1

    @rule(producer_id=st.sampled_from(PRODUCERS))
    def zombie(self, producer_id: int) -> None:
        """What is of an older epoch, or outside of a transaction that is open, changes nothing."""
        epoch, sequence = self.epochs[producer_id], self.sequences[producer_id]
        known = {entry.producer_id for entry in self.partition.producers()}
        refused = []
        if epoch and producer_id in known:
            refused.append((batch(producer_id, epoch - 1, sequence, transactional=True), "INVALID_PRODUCER_EPOCH"))
        if producer_id in self.open:
            refused.append((batch(producer_id, epoch, sequence), "INVALID_TXN_STATE"))
        for sent, code in refused:
            try:
                self.partition.append(sent, NOW)
            except KafkaError as error:
                assert error.code.name == code, error
            else:
                raise AssertionError(code)

    @rule()
    def sync(self) -> None:
        sync(self.partition)
        self.high_watermark = self.end

    @rule(data=st.data())
    def delete_records(self, data: st.DataObject) -> None:
        self.start = data.draw(st.integers(self.start, self.high_watermark))
        self.partition.delete_records(self.start, lambda _: None)

    @precondition(lambda self: self.end > self.start)
    @rule(clean=st.booleans())
    def restart(self, clean: bool) -> None:
        if clean:
            self.partition.log.close()
        else:
            self.partition.log.flush()
            self.disk.kill()
        self.partition = opened(self.disk, clean, chronik_durability="fsync")
        self.high_watermark = self.end

    @rule(data=st.data(), max_bytes=st.sampled_from([1, 400, 1200, 1 << 20]))
    def read(self, data: st.DataObject, max_bytes: int) -> None:
        stable = self.stable()
        offset = data.draw(st.integers(self.start, max(self.start, stable)))
        found, position = visible(self.partition, offset, max_bytes)
        assert position <= stable or position == offset
        if offset < stable:
            assert position > offset
        wanted = {
            place: value
            for place, (value, transaction) in self.values.items()
            if offset <= place < position and (transaction is None or transaction.committed)
        }
        assert found == wanted, (offset, position)

    def stable(self) -> int:
        undecided = [t.first for t in self.transactions if t.marker is None or t.marker >= self.high_watermark]
        return max(self.start, min([self.high_watermark, *undecided]))

    @invariant()
    def bounds(self) -> None:
        partition = self.partition
        assert (partition.log.end_offset, partition.high_watermark) == (self.end, self.high_watermark)
        assert partition.log_start_offset == self.start
        if self.high_watermark >= self.start:
            assert partition.last_stable_offset == self.stable(), (partition.last_stable_offset, self.stable())


class ModelTests(SynchronousTestCase):
    def test_model(self) -> None:
        chosen = settings(
            max_examples=150, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
        )
        run_state_machine_as_test(PartitionModel, settings=chosen)
