"""One segment of a log: a file of record batches, its sparse indexes, and where in it an offset or a time is.

A segment is `<base offset>.log` with `.index` and `.timeindex`. Batches are written as they are and read back as they
are.

**Reading costs what it must.** The positions of the last `RECENT_BATCHES` batches are kept in memory, so a read near
the end is two binary searches and one `pread`, however many batches it spans. Further back the offset index gives a
position a little before the wanted batch and one a little before the end of the read; only the few headers from there
on are looked at, inside the bytes that are read anyway. Where a read ended is remembered, since the next one usually
begins there.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import Buffer, IDisk, IFile
from chronik.log.index import OffsetIndex, TimeIndex
from chronik.wire.records import HEADER_BYTES, NO_TIMESTAMP, BatchHeader, read_header, verify

LOG_SUFFIX = ".log"
INDEX_SUFFIX = ".index"
TIME_INDEX_SUFFIX = ".timeindex"
SNAPSHOT_SUFFIX = ".snapshot"
DELETED_SUFFIX = ".deleted"

RECENT_BATCHES = 4096
SCAN_BYTES = 1 << 20
_REMEMBERED_ENDS = 16
_UNBOUNDED = 2**63 - 1


def file_name(offset: int, suffix: str) -> str:
    """Kafka's name for a file that begins at `offset`: 20 digits, so that names sort as offsets do."""
    return f"{offset:020d}{suffix}"


def scan_batches(
    file: IFile, position: int, end: int, check_crc: bool = False, chunk_bytes: int = SCAN_BYTES
) -> Iterator[tuple[int, BatchHeader]]:
    """(position, header) of each batch between two positions of a file, read in large pieces.

    Raises KafkaError at the first that isn't a whole batch or, with `check_crc`, doesn't match its CRC.
    """
    chunk, start = b"", position
    while position < end:
        at = position - start
        if at < 0 or len(chunk) - at < HEADER_BYTES:
            start, at = position, 0
            chunk = file.pread(min(chunk_bytes, end - position), position)
        header = read_header(chunk, at)
        size = header.batch_length + 12
        if position + size > end:
            raise KafkaError(
                ErrorCode.CORRUPT_MESSAGE,
                f"the batch at position {position} has {size} bytes, {end - position} are there",
            )
        if check_crc:
            if len(chunk) - at < size:
                start, at = position, 0
                chunk = file.pread(min(max(size, chunk_bytes), end - position), position)
            verify(memoryview(chunk)[at : at + size])
        yield position, header
        position += size


class Segment:
    """A segment that begins at `base_offset`. Opening one does no I/O: `size` in bytes and `next_offset` are handed in.

    `max_timestamp` (ms) is the largest of its batches', and `max_timestamp_offset` the base offset of the first batch
    that has it; of a segment that was on disk already they come from the time index, at the first look.
    """

    __slots__ = (
        "_disk",
        "_index",
        "_last_ends",
        "_max_timestamp",
        "_max_timestamp_offset",
        "_path",
        "_recent_offsets",
        "_recent_positions",
        "_since_index",
        "_time_index",
        "base_offset",
        "created_ms",
        "file",
        "first_timestamp",
        "index_interval",
        "next_offset",
        "size",
    )

    def __init__(
        self, disk: IDisk, directory: str, base_offset: int, index_interval: int, created_ms: int, size: int = 0
    ) -> None:
        self._disk = disk
        self._path = f"{directory}/{file_name(base_offset, '')}"
        self.base_offset = base_offset
        self.next_offset = base_offset
        self.file = disk.open(self._path + LOG_SUFFIX)
        self.size = size
        self.created_ms = created_ms
        self.first_timestamp = NO_TIMESTAMP
        self._max_timestamp = NO_TIMESTAMP
        self._max_timestamp_offset = base_offset
        self.index_interval = index_interval
        self._since_index = 0
        self._recent_offsets: list[int] = []
        self._recent_positions: list[int] = []
        self._last_ends: dict[int, int] = {}
        # None: not loaded yet. An empty segment has empty ones.
        self._index: OffsetIndex | None = None if size else OffsetIndex()
        self._time_index: TimeIndex | None = None if size else TimeIndex()

    def path(self, suffix: str) -> str:
        """The path of one of the segment's files."""
        return self._path + suffix

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
        """Give back what a sealed segment holds in memory and can load again from its index files."""
        self._index = self._time_index = None
        self._recent_offsets.clear()
        self._recent_positions.clear()

    # -- indexes ------------------------------------------------------------------------------------------------------

    @property
    def index(self) -> OffsetIndex:
        """The offset index, loaded or rebuilt when it isn't in memory."""
        if self._index is None:
            self._load_indexes()
        assert self._index is not None
        return self._index

    @property
    def time_index(self) -> TimeIndex:
        """The time index, loaded or rebuilt when it isn't in memory."""
        if self._time_index is None:
            self._load_indexes()
        assert self._time_index is not None
        return self._time_index

    @property
    def max_timestamp(self) -> int:
        """The largest timestamp of all batches in ms, -1 when there is none."""
        if self._max_timestamp == NO_TIMESTAMP and self._time_index is None:
            self._load_indexes()
        return self._max_timestamp

    @property
    def max_timestamp_offset(self) -> int:
        """The base offset of the first batch with the largest timestamp."""
        return self._max_timestamp_offset if self.max_timestamp != NO_TIMESTAMP else self.base_offset

    def _load_indexes(self) -> None:
        try:
            index = OffsetIndex(self._disk.read(self.path(INDEX_SUFFIX)))
            time_index = TimeIndex(self._disk.read(self.path(TIME_INDEX_SUFFIX)))
        except FileNotFoundError:
            self.rebuild()
            return
        if not index.fits(self.size) or not time_index.fits(self.size):
            self.rebuild()
            return
        self._index, self._time_index = index, time_index
        if self._max_timestamp == NO_TIMESTAMP:
            self._max_timestamp, relative = time_index.last()
            self._max_timestamp_offset = self.base_offset + relative

    def rebuild(self) -> None:
        """Make the indexes anew from the log. Raises KafkaError where the log cannot be read."""
        for _ in self.replay(scan_batches(self.file, 0, self.size)):
            pass

    def replay(self, batches: Iterator[tuple[int, BatchHeader]]) -> Iterator[tuple[int, BatchHeader]]:
        """Rebuild indexes and timestamps from all batches of the segment, handing each through."""
        index, time_index = self._index, self._time_index = OffsetIndex(), TimeIndex()
        self._recent_offsets.clear()
        self._recent_positions.clear()
        self._last_ends.clear()
        self._max_timestamp, self._max_timestamp_offset = NO_TIMESTAMP, self.base_offset
        since = 0
        for position, header in batches:
            yield position, header
            if header.max_timestamp > self._max_timestamp:
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

    def read(self, offset: int, max_bytes: int, upper: int, at_least_one: bool) -> Buffer:
        """Whole batches that end at or before offset `upper`, from the one that holds `offset`, in at most `max_bytes`.

        With `at_least_one` the first batch is returned even when it is larger. Raises KafkaError(CORRUPT_MESSAGE).
        """
        offsets = self._recent_offsets
        if not offsets or offset < offsets[0]:
            return self._read_by_index(offset, max_bytes, upper, at_least_one)
        positions = self._recent_positions
        first = bisect_right(offsets, offset) - 1
        start = positions[first]
        # A batch that begins before `upper` and ends after it holds `upper`: it is where the read must stop.
        stop = (
            self.size
            if upper >= self.next_offset
            else positions[bisect_right(offsets, upper) - 1]
            if upper > offset
            else 0
        )
        if stop - start > max_bytes:
            last = bisect_right(positions, start + max_bytes) - 1
            if last > first:
                stop = positions[last]
            elif not at_least_one:
                return b""
            else:
                stop = positions[first + 1] if first + 1 < len(positions) else self.size
        return self.file.pread(stop - start, start) if stop > start else b""

    def _read_by_index(self, offset: int, max_bytes: int, upper: int, at_least_one: bool) -> Buffer:
        begin = self._last_ends.get(offset, -1)
        if begin < 0:
            begin = self.index.floor(offset - self.base_offset)[1]
        want = min(max_bytes + self.index_interval + HEADER_BYTES, self.size - begin)
        chunk = self.file.pread(want, begin)
        start, first = self._find(offset, begin, chunk)
        if first is None or first.next_offset > upper:
            return b""
        limit = min(start + max_bytes, self.size)
        if start + first.size > limit:
            if not at_least_one:
                return b""
            stop, end_offset = start + first.size, first.next_offset
        else:
            stop, end_offset = self._find_stop(start, first, limit, upper, begin, chunk)
        if len(self._last_ends) >= _REMEMBERED_ENDS:
            del self._last_ends[next(iter(self._last_ends))]
        self._last_ends[end_offset] = stop
        if stop - begin > len(chunk):
            return self.file.pread(stop - start, start)
        return memoryview(chunk)[start - begin : stop - begin] if start > begin or stop - begin < len(chunk) else chunk

    def _find(self, offset: int, position: int, chunk: Buffer) -> tuple[int, BatchHeader | None]:
        """Position and header of the first batch from `position` on that ends after `offset`; None at the segment's end."""
        for found, header in self._walk(position, position, chunk):
            if header.last_offset >= offset:
                return found, header
        return self.size, None

    def _find_stop(
        self, start: int, first: BatchHeader, limit: int, upper: int, begin: int, chunk: Buffer
    ) -> tuple[int, int]:
        """Where the last whole batch ends that ends at or before position `limit` and offset `upper`, and its next offset."""
        if limit == self.size and upper >= self.next_offset:
            return self.size, self.next_offset
        near = self.index.floor_position(limit)
        if upper < self.next_offset:
            near = min(near, self.index.floor(upper - self.base_offset)[1])
        stop, end_offset = start + first.size, first.next_offset
        if near <= start:
            near = stop
        else:
            stop = near  # a batch begins at an index entry, so the ones before it are whole
        for found, header in self._walk(near, begin, chunk):
            if found + header.size > limit or header.next_offset > upper:
                return found, header.base_offset
            stop, end_offset = found + header.size, header.next_offset
        return stop, end_offset

    def _walk(self, position: int, chunk_start: int, chunk: Buffer) -> Iterator[tuple[int, BatchHeader]]:
        """Headers from `position` on, out of `chunk` as far as it goes, then from the file."""
        while position < self.size:
            at = position - chunk_start
            if len(chunk) - at >= HEADER_BYTES:
                header = read_header(chunk, at)
            else:
                header = read_header(self.file.pread(HEADER_BYTES, position))
            yield position, header
            position += header.batch_length + 12

    def position_of(self, offset: int) -> int:
        """Where the batch begins that holds `offset`, or the first after it; the size when there is none."""
        return self._find(offset, self.index.floor(offset - self.base_offset)[1], b"")[0]

    def boundary(self, offset: int) -> int:
        """The base offset of the batch that holds `offset`; the end offset when none does."""
        header = self._find(offset, self.index.floor(offset - self.base_offset)[1], b"")[1]
        return self.next_offset if header is None else header.base_offset

    def batches_from(self, offset: int) -> Iterator[tuple[int, BatchHeader]]:
        """(position, header) from the batch that holds `offset` on."""
        return scan_batches(self.file, self.position_of(offset), self.size)

    def batches_since(self, timestamp: int) -> Iterator[tuple[int, BatchHeader]]:
        """(position, header) from a batch on before which none has a record at or after `timestamp`."""
        position = self.index.floor(self.time_index.floor(timestamp))[1]
        return scan_batches(self.file, position, self.size, chunk_bytes=4 * self.index_interval + SCAN_BYTES // 16)

    # -- cutting ------------------------------------------------------------------------------------------------------

    def truncate(self, offset: int) -> None:
        """Cut off the batch that holds `offset` and all after it."""
        position = self.position_of(offset)
        self.file.truncate(position)
        self.size = position
        self.next_offset = self.base_offset
        for _, header in self.replay(scan_batches(self.file, 0, position)):
            self.next_offset = header.next_offset
