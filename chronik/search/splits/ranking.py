"""Which records of a split score best, without a look at the others: tantivy tells them in its order, and a bound for the rest.

The score that counts is ours (`chronik.search.scoring`), of the record itself. A split can be asked for it where it is a sum of
parts that the split knows: words of the value, and clauses that hold or not. tantivy's score of such a sum has the same form,
with two differences, of which one is taken out and the other bounded:

- how rare a word is, is that of the split: each part is boosted by the quotient of the two weights;
- the mean length of values is that of the split, and a value's length is rounded down. So our score of a record is at most
  tantivy's times `max(1, our mean / its mean)`.

So when the best few of a split are known, no other record of it can have more than the next one has, times that. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from chronik.search.match import Scope
from chronik.search.query import And, Boost, Not, Nothing, Or, Query, Term
from chronik.search.scoring import Statistics, rarity
from chronik.search.splits.manifest import Manifest
from chronik.search.splits.proposals import NOTHING, Tree, Words, proposal

_ROUNDING = 1.001
"""tantivy computes in single precision."""
_AS_GOOD = 0.98
_TIMES = 4


class Weighed(NamedTuple):
    """What a part of a query adds where it holds: `factor`, times BM25 of `words` where it has some."""

    tree: Tree
    words: tuple[str, ...]
    factor: float


class Ranking(NamedTuple):
    """A query's score as a sum, by these statistics; the best `size` are wanted."""

    parts: tuple[Weighed, ...]
    statistics: Statistics
    size: int


def ranking(query: Query, scope: Scope, statistics: Statistics, size: int) -> Ranking | None:
    """The score of the query's hits as a sum; None where it isn't one, or where there is nothing to go by."""
    if not size or not statistics.records or not statistics.words:
        return None
    parts = _parts(query, scope, 1.0, True)
    return None if not parts else Ranking(tuple(parts), statistics, size)


def boosts(ranked: Ranking, records: int, frequencies: Sequence[Sequence[int]]) -> list[float]:
    """By what each part is boosted in a split of so many records, in which its words have these frequencies."""
    known, total = ranked.statistics.frequencies, ranked.statistics.records
    found = []
    for part, counts in zip(ranked.parts, frequencies, strict=True):
        if part.words:
            ours = sum(rarity(known.get(word, 0), total) for word in part.words)
            found.append(part.factor * ours / sum(rarity(count, records) for count in counts))
        else:
            found.append(part.factor)
    return found


def enough(scores: Sequence[float], size: int) -> int:
    """How many records to take of some whose scores fall: some more than are wanted, and all that may be as good as the last of
    those that are.
    """
    if len(scores) <= size:
        return len(scores)
    as_good = scores[size - 1] * _AS_GOOD
    taken = min(_TIMES * size, len(scores))
    while taken < len(scores) and scores[taken] >= as_good:
        taken += 1
    return taken


def bound(ranked: Ranking, manifest: Manifest, last: float) -> float:
    """What no record scores more than that tantivy gives `last` at most."""
    ours = ranked.statistics.words / ranked.statistics.records
    its = manifest.words / manifest.records
    return last * max(1.0, ours / its) * _ROUNDING


def _parts(query: Query, scope: Scope, factor: float, holds: bool) -> list[Weighed] | None:
    """The parts of a clause; None where it isn't a sum of such. `holds`: all records that are asked of fit it.

    How often a phrase is there that has a word twice, is counted in more ways than one: it is no part.
    """
    if factor < 0:
        return None
    match query:
        case Nothing() | Not():
            return []
        case Boost():
            return _parts(query.clause, scope, factor * query.factor, holds) if query.factor else []
        case And() | Or():
            every = isinstance(query, And)
            found: list[Weighed] = []
            for clause in query.clauses:
                inner = _parts(clause, scope, factor, holds and every)
                if inner is None:
                    return None
                found += inner
            certain = holds or (isinstance(query, Or) and query.minimum <= 1)
            return found if certain or not found else None
        case _:
            asked = proposal(query, scope)
            if not asked.exact or asked.tree is None:
                return None
            if asked.tree == NOTHING:
                return []
            if not isinstance(query, Term) or not isinstance(asked.tree, Words):
                return [Weighed(asked.tree, (), factor)]
            words = asked.tree.words
            return [Weighed(asked.tree, words, factor)] if len(set(words)) == len(words) else None
