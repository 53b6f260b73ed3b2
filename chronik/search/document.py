"""A record as search sees it: its parts, and what its value says when it is read as JSON or as logfmt.

A value that begins with `{` or `[` is JSON if it is so by the letter (RFC 8259): one value in valid UTF-8, at most
`MAX_DEPTH` deep, `MAX_JSON_BYTES` long, its integers of at most 4,300 digits. Of a name that occurs twice in an object the
last counts. One that begins with `{` and is no such JSON is **unparsed**: it has no fields, only its text. Any other value that
has `name=value` pairs has those as fields (`chronik.search.logfmt`). Nothing here raises, whatever the bytes are.

A path `a.b.c` leads from object to object, and through every element of an array. A name in the value may have dots itself:
`{"a.b": {"c": 1}}` has `a.b.c`, too. What it leads to are leaves: texts, numbers, booleans; nulls, objects and empty arrays are
not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation

import msgspec

from chronik.search.analysis import fold
from chronik.search.logfmt import pairs

MAX_DEPTH = 100
MAX_JSON_BYTES = 32 << 20

Leaf = str | int | Decimal | bool
Headers = Sequence[tuple[str, bytes | None]]

_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_OPENING = frozenset((b"{", b"["))
_NONE: dict[str, object] = {}


class Document:
    """One record. What is read out of its value is kept."""

    __slots__ = ("_folded", "_tree", "headers", "is_json", "key", "offset", "timestamp", "unparsed", "value")

    def __init__(
        self, offset: int, timestamp: int, key: bytes | None, value: bytes | None, headers: Headers = ()
    ) -> None:
        self.offset = offset
        self.timestamp = timestamp
        self.key = key
        self.value = value
        self.headers = headers
        self.unparsed = False
        """Whether the value looks like JSON and is none; known once `tree` was asked."""
        self.is_json = False
        """Whether it is JSON; known once `tree` was asked."""
        self._tree: object = None
        self._folded: bytes | None = None

    @property
    def tree(self) -> object:
        """The value's fields: a dict, or the elements of an array in a list; an empty dict where it has none."""
        tree = self._tree
        if tree is None:
            tree = self._tree = self._parsed()
        return tree

    @property
    def folded(self) -> bytes:
        """The value's bytes in lower case, where that is ASCII; of another, its text in simple lower case, as UTF-8."""
        folded = self._folded
        if folded is None:
            value = self.value or b""
            folded = value.lower() if value.isascii() else fold(value.decode("utf-8", "replace")).encode()
            self._folded = folded
        return folded

    def _parsed(self) -> object:
        value = self.value
        if not value:
            return _NONE
        first = value[:1]
        if first in b" \t\r\n":
            first = value.lstrip(b" \t\r\n")[:1]
        if first in _OPENING:
            if len(value) <= MAX_JSON_BYTES:
                try:
                    tree = _decode(value)
                    if not _too_deep(value, tree):
                        self.is_json = True
                        return tree
                except (msgspec.MsgspecError, UnicodeDecodeError, InvalidOperation, RecursionError):
                    pass  # no JSON, as said above
            if first == b"{":
                self.unparsed = True
                return _NONE
        return pairs(value) if b"=" in value else _NONE


def _too_deep(value: bytes, tree: object) -> bool:
    if value.count(b"{") + value.count(b"[") <= MAX_DEPTH:
        return False
    level = [tree]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if type(node) is dict else node)  # type: ignore[attr-defined]
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return False
    return True


def leaves_at(tree: object, path: str) -> list[Leaf]:
    """The leaves to which a path leads."""
    found: list[Leaf] = []
    pending: list[tuple[object, str]] = [(tree, path)]
    while pending:
        node, rest = pending.pop()
        if type(node) is dict:
            if not rest:
                continue
            child = node.get(rest)
            if child is not None:
                pending.append((child, ""))
            dot = rest.rfind(".")
            while dot >= 0:
                child = node.get(rest[:dot])
                if type(child) is dict or type(child) is list:
                    pending.append((child, rest[dot + 1 :]))
                dot = rest.rfind(".", 0, dot)
        elif type(node) is list:
            pending.extend((child, rest) for child in reversed(node))
        elif not rest and node is not None:
            found.append(node)  # type: ignore[arg-type]
    return found


def exists_at(tree: object, path: str) -> bool:
    """Whether a path leads to a leaf, or to something that has one within."""
    pending: list[tuple[object, str]] = [(tree, path)]
    while pending:
        node, rest = pending.pop()
        if type(node) is list:
            pending.extend((child, rest) for child in node)
        elif type(node) is dict:
            for name, child in node.items():
                if not rest or name == rest or name.startswith(f"{rest}."):
                    pending.append((child, ""))
                elif rest.startswith(f"{name}."):
                    pending.append((child, rest[len(name) + 1 :]))
        elif not rest and node is not None:
            return True
    return False


def all_leaves(tree: object, limit: int) -> Iterator[tuple[str, Leaf]]:
    """The paths and leaves of a tree in its order, at most `limit`: for field capabilities."""
    pending: list[tuple[str, object]] = [("", tree)]
    count = 0
    while pending and count < limit:
        path, node = pending.pop()
        if type(node) is dict:
            pending.extend((f"{path}.{name}" if path else name, child) for name, child in reversed(node.items()))
        elif type(node) is list:
            pending.extend((path, child) for child in reversed(node))
        elif node is not None and path:
            count += 1
            yield path, node  # type: ignore[misc]
