"""What a word is, in texts: the tokens of `chronik.native.tokens`, which signatures have, as str and with their places.

A token is a maximal run of letters, numbers, and the marks that follow one, in simple lower case, cut to `MAX_TOKEN_BYTES` of
UTF-8; bytes that are not UTF-8 separate tokens, as everything else does.
"""

from __future__ import annotations

import re
from functools import cache

from chronik.native.tokens import MAX_BYTES as MAX_TOKEN_BYTES
from chronik.native.tokens import tokens
from chronik.native.unicode import code_points

__all__ = ["MAX_TOKEN_BYTES", "cut", "fold", "is_word_part", "origins", "tokens", "word_spans", "words"]

_ASCII_WORD = re.compile(r"[0-9A-Za-z]+")
_SHORT = MAX_TOKEN_BYTES // 4
"""Code points that are within the bytes of a token, whatever they are."""

_CIRCLED = range(0x24B6, 0x24D0)


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
    """The text in simple lower case: as many code points as before, each by itself.

    By the Unicode of the Python that runs, which a test holds against the table of `chronik.native`: str.lower() is ten times
    as fast as a translation.
    """
    if text.isascii():
        return text.lower()
    # str.lower() makes two code points of one, and lets one depend on those around it
    return text.replace("\u0130", "i").replace("\u03a3", "\u03c3").lower()


def cut(word: str) -> str:
    """A token out of a run that may be too long for one."""
    if len(word) <= _SHORT:
        return word
    return word.encode()[:MAX_TOKEN_BYTES].decode("utf-8", "ignore")


def is_word_part(char: str) -> bool:
    """Whether the code point can be a part of a token: a letter, a number or a mark."""
    return _part_pattern().fullmatch(char) is not None


@cache
def origins() -> dict[str, list[str]]:
    """The code points that fold to another, by that one: those of the table, and letters in circles, which are no letters."""
    found: dict[str, list[str]] = {}
    for code in (*code_points().lower, *_CIRCLED):
        found.setdefault(fold(chr(code)), []).append(chr(code))
    return found


@cache
def _word_pattern() -> re.Pattern[str]:
    first, more = _characters(code_points().starts), _characters(code_points().marks)
    return re.compile(f"[{first}][{first}{more}]*")


@cache
def _part_pattern() -> re.Pattern[str]:
    return re.compile(f"[{_characters(code_points().starts)}{_characters(code_points().marks)}]")


def _characters(ranges: tuple[tuple[int, int], ...]) -> str:
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)
