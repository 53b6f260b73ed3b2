"""The part of the REST API that is about the search indexes of topics: how far they are, and making them anew."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from chronik.errors import ChronikError, ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata
from chronik.listeners import admin_schema as schema
from chronik.listeners.http import Refusal
from chronik.model import PartitionId, Topic
from chronik.search.messages import PartitionState
from chronik.search.service import SearchService


class IndexAdministration:
    """The operations, each a method named as in `OPERATIONS`. `search` is None where this node doesn't search."""

    def __init__(self, metadata: IClusterMetadata, search: SearchService | None) -> None:
        self._metadata = metadata
        self._search = search

    async def get_index(self, request: Any, name: str) -> schema.SearchIndex:
        """How far the index of a topic is."""
        return await self._told(name, self._searching().states)

    async def rebuild_index(self, request: Any, name: str) -> schema.SearchIndex:
        """Make it anew; where it is at the beginning of that."""
        return await self._told(name, self._searching().rebuild)

    async def _told(
        self, name: str, ask: Callable[[Sequence[PartitionId]], Awaitable[list[PartitionState]]]
    ) -> schema.SearchIndex:
        topic = self._indexed(name)
        partitions = [PartitionId(topic.topic_id, each.partition) for each in topic.partitions]
        try:
            states = await ask(partitions)
        except KafkaError:
            raise
        except ChronikError as error:  # the process has died: it begins anew
            raise Refusal(503, f"the process that searches does not answer: {error}") from None
        found = [
            schema.IndexedPartition(
                each.partition, each.start, each.stable, each.read_to, each.indexed_to, each.blocks, each.undecodable,
                each.damage or None,
            )
            for each in sorted(states, key=lambda state: state.partition)
        ]  # fmt: skip
        done = all(each.signed_to >= each.end_offset for each in found)
        return schema.SearchIndex(topic.name, done, found)

    def _searching(self) -> SearchService:
        if self._search is None:
            raise Refusal(503, "this node doesn't search: its search_workers is 0")
        return self._search

    def _indexed(self, name: str) -> Topic:
        topic = self._metadata.topic(name)
        if topic is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {name[:249]!r}")
        if topic.search is not None:
            source = self._metadata.topic_by_id(topic.search.source_id)
            of = "" if source is None else f": it reads that of {source.name!r}"
            raise Refusal(400, f"{name!r} is a saved search, which has no index of its own{of}", "INVALID_REQUEST")
        if topic.internal:
            raise Refusal(400, f"{name!r} is the node's own, and not indexed", "INVALID_REQUEST")
        return topic
