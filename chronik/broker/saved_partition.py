"""One partition of a saved search: the same offsets, ends and epochs as its source's, and those records of it that match.

Nothing is stored. A read gives what was selected from its offset on; where nothing was as yet, the selection is begun (a job of
a process that searches), and the read gives nothing. Whoever waits is woken when something was found. Beside the records, a
read says up to where there are none (`Gap`), so that a reader comes forward though nothing matches.

**Waiting.** While anybody waits here and all that is stable was looked at, this waits for the source in its turn, as one of its
waiting fetches. What came is then looked through together, a little later (`Pace`).

Only what is stable is ever selected: readers with read_uncommitted see no more than others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from chronik.broker.interfaces import IReadablePartition
from chronik.broker.outcomes import Fetched, Gap
from chronik.broker.partition import Partition
from chronik.broker.purgatory import WaitingFetch, bytes_committed, wake_all
from chronik.broker.selected import READ_AHEAD, Kept, Run
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import ISelector, SelectedBatches
from chronik.log.producers import ProducerEntry
from chronik.model import SavedSearch, TopicPartition
from chronik.telemetry.metrics import TopicMetrics

MAX_RUNS = 32
"""Places from which one partition is read at a time. Beyond, the one that was read longest ago is forgotten."""
STEP_BYTES = 1 << 20
_REST_SECONDS = 1.0
_LEAST_SECONDS = 0.02
_PER_SECOND = 200


class Pace:
    """When partitions go on whose source has grown: at least `_LEAST_SECONDS` later, some `_PER_SECOND` of them a second.

    Each selection costs the node some 0.3 ms, and the process as much.
    """

    def __init__(self, call_later: Callable[[float, Callable[[], None]], IDelayedCall]) -> None:
        self._call_later = call_later
        self._calls: dict[Callable[[], None], IDelayedCall] = {}
        self._stopped = False

    def soon(self, call: Callable[[], None]) -> None:
        """Call it in its turn, once for however often it was asked for."""
        self.later(max(_LEAST_SECONDS, len(self._calls) / _PER_SECOND), call)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call it then, unless it is to be called anyway."""
        if call not in self._calls and not self._stopped:
            self._calls[call] = self._call_later(seconds, partial(self._now, call))

    def stop(self) -> None:
        """Call nothing any more."""
        self._stopped = True
        for delayed in self._calls.values():
            delayed.cancel()
        self._calls.clear()

    def _now(self, call: Callable[[], None]) -> None:
        del self._calls[call]
        call()


@implementer(IReadablePartition)
class SavedPartition:
    """A view of `source` by `search`. `kept` and `pace` are the node's."""

    log = Logger()

    def __init__(
        self,
        name: TopicPartition,
        source: Partition,
        search: SavedSearch,
        selector: ISelector,
        kept: Kept,
        pace: Pace,
        metrics: TopicMetrics,
    ) -> None:
        self.name = name
        self._source = source
        self._search = search
        self._selector = selector
        self._kept = kept
        self._pace = pace
        self._metrics = metrics
        self._runs: list[Run] = []  # the one that was read last is the last
        self._stamp = self._state_of_source()
        self._watching: WaitingFetch | None = None
        self._closed = False
        self._complaint = self._told = ""
        self.stable_waiters: set[WaitingFetch] = set()
        self.fetch_waiters = self.stable_waiters

    def close(self) -> None:
        """The search is deleted: whoever waits looks again."""
        self._closed = True
        self._forget_all()
        if self._watching is not None:
            self._watching.forget()
            self._watching = None
        wake_all(self.stable_waiters)

    # -- what is as in the source -------------------------------------------------------------------------------------

    @property
    def leader(self) -> int:
        """See `IReadablePartition`."""
        return self._source.leader

    @property
    def leader_epoch(self) -> int:
        """See `IReadablePartition`."""
        return self._source.leader_epoch

    @property
    def high_watermark(self) -> int:
        """See `IReadablePartition`."""
        return self._source.high_watermark

    @property
    def last_stable_offset(self) -> int:
        """See `IReadablePartition`."""
        return self._source.last_stable_offset

    @property
    def log_start_offset(self) -> int:
        """See `IReadablePartition`."""
        return self._source.log_start_offset

    def check_leader_epoch(self, epoch: int) -> None:
        """See `IReadablePartition`."""
        self._source.check_leader_epoch(epoch)

    def diverging_epoch(self, last_fetched_epoch: int, fetch_offset: int) -> tuple[int, int] | None:
        """See `IReadablePartition`."""
        return self._source.diverging_epoch(last_fetched_epoch, fetch_offset)

    def epoch_end(self, epoch: int) -> tuple[int, int]:
        """See `IReadablePartition`."""
        return self._source.epoch_end(epoch)

    def epoch_of(self, offset: int) -> int:
        """See `IReadablePartition`."""
        return self._source.epoch_of(offset)

    def offset_for_timestamp(self, timestamp: int) -> tuple[int, int, int] | None:
        """The source's answer. What matches and is as new lies there or behind it: who reads from there on misses nothing."""
        return self._source.offset_for_timestamp(timestamp)

    def max_timestamp(self) -> tuple[int, int, int] | None:
        """The source's answer, as for the ends: it is the newest that was looked at, whether it matches or not."""
        return self._source.max_timestamp()

    def producers(self) -> Sequence[ProducerEntry]:
        """None: nothing is produced here."""
        return ()

    # -- reads --------------------------------------------------------------------------------------------------------

    def read(self, offset: int, max_bytes: int, committed_only: bool, at_least_one: bool) -> Fetched:
        """See `IReadablePartition`; whatever `committed_only` says, only what is stable is here."""
        source = self._source
        start, end = source.log_start_offset, source.log.end_offset
        if offset < start or offset > end:
            raise KafkaError(ErrorCode.OFFSET_OUT_OF_RANGE, f"{self.name} has offsets {start} to {end}, not {offset}")
        run = self._run_at(offset)
        records, following, is_all = run.take(offset, max_bytes, at_least_one)
        self._kept.used(run)
        self._metrics.bytes_fetched += len(records)
        gap = None
        if is_all and run.reached > following:
            gap = Gap(following, run.reached, source.epoch_of(run.reached - 1))
        self._go_on(run)
        return Fetched(records, source.high_watermark, start, not is_all, (), gap)

    def _run_at(self, offset: int) -> Run:
        """The run that a reader at `offset` reads. Raises KafkaError where selecting has failed."""
        state = self._state_of_source()
        if state != self._stamp:  # what was selected may be gone
            self._stamp = state
            self._forget_all()
        if self._complaint:
            complaint, self._complaint = self._complaint, ""  # the next one tries again
            raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, f"{self.name}: {complaint}")
        self._runs = [run for run in self._runs if run.kept]
        run = next((run for run in reversed(self._runs) if run.holds(offset)), None)
        if run is None:
            if len(self._runs) >= MAX_RUNS:
                self._kept.drop(self._runs.pop(0))
            run = Run(offset)
        else:
            self._runs.remove(run)
        self._runs.append(run)
        return run

    def _state_of_source(self) -> tuple[int, int]:
        """Changes when offsets may have other records than before: by compaction, or by another leader."""
        return self._source.log.generation, self._source.leader_epoch

    def _forget_all(self) -> None:
        for run in self._runs:
            self._kept.drop(run)
        self._runs = []

    # -- selecting ----------------------------------------------------------------------------------------------------

    def _go_on(self, run: Run) -> None:
        """Look for what comes next, now or when the source has grown."""
        if self._closed or run.selecting or run.resting or run.unread >= READ_AHEAD:
            return
        if run.reached >= self._source.last_stable_offset:
            self._watch_source()
            return
        run.selecting = True
        source = self._source
        selecting = self._selector.select(source.partition_id, source.name.topic, self._search, run.reached, STEP_BYTES)
        selecting.addCallbacks(partial(self._selected, run), partial(self._not_selected, run))
        selecting.addErrback(self._broken)

    def _selected(self, run: Run, found: SelectedBatches) -> None:
        run.selecting = False
        if not run.kept or self._stamp != self._state_of_source():
            wake_all(self.stable_waiters)
            return
        came_further = found.reached > run.reached
        run.extend(found.data, found.ends, found.reached)
        if found.failure and not came_further:
            self._refuse(f"offset {run.reached} of {self._source.name} cannot be read: {found.failure}")
            return
        self._told = ""
        self._kept.used(run)
        for other in [other for other in self._runs if other is not run and run.covers(other) and not other.selecting]:
            self._runs.remove(other)
            self._kept.drop(other)
        if found.ends:
            bytes_committed(self.stable_waiters, len(found.data))
        if self.stable_waiters:
            self._go_on(run)

    def _not_selected(self, run: Run, failure: Failure) -> None:
        run.selecting = False
        error = failure.value
        if isinstance(error, KafkaError) and error.code == ErrorCode.KAFKA_STORAGE_ERROR:
            run.resting = True
            self._pace.later(_REST_SECONDS, partial(self._try_again, run))
        else:
            self._refuse(failure.getErrorMessage())

    def _try_again(self, run: Run) -> None:
        run.resting = False
        if run.kept and self.stable_waiters:
            self._go_on(run)

    def _refuse(self, why: str) -> None:
        """Whoever reads next is refused; what comes after that tries again."""
        if why != self._told:
            self.log.error("{partition}, a saved search, cannot be read: {why}", partition=str(self.name), why=why)
        self._complaint = self._told = why
        wake_all(self.stable_waiters)

    def _broken(self, failure: Failure) -> None:
        self.log.failure("selecting for {partition} failed", failure, partition=str(self.name))

    # -- waiting for the source ---------------------------------------------------------------------------------------

    def _watch_source(self) -> None:
        if self._watching is None:
            self._watching = WaitingFetch(1, self._source_has_grown)
            self._watching.watch(self._source.stable_waiters)

    def _source_has_grown(self, waiting: WaitingFetch) -> None:
        waiting.forget()
        self._watching = None
        self._pace.soon(self._look)

    def _look(self) -> None:
        if self.stable_waiters:
            for run in list(self._runs):
                self._go_on(run)
