"""The replicated log of a cluster of one: it writes to its own store, and what is written is committed.

Proposals are queued; one writer thread takes all that are queued and writes them with one sync, while the next ones gather.
When a write has returned, its entries are applied in the reactor, in order, and each proposal is answered after its entry was
applied. Every so many entries the state machine's snapshot is written between two writes. A write that fails is never tried
again: the log takes no more proposals, those under way fail, and `on_fatal` is told, which must end the process.

Life: made -> `start` (load, replay) -> running -> `stop` (write what is queued, close). The thread is reached through
`run_in_thread(function, *arguments) -> Deferred`: `WriterThread` for disks, `run_inline` for stores that never wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, execute, fail
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from chronik.errors import ErrorCode, KafkaError, StorageError
from chronik.interfaces import IKeyValueStore, IReplicatedLog, IStateMachine
from chronik.raft.store import Entry, LogStore, Snapshot

_T = TypeVar("_T")

SNAPSHOT_EVERY = 1000
"""Entries between two snapshots."""


class RunInThread(Protocol):
    """Runs a blocking function away from the reactor, one at a time, in the order asked."""

    def __call__(self, function: Callable[..., _T], *arguments: Any) -> Deferred[_T]: ...


def run_inline(function: Callable[..., _T], *arguments: Any) -> Deferred[_T]:
    """Run `function` at once in the calling thread: for stores in memory."""
    return execute(function, *arguments)


@implementer(IReplicatedLog)
class SingleNodeLog:
    """The numbered log of a node that is alone.

    `open_store` is called in the thread and may block. `on_fatal(failure)` is called once, when the log is lost.
    """

    _log = Logger()

    def __init__(
        self,
        open_store: Callable[[], IKeyValueStore],
        run_in_thread: RunInThread,
        on_fatal: Callable[[Failure], None],
        snapshot_every: int = SNAPSHOT_EVERY,
    ) -> None:
        self._open_store = open_store
        self._run_in_thread = run_in_thread
        self._on_fatal = on_fatal
        self._snapshot_every = snapshot_every
        self._store: LogStore | None = None
        self._machine: IStateMachine | None = None
        self._queue: deque[tuple[Sequence[bytes], Deferred[int]]] = deque()
        self._applied = 0
        self._snapshot_index = 0
        self._writing = False
        self._lost: StorageError | None = None
        self._stopping: Deferred[None] | None = None

    def start(self, machine: IStateMachine) -> Deferred[None]:
        """Restore `machine` from the newest snapshot and the entries after it; fire when it has seen all of them.

        Fails with CorruptLogError or StorageError when the store can't be read, with the store closed again.
        """
        return Deferred.fromCoroutine(self._start(machine))

    async def _start(self, machine: IStateMachine) -> None:
        store, snapshot, entries = await self._run_in_thread(self._load)
        try:
            if snapshot is not None:
                machine.restore(snapshot.index, snapshot.data)
            for entry in entries:
                machine.apply(entry.index, entry.records)
        except BaseException:
            await self._run_in_thread(store.close)
            raise
        if self._stopping is not None:
            await self._run_in_thread(store.close)
            raise StorageError("the metadata log was stopped while it started")
        self._store, self._machine = store, machine
        self._applied, self._snapshot_index = store.last_index, store.snapshot_index

    def _load(self) -> tuple[LogStore, Snapshot | None, list[Entry]]:
        store = LogStore(self._open_store())
        try:
            return store, *store.load()
        except BaseException:
            store.close()
            raise

    def propose(self, records: Sequence[bytes]) -> Deferred[int]:
        """Append `records` as one atomic entry; fire with its index after the state machine has applied it.

        Fails with KafkaError(NOT_CONTROLLER) before `start` and after `stop`, and with StorageError when the log is lost.
        """
        if self._lost is not None:
            return fail(StorageError(f"the metadata log is lost: {self._lost}"))
        if self._store is None or self._stopping is not None:
            return fail(KafkaError(ErrorCode.NOT_CONTROLLER, "the metadata log of this node is not running"))
        waiting: Deferred[int] = Deferred()
        self._queue.append((records, waiting))
        self._pump()
        return waiting

    def stop(self) -> Deferred[None]:
        """Write what is queued, then close the store; fire when it is closed. Proposals after this are refused."""
        if self._stopping is None:
            self._stopping = Deferred()
            self._pump()
        done: Deferred[None] = Deferred()
        self._stopping.chainDeferred(done)
        return done

    # -- the writer

    def _pump(self) -> None:
        """Keep the writer busy while there is something to write; when stopping, close after the last."""
        if self._writing:
            return
        self._writing = True
        working = Deferred.fromCoroutine(self._work())
        working.addErrback(self._fail)
        working.addCallback(self._rest)

    def _rest(self, _: None) -> None:
        self._writing = False
        if self._stopping is None or self._stopping.called:
            return
        if self._store is None:
            self._stopping.callback(None)
        else:
            self._pump()

    async def _work(self) -> None:
        while self._queue and self._lost is None:
            await self._write_queued()
            if self._applied - self._snapshot_index >= self._snapshot_every:
                await self._write_snapshot()
        if self._stopping is not None and self._store is not None:
            store, self._store = self._store, None
            await self._run_in_thread(store.close)

    async def _write_queued(self) -> None:
        assert self._store is not None
        assert self._machine is not None
        batch = list(self._queue)
        self._queue.clear()
        first = self._applied + 1
        entries = [Entry(first + step, 0, records) for step, (records, _) in enumerate(batch)]
        try:
            await self._run_in_thread(self._store.append, entries)
            for entry, (_, waiting) in zip(entries, batch, strict=True):
                self._machine.apply(entry.index, entry.records)
                self._applied = entry.index
                waiting.callback(entry.index)
        except BaseException:
            self._queue.extendleft(reversed([each for each in batch if not each[1].called]))
            raise

    async def _write_snapshot(self) -> None:
        assert self._store is not None
        assert self._machine is not None
        snapshot = Snapshot(self._applied, 0, self._machine.snapshot())
        await self._run_in_thread(self._store.save_snapshot, snapshot, self._snapshot_every // 10)
        self._snapshot_index = snapshot.index
        self._log.debug("metadata snapshot of {size} bytes at {index}", size=len(snapshot.data), index=snapshot.index)

    def _fail(self, failure: Failure) -> None:
        """The log is lost: refuse everything from now on, and say so, once."""
        already, self._lost = self._lost is not None, StorageError(failure.getErrorMessage())
        self._log.failure("the metadata log is lost, the node must stop", failure)
        queued, self._queue = self._queue, deque()
        for _, waiting in queued:
            waiting.errback(StorageError(f"the metadata log is lost: {self._lost}"))
        if not already:
            self._on_fatal(failure)
