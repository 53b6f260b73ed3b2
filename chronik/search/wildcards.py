"""Wildcard patterns: `*` is any run of characters, also none, `?` is one; a backslash stands before one that is itself.

They become Python's regular expressions in which nothing is tried twice (atomic groups): time is at most the length of the text
times that of the pattern.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from chronik.search.analysis import fold, is_word_part

_PART = re.compile(r"\\?.", re.DOTALL)


class Parts(NamedTuple):
    """A pattern taken apart: `*`, `?`, and between them literals, which are in `literals` under their index."""

    items: tuple[str, ...]
    literals: frozenset[int]

    def literal_texts(self) -> list[str]:
        """The literals, in order."""
        return [item for index, item in enumerate(self.items) if index in self.literals]


def parts(pattern: str) -> Parts:
    """The pattern's parts, no two literals side by side."""
    items: list[str] = []
    literals: set[int] = set()
    for token in _PART.findall(pattern):
        if token in ("*", "?"):
            items.append(token)
        elif items and len(items) - 1 in literals:
            items[-1] += token[-1]
        else:
            literals.add(len(items))
            items.append(token[-1])
    return Parts(tuple(items), frozenset(literals))


def folded(pattern: Parts) -> Parts:
    """The pattern for texts in lower case."""
    return Parts(
        tuple(fold(item) if index in pattern.literals else item for index, item in enumerate(pattern.items)),
        pattern.literals,
    )


def is_of_one_word(pattern: Parts) -> bool:
    """Whether a single word can fit: nothing in the pattern separates words."""
    return all(is_word_part(char) for text in pattern.literal_texts() for char in text)


def longest_literal(pattern: Parts) -> str:
    """The longest text that all that fits has in it."""
    return max(pattern.literal_texts(), key=len, default="")


def compiled(pattern: Parts) -> re.Pattern[str]:
    """A regular expression for `fullmatch`."""
    out: list[str] = []
    run: list[str] = []  # since the last star
    started = False
    for index, item in enumerate(pattern.items):
        if index in pattern.literals:
            run.append(re.escape(item))
        elif item == "?":
            run.append(".")
        else:
            if started and run:
                out.append(f"(?>.*?{''.join(run)})")
            else:
                out.extend(run)
            run = []
            started = True
    if started:
        out.append(".*")
    out.extend(run)
    return re.compile("".join(out), re.DOTALL)
