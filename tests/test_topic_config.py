"""The declared topic and broker configs, and what they come to."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.broker_config import BROKER_CONFIGS, check_broker_configs
from chronik.config_def import ConfigSource, ConfigType
from chronik.controller.commands import (
    AlterConfigs,
    ConfigOperation,
    ConfigResource,
    CreateTopics,
    NewTopic,
    Operation,
    ResourceType,
)
from chronik.errors import ErrorCode, KafkaError
from chronik.node_config import NodeConfig
from chronik.topic_config import TOPIC_CONFIGS, check_topic_configs, topic_settings
from tests.controller.cluster import Cluster

KAFKA_4_1 = {
    "cleanup.policy", "compression.gzip.level", "compression.lz4.level", "compression.type", "compression.zstd.level",
    "delete.retention.ms", "file.delete.delay.ms", "flush.messages", "flush.ms",
    "follower.replication.throttled.replicas", "index.interval.bytes", "internal.segment.bytes",
    "leader.replication.throttled.replicas", "local.retention.bytes", "local.retention.ms", "max.compaction.lag.ms",
    "max.message.bytes", "message.timestamp.after.max.ms", "message.timestamp.before.max.ms", "message.timestamp.type",
    "min.cleanable.dirty.ratio", "min.compaction.lag.ms", "min.insync.replicas", "preallocate",
    "remote.log.copy.disable", "remote.log.delete.on.disable", "remote.storage.enable", "retention.bytes",
    "retention.ms", "segment.bytes", "segment.index.bytes", "segment.jitter.ms", "segment.ms",
    "unclean.leader.election.enable",
}  # fmt: skip


class TopicConfigTests(SynchronousTestCase):
    """Each declaration, and refusals."""

    def test_every_config_of_kafka_is_declared_and_three_of_ours(self) -> None:
        self.assertEqual(
            set(TOPIC_CONFIGS), KAFKA_4_1 | {"chronik.durability", "chronik.search", "chronik.search.mapping"}
        )

    def test_every_default_is_accepted(self) -> None:
        for definition in TOPIC_CONFIGS.values():
            text = definition.text(definition.default)
            if text is not None:
                check_topic_configs({definition.name: text})
                self.assertEqual(definition.parse(text), definition.default, definition.name)
            self.assertTrue(definition.doc.endswith("."), definition.name)

    def test_what_is_not_acted_on_is_accepted_at_its_default_only(self) -> None:
        other = {
            ConfigType.BOOLEAN: "true",
            ConfigType.LONG: "7",
            ConfigType.INT: "7",
            ConfigType.LIST: "*",
        }
        absent = [definition for definition in TOPIC_CONFIGS.values() if definition.absence is not None]
        self.assertEqual(len(absent), 9)
        for definition in absent:
            fault = self.refusal(definition.name, other[definition.type])
            self.assertIn(definition.name, fault)
            self.assertIn("on this node", fault)

    def refusal(self, name: str, value: str) -> str:
        with self.assertRaises(KafkaError) as caught:
            check_topic_configs({name: value})
        self.assertEqual(caught.exception.code, ErrorCode.INVALID_CONFIG)
        return caught.exception.message or ""

    def test_values_that_cannot_be(self) -> None:
        for name, value in (
            ("retention.ms", "-2"), ("retention.ms", "x"), ("retention.ms", ""), ("retention.ms", "1.5"),
            ("retention.ms", "9223372036854775808"), ("retention.ms", "9" * 5000), ("retention.ms", "\u0661"),
            ("segment.bytes", "1048575"), ("segment.bytes", "2147483648"), ("preallocate", "yes"),
            ("compression.type", "brotli"), ("compression.gzip.level", "0"), ("compression.zstd.level", "23"),
            ("min.insync.replicas", "0"), ("chronik.durability", "never"),
            ("cleanup.policy", "delete,archive"), ("cleanup.policy", "delete,,"), ("cleanup.policy", ","),
            ("message.timestamp.type", "createtime"), ("nope", "1"),
        ):  # fmt: skip
            self.assertIn(name, self.refusal(name, value))
            self.assertLess(len(self.refusal(name, value)), 300)

    def test_texts_are_read_as_kafka_reads_them(self) -> None:
        settings = topic_settings(
            {
                "retention.ms": " 5 ",
                "unclean.leader.election.enable": "TRUE",
                "cleanup.policy": " delete , delete",
                "segment.ms": "+7",
            },
            {},
        )
        self.assertEqual(
            (settings.retention_ms, settings.unclean_leader_election_enable, settings.segment_ms), (5, True, 7)
        )
        self.assertEqual(settings.cleanup_policy, ("delete", "delete"))

    def test_compaction(self) -> None:
        for policy, compacted in (("compact", True), ("compact,delete", True), ("delete", False), ("", False)):
            check_topic_configs({"cleanup.policy": policy})
            self.assertEqual(topic_settings({"cleanup.policy": policy}, {}).compacted, compacted)
        settings = topic_settings(
            {"delete.retention.ms": "5", "min.cleanable.dirty.ratio": "0.1"},
            {"log.cleaner.min.compaction.lag.ms": "7", "log.cleaner.delete.retention.ms": "6"},
        )
        self.assertEqual(
            (settings.delete_retention_ms, settings.min_cleanable_dirty_ratio, settings.min_compaction_lag_ms),
            (5, 0.1, 7),
        )
        self.assertIn("cleanup.policy", self.refusal("cleanup.policy", "compact,nonsense"))

    def test_the_shortest_compaction_lag_is_not_beyond_the_longest(self) -> None:
        check_topic_configs({"min.compaction.lag.ms": "5", "max.compaction.lag.ms": "5"})
        lags = {"min.compaction.lag.ms": "6", "max.compaction.lag.ms": "5"}
        self.assertRaises(KafkaError, check_topic_configs, lags)

    def test_no_cleanup_at_all(self) -> None:
        for value in ("", " ", "delete", "delete, delete"):
            check_topic_configs({"cleanup.policy": value})
        self.assertEqual(topic_settings({"cleanup.policy": ""}, {}).cleanup_policy, ())

    @settings(deadline=None)
    @given(st.sampled_from(sorted(TOPIC_CONFIGS)), st.text(max_size=30))
    def test_any_text_is_taken_or_refused_by_name(self, name: str, text: str) -> None:
        try:
            check_topic_configs({name: text})
        except KafkaError as refusal:
            self.assertEqual(refusal.code, ErrorCode.INVALID_CONFIG)
            self.assertIn(name, refusal.message or "")
        else:
            topic_settings({name: text}, {})


class TopicSettingsTests(SynchronousTestCase):
    """Defaults from broker configs."""

    def test_without_anything_the_declared_defaults_hold(self) -> None:
        settings = topic_settings({}, {})
        self.assertEqual((settings.retention_ms, settings.segment_bytes), (604_800_000, 2**30))
        self.assertEqual((settings.durability, settings.compression_type), ("interval", "producer"))

    def test_the_broker_sets_defaults_and_the_topic_overrides_them(self) -> None:
        broker = {"log.retention.ms": "60", "message.max.bytes": "99", "chronik.durability": "fsync"}
        settings = topic_settings({"retention.ms": "5"}, broker)
        self.assertEqual((settings.retention_ms, settings.max_message_bytes, settings.durability), (5, 99, "fsync"))

    def test_finer_units_win(self) -> None:
        broker = {"log.retention.hours": "2", "log.roll.hours": "3"}
        self.assertEqual(topic_settings({}, broker).retention_ms, 7_200_000)
        self.assertEqual(topic_settings({}, broker).segment_ms, 10_800_000)
        broker["log.retention.minutes"] = "5"
        self.assertEqual(topic_settings({}, broker).retention_ms, 300_000)
        broker["log.retention.ms"] = "7"
        self.assertEqual(topic_settings({}, broker).retention_ms, 7)

    def test_no_limit_stays_no_limit(self) -> None:
        self.assertEqual(topic_settings({}, {"log.retention.hours": "-1"}).retention_ms, -1)
        self.assertEqual(
            topic_settings({}, {"log.retention.hours": str(2**31 - 1)}).retention_ms, (2**31 - 1) * 3_600_000
        )


class BrokerConfigTests(SynchronousTestCase):
    """Which broker configs may change at run time."""

    def test_only_dynamic_configs_that_are_acted_on_can_be_changed(self) -> None:
        check_broker_configs({"log.retention.ms": "5", "min.insync.replicas": "1", "log.cleanup.policy": "delete"})
        for name, value in (
            ("num.partitions", "2"),
            ("log.retention.hours", "2"),
            ("nope", "1"),
            ("log.retention.ms", "x"),
            ("log.cleanup.policy", "nonsense"),
            ("log.cleaner.delete.retention.ms", "-5"),
            ("log.cleaner.threads", "2"),
        ):
            with self.assertRaises(KafkaError) as caught:
                check_broker_configs({name: value})
            self.assertEqual(caught.exception.code, ErrorCode.INVALID_REQUEST, name)

    def test_every_dynamic_config_is_the_default_of_a_topic_config(self) -> None:
        synonyms = {each.name for definition in TOPIC_CONFIGS.values() for each in definition.synonyms}
        for definition in BROKER_CONFIGS.values():
            if definition.dynamic:
                self.assertIn(definition.name, synonyms)


class NodeConfigTests(SynchronousTestCase):
    """Layers, the strongest first."""

    def setUp(self) -> None:
        self.cluster = Cluster()
        self.cluster.do(CreateTopics((NewTopic("t", 1, 1, configs=(("segment.ms", " 9 "),)),)))
        self.config = NodeConfig({"log.retention.hours": "24", "num.partitions": "6"}, self.cluster.image, 0)

    def set(self, node: str, name: str, value: str | None) -> None:
        operation = ConfigOperation(name, Operation.DELETE if value is None else Operation.SET, value)
        (error,) = self.cluster.do(AlterConfigs(((ConfigResource(ResourceType.BROKER, node), (operation,)),)))
        self.assertIsNone(error)

    def retention(self) -> int:
        topic = self.cluster.image.topic("t")
        assert topic is not None
        return self.config.topic_settings(topic).retention_ms

    def test_each_layer_covers_the_ones_below(self) -> None:
        self.assertEqual(self.retention(), 86_400_000)
        self.set("", "log.retention.ms", "800")
        self.assertEqual(self.retention(), 800)
        self.set("0", "log.retention.ms", "900")
        self.assertEqual(self.retention(), 900)
        self.set("0", "log.retention.ms", None)
        self.set("", "log.retention.ms", None)
        self.assertEqual(self.retention(), 86_400_000)

    def test_values_of_the_broker(self) -> None:
        self.assertEqual(self.config.number("num.partitions"), 6)
        self.assertEqual(self.config.value("auto.create.topics.enable"), True)
        self.assertIsNone(self.config.value("broker.rack"))
        self.assertRaises(TypeError, self.config.number, "listeners")

    def entry(self, name: str) -> tuple[str | None, ConfigSource, list[tuple[str, str | None, int]]]:
        topic = self.cluster.image.topic("t")
        assert topic is not None
        for entry in (*self.config.topic_entries(topic.configs), *self.config.broker_entries()):
            if entry.definition.name == name:
                return entry.value, entry.source, [(each.name, each.value, each.source) for each in entry.synonyms]
        raise AssertionError(f"{name} is not described")

    def test_entries_tell_where_values_come_from(self) -> None:
        """As Apache Kafka 4.1 shows them, hidden weaker synonyms included."""
        self.assertEqual(self.entry("segment.ms"), ("9", ConfigSource.TOPIC, [("segment.ms", "9", 1)]))
        self.assertEqual(self.entry("retention.ms"), ("86400000", ConfigSource.DEFAULT, []))
        self.set("", "log.retention.ms", "88888")
        self.set("0", "log.retention.ms", "99999")
        layers = [
            ("log.retention.ms", "99999", 2),
            ("log.retention.ms", "88888", 3),
            ("log.retention.hours", "24", 4),
            ("log.retention.hours", "168", 5),
        ]
        self.assertEqual(self.entry("retention.ms"), ("99999", ConfigSource.DYNAMIC_BROKER, layers))
        self.assertEqual(self.entry("log.retention.ms"), ("99999", ConfigSource.DYNAMIC_BROKER, layers))
        self.assertEqual(self.entry("num.partitions")[2], [("num.partitions", "6", 4), ("num.partitions", "1", 5)])
        self.assertEqual(
            self.entry("segment.bytes"), ("1073741824", ConfigSource.DEFAULT, [("log.segment.bytes", "1073741824", 5)])
        )
        self.assertEqual(
            self.entry("delete.retention.ms"),
            ("86400000", ConfigSource.DEFAULT, [("log.cleaner.delete.retention.ms", "86400000", 5)]),
        )
        self.assertEqual(self.entry("remote.storage.enable"), ("false", ConfigSource.DEFAULT, []))
        self.assertEqual([each.definition.name for each in self.config.cluster_entries()], ["log.retention.ms"])

    def test_hidden_configs_are_not_described(self) -> None:
        names = [entry.definition.name for entry in self.config.topic_entries({})]
        self.assertNotIn("internal.segment.bytes", names)
        self.assertEqual(names, sorted(names))
        self.assertEqual(len(names), 36)
