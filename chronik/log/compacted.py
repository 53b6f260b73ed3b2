"""The part of a log that compaction deals with: what may be cleaned, and swapping in what was.

What may be cleaned is sealed, below the offset that the caller gives (the last stable one), durable as of the checkpoint on
disk, and as old as min.compaction.lag.ms asks for. How much of that is dirty decides when it is done (`dirtiness`).

A **swap** puts one `.cleaned` segment in place of the one or more that it was made from. A crash between any two steps leaves
either the old segments whole or the new one:

1. Another thread writes to the cleaner's checkpoint up to where offsets may have gaps from now on, renames the new segment's
   files from `.cleaned` to `.swap`, and syncs the directory. From here on the swap counts: a start that finds the `.swap`
   goes on with it.
2. The reactor reads the new segment, by that name, in place of the old ones.
3. The thread takes their aborted transactions out of the snapshots (`restoring.forget_aborted`), renames the old segments'
   files to `.deleted` and syncs the directory. Without this sync, the next rename could reach the disk alone, and old
   segments would stand beside the one that replaces them.
4. The reactor takes `.swap` off the new segment's names.
5. The thread syncs the directory. Now the old files may be removed, like all that was given up.

Where the disk refuses the first step (it is full), what was renamed is removed, and nothing has happened. Where it refuses a
later one the swap stays as it is, `unfinished_swap`, until whoever drives it has tried again; meanwhile nothing else of the log
is compacted. A start finishes it too.

Reads are one call on the reactor, and see the old segments or the new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from chronik.log import restoring
from chronik.log.aborted import AbortedTransactions
from chronik.log.appending import AppendedLog
from chronik.log.checkpoint import CLEANER_FILE, CleanerCheckpoint
from chronik.log.cleaner import CleanedSegment, CleanRequest
from chronik.log.segment import (
    CLEANED_SUFFIX,
    DELETED_SUFFIX,
    INDEX_SUFFIX,
    LOG_SUFFIX,
    SWAP_SUFFIX,
    TIME_INDEX_SUFFIX,
    Segment,
)
from chronik.log.state import fail_stop
from chronik.log.swap import Job, MustEnd, Steps, Swap
from chronik.wire.batches import HEADER_BYTES, NO_TIMESTAMP, read_header

_NEVER = 2**63 - 1
_FILES = (INDEX_SUFFIX, TIME_INDEX_SUFFIX, LOG_SUFFIX)
"""The log itself is renamed last: with it, a segment is there."""


class Dirtiness(NamedTuple):
    """How much there is to clean: bytes of segments that are clean and that are dirty, and whether it must be now."""

    clean_bytes: int
    dirty_bytes: int
    overdue: bool

    @property
    def ratio(self) -> float:
        """The dirty share of all that would be cleaned."""
        total = self.clean_bytes + self.dirty_bytes
        return self.dirty_bytes / total if total else 0.0


class CompactedLog(AppendedLog):
    """A log of which compaction takes records away."""

    __slots__ = ()

    @property
    def first_dirty(self) -> int:
        """The first offset that compaction has not come to yet."""
        return min(max(self.cleaner.first_dirty, self.start_offset), self.end_offset)

    def cleanable(self, now_ms: int, upper: int) -> list[Segment]:
        """The segments that may be cleaned, from the log's first one on; none where nothing of them is dirty.

        Raises MendingError.
        """
        config, first_dirty = self.config, self.first_dirty
        upper = min(upper, self.recovery_point, self._checkpointed)
        found: list[Segment] = []
        for segment in self._segments[:-1]:
            if segment.next_offset > upper or segment.staged or segment.path(INDEX_SUFFIX) in self._replacements:
                break
            if segment.next_offset > first_dirty and config.min_compaction_lag_ms:
                newest = segment.newest_timestamp()
                if newest > now_ms - config.min_compaction_lag_ms:
                    break
            found.append(segment)
        return found if found and found[-1].next_offset > first_dirty else []

    def dirtiness(self, now_ms: int, segments: Sequence[Segment]) -> Dirtiness:
        """What of `segments`, which are `cleanable`, is dirty."""
        first_dirty, clean, dirty = self.first_dirty, 0, 0
        oldest: Segment | None = None
        for segment in segments:
            if segment.next_offset <= first_dirty:
                clean += segment.size
            else:
                dirty += segment.size
                oldest = oldest or segment
        lag = self.config.max_compaction_lag_ms
        overdue = False
        if oldest is not None and lag < _NEVER:
            timestamp = read_header(oldest.file.pread(HEADER_BYTES, 0)).max_timestamp
            overdue = timestamp != NO_TIMESTAMP and now_ms - timestamp > lag
        return Dirtiness(clean, dirty, overdue)

    def clean_request(
        self,
        segments: Sequence[Segment],
        now_ms: int,
        *,
        secret: bytes,
        dedupe_buffer_bytes: int,
        io_bytes_per_second: float = inf,
    ) -> CleanRequest:
        """What a job is asked for, to clean `segments`, which are `cleanable`.

        Raises KafkaError where the aborted transactions in them cannot be read.
        """
        config = self.config
        aborted = self.aborted_between(segments[0].base_offset, segments[-1].next_offset)
        return CleanRequest(
            directory=self.directory,
            segments=[(segment.base_offset, segment.next_offset, segment.size) for segment in segments],
            first_dirty=self.first_dirty,
            now_ms=now_ms,
            delete_retention_ms=config.delete_retention_ms,
            segment_bytes=config.segment_bytes,
            segment_index_bytes=config.segment_index_bytes,
            index_interval_bytes=config.index_interval_bytes,
            dedupe_buffer_bytes=dedupe_buffer_bytes,
            io_bytes_per_second=io_bytes_per_second,
            secret=secret,
            producers={
                entry.producer_id: (entry.batches[-1][3] if entry.batches else -1, entry.epoch)
                for entry in self.producers.entries()
            },
            aborted=[(each.producer_id, each.first_offset, each.last_offset) for each in aborted],
        )

    def begin_swap(self, cleaned: CleanedSegment) -> Swap | None:
        """Begin to put a `.cleaned` segment in place of those that it was made from. One swap at a time.

        None where these are not in the log any more. Raises KafkaError, OSError where their snapshot cannot be read.
        """
        if self._offline is not None or self._swap is not None or not self._find(cleaned.replaces):
            return None
        self._swap = Swap(self._swapping(cleaned))
        return self._swap

    def cleaned_to(self, offset: int) -> Swap | None:
        """Begin to note on disk that compaction has come to `offset`. A crash before makes it clean again what is clean."""
        if self._offline is not None or self._swap is not None:
            return None
        self._swap = Swap(self._noting(CleanerCheckpoint(offset, max(offset, self.cleaner.gaps_below))))
        return self._swap

    @property
    def unfinished_swap(self) -> Swap | None:
        """The swap that was begun and has not come to its end: its next job failed, or is under way."""
        return self._swap

    def _noting(self, checkpoint: CleanerCheckpoint) -> Steps:
        try:
            yield lambda: self._write_cleaner(checkpoint)
            self.cleaner = checkpoint
        finally:
            self._swap = None

    def _write_cleaner(self, checkpoint: CleanerCheckpoint) -> None:
        self._disk.replace(f"{self.directory}/{CLEANER_FILE}", checkpoint.encode())

    def _find(self, replaces: Sequence[int]) -> slice | None:
        """Where the segments with these base offsets are: sealed, and in a row."""
        index = self._index_of(replaces[0])
        found = self._segments[index : index + len(replaces)]
        if [segment.base_offset for segment in found] != list(replaces) or found[-1] is self._active:
            return None
        return slice(index, index + len(replaces))

    def _swapping(self, cleaned: CleanedSegment) -> Steps:
        try:
            yield from self._swap_steps(cleaned)
        finally:
            self._swap = None

    def _swap_steps(self, cleaned: CleanedSegment) -> Steps:
        disk, directory, replaces = self._disk, self.directory, cleaned.replaces
        old = self._segments[self._find(replaces) or slice(0)]
        first, until = old[0], old[-1].next_offset
        new = Segment(
            disk, directory, first.base_offset, first.index_interval, first.created_ms, cleaned.size, SWAP_SUFFIX
        )
        new.aborted = AbortedTransactions(settled_to=self._aborted_of(old[-1]).settled_to)
        new.resume(until, NO_TIMESTAMP, cleaned.max_timestamp, cleaned.max_timestamp_offset)
        self.cleaner = checkpoint = self.cleaner._replace(gaps_below=max(self.cleaner.gaps_below, until))

        def publish() -> None:
            self._write_cleaner(checkpoint)
            try:
                for suffix in _FILES:
                    path = new.path(suffix)
                    disk.rename(path.removesuffix(SWAP_SUFFIX) + CLEANED_SUFFIX, path)
            except OSError:
                take_back()
                raise
            disk.sync_directory(directory)

        def retire() -> None:
            restoring.forget_aborted(disk, directory, first.base_offset, until)
            for segment in old:
                paths = [segment.path(suffix) for suffix in _FILES]
                for path in paths:
                    if disk.exists(path):
                        disk.rename(path, path + DELETED_SUFFIX)
                        retired.append(path + DELETED_SUFFIX)
            disk.sync_directory(directory)

        def take_back() -> None:
            for suffix in reversed(_FILES):
                disk.remove(new.path(suffix))
            disk.sync_directory(directory)

        retired: list[str] = []
        yield publish
        place = self._find(replaces)
        if place is None or self._segments[place] != old:
            yield MustEnd(take_back)  # some were given up meanwhile, by retention or DeleteRecords
            return
        self._segments[place] = [new]
        self._changed = True
        self.generation += 1
        for segment in old:
            segment.release()
            segment.file.close()
        yield MustEnd(retire)
        while (fault := self._take_names(new)) is not None:
            yield MustEnd(_failing_once(fault))
        yield MustEnd(lambda: disk.sync_directory(directory))
        self._deleted += retired
        if self._doomed:  # it was given up meanwhile, and its files waited for their names
            self._checkpoint_due = True
            self._mark_dirty()

    def _take_names(self, new: Segment) -> OSError | None:
        """Let the files of a segment that is swapped in have their final names; what has kept some from it."""
        try:
            for suffix in _FILES:
                path = new.path(suffix)
                if self._disk.exists(path):
                    self._disk.rename(path, path.removesuffix(SWAP_SUFFIX))
        except OSError as error:
            return error
        new.restage("")
        self.generation += 1
        return None

    @fail_stop
    def settle_swap(self) -> None:
        """End a swap that is under way, here and now. Blocks. Raises StorageError, OSError."""
        if self._swap is not None:
            self._swap.settle()

    def _cut_cleaner(self, offset: int) -> None:
        """The log is about to be cut at `offset`: what comes there afterwards is dirty."""
        self.settle_swap()
        if self.cleaner.gaps_below > offset:
            self.cleaner = CleanerCheckpoint(min(self.cleaner.first_dirty, offset), offset)
            self._write_cleaner(self.cleaner)


def _failing_once(error: OSError) -> Job:
    """A job that tells who drives the swap of what has failed on the reactor, and then lets it be tried again."""
    untold = [error]

    def job() -> None:
        if untold:
            raise untold.pop()

    return job
