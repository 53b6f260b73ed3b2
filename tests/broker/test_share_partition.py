"""Share partitions: what is given out to whom, held against a model that knows one record at a time."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from chronik.broker.share_partition import SharePartition
from chronik.broker.share_tiles import (
    ACCEPT,
    GAP,
    REJECT,
    RELEASE,
    Acknowledgement,
    Acquired,
    Change,
    RecordState,
    Span,
)
from chronik.errors import ErrorCode, KafkaError
from chronik.model import StateBatch

AVAILABLE, ACQUIRED, ACKNOWLEDGED, ARCHIVED = RecordState
LOCK_MS = 30_000
ALL = 1_000_000


def acquire(share: SharePartition, member: str, *log: tuple[int, int], **how: Any) -> list[Acquired]:
    how = {"max_records": ALL, "batch_size": ALL, "now": 0, "lock_ms": LOCK_MS} | how
    return share.acquire(member, [Span(*each) for each in log], **how)


def say(share: SharePartition, member: str, first: int, last: int, *types: int) -> Change:
    return share.acknowledge(member, [Acknowledgement(first, last, types)])


def states(share: SharePartition) -> list[tuple[int, int, RecordState, int, str]]:
    return [
        (batch.first, batch.last, RecordState(batch.state), batch.deliveries, member) for batch, member in share.tiles()
    ]


class AcquireTests(SynchronousTestCase):
    """What a member is given."""

    def test_new_records_in_pieces(self) -> None:
        share = SharePartition(0, (), 5)
        given = acquire(share, "a", (0, 9), (10, 19), (20, 29), batch_size=15)
        self.assertEqual(given, [Acquired(0, 19, 1), Acquired(20, 29, 1)])
        self.assertEqual((share.start_offset, share.next_offset, share.next_fetch_offset()), (0, 30, 30))

    def test_limit_ends_with_its_batch(self) -> None:
        share = SharePartition(0, (), 5)
        self.assertEqual(acquire(share, "a", (0, 9), (10, 19), (20, 29), max_records=11), [Acquired(0, 19, 1)])
        self.assertEqual(share.next_fetch_offset(), 20)
        self.assertEqual(acquire(share, "b", (20, 29), max_records=1), [Acquired(20, 29, 1)])

    def test_in_the_middle_of_a_batch(self) -> None:
        share = SharePartition(5, (), 5)
        self.assertEqual(acquire(share, "a", (0, 9)), [Acquired(5, 9, 1)])

    def test_released_records_come_first(self) -> None:
        share = SharePartition(0, (), 5)
        acquire(share, "a", (0, 9))
        share.committed(say(share, "a", 2, 4, RELEASE))
        self.assertEqual(share.next_fetch_offset(), 2)
        self.assertEqual(acquire(share, "b", (0, 9), (10, 14)), [Acquired(2, 4, 2), Acquired(10, 14, 1)])

    def test_only_what_was_read_is_given_again(self) -> None:
        share = SharePartition(0, (), 5)
        acquire(share, "a", (0, 9), (10, 19))
        share.release("a")
        self.assertEqual(acquire(share, "b", (0, 9)), [Acquired(0, 9, 1)])
        self.assertEqual(share.next_fetch_offset(), 10)

    def test_limit_of_records_that_are_given_again(self) -> None:
        share = SharePartition(0, (), 5)
        acquire(share, "a", (0, 9), (10, 19))
        share.release("a")
        self.assertEqual(acquire(share, "b", (0, 9), (10, 19), max_records=3), [Acquired(0, 9, 1)])

    def test_what_the_log_lost_is_passed_over(self) -> None:
        share = SharePartition(0, (), 5)
        self.assertEqual(acquire(share, "a", (7, 9)), [Acquired(7, 9, 1)])
        self.assertEqual(share.start_offset, 7)
        acquire(share, "a", (10, 19))
        share.release("a")
        self.assertEqual(acquire(share, "b", (15, 19), (30, 35)), [Acquired(15, 19, 1), Acquired(20, 35, 1)])
        self.assertEqual(share.start_offset, 15)

    def test_limit_of_records_in_flight(self) -> None:
        share = SharePartition(0, (), 5)
        self.assertTrue(share.may_acquire(10))
        acquire(share, "a", (0, 9))
        self.assertFalse(share.may_acquire(10))
        share.committed(say(share, "a", 5, 5, RELEASE))
        self.assertTrue(share.may_acquire(10))

    def test_aborted_batches_are_archived(self) -> None:
        share = SharePartition(0, (), 5)
        given = acquire(share, "a", (0, 4), (5, 5), (6, 9), aborted=[Span(0, 4)])
        self.assertEqual(given, [Acquired(5, 9, 1)])
        self.assertEqual(share.start_offset, 5)
        self.assertEqual(acquire(share, "a", (10, 11), aborted=[Span(10, 11)]), [])
        share.committed(say(share, "a", 5, 9, ACCEPT))
        self.assertEqual((share.start_offset, share.in_flight), (12, 0))


class AcknowledgeTests(SynchronousTestCase):
    """What becomes of what a member says."""

    def setUp(self) -> None:
        self.share = SharePartition(0, (), 2)
        acquire(self.share, "a", (0, 9))

    def refused(self, member: str, first: int, last: int, *types: int) -> ErrorCode:
        before = states(self.share)
        error = self.assertRaises(KafkaError, say, self.share, member, first, last, *types)
        after = states(self.share)
        self.assertEqual([each[2:] for each in merged(after)], [each[2:] for each in merged(before)])
        return error.code

    def test_it_counts_when_it_is_written(self) -> None:
        change = say(self.share, "a", 0, 9, ACCEPT)
        self.assertEqual(change.batches, [StateBatch(0, 9, ACKNOWLEDGED, 1)])
        self.assertEqual((self.share.start_offset, self.share.next_fetch_offset()), (0, 10))
        self.share.committed(change)
        self.assertEqual((self.share.start_offset, self.share.in_flight), (10, 0))

    def test_it_is_as_before_when_it_is_not_written(self) -> None:
        before = states(self.share)
        self.share.failed(say(self.share, "a", 0, 9, RELEASE))
        self.assertEqual(states(self.share), before)
        self.assertEqual(self.share.expire(LOCK_MS + 64), [StateBatch(0, 9, AVAILABLE, 1)])

    def test_nobody_gets_what_is_being_released(self) -> None:
        change = say(self.share, "a", 0, 9, RELEASE)
        self.assertEqual(self.share.next_fetch_offset(), 10)
        self.share.committed(change)
        self.assertEqual(self.share.next_fetch_offset(), 0)

    def test_one_type_for_each_record(self) -> None:
        types = [ACCEPT, ACCEPT, RELEASE, REJECT, GAP]
        change = say(self.share, "a", 0, 4, *types)
        self.share.committed(change)
        self.assertEqual(
            states(self.share),
            [(2, 2, AVAILABLE, 1, ""), (3, 4, ARCHIVED, 1, ""), (5, 9, ACQUIRED, 1, "a")],
        )

    def test_the_limit_of_deliveries(self) -> None:
        self.share.committed(say(self.share, "a", 0, 9, RELEASE))
        self.assertEqual(acquire(self.share, "a", (0, 9)), [Acquired(0, 9, 2)])
        change = say(self.share, "a", 0, 4, RELEASE)
        self.assertEqual(change.batches, [StateBatch(0, 4, ARCHIVED, 2)])
        self.share.committed(change)
        self.assertEqual(self.share.expire(2 * LOCK_MS), [StateBatch(5, 9, ARCHIVED, 2)])
        self.assertEqual((self.share.start_offset, self.share.in_flight), (10, 0))

    def test_refusals_change_nothing(self) -> None:
        self.assertEqual(self.refused("b", 0, 9, ACCEPT), ErrorCode.INVALID_RECORD_STATE)
        self.assertEqual(self.refused("a", 5, 10, ACCEPT), ErrorCode.INVALID_REQUEST)
        self.assertEqual(self.refused("a", 10, 12, ACCEPT), ErrorCode.INVALID_REQUEST)
        self.assertEqual(self.refused("a", 0, 9, 4), ErrorCode.INVALID_REQUEST)
        self.share.committed(say(self.share, "a", 3, 4, ACCEPT))
        self.assertEqual(self.refused("a", 0, 9, ACCEPT), ErrorCode.INVALID_RECORD_STATE)
        overlapping = [Acknowledgement(5, 7, [ACCEPT]), Acknowledgement(7, 9, [ACCEPT])]
        self.assertEqual(
            self.assertRaises(KafkaError, self.share.acknowledge, "a", overlapping).code, ErrorCode.INVALID_RECORD_STATE
        )
        self.share.committed(say(self.share, "a", 5, 9, ACCEPT))

    def test_twice_is_not_acquired(self) -> None:
        change = say(self.share, "a", 0, 9, ACCEPT)
        self.assertEqual(self.refused("a", 0, 9, ACCEPT), ErrorCode.INVALID_RECORD_STATE)
        self.share.committed(change)
        self.assertEqual(say(self.share, "a", 0, 9, ACCEPT).batches, [])  # below the start: passed over
        self.assertEqual(self.refused("a", 5, 10, ACCEPT), ErrorCode.INVALID_RECORD_STATE)

    def test_what_the_log_gave_up_is_passed_over(self) -> None:
        self.share.log_starts_at(4)
        change = say(self.share, "a", 0, 9, ACCEPT)
        self.assertEqual(change.batches, [StateBatch(4, 9, ACKNOWLEDGED, 1)])


class LockTests(SynchronousTestCase):
    """Time, and members that are gone."""

    def test_a_lock_ends(self) -> None:
        share = SharePartition(0, (), 5)
        acquire(share, "a", (0, 9))
        due = share.next_deadline()
        assert due is not None
        self.assertTrue(LOCK_MS <= due < LOCK_MS + 64)
        self.assertEqual(share.expire(LOCK_MS - 1), [])
        share.committed(say(share, "a", 0, 2, ACCEPT))
        self.assertEqual(share.expire(due), [StateBatch(3, 9, AVAILABLE, 1)])
        self.assertIsNone(share.next_deadline())
        self.assertEqual(acquire(share, "b", (0, 9), now=due), [Acquired(3, 9, 2)])
        error = self.assertRaises(KafkaError, say, share, "a", 3, 9, ACCEPT)
        self.assertEqual(error.code, ErrorCode.INVALID_RECORD_STATE)

    def test_a_member_that_leaves_was_given_nothing(self) -> None:
        share = SharePartition(0, (), 5)
        acquire(share, "a", (0, 4))
        acquire(share, "b", (5, 9))
        self.assertEqual(share.release("a"), [StateBatch(0, 4, AVAILABLE, 0)])
        self.assertEqual(acquire(share, "b", (0, 4)), [Acquired(0, 4, 1)])


class LoadTests(SynchronousTestCase):
    """State that was read from the log."""

    def test_gaps_are_available(self) -> None:
        batches = [StateBatch(10, 19, 2, 1), StateBatch(25, 29, 0, 3)]
        share = SharePartition(5, batches, 5)
        self.assertEqual(
            states(share),
            [
                (5, 9, AVAILABLE, 0, ""),
                (10, 19, ACKNOWLEDGED, 1, ""),
                (20, 24, AVAILABLE, 0, ""),
                (25, 29, AVAILABLE, 3, ""),
            ],
        )
        self.assertEqual(
            acquire(share, "a", (0, 9), (10, 40)),
            [Acquired(5, 9, 1), Acquired(20, 24, 1), Acquired(25, 29, 4), Acquired(30, 40, 1)],
        )

    def test_what_is_done_with_is_passed_over(self) -> None:
        share = SharePartition(5, [StateBatch(0, 7, 4, 1), StateBatch(8, 9, 2, 1)], 5)
        self.assertEqual((share.start_offset, share.next_offset), (10, 10))

    def test_nonsense_is_refused(self) -> None:
        for batches in ([(5, 4, 0, 1)], [(5, 9, 3, 1)], [(5, 9, 0, 1), (9, 12, 0, 1)], [(5, 9, 0, 1), (1, 2, 0, 1)]):
            self.assertRaises(ValueError, SharePartition, 0, [StateBatch(*each) for each in batches], 5)


def merged(tiles: list[tuple[int, int, RecordState, int, str]]) -> list[tuple[int, int, RecordState, int, str]]:
    """One entry for each offset."""
    return [(offset, offset, *rest) for first, last, *rest in tiles for offset in range(first, last + 1)]  # type: ignore[misc]


class _Record:
    def __init__(self) -> None:
        self.state = AVAILABLE
        self.count = 0
        self.member = ""
        self.deadline = 0
        self.pending: Any = None  # (change, state before, ...)


MEMBERS = ("a", "b", "c")
MAX_DELIVERIES = 3


class ShareModel(RuleBasedStateMachine):
    """Records one by one, and the log as a list of batches of which some go: what is in flight is `records` from `start` on."""

    def __init__(self) -> None:
        super().__init__()
        self.share = SharePartition(0, (), MAX_DELIVERIES)
        self.records: dict[int, _Record] = {}
        self.start = self.next = 0
        self.log: list[Span] = []
        self.end = 0
        self.now = 0
        self.changes: list[tuple[Change, list[int]]] = []

    # The log.

    @rule(sizes=st.lists(st.integers(1, 8), min_size=1, max_size=5), gap=st.integers(0, 3))
    def produce(self, sizes: list[int], gap: int) -> None:
        for size in sizes:
            self.log.append(Span(self.end, self.end + size - 1))
            self.end += size + gap

    @precondition(lambda self: self.log)
    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        del self.log[data.draw(st.integers(0, len(self.log) - 1))]

    @precondition(lambda self: self.log)
    @rule(data=st.data())
    def cut_log(self, data: st.DataObject) -> None:
        batch = self.log[data.draw(st.integers(0, len(self.log) - 1))]
        offset = data.draw(st.integers(batch.first, batch.last))
        self.log = [each for each in self.log if each.last >= offset]
        self.share.log_starts_at(offset)
        if offset > self.start:
            for each in [each for each in self.records if each < offset]:
                del self.records[each]
            self.start, self.next = offset, max(self.next, offset)
        self.advance()

    # Giving out.

    def free(self, offset: int) -> bool:
        record = self.records[offset]
        return record.state is AVAILABLE and record.pending is None

    def wanted(self) -> int:
        return next((offset for offset in range(self.start, self.next) if self.free(offset)), self.next)

    def advance(self) -> None:
        while self.start < self.next:
            record = self.records[self.start]
            if record.state not in (ACKNOWLEDGED, ARCHIVED) or record.pending is not None:
                break
            del self.records[self.start]
            self.start += 1

    @rule(
        member=st.sampled_from(MEMBERS),
        read=st.integers(1, 4),
        max_records=st.integers(1, 20),
        batch_size=st.integers(1, 20),
        aborted=st.sets(st.integers(0, 3), max_size=2),
    )
    def fetch(self, member: str, read: int, max_records: int, batch_size: int, aborted: set[int]) -> None:
        wanted = self.wanted()
        assert self.share.next_fetch_offset() == wanted
        batches = [each for each in self.log if each.last >= wanted][:read]
        if not batches:
            return
        gone = [batches[index] for index in sorted(aborted) if index < len(batches)]
        given = self.share.acquire(member, batches, max_records, batch_size, self.now, LOCK_MS, gone)
        # What was in flight and is not in the log any more.
        base, last = batches[0].first, batches[-1].last
        for offset in range(wanted, min(base, self.next)):
            if self.free(offset):
                self.records[offset].state = ARCHIVED
        self.advance()
        if self.start == self.next and self.next < base:
            self.start = self.next = base
        # What may have been given: everything that is free up to some offset behind the limit.
        mine = [offset for each in given for offset in range(each.first, each.last + 1)]
        assert mine == sorted(set(mine))
        offered = [offset for offset in range(max(base, self.start), self.next) if offset <= last and self.free(offset)]
        offered += range(self.next, last + 1)
        lost = {offset for each in gone for offset in range(each.first, each.last + 1)}
        taken = [offset for offset in offered if offset < self.share.next_offset]
        stop = max([*mine, *(offset for offset in taken if offset in lost and self.is_archived(offset))], default=-1)
        taken = [offset for offset in taken if offset <= stop or offset >= self.next]
        assert mine == [offset for offset in taken if offset not in lost], (mine, taken, lost)
        if offered:
            assert taken, "nothing was given, where there is something"
        counted = [offset for offset in taken if offset >= base]  # not a gap before all that was read
        if len(counted) < min(max_records, sum(1 for offset in offered if offset >= base)):
            raise AssertionError(f"{len(taken)} of {len(offered)} were given, where {max_records} are asked for")
        if len(counted) > max_records:  # to the end of the batch in which the limit is reached
            limit = counted[max_records - 1]
            assert any(limit <= taken[-1] <= each.last and limit >= each.first for each in batches), (taken, batches)
        counts = {offset: each.deliveries for each in given for offset in range(each.first, each.last + 1)}
        for offset in taken:
            record = self.records.setdefault(offset, _Record())
            record.count += 1
            if offset in lost:
                record.state = ARCHIVED
            else:
                record.state, record.member, record.deadline = ACQUIRED, member, self.now + LOCK_MS
                assert counts[offset] == record.count
        self.next = max(self.next, *(offset + 1 for offset in taken)) if taken else self.next
        self.advance()

    def is_archived(self, offset: int) -> bool:
        if offset < self.share.start_offset:
            return True
        return next(batch.state == ARCHIVED for batch, _ in self.share.tiles() if batch.first <= offset <= batch.last)

    # Acknowledging.

    @rule(data=st.data(), member=st.sampled_from(MEMBERS))
    def acknowledge(self, data: st.DataObject, member: str) -> None:
        first = data.draw(st.integers(max(0, self.start - 3), self.next + 2))
        last = data.draw(st.integers(first, min(first + 12, self.next + 3)))
        if data.draw(st.booleans()):
            types = [data.draw(st.sampled_from((GAP, ACCEPT, RELEASE, REJECT)))] * (last - first + 1)
            sent = types[:1]
        else:
            sent = types = data.draw(
                st.lists(
                    st.sampled_from((GAP, ACCEPT, RELEASE, REJECT)),
                    min_size=last - first + 1,
                    max_size=last - first + 1,
                )
            )
        try:
            change = self.share.acknowledge(member, [Acknowledgement(first, last, sent)])
        except KafkaError as error:
            assert last >= self.start
            past = last >= self.next
            not_mine = any(
                self.records[offset].state is not ACQUIRED or self.records[offset].member != member
                for offset in range(max(first, self.start), min(last, self.next - 1) + 1)
            )
            if error.code is ErrorCode.INVALID_REQUEST:
                assert past and self.start < self.next
            else:
                assert error.code is ErrorCode.INVALID_RECORD_STATE
                assert not_mine or self.start == self.next
            return
        touched = list(range(max(first, self.start), last + 1))
        assert last < self.next or last < self.start
        written = {offset: each for each in change.batches for offset in range(each.first, each.last + 1)}
        assert sorted(written) == touched
        for offset in touched:
            record = self.records[offset]
            assert record.state is ACQUIRED and record.member == member
            record.pending = (change, record.state, record.count, record.member, record.deadline)
            state = (ARCHIVED, ACKNOWLEDGED, AVAILABLE, ARCHIVED)[types[offset - first]]
            if state is AVAILABLE and record.count >= MAX_DELIVERIES:
                state = ARCHIVED
            record.state, record.member = state, ""
            assert written[offset][2:] == (state, record.count)
        if touched:
            self.changes.append((change, touched))

    @precondition(lambda self: self.changes)
    @rule(data=st.data(), fine=st.booleans())
    def written(self, data: st.DataObject, fine: bool) -> None:
        change, touched = self.changes.pop(data.draw(st.integers(0, len(self.changes) - 1)))
        (self.share.committed if fine else self.share.failed)(change)
        for offset in touched:
            record = self.records.get(offset)
            if record is not None and record.pending is not None and record.pending[0] is change:
                if not fine:
                    _, record.state, record.count, record.member, record.deadline = record.pending
                record.pending = None
        self.advance()

    @rule(member=st.sampled_from(MEMBERS))
    def leave(self, member: str) -> None:
        written = {o for each in self.share.release(member) for o in range(each.first, each.last + 1)}
        for offset, record in self.records.items():
            mine = record.state is ACQUIRED and record.member == member
            assert mine == (offset in written)
            if mine:
                record.state, record.member, record.count = AVAILABLE, "", record.count - 1

    @rule(ms=st.sampled_from((1, LOCK_MS // 2, LOCK_MS + 64)))
    def wait(self, ms: int) -> None:
        self.now += ms
        due = self.share.next_deadline()
        written = {o for each in self.share.expire(self.now) for o in range(each.first, each.last + 1)}
        assert not written or (due is not None and due <= self.now)
        for offset, record in self.records.items():
            if offset in written:
                assert record.state is ACQUIRED and record.deadline <= self.now
                record.state, record.member = (ARCHIVED if record.count >= MAX_DELIVERIES else AVAILABLE), ""
            else:
                assert record.state is not ACQUIRED or record.deadline + 64 > self.now
        self.advance()

    # Always.

    @invariant()
    def same(self) -> None:
        share = self.share
        assert (share.start_offset, share.next_offset) == (self.start, self.next)
        position = self.start
        for batch, member in share.tiles():
            assert batch.first == position <= batch.last
            position = batch.last + 1
            for offset in range(batch.first, batch.last + 1):
                record = self.records[offset]
                assert (batch.state, member) == (record.state, record.member), (offset, batch, record.state)
                assert batch.state in (ACKNOWLEDGED, ARCHIVED) or batch.deliveries == record.count
                assert 0 <= record.count <= MAX_DELIVERIES
        assert position == self.next
        assert share.next_fetch_offset() == self.wanted()


class ModelTests(SynchronousTestCase):
    """The core against the model."""

    def test_model(self) -> None:
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            ShareModel,
            settings=settings(
                max_examples=150,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
            ),
        )
