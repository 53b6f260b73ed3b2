"""Figures out of windows as results keep them, and how the report says them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from benchmarks.statistics import Ratio, median, percentile

QUIET = 0.01
"""The share of stolen CPU time up to which a window is a quiet one."""


def pooled(windows: Iterable[dict[str, Any]], part: float) -> float:
    """A quantile of all latencies of these windows together, in ms."""
    together: dict[int, int] = {}
    for window in windows:
        for value, count in window["report"].get("histogram", []):
            together[value] = together.get(value, 0) + count
    return percentile(together, part) / 1000


def quiet(windows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those in which neighbours took next to nothing."""
    return [window for window in windows if window["steal"] <= QUIET]


def steal(windows: Iterable[dict[str, Any]]) -> str:
    """Median and worst share that neighbours took."""
    stolen = [window["steal"] for window in windows]
    return f"{median(stolen):.1%} ({max(stolen):.1%})"


def verdict(holds: bool) -> str:
    """Whether a bar holds."""
    return "holds" if holds else "**does not hold**"


def interval(ratio: Ratio) -> str:
    """A ratio and its 95 % interval."""
    return f"{ratio.mean:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
