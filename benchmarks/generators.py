"""Builds the generators in generators/ with the system's compiler, runs them, and samples the machine at windows' edges."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from tests.peers import cache

SOURCES = Path(__file__).parent / "generators"
_LIBRARIES = {"librdkafka_load": ["-lrdkafka", "-pthread"], "raw_load": []}


class GeneratorError(Exception):
    """A generator could not be built, or ended with an error. The text has what it said."""


def build() -> Path:
    """The directory of the compiled generators; compiled anew when a source changed."""
    recipe = b"".join(path.read_bytes() for path in sorted(SOURCES.iterdir()))

    def compile_all(home: Path) -> None:
        compiler = cache.program("cc", "gcc")
        for name, libraries in _LIBRARIES.items():
            line = [compiler, "-O2", "-std=gnu11", "-o", str(home / name), str(SOURCES / f"{name}.c"), *libraries]
            done = subprocess.run(line, capture_output=True, text=True, check=False)
            if done.returncode:
                raise GeneratorError(
                    f"{name}.c does not compile (is librdkafka-dev installed?):\n{done.stderr[-2000:]}"
                )

    return cache.installed("generators", recipe, compile_all)


@dataclass
class Window:
    """One window of a generator's run: what it reported, the share of stolen CPU time, the broker's CPU seconds."""

    report: dict[str, Any]
    steal: float
    broker_cpu: float

    @property
    def rate(self) -> float:
        """Messages a second."""
        return float(self.report["messages_per_second"])

    @property
    def gigabytes(self) -> float:
        """Payload bytes of the window, in GB of 10^9."""
        return float(self.report["bytes"]) / 1e9

    def saved(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {"report": self.report, "steal": self.steal, "broker_cpu": self.broker_cpu}


def run(pid: int, name: str, *arguments: object) -> list[Window]:
    """Run a generator beside broker process `pid`. Raises GeneratorError when it fails or reports errors."""
    line = [str(build() / name), *map(str, arguments)]
    child = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    windows: list[Window] = []
    try:
        assert child.stdout is not None
        last = machine.sample(pid)
        for text in child.stdout:
            now = machine.sample(pid)
            report = json.loads(text)
            if report.pop("event") != "begin":
                windows.append(Window(report, machine.steal(last, now), now.process - last.process))
            last = now
        _, said = child.communicate(timeout=30)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    if child.returncode or not windows or any(window.report.get("errors") for window in windows):
        raise GeneratorError(f"{' '.join(line)} ended with {child.returncode}: {said[-2000:]}")
    return windows
