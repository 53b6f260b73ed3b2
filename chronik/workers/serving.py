"""What runs in a worker process of the pool: it does one job after the other, and tells of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from chronik.workers.messages import (
    Configure,
    Done,
    Failed,
    FrameError,
    FromWorker,
    JobKind,
    Progress,
    Ready,
    Start,
    packed,
    unpacked,
)
from chronik.workers.pipes import open_inbox, send

Report = Callable[[msgspec.Struct], None]
Job = Callable[[Any, Report], msgspec.Struct]
"""Does what its request asks, tells of it by the report, and returns the result. What it raises is told to the node."""


def serve(jobs: Mapping[JobKind, Job]) -> None:
    """Do jobs of these kinds until the node is gone. Never returns."""
    by_name = {kind.name: (kind, job) for kind, job in jobs.items()}
    inbox = open_inbox()
    while True:
        message = inbox.get()
        if isinstance(message, Configure):
            os.nice(message.nice)
            send(Ready())
        elif isinstance(message, Start):
            send(_do(message, by_name))
        else:
            raise FrameError(f"a {type(message).__name__} message to a worker that does one job at a time")


def _do(start: Start, by_name: Mapping[str, tuple[JobKind, Job]]) -> FromWorker:
    try:
        kind, job = by_name[start.kind]
        request = unpacked(start.request, kind.request)
        result = job(request, lambda body: send(Progress(start.job, packed(body))))
        return Done(start.job, packed(result))
    except Exception as error:
        return Failed(start.job, type(error).__name__, str(error))
