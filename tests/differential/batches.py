"""Record batches made by hand, right or wrong on purpose, and read back. Written apart from chronik.wire, as a second opinion.

Source: the "Record Batch" and "Record" formats of Apache Kafka's documentation, and the dead message formats 0 and 1.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import crc32c

TIME = 1_700_000_000_000
"""The time of all records that name none, milliseconds since 1970."""

_HEADER = struct.Struct(">qiibIhiqqqhii")


def varint(value: int) -> bytes:
    """A zigzag varint."""
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def record(
    value: bytes | None,
    delta: int,
    key: bytes | None = None,
    time_delta: int = 0,
    headers: Sequence[tuple[bytes, bytes | None]] = (),
) -> bytes:
    """One record of a batch; `delta` is its offset's distance from the batch's base."""
    body = bytearray(b"\0") + varint(time_delta) + varint(delta)
    for part in (key, value):
        body += varint(-1) if part is None else varint(len(part)) + part
    body += varint(len(headers))
    for name, content in headers:
        body += varint(len(name)) + name + (varint(-1) if content is None else varint(len(content)) + content)
    return varint(len(body)) + bytes(body)


@dataclass
class Batch:
    """A record batch, field by field. What is None is filled in correctly; anything else is written as it stands."""

    values: Sequence[bytes | None] = (b"value",)
    keys: Sequence[bytes | None] | None = None
    base_offset: int = 0
    length: int | None = None
    leader_epoch: int = -1
    magic: int = 2
    crc: int | None = None
    attributes: int = 0
    last_offset_delta: int | None = None
    base_time: int = TIME
    time_step: int = 0
    max_time: int | None = None
    producer_id: int = -1
    producer_epoch: int = -1
    base_sequence: int = -1
    count: int | None = None
    payload: bytes | None = None

    def encode(self) -> bytes:
        """The batch's bytes. With attribute bits 1 the records are compressed with gzip; other codecs come as `payload`."""
        keys = self.keys or [None] * len(self.values)
        payload = self.payload
        if payload is None:
            payload = b"".join(
                record(value, delta, key, self.time_step * delta)
                for delta, (key, value) in enumerate(zip(keys, self.values, strict=True))
            )
            if self.attributes & 7 == 1:
                payload = gzip.compress(payload, mtime=0)
        last = len(self.values) - 1 if self.last_offset_delta is None else self.last_offset_delta
        max_time = self.base_time + self.time_step * (len(self.values) - 1) if self.max_time is None else self.max_time
        count = len(self.values) if self.count is None else self.count
        tail = struct.pack(">hiqqqhii", self.attributes, last, self.base_time, max_time, self.producer_id,
                           self.producer_epoch, self.base_sequence, count) + payload  # fmt: skip
        crc = crc32c.crc32c(tail) if self.crc is None else self.crc
        length = len(tail) + 9 if self.length is None else self.length
        return struct.pack(">qiibI", self.base_offset, length, self.leader_epoch, self.magic, crc) + tail


def old_message(value: bytes, magic: int) -> bytes:
    """One message of the dead format 0 or 1."""
    body = struct.pack(">bb", magic, 0)
    if magic == 1:
        body += struct.pack(">q", TIME)
    body += struct.pack(">i", -1) + struct.pack(">i", len(value)) + value
    return struct.pack(">qiI", 0, len(body) + 4, zlib.crc32(body)) + body


def describe(data: Iterable[int] | None) -> object:
    """The batches in fetched `data`, as plain values: header fields, whether the CRC holds, and the payload in hex."""
    if data is None:
        return None
    data = bytes(data)
    found: list[object] = []
    position = 0
    while len(data) - position >= _HEADER.size:
        base, length, leader_epoch, magic, crc, attributes, last, first, most, producer, epoch, sequence, count = (
            _HEADER.unpack_from(data, position)
        )
        stop = position + 12 + length
        found.append(
            {
                "base_offset": base,
                "partition_leader_epoch": leader_epoch,
                "magic": magic,
                "crc_holds": crc == crc32c.crc32c(data[position + 21 : stop]),
                "attributes": attributes,
                "last_offset_delta": last,
                "base_timestamp": first,
                "max_timestamp": most,
                "producer_id": producer,
                "producer_epoch": epoch,
                "base_sequence": sequence,
                "count": count,
                "payload": data[position + _HEADER.size : stop].hex(),
                "whole": stop <= len(data),
            }
        )
        position = stop
    if position < len(data):
        found.append({"left_over": data[position:].hex()})
    return found
