"""Metadata: what is asked for is answered, created where allowed, and cached without ever being stale."""

from __future__ import annotations

import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from chronik.controller.commands import (
    AlterClientQuotas,
    AlterConfigs,
    ConfigOperation,
    ConfigResource,
    CreatePartitions,
    CreateTopics,
    DeleteTopics,
    MorePartitions,
    NewTopic,
    Operation,
    QuotaAlteration,
    RegisterBroker,
    ResourceType,
    TopicReference,
)
from chronik.controller.service import Controller
from chronik.errors import ErrorCode
from chronik.interfaces import IRequestHandler
from chronik.listeners.context import Peer, RequestContext
from chronik.listeners.handlers.metadata import MetadataHandler
from chronik.model import ZERO_UUID, Endpoint
from chronik.wire.codec import Buffer
from chronik.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.controller.cluster import register
from tests.controller.test_service import HeldLog
from tests.listeners.handlers.serving import Serving, whole

NOT_ASKED = -(2**31)
UNKNOWN, INVALID = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.INVALID_TOPIC_EXCEPTION


def names(*wanted: str | None) -> list[MetadataRequestTopic]:
    return [MetadataRequestTopic(name=name) for name in wanted]


class MetadataTests(SynchronousTestCase):
    """With a real controller in memory."""

    def setUp(self) -> None:
        self.serving = Serving()
        self.image = self.serving.image
        self.serving.cluster.do(CreateTopics((NewTopic("b", 2, 1), NewTopic("a", 1, 1))))
        self.handler = self.make(self.serving)

    def make(self, serving: Serving, controller: Controller | None = None) -> MetadataHandler:
        return MetadataHandler(
            serving.image,
            controller or serving.controller,
            serving.configs,
            serving.clock,
            serving.throttles,
            serving.slices,
        )

    def ask(
        self, topics: list[MetadataRequestTopic] | None, version: int = 13, auto: bool = False, **options: Any
    ) -> Any:
        listener = options.pop("listener", "PLAINTEXT")
        auto = auto or version < 4
        request = MetadataRequest(topics=topics, allow_auto_topic_creation=auto, **options)
        return self.serving.ask(self.handler, request, version, listener)

    def found(self, *arguments: Any, **options: Any) -> list[tuple[str | None, int, int]]:
        """Name, error and number of partitions of each topic in the answer."""
        return [(each.name, each.error_code, len(each.partitions)) for each in self.ask(*arguments, **options).topics]

    def test_it_is_a_request_handler_at_kafkas_versions(self) -> None:
        self.assertTrue(verifyObject(IRequestHandler, self.handler, tentative=True))
        self.assertEqual((self.handler.api_key, self.handler.min_version, self.handler.max_version), (3, 0, 13))

    def test_all_topics_in_every_version(self) -> None:
        for version in range(14):
            answer = self.ask([] if version == 0 else None, version)
            self.assertEqual([(each.name, len(each.partitions)) for each in answer.topics], [("a", 1), ("b", 2)])
            self.assertEqual([(each.node_id, each.host, each.port) for each in answer.brokers], [(0, "host0", 9092)])
            self.assertEqual(answer.cluster_id, "cluster" if version >= 2 else None)
            self.assertEqual(answer.controller_id, 0 if version >= 1 else -1)
            topic = self.image.topic("b")
            assert topic is not None
            self.assertEqual(answer.topics[1].topic_id, topic.topic_id if version >= 10 else ZERO_UUID)
            partition = answer.topics[1].partitions[1]
            self.assertEqual((partition.error_code, partition.partition_index, partition.leader_id), (0, 1, 0))
            self.assertEqual((partition.replica_nodes, partition.isr_nodes), ([0], [0]))
            self.assertEqual(partition.leader_epoch, 0 if version >= 7 else -1)

    def test_no_topics(self) -> None:
        self.assertEqual(self.found([], 1), [])
        self.assertEqual(self.found([], 13), [])

    def test_some_topics_each_once(self) -> None:
        self.assertEqual(
            self.found(names("b", "nope", "a b", "", "b")),
            [("b", 0, 2), ("nope", UNKNOWN, 0), ("a b", INVALID, 0), ("", INVALID, 0)],
        )
        self.assertIsNone(self.image.topic("nope"))

    def test_topics_by_id(self) -> None:
        topic = self.image.topic("b")
        assert topic is not None
        by_id = [MetadataRequestTopic(name=None, topic_id=each) for each in (topic.topic_id, b"q" * 16)]
        answer = self.ask(by_id)
        self.assertEqual(
            [(each.name, each.topic_id, each.error_code) for each in answer.topics],
            [("b", topic.topic_id, 0), (None, b"q" * 16, ErrorCode.UNKNOWN_TOPIC_ID)],
        )

    def test_what_cannot_be_asked(self) -> None:
        answer = self.ask([MetadataRequestTopic(name="a", topic_id=b"q" * 16)], 10)
        self.assertEqual([(each.name, each.error_code) for each in answer.topics], [("a", ErrorCode.INVALID_REQUEST)])
        self.assertEqual((answer.brokers, answer.controller_id, answer.cluster_id), ([], -1, None))
        for version in (10, 11, 12, 13):
            answer = self.ask(names(None), version)
            self.assertEqual([each.error_code for each in answer.topics], [ErrorCode.INVALID_REQUEST])
        self.assertEqual(answer.error_code, ErrorCode.INVALID_REQUEST)

    def test_unknown_topics_are_created_where_allowed(self) -> None:
        found = self.found(names("new", "a b", "a"), auto=True)
        self.assertEqual(found, [("new", 0, 1), ("a b", INVALID, 0), ("a", 0, 1)])
        self.assertEqual(self.found(names("newer"), version=1), [("newer", 0, 1)])
        self.assertEqual([topic.name for topic in self.image.topics()], ["a", "b", "new", "newer"])

    def test_of_very_many_unknown_topics_some_are_created_at_a_time(self) -> None:
        asked = names(*(f"many-{n}" for n in range(1500)))
        self.assertEqual([code for _, code, _ in self.found(asked, auto=True)], [0] * 1000 + [UNKNOWN] * 500)
        self.assertEqual([code for _, code, _ in self.found(asked, auto=True)], [0] * 1500)

    def test_all_topics_create_nothing(self) -> None:
        self.assertEqual(len(self.found(None, auto=True)), 2)

    def test_creation_can_be_forbidden(self) -> None:
        serving = Serving({"auto.create.topics.enable": "false"})
        self.serving, self.handler = serving, self.make(serving)
        self.assertEqual(self.found(names("new"), auto=True), [("new", UNKNOWN, 0)])

    def test_creation_beyond_the_quota_of_mutations(self) -> None:
        """The topic is unknown until the client may have it created."""
        alteration = QuotaAlteration((("client-id", "test"),), (("controller_mutation_rate", 1.0),))
        self.serving.cluster.do(AlterClientQuotas((alteration,)))
        self.serving.throttles.refresh()
        wanted = names(*(f"new{number:02}" for number in range(13)))
        found = self.found(wanted, auto=True)
        self.assertEqual([code for _, code, _ in found], [0] * 12 + [UNKNOWN])
        self.serving.clock.advance(1)
        self.assertEqual(self.found(wanted[-1:], auto=True), [("new12", 0, 1)])

    def test_refused_creations_say_why(self) -> None:
        self.serving.cluster.do(CreateTopics((NewTopic("x.y", 1, 1),)))
        self.assertEqual(self.found(names("x_y"), auto=True), [("x_y", INVALID, 0)])
        self.serving = Serving(default_replication_factor=2)
        self.handler = self.make(self.serving)
        self.assertEqual(self.found(names("t"), auto=True), [("t", ErrorCode.INVALID_REPLICATION_FACTOR, 0)])

    def test_the_offsets_topic_is_created_with_its_own_settings(self) -> None:
        serving = Serving({"offsets.topic.num.partitions": "7"})
        self.serving, self.handler = serving, self.make(serving)
        (topic,) = self.ask(names("__consumer_offsets"), auto=True).topics
        self.assertEqual((topic.error_code, topic.is_internal, len(topic.partitions)), (0, True, 7))
        created = serving.image.topic("__consumer_offsets")
        assert created is not None
        self.assertEqual(created.configs["cleanup.policy"], "compact")

    def test_a_slow_creation_is_not_waited_for_forever(self) -> None:
        log = HeldLog()
        controller = Controller(self.image, log, self.serving.cluster.rules)
        controller.start()
        handler = self.make(self.serving, controller)
        waiting = self.serving.begin(handler, MetadataRequest(topics=names("slow", "a")))
        self.assertNoResult(waiting)
        self.serving.clock.advance(5.1)
        answer = self.successResultOf(waiting)
        self.assertEqual([(each.name, each.error_code) for each in answer.topics], [("slow", UNKNOWN), ("a", 0)])

    def test_authorised_operations_when_asked(self) -> None:
        for version in range(8, 14):
            plain = self.ask(names("a", "nope"), version)
            self.assertEqual([each.topic_authorized_operations for each in plain.topics], [NOT_ASKED] * 2)
            asked = self.ask(names("a", "nope"), version, include_topic_authorized_operations=True)
            self.assertEqual([each.topic_authorized_operations for each in asked.topics], [3576] * 2)
        answer = self.ask(None, 10, include_cluster_authorized_operations=True)
        self.assertEqual(answer.cluster_authorized_operations, 8096)
        self.assertEqual(self.ask(None, 10).cluster_authorized_operations, NOT_ASKED)

    def test_each_listener_has_its_own_address(self) -> None:
        addresses = (Endpoint("PLAINTEXT", "inside", 9092), Endpoint("OUTSIDE", "outside", 19092))
        self.serving.cluster.do(RegisterBroker(0, b"x" * 16, addresses))
        self.assertEqual(self.ask(None).brokers[0].host, "inside")
        answer = self.ask(None, listener="OUTSIDE")
        self.assertEqual((answer.brokers[0].host, answer.brokers[0].port), ("outside", 19092))
        answer = self.ask(None, listener="NOWHERE")
        self.assertEqual(
            (answer.brokers, answer.topics[0].partitions[0].error_code), ([], ErrorCode.LISTENER_NOT_FOUND)
        )
        answer = self.ask(None, 5, listener="NOWHERE")
        self.assertEqual(answer.topics[0].partitions[0].error_code, ErrorCode.LEADER_NOT_AVAILABLE)

    def test_the_cache_is_never_stale(self) -> None:
        def both() -> tuple[Any, Any]:
            return self.found(None), self.found(names("a", "b"))

        both()
        self.serving.cluster.do(CreatePartitions((MorePartitions("a", 3),)))
        self.assertEqual(both(), ([("a", 0, 3), ("b", 0, 2)],) * 2)
        self.serving.cluster.do(DeleteTopics((TopicReference("b"),)))
        self.assertEqual(both(), ([("a", 0, 3)], [("a", 0, 3), ("b", UNKNOWN, 0)]))
        self.serving.cluster.do(CreateTopics((NewTopic("b", 5, 1),)))
        self.assertEqual(both(), ([("a", 0, 3), ("b", 0, 5)],) * 2)
        self.serving.cluster.do(register(0, b"again"))
        self.assertEqual(self.ask(None).topics[0].partitions[0].leader_epoch, 1)
        resource = ConfigResource(ResourceType.TOPIC, "a")
        self.serving.cluster.do(AlterConfigs(((resource, (ConfigOperation("segment.ms", Operation.SET, "9"),)),)))
        self.assertEqual(both(), ([("a", 0, 3), ("b", 0, 5)],) * 2)

    def test_a_thousand_topics_are_answered_quickly(self) -> None:
        """The bar is 5 ms for 1,000 topics of 6 partitions, warm; several tries, since other work shares the machine."""
        self.serving.cluster.do(CreateTopics(tuple(NewTopic(f"topic-{n:04}", 6, 1) for n in range(1000))))
        request = MetadataRequest(topics=None)
        context = RequestContext(Peer("PLAINTEXT", "127.0.0.1", ("127.0.0.1", 9092)), 12, None)
        took = []
        for _ in range(8):
            began = time.perf_counter()
            chunks: list[Buffer] = []
            whole(self.handler.handle(request, context)).encode_into(12, chunks, bytearray())
            took.append(time.perf_counter() - began)
        self.assertLess(min(took[1:]), 0.005)
        self.assertGreater(sum(len(chunk) for chunk in chunks), 150_000)
