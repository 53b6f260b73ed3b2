"""The controller over its log: order of decisions, answers, restarts and lost logs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from chronik.controller.commands import (
    AllocateProducerIds,
    AlterConfigs,
    ConfigOperation,
    ConfigResource,
    CreatePartitions,
    CreateTopics,
    DeleteTopics,
    MorePartitions,
    NewTopic,
    Operation,
    ResourceType,
    TopicReference,
)
from chronik.controller.controller import Rules
from chronik.controller.image import MetadataImage
from chronik.controller.records import decode_record, encode_record
from chronik.controller.service import Controller
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IController, IReplicatedLog, IStateMachine
from tests.controller.cluster import Cluster, register, topic_ids


@implementer(IReplicatedLog)
class HeldLog:
    """A log whose entries are committed when the test says so, in order."""

    def __init__(self) -> None:
        self.machine: IStateMachine | None = None
        self.held: list[tuple[Sequence[bytes], Deferred[int]]] = []
        self.index = 0

    def start(self, machine: IStateMachine) -> Deferred[None]:
        self.machine = machine
        return succeed(None)

    def propose(self, records: Sequence[bytes]) -> Deferred[int]:
        waiting: Deferred[int] = Deferred()
        self.held.append((records, waiting))
        return waiting

    def commit(self) -> None:
        assert self.machine is not None
        records, waiting = self.held.pop(0)
        self.index += 1
        self.machine.apply(self.index, records)
        waiting.callback(self.index)

    def refuse(self) -> None:
        self.held.pop(0)[1].errback(KafkaError(ErrorCode.NOT_CONTROLLER, "the lead is lost"))

    def stop(self) -> Deferred[None]:
        return succeed(None)


class ControllerTests(SynchronousTestCase):
    """With a log in the test's hand."""

    def setUp(self) -> None:
        self.log = HeldLog()
        self.image = MetadataImage("cluster", 0)
        self.controller = Controller(self.image, self.log, Rules(topic_ids()))
        self.successResultOf(self.controller.start())
        registered = self.controller.propose(register(0))
        self.log.commit()
        self.assertEqual(self.successResultOf(registered), 1)

    def create(self, name: str) -> Deferred[Any]:
        return self.controller.propose(CreateTopics((NewTopic(name, 1, 1),)))

    def test_provides_the_interface(self) -> None:
        self.assertTrue(verifyObject(IController, self.controller))

    def test_of_two_racing_creations_one_wins(self) -> None:
        first, second = self.create("t"), self.create("t")
        self.assertNoResult(first)
        self.assertNoResult(second)
        self.assertEqual(len(self.log.held), 1)
        self.log.commit()
        (won,) = self.successResultOf(first)
        (lost,) = self.successResultOf(second)
        self.assertIsNone(won.error)
        self.assertEqual(lost.error.code, ErrorCode.TOPIC_ALREADY_EXISTS)

    def test_proposals_go_to_the_log_without_waiting_for_each_other(self) -> None:
        answers = [self.create(f"t{number}") for number in range(5)]
        self.assertEqual(len(self.log.held), 5)
        self.assertIsNone(self.image.topic("t0"))
        for number, answer in enumerate(answers):
            self.assertNoResult(answer)
            self.log.commit()
            self.successResultOf(answer)
            self.assertIsNotNone(self.image.topic(f"t{number}"))

    def test_a_command_sees_all_that_were_decided_before_it(self) -> None:
        self.create("t")
        deleted = self.controller.propose(DeleteTopics((TopicReference("t"),)))
        again = self.create("t")
        while self.log.held:
            self.log.commit()
        self.assertIsNone(self.successResultOf(deleted)[0].error)
        self.assertIsNone(self.successResultOf(again)[0].error)
        self.assertEqual(len(self.image.topics()), 1)

    def test_a_refusal_waits_for_what_it_is_based_on(self) -> None:
        self.create("t")
        refused = self.controller.propose(AllocateProducerIds(0, 99))
        self.create("later")
        self.assertNoResult(refused)
        self.log.commit()
        self.assertEqual(self.failureResultOf(refused, KafkaError).value.code, ErrorCode.STALE_BROKER_EPOCH)

    def test_a_refusal_with_nothing_under_way_is_immediate(self) -> None:
        refused = self.controller.propose(AllocateProducerIds(0, 99))
        self.failureResultOf(refused, KafkaError)

    def test_cancelling_an_answer_does_not_cancel_the_change(self) -> None:
        answer = self.create("t")
        answer.addErrback(lambda _: None)
        answer.cancel()
        second = self.create("t")
        self.log.commit()
        self.assertEqual(self.successResultOf(second)[0].error.code, ErrorCode.TOPIC_ALREADY_EXISTS)
        self.assertIsNotNone(self.image.topic("t"))

    def test_when_the_lead_is_lost_decisions_begin_again_from_what_is_committed(self) -> None:
        kept, lost, after = self.create("kept"), self.create("lost"), self.create("after")
        self.log.commit()
        self.log.refuse()
        self.successResultOf(kept)
        self.failureResultOf(lost, KafkaError)
        between = self.failureResultOf(self.create("between"), KafkaError)
        self.assertEqual(between.value.code, ErrorCode.NOT_CONTROLLER)
        self.log.refuse()
        self.failureResultOf(after, KafkaError)
        again = self.create("lost")
        self.log.commit()
        self.assertIsNone(self.successResultOf(again)[0].error)
        self.assertEqual([topic.name for topic in self.image.topics()], ["kept", "lost"])

    def test_before_the_start_and_after_the_stop_commands_are_refused(self) -> None:
        self.successResultOf(self.controller.stop())
        for controller in (self.controller, Controller(self.image, self.log, Rules(topic_ids()))):
            refused = self.failureResultOf(controller.propose(register(1)), KafkaError)
            self.assertEqual(refused.value.code, ErrorCode.NOT_CONTROLLER)

    def test_what_is_no_command_is_a_fault_of_the_caller(self) -> None:
        self.assertRaises(TypeError, self.controller.propose, "create a topic")


NAMES = st.sampled_from(["a", "b", "a.b", "a_b", "c", "bad name", "__consumer_offsets"])
CONFIGS = st.sampled_from(
    [("retention.ms", "5"), ("segment.bytes", "2000000"), ("nope", "1"), ("cleanup.policy", "delete")]
)


class RandomCommands(RuleBasedStateMachine):
    """Whatever is asked: the image after a restart is the image before, from a snapshot or from the whole log."""

    @initialize(every=st.sampled_from([2, 5, 1000]), brokers=st.integers(1, 3))
    def begin(self, every: int, brokers: int) -> None:
        self.cluster = Cluster(every, brokers)
        self.log: list[Sequence[bytes]] = []
        self.blocks: list[Any] = []

    def do(self, command: Any) -> Any:
        try:
            return self.cluster.do(command)
        except KafkaError:
            return None

    @rule(
        names=st.lists(NAMES, min_size=1, max_size=3),
        count=st.integers(-1, 3),
        factor=st.integers(-1, 4),
        config=CONFIGS,
        only=st.booleans(),
    )
    def create(self, names: list[str], count: int, factor: int, config: tuple[str, str], only: bool) -> None:
        before = self.cluster.image.snapshot()
        self.do(CreateTopics(tuple(NewTopic(name, count, factor, configs=(config,)) for name in names), only))
        if only:
            assert self.cluster.image.snapshot() == before

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        self.do(DeleteTopics((TopicReference(name),)))
        assert self.cluster.image.topic(name) is None

    @rule(name=NAMES, count=st.integers(0, 6))
    def more(self, name: str, count: int) -> None:
        self.do(CreatePartitions((MorePartitions(name, count),)))

    @rule(name=NAMES, config=CONFIGS, operation=st.sampled_from(list(Operation)))
    def alter(self, name: str, config: tuple[str, str], operation: Operation) -> None:
        resource = ConfigResource(ResourceType.TOPIC, name)
        self.do(AlterConfigs(((resource, (ConfigOperation(config[0], operation, config[1]),)),)))

    @rule(value=st.integers(0, 3), node=st.sampled_from(["", "0", "9"]))
    def alter_brokers(self, value: int, node: str) -> None:
        resource = ConfigResource(ResourceType.BROKER, node)
        self.do(AlterConfigs(((resource, (ConfigOperation("log.retention.ms", Operation.SET, str(value)),)),)))

    @rule(node=st.integers(0, 3), incarnation=st.binary(min_size=1, max_size=1))
    def register(self, node: int, incarnation: bytes) -> None:
        self.do(register(node, incarnation))

    @rule(node=st.integers(0, 3))
    def allocate(self, node: int) -> None:
        broker = self.cluster.image.broker(node)
        block = self.do(AllocateProducerIds(node, broker.epoch if broker else 1))
        if block is not None:
            assert all(block.first >= other.first + other.count for other in self.blocks)
            self.blocks.append(block)

    @rule()
    def restart(self) -> None:
        before = self.cluster.image
        self.cluster.restart()
        after = self.cluster.image
        assert (after.version, after.snapshot()) == (before.version, before.snapshot())
        assert (after.topics(), after.brokers()) == (before.topics(), before.brokers())
        assert (after.next_producer_id, after.last_broker_epoch) == (before.next_producer_id, before.last_broker_epoch)
        for name in ("a", "a.b", "a_b", "c"):
            assert after.colliding(name) == before.colliding(name)

    @invariant()
    def consistent(self) -> None:
        if not hasattr(self, "cluster"):
            return
        image = self.cluster.image
        alive = {broker.node_id for broker in image.brokers()}
        epochs = [broker.epoch for broker in image.brokers()]
        assert len(set(epochs)) == len(epochs)
        for topic in image.topics():
            assert image.topic(topic.name) is topic
            assert image.topic_by_id(topic.topic_id) is topic
            for number, partition in enumerate(topic.partitions):
                assert partition.partition == number
                assert partition.leader in partition.isr
                assert set(partition.isr) <= set(partition.replicas) <= alive


class RandomCommandsTests(SynchronousTestCase):
    """Runs of `RandomCommands`."""

    def test_any_commands_in_any_order(self) -> None:
        run_state_machine_as_test(
            RandomCommands, settings=settings(max_examples=60, stateful_step_count=30, deadline=None)
        )


class SnapshotAndTailTests(SynchronousTestCase):
    """A snapshot at any index and the entries after it give what all entries give."""

    def test_every_split(self) -> None:
        entries: list[list[bytes]] = []
        image = MetadataImage("cluster", 0)
        cluster = Cluster(brokers=0)
        original = cluster.image.apply

        def recording(index: int, records: Sequence[bytes]) -> None:
            entries.append(list(records))
            original(index, records)

        cluster.image.apply = recording  # type: ignore[method-assign]
        cluster.do(register(0))
        for number in range(6):
            cluster.do(CreateTopics((NewTopic(f"t{number}", number + 1, 1),)))
            cluster.do(CreatePartitions((MorePartitions(f"t{number}", number + 3),)))
            cluster.do(AllocateProducerIds(0, cluster.image.brokers()[0].epoch))
            if number % 2:
                cluster.do(DeleteTopics((TopicReference(f"t{number - 1}"),)))
                cluster.do(register(0, b"%d" % number))
        for index, records in enumerate(entries, 1):
            image.apply(index, records)
            resumed = MetadataImage("cluster", 0)
            resumed.restore(index, image.snapshot())
            for later, tail in enumerate(entries[index:], index + 1):
                resumed.apply(later, tail)
            self.assertEqual(resumed.snapshot(), cluster.image.snapshot())
        for records in entries:
            self.assertEqual([encode_record(decode_record(each)) for each in records], records)
