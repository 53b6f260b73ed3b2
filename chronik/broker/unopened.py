"""Partitions that exist and are not open yet: opened by the first request for one, or in the background.

Opening a log may take long, so it comes in steps. In the background they are taken a millisecond at a time; a request for a
partition takes those that are left of it at once. What cannot be opened is refused with the reason, and tried again after
`RETRY_SECONDS`; at a start it ends the start.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import CooperativeTask, Cooperator
from twisted.logger import Logger

from chronik.errors import CorruptLogError, KafkaError
from chronik.model import PartitionId, Uuid

RETRY_SECONDS = 5.0
_SLICE_SECONDS = 0.001
_START_SLICE_SECONDS = 0.05  # nobody is served yet

Opening = Generator[None, None, object]
"""The steps that open a partition. The last of them calls `Unopened.opened`."""
_NotOpened = (OSError, CorruptLogError, KafkaError)


def _raise(_: PartitionId, error: Exception) -> None:
    """At a start, what cannot be opened ends it with its line."""
    raise error


class Unopened:
    """What is still to be opened. `path_of` names a partition's directory for the log; `monotonic` is in seconds."""

    log = Logger()

    def __init__(
        self,
        cooperator: Cooperator,
        clock: IReactorTime,
        monotonic: Callable[[], float],
        path_of: Callable[[PartitionId], str],
    ) -> None:
        self._cooperator = cooperator
        self._clock = clock
        self._monotonic = monotonic
        self._path_of = path_of
        self._begins: dict[PartitionId, Callable[[], Opening]] = {}
        self._under_way: dict[PartitionId, Opening] = {}
        self._refused: dict[PartitionId, str] = {}  # those that could not be opened, until the next try, and why
        self._background: CooperativeTask[Iterator[None]] | None = None
        self._retry: IDelayedCall | None = None
        self._stopped = False

    def __contains__(self, partition_id: PartitionId) -> bool:
        return partition_id in self._begins

    def add(self, partition_id: PartitionId, begin: Callable[[], Opening]) -> None:
        """It is to be opened by what `begin` returns; what was said of it before counts no more."""
        self._begins[partition_id] = begin
        self._break_off(partition_id)

    def opened(self, partition_id: PartitionId) -> None:
        """It is open."""
        del self._begins[partition_id], self._under_way[partition_id]

    def forget(self, topic_id: Uuid) -> list[PartitionId]:
        """The topic is gone; those of its partitions that are not to be opened any more."""
        forgotten = [partition_id for partition_id in self._begins if partition_id.topic_id == topic_id]
        for partition_id in forgotten:
            del self._begins[partition_id]
            self._refused.pop(partition_id, None)
            self._break_off(partition_id)
        return forgotten

    def open_now(self, partition_id: PartitionId) -> str | None:
        """Open it before the return: None, or why that cannot be until the next try."""
        if partition_id not in self._refused:
            try:
                for _ in self._steps(partition_id):
                    pass
                return None
            except _NotOpened as error:
                self._not_opened(partition_id, error)
        return self._refused[partition_id]

    def open_all(self) -> Deferred[Any]:
        """Open all, at a start: fires when they are. Fails with the error of the first that cannot be opened."""
        return self._open_by(self._slices(_START_SLICE_SECONDS, _raise))

    def open_soon(self) -> None:
        """Open all in the background."""
        if self._begins and self._background is None:
            self._open_by(self._slices(_SLICE_SECONDS, self._not_opened))

    def stop(self) -> None:
        """Open nothing more in the background."""
        self._stopped = True
        if self._background is not None:
            self._background.stop()
        if self._retry is not None:
            self._retry.cancel()

    # -- inside

    def _steps(self, partition_id: PartitionId) -> Opening:
        """The steps that open a partition; those that are left where it is being opened already."""
        steps = self._under_way.get(partition_id)
        if steps is None:
            steps = self._under_way[partition_id] = self._begins[partition_id]()
        return steps

    def _break_off(self, partition_id: PartitionId) -> None:
        """What is being opened is gone, or is another now."""
        steps = self._under_way.pop(partition_id, None)
        if steps is not None:
            steps.close()

    def _not_opened(self, partition_id: PartitionId, error: Exception) -> None:
        """It stays unopened, for another try."""
        self._under_way.pop(partition_id, None)
        self._refused[partition_id] = str(error)
        self.log.error(
            "{path} cannot be opened: {error}; the next try is in {seconds:.0f} s",
            path=self._path_of(partition_id),
            error=error,
            seconds=RETRY_SECONDS,
        )
        if self._retry is None and not self._stopped:
            self._retry = self._clock.callLater(RETRY_SECONDS, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self._refused.clear()
        self.open_soon()

    def _open_by(self, slices: Iterator[None]) -> Deferred[Any]:
        self._background = background = self._cooperator.cooperate(slices)
        return background.whenDone().addBoth(self._ended)

    def _ended(self, result: Any) -> Any:
        self._background = None
        return None if self._stopped else result

    def _slices(self, seconds: float, refused: Callable[[PartitionId, Exception], object]) -> Iterator[None]:
        """Open what is not open, giving the reactor back after every slice. What cannot be opened goes to `refused`."""
        until = self._monotonic() + seconds
        while waiting := [each for each in self._begins if each not in self._refused]:
            for partition_id in waiting:
                if partition_id not in self._begins or partition_id in self._refused:
                    continue  # deleted, or opened by a request
                try:
                    for _ in self._steps(partition_id):
                        if self._monotonic() >= until:
                            yield
                            until = self._monotonic() + seconds
                        if self._stopped:
                            return
                except _NotOpened as error:
                    refused(partition_id, error)
                if self._monotonic() >= until:
                    yield
                    until = self._monotonic() + seconds
                if self._stopped:
                    return
