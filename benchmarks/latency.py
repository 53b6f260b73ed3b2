"""Produce latency at fixed rates, 100-byte messages over 6 partitions: from a message's place in the schedule to its ack.

A bar counts only over windows in which neighbours stole at most 1 % of the CPU; all windows are kept and shown.
"""

from __future__ import annotations

from benchmarks import brokers, generators
from benchmarks.results import Results
from benchmarks.schedule import Schedule

PART = "latency"
RATES = (10_000, 100_000)
LINGERS = (0, 5)
PARTITIONS = 6


def run(results: Results, schedule: Schedule, place: str = "disk") -> None:
    """Run the cells that `results` lacks: each rate with each linger."""
    wanted = [(rate, linger) for rate in RATES for linger in LINGERS if not results.has(PART, _name(rate, linger))]
    if not wanted:
        return
    schedule.prepare(brokers.DIRECTORIES[place])
    with brokers.running(place) as both:
        for broker in both.values():
            broker.create("latency", PARTITIONS)
        for rate, linger in wanted:
            schedule.say(f"{PART} {_name(rate, linger)}")

            def measure(name: str, seconds: float, rate: int = rate, linger: int = linger) -> list[generators.Window]:
                broker = both[name]
                return generators.run(
                    broker.pid, "librdkafka_load", "produce", "--bootstrap", broker.bootstrap, "--topic", "latency",
                    "--partitions", PARTITIONS, "--size", 100, "--linger", linger, "--rate", rate,
                    "--warmup", schedule.ramp, "--window", seconds, "--windows", 1,
                )  # fmt: skip

            windows = schedule.alternate(list(both), measure)
            results.put(PART, _name(rate, linger), {"rate": rate, "linger": linger, "place": place, "windows": windows})


def _name(rate: int, linger: int) -> str:
    return f"{rate}-linger{linger}"
