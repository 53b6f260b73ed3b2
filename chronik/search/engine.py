"""What a process that searches does: it keeps the indexes of its partitions up to date, and answers for them.

Between two jobs one of its partitions takes a step (`step`): those that have something to read take turns. The tails of all
partitions together keep at most `TAIL_BYTES` in memory; what is dropped is read from the log again by who needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from chronik.interfaces import IDisk
from chronik.log.cleaning import AbortedRange
from chronik.log.committed import Bounds, CommittedFiles
from chronik.model import PartitionId
from chronik.native.interfaces import IRecordScanner
from chronik.search.messages import AskState, Follow, Forget, PartitionState, Rebuild, States
from chronik.search.partition_index import PartitionIndex, Writing
from chronik.search.signatures import BLOCK_BYTES
from chronik.search.splits.messages import AskDue, BuildSplit, Due, SplitBuilt
from chronik.search.splits.partition_splits import Elsewhere, PartitionSplits, here

if TYPE_CHECKING:
    from chronik.search.splits.inverted import InvertedIndex

TAIL_BYTES = 64 << 20
_COUNT_EVERY = 64


class Engine:
    """The partitions that this process owns.

    `write` carries out what waits for the disk, `tell` gets lines for the operator. A block has `block_bytes` at least.
    `open_index` opens the index of a split, which is asked `elsewhere`; without it there are none.
    """

    def __init__(
        self,
        disk: IDisk,
        scanner: IRecordScanner,
        write: Callable[[Callable[[], None]], Writing],
        tell: Callable[[str], object],
        tail_bytes: int = TAIL_BYTES,
        open_index: Callable[[str], InvertedIndex] | None = None,
        block_bytes: int = BLOCK_BYTES,
        elsewhere: Elsewhere = here,
    ) -> None:
        self._elsewhere = elsewhere
        self._block_bytes = block_bytes
        self._disk = disk
        self.scanner = scanner
        self._write = write
        self._tell = tell
        self._tail_bytes = tail_bytes
        self._open_index = open_index
        self._indexes: dict[PartitionId, PartitionIndex] = {}
        self._splits: dict[PartitionId, PartitionSplits] = {}
        self._directories: dict[PartitionId, tuple[str, str]] = {}
        self._due: dict[PartitionId, None] = {}
        self._steps = 0

    def follow(self, news: Follow) -> None:
        """A partition can be read so far."""
        partition = PartitionId(news.topic_id, news.partition)
        index = self._indexes.get(partition)
        if index is None:
            files = CommittedFiles(self._disk, news.log, self.scanner)
            index = PartitionIndex(
                self._disk, news.index, files, self.scanner, self._write, self._tell, self._block_bytes
            )
            self._indexes[partition] = index
            if self._open_index is not None:
                self._splits[partition] = PartitionSplits(
                    self._disk, news.index, files, self._open_index, self._tell, self._elsewhere
                )
        self._directories[partition] = news.log, news.index
        bounds = Bounds(news.start, news.stable, news.generation)
        index.follow(bounds, [AbortedRange(*each) for each in news.aborted], news.limit)
        splits = self._splits.get(partition)
        if splits is not None:
            splits.follow(news.split_messages, news.compacted)
        self._due[partition] = None

    def forget(self, news: Forget) -> None:
        """A partition is gone."""
        partition = PartitionId(news.topic_id, news.partition)
        index = self._indexes.pop(partition, None)
        self._due.pop(partition, None)
        self._directories.pop(partition, None)
        splits = self._splits.pop(partition, None)
        if splits is not None:
            splits.remove()
        if index is not None:
            index.files.forget_files()
            index.remove()
        else:
            self._disk.remove(news.index)

    def states(self, asked: AskState) -> States:
        """How far the indexes of these partitions have come."""
        found = []
        for each in asked.partitions:
            partition = PartitionId(*each)
            index, splits = self._indexes.get(partition), self._splits.get(partition)
            if index is not None:
                state = index.state._asdict() | ({} if splits is None else splits.state._asdict())
                found.append(PartitionState(topic_id=each[0], partition=each[1], **state))
        return States(tuple(found))

    def due(self, asked: AskDue) -> Due:
        """The splits that are to be made now."""
        found: list[BuildSplit] = []
        for partition, splits in self._splits.items():
            if len(found) == asked.most:
                break
            index = self._indexes[partition]
            wanted = splits.due(index.groups)
            if wanted is not None:
                start, stable, _ = index.files.bounds
                log, directory = self._directories[partition]
                found.append(
                    BuildSplit(
                        topic_id=partition.topic_id,
                        partition=partition.partition,
                        log=log,
                        index=directory,
                        start=start,
                        stable=stable,
                        aborted=tuple(index.files.aborted.within(*wanted)),
                        first=wanted.first,
                        following=wanted.following,
                        exact=not splits.compacted,
                    )
                )
        return Due(tuple(found))

    def built(self, news: SplitBuilt) -> None:
        """A split that was due is there."""
        partition = PartitionId(news.topic_id, news.partition)
        splits = self._splits.get(partition)
        if splits is not None:
            splits.built(news.name)
            self._due[partition] = None

    def rebuild(self, asked: Rebuild) -> States:
        """Make the indexes of these partitions anew; how far they have come, which is nowhere."""
        for each in asked.partitions:
            partition = PartitionId(*each)
            index = self._indexes.get(partition)
            if index is not None:
                index.rebuild()
                splits = self._splits.get(partition)
                if splits is not None:
                    splits.remove()  # their files are gone with the others
                self._due[partition] = None
        return self.states(AskState(asked.partitions))

    def index_of(self, partition: PartitionId) -> PartitionIndex | None:
        """The index of a partition, None where this process does not know of it (yet)."""
        return self._indexes.get(partition)

    def splits_of(self, partition: PartitionId) -> PartitionSplits | None:
        """The splits of a partition, None where it can't have any."""
        return self._splits.get(partition)

    def step(self) -> bool:
        """Let one partition go on; False when none has anything to do."""
        for _ in range(len(self._due)):
            partition = next(iter(self._due))
            del self._due[partition]
            splits = self._splits.get(partition)
            if self._indexes[partition].step() or (splits is not None and splits.step()):
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
