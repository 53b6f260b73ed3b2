"""The tails of a node: who waits for what, and which processes look for it.

Clients with the same tail are one group (`chronik.search.tail_group`), which is one watch for the processes. What a process
finds comes as the progress of a job that never ends, one in each process, and is handed to the groups
(`chronik.search.handing_out`); clients that begin in the past are fed out of the log (`chronik.search.catching_up`) until they
have what their group has.

When a process dies, the next one is asked to look from where each group was: nothing is lost, and nothing comes twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from collections.abc import Mapping as AnyMapping
from typing import Any, NamedTuple

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from zope.interface import implementer

from chronik.errors import ChronikError
from chronik.interfaces import IPartitionHost
from chronik.model import PartitionId, TopicPartition
from chronik.search.beginnings import Beginnings
from chronik.search.bounds import bounds as bounds_of
from chronik.search.catching_up import CatchingUp
from chronik.search.fitting import Fit, Fitting, check_cost
from chronik.search.following import Following
from chronik.search.handing_out import SLICE_SECONDS, HandingOut
from chronik.search.mapping import Mapping
from chronik.search.names import Names
from chronik.search.parcels import Note, Place, by_name, hello, positions_note
from chronik.search.query import QueryError
from chronik.search.starts import LATEST, Begun
from chronik.search.subscriber import Budget, Sink, Subscriber
from chronik.search.tail_group import Cover, Group, Key, Part
from chronik.search.tail_messages import Taken
from chronik.search.tail_parts import TailParts
from chronik.search.tail_processes import News, TailProcesses
from chronik.search.tail_request import Wish
from chronik.telemetry.metrics import TailCounts

QUEUED_BYTES = 64 << 20
"""What is queued for all clients together."""
_POSITIONS_SECONDS = 15.0
_AT_ONCE = 50
_MAX_PARTITIONS = 1000
"""Of one tail, when it begins."""


class TailRefused(ChronikError):
    """There is no such tail, or no more can be had. `status` is HTTP's."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Limits(NamedTuple):
    """Of one node: clients, different queries, those among them of which no patterns are known, and what the patterns of
    the others cost (`chronik.search.literals`).
    """

    clients: int
    queries: int
    wide_queries: int = 100
    cost: int = 200_000


@implementer(IPartitionHost)
class Tails(Service):
    """Over `following`, whose processes are asked by `ask(place, request, silence[, progress])` and told by `tell`.

    `mapping_of` gives a topic's mapping, `offset_at` the first offset of a partition at or after a time in ms, if there is one,
    `source_of` the topic that a saved search is a view of; None where the name is none of one.
    """

    log = Logger()

    def __init__(
        self,
        following: Following,
        ask: Callable[..., Deferred[Any]],
        tell: Callable[[int, News], object],
        clock: Any,
        limits: Limits,
        mapping_of: Callable[[str], Mapping],
        offset_at: Callable[[PartitionId, int], int | None],
        source_of: Callable[[str], str | None],
    ) -> None:
        self._following = following
        self._tell = tell
        self._clock = clock
        self._limits = limits
        self._mapping_of = mapping_of
        self._source_of = source_of
        self._beginnings = Beginnings(following, mapping_of, offset_at, clock)
        self._budget = Budget(QUEUED_BYTES)
        self._parts = TailParts()
        self._groups: dict[Key, Group] = {}
        self._by_number: dict[int, Group] = {}
        self._group_of: dict[Subscriber, Group] = {}
        self._next_group = 0
        self._handing_out = HandingOut(self._parts, self._by_number, self._taken, self._check, clock)
        self._processes = TailProcesses(ask, tell, self._handing_out, clock)
        self._catching_up = CatchingUp(following, ask, self._handing_out.when_even, self._check, clock)
        self._positions = LoopingCall(self._tell_positions)
        self._positions.clock = clock
        self._coming: deque[tuple[Group, Part]] = deque()  # partitions that groups may have, once it is their turn
        self._letting: Any = None
        self._sent = self._dropped = 0  # of clients that are gone

    def startService(self) -> None:
        """Begin to tell clients how far they are, now and then."""
        super().startService()
        self._positions.start(_POSITIONS_SECONDS, now=False)

    def stopService(self) -> None:
        """Close all tails."""
        super().stopService()
        self._positions.stop()
        for subscriber in list(self._group_of):
            subscriber.refuse(503, "the node is shutting down")
            self.leave(subscriber)
        if self._letting is not None:
            self._letting.cancel()
            self._letting = None
        self._processes.stop()
        self._handing_out.stop()

    @property
    def counts(self) -> TailCounts:
        """How many clients and different tails there are, and how many hits were sent and dropped so far."""
        sent = self._sent + sum(each.sent for each in self._group_of)
        dropped = self._dropped + sum(each.dropped for each in self._group_of)
        return TailCounts(len(self._group_of), len(self._groups), sent, dropped)

    # -- clients ------------------------------------------------------------------------------------------------------

    async def subscribe(self, wish: Wish, sink: Sink) -> Subscriber:
        """Tail for `sink` from now on. Raises TailRefused, and QueryError for a query that does not fit the fields."""
        self._check_clients()
        newest = self._parts.newest
        topics = await self._beginnings.topics(wish.names, self._parts.topics)
        there = frozenset(topics)
        missing = next((name for name in wish.names.exact if name not in there and wish.names.has(name)), None)
        if missing is not None:
            raise self._is_no_topic(missing)
        parts = [part for topic in topics for part in self._parts.of_topic(topic)]
        if len(parts) > _MAX_PARTITIONS:
            raise TailRefused(400, f"these topics have {len(parts)} partitions; a tail has {_MAX_PARTITIONS} at most")
        key = Key(wish.query, str(wish.names), wish.now_ms)
        known = self._groups.get(key)
        fitting = Fitting(wish.query, wish.now_ms) if known is None else known.fitting
        self._check_limits(key, fitting)
        fits = await self._beginnings.fits(fitting, topics or [""])
        check_cost(wish.query, sum(bool(fit.mapping.fields) for fit in fits.values()), len(parts))
        bounds = await self._beginnings.bounds(parts)
        begun = await self._beginnings.begun(wish.start, parts, bounds)
        await self._even()
        self._check_limits(key, fitting)
        # From here on to its end nothing else happens: whoever is live gets all that its group gets.
        group = self._groups.get(key)
        if group is None:
            group = self._new_group(key, wish.names, fitting, fits, bounds)
            self._coming.extend((group, part) for part in self._parts.newer(newest))
            self._let_come_soon()
        return self._join(group, wish, sink, begun)

    def _is_no_topic(self, name: str) -> TailRefused:
        source = self._source_of(name)
        if source is None:
            return TailRefused(404, f"there is no topic `{name}`")
        return TailRefused(400, f"`{name}` is a saved search: tail `{source}`, which it is a view of, with its query")

    def _join(self, group: Group, wish: Wish, sink: Sink, begun: dict[int, Begun]) -> Subscriber:
        at = group.reached
        at.update((number, each.offset) for number, each in begun.items() if number in at)
        subscriber = Subscriber(sink, self._budget, self._parts.name, at)
        group.members[subscriber] = None
        self._group_of[subscriber] = group
        places = ((cover.part.name, at[number]) for number, cover in sorted(group.covers.items()))
        subscriber.tell(hello(wish.text, by_name(places)))
        for each in begun.values():
            if each.missing is not None:
                subscriber.skipped([each.missing], each.why)
        if wish.start.kind == LATEST:
            subscriber.live = True
            self._check(group)
        else:
            self._behind(subscriber)
        return subscriber

    def resume(self, subscriber: Subscriber) -> None:
        """The client takes more."""
        subscriber.resume()
        group = self._group_of.get(subscriber)
        if group is not None and group.choked:
            self._check(group)

    def leave(self, subscriber: Subscriber) -> None:
        """The client is gone."""
        group = self._group_of.pop(subscriber, None)
        if group is None:
            return
        self._sent += subscriber.sent
        self._dropped += subscriber.dropped
        del group.members[subscriber]
        subscriber.leave()
        self._catching_up.end(subscriber)
        if not group.members:
            self._end_group(group)
        else:
            self._check(group)

    def _behind(self, subscriber: Subscriber) -> None:
        self._catching_up.begin(subscriber, self._group_of[subscriber])

    def _check_clients(self) -> None:
        if len(self._group_of) >= self._limits.clients:
            raise TailRefused(503, f"the node has {self._limits.clients} tails, and takes no more")

    def _check_limits(self, key: Key, fitting: Fitting) -> None:
        self._check_clients()
        limits, groups = self._limits, self._groups
        if key in groups:
            return
        if len(groups) >= limits.queries:
            raise TailRefused(503, f"the node looks for {limits.queries} different tails, and takes no more")
        if fitting.wide and sum(group.fitting.wide for group in groups.values()) >= limits.wide_queries:
            raise TailRefused(
                503,
                f"the node has {limits.wide_queries} tails that must look at every record; name a word that hits have",
            )
        if sum(group.fitting.cost for group in groups.values()) + fitting.cost > limits.cost:
            raise TailRefused(503, "the tails of the node look for as many words as they may together")

    # -- groups -------------------------------------------------------------------------------------------------------

    def _new_group(
        self, key: Key, names: Names, fitting: Fitting, fits: dict[str, Fit], bounds: dict[int, tuple[int, int]]
    ) -> Group:
        self._next_group += 1
        group = Group(self._next_group, key, names, fitting, self._behind, self._failed)
        self._groups[key] = self._by_number[group.number] = group
        floors = {number: stable for number, (_, stable) in bounds.items()}
        for topic, fit in fits.items():
            self._cover(group, fit, self._parts.of_topic(topic), floors)
        for place in group.processes:
            self._processes.watch(group, place)
        return group

    def _end_group(self, group: Group) -> None:
        del self._groups[group.key], self._by_number[group.number]
        places = group.processes
        for cover in group.covers.values():
            cover.lane.groups.discard(group)
        group.covers.clear()
        for place in places:
            self._processes.watch(group, place)

    def _cover(self, group: Group, fit: Fit, parts: Iterable[Part], floors: AnyMapping[int, int]) -> None:
        """Let a group have partitions of a topic, each from its floor on, or else its beginning.

        It has none in which no record can be a hit.
        """
        within = bounds_of(group.key.query, group.key.now_ms).partitions
        for part in parts:
            if within.first <= part.name.partition <= within.last:
                lane = self._parts.lane(part.number, fit.wide)
                lane.groups.add(group)
                group.covers[part.number] = Cover(part, lane, fit.wide, fit.mapping, floors.get(part.number, 0))

    def _failed(self, subscriber: Subscriber) -> None:
        """Something is wrong with one client, which is no reason to let the others wait."""
        self.log.failure("a tail is closed")
        subscriber.refuse(500, "the node failed on this tail; its log says why")
        self.leave(subscriber)

    def _check(self, group: Group) -> None:
        """Let the processes send the hits of a group only where somebody can take them."""
        if group.wanted is group.choked:
            self._processes.choke(group, not group.choked)

    def _tell_positions(self) -> Deferred[None]:
        telling = Deferred.fromCoroutine(self._positions_told())
        return telling.addErrback(lambda failure: self.log.failure("positions are not told", failure))

    async def _positions_told(self) -> None:
        """Tell every client how far it is, so that it can go on from there another time."""
        for count, group in enumerate(list(self._groups.values())):
            if not count % _AT_ONCE:
                await deferLater(self._clock, 0)
            await self._even()
            note = self._positions_of(group, group.reached)
            for member in group.members:
                if not member.free:
                    continue
                if not member.live:
                    member.tell(self._positions_of(group, member.at))
                elif note.text != group.told:
                    member.tell(note)
            group.told = note.text

    def _positions_of(self, group: Group, offsets: AnyMapping[int, int]) -> Note:
        return positions_note(by_name((group.covers[number].part.name, at) for number, at in offsets.items()))

    async def _even(self) -> None:
        """Return when all groups are equally far; what follows at once is done before that changes."""
        even: Deferred[None] = Deferred()
        self._handing_out.when_even(lambda: None if even.called else even.callback(None))
        await even

    def began_anew(self, place: int) -> None:
        """A new process is in this place, which knows nothing."""
        self._processes.began_anew(place)

    def _taken(self, place: int, size: int) -> None:
        if size:
            self._tell(place, Taken(size))

    # -- IPartitionHost -----------------------------------------------------------------------------------------------

    def partition_led(self, partition: PartitionId, name: TopicPartition, leader_epoch: int) -> None:
        """See `IPartitionHost`. Tails of its topic have it from its beginning."""
        place = self._following.place_of(partition)
        if place is None:
            return
        part = self._parts.add(partition, Place(*name), place)
        self._coming.extend((group, part) for group in self._by_number.values())
        self._let_come_soon()

    def _let_come_soon(self) -> None:
        if self._letting is None and self._coming:
            self._letting = self._clock.callLater(0, self._let_come)

    def _let_come(self) -> None:
        """Let groups have partitions that have come, for so long as the reactor may be held."""
        self._letting = None
        ends = self._clock.seconds() + SLICE_SECONDS
        while self._coming:
            group, part = self._coming.popleft()
            if group.number in self._by_number and self._parts.get(part.number) is part:
                self._let_have(group, part)
            if self._clock.seconds() >= ends:
                break
        self._let_come_soon()

    def _let_have(self, group: Group, part: Part) -> None:
        topic = part.name.topic
        if part.number in group.covers or not group.names.has(topic):
            return
        try:
            fit = group.fitting.found(topic, self._mapping_of(topic))
        except QueryError as error:
            for member in group.members:
                member.skipped([], f"the query does not fit the fields of {topic}, which is left out: {error}")
            return
        self._cover(group, fit, [part], {})
        if part.number in group.covers:
            self._processes.watch_soon(group, part.process)
            for member in group.members:
                if not member.live:
                    member.at.setdefault(part.number, 0)

    def partition_resigned(self, partition: PartitionId, name: TopicPartition) -> None:
        """See `IPartitionHost`."""
        part = self._parts.remove(partition)
        if part is None:
            return
        for group in self._by_number.values():
            if group.covers.pop(part.number, None) is not None:
                self._processes.watch_soon(group, part.process)
                for member in group.members:
                    member.at.pop(part.number, None)
