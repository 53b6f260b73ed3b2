"""Conformance 25 to 31: classic groups and committed offsets."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from chronik.coordinator.records import partition_for
from chronik.errors import ErrorCode
from chronik.testing.reactor_thread import call
from chronik.wire.apis import ApiKey
from tests.conformance.case import ConformanceCase, OnDisk
from tests.differential.scenarios import coordinate
from tests.differential.scenarios.groups import Member


class _GroupCase(ConformanceCase):
    options = {"offsets_topic_num_partitions": 4}  # noqa: RUF012

    def group(self) -> str:
        """A group named after the test, whose coordinator is there, and topics to commit in."""
        self.broker.create_topic("a", 3)
        self.broker.create_topic("b")
        name = self.id().rpartition(".")[2]
        coordinate(self.session, name)
        return name

    def commit(self, group: str, offsets: dict[tuple[str, int], tuple[int, str]], **fields: Any) -> list[int]:
        """Commit (offset, metadata) by (topic, partition); the error codes."""
        topics: dict[str, list[dict[str, Any]]] = {}
        for (topic, partition), (offset, metadata) in offsets.items():
            item = {"partition_index": partition, "committed_offset": offset, "committed_metadata": metadata}
            topics.setdefault(topic, []).append(item)
        body = {
            "group_id": group,
            "generation_id_or_member_epoch": -1,
            "member_id": "",
            "topics": [{"name": name, "partitions": parts} for name, parts in topics.items()],
        } | fields
        answer = self.ask(ApiKey.OFFSET_COMMIT, 8, body)
        return [part.error_code for topic in answer.topics for part in topic.partitions]

    def fetch_all(self, group: str) -> list[tuple[str, int, int, str | None]]:
        """(topic, partition, offset, metadata) of everything that the group has committed."""
        (found,) = self.ask(ApiKey.OFFSET_FETCH, 8, {"groups": [{"group_id": group, "topics": None}]}).groups
        self.assertEqual(found.error_code, ErrorCode.NONE)
        return [
            (topic.name, part.partition_index, part.committed_offset, part.metadata)
            for topic in found.topics
            for part in topic.partitions
        ]

    def eventually(self, holds: Callable[[], bool]) -> None:
        """Wait until `holds()`."""
        deadline = time.monotonic() + 10
        while not holds():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)


class GroupTests(_GroupCase):
    def test_25_a_sync_waits_for_the_leader(self) -> None:
        group = self.group()
        members = first, second = [Member(self.session, group, name=str(n)) for n in range(2)]
        first.join("")
        first.sync("", {first.id: b"all"})
        self.assertEqual(second.end_join(second.begin_join("")).error_code, ErrorCode.MEMBER_ID_REQUIRED)
        joining = second.begin_join("")
        self.eventually(lambda: first.beat("").error_code == ErrorCode.REBALANCE_IN_PROGRESS)
        answers = [first.end_join(first.begin_join("")), second.end_join(joining)]
        self.assertEqual(answers[0].generation_id, answers[1].generation_id)
        (leader,) = [member for member in members if member.id == answers[0].leader]
        (follower,) = [member for member in members if member is not leader]
        waiting = follower.begin_sync("")
        time.sleep(0.3)
        leader_sync = leader.begin_sync("", {leader.id: b"mine", follower.id: b"yours"})
        self.assertEqual(self.session.read(leader_sync).assignment, b"mine")
        self.assertEqual(self.session.read(waiting).assignment, b"yours")

    def test_26_joins_of_many_groups_at_once_lose_nobody(self) -> None:
        names = [f"at-once-{n}" for n in range(20)]
        for name in names:
            coordinate(self.session, name)
        members = [Member(self.session, name, name=name) for name in names]
        pending = [member.begin_join("") for member in members]
        codes = [member.end_join(join).error_code for member, join in zip(members, pending, strict=True)]
        self.assertEqual(set(codes), {ErrorCode.MEMBER_ID_REQUIRED})
        pending = [member.begin_join("") for member in members]
        answers = [member.end_join(join) for member, join in zip(members, pending, strict=True)]
        self.assertEqual({answer.error_code for answer in answers}, {ErrorCode.NONE})
        pending = [member.begin_sync("", {member.id: b"share"}) for member in members]
        self.assertEqual({self.session.read(sync).error_code for sync in pending}, {ErrorCode.NONE})
        self.assertEqual({member.beat("").error_code for member in members}, {ErrorCode.NONE})

    def test_27_a_static_member_that_returns_brings_its_own_timeouts(self) -> None:
        group = self.group()
        first = Member(self.session, group, name="first", instance="one")
        first.join("", session_timeout_ms=20_000, rebalance_timeout_ms=20_000)
        first.sync("", {first.id: b"share"})
        second = Member(self.session, group, name="second", instance="one")
        protocols = [{"name": "range", "metadata": b"changed"}]
        joined = second.join("", session_timeout_ms=7_000, rebalance_timeout_ms=8_000, protocols=protocols)
        self.assertEqual(joined.error_code, ErrorCode.NONE)
        self.assertNotEqual(second.id, first.id)
        hosted = self.broker._node.coordinator._hosted[partition_for(group, 4)]
        (member,) = hosted.check().groups[group].roster
        self.assertEqual((member.session_timeout_ms, member.rebalance_timeout_ms), (7_000, 8_000))
        self.assertEqual(dict(member.protocols), {"range": b"changed"})
        self.assertEqual(first.beat("").error_code, ErrorCode.FENCED_INSTANCE_ID)

    def test_28_metadata_comes_back_and_no_partition_twice(self) -> None:
        group = self.group()
        self.assertEqual(self.commit(group, {("a", 0): (5, "five"), ("a", 1): (6, "")}), [0, 0])
        self.assertEqual(self.commit(group, {("a", 0): (7, "seven"), ("b", 0): (1, "größe")}), [0, 0])
        found = self.fetch_all(group)
        self.assertEqual(sorted(found), [("a", 0, 7, "seven"), ("a", 1, 6, ""), ("b", 0, 1, "größe")])
        twice = {"groups": [{"group_id": group, "topics": [{"name": "a", "partition_indexes": [0, 0, 1, 0]}]}]}
        (only,) = self.ask(ApiKey.OFFSET_FETCH, 8, twice).groups
        self.assertEqual([part.partition_index for topic in only.topics for part in topic.partitions], [0, 1])

    def test_30_list_groups_reads_the_live_coordinator(self) -> None:
        group = self.group()
        self.commit(group, {("a", 0): (5, "")})

        def state(name: str) -> list[str]:
            groups = self.ask(ApiKey.LIST_GROUPS, 5, {}).groups
            return [each.group_state for each in groups if each.group_id == name]

        self.assertEqual(state(group), ["Empty"])  # one that assigns its partitions itself, and only commits
        member = Member(self.session, f"{group}-2", name="m")
        coordinate(self.session, f"{group}-2")
        member.join("")
        self.assertEqual(state(f"{group}-2"), ["CompletingRebalance"])
        member.sync("", {member.id: b"share"})
        self.assertEqual(state(f"{group}-2"), ["Stable"])
        member.leave("")
        self.assertEqual(state(f"{group}-2"), ["Empty"])

    def test_join_asks_for_the_member_id_first(self) -> None:
        group = self.group()
        member = Member(self.session, group)
        asked = member.end_join(member.begin_join(""))
        self.assertEqual(asked.error_code, ErrorCode.MEMBER_ID_REQUIRED)
        self.assertTrue(asked.member_id)
        joined = member.end_join(member.begin_join(""))
        self.assertEqual((joined.error_code, joined.member_id), (ErrorCode.NONE, asked.member_id))

    def test_a_replaced_static_member_is_fenced(self) -> None:
        group = self.group()
        old = Member(self.session, group, name="old", instance="one")
        old.join("")
        old.sync("", {old.id: b"share"})
        new = Member(self.session, group, name="new", instance="one")
        new.join("")
        for call_of in (old.beat, old.sync, old.join):
            self.assertEqual(call_of("").error_code, ErrorCode.FENCED_INSTANCE_ID)
        committed = self.commit(
            group,
            {("a", 0): (5, "")},
            generation_id_or_member_epoch=new.generation,
            member_id=old.id,
            group_instance_id="one",
        )
        self.assertEqual(committed, [ErrorCode.FENCED_INSTANCE_ID])

    def test_only_empty_groups_are_deleted(self) -> None:
        group = self.group()
        member = Member(self.session, group)
        member.join("")
        member.sync("", {member.id: b"share"})

        def delete() -> int:
            (result,) = self.ask(ApiKey.DELETE_GROUPS, 2, {"groups_names": [group]}).results
            return int(result.error_code)

        self.assertEqual(delete(), ErrorCode.NON_EMPTY_GROUP)
        member.leave("")
        self.commit(group, {("a", 0): (5, "")})
        self.assertEqual(delete(), ErrorCode.NONE)
        self.assertEqual(delete(), ErrorCode.GROUP_ID_NOT_FOUND)
        self.assertEqual(self.fetch_all(group), [])


class RestartTests(OnDisk, _GroupCase):
    def test_29_offsets_after_a_restart_are_those_before(self) -> None:
        self.broker.create_topic("a", 3)
        groups = [f"kept-{n}" for n in range(8)]
        for turn in range(3):
            for number, group in enumerate(groups):
                coordinate(self.session, group)
                self.commit(group, {("a", p): (100 * turn + number, f"turn {turn}") for p in range(turn + 1)})
        self.ask(
            ApiKey.OFFSET_DELETE,
            0,
            {"group_id": groups[3], "topics": [{"name": "a", "partitions": [{"partition_index": 1}]}]},
        )
        before = {group: sorted(self.fetch_all(group)) for group in groups}
        self.assertEqual(len(before[groups[3]]), 2)
        self.broker.stop()
        self.start()
        for group in groups:
            coordinate(self.session, group)
        self.assertEqual({group: sorted(self.fetch_all(group)) for group in groups}, before)

    def test_31_a_coordinator_that_loads_says_so(self) -> None:
        self.broker.create_topic("a", 500)
        group = "loading"
        coordinate(self.session, group)
        for turn in range(40):
            self.commit(group, {("a", p): (turn, "m" * 50) for p in range(500)})
        hosted = self.broker._node.coordinator._hosted[partition_for(group, 4)]

        async def load_again() -> None:
            hosted.resign()
            self.broker._node.coordinator.partition_led(self.partition_id(), hosted.name, 1)

        call(load_again)
        wanted = {"groups": [{"group_id": group, "topics": [{"name": "a", "partition_indexes": [0]}]}]}
        codes = []
        while not codes or codes[-1]:
            (found,) = self.ask(ApiKey.OFFSET_FETCH, 8, wanted).groups
            codes.append(found.error_code)
        self.assertEqual(set(codes), {ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.NONE})
        self.assertEqual(found.topics[0].partitions[0].committed_offset, 39)

    def partition_id(self) -> Any:
        """That of the partition which keeps the group."""
        name = self.broker._node.coordinator._hosted[partition_for("loading", 4)].name
        return self.broker._node.replicas.partition(*name).partition_id
