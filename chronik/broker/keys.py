"""The key check of compacted topics: a record without a key has no place there, and its batch is refused (KIP-467).

It is the one thing that looks into records between a producer and the log, at 0.4 microseconds a record. Few of them are
looked at in the append itself. A batch with more than `INLINE_RECORDS`, or that decompresses to more than `INLINE_BYTES`, comes
back as `UncheckedKeys`, and so does whatever follows it into the same partition: `KeyedAppends` checks them in a thread and
appends them in the order in which they came. The thread gives way every few hundred microseconds.

Batches of the node's own topics are made by the node itself, and not checked.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from chronik.broker.key_check import check_keys
from chronik.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from chronik.broker.partition import Appended, Partition

MAX_HELD_BYTES = 64 << 20
"""What may wait for its check, over all partitions. Beyond, producers are told to try again."""
_PAUSE_SECONDS = 50e-6

RunInThread = Callable[[Callable[[], None]], Deferred[None]]


class _Waiting:
    """A batch on its way into a partition."""

    __slots__ = ("acks", "batch", "done", "now_ms")

    def __init__(self, batch: bytearray, now_ms: int, acks: int) -> None:
        self.batch = batch
        self.now_ms = now_ms
        self.acks = acks
        self.done: Deferred[Appended] = Deferred()


class KeyedAppends:
    """Appends batches whose keys are to be checked elsewhere, in their order for each partition."""

    def __init__(self, run_in_thread: RunInThread) -> None:
        self._run_in_thread = run_in_thread
        self._queues: dict[Partition, deque[_Waiting]] = {}
        self.held_bytes = 0

    def append(self, partition: Partition, batch: bytearray, now_ms: int, acks: int) -> Deferred[Appended]:
        """Append `batch`, the caller's own copy, when its turn has come and its keys are checked.

        Fails with KafkaError, as `Partition.append` does; raises it where too much waits.
        """
        if self.held_bytes + len(batch) > MAX_HELD_BYTES:
            raise KafkaError(
                ErrorCode.NOT_ENOUGH_REPLICAS,
                f"{partition.name}: {self.held_bytes} bytes wait for the check of their keys already; try again",
            )
        waiting = _Waiting(batch, now_ms, acks)
        self.held_bytes += len(batch)
        queue = self._queues.get(partition)
        if queue is not None:
            queue.append(waiting)
            return waiting.done
        self._queues[partition] = queue = deque([waiting])
        partition.keys_wait = True
        self._check_next(partition, queue)
        return waiting.done

    def _check_next(self, partition: Partition, queue: deque[_Waiting]) -> None:
        waiting = queue[0]

        def check() -> None:
            for _ in check_keys(partition.name, waiting.batch, partition.max_checked_bytes):
                time.sleep(_PAUSE_SECONDS)

        checked = self._run_in_thread(check)
        checked.addCallback(lambda _: partition.append(waiting.batch, waiting.now_ms, waiting.acks, keys_checked=True))
        checked.addBoth(self._done, partition, queue)

    def _done(self, result: Any, partition: Partition, queue: deque[_Waiting]) -> None:
        waiting = queue.popleft()
        self.held_bytes -= len(waiting.batch)
        if queue:
            self._check_next(partition, queue)
        else:
            del self._queues[partition]
            partition.keys_wait = False
        waiting.done.callback(result)
