"""Which topics lose old segments: those whose cleanup.policy has `delete`, from their creation on and after a change."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chronik.controller.commands import AlterConfigs, ConfigOperation, ConfigResource, Operation, ResourceType
from chronik.log.config import NO_LIMIT
from chronik.model import OFFSETS_TOPIC
from tests.listeners.handlers.hosting import Hosting

LIMITS = {"retention_ms": "1000", "retention_bytes": "5000"}


class RetentionPolicyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.hosting = Hosting()

    def limits(self, topic: str) -> tuple[int, int]:
        config = self.hosting.partition(topic).log.config
        return config.retention_ms, config.retention_bytes

    def test_by_policy(self) -> None:
        self.hosting.create("by-default", **LIMITS)
        self.hosting.create("deleted", cleanup_policy="delete", **LIMITS)
        self.hosting.create("kept", cleanup_policy="", **LIMITS)
        self.assertEqual(self.limits("by-default"), (1000, 5000))
        self.assertEqual(self.limits("deleted"), (1000, 5000))
        self.assertEqual(self.limits("kept"), (NO_LIMIT, NO_LIMIT))

    def test_committed_offsets_never_age(self) -> None:
        self.hosting.create(OFFSETS_TOPIC, cleanup_policy="compact", **LIMITS)
        self.assertEqual(self.limits(OFFSETS_TOPIC), (NO_LIMIT, NO_LIMIT))

    def test_a_change_counts_at_once(self) -> None:
        self.hosting.create("t", **LIMITS)
        self.assertEqual(self.limits("t"), (1000, 5000))
        for value, expected in (("", (NO_LIMIT, NO_LIMIT)), ("delete", (1000, 5000))):
            change = (ConfigOperation("cleanup.policy", Operation.SET, value),)
            self.hosting.cluster.do(AlterConfigs(((ConfigResource(ResourceType.TOPIC, "t"), change),)))
            self.assertEqual(self.limits("t"), expected)
