"""The flusher: its two rhythms on a real thread, and the latch."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from chronik.errors import StorageError
from chronik.log.flusher import Flusher
from chronik.log.log import Log, LogConfig
from chronik.log.simulated import SimulatedDisk
from tests.log.batches import append


class InlineReactor(Clock):
    """A clock whose other thread is this one."""

    def callFromThread(self, function, *args):
        function(*args)


class InlineWorker:
    """Carries out jobs at once, or keeps them until `release`."""

    def __init__(self):
        self.held = None
        self.jobs = 0

    def start(self, job):
        self.jobs += 1
        if self.held is None:
            job()
        else:
            self.held.append(job)

    def release(self):
        jobs, self.held = self.held, None
        for job in jobs:
            job()

    def stop(self):
        """There is no thread."""


class FlusherTests(SynchronousTestCase):
    def setUp(self):
        self.disk, self.clock, self.worker, self.fatal = SimulatedDisk(), InlineReactor(), InlineWorker(), []
        self.flusher = Flusher(self.clock, self.fatal.append, 1000, self.worker)
        self.synced = []
        self.log = self.open("/t-0")

    def open(self, path, **config):
        log = Log.open(self.disk, path, LogConfig(**config), 0)
        self.flusher.watch(log, lambda offset: self.synced.append((path, offset)))
        return log

    def test_dirty_logs_are_synced_at_the_tick(self):
        other = self.open("/t-1")
        self.clock.advance(5)
        append(self.log)
        append(other, 2)
        append(other, 2)
        self.clock.advance(0.9)
        self.assertEqual(self.synced, [])
        self.clock.advance(0.1)
        self.assertEqual(sorted(self.synced), [("/t-0", 1), ("/t-1", 4)])
        self.assertEqual(self.worker.jobs, 1)
        self.clock.advance(10)
        self.assertEqual(self.worker.jobs, 1)  # nothing is dirty

    def test_many_unsynced_bytes_do_not_wait(self):
        log = self.open("/t-2", flush_bytes=1000)
        append(log, size=100)
        self.clock.advance(0)
        self.assertEqual(self.synced, [])
        append(log, size=1000)
        self.clock.advance(0)
        self.assertEqual(self.synced, [("/t-2", 2)])

    def test_flush_ms_is_sooner_than_the_tick_or_nothing(self):
        soon, later = self.open("/t-3", flush_ms=20), self.open("/t-4", flush_ms=5000)
        for log in (soon, later):
            append(log)
        append(soon)
        self.clock.advance(0.019)
        self.assertEqual(self.synced, [])
        self.clock.advance(0.001)
        self.clock.advance(0)
        self.assertEqual(self.synced, [("/t-3", 2)])
        append(soon)
        self.flusher.forget(soon)
        self.clock.advance(1)
        self.assertEqual(self.synced, [("/t-3", 2), ("/t-4", 1)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_requests_of_a_turn_and_those_during_a_sync_are_grouped(self):
        for _ in range(3):
            append(self.log)
            self.flusher.request(self.log)
        self.worker.held = []
        self.clock.advance(0)
        self.assertEqual(self.worker.jobs, 1)
        for _ in range(4):
            append(self.log)
            self.flusher.request(self.log)
        self.clock.advance(0)
        self.worker.release()
        self.assertEqual(self.synced, [("/t-0", 3), ("/t-0", 7)])
        self.assertEqual(self.worker.jobs, 2)

    def test_a_failed_sync_is_fatal_and_never_retried(self):
        append(self.log)
        self.flusher.request(self.log)
        self.disk.fail("datasync", ".log", OSError(5, "Input/output error"))
        self.clock.advance(0)
        self.disk.heal()
        append(self.log)
        self.flusher.request(self.log)
        self.clock.advance(5)
        self.assertEqual((self.synced, self.worker.jobs), ([], 1))
        (failure,) = self.fatal
        self.assertIsInstance(failure.value, StorageError)

    def test_what_a_cancelled_flush_left_is_synced_at_the_next_tick(self):
        append(self.log)
        self.worker.held = []
        self.clock.advance(1)
        self.log._settle()  # as a cut does before it goes on
        self.worker.release()
        self.assertEqual((self.synced, self.log.recovery_point), ([("/t-0", 0)], 0))
        self.clock.advance(1)
        self.assertEqual((self.synced[1:], self.log.recovery_point), ([("/t-0", 1)], 1))

    def test_a_forgotten_log_is_left_alone(self):
        append(self.log)
        self.flusher.request(self.log)
        self.flusher.forget(self.log)
        self.clock.advance(5)
        self.assertEqual(self.synced, [])


class ThreadedFlusherTests(TestCase):
    async def test_on_a_real_thread(self):
        done = Deferred()
        flusher = Flusher(reactor, done.errback, 10)
        log = Log.open(SimulatedDisk(), "/t-0", LogConfig(), 0)
        flusher.watch(log, done.callback)
        append(log)
        self.assertEqual(await done, 1)
        flusher.stop()
        append(log)
        log.close()
        self.assertEqual(log.recovery_point, 2)
