"""How well a record fits a query: BM25 over the words of its value, with the statistics of the splits. Pure.

The score is the sum of those of the query's clauses that hold, each times its boosts; what is negated, or a filter, adds
nothing.

- A clause that has words (a term or a phrase on `value`, a path, a key or a header that isn't mapped to something else) weighs
  the sum of `ln(1 + (N - n + 0.5) / (n + 0.5))` over its words, where `n` of `N` records have the word in their value, times
  `tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * length / mean))`. `tf` is how often the words are in the record's value, one after the
  other, at least 1; `length` the words of the value, `mean` that of all values.
- Any other clause that holds counts 1: a beginning of a word, a pattern, a range, one of several terms, an exact value.

So a word weighs the same in every field, for there are no statistics of fields. `N`, `n` and the mean are those of the splits
(`Statistics`), also for records that no split has yet: they are few against the rest. Without any split all words weigh alike.

Source: S. Robertson, H. Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond (2009), as Lucene has it (k1 = 1.2,
b = 0.75), but with exact lengths, in double precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import msgspec

from chronik.search.analysis import words
from chronik.search.document import Document
from chronik.search.fields import resolve
from chronik.search.mapping import Mapping
from chronik.search.match import Matcher, Scope, compile_query, text_of
from chronik.search.query import All, And, Boost, Not, Nothing, Or, Query, Term, walk
from chronik.search.words import places

K1, B = 1.2, 0.75
MAX_WORDS = 1024
"""Of a query, whose frequencies are asked for. Those beyond weigh as words that no record has."""

Score = Callable[[Document], float]
_Part = Callable[["_Seen"], float]

_WORDY = frozenset({"value", "path", "key", "header", "headers"})


class Statistics(msgspec.Struct, frozen=True):
    """Of records that are in splits: how many, the words of all their values, and in how many of them each word is."""

    records: int = 0
    words: int = 0
    frequencies: dict[str, int] = {}


NO_STATISTICS = Statistics()


def together(parts: Iterable[Statistics]) -> Statistics:
    """The statistics of all of them."""
    records = total = 0
    frequencies: dict[str, int] = {}
    for part in parts:
        records, total = records + part.records, total + part.words
        for word, count in part.frequencies.items():
            frequencies[word] = frequencies.get(word, 0) + count
    return Statistics(records, total, frequencies)


def scored_words(query: Query, mapping: Mapping) -> list[str]:
    """The words whose frequencies matter."""
    found: dict[str, None] = {}
    for clause in walk(query):
        if isinstance(clause, Term):
            found.update(dict.fromkeys(_words_of(clause, mapping)))
    return list(found)[:MAX_WORDS]


def compile_score(query: Query, scope: Scope, statistics: Statistics) -> Score:
    """The function that scores a record that matches the query. The query is one that fits the fields."""
    part = _part(query, scope, statistics, True)
    return lambda document: 0.0 if part is None else part(_Seen(document))


def rarity(count: int, total: int) -> float:
    """The weight of a word that `count` of `total` records have."""
    return math.log1p((max(total - count, 0) + 0.5) / (count + 0.5))


class _Seen:
    """A record that is scored, with the words of its value once they were asked for."""

    __slots__ = ("_words", "document")

    def __init__(self, document: Document) -> None:
        self.document = document
        self._words: list[str] | None = None

    @property
    def words(self) -> list[str]:
        """The words of the value."""
        if self._words is None:
            self._words = words(text_of(self.document.value or b""))
        return self._words


def _part(query: Query, scope: Scope, statistics: Statistics, holds: bool) -> _Part | None:
    """What a clause adds, None for nothing. `holds`: it is only asked of records that it fits."""
    match query:
        case Nothing() | Not():
            return None
        case All():
            return lambda _: 1.0
        case Boost():
            return _boosted(_part(query.clause, scope, statistics, holds), query.factor)
        case Or():
            total = _sum([_part(clause, scope, statistics, False) for clause in query.clauses])
            return total if holds or query.minimum <= 1 else _if(query, scope, total)
        case And():
            total = _sum([_part(clause, scope, statistics, True) for clause in query.clauses])
            return total if holds else _if(query, scope, total)
        case Term():
            wanted = _words_of(query, scope.mapping)
            part = _of_words(wanted, statistics) if wanted else _one
            return part if holds else _if(query, scope, part)
        case _:
            return _one if holds else _if(query, scope, _one)


def _one(_: _Seen) -> float:
    return 1.0


def _boosted(part: _Part | None, factor: float) -> _Part | None:
    if part is None or not factor:
        return None
    return lambda seen: factor * part(seen)


def _sum(parts: Sequence[_Part | None]) -> _Part | None:
    some = [part for part in parts if part is not None]
    if len(some) <= 1:
        return some[0] if some else None
    return lambda seen: math.fsum(part(seen) for part in some)


def _if(query: Query, scope: Scope, part: _Part | None) -> _Part | None:
    if part is None:
        return None
    fits: Matcher = compile_query(query, scope)
    return lambda seen: part(seen) if fits(seen.document) else 0.0


def _words_of(query: Term, mapping: Mapping) -> list[str]:
    """The words by which a term is scored; none where it only holds or not."""
    field = resolve(query.field, mapping)
    if query.prefix or field.source not in _WORDY or field.kind not in ("dynamic", "text"):
        return []
    return words(query.text)


def _of_words(wanted: list[str], statistics: Statistics) -> _Part:
    known, total = statistics.frequencies, statistics.records
    weight = (K1 + 1) * math.fsum(rarity(known.get(word, 0), total) for word in wanted)
    mean = statistics.words / total if total and statistics.words else 0.0
    shortest = K1 * (1 - B)
    by_length = K1 * B / mean if mean else 0.0

    def part(seen: _Seen) -> float:
        found = seen.words
        times = found.count(wanted[0]) if len(wanted) == 1 else sum(1 for _ in places(found, wanted))
        times = times or 1
        return weight * times / (times + shortest + by_length * len(found))

    return part
