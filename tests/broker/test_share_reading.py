"""Reading a partition for a share group: which batches come with the records that are given out, and which are passed over."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.broker import share_reading
from chronik.broker.partition import Partition
from chronik.broker.share_partition import SharePartition
from chronik.broker.share_reading import Taken, Wanted, readable, take
from chronik.broker.share_tiles import ACCEPT, RELEASE, Acknowledgement
from chronik.log.simulated import SimulatedDisk
from chronik.wire.records import split_batches
from tests.broker.test_transactions import NOW, batch, begin, end, opened

LOTS = 1 << 30


def wanted(member: str = "a", **how: Any) -> Wanted:
    values = {
        "records": 1000,
        "batch_size": 1000,
        "size": 1 << 20,
        "committed_only": False,
        "lock_ms": 30_000,
        "now": 0,
    }
    return Wanted(member, **{**values, **how})


def batches(taken: Taken) -> list[tuple[int, int]]:
    """First and last offset of the batches that came."""
    return [(header.base_offset, header.last_offset) for part in taken.buffers for _, header in split_batches(part)]


def offsets(taken: Taken) -> list[int]:
    """The offsets that were given out."""
    return [offset for each in taken.acquired for offset in range(each.first, each.last + 1)]


class ReadingCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.partition = opened(SimulatedDisk())
        self.share = SharePartition(0, (), 5)

    def append(self, *sizes: int) -> None:
        for size in sizes:
            self.partition.append(batch(records=size), NOW)

    def take(self, *, at_least_one: bool = True, share: SharePartition | None = None, **how: Any) -> Taken:
        return take(share or self.share, self.partition, wanted(**how), at_least_one)


class PlainTests(ReadingCase):
    def test_whole_batches(self) -> None:
        self.append(3, 1, 4)
        taken = self.take()
        self.assertEqual((batches(taken), taken.records, taken.passed), ([(0, 2), (3, 3), (4, 7)], 8, True))
        self.assertEqual(taken.size, sum(map(len, taken.buffers)))
        again = self.take()
        self.assertEqual((again.buffers, again.acquired, again.passed), ([], [], False))

    def test_no_more_batches_than_have_records_for_the_member(self) -> None:
        self.append(3, 3, 3)
        self.assertEqual(batches(self.take(records=4)), [(0, 2), (3, 5)])
        self.assertEqual(batches(self.take(member="b")), [(6, 8)])

    def test_batches_before_and_behind_what_is_given_are_left_out(self) -> None:
        self.append(2, 2, 2, 2)
        self.take()
        change = self.share.acknowledge("a", [Acknowledgement(2, 4, [RELEASE])])
        self.share.committed(change)
        taken = self.take(member="b")
        self.assertEqual((batches(taken), offsets(taken)), ([(2, 3), (4, 5)], [2, 3, 4]))

    def test_from_the_middle_of_a_batch(self) -> None:
        self.append(5, 1)
        taken = self.take(share=SharePartition(3, (), 5))
        self.assertEqual((batches(taken), offsets(taken)), ([(0, 4), (5, 5)], [3, 4, 5]))

    def test_bytes(self) -> None:
        self.append(1, 1, 1)
        size = len(batch())
        self.assertEqual(batches(self.take(size=size - 1, at_least_one=False)), [])
        self.assertEqual(batches(self.take(size=size - 1)), [(0, 0)])
        self.assertEqual(batches(self.take(size=2 * size)), [(1, 1), (2, 2)])

    def test_readable_is_what_can_be_taken(self) -> None:
        self.append(1, 1, 1)
        size = len(batch())
        self.assertEqual(readable(self.share, self.partition, LOTS, False), 3 * size)
        self.take(records=1)
        self.assertEqual(readable(self.share, self.partition, LOTS, False), 2 * size)
        self.take()
        self.assertEqual(readable(self.share, self.partition, LOTS, False), 0)

    def test_a_start_that_the_log_has_not_reached(self) -> None:
        self.append(1)
        share = SharePartition(3, (), 5)
        self.assertEqual(offsets(self.take(share=share)), [])
        self.append(4)
        self.assertEqual(offsets(self.take(share=share)), [3, 4])

    def test_a_log_that_has_lost_its_beginning(self) -> None:
        self.append(2, 2, 2)
        self.take(records=4)
        self.partition.delete_records(3, lambda _: None)
        self.share.committed(self.share.acknowledge("a", [Acknowledgement(3, 3, [RELEASE])]))
        self.assertEqual(self.share.start_offset, 0)
        taken = self.take(member="b")
        self.assertEqual(offsets(taken), [3, 4, 5])
        self.assertEqual(self.share.start_offset, 3)

    def test_long_partitions_are_read_in_steps(self) -> None:
        self.patch(share_reading, "_FIRST_READ", 3 * len(batch()))
        self.append(*[1] * 40)
        taken = self.take()
        self.assertEqual(offsets(taken), list(range(40)))
        self.assertEqual(len(taken.buffers), 4)  # of 3, 6, 12 and 24 batches, at most

    def test_long_batches(self) -> None:
        self.patch(share_reading, "_FIRST_READ", len(batch()))
        self.append(20, 20, 20)
        size = len(batch(records=20))
        share = SharePartition(0, (), 5)
        self.assertEqual(batches(self.take(share=share)), [(0, 19), (20, 39), (40, 59)])
        for room, count in ((size - 1, 0), (size, 1), (2 * size, 2)):
            share = SharePartition(0, (), 5)
            self.assertEqual(len(batches(self.take(share=share, size=room, at_least_one=False))), count)

    def test_and_no_more_of_them_than_a_turn_takes(self) -> None:
        self.patch(share_reading, "_FIRST_READ", 2 * len(batch()))
        self.patch(share_reading, "_READS", 3)
        self.append(*[1] * 20)
        self.assertEqual(self.take().records, 2 + 4 + 8)


class TransactionTests(ReadingCase):
    def visible(self, committed_only: bool) -> list[int]:
        share = SharePartition(0, (), 5)
        found: list[int] = []
        while (taken := self.take(share=share, committed_only=committed_only)).passed:
            found += offsets(taken)
        return found

    def test_records_of_aborted_transactions_are_never_given_out(self) -> None:
        begin(self.partition, 1, records=2)  # 0 and 1
        self.append(1)  # 2
        begin(self.partition, 2)  # 3
        end(self.partition, 1, commit=False)  # 4
        begin(self.partition, 1, sequence=0, epoch=1)  # 5
        end(self.partition, 2, commit=True)  # 6
        end(self.partition, 1, epoch=1, commit=True)  # 7
        committed, everything = self.visible(True), self.visible(False)
        self.assertEqual([offset for offset in committed if offset not in (4, 6, 7)], [2, 3, 5])
        self.assertEqual([offset for offset in everything if offset not in (4, 6, 7)], [0, 1, 2, 3, 5])

    def test_what_is_behind_an_open_transaction_waits(self) -> None:
        self.append(1)
        begin(self.partition, 1)
        self.append(1)
        self.assertEqual(self.visible(True), [0])
        end(self.partition, 1, commit=True)
        self.assertEqual([offset for offset in self.visible(True) if offset != 3], [0, 1, 2])

    def test_only_aborted_records_are_passed_and_reading_goes_on(self) -> None:
        begin(self.partition, 1, records=3)
        end(self.partition, 1, commit=False)
        taken = self.take(committed_only=True)
        self.assertTrue(taken.passed)
        self.assertNotIn(0, offsets(taken))
        self.assertFalse(self.take(committed_only=True).passed)


class AnyLogTests(SynchronousTestCase):
    """Logs of any batches, members that take any amounts and give some back."""

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.lists(st.integers(1, 6), min_size=1, max_size=12),
        st.lists(st.tuples(st.integers(1, 9), st.integers(0, 600), st.integers(1, 9), st.booleans()), max_size=30),
        st.integers(0, 5),
    )
    def test_every_record_is_somebodys_and_comes_with_its_batch(
        self, sizes: list[int], takes: list[tuple[int, int, int, bool]], start: int
    ) -> None:
        partition = opened(SimulatedDisk())
        for size in sizes:
            partition.append(batch(records=size), NOW)
        share = SharePartition(start, (), 10)
        given: set[int] = set()
        for number, (records, size, batch_size, returns) in enumerate([*takes, (LOTS, LOTS, LOTS, False)]):
            member = f"m{number}"
            how = wanted(member, records=records, size=size, batch_size=batch_size)
            taken = take(share, partition, how, at_least_one=bool(size % 2))
            found = offsets(taken)
            self.assertEqual(len(found), len(set(found)))
            self.assertFalse(given & set(found), "given out twice")
            self.check_bytes(partition, taken, size, bool(size % 2))
            if returns and found:
                change = share.acknowledge(member, [Acknowledgement(found[0], found[0], [RELEASE])])
                share.committed(change)
                found = found[1:]
                if found:
                    share.committed(share.acknowledge(member, [Acknowledgement(found[0], found[0], [ACCEPT])]))
            given |= set(found)
        self.assertEqual(given, set(range(start, sum(sizes))))

    def check_bytes(self, partition: Partition, taken: Taken, size: int, at_least_one: bool) -> None:
        """What came are batches of the log, in order, that have all that was given out, and hardly anything else."""
        found = batches(taken)
        self.assertEqual(found, sorted(set(found)))
        data = b"".join(taken.buffers)
        there = {offset for first, last in found for offset in range(first, last + 1)}
        self.assertLessEqual(set(offsets(taken)), there)
        if taken.acquired:
            self.assertGreaterEqual(found[0][1], taken.acquired[0].first)
            self.assertLessEqual(found[-1][0], taken.acquired[-1].last)
        self.assertTrue(len(data) <= size or (at_least_one and len(found) == 1), (len(data), size))
