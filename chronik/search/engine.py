"""What a process that searches does: it keeps the indexes of its partitions up to date, and answers for them.

Between two jobs one of its partitions takes a step (`step`): those that have something to read take turns. The tails of all
partitions together keep at most `TAIL_BYTES` in memory; what is dropped is read from the log again by who needs it.
"""

from __future__ import annotations

from collections.abc import Callable

from chronik.interfaces import IDisk
from chronik.log.cleaning import AbortedRange
from chronik.log.committed import Bounds, CommittedFiles
from chronik.model import PartitionId
from chronik.native.interfaces import IRecordScanner
from chronik.search.messages import AskState, Follow, Forget, PartitionState, Rebuild, States
from chronik.search.partition_index import PartitionIndex, Writing
from chronik.search.signatures import BLOCK_BYTES

TAIL_BYTES = 64 << 20
_COUNT_EVERY = 64


class Engine:
    """The partitions that this process owns.

    `write` carries out what waits for the disk, `tell` gets lines for the operator. A block has `block_bytes` at least.
    """

    def __init__(
        self,
        disk: IDisk,
        scanner: IRecordScanner,
        write: Callable[[Callable[[], None]], Writing],
        tell: Callable[[str], object],
        tail_bytes: int = TAIL_BYTES,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self._disk = disk
        self.scanner = scanner
        self._write = write
        self._tell = tell
        self._tail_bytes = tail_bytes
        self._block_bytes = block_bytes
        self._indexes: dict[PartitionId, PartitionIndex] = {}
        self._due: dict[PartitionId, None] = {}
        self._steps = 0

    def follow(self, news: Follow) -> None:
        """A partition can be read so far."""
        partition = PartitionId(news.topic_id, news.partition)
        index = self._indexes.get(partition)
        if index is None:
            files = CommittedFiles(self._disk, news.log)
            index = PartitionIndex(
                self._disk, news.index, files, self.scanner, self._write, self._tell, self._block_bytes
            )
            self._indexes[partition] = index
        bounds = Bounds(news.start, news.stable, news.generation)
        index.follow(bounds, [AbortedRange(*each) for each in news.aborted], news.limit)
        self._due[partition] = None

    def forget(self, news: Forget) -> None:
        """A partition is gone."""
        partition = PartitionId(news.topic_id, news.partition)
        index = self._indexes.pop(partition, None)
        self._due.pop(partition, None)
        if index is not None:
            index.files.forget_files()
            index.remove()
        else:
            self._disk.remove(news.index)

    def states(self, asked: AskState) -> States:
        """How far the indexes of these partitions have come."""
        known = [(each, self._indexes.get(PartitionId(*each))) for each in asked.partitions]
        return States(
            tuple(PartitionState(*each, **index.state._asdict()) for each, index in known if index is not None)
        )

    def rebuild(self, asked: Rebuild) -> States:
        """Make the indexes of these partitions anew; how far they have come, which is nowhere."""
        for each in asked.partitions:
            partition = PartitionId(*each)
            index = self._indexes.get(partition)
            if index is not None:
                index.rebuild()
                self._due[partition] = None
        return self.states(AskState(asked.partitions))

    def index_of(self, partition: PartitionId) -> PartitionIndex | None:
        """The index of a partition, None where this process does not know of it (yet)."""
        return self._indexes.get(partition)

    def step(self) -> bool:
        """Let one partition go on; False when none has anything to do."""
        for _ in range(len(self._due)):
            partition = next(iter(self._due))
            del self._due[partition]
            if self._indexes[partition].step():
                self._due[partition] = None
                self._steps += 1
                if not self._steps % _COUNT_EVERY:
                    self._bound_tails()
                return True
        return False

    def save(self) -> None:
        """Write what is in memory only, for the next start. Blocks."""
        for index in self._indexes.values():
            index.save()

    def _bound_tails(self) -> None:
        """Drop the largest tails while all together are too large."""
        indexes = sorted(self._indexes.values(), key=lambda index: index.tail_bytes)
        total = sum(index.tail_bytes for index in indexes)
        while total > self._tail_bytes:
            index = indexes.pop()
            total -= index.tail_bytes
            index.drop_tail()
