"""The controller's decisions about levels of features: which changes stand, as records. All of a request, or none of it.

Rules: KIP-584 (levels), KIP-778 (kinds of changes, dry runs); the controller of Apache Kafka 4.1.
A change goes up as an upgrade and down as a downgrade; a level that is in force already may be asked for as either.
"""

from __future__ import annotations

from collections.abc import Sequence

from chronik.controller.commands import FeatureUpdate, UpdateFeatures, UpgradeType
from chronik.controller.image import MetadataImage
from chronik.controller.records import FeatureLevelChanged
from chronik.errors import ErrorCode, KafkaError
from chronik.features import SUPPORTED

_KINDS = frozenset(UpgradeType)


def decide_update_features(image: MetadataImage, command: UpdateFeatures) -> Sequence[FeatureLevelChanged]:
    """The records of a change of levels. Raises KafkaError(INVALID_UPDATE_VERSION) for the first that cannot be."""
    wanted: dict[str, int] = {}
    for update in command.updates:
        _check(update, image.feature_level(update.name))
        if wanted.setdefault(update.name, update.level) != update.level:
            raise _invalid(update, "the request has another level for it too")
    if command.validate_only:
        return ()
    return [FeatureLevelChanged(name, level) for name, level in wanted.items() if level != image.feature_level(name)]


def _check(update: FeatureUpdate, level: int) -> None:
    if update.upgrade_type not in _KINDS:
        raise _invalid(update, f"there is no upgrade type {update.upgrade_type}")
    feature = SUPPORTED.get(update.name)
    if feature is None:
        raise _invalid(update, f"this release has no such feature: {', '.join(SUPPORTED)} exist")
    if not feature.min_level <= update.level <= feature.max_level:
        raise _invalid(update, f"this release supports levels {feature.min_level} to {feature.max_level}")
    if update.level < level and update.upgrade_type == UpgradeType.UPGRADE:
        raise _invalid(update, f"it is at level {level}, and a lower one has to be asked for as a downgrade")
    if update.level > level and update.upgrade_type != UpgradeType.UPGRADE:
        raise _invalid(update, f"it is at level {level}, and a higher one has to be asked for as an upgrade")


def _invalid(update: FeatureUpdate, why: str) -> KafkaError:
    text = f"feature {update.name[:80]!r} cannot be set to level {update.level}: {why}; nothing was changed"
    return KafkaError(ErrorCode.INVALID_UPDATE_VERSION, text)
