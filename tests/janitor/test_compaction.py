"""The compaction service on partitions in memory: which log is next, what failures come to, and that nothing overtakes."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock, Cooperator
from twisted.trial.unittest import SynchronousTestCase

from chronik.errors import StorageError
from chronik.janitor.compaction import CleanerSettings, Compaction
from chronik.janitor.trash import Trash
from chronik.log.cleaner import CleanRequest, clean
from chronik.telemetry.metrics import CleanerMetrics
from chronik.wire.records import Record, encode_batch
from chronik.workers.failures import JobFailedError, WorkerLostError
from tests.listeners.handlers.hosting import NOW, Hosting
from tests.log.compacting import records_of


class CompactionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.hosting = Hosting()
        self.clock: Clock = self.hosting.clock
        self.metrics = CleanerMetrics()
        self.requests: list[CleanRequest] = []
        self.outcomes: list[Any] = []  # of the next jobs: an exception, or a Deferred to wait for
        self.steps = 0
        self.between: Any = lambda: None
        self.compaction = Compaction(
            self.hosting.replicas,
            Trash(self.hosting.disk, self.clock),
            CleanerSettings(backoff_ms=1000, workers=1, dedupe_buffer_bytes=1 << 20, io_bytes_per_second=1e9),
            self.metrics,
            run_job=self.run_job,  # type: ignore[arg-type]
            run_in_thread=self.run_in_thread,
            wall_clock_ms=lambda: NOW,
            secret=lambda: bytes(16),
            clock=self.clock,  # type: ignore[arg-type]
            cooperator=Cooperator(lambda: lambda: True, scheduler=lambda turn: self.clock.callLater(0, turn)),
        )
        self.compaction.startService()

    def run_job(self, request: CleanRequest, progress: Any) -> Deferred[Any]:
        self.requests.append(request)
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, Exception):
            return fail(outcome)
        if isinstance(outcome, Deferred):
            return outcome.addCallback(lambda _: clean(request, self.hosting.disk, progress, lambda size: None))
        return succeed(clean(request, self.hosting.disk, progress, lambda size: None))

    def run_in_thread(self, job: Any) -> Deferred[None]:
        self.steps += 1
        self.between()
        try:
            return succeed(job())
        except Exception as error:
            return fail(error)

    def fill(self, topic: str, count: int = 50, **configs: str) -> Any:
        """A topic with `count` records over five keys, all sealed but one."""
        if self.hosting.image.topic(topic) is None:
            self.hosting.create(topic, **{"cleanup_policy": "compact", **configs})
        partition = self.hosting.partition(topic)
        for index in range(count):
            partition.append(encode_batch([Record(0, NOW, b"%d" % (index % 5), b"x" * 50)]), NOW)
        partition.log.roll(NOW)
        partition.append(encode_batch([Record(0, NOW, b"end", b"x")]), NOW)
        partition.log.flush()
        return partition

    def pass_time(self, seconds: float = 1.0) -> None:
        self.clock.pump([seconds, 0, 0, 0, 0, 0])

    def test_a_dirty_log_is_cleaned(self) -> None:
        partition = self.fill("t")
        self.pass_time()
        self.assertEqual(sorted(records_of(partition.log)), [45, 46, 47, 48, 49, 50])
        self.assertEqual(partition.log.first_dirty, 50)
        metrics = self.metrics
        self.assertEqual((metrics.runs, metrics.records_before, metrics.records_after, metrics.failures), (1, 50, 5, 0))
        self.assertGreater(metrics.bytes_before, metrics.bytes_after)
        self.pass_time()
        self.assertEqual(len(self.requests), 1)  # it is clean now

    def test_the_dirtiest_first_and_the_next_as_soon_as_it_is_done(self) -> None:
        self.fill("a", min_cleanable_dirty_ratio="0.1")
        self.pass_time()
        self.fill("a", 3)  # a little dirty
        self.fill("b")
        self.pass_time()
        self.assertEqual(
            [request.directory.rpartition("/")[2] for request in self.requests[1:]],
            [str(self.hosting.partition(name).partition_id) for name in "ba"],
        )

    def test_below_the_ratio_nothing_is_done(self) -> None:
        self.fill("t")
        self.pass_time()
        self.fill("t", 2, min_cleanable_dirty_ratio="0.9")
        self.fill("d", cleanup_policy="delete")
        self.pass_time()
        self.assertEqual(len(self.requests), 1)
        self.assertGreater(self.metrics.dirtiest_ratio, 0.2)

    def test_what_is_overdue_is_cleaned_below_the_ratio_too(self) -> None:
        self.hosting.create("t", cleanup_policy="compact", max_compaction_lag_ms="1", min_cleanable_dirty_ratio="1")
        partition = self.hosting.partition("t")
        for _ in range(3):
            partition.append(encode_batch([Record(0, NOW - 1000, b"k", b"x")]), NOW)
        partition.log.roll(NOW)
        partition.log.flush()
        self.pass_time()
        self.assertEqual(len(self.requests), 1)

    def test_one_at_a_time_with_one_worker(self) -> None:
        self.fill("a")
        self.fill("b")
        job: Deferred[None] = Deferred()
        self.outcomes.append(job)
        self.pass_time()
        self.pass_time()
        self.assertEqual(len(self.requests), 1)
        job.callback(None)
        self.pass_time(0)
        self.assertEqual(len(self.requests), 2)

    def test_a_worker_that_is_lost_while_its_segment_is_swapped_in(self) -> None:
        """The swap goes on: half of one would keep the log from ever being cleaned again."""
        for pending_steps in range(1, 4):
            self.setUp()
            partition = self.fill("t")
            threads: list[tuple[Any, Deferred[None]]] = []
            lost: Deferred[Any] = Deferred()

            def loses(request: CleanRequest, progress: Any, lost: Deferred[Any] = lost) -> Deferred[Any]:
                self.requests.append(request)
                clean(request, self.hosting.disk, progress, lambda size: None)
                return lost

            def in_thread(job: Any, threads: Any = threads) -> Deferred[None]:
                threads.append((job, Deferred()))
                return threads[-1][1]

            def carry_out(threads: Any = threads) -> None:
                job, done = threads.pop(0)
                job()
                done.callback(None)

            at_once = self.compaction._run_job, self.compaction._run_in_thread
            self.compaction._run_job, self.compaction._run_in_thread = loses, in_thread  # type: ignore[assignment]
            self.pass_time()
            for _ in range(pending_steps - 1):
                carry_out()
            self.assertEqual(len(threads), 1)
            lost.errback(WorkerLostError("killed"))
            while threads:
                carry_out()
            self.compaction._run_job, self.compaction._run_in_thread = at_once
            self.assertEqual(self.metrics.failures, 1)
            self.pass_time(10)
            self.assertEqual((len(self.requests), partition.log.first_dirty), (2, 50), pending_steps)
            self.assertEqual(sorted(records_of(partition.log)), [45, 46, 47, 48, 49, 50])

    def test_damage_is_told_and_the_log_left_alone(self) -> None:
        self.fill("t")
        self.outcomes.append(JobFailedError("CorruptLogError", "x.log cannot be compacted"))
        for _ in range(5):
            self.pass_time(1000)
        self.assertEqual((len(self.requests), self.metrics.uncleanable, self.metrics.failures), (1, 1, 1))

    def test_a_damaged_topic_that_is_deleted_is_told_no_more(self) -> None:
        self.fill("t")
        self.outcomes.append(JobFailedError("CorruptLogError", "x.log cannot be compacted"))
        self.pass_time()
        self.assertEqual(self.metrics.uncleanable, 1)
        self.hosting.delete("t")
        self.pass_time()
        self.assertEqual(self.metrics.uncleanable, 0)

    def test_segments_that_go_while_they_are_read_are_no_failure(self) -> None:
        partition = self.fill("t")
        job: Deferred[None] = Deferred()
        self.outcomes.append(job)
        self.pass_time()
        partition.log.advance_start(50)
        job.errback(JobFailedError("FileNotFoundError", "No such file or directory"))
        self.pass_time()
        self.assertEqual((self.metrics.failures, self.metrics.uncleanable), (0, 0))

    def test_other_failures_are_tried_again_later_each_time(self) -> None:
        partition = self.fill("t")
        self.outcomes += [WorkerLostError("killed"), JobFailedError("OSError", "No space left on device")]
        self.pass_time()
        self.assertEqual(len(self.requests), 1)
        self.pass_time()
        self.assertEqual(len(self.requests), 1)  # two seconds
        self.pass_time()
        self.assertEqual(len(self.requests), 2)
        for _ in range(3):
            self.pass_time()
        self.assertEqual(len(self.requests), 2)  # four
        self.pass_time()
        self.assertEqual((len(self.requests), self.metrics.runs, self.metrics.failures), (3, 1, 2))
        self.assertEqual(partition.log.first_dirty, 50)

    def test_a_topic_deleted_at_any_step(self) -> None:
        for step in range(1, 6):
            name = f"t{step}"
            self.fill(name)
            self.steps = 0

            def between(step: int = step, name: str = name) -> None:
                if self.steps == step:
                    self.hosting.delete(name)

            self.between = between
            self.pass_time()
        self.assertEqual((self.metrics.failures, self.metrics.uncleanable), (0, 0))

    def test_a_stop_at_any_step(self) -> None:
        """What was begun is ended by the log itself, and the log is whole."""
        for step in range(1, 5):
            self.setUp()
            partition = self.fill("t")

            def between(step: int = step, partition: Any = partition) -> None:
                if self.steps == step:
                    self.compaction.stopService()
                    partition.log.close()

            self.between = between
            self.pass_time()
            self.assertEqual(self.metrics.failures, 0)
            names = self.hosting.disk.list(partition.log.directory)
            self.assertEqual([name for name in names if name.endswith(".swap")], [])

    def test_a_full_disk_in_a_swap_leaves_the_log_as_it_is(self) -> None:
        partition = self.fill("t")
        before = sorted(records_of(partition.log))

        real = self.run_in_thread

        def full(job: Any) -> Deferred[None]:
            self.compaction._run_in_thread = real
            return fail(OSError(28, "No space left on device"))

        self.compaction._run_in_thread = full
        self.pass_time()
        self.assertEqual(sorted(records_of(partition.log)), before)
        self.assertEqual(self.metrics.failures, 1)
        for _ in range(3):
            self.pass_time()
        self.assertEqual(sorted(records_of(partition.log)), [45, 46, 47, 48, 49, 50])

    def test_a_swap_that_is_refused_in_its_midst_is_ended_by_the_next_try(self) -> None:
        for step in (2, 3):  # the old segments are retired, the new names are synced
            self.setUp()
            partition = self.fill("t")
            refused: list[Any] = []
            real = self.run_in_thread

            def refusing(job: Any, step: int = step, refused: list[Any] = refused, real: Any = real) -> Deferred[None]:
                if self.steps + 1 != step or len(refused) == 2:
                    answer: Deferred[None] = real(job)
                    return answer
                refused.append(job)
                return fail(OSError(28, "No space left on device"))

            self.compaction._run_in_thread = refusing
            self.pass_time()
            self.pass_time(2)
            self.assertEqual((len(self.requests), self.metrics.failures), (1, 2))
            self.assertEqual(sorted(records_of(partition.log)), [45, 46, 47, 48, 49, 50])  # what was swapped in is read
            self.pass_time(4)
            self.pass_time()
            self.assertEqual((self.metrics.failures, partition.log.first_dirty), (2, 50))
            names = self.hosting.disk.list(partition.log.directory)
            self.assertEqual([name for name in names if "swap" in name], [])

    def test_a_failed_sync_takes_the_log_offline(self) -> None:
        partition = self.fill("t")
        lost: list[Any] = []
        partition.log.on_lost = lost.append
        self.compaction._run_in_thread = lambda job: fail(StorageError("the disk is gone"))
        self.pass_time()
        self.assertEqual(len(lost), 1)
        self.assertIsNotNone(partition.log.offline)
