"""ApiVersions: the features, as each version may see them. The table is tested at a real node."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chronik.controller.commands import FeatureUpdate, UpdateFeatures
from chronik.features import SUPPORTED
from chronik.listeners.dispatch import ApiTable
from chronik.listeners.handlers.api_versions import ApiVersionsHandler
from chronik.wire.messages.api_versions import ApiVersionsRequest
from tests.listeners.handlers.serving import Serving


class FeatureTests(SynchronousTestCase):
    def ask(self, version: int) -> Any:
        serving = Serving()
        table = ApiTable([])
        self.epoch = serving.image.version
        request = ApiVersionsRequest(client_software_name="test", client_software_version="1")
        return serving.ask(ApiVersionsHandler(lambda: table, serving.image), request, version)

    def test_supported_ones_with_a_lowest_level_of_0_come_with_version_4(self) -> None:
        supported = {
            version: [(each.name, each.min_version, each.max_version) for each in self.ask(version).supported_features]
            for version in range(5)
        }
        listed = [("group.version", 0, 1), ("share.version", 0, 1), ("transaction.version", 0, 2)]
        self.assertEqual(supported, {0: [], 1: [], 2: [], 3: [], 4: listed})

    def test_finalized_ones_come_with_version_3(self) -> None:
        for version in range(5):
            answer = self.ask(version)
            finalized = [
                (each.name, each.min_version_level, each.max_version_level) for each in answer.finalized_features
            ]
            expected = [("group.version", 1, 1), ("transaction.version", 2, 2)] if version >= 3 else []
            self.assertEqual(
                (finalized, answer.finalized_features_epoch), (expected, self.epoch if version >= 3 else -1)
            )

    def test_levels_that_were_set(self) -> None:
        """One at level 0 is not in force, and is not listed."""
        serving = Serving()
        down = (FeatureUpdate("group.version", 0, 2), FeatureUpdate("transaction.version", 1, 2))
        serving.cluster.do(UpdateFeatures(down))
        request = ApiVersionsRequest(client_software_name="test", client_software_version="1")
        answer = serving.ask(ApiVersionsHandler(lambda: ApiTable([]), serving.image), request)
        finalized = [(each.name, each.min_version_level, each.max_version_level) for each in answer.finalized_features]
        self.assertEqual(finalized, [("transaction.version", 1, 1)])
        self.assertEqual(answer.finalized_features_epoch, serving.image.version)

    def test_each_is_at_a_level_that_it_has(self) -> None:
        for feature in SUPPORTED.values():
            self.assertTrue(feature.min_level <= feature.default_level <= feature.max_level)
