"""Levels of features: which changes stand, that they are there after a restart, and how UpdateFeatures tells of it."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chronik.controller.commands import FeatureUpdate, UpdateFeatures, UpgradeType
from chronik.controller.image import MetadataImage
from chronik.controller.records import FeatureLevelChanged, MetadataVersionError
from chronik.errors import ErrorCode, KafkaError
from chronik.features import GROUP_VERSION, SUPPORTED, TRANSACTION_VERSION, require_level
from chronik.listeners.handlers.update_features import UpdateFeaturesHandler
from chronik.wire.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest
from tests.controller.cluster import Cluster
from tests.listeners.handlers.serving import Serving

UPGRADE, SAFE, UNSAFE = UpgradeType
_INVALID = ErrorCode.INVALID_UPDATE_VERSION


def levels(image: MetadataImage) -> tuple[int, ...]:
    """Of group.version and transaction.version."""
    return tuple(image.feature_level(name) for name in (GROUP_VERSION, TRANSACTION_VERSION))


class DecisionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.cluster = Cluster()

    def update(self, *updates: tuple[str, int, int], validate_only: bool = False) -> ErrorCode:
        """The code of a change of levels."""
        command = UpdateFeatures(tuple(FeatureUpdate(*each) for each in updates), validate_only)
        try:
            self.assertIsNone(self.cluster.do(command))
        except KafkaError as refusal:
            return refusal.code
        return ErrorCode.NONE

    def test_down_and_up(self) -> None:
        self.assertEqual(levels(self.cluster.image), (1, 2))
        for level, kind in ((1, SAFE), (0, UNSAFE), (1, UPGRADE), (2, UPGRADE)):
            self.assertEqual(self.update((TRANSACTION_VERSION, level, kind)), ErrorCode.NONE)
            self.assertEqual(levels(self.cluster.image), (1, level))

    def test_what_is_refused_changes_nothing(self) -> None:
        good = (GROUP_VERSION, 0, SAFE)
        for bad in (
            ("", 1, UPGRADE),
            ("no.such.version", 1, UPGRADE),
            ("no.such.version", 0, SAFE),
            (TRANSACTION_VERSION, 3, UPGRADE),
            (TRANSACTION_VERSION, 3, SAFE),
            (TRANSACTION_VERSION, -1, SAFE),
            (TRANSACTION_VERSION, 1, UPGRADE),
            (TRANSACTION_VERSION, 2, 0),
            (TRANSACTION_VERSION, 2, 4),
            (GROUP_VERSION, 1, SAFE),
        ):
            expected = ErrorCode.NONE if bad == (GROUP_VERSION, 1, SAFE) else _INVALID
            self.assertEqual(self.update(bad), expected, bad)
        self.assertEqual(self.update(good, (TRANSACTION_VERSION, 3, UPGRADE)), _INVALID)
        self.assertEqual(self.update(good, (GROUP_VERSION, 1, SAFE)), _INVALID)  # two levels for one
        self.assertEqual(levels(self.cluster.image), (1, 2))
        self.assertEqual(self.update(good, good), ErrorCode.NONE)
        self.assertEqual(self.update((GROUP_VERSION, 1, SAFE)), _INVALID)  # up, as a downgrade
        self.assertEqual(levels(self.cluster.image), (0, 2))

    def test_a_dry_run_and_a_level_that_is_there_log_nothing(self) -> None:
        before = self.cluster.image.version
        self.assertEqual(self.update((GROUP_VERSION, 0, SAFE), validate_only=True), ErrorCode.NONE)
        self.assertEqual(self.update((GROUP_VERSION, 2, UPGRADE), validate_only=True), _INVALID)
        self.assertEqual(self.update((GROUP_VERSION, 1, UPGRADE), (TRANSACTION_VERSION, 2, SAFE)), ErrorCode.NONE)
        self.assertEqual(self.update(), ErrorCode.NONE)
        self.assertEqual((levels(self.cluster.image), self.cluster.image.version), ((1, 2), before))

    def test_levels_outlive_a_restart_from_records_and_from_a_snapshot(self) -> None:
        for every in (1000, 1):
            self.cluster = Cluster(snapshot_every=every)
            self.update((GROUP_VERSION, 0, SAFE), (TRANSACTION_VERSION, 1, SAFE))
            self.cluster.restart()
            self.assertEqual(levels(self.cluster.image), (0, 1))
            self.update((TRANSACTION_VERSION, 2, UPGRADE))
            self.cluster.restart()
            self.assertEqual(levels(self.cluster.image), (0, 2))

    def test_a_level_of_a_newer_release_is_refused_by_name(self) -> None:
        for record in (FeatureLevelChanged(TRANSACTION_VERSION, 3), FeatureLevelChanged("search.version", 1)):
            image = MetadataImage("cluster", 0)
            text = f"{record.name}.*level {record.level}.*newer release"
            self.assertRaisesRegex(MetadataVersionError, text, image.apply_records, 1, [record])

    def test_what_a_level_is_asked_for(self) -> None:
        require_level(GROUP_VERSION, 1, 1)
        error = self.assertRaises(KafkaError, require_level, GROUP_VERSION, 0, 1)
        self.assertEqual(error.code, ErrorCode.UNSUPPORTED_VERSION)
        self.assertEqual(MetadataImage("cluster", 0).feature_level("no.such.version"), 0)
        self.assertEqual(list(SUPPORTED), sorted(SUPPORTED))


class HandlerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.serving = Serving()

    def ask(self, version: int, *updates: FeatureUpdateKey, validate_only: bool = False) -> Any:
        handler = UpdateFeaturesHandler(self.serving.controller, self.serving.clock)  # type: ignore[arg-type]
        request = UpdateFeaturesRequest(feature_updates=list(updates), validate_only=validate_only)
        return self.serving.ask(handler, request, version)

    def test_every_version(self) -> None:
        for version in range(3):
            down = FeatureUpdateKey(feature=TRANSACTION_VERSION, max_version_level=1)
            if version:
                down.upgrade_type = SAFE
            else:
                down.allow_downgrade = True
            answer = self.ask(version, down)
            results = [(each.feature, each.error_code) for each in answer.results]
            self.assertEqual((answer.error_code, answer.error_message), (0, None))
            self.assertEqual(results, [] if version == 2 else [(TRANSACTION_VERSION, 0)])
            self.assertEqual(levels(self.serving.image), (1, 1))
            answer = self.ask(version, FeatureUpdateKey(feature=TRANSACTION_VERSION, max_version_level=0))
            self.assertEqual((answer.error_code, answer.results), (_INVALID, []))
            self.assertIn("asked for as a downgrade", answer.error_message)
            self.ask(version, FeatureUpdateKey(feature=TRANSACTION_VERSION, max_version_level=2))
            self.assertEqual(levels(self.serving.image), (1, 2))

    def test_dry_runs(self) -> None:
        down = FeatureUpdateKey(feature=GROUP_VERSION, max_version_level=0, upgrade_type=UNSAFE)
        for version in (1, 2):
            self.assertEqual(self.ask(version, down, validate_only=True).error_code, 0)
        self.assertEqual(levels(self.serving.image), (1, 2))
