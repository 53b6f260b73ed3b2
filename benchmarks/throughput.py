"""Messages a second, produced and consumed, in cells: message size, partitions, codec, directory, acks, flushing.

Both brokers run at the same time and take turns under load: A B A B. Each is warmed up first; a window has a fresh topic
and a fresh generator, whose own start-up is not measured. For consuming, each broker gets one topic that is filled before
and read over and over from the page cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

from benchmarks import brokers, generators
from benchmarks.results import Results
from benchmarks.schedule import Schedule

PART = "throughput"


@dataclass(frozen=True)
class Cell:
    """One combination of conditions."""

    mode: str
    size: int
    partitions: int
    codec: str
    place: str
    acks: str = "1"
    flushing: str = "default"

    @property
    def name(self) -> str:
        """Its name in files and tables."""
        return f"{self.mode}-{self.size}B-{self.partitions}p-{self.codec}-{self.place}-acks{self.acks}-{self.flushing}"


_SIZES, _PARTITIONS, _CODECS = (100, 1000), (1, 6, 24), ("none", "lz4")


def _half(place: str) -> list[Cell]:
    """Half of all combinations on one kind of directory, each pair of values of two conditions in equal numbers.

    The two kinds take opposite halves, so together every combination of size, partitions and codec is measured.
    """
    cells = []
    for (i, size), (j, partitions), (k, codec), (m, mode) in product(
        enumerate(_SIZES), enumerate(_PARTITIONS), enumerate(_CODECS), enumerate(("produce", "consume"))
    ):
        if (i + j + k + m) % 2 == (place == "disk"):
            cells.append(Cell(mode, size, partitions, codec, place))
    return cells


def cells(every: bool) -> list[Cell]:
    """The cells to run, the most telling ones first; with `every`, all combinations on both kinds of directory."""
    special = [
        Cell("produce", 100, 6, "none", "disk"),
        Cell("produce", 100, 6, "none", "disk", acks="all"),
        Cell("produce", 100, 6, "none", "disk", flushing="equal"),
    ]
    if every:
        grid = [
            Cell(mode, size, partitions, codec, place)
            for place, size, partitions, codec, mode in product(
                ("disk", "tmpfs"), _SIZES, _PARTITIONS, _CODECS, ("produce", "consume")
            )
        ]
    else:
        grid = [*_half("disk"), *_half("tmpfs")]
    return list(dict.fromkeys([*special, *grid]))


def run(results: Results, schedule: Schedule, chosen: list[Cell]) -> None:
    """Run the cells that `results` lacks, brokers shared by all cells of one directory kind and flushing."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in chosen:
        if not results.has(PART, cell.name):
            groups.setdefault((cell.place, cell.flushing), []).append(cell)
    for (place, flushing), members in groups.items():
        settings = brokers.EQUAL_FLUSHING if flushing == "equal" else brokers.DEFAULT_FLUSHING
        schedule.prepare(brokers.DIRECTORIES[place])
        with brokers.running(place, settings) as both:
            for cell in members:
                schedule.say(f"{PART} {cell.name}")
                windows = _produce(both, cell, schedule) if cell.mode == "produce" else _consume(both, cell, schedule)
                results.put(PART, cell.name, {"cell": vars(cell), "windows": windows})


def _produce(both: dict[str, brokers.Running], cell: Cell, schedule: Schedule) -> dict[str, Any]:
    count = 0

    def measure(name: str, seconds: float) -> list[generators.Window]:
        nonlocal count
        count += 1
        topic = f"load-{cell.size}-{cell.codec}-{cell.partitions}-{cell.acks}-{count}"
        broker = both[name]
        broker.create(topic, cell.partitions)
        try:
            return generators.run(
                broker.pid, "librdkafka_load", "produce", "--bootstrap", broker.bootstrap, "--topic", topic,
                "--partitions", cell.partitions, "--size", cell.size, "--codec", cell.codec, "--acks", cell.acks,
                "--linger", 5, "--warmup", schedule.ramp, "--window", seconds, "--windows", 1,
            )  # fmt: skip
        finally:
            broker.delete(topic)
            schedule.settle()

    return schedule.alternate(list(both), measure)


def _consume(both: dict[str, brokers.Running], cell: Cell, schedule: Schedule) -> dict[str, Any]:
    topic = f"read-{cell.size}-{cell.codec}-{cell.partitions}"
    for broker in both.values():
        broker.create(topic, cell.partitions)
        generators.run(
            broker.pid, "librdkafka_load", "produce", "--bootstrap", broker.bootstrap, "--topic", topic,
            "--partitions", cell.partitions, "--size", cell.size, "--codec", cell.codec, "--acks", "all",
            "--linger", 5, "--count", int(schedule.stored_bytes / cell.size),
        )  # fmt: skip

    def measure(name: str, seconds: float) -> list[generators.Window]:
        broker = both[name]
        return generators.run(
            broker.pid, "librdkafka_load", "consume", "--bootstrap", broker.bootstrap, "--topic", topic,
            "--partitions", cell.partitions, "--warmup", schedule.ramp, "--window", seconds, "--windows", 1,
        )  # fmt: skip

    try:
        return schedule.alternate(list(both), measure)
    finally:
        for broker in both.values():
            broker.delete(topic)
        schedule.settle()
