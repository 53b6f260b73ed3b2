"""Names of fields: where in a record each one looks.

===============  ======================================================================================================
``value``        the raw value, as text
``key``          the raw key, as text
``headers.NAME`` the value of a header, as text; ``headers`` are those of all headers
``timestamp``    the record's time, in ms; a record without one (-1) has none
``offset``       the offset
``partition``    the partition
``topic``        the topic, and so ``_index``
``NAME``         anything else is a path into the value: `user.id`. ``value.NAME`` is the same, for names that are taken above
===============  ======================================================================================================

``.keyword`` at the end, unless the mapping has a field of that whole name, is the exact text of the field before it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from chronik.search.mapping import Kind, Mapping

Source = Literal["value", "key", "header", "headers", "timestamp", "offset", "partition", "topic", "path"]

_OF_THE_RECORD: dict[str, tuple[Source, Kind]] = {
    "value": ("value", "text"),
    "headers": ("headers", "dynamic"),
    "timestamp": ("timestamp", "date"),
    "offset": ("offset", "number"),
    "partition": ("partition", "number"),
    "topic": ("topic", "keyword"),
    "_index": ("topic", "keyword"),
}
_EXACT = ".keyword"


class Field(NamedTuple):
    """Where a field looks (`path` is the header's name, or the path into the value), and how its values are read."""

    name: str
    source: Source
    path: str
    kind: Kind
    seconds: bool = False


def resolve(name: str, mapping: Mapping) -> Field:
    """The field of that name."""
    found = _OF_THE_RECORD.get(name)
    if found is not None:
        return Field(name, found[0], "", found[1])
    mapped = mapping.fields.get(name)
    if mapped is None and name.endswith(_EXACT) and len(name) > len(_EXACT):
        exact = resolve(name.removesuffix(_EXACT), mapping)
        return Field(name, exact.source, exact.path, "keyword" if exact.source in _TEXTS else exact.kind)
    kind: Kind = "dynamic" if mapped is None else mapped.kind
    seconds = mapped is not None and mapped.seconds
    if name == "key":
        return Field(name, "key", "", kind, seconds)
    if name.startswith("headers.") and len(name) > len("headers."):
        return Field(name, "header", name.removeprefix("headers."), kind, seconds)
    if name.startswith("value.") and len(name) > len("value."):
        path = name.removeprefix("value.")
        said = (
            None if path in _OF_THE_RECORD or path == "key" or path.startswith("headers.") else mapping.fields.get(path)
        )
        return Field(name, "path", path, "dynamic" if said is None else said.kind, said is not None and said.seconds)
    return Field(name, "path", name, kind, seconds)


_TEXTS = frozenset({"value", "key", "header", "headers", "path"})
