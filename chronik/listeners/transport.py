"""A TCP server transport that receives into a given buffer and sends lists of buffers as they are.

Twisted's own transport allocates for every read, joins what is written, and writes only on the reactor's next turn. Here a
read goes into the protocol's buffer, and a write is tried with one `sendmsg`, at once or at the end of the poller's turn;
what the socket doesn't take waits in a queue of buffers and drains as the socket becomes writable.

`use_vectored_transport(port, poller)` makes a listening port accept with it. Over TLS, or with a port of another kind, the
protocol is fed by `dataReceived` instead and writes through the ordinary transport.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from twisted.internet import main, tcp
from twisted.internet.interfaces import IListeningPort
from twisted.python.failure import Failure

from chronik.interfaces import Buffer
from chronik.listeners.poller import ConnectionPoller

_MAX_BUFFERS = 512  # below IOV_MAX, 1024 on Linux
HIGH_WATER = 1024 * 1024
"""Unsent bytes above which the protocol is asked to pause."""
_GATHERED_BYTES = 64 * 1024
"""What is sent at once, and not at the end of a turn, since it may be held in memory or leave others without work."""


class VectoredServer(tcp.Server):
    """One accepted connection whose protocol has `receive_target()` and `bytes_received(count)`."""

    producer: Any

    def __init__(
        self, poller: ConnectionPoller, socket: Any, protocol: Any, client: Any, port: Any, number: int, _reactor: Any
    ) -> None:
        self._poller = poller
        self._gathered: list[Buffer] = []  # to be sent at the end of the poller's turn
        self._gathered_bytes = 0
        self._unsent: deque[Buffer] = deque()
        self._unsent_bytes = 0
        self.on_unsent: Callable[[int], None] = _ignore
        """Told by how many bytes the queue of what is unsent has grown or shrunk."""
        poller.begin(self)
        super().__init__(socket, protocol, client, port, number, poller)  # type: ignore[arg-type]  # a reactor, but for most of one

    def doRead(self) -> Any:
        """Receive once, into the buffer that the protocol offers."""
        protocol: Any = self.protocol
        target = protocol.receive_target()
        if target is None:
            return None
        try:
            count = self.socket.recv_into(target)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not count:
            return main.CONNECTION_DONE
        protocol.bytes_received(count)
        return None

    def write(self, data: Buffer) -> None:
        """Send one buffer."""
        self.writeSequence((data,))

    def writeSequence(self, buffers: Iterable[Buffer]) -> None:
        """Send `buffers` in order, soon, as far as the socket takes them. They must not change until they are sent."""
        if not self.connected or self._writeDisconnected:
            return
        gathered = self._gathered
        if not gathered and self._poller.in_turn:
            self._poller.unsent.append(self)
        gathered += buffers
        self._gathered_bytes = size = sum(map(len, gathered))
        if size > _GATHERED_BYTES or not self._poller.in_turn:
            self.send()

    def send(self) -> None:
        """Send what was gathered; what the socket doesn't take is queued."""
        if not self._gathered:
            return
        chunks, size = self._gathered, self._gathered_bytes
        self._gathered, self._gathered_bytes = [], 0
        if self._unsent:
            self._queue(chunks)
        else:
            try:
                sent = self.socket.sendmsg(chunks if len(chunks) <= _MAX_BUFFERS else chunks[:_MAX_BUFFERS])
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                # The poller closes the connection on its next turn, outside of whoever is writing now.
                sent = 0
            if sent == size:
                return
            self._queue(chunks)
            self._drop_sent(sent)
            self.startWriting()
        if self._unsent_bytes > HIGH_WATER and self.producer is not None and not self.producerPaused:
            self.producerPaused = True
            self.producer.pauseProducing()

    def doWrite(self) -> Any:
        """The socket is writable: send what waits."""
        while self._unsent:
            buffers = [self._unsent[i] for i in range(min(len(self._unsent), _MAX_BUFFERS))]
            try:
                sent = self.socket.sendmsg(buffers)
            except (BlockingIOError, InterruptedError):
                return None
            except OSError:
                return main.CONNECTION_LOST
            self._drop_sent(sent)
            if sent < sum(map(len, buffers)):
                break
        if self.producerPaused and self.producer is not None and self._unsent_bytes <= HIGH_WATER // 2:
            self.producerPaused = False
            self.producer.resumeProducing()
        if self._unsent:
            return None
        self.stopWriting()
        if self.disconnecting:
            return self._postLoseConnection()
        if self._writeDisconnecting:
            self._writeDisconnected = True
            return self._closeWriteConnection()
        return None

    def connectionLost(self, reason: Failure) -> None:
        """Forget what was not sent."""
        self._gathered.clear()
        self._unsent.clear()
        self.on_unsent(-self._unsent_bytes)
        self._unsent_bytes = 0
        super().connectionLost(reason)
        self._poller.end(self)

    def _queue(self, buffers: Iterable[Buffer]) -> None:
        """Let `buffers` wait. Empty ones are left out: to send one alone would never make progress."""
        queued = 0
        for buffer in buffers:
            size = len(buffer)
            if size:
                self._unsent.append(buffer)
                queued += size
        self._unsent_bytes += queued
        self.on_unsent(queued)

    def _drop_sent(self, sent: int) -> None:
        unsent = self._unsent
        self._unsent_bytes -= sent
        self.on_unsent(-sent)
        while sent:
            first = unsent[0]
            if len(first) <= sent:
                sent -= len(first)
                unsent.popleft()
            else:
                unsent[0] = memoryview(first)[sent:]
                return


def _ignore(_: int) -> None:
    """Nobody wants to know."""


def use_vectored_transport(port: IListeningPort, poller: ConnectionPoller) -> None:
    """Have `port` accept connections with `VectoredServer`, watched by `poller`, if it is a plain TCP port."""
    if type(port) is tcp.Port:
        port.transport = partial(VectoredServer, poller)  # type: ignore[assignment]  # it is only called
