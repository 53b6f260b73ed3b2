"""A stateful model: clients join, sync, beat, leave, return, commit and go silent, while the log delays and fails.

What must hold at every step: one leader, who is a member; no member of a generation gets two different assignments, and no
assignment from another generation; the old self of a static member that comes back is fenced, also while it waits; an
answered commit is never lost; memory is a replay of the log.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from chronik.coordinator.effects import GroupState
from chronik.coordinator.records import decode_entry
from chronik.coordinator.settings import GroupSettings
from chronik.coordinator.shard import Shard
from chronik.coordinator.subscriptions import Topics
from chronik.errors import ErrorCode, KafkaError
from chronik.model import OFFSETS_TOPIC, TopicPartition
from chronik.wire.messages.leave_group import MemberIdentity
from chronik.wire.records import decode_records
from tests.coordinator.world import WALL, World, commit_request, join_request, sync_request

CLIENTS = ("a", "b", "c", "static-1", "static-2")
GROUP = "g"


class Client:
    """One consumer: what it believes, and the requests it waits for."""

    def __init__(self, name: str) -> None:
        self.instance = name if name.startswith("static") else None
        self.member = ""
        self.generation = -1
        self.leads: list[str] = []
        self.must_sync = False
        self.joining: Deferred[Any] | None = None
        self.syncing: Deferred[Any] | None = None
        self.heard = ErrorCode.NONE


class CoordinatorModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(GroupSettings(group_initial_rebalance_delay_ms=0, group_max_size=4))
        self.clients = {name: Client(name) for name in CLIENTS}
        self.replaced: list[Client] = []
        self.assigned: dict[tuple[int, str], bytes] = {}
        self.acknowledged: dict[TopicPartition, int] = {}
        self.tried: dict[TopicPartition, set[int]] = {}
        self.next_offset = 0

    # What answers mean to a client.

    def joined(self, result: Any, client: Client) -> None:
        client.joining = None
        if isinstance(result, Failure):
            result.trap(KafkaError, CancelledError)
            return
        code = client.heard = ErrorCode(result.error_code)
        if code is ErrorCode.MEMBER_ID_REQUIRED:
            client.member = result.member_id
        elif code is ErrorCode.NONE:
            client.member, client.generation = result.member_id, result.generation_id
            client.leads = [m.member_id for m in result.members] if result.leader == result.member_id else []
            assert client.leads == [] or client.member in client.leads
            client.must_sync = True
        elif code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_INSTANCE_ID):
            client.member, client.must_sync = "", False
        else:
            assert code in (
                ErrorCode.REBALANCE_IN_PROGRESS,
                ErrorCode.GROUP_MAX_SIZE_REACHED,
                ErrorCode.NOT_COORDINATOR,
                ErrorCode.COORDINATOR_NOT_AVAILABLE,
            ), code

    def synced(self, result: Any, client: Client, member: str, generation: int) -> None:
        client.syncing = None
        if isinstance(result, Failure):
            result.trap(KafkaError, CancelledError)
            return
        client.heard = ErrorCode(result.error_code)
        if client.heard is ErrorCode.NONE:
            assert result.assignment.startswith(b"%d:" % generation) or result.assignment == b"", "another generation's"
            known = self.assigned.setdefault((generation, member), result.assignment)
            assert known == result.assignment, "one member of a generation was answered twice, differently"

    # What clients do.

    @rule(name=st.sampled_from(CLIENTS), version=st.sampled_from([3, 4, 9]), extra=st.sampled_from(["", "x"]))
    def join(self, name: str, version: int, extra: str) -> None:
        client = self.clients[name]
        if client.joining is not None or client.syncing is not None:
            return
        protocols = (("range", b"\x00\x00\x00\x00\x00\x01\x00\x01t" + extra.encode()),)
        instance = client.instance if version >= 5 else None
        request = join_request(client.member, instance=instance, protocols=protocols)
        try:
            client.joining = self.world.coordinator.join(request, version, name, "h")
        except KafkaError as error:
            assert error.code in (ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.NOT_COORDINATOR)
            return
        client.joining.addBoth(self.joined, client)

    @rule(name=st.sampled_from(CLIENTS))
    def sync(self, name: str) -> None:
        client = self.clients[name]
        if not client.must_sync or client.joining is not None or client.syncing is not None:
            return
        client.must_sync = False
        assignments = {m: b"%d:%s" % (client.generation, m.encode()) for m in client.leads}
        request = sync_request(client.member, client.generation, assignments)
        try:
            client.syncing = self.world.coordinator.sync(request)
        except KafkaError:
            return
        client.syncing.addBoth(self.synced, client, client.member, client.generation)

    @rule(version=st.sampled_from([3, 5, 9]), extra=st.sampled_from(["", "x"]))
    def all_join(self, version: int, extra: str) -> None:
        """Whoever can joins; with the member id, where it was given one."""
        for name in (*CLIENTS, *CLIENTS):
            if self.clients[name].generation < 0 or not self.clients[name].must_sync:
                self.join(name, version, extra)

    @rule()
    def all_sync(self) -> None:
        """A whole generation asks for its assignment, the leaders last."""
        for name in sorted(CLIENTS, key=lambda name: bool(self.clients[name].leads)):
            self.sync(name)

    @rule()
    def followers_sync(self) -> None:
        """The leader takes its time."""
        for name in CLIENTS:
            if not self.clients[name].leads:
                self.sync(name)

    @rule(extra=st.sampled_from(["", "x"]), leaver=st.sampled_from(CLIENTS))
    def overtake(self, extra: str, leaver: str) -> None:
        """The log is slow: before it has an assignment, the next generation has begun and waits for its own."""
        self.hold(False)
        self.all_join(9, extra)
        self.world.clock.advance(0)
        self.hold(True)
        self.all_sync()
        self.leave(leaver)
        self.all_join(9, extra)
        self.world.clock.advance(0)
        self.followers_sync()

    @rule(name=st.sampled_from([name for name in CLIENTS if name.startswith("static")]))
    def replace(self, name: str) -> None:
        """A second process begins under the instance id of one that may wait for an answer."""
        old, self.clients[name] = self.clients[name], Client(name)
        new = self.clients[name]
        was_waiting = old.joining is not None or old.syncing is not None
        was_known = self.group_knows(old)
        self.replaced.append(old)
        self.join(name, 9, "")
        refused = new.joining is None and new.heard is not ErrorCode.NONE
        if was_waiting and was_known and not refused:
            assert (old.joining, old.syncing) == (None, None), "its old self still waits"
            assert old.heard is ErrorCode.FENCED_INSTANCE_ID, old.heard

    def group_knows(self, client: Client) -> bool:
        """Whether the client is who its instance id stands for now: by the waiting request, as a first join has no id yet."""
        group = self.world.shard.groups.get(GROUP)
        if group is None:
            return False
        member = group.roster.members.get(group.roster.static_id(client.instance) or "")
        if member is None:
            return False
        waiting = {id(request) for request in (client.joining, client.syncing) if request is not None}
        return bool(waiting & {id(member.awaiting_join), id(member.awaiting_sync)})

    @rule(name=st.sampled_from(CLIENTS))
    def beat(self, name: str) -> None:
        client = self.clients[name]
        try:
            self.world.coordinator.heartbeat(GROUP, client.member, None, client.generation)
        except KafkaError as error:
            if error.code is ErrorCode.UNKNOWN_MEMBER_ID:
                client.member = ""

    @rule(name=st.sampled_from(CLIENTS))
    def leave(self, name: str) -> None:
        client = self.clients[name]
        identity = MemberIdentity(member_id=client.member, group_instance_id=None)
        try:
            self.world.coordinator.leave(GROUP, [identity])
        except KafkaError:
            return

    @rule(name=st.sampled_from(CLIENTS))
    def crash(self, name: str) -> None:
        """The client is gone, with all that it knew; a static one will come back under its instance id."""
        client = self.clients[name]
        for waiting in (client.joining, client.syncing):
            if waiting is not None:
                waiting.cancel()
        self.clients[name] = Client(name)

    @rule(name=st.sampled_from([*CLIENTS, ""]), partition=st.integers(0, 3))
    def commit(self, name: str, partition: int) -> None:
        where = TopicPartition("events", partition)
        client = self.clients.get(name) or Client("simple")
        self.next_offset += 1
        offset = self.next_offset
        request = commit_request({where: offset}, member=client.member, generation=client.generation)
        self.tried.setdefault(where, set()).add(offset)

        def answered(result: Any) -> None:
            if not isinstance(result, Failure) and not result.topics[0].partitions[0].error_code:
                self.acknowledged[where] = max(offset, self.acknowledged.get(where, 0))

        try:
            self.world.coordinator.commit(request, 9).addBoth(answered)
        except KafkaError:
            self.tried[where].discard(offset)

    # What the world does.

    @rule(seconds=st.sampled_from([1, 5, 11, 61]))
    def time_passes(self, seconds: int) -> None:
        self.world.clock.advance(seconds)

    @rule(holding=st.booleans())
    def hold(self, holding: bool) -> None:
        self.world.log.holding = holding
        if not holding:
            self.world.log.release_all()

    @precondition(lambda self: self.world.log.held)
    @rule()
    def release(self) -> None:
        self.world.log.release()

    @precondition(lambda self: self.world.log.held)
    @rule()
    def lose(self) -> None:
        self.world.log.release(ErrorCode.NOT_ENOUGH_REPLICAS)

    @precondition(lambda self: not self.world.log.held)
    @rule()
    def restart(self) -> None:
        """The coordinator loses everything in memory and reads the log again."""
        self.world.resign()
        self.world.lead()

    # What must hold.

    @invariant()
    def one_leader_who_is_a_member(self) -> None:
        for group in self.world.shard.groups.values():
            roster = group.roster
            assert (roster.leader_id in roster.members) == bool(roster.members), roster.leader_id
            assert roster.awaiting_join == sum(m.awaiting_join is not None for m in roster)
            assert roster.pending_sync <= roster.members.keys()
            assert not roster.pending & roster.members.keys()
            if group.state is GroupState.EMPTY:
                assert not roster.members
            elif roster.members:
                assert group.next_deadline() is not None, "nothing would ever happen again"

    @invariant()
    def no_acknowledged_commit_is_lost(self) -> None:
        for where, offset in self.acknowledged.items():
            committed = self.world.shard.offsets.get(GROUP, where.topic, where.partition)
            assert committed is not None, where
            # A later commit may have taken its place, an earlier one never: appends keep their order.
            assert committed.offset >= offset, (where, committed, offset)
            assert committed.offset in self.tried[where]

    @invariant()
    def memory_is_a_replay_of_the_log(self) -> None:
        replayed = Shard(self.world.settings, Topics(self.world.metadata), lambda: WALL)
        for batch in self.world.log.batches.get(TopicPartition(OFFSETS_TOPIC, 0), ()):
            for record in decode_records(batch, 1 << 20):
                entry = decode_entry(record.key, record.value)
                assert entry is not None
                replayed.replay(entry, record.offset)
        live = self.world.shard
        assert (live.stored, live.offsets._groups) == (replayed.stored, replayed.offsets._groups)

    def teardown(self) -> None:
        self.world.log.release_all()
        self.world.coordinator.stop()
        assert self.world.clock.getDelayedCalls() == []
        for client in (*self.clients.values(), *self.replaced):
            assert client.joining is None, "a join was left without an answer"
            assert client.syncing is None, "a sync was left without an answer"


class CoordinatorModelTests(SynchronousTestCase):
    def test_model(self) -> None:
        chosen = settings(
            max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
        )
        run_state_machine_as_test(CoordinatorModel, settings=chosen)
