"""Elasticsearch's answers out of what a search found. Pure.

A hit is JSON already (`chronik.search.rendering`); here it is put in its place. What Elasticsearch has no word for is under
`chronik`: the vector that repeats the search, how far the index went, what was lost since, and the costs.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import msgspec

from chronik.model import Topic, uuid_to_text
from chronik.search.gathering import Found, FoundHit
from chronik.search.requests import ALL_HITS, SearchRequest, TopicState, Vector

_PIECE_BYTES = 64 * 1024
_AT_ONCE = 2000
"""Hits that are put in a row in one step."""
_MAX_FAILURES = 100

Lost = dict[str, Any]
_encode = msgspec.json.encode


def search_answer(
    found: Found, request: SearchRequest, took_ms: int, extras: dict[str, Any]
) -> Generator[None, None, list[bytes]]:
    """The answer to `_search`, in pieces; made in steps."""
    hits = found.hits[request.skip : request.skip + request.size]
    head: dict[str, Any] = {"took": took_ms, "timed_out": found.timed_out, "_shards": shards(found)}
    inside: dict[str, Any] = {}
    if request.total_as_int:
        inside["total"] = found.total
    elif request.count_to:
        inside["total"] = total(found, request.count_to)
    inside["max_score"] = None
    left_out = sum(not each.hit.whole for each in hits)
    if left_out:
        extras = {**extras, "without_source": left_out}
    pieces = [_encode(head)[:-1], b',"hits":', _encode(inside)[:-1], b',"hits":[']
    for at in range(0, len(hits), _AT_ONCE):
        if at:
            yield
            pieces.append(b",")
        pieces += _row(hits[at : at + _AT_ONCE])
    pieces.append(b"]}")
    if request.aggs:
        pieces += (b',"aggregations":', *found.aggregations)
    pieces += (b',"chronik":', _encode(extras), b"}")
    return pieces


def _row(hits: Sequence[FoundHit]) -> list[bytes]:
    """The hits with commas between them, in pieces that are neither very many nor very long."""
    pieces: list[bytes] = []
    together: list[bytes] = []
    size = 0
    for each in hits:
        rendered = each.rendered
        if len(rendered) > 1:
            pieces += (b"".join(together), *rendered)
            together, size = [b","], 0
            continue
        together += (rendered[0], b",")
        size += len(rendered[0])
        if size > _PIECE_BYTES:
            pieces.append(b"".join(together))
            together, size = [], 0
    pieces.append(b"".join(together))
    last = -1 if pieces[-1] else -2
    pieces[last] = pieces[last][:-1]  # without its comma
    return pieces


def count_answer(found: Found, extras: dict[str, Any]) -> list[bytes]:
    """The answer to `_count`."""
    return [_encode({"count": found.total, "_shards": shards(found), "chronik": extras})]


def total(found: Found, count_to: int) -> dict[str, Any]:
    """How many hits there are, or at least are. Of more than were to be counted Elasticsearch tells no more than that."""
    if found.exact:
        return {"value": found.total, "relation": "eq"}
    return {"value": found.total if count_to == ALL_HITS else min(found.total, count_to), "relation": "gte"}


def shards(found: Found) -> dict[str, Any]:
    """The partitions as Elasticsearch's shards, and what failed of them."""
    failed = {(topic, partition): why for topic, partition, why in found.failures}
    answer: dict[str, Any] = {
        "total": len(found.parts),
        "successful": len(found.parts) - len(failed),
        "skipped": 0,
        "failed": len(failed),
    }
    if failed:
        answer["failures"] = [
            {"shard": partition, "index": topic, "reason": {"type": "partition_failure", "reason": why}}
            for (topic, partition), why in list(failed.items())[:_MAX_FAILURES]
        ]
    return answer


def extras_of(found: Found, topics: Iterable[Topic], now_ms: int, lost: Sequence[Lost]) -> dict[str, Any]:
    """What is under `chronik`. `lost` says what of a given vector is not there any more."""
    ids = {topic.name: uuid_to_text(topic.topic_id) for topic in topics}
    states: dict[str, dict[int, tuple[int, int]]] = {name: {} for name in ids}
    indexed: dict[str, dict[int, int]] = {}
    for number, part in enumerate(found.parts):
        states[part.topic][part.partition] = (part.start, part.upper)
        none = part.upper if part.start == part.upper else part.start
        indexed.setdefault(part.topic, {})[part.partition] = min(found.indexed_to.get(number, none), part.upper)
    vector = Vector(now_ms, {name: TopicState(ids[name], partitions) for name, partitions in states.items()})
    extras: dict[str, Any] = {"vector": vector, "indexed_up_to": indexed, "costs": found.costs}
    if lost:
        extras["lost"] = lost
    return extras


def lost_since(
    vector: Vector,
    topics: Sequence[Topic],
    found: Found,
    exists: Callable[[str], bool],
    compacted: Callable[[Topic], bool],
) -> list[Lost]:
    """What a search at an earlier state did not find any more, because it was taken away meanwhile."""
    lost: list[Lost] = []
    by_name = {topic.name: topic for topic in topics}
    failed = {(topic, partition) for topic, partition, _ in found.failures}
    now = {(part.topic, part.partition): (part.start, part.upper) for part in found.parts}
    for name, state in vector.topics.items():
        topic = by_name.get(name)
        if topic is None:
            if not exists(name):
                lost.append({"topic": name, "reason": "the topic was deleted"})
            continue
        if uuid_to_text(topic.topic_id) != state.id:
            lost.append({"topic": name, "reason": "the topic was deleted, and made anew"})
            continue
        if compacted(topic):
            lost.append(
                {"topic": name, "reason": "the topic is compacted: records may have been taken away by newer ones"}
            )
        for partition, (start, upper) in state.partitions.items():
            if start == upper or (name, partition) in failed:
                continue
            now_start, now_upper = now.get((name, partition), (start, upper))
            if now_start > start:
                lost.append(_range(name, partition, start, min(now_start, upper), "retention"))
            if now_start <= now_upper < upper:
                lost.append(_range(name, partition, now_upper, upper, "the log was cut"))
    return lost


def _range(topic: str, partition: int, start: int, end: int, reason: str) -> Lost:
    return {"topic": topic, "partition": partition, "from": start, "to": end, "reason": reason}
