"""Does a record match: what alone decides a hit, in every tier.

`compile_query` makes a function of a query, for one partition, that takes a `Document` and says yes or no. What is cheap is
asked first: what is constant in a partition is gone by then; then offsets and times, the key, words of the raw value, and last
the fields of the value, for which it has to be parsed. Before that, the raw bytes are asked for a text that has to be in them.

What a clause means for which kind of field is in `chronik.search.conditions`, what fields there are in `chronik.search.fields`.
A field with several values fits where one of them does; where a record has no value for it, no clause does but a `Not`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec

from chronik.search import conditions
from chronik.search.analysis import fold
from chronik.search.conditions import Condition
from chronik.search.document import Document, Leaf, exists_at, leaves_at
from chronik.search.fields import Field, resolve
from chronik.search.mapping import NO_MAPPING, Mapping
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
    QueryError,
    Range,
    Regexp,
    Term,
    Wildcard,
)
from chronik.search.ranges import of_range

Matcher = Callable[[Document], bool]

NO_TIMESTAMP = -1


class Scope(msgspec.Struct, frozen=True):
    """Where and when is searched: `now_ms` is what `now` means in dates."""

    topic: str
    partition: int
    now_ms: int
    mapping: Mapping = NO_MAPPING


class Part(NamedTuple):
    """A compiled query, and what it costs, in terms on the raw value."""

    fits: Matcher
    cost: float


def _always(_: Document) -> bool:
    return True


def _never(_: Document) -> bool:
    return False


ALWAYS, NEVER = Part(_always, 0.0), Part(_never, 0.0)


def compile_query(query: Query, scope: Scope) -> Matcher:
    """The function that says which records match. Raises QueryError where the query does not fit the fields."""
    return _part(query, scope).fits


def check_query(query: Query, scope: Scope) -> None:
    """Raises QueryError where the query does not fit the fields: for a 4xx before any worker is asked."""
    _part(query, scope)


def _part(query: Query, scope: Scope) -> Part:
    match query:
        case All():
            return ALWAYS
        case Nothing():
            return NEVER
        case And():
            return _all([_part(clause, scope) for clause in query.clauses])
        case Or():
            return _some([_part(clause, scope) for clause in query.clauses], query.minimum)
        case Not():
            return _not(_part(query.clause, scope))
        case Boost():
            return _part(query.clause, scope)
        case Ids():
            return _ids(query, scope)
        case Exists():
            return _exists(resolve(query.field, scope.mapping))
        case _:
            field = resolve(query.field, scope.mapping)
            return _on_field(field, condition_of(query, field, scope.now_ms), scope)


def condition_of(query: Term | AnyTerm | Wildcard | Regexp | Range, field: Field, now_ms: int) -> Condition:
    """What the clause asks of each value of the field. Raises QueryError."""
    match query:
        case Term():
            return conditions.of_term(query, field, now_ms)
        case AnyTerm():
            return conditions.of_any_term(query, field, now_ms)
        case Wildcard():
            return conditions.of_wildcard(query, field)
        case Regexp():
            return conditions.of_regexp(query, field)
        case Range():
            return of_range(query, field, now_ms)


# Compounds


def _all(parts: list[Part]) -> Part:
    if NEVER in parts:
        return NEVER
    parts = sorted((part for part in parts if part is not ALWAYS), key=lambda part: part.cost)
    if len(parts) <= 1:
        return parts[0] if parts else ALWAYS
    cost = sum(part.cost for part in parts)
    if len(parts) == 2:
        first, second = parts[0].fits, parts[1].fits
        return Part(lambda document: first(document) and second(document), cost)
    tests = [part.fits for part in parts]

    def fits(document: Document) -> bool:
        return all(test(document) for test in tests)

    return Part(fits, cost)


def _some(parts: list[Part], minimum: int) -> Part:
    sure = sum(part is ALWAYS for part in parts)
    minimum -= sure
    if minimum <= 0:
        return ALWAYS
    parts = sorted((part for part in parts if part is not ALWAYS and part is not NEVER), key=lambda part: part.cost)
    if minimum > len(parts):
        return NEVER
    if minimum == len(parts):
        return _all(parts)
    cost = sum(part.cost for part in parts)
    tests = [part.fits for part in parts]
    if minimum == 1:

        def one(document: Document) -> bool:
            return any(test(document) for test in tests)

        return Part(one, cost)

    def several(document: Document) -> bool:
        missing = minimum
        for left, test in zip(range(len(tests), 0, -1), tests, strict=True):
            if left < missing:
                return False
            if test(document):
                missing -= 1
                if not missing:
                    return True
        return False

    return Part(several, cost)


def _not(part: Part) -> Part:
    if part is ALWAYS or part is NEVER:
        return NEVER if part is ALWAYS else ALWAYS
    test = part.fits
    return Part(lambda document: not test(document), part.cost)


# Leaves


def _ids(query: Ids, scope: Scope) -> Part:
    offsets = frozenset(offset for partition, offset in query.ids if partition == scope.partition)
    return Part(lambda document: document.offset in offsets, 0.1) if offsets else NEVER


def _exists(field: Field) -> Part:
    path = field.path
    match field.source:
        case "offset" | "partition" | "topic":
            return ALWAYS
        case "timestamp":
            return Part(lambda document: document.timestamp != NO_TIMESTAMP, 0.1)
        case "value":
            return Part(lambda document: document.value is not None, 0.1)
        case "key":
            return Part(lambda document: document.key is not None, 0.1)
        case "headers":
            return Part(lambda document: any(value is not None for _, value in document.headers), 0.5)
        case "header":
            return Part(lambda document: any(n == path and value is not None for n, value in document.headers), 0.5)
    needle = _longest_name(path)

    def fits(document: Document) -> bool:
        if document.value is None or not _may_have(needle, document.folded):
            return False
        return exists_at(document.tree, path)

    return Part(fits, 8.0)


def _on_field(field: Field, condition: Condition, scope: Scope) -> Part:
    in_text, in_number, path = condition.in_text, condition.in_number, field.path
    match field.source:
        case "topic":
            return ALWAYS if in_text(scope.topic) else NEVER
        case "partition":
            return ALWAYS if in_number(scope.partition) else NEVER
        case "offset":
            return Part(lambda document: in_number(document.offset), 0.2)
        case "timestamp":
            return Part(lambda document: document.timestamp != NO_TIMESTAMP and in_number(document.timestamp), 0.2)
        case "value":
            return Part(_on_value(condition), condition.cost)
        case "key":
            return Part(
                lambda document: document.key is not None and in_text(text_of(document.key)), 0.5 * condition.cost
            )
        case "headers" | "header":
            every = field.source == "headers"

            def in_headers(document: Document) -> bool:
                return any(
                    value is not None and (every or name == path) and in_text(text_of(value))
                    for name, value in document.headers
                )

            return Part(in_headers, condition.cost)
    return Part(_on_path(path, condition), 8.0 + condition.cost)


def text_of(raw: bytes) -> str:
    """Raw bytes as text: what is not UTF-8 becomes U+FFFD."""
    return raw.decode("utf-8", "replace")


def _on_value(condition: Condition) -> Matcher:
    in_folded, in_bytes, in_text = condition.in_folded, condition.in_bytes, condition.in_text
    if in_folded is not None:
        return lambda document: document.value is not None and in_folded(document.folded)
    if in_bytes is not None:
        return lambda document: document.value is not None and in_bytes(document.value)
    return lambda document: document.value is not None and in_text(text_of(document.value))


def _on_path(path: str, condition: Condition) -> Matcher:
    in_text, in_number, in_boolean = condition.in_text, condition.in_number, condition.in_boolean
    needle = condition.needle or _longest_name(path)
    leaves_of = _leaves_of(path)

    def fits(document: Document) -> bool:
        if document.value is None or not _may_have(needle, document.folded):
            return False
        for leaf in leaves_of(document.tree):
            kind = type(leaf)
            if kind is str:
                if in_text(leaf):  # type: ignore[arg-type]
                    return True
            elif kind is bool:
                if in_boolean(leaf):  # type: ignore[arg-type]
                    return True
            elif in_number(leaf):  # type: ignore[arg-type]
                return True
        return False

    return fits


def _leaves_of(path: str) -> Callable[[object], Sequence[Leaf]]:
    """`leaves_at`, with a shorter way for the commonest shapes."""
    outer, _, inner = path.partition(".")
    if "." in inner:
        return lambda tree: leaves_at(tree, path)

    def leaves(tree: object) -> Sequence[Leaf]:
        if type(tree) is not dict:
            return leaves_at(tree, path)
        node = tree.get(path)
        if inner:
            holder = tree.get(outer)
            if node is None and type(holder) is dict:
                node = holder.get(inner)
            elif holder is not None:
                return leaves_at(tree, path)
        if node is None:
            return ()
        if type(node) in _LEAVES:
            return (node,)
        return leaves_at(tree, path)

    return leaves


_LEAVES = frozenset({str, int, bool, Decimal})


def _longest_name(path: str) -> bytes:
    return max(fold(path).split("."), key=len).encode()


def _may_have(needle: bytes, folded: bytes) -> bool:
    """Whether a text can be in a value: it is in its bytes, or some character is escaped."""
    return needle in folded or b"\\" in folded


__all__ = ["Matcher", "QueryError", "Scope", "check_query", "compile_query", "condition_of", "text_of"]
