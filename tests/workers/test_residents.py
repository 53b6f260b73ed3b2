"""Workers that stay, with real processes: news before jobs, jobs side by side, cancelling, deaths, silence."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from chronik.telemetry.metrics import WorkerMetrics
from chronik.workers.failures import JobFailedError, WorkerLostError
from chronik.workers.residents import ResidentWorkers
from tests.workers.resident import DO, NEWS
from tests.workers.test_pool import lives
from tests.workers.worker import Ask

COMMAND = (sys.executable, "-m", "tests.workers.resident")


class ResidentTests(TestCase):
    timeout = 60

    def setUp(self):
        self.metrics = WorkerMetrics()
        self.known = {0: [1.0], 1: [2.0]}
        self.residents = ResidentWorkers(reactor, 2, self.metrics, COMMAND, self.welcome)
        self.residents.startService()
        self.addCleanup(self.residents.stopService)

    def welcome(self, place):
        return [(NEWS, Ask("", number)) for number in self.known[place]]

    def tell(self, place, number):
        self.known[place].append(number)
        self.residents.tell(place, NEWS, Ask("", number))

    def ask(self, place, what, number=0, silence=20, progress=lambda _: None):
        return self.residents.ask(place, DO, Ask(what, number), silence_seconds=silence, progress=progress)

    async def test_each_place_knows_its_own_news(self):
        self.assertEqual(self.residents.pids, [])
        first, second = await gatherResults([self.ask(0, "told"), self.ask(1, "told")])
        self.assertEqual((first.number, second.number), (1, 2))
        self.assertNotEqual(first.pid, second.pid)
        self.tell(0, 10)
        self.assertEqual((await self.ask(0, "told")).number, 11)
        self.assertEqual((await self.ask(1, "told")).number, 2)

    async def test_what_is_told_first_starts_the_process_and_is_told_once(self):
        self.tell(0, 10)
        self.tell(0, 100)
        self.assertEqual((await self.ask(0, "told")).number, 111)
        self.assertEqual(self.metrics.started, 1)

    async def test_jobs_go_on_side_by_side_and_the_background_in_between(self):
        began = await self.ask(0, "background")
        long = self.ask(0, "quiet", 100)
        self.assertEqual((await self.ask(0, "echo", 7)).number, 7)
        self.assertFalse(long.called)
        await long
        self.assertGreaterEqual((await self.ask(0, "background")).number - began.number, 100)

    async def test_a_cancelled_job_ends_and_its_process_goes_on(self):
        numbers = []
        begun: Deferred = Deferred()
        job = self.ask(
            0, "count", 1e9, progress=lambda told: (numbers.append(told), begun.called or begun.callback(told))
        )
        pid = (await begun).pid
        job.cancel()
        await self.assertFailure(job, CancelledError)
        self.assertEqual((await self.ask(0, "echo")).pid, pid)
        seen = len(numbers)
        await deferLater(reactor, 0.1)
        self.assertEqual(len(numbers), seen)

    async def test_a_job_that_rests_is_woken_by_news_costs_nothing_and_is_known_to_live(self):
        begun: Deferred = Deferred()
        resting = self.ask(0, "rest", 5, silence=3.5, progress=begun.callback)
        await begun
        await deferLater(reactor, 5)
        self.assertFalse(resting.called)
        self.assertLess((await self.ask(0, "steps")).number, 50)
        self.tell(0, 10)
        self.assertEqual((await resting).number, 5)

    async def test_what_a_job_raises_is_told(self):
        error = await self.assertFailure(self.ask(0, "fail"), JobFailedError)
        self.assertEqual(error.error, "OSError")
        self.assertEqual((await self.ask(0, "told")).number, 1)

    async def test_busy_is_no_silence_but_a_step_that_hangs_is(self):
        """The long one takes several times as long as the shortest silence that is allowed."""
        await self.ask(0, "quiet", 400, silence=2.0)
        begun: Deferred = Deferred()
        other = self.ask(0, "quiet", 1e9)
        hanging = self.ask(0, "hang", silence=1.5, progress=begun.callback)
        pid = (await begun).pid
        error = await self.assertFailure(hanging, WorkerLostError)
        self.assertIn("no sign of life", str(error))
        await self.assertFailure(other, WorkerLostError)
        await deferLater(reactor, 0.3)
        self.assertFalse(lives(pid))

    async def test_much_news_is_no_silence_and_holds_no_job_up(self):
        """To hear all of it takes several times as long as the shortest silence that is allowed."""
        counted = []
        begun: Deferred = Deferred()
        count = self.ask(
            0, "count", 1e9, progress=lambda told: (counted.append(told), begun.called or begun.callback(told))
        )
        await begun
        for _ in range(50):
            self.residents.tell(0, NEWS, Ask("slow", 10))
        seen = len(counted)
        told = self.ask(0, "told", silence=2.5)
        await deferLater(reactor, 3)
        self.assertFalse(told.called)
        self.assertGreater(len(counted), seen + 10)
        self.assertEqual((await told).number, 501)
        count.cancel()
        await self.assertFailure(count, CancelledError)

    async def test_a_new_process_takes_the_place_and_is_told_everything_again(self):
        self.tell(0, 10)
        pid = (await self.ask(0, "told")).pid
        begun: Deferred = Deferred()
        lost = self.ask(0, "count", 1e9, progress=lambda told: begun.called or begun.callback(told))
        await begun
        os.kill(pid, signal.SIGKILL)
        await self.assertFailure(lost, WorkerLostError)
        self.tell(0, 100)
        told = await self.ask(0, "told")
        self.assertEqual(told.number, 111)
        self.assertNotEqual(told.pid, pid)
        self.assertEqual((self.metrics.started, self.metrics.deaths), (2, 1))

    async def test_a_crash_loop_backs_off(self):
        began = time.monotonic()
        for _ in range(3):
            await self.assertFailure(self.ask(0, "exit"), WorkerLostError)
        self.assertGreater(time.monotonic() - began, 2.9)  # a second before the second start, two before the third

    async def test_one_that_cannot_be_started_is_started_later(self):
        """The process may hold no more files than it does: what is asked fails, and nothing leaks."""
        held = len(os.listdir("/proc/self/fd"))
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            failure = self.assertFailure(self.ask(0, "told"), WorkerLostError)
            self.tell(1, 10)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        self.assertIn("cannot be started: Too many open files", str(await failure))
        self.assertEqual(len(os.listdir("/proc/self/fd")), held)
        self.assertFalse(self.residents.has_begun(0))
        self.assertEqual((await self.ask(0, "told")).number, 1)
        self.assertEqual((await self.ask(1, "told")).number, 12)
        self.assertTrue(self.residents.has_begun(0))

    async def test_the_stop_ends_all(self):
        begun: Deferred = Deferred()
        jobs = [
            self.ask(place, "count", 1e9, progress=lambda told: begun.called or begun.callback(told))
            for place in (0, 1)
        ]
        await begun
        pids = self.residents.pids
        failures = [self.assertFailure(job, WorkerLostError) for job in jobs]
        await self.residents.stopService()
        await gatherResults(failures)
        self.assertEqual([pid for pid in pids if lives(pid)], [])
        await self.assertFailure(self.ask(0, "echo"), WorkerLostError)
