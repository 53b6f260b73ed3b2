"""Asks the share coordinator about many partitions of a group, some at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import islice

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from chronik.coordinator.share_group import Kept
from chronik.errors import KafkaError
from chronik.model import SharePartitionKey, Uuid

_AT_A_TIME = 32
"""Requests begun in one turn of the reactor: about 3 ms."""

Failures = Mapping[tuple[Uuid, int], KafkaError]


async def each_partition(
    group_id: str,
    topics: Mapping[Uuid, Kept],
    operation: Callable[[SharePartitionKey], Awaitable[object]],
    clock: IReactorTime,
) -> Failures:
    """Carry out `operation` for each partition of `topics`; what went wrong, by topic id and partition."""
    keys = (
        SharePartitionKey(group_id, topic_id, partition)
        for topic_id, kept in topics.items()
        for partition in sorted(kept.partitions)
    )
    failures: dict[tuple[Uuid, int], KafkaError] = {}

    async def one(key: SharePartitionKey) -> None:
        try:
            await operation(key)
        except KafkaError as error:
            failures[key.topic_id, key.partition] = error

    while some := list(islice(keys, _AT_A_TIME)):
        begun = [Deferred.fromCoroutine(one(key)) for key in some]
        await DeferredList(begun, fireOnOneErrback=True, consumeErrors=True)
        if len(some) == _AT_A_TIME:
            await deferLater(clock, 0)
    return failures


def among(topics: Mapping[Uuid, Kept], places: Iterable[tuple[Uuid, int]]) -> dict[Uuid, Kept]:
    """The partitions of `topics` that are among `places`."""
    chosen = frozenset(places)
    found = {
        topic_id: Kept(kept.name, frozenset(each for each in kept.partitions if (topic_id, each) in chosen))
        for topic_id, kept in topics.items()
    }
    return {topic_id: kept for topic_id, kept in found.items() if kept.partitions}
