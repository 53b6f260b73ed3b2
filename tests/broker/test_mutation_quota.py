"""The bucket behind the quota of mutations: what may be begun, what is refused, and for how long a client pauses."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.broker import quota
from chronik.broker.quota import Quotas
from chronik.errors import ErrorCode, KafkaError

MUTATIONS = "controller_mutation_rate"
BURST_SECONDS = 10


class MutationQuotaTests(SynchronousTestCase):
    """A rate of 2 partitions a second, 20 at once."""

    def setUp(self) -> None:
        self.now_ms = 1e9
        self.quotas = Quotas(11, 1000)
        self.set({(("user", "u"),): 2.0})

    def set(self, rates: dict[Any, float]) -> None:
        self.quotas.configure({entity: {MUTATIONS: rate} for entity, rate in rates.items()})

    def request(self, strict: bool = True, user: str = "u") -> Any:
        return self.quotas.mutations(user, "c", strict, BURST_SECONDS, lambda: self.now_ms)

    def pause(self, *partitions: int, strict: bool = True) -> int:
        """The pause of a request for topics with so many partitions each, which must be allowed."""
        request = self.request(strict)
        for count in partitions:
            request.use(count)
        pause: int = request.pause_ms()
        return pause

    def refused(self) -> int:
        """The pause of a request that is refused."""
        request = self.request()
        error = self.assertRaises(KafkaError, request.use, 1)
        self.assertEqual(error.code, ErrorCode.THROTTLING_QUOTA_EXCEEDED)
        pause: int = request.pause_ms()
        return pause

    def test_what_is_saved_up_may_be_used_at_once_and_overdrawn_once(self) -> None:
        self.assertEqual(self.pause(5, 15), 0)
        self.assertEqual(self.pause(6), 0)  # at zero, something may still be begun
        self.assertEqual(self.refused(), 3000)
        self.now_ms += 2900
        self.assertEqual(self.refused(), 100)
        self.now_ms += 100
        self.assertEqual(self.pause(1), 0)
        self.assertEqual(self.refused(), 500)

    def test_within_one_request(self) -> None:
        """A topic is refused alone; the pause is that of the last refusal."""
        request = self.request()
        request.use(25)
        self.assertEqual(request.pause_ms(), 0)
        self.assertRaises(KafkaError, request.use, 1)
        self.assertRaises(KafkaError, request.use, 1)
        self.assertEqual(request.pause_ms(), 2500)
        self.now_ms += 1000
        self.assertEqual(request.pause_ms(), 1500)
        self.now_ms += 5000
        self.assertEqual(request.pause_ms(), 0)

    def test_older_clients_pause_and_are_not_refused(self) -> None:
        self.assertEqual(self.pause(20, strict=False), 0)
        self.assertEqual(self.pause(4, strict=False), 2000)
        self.assertEqual(self.pause(2, 2, strict=False), 4000)
        self.assertEqual(self.refused(), 4000)
        self.now_ms += 60_000
        self.assertEqual(self.pause(21, strict=False), 500)  # no more than ten seconds' worth was saved up

    def test_who_has_a_bucket(self) -> None:
        self.pause(21)
        self.refused()
        self.request(user="other").use(1000)
        self.set({(("client-id", "c"), ("user", "u")): 1.0})
        self.assertEqual(self.pause(10), 0)  # another entity's
        self.set({})
        for _ in range(3):
            self.assertEqual(self.pause(1000), 0)

    def test_a_new_rate_goes_on_from_what_is_there(self) -> None:
        self.pause(24)
        self.set({(("user", "u"),): 8.0})
        self.assertEqual(self.refused(), 500)
        self.now_ms += 500
        self.pause(1)
        self.set({(("user", "u"),): 0.5})
        self.assertEqual(self.refused(), 2000)
        self.now_ms += 1e6
        self.pause(5)  # the smaller bucket is full
        self.pause(1)
        self.refused()

    def test_buckets_are_bounded(self) -> None:
        self.patch(quota, "MAX_METERS", 2)
        self.set({(("user", None),): 1.0})
        for user in ("a", "b"):
            self.request(user=user).use(11)
        self.assertRaises(KafkaError, self.request(user="a").use, 1)
        self.request(user="c").use(11)
        self.assertRaises(KafkaError, self.request(user="a").use, 1)
        self.assertRaises(KafkaError, self.request(user="c").use, 1)
        self.request(user="b").use(1)  # forgotten, and begins anew

    @given(st.lists(st.tuples(st.floats(0, 5000), st.integers(1, 30), st.booleans()), max_size=30))
    def test_never_more_than_the_rate_the_burst_and_one_overdraft(
        self, requests: list[tuple[float, int, bool]]
    ) -> None:
        """Whatever clients that are refused do: what was done is within the rate, but for the last request."""
        self.setUp()
        began, done, last = self.now_ms, 0, 0
        for wait_ms, partitions, heeds in requests:
            self.now_ms += wait_ms
            request = self.request()
            try:
                request.use(partitions)
            except KafkaError:
                self.assertGreater(request.pause_ms(), -1)
                if heeds:
                    self.now_ms += request.pause_ms() + 1
                    self.request().use(partitions)  # after the pause it is allowed
                else:
                    continue
            done, last = done + partitions, partitions
            seconds = (self.now_ms - began) / 1000
            self.assertLessEqual(done - last, 2 * (seconds + BURST_SECONDS) + 1e-6)
