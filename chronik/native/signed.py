"""What of a record is signed, in plain Python: the definition, for tests and for whoever asks what a signature may be asked.

The tokens of its key, of its value, of its headers' names and values; of a value with a backslash also those of the value with
JSON's escapes resolved (`chronik.native.escapes`); and the marker of a value that has a number
with an exponent (`chronik.native.numbers`).
"""

from __future__ import annotations

from collections.abc import Iterable

from chronik.native.escapes import unescape
from chronik.native.numbers import MARKER, needs_marker
from chronik.native.tokens import Buffer, tokens


def signed_tokens(
    key: Buffer | None, value: Buffer | None, headers: Iterable[tuple[Buffer, Buffer | None]]
) -> set[bytes]:
    """The tokens of one record."""
    found: set[bytes] = set()
    texts = [key, value]
    for name, content in headers:
        texts += name, content
    if value is not None and b"\\" in bytes(value):
        texts.append(unescape(value))
    for text in texts:
        if text is not None:
            found.update(tokens(text))
    if value is not None and needs_marker(value):
        found.add(MARKER)
    return found
