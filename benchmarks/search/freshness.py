"""How long after its acknowledgement a message is in a response: queries back to back, under 50,000 messages a second.

One producer sends single messages with a word of their own into the topic that is loaded, one after the other; each is
searched for, over HTTP, from the moment of its acknowledgement until a response holds it. The last query's own time counts.
"""

from __future__ import annotations

import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks import generators, machine
from benchmarks.results import Results
from benchmarks.schedule import Schedule
from benchmarks.search.feeding import Feeder
from benchmarks.search.nodes import PARTITIONS, SearchedNode, searched
from benchmarks.search.timing import saved
from chronik.wire.records import Record, encode_batch

PART = "search-freshness"
RATE, SIZE = 50_000, 177
_TOPIC = "fresh"


def run(results: Results, schedule: Schedule, place: str = "disk") -> None:
    """Measure what `results` lacks."""
    if results.has(PART, str(RATE)):
        return
    schedule.say(f"freshness under {RATE:,} messages a second")
    with searched(place) as node:
        node.create(_TOPIC, PARTITIONS)
        seconds = schedule.warmup + schedule.pairs * schedule.window
        with ThreadPoolExecutor(1) as beside:
            load = beside.submit(_load, node, seconds)
            prober = Prober(node, _TOPIC)
            _window(node, prober, schedule.warmup)
            windows = [_window(node, prober, schedule.window - 1) for _ in range(schedule.pairs)]
            reached = load.result()
    results.put(PART, str(RATE), {"rate": RATE, "reached": reached, "size": SIZE, "windows": windows})


def _load(node: SearchedNode, seconds: float) -> float:
    """Produce for so long; messages a second that were acknowledged."""
    (window,) = generators.run(
        node.pid, "librdkafka_load", "produce", "--bootstrap", node.bootstrap, "--topic", _TOPIC, "--partitions", PARTITIONS,
        "--size", SIZE, "--codec", "lz4", "--linger", 5, "--rate", RATE, "--warmup", 0, "--window", seconds, "--windows", 1,
    )  # fmt: skip
    return window.rate


class Prober:
    """Sends messages that nobody else sends into a topic, and looks for them."""

    def __init__(self, node: SearchedNode, topic: str) -> None:
        self._search = node.search
        self._path = f"/{topic}/_search"
        self._feeder = Feeder(node.port, topic)
        self._numbers = itertools.count()
        self.queries = 0

    def probe(self) -> int:
        """Microseconds from the acknowledgement of a message to the end of the response that holds it."""
        number = next(self._numbers)
        word = f"probe{number}x"
        record = Record(0, int(time.time() * 1000), None, f"level=info msg={word} sent to be found".encode())
        query = {"query": {"query_string": {"query": word}}, "size": 1, "track_total_hits": False}
        body = json.dumps(query).encode()
        self._feeder.send(number % PARTITIONS, bytes(encode_batch([record])))
        self._feeder.receive()
        acknowledged = time.perf_counter_ns()
        while True:
            self.queries += 1
            if word.encode() in self._search.ask("POST", self._path, body):
                return (time.perf_counter_ns() - acknowledged) // 1000


def _window(node: SearchedNode, prober: Prober, seconds: float) -> dict[str, Any]:
    queries, latencies = prober.queries, []
    first, begun = machine.sample(node.pid), time.perf_counter()
    while time.perf_counter() - begun < seconds:
        latencies.append(prober.probe())
    window = saved(first, machine.sample(node.pid), time.perf_counter() - begun, latencies)
    window["queries"] = prober.queries - queries
    return window
