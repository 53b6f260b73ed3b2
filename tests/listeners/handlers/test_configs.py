"""DescribeConfigs, AlterConfigs and IncrementalAlterConfigs, as clients see them."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from chronik.controller.commands import CreateTopics, NewTopic
from chronik.errors import ErrorCode
from chronik.group_config import GROUP_CONFIGS
from chronik.interfaces import IRequestHandler
from chronik.listeners.handlers.alter_configs import AlterConfigsHandler
from chronik.listeners.handlers.describe_configs import DescribeConfigsHandler
from chronik.listeners.handlers.incremental_alter_configs import IncrementalAlterConfigsHandler
from chronik.wire.messages import alter_configs as replacing
from chronik.wire.messages import incremental_alter_configs as altering
from chronik.wire.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from tests.listeners.handlers.serving import Serving

TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = range(4)
BAD = ErrorCode.INVALID_REQUEST


class ConfigHandlersTests(SynchronousTestCase):
    """With a real controller in memory."""

    def setUp(self) -> None:
        self.serving = Serving({"node.id": "0", "log.retention.hours": "24"})
        self.serving.cluster.do(CreateTopics((NewTopic("t", 1, 1, configs=(("retention.ms", "5"),)),)))
        self.describing = DescribeConfigsHandler(self.serving.image, self.serving.configs)
        self.altering = IncrementalAlterConfigsHandler(self.serving.proposing, 0)
        self.replacing = AlterConfigsHandler(self.serving.proposing, 0)

    def describe(self, kind: int, name: str, keys: list[str] | None = None, version: int = 4, **options: bool) -> Any:
        resource = DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=keys)
        response = self.serving.ask(self.describing, DescribeConfigsRequest(resources=[resource], **options), version)
        (result,) = response.results
        self.assertEqual((result.resource_type, result.resource_name), (kind, name))
        return result

    def alter(self, *changes: tuple[int, str, list[tuple[str, int, str | None]]], only: bool = False) -> list[int]:
        request = altering.IncrementalAlterConfigsRequest(
            resources=[
                altering.AlterConfigsResource(
                    resource_type=kind,
                    resource_name=name,
                    configs=[
                        altering.AlterableConfig(name=key, config_operation=operation, value=value)
                        for key, operation, value in configs
                    ],
                )
                for kind, name, configs in changes
            ],
            validate_only=only,
        )
        responses = self.serving.ask(self.altering, request).responses
        self.assertEqual(
            [(each.resource_type, each.resource_name) for each in responses], [each[:2] for each in changes]
        )
        for each in responses:
            self.assertEqual(each.error_message is None, each.error_code == 0)
        return [each.error_code for each in responses]

    def configs(self) -> dict[str, str]:
        topic = self.serving.image.topic("t")
        assert topic is not None
        return dict(topic.configs)

    def test_they_are_request_handlers_at_kafkas_versions(self) -> None:
        expected = ((self.describing, 32, 1, 4), (self.replacing, 33, 0, 2), (self.altering, 44, 0, 1))
        for handler, key, lowest, highest in expected:
            self.assertTrue(verifyObject(IRequestHandler, handler, tentative=True))
            self.assertEqual((handler.api_key, handler.min_version, handler.max_version), (key, lowest, highest))

    def test_every_config_of_a_topic_is_described(self) -> None:
        for version in range(1, 5):
            result = self.describe(TOPIC, "t", version=version)
            self.assertEqual((result.error_code, result.error_message, len(result.configs)), (0, "", 35))
        self.assertEqual(len(self.describe(TOPIC, "t", []).configs), 35)

    def test_named_configs_with_synonyms_and_documentation(self) -> None:
        (config,) = self.describe(TOPIC, "t", ["retention.ms", "nope"]).configs
        self.assertEqual(
            (
                config.name,
                config.value,
                config.config_source,
                config.config_type,
                config.read_only,
                config.is_sensitive,
            ),
            ("retention.ms", "5", 1, 5, False, False),
        )
        self.assertEqual((config.synonyms, config.documentation), ([], None))
        options = {"include_synonyms": True, "include_documentation": True}
        (config,) = self.describe(TOPIC, "t", ["retention.ms"], **options).configs
        self.assertEqual([(each.name, each.value, each.source) for each in config.synonyms], [("retention.ms", "5", 1)])
        self.assertIn("segments", config.documentation)

    def test_the_broker_is_described(self) -> None:
        configs = {each.name: each for each in self.describe(BROKER, "0", include_synonyms=True).configs}
        self.assertEqual((configs["node.id"].value, configs["node.id"].config_source), ("0", 4))
        self.assertTrue(configs["num.partitions"].read_only)
        self.assertFalse(configs["log.retention.ms"].read_only)
        self.assertEqual(self.describe(BROKER, "").configs, [])
        self.assertEqual(self.alter((BROKER, "", [("log.retention.ms", SET, "8")])), [0])
        (config,) = self.describe(BROKER, "").configs
        self.assertEqual((config.name, config.value, config.config_source), ("log.retention.ms", "8", 3))

    def test_what_cannot_be_described(self) -> None:
        for kind, name, code in (
            (TOPIC, "x", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION), (TOPIC, "a b", ErrorCode.INVALID_TOPIC_EXCEPTION),
            (TOPIC, "", ErrorCode.INVALID_TOPIC_EXCEPTION), (BROKER, "7", BAD), (BROKER, "x", BAD),
            (BROKER_LOGGER, "0", BAD), (CLIENT_METRICS, "m", BAD), (GROUP, "", BAD), (0, "t", BAD), (9, "t", BAD),
        ):  # fmt: skip
            result = self.describe(kind, name)
            self.assertEqual((result.error_code, result.configs), (code, []))
            self.assertTrue(result.error_message)

    def test_groups(self) -> None:
        """A group has configs whether it is there or not; what it doesn't set is the node's default."""
        name = "consumer.session.timeout.ms"
        self.assertEqual(self.alter((GROUP, "g", [(name, SET, "50000")])), [0])
        self.assertEqual(self.alter((GROUP, "g", [(name, SET, "1")])), [ErrorCode.INVALID_CONFIG])
        for group, value, source in (("g", "50000", 8), ("other", "45000", 5)):
            found = {config.name: config for config in self.describe(GROUP, group).configs}
            self.assertEqual(sorted(found), sorted(GROUP_CONFIGS))
            self.assertEqual(found["share.auto.offset.reset"].value, "latest")
            self.assertEqual((found[name].value, found[name].config_source), (value, source))

    def test_incremental_changes(self) -> None:
        self.assertEqual(self.alter((TOPIC, "t", [("segment.ms", SET, "7"), ("retention.ms", DELETE, None)])), [0])
        self.assertEqual(self.configs(), {"segment.ms": "7"})
        self.assertEqual(self.alter((TOPIC, "t", [("segment.ms", SET, "8")]), only=True), [0])
        self.assertEqual(self.configs(), {"segment.ms": "7"})

    def test_each_resource_is_judged_by_itself(self) -> None:
        codes = self.alter(
            (TOPIC, "x", [("segment.ms", SET, "7")]),
            (TOPIC, "t", [("segment.ms", SET, "7")]),
            (CLIENT_METRICS, "m", [("a", SET, "7")]),
            (BROKER, "", [("log.retention.ms", SET, "7")]),
        )
        self.assertEqual(codes, [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, 0, BAD, 0])
        self.assertEqual(self.configs()["segment.ms"], "7")

    def test_changes_that_cannot_be(self) -> None:
        for configs, code in (
            ([("retention.ms", SET, None)], BAD), ([("retention.ms", SET, "1")] * 2, BAD), ([("retention.ms", 9, "1")], BAD),
            ([("retention.ms", -1, "1")], BAD), ([("retention.ms", APPEND, "1")], ErrorCode.INVALID_CONFIG),
            ([("cleanup.policy", APPEND, "nonsense")], ErrorCode.INVALID_CONFIG),
            ([("nope", SET, "1")], ErrorCode.INVALID_CONFIG),
            ([("remote.storage.enable", SET, "true")], ErrorCode.INVALID_CONFIG),
        ):  # fmt: skip
            self.assertEqual(self.alter((TOPIC, "t", configs)), [code], configs)
        self.assertEqual(self.alter((TOPIC, "t", []), (TOPIC, "t", [("segment.ms", SET, "7")])), [BAD, BAD])
        self.assertEqual(self.alter((BROKER, "7", [("log.retention.ms", SET, "1")])), [BAD])
        self.assertEqual(self.alter((BROKER, "0", [("num.partitions", SET, "1")])), [BAD])
        self.assertEqual(self.configs(), {"retention.ms": "5"})

    def replace(self, version: int, *changes: tuple[int, str, dict[str, str | None]]) -> list[int]:
        request = replacing.AlterConfigsRequest(
            resources=[
                replacing.AlterConfigsResource(
                    resource_type=kind,
                    resource_name=name,
                    configs=[replacing.AlterableConfig(name=key, value=value) for key, value in configs.items()],
                )
                for kind, name, configs in changes
            ]
        )
        return [each.error_code for each in self.serving.ask(self.replacing, request, version).responses]

    def test_replacing(self) -> None:
        for version in range(3):
            self.assertEqual(self.replace(version, (TOPIC, "t", {"segment.ms": "7"})), [0])
            self.assertEqual(self.configs(), {"segment.ms": "7"})
        self.assertEqual(
            self.replace(2, (TOPIC, "t", {"segment.ms": None}), (TOPIC, "x", {}), (CLIENT_METRICS, "m", {})),
            [BAD, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, BAD],
        )
        self.assertEqual(self.replace(2, (TOPIC, "t", {}), (TOPIC, "t", {})), [BAD, BAD])
        self.assertEqual(self.replace(2, (TOPIC, "t", {})), [0])
        self.assertEqual(self.configs(), {})
