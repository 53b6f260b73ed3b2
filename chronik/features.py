"""The features of the cluster (KIP-584): which levels this release supports, and which are in force where nobody has set one.

A client looks at the finalized level before it uses what a feature stands for: Java's producers use transactions v2
only where `transaction.version` is 2. Listed is what is true of this node; what it does not have is absent. Levels are set by
UpdateFeatures, and are part of the cluster's metadata (`IClusterMetadata.feature_level`).

* `group.version` 1: the consumer protocol is served (KIP-848).
* `share.version` 1: share groups are served (KIP-932). A preview, as in Kafka 4.1: the option `group.share.enable` serves them
  at level 0 too.
* `transaction.version` 1: records in `__transaction_state` have tagged fields. Without them they cannot say that a transaction
  is one of v2, so that none is begun or ended below.
* `transaction.version` 2: clients are told to use transactions v2 (KIP-890). The node serves them from level 1 on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from chronik.errors import ErrorCode, KafkaError

GROUP_VERSION = "group.version"
SHARE_VERSION = "share.version"
TRANSACTION_VERSION = "transaction.version"


class Feature(NamedTuple):
    """The levels of a feature that this release can be at, and the one that it is at until somebody sets another.

    Level 0 is without it. `default_level` is that of every cluster that was made before levels were logged: it stays.
    """

    min_level: int
    max_level: int
    default_level: int


SUPPORTED: Mapping[str, Feature] = {
    GROUP_VERSION: Feature(0, 1, 1),
    SHARE_VERSION: Feature(0, 1, 0),
    TRANSACTION_VERSION: Feature(0, 2, 2),
}
"""By name, in the order of the names."""


def default_level(name: str) -> int:
    """The level of a feature that nobody has set; 0 for one that is not known."""
    return SUPPORTED[name].default_level if name in SUPPORTED else 0


def require_level(name: str, level: int, wanted: int) -> None:
    """Raises KafkaError(UNSUPPORTED_VERSION) where feature `name` is at a lower `level` than is `wanted`."""
    if level < wanted:
        raise KafkaError(
            ErrorCode.UNSUPPORTED_VERSION,
            f"feature {name} is at level {level} in this cluster; this needs level {wanted}",
        )
