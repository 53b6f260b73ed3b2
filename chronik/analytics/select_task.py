"""A continuous query without windows at work: each record that passes the WHERE is a result; all its state is offsets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa

from chronik.analytics.execution import Execution
from chronik.analytics.progress import Progress
from chronik.analytics.task import Result, Step, Times
from chronik.analytics.window import Kept, Key


class SelectTask:
    """See `chronik.analytics.task.WindowTask`, whose face this has."""

    def __init__(
        self, execution: Execution, times: Times, now: int, progress: Progress | None = None, kept: Iterable[Kept] = ()
    ) -> None:
        self.progress = Progress() if progress is None else progress
        self._execution = execution

    def __len__(self) -> int:
        return 0

    def step(
        self,
        rows: pa.Table | None,
        offsets: Mapping[int, int],
        waiting: Mapping[int, bool],
        now: int,
        not_json: int = 0,
    ) -> Step:
        """See `WindowTask`."""
        step = Step()
        if rows is not None:
            batch, step.rows = self._execution.select(rows)
            self.progress.records += batch.records
            self.progress.passed += batch.passed
            self.progress.not_json += not_json
        self.progress.offsets.update(offsets)
        return step

    def again_ms(self, now: int) -> int:
        """See `WindowTask`: nothing comes of time."""
        return -1

    def open_results(self, key: Key | None = None) -> list[Result]:
        """See `WindowTask`: there are no windows."""
        return []
