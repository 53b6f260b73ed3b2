"""Reading the log of a topic's partitions for a statement: what can hold records that it needs, decoded and cut to its bounds.

Offsets prune segments by their names. The lowest time prunes sealed segments by their time indexes, and batches by the largest
timestamp in their headers. Some clients put the last timestamp where the largest belongs, so what is a little too old by its
header, less than `TIME_SLACK_MS`, is read all the same. The highest time prunes batches whose timestamps are the broker's, in
which all records have the same. Partitions prune themselves. Everything else is decoded, and records outside of the bounds are
dropped before anything is made of them; the statement's own WHERE decides as ever.

A **chunk** is the records of several batches, a few megabytes, of one partition: their bytes one behind another, and arrays
of places in them. Pure: the disk is handed in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chronik.analytics.messages import Counts, PartitionFiles
from chronik.errors import KafkaError
from chronik.interfaces import IDisk
from chronik.log.cleaning import AbortedRange
from chronik.log.committed import Bounds, CommittedFiles, StoredBatch
from chronik.native.interfaces import IRecordScanner
from chronik.native.sections import Columns, Section
from chronik.native.tokens import Buffer
from chronik.wire.batches import HEADER_BYTES, BatchHeader
from chronik.wire.compression import decompress

CHUNK_BYTES = 4 << 20
CHUNK_RECORDS = 1 << 16
MAX_DECODED_BYTES = 128 << 20
"""What one batch may have uncompressed; a larger one is passed over, as in searches."""
TIME_SLACK_MS = 3_600_000
_SAMPLED_PARTITIONS = 32
LEAST, MOST = -(1 << 63), (1 << 63) - 1


class Window(NamedTuple):
    """Records that a statement can need, all bounds included: partitions, offsets, timestamps in ms."""

    partitions: tuple[int, int] = (LEAST, MOST)
    offsets: tuple[int, int] = (LEAST, MOST)
    timestamps: tuple[int, int] = (LEAST, MOST)


EVERYTHING = Window()


class Chunk(NamedTuple):
    """Records of one partition. `following` is the offset after the last batch that was looked at."""

    content: Buffer
    offsets: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    columns: Columns
    """Places are in `content`; its deltas mean nothing any more."""
    following: int


class LogReading:
    """Reads one partition. What it does is added to `counts`."""

    def __init__(
        self, disk: IDisk, partition: PartitionFiles, window: Window, scanner: IRecordScanner, counts: Counts
    ) -> None:
        self._partition = partition
        self._window = window
        self._scanner = scanner
        self._counts = counts
        self._files = CommittedFiles(disk, partition.directory)
        self._files.follow(
            Bounds(partition.start, partition.stable, partition.generation),
            [AbortedRange(*each) for each in partition.aborted],
        )
        earliest = window.timestamps[0]
        self._since = None if earliest == LEAST else max(earliest - TIME_SLACK_MS, LEAST)
        self.first = max(partition.start, window.offsets[0])
        self.following = min(partition.stable, window.offsets[1] + 1)
        if not window.partitions[0] <= partition.partition <= window.partitions[1]:
            self.following = self.first

    @property
    def number(self) -> int:
        """The partition."""
        return self._partition.partition

    def chunks(self) -> Iterator[Chunk]:
        """All that the window may need, in order. Raises KafkaError where the log is damaged, and OSError."""
        counts = self._counts
        if self.first >= self.following:
            counts.partitions_pruned += self._partition.start < self._partition.stable
            return
        spans = self._files.spans(self.first, self.following, self._since)
        counts.segments += spans.segments
        counts.segments_pruned += spans.pruned
        gathered = _Gathered()
        try:
            for first, following in spans.offsets:
                for stored in self._files.read(first, following):
                    self._add(stored, gathered)
                    if gathered.size >= CHUNK_BYTES or gathered.records >= CHUNK_RECORDS:
                        yield gathered.chunk()
                        gathered = _Gathered()
            if gathered.records:
                yield gathered.chunk()
        finally:
            self._files.forget_files()

    def _add(self, stored: StoredBatch, gathered: _Gathered) -> None:
        header, counts = stored.header, self._counts
        gathered.following = header.next_offset
        counts.batches += 1
        counts.bytes_read += header.size
        too_old = self._since is not None and header.max_timestamp < self._since
        if too_old or (header.log_append_time and header.max_timestamp > self._window.timestamps[1]):
            counts.batches_pruned += 1
            return
        try:
            records = decompress(header.codec, stored.data[HEADER_BYTES:], MAX_DECODED_BYTES)
            columns = self._scanner.columns(Section(records, header.record_count), header.last_offset_delta)
        except KafkaError:
            counts.undecodable += 1
            return
        counts.bytes_decoded += len(records)
        gathered.add(records, *self._cut(header, columns))

    def _cut(self, header: BatchHeader, columns: Columns) -> tuple[NDArray[np.int64], NDArray[np.int64], Columns]:
        """Offsets, timestamps and places of the records of a batch that are within the window."""
        offsets = columns.offset_delta + np.int64(header.base_offset)
        if header.log_append_time:
            timestamps = np.full(len(offsets), header.max_timestamp, np.int64)
        else:
            timestamps = columns.timestamp_delta + np.int64(header.base_timestamp)
        earliest, latest = self._window.timestamps
        inside = None
        if header.base_offset < self.first or header.next_offset > self.following:
            inside = (offsets >= self.first) & (offsets < self.following)
        if earliest != LEAST or latest != MOST:
            within = (timestamps >= earliest) & (timestamps <= latest)
            inside = within if inside is None else inside & within
        if inside is None or inside.all():
            return offsets, timestamps, columns
        return offsets[inside], timestamps[inside], Columns._make(each[inside] for each in columns)


class _Gathered:
    """Batches on their way to a chunk."""

    def __init__(self) -> None:
        self.size = self.records = self.following = 0
        self._parts: list[Buffer] = []
        self._offsets: list[NDArray[np.int64]] = []
        self._timestamps: list[NDArray[np.int64]] = []
        self._columns: list[Columns] = []

    def add(self, records: Buffer, offsets: NDArray[np.int64], timestamps: NDArray[np.int64], columns: Columns) -> None:
        """Records of a batch, whose places are in `records`."""
        if not len(offsets):
            return
        if self.size:
            shift = np.int32(self.size)
            columns = columns._replace(
                key_start=columns.key_start + shift,
                value_start=columns.value_start + shift,
                headers_start=columns.headers_start + shift,
            )
        self._parts.append(records)
        self._offsets.append(offsets)
        self._timestamps.append(timestamps)
        self._columns.append(columns)
        self.size += len(records)
        self.records += len(offsets)

    def chunk(self) -> Chunk:
        """All of it together."""
        if len(self._parts) == 1:
            return Chunk(self._parts[0], self._offsets[0], self._timestamps[0], self._columns[0], self.following)
        return Chunk(
            b"".join(self._parts),
            np.concatenate(self._offsets),
            np.concatenate(self._timestamps),
            Columns(*(np.concatenate(each) for each in zip(*self._columns, strict=True))),
            self.following,
        )


def sample(
    disk: IDisk, partitions: tuple[PartitionFiles, ...], scanner: IRecordScanner, records: int
) -> Iterator[bytes | None]:
    """Values of about so many records: the oldest and the newest of each partition, or of some of them if there are many."""
    partitions = partitions[:: 1 + len(partitions) // _SAMPLED_PARTITIONS]
    each = max(1, records // max(1, 2 * len(partitions)))
    for partition in partitions:
        start, stable = partition.start, partition.stable
        ranges = {(start, min(stable, start + each) - 1), (max(start, stable - each), stable - 1)}
        for first, last in sorted(ranges):
            window = Window(offsets=(first, last))
            for chunk in LogReading(disk, partition, window, scanner, Counts()).chunks():
                columns = chunk.columns
                for at, size in zip(columns.value_start.tolist(), columns.value_length.tolist(), strict=True):
                    yield None if size < 0 else bytes(chunk.content[at : at + size])
