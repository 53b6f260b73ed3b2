"""The logs of this node, for processes that read their files beside it: where they are, and how far they may be read."""

from __future__ import annotations

from collections.abc import Callable

from zope.interface import implementer

from chronik.broker.partition import Partition
from chronik.broker.purgatory import WaitingFetch
from chronik.interfaces import FollowedLog, IFollowedLogs
from chronik.model import PartitionId, Uuid


@implementer(IFollowedLogs)
class FollowedLogs:
    """Over the partitions that `find` finds, by topic id and index. It raises KafkaError for one that isn't here."""

    def __init__(self, find: Callable[[Uuid, int], Partition]) -> None:
        self._find = find

    def look(self, partition: PartitionId, since: int) -> FollowedLog:
        """See `IFollowedLogs`."""
        found = self._find(*partition)
        log, stable = found.log, found.last_stable_offset
        start = log.start_offset
        aborted = log.aborted_between(max(since, start), stable) if max(since, start) < stable else ()
        ranges = [(each.producer_id, each.first_offset, each.last_offset) for each in aborted]
        return FollowedLog(log.directory, start, stable, log.generation, ranges)

    def end(self, partition: PartitionId) -> int:
        """See `IFollowedLogs`."""
        return self._find(*partition).high_watermark

    def when_more(self, partition: PartitionId, told: Callable[[], None]) -> Callable[[], None]:
        """See `IFollowedLogs`. Who waits is one of the partition's waiting fetches, which costs an append nothing more."""

        def ready(waiting: WaitingFetch) -> None:
            waiting.forget()
            told()

        waiting = WaitingFetch(1, ready)
        waiting.watch(self._find(*partition).stable_waiters)
        return waiting.forget
