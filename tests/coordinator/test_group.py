"""The state machine of one group, driven with tokens and a clock of our own."""

from __future__ import annotations

import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chronik.coordinator.effects import Answer, GroupState, Joiner, Store
from chronik.coordinator.group import Group
from chronik.coordinator.settings import GroupSettings
from chronik.coordinator.stored import value_of
from chronik.errors import ErrorCode, KafkaError
from chronik.wire.messages.leave_group import MemberIdentity
from tests.coordinator.world import join_request, subscription, sync_request

E = ErrorCode


class Driver:
    """Carries out a group's effects: answers are kept by token, stores succeed at once unless `hold` is set."""

    def __init__(self, **settings: int) -> None:
        settings.setdefault("group_initial_rebalance_delay_ms", 0)
        self.group = Group("g", GroupSettings(**settings))
        self.now = 0
        self.answers: dict[Any, Any] = {}
        self.hold = False
        self.stores: list[Store] = []
        self.values: list[Any] = []
        self.ids = 0

    def run(self, effects: list[Any]) -> None:
        for effect in effects:
            if isinstance(effect, Answer):
                assert effect.token not in self.answers, f"{effect.token} is answered twice"
                self.answers[effect.token] = effect.response
            elif self.hold:
                self.stores.append(effect)
            else:
                self.values.append(effect.value)
                self.run(self.group.stored(effect, None, self.now))

    def finish(self, error: ErrorCode | None = None) -> None:
        store = self.stores.pop(0)
        self.run(self.group.stored(store, error, self.now))

    def join(self, token: Any, member: str = "", version: int = 9, **request: Any) -> Any:
        """Join; the answer if there is one by now."""
        self.ids += 1
        joiner = Joiner(request.pop("client", "client"), request.pop("host", "/h"), version, str(self.ids))
        self.run(self.group.join(join_request(member, **request), joiner, token, self.now))
        return self.answers.get(token)

    def sync(self, token: Any, member: str, generation: int, assignments: Any = None, **request: Any) -> Any:
        try:
            self.run(self.group.sync(sync_request(member, generation, assignments, **request), token, self.now))
        except KafkaError as error:
            return error.code
        return self.answers.get(token)

    def beat(self, member: str, generation: int, instance: str | None = None) -> ErrorCode:
        try:
            self.group.heartbeat(member, instance, generation, self.now)
        except KafkaError as error:
            return error.code
        return E.NONE

    def leave(self, *members: tuple[str, str | None]) -> list[int]:
        identities = [MemberIdentity(member_id=m, group_instance_id=i) for m, i in members]
        responses, effects = self.group.leave(identities, self.now)
        self.run(effects)
        return [response.error_code for response in responses]

    def advance(self, ms: int) -> None:
        """Let time pass, stopping at each deadline as the runtime does."""
        end = self.now + ms
        while (deadline := self.group.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.run(self.group.expire(self.now))
        self.now = end

    def two_joined(self, **request: Any) -> tuple[str, str]:
        """A leader and a follower that wait for the assignment; their answers are those to 0 and 1."""
        for token in range(2):
            self.join(token, version=3, **request)
        self.advance(0)
        return self.answers[0].member_id, self.answers[1].member_id

    def stable(self, count: int, **request: Any) -> list[str]:
        """A stable group of `count` members that joined at once; the leader comes first."""
        members = [self.join(("id", i), **request).member_id for i in range(count)]
        for i, member in enumerate(members):
            self.join(("first", i), member, **request)
        self.advance(0)
        return self.finish_generation(members, "first")

    def finish_generation(self, members: list[str], label: Any) -> list[str]:
        generation = self.group.generation
        leader = self.group.roster.leader_id
        members = sorted(members, key=lambda member: member != leader)
        for member in reversed(members):
            given = {m: m.encode() for m in members} if member == leader else None
            self.sync((label, member, generation), member, generation, given)
        assert self.group.state is GroupState.STABLE, self.group.state
        return members


class JoiningTests(SynchronousTestCase):
    def test_member_id_required_from_version_4(self) -> None:
        """JoinGroup answers MEMBER_ID_REQUIRED first; older clients are let in at once."""
        driver = Driver()
        first = driver.join("a")
        self.assertEqual((first.error_code, first.member_id), (E.MEMBER_ID_REQUIRED, "client-1"))
        self.assertIs(driver.group.state, GroupState.EMPTY)
        self.assertIsNone(driver.join("b", first.member_id))
        driver.advance(0)
        self.assertEqual(driver.answers["b"].generation_id, 1)
        old = Driver()
        self.assertIsNone(old.join("a", version=3))
        old.advance(0)
        self.assertEqual(old.answers["a"].member_id, "client-1")

    def test_pending_member_expires(self) -> None:
        driver = Driver()
        member = driver.join("a").member_id
        driver.advance(10_000)
        self.assertEqual(driver.join("b", member).error_code, E.UNKNOWN_MEMBER_ID)
        self.assertTrue(driver.group.is_unused)

    def test_leader_gets_the_members(self) -> None:
        driver = Driver()
        driver.stable(3)
        joined = [driver.answers["first", i] for i in range(3)]
        leaders = [response for response in joined if response.members]
        self.assertEqual(len(leaders), 1)
        self.assertEqual(leaders[0].leader, leaders[0].member_id)
        self.assertEqual({m.member_id for m in leaders[0].members}, {response.member_id for response in joined})
        self.assertEqual({response.protocol_name for response in joined}, {"range"})
        self.assertEqual({response.protocol_type for response in joined}, {"consumer"})

    def test_initial_delay_is_extended_by_new_members(self) -> None:
        """The first rebalance waits 3 s more while members come, up to the rebalance timeout in all."""
        driver = Driver(group_initial_rebalance_delay_ms=3_000)
        driver.join(0, version=3, rebalance=7_000)
        driver.advance(2_000)
        driver.join(1, version=3, rebalance=7_000)
        driver.advance(3_999)
        self.assertEqual(driver.answers, {})
        driver.join(2, version=3, rebalance=7_000)
        driver.advance(1)  # 6 s: the last member extends by the second that is left
        self.assertEqual(driver.answers, {})
        driver.advance(1_000)
        self.assertEqual(sorted(driver.answers), [0, 1, 2])

    def test_initial_delay_without_new_members(self) -> None:
        driver = Driver(group_initial_rebalance_delay_ms=3_000)
        driver.join(0, version=3)
        driver.advance(2_999)
        self.assertEqual(driver.answers, {})
        driver.advance(1)
        self.assertIn(0, driver.answers)

    def test_protocol_by_votes(self) -> None:
        """Only what all support is chosen, and of that what most prefer."""
        driver = Driver()
        for token, names in enumerate((("a", "b", "x"), ("b", "a"), ("b", "c", "a"))):
            driver.join(token, version=3, protocols=tuple((name, b"") for name in names))
        driver.advance(0)
        self.assertEqual(driver.answers[0].protocol_name, "b")
        refused = driver.join("no", version=3, protocols=(("x", b""),))
        self.assertEqual(refused.error_code, E.INCONSISTENT_GROUP_PROTOCOL)

    def test_inconsistent_protocols_are_refused(self) -> None:
        driver = Driver()
        self.assertEqual(driver.join(0, kind="").error_code, E.INCONSISTENT_GROUP_PROTOCOL)
        self.assertEqual(driver.join(1, protocols=()).error_code, E.INCONSISTENT_GROUP_PROTOCOL)
        driver.stable(1)
        self.assertEqual(driver.join(2, kind="connect").error_code, E.INCONSISTENT_GROUP_PROTOCOL)

    def test_protocol_named_twice_counts_once(self) -> None:
        driver = Driver()
        driver.join(0, version=3, protocols=(("a", b"1"), ("a", b"2")))
        driver.advance(0)
        self.assertEqual(driver.answers[0].protocol_name, "a")

    def test_max_size(self) -> None:
        """`group.max.size` keeps members out of a stable group, and the last ones out of a rebalance."""
        driver = Driver(group_max_size=2)
        members = driver.stable(2)
        self.assertEqual(driver.join("more").error_code, E.GROUP_MAX_SIZE_REACHED)
        driver.group._settings = GroupSettings(group_max_size=1)
        driver.join("again", members[0])
        self.assertEqual(driver.join("late", members[1]).error_code, E.GROUP_MAX_SIZE_REACHED)

    def test_follower_rejoins_unchanged(self) -> None:
        """A follower with nothing new gets the generation it has; a leader, or a change, starts a rebalance."""
        driver = Driver()
        leader, follower = driver.stable(2)
        again = driver.join("again", follower)
        self.assertEqual((again.generation_id, again.members, again.error_code), (1, [], E.NONE))
        self.assertIs(driver.group.state, GroupState.STABLE)
        self.assertIsNone(driver.join("changed", follower, protocols=(("range", subscription("logs")),)))
        self.assertIs(driver.group.state, GroupState.PREPARING_REBALANCE)
        self.assertEqual(driver.beat(leader, 1), E.REBALANCE_IN_PROGRESS)
        driver.join("leader", leader)
        self.assertEqual(driver.answers["leader"].generation_id, 2)

    def test_lost_join_answer_is_given_again(self) -> None:
        driver = Driver()
        driver.join(0, version=3)
        driver.advance(0)
        member = driver.answers[0].member_id
        again = driver.join("again", member)
        self.assertEqual((again.generation_id, len(again.members)), (1, 1))
        self.assertIs(driver.group.state, GroupState.COMPLETING_REBALANCE)

    def test_second_join_of_a_waiting_member_takes_its_place(self) -> None:
        """No request is left without an answer: the displaced one hears of the rebalance."""
        driver = Driver()
        leader, _ = driver.stable(2)
        driver.join("one", leader)
        driver.join("two", leader)
        self.assertEqual(driver.answers["one"].error_code, E.REBALANCE_IN_PROGRESS)
        self.assertNotIn("two", driver.answers)

    def test_unknown_member(self) -> None:
        driver = Driver()
        driver.stable(1)
        self.assertEqual(driver.join("x", "stranger").error_code, E.UNKNOWN_MEMBER_ID)

    def test_new_member_that_went_away_expires_in_its_first_join(self) -> None:
        """A member in its first join sends no heartbeats: after 5 minutes it is out, whatever its session timeout."""
        driver = Driver()
        leader, _ = driver.stable(2, rebalance=1_000_000)
        driver.join("new", version=3, rebalance=1_000_000)
        for _ in range(60):
            driver.beat(leader, 1)
            driver.advance(5_000)
        self.assertEqual(driver.answers["new"].error_code, E.UNKNOWN_MEMBER_ID)


class SyncTests(SynchronousTestCase):
    def test_line_25_sync_waits_for_the_leader(self) -> None:
        """25. SyncGroup waits for the leader's assignment and never answers with an empty one on a timer."""
        driver = Driver()
        leader, follower = driver.two_joined(session=10_000, rebalance=60_000)
        self.assertIsNone(driver.sync("f", follower, 1))
        for _ in range(11):
            driver.advance(5_000)
            self.assertEqual(driver.beat(leader, 1), E.NONE)
            self.assertNotIn("f", driver.answers)
        driver.sync("l", leader, 1, {leader: b"L", follower: b"F"})
        self.assertEqual((driver.answers["f"].assignment, driver.answers["l"].assignment), (b"F", b"L"))

    def test_a_leader_that_never_syncs_is_out(self) -> None:
        """After the rebalance timeout the follower is told to rejoin; it still gets no empty assignment."""
        driver = Driver()
        leader, follower = driver.two_joined(session=10_000, rebalance=30_000)
        driver.sync("f", follower, 1)
        for _ in range(6):
            driver.beat(leader, 1)
            driver.advance(5_000)
        self.assertEqual(driver.answers["f"].error_code, E.REBALANCE_IN_PROGRESS)
        self.assertEqual(driver.beat(leader, 1), E.UNKNOWN_MEMBER_ID)
        driver.join("f2", follower)
        self.assertEqual(driver.answers["f2"].leader, follower)

    def test_answer_leaves_after_the_log_has_it(self) -> None:
        driver = Driver()
        driver.hold = True
        driver.join(0, version=3)
        driver.advance(0)
        member = driver.answers[0].member_id
        driver.sync("s", member, 1, {member: b"A"})
        self.assertNotIn("s", driver.answers)
        self.assertIs(driver.group.state, GroupState.COMPLETING_REBALANCE)
        driver.finish()
        self.assertEqual(driver.answers["s"].assignment, b"A")
        self.assertIs(driver.group.state, GroupState.STABLE)

    def test_failed_store_starts_over(self) -> None:
        driver = Driver()
        driver.hold = True
        driver.join(0, version=3)
        driver.advance(0)
        member = driver.answers[0].member_id
        driver.sync("s", member, 1, {member: b"A"})
        driver.finish(E.NOT_COORDINATOR)
        self.assertEqual(driver.answers["s"].error_code, E.NOT_COORDINATOR)
        self.assertIs(driver.group.state, GroupState.PREPARING_REBALANCE)
        self.assertEqual(driver.group.roster.members[member].assignment, b"")

    def test_store_of_an_older_generation_changes_nothing(self) -> None:
        driver = Driver()
        driver.hold = True
        driver.join(0, version=3)
        driver.advance(0)
        member = driver.answers[0].member_id
        driver.sync("s", member, 1, {member: b"A"})
        driver.join("other", version=3)
        self.assertEqual(driver.answers["s"].error_code, E.REBALANCE_IN_PROGRESS)
        driver.join("again", member)
        self.assertEqual(driver.answers["again"].generation_id, 2)
        driver.finish()
        self.assertIs(driver.group.state, GroupState.COMPLETING_REBALANCE)

    def test_refusals(self) -> None:
        driver = Driver()
        (leader,) = driver.stable(1)
        self.assertEqual(driver.sync(1, "stranger", 1), E.UNKNOWN_MEMBER_ID)
        self.assertEqual(driver.sync(2, leader, 0), E.ILLEGAL_GENERATION)
        self.assertEqual(driver.sync(3, leader, 1, protocol=("connect", "range")), E.INCONSISTENT_GROUP_PROTOCOL)
        self.assertEqual(driver.sync(4, leader, 1, protocol=("consumer", "sticky")), E.INCONSISTENT_GROUP_PROTOCOL)
        self.assertEqual(driver.sync(5, leader, 1, protocol=("consumer", "range")).assignment, leader.encode())
        driver.join("b", version=3)
        self.assertEqual(driver.sync(6, leader, 1), E.REBALANCE_IN_PROGRESS)

    def test_members_the_leader_forgot_get_nothing(self) -> None:
        driver = Driver()
        leader, follower = driver.two_joined()
        driver.sync("l", leader, 1, {leader: b"L", "stranger": b"S"})
        self.assertEqual(driver.sync("f", follower, 1).assignment, b"")

    def test_cooperative_rebalance_keeps_assignments_until_the_next(self) -> None:
        """Members keep consuming while they rejoin, and a follower's unchanged rejoin finds the next generation."""
        driver = Driver()
        leader, follower = driver.stable(2)
        driver.join("new", version=3)
        owned = (("range", subscription("events") + b"owned"),)
        driver.join("l", leader, protocols=owned)
        driver.join("f", follower, protocols=owned)
        members = [leader, follower, driver.answers["new"].member_id]
        driver.finish_generation(members, "second")
        self.assertEqual(driver.group.generation, 2)
        self.assertEqual(driver.answers["second", follower, 2].assignment, follower.encode())


class LeavingTests(SynchronousTestCase):
    def test_session_timeout(self) -> None:
        driver = Driver()
        leader, follower = driver.stable(2)
        driver.advance(9_000)
        self.assertEqual(driver.beat(leader, 1), E.NONE)
        driver.advance(1_000)
        self.assertEqual(driver.beat(follower, 1), E.UNKNOWN_MEMBER_ID)
        self.assertEqual(driver.beat(leader, 1), E.REBALANCE_IN_PROGRESS)

    def test_rebalance_timeout_drops_who_did_not_rejoin(self) -> None:
        driver = Driver()
        leader, follower = driver.stable(2, session=1_800_000)
        driver.join("l", leader, session=1_800_000)
        driver.advance(59_999)
        self.assertNotIn("l", driver.answers)
        driver.advance(1)
        self.assertEqual([m.member_id for m in driver.answers["l"].members], [leader])
        self.assertEqual(driver.beat(follower, 2), E.UNKNOWN_MEMBER_ID)

    def test_leader_that_did_not_rejoin_is_replaced(self) -> None:
        driver = Driver()
        _, follower = driver.stable(2, session=1_800_000)
        driver.join("new", version=3)
        driver.join("f", follower, session=1_800_000)
        driver.advance(60_000)
        self.assertIn(driver.answers["f"].leader, (follower, driver.answers["new"].member_id))
        self.assertEqual(driver.group.roster.leader_id, driver.answers["f"].leader)

    def test_leave_several_with_an_answer_each(self) -> None:
        driver = Driver()
        first, second, third = driver.stable(3)
        pending = driver.join("p").member_id
        codes = driver.leave(
            (first, None), ("stranger", None), ("", "nobody"), ("", None), (second, None), (pending, None)
        )
        unknown = E.UNKNOWN_MEMBER_ID
        self.assertEqual(codes, [E.NONE, unknown, unknown, unknown, E.NONE, E.NONE])
        self.assertEqual(list(driver.group.roster.members), [third])
        self.assertEqual(driver.leave((third, None)), [E.NONE])
        self.assertIs(driver.group.state, GroupState.EMPTY)
        self.assertEqual((driver.group.generation, driver.values[-1].members), (2, []))

    def test_leaving_members_requests_are_answered(self) -> None:
        driver = Driver()
        leader, follower = driver.stable(2)
        driver.join("l", leader)
        driver.join("f", follower, protocols=(("range", b"new"),))
        driver.sync("waiting", follower, 2)
        driver.leave((follower, None))
        self.assertEqual(driver.answers["waiting"].error_code, E.UNKNOWN_MEMBER_ID)

    def test_heartbeat_refusals(self) -> None:
        driver = Driver()
        (leader,) = driver.stable(1)
        self.assertEqual(driver.beat(leader, 0), E.ILLEGAL_GENERATION)
        self.assertEqual(driver.beat("stranger", 1), E.UNKNOWN_MEMBER_ID)
        self.assertEqual(driver.beat(leader, 1, "instance"), E.UNKNOWN_MEMBER_ID)

    def test_dead_group(self) -> None:
        driver = Driver()
        leader, follower = driver.stable(2)
        driver.join("l", leader)
        driver.run(driver.group.die(E.NOT_COORDINATOR))
        self.assertEqual(driver.answers["l"].error_code, E.NOT_COORDINATOR)
        self.assertEqual(driver.beat(follower, 1), E.COORDINATOR_NOT_AVAILABLE)
        self.assertEqual(driver.join("x").error_code, E.COORDINATOR_NOT_AVAILABLE)
        self.assertIsNone(driver.group.next_deadline())


class StaticMemberTests(SynchronousTestCase):
    def stable(self, driver: Driver, *instances: str, version: int = 9) -> list[str]:
        for instance in instances:
            driver.join(instance, instance=instance, version=version)
        driver.advance(0)
        members = [driver.answers[instance].member_id for instance in instances]
        driver.finish_generation(members, "first")
        return members

    def test_ids_come_from_the_instance(self) -> None:
        driver = Driver()
        (member,) = self.stable(driver, "one")
        self.assertTrue(member.startswith("one-"), member)

    def test_follower_returns_without_a_rebalance(self) -> None:
        """It gets a new member id and its old assignment; its old self is fenced."""
        driver = Driver()
        leader, old = self.stable(driver, "lead", "follow")
        back = driver.join("back", instance="follow")
        self.assertEqual(
            (back.error_code, back.generation_id, back.leader, back.skip_assignment), (0, 1, leader, False)
        )
        self.assertNotEqual(back.member_id, old)
        self.assertIs(driver.group.state, GroupState.STABLE)
        self.assertEqual(driver.sync("s", back.member_id, 1, instance="follow").assignment, old.encode())
        self.assertEqual(driver.beat(old, 1, "follow"), E.FENCED_INSTANCE_ID)
        self.assertEqual(driver.beat(old, 1), E.UNKNOWN_MEMBER_ID)
        self.assertEqual(driver.join("old", old, instance="follow").error_code, E.FENCED_INSTANCE_ID)
        stored = {m.group_instance_id: m.member_id for m in driver.values[-1].members}
        self.assertEqual(stored, {"lead": leader, "follow": back.member_id})

    def test_leader_returns(self) -> None:
        """From version 9 it leads and is told to skip the assignment; before, it learns of its old self as leader."""
        driver = Driver()
        old, _ = self.stable(driver, "lead", "follow")
        back = driver.join("back", instance="lead")
        self.assertEqual((back.leader, back.skip_assignment, len(back.members)), (back.member_id, True, 2))
        older = driver.join("older", instance="lead", version=5)
        self.assertEqual((older.leader, older.members, older.skip_assignment), (back.member_id, [], False))
        self.assertNotEqual(older.member_id, older.leader)
        self.assertNotEqual(old, back.member_id)

    def test_line_27_rejoin_updates_everything(self) -> None:
        """27. Static member rejoin updates client id, host, session and rebalance timeouts as well as protocols."""
        driver = Driver()
        self.stable(driver, "one", "two")
        new = (("range", subscription("logs")),)
        back = driver.join(
            "back", instance="two", client="new", host="/new", session=7_000, rebalance=8_000, protocols=new
        )
        member = driver.group.roster.members[back.member_id]
        self.assertEqual(
            (member.client_id, member.client_host, member.session_timeout_ms, member.rebalance_timeout_ms),
            ("new", "/new", 7_000, 8_000),
        )
        self.assertEqual(dict(member.protocols), dict(new))
        stored = next(m for m in driver.values[-1].members if m.group_instance_id == "two")
        self.assertEqual((stored.client_id, stored.client_host, stored.session_timeout), ("new", "/new", 7_000))

    def test_change_of_the_selected_protocol_rebalances(self) -> None:
        driver = Driver()
        both = (("a", b""), ("b", b""))
        driver.join("x", instance="one", protocols=both)
        driver.join("y", instance="two", protocols=both)
        driver.advance(0)
        driver.finish_generation([driver.answers[t].member_id for t in "xy"], "first")
        self.assertIsNone(driver.join("back", instance="two", protocols=(("b", b""),)))
        self.assertIs(driver.group.state, GroupState.PREPARING_REBALANCE)

    def test_waiting_requests_of_the_old_self_are_fenced(self) -> None:
        driver = Driver()
        leader, follower = self.stable(driver, "lead", "follow")
        driver.join("waiting", follower, instance="follow", protocols=(("range", b"new"),))
        driver.join("back", instance="follow")
        self.assertEqual(driver.answers["waiting"].error_code, E.FENCED_INSTANCE_ID)
        driver.join("l", leader, instance="lead")
        self.assertEqual(driver.answers["back"].generation_id, 2)

    def test_return_while_the_leader_assigns_starts_over(self) -> None:
        driver = Driver()
        for instance in ("lead", "follow"):
            driver.join(instance, instance=instance)
        driver.advance(0)
        follower = driver.answers["follow"].member_id
        driver.sync("s", follower, 1)
        driver.join("back", instance="follow")
        self.assertEqual(driver.answers["s"].error_code, E.FENCED_INSTANCE_ID)
        self.assertIs(driver.group.state, GroupState.PREPARING_REBALANCE)

    def test_rebalance_overtakes_the_store_of_a_return(self) -> None:
        """A rebalance begins before the log has the new member id: the join that waits counts for it, whatever the log says."""
        for error in (None, E.NOT_ENOUGH_REPLICAS):
            driver = Driver()
            leader, _ = self.stable(driver, "lead", "follow")
            driver.hold = True
            driver.join("back", instance="follow")
            driver.join("third", version=3)
            driver.finish(error)
            self.assertNotIn("back", driver.answers)
            driver.join("l", leader, instance="lead")
            self.assertEqual((driver.answers["back"].error_code, driver.answers["back"].generation_id), (0, 2))

    def test_late_store_of_a_return_changes_nothing(self) -> None:
        """Its end is reported when the member is in the next generation already, and was answered."""
        for error in (None, E.NOT_ENOUGH_REPLICAS):
            driver = Driver()
            leader, _ = self.stable(driver, "lead", "follow")
            driver.hold = True
            driver.join("back", instance="follow")
            driver.join("l", leader, instance="lead")
            self.assertEqual(driver.answers["back"].generation_id, 2)
            driver.sync("s", leader, 2, {leader: b"new"})
            assigned = driver.stores.pop(1)
            driver.run(driver.group.stored(assigned, None, driver.now))
            self.assertIs(driver.group.state, GroupState.STABLE)
            driver.finish(error)
            self.assertEqual(driver.beat(driver.answers["back"].member_id, 2, "follow"), E.NONE)

    def test_failed_store_brings_the_old_self_back(self) -> None:
        driver = Driver()
        _, old = self.stable(driver, "lead", "follow")
        driver.hold = True
        driver.join("back", instance="follow", session=7_000, client="new")
        driver.finish(E.COORDINATOR_NOT_AVAILABLE)
        self.assertEqual(driver.answers["back"].error_code, E.COORDINATOR_NOT_AVAILABLE)
        self.assertEqual(driver.beat(old, 1, "follow"), E.NONE)
        member = driver.group.roster.members[old]
        self.assertEqual((member.session_timeout_ms, member.client_id), (10_000, "client"))

    def test_rebalance_does_not_drop_an_absent_static_member(self) -> None:
        driver = Driver()
        leader, follower = self.stable(driver, "lead", "follow")
        driver.join("new", version=3, session=1_000_000)
        driver.join("l", leader, instance="lead")
        for _ in range(12):
            driver.beat(follower, 1, "follow")
            driver.advance(5_000)
        self.assertIn(follower, {m.member_id for m in driver.answers["l"].members})

    def test_an_absent_static_leader_stays_but_leads_no_longer(self) -> None:
        driver = Driver()
        leader, follower = self.stable(driver, "lead", "follow")
        driver.join("f", follower, instance="follow", session=1_000_000, protocols=(("range", b"news"),))
        for _ in range(12):
            driver.beat(leader, 1, "lead")
            driver.advance(5_000)
        joined = driver.answers["f"]
        self.assertEqual((joined.generation_id, joined.leader), (2, follower))
        self.assertEqual({m.member_id for m in joined.members}, {leader, follower})

    def test_group_of_absent_static_members_waits_for_one(self) -> None:
        driver = Driver()
        leader, _ = self.stable(driver, "lead", "follow")
        driver.join("l", leader, instance="lead", session=1_000_000)
        driver.leave(("", "lead"))
        self.assertEqual(driver.answers["l"].error_code, E.UNKNOWN_MEMBER_ID)
        driver.advance(200_000)
        self.assertIs(driver.group.state, GroupState.EMPTY)

    def test_leave_by_instance(self) -> None:
        driver = Driver()
        one, _ = self.stable(driver, "one", "two")
        self.assertEqual(driver.leave((one, "two"), ("", "two")), [E.FENCED_INSTANCE_ID, E.NONE])
        self.assertEqual(list(driver.group.roster.members), [one])


class RestoredTests(SynchronousTestCase):
    def test_restored_group_is_the_stored_one(self) -> None:
        driver = Driver()
        leader, follower = driver.stable(2)
        group = Group.restored("g", driver.values[-1], driver.group._settings, 5)
        self.assertIs(group.state, GroupState.STABLE)
        self.assertEqual((group.generation, group.roster.leader_id), (1, leader))
        assignments = {member.member_id: member.assignment for member in group.roster}
        self.assertEqual(value_of(group.roster, group.generation, assignments), driver.values[-1])
        driver.group = group
        self.assertEqual(driver.sync("s", follower, 1).assignment, follower.encode())
        driver.advance(10_005)
        self.assertIs(group.state, GroupState.EMPTY)

    def test_restored_group_above_the_limit_rebalances(self) -> None:
        driver = Driver()
        driver.stable(2)
        group = Group.restored("g", driver.values[-1], GroupSettings(group_max_size=1), 0)
        self.assertIs(group.state, GroupState.PREPARING_REBALANCE)


class SpeedTests(SynchronousTestCase):
    def test_1000_rebalances_of_20_members(self) -> None:
        """In virtual time this is a matter of a second or two, 60,000 operations; the bar is generous for a shared machine."""
        driver = Driver()
        members = driver.stable(20)
        started = time.process_time()
        for generation in range(2, 1_002):
            for i, member in enumerate(members):
                driver.join((generation, i), member)
            members = driver.finish_generation(members, "s")
            for member in members:
                driver.beat(member, generation)
            driver.answers.clear()
            driver.values.clear()
        spent = time.process_time() - started
        self.assertEqual(driver.group.generation, 1_001)
        self.assertLess(spent, 10, f"{spent:.2f} s")
        print(f"1000 rebalances of 20 members: {spent:.2f} s of CPU")
