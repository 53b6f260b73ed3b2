"""Where the logs of a topic's partitions are, and how far they may be read, for a process that reads them beside the node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from twisted.internet.task import deferLater

from chronik.analytics.messages import PartitionFiles
from chronik.interfaces import IFollowedLogs
from chronik.model import PartitionId, Topic

AT_ONCE = 100
"""Logs that are looked at in one turn of the reactor: some 20 us each."""


def partition_files(logs: IFollowedLogs, topic: Topic, partition: int, since: int = 0) -> PartitionFiles:
    """One of them; of what was aborted, only what was so since offset `since`. Raises KafkaError where it isn't led here."""
    found = logs.look(PartitionId(topic.topic_id, partition), since)
    aborted = tuple((producer_id, first, last) for producer_id, first, last in found.aborted)
    stable = max(found.start, found.stable)
    return PartitionFiles(partition, found.directory, found.start, stable, found.generation, aborted)


async def all_files(
    logs: IFollowedLogs, topics: Iterable[Topic], clock: Any, since: Mapping[int, int] | None = None
) -> list[list[PartitionFiles]]:
    """All partitions of each topic, some in each turn of the reactor. Raises KafkaError."""
    found, looked = [], 0
    for topic in topics:
        files = []
        for each in topic.partitions:
            looked += 1
            if not looked % AT_ONCE:
                await deferLater(clock, 0)
            files.append(partition_files(logs, topic, each.partition, (since or {}).get(each.partition, 0)))
        found.append(files)
    return found
