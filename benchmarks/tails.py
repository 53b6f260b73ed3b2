"""Live tails: thousands of clients, a thousand different queries, and a stream of messages of which some are waited for.

One node with one search process, one topic of six partitions that is tailed. The messages are those of the corpus
(`benchmarks.corpus`); as many of them as give so many deliveries a second have a word that one of the queries looks for, and
say when they were due. The load is a librdkafka producer with acks=all, lz4 and 5 ms of linger; the clients are one process
beside it (`benchmarks.tail_clients`). Latency is from a message's place in the schedule until the client has the frame. What
the broker itself is like meanwhile, a probe says: `generators/librdkafka_load.c` at 500 messages a second, without linger,
acks=all, to a topic of its own.

All clients are connected once; then come windows, each followed by a pause in which all must arrive. A delivery belongs to
the window in which its message was due.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from benchmarks import corpus, generators, machine
from benchmarks.brokers import Running
from benchmarks.compaction import scrape
from benchmarks.generators import Window
from benchmarks.results import Results
from benchmarks.schedule import Schedule
from benchmarks.tail_clients import token
from tests.peers.chronik_node import ChronikNode

PART = "tails"
PARTITIONS = 6
TOPIC, PROBE = "t", "probe"
_PROBE_RATE = 500
_ARRIVAL_SECONDS = 2.0
_TICK_SECONDS = 0.002
_ENDS_SECONDS = 30.0


@dataclass(frozen=True)
class Scale:
    """How many clients and queries; messages and deliveries a second."""

    clients: int = 5000
    queries: int = 1000
    rate: int = 20_000
    deliveries: int = 10_000

    def clients_of(self, query: int) -> int:
        """How many clients have that query."""
        return len(range(query, self.clients, self.queries))

    @property
    def share(self) -> float:
        """Of the messages, those that somebody waits for."""
        return self.deliveries / self.rate / (self.clients / self.queries)


def run(results: Results, schedule: Schedule) -> None:
    """Measure, if `results` lacks it."""
    if results.has(PART, "live"):
        return
    scale = Scale(schedule.tails, max(schedule.tails // 5, 1), schedule.tailed_rate, schedule.tailed_rate // 2)
    schedule.say(f"tails of {scale.clients:,} clients")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4 * scale.clients + 1000, hard), hard))
    directory = Path(tempfile.mkdtemp(prefix="chronik-tails-"))
    try:
        with ChronikNode(directory, {"tail_max_clients": str(scale.clients + 10), "search_workers": "1"}) as node:
            results.put(PART, "live", measure(node, scale, schedule))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def measure(node: ChronikNode, scale: Scale, schedule: Schedule) -> dict[str, Any]:
    """All windows, and what they were measured with."""
    broker = Running(node)
    broker.create(TOPIC, PARTITIONS)
    broker.create(PROBE, PARTITIONS)
    with _Clients(node.search_port, scale) as clients, ThreadPoolExecutor(1) as threads:
        resident = machine.resident_kilobytes(node.process.pid)
        load = Load(node.bootstrap, scale)
        windows = []
        for number in range(-1, schedule.pairs):  # the first one warms up
            seconds = schedule.warmup if number < 0 else schedule.window
            clients.begin_window()
            before = _cpu_seconds(node.process.pid)
            probe = threads.submit(_probe, broker, schedule, seconds)
            asked = load.run(probe)
            time.sleep(_ARRIVAL_SECONDS)
            after = _cpu_seconds(node.process.pid)
            window = {"asked": asked, **probe.result().saved()}
            window["cpu"] = {name: after[name] - before[name] for name in before}
            windows.append(window)
            schedule.say(f"  {asked['wanted']:,} deliveries wanted in {asked['seconds']:.1f} s")
        counted = scrape(node)
        report = clients.end()
    for window, heard in zip(windows, report.pop("windows"), strict=True):
        window["heard"] = heard
    return {
        "clients": scale.clients,
        "queries": scale.queries,
        "rate": scale.rate,
        "deliveries": scale.deliveries,
        "connected_seconds": clients.connected_seconds,
        "resident_kilobytes": resident,
        "node_counted": {name: counted[f"chronik_tail_messages_{name}_total"] for name in ("sent", "dropped")},
        "clients_end": report,
        "warmup": windows[0],
        "windows": windows[1:],
    }


def _probe(broker: Running, schedule: Schedule, seconds: float) -> Window:
    (window,) = generators.run(
        broker.pid, "librdkafka_load", "produce", "--bootstrap", broker.bootstrap, "--topic", PROBE,
        "--partitions", PARTITIONS, "--size", 100, "--acks", "all", "--linger", 0, "--rate", _PROBE_RATE,
        "--warmup", schedule.ramp, "--window", seconds, "--windows", 1,
    )  # fmt: skip
    return window


class Load:
    """The producer."""

    def __init__(self, bootstrap: str, scale: Scale) -> None:
        self._scale = scale
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "acks": "all",
                "compression.type": "lz4",
                "linger.ms": 5,
                "queue.buffering.max.messages": 2_000_000,
            }
        )
        self._chance = random.Random(2)
        self._values: Iterator[bytes] = itertools.cycle([message.value for message in corpus.messages(20_000)])
        self._failed = 0

    def run(self, until: Future[Window]) -> dict[str, Any]:
        """Produce until that is done: the messages, the deliveries that they are worth, and how long it took."""
        sent = wanted = 0
        began = time.monotonic_ns()
        while not until.done():
            due = int((time.monotonic_ns() - began) * self._scale.rate / 1e9)
            for number in range(sent, min(due, sent + 1000)):
                wanted += self._produce(began + int(number * 1e9 / self._scale.rate))
            self._producer.poll(0 if due - sent > 1000 else _TICK_SECONDS)
            sent = max(sent, min(due, sent + 1000))
        took = (time.monotonic_ns() - began) / 1e9
        left = self._producer.flush(_ENDS_SECONDS)
        if left or self._failed:
            raise SystemExit(f"{left + self._failed} message(s) were not acknowledged")
        return {"messages": sent, "wanted": wanted, "seconds": took}

    def _produce(self, due: int) -> int:
        """One message, which is due at that time; how many clients wait for it."""
        value, clients = next(self._values), 0
        if self._chance.random() < self._scale.share:
            number = self._chance.randrange(self._scale.queries)
            clients = self._scale.clients_of(number)
            value = b"watch=%s sent=%d " % (token(number).encode(), due)
        self._producer.produce(TOPIC, value, on_delivery=self._delivered)
        return clients

    def _delivered(self, error: object, _: object) -> None:
        self._failed += error is not None


class _Clients:
    """The process of the clients. Entered once all are connected."""

    def __init__(self, port: int, scale: Scale) -> None:
        self._line = [sys.executable, "-m", "benchmarks.tail_clients"]
        self._line += [str(each) for each in (port, scale.clients, scale.queries)]
        self.connected_seconds = 0.0

    def __enter__(self) -> _Clients:
        began = time.monotonic()
        self._process = subprocess.Popen(self._line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self._hear().get("event") != "ready":
            raise SystemExit("the clients could not connect")
        self.connected_seconds = time.monotonic() - began
        return self

    def begin_window(self) -> None:
        """What is due from now on belongs to another window."""
        self._say(f"window {time.monotonic_ns()}")

    def end(self) -> dict[str, Any]:
        """What they have heard, by window."""
        self._say("stop")
        return self._hear()

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def _say(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the process of the clients is gone")
        told: dict[str, Any] = json.loads(line)
        return told


def _cpu_seconds(pid: int) -> dict[str, float]:
    """The CPU time of the node, and of its processes that search."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {"node": _cpu(pid), "search": sum(_cpu(int(child)) for child in children)}


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
