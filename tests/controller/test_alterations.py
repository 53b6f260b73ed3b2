"""Decisions about configs."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.trial.unittest import SynchronousTestCase

from chronik.controller.commands import (
    AlterConfigs,
    ConfigOperation,
    ConfigResource,
    CreateTopics,
    NewTopic,
    Operation,
    ReplaceConfigs,
    ResourceType,
)
from chronik.controller.controller import Rules
from chronik.errors import ErrorCode, KafkaError
from chronik.group_config import Bounded, GroupTimes, reset_duration_ms
from tests.controller.cluster import decided, image_with, topic_ids

TOPIC = ConfigResource(ResourceType.TOPIC, "t")
ALL_BROKERS = ConfigResource(ResourceType.BROKER, "")
BROKER = ConfigResource(ResourceType.BROKER, "0")


class Case(SynchronousTestCase):
    """A cluster with one topic."""

    def setUp(self) -> None:
        self.image = image_with(1)
        self.rules = Rules(topic_ids())
        decided(self.image, CreateTopics((NewTopic("t", 1, 1, configs=(("retention.ms", "5"),)),)), self.rules)

    def alter(
        self, resource: ConfigResource, *operations: tuple[str, Operation, str | None], validate_only: bool = False
    ) -> ErrorCode:
        command = AlterConfigs(((resource, tuple(ConfigOperation(*each) for each in operations)),), validate_only)
        (error,) = decided(self.image, command, self.rules)
        return ErrorCode.NONE if error is None else error.code

    def replace(self, resource: ConfigResource, *configs: tuple[str, str | None]) -> ErrorCode:
        (error,) = decided(self.image, ReplaceConfigs(((resource, configs),)), self.rules)
        return ErrorCode.NONE if error is None else error.code

    def configs(self) -> dict[str, str]:
        topic = self.image.topic("t")
        assert topic is not None
        return dict(topic.configs)


class AlterConfigsTests(Case):
    """Incremental changes and replacements."""

    def test_set_and_delete(self) -> None:
        code = self.alter(TOPIC, ("segment.ms", Operation.SET, "7"), ("retention.ms", Operation.DELETE, None))
        self.assertEqual((code, self.configs()), (ErrorCode.NONE, {"segment.ms": "7"}))

    def test_validate_only_changes_nothing(self) -> None:
        self.assertEqual(self.alter(TOPIC, ("segment.ms", Operation.SET, "7"), validate_only=True), ErrorCode.NONE)
        self.assertEqual(self.configs(), {"retention.ms": "5"})

    def test_a_resource_changes_whole_or_not(self) -> None:
        code = self.alter(TOPIC, ("segment.ms", Operation.SET, "7"), ("segment.bytes", Operation.SET, "x"))
        self.assertEqual((code, self.configs()), (ErrorCode.INVALID_CONFIG, {"retention.ms": "5"}))

    def test_append_and_subtract_work_on_lists(self) -> None:
        self.assertEqual(self.alter(TOPIC, ("cleanup.policy", Operation.APPEND, "delete")), ErrorCode.NONE)
        self.assertEqual(self.configs()["cleanup.policy"], "delete")
        self.assertEqual(self.alter(TOPIC, ("cleanup.policy", Operation.APPEND, "compact")), ErrorCode.NONE)
        self.assertEqual(self.configs()["cleanup.policy"], "delete,compact")
        self.assertEqual(self.alter(TOPIC, ("cleanup.policy", Operation.SUBTRACT, "compact")), ErrorCode.NONE)
        self.assertEqual(self.alter(TOPIC, ("cleanup.policy", Operation.SUBTRACT, "delete")), ErrorCode.NONE)
        self.assertEqual(self.configs()["cleanup.policy"], "")
        self.assertEqual(self.alter(TOPIC, ("retention.ms", Operation.APPEND, "1")), ErrorCode.INVALID_CONFIG)
        self.assertEqual(self.alter(TOPIC, ("nope", Operation.SUBTRACT, "1")), ErrorCode.INVALID_CONFIG)

    def test_changes_that_cannot_be(self) -> None:
        bad = ErrorCode.INVALID_REQUEST
        self.assertEqual(self.alter(TOPIC, ("retention.ms", Operation.SET, None)), bad)
        self.assertEqual(self.alter(TOPIC, *[("retention.ms", Operation.SET, "1")] * 2), bad)
        self.assertEqual(self.alter(ConfigResource(ResourceType.TOPIC, ""), ("retention.ms", Operation.SET, "1")), bad)
        invalid = ConfigResource(ResourceType.TOPIC, "a b")
        self.assertEqual(self.alter(invalid, ("x", Operation.SET, "1")), ErrorCode.INVALID_TOPIC_EXCEPTION)
        unknown = ConfigResource(ResourceType.TOPIC, "u")
        self.assertEqual(
            self.alter(unknown, ("retention.ms", Operation.SET, "1")), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        )
        self.assertEqual(self.alter(unknown, ("nope", Operation.SET, "1")), ErrorCode.INVALID_CONFIG)

    def test_deleting_what_is_unknown_is_no_fault(self) -> None:
        self.assertEqual(self.alter(TOPIC, ("nope", Operation.DELETE, None)), ErrorCode.NONE)
        self.assertEqual(self.configs(), {"retention.ms": "5"})

    def test_replacing_removes_the_rest(self) -> None:
        self.assertEqual(self.replace(TOPIC, ("segment.ms", "7")), ErrorCode.NONE)
        self.assertEqual(self.configs(), {"segment.ms": "7"})
        self.assertEqual(self.replace(TOPIC, ("segment.ms", None)), ErrorCode.INVALID_REQUEST)
        self.assertEqual(self.replace(TOPIC, ("segment.ms", "x")), ErrorCode.INVALID_CONFIG)
        self.assertEqual(self.configs(), {"segment.ms": "7"})
        self.assertEqual(self.replace(TOPIC), ErrorCode.NONE)
        self.assertEqual(self.configs(), {})

    def test_broker_configs_by_node_and_for_all(self) -> None:
        self.assertEqual(self.alter(ALL_BROKERS, ("log.retention.ms", Operation.SET, "8")), ErrorCode.NONE)
        self.assertEqual(self.alter(BROKER, ("log.retention.ms", Operation.SET, "9")), ErrorCode.NONE)
        self.assertEqual(self.image.broker_configs(None), {"log.retention.ms": "8"})
        self.assertEqual(self.image.broker_configs(0), {"log.retention.ms": "9"})
        self.assertEqual(self.alter(BROKER, ("log.retention.ms", Operation.DELETE, None)), ErrorCode.NONE)
        self.assertEqual(self.image.broker_configs(0), {})

    def test_broker_configs_that_cannot_be(self) -> None:
        bad = ErrorCode.INVALID_REQUEST
        for name, value in (("num.partitions", "8"), ("foo.bar", "1"), ("log.retention.ms", "abc")):
            self.assertEqual(self.alter(ALL_BROKERS, (name, Operation.SET, value)), bad)
        for node in ("x", "-1", "7", "99999999999"):
            resource = ConfigResource(ResourceType.BROKER, node)
            self.assertEqual(self.alter(resource, ("log.retention.ms", Operation.SET, "1")), bad, node)
        self.assertEqual(self.image.broker_configs(None), {})


class GroupConfigTests(Case):
    """Configs of groups, which need not exist."""

    GROUP = ConfigResource(ResourceType.GROUP, "g")
    SESSION, HEARTBEAT = "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"

    def test_set_replace_and_delete(self) -> None:
        self.assertEqual(self.alter(self.GROUP, (self.SESSION, Operation.SET, "50000")), ErrorCode.NONE)
        self.assertEqual(self.image.group_configs("g"), {self.SESSION: "50000"})
        self.assertEqual(self.replace(self.GROUP, (self.HEARTBEAT, "6000")), ErrorCode.NONE)
        self.assertEqual(self.image.group_configs("g"), {self.HEARTBEAT: "6000"})
        copied = image_with(1)
        copied.restore(1, self.image.snapshot())
        self.assertEqual(copied.group_configs("g"), {self.HEARTBEAT: "6000"})
        self.assertEqual(self.alter(self.GROUP, (self.HEARTBEAT, Operation.DELETE, None)), ErrorCode.NONE)
        self.assertEqual(self.image.group_configs("g"), {})

    def test_of_share_groups(self) -> None:
        values = {
            "share.auto.offset.reset": "by_duration:P1DT2H3M4.5S",
            "share.isolation.level": "read_committed",
            "share.record.lock.duration.ms": "15000",
            "share.session.timeout.ms": "60000",
        }
        changes = [(name, Operation.SET, value) for name, value in values.items()]
        self.assertEqual(self.alter(self.GROUP, *changes), ErrorCode.NONE)
        self.assertEqual(self.image.group_configs("g"), values)

    def test_durations(self) -> None:
        day = 86_400_000
        for text, duration in (
            ("P1D", day),
            ("P1DT2H3M4.5S", day + 7_200_000 + 180_000 + 4_500),
            ("PT0S", 0),
            ("PT0.000999999S", 0),
            ("PT90M", 5_400_000),
        ):
            self.assertEqual(reset_duration_ms(f"by_duration:{text}"), duration, text)
        self.assertIsNone(reset_duration_ms("earliest"))
        for text in ("", "P", "PT", "P1DT", "1D", "PT1.S", "P1H", "PT1H ", "P-1D", "PT\u0661S", f"P{'9' * 60}D"):
            self.assertRaises(ValueError, reset_duration_ms, f"by_duration:{text}")

    def test_what_cannot_be(self) -> None:
        for name, value in (
            (self.SESSION, "44999"),
            (self.SESSION, "60001"),
            (self.HEARTBEAT, "4999"),
            (self.HEARTBEAT, "soon"),
            ("share.session.timeout.ms", "44999"),
            ("share.heartbeat.interval.ms", "15001"),
            ("share.record.lock.duration.ms", "14999"),
            ("share.auto.offset.reset", "none"),
            ("share.auto.offset.reset", "by_duration:-PT1H"),
            ("share.isolation.level", "serializable"),
            ("streams.session.timeout.ms", "50000"),
        ):
            self.assertEqual(self.alter(self.GROUP, (name, Operation.SET, value)), ErrorCode.INVALID_CONFIG, name)
        nobody = ConfigResource(ResourceType.GROUP, "")
        self.assertEqual(self.alter(nobody, (self.SESSION, Operation.SET, "50000")), ErrorCode.INVALID_REQUEST)
        times = GroupTimes(session=Bounded(45_000, 1_000, 60_000))
        self.rules = Rules(topic_ids(), group_times=times)
        self.assertEqual(self.alter(self.GROUP, (self.SESSION, Operation.SET, "5000")), ErrorCode.INVALID_CONFIG)
        self.assertEqual(self.image.group_configs("g"), {})


class TopicChecks(SynchronousTestCase):
    """A check of topics' configs that the rules bring along holds wherever configs are set."""

    def setUp(self) -> None:
        def check(configs: Mapping[str, str]) -> None:
            if configs.get("chronik.search.mapping") == "bad":
                raise KafkaError(ErrorCode.INVALID_CONFIG, "no mapping")

        self.image = image_with(1)
        self.rules = Rules(topic_ids(), check_topic=check)

    def test_creating_and_changing(self) -> None:
        bad = (("chronik.search.mapping", "bad"),)
        refused, created = decided(self.image, CreateTopics((NewTopic("a", configs=bad), NewTopic("t"))), self.rules)
        self.assertEqual((refused.error.code, created.error), (ErrorCode.INVALID_CONFIG, None))
        operation = ConfigOperation("chronik.search.mapping", Operation.SET, "bad")
        for command in (AlterConfigs(((TOPIC, (operation,)),)), ReplaceConfigs(((TOPIC, bad),))):
            (error,) = decided(self.image, command, self.rules)
            self.assertEqual(error.code, ErrorCode.INVALID_CONFIG)
        topic = self.image.topic("t")
        assert topic is not None
        self.assertEqual(topic.configs, {})
