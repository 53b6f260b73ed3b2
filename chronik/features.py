"""The features of the cluster (KIP-584): which levels this release supports, and which are in force.

A client looks at the finalized level before it uses what a feature stands for: Java's producers use transactions v2
only where `transaction.version` is 2. Level 1 of `group.version` says that the consumer protocol is served. Listed is what
is true of this node; what it does not have is absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

GROUP_VERSION = "group.version"
TRANSACTION_VERSION = "transaction.version"


class Feature(NamedTuple):
    """The levels of a feature that this release can be at, and the one that it is at by default. Level 0 is without it."""

    min_level: int
    max_level: int
    default_level: int


SUPPORTED: Mapping[str, Feature] = {
    GROUP_VERSION: Feature(0, 1, 1),  # KIP-848
    TRANSACTION_VERSION: Feature(0, 2, 2),  # KIP-890; 1 stands for tagged fields in `__transaction_state`
}
"""By name, in the order of the names."""


def finalized_levels() -> dict[str, int]:
    """The level in force of every feature; one at level 0 is not listed."""
    return {name: feature.default_level for name, feature in SUPPORTED.items() if feature.default_level > 0}
