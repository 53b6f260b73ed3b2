"""A query compiled for some partitions: once for all of them where it can be."""

from __future__ import annotations

from chronik.search.fields import resolve
from chronik.search.mapping import NO_MAPPING, Mapping
from chronik.search.match import Matcher, Scope, compile_query
from chronik.search.query import Ids, Query, walk

_PLACES = frozenset({"topic", "partition"})


def says_where(query: Query) -> bool:
    """Whether it is another one in each partition."""
    return any(
        isinstance(each, Ids) or resolve(getattr(each, "field", "value"), NO_MAPPING).source in _PLACES
        for each in walk(query)
    )


class CompiledQuery:
    """`now_ms` is what `now` means in dates."""

    def __init__(self, query: Query, now_ms: int) -> None:
        self._query = query
        self._now_ms = now_ms
        self._matchers: dict[tuple[bytes, int], Matcher] = {}
        self._says_where = says_where(query)

    def matcher(self, topic: str, topic_id: bytes, partition: int, mapping: Mapping) -> Matcher:
        """Whether a record of that partition is a hit. Raises QueryError where the query doesn't fit the fields."""
        key = (topic_id, partition) if self._says_where else (topic_id if mapping.fields else b"", 0)
        found = self._matchers.get(key)
        if found is None:
            scope = Scope(topic, partition, self._now_ms, mapping)
            found = self._matchers[key] = compile_query(self._query, scope)
        return found
