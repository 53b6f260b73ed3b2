r"""What values are in JSON, and where the members of their objects stand, in plain Python: the definition for C too.

A value is JSON if it is so by the letter (RFC 8259): one value in UTF-8, space around it allowed, at most `DEEPEST` deep, every
`\u` of a surrogate one of a pair. Of an object the members at its top are found, by their names with escapes resolved; of a
name that is there twice the last one counts. What is further inside stays text.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from chronik.native.escapes import unescape
from chronik.native.tokens import Buffer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEEPEST = 100
LONGEST_NAME = 512
"""Bytes of a name that is looked for."""
MOST_DIGITS = 18
"""Of an INTEGER: all of these fit into 64 bits."""


class State(IntEnum):
    """What a value is. The numbers are those of the C code."""

    NO_VALUE = 0
    OBJECT = 1
    OTHER = 2
    NO_JSON = 3


class Kind(IntEnum):
    """What a member is. ESCAPED is a string with a backslash; the numbers are those of the C code."""

    ABSENT = 0
    NULL = 1
    BOOLEAN = 2
    INTEGER = 3
    NUMBER = 4
    STRING = 5
    ESCAPED = 6
    OBJECT = 7
    ARRAY = 8


class Members(NamedTuple):
    """Of each value its state; of each name (first axis) and value its kind and place. Of strings without their quotes.

    The length of one that is absent is -1.
    """

    states: NDArray[np.uint8]
    kinds: NDArray[np.uint8]
    starts: NDArray[np.int32]
    lengths: NDArray[np.int32]


class Gathered(NamedTuple):
    """Copies one behind another: where each ends, and whether it is there."""

    data: NDArray[np.uint8]
    ends: NDArray[np.int32]
    valid: NDArray[np.bool_]


class HeaderPlaces(NamedTuple):
    """Where the names and values of headers are, all those of a row one after the other."""

    name_start: NDArray[np.int32]
    name_length: NDArray[np.int32]
    value_start: NDArray[np.int32]
    value_length: NDArray[np.int32]


class Member(NamedTuple):
    """One member: what it is, and its place in the value."""

    kind: Kind
    start: int
    length: int


_space = re.compile(rb"[ \t\n\r]*")
_string = re.compile(
    rb'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u(?:(?![dD][89a-fA-F])[0-9a-fA-F]{4}'
    rb'|[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})))*+"'
)
_number = re.compile(rb"-?((?:0|[1-9][0-9]*)(?![0-9]))(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_word = re.compile(rb"(true|false)|null")


class _NotJson(Exception):
    pass


def read_value(data: Buffer, wanted: Collection[bytes]) -> tuple[State, dict[bytes, Member]]:
    """What a value is, and those of its members that are wanted and there."""
    content = bytes(data)
    found: dict[bytes, Member] = {}
    try:
        content.decode("utf-8")
        kind, at = _value(content, _after_space(content, 0), 0, wanted, found)
        if _after_space(content, at) != len(content):
            raise _NotJson
    except (_NotJson, UnicodeDecodeError):
        return State.NO_JSON, {}
    return (State.OBJECT if kind == Kind.OBJECT else State.OTHER), found


def _after_space(content: bytes, at: int) -> int:
    return _space.match(content, at).end()  # type: ignore[union-attr]


def _scalar(content: bytes, at: int) -> tuple[Kind, int]:
    if match := _string.match(content, at):
        return (Kind.ESCAPED if b"\\" in match.group() else Kind.STRING), match.end()
    if match := _number.match(content, at):
        whole = match[2] is None and match[3] is None and len(match[1]) <= MOST_DIGITS
        return (Kind.INTEGER if whole else Kind.NUMBER), match.end()
    if match := _word.match(content, at):
        return (Kind.BOOLEAN if match[1] else Kind.NULL), match.end()
    raise _NotJson


def _name(content: bytes, at: int) -> tuple[bytes, int]:
    """The name of a member, and where its value begins."""
    match = _string.match(content, at)
    if match is None:
        raise _NotJson
    at = _after_space(content, match.end())
    if content[at : at + 1] != b":":
        raise _NotJson
    return unescape(match.group()[1:-1]), _after_space(content, at + 1)


def _value(
    content: bytes, at: int, depth: int, wanted: Collection[bytes], found: dict[bytes, Member]
) -> tuple[Kind, int]:
    """The kind of the value at `at`, and where it ends."""
    opening = content[at : at + 1]
    if opening not in (b"{", b"["):
        return _scalar(content, at)
    if depth == DEEPEST:
        raise _NotJson
    kind, closing = (Kind.OBJECT, b"}") if opening == b"{" else (Kind.ARRAY, b"]")
    at = _after_space(content, at + 1)
    if content[at : at + 1] == closing:
        return kind, at + 1
    while True:
        name = b""
        if kind == Kind.OBJECT:
            name, at = _name(content, at)
        start = at
        inner, at = _value(content, at, depth + 1, (), {})
        if not depth and kind == Kind.OBJECT and name in wanted:
            quotes = inner in (Kind.STRING, Kind.ESCAPED)
            found[name] = Member(inner, start + quotes, at - start - 2 * quotes)
        at = _after_space(content, at)
        after, at = content[at : at + 1], at + 1
        if after == closing:
            return kind, at
        if after != b",":
            raise _NotJson
        at = _after_space(content, at)
