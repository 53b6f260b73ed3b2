"""From what a statement demands of a table's records to the window of them that is read.

Each condition's expression is computed in the transaction in which the statement runs, so that `now()` is the same in both. A
window only leaves out what can't count: what a bound comes to is rounded outwards, what comes to nothing or to another type
bounds nothing, and the windows of all places where a table is named are put together to one that holds them all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import duckdb

from chronik.analytics.reading import EVERYTHING, LEAST, MOST, Window
from chronik.analytics.syntax import Condition, Node, Occurrence

_INTEGERS = frozenset(
    {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT"}
)
_FIELDS = {"_partition": "partitions", "_offset": "offsets", "_timestamp": "timestamps"}


def window_of(connection: duckdb.DuckDBPyConnection, occurrences: Iterable[Occurrence]) -> Window:
    """The window of a table that is named in these places."""
    windows = [_narrowed(connection, each.conditions) for each in occurrences]
    if not windows:
        return EVERYTHING
    return Window(*((min(one[0] for one in axis), max(one[1] for one in axis)) for axis in zip(*windows, strict=True)))


def _narrowed(connection: duckdb.DuckDBPyConnection, conditions: Iterable[Condition]) -> Window:
    window = EVERYTHING
    for column, comparison, expression in conditions:
        value = _milliseconds(connection, expression) if column == "_timestamp" else _integer(connection, expression)
        if value is None:
            continue
        low, high = value
        if column != "_timestamp":  # of these, what comes next is known
            low, high = low + (comparison == "COMPARE_GREATERTHAN"), high - (comparison == "COMPARE_LESSTHAN")
        first, last = getattr(window, _FIELDS[column])
        if comparison in ("COMPARE_EQUAL", "COMPARE_GREATERTHAN", "COMPARE_GREATERTHANOREQUALTO"):
            first = max(first, low)
        if comparison in ("COMPARE_EQUAL", "COMPARE_LESSTHAN", "COMPARE_LESSTHANOREQUALTO"):
            last = min(last, high)
        window = window._replace(**{_FIELDS[column]: (first, last)})
    return window


def _milliseconds(connection: duckdb.DuckDBPyConnection, expression: Node) -> tuple[int, int] | None:
    """The time that an expression comes to, rounded down and up."""
    found = _compute(connection, expression, "epoch_us(TRY_CAST(x AS TIMESTAMPTZ))")
    return None if found is None else (_bounded(found // 1000), _bounded(-(-found // 1000)))


def _integer(connection: duckdb.DuckDBPyConnection, expression: Node) -> tuple[int, int] | None:
    found = _compute(
        connection, expression, f"CASE WHEN typeof(x) IN ({', '.join(map(repr, sorted(_INTEGERS)))}) THEN x END"
    )
    return None if found is None else (_bounded(found), _bounded(found))


def _compute(connection: duckdb.DuckDBPyConnection, expression: Node, formula: str) -> int | None:
    """The whole number that the formula over `x`, the expression, comes to; None where it is none."""
    try:
        tree = json.dumps(_select(connection, expression))
        ((text,),) = connection.execute("SELECT json_deserialize_sql(?::JSON)", [tree]).fetchall()
        ((value,),) = connection.execute(f"SELECT {formula} FROM (SELECT ({text}) AS x)").fetchall()
    except (duckdb.InterruptException, duckdb.OutOfMemoryException):
        raise
    except duckdb.Error:
        return None  # the statement itself will say what is wrong, if anything is
    return value if isinstance(value, int) else None


def _select(connection: duckdb.DuckDBPyConnection, expression: Node) -> Any:
    """The tree of a SELECT of an expression alone."""
    ((text,),) = connection.execute("SELECT json_serialize_sql('SELECT 1')").fetchall()
    tree = json.loads(text)
    tree["statements"][0]["node"]["select_list"] = [expression]
    return tree


def _bounded(number: int) -> int:
    return max(LEAST, min(MOST, number))
