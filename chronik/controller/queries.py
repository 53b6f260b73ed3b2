"""The controller's decisions about continuous queries: which may be saved, paused and dropped; which topics they need.

What a query means is found out before it comes here (`chronik.analytics`): the controller keeps its text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chronik.controller.commands import DropQuery, PauseQuery, SaveQuery
from chronik.controller.image import MetadataImage
from chronik.controller.query_book import record_of
from chronik.controller.records import QueryDropped, QueryPaused, QuerySaved
from chronik.errors import ErrorCode, KafkaError
from chronik.model import ContinuousQuery, Topic, Uuid, topic_name_fault

MAX_QUERIES = 100
"""In all: each has a state in memory."""
MAX_TEXT_BYTES = 64 << 10


def decide_save_query(
    image: MetadataImage, command: SaveQuery, new_id: Callable[[], Uuid]
) -> tuple[Sequence[QuerySaved], ContinuousQuery]:
    """The record of a new query, and the query. Raises KafkaError."""
    fault = topic_name_fault(command.name)
    if fault is not None:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"queries are named as topics are: {fault}")
    queries = image.queries()
    if any(query.name == command.name for query in queries):
        raise KafkaError(ErrorCode.TOPIC_ALREADY_EXISTS, f"query {command.name!r} already exists")
    if len(queries) >= MAX_QUERIES:
        raise KafkaError(ErrorCode.POLICY_VIOLATION, f"there are {MAX_QUERIES} queries, the most there may be")
    for text in (command.text, command.fields):
        if len(text.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST, f"a query has at most {MAX_TEXT_BYTES} bytes, and so have its fields"
            )
    source = _topic(image, command.source, "read")
    into = _topic(image, command.into, "write to")
    late = _topic(image, command.late, "write late records to")
    if source.internal:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"topic {source.name!r} is the node's own, and isn't queried")
    for target in (into, late):
        if target.internal or target.search is not None:
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"nothing can be written to topic {target.name!r}")
    if source.topic_id in (into.topic_id, late.topic_id):
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            f"the query would read what it writes to {source.name!r}: choose another topic",
        )
    query = ContinuousQuery(
        new_id(),
        command.name,
        command.text,
        command.fields,
        source.topic_id,
        into.topic_id,
        late.topic_id,
        paused=False,
    )
    return (record_of(query),), query


def _topic(image: MetadataImage, name: str, what: str) -> Topic:
    found = image.topic(name)
    if found is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {name[:249]!r} to {what}")
    return found


def decide_pause_query(image: MetadataImage, command: PauseQuery) -> tuple[Sequence[QueryPaused], ContinuousQuery]:
    """The record that lets a query rest or go on, none where it does already; and the query. Raises KafkaError."""
    query = _query(image, command.name)
    if query.paused == command.paused:
        return (), query
    return (QueryPaused(query.query_id, command.paused),), query.resting(command.paused)


def decide_drop_query(image: MetadataImage, command: DropQuery) -> tuple[Sequence[QueryDropped], ContinuousQuery]:
    """The record that ends a query, and the query. Raises KafkaError."""
    query = _query(image, command.name)
    return (QueryDropped(query.query_id),), query


def _query(image: MetadataImage, name: str) -> ContinuousQuery:
    for query in image.queries():
        if query.name == name:
            return query
    raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"query {name[:249]!r} does not exist")
