"""The group APIs at every version they advertise: requests and responses go through the bytes of that version."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from chronik.errors import ErrorCode, KafkaError
from chronik.features import SHARE_VERSION, require_level
from chronik.listeners.context import Peer, RequestContext
from chronik.listeners.handlers.delete_groups import DeleteGroupsHandler
from chronik.listeners.handlers.describe_groups import DescribeGroupsHandler
from chronik.listeners.handlers.find_coordinator import FindCoordinatorHandler
from chronik.listeners.handlers.heartbeat import HeartbeatHandler
from chronik.listeners.handlers.join_group import JoinGroupHandler
from chronik.listeners.handlers.leave_group import LeaveGroupHandler
from chronik.listeners.handlers.list_groups import ListGroupsHandler
from chronik.listeners.handlers.offset_commit import OffsetCommitHandler
from chronik.listeners.handlers.offset_delete import OffsetDeleteHandler
from chronik.listeners.handlers.offset_fetch import OffsetFetchHandler
from chronik.listeners.handlers.sync_group import SyncGroupHandler
from chronik.model import uuid_to_text
from chronik.wire.apis import message_classes
from chronik.wire.messages.delete_groups import DeleteGroupsRequest
from chronik.wire.messages.describe_groups import DescribeGroupsRequest
from chronik.wire.messages.find_coordinator import FindCoordinatorRequest
from chronik.wire.messages.heartbeat import HeartbeatRequest
from chronik.wire.messages.leave_group import LeaveGroupRequest, MemberIdentity
from chronik.wire.messages.list_groups import ListGroupsRequest
from chronik.wire.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from chronik.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from tests.coordinator.share_states import EVENTS as TOPIC_ID
from tests.coordinator.share_states import ShareWorld
from tests.coordinator.transactions import TransactionWorld
from tests.coordinator.world import World, commit_request, join_request, sync_request
from tests.listeners.handlers.serving import check_refusals, check_versions, slices, whole

E = ErrorCode
EVENTS = ("events", 0)
HANDLERS = {
    FindCoordinatorHandler: (0, 6),
    JoinGroupHandler: (0, 9),
    SyncGroupHandler: (0, 5),
    HeartbeatHandler: (0, 4),
    LeaveGroupHandler: (0, 5),
    OffsetCommitHandler: (2, 9),
    OffsetFetchHandler: (1, 9),
    DescribeGroupsHandler: (0, 6),
    ListGroupsHandler: (0, 5),
    DeleteGroupsHandler: (0, 2),
    OffsetDeleteHandler: (0, 0),
}


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World()
        self.shares = ShareWorld()
        self.share_level = 0

    def share_gate(self) -> None:
        require_level(SHARE_VERSION, self.share_level, 1)

    def handler(self, cls: Any) -> Any:
        if cls is FindCoordinatorHandler:
            return cls(self.world.coordinator, TransactionWorld().coordinator, self.shares.coordinator, self.share_gate)
        if cls is OffsetFetchHandler:
            return cls(self.world.coordinator, slices(self.world.clock))
        needs_metadata = cls in (OffsetCommitHandler, OffsetDeleteHandler)
        return cls(self.world.coordinator, self.world.metadata) if needs_metadata else cls(self.world.coordinator)

    def send(self, cls: Any, version: int, request: Any) -> Any:
        """Send `request` as the bytes of `version`; the decoded answer, or a Deferred of it while it waits."""
        handler = self.handler(cls)
        request_class, response_class = message_classes(handler.api_key)
        request, _ = request_class.decode(request.encode(version), version)
        context = RequestContext(Peer("PLAINTEXT", "10.0.0.7", ("localhost", 9092)), version, "client")

        def coded(response: Any) -> Any:
            if isinstance(response, KafkaError):
                response = whole(handler.refuse(request, version, response))
            return response_class.decode(response.encode(version), version)[0]

        try:
            answer = whole(handler.handle(request, context))
        except KafkaError as error:
            return coded(error)
        if not isinstance(answer, response_class):
            answer = answer if isinstance(answer, Deferred) else Deferred.fromCoroutine(answer)
            results: list[Any] = []
            answer.addBoth(lambda result: results.append(getattr(result, "value", result)))
            self.world.settle()
            return coded(results[0]) if results else (coded, results)
        return coded(answer)

    def later(self, waiting: Any) -> Any:
        coded, results = waiting
        self.world.settle()
        return coded(results[0])

    def member(self, group: str = "g", **request: Any) -> str:
        """A member alone in a stable group."""
        joined = self.send(JoinGroupHandler, 3, join_request(group=group, **request))
        self.send(SyncGroupHandler, 3, sync_request(joined.member_id, 1, {joined.member_id: b"A"}, group=group))
        return str(joined.member_id)

    def codes(self, response: Any) -> list[tuple[str, int, int]]:
        return [(t.name, p.partition_index, p.error_code) for t in response.topics for p in t.partitions]


class RangeTests(Case):
    def test_versions_are_kafkas(self) -> None:
        check_versions(self, HANDLERS)

    def test_refusals_are_encodable_in_every_version(self) -> None:
        requests = {
            JoinGroupHandler: join_request("m"),
            SyncGroupHandler: sync_request("m", 1),
            OffsetCommitHandler: commit_request({EVENTS: 1}),
            OffsetFetchHandler: OffsetFetchRequest(
                group_id="g", topics=[OffsetFetchRequestTopic(name="events", partition_indexes=[0])]
            ),
        }
        check_refusals([self.handler(cls) for cls in HANDLERS], requests)


class FindCoordinatorTests(Case):
    def test_every_version(self) -> None:
        for version in range(7):
            if version < 4:
                found = self.send(FindCoordinatorHandler, version, FindCoordinatorRequest(key="g"))
            else:
                request = FindCoordinatorRequest(coordinator_keys=["g", "h"])
                found, other = self.send(FindCoordinatorHandler, version, request).coordinators
                self.assertEqual((found.key, other.key), ("g", "h"))
            self.assertEqual((found.error_code, found.node_id, found.host, found.port), (0, 1, "localhost", 9092))

    def test_shares_are_refused_for_good_while_they_are_not_served(self) -> None:
        for version in range(1, 7):
            for key_type in (2, 9):
                request = FindCoordinatorRequest(key_type=key_type, **self.keys(version))
                answer = self.send(FindCoordinatorHandler, version, request)
                one = answer if version < 4 else answer.coordinators[0]
                self.assertEqual((one.error_code, one.node_id, one.port), (E.INVALID_REQUEST, -1, -1))

    def test_share_partitions_from_version_6_on(self) -> None:
        self.share_level = 1
        good = f"g:{uuid_to_text(TOPIC_ID)}:0"
        for version in range(1, 7):
            for key, code in ((good, 0), ("g", E.INVALID_REQUEST), (good + "x", E.INVALID_REQUEST)):
                asked = {"key": key} if version < 4 else {"coordinator_keys": [key]}
                answer = self.send(FindCoordinatorHandler, version, FindCoordinatorRequest(key_type=2, **asked))
                one = answer if version < 4 else answer.coordinators[0]
                self.assertEqual(one.error_code, code if version >= 6 else E.INVALID_REQUEST, (version, key))

    def keys(self, version: int) -> dict[str, Any]:
        return {"key": "t"} if version < 4 else {"coordinator_keys": ["t"]}


class MembershipTests(Case):
    def test_join_sync_beat_leave_in_every_version(self) -> None:
        for version in range(10):
            group = f"g{version}"
            joined = self.send(JoinGroupHandler, version, join_request(group=group))
            if version >= 4:
                self.assertEqual(joined.error_code, E.MEMBER_ID_REQUIRED)
                joined = self.send(JoinGroupHandler, version, join_request(joined.member_id, group=group))
            self.assertEqual((joined.error_code, joined.generation_id, joined.protocol_name), (0, 1, "range"))
            self.assertEqual(joined.protocol_type, "consumer" if version >= 7 else None)
            member = joined.member_id
            self.assertEqual([m.member_id for m in joined.members], [member])
            sync_version = min(version, 5)
            request = sync_request(member, 1, {member: b"A"}, group=group, protocol=("consumer", "range"))
            synced = self.send(SyncGroupHandler, sync_version, request)
            self.assertEqual((synced.error_code, synced.assignment), (0, b"A"))
            beat = HeartbeatRequest(group_id=group, generation_id=1, member_id=member)
            self.assertEqual(self.send(HeartbeatHandler, min(version, 4), beat).error_code, 0)
            left = self.leave(min(version, 5), group, member)
            self.assertEqual(left, E.NONE)
            self.assertEqual(self.leave(min(version, 5), group, member), E.UNKNOWN_MEMBER_ID)
            gone = self.send(HeartbeatHandler, min(version, 4), beat)
            self.assertEqual(gone.error_code, E.UNKNOWN_MEMBER_ID)

    def leave(self, version: int, group: str, member: str) -> int:
        if version < 3:
            left = self.send(LeaveGroupHandler, version, LeaveGroupRequest(group_id=group, member_id=member))
            return int(left.error_code)
        request = LeaveGroupRequest(group_id=group, members=[MemberIdentity(member_id=member)])
        left = self.send(LeaveGroupHandler, version, request)
        self.assertEqual(left.error_code, 0)
        return int(left.members[0].error_code)

    def test_version_0_uses_the_session_timeout_for_rebalances(self) -> None:
        self.send(JoinGroupHandler, 0, join_request(session=7_000))
        (member,) = self.world.shard.groups["g"].roster
        self.assertEqual((member.rebalance_timeout_ms, member.client_host), (7_000, "/10.0.0.7"))

    def test_errors_without_a_protocol_have_a_form_in_every_version(self) -> None:
        self.member(instance=None)
        for version in range(10):
            none = None if version >= 7 else ""
            refused = self.send(JoinGroupHandler, version, join_request("stranger"))
            self.assertEqual((refused.error_code, refused.protocol_name), (E.UNKNOWN_MEMBER_ID, none))
            refused = self.send(JoinGroupHandler, version, join_request("m", group=""))
            self.assertEqual((refused.error_code, refused.member_id), (E.INVALID_GROUP_ID, "m"))
            self.assertEqual(refused.protocol_name, none)
            refused = self.send(JoinGroupHandler, version, join_request("m", session=1))
            self.assertEqual((refused.error_code, refused.member_id), (E.INVALID_SESSION_TIMEOUT, "m"))

    def test_sync_must_name_the_protocol_from_version_5(self) -> None:
        member = self.member()
        self.assertEqual(
            self.send(SyncGroupHandler, 5, sync_request(member, 1)).error_code, E.INCONSISTENT_GROUP_PROTOCOL
        )
        self.assertEqual(self.send(SyncGroupHandler, 4, sync_request(member, 1)).assignment, b"A")

    def test_a_waiting_join_is_answered_later(self) -> None:
        member = self.member()
        waiting = self.send(JoinGroupHandler, 3, join_request())
        self.assertIsInstance(waiting, tuple)
        self.send(JoinGroupHandler, 3, join_request(member))
        self.assertEqual(self.later(waiting).generation_id, 2)


class OffsetTests(Case):
    def fetch(self, version: int, topics: Any = (("events", (0,)),), group: str = "g") -> Any:
        if version < 8:
            old = (
                None
                if topics is None
                else [OffsetFetchRequestTopic(name=n, partition_indexes=list(p)) for n, p in topics]
            )
            return self.send(OffsetFetchHandler, version, OffsetFetchRequest(group_id=group, topics=old))
        new = (
            None if topics is None else [OffsetFetchRequestTopics(name=n, partition_indexes=list(p)) for n, p in topics]
        )
        request = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=new)])
        return self.send(OffsetFetchHandler, version, request).groups[0]

    def test_commit_and_fetch_in_every_version(self) -> None:
        for version in range(2, 10):
            committed = self.send(OffsetCommitHandler, version, commit_request({EVENTS: version}, metadata="m"))
            self.assertEqual(self.codes(committed), [("events", 0, 0)])
            for fetch_version in range(1, 10):
                (topic,) = self.fetch(fetch_version).topics
                (partition,) = topic.partitions
                self.assertEqual((partition.committed_offset, partition.metadata), (version, "m"))
                epoch = 3 if version >= 6 and fetch_version >= 5 else -1
                self.assertEqual(partition.committed_leader_epoch, epoch, (version, fetch_version))

    def test_nothing_committed_is_minus_one(self) -> None:
        for version in range(1, 10):
            (topic,) = self.fetch(version, (("events", (5, 6, 5)),)).topics
            answers = [(p.partition_index, p.committed_offset, p.metadata, p.error_code) for p in topic.partitions]
            self.assertEqual(answers, [(5, -1, "", 0), (6, -1, "", 0)])

    def test_all_topics(self) -> None:
        self.send(OffsetCommitHandler, 9, commit_request({EVENTS: 1, ("logs", 2): 2}))
        for version in range(2, 10):
            found = self.fetch(version, None)
            offsets = {(t.name, p.partition_index): p.committed_offset for t in found.topics for p in t.partitions}
            self.assertEqual(offsets, {EVENTS: 1, ("logs", 2): 2})
            self.assertEqual(self.fetch(version, None, "nobody").topics, [])

    def test_several_groups(self) -> None:
        self.send(OffsetCommitHandler, 9, commit_request({EVENTS: 1}, group="a"))
        self.send(OffsetCommitHandler, 9, commit_request({EVENTS: 2}, group="b"))
        groups = [OffsetFetchRequestGroup(group_id=name, topics=None) for name in ("a", "b", "c")]
        found = self.send(OffsetFetchHandler, 8, OffsetFetchRequest(groups=groups)).groups
        offsets = {g.group_id: [p.committed_offset for t in g.topics for p in t.partitions] for g in found}
        self.assertEqual(offsets, {"a": [1], "b": [2], "c": []})

    def test_errors_stand_where_the_version_has_them(self) -> None:
        self.world.resign()
        found = self.fetch(1)
        self.assertEqual(self.codes(found), [("events", 0, E.NOT_COORDINATOR)])
        for version in range(2, 10):
            found = self.fetch(version)
            self.assertEqual((found.error_code, found.topics), (E.NOT_COORDINATOR, []))
        for version in range(2, 10):
            refused = self.send(OffsetCommitHandler, version, commit_request({EVENTS: 1}))
            self.assertEqual(self.codes(refused), [("events", 0, E.NOT_COORDINATOR)])

    def test_unknown_partitions_are_refused_one_by_one(self) -> None:
        offsets = {EVENTS: 1, ("events", 10): 2, ("events", -1): 2, ("nowhere", 0): 3}
        answer = self.send(OffsetCommitHandler, 9, commit_request(offsets))
        unknown = E.UNKNOWN_TOPIC_OR_PARTITION
        expected = [("events", -1, unknown), ("events", 0, 0), ("events", 10, unknown), ("nowhere", 0, unknown)]
        self.assertEqual(sorted(self.codes(answer)), expected)
        self.assertEqual(len({topic.name for topic in answer.topics}), len(answer.topics))
        only = self.send(OffsetCommitHandler, 9, commit_request({("nowhere", 0): 3}))
        self.assertEqual(self.codes(only), [("nowhere", 0, unknown)])

    def test_failed_append(self) -> None:
        self.world.log.failing = E.NOT_ENOUGH_REPLICAS
        answer = self.send(OffsetCommitHandler, 9, commit_request({EVENTS: 1, ("nowhere", 0): 3}))
        codes = [("events", 0, E.COORDINATOR_NOT_AVAILABLE), ("nowhere", 0, E.UNKNOWN_TOPIC_OR_PARTITION)]
        self.assertEqual(sorted(self.codes(answer)), codes)

    def test_offset_delete(self) -> None:
        self.send(OffsetCommitHandler, 9, commit_request({EVENTS: 1}))

        def delete(group: str) -> Any:
            topics = [
                OffsetDeleteRequestTopic(name=name, partitions=[OffsetDeleteRequestPartition(partition_index=0)])
                for name in ("events", "nowhere")
            ]
            return self.send(OffsetDeleteHandler, 0, OffsetDeleteRequest(group_id=group, topics=topics))

        deleted = delete("g")
        self.assertEqual(deleted.error_code, 0)
        self.assertEqual(self.codes(deleted), [("events", 0, 0), ("nowhere", 0, E.UNKNOWN_TOPIC_OR_PARTITION)])
        self.assertEqual(self.fetch(9).topics[0].partitions[0].committed_offset, -1)
        self.assertEqual((delete("nobody").error_code, delete("nobody").topics), (E.GROUP_ID_NOT_FOUND, []))


class AdministrationTests(Case):
    def test_describe_in_every_version(self) -> None:
        member = self.member()
        for version in range(7):
            request = DescribeGroupsRequest(groups=["g", "nobody"], include_authorized_operations=version >= 3)
            known, unknown = self.send(DescribeGroupsHandler, version, request).groups
            self.assertEqual(
                (known.group_state, known.protocol_type, known.protocol_data), ("Stable", "consumer", "range")
            )
            (described,) = known.members
            self.assertEqual(
                (described.member_id, described.client_id, described.client_host, described.member_assignment),
                (member, "client", "/10.0.0.7", b"A"),
            )
            self.assertNotEqual(described.member_metadata, b"")
            self.assertEqual(known.authorized_operations, 3400 if version >= 3 else -(2**31))
            self.assertEqual(unknown.group_state, "Dead")
            self.assertEqual(unknown.error_code, E.GROUP_ID_NOT_FOUND if version >= 6 else E.NONE)
            self.assertEqual(unknown.error_message, "Group nobody not found." if version >= 6 else None)

    def test_metadata_of_unstable_groups_is_not_shown(self) -> None:
        self.member()
        self.send(JoinGroupHandler, 3, join_request())
        (group,) = self.send(DescribeGroupsHandler, 0, DescribeGroupsRequest(groups=["g"])).groups
        self.assertEqual((group.group_state, group.protocol_data), ("PreparingRebalance", ""))
        self.assertEqual({m.member_metadata for m in group.members}, {b""})

    def test_list_in_every_version(self) -> None:
        self.member()
        for version in range(6):
            (group,) = self.send(ListGroupsHandler, version, ListGroupsRequest()).groups
            self.assertEqual((group.group_id, group.protocol_type), ("g", "consumer"))
            self.assertEqual(group.group_state, "Stable" if version >= 4 else "")
            self.assertEqual(group.group_type, "classic" if version >= 5 else "")
        filtered = ListGroupsRequest(states_filter=["Empty"])
        self.assertEqual(self.send(ListGroupsHandler, 4, filtered).groups, [])

    def test_list_while_loading(self) -> None:
        self.send(OffsetCommitHandler, 9, commit_request({EVENTS: 1}))
        self.world.lead(load=False)
        handler = self.handler(ListGroupsHandler)
        waiting = Deferred.fromCoroutine(
            handler.handle(ListGroupsRequest(), RequestContext(Peer("", "", ("", 0)), 5, ""))
        )
        self.assertEqual(self.failureResultOf(waiting, KafkaError).value.code, E.COORDINATOR_LOAD_IN_PROGRESS)

    def test_delete_in_every_version(self) -> None:
        self.member("busy")
        for version in range(3):
            self.send(OffsetCommitHandler, 9, commit_request({EVENTS: 1}, group="idle"))
            request = DeleteGroupsRequest(groups_names=["busy", "idle", "nobody", "idle"])
            results = self.send(DeleteGroupsHandler, version, request).results
            self.assertEqual(
                [(r.group_id, r.error_code) for r in results],
                [("busy", E.NON_EMPTY_GROUP), ("idle", 0), ("nobody", E.GROUP_ID_NOT_FOUND)],
            )
