"""The HTTP side of the admin listener: JSON bodies, and refusals as RFC 9457 problem documents."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from twisted.web.iweb import IRequest

from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.admin_schema import Problem
from chronik.listeners.http import BoundedRequest, Refusal, content_type

_Body = TypeVar("_Body")

MAX_BODY = 1024 * 1024
"""Bytes that a request's body may have."""

_PROBLEM = "application/problem+json"

_STATUS = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: 404,
    ErrorCode.GROUP_ID_NOT_FOUND: 404,
    ErrorCode.TOPIC_ALREADY_EXISTS: 409,
    ErrorCode.NON_EMPTY_GROUP: 409,
    ErrorCode.REQUEST_TIMED_OUT: 504,
    ErrorCode.UNKNOWN_SERVER_ERROR: 500,
    ErrorCode.KAFKA_STORAGE_ERROR: 500,
}


def refusal_of(error: KafkaError) -> Refusal:
    """Kafka's refusal as HTTP's."""
    status = _STATUS.get(error.code, 503 if error.retriable or error.code is ErrorCode.NOT_COORDINATOR else 400)
    return Refusal(status, error.message or error.code.name, error.code.name)


def write_problem(request: IRequest, refusal: Refusal) -> bytes:
    """Set status and headers; return the body."""
    request.setResponseCode(refusal.status)
    request.setHeader("content-type", _PROBLEM)
    for name, value in refusal.headers.items():
        request.setHeader(name, value)
    return _problem(refusal)


def _problem(refusal: Refusal) -> bytes:
    title = HTTPStatus(refusal.status).phrase
    return msgspec.json.encode(Problem(title, refusal.status, refusal.detail, code=refusal.code))


def read_json(request: Any, kind: type[_Body]) -> _Body:
    """The body as `kind`. Raises Refusal: 415 for another content type, 400 for what does not fit."""
    if content_type(request) != "application/json":
        raise Refusal(415, "the body must be application/json")
    try:
        return msgspec.json.decode(request.content.read(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, f"the body is not as the operation wants it: {error}") from None


class AdminRequest(BoundedRequest):
    """A request whose body, if it is too large or a form, is refused with a problem document."""

    max_body = MAX_BODY

    def refusal_body(self, refusal: Refusal) -> tuple[str, bytes]:
        """See `BoundedRequest`."""
        return _PROBLEM, _problem(refusal)
