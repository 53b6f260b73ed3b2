"""What the search listener tells of topics: lists, mappings, health; in Elasticsearch's words, where topics are indices.

`docs.count` counts offsets: markers of transactions and what compaction took away are among them. Of the bytes on disk it
tells those of the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

import chronik
from chronik.controller.commands import AlterConfigs, ConfigOperation, ConfigResource, Operation, ResourceType
from chronik.errors import KafkaError
from chronik.interfaces import IClusterMetadata, ICommittedReader, IController
from chronik.listeners.handlers.proposing import propose
from chronik.listeners.http import Refusal
from chronik.listeners.search_calls import mapping_of
from chronik.model import Topic, TopicPartition, uuid_to_text
from chronik.search.mapping import Mapping, extend_mapping, mapping_body, parse_mapping
from chronik.search.requests import json_body
from chronik.topic_config import SEARCH_MAPPING

COMPATIBLE_WITH = "8.0.0"
"""The version of Elasticsearch's API that this is taken for. Clients ask for it before they use what came later."""
MAX_MAPPING_BYTES = 64 * 1024
"""Of a request. What is kept has fewer (`chronik.searching`)."""
COLUMNS = (
    "health",
    "status",
    "index",
    "uuid",
    "pri",
    "rep",
    "docs.count",
    "docs.deleted",
    "store.size",
    "pri.store.size",
)

_DECIDE_MS = 30_000
_AT_ONCE = 500
_UNITS = (("tb", 1 << 40), ("gb", 1 << 30), ("mb", 1 << 20), ("kb", 1 << 10))


class Catalog:
    """Topics as they are now, and their mappings."""

    def __init__(
        self,
        metadata: IClusterMetadata,
        controller: IController,
        reader: ICommittedReader,
        sizes: Callable[[], Iterable[tuple[TopicPartition, int]]],
        clock: IReactorTime,
        node_id: int,
    ) -> None:
        self._metadata = metadata
        self._controller = controller
        self._reader = reader
        self._sizes = sizes
        self._clock = clock
        self._node_id = node_id
        self._changing = DeferredLock()

    def info(self) -> dict[str, Any]:
        """`GET /`."""
        return {
            "name": f"chronik-{self._node_id}",
            "cluster_name": "chronik",
            "cluster_uuid": self._metadata.cluster_id,
            "version": {
                "number": COMPATIBLE_WITH,
                "build_flavor": "default",
                "build_type": "chronik",
                "build_hash": "unknown",
                "build_date": "1970-01-01T00:00:00.000Z",
                "build_snapshot": False,
                "lucene_version": "0.0.0",
                "minimum_wire_compatibility_version": COMPATIBLE_WITH,
                "minimum_index_compatibility_version": COMPATIBLE_WITH,
            },
            "tagline": "Every message, the moment it is written",
            "chronik": {"version": chronik.__version__},
        }

    def health(self) -> dict[str, Any]:
        """`GET /_cluster/health`: red where a partition has no leader."""
        topics = [topic for topic in self._metadata.topics() if topic.search is None]
        partitions = sum(len(topic.partitions) for topic in topics)
        lost = sum(any(each.leader < 0 for each in topic.partitions) for topic in topics)
        nodes = len(self._metadata.brokers())
        return {
            "cluster_name": "chronik",
            "status": "red" if lost else "green",
            "timed_out": False,
            "number_of_nodes": nodes,
            "number_of_data_nodes": nodes,
            "active_primary_shards": partitions,
            "active_shards": partitions,
            "relocating_shards": 0,
            "initializing_shards": 0,
            "unassigned_shards": 0,
            "delayed_unassigned_shards": 0,
            "number_of_pending_tasks": 0,
            "number_of_in_flight_fetch": 0,
            "task_max_waiting_in_queue_millis": 0,
            "active_shards_percent_as_number": 100.0,
        }

    def described(self, topics: Sequence[Topic]) -> dict[str, Any]:
        """`GET /TOPIC`."""
        return {
            topic.name: {
                "aliases": {},
                "mappings": mapping_body(_mapping(topic)),
                "settings": {
                    "index": {
                        "number_of_shards": str(len(topic.partitions)),
                        "number_of_replicas": str(_replicas(topic)),
                        "uuid": uuid_to_text(topic.topic_id),
                        "provided_name": topic.name,
                    }
                },
            }
            for topic in topics
        }

    # -- mappings -----------------------------------------------------------------------------------------------------

    def mappings(self, topics: Sequence[Topic]) -> dict[str, Any]:
        """`GET /TOPIC/_mapping`: what was put, not what is in the messages."""
        return {topic.name: {"mappings": mapping_body(_mapping(topic))} for topic in topics}

    async def extend_mappings(self, topics: Sequence[Topic], content: bytes) -> None:
        """`PUT /TOPIC/_mapping`: add to each topic's. Raises QueryError where a field has another type already; Refusal."""
        if len(content) > MAX_MAPPING_BYTES:
            raise Refusal(413, f"a mapping may have {MAX_MAPPING_BYTES} bytes")
        if not content.strip():
            raise Refusal(400, 'the body is missing: a mapping such as {"properties": {"status": {"type": "long"}}}')
        addition = parse_mapping(json_body(content).value)
        if not topics:
            raise Refusal(404, "there is no such topic")
        await self._changing.run(self._extend, [topic.name for topic in topics], addition)

    async def _extend(self, names: Sequence[str], addition: Mapping) -> None:
        changes = []
        for name in names:
            topic = self._metadata.topic(name)
            if topic is None:
                continue  # deleted meanwhile
            extended = extend_mapping(_mapping(topic), addition)
            text = msgspec.json.encode(mapping_body(extended)).decode() if extended.fields else ""
            if text != topic.configs.get(SEARCH_MAPPING, ""):
                operation = ConfigOperation(SEARCH_MAPPING, Operation.SET, text)
                changes.append((ConfigResource(ResourceType.TOPIC, name), (operation,)))
        if changes:
            for error in await propose(self._controller, AlterConfigs(tuple(changes)), _DECIDE_MS, self._clock):
                if error is not None:
                    raise error

    # -- lists --------------------------------------------------------------------------------------------------------

    async def rows(self, topics: Sequence[Topic]) -> list[dict[str, str | None]]:
        """`_cat/indices`: a row for each topic; sizes and counts are numbers in digits."""
        sizes = dict(self._sizes())
        rows: list[dict[str, str | None]] = []
        done = 0
        for topic in topics:
            count = size = 0
            for each in topic.partitions:
                place = TopicPartition(topic.name, each.partition)
                try:
                    start, _, stable = self._reader.bounds(place)
                except KafkaError:
                    continue  # not open yet, or not any more
                count += stable - start
                size += sizes.get(place, 0)
            done += len(topic.partitions)
            rows.append(
                {
                    "health": "red" if any(each.leader < 0 for each in topic.partitions) else "green",
                    "status": "open",
                    "index": topic.name,
                    "uuid": uuid_to_text(topic.topic_id),
                    "pri": str(len(topic.partitions)),
                    "rep": str(_replicas(topic)),
                    "docs.count": str(count),
                    "docs.deleted": "0",
                    "store.size": str(size),
                    "pri.store.size": str(size),
                }
            )
            if done >= _AT_ONCE:
                done = 0
                await deferLater(self._clock, 0)
        return rows


def shown_size(text: str) -> str:
    """Bytes as people read them: `3.4mb`."""
    size = int(text)
    for unit, factor in _UNITS:
        if size >= factor:
            return f"{size / factor:.1f}{unit}".replace(".0", "")
    return f"{size}b"


def table(rows: Sequence[dict[str, str | None]], columns: Sequence[str], head: bool) -> bytes:
    """Rows as a table of text."""
    cells = [[row[column] or "" for column in columns] for row in rows]
    if head:
        cells.insert(0, list(columns))
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))] if cells else []
    lines = [" ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "".join(f"{line}\n" for line in lines).encode()


def _mapping(topic: Topic) -> Mapping:
    return mapping_of(topic.configs.get(SEARCH_MAPPING, ""))


def _replicas(topic: Topic) -> int:
    """How many there are beside the leader."""
    return len(topic.partitions[0].replicas) - 1 if topic.partitions else 0
