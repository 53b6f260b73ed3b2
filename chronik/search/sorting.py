"""The order of hits: by fields, and where those are equal by topic, partition and offset, so that it is one order for all.

A sort is asked for as in Elasticsearch: `["timestamp", {"took": {"order": "desc", "missing": "_first"}}]`. Values of different
types stand apart: numbers, then texts (by code points), then booleans. Of several values the least counts, or the greatest when
descending. The tie is broken in the direction of the first field.

A hit's `sort` are its values and one more, its place (`events:3:1234`). Sent back as `search_after`, they go on right after it;
without the place, after all that have equal values.

By score is not sorted here: it takes an index that has scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import total_ordering

import msgspec

from chronik.search.body import Body
from chronik.search.document import Document
from chronik.search.elastic_context import Context
from chronik.search.fields import resolve
from chronik.search.mapping import Mapping
from chronik.search.match import Scope
from chronik.search.values import Key, as_double, keys_of, simplified

MAX_FIELDS = 8
_MAX_INT32, _MAX_INT64 = (1 << 31) - 1, (1 << 63) - 1

Place = tuple[str, int, int]
"""Topic, partition, offset."""


class SortField(msgspec.Struct, frozen=True):
    """One field to sort by. `missing`: what counts where there is no value; None is at the end, or `first`."""

    field: str
    descending: bool = False
    first: bool = False
    missing: str | int | float | bool | None = None
    greatest: bool = False


class Sort(msgspec.Struct, frozen=True):
    """Fields, the most important first; of none, by place."""

    fields: tuple[SortField, ...]

    @property
    def descending(self) -> bool:
        """Whether equal hits are in falling order of their places."""
        return bool(self.fields) and self.fields[0].descending

    @property
    def by_time(self) -> bool:
        """Whether it is by the records' timestamps alone, those without one at the end."""
        return len(self.fields) == 1 and self.fields[0] in _BY_TIME


class After(msgspec.Struct, frozen=True):
    """Where to go on: behind the hit with these values at this place, or behind all that have these values."""

    values: tuple[str | int | float | bool | None, ...]
    place: Place | None = None


_BY_TIME = frozenset(
    SortField("timestamp", descending, greatest=greatest) for descending in (False, True) for greatest in (False, True)
)
NEWEST_FIRST = Sort((SortField("timestamp", descending=True, greatest=True),))
OLDEST_FIRST = Sort((SortField("timestamp"),))


class SortKey:
    """Makes comparable keys of records, of one sort and mapping."""

    def __init__(self, sort: Sort, mapping: Mapping) -> None:
        self.sort = sort
        self._readers: list[tuple[SortField, Callable[[Document, Scope], list[Key]]]] = [
            (field, keys_of(resolve(field.field, mapping))) for field in sort.fields
        ]

    def values(self, document: Document, scope: Scope) -> list[Key | None]:
        """A record's values, None where it has none."""
        found: list[Key | None] = []
        for field, read in self._readers:
            keys = read(document, scope)
            if not keys:
                found.append(field.missing)
            elif len(keys) == 1:
                found.append(keys[0])
            else:
                found.append((max if field.greatest else min)(keys, key=rank))
        return found

    def key(self, values: Sequence[Key | None], place: Place | None) -> tuple[object, ...]:
        """What compares as the hits do; without a place it is after all with the same values."""
        parts = [component(value, field) for value, field in zip(values, self.sort.fields, strict=True)]
        if place is None:
            return (*parts, (1,))
        topic, partition, offset = place
        if self.sort.descending:
            return (*parts, (0, _Falling(topic), -partition, -offset))
        return (*parts, (0, topic, partition, offset))


def parse_sort(body: Body, context: Context) -> Sort:
    """The sort that is asked for. Raises QueryError."""
    fields: list[SortField] = []
    for item in body.items():
        if isinstance(item.value, str):
            name, options = item.text(), Body({}, item.path)
        else:
            name, options = item.only()
            if isinstance(options.value, str):
                options = Body({"order": options.value}, options.path)
        if name == "_score":
            raise item.error("sorting by score takes an index with scores (chronik.search=full)")
        if name == "_doc":
            continue
        if name.startswith("_") and name != "_index":
            raise item.error(f"`{name}` is not supported")
        fields.append(_sort_field(name, options))
        if len(fields) > MAX_FIELDS:
            raise item.error(f"more than {MAX_FIELDS} fields")
    return Sort(tuple(fields))


def parse_search_after(body: Body, sort: Sort) -> After:
    """Where to go on. Raises QueryError."""
    items = body.array()
    count = len(sort.fields)
    if len(items) not in (count, count + 1) or not items:
        raise body.error(f"{count} values are expected, as the sort has, or one more, the place of a hit")
    values: list[Key | None] = []
    for item in items[:count]:
        value = item.value
        if isinstance(value, Decimal | float):
            value = _simple(as_double(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            value = simplified(value)
        if not isinstance(value, str | int | float | bool | None):
            raise item.error("a string, a number, a boolean or null is expected")
        values.append(value)
    return After(tuple(values), parse_place(items[count]) if len(items) > count else None)


def written_place(place: Place) -> str:
    """A place as the last of a hit's `sort`."""
    return f"{place[0]}:{place[1]}:{place[2]}"


def parse_place(body: Body) -> Place:
    """The place that was written so. Raises QueryError."""
    topic, _, rest = body.text().rpartition(":")
    topic, _, partition = topic.rpartition(":")
    if not topic or not all(part.isascii() and part.isdecimal() and len(part) < 20 for part in (partition, rest)):
        raise body.error("the place of a hit is expected, such as events:3:1234")
    if int(partition) > _MAX_INT32 or int(rest) > _MAX_INT64:
        raise body.error("the place of a hit is expected: no partition or offset is so large")
    return topic, int(partition), int(rest)


def _sort_field(name: str, options: Body) -> SortField:
    options.known("order", "missing", "mode", "unmapped_type")
    if not name or "*" in name:
        raise options.error("the name of one field is expected")
    if options.has("unmapped_type"):
        options["unmapped_type"].text()  # a field without values sorts as missing, whatever it is called
    descending = options.has("order") and options["order"].one_of("asc", "desc") == "desc"
    mode = options["mode"].one_of("min", "max") if options.has("mode") else ("max" if descending else "min")
    missing = options["missing"].value if options.has("missing") else "_last"
    if missing in ("_last", "_first"):
        return SortField(name, descending, missing == "_first", None, mode == "max")
    if isinstance(missing, Decimal | float):
        missing = _simple(as_double(missing))
    if not isinstance(missing, str | int | bool | float):
        raise options["missing"].error("_last, _first, or a value is expected")
    return SortField(name, descending, False, missing, mode == "max")


def _simple(number: float) -> int | float:
    return int(number) if number.is_integer() and abs(number) <= 2**53 else number


@total_ordering
class _Falling:
    """A text that is less where it would be greater."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Falling) and self.text == other.text

    def __lt__(self, other: _Falling) -> bool:
        return self.text > other.text

    __hash__ = None  # type: ignore[assignment]


def rank(value: Key) -> tuple[int, Key]:
    """Numbers before texts before booleans."""
    if isinstance(value, bool):
        return 2, value
    return (1, value) if isinstance(value, str) else (0, value)


def component(value: Key | None, field: SortField) -> tuple[object, ...]:
    """What compares as values of the field do."""
    if value is None:
        return (-1,) if field.first else (1,)
    kind, _ = rank(value)
    if not field.descending:
        return 0, kind, value
    return 0, -kind, _Falling(value) if isinstance(value, str) else -value
