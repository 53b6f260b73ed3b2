"""Which of thousands of queries a record can be a hit of, in one pass: hyperscan over the patterns of all of them.

A query is known here by its number and its sets of patterns (`chronik.search.literals`), of each of which every hit has one.
One set of each query is its anchor, the one whose patterns the fewest queries have: a record is looked at for the queries
whose anchors it has, and then for what else they want. Where patterns are alternatives to an escape or an exponent, not all
records with a backslash are candidates: the fields of such a record are written out plainly (`spelled_out`), and looked
through once more.

Queries come and go, and to compile patterns takes long: some 30 ms for 1,000 plain ones, and ten times that if each has a
character of which there are several forms; 12 s for 60,000. So there are several databases, each smaller than the one
before. What is new gets one of its own when it is next needed, together with those that are no larger by far. None takes more
than half a second to compile. Patterns that nobody asks for any more stay in their database, and are not told of, until it is
compiled with others or half of them are such.

For worker processes. A scan takes about a microsecond a record, and half of one for each pattern that is found.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import accumulate
from typing import NamedTuple

import hyperscan

from chronik.search.document import Document
from chronik.search.literals import WRITTEN_OTHERWISE, cost
from chronik.search.numbers import integer_digits, text_of_number
from chronik.search.patterns import END

_SMALL, _MOST = 100, 12_000
"""The cost (`chronik.search.literals`) of a database that is always compiled anew with what comes, and of any."""
_FACTOR = 2
"""A database that costs more than so many times what comes is not compiled anew: so 1,000 plain patterns that come one by one
take 1.2 s altogether.
"""
_FLAGS = hyperscan.HS_FLAG_CASELESS | hyperscan.HS_FLAG_SINGLEMATCH
_OTHERWISE = rb"\\|[^0-9A-Za-z][0-9]+[eE][-+]?[0-9]"
"""An escape, or a number with an exponent: one that is a field's value has something before it."""


class _Wanted(NamedTuple):
    """What a query wants: the patterns of its anchor, and its other sets."""

    anchor: frozenset[bytes]
    others: tuple[frozenset[bytes], ...]
    otherwise: bool


class Sieve:
    """The queries that are looked for now."""

    def __init__(self) -> None:
        self._wanted: dict[int, _Wanted] = {}
        self._anchored: dict[bytes, dict[int, None]] = {}  # queries by the patterns of their anchors
        self._users: dict[bytes, int] = {}  # how many queries have a pattern in any of their sets
        self._otherwise = 0  # how many queries look into what is written otherwise
        self._databases: list[_Database] = []  # the largest first
        self._new: dict[bytes, None] = {}

    def __len__(self) -> int:
        return len(self._wanted)

    def add(self, number: int, sets: Sequence[Iterable[bytes]]) -> None:
        """Look for another query, which has one set at least."""
        self.discard(number)
        given = [frozenset(each) for each in sets]
        plain = [each - WRITTEN_OTHERWISE for each in given]
        anchor = min(plain, key=lambda each: sum(self._users.get(pattern, 0) for pattern in each))
        others = tuple(each for each in plain if each is not anchor)
        wanted = self._wanted[number] = _Wanted(anchor, others, any(each & WRITTEN_OTHERWISE for each in given))
        self._otherwise += wanted.otherwise
        for pattern in anchor:
            self._anchored.setdefault(pattern, {})[number] = None
        for each in plain:
            for pattern in each:
                self._use(pattern)
        if wanted.otherwise:
            self._use(_OTHERWISE)

    def discard(self, number: int) -> None:
        """Look for a query no more."""
        wanted = self._wanted.pop(number, None)
        if wanted is None:
            return
        self._otherwise -= wanted.otherwise
        for pattern in wanted.anchor:
            numbers = self._anchored[pattern]
            del numbers[number]
            if not numbers:
                del self._anchored[pattern]
        for each in (wanted.anchor, *wanted.others, (_OTHERWISE,) if wanted.otherwise else ()):
            for pattern in each:
                self._users[pattern] -= 1
                if not self._users[pattern]:
                    del self._users[pattern]
                    self._new.pop(pattern, None)

    def lets_through(self, data: bytes) -> bool:
        """Whether anything in the bytes of several records can belong to a hit."""
        found = self.found(data)
        return not self._anchored.keys().isdisjoint(found) or (bool(self._otherwise) and _OTHERWISE in found)

    def candidates(self, found: set[bytes], document: Document) -> list[int]:
        """The queries of which a record can be a hit that has these patterns in its bytes."""
        if _OTHERWISE in found and self._otherwise:
            found = found | self.found(spelled_out(document.tree))
        numbers: dict[int, None] = {}
        for pattern in found:
            numbers.update(self._anchored.get(pattern, ()))
        return [number for number in numbers if not any(each.isdisjoint(found) for each in self._wanted[number].others)]

    def _use(self, pattern: bytes) -> None:
        self._users[pattern] = self._users.get(pattern, 0) + 1
        if not any(pattern in database.known for database in self._databases):
            self._new[pattern] = None

    def found(self, data: bytes) -> set[bytes]:
        """The patterns that fit somewhere in the data."""
        while self._new:
            self.compile_some()
        found: set[bytes] = set()
        for database in self._databases:
            database.find(data, found)
        return found

    @property
    def is_compiled(self) -> bool:
        """Whether nothing is new: otherwise `compile_some`, else the next look has to do all of that."""
        return not self._new

    def compile_some(self) -> None:
        """Make a database of what is new, and of what is best compiled with it, as far as that goes into one."""
        wanted = list(self._new)
        spent = sum(map(cost, wanted))
        kept = []
        for database in self._databases:
            used = [pattern for pattern in database.known if pattern in self._users]
            if 2 * len(used) < len(database.known):
                wanted += used
                spent += sum(map(cost, used))
            else:
                kept.append((database, used))
        while kept:
            database, used = kept[-1]
            price = sum(map(cost, used))
            if price > max(_SMALL, _FACTOR * spent) or price + spent > _MOST:
                break
            wanted += used
            spent += price
            kept.pop()
        count = bisect_right(list(accumulate(map(cost, wanted))), _MOST)
        self._new = dict.fromkeys(wanted[count:])
        self._databases = [database for database, _ in kept] + [_Database(wanted[:count])]
        self._databases.sort(key=lambda database: database.cost, reverse=True)


class _Database:
    """Some patterns, compiled."""

    def __init__(self, patterns: Sequence[bytes]) -> None:
        self._list = patterns
        self.known = frozenset(patterns)
        self.cost = sum(map(cost, patterns))
        count = len(patterns)
        self._database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        self._database.compile(expressions=patterns, ids=list(range(count)), elements=count, flags=[_FLAGS] * count)
        self._scratch = hyperscan.Scratch(self._database)

    def find(self, data: bytes, found: set[bytes]) -> None:
        """Add the patterns that fit somewhere."""
        patterns, add = self._list, found.add

        def note(number: int, start: int, end: int, flags: int, context: object) -> None:
            add(patterns[number])

        self._database.scan(data + END, match_event_handler=note, scratch=self._scratch)


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
