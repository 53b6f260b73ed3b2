"""The log of one partition: segments in a row, appended to at the end, read anywhere, given up from either side.

All methods are called on the reactor's thread and do page-cache I/O only, but for those that say that they block. What
must wait for the disk is a `Flush`: `begin_flush` says what there is to sync, its `run` is carried out on another
thread, `end_flush` takes note. The log tells `on_dirty` that it wants one: at the first append after a flush has
begun, and again at `flush_bytes`.

Offsets: `start_offset` is the first that can be read, `end_offset` the one that the next record gets, everything
below `recovery_point` is durable. A failed append is undone; when that fails too, or when a sync fails, the log is
offline and answers KAFKA_STORAGE_ERROR until the node is started again.

The class is made of layers: `state` (what it is, reading), `flushing`, `appending`, `compacted`, and here opening and giving
up.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from chronik.interfaces import IDisk
from chronik.log import recovery, restoring, retention
from chronik.log.checkpoint import Checkpoint
from chronik.log.compacted import CompactedLog
from chronik.log.config import LogConfig
from chronik.log.epochs import EPOCHS_FILE
from chronik.log.segment import INDEX_SUFFIX, SNAPSHOT_SUFFIX, TIME_INDEX_SUFFIX, Segment
from chronik.log.state import fail_stop
from chronik.wire.records import NO_TIMESTAMP

__all__ = ["Log", "LogConfig"]


class Log(CompactedLog):
    """One partition's log in `directory`. Made by `Log.open`."""

    __slots__ = ()

    @classmethod
    def open(
        cls,
        disk: IDisk,
        directory: str,
        config: LogConfig,
        now_ms: int,
        clean: bool = False,
        *,
        random: Callable[[], float] = lambda: 0.0,
    ) -> Log:
        """Open the log in `directory`; it is empty where there is none, and makes one at its first append.

        `clean` says that the node was shut down in order. `random` (0 to 1) spreads the times at which segments roll.
        Raises CorruptLogError where synced bytes are damaged, and OSError.
        """
        steps = cls.opening(disk, directory, config, now_ms, clean, random=random)
        while True:
            try:
                next(steps)
            except StopIteration as opened:
                log: Log = opened.value
                return log

    @classmethod
    def opening(
        cls,
        disk: IDisk,
        directory: str,
        config: LogConfig,
        now_ms: int,
        clean: bool = False,
        *,
        random: Callable[[], float] = lambda: 0.0,
    ) -> Generator[recovery.Progress, None, Log]:
        """`open` in steps: yields how far the verification has come, every few MB of it, and returns the log."""
        loaded = yield from recovery.load(disk, directory, config, now_ms, clean)
        return cls(disk, directory, config, loaded, random)

    # -- giving up the start ------------------------------------------------------------------------------------------

    def advance_start(self, offset: int) -> None:
        """Make `offset` the first that can be read (DeleteRecords). Never goes back; `durable_start` follows at a flush.

        Segments wholly below go with that flush. Raises KafkaError: OFFSET_OUT_OF_RANGE beyond the end,
        KAFKA_STORAGE_ERROR.
        """
        if offset <= self.start_offset:
            return
        if offset > self.end_offset:
            raise self._out_of_range(offset)
        if self._offline is not None:
            raise self._refusal()
        self._start_at(offset)
        self._give_up(retention.below_start([s.next_offset for s in self._segments[:-1]], offset))
        self._checkpoint_due = True
        self._mark_dirty()

    def _start_at(self, offset: int) -> None:
        self.start_offset = offset
        if self.epochs.truncate_from_start(offset):
            self._replacements[f"{self.directory}/{EPOCHS_FILE}"] = self.epochs.encode()

    def expired_segments(self, now_ms: int, upper: int) -> int:
        """How many of the oldest segments retention.ms and retention.bytes give up, among those wholly below `upper`.

        The active one counts when all of its records are too old: `delete_oldest` then rolls it first. Raises MendingError.
        """
        config = self.config
        segments = self._segments[: retention.below_start([s.next_offset for s in self._segments], upper)]
        if segments and not segments[-1].size:
            segments.pop()
        newest = (s.created_ms if s.newest_timestamp() == NO_TIMESTAMP else s.max_timestamp for s in segments)
        by_time = retention.expired_by_time(newest, now_ms, config.retention_ms)
        by_size = retention.expired_by_size(
            [s.size for s in segments if s is not self._active], self.size_bytes, config.retention_bytes
        )
        return max(by_time, by_size)

    @fail_stop
    def delete_oldest(self, count: int, now_ms: int) -> None:
        """Give up the `count` oldest segments. Their files are renamed once that is durable, see `take_deleted`."""
        if count and count == len(self._segments):
            self.roll(now_ms)
        self._give_up(count)

    def _give_up(self, count: int) -> None:
        if not count:
            return
        self._doomed += self._segments[:count]
        del self._segments[:count]
        first = self._segments[0].base_offset
        if first > self.start_offset:
            self._start_at(first)
        self._checkpoint_due = True
        self._mark_dirty()

    # -- giving up the end --------------------------------------------------------------------------------------------

    @fail_stop
    def truncate_to(self, offset: int, now_ms: int) -> None:
        """Cut off the batch that holds `offset` and all after it: what a new leader doesn't have (KIP-101). Blocks.

        The cut is durable at return. Were it not, a power loss could bring back what was cut among what came after.
        """
        if offset >= self.end_offset:
            return
        self.settle_swap()
        keep = self._index_of(offset) + 1
        offset = self._segments[keep - 1].boundary(offset)
        if offset <= max(self.start_offset, self._segments[0].base_offset):
            self.truncate_fully(self.start_offset, now_ms)
            return
        self._settle()
        self._cut_cleaner(offset)
        if self._checkpointed > offset:
            self._checkpointed = offset
        self._write_checkpoint(Checkpoint(self.start_offset, self._checkpointed))
        for segment in reversed(self._segments[keep:]):
            self._remove(segment)
        if len(self._segments) > keep:
            self._disk.sync_directory(self.directory)
        del self._segments[keep:]
        self._active = active = self._segments[-1]
        active.truncate(offset)
        active.file.datasync()
        self._cut_state(active.next_offset)
        if active not in self._unsynced:
            self._unsynced.append(active)
        self._mark_dirty()

    @fail_stop
    def truncate_fully(self, start_offset: int, now_ms: int) -> None:
        """Drop everything and go on at `start_offset`: a follower whose log lies wholly outside of its leader's. Blocks."""
        self._settle()
        if not self._exists:
            self._disk.make_directory(self.directory)
            self._exists = True
        self._cut_cleaner(min(start_offset, self._segments[0].base_offset))
        self._write_checkpoint(Checkpoint(start_offset, start_offset))
        self._checkpointed = start_offset
        for segment in reversed(self._segments):
            self._remove(segment)
        self._disk.sync_directory(self.directory)
        self._named = False
        self._active = Segment(self._disk, self.directory, start_offset, self.config.index_interval_bytes, now_ms)
        self._segments = [self._active]
        self.start_offset = start_offset
        self._cut_state(start_offset)
        self._mark_dirty()

    def _remove(self, segment: Segment) -> None:
        segment.file.close()
        recovery.remove_segment_files(self._disk, self.directory, segment.base_offset)
        self._unsynced = [other for other in self._unsynced if other is not segment]
        for suffix in (INDEX_SUFFIX, TIME_INDEX_SUFFIX, SNAPSHOT_SUFFIX):
            self._replacements.pop(segment.path(suffix), None)

    def _cut_state(self, end_offset: int) -> None:
        """Bring what is derived from the log back to an earlier end."""
        self.generation += 1
        self.end_offset = end_offset
        self.recovery_point = min(self.recovery_point, end_offset)
        self.epochs.truncate_from_end(end_offset)
        self._newest_epoch = self.epochs.latest
        self._replacements[f"{self.directory}/{EPOCHS_FILE}"] = self.epochs.encode()
        restoring.rebuild_producers(self._disk, self.directory, self.producers, self._segments, end_offset)
        self._directory_changed = True
        self._checkpoint_due = True
        self._roll_bytes = -1
