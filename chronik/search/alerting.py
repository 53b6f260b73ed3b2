"""Alerts: a saved search of which more than so many records come in a window of time is told in a topic.

Once a second each alert counts what has come to be stable since it last looked, by the records' own timestamps. A window that
has more than it may is written to the alert's topic, once. Then the state (how far each partition was counted, the counts, and
which windows were told) is committed as a whole, as the offsets of a group; so it survives a restart, and its lag can be
watched by any tool.

**At least once.** The message comes before the commit. Where the node ends between them, the next one counts again from the
last commit, comes to the same counts, and may tell the window a second time: with the same alert and the same begin.

A new alert begins at the end of what there is. What it would have said of the past is told by `dry_run`, which counts alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from chronik.client.partitioner import partition_for_key
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata, ISelector
from chronik.model import Alert, PartitionId, Topic, TopicPartition, Uuid, uuid_to_text
from chronik.search.rates import RateWindows
from chronik.wire.records import Record, encode_batch

PERIOD_SECONDS = 1.0
_SAVE_SECONDS = 5.0
_REFRESH_SECONDS = 3600.0
"""At the latest so often the state is committed anew, so that it doesn't expire."""
_STEPS_A_TURN = 8
MAX_DRY_WINDOWS = 200_000
"""Windows with any match that a dry run goes through."""


class Ends(Protocol):
    """What is asked of a partition of the source."""

    @property
    def log_start_offset(self) -> int:
        """The first offset that can be read."""

    @property
    def last_stable_offset(self) -> int:
        """The end of what no open transaction holds back."""

    def offset_for_timestamp(self, timestamp: int) -> tuple[int, int, int] | None:
        """(timestamp, offset, epoch) of the first record at or after a time."""


class AlertStates(Protocol):
    """Where the state of alerts is kept. All fail with KafkaError where that isn't possible now."""

    async def load(self, alert: Alert, search: str) -> tuple[dict[int, int], str]:
        """Offsets by partition of the topic `search`, and the text beside them; nothing and "" where none is kept."""

    async def save(self, alert: Alert, search: str, offsets: dict[int, int], text: str) -> None:
        """Keep both, all or nothing."""

    async def drop(self, name: str) -> None:
        """The alert of that name is deleted."""


class Told(msgspec.Struct, frozen=True):
    """The value of a message that an alert writes, as JSON. Its key is the alert's name. Times are ms since 1970."""

    alert: str
    search: str
    source: str
    query: str
    over: int
    count: int
    window_start: int
    window_end: int
    told_at: int


class DryRun(NamedTuple):
    """What an alert would have told: (begin, count) of each window that is over the limit.

    `complete`: all was counted; else only below `reached`, an offset by partition. `matches` are all that were counted.
    """

    windows: list[tuple[int, int]]
    matches: int
    complete: bool
    reached: dict[int, int]


class Alerting(Service):
    """Looks after the alerts in `metadata`. `find(topic id, index)` finds a partition of a source; it raises KafkaError.

    `write(partition, batch)` appends to the alerts' topics; it fires when that is committed.
    """

    log = Logger()

    def __init__(
        self,
        metadata: IClusterMetadata,
        selector: ISelector,
        find: Callable[[Uuid, int], Ends],
        states: AlertStates,
        write: Callable[[TopicPartition, bytearray], Deferred[int]],
        wall_clock_ms: Callable[[], int],
        clock: Any,
    ) -> None:
        self._metadata = metadata
        self._selector = selector
        self._find = find
        self._states = states
        self._write = write
        self._now_ms = wall_clock_ms
        self._clock = clock
        self._watched: dict[Uuid, _Watched] = {}
        self._turns = LoopingCall(self._begin_turn)
        self._turns.clock = clock
        self._turn: Deferred[None] | None = None

    def startService(self) -> None:
        """Begin to look."""
        super().startService()
        self._turns.start(PERIOD_SECONDS, now=False)

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()
        if self._turns.running:
            self._turns.stop()
        if self._turn is not None:
            self._turn.cancel()

    def _begin_turn(self) -> Deferred[None]:
        self._turn = Deferred.fromCoroutine(self._look())
        return self._turn.addErrback(_unless_cancelled)

    async def _look(self) -> None:
        alerts = {alert.alert_id: alert for alert in self._metadata.alerts()}
        for alert_id in [alert_id for alert_id in self._watched if alert_id not in alerts]:
            await self._forget(self._watched[alert_id])
        for alert_id, alert in alerts.items():
            watched = self._watched.get(alert_id)
            if watched is None:
                watched = self._watched[alert_id] = _Watched(alert)
            try:
                await self._step(watched)
            except KafkaError as error:
                watched.complain(self.log, str(error))
            except CancelledError:
                raise
            except Exception:
                self.log.failure("alert {name} failed", name=alert.name)

    async def _forget(self, watched: _Watched) -> None:
        del self._watched[watched.alert.alert_id]
        try:
            await self._states.drop(watched.alert.name)
        except KafkaError as error:
            self.log.warn("the state of alert {name} stays: {error}", name=watched.alert.name, error=error)

    # -- one alert ----------------------------------------------------------------------------------------------------

    async def _step(self, watched: _Watched) -> None:
        alert = watched.alert
        search, source = self._topics(alert.search_id)
        if watched.windows is None:
            await self._load(watched, search, source)
        windows = watched.windows
        assert windows is not None
        faults: list[str] = []
        for state in source.partitions:
            fault = await self._count(watched, windows, search, source, state.partition)
            faults += [fault] if fault else []
        for begin, count in windows.exceeded():
            await self._tell(alert, search, source, begin, count)
            windows.told(begin)
            watched.must_save = True
        now = self._clock.seconds()
        since = now - watched.saved_at
        if watched.must_save or (watched.has_moved and since >= _SAVE_SECONDS) or since >= _REFRESH_SECONDS:
            await self._save(watched, search)
        if faults:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "; ".join(faults))
        watched.complaint = ""

    def _topics(self, search_id: Uuid) -> tuple[Topic, Topic]:
        search = self._metadata.topic_by_id(search_id)
        source = (
            None if search is None or search.search is None else self._metadata.topic_by_id(search.search.source_id)
        )
        if search is None or source is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "the search is gone")
        return search, source

    async def _load(self, watched: _Watched, search: Topic, source: Topic) -> None:
        """Go on where the last commit was; a new alert begins at the end."""
        alert = watched.alert
        offsets, text = await self._states.load(alert, search.name)
        windows = RateWindows.restored(uuid_to_text(alert.alert_id), alert.over, text)
        if windows is None:
            windows = RateWindows(uuid_to_text(alert.alert_id), alert.over)
            offsets = {
                each.partition: self._find(source.topic_id, each.partition).last_stable_offset
                for each in source.partitions
            }
            watched.must_save = True
        watched.windows, watched.offsets = windows, offsets
        watched.saved_at = self._clock.seconds()

    async def _count(self, watched: _Watched, windows: RateWindows, search: Topic, source: Topic, index: int) -> str:
        """Count what is new in a partition, so much of it as is done in a turn; why it cannot be read, if that is so."""
        partition = PartitionId(source.topic_id, index)
        for _ in range(_STEPS_A_TURN):
            at = watched.offsets.get(index, 0)  # a partition that came later begins at its beginning
            if self._find(*partition).last_stable_offset <= at:
                return ""
            assert search.search is not None
            tally = await self._selector.tally(partition, source.name, search.search, at, watched.alert.per_ms)
            windows.add(tally.windows)
            if tally.reached <= at:
                return tally.failure and f"offset {at} of {source.name}-{index} cannot be read: {tally.failure}"
            watched.offsets[index] = tally.reached
            watched.has_moved = True
        return ""

    async def _tell(self, alert: Alert, search: Topic, source: Topic, begin: int, count: int) -> None:
        target = self._metadata.topic(alert.to)
        if target is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"topic {alert.to} to write to does not exist")
        assert search.search is not None
        now = self._now_ms()
        told = Told(
            alert=alert.name,
            search=search.name,
            source=source.name,
            query=search.search.query,
            over=alert.over,
            count=count,
            window_start=begin,
            window_end=begin + alert.per_ms,
            told_at=now,
        )
        key = alert.name.encode()
        place = TopicPartition(target.name, partition_for_key(key, len(target.partitions)))
        await self._write(place, encode_batch([Record(0, now, key, msgspec.json.encode(told))]))

    async def _save(self, watched: _Watched, search: Topic) -> None:
        assert watched.windows is not None
        await self._states.save(watched.alert, search.name, dict(watched.offsets), watched.windows.text())
        watched.must_save = watched.has_moved = False
        watched.saved_at = self._clock.seconds()

    # -- the past -----------------------------------------------------------------------------------------------------

    async def dry_run(
        self, search: Topic, over: int, per_ms: int, from_ms: int | None, to_ms: int | None, seconds: float
    ) -> DryRun:
        """What an alert over `search` would have told of windows that begin from `from_ms` on and before `to_ms`.

        It ends early after `seconds`, or when there are too many windows. Raises KafkaError.
        """
        ends_at = self._clock.seconds() + seconds
        _, source = self._topics(search.topic_id)
        assert search.search is not None
        counts: dict[int, int] = {}
        reached: dict[int, int] = {}
        complete = True
        for state in source.partitions:
            partition = PartitionId(source.topic_id, state.partition)
            ends = self._find(*partition)
            upper = ends.last_stable_offset
            at = ends.log_start_offset
            if from_ms is not None:
                first = ends.offset_for_timestamp(from_ms - from_ms % per_ms)
                at = upper if first is None else max(at, first[1])
            while at < upper:
                if self._clock.seconds() >= ends_at or len(counts) >= MAX_DRY_WINDOWS:
                    complete = False
                    break
                tally = await self._selector.tally(partition, source.name, search.search, at, per_ms)
                for begin, count in tally.windows:
                    if (from_ms is None or begin >= from_ms - from_ms % per_ms) and (to_ms is None or begin < to_ms):
                        counts[begin] = counts.get(begin, 0) + count
                if tally.reached <= at:
                    why = tally.failure or "nothing more is there"
                    raise KafkaError(
                        ErrorCode.KAFKA_STORAGE_ERROR,
                        f"offset {at} of {source.name}-{state.partition} cannot be read: {why}",
                    )
                at = tally.reached
            reached[state.partition] = at
        windows = sorted((begin, count) for begin, count in counts.items() if count > over)
        return DryRun(windows, sum(counts.values()), complete, reached)


def _unless_cancelled(failure: Failure) -> None:
    failure.trap(CancelledError)  # the node stops


class _Watched:
    """An alert, and its state in memory."""

    def __init__(self, alert: Alert) -> None:
        self.alert = alert
        self.windows: RateWindows | None = None
        self.offsets: dict[int, int] = {}
        self.must_save = False
        self.has_moved = False
        self.saved_at = 0.0
        self.complaint = ""

    def complain(self, log: Logger, why: str) -> None:
        """Say in the node's log why it doesn't go on, once."""
        if why != self.complaint:
            log.warn("alert {name} waits: {why}", name=self.alert.name, why=why)
        self.complaint = why
