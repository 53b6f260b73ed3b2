"""What a word is: the one definition, for texts, queries, signatures and every tier.

A token is a maximal run of letters (Unicode categories L*), numbers (N*) and the marks (M*) that follow one, in simple lower
case: each code point by itself. Bytes that are not UTF-8 separate tokens, as everything else does. Of a run longer than
`MAX_TOKEN_BYTES` of lower-cased UTF-8, the whole code points within them are the token, and the rest is no token at all.

`chronik.native` gives the same, faster, over whole blocks.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

MAX_TOKEN_BYTES = 255

_ASCII_WORD = re.compile(r"[0-9A-Za-z]+")
_SHORT = MAX_TOKEN_BYTES // 4
"""Code points that are within the bytes of a token, whatever they are."""


def tokens(data: bytes) -> list[bytes]:
    """The tokens of a text, in order, as lower-cased UTF-8."""
    return [word.encode() for word in words(data.decode("utf-8", "replace"))]


def words(text: str) -> list[str]:
    """The tokens of a text, in order."""
    pattern = _ASCII_WORD if text.isascii() else _word_pattern()
    found = pattern.findall(fold(text))
    if found and len(max(found, key=len)) > _SHORT:
        return [cut(word) for word in found]
    return found


def word_spans(text: str) -> list[tuple[int, int, str]]:
    """Where each token of a text begins and ends (the whole run, also of one that is cut), and the token."""
    pattern = _ASCII_WORD if text.isascii() else _word_pattern()
    return [(match.start(), match.end(), cut(match.group())) for match in pattern.finditer(fold(text))]


def fold(text: str) -> str:
    """The text in simple lower case: as many code points as before, each by itself."""
    if text.isascii():
        return text.lower()
    # str.lower() knows one code point that becomes two, and one that depends on those around it
    return text.replace("\u0130", "i").replace("\u03a3", "\u03c3").lower()


def cut(word: str) -> str:
    """A token out of a run that may be too long for one."""
    if len(word) <= _SHORT:
        return word
    return word.encode()[:MAX_TOKEN_BYTES].decode("utf-8", "ignore")


def is_word_part(char: str) -> bool:
    """Whether the code point can be a part of a token: a letter, a number or a mark."""
    return unicodedata.category(char)[0] in "LNM"


@cache
def _word_pattern() -> re.Pattern[str]:
    first = _ranges("LN")
    return re.compile(f"[{first}][{first}{_ranges('M')}]*")


def _ranges(categories: str) -> str:
    """All code points of some categories, as the inside of a character class. Takes a fifth of a second, once."""
    parts: list[str] = []
    start = None
    for code in range(0x110001):
        inside = code < 0x110000 and unicodedata.category(chr(code))[0] in categories
        if inside and start is None:
            start = code
        elif not inside and start is not None:
            parts.append(f"\\U{start:08x}-\\U{code - 1:08x}")
            start = None
    return "".join(parts)
