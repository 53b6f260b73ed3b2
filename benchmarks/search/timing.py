"""Windows of calls: each call's time, and what the machine's neighbours took meanwhile.

A bar counts only what was measured while they took at most 1 % of the CPU, so windows are repeated until there are enough
quiet calls, up to `_TRIES` times as many as are wanted; all of them are kept.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from benchmarks import machine
from benchmarks.figures import QUIET

_TRIES = 3


def histogram(latencies: list[int]) -> list[list[int]]:
    """Microseconds and how often, in order; kept to three digits."""
    rounded = Counter(each if each < 1000 else int(float(f"{each:.2e}")) for each in latencies)
    return [[value, count] for value, count in sorted(rounded.items())]


def window(pid: int, call: Callable[[], object], calls: int) -> dict[str, Any]:
    """So many calls, one after the other. `pid` is the process whose CPU seconds are taken."""
    latencies = []
    first, begun = machine.sample(pid), time.perf_counter_ns()
    for _ in range(calls):
        before = time.perf_counter_ns()
        call()
        latencies.append((time.perf_counter_ns() - before) // 1000)
    return saved(first, machine.sample(pid), (time.perf_counter_ns() - begun) / 1e9, latencies)


def saved(first: machine.Sample, last: machine.Sample, seconds: float, latencies: list[int]) -> dict[str, Any]:
    """A window as JSON keeps it."""
    report = {"seconds": seconds, "calls": len(latencies), "histogram": histogram(latencies)}
    return {"report": report, "steal": machine.steal(first, last), "broker_cpu": last.process - first.process}


def quiet_windows(pid: int, call: Callable[[], object], calls: int, each: int) -> list[dict[str, Any]]:
    """Windows of `each` calls until `calls` of them were quiet, or until that seems hopeless."""
    windows: list[dict[str, Any]] = []
    quiet = 0
    while quiet < calls and len(windows) * each < calls * _TRIES:
        windows.append(window(pid, call, each))
        if windows[-1]["steal"] <= QUIET:
            quiet += each
    return windows
