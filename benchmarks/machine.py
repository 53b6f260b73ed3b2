"""What the machine did meanwhile: stolen time, a broker's CPU and memory, and what kind of machine it is. All from /proc."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Sample:
    """A moment: seconds on the monotonic clock; CPU seconds of the machine, stolen and total, and of the watched process."""

    at: float
    stolen: float
    total: float
    process: float


def sample(pid: int) -> Sample:
    """Read the counters now; `pid` is the watched process, whose ended and waited-for children count too."""
    with open("/proc/stat") as stat:
        numbers = [int(word) for word in stat.readline().split()[1:9]]
    return Sample(time.monotonic(), numbers[7] / _TICK, sum(numbers) / _TICK, _cpu_seconds(pid))


def steal(first: Sample, last: Sample) -> float:
    """The share of all CPU time between two samples that neighbours took, 0 to 1."""
    passed = last.total - first.total
    return (last.stolen - first.stolen) / passed if passed > 0 else 0.0


def _cpu_seconds(pid: int) -> float:
    fields = _stat(pid)
    total = sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime
    total += sum(int(field) for child in _living_children(pid) for field in _stat(child)[11:13])
    return total / _TICK


def _stat(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return ["0"] * 50
    return text[text.rindex(")") + 2 :].split()


def _living_children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found.extend(int(word) for word in task.read_text().split())
    return found


def resident_kilobytes(pid: int) -> int:
    """Resident memory of a process now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def describe(chronik: str, kafka: str) -> dict[str, str]:
    """The machine and the versions, for the head of the results."""
    model = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr.splitlines()
    return {
        "processor": f"{os.cpu_count()} x {model}",
        "memory": f"{memory / 1048576:.1f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Chronik": chronik,
        "Python": platform.python_version(),
        "Apache Kafka": kafka,
        "Java": java[0] if java else "none",
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def touch_memory(directory: Path, gigabytes: float) -> None:
    """Write and delete a file, so that the machine's memory has been touched once before anything is measured.

    On a virtual machine the first use of each page of the page cache costs ten times the later ones, whoever comes first.
    """
    path = directory / "touch"
    block = bytes(1 << 22)
    try:
        with open(path, "wb") as file:
            for _ in range(int(gigabytes * 256)):
                file.write(block)
    finally:
        path.unlink(missing_ok=True)
