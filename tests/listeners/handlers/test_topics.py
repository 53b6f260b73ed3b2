"""CreateTopics, DeleteTopics and CreatePartitions, as clients see them."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from chronik.controller.commands import AlterClientQuotas, QuotaAlteration
from chronik.controller.service import Controller
from chronik.errors import ErrorCode
from chronik.interfaces import IRequestHandler
from chronik.listeners.handlers import proposing
from chronik.listeners.handlers.create_partitions import CreatePartitionsHandler
from chronik.listeners.handlers.create_topics import CreateTopicsHandler
from chronik.listeners.handlers.delete_topics import DeleteTopicsHandler
from chronik.listeners.handlers.proposing import Proposing
from chronik.model import CONTROLLER_MUTATION_RATE, ZERO_UUID
from chronik.wire.messages.create_partitions import (
    CreatePartitionsAssignment,
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)
from chronik.wire.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from chronik.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from tests.controller.test_service import HeldLog
from tests.listeners.handlers.serving import Serving


def topic(name: str, partitions: int = 1, factor: int = 1, **configs: str | None) -> CreatableTopic:
    return CreatableTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=factor,
        configs=[CreatableTopicConfig(name=key.replace("_", "."), value=value) for key, value in configs.items()],
    )


class TopicHandlersTests(SynchronousTestCase):
    """With a real controller in memory."""

    def setUp(self) -> None:
        self.serving = Serving({"num.partitions": "1"})
        serving = self.serving
        self.creating = CreateTopicsHandler(serving.proposing, serving.configs, serving.throttles)
        self.deleting = DeleteTopicsHandler(serving.proposing, serving.configs, serving.image, serving.throttles)
        self.adding = CreatePartitionsHandler(serving.proposing, serving.image, serving.throttles)

    def create(self, *topics: CreatableTopic, version: int = 7, **options: bool) -> list[tuple[str, int, str | None]]:
        response = self.serving.ask(self.creating, CreateTopicsRequest(topics=list(topics), **options), version)
        return [(each.name, each.error_code, each.error_message) for each in response.topics]

    def test_they_are_request_handlers_at_kafkas_versions(self) -> None:
        for handler, key, lowest, highest in (
            (self.creating, 19, 2, 7),
            (self.deleting, 20, 1, 6),
            (self.adding, 37, 0, 3),
        ):
            self.assertTrue(verifyObject(IRequestHandler, handler, tentative=True))
            self.assertEqual((handler.api_key, handler.min_version, handler.max_version), (key, lowest, highest))

    def test_a_created_topic_is_described(self) -> None:
        request = CreateTopicsRequest(topics=[topic("t", 3, retention_ms=" 5 ")])
        (result,) = self.serving.ask(self.creating, request).topics
        created = self.serving.image.topic("t")
        assert created is not None
        self.assertEqual(
            (
                result.topic_id,
                result.error_code,
                result.error_message,
                result.num_partitions,
                result.replication_factor,
            ),
            (created.topic_id, 0, None, 3, 1),
        )
        configs = {each.name: (each.value, each.config_source, each.read_only) for each in result.configs}
        self.assertEqual(configs["retention.ms"], ("5", 1, False))
        self.assertEqual(configs["segment.bytes"], ("1073741824", 5, False))
        self.assertEqual(len(configs), 36)

    def test_every_version_answers(self) -> None:
        for version in range(2, 8):
            self.assertEqual(self.create(topic(f"t{version}"), version=version), [(f"t{version}", 0, None)])
            self.assertEqual(self.create(topic(f"t{version}"), version=version)[0][1], ErrorCode.TOPIC_ALREADY_EXISTS)
        for version in range(1, 7):
            named = {"topic_names": ["nope"]} if version < 6 else {"topics": [DeleteTopicState(name="nope")]}
            response = self.serving.ask(self.deleting, DeleteTopicsRequest(**named), version)
            self.assertEqual(response.responses[0].error_code, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        for version in range(4):
            request = CreatePartitionsRequest(
                topics=[CreatePartitionsTopic(name="t2", count=version + 2, assignments=None)]
            )
            self.assertEqual(self.serving.ask(self.adding, request, version).results[0].error_code, 0)

    def test_too_many_replicas_are_refused_with_the_reason(self) -> None:
        self.assertEqual(
            self.create(topic("t", 1, 3)),
            [
                (
                    "t",
                    ErrorCode.INVALID_REPLICATION_FACTOR,
                    "replication factor 3 is larger than the 1 broker(s) available",
                )
            ],
        )

    def test_a_name_given_twice_is_refused_once(self) -> None:
        results = self.create(topic("twice", 1), topic("once"), topic("twice", 2))
        self.assertEqual([each[:2] for each in results], [("once", 0), ("twice", ErrorCode.INVALID_REQUEST)])
        self.assertIsNone(self.serving.image.topic("twice"))

    def test_validate_only_creates_nothing(self) -> None:
        self.assertEqual(self.create(topic("t"), validate_only=True), [("t", 0, None)])
        self.assertIsNone(self.serving.image.topic("t"))

    def test_what_is_too_large_is_refused_for_every_topic(self) -> None:
        results = self.create(topic("a"), topic("b", 20_000))
        self.assertEqual([each[1] for each in results], [ErrorCode.POLICY_VIOLATION] * 2)

    def test_assignments_and_null_configs(self) -> None:
        assigned = CreatableTopic(
            name="t",
            num_partitions=-1,
            replication_factor=-1,
            assignments=[CreatableReplicaAssignment(partition_index=0, broker_ids=[0])],
        )
        self.assertEqual(self.create(assigned, topic("u", retention_ms=None))[0], ("t", 0, None))
        self.assertEqual(self.create(topic("u", retention_ms=None))[0][1], ErrorCode.INVALID_CONFIG)

    def test_a_slow_log_times_out(self) -> None:
        log = HeldLog()
        controller = Controller(self.serving.image, log, self.serving.cluster.rules)
        controller.start()
        handler = CreateTopicsHandler(
            Proposing(controller, self.serving.clock, self.serving.slices),
            self.serving.configs,
            self.serving.throttles,
        )
        request = CreateTopicsRequest(topics=[topic("t")], timeout_ms=3000)
        waiting = self.serving.begin(handler, request)
        self.serving.clock.advance(2.9)
        self.assertNoResult(waiting)
        self.serving.clock.advance(0.2)
        (result,) = self.successResultOf(waiting).topics
        self.assertEqual(result.error_code, ErrorCode.REQUEST_TIMED_OUT)
        answered = self.serving.begin(handler, CreateTopicsRequest(topics=[topic("u")], timeout_ms=3000))
        log.commit()
        log.commit()
        self.assertEqual(self.successResultOf(answered).topics[0].error_code, 0)
        self.assertEqual([each.name for each in self.serving.image.topics()], ["t", "u"])

    def delete(self, *states: DeleteTopicState) -> list[tuple[str | None, bytes, int]]:
        response = self.serving.ask(self.deleting, DeleteTopicsRequest(topics=list(states)))
        return [(each.name, each.topic_id, each.error_code) for each in response.responses]

    def test_deletion_by_name_and_id(self) -> None:
        self.create(topic("a"), topic("b"))
        a, b = (each.topic_id for each in self.serving.image.topics())
        deleted = self.delete(
            DeleteTopicState(name="a"), DeleteTopicState(topic_id=b), DeleteTopicState(topic_id=b"q" * 16)
        )
        self.assertEqual(
            sorted(deleted, key=str),
            sorted([(None, b"q" * 16, ErrorCode.UNKNOWN_TOPIC_ID), ("a", a, 0), ("b", b, 0)], key=str),
        )
        self.assertEqual(self.delete(DeleteTopicState()), [(None, ZERO_UUID, ErrorCode.INVALID_REQUEST)])

    def test_deletion_can_be_forbidden(self) -> None:
        serving = Serving({"delete.topic.enable": "false"})
        handler = DeleteTopicsHandler(serving.proposing, serving.configs, serving.image, serving.throttles)
        for version, code in ((2, ErrorCode.INVALID_REQUEST), (3, ErrorCode.TOPIC_DELETION_DISABLED)):
            response = serving.ask(handler, DeleteTopicsRequest(topic_names=["t"]), version)
            self.assertEqual(response.responses[0].error_code, code)

    def add(self, *topics: tuple[str, int, list[list[int]] | None]) -> list[tuple[str, int]]:
        request = CreatePartitionsRequest(topics=[
            CreatePartitionsTopic(
                name=name,
                count=count,
                assignments=None if chosen is None else [CreatePartitionsAssignment(broker_ids=each) for each in chosen],
            )
            for name, count, chosen in topics
        ])  # fmt: skip
        return [(each.name, each.error_code) for each in self.serving.ask(self.adding, request).results]

    def test_partitions_are_added(self) -> None:
        self.create(topic("t"))
        self.assertEqual(self.add(("t", 3, None)), [("t", 0)])
        self.assertEqual(
            self.add(("t", 3, None), ("x", 3, None)),
            [("t", ErrorCode.INVALID_PARTITIONS), ("x", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)],
        )
        self.assertEqual(self.add(("t", 4, None), ("t", 5, None)), [("t", ErrorCode.INVALID_REQUEST)])
        self.assertEqual(self.add(("t", 4, [])), [("t", ErrorCode.INVALID_REPLICA_ASSIGNMENT)])
        self.assertEqual(self.add(("t", 4, [[0]])), [("t", 0)])


class MutationQuotaTests(TopicHandlersTests):
    """A quota of a partition a second, of which eleven are saved up; the handlers' other tests run under a large one."""

    def setUp(self) -> None:
        super().setUp()
        self.quota(1e9)

    def quota(self, rate: float | None) -> None:
        alteration = QuotaAlteration((("client-id", "test"),), ((CONTROLLER_MUTATION_RATE, rate),))
        self.serving.cluster.do(AlterClientQuotas((alteration,)))
        self.serving.throttles.refresh()

    def answer(self, handler: Any, request: Any, version: int) -> tuple[list[int], int]:
        """(error codes, pause in ms)."""
        answer = self.serving.ask(handler, request, version)
        for name in ("topics", "responses", "results"):
            if hasattr(answer, name):
                return [each.error_code for each in getattr(answer, name)], answer.throttle_time_ms
        raise AssertionError(answer)

    def create_several(self, *sizes: int, version: int = 7, **options: bool) -> tuple[list[int], int]:
        self.made = getattr(self, "made", 0) + 1
        topics = [topic(f"t{self.made}-{index}", size) for index, size in enumerate(sizes)]
        return self.answer(self.creating, CreateTopicsRequest(topics=topics, **options), version)

    def grow(self, name: str, count: int, version: int = 3) -> tuple[list[int], int]:
        topics = [CreatePartitionsTopic(name=name, count=count, assignments=None)]
        return self.answer(self.adding, CreatePartitionsRequest(topics=topics), version)

    def remove(self, name: str, version: int = 5) -> tuple[list[int], int]:
        return self.answer(self.deleting, DeleteTopicsRequest(topic_names=[name]), version)

    def test_new_clients_are_refused_and_pause(self) -> None:
        self.quota(1)
        throttled = ErrorCode.THROTTLING_QUOTA_EXCEEDED
        self.assertEqual(self.create_several(8, 5, 1), ([0, 0, throttled], 2000))  # 13 of 11, then nothing more
        self.assertEqual([each.name for each in self.serving.image.topics()], ["t1-0", "t1-1"])
        self.assertEqual(self.create_several(1), ([throttled], 2000))
        self.assertEqual(self.create_several(1, version=6), ([throttled], 2000))
        self.assertEqual(self.create_several(1, validate_only=True), ([throttled], 2000))
        self.assertEqual(self.grow("t1-0", 9), ([throttled], 2000))
        self.assertEqual(self.remove("t1-0"), ([throttled], 2000))
        self.serving.clock.advance(2)
        self.assertEqual(self.grow("t1-0", 12), ([0], 0))
        self.assertEqual(self.remove("t1-0"), ([throttled], 4000))
        self.serving.clock.advance(4)
        self.assertEqual(self.remove("t1-0"), ([0], 0))
        self.assertEqual(self.create_several(1), ([throttled], 12_000))
        self.quota(None)
        self.assertEqual(self.create_several(100), ([0], 0))

    def test_older_clients_pause(self) -> None:
        self.quota(1)
        self.assertEqual(self.create_several(8, 5, 1, version=5), ([0, 0, 0], 3000))
        self.assertEqual(self.grow("t1-0", 10, version=2), ([0], 5000))
        self.assertEqual(self.remove("t1-1", version=4), ([0], 10_000))

    def test_what_is_refused_for_another_reason_costs_nothing(self) -> None:
        self.quota(1)
        self.create_several(11)
        self.assertEqual(self.create_several(0)[0], [ErrorCode.INVALID_PARTITIONS])
        self.assertEqual(self.grow("nowhere", 5)[0], [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION])
        self.assertEqual(self.remove("nowhere")[0], [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION])
        self.assertEqual(self.create_several(1), ([0], 0))  # the bucket was at zero all the while


class Counting:
    """A controller that notes how many things each command is about."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.sizes: list[int] = []

    def propose(self, command: Any, use_quota: Any = None) -> Any:
        self.sizes.append(len(command.topics))
        return self._controller.propose(command, use_quota)


class ManyTopicsTests(MutationQuotaTests):
    """All of the same, and that what is about many topics is proposed in parts, with the answers of one command."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(proposing, "PART", 3)
        self.counting = Counting(self.serving.controller)
        many = Proposing(self.counting, self.serving.clock, self.serving.slices)  # type: ignore[arg-type]
        serving = self.serving
        self.creating = CreateTopicsHandler(many, serving.configs, serving.throttles)
        self.deleting = DeleteTopicsHandler(many, serving.configs, serving.image, serving.throttles)
        self.adding = CreatePartitionsHandler(many, serving.image, serving.throttles)

    def test_parts(self) -> None:
        names = [f"t{number}" for number in range(10)]
        self.assertEqual([each[:2] for each in self.create(*map(topic, names))], [(name, 0) for name in names])
        self.assertEqual(self.counting.sizes, [3, 3, 3, 1])
        self.counting.sizes.clear()
        self.assertEqual(self.add(*((name, 2, None) for name in names)), [(name, 0) for name in names])
        self.assertEqual(self.counting.sizes, [3, 3, 3, 1])
        self.counting.sizes.clear()
        deleted = self.delete(*(DeleteTopicState(name=name) for name in names))
        self.assertEqual([(name, code) for name, _, code in deleted], [(name, 0) for name in names])
        self.assertEqual(self.counting.sizes, [3, 3, 3, 1])
        self.assertEqual(self.serving.image.topics(), ())

    def test_topics_of_many_partitions_weigh_more(self) -> None:
        self.create(topic("a", 20), topic("b", 1), topic("c", 9), topic("d", 100))
        self.assertEqual(self.counting.sizes, [1, 3])

    def test_what_is_too_large_as_a_whole_is_refused_before_its_first_part(self) -> None:
        results = self.create(*(topic(f"t{number}", 2000) for number in range(6)))
        self.assertEqual({each[1] for each in results}, {ErrorCode.POLICY_VIOLATION})
        self.assertEqual((self.counting.sizes, self.serving.image.topics()), ([], ()))

    def test_partitions_of_all_parts_have_one_bound(self) -> None:
        names = [f"t{number}" for number in range(6)]
        self.create(*map(topic, names))
        for validate_only in (True, False):
            request = CreatePartitionsRequest(
                topics=[CreatePartitionsTopic(name=name, count=2501, assignments=None) for name in names],
                validate_only=validate_only,
            )
            codes = [each.error_code for each in self.serving.ask(self.adding, request).results]
            self.assertEqual(codes, [0] * 4 + [ErrorCode.POLICY_VIOLATION] * 2)

    def test_a_topic_is_referred_to_twice_in_different_places(self) -> None:
        names = [f"t{number}" for number in range(8)]
        self.create(*map(topic, names))
        ids = {each.name: each.topic_id for each in self.serving.image.topics()}
        deleted = self.delete(
            *(DeleteTopicState(name=name) for name in names),
            DeleteTopicState(topic_id=ids["t0"]),
            DeleteTopicState(name="t1"),
        )
        codes = {(name, topic_id): code for name, topic_id, code in deleted}
        self.assertEqual(codes.pop(("t0", ids["t0"])), ErrorCode.INVALID_REQUEST)
        self.assertEqual(codes.pop(("t1", ZERO_UUID)), ErrorCode.INVALID_REQUEST)
        self.assertEqual(codes, {(name, ids[name]): 0 for name in names[2:]})
        self.assertEqual([each.name for each in self.serving.image.topics()], ["t0", "t1"])
