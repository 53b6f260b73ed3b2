"""What of a record is in a split: the tokens of the signatures, ready cut, with spaces between them.

Two texts. That of the **value** has the tokens of the value as it stands, in their order, as often as they occur: phrases and
counts go by it. The **other** one has what else `chronik.native.signed` signs: the tokens of the key, of the headers' names
and values, those that a value has only once JSON's escapes are resolved, and `MARKER_WORD` for a number with an exponent.

Nearly all text is ASCII, where one translation of the bytes makes lower case of letters and spaces of what separates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from chronik.native.escapes import unescape
from chronik.native.numbers import MARKER, needs_marker
from chronik.native.tokens import MAX_BYTES, tokens

MARKER_WORD = "#"
"""Stands for `MARKER`, which is no text. No token has this character."""

_PLAIN = bytes(ord(chr(byte).lower()) if byte < 128 and chr(byte).isalnum() else 0x20 for byte in range(256))
_SHAPES = bytes.maketrans(b"0123456789eE+-", b"0000000000ee--")
_TOO_LONG = re.compile(rb"[0-9a-z]{%d}" % (MAX_BYTES + 1))


def text_of(data: bytes) -> str:
    """The tokens of some bytes, in order."""
    if data.isascii():
        plain = data.translate(_PLAIN)
        if len(data) <= MAX_BYTES or _TOO_LONG.search(plain) is None:
            return plain.decode("ascii")
    return b" ".join(tokens(data)).decode()


def other_text(key: bytes | None, value: bytes | None, headers: Iterable[tuple[bytes, bytes | None]]) -> str:
    """What else is signed of a record, beside its value as it stands. Empty for most."""
    parts = [text_of(key)] if key else []
    for name, content in headers:
        parts.append(text_of(name))
        if content:
            parts.append(text_of(content))
    if value:
        if b"\\" in value:
            parts += {token.decode() for token in tokens(unescape(value))}.difference(text_of(value).split())
        shape = value.translate(_SHAPES)  # a look at shapes is a tenth of the regular expression
        if (b"0e0" in shape or b"0e-0" in shape) and needs_marker(value):
            parts.append(MARKER_WORD)
    return " ".join(parts)


def word_of(token: bytes) -> str:
    """A signed token as a word of these texts."""
    return MARKER_WORD if token == MARKER else token.decode()
