"""The image: look-ups, what listeners are told, snapshots, and records that cannot follow."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from chronik.controller.commands import (
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
from chronik.controller.controller import Rules, decide
from chronik.controller.image import MetadataImage
from chronik.controller.records import (
    PartitionRow,
    PartitionsAdded,
    ProducerIdsAllocated,
    TopicConfigChanged,
    TopicCreated,
    TopicDeleted,
    encode_record,
)
from chronik.errors import CorruptLogError
from chronik.interfaces import IClusterMetadata, IStateMachine, MetadataDelta
from tests.controller.cluster import decided, image_with, register, topic_ids


def shape(delta: MetadataDelta) -> tuple[list[str], list[str], list[str], bool]:
    """A delta by the names of its topics."""
    return (
        [topic.name for topic in delta.created],
        [topic.name for topic in delta.changed],
        [topic.name for topic in delta.deleted],
        delta.brokers_changed,
    )


class MetadataImageTests(SynchronousTestCase):
    """One image."""

    def setUp(self) -> None:
        self.image = image_with(1)
        self.rules = Rules(topic_ids())
        self.deltas: list[MetadataDelta] = []
        self.unsubscribe = self.image.subscribe(self.deltas.append)

    def do(self, command: object) -> list[tuple[list[str], list[str], list[str], bool]]:
        self.deltas.clear()
        decided(self.image, command, self.rules)
        return [shape(delta) for delta in self.deltas]

    def test_provides_the_interfaces(self) -> None:
        self.assertTrue(verifyObject(IClusterMetadata, self.image))
        self.assertTrue(verifyObject(IStateMachine, self.image))

    def test_listeners_are_told_once_an_entry(self) -> None:
        self.assertEqual(
            self.do(CreateTopics((NewTopic("b", 1, 1), NewTopic("a", 1, 1)))), [(["b", "a"], [], [], False)]
        )
        self.assertEqual(self.do(CreatePartitions((MorePartitions("a", 3),))), [([], ["a"], [], False)])
        resource = ConfigResource(ResourceType.TOPIC, "b")
        change = AlterConfigs(((resource, (ConfigOperation("retention.ms", Operation.SET, "1"),)),))
        self.assertEqual(self.do(change), [([], ["b"], [], False)])
        self.assertEqual(self.do(change), [])
        self.assertEqual(self.do(DeleteTopics((TopicReference("a"),))), [([], [], ["a"], False)])
        self.assertEqual(self.do(register(1)), [([], [], [], True)])
        self.assertEqual(self.do(register(0, b"again")), [([], ["b"], [], True)])
        brokers = ConfigResource(ResourceType.BROKER, "")
        change = AlterConfigs(((brokers, (ConfigOperation("log.retention.ms", Operation.SET, "1"),)),))
        self.assertEqual(self.do(change), [([], [], [], True)])

    def test_listeners_see_the_version_and_the_new_state(self) -> None:
        seen: list[tuple[int, bool]] = []
        self.image.subscribe(lambda _: seen.append((self.image.version, self.image.topic("t") is not None)))
        before = self.image.version
        self.do(CreateTopics((NewTopic("t", 1, 1),)))
        self.assertEqual(seen, [(before + 1, True)])

    def test_an_ended_subscription_is_silent(self) -> None:
        self.unsubscribe()
        self.unsubscribe()
        self.assertEqual(self.do(CreateTopics((NewTopic("t", 1, 1),))), [])

    def test_a_deleted_topic_is_told_as_it_was(self) -> None:
        self.do(CreateTopics((NewTopic("t", 2, 1),)))
        topic = self.image.topic("t")
        self.do(DeleteTopics((TopicReference("t"),)))
        self.assertEqual(list(self.deltas[0].deleted), [topic])

    def test_created_and_deleted_in_one_entry_is_nothing(self) -> None:
        created = TopicCreated(b"1" * 16, "t", (PartitionRow((0,), (0,), 0),), {})
        self.deltas.clear()
        self.image.apply(50, [encode_record(created), encode_record(TopicDeleted(b"1" * 16))])
        self.assertEqual([shape(delta) for delta in self.deltas], [([], [], [], False)])
        self.assertEqual(self.image.version, 50)

    def test_topics_are_sorted_and_the_same_until_they_change(self) -> None:
        self.do(CreateTopics(tuple(NewTopic(name, 1, 1) for name in ("b", "c", "a"))))
        topics = self.image.topics()
        self.assertEqual([topic.name for topic in topics], ["a", "b", "c"])
        self.assertIs(self.image.topics(), topics)

    def test_broker_configs_are_copies(self) -> None:
        self.image.broker_configs(None)["x"] = "1"
        self.assertEqual(self.image.broker_configs(None), {})

    def test_a_snapshot_restores_the_same_image(self) -> None:
        self.do(CreateTopics((NewTopic("t", 2, 1, configs=(("retention.ms", "5"),)), NewTopic("a.b", 1, 1))))
        self.do(register(0, b"again"))
        other = MetadataImage("cluster", 0)
        deltas: list[MetadataDelta] = []
        other.subscribe(deltas.append)
        other.restore(self.image.version, self.image.snapshot())
        self.assertEqual(other.topics(), self.image.topics())
        self.assertEqual(other.brokers(), self.image.brokers())
        self.assertEqual((other.version, other.snapshot()), (self.image.version, self.image.snapshot()))
        self.assertEqual([shape(delta) for delta in deltas], [(["a.b", "t"], [], [], True)])
        self.assertEqual(other.colliding("a_b"), "a.b")

    def test_restoring_over_an_image_tells_the_difference(self) -> None:
        self.do(CreateTopics((NewTopic("kept", 1, 1), NewTopic("grown", 1, 1))))
        other = MetadataImage("cluster", 0)
        other.restore(self.image.version, self.image.snapshot())
        decided(other, CreatePartitions((MorePartitions("grown", 2),)), self.rules)
        decided(other, CreateTopics((NewTopic("new", 1, 1),)), self.rules)
        self.do(CreateTopics((NewTopic("gone", 1, 1),)))
        self.deltas.clear()
        self.image.restore(other.version, other.snapshot())
        self.assertEqual([shape(delta) for delta in self.deltas], [(["new"], ["grown"], ["gone"], True)])

    def test_snapshots_that_are_none(self) -> None:
        for snapshot in (b"", b"\x92\x02\x90", b"\xff", self.image.snapshot()[:-1]):
            self.assertRaises(CorruptLogError, MetadataImage("c", 0).restore, 1, snapshot)

    def test_records_that_cannot_follow_are_corruption(self) -> None:
        self.do(CreateTopics((NewTopic("t", 1, 1),)))
        topic = self.image.topic("t")
        assert topic is not None
        row = (PartitionRow((0,), (0,), 0),)
        for record in (
            TopicCreated(b"9" * 16, "t", row, {}),
            TopicCreated(topic.topic_id, "u", row, {}),
            TopicDeleted(b"9" * 16),
            PartitionsAdded(topic.topic_id, 2, row),
            PartitionsAdded(b"9" * 16, 0, row),
            TopicConfigChanged(b"9" * 16, {}),
            ProducerIdsAllocated(0, 1, -1),
        ):
            self.assertRaises(CorruptLogError, self.image.replay, record)

    def test_deciding_changes_nothing(self) -> None:
        before = self.image.snapshot()
        decide(self.image, CreateTopics((NewTopic("t", 1, 1),)), self.rules)
        decide(self.image, register(5), self.rules)
        self.assertEqual(self.image.snapshot(), before)
