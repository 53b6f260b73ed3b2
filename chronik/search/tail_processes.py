"""What the processes that look for tails know of them: which groups, and from where on.

Each process that owns a partition of a group is told of it, and has one job, the progress of which is what it has found. A
process that comes anew knows nothing: it is told of all its groups again, from where they are, some in each turn of the
reactor, and then given the job.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chronik.search.handing_out import SLICE_SECONDS, HandingOut
from chronik.search.tail_group import UNTOLD, Group
from chronik.search.tail_messages import Choke, Tail, Taken, Unwatch, Watch, WatchedPart

News = Watch | Unwatch | Choke | Taken

_SILENCE_SECONDS = 10.0
_AGAIN_SECONDS = 1.0


class _Process:
    """A process, or what will be one. `untold` are the groups that it must be told of first."""

    def __init__(self) -> None:
        self.groups: dict[Group, None] = {}
        self.untold: dict[Group, None] = {}
        self.up = False
        self.job: Deferred[Any] | None = None
        self.telling: Any = None


class TailProcesses:
    """Asked by `ask(place, request, silence, progress)`, told by `tell`; what they find is given to `handing_out`."""

    log = Logger()

    def __init__(
        self,
        ask: Callable[..., Deferred[Any]],
        tell: Callable[[int, News], object],
        handing_out: HandingOut,
        clock: Any,
    ) -> None:
        self._ask = ask
        self._tell = tell
        self._handing_out = handing_out
        self._clock = clock
        self._processes: dict[int, _Process] = {}
        self._sequence = 0
        self._stopped = False

    def watch(self, group: Group, place: int) -> None:
        """Let a process look for a group in the partitions that it covers now, or, where there are none, no more."""
        process = self._process(place)
        process.groups[group] = None
        if process.untold and place in group.processes:
            process.untold[group] = None  # in its turn
            return
        self._tell_of(group, place)
        if process.up and process.job is None:
            self._begin(place, process)

    def watch_soon(self, group: Group, place: int) -> None:
        """The same, when it is the group's turn: for many groups at once."""
        process = self._process(place)
        process.groups[group] = process.untold[group] = None
        self._go_on_telling(place, process)

    def choke(self, group: Group, choked: bool) -> None:
        """Let hits of a group be counted only, or sent again."""
        group.choked = choked
        for place in group.processes:
            self._tell(place, Choke(group.number, choked))

    def began_anew(self, place: int) -> None:
        """There is a new process in this place."""
        process = self._process(place)
        self._handing_out.finish(place)
        covers = [cover for group in process.groups for cover in group.covers.values() if cover.part.process == place]
        for cover in covers:
            cover.floor, cover.since = cover.reached, UNTOLD
        for cover in covers:
            cover.lane.forget()
        process.up = True
        process.untold = dict(process.groups)
        self._go_on_telling(place, process)

    def stop(self) -> None:
        """End all jobs."""
        self._stopped = True
        for process in self._processes.values():
            self._end(process)
            if process.telling is not None:
                process.telling.cancel()
                process.telling = None

    def _process(self, place: int) -> _Process:
        return self._processes.setdefault(place, _Process())

    # -- telling ------------------------------------------------------------------------------------------------------

    def _go_on_telling(self, place: int, process: _Process) -> None:
        if process.telling is None and process.groups and not self._stopped:
            process.telling = self._clock.callLater(0, self._tell_some, place, process)

    def _tell_some(self, place: int, process: _Process) -> None:
        process.telling = None
        ends = self._clock.seconds() + SLICE_SECONDS
        while process.untold:
            group = next(iter(process.untold))
            del process.untold[group]
            self._tell_of(group, place)
            if self._clock.seconds() >= ends:
                break
        if process.untold:
            self._go_on_telling(place, process)
        elif process.up and process.job is None:
            self._begin(place, process)

    def _tell_of(self, group: Group, place: int) -> None:
        covers = [cover for cover in group.covers.values() if cover.part.process == place]
        if not covers:
            process = self._process(place)
            process.groups.pop(group, None)
            process.untold.pop(group, None)
            self._tell(place, Unwatch(group.number))
            if not process.groups:
                self._end(process)
            return
        self._sequence += 1
        for cover in covers:
            cover.since = min(cover.since, self._sequence)
        parts = tuple(
            WatchedPart(
                cover.part.number,
                cover.part.name.topic,
                cover.part.id.topic_id,
                cover.part.name.partition,
                cover.floor,
                cover.wide,
                cover.mapping,
            )
            for cover in covers
        )
        self._tell(place, Watch(self._sequence, group.number, group.key.query, group.key.now_ms, parts))
        if group.choked:
            self._tell(place, Choke(group.number, True))

    # -- the job ------------------------------------------------------------------------------------------------------

    def _begin(self, place: int, process: _Process) -> None:
        if self._stopped or not process.groups:
            return

        def failed(failure: Failure) -> None:
            if process.job is not job:
                return  # it was ended here
            process.job = None
            if hasattr(failure.value, "error"):  # a defect: the process is still there
                self.log.failure("tails are interrupted, and begin again", failure)
                self._clock.callLater(_AGAIN_SECONDS, self._begin_again, place, process)
            elif not isinstance(failure.value, CancelledError):
                process.up = False  # another one will come

        process.job = job = self._ask(place, Tail(), _SILENCE_SECONDS, lambda told: self._handing_out.add(place, told))
        job.addErrback(failed)

    def _begin_again(self, place: int, process: _Process) -> None:
        """Let the process forget all, and tell it anew."""
        if not self._stopped and process.up and process.job is None:
            for group in process.groups:
                self._tell(place, Unwatch(group.number))
            self.began_anew(place)

    def _end(self, process: _Process) -> None:
        job, process.job = process.job, None
        if job is not None:
            job.cancel()
