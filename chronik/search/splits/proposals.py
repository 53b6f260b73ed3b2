"""What of a query a split can answer: a tree of questions about its words and columns, and whether that is all of the query.

The tree is as wide as it has to be: every hit fits it. Where the proposal is `exact`, nothing else does either, by the very
definitions that `chronik.search.match` goes by:

- `value` is a text, and a clause on it that has words and no slop asks for these words, side by side: the tokens of the value;
- `timestamp` and `offset` are compared as integers with the bounds of the clause; a record without a time has none here either;
- `topic` and `partition` are the same for all records of a split, and decided by the matcher itself;
- `AND`, `OR`, `NOT` and boosts of exact clauses are exact.

Of any other clause that is proposed which must have the tokens that `chronik.search.required` says. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from chronik.search.analysis import words
from chronik.search.bounds import bounds
from chronik.search.document import Document
from chronik.search.fields import resolve
from chronik.search.match import Scope, compile_query
from chronik.search.query import All, And, AnyTerm, Boost, Not, Nothing, Or, Query, Range, Term
from chronik.search.required import AllOf, AnyOf, Requirement, requirement
from chronik.search.splits.texts import word_of

MAX_CHOICES = 256
"""Of one clause. What has more is not asked."""
MAX_WORDS = 64
"""Of a phrase, for the same reason."""


class Words(msgspec.Struct, frozen=True):
    """The value has these words, side by side."""

    words: tuple[str, ...]


class Anywhere(msgspec.Struct, frozen=True):
    """The record has the word: in its value, its key, its headers, or behind an escape."""

    word: str


class Times(msgspec.Struct, frozen=True):
    """The timestamp is from the first to the last, in ms, both included. Records without one don't fit."""

    first: int
    last: int


class Offsets(msgspec.Struct, frozen=True):
    """The offset is from the first to the last, both included."""

    first: int
    last: int


class Every(msgspec.Struct, frozen=True):
    """All of these fit; of none, every record does."""

    parts: tuple[Tree, ...]


class Some(msgspec.Struct, frozen=True):
    """One of these fits, at least; of none, no record does."""

    parts: tuple[Tree, ...]


class Without(msgspec.Struct, frozen=True):
    """What this doesn't fit."""

    part: Tree


Tree = Words | Anywhere | Times | Offsets | Every | Some | Without

EVERYTHING, NOTHING = Every(()), Some(())


class Proposal(NamedTuple):
    """`tree` is None where a split can say nothing of the query."""

    tree: Tree | None
    exact: bool


_UNKNOWN = Proposal(None, False)


def proposal(query: Query, scope: Scope) -> Proposal:
    """What a split of the scope's partition is asked. The query is one that fits the fields."""
    match query:
        case All():
            return Proposal(EVERYTHING, True)
        case Nothing():
            return Proposal(NOTHING, True)
        case And():
            return _every([proposal(clause, scope) for clause in query.clauses])
        case Or():
            return _some([proposal(clause, scope) for clause in query.clauses], query.minimum)
        case Not():
            inner = proposal(query.clause, scope)
            return Proposal(Without(inner.tree), True) if inner.exact and inner.tree is not None else _UNKNOWN
        case Boost():
            return proposal(query.clause, scope)
        case Term() | AnyTerm() | Range():
            return _of_clause(query, scope) or _by_tokens(query, scope)
        case _:
            return _by_tokens(query, scope)


def _every(parts: list[Proposal]) -> Proposal:
    known = tuple(part.tree for part in parts if part.tree is not None)
    if not known:
        return _UNKNOWN
    return Proposal(Every(known), len(known) == len(parts) and all(part.exact for part in parts))


def _some(parts: list[Proposal], minimum: int) -> Proposal:
    if minimum <= 0:
        return Proposal(EVERYTHING, True)
    known = tuple(part.tree for part in parts if part.tree is not None)
    if len(known) < len(parts) or len(parts) > MAX_CHOICES:
        return _UNKNOWN
    return Proposal(Some(known), minimum == 1 and all(part.exact for part in parts))


def _of_clause(query: Term | AnyTerm | Range, scope: Scope) -> Proposal | None:
    """What is said exactly; None where that can't be."""
    source = resolve(query.field, scope.mapping).source
    match source:
        case "topic" | "partition":
            fits = compile_query(query, scope)(Document(0, 0, None, None))
            return Proposal(EVERYTHING if fits else NOTHING, True)
        case "timestamp" | "offset":
            found = []
            for each in _one_by_one(query):
                within = bounds(each, scope.now_ms)
                interval = within.timestamps if source == "timestamp" else within.offsets
                if interval.first <= interval.last:
                    found.append((Times if source == "timestamp" else Offsets)(interval.first, interval.last))
            return Proposal(Some(tuple(found)), True) if len(found) <= MAX_CHOICES else None
        case "value":
            return _of_value(query) if resolve(query.field, scope.mapping).kind == "text" else None
        case _:
            return None


def _of_value(query: Term | AnyTerm | Range) -> Proposal | None:
    if isinstance(query, Range) or (isinstance(query, Term) and (query.slop or query.prefix)):
        return None
    found = [tuple(words(each.text)) for each in _one_by_one(query) if isinstance(each, Term)]
    found = list(dict.fromkeys(each for each in found if each))
    if len(found) > MAX_CHOICES or any(len(each) > MAX_WORDS for each in found):
        return None
    return Proposal(Words(found[0]) if len(found) == 1 else Some(tuple(map(Words, found))), True)


def _one_by_one(query: Term | AnyTerm | Range) -> Iterator[Term | Range]:
    if isinstance(query, AnyTerm):
        yield from (Term(query.field, text) for text in query.texts)
    else:
        yield query


def _by_tokens(query: Query, scope: Scope) -> Proposal:
    need = requirement(query, scope.mapping)
    return _UNKNOWN if need is None else Proposal(_of_need(need), False)


def _of_need(need: Requirement) -> Tree:
    match need:
        case AllOf():
            return Every(tuple(map(_of_need, need.parts)))
        case AnyOf():
            return Some(tuple(map(_of_need, need.parts)))
        case _:
            return Anywhere(word_of(need))


def simplified(tree: Tree) -> Tree:
    """The same question, in which nothing is asked that has an answer already: `EVERYTHING`, `NOTHING`, or without both."""
    match tree:
        case Every() | Some():
            every = isinstance(tree, Every)
            settles, adds_nothing = (NOTHING, EVERYTHING) if every else (EVERYTHING, NOTHING)
            parts = tuple(part for part in map(simplified, tree.parts) if part != adds_nothing)
            if settles in parts:
                return settles
            if len(parts) == 1:
                return parts[0]
            return Every(parts) if every else Some(parts)
        case Without():
            part = simplified(tree.part)
            if part in (EVERYTHING, NOTHING):
                return NOTHING if part == EVERYTHING else EVERYTHING
            return Without(part)
        case Times():
            return tree if tree.first <= tree.last else NOTHING
        case Offsets():
            return tree if max(tree.first, 0) <= tree.last else NOTHING
    return tree


def fits(tree: Tree, value: list[str], other: frozenset[str], timestamp: int, offset: int) -> bool:
    """Whether a record fits: what tantivy says of it, said plainly. For tests."""
    match tree:
        case Words():
            size = len(tree.words)
            return any(tuple(value[at : at + size]) == tree.words for at in range(len(value) - size + 1))
        case Anywhere():
            return tree.word in value or tree.word in other
        case Times():
            return timestamp != -1 and tree.first <= timestamp <= tree.last
        case Offsets():
            return tree.first <= offset <= tree.last
        case Without():
            return not fits(tree.part, value, other, timestamp, offset)
    ask: Callable[[Tree], bool] = lambda part: fits(part, value, other, timestamp, offset)  # noqa: E731
    return all(map(ask, tree.parts)) if isinstance(tree, Every) else any(map(ask, tree.parts))
