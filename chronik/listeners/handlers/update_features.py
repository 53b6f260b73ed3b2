"""UpdateFeatures: set the levels at which features of the cluster are in force (KIP-584), all that are asked for or none.

Version 0 says by `allow_downgrade` what later ones say by an upgrade type, and cannot ask for a dry run.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from chronik.controller.commands import FeatureUpdate, UpdateFeatures, UpgradeType
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IController
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.proposing import propose
from chronik.wire.apis import ApiKey
from chronik.wire.messages.update_features import (
    FeatureUpdateKey,
    UpdatableFeatureResult,
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
)

_TYPES_SINCE = 1
_ONE_ERROR_SINCE = 2


class UpdateFeaturesHandler:
    """Serves UpdateFeatures through `controller`."""

    api_key = ApiKey.UPDATE_FEATURES
    min_version = 0
    max_version = 2

    def __init__(self, controller: IController, clock: IReactorTime) -> None:
        self._controller = controller
        self._clock = clock

    async def handle(self, request: UpdateFeaturesRequest, context: RequestContext) -> UpdateFeaturesResponse:
        """Answered when the levels are in force; up to version 1 with each feature once more."""
        version = context.api_version
        updates = tuple(
            FeatureUpdate(each.feature, each.max_version_level, _upgrade_type(each, version))
            for each in request.feature_updates
        )
        await propose(self._controller, UpdateFeatures(updates, request.validate_only), request.timeout_ms, self._clock)
        results = [] if version >= _ONE_ERROR_SINCE else [_done(each.feature) for each in request.feature_updates]
        return UpdateFeaturesResponse(error_message=None, results=results)

    def refuse(self, request: UpdateFeaturesRequest, version: int, error: KafkaError) -> UpdateFeaturesResponse:
        """The error, for all of it."""
        return UpdateFeaturesResponse(error_code=error.code, error_message=error.message)


def _upgrade_type(update: FeatureUpdateKey, version: int) -> int:
    if version >= _TYPES_SINCE:
        return update.upgrade_type
    return UpgradeType.SAFE_DOWNGRADE if update.allow_downgrade else UpgradeType.UPGRADE


def _done(feature: str) -> UpdatableFeatureResult:
    return UpdatableFeatureResult(feature=feature, error_message=ErrorCode.NONE.name)
