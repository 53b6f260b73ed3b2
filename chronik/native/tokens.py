"""What a token is: the definition in Python, which the C and the numpy code are held against.

A token is a longest run of code points that are letters or numbers (Unicode general categories L* and N*), and of marks (M*)
that follow one of these; each code point is in its simple lower case. A token is given as UTF-8. Of a run that takes more than
`MAX_BYTES` in that form, the whole code points within `MAX_BYTES` are the token, and the rest is dropped.

Bytes that are not UTF-8 separate tokens, as U+FFFD would, which a decoder puts in their place. Nothing is an error.

Which code points these are is fixed for ever in `chronik.native.unicode_14`, whatever Python runs this.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from chronik.native.unicode import code_points

Buffer = bytes | bytearray | memoryview

MAX_BYTES = 255

_ascii_run = re.compile(rb"[0-9a-z]+")
_ascii_run_cut = re.compile(rb"([0-9a-z]{1,%d})[0-9a-z]*" % MAX_BYTES)


class Token(NamedTuple):
    """A token, which one of the text's it is, and the bytes of the run that it was read from: `data[start:stop]`."""

    text: bytes
    position: int
    start: int
    stop: int


def tokens(data: Buffer) -> list[bytes]:
    """The tokens of a text, in order, as often as they occur."""
    if not isinstance(data, bytes):
        data = bytes(data)
    if data.isascii():
        return (_ascii_run if len(data) <= MAX_BYTES else _ascii_run_cut).findall(data.lower())
    return [_token(run) for run in _run().findall(data.decode("utf-8", "replace"))]


def spans(data: Buffer) -> Iterator[Token]:
    """The same with places, for phrases and for marking what was found."""
    if not isinstance(data, bytes):
        data = bytes(data)
    if data.isascii():
        for position, plain in enumerate(_ascii_run.finditer(data.lower())):
            yield Token(plain[0][:MAX_BYTES], position, plain.start(), plain.end())
        return
    # Every byte that is not UTF-8 becomes one lone surrogate, which is no letter either: bytes can be counted.
    text = data.decode("utf-8", "surrogateescape")
    seen = stop = 0
    for position, match in enumerate(_run().finditer(text)):
        start = stop + len(text[seen : match.start()].encode("utf-8", "surrogateescape"))
        stop, seen = start + len(match[0].encode()), match.end()
        yield Token(_token(match[0]), position, start, stop)


def _token(run: str) -> bytes:
    """The lower-case UTF-8 form of a run, cut to whole code points."""
    text = (run.lower() if run.isascii() else run.translate(code_points().lower)).encode()
    if len(text) <= MAX_BYTES:
        return text
    return text[:MAX_BYTES].decode("utf-8", "ignore").encode()


@cache
def _run() -> re.Pattern[str]:
    """A run of the table's code points. Compiled at the first text that is not ASCII: it takes some milliseconds."""
    starts = "".join(f"{chr(first)}-{chr(last)}" for first, last in code_points().starts)
    marks = "".join(f"{chr(first)}-{chr(last)}" for first, last in code_points().marks)
    return re.compile(f"[{starts}][{starts}{marks}]*")
