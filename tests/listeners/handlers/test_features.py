"""APIs that are served only where a feature is in force."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chronik.errors import ErrorCode
from chronik.features import GROUP_VERSION
from chronik.listeners.handlers.consumer_group_describe import ConsumerGroupDescribeHandler
from chronik.listeners.handlers.consumer_group_heartbeat import ConsumerGroupHeartbeatHandler
from chronik.wire.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from tests.coordinator.world import World, heartbeat_request
from tests.listeners.handlers.serving import Serving


class GroupVersionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world, self.serving = World(), Serving()
        self.heartbeats = ConsumerGroupHeartbeatHandler(self.world.coordinator, self.world.metadata)
        self.descriptions = ConsumerGroupDescribeHandler(self.world.coordinator, self.world.metadata)

    def ask(self, handler: Any, request: Any, version: int) -> Any:
        waiting = self.serving.begin(handler, request, version)
        self.world.settle()
        return self.successResultOf(waiting)

    def test_the_consumer_protocol_is_served_from_level_1_on(self) -> None:
        unsupported = ErrorCode.UNSUPPORTED_VERSION
        for level, joined, described in ((0, unsupported, unsupported), (1, 0, 0), (0, unsupported, unsupported)):
            self.world.metadata.levels[GROUP_VERSION] = level
            for version in (0, 1):
                end = self.world.log.end
                before = sum(end(each) for each in self.world.log.batches)
                answer = self.ask(self.heartbeats, heartbeat_request("m", topics=["events"]), version)
                self.assertEqual(answer.error_code, joined)
                (group,) = self.ask(self.descriptions, ConsumerGroupDescribeRequest(group_ids=["g"]), version).groups
                self.assertEqual((group.group_id, group.error_code), ("g", described))
                if not level:
                    self.assertEqual(sum(end(each) for each in self.world.log.batches), before)
