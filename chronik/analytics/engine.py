"""Statements run, from the request to the pieces of its answer: what a process that runs SQL does for each job.

A statement is parsed again here, whoever has planned it. In a transaction on a locked connection the windows of what is read
are computed and its topics become views; then its rows are streamed out until there are none, or enough.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import duckdb
import pyarrow as pa

from chronik.analytics.answers import RowWriter
from chronik.analytics.connection import Watch, fault_of, open_connection, parse, parse_alone
from chronik.analytics.messages import (
    ColumnAnswer,
    Counts,
    Describe,
    Plan,
    Planned,
    Ran,
    Run,
    Show,
    SqlFault,
    Table,
    Told,
)
from chronik.analytics.pruning import window_of
from chronik.analytics.reading import sample
from chronik.analytics.schema import Schema, infer
from chronik.analytics.tables import Scan, make_view, needed, offsets_of
from chronik.errors import KafkaError
from chronik.interfaces import IDisk
from chronik.native.scanner import make_scanner
from chronik.native.value_scanner import make_value_scanner

SAMPLE = 1000
"""Values that are looked at for a topic's columns."""
_BATCH_ROWS = 2048

Tell = Callable[[Told], object]
"""Called from several threads, one at a time."""


class SqlEngine:
    """Over the logs on `disk`."""

    def __init__(self, disk: IDisk) -> None:
        self._disk = disk
        self._records = make_scanner()
        self._values = make_value_scanner()

    def plan(self, asked: Plan) -> Planned:
        """Which topics a statement names."""
        try:
            read = parse_alone(asked.statement)
        except SqlFault as fault:
            return Planned(fault=fault.fault)
        return Planned(tuple(sorted(read.topics)), tuple(sorted(read.perhaps)))

    def run(self, asked: Run, tell: Tell) -> Ran:
        """Run a statement; the answer's rows are told piece by piece."""
        ends = time.monotonic() + asked.limits.seconds
        running = _Running(self._disk, self._records, self._values, asked, tell, ends)
        try:
            running.open()
            return running.run()
        except (SqlFault, duckdb.Error, MemoryError, OSError, KafkaError, RuntimeError, pa.ArrowException) as problem:
            return Ran(counts=running.counts, fault=running.fault(problem).fault)
        finally:
            running.close()

    def describe(self, asked: Describe, tell: Tell) -> Ran:
        """The columns of a table, as rows."""
        try:
            schema = self.schema(asked.table)
        except (OSError, KafkaError) as problem:
            return Ran(fault=_log_fault(problem).fault)
        rows = tuple(
            (
                each.name,
                each.type,
                each.source,
                round(100 * each.seen / schema.sampled) if each.member and schema.sampled else None,
            )
            for each in schema.columns
        )
        return self.show(Show(("column", "type", "source", "percent_of_sample"), rows, asked.form), tell)

    def schema(self, table: Table) -> Schema:
        """The columns of a table, by a sample of it."""
        return _schema(self._disk, table, self._records)

    def show(self, asked: Show, tell: Tell) -> Ran:
        """Write rows that are known already."""
        columns = list(zip(*asked.rows, strict=True)) if asked.rows else [()] * len(asked.columns)
        kinds = [pa.int64() if any(isinstance(each, int) for each in column) else pa.string() for column in columns]
        batch = pa.record_batch(
            [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)], names=list(asked.columns)
        )
        writer = RowWriter(asked.form, batch.schema, asked.columns)
        writer.write(batch)
        writer.end()
        for piece in writer.taken(True):
            tell(Told(piece))
        types = ("BIGINT" if kind == pa.int64() else "VARCHAR" for kind in kinds)
        return Ran(
            tuple(ColumnAnswer(name, kind) for name, kind in zip(asked.columns, types, strict=True)), len(asked.rows)
        )


class _Running:
    """One statement."""

    def __init__(self, disk: IDisk, records: Any, values: Any, asked: Run, tell: Tell, ends: float) -> None:
        self._disk = disk
        self._records = records
        self._values = values
        self._asked = asked
        self._tell = tell
        self._ends = ends
        self._connection: Any = None
        self._scans: list[Scan] = []
        self._all = 0
        self.counts = Counts()

    def open(self) -> None:
        """Have a connection for it."""
        self._connection = open_connection(self._asked.limits)

    def run(self) -> Ran:
        """See `SqlEngine.run`."""
        with Watch(self._connection, self._ends, time.monotonic, self._progress):
            connection = self._connection
            statement = parse(connection, self._asked.statement)
            connection.execute("BEGIN")
            for number, table in enumerate(self._asked.tables):
                schema = _schema(self._disk, table, self._records)
                read = needed(schema, statement)
                folded = table.topic.lower()
                window = window_of(connection, [each for each in statement.occurrences if each.table.lower() == folded])
                scan = Scan(self._disk, table, window, read, self._records, self._values, self.counts)
                self._scans.append(scan)
                self._all += offsets_of(table, window)
                connection.register(f"chronik_scan_{number}", scan)
                make_view(connection, table.topic, schema, read, f"chronik_scan_{number}")
            return self._stream()

    def _stream(self) -> Ran:
        relation = self._connection.sql(self._asked.statement)
        names = relation.columns
        columns = tuple(ColumnAnswer(name, str(kind)) for name, kind in zip(names, relation.types, strict=True))
        reader = relation.to_arrow_reader(_BATCH_ROWS)
        writer = RowWriter(self._asked.form, reader.schema, names)
        left = self._asked.limits.rows
        truncated = False
        for batch in reader:
            if batch.num_rows > left:
                batch, truncated = batch.slice(0, left), True
            left -= batch.num_rows
            writer.write(batch)
            for piece in writer.taken():
                self._tell(Told(piece))
            if truncated:
                break
        reader.close()
        writer.end()
        for piece in writer.taken(True):
            self._tell(Told(piece))
        return Ran(columns, self._asked.limits.rows - left, truncated, self.counts)

    def _progress(self) -> None:
        self._tell(Told(counts=self.counts, done=sum(scan.done for scan in self._scans), all=self._all))

    def fault(self, problem: BaseException) -> SqlFault:
        """What went wrong: with the log where reading it did, else with the statement."""
        for scan in self._scans:
            if isinstance(scan.failure, (OSError, KafkaError)):
                return _log_fault(scan.failure)
            if isinstance(scan.failure, MemoryError):
                return fault_of(scan.failure)
        if isinstance(problem, (OSError, KafkaError)):
            return _log_fault(problem)
        if time.monotonic() > self._ends and not isinstance(problem, SqlFault):
            return SqlFault("timeout", "the statement took longer than it may", 408)
        return fault_of(problem)

    def close(self) -> None:
        """Give everything back."""
        if self._connection is not None:
            self._connection.close()


def _schema(disk: IDisk, table: Table, records: Any) -> Schema:
    return infer(sample(disk, table.partitions, records, SAMPLE), table.declared)


def _log_fault(problem: Exception) -> SqlFault:
    return SqlFault("log_unreadable", f"the log could not be read: {problem}", 503)
