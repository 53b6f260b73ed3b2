"""How work that was given to a worker process fails."""

from __future__ import annotations

from chronik.errors import ChronikError


class JobFailedError(ChronikError):
    """A job has raised an exception in its worker, whose class is called `error`."""

    def __init__(self, error: str, text: str) -> None:
        super().__init__(text)
        self.error = error


class WorkerLostError(ChronikError):
    """The worker that did a job has died, or was killed."""
