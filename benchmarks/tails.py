"""Live tails: thousands of clients, a thousand different queries, and a stream of messages of which some are waited for.

    python -m benchmarks.tails [--seconds 60] [--clients 5000] [--queries 1000] [--rate 20000] [--deliveries 10000]

One node in a process of its own with one search process, one topic of six partitions. The messages are those of the corpus
(`benchmarks.corpus`); as many of them as give `deliveries` a second have a word that one of the queries looks for, and say when
they were sent. The load is a librdkafka producer with acks=all, lz4 and 5 ms of linger. The clients are one process beside it
(`benchmarks.tail_clients`). Latency is from before the producer has the message until the client has the frame. The broker's
own latency and its reactor's lag are from its histograms, as is what it says of messages sent and dropped.
"""

from __future__ import annotations

import argparse
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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks import corpus
from benchmarks.compaction import scrape
from benchmarks.tail_clients import token
from tests.peers.chronik_node import ChronikNode

_DESCRIPTORS = 20_000
_WARM_SECONDS = 5.0


def load(bootstrap: str, options: argparse.Namespace, seconds: float) -> tuple[int, int]:
    """Produce for so long; how many messages were acknowledged, and how many deliveries they are worth."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "compression.type": "lz4",
            "linger.ms": 5,
            "queue.buffering.max.messages": 2_000_000,
        }
    )
    chance = random.Random(2)
    values = [message.value for message in corpus.messages(20_000)]
    clients_of = [len(range(number, options.clients, options.queries)) for number in range(options.queries)]
    share = options.deliveries / options.rate / (options.clients / options.queries)
    acknowledged = wanted = sent = 0

    def delivered(error: object, _: object) -> None:
        nonlocal acknowledged
        acknowledged += error is None

    began = time.monotonic()
    for value in itertools.cycle(values):
        passed = time.monotonic() - began
        if passed >= seconds:
            break
        if sent >= options.rate * passed:
            producer.poll(0.001)
            continue
        if chance.random() < share:
            number = chance.randrange(options.queries)
            wanted += clients_of[number]
            value = b"watch=%s sent=%d " % (token(number).encode(), time.monotonic_ns())
        producer.produce("t", value, on_delivery=delivered)
        sent += 1
        if not sent % 100:
            producer.poll(0)
    producer.flush(30)
    return acknowledged, wanted


def quantile(name: str, before: Mapping[str, float], after: Mapping[str, float], share: float) -> tuple[float, float]:
    """The bucket (lower, upper bound in ms) of a histogram in which that share between two scrapes ends."""
    buckets = sorted(
        (float(key.split('"')[1]), after[key] - before.get(key, 0.0))
        for key in after
        if key.startswith(f"{name}_bucket")
    )
    lower = 0.0
    for bound, count in buckets:
        if count >= share * buckets[-1][1]:
            return lower, bound * 1000
        lower = bound * 1000
    return lower, float("inf")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """One run, and its figures."""
    directory = Path(tempfile.mkdtemp(prefix="chronik-tails-"))
    node = ChronikNode(directory, {"tail_max_clients": str(options.clients + 10)})
    clients: subprocess.Popen[str] | None = None
    node.start()
    try:
        admin = AdminClient({"bootstrap.servers": node.bootstrap})
        admin.create_topics([NewTopic("t", 6, 1)])["t"].result(30)
        line = [sys.executable, "-m", "benchmarks.tail_clients"]
        line += [str(each) for each in (node.search_port, options.clients, options.queries)]
        began = time.monotonic()
        clients = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert clients.stdin is not None and clients.stdout is not None
        if '"ready"' not in clients.stdout.readline():
            raise SystemExit("the clients could not connect")
        connected = time.monotonic() - began
        memory = _resident(node.process.pid)
        _, warm = load(node.bootstrap, options, _WARM_SECONDS)
        before, before_cpu = scrape(node), cpu_seconds(node.process.pid)
        clients.stdin.write("begin\n")
        clients.stdin.flush()
        began = time.monotonic()
        acknowledged, wanted = load(node.bootstrap, options, options.seconds)
        took = time.monotonic() - began
        time.sleep(2)
        after, after_cpu = scrape(node), cpu_seconds(node.process.pid)
        clients.stdin.write("stop\n")
        clients.stdin.flush()
        report = json.loads(clients.stdout.readline())
    finally:
        if clients is not None and clients.poll() is None:
            clients.kill()
        node.stop()
        shutil.rmtree(directory, ignore_errors=True)
    counted = {name: after[f"chronik_tail_messages_{name}_total"] for name in ("sent", "dropped")}
    return {
        "clients": options.clients,
        "queries": options.queries,
        "connected_seconds": round(connected, 1),
        "node_megabytes": round(memory / 1e6),
        "messages_per_second": round(acknowledged / took),
        "deliveries_per_second": round(wanted / took),
        "wanted": warm + wanted,
        "delivered": report["delivered"],
        "dropped": report["dropped"],
        "node_says": counted,
        "latency_ms": {name: report[f"{name}_ms"] for name in ("p50", "p99", "max")},
        "produce_p99_ms": quantile("chronik_produce_latency_seconds", before, after, 0.99),
        "reactor_lag_p99_ms": quantile("chronik_reactor_lag_seconds", before, after, 0.99),
        "cpu_seconds": {name: round(after_cpu[name] - before_cpu[name], 2) for name in before_cpu},
        "client_cpu_seconds": report["cpu_seconds"],
        "closed": report["closed"],
    }


def cpu_seconds(pid: int) -> dict[str, float]:
    """The CPU time of the node, and of its processes that search."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {"node": _cpu(pid), "search": sum(_cpu(int(child)) for child in children)}


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tails")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=5000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--deliveries", type=int, default=10_000)
    options = parser.parse_args(arguments)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_DESCRIPTORS, hard), hard))
    print(json.dumps(measure(options), indent=2))


if __name__ == "__main__":
    main()
