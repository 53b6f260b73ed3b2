"""The records of a partition in the order of their offsets: batch by batch, and in a batch row by row."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chronik.errors import KafkaError
from chronik.log.committed import Place
from chronik.native.interfaces import IRecordScanner
from chronik.native.records import headers
from chronik.search.document import Document
from chronik.search.partition_index import PartitionIndex
from chronik.search.pending import DecodedBatch, decode


class Row(NamedTuple):
    """One record: its offset, and its fields in `Rows.data`. A length of -1 is null; `stop` is in the next record."""

    offset: int
    timestamp: int
    key_at: int
    key_size: int
    value_at: int
    value_size: int
    headers_at: int
    header_count: int
    stop: int


class Rows:
    """The records of `batch` with offsets from `first` on and below `following`. Raises MalformedRecords."""

    def __init__(self, batch: DecodedBatch, first: int, following: int, scanner: IRecordScanner) -> None:
        header, section = batch.header, batch.section
        columns = scanner.columns(section, header.last_offset_delta)
        self.data = bytes(section.records)
        self.columns = columns
        self._offsets = columns.offset_delta + np.int64(header.base_offset)
        if header.log_append_time:
            self._timestamps = np.full(len(self._offsets), header.max_timestamp, np.int64)
        else:
            self._timestamps = columns.timestamp_delta + np.int64(header.base_timestamp)
        rows = np.flatnonzero((self._offsets >= first) & (self._offsets < following))
        offsets = self._offsets[rows]
        if len(rows) > 1 and not (offsets[1:] > offsets[:-1]).all():
            rows = rows[np.argsort(offsets, kind="stable")]
        self._rows: NDArray[np.int64] = rows
        self._stops = np.append(columns.key_start[1:], len(self.data))

    def __len__(self) -> int:
        return len(self._rows)

    def some(self, start: int, stop: int) -> list[Row]:
        """The records of these numbers, in order."""
        rows, columns = self._rows[start:stop], self.columns
        return [
            Row(*fields)
            for fields in zip(
                self._offsets[rows].tolist(),
                self._timestamps[rows].tolist(),
                columns.key_start[rows].tolist(),
                columns.key_length[rows].tolist(),
                columns.value_start[rows].tolist(),
                columns.value_length[rows].tolist(),
                columns.headers_start[rows].tolist(),
                columns.header_count[rows].tolist(),
                self._stops[rows].tolist(),
                strict=True,
            )
        ]

    def document(self, row: Row) -> Document:
        """The record."""
        data = self.data
        return Document(
            row.offset,
            row.timestamp,
            None if row.key_size < 0 else data[row.key_at : row.key_at + row.key_size],
            None if row.value_size < 0 else data[row.value_at : row.value_at + row.value_size],
            _headers(data, row.headers_at, row.header_count) if row.header_count else (),
        )


def _headers(data: bytes, at: int, count: int) -> list[tuple[str, bytes | None]]:
    return [(name.decode("utf-8", "replace"), value) for name, value in headers(data, at, count)]


class BatchReader:
    """Goes through the batches of a partition, and remembers where it was."""

    def __init__(self) -> None:
        self._place: Place | None = None

    def batches(self, index: PartitionIndex, at: int, following: int) -> Iterator[DecodedBatch]:
        """The batches that can be decoded, with anything from offset `at` on and below `following`.

        Those that the index keeps as its tail are taken from there, the rest is read from the log, though its files may be
        replaced meanwhile. Raises KafkaError where the log is damaged, and OSError.
        """
        if index.tail_is_kept and index.indexed_to <= at < index.read_to:
            tail, read_to = index.tail, index.read_to
            for batch in tail[bisect_right(tail, at, key=lambda batch: batch.header.next_offset) :]:
                if batch.header.base_offset < following:
                    yield batch
            at = read_to
        while at < following:
            generation = index.files.bounds.generation
            try:
                for stored in index.files.read(at, following, self._nearest(index, at)):
                    self._place = stored.place
                    at = stored.header.next_offset
                    decoded = decode(stored)
                    if decoded is not None:
                        yield decoded
                return
            except KafkaError:
                if index.files.bounds.generation == generation:
                    raise

    def _nearest(self, index: PartitionIndex, at: int) -> Place | None:
        places = [place for place in (self._place, index.near(at)) if place is not None and place.offset <= at]
        return max(places, key=lambda place: place.offset, default=None)
