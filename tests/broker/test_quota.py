"""Rates over windows, whose quota counts, and how long a pause is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.broker import quota
from chronik.broker.quota import Quotas, Rate

PRODUCE = "producer_byte_rate"
LONG = 1e9


class RateTests(SynchronousTestCase):
    def test_windows_come_and_go(self) -> None:
        rate = Rate(3, 1000)
        self.assertEqual(rate.measure(0), (0, 2000))
        rate.add(10, 0)
        self.assertEqual(rate.measure(0), (10, 2000))
        rate.add(5, 1500)
        self.assertEqual(rate.measure(1500), (15, 2500))
        self.assertEqual(rate.measure(2999)[0], 15)
        self.assertEqual(rate.measure(3000)[0], 5)  # the first window is over
        self.assertEqual(rate.measure(9000), (0, 2000))

    def test_a_burst_after_silence_is_measured_over_all_windows_but_one(self) -> None:
        """As in Kafka: else the first request of a second would always be too much."""
        rate = Rate(11, 1000)
        rate.add(100, 50_000)
        self.assertEqual(rate.measure(50_000), (100, 10_000))

    def test_one_sample(self) -> None:
        rate = Rate(1, 1000)
        rate.add(100, 0)
        self.assertEqual(rate.measure(500), (100, 500))


class QuotaTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.quotas = Quotas(11, 1000)

    def configure(self, *quotas: tuple[dict[str, str | None], float]) -> set[str]:
        return self.quotas.configure({tuple(sorted(entity.items())): {PRODUCE: value} for entity, value in quotas})

    def test_the_most_particular_one_counts(self) -> None:
        """Each in turn is the most particular that is left."""
        order: list[dict[str, str | None]] = [
            {"user": "u", "client-id": "c"},
            {"user": "u", "client-id": None},
            {"user": "u"},
            {"user": None, "client-id": "c"},
            {"user": None, "client-id": None},
            {"user": None},
            {"client-id": "c"},
            {"client-id": None},
        ]
        shared = [("u", "c")] * 2 + [("u", None)] + [("u", "c")] * 2 + [("u", None)] + [(None, "c")] * 2
        for first in range(len(order)):
            self.assertTrue(self.configure(*((entity, n + 1.0) for n, entity in enumerate(order) if n >= first)))
            self.assertEqual(self.quotas.limit(PRODUCE, "u", "c"), (first + 1.0, *shared[first]))
        self.assertFalse(self.configure())
        self.assertEqual(self.quotas.record(PRODUCE, "u", "c", 1e12, 0, LONG), 0)

    def test_the_pause_brings_the_rate_within_the_quota(self) -> None:
        self.configure(({"client-id": "c"}, 100))
        self.assertEqual(self.quotas.record(PRODUCE, "u", "c", 1000, 0, LONG), 0)
        self.assertEqual(self.quotas.record(PRODUCE, "u", "c", 500, 0, LONG), 5000)
        self.assertEqual(self.quotas.record(PRODUCE, "u", "c", 0, 5000, LONG), 5000)  # over 10 seconds still
        self.assertEqual(self.quotas.record(PRODUCE, "u", "c", 0, 15_000, LONG), 0)
        self.assertEqual(self.quotas.record(PRODUCE, "u", "c", 5000, 15_000, 777), 777)

    def test_who_shares(self) -> None:
        self.configure(({"user": "u"}, 100), ({"client-id": None}, 100))
        self.quotas.record(PRODUCE, "u", "a", 1000, 0, LONG)
        self.assertGreater(self.quotas.record(PRODUCE, "u", "b", 1, 0, LONG), 0)
        self.quotas.record(PRODUCE, "other", "a", 1000, 0, LONG)
        self.assertEqual(self.quotas.record(PRODUCE, "other", "b", 1, 0, LONG), 0)

    def test_connections(self) -> None:
        rate = "connection_creation_rate"
        kinds = self.quotas.configure({(("ip", "::1"),): {rate: 2.0}, (("ip", None),): {rate: 1.0}})
        self.assertEqual(kinds, {rate})
        self.assertEqual([self.quotas.connect("::1", 0, LONG) for _ in range(22)], [0] * 20 + [500] * 2)
        self.assertEqual([self.quotas.connect("10.0.0.1", 0, LONG) for _ in range(11)], [0] * 10 + [1000])
        self.assertEqual([self.quotas.connect("10.0.0.2", 0, 300) for _ in range(11)], [0] * 10 + [300])
        self.assertEqual(self.quotas.connect("::1", 11_000, LONG), 0)

    def test_what_is_taken_back_does_not_count(self) -> None:
        self.configure(({"user": "u"}, 100))
        self.quotas.record(PRODUCE, "u", "a", 5000, 0, LONG)
        self.quotas.take_back(PRODUCE, "u", "a", 5000, 10)
        self.assertEqual(self.quotas.record(PRODUCE, "u", "a", 1000, 20, LONG), 0)

    def test_the_clients_that_are_kept_are_bounded(self) -> None:
        self.patch(quota, "MAX_METERS", 3)
        self.configure(({"client-id": None}, 100))
        for name in "abcd":
            self.quotas.record(PRODUCE, "u", name, 1000, 0, LONG)
        self.assertGreater(self.quotas.record(PRODUCE, "u", "d", 1, 0, LONG), 0)
        self.assertEqual(self.quotas.record(PRODUCE, "u", "a", 1, 0, LONG), 0)

    @given(
        st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 5000)), min_size=1, max_size=60),
        st.integers(1, 20),
        st.integers(10, 3000),
    )
    def test_a_client_that_pauses_keeps_to_its_quota(
        self, uses: list[tuple[int, int]], samples: int, window_ms: int
    ) -> None:
        quotas = Quotas(samples, window_ms)
        quotas.configure({(("client-id", None),): {PRODUCE: 1000.0}})
        now = total = 0
        for wait, size in uses:
            now += wait
            total += size
            now += quotas.record(PRODUCE, "u", "c", size, now, LONG)
        horizon = max(samples * window_ms, 1)
        self.assertLessEqual(total, 1000 * (now + 2 * horizon) / 1000 + max(size for _, size in uses))
