"""What processes that run SQL are asked by name, and how one of them does it.

The node imports this module too, for the names: what is heavy (DuckDB, pyarrow, numpy) is imported in `sql_jobs` only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock

from chronik.analytics.messages import Describe, Plan, Planned, Ran, Run, Show, Told
from chronik.interfaces import IDisk
from chronik.workers.messages import JobKind
from chronik.workers.serving import Job, Report

PLAN = JobKind("plan", Plan, Told, Planned)
"""Which topics does a statement name?"""
RUN = JobKind("run", Run, Told, Ran)
"""What does a statement come to?"""
DESCRIBE = JobKind("describe", Describe, Told, Ran)
"""Which columns has a topic?"""
SHOW = JobKind("show", Show, Told, Ran)
"""How are these rows written?"""

KINDS = {Plan: PLAN, Run: RUN, Describe: DESCRIBE, Show: SHOW}


def sql_jobs(disk: IDisk) -> Mapping[JobKind, Job]:
    """The jobs of a process that runs SQL over the logs on `disk`."""
    from chronik.analytics.process import bound, prepare

    prepare()
    from chronik.analytics.connection import PARSING
    from chronik.analytics.engine import SqlEngine

    engine = SqlEngine(disk)

    def plan(request: Plan, report: Report) -> Planned:
        bound(PARSING)
        return engine.plan(request)

    def run(request: Run, report: Report) -> Ran:
        bound(request.limits)
        tell = _one_at_a_time(report)
        tell(Told())  # it has begun
        return engine.run(request, tell)

    def describe(request: Describe, report: Report) -> Ran:
        bound(request.limits)
        return engine.describe(request, report)

    def show(request: Show, report: Report) -> Ran:
        return engine.show(request, report)

    return {PLAN: plan, RUN: run, DESCRIBE: describe, SHOW: show}


def _one_at_a_time(report: Report) -> Callable[[Told], None]:
    """What two threads may call: the one that runs the statement, and the one that watches it."""
    lock = Lock()

    def tell(told: Told) -> None:
        with lock:
            report(told)

    return tell
