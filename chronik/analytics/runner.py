"""The node's side of continuous queries: each is opened in a process, and taken from step to step, each step one transaction.

A life of a query: fence who ran it before (`IQueryWriter.begin` ends what was left open), read its state, then step after step:
ask the process what the next piece of the log comes to, write that as one transaction, go on. A step that cannot be written,
or a process that dies, ends the life; the next one goes on from what was written last. So nothing is written twice, and
nothing is left out, wherever it ends.

A query that fails by itself (an overflow, a state that is too large) is tried again, later and later, and says why meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from chronik.analytics.files import AT_ONCE, all_files, partition_files
from chronik.analytics.interfaces import QueryWriter, Written
from chronik.analytics.messages import PartitionFiles, Table
from chronik.analytics.query_messages import (
    Checked,
    CheckQuery,
    Close,
    Explain,
    Explained,
    Found,
    LookUp,
    Open,
    Opened,
    Outcome,
    QueryNames,
    ReadQuery,
    Stepped,
    Sweep,
    Swept,
    TakeStep,
    Targets,
)
from chronik.analytics.window import NEVER
from chronik.errors import ChronikError, KafkaError
from chronik.interfaces import IClusterMetadata, IFollowedLogs
from chronik.model import QUERY_STATE_TOPIC, ContinuousQuery, PartitionId, Topic, Uuid, uuid_to_text
from chronik.telemetry.metrics import QueryMetrics

PERIOD_SECONDS = 1.0
"""How often the queries that there are are compared with those that run."""
_SILENCE_SECONDS = 60.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 60.0
_STABLE_SECONDS = 0.02


class QueryTimes(NamedTuple):
    """In ms: between two steps of a query at least `interval`; `idle` and `ahead` as in `chronik.analytics.task.Times`."""

    interval: int = 100
    idle: int = 10_000
    ahead: int = 3_600_000


class QueryFailed(Exception):
    """A query cannot go on; the text says why."""


@dataclass
class QueryStatus:
    """How a query is doing. `state`: "running", "paused", "failed" or "starting"."""

    state: str = "starting"
    fault: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    offsets: dict[int, int] = field(default_factory=dict)
    watermark: int | None = None
    states: int = 0
    steps: int = 0


class _Running:
    """A query, and the life that it leads."""

    def __init__(self, query: ContinuousQuery) -> None:
        self.query = query
        self.status = QueryStatus()
        self.life: Deferred[None] | None = None
        self.news: Deferred[None] | None = None

    def tell(self) -> None:
        """There is something to do."""
        news, self.news = self.news, None
        if news is not None:
            news.callback(None)


class QueryRunner(Service):
    """Runs the queries of `metadata` whose topics are led here.

    `ask(place, request, silence seconds[, progress])` asks a process, of which there are `places`; it fails with `lost` where
    that ends. `ensure_state_topic` fires when there is a topic for states; `declared` tells the types of a topic's fields.
    `clock` is the reactor's.
    """

    log = Logger()

    def __init__(
        self,
        metadata: IClusterMetadata,
        logs: IFollowedLogs,
        ask: Callable[..., Deferred[Any]],
        lost: type[Exception],
        places: int,
        writer: QueryWriter,
        ensure_state_topic: Callable[[], Deferred[Any]],
        declared: Callable[[Topic], dict[str, str]],
        times: QueryTimes,
        wall_clock_ms: Callable[[], int],
        clock: Any,
    ) -> None:
        self._metadata = metadata
        self._logs = logs
        self._ask = ask
        self._lost = lost
        self._places = places
        self._writer = writer
        self._ensure_state_topic = ensure_state_topic
        self._declared = declared
        self._times = times
        self._now_ms = wall_clock_ms
        self._clock = clock
        self._running: dict[Uuid, _Running] = {}
        self._looking = LoopingCall(self.look)
        self._looking.clock = clock

    def startService(self) -> None:
        """Begin to run what there is."""
        super().startService()
        self._looking.start(PERIOD_SECONDS, now=True)
        self._sweep(None)

    def stopService(self) -> None:
        """Let all queries rest: what isn't written of a step is done again by the next life."""
        super().stopService()
        if self._looking.running:
            self._looking.stop()
        for running in self._running.values():
            self._end(running)
        self._running.clear()

    def look(self) -> None:
        """Begin and end lives, as the metadata says."""
        queries = {query.query_id: query for query in self._metadata.queries()}
        for query_id, running in list(self._running.items()):
            query = queries.get(query_id)
            if query != running.query:
                self._end(running)
                del self._running[query_id]
                self._forget(running.query)
                if query is None:
                    self._sweep(running.query)
        for query_id, query in queries.items():
            if query_id not in self._running:
                running = self._running[query_id] = _Running(query)
                if query.paused:
                    running.status.state = "paused"
                else:
                    running.life = Deferred.fromCoroutine(self._live(running))
                    running.life.addErrback(lambda failure: failure.trap(CancelledError))

    async def names(self, text: str) -> QueryNames:
        """What a statement is called, and which topics it names. Raises QueryFailed."""
        names: QueryNames = await self._asked(0, ReadQuery(text))
        if names.fault:
            raise QueryFailed(names.fault)
        return names

    async def check(self, text: str, source: Topic) -> Checked:
        """Whether a query can run over a topic, and which columns it reads. Raises QueryFailed, KafkaError."""
        (files,) = await all_files(self._logs, [source], self._clock)
        table = Table(source.name, self._declared(source), tuple(files))
        checked: Checked = await self._asked(0, CheckQuery(text, table))
        if checked.fault:
            raise QueryFailed(checked.fault)
        return checked

    async def _asked(self, place: int, request: msgspec.Struct) -> Any:
        try:
            return await self._ask(place, request, _SILENCE_SECONDS)
        except self._lost as problem:
            raise QueryFailed(str(problem)) from None

    def status(self, query: ContinuousQuery) -> QueryStatus:
        """How a query is doing."""
        running = self._running.get(query.query_id)
        return QueryStatus() if running is None else running.status

    def lag(self, query: ContinuousQuery) -> int | None:
        """How many offsets of its source a query has not read yet; None where it doesn't run."""
        status, source = self.status(query), self._metadata.topic_by_id(query.source_id)
        if status.state != "running" or source is None:
            return None
        lag = 0
        for each in source.partitions:
            with suppress(KafkaError):  # not led here (any more): nothing of it is read here
                end = self._logs.end(PartitionId(source.topic_id, each.partition))
                lag += max(0, end - status.offsets.get(each.partition, 0))
        return lag

    def metrics(self) -> list[QueryMetrics]:
        """How all of them are doing, for the scraper."""
        rows = []
        for running in self._running.values():
            status = running.status
            is_running, lag = status.state == "running", self.lag(running.query)
            rows.append(
                QueryMetrics(running.query.name, is_running, status.counts, status.states, lag, status.watermark)
            )
        return sorted(rows)

    async def look_up(self, query: ContinuousQuery, key: str | None, first_ms: int, last_ms: int, most: int) -> Found:
        """The open windows of a query. Raises QueryFailed where no process runs it now."""
        found: Found = await self._asked(self._place(query), LookUp(query.query_id, key, first_ms, last_ms, most))
        if found.unknown:
            raise QueryFailed("the query does not run now")
        return found

    async def explain(self, query: ContinuousQuery, key: str, start_ms: int) -> Explained:
        """Which records are in a window. Raises QueryFailed, KafkaError."""
        source, late, status = self._topic(query.source_id), self._topic(query.late_id), self.status(query)
        whole, told_late = await all_files(self._logs, [source, late], self._clock)
        read = []
        for files in whole:
            stable = max(files.start, min(files.stable, status.offsets.get(files.partition, 0)))
            read.append(msgspec.structs.replace(files, stable=stable))
        asked = Explain(
            text=query.text,
            columns=query.fields,
            source=tuple(read),
            late=tuple(told_late),
            key=key,
            start_ms=start_ms,
            ahead_ms=self._times.ahead,
            now_ms=self._now_ms(),
        )
        explained: Explained = await self._asked(self._place(query), asked)
        if explained.fault:
            raise QueryFailed(explained.fault)
        return explained

    # -- lives --------------------------------------------------------------------------------------------------------

    def _end(self, running: _Running) -> None:
        if running.life is not None:
            running.life.cancel()

    def _forget(self, query: ContinuousQuery) -> None:
        self._ask(self._place(query), Close(query.query_id), _SILENCE_SECONDS).addErrback(lambda _: None)

    def _sweep(self, dropped: ContinuousQuery | None) -> None:
        """Take away what is left of a query, or of all that there are no more."""
        sweeping = Deferred.fromCoroutine(self._swept(dropped))
        sweeping.addErrback(lambda failure: self.log.warn("states of queries stay for now: {why}", why=failure.value))

    async def _swept(self, dropped: ContinuousQuery | None) -> None:
        topic = self._metadata.topic(QUERY_STATE_TOPIC)
        if topic is None:
            return
        if dropped is not None:
            await self._writer.forget(dropped)
        wanted = range(len(topic.partitions)) if dropped is None else [_state_partition(dropped, topic)]
        for partition in wanted:
            files = partition_files(self._logs, topic, partition)
            if files.start == files.stable:
                continue
            known = tuple(query.query_id for query in self._metadata.queries())
            swept: Swept = await self._ask(0, Sweep(files, known, self._now_ms()), _SILENCE_SECONDS)
            await self._writer.erase(topic.name, partition, swept.batches)

    def _place(self, query: ContinuousQuery) -> int:
        return int.from_bytes(query.query_id[:4], "big") % self._places

    async def _live(self, running: _Running) -> None:
        """One life after the other."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            steps = running.status.steps
            try:
                await self._life(running)
            except CancelledError:
                raise
            except Exception as problem:
                if not isinstance(
                    problem, (ChronikError, KafkaError, QueryFailed)
                ):  # a defect, of which the operator sees all
                    self.log.failure("query {name} has failed", name=running.query.name)
                if running.status.steps > steps + 1:
                    pause = _FIRST_PAUSE_SECONDS
                running.status.state, running.status.fault = "failed", str(problem)
                self.log.warn(
                    "query {name} has stopped and is begun again in {pause:.0f} s: {why}",
                    name=running.query.name,
                    pause=pause,
                    why=str(problem),
                )
            await deferLater(self._clock, pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _life(self, running: _Running) -> None:
        query, status = running.query, running.status
        await self._ensure_state_topic()
        source, into, late = (self._topic(each) for each in (query.source_id, query.into_id, query.late_id))
        place = self._place(query)
        producer = await self._writer.begin(query)
        state_topic, state = await self._state_files(query)
        opened: Opened = await self._ask(
            place,
            Open(query.query_id, query.text, query.fields, state, self._times.idle, self._times.ahead, self._now_ms()),
            _SILENCE_SECONDS,
        )
        if opened.fault:
            raise QueryFailed(opened.fault)
        offsets = opened.offsets
        status.state, status.fault = "running", ""
        while True:
            begun = self._clock.seconds()
            (files,) = await all_files(self._logs, [source], self._clock, offsets)
            targets = Targets(len(into.partitions), len(late.partitions))
            outcomes: list[Outcome] = []
            request = TakeStep(query.query_id, tuple(files), producer, targets, self._now_ms())
            step: Stepped = await self._ask(place, request, _SILENCE_SECONDS, outcomes.append)
            if step.fault:
                raise QueryFailed(step.fault)
            if outcomes:
                places = {"into": (into.name, 0), "late": (late.name, 0), "state": (state_topic.name, state.partition)}
                batches = [(places[each.to][0], places[each.to][1] + each.partition, each.batch) for each in outcomes]
                moved = {number: at for number, at in step.offsets.items() if offsets.get(number) != at}
                producer = await self._writer.commit(query, producer, Written(batches, source.name, moved))
            offsets = step.offsets
            status.counts, status.offsets, status.states = step.counts, step.offsets, step.states
            status.watermark = None if step.watermark == NEVER else step.watermark
            status.steps += 1
            if not step.more:
                await self._news(running, source, offsets, step.again_ms, begun)
            source = self._topic(query.source_id)

    def _topic(self, topic_id: Uuid) -> Topic:
        topic = self._metadata.topic_by_id(topic_id)
        if topic is None:
            raise QueryFailed(f"topic {uuid_to_text(topic_id)} is gone")
        return topic

    async def _state_files(self, query: ContinuousQuery) -> tuple[Topic, PartitionFiles]:
        """Where the state is, when all that was written of it can be read: others write there too, and may hold it back."""
        topic = self._metadata.topic(QUERY_STATE_TOPIC)
        assert topic is not None
        partition = _state_partition(query, topic)
        end = self._logs.end(PartitionId(topic.topic_id, partition))
        while (files := partition_files(self._logs, topic, partition)).stable < end:
            await deferLater(self._clock, _STABLE_SECONDS)
        return topic, files

    async def _news(
        self, running: _Running, source: Topic, offsets: Mapping[int, int], again_ms: int, begun: float
    ) -> None:
        """Return when there is more to read, or time may bring results; at the earliest an interval after `begun`."""
        running.news = Deferred()
        forget = []
        timer = None
        try:
            for number, each in enumerate(source.partitions, 1):
                if not number % AT_ONCE:
                    await deferLater(self._clock, 0)
                at = offsets.get(each.partition, 0)
                forget.append(self._logs.when_more(PartitionId(source.topic_id, each.partition), running.tell))
                files = partition_files(self._logs, source, each.partition, at)
                if files.stable > max(files.start, at):  # it has come before it was waited for
                    running.tell()
                    break
            if again_ms >= 0:
                timer = self._clock.callLater(again_ms / 1000, running.tell)
            if running.news is not None:
                await running.news
        finally:
            running.news = None
            for each_one in forget:
                each_one()
            if timer is not None and timer.active():
                timer.cancel()
        left = begun + self._times.interval / 1000 - self._clock.seconds()
        if left > 0:
            await deferLater(self._clock, left)


def _state_partition(query: ContinuousQuery, topic: Topic) -> int:
    return int.from_bytes(query.query_id[4:8], "big") % len(topic.partitions)
