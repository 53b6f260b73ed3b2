"""Requests a second: the raw generator, 20 connections with 5 requests under way each, one record a batch, idempotent.

Then batches of 1 MB through the same sockets, for the cost a GB of the broker alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import brokers, generators
from benchmarks.results import Results
from benchmarks.schedule import Schedule

PART = "requests"


@dataclass(frozen=True)
class Shape:
    """A way of loading: connections, requests under way on each, records a batch and their size."""

    connections: int
    inflight: int
    records: int
    size: int


SHAPES = {"one-record": Shape(20, 5, 1, 100), "one-megabyte": Shape(2, 2, 1000, 1000)}
PARTITIONS = 6


def run(results: Results, schedule: Schedule, place: str = "disk") -> None:
    """Run the cells that `results` lacks."""
    wanted = {name: shape for name, shape in SHAPES.items() if not results.has(PART, name)}
    if not wanted:
        return
    schedule.prepare(brokers.DIRECTORIES[place])
    with brokers.running(place) as both:
        count = 0
        for cell, shape in wanted.items():
            schedule.say(f"{PART} {cell}")

            def measure(name: str, seconds: float, shape: Shape = shape) -> list[generators.Window]:
                nonlocal count
                count += 1
                broker, topic = both[name], f"raw-{count}"
                broker.create(topic, PARTITIONS)
                try:
                    return generators.run(
                        broker.pid, "raw_load", "--port", broker.port, "--topic", topic, "--partitions", PARTITIONS,
                        "--connections", shape.connections, "--inflight", shape.inflight, "--records", shape.records,
                        "--size", shape.size, "--warmup", schedule.ramp, "--window", seconds, "--windows", 1,
                    )  # fmt: skip
                finally:
                    broker.delete(topic)
                    schedule.settle()

            windows = schedule.alternate(list(both), measure)
            results.put(PART, cell, {"shape": vars(shape), "place": place, "windows": windows})
