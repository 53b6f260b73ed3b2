"""What the node counts and measures while it works: plain attributes that the hot paths add to.

The reactor thread alone writes, so an increment is `topic.messages_stored += n` on a slotted object that was handed out
when the partition was opened: no lock, no look-up by label. `chronik.telemetry.exposition` makes Prometheus' text of it.
Times are in seconds, sizes in bytes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from chronik.telemetry.requests import RequestMetrics

LATENCY_BOUNDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
"""Upper bounds of the latency buckets, in seconds; a long poll's fetch waits for up to its max_wait_ms."""

LAG_BOUNDS = tuple(sorted((*LATENCY_BOUNDS, 0.02)))
"""Of the reactor's lag, with a bound at the 20 ms that must hold for 999 of 1,000 probes."""


class Histogram:
    """How often values fell into each bucket, and their sum. Bucket i holds values <= bounds[i]; the last one the rest."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = LATENCY_BOUNDS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self.counts)

    def cumulative(self) -> list[tuple[str, float]]:
        """(upper bound as text, values up to it) for every bucket, as Prometheus wants them; the last is "+Inf"."""
        running = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            running += count
            buckets.append((bound, running))
        return buckets


class TopicMetrics:
    """The counters of one topic. Received: what producers sent. Stored: what was appended, without duplicates and refusals."""

    __slots__ = ("bytes_fetched", "bytes_received", "bytes_stored", "messages_received", "messages_stored", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.messages_received = 0
        self.messages_stored = 0
        self.bytes_received = 0
        self.bytes_stored = 0
        self.bytes_fetched = 0


class WorkerMetrics:
    """Worker processes: how many were started, have died of themselves or had to be killed, and the jobs that they ended."""

    __slots__ = ("deaths", "jobs", "started")

    def __init__(self) -> None:
        self.started = self.deaths = self.jobs = 0


class CleanerMetrics:
    """Compaction. Bytes and records count what was rewritten; `dirtiest_ratio` is that of the last look."""

    __slots__ = (
        "bytes_after",
        "bytes_before",
        "bytes_read",
        "dirtiest_ratio",
        "failures",
        "records_after",
        "records_before",
        "runs",
        "uncleanable",
    )

    def __init__(self) -> None:
        self.runs = self.failures = self.uncleanable = 0
        self.bytes_read = self.bytes_before = self.bytes_after = 0
        self.records_before = self.records_after = 0
        self.dirtiest_ratio = 0.0


class SplitMetrics:
    """Splits of inverted indexes: how many were made, of so many records and bytes, in so many seconds; builds that failed."""

    __slots__ = ("building", "builds", "bytes", "failures", "records", "seconds")

    def __init__(self) -> None:
        self.builds = self.failures = self.records = self.bytes = self.building = 0
        self.seconds = 0.0


class TailCounts(NamedTuple):
    """Live tails: clients and different tails now; messages that were sent and dropped so far."""

    clients: int = 0
    queries: int = 0
    sent: int = 0
    dropped: int = 0


class QueryMetrics(NamedTuple):
    """A continuous query: what it has counted by name, and how it is. `watermark_ms` and `lag` are None where unknown."""

    name: str
    running: bool
    counts: Mapping[str, int]
    states: int
    lag: int | None
    watermark_ms: int | None


class NodeMetrics:
    """All that one node counts. `clock` is monotonic, in seconds.

    `storage_usage` is asked at scrape time for (topic, bytes on disk) pairs, `tails` for what live tails do, `queries` for the
    continuous queries that run here; they are set when there is something to ask.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.requests = RequestMetrics(clock)
        self.produce_latency = Histogram()
        self.fetch_latency = Histogram()
        self.reactor_lag = Histogram(LAG_BOUNDS)
        self.workers = WorkerMetrics()
        self.cleaner = CleanerMetrics()
        self.splits = SplitMetrics()
        self.storage_usage: Callable[[], Sequence[tuple[str, int]]] = tuple
        self.tails: Callable[[], TailCounts] = TailCounts
        self.queries: Callable[[], Sequence[QueryMetrics]] = tuple
        self._topics: dict[str, TopicMetrics] = {}

    def topic(self, name: str) -> TopicMetrics:
        """The counters of topic `name`, the same object each time. Ask once, when a partition is opened, and keep it."""
        found = self._topics.get(name)
        if found is None:
            found = self._topics[name] = TopicMetrics(name)
        return found

    def forget_topic(self, name: str) -> None:
        """Drop the counters of a deleted topic; the name begins anew at 0."""
        self._topics.pop(name, None)

    def topics(self) -> list[TopicMetrics]:
        """The counters of all topics, by name."""
        return [self._topics[name] for name in sorted(self._topics)]
