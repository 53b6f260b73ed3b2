"""What runs in a worker process that stays: many jobs side by side, news of the node, and work of its own in between.

A job is a generator: each `yield` lets the others go on, and may tell something on its way. Jobs take turns, one step each;
between two rounds one step of the process's own work is done (`background`), so neither can starve the other. A step should
take a few milliseconds. Messages are taken between steps, in their order, so a job knows all that was told before it; many are
taken some at a time. A job that yields `REST` has nothing to do before a message comes: where that goes for all, the process
sleeps.

As long as it has jobs, or messages to take, the process gives a sign of life about once a second; only a step that hangs is
silent.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Mapping
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import msgspec

from chronik.workers.messages import (
    Alive,
    Cancel,
    Configure,
    Done,
    Failed,
    FromWorker,
    JobKind,
    NewsKind,
    Progress,
    Ready,
    Start,
    Tell,
    ToWorker,
    packed,
    unpacked,
)
from chronik.workers.pipes import open_inbox, send

Message = TypeVar("Message")
Steps = Generator[msgspec.Struct | None, None, msgspec.Struct]
_ALIVE_SECONDS = 1.0
_TAKING_SECONDS = 0.02
"""For how long messages are taken before the jobs go on."""


class Rest(msgspec.Struct, frozen=True):
    """See `REST`."""


REST = Rest()
"""What a job yields that waits for news. It is stepped again after the next message, whatever that is, or about a second."""


class Residence:
    """The jobs under way in one process.

    `background` does one step of the process's own work and says whether there is more. `send` says something to the node,
    `clock` tells seconds.
    """

    def __init__(
        self,
        jobs: Mapping[JobKind, Callable[[Any], Steps]],
        news: Mapping[NewsKind, Callable[[Any], object]],
        background: Callable[[], bool],
        send: Callable[[FromWorker], object],
        clock: Callable[[], float],
    ) -> None:
        self._jobs = {kind.name: (kind, job) for kind, job in jobs.items()}
        self._news = {kind.name: (kind, listener) for kind, listener in news.items()}
        self._background = background
        self._send = send
        self._clock = clock
        self._under_way: dict[int, Steps] = {}
        self._said = clock()
        self._idle = True

    @property
    def patience(self) -> float | None:
        """Seconds that the next message may be waited for: 0 while there is something to do, None for as long as it takes."""
        if not self._idle:
            return 0.0
        return _ALIVE_SECONDS if self._under_way else None

    def take_some(self, messages: deque[ToWorker]) -> None:
        """Take the first of these messages, for a few milliseconds. Raises FrameError as `take` does."""
        ends = self._clock() + _TAKING_SECONDS
        while messages:
            self.take(messages.popleft())
            now = self._clock()
            if now - self._said >= _ALIVE_SECONDS:
                self._say(Alive())
            if now >= ends:
                break

    def take(self, message: ToWorker) -> None:
        """A message of the node. Raises FrameError for news that cannot be understood."""
        if isinstance(message, Start):
            try:
                kind, job = self._jobs[message.kind]
                self._under_way[message.job] = job(unpacked(message.request, kind.request))
            except Exception as error:
                self._say(Failed(message.job, type(error).__name__, str(error)))
        elif isinstance(message, Cancel):
            steps = self._under_way.pop(message.job, None)
            if steps is not None:
                steps.close()
        elif isinstance(message, Tell):
            news, listener = self._news[message.kind]
            listener(unpacked(message.body, news.body))
        self._idle = False

    def turn(self) -> None:
        """A step of each job, and one of the background."""
        busy = False
        for number, steps in list(self._under_way.items()):
            busy |= self._step(number, steps)
        busy |= self._background()
        self._idle = not busy
        if self._under_way and self._clock() - self._said >= _ALIVE_SECONDS:
            self._say(Alive())

    def _step(self, number: int, steps: Steps) -> bool:
        """One step of a job; whether it goes on without a message."""
        try:
            told = next(steps)
        except StopIteration as end:
            del self._under_way[number]
            self._say(Done(number, packed(end.value)))
        except Exception as error:
            del self._under_way[number]
            self._say(Failed(number, type(error).__name__, str(error)))
        else:
            if told is not None and told is not REST:
                self._say(Progress(number, packed(told)))
            return told is not REST
        return False

    def _say(self, message: FromWorker) -> None:
        self._said = self._clock()
        self._send(message)


def reside(furnish: Callable[[Callable[[FromWorker], object]], Residence]) -> None:
    """Do what the node asks and hear what it tells, in the residence that `furnish(send)` makes. Never returns."""
    inbox = open_inbox()
    residence = furnish(send)
    messages: deque[ToWorker] = deque()
    while True:
        for message in waiting(inbox, 0.0 if messages else residence.patience):
            if isinstance(message, Configure):
                os.nice(message.nice)
                send(Ready())
            else:
                messages.append(message)
        residence.take_some(messages)
        residence.turn()


def waiting(inbox: SimpleQueue[Message], patience: float | None) -> list[Message]:
    """All messages that have come; the first is waited for so many seconds, or, with None, as long as it takes."""
    found: list[Message] = []
    try:
        if patience != 0:
            found.append(inbox.get(timeout=patience))
        while True:
            found.append(inbox.get_nowait())
    except Empty:
        return found
