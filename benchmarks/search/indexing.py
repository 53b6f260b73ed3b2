"""How fast one core indexes: from a segment's file to signatures, in files too, over batches of 1,000, of 80 and of 1.

One partition's log on disk, read from the page cache; the engine of a worker process steps in this one, and writes where it
stands. Messages per second of CPU time, the system's share and the writing included; the best and the median of several runs.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import brokers
from benchmarks.native import stored_batches
from benchmarks.results import Results
from benchmarks.schedule import Schedule
from chronik.log.disk import RealDisk
from chronik.log.log import Log, LogConfig
from chronik.native.scanner import make_scanner
from chronik.search.engine import Engine
from chronik.search.messages import Follow
from chronik.wire.records import check_produced

PART = "search-indexing"
BATCHES = (1000, 80, 1)
_RUNS = 5
_TOPIC_ID = bytes(16)


def run(results: Results, schedule: Schedule, place: str = "disk") -> None:
    """Measure what `results` lacks."""
    for size in BATCHES:
        name = f"batches-of-{size}"
        if not results.has(PART, name):
            schedule.say(f"indexing, batches of {size}")
            messages = schedule.indexed_messages if size > 1 else schedule.indexed_messages // 10
            results.put(PART, name, {"records_in_batch": size, **_measure(messages, size, place)})


def _measure(messages: int, size: int, place: str) -> dict[str, Any]:
    home = Path(tempfile.mkdtemp(prefix="chronik-indexing-", dir=brokers.DIRECTORIES[place]))
    try:
        disk, logs = RealDisk(), str(home / "log")
        log = Log.open(disk, logs, LogConfig(retention_ms=-1), 0)
        for batch in stored_batches(messages, size):
            log.append(memoryview(bytearray(batch)), check_produced(batch), 0, 0)
        log.flush()
        runs = [_index(disk, logs, str(home / f"index-{number}"), log.end_offset) for number in range(_RUNS)]
        written = sum(path.stat().st_size for path in (home / "index-0").iterdir())
        return {"messages": log.end_offset, "log_bytes": log.size_bytes, "index_bytes": written, "runs": runs}
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _index(disk: RealDisk, logs: str, index: str, end: int) -> dict[str, float]:
    engine = Engine(disk, make_scanner(), _Now, print)
    wall, cpu = time.perf_counter(), time.process_time()
    engine.follow(Follow(_TOPIC_ID, 0, logs, index, 0, end, 0, ()))
    while engine.step():
        pass
    engine.save()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"messages_per_cpu_second": end / cpu, "messages_per_second": end / wall}


class _Now:
    """What is to be written elsewhere, written here and now."""

    def __init__(self, job: Callable[[], None]) -> None:
        job()

    def done(self) -> bool:
        """It is."""
        return True

    def result(self) -> None:
        """It has not failed: it would have raised."""
