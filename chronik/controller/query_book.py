"""The continuous queries of the metadata image: a part of its state, replayed as the rest is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chronik.controller.records import QueryDropped, QueryPaused, QuerySaved
from chronik.errors import CorruptLogError
from chronik.model import ContinuousQuery, Uuid


class QueryBook:
    """All queries by their ids."""

    def __init__(self) -> None:
        self._by_id: dict[Uuid, ContinuousQuery] = {}

    def all(self) -> Sequence[ContinuousQuery]:
        """In the order of their names."""
        return sorted(self._by_id.values(), key=lambda query: query.name)

    def over(self, topic_id: Uuid) -> list[ContinuousQuery]:
        """Those that need a topic: they read it, or write to it."""
        return [query for query in self.all() if query.needs(topic_id)]

    def clear(self) -> None:
        """Forget all."""
        self._by_id.clear()

    def saved(self, record: QuerySaved) -> None:
        """Replay. Raises CorruptLogError for one that is there."""
        if record.query_id in self._by_id or any(query.name == record.name for query in self._by_id.values()):
            raise CorruptLogError(f"the metadata log saves query {record.name!r} a second time")
        self._by_id[record.query_id] = ContinuousQuery(
            record.query_id,
            record.name,
            record.text,
            record.fields,
            record.source_id,
            record.into_id,
            record.late_id,
            record.paused,
        )

    def paused(self, record: QueryPaused) -> None:
        """Replay. Raises CorruptLogError for one that isn't there."""
        self._by_id[record.query_id] = self._known(record.query_id).resting(record.paused)

    def dropped(self, record: QueryDropped) -> None:
        """Replay. Raises CorruptLogError for one that isn't there."""
        del self._by_id[self._known(record.query_id).query_id]

    def _known(self, query_id: Uuid) -> ContinuousQuery:
        query = self._by_id.get(query_id)
        if query is None:
            raise CorruptLogError(f"the metadata log changes query {query_id.hex()}, which it never saved")
        return query

    def records(self) -> Iterable[QuerySaved]:
        """What makes them all anew."""
        return map(record_of, self.all())


def record_of(query: ContinuousQuery) -> QuerySaved:
    """The record that makes a query as it is."""
    return QuerySaved(
        query.query_id,
        query.name,
        query.text,
        query.fields,
        query.source_id,
        query.into_id,
        query.late_id,
        query.paused,
    )
