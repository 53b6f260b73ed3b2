"""What a continuous query does, read from its SELECT: which fields, which groups and windows, which aggregates, what comes out.

SQL is parsed by a library; what it means is decided here, and everything that isn't meant is refused. A plan has three layers,
each in SQL over the columns of the one before, so that an engine can carry it out by columns:

1. *rows*: the records, with the columns that the topic has for all of SQL (`chronik.analytics.schema`); `where`, `time` and
   `keys` are over these, and so are the arguments of the aggregates.
2. *groups*: `_k0`, `_k1`, ... (keys) and the partial aggregates of each batch, which `chronik.analytics.window` merges.
3. *results*: `_k0`, ..., `_a0`, ... (what the aggregates come to), `window_start`, `window_end`; `outputs` and `having` are
   over these.

A query without GROUP BY has the first layer alone: each record that passes `where` becomes one result.

Pure. Texts in SQL are DuckDB's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from chronik.analytics.functions import Call, call_of, is_aggregate
from chronik.analytics.statement import Statement, StatementError, interval_ms, read_statement
from chronik.analytics.window import Fixed, Session

DIALECT = "duckdb"
WINDOW_COLUMNS = ("window_start", "window_end")
MAX_KEYS = 16
MAX_AGGREGATES = 64
MAX_WINDOW_MS = 366 * 86_400_000
MAX_PANES = 10_000
"""Of a hopping window: each result is merged of so many states."""


class Output(NamedTuple):
    """A column by its name, and the SQL that gives it."""

    name: str
    sql: str


@dataclass(frozen=True)
class Plan:
    """A continuous query. `grace` in ms; `columns` are those of the topic that are read."""

    name: str
    source: str
    into: str
    where: str | None
    columns: tuple[str, ...]
    outputs: tuple[Output, ...]
    having: str | None = None
    window: Fixed | Session | None = None
    time: str | None = None
    keys: tuple[Output, ...] = ()
    calls: tuple[Call, ...] = ()
    changes: bool = False
    grace: int = 0

    @property
    def key_labels(self) -> tuple[str, ...]:
        """What the keys are called in results: as in the SELECT, or else by their SQL."""
        names = {output.sql: output.name for output in reversed(self.outputs)}
        return tuple(names.get(key.name, key.sql) for key in self.keys)


def plan_query(text: str, columns: Iterable[str]) -> Plan:
    """Plan a CREATE CONTINUOUS QUERY over a topic with these columns. Raises StatementError."""
    statement = read_statement(text)
    return _Planner(statement, {name.lower(): name for name in columns}, _select(statement.select)).plan()


def source_of(text: str) -> str:
    """The topic that a CREATE CONTINUOUS QUERY reads. Raises StatementError."""
    return _source(_select(read_statement(text).select))[0]


def _select(text: str) -> exp.Select:
    try:
        found = sqlglot.parse(_SESSION.sub('"SESSION"(', text), dialect=DIALECT)
    except (SqlglotError, RecursionError) as error:
        raise StatementError(f"the SELECT cannot be read: {str(error).splitlines()[0]}") from None
    if len(found) != 1 or not isinstance(found[0], exp.Select):
        raise StatementError("a continuous query is a single SELECT")
    select = found[0]
    for name, what in _REFUSED.items():
        if select.args.get(name):
            raise StatementError(f"{what} is not possible in a continuous query")
    for kind in (exp.Subquery, exp.Window, exp.SetOperation, exp.Lambda, exp.Star, exp.Parameter, exp.Placeholder):
        for node in select.find_all(kind):
            if not (isinstance(node, exp.Star) and isinstance(node.parent, exp.Count)):
                raise StatementError(f"{node.sql(DIALECT)[:100]} is not possible in a continuous query")
    if sum(1 for _ in select.find_all(exp.Select)) > 1:
        raise StatementError("a SELECT within a SELECT is not possible in a continuous query")
    return select


_REFUSED = {
    "with_": "WITH", "distinct": "DISTINCT", "order": "ORDER BY", "limit": "LIMIT", "offset": "OFFSET", "windows": "WINDOW",
    "qualify": "QUALIFY", "joins": "JOIN", "laterals": "LATERAL", "into": "INTO within the SELECT", "sample": "SAMPLE",
    "pivots": "PIVOT", "hint": "a hint", "sort": "SORT BY", "cluster": "CLUSTER BY", "distribute": "DISTRIBUTE BY",
    "connect": "CONNECT BY", "match": "MATCH_RECOGNIZE", "locks": "FOR UPDATE", "kind": "SELECT AS", "settings": "SETTINGS",
    "format": "FORMAT", "prewhere": "PREWHERE",
}  # fmt: skip


def _source(select: exp.Select) -> tuple[str, str]:
    """The topic, and what its columns may be qualified with."""
    clause = select.args.get("from_")
    table = None if clause is None else clause.this
    if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Identifier):
        raise StatementError(
            "a continuous query reads FROM a topic, by its name (in double quotes where it has '-' or '.')"
        )
    allowed = {"this", "alias"}
    if any(value for name, value in table.args.items() if name not in allowed):
        raise StatementError(
            f"FROM {table.sql(DIALECT)[:100]}: only the name of a topic, and an alias, is possible here"
        )
    return table.name, table.alias or table.name


@dataclass
class _Planner:
    statement: Statement
    there: Mapping[str, str]
    select: exp.Select
    read: dict[str, None] = field(default_factory=dict)
    keys: list[Output] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    window: Fixed | Session | None = None
    time: str | None = None
    alias: str = ""

    def plan(self) -> Plan:
        """Read it all."""
        source, self.alias = _source(self.select)
        where = self.select.args.get("where")
        where_sql = None if where is None else self._row_sql(where.this)
        group = self.select.args.get("group")
        grouped = group is not None or any(is_aggregate(node) for node in self.select.walk())
        if grouped:
            self._read_groups(group)
        having = self.select.args.get("having")
        if having is not None and not grouped:
            raise StatementError("HAVING needs a GROUP BY")
        outputs = self._outputs(grouped)
        having_sql = None if having is None else self._result_sql(having.this)
        if self.window is None and (self.statement.changes or self.statement.grace is not None):
            raise StatementError("EMIT CHANGES and GRACE are for windows, and there is none")
        if self.window is not None and self.statement.grace is None:
            raise StatementError(
                "say how late records may be: GRACE INTERVAL '10 seconds' (or '0 seconds') behind the SELECT; results come so"
                " much later"
            )
        if grouped and not self.calls:
            raise StatementError("a windowed query has at least one aggregate, such as count(*)")
        return Plan(
            name=self.statement.name,
            source=source,
            into=self.statement.into,
            where=where_sql,
            columns=tuple(self.read),
            outputs=outputs,
            having=having_sql,
            window=self.window,
            time=self.time,
            keys=tuple(self.keys),
            calls=tuple(self.calls),
            changes=self.statement.changes,
            grace=self.statement.grace or 0,
        )

    # -- groups -------------------------------------------------------------------------------------------------------

    def _read_groups(self, group: exp.Group | None) -> None:
        expressions = [] if group is None else group.expressions
        if group is not None and any(group.args.get(each) for each in ("cube", "rollup", "grouping_sets", "all")):
            raise StatementError("GROUP BY takes expressions and one window; no CUBE, ROLLUP, GROUPING SETS or ALL")
        for expression in expressions:
            if isinstance(expression, exp.Anonymous) and expression.name.upper() in _WINDOWS:
                self._read_window(expression)
            else:
                self._read_key(expression)
        if self.window is None:
            raise StatementError(
                "aggregates need a window in the GROUP BY: TUMBLE(time, INTERVAL '1 minute'), HOP(time, INTERVAL '10 seconds',"
                " INTERVAL '1 minute') or SESSION(time, INTERVAL '5 minutes')"
            )
        if len(self.keys) > MAX_KEYS:
            raise StatementError(f"GROUP BY has at most {MAX_KEYS} expressions")

    def _read_window(self, call: exp.Anonymous) -> None:
        name, count = call.name.upper(), _WINDOWS[call.name.upper()]
        if self.window is not None:
            raise StatementError("GROUP BY has one window")
        if len(call.expressions) != count + 1:
            raise StatementError(f"{name} takes a time and {count} interval(s)")
        time, *intervals = call.expressions
        self.time = self._row_sql(time)
        lengths = [_interval(each) for each in intervals]
        if not all(0 < each <= MAX_WINDOW_MS for each in lengths):
            raise StatementError(f"{name}: an interval is longer than nothing, and has at most 366 days")
        if name == "SESSION":
            self.window = Session(lengths[0])
        elif name == "TUMBLE":
            self.window = Fixed(lengths[0], lengths[0])
        else:
            self.window = Fixed(size=lengths[1], hop=lengths[0])
            if self.window.hop > self.window.size:
                raise StatementError("HOP takes the hop first, then the size, which is at least as long")
            if self.window.size // self.window.pane > MAX_PANES:
                raise StatementError(
                    f"HOP: a window is merged of panes of {self.window.pane} ms here, at most {MAX_PANES}"
                )

    def _read_key(self, expression: exp.Expr) -> None:
        if isinstance(expression, exp.Literal) and not expression.is_string:
            number = int(expression.name) if expression.name.isdigit() else 0
            if not 1 <= number <= len(self.select.expressions):
                raise StatementError(f"GROUP BY {expression.name}: there is no such column")
            expression = self.select.expressions[number - 1].unalias()
        elif isinstance(expression, exp.Column) and not expression.table and expression.name.lower() not in self.there:
            named = [each for each in self.select.expressions if each.alias == expression.name]
            expression = named[0].unalias() if named else expression
        if any(is_aggregate(node) for node in expression.walk()):
            raise StatementError(f"GROUP BY {expression.sql(DIALECT)}: an aggregate is no group")
        self.keys.append(Output(f"_k{len(self.keys)}", self._row_sql(expression)))

    # -- what comes out -----------------------------------------------------------------------------------------------

    def _outputs(self, grouped: bool) -> tuple[Output, ...]:
        outputs: list[Output] = []
        for expression in self.select.expressions:
            inner = expression.unalias()
            name = expression.alias or (inner.name if isinstance(inner, exp.Column) else inner.sql(DIALECT).lower())
            if any(each.name.lower() == name.lower() for each in outputs):
                raise StatementError(f"there are two columns of the name {name}: name one of them with AS")
            outputs.append(Output(name, self._result_sql(inner) if grouped else self._row_sql(inner)))
        return tuple(outputs)

    def _result_sql(self, expression: exp.Expr) -> str:
        """An expression over keys, aggregates and the window's bounds."""
        return self._over_results(expression.copy()).sql(DIALECT)

    def _over_results(self, node: exp.Expr) -> exp.Expr:
        key = self._key_of(node)
        if key is not None:
            return exp.column(key)
        if is_aggregate(node):
            return exp.column(self._aggregate(node))
        if isinstance(node, exp.Column):
            if node.name in WINDOW_COLUMNS and not node.table:
                return exp.column(node.name)
            raise StatementError(f"{node.sql(DIALECT)} must be in the GROUP BY, or within an aggregate")
        for name, value in list(node.args.items()):
            if isinstance(value, exp.Expr):
                node.set(name, self._over_results(value))
            elif isinstance(value, list):
                node.set(name, [self._over_results(each) if isinstance(each, exp.Expr) else each for each in value])
        return node

    def _key_of(self, node: exp.Expr) -> str | None:
        if not self.keys or isinstance(node, exp.Literal | exp.Identifier) or is_aggregate(node):
            return None
        try:
            sql = self._row_sql(node)
        except StatementError:
            return None
        return next((key.name for key in self.keys if key.sql == sql), None)

    def _aggregate(self, node: exp.Expr) -> str:
        call = call_of(node, self._row_sql)
        if call not in self.calls:
            if len(self.calls) == MAX_AGGREGATES:
                raise StatementError(f"a query has at most {MAX_AGGREGATES} aggregates")
            self.calls.append(call)
        return f"_a{self.calls.index(call)}"

    # -- rows ---------------------------------------------------------------------------------------------------------

    def _row_sql(self, expression: exp.Expr) -> str:
        """An expression over the columns of a record."""
        for node in expression.walk():
            if is_aggregate(node):
                raise StatementError(f"{node.sql(DIALECT)}: an aggregate is not possible here")
        return expression.copy().transform(self._column).sql(DIALECT)

    def _column(self, node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Dot):
            return self._field(_dotted(node))
        if isinstance(node, exp.Column):
            return self._field([part.name for part in node.parts])
        return node

    def _field(self, parts: list[str]) -> exp.Expr:
        """A column of the topic, or a member of one that is a structure."""
        if len(parts) > 1 and parts[0].lower() not in self.there and parts[0] == self.alias:
            parts = parts[1:]
        name = self.there.get(parts[0].lower())
        if name is None:
            known = ", ".join(sorted(self.there.values())[:30])
            raise StatementError(
                f"the topic has no field {parts[0]}; by a sample of its records it has {known}; others can be declared in"
                " search.mapping"
            )
        self.read[name] = None
        names = [exp.to_identifier(each, quoted=True) for each in (name, *parts[1:])]
        return exp.column(names[0]) if len(names) == 1 else exp.Dot.build(names)


_SESSION = re.compile(r"\bSESSION\s*\(", re.IGNORECASE)
"""A word of its own to the parser, and no function."""
_WINDOWS = {"TUMBLE": 1, "HOP": 2, "SESSION": 1}


def _interval(node: exp.Expr) -> int:
    if not isinstance(node, exp.Interval) or not isinstance(node.this, exp.Literal):
        raise StatementError(f"{node.sql(DIALECT)[:100]} is no interval; write INTERVAL '1 minute'")
    return interval_ms(f"{node.this.name} {node.unit.name if node.unit is not None else ''}")


def _dotted(node: exp.Expr) -> list[str]:
    if isinstance(node, exp.Dot):
        return [*_dotted(node.this), *_dotted(node.expression)]
    if isinstance(node, exp.Column):
        return [part.name for part in node.parts]
    if isinstance(node, exp.Identifier):
        return [node.name]
    raise StatementError(f"{node.sql(DIALECT)[:100]} is no field")
