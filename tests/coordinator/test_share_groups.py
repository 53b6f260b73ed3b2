"""Share groups: members, epochs, targets, state that is set up and deleted, and groups of other protocols beside them."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from chronik.coordinator.records import Entry, decode_entry
from chronik.coordinator.settings import GroupSettings
from chronik.coordinator.share_assignor import assign_simple
from chronik.coordinator.share_group_records import ShareEpochKey, ShareEpochValue, ShareStateKey, ShareStateValue
from chronik.coordinator.share_requests import ShareRequests
from chronik.errors import ErrorCode, KafkaError
from chronik.group_config import Bounded, GroupTimes
from chronik.interfaces import MetadataDelta
from chronik.model import OFFSETS_TOPIC, SharePartitionKey, TopicPartition
from chronik.wire.messages.share_group_heartbeat import ShareGroupHeartbeatRequest
from chronik.wire.records import decode_records
from tests.coordinator.world import World, commit_request, heartbeat_request, join_request

EVENTS, LOGS = b"events".ljust(16, b"-"), b"logs".ljust(16, b"-")
ALL = frozenset(range(10))


def request(
    member: str, epoch: int = 0, topics: list[str] | None = None, group: str = "g", rack: str | None = None
) -> ShareGroupHeartbeatRequest:
    return ShareGroupHeartbeatRequest(
        group_id=group, member_id=member, member_epoch=epoch, rack_id=rack, subscribed_topic_names=topics
    )


def heartbeat(world: World, asked: ShareGroupHeartbeatRequest, client_id: str, host: str) -> Deferred[Any]:
    return ShareRequests(world.coordinator, world.metadata, world.clock).heartbeat(asked, client_id, host)


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(
            GroupSettings(
                group_initial_rebalance_delay_ms=0,
                group_consumer=GroupTimes(share_session=Bounded(10_000, 1_000, 60_000)),
                group_share_max_size=3,
            )
        )

    def beat(self, *args: Any, **more: Any) -> Any:
        try:
            return self.world.result(heartbeat(self.world, request(*args, **more), "client", "host"))
        except KafkaError as error:
            return error

    def code(self, *args: Any, **more: Any) -> ErrorCode:
        error = self.beat(*args, **more)
        self.assertIsInstance(error, KafkaError, error)
        code: ErrorCode = error.code
        return code

    def assigned(self, answer: Any) -> dict[bytes, frozenset[int]]:
        self.assertIsNotNone(answer.assignment)
        return {each.topic_id: frozenset(each.partitions) for each in answer.assignment.topic_partitions}

    def joined(self, member: str, topics: list[str] | None = None) -> Any:
        """Join, and take over what is set up meanwhile."""
        epoch = self.beat(member, 0, topics or ["events"]).member_epoch
        self.world.settle()
        return self.beat(member, epoch)

    @property
    def group(self) -> Any:
        return self.world.shard.shares.groups["g"]

    def entries(self) -> list[Entry]:
        return [
            entry
            for batch in self.world.log.batches.get(TopicPartition(OFFSETS_TOPIC, 0), ())
            for record in decode_records(batch, 1 << 20)
            if (entry := decode_entry(record.key, record.value)) is not None
        ]

    def again(self) -> World:
        """The coordinator, loaded anew from the same log."""
        return World(self.world.settings, log=self.world.log)


class MembershipTests(Case):
    def test_partitions_come_when_state_is_kept(self) -> None:
        answer = self.beat("a", 0, ["events"])
        self.assertEqual((answer.member_id, answer.member_epoch, answer.heartbeat_interval_ms), ("a", 1, 5_000))
        self.assertEqual(self.assigned(answer), {})
        self.world.settle()
        self.assertEqual(
            self.world.states.kept, {SharePartitionKey("g", EVENTS, number): (1, -1) for number in range(10)}
        )
        answer = self.beat("a", 1)
        self.assertEqual((answer.member_epoch, self.assigned(answer)), (2, {EVENTS: ALL}))
        written = len(self.entries())
        answer = self.beat("a", 2)
        self.assertEqual((answer.member_epoch, answer.assignment), (2, None))
        self.assertEqual(len(self.entries()), written, "nothing has changed")
        self.assertEqual(self.assigned(self.beat("a", 2, ["events"])), {EVENTS: ALL})

    def test_two_members(self) -> None:
        self.joined("a")
        second = self.beat("b", 0, ["events"])
        first = self.beat("a", 2)
        one, other = self.assigned(first)[EVENTS], self.assigned(second)[EVENTS]
        self.assertEqual(one | other, ALL)
        self.assertEqual((first.member_epoch, second.member_epoch), (3, 3))
        self.beat("b", -1)
        self.assertEqual(self.assigned(self.beat("a", 3))[EVENTS], ALL)

    def test_members_without_a_sound_are_out(self) -> None:
        self.joined("a")
        self.beat("b", 0, ["events"])
        self.world.clock.advance(9)
        self.beat("b", 3)
        self.world.clock.advance(2)
        self.world.settle()
        self.assertEqual(list(self.group.members), ["b"])
        self.assertEqual(self.code("a", 2), ErrorCode.UNKNOWN_MEMBER_ID)
        self.world.metadata.groups["g"] = {"share.session.timeout.ms": "30000"}
        self.beat("b", 3)
        self.world.clock.advance(29)
        self.world.settle()
        self.assertEqual(list(self.group.members), ["b"])
        self.world.clock.advance(2)
        self.world.settle()
        self.assertEqual(self.group.state, "Empty")

    def test_epochs(self) -> None:
        self.joined("a")
        self.assertEqual(self.code("a", 3), ErrorCode.FENCED_MEMBER_EPOCH)
        self.assertEqual(self.beat("a", 1).member_epoch, 2)  # its answer may have been lost
        self.assertEqual(self.code("a", 0, ["events"]), ErrorCode.FENCED_MEMBER_EPOCH)
        self.assertEqual(self.code("b", 2), ErrorCode.UNKNOWN_MEMBER_ID)
        self.assertEqual(self.code("b", -1), ErrorCode.UNKNOWN_MEMBER_ID)

    def test_refusals(self) -> None:
        for bad in (
            request("", 0, ["events"]),
            request("a", 0, ["events"], group=""),
            request("a", 0, ["events"], rack=" "),
            request("a", 0),
            request("a", 0, []),
            request("a", -2),
        ):
            error = self.assertRaises(KafkaError, heartbeat, self.world, bad, "client", "host")
            self.assertEqual(error.code, ErrorCode.INVALID_REQUEST)
        self.assertEqual(self.code("a", 1), ErrorCode.GROUP_ID_NOT_FOUND)
        self.assertEqual(self.code("a", -1), ErrorCode.GROUP_ID_NOT_FOUND)
        self.assertEqual(self.entries(), [])

    def test_a_full_group(self) -> None:
        for member in "abc":
            self.beat(member, 0, ["events"])
        self.assertEqual(self.code("d", 0, ["events"]), ErrorCode.GROUP_MAX_SIZE_REACHED)
        self.assertNotIsInstance(self.beat("a", 1), KafkaError)

    def test_topics_come_grow_and_go(self) -> None:
        self.joined("a", ["events", "later"])
        topic = self.world.metadata.create("later", 2)
        self.world.metadata.tell(MetadataDelta(created=[topic]))
        epoch = self.beat("a", 2).member_epoch
        self.world.settle()
        answer = self.beat("a", epoch)
        self.assertEqual(self.assigned(answer), {EVENTS: ALL, topic.topic_id: {0, 1}})
        topic = self.world.metadata.create("later", 3)
        self.world.metadata.tell(MetadataDelta(changed=[topic]))
        epoch = self.beat("a", answer.member_epoch).member_epoch
        self.world.settle()
        answer = self.beat("a", epoch)
        self.assertEqual(self.assigned(answer), {EVENTS: ALL, topic.topic_id: {0, 1, 2}})
        self.world.metadata.delete("later")
        self.world.settle()
        self.assertNotIn(topic.topic_id, self.group.initialised)
        self.assertEqual(self.assigned(self.beat("a", answer.member_epoch)), {EVENTS: ALL})

    def test_a_restart(self) -> None:
        self.joined("a")
        self.beat("b", 0, ["events"])
        again = self.again()
        before, after = self.group, again.shard.shares.groups["g"]
        for name in ("epoch", "target_epoch", "members", "targets", "initialised", "initialising", "metadata_hash"):
            self.assertEqual(getattr(after, name), getattr(before, name), name)
        again.clock.advance(11)
        again.settle()
        self.assertEqual(after.members, {}, "they had a session to be heard")

    def test_a_failed_append_changes_nothing(self) -> None:
        self.world.log.failing = ErrorCode.NOT_ENOUGH_REPLICAS
        self.assertEqual(self.code("a", 0, ["events"]), ErrorCode.COORDINATOR_NOT_AVAILABLE)
        self.world.log.failing = None
        self.assertEqual(self.world.shard.shares.groups, {})
        self.assertEqual(self.assigned(self.joined("a")), {EVENTS: ALL})

    def test_requests_take_turns(self) -> None:
        self.joined("a")
        self.world.log.holding = True
        answers: list[Any] = []
        for each in (request("b", 0, ["events"]), request("a", 2), request("b", -1)):
            heartbeat(self.world, each, "client", "host").addBoth(answers.append)
        self.world.settle()
        self.assertEqual((len(self.world.log.held), answers), (1, []))
        while self.world.log.held:
            self.world.log.release()
        self.assertEqual([answer.member_epoch for answer in answers], [3, 3, -1])


class StateTests(Case):
    """What the share coordinator is asked for."""

    def test_what_cannot_be_set_up_is_tried_again(self) -> None:
        self.world.states.failing = {3: ErrorCode.COORDINATOR_NOT_AVAILABLE}
        answer = self.joined("a")
        self.assertEqual(self.assigned(answer), {EVENTS: ALL - {3}})
        self.world.states.failing = {}
        epoch = self.beat("a", answer.member_epoch).member_epoch
        self.world.settle()
        self.assertEqual(self.assigned(self.beat("a", epoch)), {EVENTS: ALL})
        self.assertEqual(self.group.initialising, {})

    def test_it_is_asked_for_once(self) -> None:
        self.world.states.holding = True
        self.beat("a", 0, ["events"])
        self.beat("b", 0, ["events"])
        self.beat("a", 1)
        self.assertEqual(len(self.world.states.held), 10)
        self.world.states.release_all()
        self.world.settle()
        self.assertEqual(self.group.initialised[EVENTS].partitions, ALL)

    def test_a_crash_meanwhile(self) -> None:
        self.world.states.holding = True
        self.beat("a", 0, ["events"])
        again = self.again()
        self.assertEqual(again.shard.shares.groups["g"].initialising[EVENTS].partitions, ALL)
        again.result(heartbeat(again, request("a", 1), "client", "host"))
        again.settle()
        answer = again.result(heartbeat(again, request("a", 1), "client", "host"))
        self.assertEqual(self.assigned(answer), {EVENTS: ALL})

    def test_record(self) -> None:
        self.joined("a")
        states = [entry.value for entry in self.entries() if isinstance(entry.key, ShareStateKey)]
        assert all(isinstance(each, ShareStateValue) for each in states)
        self.assertEqual(
            [(len(each.initializing_topics), len(each.initialized_topics)) for each in states],  # type: ignore[union-attr]
            [(1, 0), (0, 1)],
        )


class OffsetTests(Case):
    """Start offsets told, set and forgotten."""

    def setUp(self) -> None:
        super().setUp()
        self.offsets = ShareRequests(self.world.coordinator, self.world.metadata, self.world.clock)

    def test_of_an_empty_group(self) -> None:
        self.joined("a")
        error = self.world.result(self.offsets.alter("g", {EVENTS: {0: 5}}))
        self.assertEqual(error.code, ErrorCode.NON_EMPTY_GROUP)
        self.beat("a", -1)
        self.assertEqual(self.world.result(self.offsets.alter("g", {EVENTS: {0: 5, 1: 7}, LOGS: {2: 9}})), {})
        starts = self.world.result(self.offsets.starts("g", {EVENTS: [0, 1, 2], LOGS: [2]}))
        self.assertEqual(
            {(*place[1:], each.offset) for place, each in starts.items()}, {(0, 5), (1, 7), (2, -1), (2, 9)}
        )
        self.assertEqual(self.world.states.kept[SharePartitionKey("g", LOGS, 2)], (3, 9))
        self.assertEqual(
            {name: kept.partitions for name, kept in self.offsets.known("g").items()}, {EVENTS: ALL, LOGS: {2}}
        )

    def test_what_fails(self) -> None:
        self.joined("a")
        self.beat("a", -1)
        self.world.states.failing = {1: ErrorCode.FENCED_STATE_EPOCH}
        failures = self.world.result(self.offsets.alter("g", {LOGS: {0: 5, 1: 7}}))
        self.assertEqual(
            {place: error.code for place, error in failures.items()}, {(LOGS, 1): ErrorCode.FENCED_STATE_EPOCH}
        )
        self.assertEqual(self.group.initialised[LOGS].partitions, {0})
        self.assertEqual(self.group.initialising, {})

    def test_forgetting(self) -> None:
        self.joined("a", ["events", "logs"])
        error = self.world.result(self.offsets.delete("g", [EVENTS]))
        self.assertEqual(error.code, ErrorCode.NON_EMPTY_GROUP)
        self.beat("a", -1)
        self.assertEqual(self.world.result(self.offsets.delete("g", [EVENTS, b"nowhere"])), {EVENTS: None})
        self.assertEqual({key.topic_id for key in self.world.states.kept}, {LOGS})
        self.assertEqual((list(self.group.initialised), self.group.deleting), ([LOGS], {}))
        self.assertEqual(self.world.result(self.offsets.delete("g", [EVENTS])), {})

    def test_forgetting_that_fails_half_way(self) -> None:
        self.joined("a")
        self.beat("a", -1)
        self.world.states.failing = {4: ErrorCode.COORDINATOR_NOT_AVAILABLE}
        outcomes = self.world.result(self.offsets.delete("g", [EVENTS]))
        self.assertEqual(outcomes[EVENTS].code, ErrorCode.COORDINATOR_NOT_AVAILABLE)
        self.assertEqual(list(self.group.deleting), [EVENTS])
        self.world.states.failing = {}
        self.assertEqual(self.world.result(self.offsets.delete("g", [EVENTS])), {EVENTS: None})
        self.assertEqual((self.group.deleting, self.world.states.kept), ({}, {}))

    def test_groups_that_are_not_there(self) -> None:
        for operation in (self.offsets.alter("g", {EVENTS: {0: 1}}), self.offsets.delete("g", [EVENTS])):
            self.assertEqual(self.world.result(operation).code, ErrorCode.GROUP_ID_NOT_FOUND)
        self.assertEqual(self.offsets.known("g"), {})

    def test_deleting_the_group(self) -> None:
        self.joined("a")
        error = self.world.result(self.world.coordinator.delete("g"))
        self.assertEqual(error.code, ErrorCode.NON_EMPTY_GROUP)
        self.beat("a", -1)
        self.assertIsNone(self.world.result(self.world.coordinator.delete("g")))
        self.assertEqual((self.world.shard.shares.groups, self.world.states.kept), ({}, {}))
        self.assertEqual(self.again().shard.shares.groups, {})
        error = self.world.result(self.world.coordinator.delete("g"))
        self.assertEqual(error.code, ErrorCode.GROUP_ID_NOT_FOUND)


class NeighbourTests(Case):
    """Groups of other protocols under the same id, and requests of theirs."""

    def test_a_share_group_is_no_other(self) -> None:
        self.joined("a")
        coordinator = self.world.coordinator
        error = self.world.beat(heartbeat_request("m", 0, ["events"]))
        self.assertEqual(error.code, ErrorCode.GROUP_ID_NOT_FOUND)
        joined = self.world.result(coordinator.join(join_request(), 9, "client", "host"))
        self.assertEqual(joined.error_code, ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        error = self.assertRaises(
            KafkaError, coordinator.commit, commit_request({("events", 0): 1}, member="m", generation=1), 9
        )
        self.assertEqual(error.code, ErrorCode.GROUP_ID_NOT_FOUND)
        self.assertRaises(KafkaError, coordinator.heartbeat, "g", "a", None, 1)
        self.assertIsNone(coordinator.describe("g"))
        self.assertRaises(KafkaError, coordinator.describe_consumer_group, "g")
        error = self.world.result(coordinator.delete_offsets("g", [TopicPartition("events", 0)]))
        self.assertEqual(error.code, ErrorCode.GROUP_ID_NOT_FOUND)
        self.assertEqual(list(self.group.members), ["a"])

    def test_another_group_is_no_share_group(self) -> None:
        self.world.beat(heartbeat_request("m", 0, ["events"]))
        for epoch in (0, 1, -1):
            self.assertEqual(self.code("a", epoch, ["events"]), ErrorCode.GROUP_ID_NOT_FOUND)
        shares = self.world.shard.shares
        self.assertEqual(self.assertRaises(KafkaError, shares.describe, "g").message, "Group g is not a share group.")

    def test_listed_and_described(self) -> None:
        self.joined("a")
        listed = self.world.result(self.world.coordinator.list())
        self.assertEqual(
            [(each.group_id, each.protocol_type, each.group_state, each.group_type) for each in listed],
            [("g", "share", "Stable", "share")],
        )
        self.assertEqual(self.world.result(self.world.coordinator.list((), ("Classic", "Consumer"))), [])
        self.assertEqual(self.world.result(self.world.coordinator.list(("empty",), ("Share",))), [])
        described = self.world.shard.shares.describe("g")
        self.assertEqual(
            (described.group_state, described.group_epoch, described.assignment_epoch, described.assignor_name),
            ("Stable", 2, 2, "simple"),
        )
        (member,) = described.members
        self.assertEqual(
            (member.member_id, member.client_host, member.subscribed_topic_names), ("a", "/host", ["events"])
        )
        self.assertEqual([each.topic_name for each in member.assignment.topic_partitions], ["events"])


topic_ids = st.sampled_from([bytes([number]) * 16 for number in range(3)])


class AssignorTests(SynchronousTestCase):
    """Who reads what."""

    @settings(max_examples=200, deadline=None)
    @given(
        st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.frozensets(topic_ids), max_size=6),
        st.dictionaries(topic_ids, st.frozensets(st.integers(0, 6), max_size=7), max_size=3),
    )
    def test_everything_is_read(
        self, members: dict[str, frozenset[bytes]], partitions: dict[bytes, frozenset[int]]
    ) -> None:
        first = assign_simple(members, partitions, {})
        self.assertEqual(first.keys(), members.keys())
        for member_id, topics in members.items():
            for topic_id, numbers in first[member_id].items():
                self.assertIn(topic_id, topics)
                self.assertLessEqual(numbers, partitions[topic_id])
            if any(partitions.get(topic_id) for topic_id in topics):
                self.assertTrue(first[member_id], "it has nothing to read")
        for topic_id, numbers in partitions.items():
            if any(topic_id in topics for topics in members.values()):
                read = frozenset().union(*(each.get(topic_id, frozenset()) for each in first.values()))
                self.assertEqual(read, numbers)
        if len(set(members.values())) == 1 and members:
            sizes = [sum(map(len, each.values())) for each in first.values()]
            self.assertLessEqual(max(sizes) - min(sizes), 1 + (sum(sizes) > sum(map(len, partitions.values()))))
        self.assertEqual(assign_simple(members, partitions, first), first, "it stays as it was")


class ReplayTests(Case):
    """Records out of their order, as compaction leaves them."""

    def test_tombstones_of_what_is_not_there(self) -> None:
        shares = self.world.shard.shares
        shares.replay(ShareEpochKey(group="x"), None)
        self.assertEqual(shares.groups, {})
        shares.replay(ShareEpochKey(group="x"), ShareEpochValue(epoch=4))
        self.assertEqual(shares.groups["x"].epoch, 4)
