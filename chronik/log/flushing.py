"""Flushing a log: what there is to sync is listed, carried out elsewhere, and taken note of.

`begin_flush` lists it on the reactor, the `Flush` runs on the flusher's thread, `end_flush` takes note. `flush` and
`close` do the same here and now.
"""

from __future__ import annotations

import posixpath

from chronik.errors import StorageError
from chronik.log.checkpoint import CHECKPOINT_FILE, Checkpoint
from chronik.log.flush import Flush, FlushState
from chronik.log.segment import (
    DELETED_SUFFIX,
    INDEX_SUFFIX,
    LOG_SUFFIX,
    SNAPSHOT_SUFFIX,
    TIME_INDEX_SUFFIX,
)
from chronik.log.state import LogState, fail_stop


class FlushedLog(LogState):
    """A log that can be made durable."""

    __slots__ = ()

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
            parent_changed=self._parent_changed,
            replacements=self._replacements,
            checkpoint=self._checkpoint(self.end_offset) if self._checkpoint_due else None,
            end_offset=self.end_offset,
            byte_count=self.unsynced_bytes,
        )
        self._unsynced, self._replacements = [], {}
        self._directory_changed = self._parent_changed = self._checkpoint_due = False
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
            self._parent_changed = self._parent_changed or flush.parent_changed
            self._mark_dirty()  # it was taken off the flusher's list when the flush began
            return
        self._named = True
        self.recovery_point = max(self.recovery_point, flush.end_offset)
        self.flush_error = flush.error
        if flush.error is not None:
            self._requeue(flush)
            return
        for segment in flush.segments:
            if segment is not self._active:
                segment.release()
        if flush.checkpoint is not None:
            self._checkpointed = flush.checkpoint.recovery_point
            self.durable_start = flush.checkpoint.log_start
            self._remove_doomed(flush.checkpoint.log_start)

    def _requeue(self, flush: Flush) -> None:
        self._replacements = flush.replacements | self._replacements
        self._checkpoint_due = self._checkpoint_due or flush.checkpoint is not None

    def _settle(self) -> None:
        """End the flush that is under way, waiting for it if it has begun. Raises StorageError."""
        if self._flush is not None:
            self._flush.settle()
            self.end_flush(self._flush)

    @fail_stop
    def flush(self) -> None:
        """Make everything durable, here and now. Blocks. Raises StorageError, OSError where the disk is full, KafkaError."""
        if self._offline is not None:
            raise self._refusal()
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

    def _write_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Put the checkpoint on disk, here and now."""
        if self._parent_changed:
            self._disk.sync_directory(posixpath.dirname(self.directory))
            self._parent_changed = False
        self._disk.replace(f"{self.directory}/{CHECKPOINT_FILE}", checkpoint.encode())
        self.durable_start = checkpoint.log_start

    @fail_stop
    def close(self) -> None:
        """Make everything durable, indexes and producers included, so that the next `open` needs no scan. Blocks."""
        if self._offline is None and self._swap is not None:
            try:
                self._swap.settle()
            except OSError:  # the next start ends what counts, and removes what doesn't
                self._swap.cancel()
        if self._offline is None and self._changed:
            self._settle()
            if self._active.size:
                self._active.finish_time_index()
                self._queue_indexes(self._active)
                self._queue_snapshot(self._active, self.end_offset)
            self._checkpoint_due = True
            self.flush()
            self._changed = False
        self.abandon()

    @fail_stop
    def abandon(self) -> None:
        """Release the files without making anything durable: the log is about to be deleted. Later appends are refused."""
        if self._swap is not None:
            self._swap.cancel()
        flush, self._flush = self._flush, None
        try:
            if flush is not None:
                flush.settle()
        except StorageError:
            if self._offline is None:
                raise
        finally:
            for segment in self._segments:
                segment.file.close()
        self.take_offline("it was closed")

    def _remove_doomed(self, durable_start: int) -> None:
        """Rename the files of segments that a durable checkpoint has given up. In between, the log file goes last."""
        while self._doomed and self._doomed[0].next_offset <= durable_start and not self._doomed[0].staged:
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
