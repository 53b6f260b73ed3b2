"""The controller's decisions about saved searches: which may be, and what may not go while they are there.

A saved search is a topic without a log of its own. Its one record says which topic it is a view of; its partitions are those of
that topic, by replay. A topic over which searches are saved can't be deleted, unless they are deleted with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from chronik.controller.commands import SaveSearch
from chronik.controller.image import MetadataImage
from chronik.controller.names import check_new_name
from chronik.controller.records import SearchSaved
from chronik.errors import ErrorCode, KafkaError
from chronik.model import Alert, SavedSearch, Topic, Uuid

MAX_SEARCHES = 100
"""Of one topic."""
MAX_QUERY_BYTES = 16 << 10
MAX_MAPPING_BYTES = 256 << 10


def decide_save_search(
    image: MetadataImage, command: SaveSearch, new_topic_id: Callable[[], Uuid]
) -> tuple[Sequence[SearchSaved], Topic]:
    """The record of a new search, and the topic that it makes. Raises KafkaError."""
    check_new_name(image, command.name)
    source = image.topic(command.source)
    if source is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {command.source[:249]!r} to search")
    if source.internal:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"topic {source.name!r} is the node's own, and isn't searched")
    if source.search is not None:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, f"topic {source.name!r} is a saved search itself: save one over its source"
        )
    if len(command.query.encode("utf-8", "replace")) > MAX_QUERY_BYTES:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"a query has at most {MAX_QUERY_BYTES} bytes")
    if len(command.mapping.encode("utf-8", "replace")) > MAX_MAPPING_BYTES:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"a mapping has at most {MAX_MAPPING_BYTES} bytes")
    if len(image.searches_of(source.topic_id)) >= MAX_SEARCHES:
        raise KafkaError(
            ErrorCode.POLICY_VIOLATION,
            f"topic {source.name!r} has {MAX_SEARCHES} saved searches, the most there may be",
        )
    record = SearchSaved(new_topic_id(), command.name, source.topic_id, command.query, command.mapping)
    search = SavedSearch(record.source_id, record.query, record.mapping)
    topic = Topic(record.topic_id, record.name, source.partitions, search=search)
    return () if command.validate_only else (record,), topic


def refused_sources(image: MetadataImage, topic_ids: Iterable[Uuid]) -> dict[Uuid, KafkaError]:
    """Which of these topics can't be deleted together with the others, and why: searches are saved over them, or alerts."""
    deleted = set(topic_ids)
    refusals = {}
    for topic_id in deleted:
        queries = [query.name for query in image.queries() if query.needs(topic_id)]
        if queries:
            refusals[topic_id] = KafkaError(
                ErrorCode.POLICY_VIOLATION,
                f"{len(queries)} continuous quer(ies) need the topic; drop them first: {', '.join(queries[:10])}",
            )
        alerts = [
            alert.name for alert in image.alerts() if alert.search_id == topic_id or _writes_to(image, alert, topic_id)
        ]
        if alerts:
            refusals[topic_id] = KafkaError(
                ErrorCode.POLICY_VIOLATION,
                f"{len(alerts)} alert(s) need the topic; delete them first: {', '.join(alerts[:10])}",
            )
    deleted -= refusals.keys()
    for topic_id in deleted:
        left = [search.name for search in image.searches_of(topic_id) if search.topic_id not in deleted]
        if left:
            names = ", ".join(left[:10])
            refusals[topic_id] = KafkaError(
                ErrorCode.POLICY_VIOLATION,
                f"{len(left)} search(es) are saved over the topic; delete them first: {names}",
            )
    return refusals


def _writes_to(image: MetadataImage, alert: Alert, topic_id: Uuid) -> bool:
    topic = image.topic(alert.to)
    return topic is not None and topic.topic_id == topic_id


def searches_first(image: MetadataImage, topic_ids: Iterable[Uuid]) -> list[Uuid]:
    """The same topics, in an order in which they can be deleted."""

    def is_source(topic_id: Uuid) -> bool:
        topic = image.topic_by_id(topic_id)
        return topic is None or topic.search is None

    return sorted(topic_ids, key=is_source)
