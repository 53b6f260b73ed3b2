"""A piece of the log that a step of a continuous query takes: its columns, and its records as they are stored."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from chronik.analytics.reading import Chunk
from chronik.native.interfaces import IValueScanner


class Stored(NamedTuple):
    """A record of the log, as its producer gave it."""

    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class StoredRecords:
    """The records of a chunk, by their rows."""

    def __init__(self, chunk: Chunk, values: IValueScanner) -> None:
        self._chunk = chunk
        self._values = values

    def key(self, row: int) -> bytes | None:
        """The key of a record."""
        return self._bytes(self._chunk.columns.key_start[row], self._chunk.columns.key_length[row])

    def value(self, row: int) -> bytes | None:
        """The value of a record."""
        return self._bytes(self._chunk.columns.value_start[row], self._chunk.columns.value_length[row])

    def headers(self, row: int) -> tuple[tuple[str, bytes | None], ...]:
        """The headers of a record."""
        columns = self._chunk.columns
        if not columns.header_count[row]:
            return ()
        places = self._values.header_places(
            self._chunk.content, columns.headers_start[row : row + 1], columns.header_count[row : row + 1]
        )
        return tuple(
            ((self._bytes(name, name_length) or b"").decode("utf-8", "replace"), self._bytes(value, value_length))
            for name, name_length, value, value_length in zip(*places, strict=True)
        )

    def _bytes(self, start: Any, length: Any) -> bytes | None:
        return None if length < 0 else bytes(self._chunk.content[int(start) : int(start) + int(length)])


class Piece:
    """Chunks of several partitions. `offsets`: the next to be read; `waiting`: whether there is more."""

    def __init__(self, values: IValueScanner, most_records: int, most_bytes: int) -> None:
        self._values = values
        self._most_records = most_records
        self._most_bytes = most_bytes
        self._size = 0
        self._chunks: dict[int, list[Chunk]] = {}
        self._batches: list[Any] = []
        self.records = 0
        self.offsets: dict[int, int] = {}
        self.waiting: dict[int, bool] = {}

    def add(self, partition: int, chunk: Chunk, batch: Any) -> None:
        """A chunk, and its columns."""
        self._chunks.setdefault(partition, []).append(chunk)
        self._batches.append(batch)
        self.records += len(chunk.offsets)
        self._size += len(chunk.content)
        self.offsets[partition] = chunk.following

    @property
    def is_full(self) -> bool:
        """Whether it has as much as it may."""
        return self.records >= self._most_records or self._size >= self._most_bytes

    @property
    def rows(self) -> Any:
        """All columns in one table; None without records."""
        return pa.Table.from_batches(self._batches) if self.records else None

    def record(self, partition: int, offset: int) -> Stored:
        """A record that is in here."""
        for chunk in self._chunks[partition]:
            row = int(np.searchsorted(chunk.offsets, offset))
            if row < len(chunk.offsets) and chunk.offsets[row] == offset:
                stored = StoredRecords(chunk, self._values)
                return Stored(int(chunk.timestamps[row]), stored.key(row), stored.value(row), stored.headers(row))
        raise LookupError(f"offset {offset} of partition {partition} is not in this piece")
