"""The log of a node that is alone: order, group commit, snapshots, restart, and what happens when a write fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sortedcontainers import SortedDict
from twisted.internet import reactor
from twisted.internet.defer import Deferred, execute, gatherResults
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from chronik.errors import CorruptLogError, ErrorCode, KafkaError, StorageError
from chronik.interfaces import IKeyValueStore, IReplicatedLog, IStateMachine
from chronik.raft.memory import MemoryStore
from chronik.raft.providers import SQLITE, format_store, open_store, preferred_provider
from chronik.raft.single import SingleNodeLog, run_inline
from chronik.raft.writer import WriterThread


@implementer(IStateMachine)
class Journal:
    """A state machine that remembers all it applied."""

    def __init__(self) -> None:
        self.applied: list[tuple[int, list[bytes]]] = []
        self.restored_at = 0

    def apply(self, index: int, records: Sequence[bytes]) -> None:
        if records == [b"poison"]:
            raise ValueError("this entry cannot be applied")
        self.applied.append((index, list(records)))

    def snapshot(self) -> bytes:
        return b"\n".join(b"%d %s" % (index, b",".join(records)) for index, records in self.applied)

    def restore(self, index: int, snapshot: bytes) -> None:
        self.restored_at = index
        self.applied = []
        for line in snapshot.split(b"\n"):
            number, _, records = line.partition(b" ")
            self.applied.append((int(number), records.split(b",")))


class Thread:
    """Stands for the writer thread: keeps what it is asked to run until the test lets it."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.waiting.append((lambda: function(*arguments), done))
        return done

    def run(self) -> None:
        function, done = self.waiting.pop(0)
        execute(function).chainDeferred(done)


class CountingStore(MemoryStore):
    """Counts its writes, and fails from one of them on."""

    def __init__(self, contents: SortedDict | None = None) -> None:
        super().__init__(contents)
        self.writes = 0
        self.fails_from = 10**9
        self.closed = False

    def write(self, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes] = ()) -> None:
        self.writes += 1
        if self.writes >= self.fails_from:
            raise StorageError("the disk is gone")
        super().write(puts, deletes)

    def close(self) -> None:
        self.closed = True


class SingleNodeLogTests(SynchronousTestCase):
    """In memory, with the thread in the test's hand."""

    def setUp(self) -> None:
        self.store = CountingStore()
        self.thread = Thread()
        self.fatal: list[Failure] = []

    def log(self, snapshot_every: int = 1000, thread: Any = None) -> SingleNodeLog:
        return SingleNodeLog(lambda: self.store, thread or self.thread, self.fatal.append, snapshot_every)

    def started(self, machine: Journal, **options: Any) -> SingleNodeLog:
        log = self.log(**options)
        done = log.start(machine)
        if self.thread.waiting:
            self.thread.run()
        self.successResultOf(done)
        return log

    def test_provides_the_interface(self) -> None:
        self.assertTrue(verifyObject(IReplicatedLog, self.log()))

    def test_a_proposal_is_answered_after_it_was_written_and_applied(self) -> None:
        machine = Journal()
        log = self.started(machine)
        first = log.propose([b"a", b"b"])
        self.assertNoResult(first)
        self.assertEqual(machine.applied, [])
        self.thread.run()
        self.assertEqual(self.successResultOf(first), 1)
        self.assertEqual(machine.applied, [(1, [b"a", b"b"])])

    def test_what_is_proposed_during_a_write_shares_the_next_one(self) -> None:
        machine = Journal()
        log = self.started(machine)
        proposals = [log.propose([b"%d" % number]) for number in range(100)]
        self.thread.run()
        self.assertEqual(len(machine.applied), 1)
        self.thread.run()
        self.assertEqual([self.successResultOf(each) for each in proposals], list(range(1, 101)))
        self.assertEqual(self.store.writes, 2)
        self.assertEqual(self.thread.waiting, [])

    def test_a_proposal_made_by_an_answer_is_not_lost(self) -> None:
        machine = Journal()
        log = self.started(machine, thread=run_inline)
        answers: list[int] = []

        def again(index: int) -> None:
            answers.append(index)
            if index < 50:
                log.propose([b"more"]).addCallback(again)

        log.propose([b"first"]).addCallback(again)
        self.assertEqual(answers, list(range(1, 51)))

    def test_a_restart_replays_everything(self) -> None:
        log = self.started(Journal(), thread=run_inline)
        for number in range(7):
            self.successResultOf(log.propose([b"%d" % number]))
        self.successResultOf(log.stop())
        self.assertTrue(self.store.closed)
        machine = Journal()
        log = self.started(machine, thread=run_inline)
        self.assertEqual(machine.applied, [(number + 1, [b"%d" % number]) for number in range(7)])
        self.assertEqual(self.successResultOf(log.propose([b"next"])), 8)

    def test_a_restart_begins_at_the_snapshot(self) -> None:
        log = self.started(Journal(), thread=run_inline, snapshot_every=10)
        for number in range(37):
            self.successResultOf(log.propose([b"%d" % number]))
        self.successResultOf(log.stop())
        machine = Journal()
        self.started(machine, thread=run_inline, snapshot_every=10)
        self.assertEqual(machine.restored_at, 30)
        self.assertEqual(machine.applied, [(number + 1, [b"%d" % number]) for number in range(37)])

    def test_stopping_writes_what_is_queued(self) -> None:
        machine = Journal()
        log = self.started(machine)
        proposals = [log.propose([b"%d" % number]) for number in range(3)]
        stopped = log.stop()
        again = log.stop()
        refused = self.failureResultOf(log.propose([b"late"]), KafkaError)
        self.assertEqual(refused.value.code, ErrorCode.NOT_CONTROLLER)
        while self.thread.waiting:
            self.thread.run()
        self.assertEqual([self.successResultOf(each) for each in proposals], [1, 2, 3])
        self.successResultOf(stopped)
        self.successResultOf(again)
        self.assertTrue(self.store.closed)

    def test_stopping_while_starting_closes_the_store(self) -> None:
        log = self.log()
        starting = log.start(Journal())
        stopped = log.stop()
        while self.thread.waiting:
            self.thread.run()
        self.failureResultOf(starting, StorageError)
        self.successResultOf(stopped)
        self.assertTrue(self.store.closed)

    def test_before_the_start_proposals_are_refused(self) -> None:
        refused = self.failureResultOf(self.log().propose([b"early"]), KafkaError)
        self.assertEqual(refused.value.code, ErrorCode.NOT_CONTROLLER)

    def test_a_failed_write_is_fatal_and_never_tried_again(self) -> None:
        machine = Journal()
        log = self.started(machine)
        self.store.fails_from = 2
        good, bad, queued = log.propose([b"1"]), log.propose([b"2"]), None
        self.thread.run()
        queued = log.propose([b"3"])
        self.thread.run()
        self.assertEqual(self.successResultOf(good), 1)
        self.failureResultOf(bad, StorageError)
        self.failureResultOf(queued, StorageError)
        self.failureResultOf(log.propose([b"4"]), StorageError)
        self.assertEqual(self.thread.waiting, [])
        self.assertEqual((self.store.writes, len(self.fatal)), (2, 1))
        self.assertEqual(machine.applied, [(1, [b"1"])])
        self.flushLoggedErrors(StorageError)
        stopped = log.stop()
        self.thread.run()
        self.successResultOf(stopped)
        self.assertTrue(self.store.closed)
        self.assertEqual(len(self.fatal), 1)

    def test_a_failed_snapshot_is_fatal(self) -> None:
        log = self.started(Journal(), thread=run_inline, snapshot_every=3)
        self.store.fails_from = 4
        answers = [self.successResultOf(log.propose([b"x"])) for _ in range(3)]
        self.assertEqual(answers, [1, 2, 3])
        self.assertEqual(len(self.fatal), 1)
        self.failureResultOf(log.propose([b"x"]), StorageError)
        self.flushLoggedErrors(StorageError)

    def test_an_entry_that_cannot_be_applied_is_fatal(self) -> None:
        log = self.started(Journal(), thread=run_inline)
        self.failureResultOf(log.propose([b"poison"]), StorageError)
        self.assertEqual(len(self.fatal), 1)
        self.flushLoggedErrors(ValueError)

    def test_a_damaged_store_does_not_start(self) -> None:
        log = self.started(Journal(), thread=run_inline)
        for _ in range(3):
            log.propose([b"x"])
        del self.store.contents[b"e" + (2).to_bytes(8, "big")]
        self.store.closed = False
        self.failureResultOf(self.log(thread=run_inline).start(Journal()), CorruptLogError)
        self.assertTrue(self.store.closed)


class WriterThreadTests(TestCase):
    """With a real thread and a real store."""

    async def _round(self, provider: str) -> None:
        path = os.path.abspath(self.mktemp())
        format_store(provider, path)
        thread = WriterThread(reactor)
        self.addCleanup(thread.stop)
        fatal: list[Failure] = []

        def opener() -> IKeyValueStore:
            return open_store(provider, path)

        log = SingleNodeLog(opener, thread, fatal.append, snapshot_every=50)
        await log.start(Journal())
        answers = await gatherResults([log.propose([b"%d" % number]) for number in range(200)])
        self.assertEqual(answers, list(range(1, 201)))
        await log.stop()
        machine = Journal()
        log = SingleNodeLog(opener, thread, fatal.append, snapshot_every=50)
        await log.start(machine)
        self.assertEqual([index for index, _ in machine.applied], list(range(1, 201)))
        await log.stop()
        self.assertEqual(fatal, [])

    async def test_on_the_preferred_store(self) -> None:
        await self._round(preferred_provider())

    async def test_on_sqlite(self) -> None:
        await self._round(SQLITE)
