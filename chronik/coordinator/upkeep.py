"""Deletes what groups keep and nobody asks for any more: expired offsets, and what belongs to deleted topics."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from chronik.coordinator.group_partition import GroupPartition
from chronik.errors import KafkaError
from chronik.model import Topic


class Upkeep:
    """Looks after the partitions in `hosted`, every `interval_ms` for what has expired."""

    log = Logger()

    def __init__(
        self,
        hosted: Mapping[int, GroupPartition],
        interval_ms: int,
        clock: IReactorTime,
        wall_clock_ms: Callable[[], int],
    ) -> None:
        self._hosted = hosted
        self._interval_ms = interval_ms
        self._clock = clock
        self._wall_clock_ms = wall_clock_ms
        self._cleaning: IDelayedCall | None = None

    def start(self) -> None:
        """Delete what expires from now on."""
        self._cleaning = self._clock.callLater(self._interval_ms / 1000, self._clean)

    def stop(self) -> None:
        """Delete nothing more."""
        if self._cleaning is not None and self._cleaning.active():
            self._cleaning.cancel()

    def _clean(self) -> None:
        self.start()
        Deferred.fromCoroutine(self.clean()).addErrback(
            lambda failure: self.log.failure("expired offsets could not be deleted", failure=failure)
        )

    async def clean(self) -> None:
        """Delete what has expired in every partition here."""
        for hosted in list(self._hosted.values()):
            try:
                await hosted.clean()
            except KafkaError as error:
                self.log.warn(
                    "{partition}: expired offsets stay: {error}", partition=str(hosted.name), error=str(error)
                )

    def forget(self, deleted: Collection[Topic]) -> None:
        """Delete the offsets, and the state of share groups, of topics that were deleted."""
        deleted_ms = self._wall_clock_ms()
        for hosted in self._hosted.values():
            Deferred.fromCoroutine(self._forget(hosted, deleted, deleted_ms)).addErrback(
                lambda failure: self.log.failure("offsets of deleted topics could not be deleted", failure=failure)
            )

    async def _forget(self, hosted: GroupPartition, deleted: Collection[Topic], deleted_ms: int) -> None:
        try:
            await hosted.forget_topics({topic.name for topic in deleted}, deleted_ms)
            await hosted.forget_share_state([topic.topic_id for topic in deleted])
        except KafkaError as error:
            self.log.warn(
                "{partition}: offsets of deleted topics stay: {error}", partition=str(hosted.name), error=str(error)
            )
