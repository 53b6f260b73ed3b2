"""How many records match in which window of time, and which windows have more than they may: the pure part of alerts.

A window is told once, when its count is over the limit; it needn't be at its end for that. The newest `MAX_WINDOWS` that have
any match are kept. A match for an older one comes too late: it is counted as such, and tells nothing.

The state is a text of less than 4 KB, which is what a group can commit with an offset.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

MAX_WINDOWS = 64


class _Stored(msgspec.Struct, frozen=True):
    alert: str
    late: int
    windows: list[tuple[int, int, bool]]


class RateWindows:
    """The windows of one alert, which is over `over`. `alert` names it, once for ever."""

    def __init__(self, alert: str, over: int) -> None:
        self._alert = alert
        self._over = over
        self._counts: dict[int, int] = {}
        self._told: set[int] = set()
        self.late = 0

    @classmethod
    def restored(cls, alert: str, over: int, text: str) -> RateWindows | None:
        """What `text` says, None where it is of another alert or of nothing that is known."""
        try:
            stored = msgspec.json.decode(text, type=_Stored)
        except (msgspec.DecodeError, ValueError):
            return None
        if stored.alert != alert:
            return None
        windows = cls(alert, over)
        windows.late = stored.late
        windows._counts = {begin: count for begin, count, _ in stored.windows}
        windows._told = {begin for begin, _, told in stored.windows if told}
        return windows

    def text(self) -> str:
        """The state, for `restored`."""
        windows = [(begin, count, begin in self._told) for begin, count in sorted(self._counts.items())]
        return msgspec.json.encode(_Stored(self._alert, self.late, windows)).decode()

    def add(self, windows: Iterable[tuple[int, int]]) -> None:
        """More matches: (begin of the window, count)."""
        counts = self._counts
        for begin, count in windows:
            if begin in counts:
                counts[begin] += count
            elif len(counts) < MAX_WINDOWS or begin > min(counts):
                counts[begin] = count
                if len(counts) > MAX_WINDOWS:
                    oldest = min(counts)
                    del counts[oldest]
                    self._told.discard(oldest)
            else:
                self.late += count

    def exceeded(self) -> list[tuple[int, int]]:
        """(begin, count) of the windows that are over the limit and weren't told, in their order."""
        return sorted((b, count) for b, count in self._counts.items() if count > self._over and b not in self._told)

    def told(self, begin: int) -> None:
        """Somebody was told of the window."""
        self._told.add(begin)
