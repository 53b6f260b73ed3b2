"""What the HTTP listeners share: bounded bodies, Host and Origin checks, refusals, and large answers in pieces.

A page in a browser can make requests to 127.0.0.1, and with a name of its own that resolves there (DNS rebinding) even read the
answers. So on a loopback address only loopback names are answered to, and an Origin must be one's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.task import deferLater
from twisted.web.iweb import IRequest
from twisted.web.server import Request, Site
from zope.interface import implementer

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
_PIECE_BYTES = 256 * 1024


class Refusal(Exception):
    """A request that is refused. `code` is the error's name: Kafka's, or Elasticsearch's; `more` is what else is to be said."""

    def __init__(
        self,
        status: int,
        detail: str,
        code: str | None = None,
        headers: dict[str, str] | None = None,
        more: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.code = code
        self.headers = headers or {}
        self.more = more or {}


def check_caller(request: IRequest, loopback: bool) -> None:
    """Refuse a Host that is no name of a loopback listener, and an Origin that is not the Host. Raises Refusal."""
    host = (request.getHeader("host") or "").strip()
    if loopback and _name(f"//{host}") not in _LOOPBACK:
        raise Refusal(403, f"this listener answers to 127.0.0.1 and localhost, not to Host {host[:80]!r}")
    origin = request.getHeader("origin")
    if origin is not None and _place(origin) != host.lower():
        raise Refusal(403, f"requests from Origin {origin[:80]!r} are not served")


def _place(url: str) -> str | None:
    """Host and port of `url` in lower case, None when it has none."""
    try:
        return urlsplit(url).netloc.lower() or None
    except ValueError:
        return None


def _name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _is_utf8(path: bytes) -> bool:
    try:
        unquote_to_bytes(path.partition(b"?")[0]).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def content_type(request: IRequest) -> str:
    """The media type of the body, in lower case and without parameters; empty where none is named."""
    return (request.getHeader("content-type") or "").partition(";")[0].strip().lower()


class QuietSite(Site):
    """Probes and scrapes come every few seconds: they are no news."""

    noisy = False
    displayTracebacks = False

    def log(self, request: Any) -> None:
        """No access log."""


class BoundedRequest(Request):
    """A request whose body is refused with 413, and its connection closed, before it grows above `max_body` bytes.

    A body that is a form is refused as well: Twisted would take it apart before anybody is asked, in one piece. So is a path
    that is no text, on which Klein fails.
    """

    max_body = 1024 * 1024
    _received = 0
    _refused = False

    def refusal_body(self, refusal: Refusal) -> tuple[str, bytes]:
        """Content type and body of a refusal, as the listener writes them."""
        raise NotImplementedError

    def gotLength(self, length: int | None) -> None:
        """The headers told how long the body is; None says that it comes in chunks of unknown number."""
        self._refuse_above(length or 0)
        super().gotLength(0 if self._refused else length)

    def handleContentChunk(self, data: bytes) -> None:
        """A part of the body came."""
        self._received += len(data)
        self._refuse_above(self._received)
        if not self._refused:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The whole request came."""
        if not self._refused and content_type(self) in _FORMS:
            self._refuse(Refusal(415, f"Content-Type {content_type(self)} is not served; send application/json"))
        if not self._refused and not _is_utf8(path):
            self._refuse(Refusal(400, "the path is not UTF-8, percent-encoded"))
        if not self._refused:
            super().requestReceived(command, path, version)

    def _refuse_above(self, length: int) -> None:
        if length > self.max_body and not self._refused:
            self._refuse(Refusal(413, f"a body may have {self.max_body} bytes"))

    def _refuse(self, refusal: Refusal) -> None:
        self._refused = True
        self.content = BytesIO()
        kind, body = self.refusal_body(refusal)
        status = f"{refusal.status} {HTTPStatus(refusal.status).phrase}"
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        transport: Any = self.channel.transport
        transport.write(head.encode("ascii") + body)
        self.channel.loseConnection()


@implementer(IPushProducer)
class _Sending:
    """Says when the client has taken enough to be sent more."""

    def __init__(self) -> None:
        self._paused = False
        self._waiting: Deferred[None] | None = None

    def pauseProducing(self) -> None:
        """The client is slow."""
        self._paused = True

    def resumeProducing(self) -> None:
        """It has taken what there was."""
        self._paused = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def stopProducing(self) -> None:
        """The connection is gone: who sends is cancelled by the listener."""

    async def taken(self) -> None:
        """Return when more can be sent."""
        if self._paused:
            self._waiting = Deferred()
            await self._waiting


async def send_answer(request: Any, pieces: Iterable[bytes], clock: IReactorTime) -> None:
    """Write an answer, some at a time, as fast as the client takes it. What is short goes at once."""
    gathered: list[bytes] = []
    size = 0
    groups: list[list[bytes]] = []
    total = 0
    for piece in pieces:
        for at in range(0, len(piece), _PIECE_BYTES):
            part = piece if len(piece) <= _PIECE_BYTES else piece[at : at + _PIECE_BYTES]
            gathered.append(part)
            size += len(part)
            total += len(part)
            if size >= _PIECE_BYTES:
                groups.append(gathered)
                gathered, size = [], 0
    groups.append(gathered)
    request.setHeader("content-length", str(total))
    if len(groups) == 1:
        request.write(b"".join(gathered))
        return
    sending = _Sending()
    request.registerProducer(sending, True)
    try:
        for group in groups:
            request.write(b"".join(group))
            await deferLater(clock, 0)
            await sending.taken()
    finally:
        if request.channel is not None:  # it is, once the connection is gone
            request.unregisterProducer()
