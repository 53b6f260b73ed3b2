"""The tokens that a record is signed with, by their definition, for pruning to be held against."""

from __future__ import annotations

import re

from tests.search import oracle

MARKER = b"\x00number"
LITERAL = re.compile(r"(?:^|(?<=[ \t\n\r:\[,=]))-?\d+(?:\.\d+)?[eE][+-]?\d+(?=[ \t\n\r,\]}]|$)", re.ASCII)


def signed_tokens(record):
    """Tokens of key, value and headers, as UTF-8; the marker where the value has a number with an exponent."""
    value = None if record.value is None else record.value.decode("utf-8", "replace")
    texts = [value, None if record.key is None else record.key.decode("utf-8", "replace")]
    if value is not None and "\\" in value:
        texts.append(oracle.unescaped(value))
    for name, content in record.headers:
        texts += [name, None if content is None else content.decode("utf-8", "replace")]
    found = {token.encode() for text in texts if text is not None for token in oracle.tokens(text)}
    if value is not None and LITERAL.search(value):
        found.add(MARKER)
    return found
