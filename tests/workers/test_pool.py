"""The pool with real processes: jobs, deaths, silence, the end of the node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from chronik.telemetry.metrics import WorkerMetrics
from chronik.workers.failures import JobFailedError, WorkerLostError
from chronik.workers.pool import WorkerPool
from chronik.workers.process import environment
from tests.workers.worker import ACT, UNKNOWN, Ask

COMMAND = (sys.executable, "-m", "tests.workers.worker")


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class PoolTests(TestCase):
    timeout = 60

    def setUp(self):
        self.metrics = WorkerMetrics()
        self.pool = WorkerPool(reactor, 2, self.metrics, COMMAND)
        self.pool.startService()
        self.addCleanup(self.pool.stopService)

    def ask(self, what, number=0, body=b"", silence=20, progress=lambda _: None, kind=ACT):
        return self.pool.submit(kind, Ask(what, number, body), silence_seconds=silence, progress=progress)

    async def test_a_job_is_done_at_lower_priority(self):
        self.assertEqual(self.pool.pids, [])
        told = await self.ask("nice")
        self.assertEqual(told.number, min(19, os.nice(0) + 10))
        self.assertEqual(self.pool.pids, [told.pid])
        self.assertEqual((self.metrics.started, self.metrics.jobs, self.metrics.deaths), (1, 1, 0))

    async def test_large_requests_pass(self):
        self.assertEqual((await self.ask("echo", body=bytes(5_000_000))).number, 5_000_000)

    async def test_no_more_workers_than_allowed_and_each_is_used_again(self):
        told = await gatherResults([self.ask("sleep", 0.2) for _ in range(6)])
        self.assertEqual(len({each.pid for each in told}), 2)
        self.assertEqual(self.metrics.started, 2)

    async def test_progress_is_told_in_order_and_counts_as_life(self):
        numbers = []
        await self.ask("echo")
        await self.ask("count", 20, silence=0.5, progress=lambda told: numbers.append(told.number))
        self.assertEqual(numbers, list(range(20)))

    async def test_what_a_job_raises_is_told_and_the_worker_goes_on(self):
        error = await self.assertFailure(self.ask("fail"), JobFailedError)
        self.assertEqual(error.error, "OSError")
        self.assertIn("No space left", str(error))
        self.assertEqual((await self.ask("echo")).pid, self.pool.pids[0])
        self.assertEqual(self.metrics.deaths, 0)

    async def test_an_unknown_kind_is_told(self):
        await self.assertFailure(self.ask("echo", kind=UNKNOWN), JobFailedError)

    async def test_kill_in_the_middle_of_a_job(self):
        """The job fails, another that waits is done by a new worker, and the pool goes on."""
        begun: Deferred = Deferred()
        self.pool._size = 1
        killed = self.ask("sleep", 60, progress=begun.callback)
        waiting = self.ask("echo", body=b"abc")
        pid = (await begun).pid
        os.kill(pid, signal.SIGKILL)
        error = await self.assertFailure(killed, WorkerLostError)
        self.assertIn("ended", str(error))
        told = await waiting
        self.assertEqual(told.number, 3)
        self.assertNotEqual(told.pid, pid)
        self.assertEqual((self.metrics.started, self.metrics.deaths), (2, 1))

    async def test_one_that_is_silent_is_killed(self):
        begun: Deferred = Deferred()
        silent = self.ask("sleep", 60, silence=0.3, progress=begun.callback)
        pid = (await begun).pid
        error = await self.assertFailure(silent, WorkerLostError)
        self.assertIn("no sign of life", str(error))
        await deferLater(reactor, 0.3)
        self.assertFalse(lives(pid))

    async def test_one_that_is_stopped_is_killed(self):
        """SIGSTOP: it neither answers nor ends."""
        pid = (await self.ask("echo")).pid
        os.kill(pid, signal.SIGSTOP)
        await self.assertFailure(self.ask("echo", silence=0.3), WorkerLostError)
        await deferLater(reactor, 0.3)
        self.assertFalse(lives(pid))

    async def test_one_that_talks_nonsense_is_killed(self):
        for what in ("garbage", "huge"):
            await self.assertFailure(self.ask(what), WorkerLostError)
        self.assertEqual(self.metrics.deaths, 2)

    async def test_a_crash_loop_backs_off(self):
        began = time.monotonic()
        for _ in range(3):
            await self.assertFailure(self.ask("exit", 3), WorkerLostError)
        took = time.monotonic() - began  # a second before the second start, two before the third
        self.assertGreater(took, 2.9)
        self.assertEqual(self.metrics.started, 3)

    async def test_a_cancelled_job_ends_its_worker_and_one_that_waits_just_goes(self):
        self.pool._size = 1
        begun: Deferred = Deferred()
        running, waiting = self.ask("sleep", 60, progress=begun.callback), self.ask("echo")
        pid = (await begun).pid
        waiting.cancel()
        running.cancel()
        for job in (waiting, running):
            job.addErrback(lambda _: None)
        await deferLater(reactor, 0.3)
        self.assertFalse(lives(pid))
        self.assertEqual(self.metrics.deaths, 0)
        self.assertNotEqual((await self.ask("echo")).pid, pid)

    async def test_the_stop_ends_all_at_once(self):
        begun: Deferred = Deferred()
        jobs = [self.ask("sleep", 60, progress=lambda told: begun.called or begun.callback(told)) for _ in range(4)]
        await begun
        pids = self.pool.pids
        failures = [self.assertFailure(job, WorkerLostError) for job in jobs]
        await self.pool.stopService()
        await gatherResults(failures)
        self.assertEqual([pid for pid in pids if lives(pid)], [])
        await self.assertFailure(self.ask("echo"), WorkerLostError)

    async def test_what_is_printed_does_no_harm(self):
        self.assertEqual((await self.ask("print", body=b"a")).number, 1)


NODE = """
import os, sys
from twisted.internet import reactor
from chronik.telemetry.metrics import WorkerMetrics
from chronik.workers.pool import WorkerPool
from tests.workers.worker import ACT, Ask
pool = WorkerPool(reactor, 1, WorkerMetrics(), (sys.executable, "-m", "tests.workers.worker"))
pool.submit(ACT, Ask("sleep", 60), silence_seconds=90, progress=lambda told: print(told.pid, flush=True))
reactor.run()
"""


class OrphanTests(TestCase):
    timeout = 60

    async def test_a_worker_does_not_outlive_a_node_that_is_killed(self):
        node = subprocess.Popen([sys.executable, "-c", NODE], stdout=subprocess.PIPE, env=environment(os.environ))
        pid = int(node.stdout.readline())
        self.assertTrue(lives(pid))
        node.kill()
        node.wait()
        node.stdout.close()
        for _ in range(100):
            if not lives(pid):
                break
            await deferLater(reactor, 0.02)
        self.assertFalse(lives(pid))
