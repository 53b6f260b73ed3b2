"""Compacting one log, as a job: reads its sealed segments, writes `.cleaned` files beside them, and tells of each.

The job runs where it holds nobody up, in a worker process. It only reads the log's own files; what it writes has the suffix
`.cleaned`, is synced, and means nothing until the log itself swaps it in (`chronik.log.compacted`). A job that dies leaves
such files behind; the next one, and the next start, remove them.

Segments are rewritten group by group, and each group is reported when it is done, so that it can be swapped in, and the old
files go, while the next one is written. A group of one segment from which nothing goes is left as it is.

Every batch that is read is verified against its CRC: damage ends the job with an error that says where, and nothing is
swapped in from there on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from chronik.errors import CorruptLogError, KafkaError
from chronik.interfaces import Buffer, IDisk
from chronik.log.cleaning import (
    Aborted,
    AbortedRange,
    Cleaner,
    KeyOffsets,
    LastOfProducer,
    Source,
    check_follows,
    group,
)
from chronik.log.config import MAX_SEGMENT_BYTES
from chronik.log.index import TimeIndex
from chronik.log.scan import read_batches
from chronik.log.segment import (
    CLEANED_SUFFIX,
    INDEX_SUFFIX,
    LOG_SUFFIX,
    TIME_INDEX_SUFFIX,
    Segment,
    file_name,
)
from chronik.wire.batches import NO_TIMESTAMP, BatchHeader, read_header

CLEAN = "clean"
"""The kind of this job."""
MAX_GROUP = 64
"""Segments that become one at most: their files are renamed one by one."""
_TELL_BYTES = 4 << 20


class CleanRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to clean: the log's segments from its first one on, of which those below `first_dirty` have been cleaned before.

    `producers` has for each active producer (offset of its last data, -1 for none; epoch), `aborted` (producer id, first
    offset, last offset). `secret` keys the hashes.
    """

    directory: str
    segments: list[tuple[int, int, int]]
    """(base offset, next offset, size in bytes), oldest first, without gaps."""
    first_dirty: int
    now_ms: int
    delete_retention_ms: int
    segment_bytes: int
    segment_index_bytes: int
    index_interval_bytes: int
    dedupe_buffer_bytes: int
    io_bytes_per_second: float
    secret: bytes
    producers: dict[int, tuple[int, int]] = {}
    aborted: list[tuple[int, int, int]] = []


class CleanedSegment(msgspec.Struct, frozen=True, kw_only=True):
    """A `.cleaned` segment that can take the place of the segments at `replaces` (their base offsets)."""

    replaces: list[int]
    size: int
    max_timestamp: int
    max_timestamp_offset: int


class CleanProgress(msgspec.Struct, frozen=True, kw_only=True):
    """A sign of life, with a segment that is done, if there is one."""

    segment: CleanedSegment | None = None


class CleanResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ended. All below `cleaned_to` is clean now. Sizes in bytes."""

    cleaned_to: int
    bytes_read: int
    bytes_before: int
    bytes_after: int
    records_before: int
    records_after: int
    keyless: int


def clean(
    request: CleanRequest,
    disk: IDisk,
    report: Callable[[CleanProgress], object],
    spend: Callable[[int], object],
) -> CleanResult:
    """Carry out `request`. `report` is told of every finished segment, and from time to time that the job lives.

    `spend(bytes)` is called for what is read and written, and may wait. Raises CorruptLogError where the log is damaged,
    OSError.
    """
    return _Job(request, disk, report, spend).run()


class _Job:
    def __init__(
        self,
        request: CleanRequest,
        disk: IDisk,
        report: Callable[[CleanProgress], object],
        spend: Callable[[int], object],
    ) -> None:
        self._request = request
        self._disk = disk
        self._report = report
        self._spend = spend
        self._aborted = Aborted(AbortedRange(*each) for each in request.aborted)
        self._untold = 0
        self._read = self._before = self._after = 0

    def run(self) -> CleanResult:
        request = self._request
        keys = self._note_keys()
        producers = {key: LastOfProducer(*value) for key, value in request.producers.items()}
        cleaner = Cleaner(keys, self._aborted, producers, request.now_ms, request.delete_retention_ms)
        interval = max(request.index_interval_bytes, 61)
        sources = [
            Source(base, following, size, size // interval + 1)
            for base, following, size in request.segments
            if base < keys.end_offset
        ]
        most_entries = max(request.segment_index_bytes // TimeIndex.ENTRY_BYTES, 1)
        for sources_of_one in group(sources, request.segment_bytes, most_entries, MAX_GROUP):
            self._rewrite(sources_of_one, cleaner)
        return CleanResult(
            cleaned_to=keys.end_offset,
            bytes_read=self._read,
            bytes_before=self._before,
            bytes_after=self._after,
            records_before=cleaner.records_read,
            records_after=cleaner.records_kept,
            keyless=cleaner.keyless,
        )

    def _note_keys(self) -> KeyOffsets:
        request = self._request
        keys = KeyOffsets(request.dedupe_buffer_bytes, self._aborted, request.first_dirty, request.secret)
        for base, following, size in request.segments:
            if following <= request.first_dirty:
                continue
            path, expected = self._path(base, LOG_SUFFIX), base
            file = self._disk.open(path)
            try:
                for _, header, batch in read_batches(file, 0, size):
                    check_follows(header, expected)
                    expected = header.next_offset
                    if header.next_offset > request.first_dirty and not keys.add(header, batch):
                        return keys
                    self._count(header.size)
            except KafkaError as fault:
                raise _damaged(path, fault) from fault
            finally:
                file.close()
            keys.end_offset = following
        return keys

    def _rewrite(self, sources: Sequence[Source], cleaner: Cleaner) -> None:
        request = self._request
        first, last = sources[0], sources[-1]
        self._remove(first.base_offset)
        out = Segment(
            self._disk,
            request.directory,
            first.base_offset,
            request.index_interval_bytes,
            request.now_ms,
            stage=CLEANED_SUFFIX,
        )
        changed, expected = len(sources) > 1, first.base_offset
        for source in sources:
            path = self._path(source.base_offset, LOG_SUFFIX)
            file = self._disk.open(path)
            try:
                for position, header, batch in read_batches(file, 0, source.size):
                    check_follows(header, expected)
                    expected = header.next_offset
                    self._count(header.size)
                    left = cleaner.clean(header, batch, source is last and position + header.size == source.size)
                    changed = changed or left is not batch
                    if left is not None:
                        self._append(out, header if left is batch else read_header(left), left)
            except KafkaError as fault:
                raise _damaged(path, fault) from fault
            finally:
                file.close()
        before = sum(source.size for source in sources)
        self._before += before
        if not changed:
            out.file.close()
            self._remove(first.base_offset)
            self._after += before
            return
        self._finish(out, [source.base_offset for source in sources])

    def _append(self, out: Segment, header: BatchHeader, batch: Buffer) -> None:
        size = len(batch)
        if out.size + size > MAX_SEGMENT_BYTES:
            raise CorruptLogError(
                f"{out.path(LOG_SUFFIX)} would grow beyond {MAX_SEGMENT_BYTES} bytes: its batches compress worse than they came"
            )
        timestamp = header.max_timestamp if header.record_count else NO_TIMESTAMP
        out.append(batch, size, header.base_offset, header.next_offset, timestamp)
        self._spend(size)

    def _finish(self, out: Segment, replaces: list[int]) -> None:
        out.finish_time_index()
        for suffix, index in ((INDEX_SUFFIX, out.index), (TIME_INDEX_SUFFIX, out.time_index)):
            self._disk.replace(out.path(suffix), bytes(index.data), durable=False)
        out.file.datasync()
        out.file.close()
        self._after += out.size
        self._report(
            CleanProgress(
                segment=CleanedSegment(
                    replaces=replaces,
                    size=out.size,
                    max_timestamp=out.max_timestamp,
                    max_timestamp_offset=out.max_timestamp_offset,
                )
            )
        )
        self._untold = 0

    def _count(self, size: int) -> None:
        """So many bytes were read."""
        self._read += size
        self._spend(size)
        self._untold += size
        if self._untold >= _TELL_BYTES:
            self._untold = 0
            self._report(CleanProgress())

    def _remove(self, base: int) -> None:
        """Whatever an earlier job has left of this segment."""
        for suffix in (INDEX_SUFFIX, TIME_INDEX_SUFFIX, LOG_SUFFIX):
            self._disk.remove(self._path(base, suffix + CLEANED_SUFFIX))

    def _path(self, base: int, suffix: str) -> str:
        return f"{self._request.directory}/{file_name(base, suffix)}"


def _damaged(path: str, fault: KafkaError) -> CorruptLogError:
    return CorruptLogError(
        f"{path} cannot be compacted: {fault.message or fault}; restore the partition from a backup, it is left as it is"
    )
