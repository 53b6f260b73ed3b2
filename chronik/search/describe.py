"""A query written as a query string, in one canonical form: `parse(describe(query)) == query` for every query that the
constructors of `chronik.search.query` make.

Operators are always written out, so it means the same under either default operator.
"""

from __future__ import annotations

import re

from chronik.search.query import (
    All,
    And,
    AnyTerm,
    Boost,
    Exists,
    Ids,
    Not,
    Nothing,
    Or,
    Query,
    Range,
    Regexp,
    Term,
    Wildcard,
)

_PLAIN = re.compile(r"[^\W_][\w.-]*", re.ASCII)
_WORDS_OF_THE_LANGUAGE = frozenset({"AND", "OR", "NOT", "TO", "IN"})
_NOT_IN_A_NAME = re.compile(r"[^\w.@-]|^-")
_NOT_IN_A_PATTERN = re.compile(r"""[\s+\-!():^\[\]"{}~/&|<>=]""")


def describe(query: Query) -> str:
    """The query as a string that both people and the parser read."""
    text = _written(query)
    return text[1:-1] if _is_group(query) and not _has_tail(query) else text


def _written(query: Query) -> str:
    match query:
        case All():
            return "*"
        case Nothing():
            return "(NOT *)"
        case Term():
            return f"{name(query.field)}:{_term(query)}"
        case AnyTerm():
            return f"{name(query.field)}:IN [{' '.join(map(quoted, query.texts))}]"
        case Wildcard():
            return f"{name(query.field)}:{_NOT_IN_A_PATTERN.sub(_escaped, query.pattern)}"
        case Regexp():
            return f"{name(query.field)}:/{_slashes_escaped(query.pattern)}/"
        case Range():
            return f"{name(query.field)}:{_range(query)}"
        case Exists():
            return f"{name(query.field)}:*"
        case Ids():
            return f"_id:IN [{' '.join(f'{partition}:{offset}' for partition, offset in query.ids)}]"
        case And():
            return f"({' AND '.join(map(_written, query.clauses))})"
        case Or():
            tail = "" if query.minimum == 1 else f"~{query.minimum}"
            return f"({' OR '.join(map(_written, query.clauses))}){tail}"
        case Not():
            return f"(NOT {_written(query.clause)})"
        case Boost():
            return f"({_written(query.clause)})^{query.factor!r}"


def _is_group(query: Query) -> bool:
    return isinstance(query, Nothing | And | Or | Not)


def _has_tail(query: Query) -> bool:
    return isinstance(query, Or) and query.minimum != 1


def name(field: str) -> str:
    """A field's name, with backslashes before what would end it."""
    return _NOT_IN_A_NAME.sub(_escaped, field)


def quoted(text: str) -> str:
    """A text in quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _escaped(match: re.Match[str]) -> str:
    return f"\\{match.group()}"


def _term(query: Term) -> str:
    tail = ("*" if query.prefix else "") + (f"~{query.slop}" if query.slop else "")
    if tail or query.text in _WORDS_OF_THE_LANGUAGE or not _PLAIN.fullmatch(query.text):
        return quoted(query.text) + tail
    return query.text


def _range(query: Range) -> str:
    lower = "*" if query.lower is None else quoted(query.lower)
    upper = "*" if query.upper is None else quoted(query.upper)
    return f"{'[' if query.include_lower else '{'}{lower} TO {upper}{']' if query.include_upper else '}'}"


def _slashes_escaped(pattern: str) -> str:
    """The pattern with a backslash before each slash that has none."""
    out: list[str] = []
    escaped = False
    for char in pattern:
        if char == "/" and not escaped:
            out.append("\\")
        escaped = char == "\\" and not escaped
        out.append(char)
    return "".join(out)
