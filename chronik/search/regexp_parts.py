r"""What a regular expression forces into every text that it fits: literal pieces, found without running it.

`pieces(r"error[ -]\d+ (at|in) db$")` says: the text has `error`, and ` `, and `at` or `in`, and ` db` at its end. This is for
pruning, so it has to be sure, not complete: an expression with anything in it that is not understood here says nothing (None).
RE2 alone decides what fits and what is an error.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_MAX_DEPTH = 50
_REPEAT = re.compile(r"\{(\d+)(?:,\d*)?\}")
_GROUP = re.compile(r"\?(?:P?<\w+>|(?P<flags>[imsU]*)(?:-(?P<off>[imsU]+))?(?P<end>[:)]))")
_HEX = re.compile(r"x(?:([0-9a-fA-F]{2})|\{([0-9a-fA-F]{1,6})\})")
_PROPERTY = re.compile(r"[pP](?:[A-Z]|\{\^?\w+\})")
_CONTROL = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}


class Piece(NamedTuple):
    """A literal; whether it stands at the beginning or the end of the text or of a line; whether in any case."""

    text: str
    at_start: bool
    at_end: bool
    folded: bool


class Every(NamedTuple):
    """All of these are in the text."""

    parts: tuple[Piece | Every | Either, ...]


class Either(NamedTuple):
    """One of these is in the text, at least."""

    parts: tuple[Every, ...]


class _Unknown(Exception):
    """Something is not understood."""


class _Char(NamedTuple):
    text: str
    folded: bool


class _Mark(NamedTuple):
    """`start`, `end`, or `gap`: any characters, or none."""

    kind: str


_START, _END, _GAP = _Mark("start"), _Mark("end"), _Mark("gap")
_Item = _Char | _Mark | Either


def pieces(pattern: str) -> Every | None:
    """What every text that fits has in it; None where nothing is known."""
    try:
        parser = _Parser(pattern)
        items = parser.alternation(0, False)
    except _Unknown:
        return None
    if parser.position < len(pattern):
        return None
    every = _every(items)
    return every if every.parts else None


def _every(items: list[_Item]) -> Every:
    parts: list[Piece | Every | Either] = []
    run: list[str] = []
    at_start = folded = False
    for item in [*items, _GAP]:
        if isinstance(item, _Char) and (not run or item.folded == folded):
            run.append(item.text)
            folded = item.folded
            continue
        if run:
            parts.append(Piece("".join(run), at_start, item is _END, folded))
            run = []
        at_start = item is _START
        if isinstance(item, _Char):
            run, folded = [item.text], item.folded
        elif isinstance(item, Either):
            parts.append(item)
    return Every(tuple(parts))


class _Parser:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.position = 0

    def alternation(self, depth: int, folded: bool) -> list[_Item]:
        if depth > _MAX_DEPTH:
            raise _Unknown
        branches: list[list[_Item]] = []
        while True:
            items, folded = self._sequence(depth, folded)
            branches.append(items)
            if not self._take("|"):
                break
        if len(branches) == 1:
            return branches[0]
        either = [_every(items) for items in branches]
        # an empty branch forces nothing
        return [_GAP, Either(tuple(either)), _GAP] if all(every.parts for every in either) else [_GAP]

    def _sequence(self, depth: int, folded: bool) -> tuple[list[_Item], bool]:
        items: list[_Item] = []
        while self.position < len(self.pattern) and self.pattern[self.position] not in "|)":
            if self.pattern[self.position] == "(":
                atom, folded = self._group(depth, folded)
            else:
                atom = self._atom(folded)
            items.extend(self._repeated(atom))
        return items, folded

    def _group(self, depth: int, folded: bool) -> tuple[list[_Item], bool]:
        self.position += 1
        inner = folded
        if self.pattern.startswith("?", self.position):
            match = _GROUP.match(self.pattern, self.position)
            if match is None:
                raise _Unknown
            self.position = match.end()
            if "i" in (match["flags"] or ""):
                inner = True
            if "i" in (match["off"] or ""):
                inner = False
            if match["end"] == ")":
                return [], inner
        items = self.alternation(depth + 1, inner)
        if not self._take(")"):
            raise _Unknown
        return items, folded

    def _atom(self, folded: bool) -> list[_Item]:
        char = self.pattern[self.position]
        self.position += 1
        if char == "\\":
            return self._escape(folded)
        if char == "[":
            return self._class()
        if char in "*+?":
            raise _Unknown
        simple: dict[str, _Item] = {".": _GAP, "^": _START, "$": _END}
        return [simple.get(char) or _Char(char, folded)]

    def _escape(self, folded: bool) -> list[_Item]:
        pattern, position = self.pattern, self.position
        if position >= len(pattern):
            raise _Unknown
        char = pattern[position]
        self.position += 1
        if char in "bB":
            return []
        if char in "dDwWsSC":
            return [_GAP]
        if char in "Az":
            return [_START if char == "A" else _END]
        if match := _PROPERTY.match(pattern, position):
            self.position = match.end()
            return [_GAP]
        if match := _HEX.match(pattern, position):
            self.position = match.end()
            code = int(match[1] or match[2], 16)
            if code > 0x10FFFF or 0xD800 <= code < 0xE000:
                raise _Unknown
            return [_Char(chr(code), folded)]
        if char in _CONTROL:
            return [_Char(_CONTROL[char], folded)]
        if char.isalnum() or not char.isascii():
            raise _Unknown
        return [_Char(char, folded)]

    def _class(self) -> list[_Item]:
        pattern = self.pattern
        self.position += pattern.startswith("^", self.position)
        first = True
        while self.position < len(pattern):
            char = pattern[self.position]
            if char == "]" and not first:
                self.position += 1
                return [_GAP]
            first = False
            if char == "\\":
                self.position += 2
            elif pattern.startswith("[:", self.position):
                end = pattern.find(":]", self.position)
                if end < 0:
                    raise _Unknown
                self.position = end + 2
            else:
                self.position += 1
        raise _Unknown

    def _repeated(self, atom: list[_Item]) -> list[_Item]:
        """The atom with the repetition that follows it."""
        if self.position >= len(self.pattern):
            return atom
        char = self.pattern[self.position]
        if char in "*+?":
            self.position += 1
            optional = char != "+"
        elif match := _REPEAT.match(self.pattern, self.position):
            self.position = match.end()
            optional = int(match[1]) == 0
        else:
            return atom
        self._take("?")
        return [_GAP] if optional else [*atom, _GAP]

    def _take(self, char: str) -> bool:
        found = self.pattern.startswith(char, self.position)
        self.position += found
        return found
