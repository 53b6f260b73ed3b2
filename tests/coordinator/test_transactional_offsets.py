"""Offsets that transactions commit: pending until the marker, then in or gone; the same when the log is read again."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
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


class KeepingTests(TransactionalCase):
    def expire(self) -> None:
        self.world.clock.advance(120)
        self.world.result(self.world.coordinator.clean())

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
