"""Words in texts: whether those of a query are there, in their order; and words that fit a pattern.

A sequence of words is there if the text has them, one right after the other. With a slop, they may stand apart and in another
order: each word of the query takes a place of its own in the text, and the ways from the places they would have, one after the
other, to those that they take differ by at most `slop` (Lucene's measure: a word between two costs 1, two that are swapped
cost 2).

`Finder` looks in two forms of a text: its bytes folded as `Document.folded` has them, and a str. Where a text is ASCII one
regular expression over it decides, else its tokens.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from chronik.search.analysis import MAX_TOKEN_BYTES, fold, words

_MAX_PATTERN_WORDS = 32
"""Longer expressions take milliseconds to compile."""


class Finder(NamedTuple):
    """The same condition on a text's two forms; the str need not be folded."""

    in_folded: Callable[[bytes], bool]
    in_text: Callable[[str], bool]


def _never(_: object) -> bool:
    return False


NEVER = Finder(_never, _never)


def sequence(wanted: Sequence[str], slop: int = 0, prefix: bool = False) -> Finder:
    """Whether the words are there; of the last one only the beginning, where `prefix`."""
    if not wanted:
        return NEVER
    if slop and len(wanted) > 1:
        return _finder(wanted, None, lambda found: any(True for _ in near_places(found, wanted, slop, prefix)))
    short = len(wanted) <= _MAX_PATTERN_WORDS and all(word.isascii() for word in wanted)
    pattern = _ascii_pattern(wanted, prefix) if short else None
    if len(wanted) == 1 and not prefix:
        only = wanted[0]
        return _finder(wanted, pattern, lambda found: only in found)
    return _finder(wanted, pattern, lambda found: next(places(found, wanted, prefix), None) is not None)


def any_sequence(wanted: Iterable[Sequence[str]]) -> Finder:
    """Whether one of the sequences is there: thousands cost as much as one."""
    single: set[str] = set()
    longer: set[tuple[str, ...]] = set()
    lengths: dict[str, set[int]] = {}  # of the sequences that begin with a word
    for words_of_one in wanted:
        if len(words_of_one) == 1:
            single.add(words_of_one[0])
        elif words_of_one:
            longer.add(tuple(words_of_one))
            lengths.setdefault(words_of_one[0], set()).add(len(words_of_one))

    def in_text(text: str) -> bool:
        found = words(text)
        if not single.isdisjoint(found):
            return True
        return bool(longer) and any(
            tuple(found[index : index + length]) in longer
            for index, word in enumerate(found)
            for length in lengths.get(word, ())
        )

    return Finder(lambda folded: in_text(folded.decode()), in_text)


def fitting_word(pattern: re.Pattern[str], literal: str) -> Finder:
    """Whether a word fits the pattern as a whole; `literal` is a part of all that do."""
    fits = pattern.fullmatch
    return _finder([literal], None, lambda found: any(fits(word) for word in found))


def _finder(wanted: Sequence[str], pattern: str | None, in_words: Callable[[list[str]], bool]) -> Finder:
    needle = max(wanted, key=len)
    needle_bytes = needle.encode()
    search_bytes: Callable[[bytes], object] | None = None  # compiled when they are first asked
    search_text: Callable[[str], object] | None = None

    def in_folded(folded: bytes) -> bool:
        nonlocal search_bytes
        if needle_bytes not in folded:
            return False
        if pattern is None or not folded.isascii():
            return in_words(words(folded.decode()))
        if search_bytes is None:
            search_bytes = re.compile(pattern.encode()).search
        return search_bytes(folded) is not None

    def in_text(text: str) -> bool:
        nonlocal search_text
        text = fold(text)
        if needle not in text:
            return False
        if pattern is None or not text.isascii():
            return in_words(words(text))
        if search_text is None:
            search_text = re.compile(pattern).search
        return search_text(text) is not None

    return Finder(in_folded, in_text)


def _ascii_pattern(wanted: Sequence[str], prefix: bool) -> str:
    """The sequence as a regular expression over an ASCII text in lower case. It begins with a literal, which is found fast."""
    first = wanted[0]
    parts = [f"{first}(?<![0-9a-z]{first})"]
    for index, word in enumerate(wanted):
        if index:
            parts.append(f"[^0-9a-z]++{word}")
        last = index == len(wanted) - 1
        if len(word) == MAX_TOKEN_BYTES and not (last and prefix):
            parts.append("[0-9a-z]*+")  # the rest of a run that is cut
        elif last and not prefix:
            parts.append("(?![0-9a-z])")
    return "".join(parts)


def places(found: list[str], wanted: Sequence[str], prefix: bool = False) -> Iterator[int]:
    """The indexes of words from which on the sequence is there."""
    head, size = wanted[0], len(wanted)
    if size == 1 and prefix:
        yield from (index for index, word in enumerate(found) if word.startswith(head))
        return
    exact = list(wanted[:-1] if prefix else wanted)
    index = -1
    while True:
        try:
            index = found.index(head, index + 1)
        except ValueError:
            return
        if found[index : index + len(exact)] == exact and (
            not prefix or (index + size <= len(found) and found[index + size - 1].startswith(wanted[-1]))
        ):
            yield index


def near_places(found: list[str], wanted: Sequence[str], slop: int, prefix: bool = False) -> Iterator[list[int]]:
    """All ways in which the words are there with a slop: the places in the text that they take, each for one of `wanted`."""
    by_word: dict[str, list[int]] = {word: [] for word in wanted}
    beginning = wanted[-1]
    beginnings: list[int] = []
    for index, word in enumerate(found):
        if word in by_word:
            by_word[word].append(index)
        if prefix and word.startswith(beginning):
            beginnings.append(index)
    choices = [by_word[word] for word in wanted]
    if prefix:
        choices[-1] = beginnings
    if not all(choices):
        return
    for low in sorted({place - index for index, choice in enumerate(choices) for place in choice}):
        taken = _assigned(choices, low, slop, prefix)
        if taken is not None:
            yield taken


def _assigned(choices: list[list[int]], low: int, slop: int, prefix: bool) -> list[int] | None:
    """A place for each word, none taken twice, that of word `i` within `low + i` and `low + i + slop`.

    Equal words have windows of one length, so the earliest free place for each in turn is never worse; the beginning of a
    word, which is the last and fits the places of others, takes the latest.
    """
    used: list[int] = []
    for index, choice in enumerate(choices):
        first = bisect_left(choice, low + index)
        last = bisect_left(choice, low + index + slop + 1)
        window = choice[first:last] if not (prefix and index == len(choices) - 1) else choice[first:last][::-1]
        place = next((place for place in window if place not in used), None)
        if place is None:
            return None
        used.append(place)
    return used
