"""The node's side of SQL: it asks a process which topics a statement names, finds their logs, and has the statement run.

A snapshot is taken between the two: for each partition the offsets from the log's start to the last stable offset. The
process that runs the statement reads these and no others, so an answer can be repeated while they last.

A process that neither ends nor listens is killed: when its time is over, and when nobody waits for its answer any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from twisted.internet.defer import CancelledError, Deferred

from chronik.analytics.files import all_files
from chronik.analytics.messages import (
    Describe,
    Form,
    Limits,
    Plan,
    Planned,
    Ran,
    Run,
    Show,
    SqlFault,
    Table,
    Told,
)
from chronik.interfaces import IFollowedLogs
from chronik.model import Topic

MAX_UNDER_WAY = 100
"""Statements that run or wait for a process."""
MAX_PARTITIONS = 10_000
"""Of all topics of a statement."""
_SILENCE_SECONDS = 20.0
_PLAN_SECONDS = 20.0
_GRACE_SECONDS = 5.0
"""How long after the end of its time a statement may take to notice."""

Snapshot = Mapping[str, Mapping[int, tuple[int, int]]]
"""By topic and partition: the offsets that are read, from the first up to the second, not included."""
Declared = Callable[[Topic], dict[str, str]]


class Answer(NamedTuple):
    """What a statement came to: the pieces of its rows, and all about it."""

    ran: Ran
    pieces: list[bytes]
    snapshot: Snapshot


class SqlService:
    """`ask(request, silence seconds, progress)` gives a job to a process; it fails with `lost` where that has ended.

    `declared` tells the types of a topic's fields.
    """

    def __init__(
        self,
        ask: Callable[[msgspec.Struct, float, Callable[[Told], object]], Deferred[Any]],
        lost: type[Exception],
        logs: IFollowedLogs,
        declared: Declared,
        clock: Any,
    ) -> None:
        self._ask = ask
        self._lost = lost
        self._logs = logs
        self._declared = declared
        self._clock = clock
        self._under_way = 0

    async def plan(self, statement: str) -> Planned:
        """Which topics a statement names. Raises SqlFault."""
        planned: Planned = await self._counted(Plan(statement), _PLAN_SECONDS, lambda told: None)
        if planned.fault is not None:
            raise SqlFault(*msgspec.structs.astuple(planned.fault))
        return planned

    async def run(
        self,
        statement: str,
        topics: Sequence[Topic],
        limits: Limits,
        form: Form,
        progress: Callable[[Told], object] = lambda told: None,
    ) -> Answer:
        """Run a statement over the topics that were planned. Raises SqlFault, KafkaError."""
        tables = await self._tables(topics)
        return await self._answer(Run(statement, tables, limits, form), limits.seconds, tables, progress)

    async def describe(self, topic: Topic, limits: Limits, form: Form) -> Answer:
        """The columns of a topic. Raises SqlFault, KafkaError."""
        tables = await self._tables([topic])
        return await self._answer(Describe(tables[0], limits, form), limits.seconds, tables, lambda told: None)

    async def show(self, columns: Sequence[str], rows: Sequence[tuple[str | int | None, ...]], form: Form) -> Answer:
        """These rows, written in a form. Raises SqlFault."""
        return await self._answer(Show(tuple(columns), tuple(rows), form), _PLAN_SECONDS, (), lambda told: None)

    async def _tables(self, topics: Sequence[Topic]) -> tuple[Table, ...]:
        """The topics as they are now, some partitions in each turn of the reactor. Raises SqlFault, KafkaError."""
        if sum(len(topic.partitions) for topic in topics) > MAX_PARTITIONS:
            raise SqlFault("too_many_partitions", f"a statement reads at most {MAX_PARTITIONS} partitions")
        found = await all_files(self._logs, topics, self._clock)
        return tuple(
            Table(topic.name, self._declared(topic), tuple(files)) for topic, files in zip(topics, found, strict=True)
        )

    async def _answer(
        self, request: msgspec.Struct, seconds: float, tables: Sequence[Table], progress: Callable[[Told], object]
    ) -> Answer:
        pieces: list[bytes] = []

        def told(some: Told) -> None:
            if some.piece:
                pieces.append(some.piece)
            else:
                progress(some)

        ran: Ran = await self._counted(request, seconds, told)
        if ran.fault is not None:
            raise SqlFault(*msgspec.structs.astuple(ran.fault))
        snapshot = {
            table.topic: {each.partition: (each.start, each.stable) for each in table.partitions} for table in tables
        }
        return Answer(ran, pieces, snapshot)

    async def _counted(self, request: msgspec.Struct, seconds: float, told: Callable[[Told], object]) -> Any:
        """Let a process do it, for as long as it may take once it has begun."""
        if self._under_way >= MAX_UNDER_WAY:
            raise SqlFault("too_many_statements", f"{MAX_UNDER_WAY} statements are under way; try again", 429)
        self._under_way += 1
        try:
            return await self._ended(request, seconds, told)
        finally:
            self._under_way -= 1

    async def _ended(self, request: msgspec.Struct, seconds: float, told: Callable[[Told], object]) -> Any:
        """What comes of it. Whoever cancels this ends the process."""
        timer: Any = None
        given_up = is_late = False

        def give_up(_: object) -> None:
            nonlocal given_up
            given_up = True
            doing.cancel()

        def late() -> None:
            nonlocal is_late
            is_late = True
            outcome.cancel()

        def heard(some: Told) -> None:
            nonlocal timer
            if timer is None:  # it waits for its turn no more
                timer = self._clock.callLater(seconds + _GRACE_SECONDS, late)
            told(some)

        def ended(result: Any) -> None:
            if not given_up:
                outcome.callback(result)

        outcome: Deferred[Any] = Deferred(give_up)
        silence = (
            _SILENCE_SECONDS if isinstance(request, Run) else max(seconds, _SILENCE_SECONDS)
        )  # it alone tells that it lives
        doing = self._ask(request, silence, heard)
        doing.addBoth(ended)
        try:
            return await outcome
        except self._lost as problem:
            raise SqlFault("process_lost", f"the process that ran the statement has ended: {problem}", 503) from None
        except CancelledError:
            if not is_late:
                raise
            raise SqlFault("timeout", "the statement took longer than it may, and had to be ended", 408) from None
        finally:
            if timer is not None and timer.active():
                timer.cancel()
