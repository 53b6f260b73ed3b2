"""Compaction beside a load: how long the reactor is held, and what is cleaned, while 50,000 messages a second come in.

    python -m benchmarks.compaction [--seconds 60] [--rate 50000]

One node in a process of its own, one topic of six partitions, `cleanup.policy=compact`, segments of 8 MiB, cleaned from one
percent dirty on, so that a worker cleans all the time. The load is a librdkafka producer with acks=all and lz4, messages of
100 B over 200,000 keys. The reactor's lag is the node's own histogram, probed ten times a second, before and after; so is
what the cleaner has done. The same load without compaction comes first.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.peers.chronik_node import ChronikNode

KEYS = 200_000
VALUE_BYTES = 100
_LAG = "chronik_reactor_lag_seconds_bucket"


def load(bootstrap: str, topic: str, rate: int, seconds: float) -> int:
    """Produce at `rate` for so long; the messages that were acknowledged."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "compression.type": "lz4",
            "linger.ms": 5,
            "queue.buffering.max.messages": 2_000_000,
        }
    )
    chance = random.Random(1)
    values = [chance.randbytes(VALUE_BYTES) for _ in range(100)]
    acknowledged = sent = 0

    def delivered(error: object, _: object) -> None:
        nonlocal acknowledged
        acknowledged += error is None

    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        due = int(rate * passed) - sent
        for _ in range(min(due, 2000)):
            key = b"%d" % chance.randrange(KEYS)
            producer.produce(topic, values[sent % 100], key, on_delivery=delivered)
            sent += 1
        producer.poll(0 if due > 2000 else 0.002)
    producer.flush(30)
    return acknowledged


def scrape(node: ChronikNode) -> dict[str, float]:
    """The node's metrics by name, labels with it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{node.admin_port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line and line[0] != "#"}


def quantile(before: Mapping[str, float], after: Mapping[str, float], share: float) -> tuple[float, float]:
    """The bucket (lower, upper bound in seconds) in which that share of the probes between two scrapes ends."""
    buckets = sorted(
        (float(name.split('"')[1]), after[name] - before.get(name, 0.0)) for name in after if name.startswith(_LAG)
    )
    total, lower = buckets[-1][1], 0.0
    for bound, count in buckets:
        if count >= share * total:
            return lower, bound
        lower = bound
    return lower, float("inf")


def measure(enable: bool, rate: int, seconds: float) -> None:
    """One run, and its lines."""
    directory = Path(tempfile.mkdtemp(prefix="chronik-compaction-"))
    settings = {
        "log.cleaner.enable": "true" if enable else "false",
        "log.cleaner.backoff.ms": "1000",
        "log.cleaner.min.cleanable.ratio": "0.01",
    }
    node = ChronikNode(directory, settings)
    node.start()
    try:
        admin = AdminClient({"bootstrap.servers": node.bootstrap})
        configs = {"cleanup.policy": "compact", "segment.bytes": str(8 << 20), "file.delete.delay.ms": "1000"}
        admin.create_topics([NewTopic("t", 6, 1, config=configs)])["t"].result(30)
        load(node.bootstrap, "t", rate, 5.0)
        before = scrape(node)
        acknowledged = load(node.bootstrap, "t", rate, seconds)
        after = scrape(node)
    finally:
        node.stop()
        shutil.rmtree(directory, ignore_errors=True)
    lags = ", ".join(
        f"p{share * 100:g} {lower * 1000:g} to {upper * 1000:g} ms"
        for share in (0.5, 0.99, 0.999, 1.0)
        for lower, upper in [quantile(before, after, share)]
    )
    probes = after["chronik_reactor_lag_seconds_count"] - before["chronik_reactor_lag_seconds_count"]
    state = "on" if enable else "off"
    print(f"compaction {state}: {acknowledged / seconds:,.0f} msg/s; reactor lag, {probes:.0f} probes: {lags}")
    if enable:
        runs, records, left, read = (
            after[name] - before.get(name, 0.0)
            for name in (
                "chronik_cleaner_runs_total",
                "chronik_cleaner_records_in_total",
                "chronik_cleaner_records_out_total",
                "chronik_cleaner_bytes_read_total",
            )
        )
        print(f"  {runs:.0f} logs compacted, {records:,.0f} records became {left:,.0f}, {read / 1e6:,.0f} MB read")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure without compaction, then with it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compaction")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=int, default=50_000)
    options = parser.parse_args(arguments)
    for enable in (False, True):
        measure(enable, options.rate, options.seconds)


if __name__ == "__main__":
    main()
