"""Work that takes turns between the reactor, which changes what the log is, and another thread, which waits for the disk.

A `Swap` is a generator of jobs: the generator's own code runs on the reactor, the jobs that it yields run elsewhere. Whoever
drives it calls `run` on a thread and then `advance` on the reactor, until there is no job any more. Something on the reactor
that can't wait for its turn ends it there and then by `settle`, or gives it up by `cancel`.

A job that fails may be run again. One that is a `MustEnd` has to be, some time: there is no way back from where it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from threading import Lock

from chronik.errors import StorageError

Job = Callable[[], None]


class MustEnd:
    """A job behind which a swap counts: where it fails it is run again later."""

    __slots__ = ("_job",)

    def __init__(self, job: Job) -> None:
        self._job = job

    def __call__(self) -> None:
        self._job()


Steps = Generator[Job, None, None]


class Swap:
    """`steps`, begun. `job` is the one that is to run or has run, None when all is done."""

    __slots__ = ("_done", "_failed", "_lock", "_steps", "job")

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._lock = Lock()
        self._done = self._failed = False
        self.job: Job | None = next(steps, None)

    @property
    def must_end(self) -> bool:
        """Whether it is too late to cancel it, other than by giving up the log or leaving it to the next start."""
        return isinstance(self.job, MustEnd)

    def run(self) -> None:
        """Carry out the job, unless that was done.

        Raises OSError, after which it may be run again, and StorageError when a sync fails: then the process must stop.
        """
        with self._lock:
            if self._failed:
                raise StorageError("a sync of this log has failed before; the node must stop")
            if self.job is None or self._done:
                return
            try:
                self.job()
            except StorageError:
                self._failed = True
                raise
            self._done = True

    def advance(self) -> bool:
        """On the reactor, after `run`: go on to the next job. False when there is none."""
        with self._lock:
            if self.job is not None and self._done:
                self.job = next(self._steps, None)
                self._done = False
            return self.job is not None

    def settle(self) -> None:
        """Do all that is left, here and now. Blocks. Raises StorageError, OSError."""
        while self.job is not None:
            self.run()
            self.advance()

    def cancel(self) -> None:
        """Wait for a job that is under way, and do no more: the files are given up."""
        with self._lock:
            self.job = None
            self._steps.close()
