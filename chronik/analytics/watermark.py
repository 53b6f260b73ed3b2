"""How far event time has come, over the partitions of a source.

The watermark is the least of what the partitions have come to: no window is closed because one partition is read faster than
another one. A partition from which nothing came for `idle` ms, and of which nothing waits to be read, is left out: otherwise
one that nobody writes to would hold back all results (the commonest cause of "no results" elsewhere).

When all are idle, event time goes on with the wall clock from where it was, so the last windows end too. What comes later for
these is late, and is counted as such.

Pure: the wall clock is an argument, in ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chronik.analytics.window import NEVER


@dataclass(slots=True)
class _Progress:
    """`time`: the greatest event time seen; `heard`: when something came last, by the wall clock."""

    time: int
    heard: int
    waiting: bool = True


class Watermarks:
    """`reached` are the greatest event times by partition, where it goes on; a new partition is heard of by `has`."""

    def __init__(self, idle: int, now: int, reached: Mapping[int, int] | None = None, watermark: int = NEVER) -> None:
        self._idle = idle
        self._partitions = {partition: _Progress(time, now) for partition, time in (reached or {}).items()}
        self._watermark = watermark

    @property
    def reached(self) -> dict[int, int]:
        """The greatest event time of each partition from which anything came."""
        return {number: each.time for number, each in self._partitions.items() if each.time != NEVER}

    def has(self, partition: int, waiting: bool, now: int) -> None:
        """There is this partition, and of it there are records that were not read yet, or not."""
        progress = self._partitions.setdefault(partition, _Progress(NEVER, now))
        if waiting and not progress.waiting:
            progress.heard = now
        progress.waiting = waiting

    def came(self, partition: int, time: int, now: int) -> None:
        """Records came from a partition, the newest of event time `time`."""
        progress = self._partitions.setdefault(partition, _Progress(NEVER, now))
        progress.time = max(progress.time, time)
        progress.heard = now

    def watermark(self, now: int) -> int:
        """The watermark; it never goes back."""
        active = [each.time for each in self._partitions.values() if each.waiting or now - each.heard < self._idle]
        if active:
            found = min(active)
        else:
            found = max(
                (each.time + now - each.heard for each in self._partitions.values() if each.time != NEVER),
                default=NEVER,
            )
        self._watermark = max(self._watermark, found)
        return self._watermark

    def idle_in(self, now: int) -> int | None:
        """In how many ms another partition is idle, or 0 where all are; None where time alone changes nothing."""
        partitions = self._partitions.values()
        if not any(each.time != NEVER for each in partitions):
            return None
        left = [each.heard + self._idle - now for each in partitions if not each.waiting]
        coming = [each for each in left if each > 0]
        if coming:
            return min(coming)
        return 0 if left and len(left) == len(self._partitions) else None
