"""Which columns a topic has: those of every record, those of fields that are declared, and those that a sample of values shows.

A field is a member at the top of JSON objects. Its type is what all values of the sample have in common:

    whole numbers of at most 18 digits BIGINT, with others DOUBLE; true and false BOOLEAN; texts, and scalars of several
    kinds, VARCHAR; objects STRUCT, arrays of one kind LIST; whatever else, and what is always null, JSON, which is the text.

What a value of another type becomes is said by `Column.kinds`: it is NULL, and counted. A VARCHAR takes every scalar, a JSON
all.

Names of columns know no upper and lower case. Where two fields differ by it only, or one is called as a column of every
record is, the later one has a number behind its name.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import msgspec

from chronik.analytics.syntax import META
from chronik.native.values import LONGEST_NAME, Kind

MAX_COLUMNS = 500
MAX_MEMBERS = 50
"""Of an object that is a STRUCT; one with more names has names that are data, and is JSON."""
MAX_DEPTH = 4

META_TYPES = {
    "_partition": "INTEGER",
    "_offset": "BIGINT",
    "_timestamp": "TIMESTAMP",
    "_key": "VARCHAR",
    "_headers": "STRUCT(key VARCHAR, value VARCHAR)[]",
    "_value": "VARCHAR",
}
SECONDS = "TIMESTAMP_S"
"""A declared date whose bare numbers are seconds. The column is a TIMESTAMP as other dates are."""

Source = Literal["record", "declared", "inferred"]
Tree = str | dict[str, "Tree"] | list["Tree"]
"""A type: a scalar's by its name, an object's members, or the one of an array's elements."""

_SCALARS = frozenset({Kind.BOOLEAN, Kind.INTEGER, Kind.NUMBER, Kind.STRING, Kind.ESCAPED})
_KINDS = {
    "BIGINT": frozenset({Kind.INTEGER}),
    "DOUBLE": frozenset({Kind.INTEGER, Kind.NUMBER}),
    "BOOLEAN": frozenset({Kind.BOOLEAN}),
    "VARCHAR": _SCALARS,
    "TIMESTAMP": _SCALARS - {Kind.BOOLEAN},
    SECONDS: _SCALARS - {Kind.BOOLEAN},
    "JSON": _SCALARS | {Kind.OBJECT, Kind.ARRAY},
}


class Column(NamedTuple):
    """A column. `member` is its name in JSON, None for those of every record; `seen`, how often the sample has it."""

    name: str
    tree: Tree
    source: Source
    member: bytes | None = None
    seen: int = 0

    @property
    def type(self) -> str:
        """As DuckDB names it."""
        return type_text(self.tree)

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of values that it holds."""
        if isinstance(self.tree, str):
            return _KINDS[self.tree]
        return frozenset({Kind.OBJECT if isinstance(self.tree, dict) else Kind.ARRAY})


class Schema(NamedTuple):
    """The columns, of `sampled` values that were JSON objects; `left_out` fields have none."""

    columns: tuple[Column, ...]
    sampled: int
    left_out: int


def infer(values: Iterable[bytes | None], declared: Mapping[str, str]) -> Schema:
    """The columns of a topic with these values, and these types of fields by their dotted paths."""
    trees: dict[str, Tree | None] = {}
    seen: dict[str, int] = {}
    sampled = 0
    for value in values:
        try:
            found = msgspec.json.decode(value) if value else None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        if not isinstance(found, dict):
            continue
        sampled += 1
        for name, inner in found.items():
            seen[name] = seen.get(name, 0) + 1
            trees[name] = _merged(trees.get(name), _tree(inner, 0))
    for path, type_name in declared.items():
        _declare(trees, path, type_name)
    tops = {path.split(".", 1)[0] for path in declared}
    columns = [Column(name, META_TYPES[name], "record") for name in META]
    taken = {name.lower() for name in META}
    left_out = 0
    for name in [*(name for name in trees if name in tops), *(name for name in trees if name not in tops)]:
        member = name.encode("utf-8", "replace")
        if len(columns) == MAX_COLUMNS or not name.isprintable() or not name or len(member) > LONGEST_NAME:
            left_out += 1
            continue
        shown, number = name, 1
        while shown.lower() in taken:
            shown, number = f"{name}_{number}", number + 1
        taken.add(shown.lower())
        tree = trees[name]
        columns.append(
            Column(
                shown,
                "JSON" if tree is None else tree,
                "declared" if name in tops else "inferred",
                member,
                seen.get(name, 0),
            )
        )
    return Schema(tuple(columns), sampled, left_out)


def type_text(tree: Tree) -> str:
    """The type as DuckDB names it."""
    if isinstance(tree, str):
        return "TIMESTAMP" if tree == SECONDS else tree
    if isinstance(tree, list):
        return f"{type_text(tree[0])}[]"
    return f"STRUCT({', '.join(f'{quoted(name)} {type_text(inner)}' for name, inner in tree.items())})"


def structure(tree: Tree) -> object:
    """The type as `from_json` takes it."""
    if isinstance(tree, str):
        return "TIMESTAMP" if tree == SECONDS else tree
    if isinstance(tree, list):
        return [structure(tree[0])]
    return {name: structure(inner) for name, inner in tree.items()}


def quoted(name: str) -> str:
    """A name as SQL has it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def _tree(value: object, depth: int) -> Tree | None:
    """The type of one value; None for null, which says nothing."""
    match value:
        case None:
            return None
        case bool():
            return "BOOLEAN"
        case int():
            return "BIGINT" if abs(value) < 10**18 else "DOUBLE"
        case float():
            return "DOUBLE"
        case str():
            return "VARCHAR"
        case dict():
            if depth == MAX_DEPTH:
                return "JSON"
            return _object({name: _tree(inner, depth + 1) for name, inner in value.items()})
        case list():
            element: Tree | None = None
            for inner in value:
                element = _merged(element, _tree(inner, depth + 1))
            return "JSON" if element is None or depth == MAX_DEPTH else [element]
        case _:
            return "JSON"


def _object(members: Mapping[str, Tree | None]) -> Tree:
    """A STRUCT of these members, where they can be one."""
    names = {name.lower() for name in members}
    if not members or len(members) > MAX_MEMBERS or len(names) != len(members) or not all(map(_is_name, members)):
        return "JSON"
    return {name: "JSON" if tree is None else tree for name, tree in members.items()}


def _is_name(name: str) -> bool:
    return bool(name) and name.isprintable() and len(name) <= LONGEST_NAME


def _merged(one: Tree | None, other: Tree | None) -> Tree | None:
    """The type that holds values of both."""
    if one is None or other is None or one == other:
        return other if one is None else one
    if isinstance(one, dict) and isinstance(other, dict):
        return _object({name: _merged(one.get(name), other.get(name)) for name in {**one, **other}})
    if isinstance(one, list) and isinstance(other, list):
        element = _merged(one[0], other[0])
        assert element is not None
        return [element]
    if isinstance(one, str) and isinstance(other, str) and "JSON" not in (one, other):
        return "DOUBLE" if {one, other} == {"BIGINT", "DOUBLE"} else "VARCHAR"
    return "JSON"


def _declare(trees: dict[str, Tree | None], path: str, type_name: str) -> None:
    """Put a declared type at a dotted path, in place of what the sample shows there."""
    *outer, last = path.split(".")
    here: dict[str, Tree | None] = trees
    for name in outer:
        inner = here.get(name)
        fresh: dict[str, Tree | None] = dict(inner) if isinstance(inner, dict) else {}
        here[name] = fresh  # type: ignore[assignment]
        here = fresh
    here[last] = type_name
