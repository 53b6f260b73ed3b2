"""The one table of differences from Apache Kafka that are meant, each with its reason. Anything else that differs is a defect.

An entry that nothing uses any more fails the test too: the table never outlives its reasons.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import Any

ANYTHING = object()


@dataclass(frozen=True, eq=False)
class Difference:
    """An intended difference: where (patterns of scenario, step and path), optionally which values, and why."""

    reason: str
    scenario: str = "*"
    step: str = "*"
    path: str = "*"
    kafka: Any = ANYTHING
    chronik: Any = ANYTHING

    def concerns(self, scenario: str) -> bool:
        """Whether `scenario` is one in which it may appear."""
        return fnmatch.fnmatchcase(scenario, self.scenario)

    def covers(self, scenario: str, step: str, path: str, kafka: Any, chronik: Any) -> bool:
        """Whether it explains one finding."""
        return (
            self.concerns(scenario)
            and fnmatch.fnmatchcase(step, self.step)
            and fnmatch.fnmatchcase(path.translate(_BRACKETS), self.path.translate(_BRACKETS))
            and self.kafka in (ANYTHING, kafka)
            and self.chronik in (ANYTHING, chronik)
        )


_BRACKETS = str.maketrans("[]", "<>")  # brackets mean a set of characters to fnmatch

DIFFERENCES: tuple[Difference, ...] = ()
