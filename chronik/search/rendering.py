"""A hit as the JSON that a client gets: `_index`, `_id`, `_source`, and the fields that were asked for.

The process that finds a hit writes it, so the node only puts texts in a row: a value that is a JSON object is the hit's
`_source` by the letter as it was produced, never decoded again. Of any other value the source is `{"value": text}`, of a
record without one `{"value": null}`.

What a record has beside its value is under `fields`, by the names that queries have: `timestamp`, `partition`, `offset`,
`key` where there is one, and `headers.NAME`. Fields that are asked for are there too. As in Elasticsearch each is an array.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec

from chronik.search.dates import format_date, parse_date
from chronik.search.document import Document, Leaf, all_leaves, leaves_at
from chronik.search.fields import Field, resolve
from chronik.search.mapping import Mapping
from chronik.search.match import NO_TIMESTAMP, Scope, text_of
from chronik.search.numbers import Number
from chronik.search.wildcards import compiled, parts

DateFormat = Literal["", "iso", "epoch_millis", "epoch_second"]

MAX_LEAVES = 1000
"""Of one record: those that a pattern of fields is held against, and those that `leaf_kinds` looks at."""

_encoder = msgspec.json.Encoder(decimal_format="number")
_encode = _encoder.encode
_EMPTY = b"{}"


class FieldWish(msgspec.Struct, frozen=True):
    """A field, or a pattern of them, that hits shall show; instants in the format. Empty: as they are in the record."""

    pattern: str
    format: DateFormat = ""


class Shape(msgspec.Struct, frozen=True, tag="shape"):
    """What of a hit is shown. Of the source, only what `includes` names, if any, without what `excludes` names."""

    source: bool = True
    includes: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    fields: tuple[FieldWish, ...] = ()
    sort: bool = False


class LeafKinds(msgspec.Struct, frozen=True, tag="leaves"):
    """In place of a hit, which paths its value has, and what kinds of values they lead to."""


Rendering = Shape | LeafKinds
Renderer = Callable[[Document, Scope, Sequence[object]], bytes]
"""The JSON of a record; the last are the values that it was sorted by."""


def renderer(shape: Rendering, mapping: Mapping) -> Renderer:
    """The function that writes the hits of one topic."""
    if isinstance(shape, LeafKinds):
        return lambda document, scope, sort: _encode(leaf_kinds(document))
    wanted_source = _source_filter(shape) if shape.includes or shape.excludes else None
    wishes = [(_Wish(wish, mapping)) for wish in shape.fields]

    def render(document: Document, scope: Scope, sort: Sequence[object]) -> bytes:
        pieces = [
            b'{"_index":"',
            scope.topic.encode(),
            b'","_id":"%d:%d","_score":null' % (scope.partition, document.offset),
        ]
        if shape.source:
            pieces += (b',"_source":', _source(document, wanted_source))
        pieces += (b',"fields":', _encode(_fields(document, scope, wishes)))
        if shape.sort:
            pieces += (b',"sort":', _encode(sort))
        pieces.append(b"}")
        return b"".join(pieces)

    return render


def place_only(document: Document, scope: Scope) -> bytes:
    """What is left of a hit where all hits together are too large."""
    return b'{"_index":"%s","_id":"%d:%d","_score":null}' % (scope.topic.encode(), scope.partition, document.offset)


def leaf_kinds(document: Document) -> dict[str, str]:
    """The paths in a value, and for each what its values are; `mixed` where it has several kinds."""
    kinds: dict[str, str] = {}
    for path, leaf in all_leaves(document.tree, MAX_LEAVES):
        kind = kind_of(leaf)
        if kinds.setdefault(path, kind) != kind:
            kinds[path] = "mixed"
    return kinds


def kind_of(leaf: Leaf) -> str:
    """Elasticsearch's type for a value: long, double, boolean, date or text."""
    if isinstance(leaf, bool):
        return "boolean"
    if isinstance(leaf, int):
        return "long"
    if isinstance(leaf, str):
        return "date" if "-" in leaf[4:5] and parse_date(leaf) is not None else "text"
    return "double"


# -- the source ----------------------------------------------------------------------------------------------------------


def _source(document: Document, wanted: Callable[[dict[str, object]], object] | None) -> bytes:
    value = document.value
    if value is None:
        tree: dict[str, object] = {"value": None}
    elif is_json_object(document):
        if wanted is None:
            return value
        return _encode(wanted(document.tree))  # type: ignore[arg-type]
    else:
        tree = {"value": text_of(value)}
    return _encode(tree if wanted is None else wanted(tree))


def is_json_object(document: Document) -> bool:
    """Whether the value is JSON and an object."""
    value = document.value
    if not value or value.lstrip(b" \t\r\n")[:1] != b"{":
        return False
    return isinstance(document.tree, dict) and not document.unparsed


def _source_filter(shape: Shape) -> Callable[[dict[str, object]], object]:
    """The function that leaves of a tree what is wanted. A name stands for all within it; `*` for any run of characters."""
    includes = _paths(shape.includes)
    excludes = _paths(shape.excludes)

    def keep(node: object, path: str, included: bool) -> object:
        """The part of a node to keep; `_NOTHING` where it is none."""
        if isinstance(node, dict):
            kept = {}
            for name, child in node.items():
                inner = f"{path}.{name}" if path else name
                if excludes is not None and excludes(inner):
                    continue
                left = keep(child, inner, included or includes is None or includes(inner))
                if left is not _NOTHING:
                    kept[name] = left
            return kept if kept or included or not path else _NOTHING
        if isinstance(node, list):
            left_over = [left for child in node if (left := keep(child, path, included)) is not _NOTHING]
            return left_over if left_over or included else _NOTHING
        return node if included else _NOTHING

    return lambda tree: keep(tree, "", False)


_NOTHING = object()


def _paths(patterns: Iterable[str]) -> Callable[[str], bool] | None:
    """Whether a path fits one of the patterns; None where there are none."""
    tests = [_fitting(pattern.removesuffix(".*")) for pattern in patterns]
    if not tests:
        return None
    return lambda path: any(test(path) for test in tests)


def _fitting(pattern: str) -> Callable[[str], bool]:
    if "*" not in pattern:
        return pattern.__eq__
    fits: re.Pattern[str] = compiled(parts(pattern.replace("\\", "\\\\").replace("?", "\\?")))
    return lambda path: fits.fullmatch(path) is not None


# -- fields --------------------------------------------------------------------------------------------------------------


class _Wish:
    """A wish for fields, in the terms of one mapping."""

    def __init__(self, wish: FieldWish, mapping: Mapping) -> None:
        self.format = wish.format
        self.mapping = mapping
        self.field = None if "*" in wish.pattern else resolve(wish.pattern, mapping)
        self.fits = _fitting(wish.pattern)


def _fields(document: Document, scope: Scope, wishes: Sequence[_Wish]) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    if document.timestamp != NO_TIMESTAMP:
        found["timestamp"] = [format_date(document.timestamp)]
    found["partition"] = [scope.partition]
    found["offset"] = [document.offset]
    if document.key is not None:
        found["key"] = [text_of(document.key)]
    for name, content in document.headers:
        found.setdefault(f"headers.{name}", []).append(None if content is None else text_of(content))
    for wish in wishes:
        if wish.field is not None:
            values = _values(document, scope, wish.field)
            if values:
                found[wish.field.name] = [_formatted(value, wish.format, wish.field) for value in values]
            continue
        names = dict.fromkeys(path for path, _ in all_leaves(document.tree, MAX_LEAVES) if wish.fits(path))
        for name in names:
            if name not in found:
                field = resolve(name, wish.mapping)
                found[name] = [_formatted(leaf, wish.format, field) for leaf in leaves_at(document.tree, name)]
        for name in ("timestamp", "value"):
            if wish.fits(name):
                field = resolve(name, wish.mapping)
                found[name] = [_formatted(value, wish.format, field) for value in _values(document, scope, field)]
    return found


def _values(document: Document, scope: Scope, field: Field) -> Sequence[Leaf]:
    match field.source:
        case "offset":
            return (document.offset,)
        case "partition":
            return (scope.partition,)
        case "topic":
            return (scope.topic,)
        case "timestamp":
            return () if document.timestamp == NO_TIMESTAMP else (document.timestamp,)
        case "value":
            return () if document.value is None else (text_of(document.value),)
        case "key":
            return () if document.key is None else (text_of(document.key),)
        case "headers" | "header":
            every = field.source == "headers"
            return [
                text_of(content)
                for name, content in document.headers
                if content is not None and (every or name == field.path)
            ]
    return leaves_at(document.tree, field.path)


def _formatted(value: Leaf, date_format: DateFormat, field: Field) -> object:
    """The value, in the format if it is an instant and one is wanted."""
    if not date_format:
        return format_date(value) if field.source == "timestamp" and isinstance(value, int) else value
    instant = _instant(value, field)
    if instant is None:
        return value
    if date_format == "iso":
        return format_date(instant)
    return str(instant if date_format == "epoch_millis" else instant // 1000)


def _instant(value: Leaf, field: Field) -> int | None:
    if isinstance(value, str):
        return parse_date(value, field.seconds)
    if isinstance(value, bool):
        return None
    number: Number = value
    if field.kind != "date" or not -(1 << 62) < number < 1 << 62:
        return None
    return int(number * 1000 if field.seconds else number)
