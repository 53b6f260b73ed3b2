"""Counters, histograms, their text, and what they cost."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chronik.errors import ErrorCode
from chronik.telemetry.exposition import PIECE, render
from chronik.telemetry.lag import INTERVAL, ReactorLagProbe
from chronik.telemetry.metrics import LATENCY_BOUNDS, Histogram, NodeMetrics, QueryMetrics, TailCounts
from chronik.wire.apis import ApiKey


def samples(metrics: NodeMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of the rendered text, read back by Prometheus' own parser."""
    text = b"".join(render(metrics)).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Histograms(SynchronousTestCase):
    @given(st.lists(st.floats(min_value=0, max_value=100)))
    def test_buckets_are_cumulative_and_complete(self, values: list[float]) -> None:
        histogram = Histogram()
        for value in values:
            histogram.observe(value)
        buckets = histogram.cumulative()
        self.assertEqual(buckets[-1], ("+Inf", len(values)))
        for bound, (_, count) in zip(LATENCY_BOUNDS, buckets, strict=False):
            self.assertEqual(count, sum(value <= bound for value in values))
        self.assertAlmostEqual(histogram.sum, sum(values))
        self.assertEqual(histogram.count, len(values))


class Exposition(SynchronousTestCase):
    def test_what_was_counted_is_what_is_scraped(self) -> None:
        metrics = NodeMetrics(lambda: 10.5)
        topic = metrics.topic("events")
        topic.messages_received += 3
        topic.messages_stored += 2
        topic.bytes_received += 300
        topic.bytes_stored += 200
        topic.bytes_fetched += 100
        metrics.storage_usage = lambda: [("events", 4096)]
        metrics.queries = lambda: [
            QueryMetrics("counts", True, {"records": 7, "late": 2}, 3, 5, 1500),
            QueryMetrics("new", False, {}, 0, None, None),
        ]
        metrics.produce_latency.observe(0.002)
        metrics.requests.answered(ApiKey.PRODUCE, 10.0)
        metrics.requests.refused(ApiKey.PRODUCE, ErrorCode.UNSUPPORTED_VERSION)
        metrics.requests.connections += 1
        metrics.tails = lambda: TailCounts(3, 2, 70, 5)
        found = samples(metrics)
        on_events = (("topic", "events"),)
        for name, expected in [
            ("chronik_messages_received_total", 3),
            ("chronik_messages_stored_total", 2),
            ("chronik_bytes_received_total", 300),
            ("chronik_bytes_stored_total", 200),
            ("chronik_bytes_fetched_total", 100),
            ("chronik_storage_usage_bytes", 4096),
        ]:
            self.assertEqual(found[name, on_events], expected, name)
        on_counts, on_new = (("query", "counts"),), (("query", "new"),)
        for name, expected in [("records_total", 7), ("late_total", 2), ("running", 1), ("lag", 5), ("states", 3)]:
            self.assertEqual(found[f"chronik_query_{name}", on_counts], expected, name)
        self.assertEqual(found["chronik_query_watermark_seconds", on_counts], 1.5)
        self.assertEqual(found["chronik_query_running", on_new], 0)
        self.assertNotIn(("chronik_query_lag", on_new), found)
        self.assertEqual(found["chronik_requests_total", (("api", "PRODUCE"),)], 1)
        self.assertEqual(found["chronik_request_seconds_total", (("api", "PRODUCE"),)], 0.5)
        refusal = (("api", "PRODUCE"), ("error", "UNSUPPORTED_VERSION"))
        self.assertEqual(found["chronik_requests_refused_total", refusal], 1)
        self.assertEqual(found["chronik_connections", ()], 1)
        self.assertEqual(found["chronik_produce_latency_seconds_count", ()], 1)
        self.assertEqual(found["chronik_produce_latency_seconds_bucket", (("le", "0.001"),)], 0)
        self.assertEqual(found["chronik_produce_latency_seconds_bucket", (("le", "0.0025"),)], 1)
        self.assertIn(("process_resident_memory_bytes", ()), found)
        tails = [
            found[f"chronik_tail_{name}", ()]
            for name in ("clients", "queries", "messages_sent_total", "messages_dropped_total")
        ]
        self.assertEqual(tails, [3, 2, 70, 5])

    def test_many_topics_come_in_small_pieces_under_one_heading(self) -> None:
        metrics = NodeMetrics(lambda: 0.0)
        for number in range(3 * PIECE + 1):
            metrics.topic(f"t{number}").messages_stored = number
        pieces = list(render(metrics))
        self.assertEqual(b"".join(pieces).count(b"# TYPE chronik_messages_stored_total "), 1)
        for piece in pieces:
            self.assertLessEqual(sum(not line.startswith(b"#") for line in piece.splitlines()), PIECE)
        found = samples(metrics)
        for number in range(3 * PIECE + 1):
            self.assertEqual(found["chronik_messages_stored_total", (("topic", f"t{number}"),)], number)

    def test_a_topic_is_one_object_until_it_is_forgotten(self) -> None:
        metrics = NodeMetrics(lambda: 0.0)
        first = metrics.topic("a")
        self.assertIs(metrics.topic("a"), first)
        metrics.forget_topic("a")
        self.assertIsNot(metrics.topic("a"), first)


class ReactorLag(SynchronousTestCase):
    def test_lateness_is_observed(self) -> None:
        clock, histogram = Clock(), Histogram()
        probe = ReactorLagProbe(clock, histogram)
        probe.startService()
        clock.advance(INTERVAL)
        self.assertEqual((histogram.count, round(histogram.sum, 9)), (1, 0.0))
        clock.advance(INTERVAL + 0.25)
        self.assertEqual((histogram.count, round(histogram.sum, 9)), (2, 0.25))
        probe.stopService()
        self.assertEqual(clock.getDelayedCalls(), [])


class Cost(SynchronousTestCase):
    """Upper limits with room for a busy machine: the best of many short runs is compared."""

    def best(self, action: object, rounds: int = 1000) -> float:
        def once() -> float:
            started = time.perf_counter()
            for _ in range(rounds):
                action()  # type: ignore[operator]
            return (time.perf_counter() - started) / rounds

        return min(once() for _ in range(40))

    def test_observe_and_increment_are_cheap(self) -> None:
        histogram, topic = Histogram(), NodeMetrics(lambda: 0.0).topic("a")

        def increment() -> None:
            topic.messages_stored += 1

        self.assertLess(self.best(lambda: histogram.observe(0.003)), 1e-6)
        self.assertLess(self.best(increment), 4e-7)
