"""What processes that run continuous queries are asked by name, and how one of them is furnished.

The node imports this module too, for the names: what is heavy (DuckDB, pyarrow, numpy) is imported in `furnish_queries` only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

from chronik.analytics.query_messages import (
    Checked,
    CheckQuery,
    Close,
    Closed,
    Explain,
    Explained,
    Found,
    LookUp,
    Nothing,
    Open,
    Opened,
    Outcome,
    QueryNames,
    ReadQuery,
    Stepped,
    Sweep,
    Swept,
    TakeStep,
)
from chronik.interfaces import IDisk
from chronik.workers.messages import FromWorker, JobKind
from chronik.workers.residing import Residence

READ = JobKind("read", ReadQuery, Nothing, QueryNames)
"""Which topics does this query name?"""
CHECK = JobKind("check", CheckQuery, Nothing, Checked)
"""What would this query do?"""
OPEN = JobKind("open", Open, Nothing, Opened)
"""Begin to run a query."""
STEP = JobKind("step", TakeStep, Outcome, Stepped)
"""What does the next piece of the log come to?"""
CLOSE = JobKind("close", Close, Nothing, Closed)
"""Forget a query."""
EXPLAIN = JobKind("explain", Explain, Nothing, Explained)
"""Which records are in a window?"""
SWEEP = JobKind("sweep", Sweep, Nothing, Swept)
"""Which states are of no query?"""
LOOK_UP = JobKind("look up", LookUp, Nothing, Found)
"""Which windows are open?"""

KINDS = {
    ReadQuery: READ,
    CheckQuery: CHECK,
    Open: OPEN,
    TakeStep: STEP,
    Close: CLOSE,
    Sweep: SWEEP,
    LookUp: LOOK_UP,
    Explain: EXPLAIN,
}


def furnish_queries(disk: IDisk, send: Callable[[FromWorker], object]) -> Residence:
    """What a process does that runs continuous queries over the logs on `disk`."""
    from chronik.analytics.process import prepare

    prepare()
    from chronik.analytics.query_engine import QueryEngine

    engine = QueryEngine(disk)

    def close(asked: Close) -> Generator[None, None, Closed]:
        return engine.close(asked)
        yield

    def look_up(asked: LookUp) -> Generator[None, None, Found]:
        return engine.look_up(asked)
        yield

    def read(asked: ReadQuery) -> Generator[None, None, QueryNames]:
        return engine.read(asked)
        yield

    def check(asked: CheckQuery) -> Generator[None, None, Checked]:
        return engine.check(asked)
        yield

    return Residence(
        {
            READ: read,
            CHECK: check,
            OPEN: engine.open,
            STEP: engine.step,
            CLOSE: close,
            SWEEP: engine.sweep,
            LOOK_UP: look_up,
            EXPLAIN: engine.explain,
        },
        {},
        lambda: False,
        send,
        time.monotonic,
    )
