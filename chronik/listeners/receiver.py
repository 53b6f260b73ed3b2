"""Cuts what a socket receives into request frames, without allocating for what was only announced.

All connections of a listener receive into one shared staging buffer, and whole frames are handed out as writable
memoryviews into it: nothing is copied, and an idle connection owns no buffer. The views are valid only until the callback
returns. What is left of a read, an incomplete frame, is kept by the connection; a frame too large for the staging buffer
is gathered in a pooled buffer that grows fourfold with the bytes that have really arrived, never by the declared size.

Before it gets its first such buffer, a frame reserves its whole size of the node's budget. The reservation is a number,
not memory; it makes sure that what was begun can be finished, however many frames grow at the same time.

Pooled buffers are reused because fresh memory costs a page fault for every 4 KiB, more than the copy into it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial

from chronik.listeners.backlog import AnswerBacklog
from chronik.wire.codec import MalformedMessage
from chronik.wire.frames import SIZE_PREFIX

_unpack_size = struct.Struct(">i").unpack_from

STAGING_BYTES = 256 * 1024
_FIRST_LARGE = 4 * STAGING_BYTES
_GROWTH = 4
_MAX_FRAMES = 128  # of one read, before other connections have their turn
_MIN_REQUEST = 8  # api key, version, correlation id


class BufferPool:
    """The staging buffer and the pool of large ones, for all connections of a node.

    `budget` bounds the bytes reserved for large frames; above it `reserve` refuses, and the connection must stop reading
    until `when_free` calls it back. The same number of bytes again bounds the answers that wait for their clients,
    in `answers`.
    """

    def __init__(self, budget: int, keep: int = 32 * 1024 * 1024) -> None:
        self.staging = memoryview(bytearray(STAGING_BYTES))
        self.lent = 0
        self.reserved = 0
        self.answers = AnswerBacklog(budget)
        self._budget = budget
        self._keep = keep
        self._kept = 0
        self._free: dict[int, list[bytearray]] = {}
        self._waiting: list[Callable[[], None]] = []

    @property
    def is_short(self) -> bool:
        """Whether connections wait for a reservation."""
        return bool(self._waiting)

    def reserve(self, size: int) -> bool:
        """Set `size` bytes of the budget aside for one frame; False while they aren't there. Alone, any frame fits."""
        if self.reserved and self.reserved + size > self._budget:
            return False
        self.reserved += size
        return True

    def give_up(self, size: int) -> None:
        """End a reservation, and let those who wait for one try again."""
        self.reserved -= size
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for retry in waiting:
                retry()

    def acquire(self, size: int) -> bytearray:
        """A buffer of exactly `size` bytes with unspecified content, for a frame that has its reservation."""
        self.lent += size
        free = self._free.get(size)
        if free:
            self._kept -= size
            return free.pop()
        return bytearray(size)

    def release(self, buffer: bytearray) -> None:
        """Take a buffer back."""
        size = len(buffer)
        self.lent -= size
        if self._kept + size <= self._keep:
            self._kept += size
            self._free.setdefault(size, []).append(buffer)

    def when_free(self, retry: Callable[[], None]) -> None:
        """Call `retry` once, after the end of the next reservation."""
        self._waiting.append(retry)


class FrameReceiver:
    """The receiving half of one connection: `target` says where the next bytes go, `received` that they are there.

    `handle(frame)` gets each whole frame without its size prefix and returns whether to go on; when it returns False the
    rest is kept for `resume`. A frame is valid until it returns, unless it called `hold_frame`. Raises MalformedMessage for a
    size below 8 or above `max_bytes`: the stream is lost then.
    """

    __slots__ = (
        "_filled",
        "_handle",
        "_handled",
        "_kept",
        "_large",
        "_max_bytes",
        "_pool",
        "_total",
        "begun",
        "interrupted",
    )

    def __init__(self, pool: BufferPool, max_bytes: int, handle: Callable[[memoryview], bool]) -> None:
        self._pool = pool
        self._max_bytes = max_bytes
        self._handle = handle
        self._kept: bytearray | None = None
        self._large: bytearray | None = None
        self._handled: bytearray | None = None  # a large one, while its frame is handled
        self._filled = 0
        self._total = 0
        self.interrupted = False
        """Whether frames of the last read are left only for the sake of other connections: `resume` soon."""
        self.begun = 0
        """How many large frames were begun so far."""

    @property
    def gathers(self) -> bool:
        """Whether a large frame is under way, and with it a reservation."""
        return self._large is not None

    @property
    def mid_frame(self) -> bool:
        """Whether an incomplete frame is held."""
        return self._large is not None or self._kept is not None

    def target(self) -> memoryview | None:
        """Where to receive the next bytes; None while a large frame gets no reservation (wait with `BufferPool.when_free`)."""
        large = self._large
        if large is not None:
            if self._filled == len(large):
                bigger = self._pool.acquire(min(self._total, len(large) * _GROWTH))
                bigger[: self._filled] = large
                self._pool.release(large)
                self._large = large = bigger
            return memoryview(large)[self._filled : self._total]
        kept = self._kept
        if kept is None:
            return self._pool.staging
        if self._total > STAGING_BYTES and len(kept) * _GROWTH >= STAGING_BYTES:
            large = self._begin(kept, 0, len(kept))
            if large is None:
                return None
            self._kept = None
            return memoryview(large)[self._filled : self._total]
        held = len(kept)
        self._pool.staging[:held] = kept
        return self._pool.staging[held:]

    def received(self, count: int) -> None:
        """`count` bytes were put at `target()`. Handles every frame that is whole now."""
        if self._large is not None:
            self._filled += count
            if self._filled == self._total:
                self._handled, self._large = self._large, None
                total = self._total
                try:
                    self._handle(memoryview(self._handled)[SIZE_PREFIX:total])
                finally:
                    if self._handled is not None:
                        handled, self._handled = self._handled, None
                        self._end(handled, total)
            return
        kept = self._kept
        if kept is not None:
            count += len(kept)
            self._kept = None
        self._cut(self._pool.staging, count)

    def hold_frame(self, frame: memoryview) -> tuple[memoryview, Callable[[], None]]:
        """Called by `handle`: the bytes of its frame, for longer than its call, and what ends that; twice is harmless.

        A large frame keeps its buffer and its reservation, another is copied and counts among the answers that wait.
        """
        if self._handled is not None:
            handled, self._handled = self._handled, None
            held, end = frame, partial(self._end, handled, self._total)
        else:
            held = memoryview(bytearray(frame))
            end = partial(self._pool.answers.change, -len(held))
            self._pool.answers.change(len(held))
        ends = [end]

        def release() -> None:
            if ends:
                ends.pop()()

        return held, release

    def keep(self, count: int) -> None:
        """`count` bytes were put at `target()`; no frame of them is to be handled before `resume`."""
        held = 0 if self._kept is None else len(self._kept)
        self._kept = bytearray(self._pool.staging[: held + count])
        self._total = 0

    def resume(self) -> None:
        """Go on with frames that were kept because `handle` returned False."""
        kept = self._kept
        if kept is not None:
            self._kept = None
            self._cut(memoryview(kept), len(kept))

    def discard(self) -> None:
        """Give every buffer back, and let go of the connection: it is gone."""
        self._handle = _refuse
        self._kept = None
        if self._large is not None:
            large, self._large = self._large, None
            self._end(large, self._total)

    def _begin(self, view: bytearray | memoryview, position: int, end: int) -> bytearray | None:
        """Put the start of a large frame, `view[position:end]`, into a pooled buffer; None while it gets no reservation."""
        if not self._pool.reserve(self._total):
            return None
        self._filled = held = end - position
        self._large = large = self._pool.acquire(min(self._total, max(_FIRST_LARGE, held)))
        large[:held] = view[position:end]
        self.begun += 1
        return large

    def _end(self, large: bytearray, total: int) -> None:
        self._pool.release(large)
        self._pool.give_up(total)

    def _cut(self, view: memoryview, end: int) -> None:
        position, handle, turns = 0, self._handle, _MAX_FRAMES
        self.interrupted = False
        while end - position >= SIZE_PREFIX:
            (size,) = _unpack_size(view, position)
            if size < _MIN_REQUEST or size > self._max_bytes:
                raise MalformedMessage(f"a request of {size} bytes; {_MIN_REQUEST} to {self._max_bytes} are allowed")
            stop = position + SIZE_PREFIX + size
            if stop > end:
                self._total = SIZE_PREFIX + size
                self._keep_or_grow(view, position, end)
                return
            more = handle(view[position + SIZE_PREFIX : stop])
            position = stop
            turns -= 1
            if not more or not turns:
                self.interrupted = more and position < end
                break
        if position < end:
            self._total = 0
            self._kept = bytearray(view[position:end])

    def _keep_or_grow(self, view: memoryview, position: int, end: int) -> None:
        """Hold the incomplete frame from `position`: in a pooled buffer if it is large and well under way."""
        held = end - position
        large = self._total > STAGING_BYTES and held * _GROWTH >= STAGING_BYTES
        if not large or self._begin(view, position, end) is None:
            self._kept = bytearray(view[position:end])


def _refuse(_: memoryview) -> bool:
    """Of a connection that is gone nothing is served."""
    return False
