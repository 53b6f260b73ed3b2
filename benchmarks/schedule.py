"""How long, how often, in which order: warm-up of each broker, then windows in alternating pairs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.generators import Window

Measure = Callable[[str, float], list[Window]]


@dataclass
class Schedule:
    """Seconds and numbers. The default is what the project's bars ask for; `quick()` only shows that everything runs."""

    warmup: float = 30.0
    window: float = 20.0
    pairs: int = 5
    ramp: float = 2.0
    pause: float = 1.5
    stored_bytes: float = 1.5e9
    touched_gigabytes: float = 8.0
    idle_connections: int = 1000
    topics: int = 1000
    staged_requests: int = 20_000
    native_messages: int = 60_000
    tails: int = 5000
    tailed_rate: int = 20_000
    search_sizes: tuple[int, ...] = (1_000_000, 10_000_000, 50_000_000)
    search_calls: int = 1000
    indexed_messages: int = 600_000
    beside_messages: int = 1_000_000
    fixed_seconds: float = 300.0
    _touched: set[Path] = field(default_factory=set)

    @classmethod
    def quick(cls) -> Schedule:
        """Seconds instead of minutes."""
        return cls(
            1.0, 1.5, 2, 1.0, 0.2, 3e7, 0.1, 100, 50, 2000, 6000,
            search_sizes=(20_000, 40_000, 80_000), search_calls=20, indexed_messages=20_000, beside_messages=20_000,
            fixed_seconds=3.0, tails=100, tailed_rate=1000,
        )  # fmt: skip

    def prepare(self, directory: Path) -> None:
        """Once a directory: touch the memory that its page cache will use."""
        if directory not in self._touched:
            self._touched.add(directory)
            machine.touch_memory(directory, self.touched_gigabytes)

    def alternate(self, names: list[str], measure: Measure) -> dict[str, list[dict[str, Any]]]:
        """Warm each broker up, then measure A B A B ...; the windows of each by name, those of one pair at the same place."""
        for name in names:
            measure(name, self.warmup)
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for _ in range(self.pairs):
            for name in names:
                windows = measure(name, self.window)
                found[name].extend(window.saved() for window in windows)
                rates = ", ".join(f"{window.rate:,.0f}/s (steal {window.steal:.1%})" for window in windows)
                self.say(f"  {name}: {rates}")
        return found

    def settle(self) -> None:
        """Let a broker finish what it does after a run, such as deleting files."""
        time.sleep(self.pause)

    def say(self, text: str) -> None:
        """Progress, for the person who waits."""
        print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)
