"""Requests that repeat a shape are split as the decoder would, and answered as the encoder would; others not at all."""

from __future__ import annotations

import struct
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.errors import KafkaError
from chronik.wire.frames import encode_request, encode_response, read_request_header
from chronik.wire.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from chronik.wire.produce_shape import ProduceShape

_VERSIONS = st.integers(7, 13)
_INT64 = st.integers(-(2**63), 2**63 - 1)
_RECORDS = st.one_of(
    st.binary(max_size=300), st.sampled_from([126, 127, 128, 16382, 16383, 16384, 70000]).map(lambda size: b"r" * size)
)


def request(version: int, records: bytes | None, index: int = 0, **fields: Any) -> ProduceRequest:
    """A request for one partition."""
    named = {"topic_id": fields.pop("topic_id", b"i" * 16)} if version >= 13 else {"name": fields.pop("name", "topic")}
    data = PartitionProduceData(index=index, records=records)
    values = {"acks": -1, "timeout_ms": 30000} | fields
    return ProduceRequest(topic_data=[TopicProduceData(partition_data=[data], **named)], **values)


def frame(message: ProduceRequest, version: int, correlation_id: int = 1, client: str | None = "client") -> memoryview:
    """As the listener gets it: without the size prefix."""
    return memoryview(bytearray(b"".join(encode_request(message, version, correlation_id, client))))[4:]


def decoded(whole: memoryview) -> ProduceRequest:
    """What the decoder makes of a frame."""
    header = read_request_header(whole, struct.unpack_from(">h", whole, 2)[0] >= 9)
    message, end = ProduceRequest.decode(whole, header.api_version, header.body)
    assert end == len(whole)
    return message


def shape_of(message: ProduceRequest, version: int, client: str | None = "client") -> ProduceShape | None:
    """The shape that is learnt from a request."""
    whole = frame(message, version, 7, client)
    return ProduceShape.of(whole, version, decoded(whole))


class ShapeTests(SynchronousTestCase):
    @settings(max_examples=200, deadline=None)
    @given(
        version=_VERSIONS,
        first=_RECORDS,
        second=_RECORDS,
        indexes=st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)),
        client=st.none() | st.text(max_size=20),
        transactional_id=st.none() | st.text(max_size=10),
        acks=st.sampled_from([-1, 0, 1]),
    )
    def test_the_next_request_is_split(
        self, version: int, first: bytes, second: bytes, indexes: tuple[int, int], client: Any, **fields: Any
    ) -> None:
        shape = shape_of(request(version, first, indexes[0], **fields), version, client)
        assert shape is not None
        whole = frame(request(version, second, indexes[1], **fields), version, 99, client)
        found = shape.split(whole)
        assert found is not None
        self.assertEqual((found[0], bytes(found[1])), (indexes[1], second))
        rebuilt = shape.request(*found)
        self.assertEqual(bytes(frame(rebuilt, version, 99, client)), bytes(whole))
        self.assertEqual((shape.acks, shape.by_id), (fields["acks"], version >= 13))

    @settings(max_examples=100, deadline=None)
    @given(version=_VERSIONS, correlation=st.integers(-(2**31), 2**31 - 1), numbers=st.tuples(*[_INT64] * 3))
    def test_the_answer_is_what_the_encoder_makes(
        self, version: int, correlation: int, numbers: tuple[int, int, int]
    ) -> None:
        shape = shape_of(request(version, b"x"), version)
        assert shape is not None
        base, time, start = numbers
        answer = PartitionProduceResponse(index=5, base_offset=base, log_append_time_ms=time, log_start_offset=start)
        topic = TopicProduceResponse(name=shape.topic, topic_id=shape.topic_id, partition_responses=[answer])
        whole = b"".join(encode_response(ProduceResponse(responses=[topic]), version, correlation))
        self.assertEqual(shape.answer(correlation, 5, base, time, start), whole)

    def test_what_has_no_shape(self) -> None:
        self.assertIsNone(shape_of(request(9, None), 9))
        two = request(9, b"x")
        two.topic_data[0].partition_data.append(PartitionProduceData(index=1, records=b"y"))
        self.assertIsNone(shape_of(two, 9))
        topics = request(9, b"x")
        topics.topic_data.append(TopicProduceData(name="other", partition_data=[]))
        self.assertIsNone(shape_of(topics, 9))
        whole = memoryview(b"".join(encode_request(request(6, b"x"), 6, 1, "c")))[4:]
        self.assertIsNone(ProduceShape.of(whole, 6, request(6, b"x")))
        self.assertIsNone(shape_of(request(9, b"x"), 9, "c" * 1100))

    def test_others_are_not_recognised(self) -> None:
        shape = shape_of(request(9, b"x" * 200), 9)
        assert shape is not None
        for other in (
            request(9, None),
            request(9, b"x", name="tropic"),
            request(9, b"x", name="a longer name"),
            request(9, b"x", acks=1),
            request(9, b"x", timeout_ms=30001),
            request(9, b"x", transactional_id="t"),
        ):
            self.assertIsNone(shape.split(frame(other, 9)))
        self.assertIsNone(shape.split(frame(request(9, b"x"), 9, 1, "another client")))

    def test_what_is_damaged_is_left_to_the_decoder(self) -> None:
        """Whatever is recognised is what the decoder would have found: nothing is read differently."""
        rng, recognised = Random(5), 0
        for version in (7, 9, 13):
            shape = shape_of(request(version, b"x" * 200), version)
            assert shape is not None
            for size in (0, 1, 126, 127, 128, 300):
                whole = frame(request(version, b"r" * size, 3), version)
                for cut in range(8, len(whole)):
                    self.assertIsNone(shape.split(whole[:cut]))
                self.assertIsNone(shape.split(memoryview(bytes(whole) + b"\0")))
                for _ in range(3000):
                    damaged = bytearray(whole)
                    for _ in range(rng.randrange(1, 4)):
                        damaged[rng.randrange(8, len(damaged))] = rng.choice(
                            (0, 1, 2, 127, 128, 255, rng.randrange(256))
                        )
                    view = memoryview(damaged)
                    found = shape.split(view)
                    if found is None:
                        continue
                    recognised += 1
                    (topic,) = decoded(view).topic_data
                    (data,) = topic.partition_data
                    self.assertEqual(found, (data.index, data.records))
        self.assertGreater(recognised, 1000)

    def test_a_length_of_too_many_bytes(self) -> None:
        shape = shape_of(request(9, b"x"), 9)
        assert shape is not None
        whole = bytes(frame(request(9, b""), 9))
        head = whole[: whole.rindex(b"\x01\0\0\0")]
        for length in (b"\xff" * 6, b"\xff\xff\xff\xff\x7f"):
            damaged = memoryview(head + length + bytes(12))
            self.assertIsNone(shape.split(damaged))
            with self.assertRaises(KafkaError):
                decoded(damaged)
