"""The node's side of saved searches: the processes that own the partitions are asked to select."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.task import deferLater
from zope.interface import implementer

from chronik.errors import ChronikError, ErrorCode, KafkaError
from chronik.interfaces import ISelector, SelectedBatches, Tally
from chronik.model import PartitionId, SavedSearch
from chronik.search.following import Following
from chronik.search.query import QueryError
from chronik.search.saved_messages import CountMatches, Piece, Select

AT_ONCE = 16
"""Selections under way in all processes together; the others wait for their turn."""
STEP_SECONDS = 0.1
STEP_SCAN_BYTES = 16 << 20

_SILENCE_SECONDS = 10.0
_AGAIN_SECONDS = 0.05
_TRIES = 100

_T = TypeVar("_T")

Ask = Callable[[int, msgspec.Struct, float, Callable[[Any], object]], Deferred[Any]]
"""`ask(place, request, silence seconds, progress)`: the result of a job."""


@implementer(ISelector)
class Selecting:
    """Asks by `ask` the processes that `following` tells of the logs."""

    def __init__(self, following: Following, ask: Ask, clock: Any) -> None:
        self._following = following
        self._ask = ask
        self._clock = clock
        self._turns = DeferredSemaphore(AT_ONCE)

    def select(
        self, source: PartitionId, topic: str, search: SavedSearch, start: int, max_bytes: int
    ) -> Deferred[SelectedBatches]:
        """See `ISelector`."""

        async def selecting() -> SelectedBatches:
            pieces: list[Piece] = []

            def request(upper: int) -> Select:
                return Select(max_bytes=max_bytes, **_common(source, topic, search, start, upper))

            selected = await self._asked(source, topic, start, request, pieces.append)
            if selected is None:
                return SelectedBatches(start, b"", ())
            data = b"".join([*(piece.data for piece in pieces), selected.data]) if pieces else selected.data
            return SelectedBatches(selected.reached, data, selected.ends, selected.failure)

        return self._in_turn(selecting)

    def tally(self, source: PartitionId, topic: str, search: SavedSearch, start: int, per_ms: int) -> Deferred[Tally]:
        """See `ISelector`."""

        async def counting() -> Tally:
            def request(upper: int) -> CountMatches:
                return CountMatches(per_ms=per_ms, **_common(source, topic, search, start, upper))

            counted = await self._asked(source, topic, start, request)
            return Tally(start, ()) if counted is None else Tally(counted.reached, counted.windows, counted.failure)

        return self._in_turn(counting)

    def _in_turn(self, work: Callable[[], Coroutine[Deferred[Any], Any, _T]]) -> Deferred[_T]:
        return self._turns.run(lambda: Deferred.fromCoroutine(work()))

    async def _asked(
        self,
        source: PartitionId,
        topic: str,
        start: int,
        request: Callable[[int], Select | CountMatches],
        progress: Callable[[Any], object] = lambda _: None,
    ) -> Any:
        """What the process answers to `request(upper)`; None where there is nothing from `start` on. Raises KafkaError."""
        for _ in range(_TRIES):
            bounds = self._following.bounds([source]).get(source)
            place = self._following.place_of(source)
            if bounds is None or place is None:
                raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"partition {source.partition} of {topic} isn't here")
            if start >= bounds[1]:
                return None
            try:
                answer = await self._ask(place, request(bounds[1]), _SILENCE_SECONDS, progress)
            except QueryError as error:
                raise KafkaError(ErrorCode.INVALID_REQUEST, str(error)) from error
            except ChronikError as error:
                raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(error)) from error
            if not answer.unknown:
                return answer
            await deferLater(self._clock, _AGAIN_SECONDS)  # it has just begun anew, and is told of it first
        raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"the process that searches {topic} doesn't know of it")


def _common(source: PartitionId, topic: str, search: SavedSearch, start: int, upper: int) -> dict[str, Any]:
    """What every request has."""
    return {
        "topic": topic,
        "topic_id": source.topic_id,
        "partition": source.partition,
        "start": start,
        "upper": upper,
        "query": search.query,
        "mapping": search.mapping,
        "seconds": STEP_SECONDS,
        "scan_bytes": STEP_SCAN_BYTES,
    }
