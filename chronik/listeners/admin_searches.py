"""The part of the REST API that is about saved searches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from chronik.controller.commands import DeleteTopics, SaveSearch, TopicReference
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata
from chronik.listeners import admin_schema as schema
from chronik.listeners.admin_http import read_json
from chronik.listeners.http import Refusal
from chronik.listeners.paging import page_of
from chronik.model import Topic, uuid_to_text
from chronik.search.query import QueryError
from chronik.search.saved import check_saved
from chronik.topic_config import SEARCH_MAPPING


class SearchAdministration:
    """The operations, each a method named as in `OPERATIONS`.

    `decide` carries out a command of the controller. Where this node doesn't search (`searches` is false), nothing is saved.
    """

    def __init__(self, metadata: IClusterMetadata, decide: Callable[[object], Awaitable[Any]], searches: bool) -> None:
        self._metadata = metadata
        self._decide = decide
        self._searches = searches

    def list_searches(self, request: Any) -> schema.SearchList:
        """All saved searches, paged."""
        found = [topic for topic in self._metadata.topics() if topic.search is not None]
        page, following = page_of(request, found, lambda topic: topic.name)
        return schema.SearchList([self._detail(topic) for topic in page], following)

    async def save_search(self, request: Any) -> schema.SavedSearch:
        """Save what the body says; the search. Without a mapping, it has that of its source as it is now."""
        body = read_json(request, schema.NewSearch)
        if not self._searches:
            raise Refusal(503, "this node doesn't search: its search_workers is 0")
        if body.mapping is None:
            source = self._metadata.topic(body.source)
            mapping = "" if source is None else source.configs.get(SEARCH_MAPPING, "").strip()
        else:
            mapping = msgspec.json.encode(body.mapping).decode()
        try:
            check_saved(body.query, mapping)
        except QueryError as error:
            raise Refusal(400, f"query: {error}", ErrorCode.INVALID_REQUEST.name) from None
        topic = await self._decide(SaveSearch(body.name, body.source, body.query, mapping))
        request.setHeader("location", f"/v1/searches/{topic.name}")
        return self._detail(topic)

    def get_search(self, request: Any, name: str) -> schema.SavedSearch:
        """One saved search."""
        return self._detail(self._found(name))

    async def delete_search(self, request: Any, name: str) -> None:
        """Delete a saved search. Its source stays."""
        self._found(name)
        (deletion,) = await self._decide(DeleteTopics((TopicReference(name),)))
        if deletion.error is not None:
            raise deletion.error

    def _found(self, name: str) -> Topic:
        topic = self._metadata.topic(name)
        if topic is None or topic.search is None:
            what = "is no saved search" if topic is not None else "does not exist"
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"search {name[:249]!r} {what}")
        return topic

    def _detail(self, topic: Topic) -> schema.SavedSearch:
        search = topic.search
        assert search is not None
        source = self._metadata.topic_by_id(search.source_id)
        assert source is not None  # it can't be deleted while this is there
        mapping = msgspec.json.decode(search.mapping) if search.mapping else None
        return schema.SavedSearch(
            topic.name, uuid_to_text(topic.topic_id), source.name, search.query, mapping, len(topic.partitions)
        )
