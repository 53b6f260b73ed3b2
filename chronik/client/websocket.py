"""A WebSocket as a client reads it: text messages, one after the other, with the socket's backpressure.

Of the modules of the client this alone knows Autobahn.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet import error
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.endpoints import HostnameEndpoint

from chronik.client.errors import BadResponse, RequestTimedOut, Unreachable
from chronik.errors import ChronikError

_MAX_MESSAGE = 64 << 20
_QUEUE = 16
"""Messages that wait to be taken before no more is read."""
_PING_SECONDS = 20


class Closed(ChronikError):
    """The other side has closed the connection, or it is lost: then `code` is 1006."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason or f"the connection was closed with code {code}")
        self.code = code


class _Ended(NamedTuple):
    code: int
    reason: str


class WebSocket(WebSocketClientProtocol):
    """A connection. `opened` fires with it once it can be read."""

    transport: Any

    def __init__(self, opened: Deferred[WebSocket]) -> None:
        super().__init__()
        self._opened = opened
        self._messages: deque[bytes] = deque()
        self._waiting: Deferred[None] | None = None
        self._ended: _Ended | None = None
        self._paused = False

    async def receive(self) -> bytes:
        """The next message. Raises Closed."""
        while not self._messages:
            if self._ended is not None:
                raise Closed(*self._ended)
            self._waiting = Deferred()
            await self._waiting
        message = self._messages.popleft()
        if self._paused and not self._messages:
            self._paused = False
            self.transport.resumeProducing()
        return message

    def close(self) -> None:
        """Close it at once."""
        self._closeConnection(abort=True)

    # -- Autobahn -----------------------------------------------------------------------------------------------------

    def onOpen(self) -> None:
        """The handshake is done."""
        if not self._opened.called:
            self._opened.callback(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """A message came."""
        self._messages.append(payload)
        if len(self._messages) >= _QUEUE and not self._paused and self._ended is None:
            self._paused = True
            self.transport.pauseProducing()
        self._wake()

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """The connection is gone."""
        self._ended = _Ended(code or 1006, reason or "")
        if not self._opened.called:
            self._opened.errback(BadResponse(reason or "the connection was closed"))
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)


async def open_websocket(reactor: Any, url: str, timeout: float) -> WebSocket:
    """A connection to `ws://host:port/…`. Raises Unreachable, RequestTimedOut, BadResponse."""
    parts = urlsplit(url)
    place = f"{parts.hostname}:{parts.port or 80}"
    opened: Deferred[WebSocket] = Deferred()
    factory = WebSocketClientFactory(url, reactor=reactor)
    factory.noisy = False
    factory.protocol = partial(WebSocket, opened)  # type: ignore[assignment]  # it is only called
    factory.setProtocolOptions(
        maxFramePayloadSize=_MAX_MESSAGE,
        maxMessagePayloadSize=_MAX_MESSAGE,
        openHandshakeTimeout=timeout,
        autoPingInterval=_PING_SECONDS,
        autoPingTimeout=_PING_SECONDS,
        tcpNoDelay=True,
    )
    endpoint = HostnameEndpoint(reactor, parts.hostname or "", parts.port or 80, timeout=min(timeout, 10.0))
    try:
        await endpoint.connect(factory)
    except (error.ConnectError, error.DNSLookupError, error.TimeoutError) as problem:
        refused = isinstance(problem, error.ConnectionRefusedError)
        reason = "connection refused" if refused else str(problem).rstrip(".")
        raise Unreachable(f"no search listener answers at {place}: {reason}") from problem
    opened.addTimeout(timeout, reactor)
    try:
        return await opened
    except BadResponse as problem:
        raise BadResponse(f"{place} serves no tails: {problem}") from problem
    except TimeoutError as problem:
        raise RequestTimedOut(f"{place} did not answer within {timeout:g} s") from problem
