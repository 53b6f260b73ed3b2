"""Removes files and directories that were given up: after a delay, for reads that are under way, and away from the reactor.

What is given up was renamed before, so that it is never taken for data again; a node that goes down in between finds it by
its suffix when it starts. To unlink a large file can take a disk a tenth of a second, hence the thread.
"""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from chronik.interfaces import IDisk


class Trash(Service):
    """Takes paths to remove from `disk`. Stopping forgets what is not due: the next start finds it."""

    log = Logger()

    def __init__(self, disk: IDisk, reactor: Any) -> None:
        self._disk = disk
        self._reactor = reactor
        self._due: set[Any] = set()
        self._removals: set[Deferred[None]] = set()

    def discard(self, path: str, delay_ms: int) -> None:
        """Remove what is at `path`, in `delay_ms`."""

        def now() -> None:
            self._due.discard(call)
            removal: Deferred[None] = deferToThreadPool(
                self._reactor, self._reactor.getThreadPool(), self._disk.remove, path
            )
            self._removals.add(removal)
            removal.addErrback(self._failed, path)
            removal.addBoth(lambda _: self._removals.discard(removal))

        call = self._reactor.callLater(delay_ms / 1000, now)
        self._due.add(call)

    def _failed(self, failure: Failure, path: str) -> None:
        self.log.warn("{path} cannot be removed: {problem}", path=path, problem=failure.getErrorMessage())

    def stopService(self) -> None:
        """Remove nothing more."""
        super().stopService()
        for call in self._due:
            call.cancel()
        self._due.clear()
