"""The coordinator on a log that delays and fails: loading, appends in flight, expiry, deletion, resignation."""

from __future__ import annotations

import gc
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from chronik.coordinator import group_partition
from chronik.coordinator import hosted as hosted_module
from chronik.coordinator.records import Entry, OffsetCommitKey, decode_entry
from chronik.coordinator.settings import GroupSettings
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata, ICommittedReader, IPartitionHost, IPartitionWriter
from chronik.model import OFFSETS_TOPIC, PartitionId, TopicPartition
from chronik.wire.messages.leave_group import MemberIdentity
from chronik.wire.records import Record, decode_records, encode_batch
from tests.coordinator.world import WALL, MemoryLog, OneNode, World, commit_request, join_request, sync_request

E = ErrorCode
PARTITION = TopicPartition(OFFSETS_TOPIC, 0)
HOUR = 3_600_000
EVENTS = TopicPartition("events", 0)
LOGS = TopicPartition("logs", 0)


class Case(SynchronousTestCase):
    def commit(self, world: World, offsets: dict[Any, int], version: int = 9, **request: Any) -> Any:
        try:
            return world.coordinator.commit(commit_request(offsets, **request), version)
        except KafkaError as error:
            return error

    def committed(self, world: World, group: str = "g", stable: bool = False) -> dict[TopicPartition, int]:
        found = world.result(world.coordinator.fetch_offsets(group, None, stable))
        return {place: committed.offset for place, committed, _ in found}

    def codes(self, response: Any) -> list[int]:
        return [p.error_code for topic in response.topics for p in topic.partitions]

    def member(self, world: World, group: str = "g", generation: int = 1, **request: Any) -> str:
        """One member in a stable group of its own."""
        joined = world.coordinator.join(join_request(group=group, **request), 3, "client", "127.0.0.1")
        world.clock.advance(0)
        member: str = self.successResultOf(joined).member_id
        synced = world.coordinator.sync(sync_request(member, generation, {member: b"A"}, group=group))
        self.assertEqual(self.successResultOf(synced).assignment, b"A")
        return member

    def entries(self, world: World) -> list[Entry]:
        """Everything in the log."""
        return [
            decode_entry(record.key, record.value)
            for batch in world.log.batches.get(PARTITION, ())
            for record in decode_records(batch, 1 << 20)
        ]

    def assert_equals_replay(self, world: World) -> None:
        """What is in memory is what a new coordinator reads from the log."""
        other = World(world.settings, world.log)
        self.assertEqual(other.shard.stored, world.shard.stored)
        self.assertEqual(other.shard.offsets._groups, world.shard.offsets._groups)
        other.coordinator.stop()

    def code_of(self, operation: Any, *arguments: Any) -> ErrorCode:
        return self.assertRaises(KafkaError, operation, *arguments).code


class InterfaceTests(Case):
    def test_interfaces(self) -> None:
        verifyObject(IPartitionHost, World().coordinator)
        verifyObject(IPartitionWriter, MemoryLog())
        verifyObject(ICommittedReader, MemoryLog())
        verifyObject(IClusterMetadata, OneNode())


class LoadingTests(Case):
    def test_line_31_loading_is_said(self) -> None:
        """31. While loading, a coordinator answers COORDINATOR_LOAD_IN_PROGRESS, never 0 or -1."""
        world = World()
        self.commit(world, {EVENTS: 7})
        world.lead(load=False)
        coordinator = world.coordinator
        loading = E.COORDINATOR_LOAD_IN_PROGRESS
        self.assertEqual(self.code_of(coordinator.join, join_request(), 9, "c", "h"), loading)
        self.assertEqual(self.code_of(coordinator.sync, sync_request("m", 1)), loading)
        self.assertEqual(self.code_of(coordinator.leave, "g", [MemberIdentity(member_id="m")]), loading)
        self.assertEqual(self.commit(world, {EVENTS: 8}).code, loading)
        self.assertEqual(self.code_of(coordinator.describe, "g"), loading)
        for operation in (
            coordinator.fetch_offsets("g", [EVENTS], False),
            coordinator.fetch_offsets("g", None, True),
            coordinator.list(),
            coordinator.delete("g"),
            coordinator.delete_offsets("g", [EVENTS]),
        ):
            waiting = operation if isinstance(operation, Deferred) else Deferred.fromCoroutine(operation)
            failure = self.failureResultOf(waiting, KafkaError)
            self.assertEqual(failure.value.code, loading)
        coordinator.heartbeat("g", "m", None, 1)  # nothing is known against the member
        world.settle()
        self.assertEqual(self.committed(world), {EVENTS: 7})

    def test_line_29_live_equals_replay(self) -> None:
        """29. Live offsets equal a replay of the log after restart."""
        world = World()
        member = self.member(world)
        self.commit(world, {EVENTS: 1, LOGS: 2}, member=member, generation=1, metadata="m")
        self.commit(world, {EVENTS: 5}, member=member, generation=1)
        self.commit(world, {EVENTS: 9}, group="simple", retention=HOUR, version=2)
        world.result(world.coordinator.delete_offsets("simple", [EVENTS]))
        self.commit(world, {LOGS: 9}, group="simple")
        self.assert_equals_replay(world)
        restarted = World(world.settings, world.log)
        self.assertEqual(self.committed(restarted), {EVENTS: 5, LOGS: 2})
        self.assertEqual(self.committed(restarted, "simple"), {LOGS: 9})
        restarted.coordinator.heartbeat("g", member, None, 1)
        described = restarted.coordinator.describe("g")
        self.assertEqual((described.group_state, described.members[0].member_assignment), ("Stable", b"A"))
        self.assertEqual(described.members[0].client_host, "/127.0.0.1")

    def test_loading_leaves_the_reactor_free(self) -> None:
        """A long log is read in slices: so many turns of the reactor as there are slices."""
        world = World()
        for start in range(0, 5_000, 100):
            self.commit(world, {("events", i): start for i in range(start, start + 100)})
        restarted = World(world.settings, world.log, led=False)
        turns: list[float] = []
        call_later = restarted.clock.callLater

        def counted(delay: float, *arguments: Any) -> Any:
            turns.append(delay)
            return call_later(delay, *arguments)

        self.patch(restarted.clock, "callLater", counted)
        restarted.lead()
        self.assertGreaterEqual(turns.count(0), 5_000 // hosted_module.SLICE_RECORDS)
        self.assertEqual(len(self.committed(restarted)), 5_000)

    def test_resigning_while_loading(self) -> None:
        world = World()
        self.commit(world, {EVENTS: 7})
        world.lead(load=False)
        world.resign()
        world.settle()
        self.assertEqual(self.commit(world, {EVENTS: 8}).code, E.NOT_COORDINATOR)
        world.lead()
        self.assertEqual(self.committed(world), {EVENTS: 7})

    def test_unreadable_log_is_said_and_not_served(self) -> None:
        world = World(led=False)
        world.log.append(PARTITION, encode_batch([Record(0, WALL, b"\x00\x01", b"broken")]))
        world.lead()
        self.assertEqual(len(self.flushLoggedErrors(KafkaError)), 1)
        self.assertEqual(self.commit(world, {EVENTS: 8}).code, E.COORDINATOR_NOT_AVAILABLE)
        world.coordinator.stop()
        self.assertEqual(world.clock.getDelayedCalls(), [])

    def test_failed_loading_is_tried_again(self) -> None:
        """After 1 s, 2 s, 4 s ..., never after more than a minute; until it works, then from 1 s on again."""
        world = World()
        self.commit(world, {EVENTS: 7})
        world.log.unreadable = True
        for _ in range(2):
            world.lead()
            tries = []
            for second in range(300):
                before = world.log.reads
                world.clock.advance(1)
                tries += [second + 1] * (world.log.reads - before)
            self.assertEqual(tries, [1, 3, 7, 15, 31, 63, 123, 183, 243])
            self.assertEqual(len(self.flushLoggedErrors(KafkaError)), 10)
            self.assertEqual(self.commit(world, {EVENTS: 8}).code, E.COORDINATOR_NOT_AVAILABLE)
        world.log.unreadable = False
        world.clock.advance(60)
        world.settle()
        self.assertEqual(self.committed(world), {EVENTS: 7})
        self.commit(world, {EVENTS: 9})
        self.assert_equals_replay(world)

    def test_a_partition_that_fails_while_it_is_served_is_loaded_again(self) -> None:
        """An append failed and what is in the log now cannot be read: whoever waits is told, and it comes back."""
        world = World()
        self.member(world)
        self.commit(world, {EVENTS: 1}, group="simple")
        waiting = world.coordinator.join(join_request(), 3, "second", "h")
        world.log.holding = True
        held = self.commit(world, {EVENTS: 3}, group="simple")
        lost = self.commit(world, {EVENTS: 2}, group="simple")
        world.log.unreadable = True
        world.log.release(E.NOT_ENOUGH_REPLICAS, 1)
        self.assertEqual(self.failureResultOf(lost, KafkaError).value.code, E.NOT_COORDINATOR)
        self.assertEqual(self.successResultOf(waiting).error_code, E.NOT_COORDINATOR)
        self.assertEqual(len(self.flushLoggedErrors(KafkaError)), 1)
        self.assertEqual(self.commit(world, {EVENTS: 2}).code, E.COORDINATOR_NOT_AVAILABLE)
        world.log.unreadable = False
        world.clock.advance(1)
        world.settle()
        # It waits for the append that is still on its way, or memory would be behind the log when that one ends.
        self.assertEqual(self.commit(world, {EVENTS: 2}).code, E.COORDINATOR_LOAD_IN_PROGRESS)
        world.log.release_all()
        world.settle()
        self.assertEqual(self.codes(self.successResultOf(held)), [E.NONE])
        self.assertEqual(self.committed(world, "simple"), {EVENTS: 3})
        self.assertEqual(world.coordinator.describe("g").group_state, "Stable")
        self.assert_equals_replay(world)

    def test_records_of_unknown_kinds_are_skipped(self) -> None:
        world = World(led=False)
        world.log.append(PARTITION, encode_batch([Record(0, WALL, b"\x00\x63x", b"y")]))
        world.lead()
        self.commit(world, {EVENTS: 8})
        self.assertEqual(self.committed(world), {EVENTS: 8})


class CommitTests(Case):
    def test_line_28_metadata_comes_back(self) -> None:
        """28. OffsetCommit metadata comes back from OffsetFetch; no partition appears twice."""
        world = World()
        self.commit(world, {EVENTS: 1}, metadata="é metadata")
        self.commit(world, {EVENTS: 2, LOGS: 3}, metadata="é metadata")
        found = world.result(world.coordinator.fetch_offsets("g", None, True))
        self.assertEqual(sorted(place for place, _, _ in found), [EVENTS, LOGS])
        self.assertEqual({(c.metadata, c.leader_epoch) for _, c, _ in found}, {("é metadata", 3)})

    def test_metadata_limit(self) -> None:
        """4096 UTF-16 units are let through, one more is refused, for that partition alone."""
        world = World()
        request = commit_request({EVENTS: 1, LOGS: 2}, metadata="x" * 4_096)
        request.topics[1].partitions[0].committed_metadata = "\U0001f600" * 2_048 + "y"
        response = self.successResultOf(world.coordinator.commit(request, 9))
        self.assertEqual(self.codes(response), [E.NONE, E.OFFSET_METADATA_TOO_LARGE])
        self.assertEqual(self.committed(world), {EVENTS: 1})

    def test_line_30_simple_consumers_are_listed(self) -> None:
        """30. ListGroups reads the live coordinator; groups of assign()-only committers appear as Empty."""
        world = World()
        self.commit(world, {EVENTS: 1}, group="simple")
        member = self.member(world, "live")
        listed = {g.group_id: (g.group_state, g.protocol_type) for g in world.result(world.coordinator.list())}
        self.assertEqual(listed, {"simple": ("Empty", ""), "live": ("Stable", "consumer")})
        world.coordinator.leave("live", [MemberIdentity(member_id=member)])
        states = [g.group_state for g in world.result(world.coordinator.list())]
        self.assertEqual(states, ["Empty", "Empty"])

    def test_who_may_commit(self) -> None:
        world = World()
        member = self.member(world)
        for expected, request in (
            (E.ILLEGAL_GENERATION, {"member": member, "generation": 0}),
            (E.UNKNOWN_MEMBER_ID, {"member": "stranger", "generation": 1}),
            (E.UNKNOWN_MEMBER_ID, {}),
            (E.UNKNOWN_MEMBER_ID, {"member": member, "generation": 1, "instance": "i"}),
            (E.GROUP_ID_NOT_FOUND, {"group": "nobody", "generation": 3, "member": "m"}),
        ):
            self.assertEqual(self.commit(world, {EVENTS: 1}, **request).code, expected, request)
        old = self.commit(world, {EVENTS: 1}, version=8, group="nobody", generation=3, member="m")
        self.assertEqual(old.code, E.ILLEGAL_GENERATION)
        self.commit(world, {EVENTS: 1}, group="empty")
        self.assertEqual(
            self.commit(world, {EVENTS: 1}, group="empty", generation=0, member="m").code, E.UNKNOWN_MEMBER_ID
        )
        self.assertEqual(self.committed(world), {})

    def test_fenced_static_member_may_not_commit(self) -> None:
        world = World()
        old = self.member(world, instance="i")
        world.coordinator.join(join_request(instance="i"), 9, "c", "h")
        error = self.commit(world, {EVENTS: 1}, member=old, generation=1, instance="i")
        self.assertEqual(error.code, E.FENCED_INSTANCE_ID)

    def test_no_commits_between_join_and_sync(self) -> None:
        world = World()
        joined = world.coordinator.join(join_request(), 3, "c", "h")
        world.clock.advance(0)
        member = self.successResultOf(joined).member_id
        error = self.commit(world, {EVENTS: 1}, member=member, generation=1)
        self.assertEqual(error.code, E.REBALANCE_IN_PROGRESS)

    def test_a_commit_keeps_the_session(self) -> None:
        world = World()
        member = self.member(world)
        for offset in range(5):
            world.clock.advance(9)
            self.commit(world, {EVENTS: offset}, member=member, generation=1)
        world.coordinator.heartbeat("g", member, None, 1)
        world.clock.advance(11)
        self.assertEqual(self.code_of(world.coordinator.heartbeat, "g", member, None, 1), E.UNKNOWN_MEMBER_ID)

    def test_a_gap_is_read_from_the_log(self) -> None:
        """An append is heard of after a later one: both are in memory once the later one is answered, in the log's order."""
        world = World()
        world.log.late = True
        first = self.commit(world, {EVENTS: 1, LOGS: 1})
        second = self.commit(world, {EVENTS: 2})
        (one, one_at), (two, two_at) = world.log.answers
        two.callback(two_at)
        self.assertEqual(self.codes(self.successResultOf(second)), [E.NONE])
        self.assertEqual(self.committed(world), {EVENTS: 2, LOGS: 1})
        one.callback(one_at)
        self.assertEqual(self.codes(self.successResultOf(first)), [E.NONE, E.NONE])
        self.assertEqual(self.committed(world), {EVENTS: 2, LOGS: 1})
        self.assert_equals_replay(world)

    def test_commits_pipeline(self) -> None:
        """Many appends are on their way at once; each answer leaves after its own."""
        world = World()
        world.log.holding = True
        answers = [self.commit(world, {EVENTS: offset}) for offset in range(10)]
        self.assertEqual(len(world.log.held), 10)
        self.assertEqual(self.committed(world), {})
        for index, answer in enumerate(answers):
            self.assertNoResult(answer)
            world.log.release()
            self.assertEqual(self.codes(self.successResultOf(answer)), [E.NONE])
            self.assertEqual(self.committed(world), {EVENTS: index})

    def test_answers_out_of_order_replay_in_the_order_of_the_log(self) -> None:
        world = World()
        world.log.holding = True
        first, second = self.commit(world, {EVENTS: 1}), self.commit(world, {EVENTS: 2})
        _, batch_1, waiting_1 = world.log.held[0]
        _, batch_2, waiting_2 = world.log.held[1]
        base_1, base_2 = world.log._write(PARTITION, batch_1), world.log._write(PARTITION, batch_2)
        waiting_2.callback(base_2)
        self.successResultOf(second)
        self.assertEqual(self.committed(world), {EVENTS: 2})
        waiting_1.callback(base_1)
        self.successResultOf(first)
        self.assertEqual(self.committed(world), {EVENTS: 2})

    def test_a_failed_append_changes_nothing(self) -> None:
        world = World()
        self.commit(world, {EVENTS: 1})
        for code, told in (
            (E.NOT_ENOUGH_REPLICAS, E.COORDINATOR_NOT_AVAILABLE),
            (E.NOT_LEADER_OR_FOLLOWER, E.NOT_COORDINATOR),
            (E.KAFKA_STORAGE_ERROR, E.NOT_COORDINATOR),
            (E.MESSAGE_TOO_LARGE, E.UNKNOWN_SERVER_ERROR),
        ):
            world.log.failing = code
            failure = self.failureResultOf(self.commit(world, {EVENTS: 2}), KafkaError)
            self.assertEqual(failure.value.code, told)
        self.assertEqual(self.committed(world), {EVENTS: 1})
        world.log.failing = None
        self.commit(world, {LOGS: 3})
        self.assertEqual(self.committed(world), {EVENTS: 1, LOGS: 3})
        self.assert_equals_replay(world)

    def test_a_failed_append_that_reached_the_log_is_in_memory(self) -> None:
        """The client heard an error, the log has the record: memory follows the log."""
        world = World()
        world.log.failing, world.log.torn = E.NOT_ENOUGH_REPLICAS_AFTER_APPEND, True
        self.failureResultOf(self.commit(world, {EVENTS: 2}), KafkaError)
        self.assertEqual(self.committed(world), {EVENTS: 2})
        world.log.failing = None
        self.commit(world, {LOGS: 3})
        self.assert_equals_replay(world)

    def test_require_stable_waits_for_what_is_on_its_way(self) -> None:
        world = World()
        self.commit(world, {EVENTS: 1})
        world.log.holding = True
        self.commit(world, {EVENTS: 2})
        waiting = Deferred.fromCoroutine(world.coordinator.fetch_offsets("g", [EVENTS], True))
        self.assertNoResult(waiting)
        self.commit(world, {EVENTS: 3})
        self.assertEqual(self.committed(world), {EVENTS: 1})
        world.log.release()
        self.assertEqual(self.successResultOf(waiting)[0][1].offset, 2)

    def test_abandoned_requests_harm_nobody(self) -> None:
        """A client that goes away cancels its answer, not the append, nor the group's work."""
        world = World()
        world.log.holding = True
        commit = self.commit(world, {EVENTS: 1})
        commit.cancel()
        self.failureResultOf(commit)
        world.log.release()
        self.assertEqual(self.committed(world), {EVENTS: 1})
        world.log.holding = False
        joined = world.coordinator.join(join_request(group="other"), 3, "c", "h")
        joined.cancel()
        self.failureResultOf(joined)
        world.clock.advance(0)
        self.assertEqual(world.coordinator.describe("other").group_state, "CompletingRebalance")


class ExpiryTests(Case):
    def expire(self, world: World, hours: float) -> None:
        """Let time pass as it does: the check runs every ten minutes."""
        for _ in range(int(hours * 6)):
            world.clock.advance(600)
        world.settle()

    def world(self) -> World:
        return World(GroupSettings(group_initial_rebalance_delay_ms=0, offsets_retention_minutes=60))

    def test_simple_consumer_expires_by_commit(self) -> None:
        world = self.world()
        self.commit(world, {EVENTS: 1})
        self.expire(world, 0.5)
        self.commit(world, {LOGS: 1})
        self.expire(world, 0.8)
        self.assertEqual(self.committed(world), {LOGS: 1})
        self.expire(world, 1)
        self.assertEqual(world.result(world.coordinator.list()), [])
        self.assert_equals_replay(world)

    def test_empty_group_expires_since_it_was_left(self) -> None:
        world = self.world()
        member = self.member(world, session=1_800_000)
        self.commit(world, {EVENTS: 1}, member=member, generation=1)
        self.expire(world, 0.4)
        world.coordinator.leave("g", [MemberIdentity(member_id=member)])
        self.expire(world, 0.9)
        self.assertEqual(self.committed(world), {EVENTS: 1})
        self.expire(world, 0.4)
        self.assertEqual(self.committed(world), {})
        self.assertIsNone(world.coordinator.describe("g"))
        self.assert_equals_replay(world)

    def test_stable_group_loses_topics_it_left(self) -> None:
        world = self.world()
        member = self.member(world, session=1_800_000)  # subscribes to events
        self.commit(world, {EVENTS: 1, LOGS: 1}, member=member, generation=1)
        for _ in range(9):
            self.expire(world, 0.25)
            world.coordinator.heartbeat("g", member, None, 1)
        self.assertEqual(self.committed(world), {EVENTS: 1})

    def test_retention_of_its_own(self) -> None:
        world = self.world()
        self.commit(world, {EVENTS: 1}, version=2, retention=3 * HOUR)
        self.expire(world, 2)
        self.assertEqual(self.committed(world), {EVENTS: 1})
        self.expire(world, 1.2)
        self.assertEqual(self.committed(world), {})

    def test_a_commit_on_its_way_is_not_expired(self) -> None:
        world = self.world()
        self.commit(world, {EVENTS: 1})
        world.clock.advance(3_599)
        world.log.holding = True
        fresh = self.commit(world, {EVENTS: 2})
        world.clock.advance(600)
        world.log.release_all()
        self.successResultOf(fresh)
        self.assertEqual(self.committed(world), {EVENTS: 2})


class DeletionTests(Case):
    def test_only_empty_groups_can_be_deleted(self) -> None:
        world = World()
        member = self.member(world)
        self.commit(world, {EVENTS: 1}, member=member, generation=1)
        self.assertEqual(world.result(world.coordinator.delete("g")).code, E.NON_EMPTY_GROUP)
        world.coordinator.leave("g", [MemberIdentity(member_id=member)])
        self.assertIsNone(world.result(world.coordinator.delete("g")))
        self.assertEqual(world.result(world.coordinator.delete("g")).code, E.GROUP_ID_NOT_FOUND)
        self.assertEqual(self.committed(world), {})
        self.assert_equals_replay(world)

    def test_deleting_reaches_commits_on_their_way(self) -> None:
        world = World()
        world.log.holding = True
        self.commit(world, {EVENTS: 1})
        deleted = world.coordinator.delete("g")
        later = self.commit(world, {LOGS: 2})
        world.log.release_all()
        self.successResultOf(deleted)
        self.successResultOf(later)
        self.assertEqual(self.committed(world), {LOGS: 2})
        self.assert_equals_replay(world)

    def test_offsets_of_subscribed_topics_stay(self) -> None:
        world = World()
        member = self.member(world)
        self.commit(world, {EVENTS: 1, LOGS: 1}, member=member, generation=1)
        codes = world.result(world.coordinator.delete_offsets("g", [EVENTS, LOGS, LOGS]))
        self.assertEqual(codes, [(EVENTS, E.GROUP_SUBSCRIBED_TO_TOPIC), (LOGS, E.NONE)])
        self.assertEqual(self.committed(world), {EVENTS: 1})
        nobody = world.result(world.coordinator.delete_offsets("nobody", [EVENTS]))
        self.assertEqual(nobody.code, E.GROUP_ID_NOT_FOUND)

    def test_other_protocols_must_be_empty_to_lose_offsets(self) -> None:
        world = World()
        self.member(world, "connect", kind="connect")
        error = world.result(world.coordinator.delete_offsets("connect", [EVENTS]))
        self.assertEqual(error.code, E.NON_EMPTY_GROUP)

    def test_offsets_of_deleted_topics_go(self) -> None:
        world = World()
        self.commit(world, {EVENTS: 1, LOGS: 1})
        world.metadata.delete("logs")
        world.settle()
        self.assertEqual(self.committed(world), {EVENTS: 1})
        self.assertEqual(self.entries(world)[-1], Entry(OffsetCommitKey(group="g", topic="logs", partition=0), None))

    def test_topic_deleted_while_loading(self) -> None:
        world = World()
        self.commit(world, {EVENTS: 1, LOGS: 1})
        world.lead(load=False)
        world.metadata.delete("logs")
        world.settle()
        self.assertEqual(self.committed(world), {EVENTS: 1})

    def test_topic_deleted_while_loading_fails(self) -> None:
        """Its offsets go as soon as the log can be read."""
        world = World()
        self.commit(world, {EVENTS: 1, LOGS: 1})
        world.log.unreadable = True
        world.lead()
        world.metadata.delete("logs")
        world.clock.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(KafkaError)), 2)
        world.log.unreadable = False
        world.clock.advance(2)
        world.settle()
        self.assertEqual(self.committed(world), {EVENTS: 1})

    def test_topic_deleted_and_made_again(self) -> None:
        """What was on its way when the topic was deleted goes too; what is committed to the new topic stays."""
        world = World()
        for group in ("old", "both"):
            self.commit(world, {LOGS: 1}, group=group)
        world.clock.advance(1)
        world.log.holding = True
        self.commit(world, {LOGS: 2}, group="late")
        world.metadata.delete("logs")
        world.clock.advance(1)
        world.metadata.create("logs", 10)
        self.commit(world, {LOGS: 5}, group="both")
        world.log.release_all()
        world.settle()
        self.assertEqual([self.committed(world, group) for group in ("old", "both", "late")], [{}, {LOGS: 5}, {}])

    def test_deleting_a_topic_leaves_the_reactor_free(self) -> None:
        """Many offsets of many groups in two partitions: no turn of the reactor takes 5 ms of the processor's time."""
        world = World(led=False)
        world.metadata.create(OFFSETS_TOPIC, 2)
        world.lead()
        world.coordinator.partition_led(PartitionId(bytes(16), 1), TopicPartition(OFFSETS_TOPIC, 1), 0)
        world.settle()
        for number in range(100):
            offsets = {(topic, index): 1 for topic in ("events", "logs") for index in range(200)}
            self.codes(self.successResultOf(self.commit(world, offsets, group=f"group-{number}")))
        gc.disable()
        self.addCleanup(gc.enable)
        turns: list[float] = []
        call_later = world.clock.callLater

        def timed(delay: float, call: Any, *arguments: Any) -> Any:
            def turn() -> None:
                before = time.thread_time()
                call(*arguments)
                turns.append(time.thread_time() - before)

            return call_later(delay, turn)

        self.patch(world.clock, "callLater", timed)
        world.metadata.delete("logs")
        world.settle()
        self.assertGreaterEqual(len(turns), 40_000 // group_partition.TOMBSTONES_A_BATCH)
        turns.sort()
        self.assertLess(turns[-len(turns) // 10], 0.005, turns[-10:])  # a busy machine's worst turns don't count
        left = {place.topic for number in range(100) for place in self.committed(world, f"group-{number}")}
        self.assertEqual(left, {"events"})

    def test_many_tombstones_are_several_batches(self) -> None:
        world = World()
        self.commit(world, {("events", i): 1 for i in range(1_200)})
        before = len(world.log.batches[PARTITION])
        world.result(world.coordinator.delete("g"))
        self.assertEqual(len(world.log.batches[PARTITION]) - before, 3)
        self.assertEqual(self.committed(world), {})


class HostingTests(Case):
    def test_find_creates_the_topic_once(self) -> None:
        world = World(led=False)
        found = world.result(world.coordinator.find("g", "OTHER"))
        self.assertEqual(found, (1, "elsewhere", 9192))
        world.result(world.coordinator.find("h", "PLAINTEXT"))
        self.assertEqual(world.created, 1)

    def test_no_leader_no_listener_no_topic(self) -> None:
        world = World(led=False)
        world.coordinator.topic._create = lambda: Deferred()
        waiting = Deferred.fromCoroutine(world.coordinator.find("g", "PLAINTEXT"))
        self.assertNoResult(waiting)
        world = World()
        self.assertEqual(world.result(world.coordinator.find("g", "NOWHERE")).code, E.COORDINATOR_NOT_AVAILABLE)

    def test_other_topics_are_none_of_its_business(self) -> None:
        world = World(led=False)
        world.coordinator.partition_led(None, EVENTS, 0)
        world.coordinator.partition_resigned(None, EVENTS)
        self.assertEqual(world.coordinator._hosted, {})

    def test_resignation_ends_what_waits(self) -> None:
        world = World()
        joined = world.coordinator.join(join_request(), 3, "c", "h")
        world.log.holding = True
        commit = self.commit(world, {EVENTS: 1}, group="other")
        world.resign()
        self.assertEqual(self.successResultOf(joined).error_code, E.NOT_COORDINATOR)
        world.log.release()
        self.assertEqual(self.codes(self.successResultOf(commit)), [E.NONE])  # it is in the log
        self.assertEqual(self.code_of(world.coordinator.heartbeat, "g", "m", None, 1), E.NOT_COORDINATOR)
        world.coordinator.stop()
        self.assertEqual(world.clock.getDelayedCalls(), [])

    def test_empty_group_id_and_session_bounds(self) -> None:
        world = World()
        join = world.coordinator.join
        self.assertEqual(self.code_of(join, join_request(group=""), 9, "c", "h"), E.INVALID_GROUP_ID)
        for session in (5_999, 1_800_001):
            self.assertEqual(self.code_of(join, join_request(session=session), 9, "c", "h"), E.INVALID_SESSION_TIMEOUT)
        self.commit(world, {EVENTS: 1}, group="")  # simple consumers may have the empty group
        self.assertEqual(self.committed(world, ""), {EVENTS: 1})

    def test_line_26_concurrent_joins_lose_nobody(self) -> None:
        """26. Concurrent joins in several groups do not lose members to UNKNOWN_MEMBER_ID."""
        world = World()
        first = {
            (group, i): world.coordinator.join(join_request(group=f"g{group}"), 9, f"c{i}", "h")
            for i in range(5)
            for group in range(20)
        }
        second = {}
        for (group, i), answer in first.items():
            response = self.successResultOf(answer)
            self.assertEqual(response.error_code, E.MEMBER_ID_REQUIRED)
            request = join_request(response.member_id, group=f"g{group}")
            second[group, i] = world.coordinator.join(request, 9, f"c{i}", "h")
        world.settle()
        for group in range(20):
            responses = [self.successResultOf(second[group, i]) for i in range(5)]
            self.assertEqual({(r.error_code, r.generation_id) for r in responses}, {(E.NONE, 1)})
            self.assertEqual(sorted(len(r.members) for r in responses), [0, 0, 0, 0, 5])

    def test_refused_join_leaves_no_group(self) -> None:
        world = World()
        answer = world.coordinator.join(join_request(kind=""), 9, "c", "h")
        self.assertEqual(self.successResultOf(answer).error_code, E.INCONSISTENT_GROUP_PROTOCOL)
        self.assertEqual(world.result(world.coordinator.list()), [])

    def test_list_filters(self) -> None:
        world = World()
        self.commit(world, {EVENTS: 1}, group="simple")
        self.member(world, "live")

        def names(states: tuple[str, ...] = (), types: tuple[str, ...] = ()) -> list[str]:
            return [g.group_id for g in world.result(world.coordinator.list(states, types))]

        self.assertEqual(names(), ["simple", "live"])
        self.assertEqual(names(("stable",)), ["live"])
        self.assertEqual(names((" EMPTY ", "Stable")), ["simple", "live"])
        self.assertEqual(names(("NoSuchState",)), [])
        self.assertEqual(names((), ("CLASSIC",)), ["simple", "live"])
        self.assertEqual(names((), ("consumer",)), [])
