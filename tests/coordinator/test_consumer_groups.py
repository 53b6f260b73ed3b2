"""Groups of the consumer protocol through the coordinator: joining, moving partitions, leaving, timeouts, offsets, looking.

The log is real bytes in memory; each test restarts the coordinator from it where that matters.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from chronik.coordinator.consumer_records import PartitionMetadataKey, PartitionMetadataValue, TopicMetadata
from chronik.coordinator.records import Entry, decode_entry
from chronik.coordinator.settings import GroupSettings
from chronik.coordinator.subscriptions import compile_subscription, metadata_hash
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import MetadataDelta
from chronik.model import OFFSETS_TOPIC, TopicPartition
from chronik.wire.records import Record, decode_records, encode_batch
from tests.coordinator.world import SHORT_SESSIONS, WALL, World, commit_request, heartbeat_request

E = ErrorCode
EVENTS = b"events----------"
LOGS = b"logs------------"
MORE = b"more------------"
PARTITION = TopicPartition(OFFSETS_TOPIC, 0)


def assigned(response: Any) -> dict[bytes, list[int]] | None:
    """The assignment in an answer, None where it says nothing of it."""
    if response.assignment is None:
        return None
    return {part.topic_id: list(part.partitions) for part in response.assignment.topic_partitions}


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(GroupSettings(group_consumer=SHORT_SESSIONS))
        self.addCleanup(lambda: self.world.coordinator.stop())

    def beat(self, member: str, epoch: int = 0, topics: list[str] | None = None, **more: Any) -> Any:
        return self.world.beat(heartbeat_request(member, epoch, topics, **more))

    def describe(self, group: str = "g") -> Any:
        return self.world.coordinator.describe_consumer_group(group)

    def restart(self) -> None:
        """A new coordinator reads the log."""
        self.world.lead()

    def two_members(self) -> None:
        """a and b of 5 partitions of `events` each, at rest."""
        self.beat("a", 0, ["events"])
        self.beat("b", 0, ["events"])
        self.beat("a", 1)
        self.beat("a", 1, owned={EVENTS: range(5)})
        self.beat("b", 2)
        self.assertEqual(self.describe().group_state, "Stable")

    def records(self) -> list[Entry]:
        found = []
        for batch in self.world.log.batches[PARTITION]:
            found += [decode_entry(record.key, record.value) for record in decode_records(batch, 1 << 20)]
        return [entry for entry in found if entry is not None]


class JoiningTests(Case):
    def test_the_first_member_gets_everything_at_once(self) -> None:
        response = self.beat("a", 0, ["events"])
        self.assertEqual((response.member_id, response.member_epoch, response.heartbeat_interval_ms), ("a", 1, 5_000))
        self.assertEqual(assigned(response), {EVENTS: list(range(10))})
        self.assertIsNone(assigned(self.beat("a", 1)))
        batches = len(self.world.log.batches[PARTITION])
        self.beat("a", 1, owned={EVENTS: range(10)})
        self.assertEqual(len(self.world.log.batches[PARTITION]), batches, "a heartbeat without news writes nothing")

    def test_partitions_are_given_back_before_they_are_given_on(self) -> None:
        self.beat("a", 0, ["events"])
        joined = self.beat("b", 0, ["events"])
        self.assertEqual((joined.member_epoch, assigned(joined)), (2, {}))
        told = self.beat("a", 1)
        self.assertEqual((told.member_epoch, assigned(told)), (1, {EVENTS: list(range(5))}))
        self.assertIsNone(assigned(self.beat("b", 2)))
        self.assertIsNone(assigned(self.beat("a", 1, owned={EVENTS: range(10)})))
        self.assertEqual(self.describe().group_state, "Reconciling")
        self.assertEqual(self.beat("a", 1, owned={EVENTS: range(5)}).member_epoch, 2)
        self.assertEqual(assigned(self.beat("b", 2)), {EVENTS: list(range(5, 10))})
        self.assertEqual(self.describe().group_state, "Stable")

    def test_everything_survives_a_restart(self) -> None:
        self.two_members()
        before = self.describe()
        self.restart()
        self.assertEqual(self.describe(), before)
        self.assertIsNone(assigned(self.beat("a", 2)))

    def test_a_restart_in_the_middle_of_a_rebalance(self) -> None:
        self.beat("a", 0, ["events"])
        self.beat("b", 0, ["events"])
        self.beat("a", 1)
        self.restart()
        self.assertIsNone(assigned(self.beat("b", 2)), "a has not given them back")
        self.beat("a", 1, owned={EVENTS: range(5)})
        self.assertEqual(assigned(self.beat("b", 2)), {EVENTS: list(range(5, 10))})

    def test_requests_that_make_no_sense(self) -> None:
        wrong = [
            heartbeat_request("", 1),
            heartbeat_request("", -1),
            heartbeat_request("", 0, ["events"]),
            heartbeat_request("a", 0),
            heartbeat_request("a", 0, ["events"], rebalance=-1),
            heartbeat_request("a", 0, ["events"], owned={EVENTS: [1]}),
            heartbeat_request("a", 0, ["events"], instance=""),
            heartbeat_request("a", -2),
            heartbeat_request("a", -3),
        ]
        for request in wrong:
            self.assertEqual(self.world.beat(request).code, E.INVALID_REQUEST, request)
        self.assertEqual(self.beat("a", 0, ["events"], group="").code, E.INVALID_REQUEST)
        self.assertEqual(self.beat("a", 0, ["events"], assignor="sticky").code, E.UNSUPPORTED_ASSIGNOR)
        self.assertEqual(self.world.log.batches.get(PARTITION), None)

    def test_version_0_gets_a_member_id(self) -> None:
        response = self.world.beat(heartbeat_request("", 0, ["events"]), version=0)
        self.assertEqual((response.member_id, response.member_epoch), ("id1", 1))

    def test_epochs_are_checked(self) -> None:
        self.two_members()
        self.assertEqual(self.beat("a", 3).code, E.FENCED_MEMBER_EPOCH)
        self.assertEqual(self.beat("a", 1).code, E.FENCED_MEMBER_EPOCH, "it doesn't say what it has")
        self.assertEqual(self.beat("a", 1, owned={EVENTS: range(8)}).code, E.FENCED_MEMBER_EPOCH)
        self.assertEqual(self.beat("a", 1, owned={EVENTS: range(5)}).member_epoch, 2, "the answer was lost")
        self.assertEqual(self.beat("c", 1).code, E.UNKNOWN_MEMBER_ID)
        self.assertEqual(self.beat("c", 1, group="other").code, E.GROUP_ID_NOT_FOUND)
        self.assertEqual(self.beat("c", -1).code, E.UNKNOWN_MEMBER_ID)
        self.assertEqual(self.beat("c", -1, group="other").code, E.GROUP_ID_NOT_FOUND)

    def test_a_group_has_room_for_so_many(self) -> None:
        self.world.coordinator.stop()
        self.world = World(GroupSettings(group_consumer_max_size=1))
        self.beat("a", 0, ["events"])
        self.assertEqual(self.beat("b", 0, ["events"]).code, E.GROUP_MAX_SIZE_REACHED)
        self.assertIsNone(assigned(self.beat("a", 1)))

    def test_most_members_choose_the_assignor(self) -> None:
        self.beat("a", 0, ["events", "logs"], assignor="range")
        self.assertEqual(self.describe().assignor_name, "range")
        self.assertEqual(assigned(self.beat("b", 0, ["events", "logs"])), {})
        told = self.beat("a", 1)
        self.assertEqual(assigned(told), {EVENTS: list(range(5)), LOGS: list(range(5))})


class TopicTests(Case):
    def create(self, name: str, partitions: int) -> None:
        metadata = self.world.metadata
        known = metadata.topic(name)
        topic = metadata.create(name, partitions)
        metadata.tell(MetadataDelta(changed=[topic]) if known else MetadataDelta(created=[topic]))

    def test_a_topic_gets_partitions_comes_and_goes(self) -> None:
        self.beat("a", 0, ["events", "more"])
        self.create("more", 2)
        told = self.beat("a", 1)
        self.assertEqual((told.member_epoch, assigned(told)[MORE]), (2, [0, 1]))
        self.create("more", 3)
        self.assertEqual(assigned(self.beat("a", 2))[MORE], [0, 1, 2])
        self.world.metadata.delete("more")
        self.world.settle()
        self.assertEqual(assigned(self.beat("a", 3)), {EVENTS: list(range(10))})
        epoch = self.describe().group_epoch
        self.create("other", 3)
        self.beat("a", 3, owned={EVENTS: range(10)})
        self.assertEqual(self.describe().group_epoch, epoch, "a topic that nobody wants changes nothing")

    def test_a_pattern_is_resolved_and_resolved_again(self) -> None:
        response = self.beat("a", 0, regex="(events|more.*)")
        self.assertEqual(assigned(response), {EVENTS: list(range(10))})
        self.create("more", 2)
        self.assertEqual(assigned(self.beat("a", 1)), {EVENTS: list(range(10)), MORE: [0, 1]})
        self.restart()
        self.assertIsNone(assigned(self.beat("a", 2)))
        self.assertEqual(self.describe().members[0].subscribed_topic_regex, "(events|more.*)")
        self.assertEqual(self.describe().group_epoch, 2)
        changed = self.beat("a", 2, ["logs"], regex="", owned={EVENTS: range(10), MORE: [0, 1]})
        self.assertEqual((changed.member_epoch, assigned(changed)), (2, {}))
        self.assertEqual(assigned(self.beat("a", 2, owned={})), {LOGS: list(range(10))})
        self.assertEqual(self.world.shard.consumers.groups["g"].regexes, {})

    def test_a_pattern_has_to_match_the_whole_name(self) -> None:
        self.assertEqual(assigned(self.beat("a", 0, regex="event")), {})
        self.assertEqual(assigned(self.beat("b", 0, regex="event.", group="h")), {EVENTS: list(range(10))})

    def test_bad_patterns(self) -> None:
        for pattern in ("(", "a**", "(?<=x)y", r"\1", "x" * 5000, "((a{1,1000}){1,1000}){1,1000}", "\ud800"):
            answer = self.beat("a", 0, regex=pattern)
            self.assertEqual(answer.code, E.INVALID_REGULAR_EXPRESSION, pattern[:20])
        self.assertNotIn("g", self.world.shard.consumers.groups)

    def test_hostile_patterns_take_linear_time(self) -> None:
        self.assertIsNone(compile_subscription("(a+)+b").fullmatch("a" * 100_000))

    def test_the_hash_stands_for_ids_and_partitions(self) -> None:
        metadata = self.world.metadata
        events, logs = metadata.topic("events"), metadata.topic("logs")
        self.assertEqual(metadata_hash([]), 0)
        self.assertEqual(metadata_hash([events, logs]), metadata_hash([logs, events]))
        self.assertNotEqual(metadata_hash([events, logs]), metadata_hash([events]))
        self.assertNotEqual(metadata_hash([logs]), metadata_hash([metadata.create("logs", 11)]))


class LeavingTests(Case):
    def test_who_leaves_makes_room(self) -> None:
        self.two_members()
        response = self.beat("a", -1)
        self.assertEqual((response.member_id, response.member_epoch), ("a", -1))
        self.assertEqual(assigned(self.beat("b", 2)), {EVENTS: list(range(10))})
        self.assertEqual(self.beat("b", -1).member_epoch, -1)
        self.assertEqual((self.describe().group_state, self.describe().members), ("Empty", []))
        self.assertEqual(self.beat("b", 3).code, E.UNKNOWN_MEMBER_ID)

    def test_who_is_silent_is_out(self) -> None:
        self.two_members()
        self.world.clock.advance(6)
        self.beat("b", 2)
        self.world.clock.advance(4.1)
        self.assertEqual([member.member_id for member in self.describe().members], ["b"])
        self.assertEqual(self.beat("a", 2).code, E.UNKNOWN_MEMBER_ID)
        self.assertEqual(assigned(self.beat("b", 2)), {EVENTS: list(range(10))})

    def test_who_does_not_give_back_in_time_is_out(self) -> None:
        self.beat("a", 0, ["events"], rebalance=12_000)
        self.beat("b", 0, ["events"])
        self.beat("a", 1)
        for _ in range(3):
            self.world.clock.advance(4.1)
            self.beat("b", 2)
            answer = self.beat("a", 1)
        self.assertEqual(answer.code, E.UNKNOWN_MEMBER_ID)
        self.assertEqual(self.describe().members[0].member_id, "b")

    def test_time_to_give_back_goes_on_after_a_restart(self) -> None:
        self.beat("a", 0, ["events"], rebalance=12_000)
        self.beat("b", 0, ["events"])
        self.beat("a", 1)
        self.restart()
        for _ in range(3):
            self.world.clock.advance(4.1)
            self.beat("b", 2)
            answer = self.beat("a", 1)
        self.assertEqual(answer.code, E.UNKNOWN_MEMBER_ID)

    def test_sessions_run_from_the_restart(self) -> None:
        self.two_members()
        self.world.clock.advance(9)
        self.restart()
        self.world.clock.advance(9)
        self.assertEqual(len(self.describe().members), 2)
        self.world.clock.advance(1.1)
        self.assertEqual(len(self.describe().members), 0)

    def test_a_member_that_could_not_be_removed_is_removed_later(self) -> None:
        self.two_members()
        self.world.log.failing = E.NOT_ENOUGH_REPLICAS
        self.world.clock.advance(10)
        self.assertEqual(len(self.describe().members), 2)
        self.world.log.failing = None
        self.world.clock.advance(1)
        self.assertEqual(len(self.describe().members), 0)


class StaticMemberTests(Case):
    def test_it_comes_back_to_what_it_had(self) -> None:
        self.beat("a", 0, ["events"], instance="one")
        self.beat("b", 0, ["events"], instance="two")
        self.beat("a", 1, instance="one")
        self.beat("a", 1, instance="one", owned={EVENTS: range(5)})
        self.beat("b", 2, instance="two")
        self.assertEqual(self.beat("a", -2, instance="one").member_epoch, -2)
        epoch = self.describe().group_epoch
        back = self.beat("a2", 0, ["events"], instance="one")
        self.assertEqual(assigned(back), {EVENTS: list(range(5))})
        self.assertEqual((self.describe().group_epoch, back.member_epoch), (epoch, epoch), "nobody else notices")
        self.assertEqual(self.beat("a", 2, instance="one").code, E.FENCED_INSTANCE_ID)
        self.assertEqual(self.beat("a", -1, instance="one").code, E.FENCED_INSTANCE_ID)
        self.restart()
        self.assertIsNone(assigned(self.beat("a2", epoch, instance="one")))

    def test_nobody_takes_the_place_of_one_that_is_there(self) -> None:
        joined = self.beat("a", 0, ["events"], instance="one")
        self.assertEqual(self.beat("b", 0, ["events"], instance="one").code, E.UNRELEASED_INSTANCE_ID)
        again = self.beat("a", 0, ["events"], instance="one")  # the answer was lost
        self.assertEqual((again.member_epoch, assigned(again)), (1, assigned(joined)))
        self.assertEqual(self.beat("x", 1, instance="none").code, E.UNKNOWN_MEMBER_ID)

    def test_it_has_a_session_to_come_back(self) -> None:
        self.beat("a", 0, ["events"], instance="one")
        self.beat("a", -2, instance="one")
        self.world.clock.advance(9)
        self.assertEqual(len(self.describe().members), 1)
        self.world.clock.advance(1.1)
        self.assertEqual(len(self.describe().members), 0)


class TurnTests(Case):
    def test_requests_wait_for_what_is_on_its_way(self) -> None:
        self.world.log.holding = True
        answers: list[Any] = []
        for member in ("a", "b"):
            waiting = self.world.coordinator.consumer_heartbeat(heartbeat_request(member, 0, ["events"]), 1, "", "h")
            waiting.addBoth(answers.append)
        self.assertEqual((len(self.world.log.held), answers), (1, []))
        self.world.log.release()
        self.assertEqual((len(self.world.log.held), len(answers)), (1, 1))
        self.world.log.release()
        self.assertEqual([(answer.member_id, answer.member_epoch) for answer in answers], [("a", 1), ("b", 2)])

    def test_a_failed_append_changes_nothing(self) -> None:
        self.world.log.failing = E.NOT_ENOUGH_REPLICAS
        self.assertEqual(self.beat("a", 0, ["events"]).code, E.COORDINATOR_NOT_AVAILABLE)
        self.assertNotIn("g", self.world.shard.consumers.groups)
        self.world.log.failing = None
        self.assertEqual(self.beat("a", 0, ["events"]).member_epoch, 1)

    def test_a_failed_append_that_reached_the_log_counts(self) -> None:
        self.world.log.failing, self.world.log.torn = E.NOT_ENOUGH_REPLICAS, True
        self.assertEqual(self.beat("a", 0, ["events"]).code, E.COORDINATOR_NOT_AVAILABLE)
        self.world.log.failing = None
        again = self.beat("a", 0, ["events"])
        self.assertEqual((again.member_epoch, assigned(again)), (1, {EVENTS: list(range(10))}))

    def test_who_waits_is_told_when_the_partition_goes(self) -> None:
        self.world.log.holding = True
        answers: list[Any] = []
        for member in ("a", "b"):
            waiting = self.world.coordinator.consumer_heartbeat(heartbeat_request(member, 0, ["events"]), 1, "", "h")
            waiting.addErrback(lambda failure: answers.append(failure.value.code))
        self.world.resign()
        self.world.log.release_all()
        self.assertEqual(answers, [E.NOT_COORDINATOR, E.NOT_COORDINATOR])
        self.world.lead()


class GroupConfigTests(Case):
    def test_a_group_may_have_times_of_its_own(self) -> None:
        times = {"consumer.session.timeout.ms": "4000", "consumer.heartbeat.interval.ms": "7000"}
        self.world.metadata.groups["g"] = times
        self.assertEqual(self.beat("a", 0, ["events"]).heartbeat_interval_ms, 7_000)
        self.assertEqual(self.beat("a", 0, ["events"], group="h").heartbeat_interval_ms, 5_000)
        self.world.clock.advance(4)
        self.assertEqual((len(self.describe().members), len(self.describe("h").members)), (0, 1))

    def test_times_are_brought_within_the_bounds_of_the_node(self) -> None:
        self.world.metadata.groups["g"] = {
            "consumer.session.timeout.ms": "1",
            "consumer.heartbeat.interval.ms": "99999",
        }
        self.assertEqual(self.beat("a", 0, ["events"]).heartbeat_interval_ms, 15_000)
        self.world.clock.advance(0.9)
        self.assertEqual(len(self.describe().members), 1)
        self.world.clock.advance(0.1)
        self.assertEqual(len(self.describe().members), 0)


class OffsetTests(Case):
    def commit(self, member: str, epoch: int, version: int = 9) -> Any:
        request = commit_request({("events", 0): 7}, member=member, generation=epoch)
        try:
            return self.world.result(self.world.coordinator.commit(request, version))
        except KafkaError as error:
            return error

    def fetch(self, member: str | None, epoch: int) -> Any:
        wanted = [TopicPartition("events", 0)]
        return self.world.result(self.world.coordinator.fetch_offsets("g", wanted, False, member, epoch))

    def test_commits_carry_the_epoch_of_the_member(self) -> None:
        self.two_members()
        self.assertEqual(self.commit("a", 2).topics[0].partitions[0].error_code, 0)
        self.assertEqual(self.commit("a", 1).code, E.STALE_MEMBER_EPOCH)
        self.assertEqual(self.commit("a", 3).code, E.STALE_MEMBER_EPOCH)
        self.assertEqual(self.commit("x", 2).code, E.UNKNOWN_MEMBER_ID)
        self.assertEqual(self.commit("", -1).code, E.UNKNOWN_MEMBER_ID)
        self.assertEqual(self.commit("a", 2, version=8).code, E.UNSUPPORTED_VERSION)
        self.beat("a", -1)
        self.assertEqual(self.commit("a", 2).code, E.UNKNOWN_MEMBER_ID)
        self.beat("b", -1)
        self.assertEqual(
            self.commit("", -1).topics[0].partitions[0].error_code, 0, "an administrator, to an empty group"
        )

    def test_fetches_may_carry_it(self) -> None:
        self.two_members()
        self.commit("a", 2)
        self.assertEqual(self.fetch("b", 2)[0][1].offset, 7)
        self.assertEqual(self.fetch(None, -1)[0][1].offset, 7)
        self.assertEqual(self.fetch("b", 1).code, E.STALE_MEMBER_EPOCH)
        self.assertEqual(self.fetch("x", 2).code, E.UNKNOWN_MEMBER_ID)

    def test_offsets_before_members_are_the_groups(self) -> None:
        self.commit("", -1)
        self.beat("a", 0, ["events"])
        self.restart()
        self.assertEqual(self.fetch("a", 1)[0][1].offset, 7)
        self.assertNotIn("g", self.world.shard.groups)

    def test_deleting(self) -> None:
        coordinator = self.world.coordinator
        self.two_members()
        self.commit("a", 2)
        self.assertEqual(self.world.result(coordinator.delete("g")).code, E.NON_EMPTY_GROUP)
        wanted = [TopicPartition("events", 0), TopicPartition("logs", 0)]
        self.assertEqual(
            self.world.result(coordinator.delete_offsets("g", wanted)),
            [(wanted[0], E.GROUP_SUBSCRIBED_TO_TOPIC), (wanted[1], E.NONE)],
        )
        self.beat("a", -1)
        self.beat("b", -1)
        self.assertEqual(self.world.result(coordinator.delete_offsets("g", wanted[:1])), [(wanted[0], E.NONE)])
        self.assertIsNone(self.world.result(coordinator.delete("g")))
        self.assertEqual(self.world.result(coordinator.list()), [])
        self.restart()
        self.assertEqual(self.world.result(coordinator.list()), [])
        self.assertEqual(self.world.result(coordinator.delete("g")).code, E.GROUP_ID_NOT_FOUND)

    def test_a_join_waits_for_the_deletion(self) -> None:
        self.beat("a", 0, ["events"])
        self.beat("a", -1)
        self.world.log.holding = True
        answers: list[Any] = []
        deleted = self.world.coordinator.delete("g")
        waiting = self.world.coordinator.consumer_heartbeat(heartbeat_request("b", 0, ["events"]), 1, "", "h")
        waiting.addBoth(answers.append)
        self.assertEqual((len(self.world.log.held), answers), (1, []))
        self.world.log.release_all()
        self.assertIsNone(self.successResultOf(deleted))
        self.assertEqual([answer.member_epoch for answer in answers], [1], "a group that is new")

    def test_a_deletion_that_nobody_waits_for_any_longer_goes_on(self) -> None:
        self.beat("a", 0, ["events"])
        self.beat("a", -1)
        self.world.log.holding = True
        deleted = self.world.coordinator.delete("g")
        deleted.cancel()
        self.failureResultOf(deleted, CancelledError)
        waiting = self.world.coordinator.consumer_heartbeat(heartbeat_request("b", 0, ["events"]), 1, "", "h")
        self.assertNoResult(waiting)
        self.world.log.release_all()
        self.assertEqual(self.successResultOf(waiting).member_epoch, 1)

    def test_what_is_not_used_goes(self) -> None:
        self.two_members()
        self.commit("a", 2)
        self.beat("a", -1)
        self.beat("b", -1)
        self.world.result(self.world.coordinator.upkeep.clean())
        self.assertEqual(len(self.world.result(self.world.coordinator.list())), 1)
        self.world.clock.advance(self.world.settings.offsets_retention_ms / 1000)
        self.world.settle()
        self.world.result(self.world.coordinator.upkeep.clean())
        self.assertEqual(self.world.result(self.world.coordinator.list()), [])
        self.restart()
        self.assertEqual(self.world.result(self.world.coordinator.list()), [])


class LookingTests(Case):
    def test_listing_by_type_and_state(self) -> None:
        coordinator = self.world.coordinator
        self.beat("a", 0, ["events"])
        self.world.result(coordinator.commit(commit_request({("events", 0): 1}, group="simple"), 9))

        def names(**filters: Any) -> list[tuple[str, str, str]]:
            found = self.world.result(coordinator.list(**filters))
            return [(group.group_id, group.group_type, group.group_state) for group in found]

        self.assertEqual(names(), [("g", "consumer", "Stable"), ("simple", "classic", "Empty")])
        self.assertEqual(names(types=["Consumer"]), [("g", "consumer", "Stable")])
        self.assertEqual(names(types=["classic"], states=["stable"]), [])
        self.assertEqual(names(states=["STABLE"]), [("g", "consumer", "Stable")])
        self.assertEqual(names(types=["share"]), [])

    def test_describing(self) -> None:
        self.two_members()
        group = self.describe()
        self.assertEqual((group.group_epoch, group.assignment_epoch, group.assignor_name), (2, 2, "uniform"))
        member = group.members[0]
        self.assertEqual(
            (member.member_id, member.member_epoch, member.client_id, member.member_type), ("a", 2, "client", 1)
        )
        place = member.assignment.topic_partitions[0]
        self.assertEqual((place.topic_name, place.topic_id, list(place.partitions)), ("events", EVENTS, list(range(5))))
        self.assertEqual(member.target_assignment, member.assignment)
        self.assertIsNone(self.world.coordinator.describe("g"), "DescribeGroups knows classic groups only")
        summary = self.world.coordinator.summary("g")
        self.assertEqual((summary.group_state, summary.protocol_data, len(summary.members)), ("Stable", "uniform", 2))
        self.assertIsNone(self.world.coordinator.summary("none"))
        for group_id in ("none", "simple"):
            error = self.assertRaises(KafkaError, self.world.coordinator.describe_consumer_group, group_id)
            self.assertEqual(error.code, E.GROUP_ID_NOT_FOUND)

    def test_topics_as_kafka_4_0_wrote_them_are_deleted_with_the_next_epoch(self) -> None:
        self.beat("a", 0, ["events"])
        topic = TopicMetadata(topic_id=EVENTS, topic_name="events", num_partitions=10)
        old = Entry(PartitionMetadataKey(group="g"), PartitionMetadataValue(topics=[topic]))
        self.world.log.append(PARTITION, encode_batch([Record(0, WALL, *old.encode())]))
        self.restart()
        self.beat("b", 0, ["events"])
        tombstones = [entry for entry in self.records() if isinstance(entry.key, PartitionMetadataKey)]
        self.assertEqual([entry.value for entry in tombstones], [old.value, None])
