"""The `_source` of a hit: a value that is a JSON object, by the letter as it was produced, never encoded again.

Of any other value it is `{"value": text}`, of a record without one `{"value": null}`. What is wanted of a source only in part
is read and written anew, with all digits of its numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import msgspec

from chronik.search.document import Document
from chronik.search.match import text_of
from chronik.search.wildcards import compiled, parts

Filter = Callable[[dict[str, object]], object]

_encode = msgspec.json.Encoder(decimal_format="number").encode


def source_of(document: Document, wanted: Filter | None = None) -> bytes:
    """The source in JSON; only what is wanted of it."""
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
    return isinstance(document.tree, dict) and document.is_json


def source_filter(include: Sequence[str], exclude: Sequence[str]) -> Filter | None:
    """The function that leaves of a tree what is wanted, None for all of it.

    A name stands for all within it, `*` for any run of characters.
    """
    if not include and not exclude:
        return None
    includes = _paths(include)
    excludes = _paths(exclude)

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
    tests = [fitting(pattern.removesuffix(".*")) for pattern in patterns]
    if not tests:
        return None
    return lambda path: any(test(path) for test in tests)


def fitting(pattern: str) -> Callable[[str], bool]:
    """Whether a name fits a pattern with `*`."""
    if "*" not in pattern:
        return pattern.__eq__
    fits: re.Pattern[str] = compiled(parts(pattern.replace("\\", "\\\\").replace("?", "\\?")))
    return lambda path: fits.fullmatch(path) is not None
