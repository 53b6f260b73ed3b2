"""The kinds of jobs that worker processes do. What carries them out is handed to the worker in `chronik.worker_main`."""

from __future__ import annotations

from chronik.log.cleaner import CleanProgress, CleanRequest, CleanResult
from chronik.workers.messages import JobKind

CLEAN = JobKind("clean", CleanRequest, CleanProgress, CleanResult)
"""Compacts one log."""
