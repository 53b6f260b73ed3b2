"""How bytes and answers flow on one connection of the Kafka listener: reads, backpressure, the order of answers, the end.

The lower layer of `connection.KafkaProtocol`, which says what a request is and what answers it. A read brings bytes to
`FrameReceiver`, which hands whole frames to `_frame`. While nothing is waiting, an answer goes straight to the outgoing
list; behind a waiting one it queues, so that responses leave in the order of their requests. All that one read produced is
sent with one write.

Backpressure is in bytes: a connection isn't read while its peer doesn't take what is sent, while too much waits behind an
unfinished request, or while the node's `AnswerBacklog` is full.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from chronik.listeners.context import CloseConnection, Peer
from chronik.listeners.receiver import FrameReceiver
from chronik.wire.codec import Buffer, MalformedMessage

if TYPE_CHECKING:
    from chronik.listeners.kafka import KafkaFactory

MAX_PIPELINED = 1000
"""Responses that may wait on one connection before it is no longer read from."""
MAX_HELD_BYTES = 4 * 1024 * 1024
"""Bytes of finished answers behind an unfinished one above which no further request is taken. One may be larger."""
CLOSING_SECONDS = 10.0
"""How long a closed connection may take to accept what it is still sent."""
GATHERING_SECONDS = 30.0
"""How long one large request may come in while others wait for the room that is reserved for it."""
_LEAST_TAKEN = 1024 * 1024
_FLUSH_BYTES = 256 * 1024
_FLUSH_BUFFERS = 256


BY_REQUEST, BY_QUOTA = 1, 2


class Waiting:
    """The place in the response order of a request that is not answered yet."""

    __slots__ = ("chunks", "deferred", "done", "size")

    def __init__(self) -> None:
        self.chunks: list[Buffer] | None = None
        self.deferred: Deferred[Any] | None = None
        self.done = False
        self.size = 0

    def finish(self, chunks: list[Buffer]) -> int:
        """The answer is made; returns its bytes."""
        self.chunks, self.deferred, self.done = chunks, None, True
        self.size = sum(map(len, chunks))
        return self.size


@implementer(IPushProducer)
class FlowControlled(Protocol):
    """One client connection, as far as it doesn't matter what is asked and answered."""

    log = Logger()
    transport: Any  # a VectoredServer, or an ordinary transport over TLS and in tests
    _frame: Callable[[memoryview], bool]
    """Serves the request in a frame, a view that is valid until the return; returns whether the next may be taken."""

    def __init__(self, factory: KafkaFactory, host: str, connection_id: int) -> None:
        self.host = host
        self.connection_id = connection_id
        self.last_read = time.monotonic()
        self._last_sent = 0.0
        self._shared = factory
        self._metrics = factory.metrics
        self._receiver = FrameReceiver(factory.pool, factory.max_request_bytes, self._frame)
        self._peer = Peer(factory.name, host, ("", 0), connection_id=connection_id)
        self._client_id: str | None = None  # of the last request
        self._outgoing: list[Buffer] = []
        self._outgoing_bytes = 0
        self._waiting: deque[Waiting] = deque()
        self._held = 0  # bytes of finished answers in `_waiting`
        self._backlog = factory.pool.answers
        self._paused = False  # no request is taken
        self._peer_is_slow = False  # it doesn't take our responses as fast as it asks
        self._blocked = 0  # bits: by the last one of `_waiting`, which holds up the others; by a quota
        self._resuming = False
        self._reading = False  # inside bytes_received: what is answered now is sent at its end
        self._unsent = 0  # bytes in the transport's queue
        self._unsent_before, self._taken = 0, 0  # when `stalls` was called last, and what was sent since
        self._gathering = (0, 0.0)  # the large request that came in when `gathers_long` was called last, and since when
        self._closing: IDelayedCall | None = None
        self._muted: IDelayedCall | None = None  # the end of a pause that a quota asks for
        self._muted_until = 0.0
        self._now_ms = 0
        self._lost = False

    # -- connection -------------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Learn which of our addresses the client dialled, and take part in backpressure."""
        local = self.transport.getHost()
        if isinstance(local, IPv4Address | IPv6Address):
            self._peer = replace(self._peer, local=(local.host, local.port))
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self.transport.on_unsent = self._unsent_changed  # an ordinary transport never calls it: it queues little
        self._shared.opened(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End what this connection is waiting for; long polls must not outlive their client."""
        self._lost = True
        for call in (self._closing, self._muted):
            if call is not None and call.active():
                call.cancel()
        self._shared.closed(self)
        self._receiver.discard()
        self._hold(-self._held)
        waiting, self._waiting = self._waiting, deque()
        for entry in waiting:
            if entry.deferred is not None:
                entry.deferred.cancel()

    def close(self) -> None:
        """Close after sending what is already answered, within `CLOSING_SECONDS`; further requests are not taken."""
        self._lost = True
        if self._closing is not None:
            return
        self._closing = self._shared.reactor.callLater(CLOSING_SECONDS, self.transport.abortConnection)
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abort(self) -> None:
        """Cut the connection; what the request under way still answers is not sent either."""
        self._lost = True
        self.transport.abortConnection()

    def _end(self) -> None:
        """Close from within a read: what it answered so far is sent first."""
        if self._outgoing and not self._lost:
            self._flush()
        self.close()

    def _end_malformed(self, problem: MalformedMessage) -> None:
        """Close: what came is no request, and nothing that follows can be found in it."""
        self.log.warn(
            "connection from {host} (client {client}) closed: {problem}",
            host=self.host,
            client=self._client_id,
            problem=problem.message,
        )
        self._metrics.malformed += 1
        self._end()

    @property
    def last_used(self) -> float:
        """When bytes came last, or some that had to wait were sent; in seconds of the monotonic clock."""
        return max(self.last_read, self._last_sent)

    def stalls(self) -> bool:
        """Whether since the last call the peer took little of what waited for it then."""
        stalls = self._taken < min(self._unsent_before, _LEAST_TAKEN)
        self._unsent_before, self._taken = self._unsent, 0
        return stalls

    def gathers_long(self) -> bool:
        """Whether one large request has been coming in for `GATHERING_SECONDS`, as far as calls of this can tell."""
        begun, now = (self._receiver.begun if self._receiver.gathers else 0), time.monotonic()
        if begun != self._gathering[0]:
            self._gathering = (begun, now)
        return bool(begun) and now - self._gathering[1] >= GATHERING_SECONDS

    @property
    def is_waiting(self) -> bool:
        """Whether a request is still unanswered, or the next is not taken yet because of a quota."""
        return bool(self._waiting) or self._muted is not None

    # -- backpressure -----------------------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """The socket's send queue is full: stop taking requests."""
        self._peer_is_slow = True
        self._pause()

    def resumeProducing(self) -> None:
        """The send queue has drained."""
        self._peer_is_slow = False
        self._go_on()

    def stopProducing(self) -> None:
        """The transport is gone; `connectionLost` follows."""
        self._peer_is_slow = self._paused = True

    def _is_full(self) -> bool:
        return (
            self._peer_is_slow
            or self._blocked != 0
            or self._backlog.full
            or self._held > MAX_HELD_BYTES
            or len(self._waiting) >= MAX_PIPELINED
        )

    def _mute(self, pause_ms: int) -> None:
        """Take no further request for so long: the client is above a quota."""
        self._blocked |= BY_QUOTA
        self._muted_until = max(self._muted_until, time.monotonic() + pause_ms / 1000)
        if self._muted is None:
            self._muted = self._shared.reactor.callLater(pause_ms / 1000, self._unmute)
        if not self._paused:
            self._pause()

    def _unmute(self) -> None:
        left, self._muted = self._muted_until - time.monotonic(), None
        if left > 0.001 and not self._lost:
            self._muted = self._shared.reactor.callLater(left, self._unmute)
            return
        self._blocked &= ~BY_QUOTA
        self._go_on()

    def _pause(self) -> None:
        self._paused = True
        self.transport.pauseProducing()
        if self._backlog.full:
            self._backlog.when_drained(self._go_on)

    def _unsent_changed(self, count: int) -> None:
        """The transport's queue has grown or shrunk by `count` bytes."""
        self._unsent += count
        self._backlog.change(count)
        if count < 0:
            self._taken -= count
            self._last_sent = time.monotonic()

    def _hold(self, count: int) -> None:
        """`count` more bytes of finished answers wait for their turn."""
        self._held += count
        self._backlog.change(count)

    def _go_on(self) -> None:
        """Take requests again if nothing is in their way now, those first that are already here."""
        if self._lost or self._resuming or not (self._paused or self._receiver.mid_frame):
            return
        if len(self._waiting) <= MAX_PIPELINED // 2 and self._held <= MAX_HELD_BYTES // 2:
            self._resuming = True
            self._shared.reactor.callLater(0, self._resume)

    def _resume(self) -> None:
        self._resuming = False
        if self._lost:
            return
        if self._is_full():
            self._pause()
            return
        self._paused = False
        self._receive(self._receiver.resume)
        if not self._paused and not self._lost:
            self.transport.resumeProducing()

    # -- bytes in ---------------------------------------------------------------------------------------------------

    def receive_target(self) -> memoryview | None:
        """Where the transport shall receive to; None when one of the node's budgets is spent for now."""
        if self._backlog.full:
            self._pause()
            return None
        target = self._receiver.target()
        if target is None:
            self.transport.pauseProducing()
            self._shared.pool.when_free(self._read_again)
        return target

    def _read_again(self) -> None:
        if not self._lost and not self._paused:
            self.transport.resumeProducing()

    def bytes_received(self, count: int) -> None:
        """`count` bytes were put into `receive_target()`."""
        if self._blocked:  # it was read only to notice when the client goes away
            self._receiver.keep(count)
            self._pause()
        else:
            self._receive(self._receiver.received, count)

    def dataReceived(self, data: bytes) -> None:
        """The way in where the transport cannot receive into our buffer (TLS)."""
        view = memoryview(data)
        while view and not self._lost:
            target = self._receiver.target()
            if not target:
                self.log.warn("connection from {host} closed: too many bytes of requests in flight", host=self.host)
                self.transport.abortConnection()
                return
            count = min(len(view), len(target))
            target[:count] = view[:count]
            view = view[count:]
            self.bytes_received(count)

    def _receive(self, take: Callable[..., None], *count: int) -> None:
        self._now_ms = self._shared.wall_clock_ms()
        self.last_read = time.monotonic()
        self._reading = True
        try:
            take(*count)
        except MalformedMessage as problem:
            self._end_malformed(problem)
        except CloseConnection as reason:
            self.log.info("connection from {host} closed: {reason}", host=self.host, reason=reason)
            self._end()
        finally:
            self._reading = False
        if self._outgoing and not self._lost:
            self._flush()
        if self._receiver.interrupted and not self._lost:
            self._pause()
            self._go_on()

    # -- answers out ------------------------------------------------------------------------------------------------

    def _deliver(self, chunks: list[Buffer]) -> bool:
        """Send an answer in its turn; whether a further request may be taken."""
        if self._waiting:
            entry = Waiting()
            self._hold(entry.finish(chunks))
            self._waiting.append(entry)
        else:
            self._outgoing += chunks
            self._outgoing_bytes += len(chunks[0]) if len(chunks) == 1 else sum(map(len, chunks))
            if self._outgoing_bytes > _FLUSH_BYTES or len(self._outgoing) > _FLUSH_BUFFERS:
                self._flush()
        return self._may_go_on()

    def _may_go_on(self) -> bool:
        if self._blocked:
            return False
        if (self._waiting or self._backlog.full) and not self._paused and self._is_full():
            self._pause()
        return not self._paused

    def _release(self) -> None:
        """Send the answers at the head of the order that are complete."""
        waiting = self._waiting
        while waiting and waiting[0].done:
            entry = waiting.popleft()
            self._hold(-entry.size)
            self._outgoing += entry.chunks or ()
            self._outgoing_bytes += entry.size
        if not self._reading:
            if self._outgoing:
                self._flush()
            self._go_on()

    def _flush(self) -> None:
        outgoing, self._outgoing, self._outgoing_bytes = self._outgoing, [], 0
        self.transport.writeSequence(outgoing)
