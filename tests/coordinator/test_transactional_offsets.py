"""Offsets that transactions commit: pending until the marker, then in or gone; the same when the log is read again."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from chronik.coordinator.settings import GroupSettings
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IMarkerListener, ITransactionalWriter, ITransactions
from chronik.model import OFFSETS_TOPIC, TopicPartition, TransactionMarker
from chronik.wire.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from tests.coordinator.world import MemoryLog, World, commit_request, join_request, sync_request

WHERE = TopicPartition(OFFSETS_TOPIC, 0)
EVENTS = TopicPartition("events", 3)
LOGS = TopicPartition("logs", 0)
UNSTABLE = "unstable"


def txn_request(
    offsets: dict[TopicPartition, int],
    *,
    producer: int = 7,
    group: str = "g",
    member: str = "",
    generation: int = -1,
    metadata: str | None = None,
) -> TxnOffsetCommitRequest:
    topics: dict[str, list[TxnOffsetCommitRequestPartition]] = {}
    for place, offset in offsets.items():
        item = TxnOffsetCommitRequestPartition(
            partition_index=place.partition, committed_offset=offset, committed_metadata=metadata
        )
        topics.setdefault(place.topic, []).append(item)
    return TxnOffsetCommitRequest(
        transactional_id="id",
        group_id=group,
        producer_id=producer,
        producer_epoch=0,
        generation_id=generation,
        member_id=member,
        topics=[TxnOffsetCommitRequestTopic(name=name, partitions=parts) for name, parts in topics.items()],
    )


class TransactionalCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(GroupSettings(group_initial_rebalance_delay_ms=0, offsets_retention_minutes=1))
        self.agreeing = self.world.transactions

    def commit(self, offsets: dict[TopicPartition, int], implicit: bool = True, **request: Any) -> Any:
        """The code of each partition, or the KafkaError."""
        operation = self.world.coordinator.commit_in_transaction(txn_request(offsets, **request), implicit)
        result = self.world.result(operation)
        if isinstance(result, KafkaError):
            return result
        return [item.error_code for topic in result.topics for item in topic.partitions]

    def plain(self, offsets: dict[TopicPartition, int]) -> None:
        self.world.result(self.world.coordinator.commit(commit_request(offsets), 9))

    def end(self, committed: bool, producer: int = 7, told: bool = True) -> None:
        self.world.log.write_marker(WHERE, TransactionMarker(producer, 1, committed, 0))
        if told:
            self.world.coordinator.marker_committed(WHERE, self.world.log.end(WHERE))

    def offsets(self, stable: bool = False) -> dict[TopicPartition, Any]:
        found = self.world.result(self.world.coordinator.fetch_offsets("g", [EVENTS, LOGS], stable))
        return {
            place: UNSTABLE if is_unstable else committed.offset
            for place, committed, is_unstable in found
            if is_unstable or committed
        }

    def check_replay(self) -> None:
        """A coordinator that reads the same log knows the same."""
        before = self.offsets(), self.offsets(True), self.state()
        self.world.resign()
        self.world.lead()
        self.assertEqual((self.offsets(), self.offsets(True), self.state()), before)

    def state(self) -> Any:
        offsets = self.world.shard.offsets
        return offsets._groups, offsets.pending._by_producer, offsets.pending._producers


class OutcomeTests(TransactionalCase):
    def test_pending_until_the_marker(self) -> None:
        self.plain({EVENTS: 1})
        self.assertEqual(self.commit({EVENTS: 2, LOGS: 3}), [0, 0])
        self.assertEqual(self.offsets(), {EVENTS: 1})
        self.assertEqual(self.offsets(True), {EVENTS: UNSTABLE, LOGS: UNSTABLE})
        self.check_replay()
        self.end(True)
        self.assertEqual(self.offsets(True), {EVENTS: 2, LOGS: 3})
        self.check_replay()

    def test_gone_when_aborted(self) -> None:
        self.plain({EVENTS: 1})
        self.commit({EVENTS: 2, LOGS: 3})
        self.end(False)
        self.assertEqual(self.offsets(True), {EVENTS: 1})
        self.check_replay()

    def test_a_marker_that_nobody_told_of_is_found_with_the_next_append(self) -> None:
        self.commit({EVENTS: 2})
        self.end(True, told=False)
        self.plain({LOGS: 1})
        self.assertEqual(self.offsets(True), {EVENTS: 2, LOGS: 1})

    def test_a_marker_while_the_groups_are_loaded(self) -> None:
        self.commit({EVENTS: 2})
        self.world.resign()
        self.world.lead(load=False)
        self.world.clock.advance(0)
        self.end(True)
        self.world.settle()
        self.assertEqual(self.offsets(True), {EVENTS: 2})

    def test_a_log_that_cannot_be_read_at_a_marker_is_loaded_again(self) -> None:
        self.commit({EVENTS: 2})
        self.world.log.unreadable = True
        self.end(True)
        self.assertEqual(len(self.flushLoggedErrors(KafkaError)), 1)
        self.world.log.unreadable = False
        self.world.clock.advance(1)
        self.world.settle()
        self.assertEqual(self.offsets(True), {EVENTS: 2})

    def test_failed_appends_stage_nothing(self) -> None:
        self.world.log.failing = ErrorCode.NOT_ENOUGH_REPLICAS
        self.assertEqual(self.commit({EVENTS: 2}).code, ErrorCode.COORDINATOR_NOT_AVAILABLE)
        self.assertEqual(self.offsets(True), {})
        self.world.log.torn = True
        self.commit({EVENTS: 2})
        self.assertEqual(self.offsets(True), {EVENTS: UNSTABLE})

    steps = st.lists(
        st.tuples(
            st.sampled_from(["commit", "plain", "delete", "end", "abort"]),
            st.sampled_from([7, 8]),
            st.sampled_from([EVENTS, LOGS]),
        ),
        max_size=25,
    )

    @settings(max_examples=60, deadline=None)
    @given(steps)
    def test_any_order(self, steps: list[Any]) -> None:
        """Against a dictionary: the latest record that counts, wherever its marker is."""
        self.setUp()
        committed: dict[TopicPartition, int] = {}
        pending: dict[int, dict[TopicPartition, int]] = {7: {}, 8: {}}
        for number, (what, producer, place) in enumerate(steps):
            if what == "commit":
                self.commit({place: number}, producer=producer)
                pending[producer][place] = number
            elif what == "plain":
                self.plain({place: number})
                committed[place] = number
            elif what == "delete":
                self.world.result(self.world.coordinator.delete_offsets("g", [place]))
                for offsets in (committed, *pending.values()):
                    offsets.pop(place, None)
            else:
                self.end(what == "end", producer)
                for ended, offset in pending[producer].items():
                    if what == "end":
                        committed[ended] = max(offset, committed.get(ended, -1))
                pending[producer] = {}
            unstable = {place for offsets in pending.values() for place in offsets}
            stable = {place: offset for place, offset in committed.items() if place not in unstable}
            self.assertEqual(
                (self.offsets(), self.offsets(True)), (committed, stable | dict.fromkeys(unstable, UNSTABLE))
            )
        self.check_replay()


class InFlightTests(TransactionalCase):
    """Appends that are in the log while nobody has said yet that they are committed."""

    def setUp(self) -> None:
        super().setUp()
        self.log = self.world.log
        self.log.late = True

    def begin(self, offsets: dict[TopicPartition, int], **request: Any) -> Deferred[Any]:
        """A TxnOffsetCommit that is on its way."""
        begun = Deferred.fromCoroutine(
            self.world.coordinator.commit_in_transaction(txn_request(offsets, **request), True)
        )
        self.assertNoResult(begun)
        return begun

    def begin_plain(self, offsets: dict[TopicPartition, int]) -> Deferred[Any]:
        begun: Deferred[Any] = self.world.coordinator.commit(commit_request(offsets), 9)
        self.assertNoResult(begun)
        return begun

    def stable(self) -> Deferred[Any]:
        """The offsets, for one who waits until no commit is on its way."""
        return Deferred.fromCoroutine(self.world.coordinator.fetch_offsets("g", [EVENTS, LOGS], True))

    def test_a_marker_right_behind_a_commit(self) -> None:
        """Both are committed at once, and the marker is told first or last: what it ends is all that was before it."""
        for told_first in (True, False):
            for commit in (True, False):
                self.setUp()
                begun = self.begin({EVENTS: 2, LOGS: 3})
                self.end(commit, told=False)
                if told_first:
                    self.world.coordinator.marker_committed(WHERE, self.log.end(WHERE))
                self.log.answer()
                self.successResultOf(begun)
                self.world.coordinator.marker_committed(WHERE, self.log.end(WHERE))
                self.assertEqual(self.offsets(True), {EVENTS: 2, LOGS: 3} if commit else {})
                self.check_replay()

    def test_commits_around_a_marker(self) -> None:
        """What is written behind the marker belongs to the next transaction, whenever it is heard of."""
        first = self.begin({EVENTS: 2})
        self.end(True, told=False)
        second = self.begin({LOGS: 3})
        self.assertEqual(self.log.checks, [(7, 0), (7, 0)])  # the coordinator was asked anew
        self.log.answer(2)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(self.offsets(True), {EVENTS: 2, LOGS: UNSTABLE})
        self.end(False)
        self.assertEqual(self.offsets(True), {EVENTS: 2})
        self.check_replay()

    def test_a_plain_commit_around_a_marker(self) -> None:
        """The later record counts; a transaction's are as late as they are themselves, not as their marker."""
        self.begin({EVENTS: 2, LOGS: 2})
        self.begin_plain({EVENTS: 5})
        self.end(True, told=False)
        self.begin_plain({LOGS: 6})
        self.log.answer(3)
        self.assertEqual(self.offsets(True), {EVENTS: 5, LOGS: 6})
        self.check_replay()

    def test_stable_readers_wait_for_what_is_on_its_way(self) -> None:
        begun = self.begin({EVENTS: 2})
        reader = self.stable()
        self.assertNoResult(reader)
        self.log.answer()
        self.successResultOf(begun)
        self.world.settle()
        self.assertEqual([found.is_unstable for found in self.successResultOf(reader)], [True, False])
        self.end(True)
        plain = self.begin_plain({LOGS: 4})
        reader = self.stable()
        self.assertNoResult(reader)
        self.log.answer()
        self.successResultOf(plain)
        self.world.settle()
        found = [(each.is_unstable, each.committed.offset) for each in self.successResultOf(reader)]
        self.assertEqual(found, [(False, 2), (False, 4)])

    def test_a_transaction_that_ends_while_its_coordinator_is_asked(self) -> None:
        """The answer came too late: to take the offsets now would leave them open for ever."""
        self.agreeing.waiting = Deferred()
        begun = self.begin({EVENTS: 2})
        self.end(True, told=False)
        self.agreeing.waiting.callback({WHERE: ErrorCode.NONE})
        self.assertEqual(self.failureResultOf(begun, KafkaError).value.code, ErrorCode.INVALID_TXN_STATE)
        self.assertEqual(self.offsets(True), {})
        self.check_replay()

    def test_a_group_that_is_deleted_takes_along_what_is_on_its_way(self) -> None:
        begun = self.begin({EVENTS: 2})
        deleted: Deferred[None] = self.world.coordinator.delete("g")
        self.end(True, told=False)
        self.log.answer(2)
        self.successResultOf(begun)
        self.world.settle()
        self.successResultOf(deleted)
        self.world.coordinator.marker_committed(WHERE, self.log.end(WHERE))
        self.assertEqual(self.offsets(True), {})
        self.check_replay()

    steps = st.lists(
        st.tuples(
            st.sampled_from(["commit", "commit", "plain", "end", "abort", "answer", "answer all"]),
            st.sampled_from([7, 8]),
            st.sampled_from([EVENTS, LOGS]),
            st.booleans(),
        ),
        max_size=30,
    )

    @settings(max_examples=100, deadline=None)
    @given(steps)
    def test_any_order(self, steps: list[Any]) -> None:
        """Memory is the log up to where it was last heard of, whatever is on its way beyond."""
        self.setUp()
        written: list[tuple[str, int, TopicPartition | None, int]] = []  # one entry an offset of the log
        heard = 0
        for number, (what, producer, place, told) in enumerate(steps):
            if what == "commit":
                self.begin({place: number}, producer=producer)
                written.append((what, producer, place, number))
            elif what == "plain":
                self.begin_plain({place: number})
                written.append((what, producer, place, number))
            elif what in ("end", "abort"):
                written.append((what, producer, None, 0))
                if told:
                    self.log.answer(len(self.log.answers))
                    heard = len(written)
                self.end(what == "end", producer, told)
            elif self.log.answers:
                count = len(self.log.answers) if what == "answer all" else 1
                heard = self.log.answers[count - 1][1] + 1
                self.log.answer(count)
            committed, pending = self.replayed(written[:heard])
            self.assertEqual(self.offsets(), committed, (written, heard))
            self.assertEqual(set(self.world.shard.offsets.pending.of_group("g")), pending, (written, heard))
        self.log.answer(len(self.log.answers))
        self.world.coordinator.marker_committed(WHERE, self.log.end(WHERE))
        self.assertEqual(self.offsets(), self.replayed(written)[0])
        self.check_replay()

    def replayed(self, entries: Any) -> tuple[dict[TopicPartition, int], set[TopicPartition]]:
        """What a log of these entries says: offsets that count, and where some are pending."""
        latest: dict[TopicPartition, tuple[int, int]] = {}  # (offset in the log, committed offset)
        pending: dict[int, dict[TopicPartition, tuple[int, int]]] = {7: {}, 8: {}}
        for at, (what, producer, place, value) in enumerate(entries):
            if what == "commit":
                pending[producer][place] = (at, value)
            elif what == "plain":
                latest[place] = (at, value)
            else:
                for ended, found in pending[producer].items():
                    if what == "end":
                        latest[ended] = max(found, latest.get(ended, (-1, -1)))
                pending[producer] = {}
        return {place: value for place, (_, value) in latest.items()}, {
            place for some in pending.values() for place in some
        }


class SeveralGroupsTests(TransactionalCase):
    """One transaction that moves the positions of several groups, as a Streams application's producer does."""

    def stage(self, **groups: int) -> None:
        for group, offset in groups.items():
            self.assertEqual(self.commit({EVENTS: offset}, group=group), [0])

    def of(self, group: str, stable: bool = True) -> Any:
        """A group's offset of EVENTS."""
        (found,) = self.world.result(self.world.coordinator.fetch_offsets(group, [EVENTS], stable))
        return UNSTABLE if found.is_unstable else found.committed and found.committed.offset

    def test_one_marker_ends_it_for_all(self) -> None:
        for commit, outcome in ((True, [1, 2, 3]), (False, [None, None, None])):
            self.setUp()
            self.stage(a=1, b=2, c=3)
            self.assertEqual([self.of(group) for group in "abc"], [UNSTABLE] * 3)
            self.end(commit)
            self.assertEqual([self.of(group) for group in "abc"], outcome)
            self.check_replay()

    def test_another_transaction_is_another_matter(self) -> None:
        self.stage(a=1, b=2)
        self.commit({EVENTS: 7}, group="b", producer=8)
        self.end(True)
        self.assertEqual([self.of("a"), self.of("b")], [1, UNSTABLE])
        self.assertEqual(self.of("b", stable=False), 2)
        self.end(True, producer=8)
        self.assertEqual([self.of("a"), self.of("b")], [1, 7])
        self.check_replay()

    def test_what_is_deleted_of_one_stays_with_the_others(self) -> None:
        self.stage(a=1, b=2, c=3)
        self.world.result(self.world.coordinator.delete("a"))
        self.world.result(self.world.coordinator.delete_offsets("b", [EVENTS]))
        self.end(True)
        self.assertEqual([self.of(group) for group in "abc"], [None, None, 3])
        self.check_replay()

    def test_a_group_that_an_aborted_transaction_made_is_cleaned_away(self) -> None:
        self.stage(a=1, b=2)
        self.world.result(self.world.coordinator.commit(commit_request({EVENTS: 5}, group="b"), 9))
        self.end(False)
        self.assertEqual([self.of("a"), self.of("b")], [None, 5])
        self.world.clock.advance(30)  # the offset of b has a minute
        self.world.result(self.world.coordinator.upkeep.clean())
        self.assertEqual(list(self.world.shard.groups), ["b"])
        self.check_replay()


class KeepingTests(TransactionalCase):
    def expire(self) -> None:
        self.world.clock.advance(120)
        self.world.result(self.world.coordinator.upkeep.clean())

    def test_expiry_keeps_what_is_pending_and_its_group(self) -> None:
        self.plain({EVENTS: 1, LOGS: 1})
        self.commit({EVENTS: 2})
        self.expire()
        self.assertEqual((self.offsets(), self.offsets(True)), ({EVENTS: 1}, {EVENTS: UNSTABLE}))
        self.end(False)
        self.expire()
        self.assertEqual((self.offsets(), list(self.world.shard.groups)), ({}, []))

    def test_a_deletion_takes_pending_offsets_along(self) -> None:
        """As in Kafka, of an offset and of the group: it is gone for good when it is answered."""
        self.commit({EVENTS: 2, LOGS: 3})
        self.world.result(self.world.coordinator.delete_offsets("g", [EVENTS]))
        self.assertEqual(self.offsets(True), {LOGS: UNSTABLE})
        self.world.result(self.world.coordinator.delete("g"))
        self.end(True)
        self.assertEqual(self.offsets(), {})
        self.check_replay()

    def test_a_deleted_topic(self) -> None:
        self.commit({EVENTS: 2, LOGS: 3})
        self.world.clock.advance(1)
        self.world.metadata.delete("events")
        self.world.settle()
        self.end(True)
        self.assertEqual(self.offsets(), {LOGS: 3})


class CheckTests(TransactionalCase):
    def test_the_coordinator_of_the_transaction_is_asked_once(self) -> None:
        for implicit in (True, False):
            self.commit({EVENTS: 2}, implicit=implicit, producer=int(implicit))
            self.commit({EVENTS: 3}, implicit=implicit, producer=int(implicit))
        self.assertEqual(self.agreeing.asked, [("id", 1, 0, (WHERE,), False), ("id", 0, 0, (WHERE,), True)])

    def test_its_refusals_stage_nothing(self) -> None:
        self.agreeing.error = KafkaError(ErrorCode.PRODUCER_FENCED)
        self.assertEqual(self.commit({EVENTS: 2}).code, ErrorCode.PRODUCER_FENCED)
        self.agreeing.error, self.agreeing.code = None, ErrorCode.TRANSACTION_ABORTABLE
        self.assertEqual(self.commit({EVENTS: 2}).code, ErrorCode.TRANSACTION_ABORTABLE)
        self.assertEqual((self.offsets(True), self.world.log.end(WHERE)), ({}, 0))

    def joined(self) -> str:
        coordinator = self.world.coordinator
        member = self.world.result(coordinator.join(join_request(), 3, "c", "h")).member_id
        self.world.result(coordinator.sync(sync_request(member, 1, {member: b"a"})))
        return str(member)

    def test_members(self) -> None:
        member = self.joined()
        for request, code in (
            ({"member": member, "generation": 1}, None),
            ({}, None),  # from before KIP-447
            ({"member": member, "generation": 2}, ErrorCode.ILLEGAL_GENERATION),
            ({"member": member}, ErrorCode.ILLEGAL_GENERATION),
            ({"member": "nobody", "generation": 1}, ErrorCode.UNKNOWN_MEMBER_ID),
            ({"group": "none", "member": "m", "generation": 1}, ErrorCode.ILLEGAL_GENERATION),
        ):
            result = self.commit({EVENTS: 2}, **request)
            self.assertEqual(getattr(result, "code", None), code, request)

    def test_interfaces(self) -> None:
        verifyObject(ITransactionalWriter, MemoryLog())
        verifyObject(ITransactions, self.agreeing)
        verifyObject(IMarkerListener, self.world.coordinator)
        self.world.coordinator.marker_committed(TopicPartition("events", 0), 5)  # not ours
