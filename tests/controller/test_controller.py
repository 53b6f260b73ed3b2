"""Decisions about topics, partitions, brokers and producer ids."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chronik.controller.commands import (
    AllocateProducerIds,
    AlterConfigs,
    ConfigResource,
    CreatePartitions,
    CreateTopics,
    DeleteTopics,
    MorePartitions,
    NewTopic,
    ProducerIdBlock,
    RegisterBroker,
    ReplaceConfigs,
    ResourceType,
    TopicReference,
)
from chronik.controller.controller import Rules, decide
from chronik.errors import ErrorCode, KafkaError
from chronik.model import ZERO_UUID, Endpoint
from tests.controller.cluster import decided, image_with, register, topic_ids


class CreateTopicsTests(SynchronousTestCase):
    """CreateTopics."""

    def setUp(self) -> None:
        self.image = image_with(1)
        self.rules = Rules(topic_ids())

    def create(self, *topics: NewTopic, validate_only: bool = False) -> list[tuple[ErrorCode, str]]:
        results = decided(self.image, CreateTopics(topics, validate_only), self.rules)
        return [
            (ErrorCode.NONE, "") if each.error is None else (each.error.code, each.error.message) for each in results
        ]

    def refused(self, topic: NewTopic) -> tuple[ErrorCode, str]:
        return self.create(topic)[0]

    def test_a_topic_has_its_partitions_and_configs(self) -> None:
        command = CreateTopics((NewTopic("events", 3, 1, configs=(("retention.ms", "5"),)),))
        (created,) = decided(self.image, command, self.rules)
        topic = self.image.topic("events")
        assert topic is not None
        self.assertEqual(created.topic, topic)
        self.assertEqual(
            [(each.partition, each.leader, each.replicas) for each in topic.partitions],
            [(0, 0, (0,)), (1, 0, (0,)), (2, 0, (0,))],
        )
        self.assertEqual(dict(topic.configs), {"retention.ms": "5"})
        self.assertIs(self.image.topic_by_id(topic.topic_id), topic)

    def test_minus_one_asks_for_the_defaults(self) -> None:
        image = image_with(3)
        decided(image, CreateTopics((NewTopic("t"),)), Rules(topic_ids(), 4, 2))
        topic = image.topic("t")
        assert topic is not None
        self.assertEqual([len(each.replicas) for each in topic.partitions], [2, 2, 2, 2])

    def test_validate_only_creates_nothing(self) -> None:
        self.assertEqual(self.create(NewTopic("t", 1, 1), validate_only=True), [(ErrorCode.NONE, "")])
        self.assertIsNone(self.image.topic("t"))

    def test_each_topic_is_judged_by_itself(self) -> None:
        results = self.create(NewTopic("a", 1, 1), NewTopic("b", 0, 1), NewTopic("c", 1, 1))
        self.assertEqual([code for code, _ in results], [0, ErrorCode.INVALID_PARTITIONS, 0])
        self.assertEqual([topic.name for topic in self.image.topics()], ["a", "c"])

    def test_a_name_is_taken_once(self) -> None:
        self.create(NewTopic("t", 1, 1))
        self.assertEqual(self.refused(NewTopic("t", 1, 1))[0], ErrorCode.TOPIC_ALREADY_EXISTS)

    def test_names_that_cannot_be(self) -> None:
        for name in ("", ".", "..", "a b", "a/b", "ä", "x" * 250):
            self.assertEqual(self.refused(NewTopic(name, 1, 1))[0], ErrorCode.INVALID_TOPIC_EXCEPTION, name)
        self.assertEqual(self.refused(NewTopic("__cluster_metadata", 1, 1))[0], ErrorCode.INVALID_REQUEST)

    def test_names_that_collide(self) -> None:
        self.create(NewTopic("a.b_c", 1, 1))
        code, message = self.refused(NewTopic("a_b.c", 1, 1))
        self.assertEqual(code, ErrorCode.INVALID_TOPIC_EXCEPTION)
        self.assertIn("collides with topic 'a.b_c'", message)
        decided(self.image, DeleteTopics((TopicReference("a.b_c"),)), self.rules)
        self.assertEqual(self.refused(NewTopic("a_b.c", 1, 1))[0], ErrorCode.NONE)

    def test_replication_factors_that_cannot_be(self) -> None:
        self.assertEqual(
            self.refused(NewTopic("t", 1, 3)),
            (ErrorCode.INVALID_REPLICATION_FACTOR, "replication factor 3 is larger than the 1 broker(s) available"),
        )
        for factor in (0, -2, 32767):
            self.assertEqual(self.refused(NewTopic("t", 1, factor))[0], ErrorCode.INVALID_REPLICATION_FACTOR)

    def test_partition_counts_that_cannot_be(self) -> None:
        for count in (0, -2, -(2**31)):
            self.assertEqual(self.refused(NewTopic("t", count, 1))[0], ErrorCode.INVALID_PARTITIONS)

    def test_too_many_partitions_are_refused_as_a_whole(self) -> None:
        for topics in ((NewTopic("t", 2**31 - 1, 1),), (NewTopic("a", 9_999, 1), NewTopic("b", 2, 1))):
            with self.assertRaises(KafkaError) as caught:
                decide(self.image, CreateTopics(topics), self.rules)
            self.assertEqual(caught.exception.code, ErrorCode.POLICY_VIOLATION)

    def test_commands_about_too_many_things_are_refused_as_a_whole(self) -> None:
        resource = ConfigResource(ResourceType.TOPIC, "t")
        for command in (
            CreateTopics((NewTopic("t", 0, 1),) * 10_001),
            DeleteTopics((TopicReference("t"),) * 10_001),
            CreatePartitions((MorePartitions("t", 0),) * 10_001),
            AlterConfigs(((resource, ()),) * 10_001),
            ReplaceConfigs(((resource, ()),) * 10_001),
        ):
            with self.assertRaises(KafkaError) as caught:
                decide(self.image, command, self.rules)
            self.assertEqual(caught.exception.code, ErrorCode.POLICY_VIOLATION)

    def test_configs_are_checked(self) -> None:
        for configs in (
            (("nope", "1"),),
            (("segment.bytes", "x"),),
            (("retention.ms", None),),
            (("cleanup.policy", "nonsense"),),
            (("remote.storage.enable", "true"),),
        ):
            self.assertEqual(self.refused(NewTopic("t", 1, 1, configs=configs))[0], ErrorCode.INVALID_CONFIG, configs)

    def test_topics_may_be_compacted(self) -> None:
        for name, policy in (("__consumer_offsets", "compact"), ("t", "compact"), ("both", "compact,delete")):
            topic = NewTopic(name, 1, 1, configs=(("cleanup.policy", policy),))
            self.assertEqual(self.refused(topic)[0], ErrorCode.NONE)

    def test_an_assignment_places_the_partitions(self) -> None:
        self.image = image_with(3)
        self.assertEqual(self.refused(NewTopic("t", assignments=((1, (2, 0)), (0, (1, 2)))))[0], ErrorCode.NONE)
        topic = self.image.topic("t")
        assert topic is not None
        self.assertEqual(
            [(each.leader, each.replicas, each.isr) for each in topic.partitions],
            [(1, (1, 2), (1, 2)), (2, (2, 0), (2, 0))],
        )

    def test_assignments_that_cannot_be(self) -> None:
        def code(**topic: Any) -> ErrorCode:
            return self.refused(NewTopic("t", **topic))[0]

        self.assertEqual(code(partitions=1, assignments=((0, (0,)),)), ErrorCode.INVALID_REQUEST)
        self.assertEqual(code(replication_factor=1, assignments=((0, (0,)),)), ErrorCode.INVALID_REQUEST)
        for assignments in (((0, (0,)), (0, (0,))), ((1, (0,)),), ((0, ()),), ((0, (5,)),), ((-1, (0,)), (0, (0,)))):
            self.assertEqual(code(assignments=assignments), ErrorCode.INVALID_REPLICA_ASSIGNMENT, assignments)


class DeleteTopicsTests(SynchronousTestCase):
    """DeleteTopics."""

    def setUp(self) -> None:
        self.image = image_with(1)
        self.rules = Rules(topic_ids())
        decided(self.image, CreateTopics(tuple(NewTopic(name, 2, 1) for name in "abc")), self.rules)

    def delete(self, *references: TopicReference) -> list[tuple[str | None, bytes | None, ErrorCode]]:
        results = decided(self.image, DeleteTopics(references), self.rules)
        return [(each.name, each.topic_id, each.error.code if each.error else ErrorCode.NONE) for each in results]

    def id_of(self, name: str) -> bytes:
        topic = self.image.topic(name)
        assert topic is not None
        return topic.topic_id

    def test_by_name_and_by_id(self) -> None:
        a, b = self.id_of("a"), self.id_of("b")
        self.assertEqual(self.delete(TopicReference("a"), TopicReference(topic_id=b)), [("a", a, 0), ("b", b, 0)])
        self.assertEqual([topic.name for topic in self.image.topics()], ["c"])
        self.assertIsNone(self.image.topic_by_id(a))

    def test_what_is_not_there(self) -> None:
        self.assertEqual(self.delete(TopicReference("x")), [("x", None, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)])
        self.assertEqual(
            self.delete(TopicReference(topic_id=b"q" * 16)), [(None, b"q" * 16, ErrorCode.UNKNOWN_TOPIC_ID)]
        )

    def test_references_that_cannot_be(self) -> None:
        bad = ErrorCode.INVALID_REQUEST
        self.assertEqual(self.delete(TopicReference()), [(None, None, bad)])
        self.assertEqual(self.delete(TopicReference(None, ZERO_UUID)), [(None, None, bad)])
        self.assertEqual(self.delete(TopicReference("a", b"q" * 16)), [("a", b"q" * 16, bad)])

    def test_twice_is_refused_and_not_done(self) -> None:
        a = self.id_of("a")
        twice = [("a", None, ErrorCode.INVALID_REQUEST)]
        self.assertEqual(self.delete(TopicReference("a"), TopicReference("a")), twice)
        both = self.delete(TopicReference("a"), TopicReference(topic_id=a))
        self.assertEqual(both, [("a", a, ErrorCode.INVALID_REQUEST)])
        self.assertIsNotNone(self.image.topic("a"))

    def test_a_name_can_be_used_again_under_a_new_id(self) -> None:
        before = self.id_of("a")
        self.delete(TopicReference("a"))
        decided(self.image, CreateTopics((NewTopic("a", 1, 1),)), self.rules)
        self.assertNotEqual(self.id_of("a"), before)


class CreatePartitionsTests(SynchronousTestCase):
    """CreatePartitions."""

    def setUp(self) -> None:
        self.image = image_with(3)
        self.rules = Rules(topic_ids())
        decided(self.image, CreateTopics((NewTopic("t", 2, 2),)), self.rules)

    def more(self, *topics: MorePartitions, validate_only: bool = False) -> list[ErrorCode]:
        results = decided(self.image, CreatePartitions(topics, validate_only), self.rules)
        return [error.code if error else ErrorCode.NONE for error in results]

    def count(self) -> int:
        topic = self.image.topic("t")
        assert topic is not None
        self.assertEqual([each.partition for each in topic.partitions], list(range(len(topic.partitions))))
        return len(topic.partitions)

    def test_partitions_are_added_with_the_same_number_of_replicas(self) -> None:
        self.assertEqual(self.more(MorePartitions("t", 5)), [ErrorCode.NONE])
        self.assertEqual(self.count(), 5)
        topic = self.image.topic("t")
        assert topic is not None
        self.assertEqual({len(each.replicas) for each in topic.partitions}, {2})

    def test_validate_only_adds_nothing(self) -> None:
        self.assertEqual(self.more(MorePartitions("t", 5), validate_only=True), [ErrorCode.NONE])
        self.assertEqual(self.count(), 2)

    def test_counts_that_cannot_be(self) -> None:
        for count in (2, 1, 0, -1):
            self.assertEqual(self.more(MorePartitions("t", count)), [ErrorCode.INVALID_PARTITIONS])
        self.assertEqual(self.more(MorePartitions("t", 2**31 - 1)), [ErrorCode.POLICY_VIOLATION])
        self.assertEqual(self.more(MorePartitions("x", 5)), [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION])

    def test_assignments(self) -> None:
        bad = [ErrorCode.INVALID_REPLICA_ASSIGNMENT]
        for assignments in ((), ((0, 1), (1, 2)), ((0,),), ((0, 0),), ((0, 9),)):
            self.assertEqual(self.more(MorePartitions("t", 3, assignments)), bad, assignments)
        self.assertEqual(self.more(MorePartitions("t", 3, ((2, 0),))), [ErrorCode.NONE])
        topic = self.image.topic("t")
        assert topic is not None
        self.assertEqual((topic.partitions[2].replicas, topic.partitions[2].leader), ((2, 0), 2))


class BrokerTests(SynchronousTestCase):
    """Registration and producer ids."""

    def setUp(self) -> None:
        self.image = image_with(2)
        self.rules = Rules(topic_ids())

    def test_every_registration_has_a_higher_epoch(self) -> None:
        self.assertEqual([broker.epoch for broker in self.image.brokers()], [1, 2])
        self.assertEqual(decided(self.image, register(0, b"second"), self.rules), 3)
        self.assertEqual([broker.epoch for broker in self.image.brokers()], [3, 2])

    def test_the_same_process_again_changes_nothing(self) -> None:
        records, epoch = decide(self.image, register(0), self.rules)
        self.assertEqual((list(records), epoch), ([], 1))

    def test_a_new_process_renews_the_leader_epochs_of_its_partitions(self) -> None:
        decided(self.image, CreateTopics((NewTopic("t", 2, 1),)), self.rules)
        decided(self.image, register(0, b"second"), self.rules)
        topic = self.image.topic("t")
        assert topic is not None
        self.assertEqual([(each.leader, each.leader_epoch) for each in topic.partitions], [(0, 1), (1, 0)])

    def test_a_new_address_of_the_same_process_renews_nothing(self) -> None:
        decided(self.image, CreateTopics((NewTopic("t", 1, 1),)), self.rules)
        moved = RegisterBroker(0, b"first".ljust(16, b"\0"), (Endpoint("PLAINTEXT", "elsewhere", 1),))
        self.assertEqual(decided(self.image, moved, self.rules), 3)
        topic = self.image.topic("t")
        assert topic is not None
        self.assertEqual(topic.partitions[0].leader_epoch, 0)
        self.assertEqual(self.image.brokers()[0].endpoints[0].host, "elsewhere")

    def test_registrations_that_cannot_be(self) -> None:
        for command in (register(-1), RegisterBroker(5, bytes(16), ())):
            with self.assertRaises(KafkaError) as caught:
                decide(self.image, command, self.rules)
            self.assertEqual(caught.exception.code, ErrorCode.INVALID_REGISTRATION)

    def test_producer_ids_are_never_given_twice(self) -> None:
        blocks = [decided(self.image, AllocateProducerIds(0, 1, 1000), self.rules) for _ in range(3)]
        self.assertEqual(blocks, [ProducerIdBlock(0, 1000), ProducerIdBlock(1000, 1000), ProducerIdBlock(2000, 1000)])

    def test_producer_ids_for_strangers_are_refused(self) -> None:
        for command, code in (
            (AllocateProducerIds(9, 1), ErrorCode.BROKER_ID_NOT_REGISTERED),
            (AllocateProducerIds(0, 7), ErrorCode.STALE_BROKER_EPOCH),
        ):
            with self.assertRaises(KafkaError) as caught:
                decide(self.image, command, self.rules)
            self.assertEqual(caught.exception.code, code)
