"""The wire codec: versioned messages that are compiled to one decode and one encode function per version.

A message is a `Struct` with versions of its own::

    class FindCoordinatorRequest(Request, api_key=10, versions="0-6", flexible="3+"):
        key: str = string("0-3")
        key_type: int = int8("1+")
        coordinator_keys: list[str] = array(string(), "4+")

At first use of a version, `chronik.wire.decoder` and `chronik.wire.encoder` write its two functions as straight-line
Python: nested structs inlined, runs of fixed-size fields in one `struct` call, `records` passed through as memoryview
slices without a copy.

Decoding trusts nothing: every length is checked against the bytes that remain and every count against the least that
its elements can take, nothing is allocated from a declared length, unknown tagged fields are skipped. Whatever is wrong
with the bytes raises `MalformedMessage`. Encoding a value that the version has no field for raises `UnsupportedField`,
unless the field is ignorable.

A message of many elements takes many milliseconds either way. A second pair of functions, compiled when it is first needed,
does the same in steps, between which others can be served.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from chronik.steps import Steps, at_once
from chronik.wire.compiler import Buffer, MalformedMessage, ManyElements, UnsupportedField
from chronik.wire.decoder import compile_decoder, compile_stepped_decoder
from chronik.wire.encoder import compile_encoder, compile_stepped_encoder
from chronik.wire.schema import Struct, Versions

__all__ = [
    "Buffer",
    "MalformedMessage",
    "ManyElements",
    "Message",
    "Request",
    "Response",
    "UnsupportedField",
    "encode_struct",
]

_M = TypeVar("_M", bound="Message")

_AT_ONCE = 1000
"""Elements that a broker decodes or encodes in one piece, in a millisecond: 500 partitions, each alone in its topic."""


class Message(Struct):
    """A struct with versions of its own: a request, a response, or a value stored in a log.

    `VERSIONS` are those this project can code, `FLEXIBLE` those with compact lengths and tagged fields. `MAX_ELEMENTS`
    bounds what all arrays of one message together may hold when it is decoded; `DECODED_AT_ONCE` and `ENCODED_AT_ONCE` how
    much of that is done in one piece.
    """

    VERSIONS: ClassVar[Versions]
    FLEXIBLE: ClassVar[Versions]
    MAX_ELEMENTS: ClassVar[int | None] = None
    DECODED_AT_ONCE: ClassVar[int | None] = None
    ENCODED_AT_ONCE: ClassVar[int | None] = None
    _decoders: ClassVar[dict[int, Callable[[Buffer, int], tuple[Any, int]]]]
    _encoders: ClassVar[dict[int, Callable[[Any, list[Buffer], bytearray], None]]]
    _stepped_decoders: ClassVar[dict[int, Callable[[Buffer, int], Steps[tuple[Any, int]]]]]
    _stepped_encoders: ClassVar[dict[int, Callable[[Any, list[Buffer], bytearray], Steps[None]]]]

    def __init_subclass__(cls, versions: str = "none", flexible: str = "none", **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.VERSIONS = Versions.parse(versions)
        cls.FLEXIBLE = Versions.parse(flexible)
        cls._decoders, cls._stepped_decoders = {}, {}
        cls._encoders, cls._stepped_encoders = {}, {}

    @classmethod
    def decode(cls: type[_M], buffer: Buffer, version: int, position: int = 0) -> tuple[_M, int]:
        """Read one message from `buffer` at `position`; return it and the position after it.

        `records` fields are memoryviews into `buffer`. Raises MalformedMessage, and UnsupportedField for a version
        outside `VERSIONS`.
        """
        decoder = cls._decoders.get(version)
        if decoder is None:
            decoder = cls._compile_decoder(version)
        try:
            return decoder(buffer, position)
        except ManyElements:
            return at_once(cls.decode_in_steps(buffer, version, position))

    @classmethod
    def decode_in_steps(cls: type[_M], buffer: Buffer, version: int, position: int = 0) -> Steps[tuple[_M, int]]:
        """As `decode`, with a pause every few elements."""
        decoder = cls._stepped_decoders.get(version)
        if decoder is None:
            cls._check(version)
            decoder = compile_stepped_decoder(cls, version, cls.is_flexible(version), cls.MAX_ELEMENTS)
            cls._stepped_decoders[version] = decoder
        return decoder(buffer, position)

    def encode_into(self, version: int, chunks: list[Buffer], head: bytearray) -> None:
        """Write the message after the bytes of `head`, appending finished buffers to `chunks` (the last one included).

        Large `records` become buffers of their own, uncopied: send the list, don't join it.
        """
        encoder = self._encoders.get(version)
        if encoder is None:
            encoder = self._compile_encoder(version)
        count, size = len(chunks), len(head)
        try:
            encoder(self, chunks, head)
        except ManyElements:
            del chunks[count:], head[size:]
            at_once(self.encode_in_steps(version, chunks, head))

    def encode_in_steps(self, version: int, chunks: list[Buffer], head: bytearray) -> Steps[None]:
        """As `encode_into`, with a pause every few elements."""
        encoder = self._stepped_encoders.get(version)
        if encoder is None:
            self._check(version)
            encoder = compile_stepped_encoder(type(self), version, self.is_flexible(version))
            self._stepped_encoders[version] = encoder
        return encoder(self, chunks, head)

    def encode(self, version: int) -> bytes:
        """The whole message as one byte string."""
        chunks: list[Buffer] = []
        self.encode_into(version, chunks, bytearray())
        return b"".join(chunks)

    @classmethod
    def prepare(cls, version: int) -> None:
        """Compile the functions of `version` now, not in the midst of its first message: up to 1 ms each.

        Raises UnsupportedField for a version outside `VERSIONS`.
        """
        if version not in cls._decoders:
            cls._compile_decoder(version)
        if version not in cls._encoders:
            cls._compile_encoder(version)

    @classmethod
    def is_flexible(cls, version: int) -> bool:
        """Whether `version` uses compact lengths and tagged fields."""
        return cls.FLEXIBLE.has(version)

    @classmethod
    def _check(cls, version: int) -> None:
        if not cls.VERSIONS.has(version):
            raise UnsupportedField(f"{cls.__name__} has versions {cls.VERSIONS}, not {version}")

    @classmethod
    def _compile_decoder(cls, version: int) -> Callable[[Buffer, int], tuple[Any, int]]:
        cls._check(version)
        decoder = cls._decoders[version] = compile_decoder(cls, version, cls.is_flexible(version), cls.DECODED_AT_ONCE)
        return decoder

    @classmethod
    def _compile_encoder(cls, version: int) -> Callable[[Any, list[Buffer], bytearray], None]:
        cls._check(version)
        encoder = cls._encoders[version] = compile_encoder(cls, version, cls.is_flexible(version), cls.ENCODED_AT_ONCE)
        return encoder


class Request(Message):
    """A client's request. `API_KEY` is the number in its header."""

    API_KEY: ClassVar[int] = -1
    MAX_ELEMENTS = 25_000
    """Elements of all its arrays together: 12,500 partitions even if each is the only one of its topic."""
    DECODED_AT_ONCE: ClassVar[int | None] = _AT_ONCE

    def __init_subclass__(cls, api_key: int = -1, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.API_KEY = api_key


class Response(Message):
    """The answer to a `Request` of the same `API_KEY`, in the same version."""

    API_KEY: ClassVar[int] = -1
    ENCODED_AT_ONCE: ClassVar[int | None] = _AT_ONCE

    def __init_subclass__(cls, api_key: int = -1, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.API_KEY = api_key


def encode_struct(value: Struct, version: int, flexible: bool) -> bytes:
    """One nested struct in the form it has inside a message of `version`: for a `precoded` array, to be cached."""
    key = (version, flexible)
    encoders = _struct_encoders.setdefault(type(value), {})
    encoder = encoders.get(key)
    if encoder is None:
        encoder = encoders[key] = compile_encoder(type(value), version, flexible)
    chunks: list[Buffer] = []
    encoder(value, chunks, bytearray())
    return b"".join(chunks)


_struct_encoders: dict[type[Struct], dict[tuple[int, bool], Callable[[Any, list[Buffer], bytearray], None]]] = {}
