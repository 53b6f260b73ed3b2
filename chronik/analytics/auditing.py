"""A window explained: its records, found in the log again, and what they come to.

The log is read from its start to where the query is. What the query has called late is left out, as its topic of late records
says. So the answer is an audit: a result that differs from what was recomputed here was not made of these records.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

import msgspec
import pyarrow as pa

from chronik.analytics.column_text import read_columns
from chronik.analytics.columns import ColumnMaker
from chronik.analytics.connection import open_connection
from chronik.analytics.execution import Execution
from chronik.analytics.messages import Counts, Limits, PartitionFiles
from chronik.analytics.output import LATE_HEADER, result_value
from chronik.analytics.piece import StoredRecords
from chronik.analytics.plan import plan_query
from chronik.analytics.query_messages import Explain, Explained
from chronik.analytics.reading import EVERYTHING, LogReading
from chronik.analytics.statement import StatementError
from chronik.analytics.task import Result, Times
from chronik.analytics.window import windows_of
from chronik.interfaces import IDisk
from chronik.native.interfaces import IRecordScanner, IValueScanner

MAX_OFFSETS = 10_000
"""Of an answer; more are counted."""


class Audit:
    """Over the logs on `disk`."""

    def __init__(self, disk: IDisk, scanner: IRecordScanner, values: IValueScanner, limits: Limits) -> None:
        self._disk = disk
        self._scanner = scanner
        self._values = values
        self._limits = limits

    def explain(self, asked: Explain) -> Generator[None, None, Explained]:
        """Find the records of a window. Raises StatementError, SqlFault, duckdb.Error, KafkaError, OSError."""
        schema = read_columns(asked.columns)
        plan = plan_query(asked.text, [column.name for column in schema.columns])
        if plan.window is None:
            raise StatementError("the query has no windows")
        execution = Execution(plan, schema, open_connection(self._limits))
        key = tuple(msgspec.json.decode(asked.key, type=list[Any]))
        if len(key) != len(plan.keys):
            raise StatementError(f"the query groups by {len(plan.keys)} expression(s), and the key has {len(key)}")
        late = yield from self._late(asked.late, plan.name)
        windows = windows_of(plan.window, 0, execution.aggregates, repr)
        records: list[tuple[int, int, int]] = []
        for files in asked.source:
            counts = Counts()
            maker = ColumnMaker(execution.columns, plan.source, self._values, counts)
            for chunk in LogReading(self._disk, files, EVERYTHING, self._scanner, counts).chunks():
                rows = pa.Table.from_batches([maker.batch(chunk, files.partition)])
                latest = asked.now_ms + asked.ahead_ms
                parts, some = execution.of_key(rows, key, late.get(files.partition, ()), Times().earliest, latest)
                windows.add(parts)
                records += some
                yield
        row = next((each for each in windows.rows() if each.start == asked.start_ms), None)
        if row is None:
            return Explained(unknown=True)
        inside = [(partition, offset) for partition, offset, time in records if row.start <= time < row.end]
        offsets: dict[int, list[int]] = {}
        for partition, offset in inside[:MAX_OFFSETS]:
            offsets.setdefault(partition, []).append(offset)
        results = execution.results([row])
        recomputed = result_value(Result(row.key, row.start, row.end, results[0][1])) if results else b"null"
        return Explained(offsets, len(inside), recomputed)

    def _late(self, topic: Iterable[PartitionFiles], query: str) -> Generator[None, None, dict[int, set[int]]]:
        """The records that the query has called late, by partition of the source."""
        found: dict[int, set[int]] = {}
        for files in topic:
            for chunk in LogReading(self._disk, files, EVERYTHING, self._scanner, Counts()).chunks():
                stored = StoredRecords(chunk, self._values)
                for row in range(len(chunk.offsets)):
                    headers = dict(stored.headers(row))
                    if headers.get(f"{LATE_HEADER}query") == query.encode():
                        partition, offset = (
                            int(headers[LATE_HEADER + name] or b"0") for name in ("partition", "offset")
                        )
                        found.setdefault(partition, set()).add(offset)
                yield
        return found
