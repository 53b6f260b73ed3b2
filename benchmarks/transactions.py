"""Transactions: producers that commit every so many messages, on librdkafka, both brokers in turn."""

from __future__ import annotations

from benchmarks import brokers, generators
from benchmarks.results import Results
from benchmarks.schedule import Schedule

PART = "transactions"
PRODUCERS = (1, 4)
RECORDS = 100
SIZE = 100
PARTITIONS = 6


def run(results: Results, schedule: Schedule, place: str = "disk") -> None:
    """Run the cells that `results` lacks: one producer alone, and several side by side."""
    wanted = [count for count in PRODUCERS if not results.has(PART, _name(count))]
    if not wanted:
        return
    schedule.prepare(brokers.DIRECTORIES[place])
    with brokers.running(place) as both:
        for broker in both.values():
            broker.create("transactions", PARTITIONS)
        for count in wanted:
            schedule.say(f"{PART} {_name(count)}")

            def measure(name: str, seconds: float, count: int = count) -> list[generators.Window]:
                broker = both[name]
                return generators.run(
                    broker.pid, "librdkafka_load", "transact", "--bootstrap", broker.bootstrap, "--topic", "transactions",
                    "--partitions", PARTITIONS, "--size", SIZE, "--records", RECORDS, "--producers", count,
                    "--warmup", schedule.ramp, "--window", seconds, "--windows", 1,
                )  # fmt: skip

            windows = schedule.alternate(list(both), measure)
            results.put(
                PART, _name(count), {"producers": count, "records": RECORDS, "place": place, "windows": windows}
            )


def _name(producers: int) -> str:
    return f"{producers}-producer{'' if producers == 1 else 's'}"
