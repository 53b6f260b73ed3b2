r"""JSON's escapes resolved in a whole text, wherever they stand: `\n`, `\"`, `\u00e9`, a pair of surrogates.

A field's string is what a JSON parser made of it, while the record's value is the text as sent. Where they differ is at
backslashes, so a value that has one is signed twice: as it stands and as this gives it. What is no escape of JSON stays as it
is; half a pair of surrogates becomes U+FFFD, which is no part of a token.

Source: RFC 8259, section 7.
"""

from __future__ import annotations

import re

from chronik.native.tokens import Buffer

_escape = re.compile(rb'\\(?:u([0-9a-fA-F]{4})(?:(?<=u[dD][89abAB]..)\\u([dD][c-fC-F][0-9a-fA-F]{2}))?|(["\\/bfnrt]))')
_SHORT = {b'"': b'"', b"\\": b"\\", b"/": b"/", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_REPLACEMENT = "\ufffd".encode()


def unescape(data: Buffer) -> bytes:
    """`data` with its escapes resolved; never longer than it was."""
    return _escape.sub(_resolve, bytes(data))


def _resolve(match: re.Match[bytes]) -> bytes:
    unit, low, short = match.groups()
    if unit is None:
        return _SHORT[short]
    code = int(unit, 16)
    if low is not None:
        code = 0x10000 + (code - 0xD800 << 10) + int(low, 16) - 0xDC00
    return _REPLACEMENT if 0xD800 <= code < 0xE000 else chr(code).encode()
