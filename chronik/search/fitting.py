"""Whether a query fits the fields of topics, and what it will cost to look for it in all their records.

To check a query is to compile it, which takes up to 20 ms for one of wildcards only: so it is done in steps, a clause each, and
once for all topics that have equal mappings.

Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from chronik.search.compiled import says_where
from chronik.search.literals import all_literals, cost
from chronik.search.mapping import Mapping
from chronik.search.match import Scope, check_query
from chronik.search.query import Query, QueryError, children, walk

MAX_COMPILED = 8000
"""Clauses that a process compiles for one tail: some 0.1 ms each, at the worst."""


def check_cost(query: Query, mapped: int, partitions: int) -> None:
    """Raises QueryError where the query has too many clauses for so many topics with a mapping, or so many partitions, each of
    which takes a compiled one of its own.
    """
    copies = partitions if says_where(query) else 1 + mapped
    clauses = sum(1 for _ in walk(query))
    if copies * clauses > MAX_COMPILED:
        raise QueryError(
            f"the query has {clauses} clauses, which mean something else in each of {copies} topics or partitions; "
            f"{MAX_COMPILED} together may be looked for"
        )


class Fit(NamedTuple):
    """The query fits the fields of `mapping`. `wide`: no patterns are known that every hit has one of; `cost` is theirs."""

    mapping: Mapping
    wide: bool
    cost: int


class Fitting:
    """A query, and the mappings of which it is known to fit the fields."""

    def __init__(self, query: Query, now_ms: int) -> None:
        self._query = query
        self._now_ms = now_ms
        self._fits: list[Fit] = []

    def known(self, mapping: Mapping) -> Fit | None:
        """The fit, if it has been found."""
        return next((fit for fit in self._fits if fit.mapping is mapping or fit.mapping == mapping), None)

    def find(self, topic: str, mapping: Mapping) -> Iterator[None]:
        """Find it, in steps. Raises QueryError where the query does not fit."""
        scope = Scope(topic, 0, self._now_ms, mapping)
        for clause in walk(self._query):
            if not children(clause):
                check_query(clause, scope)
                yield
        sets = all_literals(self._query, mapping)
        if self.known(mapping) is None:  # somebody else may have found it meanwhile
            self._fits.append(Fit(mapping, not sets, sum(cost(pattern) for each in sets for pattern in each)))

    def found(self, topic: str, mapping: Mapping) -> Fit:
        """The fit, found at once if it isn't known. Raises QueryError."""
        fit = self.known(mapping)
        if fit is None:
            deque(self.find(topic, mapping), maxlen=0)
            fit = self.known(mapping)
        assert fit is not None
        return fit

    @property
    def cost(self) -> int:
        """That of the patterns by which the query is looked for, over all these mappings."""
        return sum(fit.cost for fit in self._fits)

    @property
    def wide(self) -> bool:
        """Whether it is wide over any."""
        return any(fit.wide for fit in self._fits)
