"""Which split is made next, and when: one at a time, later after a failure, and told to the process that owns the partition."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chronik.errors import ChronikError
from chronik.search.splits.messages import BuildSplit, Built, Due, SplitBuilt
from chronik.search.splitting import Splitting
from chronik.telemetry.metrics import SplitMetrics


def split(partition, first=0):
    return BuildSplit(
        topic_id=bytes(16), partition=partition, log="/log", index="/index", start=0, stable=100, aborted=(), first=first,
        following=first + 10, exact=True,
    )  # fmt: skip


class SplittingTests(SynchronousTestCase):
    def setUp(self):
        self.clock, self.metrics = Clock(), SplitMetrics()
        self.due = {0: []}
        self.building = []
        self.told = []
        self.splitting = Splitting(
            lambda: set(self.due),
            self.ask,
            lambda place, news: self.told.append((place, news)),
            self.build,
            self.metrics,
            self.clock,
        )
        self.splitting.startService()
        self.addCleanup(self.splitting.stopService)

    def ask(self, place, request, silence_seconds):
        due = self.due[place]
        return fail(due) if isinstance(due, Exception) else succeed(Due(tuple(due[: request.most])))

    def build(self, request):
        self.building.append((request, Deferred()))
        return self.building[-1][1]

    def advance(self, seconds):
        for _ in range(int(seconds)):
            self.clock.advance(1)

    def made(self, records=10):
        request, done = self.building[-1]
        done.callback(Built(f"{request.first}.split", records, 700))

    def test_one_after_the_other(self):
        self.due[0] = [split(0), split(1)]
        self.due[1] = [split(2)]
        self.advance(6)
        self.assertEqual([request.partition for request, _ in self.building], [0])
        self.assertEqual(self.metrics.building, 1)
        self.due[0].pop(0)
        self.made()
        self.assertEqual([request.partition for request, _ in self.building], [0, 2])
        self.assertEqual(self.told, [(0, SplitBuilt(bytes(16), 0, "0.split"))])
        self.due[1] = []
        self.made()
        self.due[0] = []
        self.made()
        self.advance(20)
        self.assertEqual([request.partition for request, _ in self.building], [0, 2, 1])
        self.assertEqual((self.metrics.builds, self.metrics.records, self.metrics.bytes), (3, 30, 2100))
        self.assertEqual(self.metrics.building, 0)

    def test_one_that_fails_waits_longer_each_time_and_others_don_t(self):
        self.due[0] = [split(0)]
        waits, last = [], 0.0
        self.advance(5)
        for _ in range(4):
            self.building[-1][1].errback(ChronikError("no space left"))
            count, last = len(self.building), self.clock.seconds()
            while len(self.building) == count:
                self.clock.advance(1)
            waits.append(self.clock.seconds() - last)
        for found, expected in zip(waits, (10, 20, 40, 80), strict=True):
            self.assertTrue(expected <= found <= expected + 6, waits)
        self.assertEqual((self.metrics.failures, self.metrics.builds), (4, 0))
        self.due[0].append(split(1))
        self.building[-1][1].errback(ChronikError("no space left"))
        self.advance(6)
        self.assertEqual(self.building[-1][0].partition, 1)
        self.assertEqual(self.told, [])

    def test_one_that_is_made_and_not_taken_waits_too(self):
        self.due[0] = [split(0)]
        self.advance(5)
        self.made()
        self.assertEqual(len(self.building), 2)  # it may have been damaged right away
        self.made()
        self.advance(6)
        self.assertEqual(len(self.building), 2)
        self.advance(10)
        self.assertEqual(len(self.building), 3)
        self.due[0] = [split(0, first=10)]
        self.made()
        self.advance(30)
        self.assertEqual(self.building[-1][0].first, 10)

    def test_a_process_that_doesn_t_answer_is_asked_again(self):
        self.due[0] = ChronikError("it has died")
        self.advance(6)
        self.due[0] = [split(0)]
        self.advance(6)
        self.assertEqual(len(self.building), 1)

    def test_the_end_breaks_off_what_is_made(self):
        self.due[0] = [split(0)]
        self.advance(6)
        self.splitting.stopService()
        self.assertTrue(self.building[0][1].called)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(self.metrics.building, 0)
