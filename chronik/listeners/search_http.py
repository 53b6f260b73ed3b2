"""The HTTP side of the search listener: what a request says, content types, and errors, all as Elasticsearch has them.

Elasticsearch's clients of versions 8 and 9 send and want `application/vnd.elasticsearch+json; compatible-with=N`, and believe
an answer only if `X-Elastic-Product` is in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec
from twisted.web.iweb import IRequest

from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.http import BoundedRequest, Refusal
from chronik.search.messages import Fault
from chronik.search.names import NamesError
from chronik.search.query import QueryError

MAX_BODY = 2 * 1024 * 1024
"""Bytes that a request's body may have."""
MAX_PARAMETERS = 50
MAX_PRETTY = 1024 * 1024
"""Bytes of an answer that is indented, in one piece."""
JSON = "application/json"

_MEDIA = re.compile(r"application/(?:vnd\.elasticsearch\+)?(?:json|x-ndjson)")
_COMPATIBLE = re.compile(r";\s*compatible-with\s*=\s*\"?([0-9]+)")
_VENDOR = "application/vnd.elasticsearch+json;compatible-with="
_VERSIONS = ("8", "9")
_PRODUCT = ("x-elastic-product", "Elasticsearch")
_TYPES = {
    400: "illegal_argument_exception",
    403: "security_exception",
    404: "resource_not_found_exception",
    405: "illegal_argument_exception",
    406: "media_type_header_exception",
    408: "timeout_exception",
    413: "content_too_long_exception",
    415: "media_type_header_exception",
    429: "es_rejected_execution_exception",
    500: "exception",
    503: "search_phase_execution_exception",
}
_STATUS = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: 404,
    ErrorCode.REQUEST_TIMED_OUT: 503,
    ErrorCode.UNKNOWN_SERVER_ERROR: 500,
    ErrorCode.KAFKA_STORAGE_ERROR: 500,
}


class Call(NamedTuple):
    """What an operation is asked: names of topics (empty for all), parameters, the body, and the content type of the answer."""

    names: str
    parameters: dict[str, str]
    content: bytes
    kind: str = JSON

    def split(self, *names: str) -> tuple[dict[str, str], dict[str, str]]:
        """The parameters of these names, and the others."""
        mine = {name: text for name, text in self.parameters.items() if name in names}
        return mine, {name: text for name, text in self.parameters.items() if name not in mine}


class SearchHttpRequest(BoundedRequest):
    """A request whose body, if it is too large or a form, is refused with Elasticsearch's error document."""

    max_body = MAX_BODY

    def refusal_body(self, refusal: Refusal) -> tuple[str, bytes]:
        """See `BoundedRequest`."""
        return JSON, msgspec.json.encode(error_document(refusal))


def parameters_of(request: Any) -> dict[str, str]:
    """The URL's parameters; one without a value is an empty text. Raises Refusal for what is not UTF-8, or there twice."""
    _, _, query = request.uri.partition(b"?")
    found: dict[str, str] = {}
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except UnicodeDecodeError:
        raise Refusal(400, "the parameters are not UTF-8, percent-encoded") from None
    except ValueError:
        raise Refusal(400, f"there are more than {MAX_PARAMETERS} parameters") from None
    for name, text in pairs:
        if name in found:
            raise Refusal(400, f"the parameter `{name:.80}` is there twice")
        found[name] = text
    return found


def content_of(request: Any) -> bytes:
    """The body. Raises Refusal for one of another kind than JSON, or encoded."""
    content: bytes = request.content.read()
    if not content:
        return content
    encoding = (request.getHeader("content-encoding") or "identity").strip().lower()
    if encoding != "identity":
        raise Refusal(415, f"Content-Encoding {encoding[:80]!r} is not served; send the body as it is")
    media = (request.getHeader("content-type") or "").strip().lower()
    if not _MEDIA.match(media):
        raise Refusal(406, f"Content-Type header [{media[:80]}] is not supported; send application/json")
    _version(media)
    return content


def answer_type(request: IRequest, other: str = JSON) -> str:
    """The content type that the caller wants: JSON, the vendor's JSON, or `other`, if there is a choice. Raises Refusal."""
    accept = (request.getHeader("accept") or "").strip().lower()
    if not accept or "*/*" in accept or other in accept:
        return other
    if "application/vnd.elasticsearch+" in accept:
        return _VENDOR + (_version(accept) or _VERSIONS[0])
    if JSON in accept or "application/x-ndjson" in accept or "application/*" in accept:
        return JSON
    raise Refusal(406, f"Accept header [{accept[:80]}] is not supported; answers are application/json")


def _version(media: str) -> str | None:
    """The version that a media type is to be compatible with."""
    found = _COMPATIBLE.search(media)
    if found is None:
        return None
    if found[1] not in _VERSIONS:
        raise Refusal(
            400,
            f"compatible-with={found[1]:.9} is not supported, {' and '.join(_VERSIONS)} are",
            "media_type_header_exception",
        )
    return found[1]


# -- errors --------------------------------------------------------------------------------------------------------------


def refusal_of(error: Exception) -> Refusal:
    """A refusal of another part as HTTP's."""
    if isinstance(error, QueryError):
        return fault_refusal(Fault(error.reason, error.position, error.path))
    if isinstance(error, NamesError):
        if error.missing is None:
            return Refusal(400, str(error), "invalid_index_name_exception")
        more = {"resource.type": "index_or_alias", "resource.id": error.missing, "index": error.missing}
        return Refusal(404, str(error), "index_not_found_exception", more=more)
    if isinstance(error, KafkaError):
        status = _STATUS.get(error.code, 503 if error.retriable else 400)
        return Refusal(status, error.message or error.code.name, error.code.name.lower())
    return Refusal(503, str(error))


def fault_refusal(fault: Fault) -> Refusal:
    """What is wrong with a request, and where."""
    more: dict[str, Any] = {}
    if fault.path:
        more["path"] = fault.path
    if fault.position is not None:
        more["position"] = fault.position
    return Refusal(400, str(QueryError(fault.reason, fault.position, fault.path)), "parsing_exception", more=more)


def error_document(refusal: Refusal) -> dict[str, Any]:
    """A refusal as Elasticsearch writes it."""
    cause = {"type": refusal.code or _TYPES.get(refusal.status, "exception"), "reason": refusal.detail, **refusal.more}
    return {"error": {"root_cause": [cause], **cause}, "status": refusal.status}


def set_product(request: IRequest) -> None:
    """Say what Elasticsearch's clients look for."""
    request.setHeader(*_PRODUCT)


def write_error(request: Any, refusal: Refusal) -> bytes:
    """Set status and headers; return the body."""
    request.setResponseCode(refusal.status)
    set_product(request)
    try:
        kind = answer_type(request)
    except Refusal:
        kind = JSON
    request.setHeader("content-type", kind)
    for name, value in refusal.headers.items():
        request.setHeader(name, value)
    return b"" if request.method == b"HEAD" else msgspec.json.encode(error_document(refusal))


# -- answers -------------------------------------------------------------------------------------------------------------


def indented(pieces: list[bytes]) -> list[bytes]:
    """The JSON with line breaks. Raises Refusal where it is too long for that."""
    size = sum(map(len, pieces))
    if size > MAX_PRETTY:
        raise Refusal(400, f"the answer has {size} bytes, and only {MAX_PRETTY} are indented; leave `pretty` out")
    return [msgspec.json.format(b"".join(pieces), indent=2), b"\n"]


def switch(parameters: Mapping[str, str], name: str, otherwise: bool = False) -> bool:
    """A parameter that is true, false, or merely there. Raises Refusal."""
    text = parameters.get(name)
    if text is None:
        return otherwise
    if text not in ("true", "false", ""):
        raise Refusal(400, f"`{name}` is true or false, not {text[:80]!r}")
    return text != "false"
