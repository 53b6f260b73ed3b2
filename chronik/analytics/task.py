"""A continuous query at work: batches of records go in, results, late records and what must be kept come out.

A step takes a batch. What is in time is merged into the windows, the watermark is moved, and windows that are over are closed.
All that a step gives is meant to be written as one: results, late records, the changes of the state, and the progress, which
has the offsets. Whoever goes on from what was written comes to the same results, whatever died in between: a task is made of
its plan, the last progress and the kept states, and of nothing else.

Pure, but for the engine that does the SQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from chronik.analytics.execution import Batch, Execution
from chronik.analytics.progress import Progress
from chronik.analytics.watermark import Watermarks
from chronik.analytics.window import NEVER, Kept, Key, Row, windows_of

_LEAST_PAUSE_MS = 200


class Result(NamedTuple):
    """A result of a window; `values` None: the window is there no more, since it became part of another one."""

    key: Key
    start: int
    end: int
    values: dict[str, Any] | None


@dataclass
class Step:
    """What a batch came to. `late` are (partition, offset), and windows that end at `closed_before` were closed for them.

    `rows` are the results of a query without windows: (partition, offset, values).
    """

    results: list[Result] = field(default_factory=list)
    rows: list[tuple[int, int, dict[str, Any]]] = field(default_factory=list)
    closed_before: int = NEVER
    late: list[tuple[int, int]] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)


@dataclass(frozen=True)
class Times:
    """In ms: `idle`, see `Watermarks`; no event time counts that is before `earliest`, or `ahead` of the wall clock."""

    idle: int = 60_000
    earliest: int = 0
    ahead: int = 3_600_000


class WindowTask:
    """A windowed plan, from `progress` on with what was `kept`. The engine's errors pass through `step`."""

    def __init__(
        self, execution: Execution, times: Times, now: int, progress: Progress | None = None, kept: Iterable[Kept] = ()
    ) -> None:
        plan = execution.plan
        assert plan.window is not None
        self.progress = Progress() if progress is None else progress
        self._execution = execution
        self._times = times
        self._windows = windows_of(plan.window, plan.grace, execution.aggregates, repr)
        self._windows.closed_to = self.progress.closed_to
        for each in kept:
            self._windows.restore(each)
        self._watermarks = Watermarks(times.idle, now, self.progress.reached, self.progress.watermark)

    def __len__(self) -> int:
        """How many states are held in memory."""
        return len(self._windows)

    def step(
        self,
        rows: pa.Table | None,
        offsets: Mapping[int, int],
        waiting: Mapping[int, bool],
        now: int,
        not_json: int = 0,
    ) -> Step:
        """Take a batch, or None where only time has passed; it ends before `offsets`.

        `waiting`: of each partition of the source, whether more is there than was read. `not_json`: how many values of the
        batch are none.
        """
        progress = self.progress
        step = Step(closed_before=progress.closed_to)
        for partition, more in waiting.items():
            self._watermarks.has(partition, more, now)
        if rows is not None:
            batch = self._execution.take(rows, self._times.earliest, now + self._times.ahead)
            self._take(batch, step, now)
        progress.offsets.update(offsets)
        progress.not_json += not_json
        if self._execution.plan.changes:
            step.results += self._results(self._windows.changed())
        progress.watermark = self._watermarks.watermark(now)
        closed = self._windows.close(progress.watermark)
        progress.closed_to = self._windows.closed_to
        progress.reached = self._watermarks.reached
        if not self._execution.plan.changes:
            self._windows.changed()
            step.results += self._results(closed)
        step.kept = self._windows.kept()
        return step

    def _take(self, batch: Batch, step: Step, now: int) -> None:
        progress = self.progress
        progress.records += batch.records
        progress.untimed += batch.untimed
        progress.outside += batch.outside
        late = self._windows.add(batch.parts)
        step.late = self._execution.late(late)
        progress.late += len(step.late)
        progress.passed += batch.passed - len(step.late)
        for partition, time in (batch.reached or {}).items():
            self._watermarks.came(partition, time, now)

    def _results(self, rows: list[Row]) -> list[Result]:
        gone = [Result(row.key, row.start, row.end, None) for row in rows if row.state is None]
        found = self._execution.results(rows)
        return gone + [Result(row.key, row.start, row.end, values) for row, values in found]

    def again_ms(self, now: int) -> int:
        """In how many ms a step without records may bring something; -1 if not before records come."""
        left = self._watermarks.idle_in(now)
        if left is None or not len(self._windows):
            return -1
        return max(left, _LEAST_PAUSE_MS)

    def open_results(self, key: Key | None = None) -> list[Result]:
        """The open windows as they are now."""
        return self._results(list(self._windows.rows(key)))
