"""Saved searches in the cluster's metadata: what may be saved, what mirrors what, and what can't go while it is there."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

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
    ReplaceConfigs,
    ResourceType,
    SaveSearch,
    TopicReference,
)
from chronik.controller.controller import Rules
from chronik.controller.image import MetadataImage
from chronik.controller.records import PartitionRow, SearchSaved, TopicCreated, TopicDeleted
from chronik.controller.searches import MAX_MAPPING_BYTES, MAX_QUERY_BYTES, MAX_SEARCHES
from chronik.errors import CorruptLogError, ErrorCode, KafkaError
from chronik.interfaces import MetadataDelta
from chronik.model import SavedSearch
from tests.controller.cluster import Cluster, decided, image_with, register, topic_ids


class SavedSearchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.image = image_with(1)
        self.rules = Rules(topic_ids())
        self.do(CreateTopics((NewTopic("events", 2, 1), NewTopic("other", 1, 1), NewTopic("__consumer_offsets", 1, 1))))

    def do(self, command):
        return decided(self.image, command, self.rules)

    def save(self, name="errors", source="events", query="level:error", mapping="", **options):
        return self.do(SaveSearch(name, source, query, mapping, **options))

    def refusal(self, command):
        return self.assertRaises(KafkaError, self.do, command).code

    def deleted(self, *names):
        """What became of each deletion: NONE where it is gone."""
        results = self.do(DeleteTopics(tuple(TopicReference(name) for name in names)))
        return {each.name: ErrorCode.NONE if each.error is None else each.error.code for each in results}

    def test_a_search_is_a_topic_with_the_partitions_of_its_source(self) -> None:
        answer = self.save(mapping="{}")
        topic, source = self.image.topic("errors"), self.image.topic("events")
        self.assertEqual(answer, topic)
        self.assertEqual(topic.search, SavedSearch(source.topic_id, "level:error", "{}"))
        self.assertEqual(topic.partitions, source.partitions)
        self.assertNotEqual(topic.topic_id, source.topic_id)
        self.assertIs(self.image.topic_by_id(topic.topic_id), topic)
        self.assertEqual((topic.internal, dict(topic.configs)), (False, {}))
        self.assertEqual(self.image.searches_of(source.topic_id), [topic])

    def test_validate_only_saves_nothing(self) -> None:
        self.assertEqual(self.save(validate_only=True).name, "errors")
        self.assertIsNone(self.image.topic("errors"))

    def test_it_follows_its_source(self) -> None:
        self.save()
        self.save("warnings")
        deltas: list[MetadataDelta] = []
        self.image.subscribe(deltas.append)
        self.do(CreatePartitions((MorePartitions("events", 5),)))
        self.assertEqual(len(self.image.topic("errors").partitions), 5)
        self.do(register(0, b"again"))  # its leader epochs are renewed
        for name in ("errors", "warnings"):
            self.assertEqual(self.image.topic(name).partitions, self.image.topic("events").partitions)
        self.assertEqual({each.leader_epoch for each in self.image.topic("errors").partitions}, {1})
        for delta, others in zip(deltas, (set(), {"other", "__consumer_offsets"}), strict=True):
            self.assertEqual({topic.name for topic in delta.changed}, {"events", "errors", "warnings"} | others)

    def test_what_cannot_be_saved(self) -> None:
        self.save()
        for command, code in (
            (SaveSearch("errors", "events", "a"), ErrorCode.TOPIC_ALREADY_EXISTS),
            (SaveSearch("other", "events", "a"), ErrorCode.TOPIC_ALREADY_EXISTS),
            (SaveSearch("a b", "events", "a"), ErrorCode.INVALID_TOPIC_EXCEPTION),
            (SaveSearch("", "events", "a"), ErrorCode.INVALID_TOPIC_EXCEPTION),
            (SaveSearch("new", "nowhere", "a"), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
            (SaveSearch("new", "errors", "a"), ErrorCode.INVALID_REQUEST),
            (SaveSearch("new", "__consumer_offsets", "a"), ErrorCode.INVALID_REQUEST),
            (SaveSearch("new", "events", "ä" * (MAX_QUERY_BYTES // 2 + 1)), ErrorCode.INVALID_REQUEST),
            (SaveSearch("new", "events", "a", " " * (MAX_MAPPING_BYTES + 1)), ErrorCode.INVALID_REQUEST),
        ):
            self.assertEqual(self.refusal(command), code, command.name)

    def test_of_one_topic_there_are_so_many(self) -> None:
        for number in range(MAX_SEARCHES):
            self.save(f"s{number}")
        self.assertEqual(self.refusal(SaveSearch("one-more", "events", "a")), ErrorCode.POLICY_VIOLATION)
        self.save("of-another", "other")

    def test_its_name_is_taken(self) -> None:
        self.save("err.ors")
        results = self.do(CreateTopics((NewTopic("err.ors", 1, 1), NewTopic("err_ors", 1, 1))))
        self.assertEqual(
            [each.error.code for each in results], [ErrorCode.TOPIC_ALREADY_EXISTS, ErrorCode.INVALID_TOPIC_EXCEPTION]
        )

    def test_partitions_and_configs_are_not_its_own(self) -> None:
        self.save()
        (refusal,) = self.do(CreatePartitions((MorePartitions("errors", 9),)))
        self.assertEqual(refusal.code, ErrorCode.POLICY_VIOLATION)
        resource = ConfigResource(ResourceType.TOPIC, "errors")
        for command in (
            AlterConfigs(((resource, (ConfigOperation("retention.ms", Operation.SET, "1"),)),)),
            ReplaceConfigs(((resource, ()),)),
        ):
            (refusal,) = self.do(command)
            self.assertEqual(refusal.code, ErrorCode.POLICY_VIOLATION)

    def test_a_source_stays_while_searches_are_saved_over_it(self) -> None:
        self.save()
        self.save("warnings")
        self.assertEqual(self.deleted("events"), {"events": ErrorCode.POLICY_VIOLATION})
        self.assertEqual(
            self.deleted("events", "errors", "other"),
            {"events": ErrorCode.POLICY_VIOLATION, "errors": ErrorCode.NONE, "other": ErrorCode.NONE},
        )
        self.assertIsNone(self.image.topic("errors"))
        self.save()
        names = ("events", "warnings", "errors")
        self.assertEqual(self.deleted(*names), dict.fromkeys(names, ErrorCode.NONE))
        self.assertEqual([topic.name for topic in self.image.topics()], ["__consumer_offsets"])

    def test_it_is_there_again_after_a_restart(self) -> None:
        """From records, and from snapshots, whatever comes first by its name."""
        for every in (1000, 1):
            cluster = Cluster(snapshot_every=every)
            cluster.do(CreateTopics((NewTopic("m", 2, 1),)))
            for name in ("a", "z"):
                cluster.do(SaveSearch(name, "m", f"level:{name}"))
            cluster.do(CreatePartitions((MorePartitions("m", 3),)))
            before = cluster.image.topics()
            cluster.restart()
            self.assertEqual(cluster.image.topics(), before)
            other = MetadataImage("cluster", 0)
            other.restore(1, cluster.image.snapshot())
            self.assertEqual(other.topics(), before)
            self.assertEqual(other.snapshot(), cluster.image.snapshot())
            self.assertEqual(len(other.topic("z").partitions), 3)
            cluster.do(DeleteTopics((TopicReference("z"),)))
            cluster.do(DeleteTopics((TopicReference("a"), TopicReference("m"))))
            cluster.restart()
            self.assertEqual(cluster.image.topics(), ())

    def test_records_that_cannot_follow_are_corruption(self) -> None:
        self.save()
        errors, events = self.image.topic("errors"), self.image.topic("events")
        for record in (
            SearchSaved(b"9" * 16, "errors", events.topic_id, "a", ""),
            SearchSaved(errors.topic_id, "new", events.topic_id, "a", ""),
            SearchSaved(b"9" * 16, "new", b"8" * 16, "a", ""),
            SearchSaved(b"9" * 16, "new", errors.topic_id, "a", ""),
            TopicCreated(b"9" * 16, "errors", (PartitionRow((0,), (0,), 0),), {}),
            TopicDeleted(events.topic_id),
        ):
            self.assertRaises(CorruptLogError, self.image.replay, record)
