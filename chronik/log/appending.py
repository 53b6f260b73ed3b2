"""Appending to a log, and rolling to a new segment.

An append is a comparison with three limits (bytes, timestamp, offset) and one `write`. Whatever happens rarely hides
behind those limits: `_make_room` refuses for a log that is offline, makes the directory of a log that had no record
yet, rolls, and works the limits out anew.
"""

from __future__ import annotations

import errno

from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import Buffer
from chronik.log.aborted import AbortedTransactions
from chronik.log.config import MAX_SEGMENT_BYTES
from chronik.log.epochs import EPOCHS_FILE
from chronik.log.flushing import FlushedLog
from chronik.log.restoring import take_note
from chronik.log.segment import Segment
from chronik.log.state import fail_stop
from chronik.model import TransactionMarker
from chronik.wire.markers import encode_marker
from chronik.wire.records import (
    NO_PRODUCER_ID,
    NO_TIMESTAMP,
    BatchHeader,
    assign_offsets,
    read_header,
    split_batches,
)

_ALWAYS = -2
_MAX_RELATIVE_OFFSET = 0x7FFFFFFF


class AppendedLog(FlushedLog):
    """A log that grows at its end."""

    __slots__ = ()

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

    def append_marker(self, marker: TransactionMarker, leader_epoch: int, now_ms: int) -> tuple[int, int]:
        """Write the control batch that ends a producer's transaction; return the offset after it, and its size in bytes.

        One for a producer without an open transaction is written too. What it ends is unstable until the producers are told
        that it is `committed`. Raises KafkaError: those of `Producers.check_marker`, and KAFKA_STORAGE_ERROR.
        """
        self.producers.check_marker(marker)
        batch = encode_marker(marker, now_ms)
        # No producer: what its state must know of this batch is in the marker.
        header = read_header(batch)._replace(producer_id=NO_PRODUCER_ID)
        offset = self.append(batch, header, leader_epoch, now_ms)
        transaction = self.producers.end(marker, offset, now_ms)
        if transaction is not None:
            self._active_aborted.add(transaction)
        return offset + 1, len(batch)

    @property
    def _active_aborted(self) -> AbortedTransactions:
        aborted = self._active.aborted
        assert aborted is not None  # only sealed segments are released
        return aborted

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
            take_note(self.producers, self._active_aborted, segment, segment.size - size, header)
            self.unsynced_bytes += size
            if self.unsynced_bytes >= self._mark_at:
                self._mark_dirty()
        return self.end_offset

    def begin_epoch(self, epoch: int) -> None:
        """Note that leadership `epoch` begins at the log's end, whether or not it will write: clients are told of it.

        In memory until it writes. One that never does needs no file: after a restart a newer one begins where it did,
        and answers for it.
        """
        self.epochs.assign(epoch, self.end_offset)

    def _assign_epoch(self, epoch: int, base_offset: int) -> None:
        self._newest_epoch = epoch
        self.epochs.assign(epoch, base_offset)
        self._replacements[f"{self.directory}/{EPOCHS_FILE}"] = self.epochs.encode()

    def _undo_append(self, segment: Segment, error: OSError) -> None:
        """Cut off what a failed append has left; take the log offline when not even that works."""
        try:
            if segment.file.size() > segment.size:
                segment.file.truncate(segment.size)
        except OSError as second:
            self.take_offline(
                f"an append failed ({error.strerror or error}) and could not be undone ({second.strerror or second})"
            )
            raise self._refusal() from error
        raise self._not_appended(error) from error

    def _not_appended(self, error: OSError) -> KafkaError:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        cause = "the disk is full: free some space" if full else f"{error.strerror or error}: check the disk"
        return KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"{self.name}: cannot append, {cause}")

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
            if not self._exists:
                self._make_directory()
            self._directory_changed = True  # the append creates the file
        config = self.config
        index_bytes = active.index_room(config.segment_index_bytes) * max(active.index_interval, 61)
        self._roll_bytes = min(config.segment_bytes, MAX_SEGMENT_BYTES, active.size + index_bytes)
        self._roll_offset = active.base_offset + _MAX_RELATIVE_OFFSET
        # A segment whose first batch has no timestamp ages by the clock, which is looked at here at every append.
        self._roll_timestamp = first_timestamp + self._lifetime if first_timestamp != NO_TIMESTAMP else _ALWAYS
        return active

    def _make_directory(self) -> None:
        """A log without any record has no directory yet. The next flush makes its name durable."""
        try:
            self._disk.make_directory(self.directory, durable=False)
        except OSError as error:
            raise self._not_appended(error) from error
        self._exists = self._parent_changed = self._changed = True

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
        lifetime = config.segment_ms
        if config.compacted:  # the active segment is not cleaned
            lifetime = min(lifetime, config.max_compaction_lag_ms)
        return lifetime - int(self._jitter * min(config.segment_jitter_ms, lifetime))

    @fail_stop
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
        self._queue_snapshot(old, base)
        self._unsynced.append(old)
        self._active = Segment(self._disk, self.directory, base, self.config.index_interval_bytes, now_ms)
        self._segments.append(self._active)
        self._jitter = self._random()
        self._roll_bytes = -1
        self._checkpoint_due = True
        self._mark_dirty()
