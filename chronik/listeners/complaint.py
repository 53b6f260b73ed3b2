"""Telling the operator of a disk that takes no writes, without filling what is left of it with lines of log."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

EVERY_SECONDS = 10.0


class Complaint:
    """Logs the first refusal at once and then how it goes, every `EVERY_SECONDS`: clients retry."""

    def __init__(self, log: Logger, clock: Callable[[], float]) -> None:
        self._log = log
        self._clock = clock
        self._last = float("-inf")
        self._refusals = 0

    def refused(self, problem: str) -> None:
        """A request was refused for this reason."""
        self._refusals += 1
        now = self._clock()
        if now - self._last >= EVERY_SECONDS:
            self._log.error("{problem} ({count} refused)", problem=problem, count=self._refusals)
            self._last, self._refusals = now, 0
