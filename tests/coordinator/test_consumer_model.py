"""A stateful model of one group with members of both protocols, while the log delays and fails, answers get lost, members fall
silent, topics come and go, and the node restarts.

What must hold at every step: no partition belongs to two members that may believe it does; no commit of a member that is out
is accepted; memory is a replay of the log. In the end, when the log is well and everybody beats, the group comes to rest with
every partition given to somebody who wants it, and every acknowledged commit is there.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from chronik.coordinator.consumer_group import ConsumerGroup
from chronik.coordinator.embedded import OwnedTopic, read_assignment, write_assignment
from chronik.coordinator.settings import GroupSettings
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import MetadataDelta
from chronik.model import TopicPartition
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

GROUP = "g"
SESSION_MS = 10_000
PATIENCE_MS = 3_600_000
"""Rebalance timeouts: members answer at once or fall silent, so that only sessions end."""

Place = tuple[str, int]


class Client:
    """One consumer, and what it believes. `owned` is by topic name and partition."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.instance = name if name.startswith("static") else None
        self.member_id = ""
        self.epoch = -1
        self.owned: set[Place] = set()
        self.heard_at = 0.0
        self.waiting: Deferred[Any] | None = None

    @property
    def joined(self) -> bool:
        return self.epoch >= 0

    def forget(self) -> None:
        """It is out, and knows it."""
        self.member_id, self.epoch, self.owned = "", -1, set()


class Modern(Client):
    """A member of the consumer protocol. With `full` it says everything again: the last answer may have been lost."""

    starts = 0
    full = True
    pattern = False


class Classic(Client):
    """An eager member of the classic protocol: it gives everything back before it joins."""

    must_sync = False
    leads: tuple[tuple[str, tuple[str, ...]], ...] = ()


class GroupModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(
            GroupSettings(
                group_initial_rebalance_delay_ms=0,
                group_consumer=SHORT_SESSIONS,
                group_consumer_max_size=5,
            )
        )
        self.modern = [Modern("a"), Modern("b"), Modern("static-1")]
        self.classic = [Classic("x"), Classic("y")]
        self.topics: dict[str, int] = {"events": 10, "logs": 10}
        self.acknowledged: dict[TopicPartition, int] = {}
        self.tried: dict[TopicPartition, set[int]] = defaultdict(set)
        self.offset = 0

    @property
    def clients(self) -> list[Client]:
        return [*self.modern, *self.classic]

    @property
    def group(self) -> ConsumerGroup | None:
        found: ConsumerGroup | None = self.world.shard.consumers.groups.get(GROUP)
        return found

    # Asking.

    def ask(self, client: Client, operation: Any, answered: Any, lost: bool = False) -> None:
        """Send a request; `answered` hears the answer or the KafkaError, unless it is `lost`."""
        try:
            waiting = operation()
        except KafkaError as error:
            if not lost:
                answered(error)
            return
        client.waiting = waiting
        sent_at = self.world.clock.seconds()

        def done(result: Any) -> None:
            client.waiting = None
            failed = getattr(result, "value", None)
            if isinstance(failed, CancelledError):
                return
            if failed is not None:
                assert isinstance(failed, KafkaError), failed
            if lost:
                if isinstance(client, Modern):
                    client.full = True
                return
            if failed is None:
                client.heard_at = sent_at
            answered(result if failed is None else failed)

        waiting.addBoth(done)
        self.world.settle()

    # The consumer protocol.

    def beat_modern(self, client: Modern, lost: bool = False) -> None:
        if not client.joined:
            client.starts += 1
            client.member_id = f"{client.name}{client.starts}"
        if not client.joined or client.full:
            names = None if client.pattern else ["events", "logs"]
            by_topic: dict[bytes, set[int]] = defaultdict(set)
            for topic, partition in client.owned:
                by_topic[topic.encode().ljust(16, b"-")[:16]].add(partition)
            request = heartbeat_request(
                client.member_id,
                max(client.epoch, 0),
                names,
                instance=client.instance,
                regex="(events|logs|more.*)" if client.pattern else "",
                owned=by_topic,
                rebalance=PATIENCE_MS,
            )
        else:
            request = heartbeat_request(client.member_id, client.epoch, instance=client.instance)
        client.full = True

        def answered(answer: Any) -> None:
            if isinstance(answer, KafkaError):
                if (
                    answer.code
                    in (
                        ErrorCode.UNKNOWN_MEMBER_ID,
                        ErrorCode.FENCED_MEMBER_EPOCH,
                        ErrorCode.GROUP_ID_NOT_FOUND,
                        ErrorCode.GROUP_MAX_SIZE_REACHED,
                        ErrorCode.UNRELEASED_INSTANCE_ID,
                        ErrorCode.FENCED_INSTANCE_ID,
                    )
                    or not client.joined
                ):
                    client.forget()
                return
            client.epoch = answer.member_epoch
            client.full = answer.assignment is not None
            if answer.assignment is not None:
                client.owned = {
                    (part.topic_id.rstrip(b"-").decode(), partition)
                    for part in answer.assignment.topic_partitions
                    for partition in part.partitions
                }

        self.ask(
            client, lambda: self.world.coordinator.consumer_heartbeat(request, 1, client.name, "host"), answered, lost
        )

    @rule(index=st.integers(0, 2), lost=st.sampled_from([False, False, False, True]))
    def modern_beats(self, index: int, lost: bool) -> None:
        client = self.modern[index]
        if client.waiting is None:
            self.beat_modern(client, lost)

    @rule(index=st.integers(0, 2))
    def modern_changes_its_subscription(self, index: int) -> None:
        client = self.modern[index]
        if client.waiting is None:
            client.pattern, client.full = not client.pattern, True

    @rule(index=st.integers(0, 2), back=st.booleans())
    def modern_leaves(self, index: int, back: bool) -> None:
        client = self.modern[index]
        if client.waiting is None and client.joined:
            epoch = -2 if back and client.instance else -1
            request = heartbeat_request(client.member_id, epoch, instance=client.instance)
            client.forget()
            self.ask(
                client,
                lambda: self.world.coordinator.consumer_heartbeat(request, 1, client.name, "host"),
                lambda _: None,
            )

    @rule(index=st.integers(0, 2))
    def modern_crashes(self, index: int) -> None:
        """It is gone without a word, and may come back as another."""
        if self.modern[index].waiting is None:
            self.modern[index].forget()

    # The classic protocol.

    def turn_classic(self, client: Classic) -> None:
        """Whatever an eager consumer does next."""
        if not client.joined:
            self.join_classic(client)
        elif client.must_sync:
            self.sync_classic(client)
        else:
            try:
                self.world.coordinator.heartbeat(GROUP, client.member_id, None, client.epoch)
                client.heard_at = self.world.clock.seconds()
            except KafkaError as error:
                self.refused_classic(client, error.code)

    def refused_classic(self, client: Classic, code: ErrorCode) -> None:
        """Anything that is refused makes it give everything back and join again, as a new one if it is not known."""
        member_id = client.member_id
        client.forget()
        client.must_sync = False
        if code not in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.GROUP_MAX_SIZE_REACHED):
            client.member_id = member_id

    def join_classic(self, client: Classic) -> None:
        request = join_request(
            client.member_id,
            session=SESSION_MS,
            rebalance=PATIENCE_MS,
            protocols=(("range", subscription("events", "logs")),),
        )

        def answered(answer: Any) -> None:
            code = answer.code if isinstance(answer, KafkaError) else ErrorCode(answer.error_code)
            if code is ErrorCode.MEMBER_ID_REQUIRED:
                client.member_id = answer.member_id
            elif code:
                self.refused_classic(client, code)
            else:
                client.member_id, client.epoch, client.must_sync = answer.member_id, answer.generation_id, True
                client.leads = tuple((member.member_id, ()) for member in answer.members)

        self.ask(client, lambda: self.world.coordinator.join(request, 9, client.name, "host"), answered)

    def sync_classic(self, client: Classic) -> None:
        shares: dict[str, list[OwnedTopic]] = {}
        for position, (member_id, _) in enumerate(client.leads):
            shares[member_id] = [
                OwnedTopic(topic=topic, partitions=list(range(position, count, len(client.leads))))
                for topic, count in self.topics.items()
                if topic in ("events", "logs")
            ]
        handed_in = {member_id: write_assignment(0, parts) for member_id, parts in shares.items()}
        request = sync_request(client.member_id, client.epoch, handed_in, protocol=("consumer", "range"))

        def answered(answer: Any) -> None:
            code = answer.code if isinstance(answer, KafkaError) else ErrorCode(answer.error_code)
            if code:
                self.refused_classic(client, code)
                return
            client.must_sync = False
            client.owned = {
                (part.topic, partition) for part in read_assignment(answer.assignment) for partition in part.partitions
            }

        self.ask(client, lambda: self.world.coordinator.sync(request), answered)

    @rule(index=st.integers(0, 1))
    def classic_turns(self, index: int) -> None:
        client = self.classic[index]
        if client.waiting is None:
            self.turn_classic(client)

    @rule(index=st.integers(0, 1))
    def classic_leaves(self, index: int) -> None:
        client = self.classic[index]
        if client.waiting is None and client.member_id:
            members = [MemberIdentity(member_id=client.member_id)]
            client.forget()
            client.must_sync = False
            self.ask(client, lambda: self.world.coordinator.leave(GROUP, members), lambda _: None)

    # Commits.

    @rule(index=st.integers(0, 4))
    def commits(self, index: int) -> None:
        able = [client for client in self.clients if client.joined and client.owned and client.waiting is None]
        if not able:
            return
        client = able[index % len(able)]
        place = TopicPartition(*min(client.owned))
        self.offset += 1
        offset, group = self.offset, self.group
        is_out = group is not None and client.member_id not in group.members
        self.tried[place].add(offset)
        request = commit_request(
            {(place.topic, place.partition): offset}, member=client.member_id, generation=client.epoch
        )

        def answered(answer: Any) -> None:
            if not isinstance(answer, KafkaError):
                assert not is_out, "a member that is out has committed"
                if place.topic in self.topics:
                    self.acknowledged[place] = offset

        self.ask(client, lambda: self.world.coordinator.commit(request, 9), answered)

    # The world.

    @rule(seconds=st.sampled_from([0.05, 3, 6, 11]))
    def time_passes(self, seconds: float) -> None:
        self.world.clock.advance(seconds)
        self.world.settle()

    @rule()
    def log_delays(self) -> None:
        self.world.log.holding = True

    @precondition(lambda self: self.world.log.held)
    @rule(fails=st.sampled_from([False, False, True]))
    def log_goes_on(self, fails: bool) -> None:
        self.world.log.release(ErrorCode.NOT_ENOUGH_REPLICAS if fails else None)
        self.world.settle()

    @rule()
    def log_catches_up(self) -> None:
        self.world.log.release_all()
        self.world.settle()

    @rule(torn=st.booleans(), code=st.sampled_from([ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.REQUEST_TIMED_OUT]))
    def log_fails(self, torn: bool, code: ErrorCode) -> None:
        self.world.log.failing, self.world.log.torn = code, torn

    @rule()
    def log_recovers(self) -> None:
        self.world.log.failing = None

    @rule()
    def node_restarts(self) -> None:
        """Everything that waited is refused, and the log is read anew."""
        self.world.log.release_all()
        self.world.lead()

    @rule(partitions=st.integers(1, 4))
    def a_topic_comes_or_goes(self, partitions: int) -> None:
        world = self.world
        if "more" in self.topics:
            del self.topics["more"]
            for place in [place for place in self.acknowledged if place.topic == "more"]:
                del self.acknowledged[place]
            world.metadata.delete("more")
        else:
            self.topics["more"] = partitions
            world.metadata.tell(MetadataDelta(created=[world.metadata.create("more", partitions)]))
        world.settle()

    @rule()
    def a_topic_gets_partitions(self) -> None:
        if self.topics["logs"] < 14:
            self.topics["logs"] += 1
            changed = self.world.metadata.create("logs", self.topics["logs"])
            self.world.metadata.tell(MetadataDelta(changed=[changed]))

    # What must hold.

    @invariant()
    def no_partition_has_two_owners(self) -> None:
        """Whoever has not been heard for a session knows that it may be out."""
        now = self.world.clock.seconds()
        seen: dict[Place, str] = {}
        for client in self.clients:
            if client.joined and now - client.heard_at < SESSION_MS / 1000:
                for place in client.owned:
                    if place[0] in self.topics:
                        assert place not in seen, f"{place} belongs to {seen[place]} and {client.name}"
                        seen[place] = client.name

    @invariant()
    def memory_is_a_replay_of_the_log(self) -> None:
        other = World(self.world.settings, self.world.log)
        live, replayed = self.world.shard.consumers.groups, other.shard.consumers.groups
        assert {name: _state(group) for name, group in live.items()} == {
            name: _state(group) for name, group in replayed.items()
        }
        assert self.world.shard.stored == other.shard.stored
        assert self.world.shard.offsets._groups == other.shard.offsets._groups
        overlap = live.keys() & self.world.shard.groups.keys()
        assert not overlap, f"{overlap} are of both protocols"
        other.coordinator.stop()

    def teardown(self) -> None:
        world = self.world
        world.log.failing = None
        world.log.release_all()
        for _ in range(3):
            world.clock.advance(SESSION_MS / 1000 + 2)
            world.settle()
        for _ in range(40):
            for modern in self.modern:
                if modern.waiting is None:
                    self.beat_modern(modern)
            for classic in self.classic:
                if classic.waiting is None:
                    self.turn_classic(classic)
            world.clock.advance(0.5)
            world.settle()
            self.no_partition_has_two_owners()
        self.everything_is_given_out()
        world.coordinator.stop()
        assert world.clock.getDelayedCalls() == []

    def everything_is_given_out(self) -> None:
        group = self.group
        assert group is not None and group.state.value == "Stable", group and group.state
        wanted = {name for name in self.topics if name != "more" or any(client.pattern for client in self.modern)}
        owned = [place for client in self.clients for place in client.owned]
        assert sorted(owned) == sorted((name, p) for name in wanted for p in range(self.topics[name]))
        committed = {place: found.offset for place, found in self.world.shard.offsets.all(GROUP).items()}
        for place, offset in self.acknowledged.items():
            assert committed.get(place, -1) >= offset, (
                f"the commit of {offset} at {place} is lost: {committed.get(place)}"
            )


def _state(group: ConsumerGroup) -> Any:
    return (
        group.epoch,
        group.metadata_hash,
        group.target_epoch,
        group.members,
        group.targets,
        group.regexes,
        group._statics,
        group._owners,
    )


class GroupModelTests(SynchronousTestCase):
    def test_model(self) -> None:
        chosen = settings(
            max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
        )
        run_state_machine_as_test(GroupModel, settings=chosen)
