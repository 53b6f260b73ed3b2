"""Records for random worlds: the words, names, numbers and dates of `tests.search.records`, made by a seeded chance."""

from __future__ import annotations

from random import Random
from typing import Any

from benchmarks import corpus
from tests.search.records import DATES, DAY, NAMES, NOW, NUMBERS, SEPARATORS, TIMES, WORDS, Verbatim, dumped
from tests.search.truth.worlds import Written

_CORPUS = [message for number in (0, 4) for message in corpus.block(number)]
_SHORT_WORDS = [word for word in WORDS if len(word) < 100]
_HEADERS = [("h", b"One error"), ("h.i", b"17"), ("h", None), ("error", b"\xffx"), ("h", b"2026-01-01"), ("h", b"true")]


def written(chance: Random) -> Written:
    """Any record."""
    time = NOW - chance.randrange(3 * DAY) if chance.random() < 0.95 else chance.choice(TIMES)
    if chance.random() < 0.15:
        message = chance.choice(_CORPUS)
        return time, message.key, message.value, ()
    key = chance.choice([None, b"order-%d" % chance.randrange(99), text(chance).encode(), b"\xff", b""])
    headers = chance.choices(_HEADERS, k=chance.choice([0, 0, 0, 1, 3]))
    return time, key, value(chance), headers


def value(chance: Random) -> bytes | None:
    """Any value: JSON, logfmt, text, none, or one of them damaged."""
    kind = chance.random()
    if kind < 0.03:
        return None
    if kind < 0.45:
        found = dumped(
            {chance.choice(NAMES): tree(chance, 3) for _ in range(chance.randrange(1, 5))}, chance.random() < 0.5
        )
    elif kind < 0.65:
        found = " ".join(_pair(chance) for _ in range(chance.randrange(1, 6)))
    else:
        found = text(chance)
    found += " " * chance.randrange(2)
    data = found.encode()
    if data and chance.random() < 0.06:
        at = chance.randrange(len(data))
        data = data[:at] + chance.choice([b"", b"\xff", b"\xc3", b'"', b"{", b"\x00"]) + data[at + 1 :]
    return data


def tree(chance: Random, depth: int) -> Any:
    """Something that JSON can say."""
    kind = chance.random()
    if depth and kind < 0.15:
        return {chance.choice(NAMES): tree(chance, depth - 1) for _ in range(chance.randrange(4))}
    if depth and kind < 0.25:
        return [tree(chance, depth - 1) for _ in range(chance.randrange(4))]
    if kind < 0.5:
        return Verbatim(chance.choice([*NUMBERS, str(chance.randrange(10_000))]))
    if kind < 0.56:
        return chance.choice([True, False, None])
    return text(chance) if kind < 0.9 else chance.choice([*DATES, *NUMBERS, "true", "1767268800000"])


def text(chance: Random) -> str:
    """Words, with something between them; one of them is rare."""
    words = chance.choices(WORDS if chance.random() < 0.1 else _SHORT_WORDS, k=chance.randrange(8))
    words.insert(0, f"w{chance.randrange(3000)}")
    chance.shuffle(words)
    return "".join(word + (" " if chance.random() < 0.7 else chance.choice(SEPARATORS)) for word in words)


def _pair(chance: Random) -> str:
    name = chance.choice([*NAMES[:8], "user.id", "a.b.c"])
    content = text(chance)
    return f"{name}={chance.choice(NUMBERS)}" if chance.random() < 0.4 else f'{name}="{content}"'
