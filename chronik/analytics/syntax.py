"""What a parsed statement says: is it one harmless SELECT, which tables does it name, and which of their records can it need.

It reads the syntax tree that DuckDB's own parser makes (`json_serialize_sql`), so there is no second parser that could
understand a statement otherwise. What isn't known here is refused: kinds of nodes, table functions, functions that tell of
the process rather than of the data. That is a second wall; the first is how the connection is locked
(`chronik.analytics.connection`).

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from chronik.analytics.messages import SqlFault

Node = Mapping[str, Any]

META = ("_partition", "_offset", "_timestamp", "_key", "_headers", "_value")
"""The columns of every topic. Those of the first three prune."""
PRUNING = frozenset(META[:3])

_NODES = frozenset(
    {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION",
     "EMPTY", "EXPRESSION_LIST", "PIVOT", "ORDER_MODIFIER", "LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER",
     "DISTINCT_MODIFIER", "ORDER_DEFAULT", "ASCENDING", "DESCENDING", "ORDER_ASCENDING", "ORDER_DESCENDING"}
)  # fmt: skip
_EXPRESSIONS = frozenset(
    {"COLUMN_REF", "CONSTANT", "FUNCTION", "COMPARISON", "CONJUNCTION", "OPERATOR", "CAST", "CASE", "BETWEEN",
     "SUBQUERY", "STAR", "WINDOW", "LAMBDA", "LAMBDA_REF", "COLLATE", "POSITIONAL_REFERENCE", "TYPE"}
)  # fmt: skip
_TABLE_FUNCTIONS = frozenset({"unnest", "range", "generate_series", "json_each", "json_tree"})
_PREFIXES = (
    "pg_",
    "inet_",
    "has_",
    "duckdb_",
    "pragma_",
    "__",
    "json_serialize_",
    "json_deserialize_",
    "json_execute_",
)
_FUNCTIONS = frozenset(
    {"current_setting", "current_connection_id", "current_query_id", "current_transaction_id", "current_query",
     "current_user", "current_role", "session_user", "user", "getvariable", "getenv", "get_block_size", "nextval",
     "currval", "setval", "setseed", "sleep_ms", "write_log", "parse_duckdb_log_message", "txid_current",
     "index_key", "query", "query_table", "col_description", "obj_description", "shobj_description",
     "current_schemas"}
)  # fmt: skip
_NAMES = {
    "SHOW_REF": "DESCRIBE, SHOW and SUMMARIZE inside of a statement; DESCRIBE topic and SHOW TOPICS stand alone",
    "INSERT_QUERY_NODE": "INSERT",
    "PARAMETER": "a parameter",
}
_FIXED_FUNCTIONS = frozenset(
    {"now", "current_timestamp", "get_current_timestamp", "transaction_timestamp", "today", "current_date",
     "get_current_date", "trunc", "+", "-", "*", "date_trunc", "datetrunc", "make_timestamp", "make_timestamp_ms",
     "make_date", "epoch_ms", "to_timestamp", "to_years", "to_months", "to_weeks", "to_days", "to_hours",
     "to_minutes", "to_seconds", "to_milliseconds", "to_microseconds", "ago"}
)  # fmt: skip
"""Functions that give the same for a whole statement. Of others, a bound could not be told before it runs."""
_FLIPPED = {
    "COMPARE_EQUAL": "COMPARE_EQUAL",
    "COMPARE_GREATERTHAN": "COMPARE_LESSTHAN",
    "COMPARE_GREATERTHANOREQUALTO": "COMPARE_LESSTHANOREQUALTO",
    "COMPARE_LESSTHAN": "COMPARE_GREATERTHAN",
    "COMPARE_LESSTHANOREQUALTO": "COMPARE_GREATERTHANOREQUALTO",
}


class Condition(NamedTuple):
    """What a record must fulfil to count: its column, compared with what an expression comes to that reads no column."""

    column: str
    comparison: str
    expression: Node


class Occurrence(NamedTuple):
    """One place where a table is named, and what is certain of its records that count there."""

    table: str
    conditions: tuple[Condition, ...]


class Statement(NamedTuple):
    """A statement that may run. `words` are all texts in it, in lower case: names of columns are among them."""

    topics: frozenset[str]
    perhaps: frozenset[str]
    words: frozenset[str]
    every_column: bool
    occurrences: tuple[Occurrence, ...]


def read_statement(document: Node) -> Statement:
    """What the tree of `json_serialize_sql` says. Raises SqlFault."""
    if document.get("error"):
        reason = str(document.get("error_message", ""))
        if document.get("error_type") == "not implemented":
            raise SqlFault("unsupported_statement", "one SELECT is served, besides DESCRIBE topic and SHOW TOPICS")
        raise SqlFault("parsing_exception", reason)
    statements = document["statements"]
    if len(statements) != 1:
        raise SqlFault("unsupported_statement", f"one statement at a time; these are {len(statements)}")
    nodes = list(_nodes(statements[0]))
    for node in nodes:
        _check(node)
    shared = {str(entry["key"]) for node in nodes for entry in node.get("cte_map", {}).get("map", ())}
    shared |= {str(node["cte_name"]) for node in nodes if "cte_name" in node}
    folded = {name.lower() for name in shared}
    named = {str(node["table_name"]) for node in nodes if node.get("type") == "BASE_TABLE"}
    aliases = {str(node.get("alias") or node.get("table_name", "")).lower() for node in nodes if "class" not in node}
    return Statement(
        topics=frozenset(name for name in named if name.lower() not in folded),
        perhaps=frozenset(name for name in named if name.lower() in folded),
        words=frozenset(_words(statements[0])),
        every_column=any(_takes_all(node, aliases) for node in nodes),
        occurrences=tuple(_occurrences(nodes, folded)),
    )


def _nodes(root: Any) -> Iterator[Node]:
    """All objects in a tree. Not recursive: a statement may be nested deeply."""
    pending = [root]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            yield node
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)


def _words(root: Any) -> Iterator[str]:
    for node in _nodes(root):
        for value in node.values():
            if isinstance(value, str):
                yield value.lower()
            elif isinstance(value, list):
                yield from (each.lower() for each in value if isinstance(each, str))


def _check(node: Node) -> None:
    """Raise SqlFault for what isn't known to be harmless."""
    kind, group = node.get("type"), node.get("class")
    if isinstance(kind, str):
        known = group in _EXPRESSIONS if isinstance(group, str) else kind in _NODES
        if not known:
            what = _NAMES.get(str(group), _NAMES.get(kind, f"{kind} (of DuckDB's syntax)"))
            raise SqlFault("unsupported_statement", f"not served: {what}")
    if kind == "BASE_TABLE":
        if node.get("schema_name") or node.get("catalog_name"):
            path = ".".join(str(node[part]) for part in ("catalog_name", "schema_name", "table_name") if node.get(part))
            raise SqlFault(
                "unknown_topic", f'no topic {path[:249]}; a name with dots is quoted: "{path[:249]}"', status=404
            )
        if node.get("at_clause"):
            raise SqlFault("unsupported_statement", "not served: AT")
    if kind == "TABLE_FUNCTION":
        name = str(node["function"].get("function_name", "")).lower()
        if name not in _TABLE_FUNCTIONS:
            allowed = ", ".join(sorted(_TABLE_FUNCTIONS))
            raise SqlFault("unsupported_statement", f"no table function {name[:80]} is served; {allowed} are")
    if "function_name" in node:
        name = str(node["function_name"]).lower()
        if name in _FUNCTIONS or name.startswith(_PREFIXES) or node.get("schema") or node.get("catalog"):
            raise SqlFault("unsupported_statement", f"the function {name[:80]} is not served")


def _takes_all(node: Node, aliases: set[str]) -> bool:
    """Whether columns may be read here that are not named."""
    kind = node.get("type")
    if kind in ("STAR", "PIVOT", "POSITIONAL_REFERENCE"):
        return True
    if kind == "JOIN":
        return bool(node.get("ref_type") != "REGULAR" and node.get("ref_type") != "CROSS")
    if kind == "COLUMN_REF":
        return str(node["column_names"][0]).lower() in aliases and len(node["column_names"]) == 1
    return kind == "BASE_TABLE" and bool(node.get("column_name_alias"))


# -- conditions ----------------------------------------------------------------------------------------------------------


def _occurrences(nodes: list[Node], shared: set[str]) -> Iterator[Occurrence]:
    """Every place of a table, with its conditions where its SELECT has some that hold for it."""
    placed: dict[int, tuple[Condition, ...]] = {}
    for node in nodes:
        if node.get("type") == "SELECT_NODE":
            for table, conditions in _of_select(node):
                placed[id(table)] = conditions
    for node in nodes:
        if node.get("type") == "BASE_TABLE":
            name = str(node["table_name"])
            yield Occurrence(name, () if name.lower() in shared else placed.get(id(node), ()))


def _of_select(select: Node) -> Iterator[tuple[Node, tuple[Condition, ...]]]:
    """The tables of a SELECT of which its WHERE says something, whatever else it does."""
    where, source = select.get("where_clause"), select.get("from_table")
    if where is None or source is None or select.get("sample"):
        return
    tables = _joined(source)
    if not tables:
        return
    conditions = list(_conditions(where))
    alone = len(tables) == 1 and tables[0].get("type") == "BASE_TABLE"
    names = [str(table.get("alias") or table.get("table_name", "")).lower() for table in tables]
    for table, name in zip(tables, names, strict=True):
        if table.get("type") != "BASE_TABLE" or table.get("sample") or table.get("column_name_alias"):
            continue
        mine = [
            Condition(path[-1], comparison, expression)
            for path, comparison, expression in conditions
            if path[:-1] == (name,) or (alone and len(path) == 1)
        ]
        if mine and names.count(name) == 1:
            yield table, tuple(mine)


def _joined(source: Node) -> list[Node]:
    """What is joined here, plainly; nothing where a join picks records by their order."""
    found: list[Node] = []
    pending = [source]
    while pending:
        node = pending.pop()
        if node.get("type") == "JOIN":
            if node.get("ref_type") not in ("REGULAR", "CROSS", "NATURAL"):
                return []
            pending += [node["left"], node["right"]]
        else:
            found.append(node)
    return found


def _conditions(where: Node) -> Iterator[tuple[tuple[str, ...], str, Node]]:
    """The comparisons of pruning columns, all of which must hold: (path of the column, comparison, expression)."""
    pending = [where]
    while pending:
        node = pending.pop()
        kind = str(node.get("type"))
        if kind == "CONJUNCTION_AND":
            pending += node["children"]
        elif kind == "COMPARE_BETWEEN":
            path = _path(node["input"])
            if path is not None:
                for side, comparison in (
                    ("lower", "COMPARE_GREATERTHANOREQUALTO"),
                    ("upper", "COMPARE_LESSTHANOREQUALTO"),
                ):
                    if _is_fixed(node[side]):
                        yield path, comparison, node[side]
        elif kind in _FLIPPED:
            left, right = _path(node["left"]), _path(node["right"])
            if left is not None and _is_fixed(node["right"]):
                yield left, kind, node["right"]
            elif right is not None and _is_fixed(node["left"]):
                yield right, _FLIPPED[kind], node["left"]


def _path(node: Node) -> tuple[str, ...] | None:
    """The names of a reference to a column that prunes."""
    if node.get("type") != "COLUMN_REF":
        return None
    path = tuple(str(name).lower() for name in node["column_names"])
    return path if path[-1] in PRUNING and len(path) <= 2 else None


def _is_fixed(expression: Node) -> bool:
    """Whether it reads no column, and comes to the same wherever it stands in the statement."""
    for node in _nodes(expression):
        group = node.get("class")
        if group is not None and group not in ("CONSTANT", "CAST", "FUNCTION", "TYPE"):
            return False
        if "function_name" in node and str(node["function_name"]).lower() not in _FIXED_FUNCTIONS:
            return False
    return True
