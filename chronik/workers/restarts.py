"""How long to wait before a process that has died is started again: not at all the first time, then twice as long each time.

Pure. What counts is how often processes died in a row without having finished anything.
"""

from __future__ import annotations

MAX_DELAY_SECONDS = 60.0


class Restarts:
    """Counts deaths in a row."""

    def __init__(self) -> None:
        self._deaths_in_a_row = 0

    def finished(self) -> None:
        """Something was done: the next death is the first again."""
        self._deaths_in_a_row = 0

    def died(self) -> float:
        """Another death; the seconds until the next start."""
        self._deaths_in_a_row += 1
        return min(2.0 ** (self._deaths_in_a_row - 1), MAX_DELAY_SECONDS)
