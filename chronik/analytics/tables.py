"""Topics as the tables of a connection: for each a stream of record batches that begins anew at every scan, and a view over it.

DuckDB pulls batches as it needs them, so memory is bounded by what it holds, and a LIMIT ends the reading. A statement that
names a table twice reads it twice, over the same offsets.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from chronik.analytics.columns import ColumnMaker
from chronik.analytics.messages import Counts, SqlFault, Table
from chronik.analytics.reading import LogReading, Window
from chronik.analytics.schema import SECONDS, Column, Schema, quoted, structure
from chronik.analytics.syntax import Statement
from chronik.interfaces import IDisk
from chronik.native.interfaces import IRecordScanner, IValueScanner


class Scan:
    """What DuckDB takes for a table: an Arrow stream whenever it asks for one.

    `failure` is what reading the log has failed with; DuckDB's own error has only its text.
    """

    def __init__(
        self,
        disk: IDisk,
        table: Table,
        window: Window,
        columns: Sequence[Column],
        records: IRecordScanner,
        values: IValueScanner,
        counts: Counts,
    ) -> None:
        self._disk = disk
        self._table = table
        self._window = window
        self._records = records
        self._counts = counts
        self._maker = ColumnMaker(columns, table.topic, values, counts)
        self.schema = self._maker.schema
        self.failure: Exception | None = None
        self.done = 0
        """Offsets gone through, of all scans."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        """A stream from the beginning (Arrow's PyCapsule interface)."""
        reader = pa.RecordBatchReader.from_batches(self.schema, self._batches())
        return reader.__arrow_c_stream__(requested_schema)

    def _batches(self) -> Iterator[Any]:
        try:
            for partition in self._table.partitions:
                reading = LogReading(self._disk, partition, self._window, self._records, self._counts)
                at = reading.first
                for chunk in reading.chunks():
                    self.done += chunk.following - at
                    at = chunk.following
                    yield self._maker.batch(chunk, reading.number)
        except Exception as failure:
            self.failure = failure
            raise


def offsets_of(table: Table, window: Window) -> int:
    """How many offsets of a table are within a window."""
    first, last = window.offsets
    return sum(
        max(0, min(each.stable, last + 1) - max(each.start, first))
        for each in table.partitions
        if window.partitions[0] <= each.partition <= window.partitions[1]
    )


def needed(schema: Schema, statement: Statement) -> list[Column]:
    """The columns that a statement may read: at least one, as a table must have."""
    found = [each for each in schema.columns if statement.every_column or each.name.lower() in statement.words]
    return found or [each for each in schema.columns if each.name == "_offset"]


def make_view(
    connection: duckdb.DuckDBPyConnection, name: str, schema: Schema, read: Sequence[Column], source: str
) -> None:
    """The view of a topic over what was registered as `source`, which has the columns that are read. Raises SqlFault."""
    places = {each.name: f"f{number}" for number, each in enumerate(each for each in read if each.member is not None)}
    there = {each.name for each in read}
    columns = []
    for column in schema.columns:
        if column.name not in there:
            expression = f"CAST(NULL AS {column.type})"
        elif column.member is None:
            expression = quoted(column.name)
        else:
            expression = _typed(column, places[column.name])
        columns.append(f"{expression} AS {quoted(column.name)}")
    try:
        connection.execute(f"CREATE VIEW {quoted(name)} AS SELECT {', '.join(columns)} FROM {source}")
    except duckdb.Error as problem:
        raise SqlFault("unsupported_topic", f"topic {name} cannot be a table: {problem}") from None


def _typed(column: Column, text: str) -> str:
    """The SQL that makes a field's value out of its text."""
    tree = column.tree
    if not isinstance(tree, str):
        shape = json.dumps(structure(tree)).replace("'", "''")
        return f"TRY(from_json({text}, '{shape}'))"
    if tree in ("TIMESTAMP", SECONDS):
        unit = 1_000_000 if tree == SECONDS else 1000
        number = f"TRY(make_timestamp(TRY_CAST({text} AS BIGINT) * {unit}))"
        return f"coalesce({number}, CAST(TRY_CAST({text} AS TIMESTAMPTZ) AS TIMESTAMP))"
    return text if tree == "VARCHAR" else f"TRY_CAST({text} AS {tree})"
