"""Records as Arrow's columns, as the tables behind a topic's view have them.

Fields come as text (`f0`, `f1`, ... in the order of the schema): what C found of them in the values, their escapes resolved.
The view makes values of their types out of it, in DuckDB's threads. Only columns that the statement may read are made.

A value whose kind is none of its column's is NULL, and counted. So is what is no text, and a timestamp that is none: -1, or
beyond what DuckDB can hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from chronik.analytics.messages import Counts
from chronik.analytics.reading import Chunk
from chronik.analytics.schema import Column
from chronik.native.interfaces import IValueScanner
from chronik.native.tokens import Buffer
from chronik.native.values import Gathered, Kind, Members, State

_LARGEST_MS = (2**63 - 2) // 1000
_STRINGS = (int(Kind.STRING), int(Kind.ESCAPED))
_HEADER = pa.struct([pa.field("key", pa.string()), pa.field("value", pa.string())])
_META_TYPES = {
    "_partition": pa.int32(),
    "_offset": pa.int64(),
    "_timestamp": pa.timestamp("us"),
    "_key": pa.string(),
    "_headers": pa.list_(_HEADER),
    "_value": pa.string(),
}


def table_schema(columns: Sequence[Column]) -> Any:
    """The Arrow schema of a table with these columns: those of every record, then the texts of fields."""
    meta = [pa.field(each.name, _META_TYPES[each.name]) for each in columns if each.member is None]
    count = sum(each.member is not None for each in columns)
    return pa.schema([*meta, *(pa.field(f"f{number}", pa.string()) for number in range(count))])


class ColumnMaker:
    """Makes the columns of one table. What doesn't fit is added to `counts`."""

    def __init__(self, columns: Sequence[Column], topic: str, values: IValueScanner, counts: Counts) -> None:
        self._meta = [each for each in columns if each.member is None]
        self._fields = [each for each in columns if each.member is not None]
        self._topic = topic
        self._values = values
        self._counts = counts
        self._names = [each.member for each in self._fields if each.member is not None]
        self._allowed = [np.isin(np.arange(len(Kind)), [int(kind) for kind in each.kinds]) for each in self._fields]
        self._making: dict[str, Callable[[Chunk, int], Any]] = {
            "_partition": lambda chunk, partition: pa.array(np.full(len(chunk.offsets), partition, np.int32)),
            "_offset": lambda chunk, partition: pa.array(chunk.offsets),
            "_timestamp": lambda chunk, partition: _timestamps(chunk.timestamps),
            "_key": lambda chunk, partition: self._text(chunk, chunk.columns.key_start, chunk.columns.key_length),
            "_headers": lambda chunk, partition: self._headers(chunk),
            "_value": lambda chunk, partition: self._text(chunk, chunk.columns.value_start, chunk.columns.value_length),
        }
        self.schema = table_schema(columns)

    def batch(self, chunk: Chunk, partition: int) -> Any:
        """The chunk as one record batch."""
        arrays = [self._making[each.name](chunk, partition) for each in self._meta]
        if self._fields:
            columns = chunk.columns
            found = self._values.members(chunk.content, columns.value_start, columns.value_length, self._names)
            self._counts.not_json += int(np.count_nonzero(found.states >= State.OTHER))
            arrays += [self._field(number, chunk.content, found) for number in range(len(self._fields))]
        self._counts.records += len(chunk.offsets)
        return pa.record_batch(arrays, schema=self.schema)

    def _field(self, number: int, content: Buffer, found: Members) -> Any:
        """The texts of one field."""
        column = self._fields[number]
        kinds, starts, lengths = found.kinds[number], found.starts[number], found.lengths[number]
        fits = self._allowed[number][kinds]
        if not fits.all():
            mistyped = int(np.count_nonzero(~fits & (kinds != Kind.ABSENT) & (kinds != Kind.NULL)))
            if mistyped:
                name = f"{self._topic}.{column.name}"
                self._counts.mistyped[name] = self._counts.mistyped.get(name, 0) + mistyped
            lengths = np.where(fits, lengths, np.int32(-1))
        resolved: NDArray[np.uint8] | None = None
        if column.tree == "JSON":  # as it stands, with its quotes
            quotes = np.isin(kinds, _STRINGS)
            starts, lengths = starts - quotes, lengths + np.int32(2) * quotes
        elif (kinds == Kind.ESCAPED).any():
            resolved = kinds
        return _array(self._values.gather(content, starts, lengths, resolved))

    def _text(self, chunk: Chunk, starts: NDArray[np.int32], lengths: NDArray[np.int32]) -> Any:
        found = self._values.gather(chunk.content, starts, lengths, None, True)
        self._counts.not_text += int(np.count_nonzero(~found.valid & (lengths >= 0)))
        return _array(found)

    def _headers(self, chunk: Chunk) -> Any:
        columns = chunk.columns
        places = self._values.header_places(chunk.content, columns.headers_start, columns.header_count)
        pairs = pa.StructArray.from_arrays(
            [
                self._text(chunk, places.name_start, places.name_length),
                self._text(chunk, places.value_start, places.value_length),
            ],
            fields=list(_HEADER),
        )
        ends = np.zeros(len(columns.header_count) + 1, np.int32)
        np.cumsum(columns.header_count, out=ends[1:])
        return pa.ListArray.from_arrays(pa.array(ends), pairs, type=pa.list_(_HEADER))


def _timestamps(milliseconds: NDArray[np.int64]) -> Any:
    """In microseconds, which DuckDB is quicker with."""
    there = (milliseconds >= 0) & (milliseconds <= _LARGEST_MS)
    if there.all():
        return pa.array(milliseconds * 1000).cast(pa.timestamp("us"))
    return pa.array(np.where(there, milliseconds, 0) * 1000, mask=~there).cast(pa.timestamp("us"))


def _array(found: Gathered) -> Any:
    """Gathered texts as an Arrow array of strings, without a copy."""
    count = len(found.ends)
    offsets = np.zeros(count + 1, np.int32)
    offsets[1:] = found.ends
    nulls = None
    missing = count - int(np.count_nonzero(found.valid))
    if missing:
        nulls = pa.py_buffer(np.packbits(found.valid, bitorder="little"))
    buffers = [nulls, pa.py_buffer(offsets), pa.py_buffer(found.data)]
    return pa.Array.from_buffers(pa.string(), count, buffers, missing)
