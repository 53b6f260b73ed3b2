"""Telling the processes that search what the node's logs have to read.

Every partition of a users' topic belongs to one process, its **place**. What became stable is told `_PERIOD_SECONDS` later at
the latest, for many appends at once; a partition in which nothing happens costs nothing. Before a search asks a place about
partitions, `bounds` tells it how far these are right then: so a search sees all that was acknowledged before it came.

Where a log starts, and whether its files have changed (`generation`), is looked at every `_ROUND_SECONDS` as well: neither is
an append.

After an unclean stop a log may have lost its last records, and their index not: both are written in the background. So it is
noted how far each log goes when it is opened, before anything can be appended, and told with all that follows: no index on
disk is taken up that goes further. (A process that ends later, and is started again, makes anew what came since the start.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from chronik.errors import KafkaError
from chronik.interfaces import IFollowedLogs, IPartitionHost
from chronik.model import INTERNAL_TOPICS, PartitionId, TopicPartition
from chronik.search.messages import NO_LIMIT, Follow, Forget

_PERIOD_SECONDS = 0.05
_ROUND_SECONDS = 10.0
_NOTHING_ABORTED = 2**63 - 1
_AT_ONCE = 200
"""Partitions of which is told in one turn of the reactor: some 20 us each."""


class _Followed:
    """One partition, and what its place knows of it: `told` is the stable offset, -1 for nothing at all."""

    __slots__ = ("forget", "generation", "limit", "place", "start", "told")

    def __init__(self, place: int, limit: int) -> None:
        self.place = place
        self.limit = limit
        self.told = -1
        self.start = 0
        self.generation = 0
        self.forget: Callable[[], None] = lambda: None


@implementer(IPartitionHost)
class Following(Service):
    """Over `places` processes; `tell(place, news)` tells one of them something. `index_of` gives a partition's directory.

    `clean` says how the node went down before this start.
    """

    log = Logger()

    def __init__(
        self,
        logs: IFollowedLogs,
        places: int,
        tell: Callable[[int, Follow | Forget], object],
        index_of: Callable[[PartitionId], str],
        clock: Any,
        clean: bool = True,
    ) -> None:
        self._clean = clean
        self._logs = logs
        self._places = places
        self._tell = tell
        self._index_of = index_of
        self._followed: dict[PartitionId, _Followed] = {}
        self._due: dict[PartitionId, None] = {}
        self._pushing = LoopingCall(self._push)
        self._round = LoopingCall(self._look_round)
        self._pushing.clock = self._round.clock = clock

    def startService(self) -> None:
        """Begin to tell."""
        super().startService()
        self._pushing.start(_PERIOD_SECONDS, now=False)
        self._round.start(_ROUND_SECONDS, now=False)

    def stopService(self) -> None:
        """Tell no more."""
        super().stopService()
        for call in (self._pushing, self._round):
            if call.running:
                call.stop()
        for followed in self._followed.values():
            followed.forget()

    # -- IPartitionHost -----------------------------------------------------------------------------------------------

    def partition_led(self, partition: PartitionId, name: TopicPartition, leader_epoch: int) -> None:
        """See `IPartitionHost`."""
        if name.topic not in INTERNAL_TOPICS:
            place = (int.from_bytes(partition.topic_id[:4], "big") + partition.partition) % self._places
            limit = NO_LIMIT if self._clean else self._logs.look(partition, _NOTHING_ABORTED).stable
            self._followed[partition] = _Followed(place, limit)
            self._due[partition] = None

    def partition_resigned(self, partition: PartitionId, name: TopicPartition) -> None:
        """See `IPartitionHost`."""
        followed = self._followed.pop(partition, None)
        self._due.pop(partition, None)
        if followed is not None:
            followed.forget()
            if followed.told >= 0:
                self._tell(followed.place, Forget(partition.topic_id, partition.partition, self._index_of(partition)))

    # -- telling ------------------------------------------------------------------------------------------------------

    def busy_places(self) -> set[int]:
        """The places that were told of something: there are processes in them."""
        return {followed.place for followed in self._followed.values() if followed.told >= 0}

    def place_of(self, partition: PartitionId) -> int | None:
        """Which process owns the partition; None where it isn't followed."""
        followed = self._followed.get(partition)
        return None if followed is None else followed.place

    def began_anew(self, place: int) -> None:
        """A new process is in this place, which knows nothing: all is told again, a part in each turn."""
        for partition, followed in self._followed.items():
            if followed.place == place and followed.told >= 0:
                followed.told = -1
                self._due[partition] = None

    def bounds(self, partitions: Iterable[PartitionId]) -> dict[PartitionId, tuple[int, int]]:
        """Log start and stable offset of each of these now, which its place is told before it is asked anything else.

        A partition that isn't here (any more) is left out. A process that has just begun anew may say that it knows nothing
        of it.
        """
        found = {}
        for partition in partitions:
            followed = self._followed.get(partition)
            bounds = None if followed is None else self._tell_of(partition, followed)
            if bounds is not None:
                found[partition] = bounds
        return found

    def when_more(self, partition: PartitionId, offset: int, told: Callable[[], None]) -> Callable[[], None] | None:
        """Call `told` once, when more can be read than there is now; None if the record at the offset can be read already.

        Returns what takes it back. Raises KafkaError when the partition isn't here.
        """
        if self._logs.look(partition, _NOTHING_ABORTED).stable > offset:
            return None
        return self._logs.when_more(partition, told)

    def _push(self) -> None:
        for partition in list(self._due)[:_AT_ONCE]:
            del self._due[partition]
            followed = self._followed.get(partition)
            if followed is not None:
                self._tell_of(partition, followed)

    def _tell_of(self, partition: PartitionId, followed: _Followed) -> tuple[int, int] | None:
        """Tell the partition's place what it doesn't know yet, and wait for more. Log start and stable offset, if it's here."""
        try:
            found = self._logs.look(partition, max(followed.told, 0))
            followed.forget()
            followed.forget = self._logs.when_more(partition, lambda: self._due.setdefault(partition))
        except KafkaError as error:
            self.log.warn("{partition} cannot be followed: {error}", partition=partition, error=error)
            return None
        bounds = found.start, max(found.start, found.stable)
        empty = found.stable <= found.start
        if followed.told < 0 and empty:
            return bounds  # nothing to read: no process is started for it
        if (followed.told, followed.start, followed.generation) != (found.stable, found.start, found.generation):
            news = Follow(
                partition.topic_id,
                partition.partition,
                found.directory,
                self._index_of(partition),
                found.start,
                found.stable,
                found.generation,
                tuple(found.aborted),
                followed.limit,
            )
            followed.told, followed.start, followed.generation = found.stable, found.start, found.generation
            self._tell(followed.place, news)
        return bounds

    def _look_round(self) -> None:
        for partition, followed in self._followed.items():
            if followed.told >= 0:
                self._due[partition] = None
