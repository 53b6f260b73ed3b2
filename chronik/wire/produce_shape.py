"""What the Produce requests of one producer for one topic have in common, so that it need not be decoded again and again.

A producer that sends one batch a request (librdkafka always does; others when they are in a hurry) repeats itself to the
byte, but for the correlation id, the partition and the batch. A `ProduceShape` is made from such a request that was decoded
in full. It recognises the next ones by their bytes and says where the batch lies, and it has the answer ready but for the
numbers that are new. Whatever doesn't fit in every byte is not recognised, and is decoded in full again.

Versions 7 and later: the answers of older ones lack the log's start, and zstd has to be looked for in their batches.
"""

from __future__ import annotations

import struct

from chronik.wire.apis import ApiKey
from chronik.wire.codec import MalformedMessage
from chronik.wire.compiler import read_uvarint
from chronik.wire.frames import encode_response
from chronik.wire.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)

_BEHIND_CORRELATION_ID = 8
_FIRST = 7
_FIRST_FLEXIBLE = 9
_FIRST_BY_ID = 13
_NO_TAGS = b"\0\0\0"  # of the partition, the topic and the request
_LONGEST_PREFIX = 1000
_MARKS = (0x5A5A5A5A, 0x1122, 0x5B5B5B5B5B5B5B5B, 0x5C5C5C5C5C5C5C5C, 0x5D5D5D5D5D5D5D5D)
_numbers = struct.Struct(">ihqqq")  # partition, error code, base offset, append time, log start
_unpack_index = struct.Struct(">iB").unpack_from
_unpack_inflexible = struct.Struct(">ii").unpack_from  # partition, length of the batch


class ProduceShape:
    """The common part of requests in `version` with these `acks`, for one topic: `topic` by name, or by `topic_id` (13+)."""

    __slots__ = (
        "_flexible",
        "_head",
        "_index_at",
        "_pack",
        "_prefix",
        "_size",
        "_tail",
        "acks",
        "by_id",
        "key_and_version",
        "timeout_ms",
        "topic",
        "topic_id",
        "transactional_id",
    )

    def __init__(self, prefix: bytes, version: int, request: ProduceRequest) -> None:
        (topic,) = request.topic_data
        self.key_and_version = ApiKey.PRODUCE << 16 | version
        self.transactional_id = request.transactional_id
        self.acks = request.acks
        self.timeout_ms = request.timeout_ms
        self.by_id = version >= _FIRST_BY_ID
        self._flexible = version >= _FIRST_FLEXIBLE
        self.topic = topic.name
        self.topic_id = topic.topic_id
        self._prefix = prefix
        self._index_at = _BEHIND_CORRELATION_ID + len(prefix)
        index, error, base, time, start = _MARKS
        answer = PartitionProduceResponse(
            index=index, error_code=error, base_offset=base, log_append_time_ms=time, log_start_offset=start
        )
        whole = TopicProduceResponse(name=topic.name, topic_id=topic.topic_id, partition_responses=[answer])
        encoded = b"".join(encode_response(ProduceResponse(responses=[whole]), version, 0))
        head, _, tail = encoded[_BEHIND_CORRELATION_ID:].rpartition(_numbers.pack(*_MARKS))
        self._head, self._tail = head, tail
        self._size = len(encoded) - 4
        self._pack = struct.Struct(f">ii{len(head)}sihqqq{len(tail)}s").pack

    @classmethod
    def of(cls, frame: memoryview, version: int, request: ProduceRequest) -> ProduceShape | None:
        """The shape of `request`, which was decoded from `frame`; None where it has none."""
        if version < _FIRST or len(request.topic_data) != 1 or len(request.topic_data[0].partition_data) != 1:
            return None
        (data,) = request.topic_data[0].partition_data
        if data.records is None:
            return None
        size = len(data.records)
        around = len(_NO_TAGS) + _length_bytes(size) if version >= _FIRST_FLEXIBLE else 4
        index_at = len(frame) - size - around - 4
        if not 0 < index_at - _BEHIND_CORRELATION_ID <= _LONGEST_PREFIX:
            return None
        shape = cls(bytes(frame[_BEHIND_CORRELATION_ID:index_at]), version, request)
        return shape if shape.split(frame) == (data.index, data.records) else None

    def split(self, frame: memoryview) -> tuple[int, memoryview] | None:
        """(partition, batch) of a request of this shape, whose API and version are compared already; None for another."""
        at = self._index_at
        size = len(frame)
        if size < at + 8 or frame[_BEHIND_CORRELATION_ID:at] != self._prefix:
            return None
        if not self._flexible:
            index, length = _unpack_inflexible(frame, at)
            at += 8
            return (index, frame[at:]) if at + length == size else None
        index, length = _unpack_index(frame, at)
        at += 5
        if length > 127:
            more = frame[at]
            if more < 128:
                length += (more << 7) - 128
                at += 1
            else:
                try:
                    length, at = read_uvarint(frame, at - 1)
                except (MalformedMessage, IndexError):
                    return None
        stop = at + length - 1
        if not length or stop + 3 != size or frame[stop:] != _NO_TAGS:
            return None
        return index, frame[at:stop]

    def request(self, index: int, batch: memoryview) -> ProduceRequest:
        """What was split, as `ProduceRequest.decode` has it."""
        data = PartitionProduceData(index=index, records=batch)
        topic = TopicProduceData(name=self.topic, topic_id=self.topic_id, partition_data=[data])
        return ProduceRequest(
            transactional_id=self.transactional_id, acks=self.acks, timeout_ms=self.timeout_ms, topic_data=[topic]
        )

    def answer(self, correlation_id: int, index: int, base_offset: int, append_time_ms: int, log_start: int) -> bytes:
        """The whole response frame to a request of this shape that was appended."""
        return self._pack(
            self._size, correlation_id, self._head, index, 0, base_offset, append_time_ms, log_start, self._tail
        )


def _length_bytes(size: int) -> int:
    """How many bytes the length of `size` bytes of records takes: it is stored plus one."""
    return max(1, ((size + 1).bit_length() + 6) // 7)
