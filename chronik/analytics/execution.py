"""Carries out the SQL of a plan on batches of records: projected once, then grouped by pane and key, by columns.

A batch has the columns that `chronik.analytics.columns` makes, behind the topic's view (`chronik.analytics.tables`), as SQL
statements have. It is projected first: each record's columns, event time and keys, and whether it passes the WHERE, go to a
table of the engine's own. What is asked of the batch then is asked of that: the groups, how far each partition has come, which
records are late.

What cannot be computed of a record is NULL: no record stops a query. Records without a time are counted (`Batch.untimed`),
and so are those whose time is none that can be (`Batch.outside`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa

from chronik.analytics.aggregate import Aggregates, plain
from chronik.analytics.columns import table_schema
from chronik.analytics.connection import parse
from chronik.analytics.functions import tried
from chronik.analytics.plan import WINDOW_COLUMNS, Plan
from chronik.analytics.schema import Schema
from chronik.analytics.statement import StatementError
from chronik.analytics.tables import make_view
from chronik.analytics.window import Fixed, Part, Row

_ROWS, _SOURCE = "_rows", "_records"
_WHOLE = ("BIGINT", "INTEGER", "UBIGINT", "UINTEGER", "SMALLINT", "USMALLINT", "TINYINT", "UTINYINT", "HUGEINT")
_RESULT_TYPES = {
    "count": pa.int64(),
    "avg": pa.float64(),
    "approx_count_distinct": pa.int64(),
    "approx_percentile": pa.float64(),
    "approx_top_k": pa.list_(pa.struct([("value", pa.string()), ("count", pa.int64())])),
}
"""Of functions whose result has another type than their first partial."""


@dataclass
class Batch:
    """What became of a batch's records; `passed` are those that count in a window or become a result.

    `reached`: the greatest event time by partition, of records within the bounds of time. `outside` were not.
    """

    records: int = 0
    passed: int = 0
    untimed: int = 0
    outside: int = 0
    reached: dict[int, int] | None = None
    parts: Sequence[Part] = ()


class Execution:
    """A plan on a connection of its own, over a topic with this `schema`.

    Raises StatementError for SQL that the engine refuses, and SqlFault for functions that no statement may use.
    """

    def __init__(self, plan: Plan, schema: Schema, connection: duckdb.DuckDBPyConnection) -> None:
        self.plan = plan
        needed = {"_partition", "_offset", *plan.columns}
        self.columns = [each for each in schema.columns if each.name in needed]
        """The columns of the topic that batches must have."""
        self._nothing = table_schema(self.columns).empty_table()
        self.aggregates = Aggregates([call.aggregate() for call in plan.calls])
        self._db = connection
        self._keys = [key.name for key in plan.keys]
        self._partials = [sql for call in plan.calls for sql in call.partials()]
        try:
            self._bind()
        except duckdb.Error as error:
            raise StatementError(str(error).splitlines()[0][:500]) from None

    # -- types --------------------------------------------------------------------------------------------------------

    def _bind(self) -> None:
        """Have the engine look at all SQL, with no records, and learn the types."""
        plan = self.plan
        over_rows = [plan.where, plan.time, *(key.sql for key in plan.keys)]
        over_rows += [sql for call in plan.calls for sql in (call.argument, call.condition)]
        over_results = [plan.having, *(output.sql for output in plan.outputs)]
        for expressions in (over_rows, over_results):
            parse(self._db, f"SELECT {', '.join(sql for sql in (*expressions, '1') if sql is not None)} FROM topic")
        self._db.register(_SOURCE, self._nothing)
        make_view(self._db, _ROWS, Schema(tuple(self.columns), 0, 0), self.columns, _SOURCE)
        if plan.where is not None and (found := self._type(plan.where)) != "BOOLEAN":
            raise StatementError(f"WHERE is true or false; this one is {found}")
        if plan.window is None:
            self._db.sql(self._mapped()).to_arrow_table()
            return
        assert plan.time is not None
        self._event_time = _to_ms(tried(plan.time), self._type(plan.time))
        self._project(self._nothing, 0, 0)
        partials = self._groups().schema
        columns = [(name, partials.field(name).type) for name in self._keys]
        at = 0
        for number, call in enumerate(plan.calls):
            columns.append((f"_a{number}", _RESULT_TYPES.get(call.function, partials.field(f"_p{at}").type)))
            at += len(call.partials())
        self._results_schema = pa.schema([*columns, *((name, pa.int64()) for name in WINDOW_COLUMNS)])
        self._select_results(self._results_schema.empty_table())

    def _type(self, sql: str) -> str:
        return str(self._db.sql(f"SELECT {sql} AS x FROM {_ROWS}").types[0])

    # -- batches ------------------------------------------------------------------------------------------------------

    def take(self, rows: pa.Table, earliest: int, latest: int) -> Batch:
        """Aggregate a batch for a windowed plan. A time that is not from `earliest` to `latest` (ms) is outside.

        Raises duckdb.Error for what cannot be computed, such as a number that is too large for its type.
        """
        self._project(rows, earliest, latest)
        found = self._db.sql(
            "SELECT _partition, count(*), count(*) FILTER (WHERE _passed AND _event_time IS NOT NULL),"
            " count(*) FILTER (WHERE _untimed), count(*) FILTER (WHERE _outside),"
            " max(_event_time) FROM _projected GROUP BY _partition"
        ).fetchall()
        records, passed, untimed, outside = (sum(row[column] for row in found) for column in range(1, 5))
        reached = {row[0]: row[5] for row in found if row[5] is not None}
        return Batch(records, passed, untimed, outside, reached, self._parts(self._groups()) if passed else ())

    def select(self, rows: pa.Table) -> tuple[Batch, list[tuple[int, int, dict[str, Any]]]]:
        """The results of a batch of a plan without windows: each with its record's partition and offset."""
        self._db.register(_SOURCE, rows)
        names = [output.name for output in self.plan.outputs]
        made = [
            (partition, offset, dict(zip(names, map(plain, values), strict=True)))
            for partition, offset, *values in self._db.sql(self._mapped()).fetchall()
        ]
        return Batch(records=len(rows), passed=len(made)), made

    def late(self, parts: Iterable[Part]) -> list[tuple[int, int]]:
        """The records of the last batch that are in these parts: partition and offset, in their order."""
        spans: dict[object, list[tuple[int, int]]] = {}
        for part in parts:
            last = part.first + self.plan.window.pane - 1 if isinstance(self.plan.window, Fixed) else part.last
            spans.setdefault(part.key, []).append((part.first, last))
        if not spans:
            return []
        begin = min(first for each in spans.values() for first, _ in each)
        end = max(last for each in spans.values() for _, last in each)
        candidates = self._db.sql(
            f"SELECT _partition, _offset, _event_time{_listed(self._keys)} FROM _projected"
            f" WHERE _passed AND _event_time BETWEEN {begin} AND {end} ORDER BY _partition, _offset"
        ).fetchall()
        return [
            (partition, offset)
            for partition, offset, time, *key in candidates
            if any(first <= time <= last for first, last in spans.get(tuple(key), ()))
        ]

    def of_key(
        self, rows: pa.Table, key: Sequence[Any], late: Iterable[int], earliest: int, latest: int
    ) -> tuple[list[Part], list[tuple[int, int, int]]]:
        """What a batch of one partition has of a key, the late ones left out: groups, and (partition, offset, time) of each."""
        self._project(rows, earliest, latest)
        same = "".join(f" AND {name} IS NOT DISTINCT FROM ?" for name in self._keys)
        self._db.execute(f"DELETE FROM _projected WHERE NOT (_passed AND _event_time IS NOT NULL{same})", list(key))
        self._db.execute("DELETE FROM _projected WHERE list_contains(?, _offset)", [sorted(late)])
        found = self._db.sql("SELECT _partition, _offset, _event_time FROM _projected ORDER BY ALL").fetchall()
        return (self._parts(self._groups()) if found else []), found

    def _mapped(self) -> str:
        outputs = ", ".join(
            f'{tried(each.sql)} AS "{each.name.replace(chr(34), chr(34) * 2)}"' for each in self.plan.outputs
        )
        where = f" WHERE {tried(self.plan.where)}" if self.plan.where is not None else ""
        return f"SELECT _partition, _offset, {outputs} FROM {_ROWS}{where} ORDER BY _partition, _offset"

    def _project(self, rows: pa.Table, earliest: int, latest: int) -> None:
        plan = self.plan
        self._db.register(_SOURCE, rows)
        keys = _listed([f"{tried(key.sql)} AS {key.name}" for key in plan.keys])
        self._db.execute(
            "CREATE OR REPLACE TEMP TABLE _projected AS SELECT * EXCLUDE (_at),"
            f" CASE WHEN _at BETWEEN {earliest} AND {latest} THEN _at END AS _event_time,"
            f" _at IS NULL AS _untimed, _at NOT BETWEEN {earliest} AND {latest} AS _outside"
            f" FROM (SELECT *, {self._event_time} AS _at, coalesce({tried(plan.where or 'true')}, false) AS _passed{keys}"
            f" FROM {_ROWS})"
        )

    def _groups(self) -> pa.Table:
        """The partial aggregates of what was projected, by key and pane or by key and session within the batch."""
        partials = _listed([f"{sql} AS _p{number}" for number, sql in enumerate(self._partials)])
        keys = _listed(self._keys)
        window = self.plan.window
        counted = "FROM _projected WHERE _passed AND _event_time IS NOT NULL"
        if isinstance(window, Fixed):
            pane = window.pane
            first = f"_event_time - (_event_time % {pane} + {pane}) % {pane}"
            query = f"SELECT {first} AS _first, 0 AS _last{keys}{partials} {counted} GROUP BY ALL"
        else:
            assert window is not None
            over = f"({'PARTITION BY ' + ', '.join(self._keys) if self._keys else ''} ORDER BY _event_time)"
            query = (
                f"SELECT min(_event_time) AS _first, max(_event_time) AS _last{keys}{partials}"
                f" FROM (SELECT *, sum(_begins) OVER {over} AS _session FROM (SELECT *, CASE WHEN"
                f" _event_time - lag(_event_time) OVER {over} < {window.gap} THEN 0 ELSE 1 END AS _begins {counted}))"
                f" GROUP BY _session{keys}"
            )
        return self._db.sql(query).to_arrow_table()

    def _parts(self, groups: pa.Table) -> list[Part]:
        columns = [_values(column) for column in groups.columns]
        firsts, lasts = columns[0], columns[1]
        count = len(self._keys)
        keys: Iterable[Any] = zip(*columns[2 : 2 + count], strict=True) if count else [()] * len(firsts)
        begin = self.aggregates.begin
        partials = zip(*columns[2 + count :], strict=True)
        return [
            Part(key, first, last, begin(values))
            for key, first, last, values in zip(keys, firsts, lasts, partials, strict=True)
        ]

    # -- results ------------------------------------------------------------------------------------------------------

    def results(self, rows: Sequence[Row]) -> list[tuple[Row, dict[str, Any]]]:
        """What windows come to, without those that HAVING leaves out. Of those without a state, see `Row`, nothing."""
        rows = [row for row in rows if row.state is not None]
        if not rows:
            return []
        columns: list[list[Any]] = [list(each) for each in zip(*(row.key for row in rows), strict=True)]
        columns += [
            list(each) for each in zip(*(self.aggregates.results(row.state or ()) for row in rows), strict=True)
        ]
        columns += [[row.start for row in rows], [row.end for row in rows]]
        arrays = [_array(values, kind) for values, kind in zip(columns, self._results_schema.types, strict=True)]
        found = self._select_results(pa.table(arrays, schema=self._results_schema))
        names = [output.name for output in self.plan.outputs]
        return [(rows[number], dict(zip(names, map(plain, values), strict=True))) for number, *values in found]

    def _select_results(self, table: pa.Table) -> list[tuple[Any, ...]]:
        self._db.register("_results", table.append_column("_number", pa.array(range(len(table)), pa.int64())))
        outputs = _listed(tried(each.sql) for each in self.plan.outputs)
        where = f" WHERE {tried(self.plan.having)}" if self.plan.having is not None else ""
        return self._db.sql(f"SELECT _number{outputs} FROM _results{where} ORDER BY _number").fetchall()


def _listed(expressions: Iterable[str]) -> str:
    """More columns, behind those that there are already."""
    return "".join(f", {each}" for each in expressions)


def _to_ms(sql: str, kind: str) -> str:
    """An expression as whole ms since 1970, by its type."""
    if kind in _WHOLE:
        return f"TRY_CAST({sql} AS BIGINT)"
    if kind == "DOUBLE":
        return f"TRY_CAST(floor({sql}) AS BIGINT)"
    if kind.startswith("TIMESTAMP") or kind == "DATE":
        return f"epoch_ms(CAST({sql} AS TIMESTAMP))"
    if kind == "VARCHAR":
        return f"epoch_ms(TRY_CAST({sql} AS TIMESTAMPTZ))"
    raise StatementError(f"a window's time is ms since 1970, or a time as text; this one is {kind}")


def _values(column: pa.ChunkedArray) -> Sequence[Any]:
    """A column's values; lists of numbers as views, without making objects of the numbers."""
    if not (pa.types.is_list(column.type) and pa.types.is_floating(column.type.value_type)):
        found: list[Any] = column.to_pylist()
        return found
    whole = column.combine_chunks()
    numbers = whole.values.to_numpy(zero_copy_only=False)
    ends = whole.offsets.to_numpy()
    valid = whole.is_valid().to_numpy(zero_copy_only=False)
    return [
        numbers[begin:end] if there else None
        for begin, end, there in zip(ends[:-1].tolist(), ends[1:].tolist(), valid.tolist(), strict=True)
    ]


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_decimal(kind):
        return pa.array([None if value is None else Decimal(value) for value in values], kind)
    return pa.array(values, kind)
