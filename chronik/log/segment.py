"""One segment of a log: a file of record batches, its sparse indexes, and where in it an offset or a time is.

A segment is `<base offset>.log` with `.index` and `.timeindex`. Batches are written as they are and read back as they
are.

**Reading costs what it must.** The positions of the last `RECENT_BATCHES` batches are kept in memory, so a read near
the end is two binary searches and one `pread`, however many batches it spans. Further back the indexes lead there
(`chronik.log.seeking`).

**Lost and rotten indexes are mended.** They are made anew from the batches: at once in a segment of up to `MENDED_AT_ONCE`
bytes, and wherever the caller may wait; else slice by slice, while look-ups are refused with a `MendingError`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from chronik.interfaces import Buffer, IDisk
from chronik.log.aborted import AbortedTransactions
from chronik.log.index import MendingError, OffsetIndex, RottenIndexError, TimeIndex
from chronik.log.mending import Mending
from chronik.log.scan import SCAN_BYTES, scan_batches
from chronik.log.seeking import read_by_index, seek, seek_time
from chronik.wire.records import NO_TIMESTAMP, BatchHeader

LOG_SUFFIX = ".log"
INDEX_SUFFIX = ".index"
TIME_INDEX_SUFFIX = ".timeindex"
SNAPSHOT_SUFFIX = ".snapshot"
DELETED_SUFFIX = ".deleted"
CLEANED_SUFFIX = ".cleaned"
SWAP_SUFFIX = ".swap"

RECENT_BATCHES = 4096
MENDED_AT_ONCE = 128 << 10

_P = ParamSpec("_P")
_T = TypeVar("_T")


def file_name(offset: int, suffix: str) -> str:
    """Kafka's name for a file that begins at `offset`: 20 digits, so that names sort as offsets do."""
    return f"{offset:020d}{suffix}"


class Segment:
    """A segment that begins at `base_offset`. Opening one does no I/O: `size` in bytes and `next_offset` are handed in.

    `name` is the path of its files without what makes them differ. `stage` is what their names end with while compaction makes
    it: `CLEANED_SUFFIX`, then `SWAP_SUFFIX`, then nothing. `last_ends` remembers where some reads ended, offset by position.

    `max_timestamp` (ms) is the largest of its batches', and `max_timestamp_offset` the base offset of the first batch
    that has it; of a segment that was on disk already they come from the time index, at the first look. `aborted` has the
    transactions whose abort markers are in the segment, None while they are not in memory (`chronik.log.restoring`).
    """

    __slots__ = (
        "_disk",
        "_index",
        "_max_timestamp",
        "_max_timestamp_offset",
        "_mending",
        "_rebuilt",
        "_recent_offsets",
        "_recent_positions",
        "_since_index",
        "_stage",
        "_time_index",
        "aborted",
        "base_offset",
        "created_ms",
        "file",
        "first_timestamp",
        "index_interval",
        "last_ends",
        "name",
        "next_offset",
        "size",
    )

    def __init__(
        self,
        disk: IDisk,
        directory: str,
        base_offset: int,
        index_interval: int,
        created_ms: int,
        size: int = 0,
        stage: str = "",
    ) -> None:
        self._disk = disk
        self.name = f"{directory}/{file_name(base_offset, '')}"
        self._stage = stage
        self.base_offset = base_offset
        self.next_offset = base_offset
        self.file = disk.open(self.path(LOG_SUFFIX))
        self.size = size
        self.created_ms = created_ms
        self.first_timestamp = NO_TIMESTAMP
        self._max_timestamp = NO_TIMESTAMP
        self._max_timestamp_offset = base_offset
        self.index_interval = index_interval
        self._since_index = 0
        self._recent_offsets: list[int] = []
        self._recent_positions: list[int] = []
        self.last_ends: dict[int, int] = {}
        self._rebuilt = False
        self._mending: Mending | None = None
        # None: not loaded yet. An empty segment has empty ones.
        self._index: OffsetIndex | None = None if size else OffsetIndex()
        self._time_index: TimeIndex | None = None if size else TimeIndex()
        self.aborted: AbortedTransactions | None = None if size else AbortedTransactions()

    def path(self, suffix: str) -> str:
        """The path of one of the segment's files."""
        return self.name + suffix + self._stage

    @property
    def staged(self) -> bool:
        """Whether its files don't have their final names yet."""
        return bool(self._stage)

    def restage(self, stage: str) -> None:
        """Go by the names of another `stage`, which the files have by now."""
        self.file.close()
        self._stage = stage
        self.file = self._disk.open(self.path(LOG_SUFFIX))
        self._mending = None  # it reads by the other name; the next look-up begins anew

    # -- appending ----------------------------------------------------------------------------------------------------

    def append(self, batch: Buffer, size: int, base_offset: int, next_offset: int, max_timestamp: int) -> None:
        """Write one or more whole batches that begin at `base_offset`. Raises OSError, and then nothing is noted."""
        self.file.append(batch)
        position = self.size
        self.size = position + size
        offsets = self._recent_offsets
        if base_offset != self.next_offset:  # a gap that compaction left: positions by offset alone would mislead
            offsets.clear()
            self._recent_positions.clear()
        self.next_offset = next_offset
        offsets.append(base_offset)
        self._recent_positions.append(position)
        if len(offsets) > RECENT_BATCHES:
            del offsets[: RECENT_BATCHES // 2], self._recent_positions[: RECENT_BATCHES // 2]
        if max_timestamp > self._max_timestamp:
            self._max_timestamp = max_timestamp
            self._max_timestamp_offset = base_offset
            if position == 0:
                self.first_timestamp = max_timestamp
        self._since_index += size
        if self._since_index > self.index_interval:
            self._add_entries(base_offset, position)
            self._since_index = 0

    def _add_entries(self, base_offset: int, position: int) -> None:
        if position:  # the start of the segment needs no entry
            self.index.add(base_offset - self.base_offset, position)
        self.time_index.add(self._max_timestamp, self._max_timestamp_offset - self.base_offset)

    def resume(self, next_offset: int, first_timestamp: int, max_timestamp: int, max_timestamp_offset: int) -> None:
        """Take over what a checkpoint says of the segment, in place of a scan."""
        self.next_offset = next_offset
        self.first_timestamp = first_timestamp
        self._max_timestamp = max_timestamp
        self._max_timestamp_offset = max_timestamp_offset

    def index_room(self, max_bytes: int) -> int:
        """How many more entries either index has room for (segment.index.bytes)."""
        return min((max_bytes - len(self.index.data)) // 8, (max_bytes - len(self.time_index.data)) // 12)

    def finish_time_index(self) -> None:
        """Make the last entry of the time index the largest timestamp of the segment: it is sealed or closed now."""
        index = self.time_index
        index.add(self._max_timestamp, self._max_timestamp_offset - self.base_offset)
        if self.size and not len(index):
            index.data += b"\xff" * 8 + bytes(4)  # (-1, 0): there are batches, none of them with a timestamp

    def release(self) -> None:
        """Give back what a sealed segment holds in memory and can load again from its files."""
        self._index = self._time_index = None
        if self.aborted:  # one with nothing in it costs nothing, and saves the look
            self.aborted = None
        self._rebuilt = False
        self._mending = None
        self._recent_offsets.clear()
        self._recent_positions.clear()

    # -- indexes ------------------------------------------------------------------------------------------------------

    @property
    def index(self) -> OffsetIndex:
        """The offset index, loaded or rebuilt when it isn't in memory."""
        if self._index is None:
            self._load_or_rebuild()
        assert self._index is not None
        return self._index

    @property
    def time_index(self) -> TimeIndex:
        """The time index, loaded or rebuilt when it isn't in memory."""
        if self._time_index is None:
            self._load_or_rebuild()
        assert self._time_index is not None
        return self._time_index

    @property
    def max_timestamp(self) -> int:
        """The largest timestamp of all batches in ms, -1 when there is none."""
        if self._max_timestamp == NO_TIMESTAMP and self._time_index is None:
            self._load_or_rebuild()
        return self._max_timestamp

    def newest_timestamp(self) -> int:
        """As `max_timestamp`, for a caller that can ask again later. Raises MendingError, in a large segment."""
        if self._max_timestamp == NO_TIMESTAMP and self._time_index is None:
            self._mended_soon(lambda: None)
        return self.max_timestamp

    @property
    def max_timestamp_offset(self) -> int:
        """The base offset of the first batch with the largest timestamp."""
        return self._max_timestamp_offset if self.max_timestamp != NO_TIMESTAMP else self.base_offset

    def has_indexes(self) -> bool:
        """Whether the files of the indexes are there and good, as far as a look can tell. They are in memory then."""
        try:
            self._load_indexes()
        except RottenIndexError:
            return False
        return True

    def _load_or_rebuild(self) -> None:
        if not self.has_indexes():
            self.rebuild()

    def _load_indexes(self) -> None:
        """Raises RottenIndexError where the files are lost or not those of this segment."""
        try:
            index = OffsetIndex(self._disk.read(self.path(INDEX_SUFFIX)))
            time_index = TimeIndex(self._disk.read(self.path(TIME_INDEX_SUFFIX)))
        except FileNotFoundError:
            raise RottenIndexError(self.name) from None
        if not index.fits(self.size) or not time_index.fits(self.size):
            raise RottenIndexError(self.name)
        self._index, self._time_index = index, time_index
        try:
            seek_time(self, time_index.last())
        except RottenIndexError:
            self._index = self._time_index = None
            raise
        if self._max_timestamp == NO_TIMESTAMP:
            self._max_timestamp, relative = time_index.last()
            self._max_timestamp_offset = self.base_offset + relative

    def rebuild(self) -> None:
        """Make the indexes anew from the log. Raises KafkaError where the log cannot be read."""
        self._rebuilt = True
        for _ in self.replay(scan_batches(self.file, 0, self.size)):
            pass

    def replay(self, batches: Iterator[tuple[int, BatchHeader]]) -> Iterator[tuple[int, BatchHeader]]:
        """Rebuild indexes and timestamps from all batches of the segment, handing each through."""
        index, time_index = self._index, self._time_index = OffsetIndex(), TimeIndex()
        self._recent_offsets.clear()
        self._recent_positions.clear()
        self.last_ends.clear()
        self._max_timestamp, self._max_timestamp_offset = NO_TIMESTAMP, self.base_offset
        since = 0
        for position, header in batches:
            yield position, header
            if header.max_timestamp > self._max_timestamp and header.record_count:  # one emptied by compaction has none
                self._max_timestamp = header.max_timestamp
                self._max_timestamp_offset = header.base_offset
                if position == 0:
                    self.first_timestamp = header.max_timestamp
            since += header.size
            if since > self.index_interval:
                if position:
                    index.add(header.base_offset - self.base_offset, position)
                time_index.add(self._max_timestamp, self._max_timestamp_offset - self.base_offset)
                since = 0
        self._since_index = since

    # -- reading ------------------------------------------------------------------------------------------------------

    def read(self, offset: int, max_bytes: int, upper: int, at_least_one: bool) -> tuple[Buffer, bool, int]:
        """Whole batches that end at or before offset `upper`, from the one that holds `offset`, in at most `max_bytes`.

        And whether that is all below `upper`, and the offset after them. With `at_least_one` the first batch is returned even
        when it is larger. Raises KafkaError(CORRUPT_MESSAGE).
        """
        offsets = self._recent_offsets
        if not offsets or offset < offsets[0]:
            return self._mended_soon(read_by_index, self, offset, max_bytes, upper, at_least_one)
        positions = self._recent_positions
        first = bisect_right(offsets, offset) - 1
        start = positions[first]
        # A batch that begins before `upper` and ends after it holds `upper`: it is where the read must stop.
        stop, all_of_it, end_offset = self.size, upper <= self.next_offset, self.next_offset
        if upper < end_offset:
            if upper <= offset:
                return b"", True, offset
            last = bisect_right(offsets, upper) - 1
            stop, end_offset = positions[last], offsets[last]
        if stop - start > max_bytes:
            last = bisect_right(positions, start + max_bytes) - 1
            if last <= first:
                if not at_least_one:
                    return b"", False, offset
                last = first + 1
            if last < len(positions) and positions[last] < stop:
                stop, end_offset, all_of_it = positions[last], offsets[last], False
        if stop <= start:
            return b"", all_of_it, offset
        return self.file.pread(stop - start, start), all_of_it, end_offset

    # -- by index -----------------------------------------------------------------------------------------------------

    def _mended(self, look_up: Callable[_P, _T], *args: _P.args, **options: _P.kwargs) -> _T:
        """What `look_up` gives, on indexes made anew where they turn out to have rotted."""
        try:
            return look_up(*args, **options)
        except RottenIndexError:
            if self._rebuilt:
                raise
            self.rebuild()
            return look_up(*args, **options)

    def _mended_soon(self, look_up: Callable[_P, _T], *args: _P.args, **options: _P.kwargs) -> _T:
        """As `_mended`, for look-ups that can be tried again later. Raises MendingError, in a large segment."""
        if self._mending is None:
            try:
                if self._index is None and not self._rebuilt:
                    self._load_indexes()
                return look_up(*args, **options)
            except RottenIndexError:
                if self._rebuilt or self.size <= MENDED_AT_ONCE:
                    return self._mended(look_up, *args, **options)
            directory, _, _ = self.name.rpartition("/")
            twin = Segment(
                self._disk, directory, self.base_offset, self.index_interval, self.created_ms, stage=self._stage
            )
            self._mending = Mending(self, twin)
            raise MendingError(self.name, self._mending.begin)
        raise MendingError(self.name, lambda _: None)  # somebody has it go on already

    def mended_by(self, twin: Segment) -> None:
        """Take the indexes that `twin` has for the same batches, as far as those can be read."""
        self._mending, self._rebuilt = None, True
        self._index, self._time_index, self._since_index = twin._index, twin._time_index, twin._since_index
        self._max_timestamp, self._max_timestamp_offset = twin._max_timestamp, twin._max_timestamp_offset
        self.last_ends.clear()

    def not_mended(self) -> None:
        """The disk could not be read: the next look-up begins anew."""
        self._mending = None

    def is_mended_by(self, mending: Mending) -> bool:
        """Whether `mending` is still wanted: the segment may have been cut or released."""
        return self._mending is mending

    def position_of(self, offset: int) -> int:
        """Where the batch begins that holds `offset`, or the first after it; the size when there is none."""
        return self._mended(seek, self, offset)[0]

    def boundary(self, offset: int) -> int:
        """The base offset of the batch that holds `offset`; the end offset when none does."""
        header = self._mended(seek, self, offset)[1]
        return self.next_offset if header is None else header.base_offset

    def batches_from(self, offset: int) -> Iterator[tuple[int, BatchHeader]]:
        """(position, header) from the batch that holds `offset` on."""
        return scan_batches(self.file, self.position_of(offset), self.size)

    def batches_soon(self, offset: int) -> Iterator[tuple[int, BatchHeader]]:
        """As `batches_from`, for a caller that can ask again later. Raises MendingError, in a large segment."""
        position = self._mended_soon(seek, self, offset)[0]
        return scan_batches(self.file, position, self.size, chunk_bytes=4 * self.index_interval + SCAN_BYTES // 16)

    def batches_since(self, timestamp: int) -> Iterator[tuple[int, BatchHeader]]:
        """(position, header) from a batch on before which none has a record at or after `timestamp`."""
        position = self._mended_soon(lambda: seek_time(self, self.time_index.floor(timestamp)))
        return scan_batches(self.file, position, self.size, chunk_bytes=4 * self.index_interval + SCAN_BYTES // 16)

    # -- cutting ------------------------------------------------------------------------------------------------------

    def truncate(self, offset: int) -> None:
        """Cut off the batch that holds `offset` and all after it. Aborted transactions are to be noted anew."""
        position = self.position_of(offset)
        self.file.truncate(position)
        self.size = position
        self._mending = None
        self.next_offset = self.base_offset
        self.aborted = AbortedTransactions()
        for _, header in self.replay(scan_batches(self.file, 0, position)):
            self.next_offset = header.next_offset
