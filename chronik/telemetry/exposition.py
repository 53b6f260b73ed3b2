"""Prometheus' text form of `NodeMetrics`, made piece by piece, so that a scrape of a thousand topics never holds the reactor.

Families are put together when they are scraped; between scrapes nothing of Prometheus runs. `render` is an iterator:
each piece has at most `PIECE` samples, and the caller gives way to the reactor between two of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from chronik.telemetry.metrics import Histogram, NodeMetrics, QueryMetrics
from chronik.wire.apis import ApiKey

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
PIECE = 100

_TOPIC_COUNTERS = {
    "chronik_messages_received": ("messages_received", "Messages that producers sent."),
    "chronik_messages_stored": ("messages_stored", "Messages that were appended to the log."),
    "chronik_bytes_received": ("bytes_received", "Bytes of record batches that producers sent."),
    "chronik_bytes_stored": ("bytes_stored", "Bytes of record batches that were appended to the log."),
    "chronik_bytes_fetched": ("bytes_fetched", "Bytes of record batches that consumers were sent."),
}

_PROCESS = ProcessCollector(registry=None)


def render(metrics: NodeMetrics) -> Iterator[bytes]:
    """The text, in pieces of at most `PIECE` samples each."""
    for family in _node_families(metrics):
        yield _text([family])
    topics = metrics.topics()
    for name, (attribute, doc) in _TOPIC_COUNTERS.items():
        value = attrgetter(attribute)
        yield from _by_topic(CounterMetricFamily, name, doc, [(topic.name, value(topic)) for topic in topics])
    yield from _by_topic(
        GaugeMetricFamily, "chronik_storage_usage_bytes", "Bytes that the log holds on disk.", metrics.storage_usage()
    )
    yield from map(_text, ([family] for family in _query_families(metrics.queries())))
    yield _text(_PROCESS.collect())


class _Families:
    """What `generate_latest` asks of a registry."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _text(families: Iterable[Metric]) -> bytes:
    return generate_latest(_Families(families))


def _by_topic(
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily], name: str, doc: str, values: Sequence[tuple[str, int]]
) -> Iterator[bytes]:
    """One family over all topics. Only the first piece has its heading: a family may stand in the text only once."""
    for start in range(0, max(len(values), 1), PIECE):
        family = kind(name, doc, labels=["topic"])
        for topic, value in values[start : start + PIECE]:
            family.add_metric([topic], value)
        text = _text([family])
        yield text if start == 0 else b"".join(line for line in text.splitlines(True) if not line.startswith(b"#"))


def _query_families(queries: Sequence[QueryMetrics]) -> Iterator[Metric]:
    """Continuous queries, of which there are at most a hundred."""
    for what in sorted({what for query in queries for what in query.counts}):
        doc = f"Of a continuous query: {what}, of the records that it has read."
        counter = CounterMetricFamily(f"chronik_query_{what}", doc, labels=["query"])
        for query in queries:
            counter.add_metric([query.name], query.counts.get(what, 0))
        yield counter
    for name, doc, values in (
        ("running", "Whether it runs.", [(query.name, int(query.running)) for query in queries]),
        ("lag", "Offsets that it has not read yet.", [(query.name, query.lag) for query in queries]),
        ("states", "Keys in its open windows.", [(query.name, query.states) for query in queries]),
        (
            "watermark_seconds",
            "How far event time has come.",
            [(query.name, None if query.watermark_ms is None else query.watermark_ms / 1000) for query in queries],
        ),
    ):
        family = GaugeMetricFamily(f"chronik_query_{name}", f"Of a continuous query: {doc}", labels=["query"])
        for query_name, value in values:
            if value is not None:
                family.add_metric([query_name], value)
        yield family


def _node_families(metrics: NodeMetrics) -> Iterator[Metric]:
    requests = metrics.requests
    answered = CounterMetricFamily("chronik_requests", "Requests answered, by API.", labels=["api"])
    seconds = CounterMetricFamily("chronik_request_seconds", "Time from arrival to answer, by API.", labels=["api"])
    for api in ApiKey:
        if requests.answers[api]:
            answered.add_metric([api.name], requests.answers[api])
            seconds.add_metric([api.name], requests.seconds[api])
    yield answered
    yield seconds
    refused = CounterMetricFamily(
        "chronik_requests_refused", "Requests refused as a whole, by API and error.", labels=["api", "error"]
    )
    for (api, code), count in sorted(requests.refusals.items()):
        refused.add_metric([api.name, code.name], count)
    yield refused
    yield GaugeMetricFamily("chronik_connections", "Kafka connections open now.", value=requests.connections)
    yield CounterMetricFamily(
        "chronik_connections_refused", "Connections closed at once, above a limit.", value=requests.connections_refused
    )
    yield CounterMetricFamily(
        "chronik_connections_malformed",
        "Connections closed because their bytes did not parse.",
        value=requests.malformed,
    )
    yield CounterMetricFamily(
        "chronik_request_defects",
        "Requests answered with UNKNOWN_SERVER_ERROR; the log says why.",
        value=requests.defects,
    )
    yield _histogram(
        "chronik_produce_latency_seconds", "From the arrival of a Produce to its answer.", metrics.produce_latency
    )
    yield _histogram(
        "chronik_fetch_latency_seconds",
        "From the arrival of a Fetch to its answer, with the time that it waited for data.",
        metrics.fetch_latency,
    )
    yield _histogram(
        "chronik_reactor_lag_seconds",
        "How late the reactor comes to what was due: the time others held it.",
        metrics.reactor_lag,
    )
    yield from _background_families(metrics)


def _background_families(metrics: NodeMetrics) -> Iterator[Metric]:
    """Compaction, splits, live tails, and the worker processes of these."""
    cleaner, workers, splits, tails = metrics.cleaner, metrics.workers, metrics.splits, metrics.tails()
    for name, doc, value in (
        ("chronik_cleaner_runs", "Logs that were compacted.", cleaner.runs),
        ("chronik_cleaner_failures", "Compactions that failed; the log says why.", cleaner.failures),
        ("chronik_cleaner_bytes_read", "Bytes that compaction read, every pass counted.", cleaner.bytes_read),
        ("chronik_cleaner_bytes_in", "Bytes of the segments that were compacted.", cleaner.bytes_before),
        ("chronik_cleaner_bytes_out", "Bytes of the segments that came of them.", cleaner.bytes_after),
        ("chronik_cleaner_records_in", "Records in the segments that were compacted.", cleaner.records_before),
        ("chronik_cleaner_records_out", "Records that stayed.", cleaner.records_after),
        ("chronik_search_split_builds", "Splits of inverted indexes that were made.", splits.builds),
        ("chronik_search_split_failures", "Splits that could not be made; the log says why.", splits.failures),
        ("chronik_search_split_records", "Records in the splits that were made.", splits.records),
        ("chronik_search_split_bytes", "Bytes of the splits that were made.", splits.bytes),
        ("chronik_search_split_seconds", "Seconds in which they were made.", splits.seconds),
        ("chronik_worker_starts", "Worker processes that were started.", workers.started),
        ("chronik_worker_deaths", "Worker processes that died, or were killed since they hung.", workers.deaths),
        ("chronik_worker_jobs", "Jobs that worker processes ended.", workers.jobs),
        ("chronik_tail_messages_sent", "Messages that live tails were sent.", tails.sent),
        ("chronik_tail_messages_dropped", "Messages that clients of live tails were too slow for.", tails.dropped),
    ):
        yield CounterMetricFamily(name, doc, value=value)
    yield GaugeMetricFamily("chronik_tail_clients", "Live tails open now.", value=tails.clients)
    yield GaugeMetricFamily("chronik_tail_queries", "Different live tails open now.", value=tails.queries)
    yield GaugeMetricFamily(
        "chronik_search_splits_building", "Splits that are being made right now.", value=splits.building
    )
    yield GaugeMetricFamily(
        "chronik_cleaner_dirtiest_ratio",
        "The dirty share of the dirtiest log, at the last look.",
        value=cleaner.dirtiest_ratio,
    )
    yield GaugeMetricFamily(
        "chronik_cleaner_uncleanable_partitions",
        "Partitions that are not compacted any more, since they are damaged.",
        value=cleaner.uncleanable,
    )


def _histogram(name: str, doc: str, histogram: Histogram) -> HistogramMetricFamily:
    return HistogramMetricFamily(name, doc, buckets=histogram.cumulative(), sum_value=histogram.sum)
