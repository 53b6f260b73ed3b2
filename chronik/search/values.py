"""The values that a record has in a field, for sorting and aggregations: as keys, as numbers, as instants.

They are read as queries read them, by the kind of the field (`chronik.search.conditions`): of a dynamic field a text, a number
and a boolean are what they are; texts count whole. A number that is no integer is a double here, and one beyond all doubles the
largest of them: results are JSON.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from decimal import Decimal

from chronik.search.dates import instant_of_number, parse_date
from chronik.search.document import Document, Leaf, leaves_at
from chronik.search.fields import Field
from chronik.search.match import NO_TIMESTAMP, Scope, text_of
from chronik.search.numbers import number_in_text, text_of_number

Key = str | int | float | bool
Leaves = Callable[[Document, Scope], Sequence[Leaf]]

_LARGEST = sys.float_info.max
_NOTHING: tuple[Leaf, ...] = ()


def leaves_of(field: Field) -> Leaves:
    """The function that gives a record's raw values."""
    path = field.path
    match field.source:
        case "offset":
            return lambda document, scope: (document.offset,)
        case "partition":
            return lambda document, scope: (scope.partition,)
        case "topic":
            return lambda document, scope: (scope.topic,)
        case "timestamp":
            return lambda document, scope: _NOTHING if document.timestamp == NO_TIMESTAMP else (document.timestamp,)
        case "value":
            return lambda document, scope: _NOTHING if document.value is None else (text_of(document.value),)
        case "key":
            return lambda document, scope: _NOTHING if document.key is None else (text_of(document.key),)
        case "headers" | "header":
            every = field.source == "headers"
            return lambda document, scope: [
                text_of(value) for name, value in document.headers if value is not None and (every or name == path)
            ]
    return lambda document, scope: leaves_at(document.tree, path)


def keys_of(field: Field) -> Callable[[Document, Scope], list[Key]]:
    """The function that gives a record's values as keys, to group or to sort by."""
    leaves = leaves_of(field)
    as_key = _AS_KEYS[field.kind]
    if field.kind == "date":
        return lambda document, scope: [
            instant for leaf in leaves(document, scope) if (instant := instant_of(leaf, field.seconds)) is not None
        ]
    return lambda document, scope: [key for leaf in leaves(document, scope) if (key := as_key(leaf)) is not None]


def numbers_of(field: Field) -> Callable[[Document, Scope], list[int | float]]:
    """The function that gives a record's numbers: those it has, texts that are one, and the milliseconds of dates."""
    if field.kind == "date":
        return instants_of(field)  # type: ignore[return-value]
    leaves = leaves_of(field)
    return lambda document, scope: [number for leaf in leaves(document, scope) if (number := _number(leaf)) is not None]


def instants_of(field: Field) -> Callable[[Document, Scope], list[int]]:
    """The function that gives a record's instants, in ms: ISO texts, and numbers."""
    leaves = leaves_of(field)
    return lambda document, scope: [
        instant for leaf in leaves(document, scope) if (instant := instant_of(leaf, field.seconds)) is not None
    ]


def instant_of(leaf: Leaf, seconds: bool) -> int | None:
    """The instant that a value is, if it is one."""
    if isinstance(leaf, str):
        return parse_date(leaf, seconds)
    return None if isinstance(leaf, bool) else instant_of_number(leaf, seconds)


def as_double(number: int | float | Decimal) -> float:
    """The nearest double, finite."""
    try:
        return max(-_LARGEST, min(_LARGEST, float(number)))
    except OverflowError:
        return -_LARGEST if number < 0 else _LARGEST


def simplified(number: int | Decimal) -> int | float:
    """An int of 64 bits; also for 250.0, if it is one that a double tells from its neighbours; else a double."""
    if isinstance(number, int):
        return number if -(1 << 63) <= number < 1 << 63 else as_double(number)
    double = as_double(number)
    return int(double) if double.is_integer() and -(2**53) <= double <= 2**53 else double


def _number(leaf: Leaf) -> int | float | None:
    if isinstance(leaf, str):
        number = number_in_text(leaf)
        return None if number is None else simplified(number)
    return None if isinstance(leaf, bool) else simplified(leaf)


def _as_is(leaf: Leaf) -> Key:
    return leaf if isinstance(leaf, str | bool) else simplified(leaf)


def _as_text(leaf: Leaf) -> Key:
    if isinstance(leaf, bool):
        return "true" if leaf else "false"
    return leaf if isinstance(leaf, str) else text_of_number(leaf)


def _as_boolean(leaf: Leaf) -> Key | None:
    if isinstance(leaf, bool):
        return leaf
    return {"true": True, "false": False}.get(leaf) if isinstance(leaf, str) else None


_AS_KEYS: dict[str, Callable[[Leaf], Key | None]] = {
    "dynamic": _as_is,
    "text": _as_text,
    "keyword": _as_text,
    "number": _number,
    "date": _as_is,
    "boolean": _as_boolean,
}
