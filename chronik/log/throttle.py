"""Keeps a stream of work below so many bytes a second, by waiting. For threads and processes that may wait."""

from __future__ import annotations

from collections.abc import Callable

_SHORTEST = 0.05
"""Shorter waits are saved up: a wait costs more than it says."""
_ALIVE_EVERY = 1.0


class Throttle:
    """Waits in `spend` so that no more than `bytes_per_second` are spent on average. Clock and sleep are in seconds.

    However long it waits, it calls `alive` every second.
    """

    def __init__(
        self,
        bytes_per_second: float,
        clock: Callable[[], float],
        sleep: Callable[[float], object],
        alive: Callable[[], object],
    ) -> None:
        self._rate = bytes_per_second
        self._clock = clock
        self._sleep = sleep
        self._alive = alive
        self._paid_until = clock()

    def spend(self, size: int) -> None:
        """Take note of `size` bytes, and wait until they are paid for."""
        now = self._clock()
        self._paid_until = max(self._paid_until, now - _SHORTEST) + size / self._rate
        while self._paid_until - now >= _SHORTEST:
            self._sleep(min(self._paid_until - now, _ALIVE_EVERY))
            self._alive()
            now = self._clock()
