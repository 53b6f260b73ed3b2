"""What the node and its worker processes say to each other: msgpack messages, each behind its length.

A frame is four bytes of length, big-endian, and one message. The node sends `Configure` first and then a `Start` for every
job; a worker answers each with any number of `Progress` and one `Done` or `Failed`. A worker of the pool does one job at a
time. One that stays (`chronik.workers.residents`) may have many, each of which a `Cancel` ends, and is told things by `Tell`,
which has no answer.

What a job is asked, tells on its way and comes to are msgspec structs of its `JobKind`, what is told is one of its `NewsKind`;
they travel as bytes inside of the message, so that nobody needs to know them all.

Pure. Both ends are of one release: there are no versions. What doesn't parse is a defect, and a reason to kill the worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from chronik.errors import ChronikError

MAX_FRAME_BYTES = 64 << 20
_LENGTH_BYTES = 4


class FrameError(ChronikError):
    """What came over the pipe is no frame, or no message."""


class JobKind(NamedTuple):
    """A kind of job: its name, and the structs of what it is asked, what it tells on its way, and what comes of it."""

    name: str
    request: type[msgspec.Struct]
    progress: type[msgspec.Struct]
    result: type[msgspec.Struct]


class NewsKind(NamedTuple):
    """A kind of news for a worker that stays: its name, and the struct of what is told."""

    name: str
    body: type[msgspec.Struct]


class Configure(msgspec.Struct, frozen=True, tag="configure"):
    """The first message to a worker. `nice` is added to its niceness: it works when nobody else wants the CPU."""

    nice: int


class Start(msgspec.Struct, frozen=True, tag="start"):
    """Do a job: `kind` by its name, `request` as the kind's own struct."""

    job: int
    kind: str
    request: msgspec.Raw


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Nobody wants to know any more what comes of a job."""

    job: int


class Tell(msgspec.Struct, frozen=True, tag="tell"):
    """News of a `kind`, by its name. Messages are taken in their order: jobs that come after it know of it."""

    kind: str
    body: msgspec.Raw


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The worker is configured and waits for its first job."""


class Alive(msgspec.Struct, frozen=True, tag="alive"):
    """A worker that stays is busy with its jobs."""


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """The job lives, and has something to tell."""

    job: int
    body: msgspec.Raw


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The job has come to its end."""

    job: int
    result: msgspec.Raw


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The job has raised an exception: the name of its class, and its text."""

    job: int
    error: str
    text: str


ToWorker = Configure | Start | Cancel | Tell
FromWorker = Ready | Alive | Progress | Done | Failed

_encoder = msgspec.msgpack.Encoder()
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(Configure | Start | Cancel | Tell)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(Ready | Alive | Progress | Done | Failed)


def frame(message: ToWorker | FromWorker) -> bytes:
    """The bytes of one message on the pipe. Raises FrameError for one that is too large."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise FrameError(f"a {type(message).__name__} message of {len(body)} bytes, {MAX_FRAME_BYTES} are allowed")
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


def packed(body: msgspec.Struct) -> msgspec.Raw:
    """A kind's own struct, to put into a message."""
    return msgspec.Raw(_encoder.encode(body))


def unpacked(body: msgspec.Raw, kind: type[msgspec.Struct]) -> msgspec.Struct:
    """The struct of that kind out of a message. Raises FrameError."""
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except (msgspec.MsgspecError, ValueError) as problem:
        raise FrameError(f"no {kind.__name__}: {problem}") from problem


class FrameReader:
    """Puts together the bodies of frames out of the pieces in which they come."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bodies that are whole with `data`. Raises FrameError for a length that no frame has."""
        buffer = self._buffer
        buffer += data
        position = 0
        try:
            while len(buffer) - position >= _LENGTH_BYTES:
                size = int.from_bytes(buffer[position : position + _LENGTH_BYTES], "big")
                if size > MAX_FRAME_BYTES:
                    raise FrameError(f"a frame says that it has {size} bytes, {MAX_FRAME_BYTES} are allowed")
                stop = position + _LENGTH_BYTES + size
                if stop > len(buffer):
                    return
                yield bytes(buffer[position + _LENGTH_BYTES : stop])
                position = stop
        finally:
            del buffer[:position]


def to_worker(body: bytes) -> ToWorker:
    """The message in a frame that a worker gets. Raises FrameError."""
    try:
        return _to_worker.decode(body)
    except (msgspec.MsgspecError, ValueError) as problem:
        raise FrameError(f"no message to a worker: {problem}") from problem


def from_worker(body: bytes) -> FromWorker:
    """The message in a frame that a worker sent. Raises FrameError."""
    try:
        return _from_worker.decode(body)
    except (msgspec.MsgspecError, ValueError) as problem:
        raise FrameError(f"no message from a worker: {problem}") from problem
