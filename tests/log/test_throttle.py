"""The throttle under a clock."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chronik.log.throttle import Throttle


class ThrottleTests(SynchronousTestCase):
    def setUp(self):
        self.clock, self.lives = Clock(), 0

    def alive(self):
        self.lives += 1

    def throttle(self, rate):
        return Throttle(rate, self.clock.seconds, self.clock.advance, self.alive)

    def test_it_keeps_to_the_rate(self):
        throttle = self.throttle(1000)
        for _ in range(100):
            throttle.spend(100)
        self.assertTrue(9.8 <= self.clock.seconds() <= 10, self.clock.seconds())

    def test_a_long_wait_gives_signs_of_life(self):
        self.throttle(1000).spend(10_000)
        self.assertGreaterEqual(self.lives, 9)

    def test_without_a_limit_it_never_waits(self):
        throttle = self.throttle(1e308)
        for _ in range(1000):
            throttle.spend(1 << 30)
        self.assertEqual((self.clock.seconds(), self.lives), (0, 0))

    def test_time_that_passed_unused_is_not_saved_up(self):
        throttle = self.throttle(1000)
        self.clock.advance(100)
        throttle.spend(1000)
        self.assertGreater(self.clock.seconds(), 100.9)
