"""One worker process, as the node sees it: started, fed with frames, listened to, watched, killed.

What it says goes to its `IWorkerOwner`, message by message; what it prints goes to the node's log, line by line. It is killed
when what it sends is no message, or when it gives no sign of life for as long as its owner expects one (`expect`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

import chronik
from chronik.workers.messages import Configure, FrameError, FrameReader, FromWorker, Ready, frame, from_worker
from chronik.workers.pipes import ANSWERS_FD, JOBS_FD

NICE = 10
_START_SECONDS = 60.0
_REAP_SECONDS = 0.1
_LINE_BYTES = 2000
_START_DESCRIPTORS = 12
"""Both ends of five pipes, and two for a look at what is open."""
_SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(chronik.__file__)))
_SILENT = "it gave no sign of life for {:.0f} s"


class WorkerOwner(Protocol):
    """Whom a worker process works for."""

    def ready(self, worker: WorkerProcess) -> None:
        """It can be given work."""

    def received(self, worker: WorkerProcess, message: FromWorker) -> None:
        """It says something. Raises FrameError for what cannot be understood: then it is killed."""

    def lost(self, worker: WorkerProcess, cause: str, wanted: bool) -> None:
        """It is gone. `wanted` means that it was killed by no fault of its own."""


class WorkerProcess(ProcessProtocol):
    """A process of `command`, not started before `spawn`. `ended` fires when it is reaped."""

    transport: Any
    log = Logger()

    def __init__(self, owner: WorkerOwner, reactor: Any) -> None:
        self._owner = owner
        self._reactor = reactor
        self._reader = FrameReader()
        self._timer: Any = None
        self._cause = ""
        self._gone = self._wanted = False
        self._printed = b""
        self.starting = True
        self.pid: int | None = None
        self.ended: Deferred[None] = Deferred()

    def spawn(self, command: Sequence[str]) -> None:
        """Start the process. One that the system has no room for is lost at once, by a fault of its own."""
        try:
            _check_descriptors()
            self._reactor.spawnProcess(
                self,
                command[0],
                command,
                env=environment(os.environ),
                childFDs={0: "w", 1: "r", 2: "r", JOBS_FD: "w", ANSWERS_FD: "r"},
            )
        except OSError as error:
            self._is_gone(f"it cannot be started: {error.strerror}")
            self.ended.callback(None)

    def __str__(self) -> str:
        return "a worker process" if self.pid is None else f"worker process {self.pid}"

    @property
    def usable(self) -> bool:
        """Whether it is ready, and neither gone nor about to be."""
        return not (self.starting or self._gone or self._cause)

    def send(self, data: bytes) -> None:
        """Give it a frame. What it doesn't read yet is kept."""
        self.transport.writeToChild(JOBS_FD, data)

    def kill(self, cause: str, wanted: bool = True) -> None:
        """End it at once. `wanted` is for what is no fault of its own."""
        if not self._cause:
            self._cause, self._wanted = cause, wanted
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")
        self._is_gone("killed")

    def expect(self, seconds: float, complaint: str = _SILENT) -> None:
        """Kill it unless `expect` or `rest` is called within so many seconds."""
        self.rest()
        self._timer = self._reactor.callLater(seconds, lambda: self.kill(complaint.format(seconds), wanted=False))

    def rest(self, seconds: float | None = None, then: Callable[[], object] = lambda: None) -> None:
        """Expect nothing from it any more; call `then` if it rests for `seconds`."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None if seconds is None else self._reactor.callLater(seconds, then)

    # -- ProcessProtocol ----------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """The process was started."""
        self.pid = self.transport.pid
        self.transport.closeChildFD(0)
        self.send(frame(Configure(NICE)))
        self.expect(_START_SECONDS, "it was not ready after {:.0f} s")

    def childDataReceived(self, child_fd: int, data: bytes) -> None:
        """It tells something, or something in it has printed."""
        if child_fd != ANSWERS_FD:
            self._print(data)
            return
        try:
            for body in self._reader.feed(data):
                if self._gone:
                    return  # its owner knows nothing of it any more
                message = from_worker(body)
                if isinstance(message, Ready):
                    self.starting = False
                    self.rest()
                    self._owner.ready(self)
                else:
                    self._owner.received(self, message)
        except FrameError as error:
            self.kill(str(error), wanted=False)

    def _print(self, data: bytes) -> None:
        """Whole lines of what was printed go to the node's log."""
        *lines, self._printed = (self._printed + data).split(b"\n")
        self._printed = self._printed[-_LINE_BYTES:]
        for line in lines:
            text = line[:_LINE_BYTES].decode("utf-8", "replace")
            self.log.warn("worker process {pid}: {text}", pid=self.pid, text=text)

    def childConnectionLost(self, child_fd: int) -> None:
        """Its end of a pipe is closed: of that which it answers on, it is dead."""
        if child_fd == ANSWERS_FD:
            self._is_gone("it closed its pipe")
            try:
                self.transport.signalProcess("KILL")
            except ProcessExitedAlready:
                return
            self._reap()

    def _reap(self) -> None:
        """Where the reactor doesn't hear of ended children (it is not on the main thread), ask for this one."""
        if self.transport.pid is not None:
            self.transport.reapProcess()
        if self.transport.pid is not None and not self.ended.called:
            self._timer = self._reactor.callLater(_REAP_SECONDS, self._reap)

    def processEnded(self, reason: Failure) -> None:
        """It is reaped, and its pipes are closed."""
        self._is_gone(reason.getErrorMessage())
        self.rest()
        if not self.ended.called:
            self.ended.callback(None)

    def _is_gone(self, cause: str) -> None:
        if self._gone:
            return
        self._gone, self.starting = True, False
        self.rest()
        self._owner.lost(self, self._cause or cause, self._wanted)


def _check_descriptors() -> None:
    """Raise OSError unless a start has the descriptors that it takes: the reactor leaks its pipes when it finds too few."""
    taken: list[int] = []
    try:
        taken.extend(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) for _ in range(_START_DESCRIPTORS))
    finally:
        for fd in taken:
            os.close(fd)


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The worker finds this very package, wherever the node had it from."""
    path = os.pathsep.join(filter(None, [_SOURCE, inherited.get("PYTHONPATH", "")]))
    return {**inherited, "PYTHONPATH": path}


def main_of(name: str) -> tuple[str, ...]:
    """The command of a worker process that serves what `chronik.worker_main` knows as `name`."""
    return (sys.executable, "-m", "chronik.worker_main", name)
