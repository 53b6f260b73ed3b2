"""What the index costs a producer: two nodes, one that indexes and one that does not, in turn; and a fixed rate for minutes.

Saturated, each window has a fresh topic, 100-byte messages over 6 partitions, as in `benchmarks.throughput`. After a window the
index's lag is noted, and how long it takes to drain; during the warm-up, and at the fixed rate, the lag is looked at every
second. It is in messages that no block covers yet, the unfinished block of each partition among them.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from benchmarks import generators
from benchmarks.results import Results
from benchmarks.schedule import Schedule
from benchmarks.search.nodes import PARTITIONS, SearchedNode, searched

PART = "search-produce"
RATE, SIZE = 200_000, 100
ON, OFF = "on", "off"


def run(results: Results, schedule: Schedule, place: str = "disk") -> None:
    """Measure what `results` lacks."""
    if not results.has(PART, "saturated"):
        schedule.say("produce with the index and without, saturated")
        results.put(PART, "saturated", _saturated(schedule, place))
    if not results.has(PART, str(RATE)):
        schedule.say(f"produce with the index at {RATE:,} messages a second")
        results.put(PART, str(RATE), _fixed(schedule, place))


def _saturated(schedule: Schedule, place: str) -> dict[str, Any]:
    count = 0
    drains: list[dict[str, float]] = []
    lags: list[int] = []
    with contextlib.ExitStack() as stack:
        nodes = {
            ON: stack.enter_context(searched(place, name=ON)),
            OFF: stack.enter_context(searched(place, {"search_workers": "0"}, OFF)),
        }

        def measure(name: str, seconds: float) -> list[generators.Window]:
            nonlocal count
            count += 1
            topic, node = f"load-{count}", nodes[name]
            node.create(topic, PARTITIONS)
            watch = _Watch(node, topic)
            watched = name == ON and not lags
            if watched:
                watch.start()
            try:
                found = generators.run(
                    node.pid, "librdkafka_load", "produce", "--bootstrap", node.bootstrap, "--topic", topic,
                    "--partitions", PARTITIONS, "--size", SIZE, "--linger", 5, "--warmup", schedule.ramp,
                    "--window", seconds, "--windows", 1,
                )  # fmt: skip
                if watched:
                    watch.end()
                    lags.extend(watch.lags)
                elif name == ON:
                    lag, messages = node.lag(topic)
                    drains.append({"lag": lag, "messages": messages, "drain_seconds": node.drain(topic)})
                return found
            finally:
                watch.stop()
                node.delete(topic)
                schedule.settle()

        windows = schedule.alternate([ON, OFF], measure)
    return {"size": SIZE, "windows": windows, "lags": lags, "drains": drains[-len(windows[ON]) :]}


def _fixed(schedule: Schedule, place: str) -> dict[str, Any]:
    count = max(1, round(schedule.fixed_seconds / schedule.window))
    with searched(place) as node:
        node.create("fixed", PARTITIONS)
        watch = _Watch(node, "fixed")
        watch.start()
        try:
            windows = generators.run(
                node.pid, "librdkafka_load", "produce", "--bootstrap", node.bootstrap, "--topic", "fixed",
                "--partitions", PARTITIONS, "--size", SIZE, "--linger", 5, "--rate", RATE, "--warmup", schedule.ramp,
                "--window", schedule.window, "--windows", count,
            )  # fmt: skip
            watch.end()
        finally:
            watch.stop()
        drained = node.drain("fixed")
    return {
        "rate": RATE,
        "size": SIZE,
        "windows": {ON: [window.saved() for window in windows]},
        "lags": watch.lags,
        "drain_seconds": drained,
    }


class _Watch(threading.Thread):
    """Looks at the lag every second, until it is told to end."""

    def __init__(self, node: SearchedNode, topic: str) -> None:
        super().__init__()
        self._node = node
        self._topic = topic
        self._over = threading.Event()
        self._failure: Exception | None = None
        self.lags: list[int] = []

    def run(self) -> None:
        """Look, again and again."""
        try:
            while not self._over.wait(1.0):
                self.lags.append(self._node.lag(self._topic)[0])
        except Exception as failure:
            self._failure = failure

    def stop(self) -> None:
        """Stop looking, whatever has happened."""
        self._over.set()
        if self.is_alive():
            self.join()

    def end(self) -> None:
        """Stop looking. Raises what has kept it from it."""
        self.stop()
        if self._failure is not None:
            raise self._failure
