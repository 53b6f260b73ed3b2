"""Share groups (KIP-932) with raw requests: who gets which record, and what is left when members, nodes and groups end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from chronik.errors import ErrorCode
from chronik.wire.apis import ApiKey
from tests.conformance.case import ConformanceCase, OnDisk
from tests.conformance.transactional import Transactor
from tests.differential.batches import Batch
from tests.differential.scenarios import create
from tests.differential.scenarios.share_groups import ACCEPT, REJECT, RELEASE, Sharer, earliest, records

_OPTIONS: dict[str, object] = {
    "offsets_topic_num_partitions": 4,
    "transaction_state_log_num_partitions": 4,
    "share_coordinator_state_topic_num_partitions": 4,
    "group_share_min_session_timeout_ms": 1000,
    "group_share_session_timeout_ms": 1000,
    "group_share_min_heartbeat_interval_ms": 100,
    "group_share_heartbeat_interval_ms": 100,
    "group_share_min_record_lock_duration_ms": 1000,
}

Given = list[tuple[int, int, int]]


class _ShareCase(ConformanceCase):
    options = _OPTIONS

    def group(self, **configs: str) -> str:
        """A group named after the test, that begins at the beginning, and whose coordinator is there."""
        name = self.id().rpartition(".")[2]
        earliest(self.session, name, **configs)
        return name

    def shared_topic(self, name: str = "shared", partitions: int = 1) -> bytes:
        """A new topic; its id."""
        return create(self.session, name, partitions)

    def member(self, group: str, name: str = "member", *topics: str) -> Sharer:
        """A member to be, on a connection of its own."""
        return Sharer(self.session, group, name, list(topics or ("shared",)))

    def joined(self, group: str, topic_id: bytes, name: str = "member", partition: int = 0) -> Sharer:
        """A member that has joined, and whose session has a partition."""
        member = self.member(group, name)
        member.join(topic_id)
        member.opens((topic_id, partition))
        return member

    def given(self, member: Sharer, **how: Any) -> Given:
        """(first, last, deliveries) of what a member is given of its one partition."""
        answer = member.fetch("", unrecorded=True, **{"max_wait_ms": 1000, **how})
        self.assertEqual(answer.error_code, ErrorCode.NONE, answer.error_message)
        found: Given = []
        for topic in answer.responses:
            for each in topic.partitions:
                self.assertEqual(each.error_code, ErrorCode.NONE, each.error_message)
                found += [(got.first_offset, got.last_offset, got.delivery_count) for got in each.acquired_records]
        return found

    def acknowledge(
        self, member: Sharer, topic_id: bytes, *ranges: tuple[int, int, int], partition: int = 0
    ) -> ErrorCode:
        """The code of what a member says of one partition."""
        answer = member.acknowledge("", {topic_id: {partition: list(ranges)}}, unrecorded=True)
        if answer.error_code:
            return ErrorCode(answer.error_code)
        return ErrorCode(answer.responses[0].partitions[0].error_code)

    def eventually(self, holds: Callable[[], bool]) -> None:
        """Wait until `holds()`."""
        deadline = time.monotonic() + 10
        while not holds():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def starts(self, group: str) -> dict[str, list[int]]:
        """The start offsets of a group, by topic."""
        body = {"groups": [{"group_id": group, "topics": None}]}
        code = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS  # right after a start
        while code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
            (found,) = self.ask(ApiKey.DESCRIBE_SHARE_GROUP_OFFSETS, 0, body).groups
            code = found.error_code
        self.assertEqual(code, ErrorCode.NONE, found.error_message)
        return {topic.topic_name: [each.start_offset for each in topic.partitions] for topic in found.topics}

    def state_of(self, group: str) -> str:
        (found,) = self.ask(ApiKey.SHARE_GROUP_DESCRIBE, 1, {"group_ids": [group]}).groups
        return str(found.group_state) if not found.error_code else ErrorCode(found.error_code).name


class ShareGroupTests(_ShareCase):
    def test_members_share_a_partition(self) -> None:
        topic_id, group = self.shared_topic(), self.group()
        members = [self.joined(group, topic_id, name) for name in ("one", "two", "three")]
        records(self.session, "shared", *[1] * 30)
        found: list[int] = []
        while len(found) < 30:
            for member in members:
                for first, last, deliveries in self.given(member, max_records=4, max_wait_ms=100):
                    self.assertEqual(deliveries, 1)
                    found += range(first, last + 1)
                    before = self.starts(group)["shared"]
                    self.assertEqual(self.acknowledge(member, topic_id, (first, last, ACCEPT)), ErrorCode.NONE)
                    self.assertGreaterEqual(self.starts(group)["shared"], before)
        self.assertEqual(sorted(found), list(range(30)))

    def test_groups_know_nothing_of_each_other(self) -> None:
        topic_id = self.shared_topic()
        records(self.session, "shared", 5)
        for group in ("this", "that"):
            earliest(self.session, group)
            member = self.joined(group, topic_id, group)
            self.assertEqual(self.given(member), [(0, 4, 1)])
            self.assertEqual(self.acknowledge(member, topic_id, (0, 4, ACCEPT)), ErrorCode.NONE)

    def test_a_member_whose_connection_breaks_gives_back_what_it_has(self) -> None:
        topic_id, group = self.shared_topic(), self.group()
        records(self.session, "shared", 4)
        one, two = self.joined(group, topic_id, "one"), self.joined(group, topic_id, "two")
        self.assertEqual(self.given(one), [(0, 3, 1)])
        self.assertEqual(self.acknowledge(one, topic_id, (0, 1, ACCEPT)), ErrorCode.NONE)
        self.session.drop("one")
        self.assertEqual(self.given(two, max_wait_ms=5000), [(2, 3, 1)])
        self.assertEqual(self.acknowledge(one, topic_id, (2, 3, ACCEPT)), ErrorCode.SHARE_SESSION_NOT_FOUND)
        self.assertEqual(self.acknowledge(two, topic_id, (2, 3, ACCEPT)), ErrorCode.NONE)

    def test_a_member_that_is_silent_is_put_out_and_its_locks_end(self) -> None:
        topic_id, group = self.shared_topic(), self.group(**{"share.record.lock.duration.ms": "1000"})
        records(self.session, "shared", 4)
        zombie = self.joined(group, topic_id, "zombie")
        self.assertEqual(self.given(zombie), [(0, 3, 1)])
        self.eventually(lambda: self.state_of(group) == "Empty")
        self.assertEqual(zombie.beat("", unrecorded=True).error_code, ErrorCode.UNKNOWN_MEMBER_ID)
        other = self.joined(group, topic_id, "other")
        self.assertEqual(self.given(other, max_wait_ms=5000), [(0, 3, 2)])
        self.assertEqual(self.acknowledge(zombie, topic_id, (0, 3, ACCEPT)), ErrorCode.INVALID_RECORD_STATE)
        self.assertEqual(self.acknowledge(other, topic_id, (0, 3, ACCEPT)), ErrorCode.NONE)

    def test_a_record_that_nobody_can_deal_with_is_given_up(self) -> None:
        topic_id, group = self.shared_topic(), self.group()
        records(self.session, "shared", 3)
        member = self.joined(group, topic_id)
        self.assertEqual(self.given(member), [(0, 2, 1)])
        self.acknowledge(member, topic_id, (0, 0, ACCEPT), (1, 1, RELEASE), (2, 2, REJECT))
        for delivery in range(2, 6):
            self.assertEqual(self.given(member), [(1, 1, delivery)])
            self.acknowledge(member, topic_id, (1, 1, RELEASE))
        self.assertEqual(self.given(member, max_wait_ms=100), [])

    def test_records_of_aborted_transactions(self) -> None:
        topic_id, group = self.shared_topic(), self.group(**{"share.isolation.level": "read_committed"})
        for name, commit in (("aborts", False), ("commits", True)):
            transactor = Transactor(self.session, name, True)
            self.assertEqual(transactor.initialise(), ErrorCode.NONE)
            transactor.produce("shared", b"a", b"b")
            self.assertEqual(transactor.end(commit), ErrorCode.NONE)
        self.append("shared", Batch())
        member = self.joined(group, topic_id)
        found: set[int] = set()
        while 6 not in found:
            found |= {n for first, last, _ in self.given(member) for n in range(first, last + 1)}
        self.assertEqual(found - {2, 5}, {3, 4, 6})  # without the markers

    def test_partitions_that_are_added(self) -> None:
        topic_id, group = self.shared_topic(), self.group()
        member = self.joined(group, topic_id)
        new = {"topics": [{"name": "shared", "count": 3, "assignments": None}], "timeout_ms": 5000}
        self.ask(ApiKey.CREATE_PARTITIONS, 3, new)
        assigned: set[int] = set()

        def all_assigned() -> bool:
            answer = member.beat("", unrecorded=True)
            if answer.assignment is not None:
                assigned.clear()
                assigned.update(*(each.partitions for each in answer.assignment.topic_partitions))
            return assigned == {0, 1, 2}

        self.eventually(all_assigned)
        records(self.session, "shared", 2, partition=2)
        member.opens((topic_id, 2))
        self.assertEqual(self.given(member), [(0, 1, 1)])

    def test_a_topic_that_is_deleted_and_made_anew(self) -> None:
        topic_id, group = self.shared_topic(), self.group()
        records(self.session, "shared", 2)
        member = self.joined(group, topic_id)
        self.assertEqual(self.given(member), [(0, 1, 1)])
        self.ask(ApiKey.DELETE_TOPICS, 6, {"topics": [{"name": "shared"}], "timeout_ms": 5000})
        self.eventually(lambda: not self.starts(group).get("shared"))
        new_id = create(self.session, "shared", 1)
        records(self.session, "shared", 3)
        member.epoch = 0
        member.join(new_id)
        member.opens((new_id, 0))
        self.assertEqual(self.given(member), [(0, 2, 1)])

    def test_a_group_that_is_deleted_and_made_anew(self) -> None:
        topic_id, group = self.shared_topic(), self.group()
        records(self.session, "shared", 2)
        for _ in range(2):
            member = self.joined(group, topic_id)
            self.assertEqual(self.given(member), [(0, 1, 1)])
            self.acknowledge(member, topic_id, (0, 1, ACCEPT))
            deletion = {"groups_names": [group]}
            self.assertEqual(
                self.ask(ApiKey.DELETE_GROUPS, 2, deletion).results[0].error_code, ErrorCode.NON_EMPTY_GROUP
            )
            member.beat("", unrecorded=True, member_epoch=-1)
            self.assertEqual(self.ask(ApiKey.DELETE_GROUPS, 2, deletion).results[0].error_code, ErrorCode.NONE)
            self.assertEqual(self.state_of(group), "GROUP_ID_NOT_FOUND")

    def test_start_offsets_that_are_set(self) -> None:
        topic_id, group = self.shared_topic(), self.group()
        records(self.session, "shared", *[1] * 6)
        member = self.joined(group, topic_id)
        self.assertEqual(self.given(member), [(0, 5, 1)])
        self.acknowledge(member, topic_id, (0, 5, ACCEPT))
        change = {
            "group_id": group,
            "topics": [{"topic_name": "shared", "partitions": [{"partition_index": 0, "start_offset": 3}]}],
        }
        self.assertEqual(self.ask(ApiKey.ALTER_SHARE_GROUP_OFFSETS, 0, change).error_code, ErrorCode.NON_EMPTY_GROUP)
        member.beat("", unrecorded=True, member_epoch=-1)
        answer = self.ask(ApiKey.ALTER_SHARE_GROUP_OFFSETS, 0, change)
        self.assertEqual(answer.responses[0].partitions[0].error_code, ErrorCode.NONE)
        self.assertEqual(self.starts(group), {"shared": [3]})
        member.epoch = 0
        member.join(topic_id)
        member.opens((topic_id, 0))
        self.assertEqual(self.given(member, max_wait_ms=2000), [(3, 5, 1)])

    def test_deleted_records_are_nobodys(self) -> None:
        topic_id, group = self.shared_topic(), self.group()
        records(self.session, "shared", 2, 2, 2)
        member = self.joined(group, topic_id)
        self.assertEqual(self.given(member, max_records=2), [(0, 1, 1)])
        partitions = [{"partition_index": 0, "offset": 4}]
        self.ask(
            ApiKey.DELETE_RECORDS, 2, {"topics": [{"name": "shared", "partitions": partitions}], "timeout_ms": 5000}
        )
        self.assertEqual(self.given(member), [(4, 5, 1)])
        self.assertEqual(self.acknowledge(member, topic_id, (0, 1, ACCEPT)), ErrorCode.NONE)
        self.assertEqual(self.acknowledge(member, topic_id, (4, 5, ACCEPT)), ErrorCode.NONE)


class RestartTests(OnDisk, _ShareCase):
    def restart(self) -> None:
        """Stop the broker and go on with what is on disk."""
        self.session.close()
        self.broker.stop()
        self.start()

    def level(self, level: int) -> None:
        """Set the level of the feature."""
        update = {"feature": "share.version", "max_version_level": level, "upgrade_type": 2 - level}
        answer = self.ask(ApiKey.UPDATE_FEATURES, 2, {"timeout_ms": 10_000, "feature_updates": [update]})
        self.assertEqual(answer.error_code, ErrorCode.NONE, answer.error_message)

    def test_what_was_acknowledged_is_gone_and_nothing_else(self) -> None:
        topic_id, group = self.shared_topic(), self.group()
        records(self.session, "shared", *[1] * 10)
        member = self.joined(group, topic_id)
        self.assertEqual(self.given(member), [(0, 9, 1)])
        said: tuple[tuple[int, int, int], ...] = ((0, 1, ACCEPT), (4, 5, ACCEPT), (7, 7, REJECT), (8, 8, RELEASE))
        self.assertEqual(self.acknowledge(member, topic_id, *said), ErrorCode.NONE)
        for deliveries in (1, 2):
            self.restart()
            self.assertEqual(self.starts(group), {"shared": [2]})
            member = self.member(group)
            member.join(topic_id)
            member.opens((topic_id, 0))
            given = self.given(member, max_wait_ms=5000)
            self.assertEqual(
                given, [(2, 3, deliveries), (6, 6, deliveries), (8, 8, deliveries + 1), (9, 9, deliveries)]
            )
            said = ((2, 3, RELEASE), (6, 6, RELEASE), (8, 9, RELEASE))
            self.assertEqual(self.acknowledge(member, topic_id, *said), ErrorCode.NONE)

    def test_a_group_that_began_at_the_end_stays_there(self) -> None:
        """Records that came between its first look and a restart are given out after it."""
        topic_id, group = self.shared_topic(), self.group(**{"share.auto.offset.reset": "latest"})
        records(self.session, "shared", 3)
        member = self.joined(group, topic_id)
        self.assertEqual(self.given(member, max_wait_ms=200), [])
        records(self.session, "shared", 2)
        self.restart()
        member = self.member(group)
        member.join(topic_id)
        member.opens((topic_id, 0))
        self.assertEqual(self.given(member, max_wait_ms=5000), [(3, 4, 1)])

    def test_members_go_on_after_a_restart(self) -> None:
        topic_id, group = self.shared_topic(), self.group()
        member = self.joined(group, topic_id)
        epoch = member.epoch
        self.restart()
        member.s = self.session
        self.eventually(lambda: member.beat("", unrecorded=True).error_code == ErrorCode.NONE)
        self.assertEqual(member.epoch, epoch)
        self.assertEqual(self.state_of(group), "Stable")

    def test_while_they_are_not_served_groups_stay_as_they_are(self) -> None:
        topic_id, group = self.shared_topic(), self.group()
        records(self.session, "shared", 2)
        member = self.joined(group, topic_id)
        self.assertEqual(self.given(member), [(0, 1, 1)])
        self.assertEqual(self.acknowledge(member, topic_id, (0, 0, ACCEPT)), ErrorCode.NONE)
        self.level(0)
        self.restart()
        refused = self.ask(ApiKey.SHARE_FETCH, 1, {"group_id": group, "member_id": member.member_id})
        self.assertEqual(refused.error_code, ErrorCode.UNSUPPORTED_VERSION)
        self.assertEqual(self.fetch("shared", 0).error_code, ErrorCode.NONE)
        self.level(1)
        self.eventually(lambda: self.starts(group) == {"shared": [1]})
        member = self.member(group)
        member.join(topic_id)
        member.opens((topic_id, 0))
        self.assertEqual(self.given(member, max_wait_ms=5000), [(1, 1, 1)])
