"""Which of thousands of queries a record can be a hit of, in one pass: hyperscan over the patterns of all of them.

A query is known here by its number and its patterns (`chronik.search.literals`), one of which every hit has. Where these are
alternatives to an escape or an exponent, not all records with a backslash are candidates: the fields of such a record are
written out plainly (`spelled_out`), and looked through once more.

Queries come and go, and to compile the patterns of all takes long (some 40 ms for 1,000). So there are two databases: what is
new is in a small one, compiled when it is next needed; once that has `_RECENT` patterns, all are compiled together. Patterns
that nobody asks for any more stay in their database until then, and are not told of.

For worker processes. A scan takes about a microsecond a record, and as much for each pattern that is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

import hyperscan

from chronik.search.literals import WRITTEN_OTHERWISE
from chronik.search.numbers import integer_digits, text_of_number

_RECENT = 64
_FLAGS = hyperscan.HS_FLAG_CASELESS | hyperscan.HS_FLAG_SINGLEMATCH
_OTHERWISE = rb"\\|[^0-9A-Za-z][0-9]+[eE][-+]?[0-9]"
"""An escape, or a number with an exponent: one that is a field's value has something before it."""


class Sieve:
    """The queries that are looked for now."""

    def __init__(self) -> None:
        self._patterns: dict[int, tuple[bytes, ...]] = {}
        self._numbers: dict[bytes, dict[int, None]] = {}  # by pattern
        self._otherwise: set[int] = set()
        self._all = _Database(())
        self._recent = _Database(())
        self._new: dict[bytes, None] = {}

    def __len__(self) -> int:
        return len(self._patterns)

    def add(self, number: int, patterns: Iterable[bytes]) -> None:
        """Look for another query."""
        self.discard(number)
        given = frozenset(patterns)
        if given & WRITTEN_OTHERWISE:
            self._otherwise.add(number)
            given = given - WRITTEN_OTHERWISE | {_OTHERWISE}
        self._patterns[number] = tuple(given)
        for pattern in given:
            self._numbers.setdefault(pattern, {})[number] = None
            if pattern not in self._all.known and pattern not in self._recent.known:
                self._new[pattern] = None

    def discard(self, number: int) -> None:
        """Look for a query no more."""
        for pattern in self._patterns.pop(number, ()):
            numbers = self._numbers[pattern]
            del numbers[number]
            if not numbers:
                del self._numbers[pattern]
                self._new.pop(pattern, None)
        self._otherwise.discard(number)

    def lets_through(self, data: bytes) -> bool:
        """Whether anything in the bytes of several records can belong to a hit."""
        self._compile()
        return any(
            not self._numbers.keys().isdisjoint(database.found(data))
            for database in (self._all, self._recent)
            if database.known
        )

    def candidates(self, record: bytes, tree: Callable[[], object]) -> set[int]:
        """The queries of which a record can be a hit, by its bytes; `tree` gives the fields of its value."""
        self._compile()
        numbers, otherwise = self._found(record)
        if otherwise:
            numbers |= self._otherwise & self._found(spelled_out(tree()))[0]
        return numbers

    def _found(self, data: bytes) -> tuple[set[int], bool]:
        """The queries with a pattern of their own in the data, and whether something is written otherwise."""
        numbers: set[int] = set()
        otherwise = False
        for database in (self._all, self._recent):
            if not database.known:
                continue
            for pattern in database.found(data):
                if pattern == _OTHERWISE:
                    otherwise = bool(self._otherwise)
                else:
                    numbers.update(self._numbers.get(pattern, ()))
        return numbers, otherwise

    def _compile(self) -> None:
        if not self._new:
            return
        if len(self._recent.known) + len(self._new) > _RECENT:
            self._all, self._recent = _Database(self._numbers), _Database(())
        else:
            wanted = (pattern for pattern in self._recent.known if pattern in self._numbers)
            self._recent = _Database([*wanted, *self._new])
        self._new.clear()


class _Database:
    """Some patterns, compiled."""

    def __init__(self, patterns: Iterable[bytes]) -> None:
        self._list: Sequence[bytes] = list(patterns)
        self.known = frozenset(self._list)
        if self._list:
            count = len(self._list)
            self._database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
            self._database.compile(
                expressions=self._list, ids=list(range(count)), elements=count, flags=[_FLAGS] * count
            )
            self._scratch = hyperscan.Scratch(self._database)

    def found(self, data: bytes) -> list[bytes]:
        """The patterns that fit somewhere, each once."""
        found: list[bytes] = []
        patterns = self._list

        def note(number: int, start: int, end: int, flags: int, context: object) -> None:
            found.append(patterns[number])

        self._database.scan(data, match_event_handler=note, scratch=self._scratch)
        return found


def spelled_out(tree: object) -> bytes:
    """The names and values of the fields, a line each, as texts without escapes and numbers without exponents."""
    texts: list[str] = []
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, str):
            texts.append(node)
        elif isinstance(node, dict):
            texts.extend(node)
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, Decimal):
            texts.append(text_of_number(node))
            texts.append((integer_digits(node) or b"").decode())
    return "\n".join(texts).encode("utf-8", "replace")
