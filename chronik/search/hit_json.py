"""A hit of a tail as JSON: topic, partition, offset, timestamp in ms (null for none), key, value, headers.

Key, value and headers are texts. Bytes that are not UTF-8 are given in base64 instead, under a name that says so: `key_base64`,
`value_base64`. Of a record above `MAX_HIT_BYTES` only the place is given, and its size under `omitted`.
"""

from __future__ import annotations

from base64 import b64encode

import msgspec

from chronik.search.document import Document
from chronik.search.match import NO_TIMESTAMP

MAX_HIT_BYTES = 1 << 20

_Text = str | None | msgspec.UnsetType
_Binary = str | msgspec.UnsetType


class _Header(msgspec.Struct):
    name: str
    value: _Text = msgspec.UNSET
    value_base64: _Binary = msgspec.UNSET


class _Hit(msgspec.Struct):
    topic: str
    partition: int
    offset: int
    timestamp: int | None
    key: _Text = msgspec.UNSET
    key_base64: _Binary = msgspec.UNSET
    value: _Text = msgspec.UNSET
    value_base64: _Binary = msgspec.UNSET
    headers: list[_Header] | msgspec.UnsetType = msgspec.UNSET
    omitted: int | msgspec.UnsetType = msgspec.UNSET


_encode = msgspec.json.Encoder().encode


def hit_json(topic: str, partition: int, document: Document) -> bytes:
    """The JSON object."""
    timestamp = None if document.timestamp == NO_TIMESTAMP else document.timestamp
    size = len(document.key or b"") + len(document.value or b"")
    size += sum(len(name) + len(value or b"") for name, value in document.headers)
    if size > MAX_HIT_BYTES:
        return _encode(_Hit(topic, partition, document.offset, timestamp, omitted=size))
    headers = [_Header(name, *_as_text(value)) for name, value in document.headers]
    return _encode(
        _Hit(
            topic,
            partition,
            document.offset,
            timestamp,
            *_as_text(document.key),
            *_as_text(document.value),
            headers=headers or msgspec.UNSET,
        )
    )


def _as_text(data: bytes | None) -> tuple[_Text, _Binary]:
    """(text, unset), or (unset, base64) for what is no text."""
    if data is None:
        return None, msgspec.UNSET
    try:
        return data.decode(), msgspec.UNSET
    except UnicodeDecodeError:
        return msgspec.UNSET, b64encode(data).decode()
