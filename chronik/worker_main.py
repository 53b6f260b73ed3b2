"""The only wiring of a worker process: which function does which kind of job. Run as `python -m chronik.worker_main jobs`.

A worker gets its configuration by pipe, never opens the metadata store, and never writes a log's own files.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

from chronik.garbage import collect_seldom
from chronik.interfaces import IDisk
from chronik.log.cleaner import CleanProgress, CleanRequest, CleanResult, clean
from chronik.log.disk import RealDisk
from chronik.log.throttle import Throttle
from chronik.query_jobs import furnish_queries
from chronik.search_jobs import furnish
from chronik.sql_jobs import sql_jobs
from chronik.workers.jobs import CLEAN
from chronik.workers.residing import reside
from chronik.workers.serving import Report, serve


def main() -> None:
    """Serve the node that has started this process, in the part that its command line names."""
    (part,) = sys.argv[1:]
    {"jobs": do_jobs, "search": search, "sql": sql, "queries": queries}[part]()


def do_jobs() -> None:
    """Be a worker of the pool: one job at a time."""
    disk = RealDisk()

    def do_clean(request: CleanRequest, report: Report) -> CleanResult:
        return clean_throttled(request, disk, report)

    serve({CLEAN: do_clean})


def search() -> None:
    """Be a worker that stays: index and search the partitions that the node tells of."""
    collect_seldom()
    reside(lambda send: furnish(RealDisk(), send, lambda line: print(line, file=sys.stderr, flush=True)))


def sql() -> None:
    """Be a worker of the pool that runs SQL: one statement at a time."""
    serve(sql_jobs(RealDisk()))


def queries() -> None:
    """Be a worker that stays: run continuous queries."""
    collect_seldom()
    reside(partial(furnish_queries, RealDisk()))


def clean_throttled(request: CleanRequest, disk: IDisk, report: Callable[[CleanProgress], object]) -> CleanResult:
    """Clean as fast as the request allows. For what may wait."""
    throttle = Throttle(request.io_bytes_per_second, time.monotonic, time.sleep, partial(report, CleanProgress()))
    return clean(request, disk, report, throttle.spend)


if __name__ == "__main__":
    main()
