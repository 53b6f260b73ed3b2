r"""How `consume` prints a record: kcat's format strings, kcat's JSON envelope, or value and newline.

`%s %S %R` are payload, its length in decimal and as 4 bytes big-endian; `%k %K` the key and its length; `%T` the timestamp in
ms, `%h` the headers as `name=value,...`, `%t %p %o` topic, partition and offset, `%%` a percent sign. Lengths of null are -1.
`\n \r \t` and `\xHH` are escapes, a backslash before digits gives the byte of that number (decimal, or octal after a
leading 0), and before anything else that character. The one difference to kcat: a zero byte is printed, not taken for the end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import NamedTuple

from chronik.errors import ChronikError


class Message(NamedTuple):
    """A record as it is printed. The timestamp is in ms, -1 for none."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    append_time: bool
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class FormatError(ChronikError):
    """A format string has a token that means nothing."""


Printer = Callable[[Message], bytes]

_ESCAPE = re.compile(
    r"\\(?:x(?:0[xX])?([0-9a-fA-F]+)|x(.?)|(0[xX][0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*)|(.))", re.DOTALL
)
_NAMED = {"n": "\n", "r": "\r", "t": "\t"}


def _unescape(text: str) -> bytes:
    out = bytearray()
    position = 0
    for match in _ESCAPE.finditer(text):
        out += text[position : match.start()].encode()
        hexadecimal, nothing, prefixed, octal, decimal, other = match.groups()
        if hexadecimal is not None:
            out.append(int(hexadecimal, 16) & 0xFF)
        elif nothing is not None:
            out.append(0)
        elif prefixed is not None:
            out.append(int(prefixed, 16) & 0xFF)
        elif octal is not None:
            out.append(int(octal, 8) & 0xFF)
        elif decimal is not None:
            out.append(int(decimal) & 0xFF)
        else:
            out += _NAMED.get(other, other).encode()
        position = match.end()
    out += text[position:].encode()
    return bytes(out)


def _length(value: bytes | None) -> int:
    return -1 if value is None else len(value)


def _headers(message: Message) -> bytes:
    return b",".join(name.encode() + b"=" + (b"NULL" if value is None else value) for name, value in message.headers)


_TOKENS: dict[str, Printer] = {
    "s": lambda m: m.value or b"",
    "S": lambda m: b"%d" % _length(m.value),
    "R": lambda m: _length(m.value).to_bytes(4, "big", signed=True),
    "k": lambda m: m.key or b"",
    "K": lambda m: b"%d" % _length(m.key),
    "t": lambda m: m.topic.encode(),
    "p": lambda m: b"%d" % m.partition,
    "o": lambda m: b"%d" % m.offset,
    "T": lambda m: b"%d" % m.timestamp,
    "h": _headers,
}


def format_printer(text: str) -> Printer:
    """What prints a message by kcat's format string `text`. Raises FormatError for an unknown token."""
    parts: list[Printer] = []
    position = 0
    while position < len(text):
        percent = text.find("%", position)
        literal = text[position:] if percent < 0 else text[position:percent]
        if literal:
            parts.append(_constant(_unescape(literal)))
        if percent < 0:
            break
        token = text[percent + 1 : percent + 2]
        if token == "%":
            parts.append(_constant(b"%"))
        elif token in _TOKENS:
            parts.append(_TOKENS[token])
        else:
            known = " ".join(f"%{name}" for name in _TOKENS)
            raise FormatError(f"format {text!r}: %{token} means nothing; the tokens are {known} %%")
        position = percent + 2
    if len(parts) == 1:
        return parts[0]
    return lambda message: b"".join([part(message) for part in parts])


def _constant(value: bytes) -> Printer:
    return lambda message: value


def line_printer(key_delimiter: str | None) -> Printer:
    """The value and a newline; with a delimiter, the key and the delimiter before it."""
    if key_delimiter is None:
        return lambda message: (message.value or b"") + b"\n"
    delimiter = _unescape(key_delimiter)
    return lambda message: (message.key or b"") + delimiter + (message.value or b"") + b"\n"


def json_printer(leader: Callable[[str, int], int]) -> Printer:
    """One JSON object a line, with kcat's keys in kcat's order; bytes that are no UTF-8 become U+FFFD.

    `leader` gives the node id of a partition's leader, printed as `broker`.
    """

    def text(value: bytes | None) -> str | None:
        return None if value is None else value.decode("utf-8", "replace")

    def envelope(message: Message) -> bytes:
        fields: dict[str, object] = {
            "topic": message.topic,
            "partition": message.partition,
            "offset": message.offset,
        }
        if message.timestamp >= 0:
            fields["tstype"] = "logappend" if message.append_time else "create"
            fields["ts"] = message.timestamp
        fields["broker"] = leader(message.topic, message.partition)
        if message.headers:
            fields["headers"] = [item for name, value in message.headers for item in (name, text(value))]
        fields["key"] = text(message.key)
        fields["payload"] = text(message.value)
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    return envelope
