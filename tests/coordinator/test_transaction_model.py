"""A stateful model: producers, zombies, late and repeated EndTxn, timeouts, and crashes while log and partitions fail.

What must hold at every step: the outcome of a transaction never changes once it is prepared; no marker says anything else;
all that a transaction wrote ends the same way; a late EndTxn of v2 ends no later transaction; a fenced producer gets nothing
accepted; memory is a replay of the log. And at the end: what is prepared is completed, and every promise kept.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from chronik.coordinator.settings import TransactionSettings
from chronik.coordinator.transaction import PREPARED, V1, V2, Identity, TransactionState, complete
from chronik.coordinator.transaction_shard import TransactionShard
from chronik.errors import ErrorCode, KafkaError
from chronik.model import TopicPartition
from tests.coordinator.transactions import TransactionWorld

E, S = ErrorCode, TransactionState
PLACES = [TopicPartition("events", 0), TopicPartition("events", 1), TopicPartition("logs", 0)]
WHICH = st.sampled_from([None, None, None, 0, 1, 2])
"""The producer that was initialised last, or any, most of which are zombies."""

SELDOM = st.integers(0, 4).map(lambda number: number == 0)
FOR_NOW = {
    E.CONCURRENT_TRANSACTIONS,
    E.COORDINATOR_NOT_AVAILABLE,
    E.COORDINATOR_LOAD_IN_PROGRESS,
    E.NOT_COORDINATOR,
}
TROUBLES = [
    "log fails",
    "log fails, and wrote",
    "log is slow",
    "partition fails",
    "partition fails, and wrote",
    "markers are slow",
]
WAITING = object()
FINAL = {E.PRODUCER_FENCED, E.INVALID_PRODUCER_ID_MAPPING, E.INVALID_TXN_STATE}


class End:
    """An EndTxn as it was sent."""

    def __init__(self, producer: Producer, commit: bool) -> None:
        assert producer.identity is not None
        self.identity, self.version, self.transaction, self.commit = (
            producer.identity, producer.version, producer.transaction, commit,
        )  # fmt: skip
        self.answered = False


class Producer:
    """One instance of the application: who it believes to be, its open transaction, and the EndTxn it has no answer to."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.identity: Identity | None = None
        self.fenced = False
        self.transaction: int | None = None
        self.ending: End | None = None


class Write:
    """Something that a transaction wrote, when its partition had so many markers."""

    def __init__(self, place: TopicPartition, identity: Identity, transaction: int, position: int) -> None:
        self.place, self.identity, self.transaction, self.position = place, identity, transaction, position
        self.committed: bool | None = None


class TransactionModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        limits = TransactionSettings(transaction_abort_timed_out_transaction_cleanup_interval_ms=1_000)
        self.world = TransactionWorld(limits)
        self.producers = [Producer(V2), Producer(V2), Producer(V1)]
        self.ends: list[End] = []
        self.writes: list[Write] = []
        self.promised: dict[int, bool] = {}
        self.transactions = 0
        self.last = 0

    # What partitions do with markers.

    def partitions(self) -> None:
        """Every marker ends what its producer has open there, written before it."""
        for place, markers in self.world.markers.written.items():
            for position, marker in enumerate(markers):
                for write in self.writes:
                    if (
                        write.committed is None
                        and (write.place, write.identity.producer_id) == (place, marker.producer_id)
                        and write.position <= position
                        and write.identity.epoch <= marker.producer_epoch
                    ):
                        write.committed = marker.committed

    # Clients.

    def run(self, operation: Any) -> Any:
        """What came of an operation at once; WAITING when it waits, and its client gives it up."""
        results = self.world.begin(operation)
        self.world.settle()
        if not results:
            return WAITING
        return results[0].code if isinstance(results[0], KafkaError) else results[0]

    def accepted(self, producer: Producer, result: Any) -> bool:
        """Whether the producer was served; a fenced one must not be."""
        if result is WAITING or result in FOR_NOW:
            return False
        if isinstance(result, ErrorCode):
            assert result in FINAL, result
            return False
        assert not producer.fenced, "a fenced producer was served"
        return True

    def producer(self, which: int | None) -> Producer:
        return self.producers[self.last if which is None else which]

    @rule(which=st.integers(0, 2), go_on=st.booleans(), take_over=SELDOM, timeout_ms=st.sampled_from([2_000, 60_000]))
    def initialise(self, which: int, go_on: bool, take_over: bool, timeout_ms: int) -> None:
        if self.producers[self.last].identity is not None and not take_over:
            return
        producer = self.producers[which]
        expected = producer.identity if go_on else None
        result = self.run(self.world.coordinator.initialise("t", timeout_ms, expected))
        if expected is None:
            producer = self.producers[which] = Producer(producer.version)  # another instance
        if result is WAITING or isinstance(result, ErrorCode):
            if expected is not None:
                self.accepted(producer, result)
            return
        assert expected is None or not producer.fenced, "a fenced producer went on"
        producer.identity, producer.transaction, producer.ending = result, None, None
        self.last = which
        for other in self.producers:
            if other is not producer:
                other.fenced = True

    @rule(which=WHICH, places=st.lists(st.sampled_from(PLACES), min_size=1, max_size=3))
    def write(self, which: int | None, places: list[TopicPartition]) -> None:
        for place in places:
            self.write_to(self.producer(which), place)

    def write_to(self, producer: Producer, place: TopicPartition) -> None:
        if producer.identity is None or producer.ending is not None:
            return
        joining = self.world.coordinator.add_partitions("t", producer.identity, [place], producer.version)
        if not self.accepted(producer, self.run(joining)):
            return
        assert place in self.world.state().partitions
        if producer.transaction is None:
            self.transactions += 1
            producer.transaction = self.transactions
        position = len(self.world.markers.written.get(place, ()))
        self.writes.append(Write(place, producer.identity, producer.transaction, position))

    @rule(which=WHICH, commit=st.booleans(), lost=SELDOM)
    def end(self, which: int | None, commit: bool, lost: bool) -> None:
        self.end_of(self.producer(which), commit, lost)

    def end_of(self, producer: Producer, commit: bool, lost: bool) -> None:
        if producer.identity is None:
            return
        if producer.ending is None:
            if producer.transaction is None:
                return
            producer.ending = End(producer, commit)
            self.ends.append(producer.ending)
        self.send(producer, producer.ending, lost)

    @rule(places=st.sets(st.sampled_from(PLACES), min_size=1), commit=st.booleans(), lost=SELDOM)
    def a_whole_transaction(self, places: set[TopicPartition], commit: bool, lost: bool) -> None:
        for place in sorted(places):
            self.write_to(self.producers[self.last], place)
        self.end_of(self.producers[self.last], commit, lost)

    def send(self, producer: Producer, ending: End, lost: bool) -> None:
        end = self.world.coordinator.end("t", ending.identity, ending.commit, ending.version)
        result = self.run(end)
        if not self.accepted(producer, result):
            if result in FINAL:
                producer.ending = producer.transaction = None
                producer.identity = None
            return
        assert ending.transaction is not None
        assert self.promised.setdefault(ending.transaction, ending.commit) == ending.commit
        ending.answered = True
        if not lost and producer.ending is ending:
            producer.identity, producer.transaction, producer.ending = result, None, None

    @precondition(lambda self: any(end.version == V2 and end.answered for end in self.ends))
    @rule(data=st.data())
    def a_late_end_arrives(self, data: st.DataObject) -> None:
        late = data.draw(st.sampled_from([end for end in self.ends if end.version == V2 and end.answered]))
        records = len(self.world.entries())
        held = len(self.world.log.held)
        result = self.world.begin(self.world.coordinator.end("t", late.identity, late.commit, V2))
        assert len(self.world.entries()) == records and len(self.world.log.held) == held, "it ended something"
        assert result, "a repetition is answered at once"

    # The world.

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(trouble=st.sampled_from([*TROUBLES, *["nothing"] * 4]), place=st.sampled_from(PLACES))
    def trouble(self, trouble: str, place: TopicPartition) -> None:
        log, markers = self.world.log, self.world.markers
        if trouble == "nothing":
            log.failing = None
            markers.failing.clear()
            log.release_all()
            markers.release_all()
            self.world.settle()
        elif trouble in ("log fails", "log fails, and wrote"):
            log.failing, log.torn = E.NOT_ENOUGH_REPLICAS, trouble != "log fails"
        elif trouble == "log is slow":
            log.holding = True
        elif trouble in ("partition fails", "partition fails, and wrote"):
            markers.torn = trouble != "partition fails"
            markers.refuse(place, E.NOT_LEADER_OR_FOLLOWER)
        else:
            markers.holding = True

    @precondition(lambda self: self.world.log.held)
    @rule(fails=st.booleans())
    def the_log_answers_one(self, fails: bool) -> None:
        self.world.log.release(E.REQUEST_TIMED_OUT if fails else None)
        self.world.settle()

    @precondition(lambda self: self.world.markers.held)
    @rule(data=st.data())
    def a_marker_is_written(self, data: st.DataObject) -> None:
        self.world.markers.release(data.draw(st.integers(0, len(self.world.markers.held) - 1)))

    @rule(seldom=SELDOM, holding=st.booleans())
    def crash(self, seldom: bool, holding: bool) -> None:
        if seldom:
            self.world = self.world.crash(holding)

    # What must hold.

    @invariant()
    def outcomes_stand(self) -> None:
        before: Any = None
        said: dict[Identity, set[bool]] = {}
        for entry in self.world.entries():
            state = entry.state
            assert state is not None
            if before is not None and before.state in PREPARED:
                assert state == complete(before, state.updated_ms), f"{before} became {state}"
            if state.state in PREPARED:
                assert state.client_version == V1 or state.identity not in said, "an epoch ended two transactions"
                said.setdefault(state.identity, set()).add(state.committed)
            before = state
        for markers in self.world.markers.written.values():
            for marker in markers:
                assert marker.committed in said[Identity(marker.producer_id, marker.producer_epoch)]

    @invariant()
    def memory_is_the_log(self) -> None:
        shard = TransactionShard(self.world.settings, lambda: 2)
        for entry in self.world.entries():
            shard.replay(entry)
        assert shard.transactions == self.world.shard.transactions

    @invariant()
    def all_or_nothing(self) -> None:
        self.partitions()
        outcomes: dict[int, set[bool]] = {}
        for write in self.writes:
            if write.committed is not None:
                outcomes.setdefault(write.transaction, set()).add(write.committed)
        for transaction, found in outcomes.items():
            assert len(found) == 1, f"transaction {transaction} is torn"
            assert self.promised.get(transaction) in (None, *found), "a promise was broken"

    def teardown(self) -> None:
        self.world = self.world.crash()
        self.world.advance(10)
        self.outcomes_stand()
        self.memory_is_the_log()
        self.all_or_nothing()
        state = self.world.shard.transactions.get("t")
        assert state is None or state.state not in PREPARED, "a prepared transaction is not completed"
        for write in self.writes:
            if write.transaction in self.promised:
                assert write.committed == self.promised[write.transaction], "a promise was not kept"
        self.world.coordinator.stop()


class ModelTests(SynchronousTestCase):
    def test_model(self) -> None:
        run_state_machine_as_test(
            TransactionModel,
            settings=settings(
                max_examples=120,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
            ),
        )
