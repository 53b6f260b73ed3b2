"""Feeding those who begin in the past with pages out of the log, until they have what their group has.

For each there is a coroutine: it asks a process for a page (`Replay`) when the client has taken the last one, and keeps
nothing. Near the end the subscriber holds what its group gets, and joins it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from chronik.search.following import Following
from chronik.search.messages import SearchedPart
from chronik.search.parcels import Missing, Parcel, ParcelHit
from chronik.search.query import QueryError
from chronik.search.subscriber import Subscriber
from chronik.search.tail_group import Cover, Group
from chronik.search.tail_messages import Replay, Replayed

PAGE_HITS = 500
PAGE_BYTES = 128 << 10
_PAGE_SECONDS = 0.2
_NEAR = 100_000
"""Who is no farther behind than so many offsets holds what its group gets."""
_SILENCE_SECONDS = 10.0
_AGAIN_SECONDS = 0.1
_MOST_SECONDS = 5.0
_TRIES = 30
_MOST = 1 << 63
_AT_ONCE = 2
"""Pages that are asked for at the same time, of one process: it has other things to do."""


class CatchingUp:
    """`ask` asks the process in a place. `when_even` calls what has to know how far groups are, `changed` is told of a group
    whose members want more, or less, than before.
    """

    log = Logger()

    def __init__(
        self,
        following: Following,
        ask: Callable[..., Deferred[Any]],
        when_even: Callable[[Callable[[], object]], object],
        changed: Callable[[Group], object],
        clock: Any,
    ) -> None:
        self._following = following
        self._ask = ask
        self._when_even = when_even
        self._changed = changed
        self._clock = clock
        self._turns: dict[int, DeferredSemaphore] = {}
        self._under_way: dict[Subscriber, Deferred[None]] = {}

    def begin(self, subscriber: Subscriber, group: Group) -> None:
        """Feed a subscriber that is behind its group."""
        if subscriber in self._under_way:
            return
        task = self._under_way[subscriber] = Deferred.fromCoroutine(self._feed(subscriber, group))
        task.addErrback(self._failed, subscriber)
        task.addBoth(lambda _: self._under_way.pop(subscriber, None))

    def end(self, subscriber: Subscriber) -> None:
        """Its client is gone."""
        task = self._under_way.pop(subscriber, None)
        if task is not None:
            task.cancel()

    def _failed(self, failure: Failure, subscriber: Subscriber) -> None:
        if not isinstance(failure.value, CancelledError):
            self.log.failure("a tail is closed: reading the past for it failed", failure)
            subscriber.refuse(500, "the node failed on this tail; its log says why")

    async def _feed(self, subscriber: Subscriber, group: Group) -> None:
        while not subscriber.gone:
            await self._even()
            reached = group.reached
            if _distance(subscriber, reached) <= _NEAR:
                subscriber.hold(reached)
                self._changed(group)
            await self._pages(subscriber, group, reached)
            if subscriber.holds:
                subscriber.join()
                self._changed(group)
                return

    async def _even(self) -> None:
        """Return when all groups are equally far; what follows at once is done before that changes."""
        even: Deferred[None] = Deferred()
        self._when_even(lambda: None if even.called else even.callback(None))
        await even

    async def _pages(self, subscriber: Subscriber, group: Group, upper: Mapping[int, int]) -> None:
        """Feed it with all below these offsets."""
        failed = number = 0
        while not subscriber.gone:
            await _room(subscriber)
            lacking = [part for part, at in subscriber.at.items() if at < upper.get(part, 0) and part in group.covers]
            if not lacking or subscriber.gone:
                return
            number += 1
            turn = number % len(lacking)
            try:
                came_further = await self._page(subscriber, group, lacking[turn:] + lacking[:turn], upper)
                failed = 0
            except QueryError as error:
                subscriber.refuse(400, str(error))
                return
            except CancelledError:
                raise
            except Exception as error:  # the process has died, most likely
                failed += 1
                if failed > _TRIES:
                    raise
                self.log.debug("a page for a tail is asked for again: {error}", error=error)
                came_further = False
            if not came_further:
                await deferLater(self._clock, min(_AGAIN_SECONDS * (failed + 1), _MOST_SECONDS))

    async def _page(self, subscriber: Subscriber, group: Group, lacking: list[int], upper: Mapping[int, int]) -> bool:
        """Feed it with one page, of partitions of one process; whether it came any further."""
        place = group.covers[lacking[0]].part.process
        covers = [group.covers[part] for part in lacking if group.covers[part].part.process == place]
        turns = self._turns.setdefault(place, DeferredSemaphore(_AT_ONCE))
        await turns.acquire()
        try:
            bounds = self._following.bounds([cover.part.id for cover in covers])
            covers = [cover for cover in covers if cover.part.id in bounds]
            for cover in covers:
                self._pass_over(subscriber, cover, bounds[cover.part.id][0], "they are deleted")
            covers = [
                cover for cover in covers if subscriber.at.get(cover.part.number, _MOST) < upper[cover.part.number]
            ]
            if not covers:
                return False
            request = Replay(
                query=group.key.query,
                parts=tuple(_part(cover, subscriber, upper) for cover in covers),
                now_ms=group.key.now_ms,
                max_hits=PAGE_HITS,
                max_bytes=PAGE_BYTES,
                seconds=_PAGE_SECONDS,
            )
            answer: Replayed = await self._ask(place, request, _SILENCE_SECONDS)
        finally:
            turns.release()
        return self._turn_over(subscriber, covers, answer, upper)

    def _turn_over(
        self, subscriber: Subscriber, covers: list[Cover], answer: Replayed, upper: Mapping[int, int]
    ) -> bool:
        """Send what the process has found, and note how far it came."""
        numbers = [cover.part.number for cover in covers]
        if answer.hits:
            subscriber.page(Parcel([ParcelHit(numbers[hit.part], hit.offset, hit.json) for hit in answer.hits]))
        came_further = False
        for number, reached in zip(numbers, answer.reached, strict=True):
            if number in subscriber.at and reached > subscriber.at[number]:
                subscriber.at[number] = reached
                came_further = True
        for index, why in answer.failures:
            self._pass_over(subscriber, covers[index], upper[numbers[index]], why)
            came_further = True
        return came_further

    def _pass_over(self, subscriber: Subscriber, cover: Cover, following: int, why: str) -> None:
        """Tell a subscriber that it will not get what lies before an offset."""
        at = subscriber.at.get(cover.part.number, following)
        if at < following:
            subscriber.skipped([Missing(cover.part.name, at, following - 1)], why)
            subscriber.at[cover.part.number] = following


def _part(cover: Cover, subscriber: Subscriber, upper: Mapping[int, int]) -> SearchedPart:
    number, (topic_id, partition) = cover.part.number, cover.part.id
    return SearchedPart(cover.part.name.topic, topic_id, partition, subscriber.at[number], upper[number], cover.mapping)


def _distance(subscriber: Subscriber, reached: Mapping[int, int]) -> int:
    return sum(max(reached.get(part, 0) - at, 0) for part, at in subscriber.at.items())


async def _room(subscriber: Subscriber) -> None:
    """Return when the client has taken all that there was."""
    while not (subscriber.free or subscriber.gone):
        room: Deferred[None] = Deferred()
        subscriber.has_room = lambda room=room: None if room.called else room.callback(None)  # type: ignore[misc]
        await room
