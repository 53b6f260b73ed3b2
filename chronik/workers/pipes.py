"""A worker's ends of its two pipes: what the node says is put into a queue, what it is answered is written out.

The node's end of the first pipe is the worker's life: when the node goes, however it goes, the thread that reads there ends
the process at once, in the middle of whatever it does.
"""

from __future__ import annotations

import os
import signal
from queue import SimpleQueue
from threading import Thread

from chronik.workers.messages import FrameReader, FromWorker, ToWorker, frame, to_worker

JOBS_FD = 3
ANSWERS_FD = 4
"""The descriptors of the two pipes in a worker. Standard input is empty, what is printed goes to the node's log."""

_READ_BYTES = 1 << 16


def open_inbox() -> SimpleQueue[ToWorker]:
    """The node's messages as they come, from now on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the node, which ends its workers itself
    inbox: SimpleQueue[ToWorker] = SimpleQueue()
    Thread(target=_receive, args=(inbox,), name="chronik-worker-inbox", daemon=True).start()
    return inbox


def send(message: FromWorker) -> None:
    """Say something to the node. Waits while it has much to read."""
    rest = memoryview(frame(message))
    while rest:
        rest = rest[os.write(ANSWERS_FD, rest) :]


def _receive(inbox: SimpleQueue[ToWorker]) -> None:
    reader = FrameReader()
    try:
        while data := os.read(JOBS_FD, _READ_BYTES):
            for body in reader.feed(data):
                inbox.put(to_worker(body))
    finally:
        os._exit(0)
