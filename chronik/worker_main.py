"""The only wiring of a worker process: which function does which kind of job. Run as `python -m chronik.worker_main` by the pool.

A worker gets its configuration by pipe, never opens the metadata store, and never writes a log's own files.
"""

from __future__ import annotations

import time
from functools import partial

from chronik.log.cleaner import CleanProgress, CleanRequest, CleanResult, clean
from chronik.log.disk import RealDisk
from chronik.log.throttle import Throttle
from chronik.workers.jobs import CLEAN
from chronik.workers.serving import Report, serve


def main() -> None:
    """Serve the node that has started this process."""
    disk = RealDisk()

    def do_clean(request: CleanRequest, report: Report) -> CleanResult:
        alive = partial(report, CleanProgress())
        throttle = Throttle(request.io_bytes_per_second, time.monotonic, time.sleep, alive)
        return clean(request, disk, report, throttle.spend)

    serve({CLEAN: do_clean})


if __name__ == "__main__":
    main()
