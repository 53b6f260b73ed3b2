"""Frames: the 4-byte size prefix, and the request and response headers inside it.

A frame is `size: int32`, a header, a body. Which header version goes with a body version is a property of the API:
flexible bodies have headers with a tag section, except that ApiVersions responses never do (a client reads them before
it knows what the broker speaks).

Sources: the Kafka protocol guide; KIP-482, KIP-511.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from chronik.steps import Steps
from chronik.wire.apis import ApiKey
from chronik.wire.codec import Buffer, MalformedMessage, Request, Response
from chronik.wire.compiler import read_uvarint, skip_tags

SIZE_PREFIX = 4
_MAX_TAGS = 100

_unpack_size = struct.Struct(">i").unpack_from
_unpack_fixed_header = struct.Struct(">hhi").unpack_from
_unpack_length = struct.Struct(">h").unpack_from
_pack_into_size = struct.Struct(">i").pack_into


class RequestHeader(NamedTuple):
    """The header of one request, and `body`: the position in the frame where its body starts."""

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None
    body: int


def read_fixed_header(frame: Buffer) -> tuple[int, int, int]:
    """(api_key, api_version, correlation_id): the first 8 bytes, which every header version shares."""
    if len(frame) < 8:
        raise MalformedMessage(f"a request of {len(frame)} bytes has no header")
    key, version, correlation = _unpack_fixed_header(frame, 0)
    return key, version, correlation


def read_request_header(frame: Buffer, flexible: bool) -> RequestHeader:
    """Parse the header of `frame` (without its size prefix): version 2 when the body is `flexible`, else version 1."""
    try:
        key, version, correlation = _unpack_fixed_header(frame, 0)
        (length,) = _unpack_length(frame, 8)
        position = 10
        client_id: str | None = None
        if length >= 0:
            position += length
            if position > len(frame):
                raise MalformedMessage(f"client id of {length} bytes in a request of {len(frame)}")
            client_id = str(frame[10:position], "utf-8")
        elif length != -1:
            raise MalformedMessage(f"client id of length {length}")
        if flexible:
            tags = frame[position]
            position += 1
            if tags:
                position = _skip_tags(frame, position - 1)
    except (struct.error, IndexError, UnicodeDecodeError) as problem:
        raise MalformedMessage(f"request header: {problem}") from None
    return RequestHeader(key, version, correlation, client_id, position)


def _skip_tags(frame: Buffer, position: int) -> int:
    """The position after the tag section at `position`; no tag of either header means anything here."""
    try:
        count, position = read_uvarint(frame, position)
        if count > _MAX_TAGS:
            raise MalformedMessage(f"{count} tags in a header; {_MAX_TAGS} are allowed")
        return skip_tags(frame, position, count)
    except IndexError:
        raise MalformedMessage("the header ends inside its tags") from None


def encode_request(request: Request, version: int, correlation_id: int, client_id: str | None) -> list[Buffer]:
    """A whole request frame as a list of buffers to write one after the other."""
    head = bytearray(4)
    head += struct.pack(">hhi", request.API_KEY, version, correlation_id)
    if client_id is None:
        head += b"\xff\xff"
    else:
        text = client_id.encode()
        head += struct.pack(">h", len(text)) + text
    if request.is_flexible(version):
        head.append(0)
    chunks: list[Buffer] = []
    request.encode_into(version, chunks, head)
    return _sized(chunks, head)


def encode_response(response: Response, version: int, correlation_id: int) -> list[Buffer]:
    """A whole response frame as a list of buffers to write one after the other.

    Raises ManyElements for one that has to be encoded in steps.
    """
    chunks: list[Buffer] = []
    head = _response_head(response, version, correlation_id)
    encoder = response._encoders.get(version) or response._compile_encoder(version)
    encoder(response, chunks, head)
    return _sized(chunks, head)


def encode_response_in_steps(response: Response, version: int, correlation_id: int) -> Steps[list[Buffer]]:
    """As `encode_response`, of any response, with a pause every few elements."""
    chunks: list[Buffer] = []
    head = _response_head(response, version, correlation_id)
    yield from response.encode_in_steps(version, chunks, head)
    return _sized(chunks, head)


def _response_head(response: Response, version: int, correlation_id: int) -> bytearray:
    head = bytearray(8)
    _pack_into_size(head, 4, correlation_id)
    if response.is_flexible(version) and response.API_KEY != ApiKey.API_VERSIONS:
        head.append(0)
    return head


def _sized(chunks: list[Buffer], head: bytearray) -> list[Buffer]:
    """`chunks`, the first of which is `head`, with their size in front."""
    size = len(head) if len(chunks) == 1 else sum(map(len, chunks))
    _pack_into_size(head, 0, size - SIZE_PREFIX)
    return chunks


def response_body(frame: Buffer, response: type[Response], version: int) -> tuple[int, int]:
    """(correlation_id, position of the body) in a response frame without its size prefix."""
    if len(frame) < 4:
        raise MalformedMessage(f"a response of {len(frame)} bytes has no header")
    (correlation_id,) = _unpack_size(frame, 0)
    if response.is_flexible(version) and response.API_KEY != ApiKey.API_VERSIONS:
        return correlation_id, _skip_tags(frame, 4)
    return correlation_id, 4


class FrameReader:
    """Cuts a stream into frames: feed bytes, get whole frames back. For clients, whose peer is trusted with memory.

    Raises MalformedMessage for a size that is negative or above `max_bytes`; after that the stream is lost.
    """

    def __init__(self, max_bytes: int = 256 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._pending = bytearray()

    def feed(self, data: Buffer) -> list[bytes]:
        """Take `data` in; return the frames that it completes, without their size prefixes."""
        self._pending += data
        pending, frames, position = self._pending, [], 0
        while len(pending) - position >= SIZE_PREFIX:
            (size,) = _unpack_size(pending, position)
            if not 0 <= size <= self._max_bytes:
                raise MalformedMessage(f"a frame of {size} bytes is outside 0 to {self._max_bytes}")
            stop = position + SIZE_PREFIX + size
            if len(pending) < stop:
                break
            frames.append(bytes(memoryview(pending)[position + SIZE_PREFIX : stop]))
            position = stop
        if position:
            del pending[:position]
        return frames
