"""The compression codecs of record batches, byte for byte as Kafka's own clients write and read them.

- gzip is RFC 1952, by the standard library: it compresses faster than cramjam, and can stop at a limit.
- snappy is raw blocks of 32 KiB in the framing of xerial's Java library; some clients send one raw block, unframed.
- lz4 is the frame format with independent blocks of 64 KiB. Linked ones, the default elsewhere, Kafka's Java refuses.
- zstd is RFC 8878, by cramjam.

A few compressed bytes can stand for gigabytes, so `decompress` takes the most that it may produce, and allocates no
more than about that. Everything here is a pure function in C that releases the GIL for its work.

Sources: KIP-57 (lz4 frames), KIP-110 (zstd), KIP-390 (levels); the format notes of xerial's snappy-java; RFC 8878.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from enum import IntEnum
from struct import Struct

import cramjam
import lz4.frame  # type: ignore[import-untyped]

from chronik.errors import ErrorCode, KafkaError

Buffer = bytes | bytearray | memoryview


class Codec(IntEnum):
    """The lowest three bits of a batch's attributes. The names, in lower case, are those of the setting."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


def codec_of(number: int) -> Codec:
    """The codec with that number. Raises KafkaError(UNSUPPORTED_COMPRESSION_TYPE) when there is none."""
    if 0 <= number <= Codec.ZSTD:
        return Codec(number)
    raise KafkaError(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, f"compression codec {number} does not exist, 0 to 4 do")


def compress(codec: Codec, data: Buffer, level: int | None = None) -> Buffer:
    """`data` in the form of `codec`. `level` is one of that codec's own (snappy has none); None is Kafka's default."""
    return _COMPRESSORS[codec](data, level)


def decompress(codec: Codec, data: Buffer, max_bytes: int) -> Buffer:
    """What `data` stands for, at most `max_bytes`.

    Raises KafkaError: MESSAGE_TOO_LARGE beyond that, CORRUPT_MESSAGE for data that is damaged, cut off or followed by
    something else.
    """
    return _DECOMPRESSORS[codec](data, max_bytes)


def _too_large(codec: Codec, max_bytes: int) -> KafkaError:
    return KafkaError(
        ErrorCode.MESSAGE_TOO_LARGE, f"{codec.name.lower()} data decompresses to more than {max_bytes} bytes"
    )


def _corrupt(codec: Codec, problem: object) -> KafkaError:
    return KafkaError(ErrorCode.CORRUPT_MESSAGE, f"{codec.name.lower()} data does not decompress: {problem}")


# --- none ------------------------------------------------------------------------------------------------------------


def _copy(data: Buffer, level: int | None) -> Buffer:
    return data


def _bounded(data: Buffer, max_bytes: int) -> Buffer:
    if len(data) > max_bytes:
        raise KafkaError(ErrorCode.MESSAGE_TOO_LARGE, f"{len(data)} bytes of records are more than {max_bytes}")
    return data


# --- gzip ------------------------------------------------------------------------------------------------------------

_GZIP_WINDOW = zlib.MAX_WBITS | 16  # zlib's way to ask for the gzip container


def _gzip(data: Buffer, level: int | None) -> Buffer:
    return zlib.compress(data, zlib.Z_DEFAULT_COMPRESSION if level is None else level, _GZIP_WINDOW)


def _gunzip(data: Buffer, max_bytes: int) -> Buffer:
    members: list[bytes] = []
    room = max_bytes
    while True:
        inflater = zlib.decompressobj(_GZIP_WINDOW)
        try:
            member = inflater.decompress(data, room + 1)
        except zlib.error as problem:
            raise _corrupt(Codec.GZIP, problem) from None
        room -= len(member)
        if room < 0:
            raise _too_large(Codec.GZIP, max_bytes)
        if not inflater.eof:
            raise _corrupt(Codec.GZIP, f"it ends inside a member, after {max_bytes - room} bytes of output")
        members.append(member)
        data = inflater.unused_data
        if not data:
            return member if len(members) == 1 else b"".join(members)


# --- snappy ----------------------------------------------------------------------------------------------------------

_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER = _XERIAL_MAGIC + b"\x00\x00\x00\x01\x00\x00\x00\x01"  # its version, and the oldest that can read it
_XERIAL_BLOCK = 32 * 1024
_length = Struct(">i")


def _snappy(data: Buffer, level: int | None) -> Buffer:
    out = bytearray(_XERIAL_HEADER)
    view = memoryview(data)
    for start in range(0, len(view), _XERIAL_BLOCK):
        block = memoryview(cramjam.snappy.compress_raw(view[start : start + _XERIAL_BLOCK]))
        out += _length.pack(len(block))
        out += block
    return out


def _unsnappy(data: Buffer, max_bytes: int) -> Buffer:
    view = memoryview(data)
    if view[:8] != _XERIAL_MAGIC:
        return _unsnappy_block(view, max_bytes, max_bytes)
    if len(view) < len(_XERIAL_HEADER):
        raise _corrupt(Codec.SNAPPY, f"its header ends after {len(view)} bytes")
    out = bytearray()
    position = len(_XERIAL_HEADER)
    while position < len(view):
        if position + 4 > len(view):
            raise _corrupt(Codec.SNAPPY, f"{len(view) - position} bytes follow the last block")
        (size,) = _length.unpack_from(view, position)
        position += 4
        if not 0 <= size <= len(view) - position:
            raise _corrupt(Codec.SNAPPY, f"a block of {size} bytes where {len(view) - position} remain")
        out += _unsnappy_block(view[position : position + size], max_bytes - len(out), max_bytes)
        position += size
    return out


def _unsnappy_block(block: memoryview, room: int, max_bytes: int) -> Buffer:
    try:
        size = cramjam.snappy.decompress_raw_len(block)
        # The densest element of the format is 3 bytes for 64. What claims more would be allocated before it fails.
        if size > 32 * len(block):
            raise _corrupt(Codec.SNAPPY, f"a block of {len(block)} bytes claims to hold {size}")
        if size > room:
            raise _too_large(Codec.SNAPPY, max_bytes)
        return memoryview(cramjam.snappy.decompress_raw(block))
    except cramjam.DecompressionError as problem:
        raise _corrupt(Codec.SNAPPY, problem) from None


# --- lz4 -------------------------------------------------------------------------------------------------------------


def _lz4(data: Buffer, level: int | None) -> Buffer:
    compressed: bytes = lz4.frame.compress(
        data,
        compression_level=0 if level is None else level,
        block_size=lz4.frame.BLOCKSIZE_MAX64KB,
        block_linked=False,
        store_size=False,
    )
    return compressed


def _unlz4(data: Buffer, max_bytes: int) -> Buffer:
    frame = lz4.frame.LZ4FrameDecompressor()
    pieces: list[bytes] = []
    room = max_bytes
    step = 4 * len(data) + 64 * 1024  # it sets aside all that it may produce, so never `max_bytes` at once
    while not frame.eof:
        try:
            piece: bytes = frame.decompress(b"" if pieces else data, max_length=min(step, room + 1))
        except RuntimeError as problem:
            raise _corrupt(Codec.LZ4, problem) from None
        room -= len(piece)
        if room < 0:
            raise _too_large(Codec.LZ4, max_bytes)
        if not piece and not frame.eof:
            raise _corrupt(Codec.LZ4, f"the frame is cut off after {max_bytes - room} bytes of output")
        pieces.append(piece)
    if frame.unused_data:
        raise _corrupt(Codec.LZ4, f"{len(frame.unused_data)} bytes follow the frame")
    return piece if len(pieces) == 1 else b"".join(pieces)


# --- zstd ------------------------------------------------------------------------------------------------------------

_ZSTD_LEVEL = 3
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_BLOCK = 128 * 1024  # the most that one block can stand for
_ZSTD_CONTENT_SIZE = (0, 2, 4, 8)  # bytes of the content size field, by the descriptor's two highest bits
_ZSTD_DICTIONARY = (0, 1, 2, 4)  # bytes of the dictionary id, by its two lowest


def _zstd(data: Buffer, level: int | None) -> Buffer:
    return memoryview(cramjam.zstd.compress(data, _ZSTD_LEVEL if level is None else level))


def _unzstd(data: Buffer, max_bytes: int) -> Buffer:
    out = bytearray(_zstd_bound(memoryview(data), max_bytes))
    try:
        size = cramjam.zstd.decompress_into(data, out)
    except cramjam.DecompressionError as problem:
        if len(out) == max_bytes and "whole buffer" in str(problem):
            raise _too_large(Codec.ZSTD, max_bytes) from None
        raise _corrupt(Codec.ZSTD, problem) from None
    del out[size:]
    return out


def _zstd_bound(frame: memoryview, limit: int) -> int:
    """How many bytes `frame` can stand for, by its block headers alone; `limit` where that is less or they make no
    sense.

    Kafka's Java producer doesn't declare the content size. The headers give a bound without decompressing twice.
    """
    if frame[:4] != _ZSTD_MAGIC or len(frame) < 6:
        return limit
    descriptor = frame[4]
    single_segment = descriptor >> 5 & 1
    content_size = _ZSTD_CONTENT_SIZE[descriptor >> 6] or single_segment
    position = 5 + (1 - single_segment) + _ZSTD_DICTIONARY[descriptor & 3] + content_size
    bound = 0
    while bound < limit and position + 3 <= len(frame):
        header = int.from_bytes(frame[position : position + 3], "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        bound += size if kind < 2 else _ZSTD_BLOCK  # raw and run-length blocks state what they stand for
        position += 3 + (1 if kind == 1 else size)
        if last:
            # A checksum may follow the last block; more than that is a second frame.
            return min(bound, limit) if len(frame) - position <= 4 else limit
    return limit


_COMPRESSORS: dict[Codec, Callable[[Buffer, int | None], Buffer]] = {
    Codec.NONE: _copy,
    Codec.GZIP: _gzip,
    Codec.SNAPPY: _snappy,
    Codec.LZ4: _lz4,
    Codec.ZSTD: _zstd,
}
_DECOMPRESSORS: dict[Codec, Callable[[Buffer, int], Buffer]] = {
    Codec.NONE: _bounded,
    Codec.GZIP: _gunzip,
    Codec.SNAPPY: _unsnappy,
    Codec.LZ4: _unlz4,
    Codec.ZSTD: _unzstd,
}
