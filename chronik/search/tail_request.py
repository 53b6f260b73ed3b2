"""What a client asks for when it wants a tail: which topics, which query, from where on.

Pure.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from chronik.model import INTERNAL_TOPICS
from chronik.search.names import Names, NamesError
from chronik.search.query import ALL, Limits, Query, QueryError
from chronik.search.query_string import parse
from chronik.search.starts import LATEST, Start, parse_start

LIMITS = Limits(query_bytes=4096, clauses=128, depth=16, text_bytes=4096, terms=512)
"""Of a query that is looked for in every record."""
_NOW = re.compile(r"now", re.IGNORECASE)


class Wish(NamedTuple):
    """`text` is the query as it is told back. `now_ms` is what `now` means in it: 0 where it does not say so."""

    names: Names
    query: Query
    text: str
    start: Start
    now_ms: int


def read_wish(topic: str, query: str, start: str, now_ms: int) -> Wish:
    """What these parameters say; empty ones are as if they were not there. Raises QueryError."""
    if not topic:
        raise QueryError("topic: the topics are missing: `orders`, `a,b`, `log-*`")
    try:
        names = Names(topic.replace(" ", ""))
    except NamesError as error:
        raise QueryError(f"topic: {error}") from None
    internal = next((name for name in names.exact if name in INTERNAL_TOPICS), None)
    if internal is not None:
        raise QueryError(f"topic: `{internal}` is the node's own, and is not searched")
    return Wish(
        names,
        parse(query, limits=LIMITS) if query.strip() else ALL,
        query,
        parse_start(start or LATEST, now_ms),
        now_ms if _NOW.search(query) else 0,
    )
