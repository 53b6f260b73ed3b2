"""The HTTP side of the admin listener: bounded bodies, Host and Origin checks, problem documents.

A page in a browser can make requests to 127.0.0.1, and with a name of its own that resolves there (DNS rebinding) even read the
answers. So on a loopback address only loopback names are answered to, and an Origin must be one's own.
"""

from __future__ import annotations

from http import HTTPStatus
from io import BytesIO
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from twisted.web.iweb import IRequest
from twisted.web.server import Request

from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.admin_schema import Problem

_Body = TypeVar("_Body")

MAX_BODY = 1024 * 1024
"""Bytes that a request's body may have."""

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

_STATUS = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: 404,
    ErrorCode.GROUP_ID_NOT_FOUND: 404,
    ErrorCode.TOPIC_ALREADY_EXISTS: 409,
    ErrorCode.NON_EMPTY_GROUP: 409,
    ErrorCode.REQUEST_TIMED_OUT: 504,
    ErrorCode.UNKNOWN_SERVER_ERROR: 500,
    ErrorCode.KAFKA_STORAGE_ERROR: 500,
}


class Refusal(Exception):
    """A request that is answered with a problem document."""

    def __init__(
        self, status: int, detail: str, code: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(status, detail)
        self.problem = Problem(HTTPStatus(status).phrase, status, detail, code=code)
        self.headers = headers or {}


def refusal_of(error: KafkaError) -> Refusal:
    """Kafka's refusal as HTTP's."""
    status = _STATUS.get(error.code, 503 if error.retriable or error.code is ErrorCode.NOT_COORDINATOR else 400)
    return Refusal(status, error.message or error.code.name, error.code.name)


def write_problem(request: IRequest, refusal: Refusal) -> bytes:
    """Set status and headers; return the body."""
    request.setResponseCode(refusal.problem.status)
    request.setHeader("content-type", "application/problem+json")
    for name, value in refusal.headers.items():
        request.setHeader(name, value)
    return msgspec.json.encode(refusal.problem)


def check_caller(request: IRequest, loopback: bool) -> None:
    """Refuse a Host that is no name of a loopback listener, and an Origin that is not the Host. Raises Refusal."""
    host = (request.getHeader("host") or "").strip()
    if loopback and _name(f"//{host}") not in _LOOPBACK:
        raise Refusal(403, f"this listener answers to 127.0.0.1 and localhost, not to Host {host[:80]!r}")
    origin = request.getHeader("origin")
    if origin is not None and urlsplit_netloc(origin) != host.lower():
        raise Refusal(403, f"requests from Origin {origin[:80]!r} are not served")


def urlsplit_netloc(url: str) -> str | None:
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


def read_json(request: Any, kind: type[_Body]) -> _Body:
    """The body as `kind`. Raises Refusal: 415 for another content type, 400 for what does not fit."""
    content_type = (request.getHeader("content-type") or "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise Refusal(415, "the body must be application/json")
    try:
        return msgspec.json.decode(request.content.read(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, f"the body is not as the operation wants it: {error}") from None


class BoundedRequest(Request):
    """A request whose body is refused with 413, and its connection closed, before it grows above `MAX_BODY`."""

    _received = 0
    _refused = False

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
        if not self._refused:
            super().requestReceived(command, path, version)

    def _refuse_above(self, length: int) -> None:
        if length <= MAX_BODY or self._refused:
            return
        self._refused = True
        self.content = BytesIO()
        problem = Problem("Content Too Large", 413, f"a body may have {MAX_BODY} bytes")
        body = msgspec.json.encode(problem)
        head = f"HTTP/1.1 413 Content Too Large\r\nContent-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n"
        transport: Any = self.channel.transport
        transport.write(head.encode("ascii") + b"Connection: close\r\n\r\n" + body)
        self.channel.loseConnection()
