"""Groups that change their protocol while they work: upwards, back, and with members of both in between.

Each test ends as the log says: a new coordinator reads the same group.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chronik.coordinator.embedded import (
    EmbeddedAssignment,
    OwnedTopic,
    Subscription,
    read_assignment,
    read_subscription,
    write_assignment,
)
from chronik.coordinator.settings import GroupSettings
from chronik.errors import ErrorCode, KafkaError
from chronik.wire.codec import MalformedMessage
from chronik.wire.messages.leave_group import MemberIdentity
from tests.coordinator.world import (
    SHORT_SESSIONS,
    World,
    commit_request,
    heartbeat_request,
    join_request,
    subscription,
    sync_request,
)

E = ErrorCode
EVENTS = b"events----------"
Owned = dict[str, list[int]]


def wants(owned: Owned | None = None, *topics: str) -> bytes:
    """The subscription of a cooperative consumer that has `owned`."""
    parts = [OwnedTopic(topic=topic, partitions=partitions) for topic, partitions in (owned or {}).items()]
    return b"\x00\x01" + Subscription(topics=list(topics) or ["events"], owned_partitions=parts).encode(1)


def share(*partitions: int) -> bytes:
    return write_assignment(1, [OwnedTopic(topic="events", partitions=list(partitions))])


def held(assignment: bytes) -> Owned:
    return {part.topic: list(part.partitions) for part in read_assignment(assignment)}


class Case(SynchronousTestCase):
    policy = "bidirectional"

    def setUp(self) -> None:
        self.world = World(
            GroupSettings(
                group_initial_rebalance_delay_ms=0,
                group_consumer=SHORT_SESSIONS,
                group_consumer_migration_policy=self.policy,
            )
        )
        self.addCleanup(lambda: self.world.coordinator.stop())

    @property
    def coordinator(self) -> Any:
        return self.world.coordinator

    def beat(self, member: str, epoch: int = 0, topics: list[str] | None = None, **more: Any) -> Any:
        return self.world.beat(heartbeat_request(member, epoch, topics, **more))

    def joins(self, member: str = "", owned: Owned | None = None, **more: Any) -> Any:
        request = join_request(member, protocols=(("cooperative-sticky", wants(owned)),), **more)
        return self.coordinator.join(request, 9, "classic", "host")

    def join(self, member: str = "", owned: Owned | None = None, **more: Any) -> Any:
        return self.world.result(self.joins(member, owned, **more))

    def sync(self, member: str, generation: int, shares: dict[str, bytes] | None = None) -> Any:
        request = sync_request(member, generation, shares, protocol=("consumer", "cooperative-sticky"))
        return self.asked(lambda: self.coordinator.sync(request))

    def heart(self, member: str, generation: int) -> ErrorCode:
        try:
            self.coordinator.heartbeat("g", member, None, generation)
        except KafkaError as error:
            return error.code
        return E.NONE

    def asked(self, operation: Any) -> Any:
        try:
            return self.world.result(operation())
        except KafkaError as error:
            return error

    def groups(self) -> list[tuple[str, str]]:
        return [(group.group_type, group.group_state) for group in self.world.result(self.coordinator.list())]

    def classic_group(self) -> tuple[str, str]:
        """A stable classic group: the ids of two members, with five partitions of `events` each."""
        first = self._new()
        second = self.joins(self.join().member_id)
        again = self.join(first)
        other = self.world.result(second)
        shares = {first: share(*range(5)), other.member_id: share(*range(5, 10))}
        self.assertEqual(held(self.sync(first, again.generation_id, shares).assignment), {"events": list(range(5))})
        self.sync(other.member_id, other.generation_id)
        self.assertEqual(self.groups(), [("classic", "Stable")])
        self.generation = again.generation_id
        return first, other.member_id

    def _new(self) -> str:
        member_id = self.join().member_id
        self.assertEqual(self.join(member_id).error_code, 0)
        return str(member_id)


class UpgradeTests(Case):
    def test_a_member_of_the_new_protocol_joins(self) -> None:
        """Nobody stops: classic members give back what goes to the new one, round by round."""
        first, second = self.classic_group()
        joined = self.beat("new", 0, ["events"])
        self.assertEqual((joined.member_epoch, joined.assignment.topic_partitions), (self.generation + 1, []))
        self.assertEqual(self.groups(), [("consumer", "Reconciling")])
        self.world.lead()
        self.assertEqual(self.groups(), [("consumer", "Reconciling")])
        self.assertEqual(self.heart(first, self.generation), E.REBALANCE_IN_PROGRESS)
        again = self.join(first, {"events": list(range(5))})
        self.assertEqual((again.generation_id, again.leader), (self.generation, ""))
        kept = held(self.sync(first, again.generation_id).assignment)
        self.assertLess(len(kept["events"]), 5)
        self.assertEqual(self.heart(first, self.generation), E.REBALANCE_IN_PROGRESS, "it has to say that it gave back")
        again = self.join(first, kept)
        self.assertEqual(again.generation_id, self.generation + 1)
        self.assertEqual(held(self.sync(first, again.generation_id).assignment), kept)
        self.assertEqual(self.heart(first, again.generation_id), E.NONE)
        other = self.join(second, {"events": list(range(5, 10))})
        if other.generation_id == self.generation:
            rest = held(self.sync(second, self.generation).assignment)
            other = self.join(second, rest)
        rest = held(self.sync(second, other.generation_id).assignment)
        got = self.beat("new", joined.member_epoch)
        mine = list(got.assignment.topic_partitions[0].partitions)
        self.assertEqual(sorted(kept["events"] + rest["events"] + mine), list(range(10)))
        self.assertEqual(self.groups(), [("consumer", "Stable")])
        types = {
            member.member_id: member.member_type for member in self.coordinator.describe_consumer_group("g").members
        }
        self.assertEqual(types, {first: 0, second: 0, "new": 1})

    def test_it_joins_while_the_group_rebalances(self) -> None:
        """Who waits is told to join again; the join of before the change is not lost in it."""
        first, _ = self.classic_group()
        answers: list[Any] = []
        self.joins(first).addBoth(answers.append)
        self.assertEqual(answers, [])
        self.world.log.holding = True
        waiting = self.coordinator.consumer_heartbeat(heartbeat_request("new", 0, ["events"]), 1, "", "h")
        self.assertEqual([answer.error_code for answer in answers], [E.REBALANCE_IN_PROGRESS])
        later: list[Any] = []
        self.joins(first).addBoth(later.append)
        self.coordinator.leave("g", [MemberIdentity(member_id="x")]).addBoth(later.append)
        self.assertEqual(later, [], "they wait until the group is what it becomes")
        self.world.log.release_all()
        self.assertEqual(self.successResultOf(waiting).error_code, 0)
        self.assertEqual((later[0].generation_id, later[1][0].error_code), (self.generation + 1, E.UNKNOWN_MEMBER_ID))

    def test_it_waits_for_the_assignment_that_is_on_its_way(self) -> None:
        first = self._new()
        self.world.log.holding = True
        request = sync_request(first, 1, {first: share(*range(10))}, protocol=("consumer", "cooperative-sticky"))
        synced = self.coordinator.sync(request)
        joined = self.coordinator.consumer_heartbeat(heartbeat_request("new", 0, ["events"]), 1, "", "h")
        self.assertEqual(len(self.world.log.held), 1)
        self.world.log.release_all()
        self.assertEqual(held(self.successResultOf(synced).assignment), {"events": list(range(10))})
        self.assertEqual(self.successResultOf(joined).assignment.topic_partitions, [], "first has them all")

    def test_a_failed_change_leaves_the_group_as_it_was(self) -> None:
        first, second = self.classic_group()
        self.world.log.failing = E.NOT_ENOUGH_REPLICAS
        self.assertEqual(self.beat("new", 0, ["events"]).code, E.COORDINATOR_NOT_AVAILABLE)
        self.world.log.failing = None
        self.assertEqual(self.groups(), [("classic", "Stable")])
        self.assertEqual((self.heart(first, self.generation), self.heart(second, self.generation)), (E.NONE, E.NONE))

    def test_a_change_that_is_in_the_log_counts(self) -> None:
        self.classic_group()
        self.world.log.failing, self.world.log.torn = E.NOT_ENOUGH_REPLICAS, True
        self.beat("new", 0, ["events"])
        self.world.log.failing = None
        self.assertEqual(self.groups()[0][0], "consumer")
        self.world.lead()
        self.assertEqual(self.groups()[0][0], "consumer")

    def test_groups_of_others_stay(self) -> None:
        """Not consumers at all, or consumers that cannot be read: the new member is refused, nothing else happens."""
        connect = self.world.result(
            self.coordinator.join(join_request(kind="connect", protocols=(("v2", b"x"),)), 3, "worker", "h")
        )
        self.assertEqual(self.beat("new", 0, ["events"]).code, E.GROUP_ID_NOT_FOUND)
        self.assertEqual(connect.error_code, 0)
        odd = join_request(group="odd", protocols=(("range", b"\x00"),))
        self.world.result(self.coordinator.join(odd, 3, "odd", "h"))
        self.assertEqual(self.beat("new", 0, ["events"], group="odd").code, E.GROUP_ID_NOT_FOUND)
        self.assertEqual([kind for kind, _ in self.groups()], ["classic", "classic"])

    def test_an_empty_classic_group_gives_way(self) -> None:
        first, second = self.classic_group()
        commit = commit_request({("events", 0): 9}, member=first, generation=self.generation)
        self.world.result(self.coordinator.commit(commit, 9))
        self.world.result(
            self.coordinator.leave("g", [MemberIdentity(member_id=first), MemberIdentity(member_id=second)])
        )
        self.assertEqual(self.beat("new", 0, ["events"]).member_epoch, 1)
        self.assertEqual(self.groups(), [("consumer", "Stable")])
        self.world.lead()
        self.assertEqual(self.groups(), [("consumer", "Stable")])
        self.assertEqual(len(self.world.result(self.coordinator.fetch_offsets("g", None, False))), 1)

    def test_only_who_joins_changes_a_group(self) -> None:
        self.classic_group()
        self.assertEqual(self.beat("new", 3).code, E.GROUP_ID_NOT_FOUND)
        self.assertEqual(self.beat("new", -1).code, E.GROUP_ID_NOT_FOUND)
        self.assertEqual(self.groups(), [("classic", "Stable")])


class ClassicMemberTests(Case):
    def test_it_joins_a_consumer_group(self) -> None:
        self.beat("new", 0, ["events"])
        required = self.join()
        self.assertEqual(required.error_code, E.MEMBER_ID_REQUIRED)
        joined = self.join(required.member_id)
        self.assertEqual((joined.error_code, joined.generation_id, joined.protocol_name), (0, 2, "cooperative-sticky"))
        self.assertEqual(held(self.sync(joined.member_id, 2).assignment), {})
        self.beat("new", 1)
        self.beat("new", 1, owned={EVENTS: range(5)})
        self.assertEqual(self.heart(joined.member_id, 2), E.REBALANCE_IN_PROGRESS, "there is something for it now")
        again = self.join(joined.member_id)
        self.assertEqual(
            held(self.sync(joined.member_id, again.generation_id).assignment), {"events": list(range(5, 10))}
        )
        self.assertEqual(self.heart(joined.member_id, again.generation_id), E.NONE)
        commit = commit_request({("events", 7): 1}, member=joined.member_id, generation=again.generation_id)
        self.assertEqual(self.world.result(self.coordinator.commit(commit, 8)).topics[0].partitions[0].error_code, 0)
        commit.generation_id_or_member_epoch -= 1
        self.assertEqual(self.asked(lambda: self.coordinator.commit(commit, 8)).code, E.ILLEGAL_GENERATION)
        (left,) = self.world.result(self.coordinator.leave("g", [MemberIdentity(member_id=joined.member_id)]))
        self.assertEqual(left.error_code, 0)
        self.assertEqual(len(self.coordinator.describe_consumer_group("g").members), 1)

    def test_what_does_not_fit_is_refused(self) -> None:
        self.beat("new", 0, ["events"])
        connect = join_request(kind="connect", protocols=(("v2", b"x"),))
        self.assertEqual(
            self.asked(lambda: self.coordinator.join(connect, 3, "c", "h")).code, E.INCONSISTENT_GROUP_PROTOCOL
        )
        broken = join_request(protocols=(("range", b"\x00\x01\x7f"),))
        self.assertEqual(
            self.asked(lambda: self.coordinator.join(broken, 3, "c", "h")).code, E.INCONSISTENT_GROUP_PROTOCOL
        )
        self.assertEqual(self.heart("new", 1), E.UNKNOWN_MEMBER_ID)
        self.assertEqual(self.heart("nobody", 1), E.UNKNOWN_MEMBER_ID)
        self.assertEqual(self.sync("new", 1).code, E.UNKNOWN_MEMBER_ID)
        (left,) = self.world.result(self.coordinator.leave("g", [MemberIdentity(member_id="nobody")]))
        self.assertEqual(left.error_code, E.UNKNOWN_MEMBER_ID)

    def test_an_operator_removes_any_member(self) -> None:
        self.beat("new", 0, ["events"])
        self.beat("fixed", 0, ["events"], instance="one")
        gone = [MemberIdentity(member_id="new"), MemberIdentity(group_instance_id="one")]
        self.assertEqual([one.error_code for one in self.world.result(self.coordinator.leave("g", gone))], [0, 0])
        self.assertEqual(self.groups(), [("consumer", "Empty")])

    def test_one_that_does_not_join_again_is_out(self) -> None:
        self.beat("new", 0, ["events"])
        joined = self.join(self.join().member_id, rebalance=12_000)
        self.sync(joined.member_id, joined.generation_id)
        self.beat("third", 0, ["events"])
        for _ in range(4):
            self.beat("new", 1, owned={EVENTS: []})
            self.beat("new", 2)
            self.beat("third", 3)
            code = self.heart(joined.member_id, joined.generation_id)
            self.world.clock.advance(4.1)
        self.assertEqual(code, E.UNKNOWN_MEMBER_ID)

    def test_the_time_to_join_again_may_be_shorter_than_a_session(self) -> None:
        self.beat("new", 0, ["events"])
        joined = self.join(self.join().member_id, rebalance=2_000)
        self.sync(joined.member_id, joined.generation_id)
        self.beat("third", 0, ["events"])
        self.assertEqual(self.heart(joined.member_id, joined.generation_id), E.REBALANCE_IN_PROGRESS)
        self.world.clock.advance(2.1)
        self.assertEqual(self.heart(joined.member_id, joined.generation_id), E.UNKNOWN_MEMBER_ID)

    def test_one_that_does_not_sync_is_out(self) -> None:
        self.beat("new", 0, ["events"])
        joined = self.join(self.join().member_id, rebalance=5_000)
        self.world.clock.advance(5.1)
        self.assertEqual(self.heart(joined.member_id, joined.generation_id), E.UNKNOWN_MEMBER_ID)

    def test_an_empty_consumer_group_gives_way(self) -> None:
        self.beat("new", 0, ["events"])
        self.beat("new", -1)
        member = self._new()
        self.assertEqual(self.groups(), [("classic", "CompletingRebalance")])
        self.sync(member, 1, {member: share(1)})
        self.world.lead()
        self.assertEqual(self.groups(), [("classic", "Stable")])


class DowngradeTests(Case):
    def mixed(self) -> str:
        """A group of `new` and a classic member with five partitions each; the id of the latter."""
        self.beat("new", 0, ["events"])
        member = self.join(self.join().member_id).member_id
        self.beat("new", 1)
        self.beat("new", 1, owned={EVENTS: range(5)})
        self.sync(member, self.join(member).generation_id)
        self.assertEqual(self.groups(), [("consumer", "Stable")])
        return str(member)

    def test_the_last_member_of_the_new_protocol_leaves(self) -> None:
        member = self.mixed()
        self.assertEqual(self.beat("new", 2).member_epoch, 2)
        self.beat("third", 0, ["events"])  # the epoch is 3 from here on
        self.beat("third", -1)
        self.assertEqual(self.groups()[0][0], "consumer", "one is left")
        self.assertEqual(self.coordinator.describe_consumer_group("g").group_epoch, 4)
        self.beat("new", -1)
        self.assertEqual(self.groups(), [("classic", "PreparingRebalance")])
        self.assertEqual(self.join(member).generation_id, 5)

    def test_it_falls_silent(self) -> None:
        member = self.mixed()
        generation = self.coordinator.describe_consumer_group("g").members[1].member_epoch
        self.world.clock.advance(6)
        self.assertEqual(self.heart(member, generation), E.NONE)
        self.world.clock.advance(4.1)
        self.assertEqual(self.groups(), [("classic", "PreparingRebalance")])
        joined = self.join(member, {"events": list(range(5, 10))})
        self.assertEqual((joined.generation_id, joined.leader), (generation + 1, member))
        self.sync(member, joined.generation_id, {member: share(*range(10))})
        self.world.lead()
        self.assertEqual(self.groups(), [("classic", "Stable")])
        self.assertEqual(self.heart(member, joined.generation_id), E.NONE)

    def test_a_crash_after_the_change(self) -> None:
        """The log has the classic group with what its members were to have."""
        member = self.mixed()
        self.beat("new", -1)
        self.world.lead()
        self.assertEqual(self.groups(), [("classic", "Stable")])
        self.assertEqual([one.member_id for one in self.coordinator.describe("g").members], [member])

    def test_a_failed_change_is_made_again(self) -> None:
        member = self.mixed()
        generation = self.coordinator.describe_consumer_group("g").members[1].member_epoch
        self.world.clock.advance(6)
        self.heart(member, generation)
        self.world.log.failing = E.NOT_ENOUGH_REPLICAS
        self.world.clock.advance(4.1)
        self.assertEqual(self.groups(), [("consumer", "Stable")])
        self.world.log.failing = None
        self.world.clock.advance(1)
        self.assertEqual(self.groups(), [("classic", "PreparingRebalance")])

    def test_static_members_change_their_protocol_one_by_one(self) -> None:
        """Restarted with the same instance id and the other protocol: to the new one and back."""
        first = self.join(instance="one")
        self.sync(first.member_id, 1, {first.member_id: share(*range(10))})
        modern = self.beat("m", 0, ["events"], instance="one")
        self.assertEqual(self.groups(), [("consumer", "Stable")])
        self.assertEqual(list(modern.assignment.topic_partitions[0].partitions), list(range(10)))
        self.beat("m", -2, instance="one")
        back = self.join(instance="one")
        self.assertEqual(back.error_code, 0)
        self.assertEqual(self.groups(), [("classic", "PreparingRebalance")])


class PolicyTests(Case):
    policy = "disabled"

    def test_nothing_changes(self) -> None:
        self.classic_group()
        self.assertEqual(self.beat("new", 0, ["events"]).code, E.GROUP_ID_NOT_FOUND)
        self.beat("new", 0, ["events"], group="h")
        member = self.join(self.join(group="h").member_id, group="h").member_id
        self.beat("new", -1, group="h")
        members = self.coordinator.describe_consumer_group("h").members
        self.assertEqual([one.member_id for one in members], [member])


class EmbeddedTests(SynchronousTestCase):
    def test_every_version_is_read(self) -> None:
        parts = [OwnedTopic(topic="t", partitions=[1, 2])]
        whole = Subscription(topics=["t"], user_data=b"u", owned_partitions=parts, generation_id=4, rack_id="r")
        for version in range(4):
            read_version, read = read_subscription(version.to_bytes(2, "big") + whole.encode(version))
            self.assertEqual((read_version, read.topics, read.user_data), (version, ["t"], b"u"))
            self.assertEqual(read.owned_partitions, parts if version else [])
            self.assertEqual(held(write_assignment(version, parts)), {"t": [1, 2]})
        newer, read = read_subscription(b"\x00\x09" + whole.encode(3) + b"more")
        self.assertEqual((newer, read), (3, whole))
        self.assertEqual(read_subscription(subscription("a", "b"))[1].topics, ["a", "b"])

    def test_what_is_not_one(self) -> None:
        for data in (b"", b"\x00", b"\xff\xff", b"\x00\x00\x7f\xff\xff\xff", b"\x00\x01\x00\x00\x00\x01\x00\x09t"):
            self.assertRaises(MalformedMessage, read_subscription, data)
        self.assertEqual(read_assignment(b""), [])
        self.assertRaises(MalformedMessage, read_assignment, b"\x00\x00" + EmbeddedAssignment().encode(0)[:3])
