"""The log of one partition: segments in a row, appended to at the end, read anywhere, given up from the start.

All methods are called on the reactor's thread and do page-cache I/O only. What must wait for the disk is a `Flush`:
`begin_flush` says what there is to sync, its `run` is carried out on another thread, `end_flush` takes note. The log
tells `on_dirty` that it wants one: at the first append after a flush has begun, and again at `flush_bytes`.

Offsets: `start_offset` is the first that can be read, `end_offset` the one that the next record gets, everything
below `recovery_point` is durable. A failed append is undone; when that fails too, the log is offline and answers
KAFKA_STORAGE_ERROR until the node is started again.
"""

from __future__ import annotations

import errno
from bisect import bisect_right
from collections.abc import Callable

from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import Buffer, IDisk
from chronik.log import recovery, retention
from chronik.log.checkpoint import CHECKPOINT_FILE, Checkpoint
from chronik.log.config import MAX_SEGMENT_BYTES, LogConfig
from chronik.log.epochs import EPOCHS_FILE
from chronik.log.flush import Flush, FlushState
from chronik.log.lookup import first_at_or_after, largest_timestamp
from chronik.log.segment import (
    DELETED_SUFFIX,
    INDEX_SUFFIX,
    LOG_SUFFIX,
    SNAPSHOT_SUFFIX,
    TIME_INDEX_SUFFIX,
    Segment,
    file_name,
)
from chronik.wire.records import NO_TIMESTAMP, BatchHeader, assign_offsets, split_batches

__all__ = ["Log", "LogConfig"]

_NEVER = 2**63 - 1
_ALWAYS = -2
_MAX_RELATIVE_OFFSET = 0x7FFFFFFF


def ignore_dirty(log: Log) -> None:
    """Nobody flushes this log in the background: `flush` and `close` do."""


class Log:
    """One partition's log in `directory`. Made by `Log.open`.

    `recovery` tells what an unclean shutdown has cost, None when nothing had to be looked at. `on_dirty` may be set
    at any time.
    """

    __slots__ = (
        "_active",
        "_changed",
        "_checkpoint_due",
        "_checkpointed",
        "_deleted",
        "_directory_changed",
        "_disk",
        "_doomed",
        "_flush",
        "_jitter",
        "_mark_at",
        "_named",
        "_newest_epoch",
        "_offline",
        "_random",
        "_replacements",
        "_roll_bytes",
        "_roll_offset",
        "_roll_timestamp",
        "_segments",
        "_unsynced",
        "config",
        "directory",
        "end_offset",
        "epochs",
        "name",
        "on_dirty",
        "producers",
        "recovery",
        "recovery_point",
        "start_offset",
        "unsynced_bytes",
    )

    def __init__(
        self, disk: IDisk, directory: str, config: LogConfig, loaded: recovery.LoadedLog, random: Callable[[], float]
    ) -> None:
        self._disk = disk
        self.directory = directory
        self.name = directory.rpartition("/")[2]
        self.config = config
        self._random = random
        self._segments = loaded.segments
        self._active = loaded.segments[-1]
        self.start_offset = loaded.start_offset
        self.end_offset = self._active.next_offset
        self.recovery_point = loaded.recovery_point
        self.producers = loaded.producers
        self.epochs = loaded.epochs
        self._newest_epoch = loaded.epochs.latest
        self.recovery = loaded.recovery
        self.on_dirty: Callable[[Log], None] = ignore_dirty
        self._offline: str | None = None
        # What the next flush has to do.
        unsynced = loaded.segments[loaded.first_unsynced :]
        self._unsynced: list[Segment] = [segment for segment in unsynced if segment.size]
        self.unsynced_bytes = sum(segment.size for segment in self._unsynced)
        self._directory_changed = loaded.recovery is not None
        self._replacements: dict[str, bytes] = {}
        self._named = False  # whether a flush has made the first file's name durable
        self._checkpointed = loaded.recovery_point
        self._checkpoint_due = False
        self._changed = loaded.recovery is not None
        self._mark_at = 1
        self._flush: Flush | None = None
        self._doomed: list[Segment] = []
        self._deleted: list[str] = []
        if loaded.recovery is not None:
            self._queue_recovered()
        self._jitter = random()
        # The first append finds the active segment over this limit and prepares it.
        self._roll_bytes = self._roll_timestamp = self._roll_offset = -1

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
        """Open the log in `directory`, or create it. `clean` says that the node was shut down in order.

        `random` (0 to 1) spreads the times at which segments roll. Raises CorruptLogError where synced bytes are
        damaged, OSError and StorageError.
        """
        return cls(disk, directory, config, recovery.load(disk, directory, config, now_ms, clean), random)

    def configure(self, config: LogConfig) -> None:
        """Act on other settings from now on."""
        self.config = config
        self._roll_bytes = -1  # worked out again at the next append

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def size_bytes(self) -> int:
        """Bytes of all batches that the log holds."""
        return sum(segment.size for segment in self._segments)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments, oldest first; the last one is appended to."""
        return tuple(self._segments)

    @property
    def offline(self) -> str | None:
        """Why nothing works any more, None while it does."""
        return self._offline

    @property
    def needs_flush(self) -> bool:
        """Whether a flush would have something to do."""
        return bool(
            self.unsynced_bytes
            or self._unsynced
            or self._replacements
            or self._checkpoint_due
            or self._directory_changed
        )

    # -- appending ----------------------------------------------------------------------------------------------------

    def append(self, batch: bytearray | memoryview, header: BatchHeader, leader_epoch: int, now_ms: int) -> int:
        """Give a checked batch its offsets (in place), write it, and return its base offset.

        A retry of a batch that is here already is not written again: its first base offset is returned, which is
        below the `end_offset` that the log had before. Raises KafkaError: those of `Producers.check`, and
        KAFKA_STORAGE_ERROR when the disk doesn't take it (the log is as before, and may be tried again).
        """
        idempotent = header.producer_id >= 0
        if idempotent:
            known = self.producers.check(header)
            if known is not None:
                return known[0]
        base_offset = self.end_offset
        next_offset = base_offset + header.last_offset_delta + 1
        size = len(batch)
        timestamp = header.max_timestamp
        segment = self._active
        if (
            segment.size + size > self._roll_bytes
            or timestamp > self._roll_timestamp
            or next_offset > self._roll_offset
        ):
            segment = self._make_room(size, next_offset, timestamp, now_ms)
        assign_offsets(batch, base_offset, leader_epoch)
        try:
            segment.append(batch, size, base_offset, next_offset, timestamp)
        except OSError as error:
            self._undo_append(segment, error)
        self.end_offset = next_offset
        if leader_epoch > self._newest_epoch:
            self._assign_epoch(leader_epoch, base_offset)
        if idempotent:
            self.producers.update(header, base_offset)
        self.unsynced_bytes = unsynced = self.unsynced_bytes + size
        if unsynced >= self._mark_at:
            self._mark_dirty()
        return base_offset

    def append_replicated(self, batches: Buffer, now_ms: int) -> int:
        """Write whole batches as a leader has them, offsets and epochs kept; return the new end offset.

        Raises KafkaError: CORRUPT_MESSAGE when they don't follow on the log's end, KAFKA_STORAGE_ERROR.
        """
        view = memoryview(batches)
        for position, header in split_batches(batches):
            base_offset = header.base_offset
            if base_offset < self.end_offset or (base_offset > self.end_offset and not self.config.compacted):
                raise KafkaError(
                    ErrorCode.CORRUPT_MESSAGE,
                    f"{self.name} ends at {self.end_offset}, a batch from {base_offset} on came",
                )
            size, next_offset, timestamp = header.size, header.next_offset, header.max_timestamp
            segment = self._active
            if (
                segment.size + size > self._roll_bytes
                or timestamp > self._roll_timestamp
                or next_offset > self._roll_offset
            ):
                segment = self._make_room(size, next_offset, timestamp, now_ms)
            try:
                segment.append(view[position : position + size], size, base_offset, next_offset, timestamp)
            except OSError as error:
                self._undo_append(segment, error)
            self.end_offset = next_offset
            if header.partition_leader_epoch > self._newest_epoch:
                self._assign_epoch(header.partition_leader_epoch, base_offset)
            if header.idempotent and not header.control:
                self.producers.update(header, base_offset)
            self.unsynced_bytes += size
            if self.unsynced_bytes >= self._mark_at:
                self._mark_dirty()
        return self.end_offset

    def _assign_epoch(self, epoch: int, base_offset: int) -> None:
        self._newest_epoch = epoch
        self.epochs.assign(epoch, base_offset)
        self._replacements[f"{self.directory}/{EPOCHS_FILE}"] = self.epochs.encode()

    def _mark_dirty(self) -> None:
        self._changed = True
        self._mark_at = self.config.flush_bytes if self.unsynced_bytes < self.config.flush_bytes else _NEVER
        self.on_dirty(self)

    def _undo_append(self, segment: Segment, error: OSError) -> None:
        """Cut off what a failed append has left; take the log offline when not even that works."""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        try:
            if segment.file.size() > segment.size:
                segment.file.truncate(segment.size)
        except OSError as second:
            self._offline = (
                f"an append failed ({error.strerror or error}) and could not be undone ({second.strerror or second})"
            )
            self._roll_bytes = -1
            raise self._refusal() from error
        cause = "the disk is full: free some space" if full else f"{error.strerror or error}: check the disk"
        raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"{self.name}: cannot append, {cause}") from error

    def _refusal(self) -> KafkaError:
        return KafkaError(
            ErrorCode.KAFKA_STORAGE_ERROR,
            f"{self.name} is offline: {self._offline}; check the disk, then restart the node",
        )

    # -- rolling ------------------------------------------------------------------------------------------------------

    def _make_room(self, size: int, next_offset: int, timestamp: int, now_ms: int) -> Segment:
        """The segment for an append that met a limit: limits are worked out anew, and if one holds, the log rolls."""
        if self._offline is not None:
            raise self._refusal()
        active = self._active
        if active.size and self._is_full(active, size, next_offset, timestamp, now_ms):
            self.roll(now_ms)
            active = self._active
        first_timestamp = active.first_timestamp
        if not active.size:
            first_timestamp = timestamp
            self._directory_changed = True  # the append creates the file
        config = self.config
        index_bytes = active.index_room(config.segment_index_bytes) * max(active.index_interval, 61)
        self._roll_bytes = min(config.segment_bytes, MAX_SEGMENT_BYTES, active.size + index_bytes)
        self._roll_offset = active.base_offset + _MAX_RELATIVE_OFFSET
        # A segment whose first batch has no timestamp ages by the clock, which is looked at here at every append.
        self._roll_timestamp = first_timestamp + self._lifetime if first_timestamp != NO_TIMESTAMP else _ALWAYS
        return active

    def _is_full(self, active: Segment, size: int, next_offset: int, timestamp: int, now_ms: int) -> bool:
        """Kafka's reasons to roll: bytes, the age of the records, relative offsets, a full index."""
        first = active.first_timestamp
        age = timestamp - first if first != NO_TIMESTAMP else now_ms - active.created_ms
        return (
            active.size + size > min(self.config.segment_bytes, MAX_SEGMENT_BYTES)
            or age > self._lifetime
            or next_offset - active.base_offset > _MAX_RELATIVE_OFFSET
            or active.index_room(self.config.segment_index_bytes) <= 0
        )

    @property
    def _lifetime(self) -> int:
        config = self.config
        return config.segment_ms - int(self._jitter * min(config.segment_jitter_ms, config.segment_ms))

    def roll(self, now_ms: int) -> None:
        """Seal the active segment, if there is anything in it, and begin a new one."""
        old = self._active
        if not old.size:
            return
        if not self._named:
            # Could the second segment's name outlive the first's, a power loss would leave a log without its beginning. Once.
            self._disk.sync_directory(self.directory)
            self._named = True
        old.finish_time_index()
        self._queue_indexes(old)
        base = self.end_offset
        self._replacements[f"{self.directory}/{file_name(base, SNAPSHOT_SUFFIX)}"] = self.producers.snapshot(base)
        self._unsynced.append(old)
        self._active = Segment(self._disk, self.directory, base, self.config.index_interval_bytes, now_ms)
        self._segments.append(self._active)
        self._jitter = self._random()
        self._roll_bytes = -1
        self._checkpoint_due = True
        self._mark_dirty()

    def _queue_indexes(self, segment: Segment) -> None:
        self._replacements[segment.path(INDEX_SUFFIX)] = bytes(segment.index.data)
        self._replacements[segment.path(TIME_INDEX_SUFFIX)] = bytes(segment.time_index.data)

    def _queue_recovered(self) -> None:
        """What recovery has built anew for sealed segments must be on disk before the checkpoint moves on."""
        for segment in self._unsynced:
            if segment is not self._active:
                segment.finish_time_index()
                self._queue_indexes(segment)
        self._replacements[f"{self.directory}/{EPOCHS_FILE}"] = self.epochs.encode()
        self._checkpoint_due = True

    # -- flushing -----------------------------------------------------------------------------------------------------

    def begin_flush(self) -> Flush | None:
        """The work that makes durable all that is written by now; None when there is none, or one isn't ended yet."""
        if self._flush is not None or self._offline is not None:
            return None
        if not self.needs_flush:
            return None
        segments = self._unsynced
        if self._active.size and self.unsynced_bytes and self._active not in segments:
            segments = [*segments, self._active]
        self._flush = flush = Flush(
            self._disk,
            self.directory,
            segments=segments,
            directory_changed=self._directory_changed,
            replacements=self._replacements,
            checkpoint=self._checkpoint(self.end_offset) if self._checkpoint_due else None,
            end_offset=self.end_offset,
            byte_count=self.unsynced_bytes,
        )
        self._unsynced, self._replacements = [], {}
        self._directory_changed = self._checkpoint_due = False
        self.unsynced_bytes = 0
        self._mark_at = 1
        return flush

    def end_flush(self, flush: Flush) -> None:
        """Take note that `flush` has run. One that was settled meanwhile is passed over."""
        if flush is not self._flush:
            return
        self._flush = None
        if flush.state is not FlushState.DONE:
            self._requeue(flush)
            self._unsynced = [*flush.segments, *self._unsynced]
            self.unsynced_bytes += flush.byte_count
            self._directory_changed = self._directory_changed or flush.directory_changed
            return
        self._named = True
        self.recovery_point = max(self.recovery_point, flush.end_offset)
        if flush.error is not None:
            self._requeue(flush)
            return
        for segment in flush.segments:
            if segment is not self._active:
                segment.release()
        if flush.checkpoint is not None:
            self._checkpointed = flush.checkpoint.recovery_point
            self._remove_doomed(flush.checkpoint.log_start)

    def _requeue(self, flush: Flush) -> None:
        self._replacements = flush.replacements | self._replacements
        self._checkpoint_due = self._checkpoint_due or flush.checkpoint is not None

    def _settle(self) -> None:
        """End the flush that is under way, waiting for it if it has begun. Raises StorageError."""
        if self._flush is not None:
            self._flush.settle()
            self.end_flush(self._flush)

    def flush(self) -> None:
        """Make everything durable, here and now. Blocks. Raises StorageError, and OSError where the disk is full."""
        self._settle()
        flush = self.begin_flush()
        if flush is not None:
            try:
                flush.run()
            finally:
                self.end_flush(flush)
            if flush.error is not None:
                raise flush.error

    def _checkpoint(self, recovery_point: int) -> Checkpoint:
        if recovery_point != self.end_offset:
            return Checkpoint(self.start_offset, recovery_point)
        last = self._active
        if not last.size and len(self._segments) > 1:
            last = self._segments[-2]  # the active one has no file yet
        return Checkpoint(
            self.start_offset,
            recovery_point,
            last.base_offset,
            last.size,
            last.first_timestamp,
            last.max_timestamp,
            last.max_timestamp_offset,
        )

    def close(self) -> None:
        """Make everything durable, indexes and producers included, so that the next `open` needs no scan. Blocks."""
        self._settle()
        if self._offline is None and self._changed:
            if self._active.size:
                self._active.finish_time_index()
                self._queue_indexes(self._active)
                path = f"{self.directory}/{file_name(self.end_offset, SNAPSHOT_SUFFIX)}"
                self._replacements[path] = self.producers.snapshot(self.end_offset)
            self._checkpoint_due = True
            self.flush()
            self._changed = False
        self.abandon()

    def abandon(self) -> None:
        """Release the files without making anything durable: the log is about to be deleted. Later appends are refused."""
        if self._flush is not None:
            self._flush.settle()
            self._flush = None
        for segment in self._segments:
            segment.file.close()
        if self._offline is None:
            self._offline = "it was closed"
        self._roll_bytes = -1

    # -- reading ------------------------------------------------------------------------------------------------------

    def read(self, offset: int, max_bytes: int, upper: int, at_least_one: bool = True) -> Buffer:
        """Whole batches, from the one that holds `offset`, that end at or before offset `upper`; empty when there is none.

        They have at most `max_bytes` together, but with `at_least_one` the first is returned even when it is larger.
        A read ends with its segment. Raises KafkaError: OFFSET_OUT_OF_RANGE, CORRUPT_MESSAGE, KAFKA_STORAGE_ERROR.
        """
        segment = self._active
        if offset < segment.base_offset:
            if offset < self.start_offset:
                raise self._out_of_range(offset)
            segment = self._segments[self._index_of(offset)]
        elif offset >= self.end_offset:
            if offset > self.end_offset:
                raise self._out_of_range(offset)
            return b""
        try:
            return segment.read(offset, max_bytes, upper, at_least_one)
        except OSError as error:
            raise KafkaError(
                ErrorCode.KAFKA_STORAGE_ERROR, f"{self.name}: cannot read at offset {offset}, {error.strerror or error}"
            ) from error

    def _out_of_range(self, offset: int) -> KafkaError:
        return KafkaError(
            ErrorCode.OFFSET_OUT_OF_RANGE,
            f"{self.name} has offsets {self.start_offset} to {self.end_offset}, not {offset}",
        )

    def _index_of(self, offset: int) -> int:
        """The index of the segment that holds `offset`, or the gap before it."""
        return max(0, bisect_right(self._segments, offset, key=_base_offset) - 1)

    def offset_for_timestamp(self, timestamp: int, upper: int) -> tuple[int, int, int] | None:
        """(timestamp, offset, leader epoch) of the first record at or after `timestamp` (ms) and below offset `upper`."""
        return first_at_or_after(self._segments, timestamp, self.start_offset, upper)

    def max_timestamp(self, upper: int) -> tuple[int, int, int] | None:
        """(timestamp, offset, leader epoch) of the first of the records with the largest timestamp below `upper`."""
        return largest_timestamp(self._segments, self.start_offset, upper)

    # -- giving up the start ------------------------------------------------------------------------------------------

    def advance_start(self, offset: int) -> None:
        """Make `offset` the first that can be read (DeleteRecords); durable at return, never goes back. Blocks shortly.

        Segments wholly below go with the next flush. Raises KafkaError: OFFSET_OUT_OF_RANGE beyond the end,
        KAFKA_STORAGE_ERROR.
        """
        if offset <= self.start_offset:
            return
        if offset > self.end_offset:
            raise self._out_of_range(offset)
        if self._offline is not None:
            raise self._refusal()
        self._settle()
        try:
            self._write_checkpoint(Checkpoint(offset, self._checkpointed))
        except OSError as error:
            raise KafkaError(
                ErrorCode.KAFKA_STORAGE_ERROR,
                f"{self.name}: the new log start cannot be written, {error.strerror or error}",
            ) from error
        self._changed = True
        self._start_at(offset)
        self._give_up(retention.below_start([s.next_offset for s in self._segments[:-1]], offset))
        self._remove_doomed(offset)

    def _write_checkpoint(self, checkpoint: Checkpoint) -> None:
        self._disk.replace(f"{self.directory}/{CHECKPOINT_FILE}", checkpoint.encode())

    def _start_at(self, offset: int) -> None:
        self.start_offset = offset
        if self.epochs.truncate_from_start(offset):
            self._replacements[f"{self.directory}/{EPOCHS_FILE}"] = self.epochs.encode()

    def expired_segments(self, now_ms: int, upper: int) -> int:
        """How many of the oldest segments retention.ms and retention.bytes give up, among those wholly below `upper`.

        The active one counts when all of its records are too old: `delete_oldest` then rolls it first.
        """
        config = self.config
        segments = self._segments[: retention.below_start([s.next_offset for s in self._segments], upper)]
        if segments and not segments[-1].size:
            segments.pop()
        newest = (s.max_timestamp if s.max_timestamp != NO_TIMESTAMP else s.created_ms for s in segments)
        by_time = retention.expired_by_time(newest, now_ms, config.retention_ms)
        by_size = retention.expired_by_size(
            [s.size for s in segments if s is not self._active], self.size_bytes, config.retention_bytes
        )
        return max(by_time, by_size)

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

    def _remove_doomed(self, durable_start: int) -> None:
        """Rename the files of segments that a durable checkpoint has given up. In between, the log file goes last."""
        while self._doomed and self._doomed[0].next_offset <= durable_start:
            segment = self._doomed.pop(0)
            segment.file.close()
            self._unsynced = [other for other in self._unsynced if other is not segment]
            for suffix in (INDEX_SUFFIX, TIME_INDEX_SUFFIX, SNAPSHOT_SUFFIX, LOG_SUFFIX):
                path = segment.path(suffix)
                self._replacements.pop(path, None)
                if self._disk.exists(path):
                    self._disk.rename(path, path + DELETED_SUFFIX)
                    self._deleted.append(path + DELETED_SUFFIX)
            self._directory_changed = True

    def take_deleted(self) -> list[str]:
        """Paths of files that were given up since the last call, for removal after file.delete.delay.ms."""
        deleted, self._deleted = self._deleted, []
        return deleted

    # -- giving up the end --------------------------------------------------------------------------------------------

    def truncate_to(self, offset: int, now_ms: int) -> None:
        """Cut off the batch that holds `offset` and all after it: what a new leader doesn't have (KIP-101). Blocks."""
        if offset >= self.end_offset:
            return
        keep = self._index_of(offset) + 1
        offset = self._segments[keep - 1].boundary(offset)
        if offset <= max(self.start_offset, self._segments[0].base_offset):
            self.truncate_fully(self.start_offset, now_ms)
            return
        self._settle()
        if self._checkpointed > offset:
            self._checkpointed = offset
        self._write_checkpoint(Checkpoint(self.start_offset, self._checkpointed))
        for segment in reversed(self._segments[keep:]):
            self._remove(segment)
        del self._segments[keep:]
        self._active = active = self._segments[-1]
        active.truncate(offset)
        self._cut_state(active.next_offset)
        if active not in self._unsynced:
            self._unsynced.append(active)
        self._mark_dirty()

    def truncate_fully(self, start_offset: int, now_ms: int) -> None:
        """Drop everything and go on at `start_offset`: a follower whose log lies wholly outside of its leader's. Blocks."""
        self._settle()
        self._write_checkpoint(Checkpoint(start_offset, start_offset))
        self._checkpointed = start_offset
        for segment in reversed(self._segments):
            self._remove(segment)
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
        self.end_offset = end_offset
        self.recovery_point = min(self.recovery_point, end_offset)
        self.epochs.truncate_from_end(end_offset)
        self._newest_epoch = self.epochs.latest
        self._replacements[f"{self.directory}/{EPOCHS_FILE}"] = self.epochs.encode()
        recovery.rebuild_producers(self._disk, self.directory, self.producers, self._segments, end_offset)
        self._directory_changed = True
        self._checkpoint_due = True
        self._roll_bytes = -1


def _base_offset(segment: Segment) -> int:
    return segment.base_offset
