"""Continuous queries in the process that runs them: opened from their state, taken step by step, looked at, forgotten.

A step reads a piece of what there is, of the partition first whose event time is furthest behind, and makes record batches of
what it comes to: they need only be appended. The step counts when they are: whoever asked says so by asking for the next
one. If they could not be written the query is opened again, from the state that was.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

import duckdb
import msgspec

from chronik.analytics.auditing import Audit
from chronik.analytics.column_text import columns_text, read_columns
from chronik.analytics.columns import ColumnMaker
from chronik.analytics.connection import open_connection
from chronik.analytics.execution import Execution
from chronik.analytics.messages import Counts, Limits, PartitionFiles, SqlFault
from chronik.analytics.output import LATE_HEADER, Outgoing, result_records, result_value, row_value
from chronik.analytics.piece import Piece, StoredRecords
from chronik.analytics.plan import Plan, plan_query, source_of
from chronik.analytics.query_messages import (
    Checked,
    CheckQuery,
    Close,
    Closed,
    Explain,
    Explained,
    Found,
    LookUp,
    Open,
    Opened,
    Outcome,
    QueryNames,
    ReadQuery,
    Stepped,
    Sweep,
    Swept,
    TakeStep,
)
from chronik.analytics.reading import EVERYTHING, LogReading, sample
from chronik.analytics.schema import infer
from chronik.analytics.select_task import SelectTask
from chronik.analytics.state import StateCodec, StateError, entries_of, unowned
from chronik.analytics.statement import StatementError, read_statement
from chronik.analytics.task import Times, WindowTask
from chronik.analytics.window import NEVER
from chronik.errors import KafkaError
from chronik.interfaces import IDisk
from chronik.native.scanner import make_scanner
from chronik.native.value_scanner import make_value_scanner

SAMPLE = 1000
"""Values that are looked at for a topic's columns."""
STEP_RECORDS, STEP_BYTES = 100_000, 32 << 20
"""What a step reads, at most by about a chunk more."""
LIMITS = Limits(rows=0, seconds=60.0, memory_bytes=512 << 20, threads=1)
MAX_STATES = 2_000_000
"""Keys times panes of one query. Beyond that it stops, and says so: some hundred bytes each."""


Task = WindowTask | SelectTask


class TooManyStates(Exception):
    """A query whose keys grow without bound."""


class QueryEngine:
    """Over the logs on `disk`."""

    def __init__(self, disk: IDisk) -> None:
        self._disk = disk
        self._scanner = make_scanner()
        self._values = make_value_scanner()
        self._running: dict[bytes, _Running] = {}

    def read(self, asked: ReadQuery) -> QueryNames:
        """Read a statement, without looking at its topic."""
        try:
            statement = read_statement(asked.text)
            return QueryNames(statement.name, source_of(asked.text), statement.into)
        except StatementError as problem:
            return QueryNames(fault=str(problem))

    def check(self, asked: CheckQuery) -> Checked:
        """Plan a query, without running it."""
        try:
            schema = infer(sample(self._disk, asked.table.partitions, self._scanner, SAMPLE), asked.table.declared)
            plan = plan_query(asked.text, [column.name for column in schema.columns])
            execution = Execution(plan, schema, open_connection(LIMITS))
        except (StatementError, SqlFault, duckdb.Error, KafkaError, OSError) as problem:
            return Checked(fault=str(problem))
        return Checked(columns_text(execution.columns), plan.window is not None)

    def open(self, asked: Open) -> Generator[None, None, Opened]:
        """Begin to run a query."""
        self._running.pop(asked.query_id, None)
        try:
            running = _Running(self._disk, self._scanner, self._values, asked)
            yield from running.load(asked.state)
        except (StatementError, StateError, SqlFault, duckdb.Error, KafkaError, OSError) as problem:
            return Opened(fault=str(problem))
        self._running[asked.query_id] = running
        return Opened(dict(running.task.progress.offsets))

    def step(self, asked: TakeStep) -> Generator[Outcome | None, None, Stepped]:
        """Take a step; what it comes to is told on the way."""
        running = self._running.get(asked.query_id)
        if running is None:
            return Stepped(fault="the query is not open")
        try:
            stepped = yield from running.step(asked)
        except (duckdb.Error, KafkaError, OSError, MemoryError, TooManyStates) as problem:
            del self._running[asked.query_id]
            return Stepped(fault=str(problem) or type(problem).__name__)
        return stepped

    def explain(self, asked: Explain) -> Generator[None, None, Explained]:
        """Find the records of a window in the log again."""
        try:
            return (yield from Audit(self._disk, self._scanner, self._values, LIMITS).explain(asked))
        except (StatementError, SqlFault, duckdb.Error, KafkaError, OSError) as problem:
            return Explained(fault=str(problem))

    def close(self, asked: Close) -> Closed:
        """Forget a query."""
        self._running.pop(asked.query_id, None)
        return Closed()

    def sweep(self, asked: Sweep) -> Generator[None, None, Swept]:
        """Tombstones for the states of queries that were dropped. Raises KafkaError, OSError."""
        entries = yield from _entries(self._disk, asked.state, self._scanner, self._values)
        gone = Outgoing(None, 1)
        for key in unowned(entries, frozenset(asked.known)):
            gone.add(0, key, asked.now_ms, None)
        return Swept(tuple(batch for _, batch in gone.batches()))

    def look_up(self, asked: LookUp) -> Found:
        """The open windows."""
        running = self._running.get(asked.query_id)
        return Found(unknown=True) if running is None else running.look_up(asked)


class _Running:
    """One query."""

    def __init__(self, disk: IDisk, scanner: Any, values: Any, asked: Open) -> None:
        schema = read_columns(asked.columns)
        self._disk = disk
        self._scanner = scanner
        self._values = values
        self._counts = Counts()
        self.plan: Plan = plan_query(asked.text, [column.name for column in schema.columns])
        self._execution = Execution(self.plan, schema, open_connection(LIMITS))
        self._maker = ColumnMaker(self._execution.columns, self.plan.source, values, self._counts)
        aggregates = self._execution.aggregates
        self._codec = StateCodec(asked.query_id, aggregates.dump, aggregates.load)
        self._times = Times(asked.idle_ms, ahead=asked.ahead_ms)
        self._now = asked.now_ms
        self.task: Task

    def load(self, files: PartitionFiles) -> Generator[None, None, None]:
        """Read the state. Raises StateError, KafkaError, OSError."""
        entries = yield from _entries(self._disk, files, self._scanner, self._values)
        progress, kept = self._codec.read(entries)
        make = SelectTask if self.plan.window is None else WindowTask
        self.task = make(self._execution, self._times, self._now, progress, kept)

    def step(self, asked: TakeStep) -> Generator[Outcome | None, None, Stepped]:
        """See `QueryEngine.step`."""
        piece = yield from self._read(asked.source)
        not_json, self._counts.not_json = self._counts.not_json, 0
        step = self.task.step(piece.rows, piece.offsets, piece.waiting, asked.now_ms, not_json)
        if len(self.task) > MAX_STATES:
            raise TooManyStates(
                f"there are {len(self.task)} keys in open windows, and at most {MAX_STATES} are possible: group by less, or"
                " take shorter windows"
            )
        yield None
        into, late, state = (Outgoing(asked.producer, count) for count in (asked.targets.into, asked.targets.late, 1))
        for key, timestamp, value in result_records(self.plan, step.results):
            into.by_key(key, timestamp, value)
        for partition, offset, values in step.rows:
            record = piece.record(partition, offset)
            into.by_key(record.key, record.timestamp, row_value(values), instead=partition)
        for partition, offset in step.late:
            record = piece.record(partition, offset)
            why = {"query": self.plan.name, "partition": partition, "offset": offset, "closed_to": step.closed_before}
            told = tuple((LATE_HEADER + name, str(value).encode()) for name, value in why.items())
            late.by_key(record.key, record.timestamp, record.value, (*record.headers, *told), instead=partition)
        progress = self.task.progress
        if piece.rows is not None or step.results or step.kept:
            for entry in entries_of(self._codec, progress, step.kept):
                state.add(0, entry.key, asked.now_ms, entry.value)
        for partition, batch in into.batches():
            yield Outcome("into", partition, batch)
        for partition, batch in late.batches():
            yield Outcome("late", partition, batch)
        for _, batch in state.batches():
            yield Outcome("state", 0, batch)
        return Stepped(
            offsets=dict(progress.offsets),
            more=any(piece.waiting.values()),
            again_ms=self.task.again_ms(asked.now_ms),
            counts=progress.counts(),
            states=len(self.task),
            watermark=progress.watermark,
        )

    def _read(self, source: Iterable[PartitionFiles]) -> Generator[None, None, Piece]:
        """A piece of what there is, of the partitions first that are furthest behind in event time."""
        progress = self.task.progress
        piece = Piece(self._values, STEP_RECORDS, STEP_BYTES)
        for files in sorted(source, key=lambda each: progress.reached.get(each.partition, NEVER)):
            number = files.partition
            start = max(files.start, progress.offsets.get(number, files.start))
            progress.missed += start - progress.offsets.get(number, start)
            progress.offsets[number] = start
            piece.offsets[number], piece.waiting[number] = start, start < files.stable
            if not piece.waiting[number] or piece.is_full:
                continue
            reading = LogReading(
                self._disk, msgspec.structs.replace(files, start=start), EVERYTHING, self._scanner, self._counts
            )
            for chunk in reading.chunks():
                piece.add(number, chunk, self._maker.batch(chunk, number))
                yield
                if piece.is_full:
                    break
            else:
                piece.offsets[number], piece.waiting[number] = files.stable, False
        return piece

    def look_up(self, asked: LookUp) -> Found:
        """See `QueryEngine.look_up`."""
        key = None if asked.key is None else tuple(msgspec.json.decode(asked.key, type=list[Any]))
        found = [
            result
            for result in self.task.open_results(key)
            if result.start >= asked.first_ms and result.start <= asked.last_ms
        ]
        windows = b",".join(result_value(result) for result in found[: asked.most])
        return Found(b"[" + windows + b"]", len(found) > asked.most)


def _entries(
    disk: IDisk, files: PartitionFiles, scanner: Any, values: Any
) -> Generator[None, None, list[tuple[bytes, bytes | None]]]:
    """All records of a partition of the state topic."""
    entries: list[tuple[bytes, bytes | None]] = []
    for chunk in LogReading(disk, files, EVERYTHING, scanner, Counts()).chunks():
        stored = StoredRecords(chunk, values)
        entries += [(stored.key(row) or b"", stored.value(row)) for row in range(len(chunk.offsets))]
        yield
    return entries
