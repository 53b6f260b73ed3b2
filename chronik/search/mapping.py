"""What kind of values a topic's fields hold, where that is said: a part of Elasticsearch's mapping, optional.

::

    {"properties": {"status": {"type": "long"}, "user": {"properties": {"id": {"type": "keyword"}}}, "key": {"type": "text"}}}

Without a mapping a field is **dynamic**: each value counts as what it is, see `chronik.search.match`. A mapping only says how a
query reads the values; nothing is stored by it, so it holds for the records of the past too. Names are those of queries: a path
into the value, `key`, or `headers.` and a header's name.

Every key that is not acted on is refused, with its path.
"""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from typing import Literal

import msgspec

from chronik.search.query import QueryError

Kind = Literal["dynamic", "text", "keyword", "number", "date", "boolean"]

TYPES: dict[str, Kind] = {
    "text": "text",
    "keyword": "keyword",
    "long": "number",
    "integer": "number",
    "double": "number",
    "float": "number",
    "date": "date",
    "boolean": "boolean",
}
"""Numbers are all of one kind: they are compared exactly, whatever their size."""

DATE_FORMATS = ("strict_date_optional_time", "date_optional_time", "epoch_millis", "epoch_second")
FIXED_FIELDS = frozenset({"value", "timestamp", "offset", "partition", "topic", "_id", "_index"})
"""Fields of which the mapping says nothing."""

MAX_FIELDS = 1000
MAX_DEPTH = 20
_MAX_NAME = 512


class Property(msgspec.Struct, frozen=True):
    """A field's type as it was given, and whether a date's bare numbers are seconds, not milliseconds."""

    type: str
    seconds: bool = False

    @property
    def kind(self) -> Kind:
        """How its values are read."""
        return TYPES[self.type]


class Mapping(msgspec.Struct, frozen=True):
    """Fields by their dotted names."""

    fields: dict[str, Property] = {}

    def kind(self, field: str) -> Kind:
        """How the field's values are read."""
        found = self.fields.get(field)
        return "dynamic" if found is None else found.kind


NO_MAPPING = Mapping()


def parse_mapping(body: object) -> Mapping:
    """The mapping out of JSON. Raises QueryError with the path of what is wrong."""
    top = _object(body, "", ("properties", "dynamic"))
    if top.get("dynamic", True) not in (True, "true", "runtime"):
        raise QueryError("only true is supported: a field that is not named stays dynamic", path="dynamic")
    fields: dict[str, Property] = {}
    _properties(top.get("properties", {}), "properties", "", fields, 1)
    for name in fields:
        parts = name.split(".")
        for end in range(1, len(parts)):
            outer = ".".join(parts[:end])
            if outer in fields and outer != "key":
                raise QueryError(
                    f"`{outer}` is of type {fields[outer].type}, and cannot hold `{name}` too", path="properties"
                )
    return Mapping(fields)


def extend_mapping(mapping: Mapping, addition: Mapping) -> Mapping:
    """Both together. Raises QueryError where they disagree: a field keeps its type until the mapping is replaced as a whole."""
    for name, new in addition.fields.items():
        old = mapping.fields.get(name)
        if old is not None and old != new:
            raise QueryError(f"`{name}` is of type {old.type} and cannot become {new.type}", path="properties")
    return parse_mapping(mapping_body(Mapping({**mapping.fields, **addition.fields})))


def mapping_body(mapping: Mapping) -> dict[str, object]:
    """The mapping as JSON again, by dotted names."""
    properties = {
        name: {"type": field.type} | ({"format": "epoch_second"} if field.seconds else {})
        for name, field in sorted(mapping.fields.items())
    }
    return {"properties": properties}


def _properties(body: object, path: str, prefix: str, fields: dict[str, Property], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise QueryError(f"properties are nested deeper than {MAX_DEPTH} levels", path=path)
    if not isinstance(body, AnyMapping):
        raise QueryError("an object is expected", path=path)
    for name, content in body.items():
        here = f"{path}.{name}"
        full = f"{prefix}{name}"
        if not isinstance(name, str) or not name or any(not part for part in name.split(".")) or len(full) > _MAX_NAME:
            raise QueryError("no name of a field", path=here)
        if isinstance(content, AnyMapping) and ("properties" in content or content.get("type") == "object"):
            inner = _object(content, here, ("properties", "type"))
            if inner.get("type", "object") != "object":
                raise QueryError(f"a field with properties is an object, not {inner['type']}", path=f"{here}.type")
            _properties(inner.get("properties", {}), f"{here}.properties", f"{full}.", fields, depth + 1)
            continue
        _add(full, content, here, fields)


def _add(name: str, content: object, path: str, fields: dict[str, Property]) -> None:
    if name in FIXED_FIELDS or name.startswith("value."):
        raise QueryError(f"`{name}` has its meaning from the record itself", path=path)
    spec = _object(content, path, ("type", "format", "fields"))
    kind = spec.get("type")
    if not isinstance(kind, str) or kind not in TYPES:
        raise QueryError(f"an unknown type {kind!r:.50}: {', '.join(TYPES)} are known", path=f"{path}.type")
    multi = _object(spec.get("fields", {}), f"{path}.fields", ("keyword",))
    if multi and multi["keyword"] != {"type": "keyword"}:
        raise QueryError('only {"type": "keyword"} is supported, and need not be said', path=f"{path}.fields.keyword")
    new = Property(kind, _in_seconds(spec, kind, path))
    if fields.setdefault(name, new) != new:
        raise QueryError(f"`{name}` is named twice, as {fields[name].type} and as {kind}", path=path)
    if len(fields) > MAX_FIELDS:
        raise QueryError(f"more than {MAX_FIELDS} fields", path=path)


def _in_seconds(spec: AnyMapping[str, object], kind: str, path: str) -> bool:
    if "format" not in spec:
        return False
    given = spec["format"]
    formats = given.split("||") if isinstance(given, str) else []
    if kind != "date" or not formats or any(one not in DATE_FORMATS for one in formats):
        raise QueryError(f"{given!r:.80} is not supported: of dates, {', '.join(DATE_FORMATS)}", path=f"{path}.format")
    if "epoch_second" in formats and "epoch_millis" in formats:
        raise QueryError("a number cannot be seconds and milliseconds", path=f"{path}.format")
    return "epoch_second" in formats


def _object(body: object, path: str, keys: tuple[str, ...]) -> AnyMapping[str, object]:
    if not isinstance(body, AnyMapping):
        raise QueryError("an object is expected", path=path)
    for key in body:
        if key not in keys:
            raise QueryError("not supported here", path=f"{path}.{key}".lstrip("."))
    return body
