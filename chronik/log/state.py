"""What a log is while it is open: its segments, how far it reaches, what is unsynced, and reading.

The lowest of the layers that make up `chronik.log.log.Log`: this state, then flushing, appending, compaction, giving up.

**Fail-stop.** When a sync fails, pages may be lost that the kernel calls clean, so nothing that the log says afterwards
would be worth anything. A method in which that can come to light is marked `fail_stop`: the log then takes itself
offline, tells `on_lost`, which must end the process, and raises the StorageError on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from chronik.errors import ErrorCode, KafkaError, StorageError
from chronik.interfaces import Buffer, IDisk
from chronik.log import recovery, restoring
from chronik.log.aborted import AbortedTransaction, AbortedTransactions
from chronik.log.config import LogConfig
from chronik.log.epochs import EPOCHS_FILE
from chronik.log.flush import Flush
from chronik.log.lookup import first_at_or_after, largest_timestamp
from chronik.log.segment import INDEX_SUFFIX, SNAPSHOT_SUFFIX, TIME_INDEX_SUFFIX, Segment, file_name
from chronik.log.snapshot import encode_snapshot
from chronik.log.swap import Swap

_NEVER = 2**63 - 1

_P = ParamSpec("_P")
_T = TypeVar("_T")
_L = TypeVar("_L", bound="LogState")


def tell_nobody(_: object) -> None:
    """Nobody flushes this log in the background, or minds its loss: its caller does, by `flush` and what they raise."""


def fail_stop(method: Callable[Concatenate[_L, _P], _T]) -> Callable[Concatenate[_L, _P], _T]:
    """Mark a method that may wait for the disk: a sync that fails in it loses the log."""

    @wraps(method)
    def guarded(self: _L, *args: _P.args, **options: _P.kwargs) -> _T:
        try:
            return method(self, *args, **options)
        except StorageError as error:
            self.lose(error)
            raise

    return cast("Callable[Concatenate[_L, _P], _T]", guarded)


class LogState:
    """The state of one partition's log in `directory`, and what can be read from it.

    `recovery` tells what an unclean shutdown has cost, None when nothing had to be looked at. `on_dirty(log)` is told
    that the log wants a flush, `on_lost(error)` that it lost a sync; both may be set at any time.
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
        "_exists",
        "_flush",
        "_jitter",
        "_mark_at",
        "_named",
        "_newest_epoch",
        "_offline",
        "_parent_changed",
        "_random",
        "_replacements",
        "_roll_bytes",
        "_roll_offset",
        "_roll_timestamp",
        "_segments",
        "_swap",
        "_unsynced",
        "cleaner",
        "config",
        "directory",
        "durable_start",
        "end_offset",
        "epochs",
        "flush_error",
        "generation",
        "name",
        "on_dirty",
        "on_lost",
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
        self.start_offset = self.durable_start = loaded.start_offset
        self.generation = 0
        """How often files have taken the place of others, or were cut: who reads beside the log looks for them anew."""
        self.flush_error: OSError | None = None
        """Why the last flush could not write what is derived, or the checkpoint: the disk is full. It is tried again."""
        self.end_offset = self._active.next_offset
        self.recovery_point = loaded.recovery_point
        self.producers = loaded.producers
        self.cleaner = loaded.cleaner
        self.epochs = loaded.epochs
        self._newest_epoch = loaded.epochs.latest  # of those that have written
        self.recovery = loaded.recovery
        self.on_dirty: Callable[[Any], object] = tell_nobody
        self.on_lost: Callable[[StorageError], object] = tell_nobody
        self._offline: str | None = None
        # What the next flush has to do.
        unsynced = loaded.segments[loaded.first_unsynced :]
        self._unsynced: list[Segment] = [segment for segment in unsynced if segment.size]
        self.unsynced_bytes = sum(segment.size for segment in self._unsynced)
        self._exists = loaded.exists
        # A name that was given before an unclean shutdown may not be on disk yet: the next flush sees to it.
        self._parent_changed = loaded.exists and not loaded.clean
        self._directory_changed = loaded.recovery is not None
        self._replacements: dict[str, bytes] = {}
        self._named = False  # whether a flush has made the first file's name durable
        self._checkpointed = loaded.recovery_point
        self._checkpoint_due = False
        self._changed = loaded.recovery is not None
        self._mark_at = 1
        self._flush: Flush | None = None
        self._swap: Swap | None = None
        self._doomed: list[Segment] = []
        self._deleted: list[str] = []
        if loaded.recovery is not None:
            self._queue_recovered(loaded)
        self._jitter = random()
        # The first append finds the active segment over this limit and prepares it.
        self._roll_bytes = self._roll_timestamp = self._roll_offset = -1

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

    def lose(self, error: StorageError) -> None:
        """A sync has failed: refuse whatever is asked from now on, and tell `on_lost`, the first time."""
        if self._offline is None:
            self.take_offline(str(error))
            self.on_lost(error)

    def take_offline(self, reason: str) -> None:
        """Refuse appends, flushes and cuts from now on."""
        if self._offline is None:
            self._offline = reason
        self._roll_bytes = -1  # every append meets this limit, and the refusal behind it

    def _refusal(self) -> KafkaError:
        return KafkaError(
            ErrorCode.KAFKA_STORAGE_ERROR,
            f"{self.name} is offline: {self._offline}; check the disk, then restart the node",
        )

    # -- what is to be synced -----------------------------------------------------------------------------------------

    def _mark_dirty(self) -> None:
        self._changed = True
        self._mark_at = self.config.flush_bytes if self.unsynced_bytes < self.config.flush_bytes else _NEVER
        self.on_dirty(self)

    def _queue_indexes(self, segment: Segment) -> None:
        self._replacements[segment.path(INDEX_SUFFIX)] = bytes(segment.index.data)
        self._replacements[segment.path(TIME_INDEX_SUFFIX)] = bytes(segment.time_index.data)

    def _queue_snapshot(self, segment: Segment, offset: int) -> None:
        """The log ends at `offset`, with `segment`: have written what is known of producers and transactions there."""
        aborted = self._aborted_of(segment)
        aborted.settled_to = min(self.producers.first_open, offset)
        path = f"{self.directory}/{file_name(offset, SNAPSHOT_SUFFIX)}"
        self._replacements[path] = encode_snapshot(self.producers, aborted, offset)

    def _queue_recovered(self, loaded: recovery.LoadedLog) -> None:
        """What recovery has built anew for sealed segments must be on disk before the checkpoint moves on."""
        for segment in self._unsynced:
            if segment is not self._active:
                segment.finish_time_index()
                self._queue_indexes(segment)
        self._replacements[f"{self.directory}/{EPOCHS_FILE}"] = self.epochs.encode()
        self._replacements |= loaded.snapshots
        self._checkpoint_due = True

    # -- reading ------------------------------------------------------------------------------------------------------

    def read(self, offset: int, max_bytes: int, upper: int, at_least_one: bool = True) -> tuple[Buffer, bool, int]:
        """Whole batches, from the one that holds `offset`, that end at or before offset `upper`; empty when there is none.

        And whether these are all, for they have at most `max_bytes` together, and a read ends with its segment; and the offset
        after them. With `at_least_one` the first is returned even when it is larger. Raises KafkaError: OFFSET_OUT_OF_RANGE,
        CORRUPT_MESSAGE, KAFKA_STORAGE_ERROR.
        """
        segment = self._active
        if offset < segment.base_offset:
            if offset < self.start_offset:
                raise self._out_of_range(offset)
            segment = self._segments[self._index_of(offset)]
        elif offset >= self.end_offset:
            if offset > self.end_offset:
                raise self._out_of_range(offset)
            return b"", True, offset
        try:
            found = segment.read(offset, max_bytes, upper, at_least_one)
            if (
                not (found[0] or found[1])
                and segment is not self._active
                and segment.position_of(offset) >= segment.size
            ):
                # Nothing is left between here and the next segment.
                return self.read(segment.next_offset, max_bytes, upper, at_least_one)
            return found
        except OSError as error:
            raise self._unreadable(offset, error) from error

    def aborted_between(self, offset: int, upper: int) -> Sequence[AbortedTransaction]:
        """The aborted transactions that have anything from `offset` on and below `upper`, which is stable.

        Raises KafkaError: CORRUPT_MESSAGE, KAFKA_STORAGE_ERROR.
        """
        active = self._active
        if offset >= active.base_offset and active.aborted is not None and not active.aborted.data:
            return ()
        found: list[AbortedTransaction] = []
        try:
            for index in range(self._index_of(offset), len(self._segments)):
                transactions, is_all = self._aborted_of(self._segments[index]).overlapping(offset, upper)
                found += transactions
                if is_all:
                    break
        except OSError as error:
            raise self._unreadable(offset, error) from error
        return found

    def _aborted_of(self, segment: Segment) -> AbortedTransactions:
        if segment.aborted is None:
            segment.aborted = restoring.find_aborted(self._disk, self.directory, self._segments, segment)
        return segment.aborted

    def _unreadable(self, offset: int, error: OSError) -> KafkaError:
        return KafkaError(
            ErrorCode.KAFKA_STORAGE_ERROR, f"{self.name}: cannot read at offset {offset}, {error.strerror or error}"
        )

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


def _base_offset(segment: Segment) -> int:
    return segment.base_offset
