"""A hit as the JSON that a client gets: `_index`, `_id`, `_source`, and the fields that were asked for.

The process that finds a hit writes it, so the node only puts texts in a row.

What a record has beside its value is under `fields`, by the names that queries have: `timestamp`, `partition`, `offset`,
`key` where there is one, and `headers.NAME`. Fields that are asked for are there too. As in Elasticsearch each is an array.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from chronik.search.dates import format_date, parse_date
from chronik.search.document import Document, Leaf, all_leaves, leaves_at
from chronik.search.fields import Field, resolve
from chronik.search.highlight import Highlight, Highlighter
from chronik.search.mapping import Mapping
from chronik.search.match import NO_TIMESTAMP, Scope, text_of
from chronik.search.numbers import Number
from chronik.search.query import Query
from chronik.search.sorting import written_place
from chronik.search.sources import fitting, source_filter, source_of
from chronik.search.values import leaves_of

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
    """What of a hit is shown. Of the source, only what `includes` names, if any, without what `excludes` names.

    `sort`: the values that it was sorted by, and its place.
    """

    source: bool = True
    includes: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    fields: tuple[FieldWish, ...] = ()
    highlight: Highlight | None = None
    sort: bool = False


class LeafKinds(msgspec.Struct, frozen=True, tag="leaves"):
    """In place of a hit, which paths its value has, and what kinds of values they lead to."""


Rendering = Shape | LeafKinds
Renderer = Callable[[Document, Scope, Sequence[object]], bytes]
"""The JSON of a record; the last are the values that it was sorted by."""


def renderer(shape: Rendering, query: Query, scope: Scope) -> Renderer:
    """The function that writes the hits of one topic, by its mapping in `scope`, that the query has found."""
    if isinstance(shape, LeafKinds):
        return lambda document, scope, sort: _encode(leaf_kinds(document))
    wanted_source = source_filter(shape.includes, shape.excludes)
    wishes = [_Wish(wish, scope.mapping) for wish in shape.fields]
    highlighter = None
    if shape.highlight is not None:
        highlighter = Highlighter(shape.highlight, query, scope.mapping, scope.now_ms)

    def render(document: Document, scope: Scope, sort: Sequence[object]) -> bytes:
        pieces = [
            b'{"_index":"',
            scope.topic.encode(),
            b'","_id":"%d:%d","_score":null' % (scope.partition, document.offset),
        ]
        if shape.source:
            pieces += (b',"_source":', source_of(document, wanted_source))
        pieces += (b',"fields":', _encode(_fields(document, scope, wishes)))
        if highlighter is not None and (marked := highlighter.of(document, scope)):
            pieces += (b',"highlight":', _encode(marked))
        if shape.sort:
            place = written_place((scope.topic, scope.partition, document.offset))
            pieces += (b',"sort":', _encode([*sort, place]))
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


# -- fields --------------------------------------------------------------------------------------------------------------


class _Wish:
    """A wish for fields, in the terms of one mapping."""

    def __init__(self, wish: FieldWish, mapping: Mapping) -> None:
        self.format = wish.format
        self.mapping = mapping
        self.field = None if "*" in wish.pattern else resolve(wish.pattern, mapping)
        self.leaves = None if self.field is None else leaves_of(self.field)
        self.fits = fitting(wish.pattern)


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
        if wish.field is not None and wish.leaves is not None:
            values = wish.leaves(document, scope)
            if values:
                found[wish.field.name] = [_formatted(value, wish.format, wish.field) for value in values]
            continue
        names = dict.fromkeys(path for path, _ in all_leaves(document.tree, MAX_LEAVES) if wish.fits(path))
        for name in names:
            if name not in found:
                field = resolve(name, wish.mapping)
                found[name] = [_formatted(leaf, wish.format, field) for leaf in leaves_at(document.tree, name)]
        if wish.fits("timestamp") and document.timestamp != NO_TIMESTAMP:
            found["timestamp"] = [_formatted(document.timestamp, wish.format, resolve("timestamp", wish.mapping))]
        if wish.fits("value") and document.value is not None:
            found["value"] = [text_of(document.value)]
    return found


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
