"""Paired ratios on a logarithmic scale: geometric means and their 95 % intervals (Student's t)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

_T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""The 97.5 % point of Student's t for 1, 2, ... degrees of freedom; beyond 15 the normal's is near enough."""


class Ratio(NamedTuple):
    """A geometric mean with the bounds of its 95 % interval, from `pairs` pairs."""

    mean: float
    low: float
    high: float
    pairs: int


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """How many times `theirs` is `ours`, from pairs measured one after the other. Pairs with a zero are left out."""
    logs = [math.log(a / b) for a, b in zip(ours, theirs, strict=False) if a > 0 and b > 0]
    return _from_logs(logs)


def combine(ratios: Sequence[Ratio]) -> Ratio:
    """The geometric mean over cells, each cell counting once; the interval is that of the cells' spread."""
    return _from_logs([math.log(ratio.mean) for ratio in ratios if ratio.pairs])


def _from_logs(logs: list[float]) -> Ratio:
    count = len(logs)
    if not count:
        return Ratio(math.nan, math.nan, math.nan, 0)
    mean = sum(logs) / count
    if count == 1:
        return Ratio(math.exp(mean), 0.0, math.inf, 1)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in logs) / (count - 1))
    t = _T_975[count - 2] if count - 2 < len(_T_975) else 1.96
    half = t * deviation / math.sqrt(count)
    return Ratio(math.exp(mean), math.exp(mean - half), math.exp(mean + half), count)


def percentile(histogram: dict[int, int], part: float) -> float:
    """The value below which `part` of a histogram (value -> count) lies."""
    total = sum(histogram.values())
    wanted, seen = total * part, 0
    for value in sorted(histogram):
        seen += histogram[value]
        if seen > wanted:
            return float(value)
    return math.nan


def median(values: Sequence[float]) -> float:
    """The middle value; the mean of the two middle ones of an even number."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
