"""Live tails over WebSocket, at `/tail` of the search listener: `/tail?topic=orders&query=level:error&from=latest`.

The handshake is checked as every request of the listener is. What is wrong with the parameters is said in a message, since
browsers show nothing of a handshake that was refused; then the connection is closed with 4000 and HTTP's status. Clients send
nothing. Backpressure is that of the socket: while its buffer is full, the subscriber is paused.

This is the only module of the node that knows Autobahn. Its server sends a frame through `transport.write`, with some
microseconds of logging before and after; a frame with hits is made once for all who get it, and written directly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from zope.interface import implementer

from chronik.errors import KafkaError
from chronik.listeners.http import Refusal, check_caller
from chronik.listeners.search_http import write_error
from chronik.search.parcels import Note, Parcel, error_note
from chronik.search.query import QueryError
from chronik.search.subscriber import Subscriber
from chronik.search.tail_request import read_wish
from chronik.search.tails import TailRefused, Tails

PARAMETERS = ("topic", "query", "from")
_PING_SECONDS = 30
_PONG_SECONDS = 60
"""A client that doesn't answer for so long, because it is gone or takes nothing, is dropped."""
_HANDSHAKE_SECONDS = 10
_MAX_MESSAGE = 1024
"""Bytes of what a client may send before it is told that it may send nothing."""
_MAX_REASON = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class TailServices:
    """Whom tails ask."""

    tails: Tails
    clock: IReactorTime
    wall_clock_ms: Callable[[], int]
    loopback: bool


def tail_resource(services: TailServices) -> Any:
    """What is at `/tail`."""
    return _TailResource(services)


@implementer(IResource)
class _TailResource(WebSocketResource):
    """Hands a request that wants to become a WebSocket over to a protocol of its own."""

    def __init__(self, services: TailServices) -> None:
        factory = WebSocketServerFactory(reactor=services.clock)
        factory.protocol = partial(TailProtocol, services)  # type: ignore[assignment]  # it is only called
        factory._batched_timer = _Timers(services.clock)
        factory.setProtocolOptions(
            webStatus=False,
            failByDrop=False,
            maxFramePayloadSize=_MAX_MESSAGE,
            maxMessagePayloadSize=_MAX_MESSAGE,
            openHandshakeTimeout=_HANDSHAKE_SECONDS,
            closeHandshakeTimeout=_HANDSHAKE_SECONDS,
            autoPingInterval=_PING_SECONDS,
            autoPingTimeout=_PONG_SECONDS,
            tcpNoDelay=True,
        )
        super().__init__(factory)
        self._loopback = services.loopback

    def render(self, request: Any) -> Any:
        """Take the connection over, or refuse it."""
        try:
            check_caller(request, self._loopback)
            if (request.getHeader("upgrade") or "").strip().lower() != "websocket":
                raise Refusal(426, "this is a WebSocket: see docs/tail.md", headers={"upgrade": "websocket"})
        except Refusal as refusal:
            return write_error(request, refusal)
        return super().render(request)


class _Timers:
    """Timers of a factory on the node's own reactor. Autobahn's are on Twisted's global one, whatever reactor it is given."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock

    def call_later(self, delay: float, function: Callable[..., object], *arguments: Any) -> _Timer:
        """As `txaio.IBatchedTimer` has it."""
        return _Timer(self._clock.callLater(delay, function, *arguments))


class _Timer:
    """One of them."""

    def __init__(self, call: IDelayedCall) -> None:
        self._call = call

    def cancel(self) -> None:
        """Call nothing. It may have been called already."""
        if self._call.active():
            self._call.cancel()


@implementer(IPushProducer)
class TailProtocol(WebSocketServerProtocol):
    """One client's connection."""

    transport: Any
    log_defect = Logger(namespace="chronik.listeners.tail")

    def __init__(self, services: TailServices) -> None:
        super().__init__()
        self._services = services
        self._parameters: dict[str, list[str]] = {}
        self._subscribing: Deferred[Any] | None = None
        self._subscriber: Subscriber | None = None
        self._paused = self._gone = False

    # -- Autobahn -----------------------------------------------------------------------------------------------------

    def onConnect(self, request: Any) -> None:
        """The handshake came."""
        self._parameters = request.params

    def onOpen(self) -> None:
        """The connection is a WebSocket now."""
        self.unregisterProducer()  # the HTTP channel's
        self.registerProducer(self, True)
        self._subscribing = Deferred.fromCoroutine(self._subscribe())
        self._subscribing.addErrback(self._failed)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """The client sent something."""
        self.close(400, "a tail takes no messages")

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """The connection is gone."""
        self._gone = True
        if self._subscriber is not None:
            self._services.tails.leave(self._subscriber)
        elif self._subscribing is not None:
            self._subscribing.cancel()

    # -- IPushProducer ------------------------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """The socket's buffer is full."""
        self._paused = True
        if self._subscriber is not None:
            self._subscriber.pause()

    def resumeProducing(self) -> None:
        """It has room again."""
        self._paused = False
        if self._subscriber is not None:
            self._services.tails.resume(self._subscriber)

    def stopProducing(self) -> None:
        """The connection is gone: `onClose` will be told."""

    # -- Sink ---------------------------------------------------------------------------------------------------------

    def send(self, message: Parcel | Note) -> None:
        """See `chronik.search.subscriber.Sink`."""
        if self._gone or self.state != self.STATE_OPEN:
            return
        frame = message.frame
        if frame is None:
            frame = message.frame = self.factory.prepareMessage(message.text, doNotCompress=True).payloadHybi
        self.transport.write(frame)

    def close(self, status: int, reason: str, position: int | None = None) -> None:
        """See `chronik.search.subscriber.Sink`."""
        self.send(error_note(status, reason, position))
        self.sendClose(4000 + status, reason.encode()[:_MAX_REASON].decode("utf-8", "ignore"))

    # -- subscribing --------------------------------------------------------------------------------------------------

    async def _subscribe(self) -> None:
        services = self._services
        wish = read_wish(*self._read(), services.wall_clock_ms())
        subscriber = await services.tails.subscribe(wish, self)
        if self._gone:
            services.tails.leave(subscriber)
            return
        self._subscriber = subscriber
        if self._paused:
            subscriber.pause()

    def _read(self) -> tuple[str, str, str]:
        """Topic, query and where to begin. Raises QueryError."""
        for name, values in self._parameters.items():
            if name not in PARAMETERS:
                raise QueryError(f"there is no parameter {name[:50]!r}: they are {', '.join(PARAMETERS)}")
            if len(values) > 1 and name != "topic":
                raise QueryError(f"the parameter {name} is there {len(values)} times")
        topics, query, start = (self._parameters.get(name, [""]) for name in PARAMETERS)
        return ",".join(topics), query[0], start[0]

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, CancelledError):
            return
        if isinstance(error, QueryError):
            self.close(400, error.reason, error.position)
        elif isinstance(error, TailRefused):
            self.close(error.status, str(error))
        elif isinstance(error, KafkaError):
            self.close(503, error.message or error.code.name)
        else:
            self.log_defect.failure("a tail could not begin", failure)
            self.close(500, "the node failed on this tail; its log says why")
