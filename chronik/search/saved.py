"""What a saved search's texts mean: its query and its mapping, checked when it is saved, compiled where it is carried out.

A saved search is read again and again, by many, who must all find the same records at the same offsets. So a query that depends
on the time at which it is asked is refused: what `now-1h` finds would change between two reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from chronik.search.bounds import Bounds, bounds
from chronik.search.dates import is_date
from chronik.search.fields import resolve
from chronik.search.literals import literals
from chronik.search.mapping import NO_MAPPING, Mapping, parse_mapping
from chronik.search.match import Matcher, Scope, check_query, compile_query
from chronik.search.query import AnyTerm, Query, QueryError, Range, Term, walk
from chronik.search.query_string import parse
from chronik.search.required import Requirement, requirement

_NEVER_ASKED = 0
"""The time of a query that doesn't depend on it."""


class CompiledSearch(NamedTuple):
    """A saved search for one partition: its matcher, where hits can be, what their tokens must hold, and byte patterns."""

    matcher: Matcher
    within: Bounds
    need: Requirement | None
    patterns: tuple[bytes, ...] | None


def check_saved(query: str, mapping: str) -> None:
    """Raises QueryError for a search that cannot be saved."""
    parsed, fields = parse(query), mapping_of(mapping)
    check_query(parsed, Scope("", 0, _NEVER_ASKED, fields))
    moving = _moving(parsed, fields)
    if moving is not None:
        raise QueryError(
            f"`{moving:.50}` is another time whenever it is asked: a search that is saved needs dates that stand still"
        )


@lru_cache(256)
def compiled(query: str, mapping: str, topic: str, partition: int) -> CompiledSearch:
    """The search, ready to be carried out in a partition of its source. Raises QueryError."""
    parsed, fields = parse(query), mapping_of(mapping)
    return CompiledSearch(
        compile_query(parsed, Scope(topic, partition, _NEVER_ASKED, fields)),
        bounds(parsed, _NEVER_ASKED),
        requirement(parsed, fields),
        literals(parsed, fields),
    )


def mapping_of(text: str) -> Mapping:
    """The mapping in a JSON text; an empty one has none. Raises QueryError."""
    if not text:
        return NO_MAPPING
    try:
        return parse_mapping(msgspec.json.decode(text))
    except (msgspec.DecodeError, RecursionError) as problem:
        raise QueryError(f"no JSON: {problem}", path="mapping") from None


def _moving(query: Query, mapping: Mapping) -> str | None:
    """A text of the query that stands for another instant whenever it is asked."""
    for part in walk(query):
        texts: Sequence[str] = ()
        if isinstance(part, Range):
            texts = [bound for bound in (part.lower, part.upper) if bound is not None]
        elif isinstance(part, AnyTerm):
            texts = part.texts
        elif isinstance(part, Term):
            texts = [part.text]
        else:
            continue
        kind = resolve(part.field, mapping).kind
        if kind != "date" and not (kind == "dynamic" and isinstance(part, Range) and all(map(is_date, texts))):
            continue
        for text in texts:
            if text.startswith("now"):
                return text
    return None
