"""Lines from files, pipes and terminals, without holding up the reactor and without holding the whole input.

A regular file is read in blocks, with a turn of the reactor between them; anything else is read when the reactor says that it
is readable, and not before the caller asks for more.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from chronik.errors import ChronikError

BLOCK_BYTES = 128 * 1024
MAX_LINE_BYTES = 64 * 1024 * 1024


@implementer(IReadDescriptor)
class _Readable:
    """Waits until a descriptor can be read without blocking."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.ready: Deferred[None] = Deferred()

    def fileno(self) -> int:
        return self._descriptor

    def doRead(self) -> None:
        self._fire()

    def connectionLost(self, reason: Failure) -> None:
        """The other end hung up: what is left can be read, and then the end of the file."""
        self._fire()

    def logPrefix(self) -> str:
        return "input"

    def _fire(self) -> None:
        if not self.ready.called:
            self.ready.callback(None)


async def blocks(reactor: Any, descriptor: int) -> AsyncIterator[bytes]:
    """What can be read from `descriptor`, in blocks of at most 128 KiB."""
    regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    while True:
        if regular:
            await deferLater(reactor, 0)
        else:
            readable = _Readable(descriptor)
            reactor.addReader(readable)
            try:
                await readable.ready
            finally:
                reactor.removeReader(readable)
        block = os.read(descriptor, BLOCK_BYTES)
        if not block:
            return
        yield block


async def lines(reactor: Any, descriptor: int) -> AsyncIterator[list[bytes]]:
    """Whole lines without their newlines, as many at a time as came in. A last line may lack the newline.

    Raises ChronikError for a line above 64 MiB.
    """
    rest = b""
    async for block in blocks(reactor, descriptor):
        found = block.split(b"\n")
        if len(found) == 1:
            rest += block
            if len(rest) > MAX_LINE_BYTES:
                raise ChronikError(f"a line of the input is longer than {MAX_LINE_BYTES} bytes; is it text?")
            continue
        found[0] = rest + found[0]
        rest = found.pop()
        yield found
    if rest:
        yield [rest]
