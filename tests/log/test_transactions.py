"""Transactions in a log: what is open, what was aborted, and that both outlive restarts, cuts and lost files."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chronik.errors import ErrorCode, KafkaError
from chronik.log.aborted import NEVER, AbortedTransaction, AbortedTransactions
from chronik.log.log import Log, LogConfig
from chronik.log.memory import MemoryDisk
from chronik.log.snapshot import decode_snapshot, encode_snapshot
from chronik.model import TransactionMarker
from chronik.wire.records import split_batches
from tests.log.batches import append, end

DIRECTORY = "/t-0"
CONFIG = LogConfig(segment_bytes=1000, index_interval_bytes=300)


class LogCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.disk = MemoryDisk()
        self.log = self.opened()
        self.sequences: dict[int, int] = {}

    def opened(self, clean: bool = True) -> Log:
        return Log.open(self.disk, DIRECTORY, CONFIG, 0, clean)

    def reopen(self, clean: bool = True) -> None:
        if clean:
            self.log.close()
        self.log = self.opened(clean)

    def write(self, producer_id: int, epoch: int = 0, records: int = 1, *, size: int = 20) -> int:
        """A transactional batch, in sequence."""
        sequence = self.sequences.get(producer_id, 0)
        self.sequences[producer_id] = sequence + records
        options = {"producer_id": producer_id, "epoch": epoch, "sequence": sequence, "size": size}
        return append(self.log, records, transactional=True, **options)

    def aborted(self, offset: int = 0, upper: int | None = None) -> list[tuple[int, ...]]:
        found = self.log.aborted_between(offset, self.log.end_offset if upper is None else upper)
        return [tuple(transaction) for transaction in found]

    def refused(self, code: ErrorCode, *args: object, **options: object) -> None:
        with self.assertRaises(KafkaError) as caught:
            append(self.log, *args, **options)
        self.assertEqual(caught.exception.code, code)


class OpenTests(LogCase):
    def test_the_earliest_transaction_holds_back(self) -> None:
        producers = self.log.producers
        append(self.log)
        self.assertEqual(producers.first_unstable, NEVER)
        self.write(1)
        self.write(2)
        self.write(1)
        self.assertEqual((producers.first_unstable, producers.first_open), (1, 1))
        end(self.log, 1, commit=True)
        self.assertEqual((producers.first_unstable, producers.first_open), (1, 2))
        producers.committed(4)
        self.assertEqual(producers.first_unstable, 1)  # the marker at 4 is not committed
        producers.committed(5)
        self.assertEqual(producers.first_unstable, 2)
        end(self.log, 2, commit=False)
        producers.committed(6)
        self.assertEqual(producers.first_unstable, NEVER)

    def test_ended_in_another_order_than_begun(self) -> None:
        """The later one's marker is committed first, the earlier one still holds back; then both markers wait."""
        producers = self.log.producers
        self.write(1)
        self.write(2)
        end(self.log, 2, commit=True)
        producers.committed(3)
        self.assertEqual(producers.first_unstable, 0)
        self.write(2)
        end(self.log, 1, commit=True)
        end(self.log, 2, commit=True)
        producers.committed(5)
        self.assertEqual(producers.first_unstable, 3)
        producers.committed(6)
        self.assertEqual(producers.first_unstable, NEVER)

    def test_a_marker_fences(self) -> None:
        self.write(1, epoch=4)
        for marker, code in (
            (TransactionMarker(1, 3, True, 0), ErrorCode.INVALID_PRODUCER_EPOCH),
            (TransactionMarker(1, 4, True, 9), None),
            (TransactionMarker(1, 4, True, 8), ErrorCode.TRANSACTION_COORDINATOR_FENCED),
            (TransactionMarker(1, 5, False, 9), None),
        ):
            before = self.log.end_offset
            if code is None:
                self.log.append_marker(marker, 0, 0)
                continue
            error = self.assertRaises(KafkaError, self.log.append_marker, marker, 0, 0)
            self.assertEqual((error.code, self.log.end_offset), (code, before))
        self.refused(ErrorCode.INVALID_PRODUCER_EPOCH, producer_id=1, epoch=4, sequence=1, transactional=True)

    def test_after_a_newer_epoch_sequences_begin_anew(self) -> None:
        """Transactions v2: the marker's epoch is one above that of the batches."""
        self.write(1)
        end(self.log, 1, 1, commit=True)
        self.refused(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, producer_id=1, epoch=1, sequence=1, transactional=True)
        self.assertEqual(append(self.log, producer_id=1, epoch=1, sequence=0, transactional=True), 2)

    def test_in_the_same_epoch_they_go_on(self) -> None:
        self.write(1, records=3)
        end(self.log, 1, commit=True)
        self.refused(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, producer_id=1, sequence=0, transactional=True)
        self.assertEqual(self.write(1), 4)
        again = append(self.log, 3, producer_id=1, sequence=0, transactional=True)
        self.assertEqual(again, 0)  # a retry

    def test_outside_of_its_own_transaction(self) -> None:
        self.write(1)
        self.refused(ErrorCode.INVALID_TXN_STATE, producer_id=1, sequence=1)
        self.assertEqual(append(self.log, producer_id=2, sequence=0), 1)
        end(self.log, 1, commit=True)
        self.assertEqual(append(self.log, producer_id=1, sequence=1), 3)

    def test_a_marker_alone(self) -> None:
        """It is written, begins nothing and ends nothing; but the epoch counts."""
        end(self.log, 1, 2, commit=False)
        self.assertEqual((self.log.end_offset, self.log.producers.first_unstable, self.aborted()), (1, NEVER, []))
        self.refused(ErrorCode.INVALID_PRODUCER_EPOCH, producer_id=1, epoch=1, transactional=True)

    def test_expiry_spares_what_is_open(self) -> None:
        self.write(1)
        append(self.log, producer_id=2)
        self.assertEqual(self.log.producers.expire(10**9, 1), 1)
        self.assertTrue(self.log.producers.in_transaction(1, 0))
        end(self.log, 1, commit=True)
        self.assertEqual(self.log.producers.expire(10**9, 1), 1)

    def test_what_is_open_outlives_a_restart(self) -> None:
        append(self.log, 5)
        self.write(2)
        self.write(1)
        end(self.log, 2, commit=False, coordinator_epoch=6)
        self.write(2)
        for clean in (True, False):
            self.reopen(clean)
            self.assertEqual(self.log.producers.first_unstable, 6)
            (first,) = [e for e in self.log.producers.entries() if e.producer_id == 2]
            self.assertEqual((first.transaction_first_offset, first.coordinator_epoch), (8, 6))
        end(self.log, 1, commit=False)
        self.assertEqual(self.aborted(), [(2, 5, 7, 6), (1, 6, 9, 8)])

    def test_replicated_markers_end_too(self) -> None:
        self.write(1)
        end(self.log, 1, commit=False)
        self.write(1)
        data = self.log.read(0, 10_000, 3)[0]
        follower = Log.open(MemoryDisk(), DIRECTORY, CONFIG, 0)
        follower.append_replicated(data, 0)
        self.assertEqual([tuple(a) for a in follower.aborted_between(0, 3)], [(1, 0, 1, 2)])
        self.assertEqual(follower.producers.first_unstable, 2)


class AbortedTests(LogCase):
    def fill(self) -> list[tuple[int, ...]]:
        """Aborted transactions over several segments, some of which span them; the list of them all."""
        wanted = []
        for round_number in range(6):
            first = self.write(1, size=200)
            self.write(2, size=200)
            if round_number % 2:
                marker = end(self.log, 1, commit=False)
                wanted.append((1, first, marker))
            else:
                end(self.log, 1, commit=True)
            append(self.log, size=100)
        marker = end(self.log, 2, commit=False)
        wanted.append((2, 1, marker))
        self.assertGreater(len(self.log.segments), 3)
        return wanted

    def check(self, wanted: list[tuple[int, ...]]) -> None:
        """For every range, what concerns it."""
        self.log.producers.committed(self.log.end_offset)
        for offset in range(0, self.log.end_offset, 2):
            for upper in range(offset, self.log.end_offset + 1, 3):
                expected = [entry for entry in wanted if entry[2] >= offset and entry[1] < upper]
                self.assertEqual([entry[:3] for entry in self.aborted(offset, upper)], expected, (offset, upper))

    def test_every_range(self) -> None:
        self.check(self.fill())

    def test_after_a_restart(self) -> None:
        wanted = self.fill()
        for clean in (True, False):
            self.reopen(clean)
            self.check(wanted)

    def test_after_a_flush_has_released_the_sealed_segments(self) -> None:
        wanted = self.fill()
        self.log.flush()
        self.assertIsNone(self.log.segments[1].aborted)
        self.check(wanted)

    def test_without_snapshots(self) -> None:
        """They can be deleted or rot while the node is down: what they say is found in the batches."""
        wanted = self.fill()
        for harm in ("delete", "rot"):
            self.log.close()
            for name in self.disk.list(DIRECTORY):
                if name.endswith(".snapshot"):
                    path = f"{DIRECTORY}/{name}"
                    content = bytearray(self.disk.read(path))
                    content[-10] ^= 1
                    self.disk.remove(path) if harm == "delete" else self.disk.replace(path, content)
            self.log = self.opened()
            self.assertIsNone(self.log.recovery)
            self.check(wanted)

    def test_after_the_beginning_is_given_up(self) -> None:
        wanted = self.fill()
        start = self.log.segments[2].base_offset
        self.log.delete_oldest(2, 0)
        for clean in (None, True, False):
            if clean is not None:
                self.log.flush()
                self.reopen(clean)
            expected = [entry for entry in wanted if entry[2] >= start]
            self.assertEqual([entry[:3] for entry in self.aborted(start)], expected)

    def test_after_a_cut(self) -> None:
        """What a cut takes away the marker of is open again."""
        wanted = self.fill()
        for last in reversed(range(len(wanted))):
            producer_id, first, marker = wanted[last]
            self.log.truncate_to(marker, 0)
            self.assertEqual(self.log.end_offset, marker)
            self.assertEqual([entry[:3] for entry in self.aborted()], [e for e in wanted if e[2] < marker])
            self.assertIn((producer_id, first), self.still_open())
            self.reopen()
            self.assertIn((producer_id, first), self.still_open())

    def still_open(self) -> list[tuple[int, int]]:
        entries = self.log.producers.entries()
        return [(e.producer_id, e.transaction_first_offset) for e in entries if e.transaction_first_offset >= 0]

    def test_old_snapshots_are_read(self) -> None:
        """Those of a release without transactions have no aborted ones."""
        append(self.log, producer_id=7)
        content = bytearray(encode_snapshot(self.log.producers, AbortedTransactions(), 1))
        old = content[:-8]
        old[5] = 1
        from crc32c import crc32c

        old += crc32c(old).to_bytes(4, "big")
        snapshot = decode_snapshot(bytes(old), 1, "path")
        self.assertEqual([entry.producer_id for entry in snapshot.producers], [7])
        self.assertEqual((len(snapshot.aborted), snapshot.aborted.settled_to), (0, 1))

    def test_a_snapshot_comes_back(self) -> None:
        self.write(3)
        aborted = AbortedTransactions()
        for entry in (AbortedTransaction(1, 2, 3, 4), AbortedTransaction(2**40, 5, 2**50, 7)):
            aborted.add(entry)
        again = decode_snapshot(encode_snapshot(self.log.producers, aborted, 9), 9, "path")
        self.assertEqual(again.aborted.entries(), aborted.entries())
        self.assertEqual(again.aborted.settled_to, 0)
        self.assertEqual(again.producers[0].transaction_first_offset, 0)

    def test_reads_end_with_their_segment_and_say_where(self) -> None:
        self.fill()
        offset = 0
        while offset < self.log.end_offset:
            data, _, end_offset = self.log.read(offset, 700, self.log.end_offset)
            *_, (_, header) = split_batches(data)
            self.assertEqual(end_offset, header.next_offset)
            offset = end_offset
