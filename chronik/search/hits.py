"""A hit as it is shown: its source, whose names are those that queries have for the same fields."""

from __future__ import annotations

import msgspec

from chronik.search.document import Document
from chronik.search.match import Scope, text_of


def source_of(document: Document, scope: Scope) -> dict[str, object]:
    """The `_source` of a record: `value` is the JSON that was sent, by the letter, or else a text; so is `value.level` a field.

    A header that occurs more than once has its values in an array. What is not UTF-8 is shown with U+FFFD in its place.
    """
    headers: dict[str, object] = {}
    for name, content in document.headers:
        shown = None if content is None else text_of(content)
        known = headers.get(name)
        if name not in headers:
            headers[name] = shown
        elif isinstance(known, list):
            known.append(shown)
        else:
            headers[name] = [known, shown]
    return {
        "topic": scope.topic,
        "partition": scope.partition,
        "offset": document.offset,
        "timestamp": document.timestamp,
        "key": None if document.key is None else text_of(document.key),
        "headers": headers,
        "value": _shown_value(document),
    }


def id_of(document: Document, scope: Scope) -> str:
    """The record's `_id`."""
    return f"{scope.partition}:{document.offset}"


def _shown_value(document: Document) -> object:
    if document.value is None:
        return None
    if document.tree is not None and document.is_json:
        return msgspec.Raw(document.value)
    return text_of(document.value)
