"""What runs in a worker process: it takes jobs from one pipe, does one after the other, and tells of them on another.

The node's end of the pipe is the worker's life: when the node goes, however it goes, a thread that waits there ends the
process at once, in the middle of whatever it does.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from threading import Thread
from typing import Any

import msgspec

from chronik.workers.messages import (
    Configure,
    Done,
    Failed,
    FrameReader,
    FromWorker,
    JobKind,
    Progress,
    Ready,
    Start,
    ToWorker,
    frame,
    packed,
    to_worker,
    unpacked,
)

JOBS_FD = 3
ANSWERS_FD = 4
"""The descriptors of the two pipes in a worker. Standard input is empty, what is printed goes to the node's log."""

_READ_BYTES = 1 << 16

Report = Callable[[msgspec.Struct], None]
Job = Callable[[Any, Report], msgspec.Struct]
"""Does what its request asks, tells of it by the report, and returns the result. What it raises is told to the node."""


def serve(jobs: Mapping[JobKind, Job]) -> None:
    """Do jobs of these kinds until the node is gone. Never returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the node, which ends its workers itself
    by_name = {kind.name: (kind, job) for kind, job in jobs.items()}
    inbox: SimpleQueue[ToWorker] = SimpleQueue()
    Thread(target=_receive, args=(inbox,), name="chronik-worker-inbox", daemon=True).start()
    while True:
        message = inbox.get()
        if isinstance(message, Configure):
            os.nice(message.nice)
            _send(Ready())
        else:
            _send(_do(message, by_name))


def _do(start: Start, by_name: Mapping[str, tuple[JobKind, Job]]) -> FromWorker:
    try:
        kind, job = by_name[start.kind]
        request = unpacked(start.request, kind.request)
        result = job(request, lambda body: _send(Progress(start.job, packed(body))))
        return Done(start.job, packed(result))
    except Exception as error:
        return Failed(start.job, type(error).__name__, str(error))


def _receive(inbox: SimpleQueue[ToWorker]) -> None:
    reader = FrameReader()
    try:
        while data := os.read(JOBS_FD, _READ_BYTES):
            for body in reader.feed(data):
                inbox.put(to_worker(body))
    finally:
        os._exit(0)


def _send(message: FromWorker) -> None:
    rest = memoryview(frame(message))
    while rest:
        rest = rest[os.write(ANSWERS_FD, rest) :]
