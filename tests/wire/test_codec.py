"""The compiled codec: each kind of field in both forms of length, and bytes that mean harm."""

from __future__ import annotations

import struct
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from chronik.errors import ErrorCode, KafkaError
from chronik.steps import Steps, at_once
from chronik.wire.codec import Buffer, MalformedMessage, ManyElements, Message, UnsupportedField
from chronik.wire.compiler import MAX_TAGS, STEP, read_uvarint, uvarint
from chronik.wire.encoder import INLINE_RECORDS
from chronik.wire.messages.fetch import FetchableTopicResponse, FetchRequest, FetchResponse, PartitionData
from chronik.wire.messages.heartbeat import HeartbeatRequest
from chronik.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from chronik.wire.schema import (
    Struct,
    Versions,
    array,
    boolean,
    float64,
    int8,
    int16,
    int32,
    int64,
    octets,
    records,
    string,
    uint16,
    uint32,
    uuid,
)
from chronik.wire.schema import (
    struct as nested,
)


class Point(Struct):
    x: int = int32()
    label: str = string("1+", ignorable=True)


class Sample(Message, versions="0-2", flexible="1+"):
    """One field of every kind. Version 0 has lengths of fixed size, 1 compact ones and tags, 2 one field more."""

    flag: bool = boolean()
    tiny: int = int8()
    small: int = int16()
    port: int = uint16()
    size: int = uint32()
    offset: int = int64()
    ratio: float = float64()
    owner: bytes = uuid()
    name: str | None = string(nullable="0+")
    blob: bytes | None = octets(nullable="0+")
    numbers: list[int] | None = array(int32(), nullable="0+")
    owners: list[bytes] = array(uuid())
    names: list[str] = array(string())
    point: Point = nested(Point)
    maybe: Point | None = nested(Point, nullable="0+", default=None)
    points: list[Point] = array(Point)
    payload: Buffer | None = records(nullable="0+")
    later: int = int32("2+", default=-1)
    hint: str = string("1+", tag=0, default="none")
    spot: Point = nested(Point, "1+", tag=1)
    limits: list[int] = array(int16(), "1+", tag=2)


def full(version: int) -> Sample:
    label = "here" if version else ""
    sample = Sample(
        flag=True,
        tiny=-2,
        small=-300,
        port=65535,
        size=2**32 - 1,
        offset=-(2**63),
        ratio=0.25,
        owner=bytes(range(16)),
        name="näme",
        blob=b"\x00\x01",
        numbers=[1, -1, 2**31 - 1],
        owners=[b"a" * 16, b"b" * 16],
        names=["", "x" * 200],
        point=Point(x=7, label=label),
        maybe=Point(x=-7, label=label),
        points=[Point(x=i, label=label) for i in range(130)],
        payload=b"r" * 50,
    )
    if version:
        sample.hint, sample.spot, sample.limits = "soon", Point(x=1, label="tag"), [5, -5]
    if version == 2:
        sample.later = 12
    return sample


class FieldTests(SynchronousTestCase):
    def test_every_kind_in_every_form(self) -> None:
        for version in range(3):
            for sample in (Sample(), full(version)):
                encoded = sample.encode(version)
                for buffer in (encoded, bytearray(encoded), memoryview(encoded)):
                    self.assertEqual(Sample.decode(buffer, version), (sample, len(encoded)))

    def test_fixed_lengths_by_hand(self) -> None:
        """Version 0 of a few fields, written out."""

        class Small(Message, versions="0-1", flexible="1+"):
            name: str | None = string(nullable="0+")
            numbers: list[int] | None = array(int16(), nullable="0+")
            data: bytes = octets()
            maybe: Point | None = nested(Point, nullable="0+", default=None)

        self.assertEqual(
            Small(name="ab", numbers=[1, 2], data=b"xyz", maybe=Point(x=3)).encode(0),
            b"\x00\x02ab" + b"\x00\x00\x00\x02\x00\x01\x00\x02" + b"\x00\x00\x00\x03xyz" + b"\x01\x00\x00\x00\x03",
        )
        self.assertEqual(Small(name=None, numbers=None).encode(0), b"\xff\xff" + b"\xff" * 4 + bytes(4) + b"\xff")
        self.assertEqual(
            Small(name="ab", numbers=[1, 2], data=b"xyz", maybe=Point(x=3)).encode(1),
            b"\x03ab" + b"\x03\x00\x01\x00\x02" + b"\x04xyz" + b"\x01\x00\x00\x00\x03\x01\x00" + b"\x00",
        )
        self.assertEqual(Small(name=None, numbers=None).encode(1), b"\x00\x00\x01\xff\x00")

    def test_null_is_not_empty(self) -> None:
        for version in range(3):
            for name, blob, numbers in ((None, None, None), ("", b"", [])):
                sample = Sample(name=name, blob=blob, numbers=numbers)
                decoded, _ = Sample.decode(sample.encode(version), version)
                self.assertEqual((decoded.name, decoded.blob, decoded.numbers), (name, blob, numbers))

    def test_tagged_fields_at_their_default_are_left_out(self) -> None:
        self.assertEqual(Sample().encode(1)[-1:], b"\x00")
        self.assertEqual(Sample(limits=[1]).encode(1)[-6:], b"\x01" + b"\x02\x03" + b"\x02\x00\x01")
        self.assertEqual(Sample(limits=()).encode(1), Sample().encode(1))

    def test_unknown_tags_are_skipped(self) -> None:
        """KIP-482: whoever wrote them knows a newer protocol."""
        encoded = Sample(hint="soon").encode(1)
        self.assertTrue(encoded.endswith(b"\x01\x00\x05\x05soon"))
        extended = encoded[:-8] + b"\x03" + encoded[-7:] + b"\x09\x02zz" + b"\xff\xff\x03\x00"
        self.assertEqual(Sample.decode(extended, 1), (Sample(hint="soon"), len(extended)))

    def test_positions(self) -> None:
        """A message is read from the middle of a buffer, and its end is told."""
        encoded = full(1).encode(1)
        decoded, end = Sample.decode(b"head" + encoded + b"tail", 1, 4)
        self.assertEqual((decoded, end), (full(1), 4 + len(encoded)))


class RecordsTests(SynchronousTestCase):
    """`records` are not copied, on neither way."""

    def test_decoded_records_are_views(self) -> None:
        data = ProduceRequest(
            topic_data=[TopicProduceData(name="t", partition_data=[PartitionProduceData(records=b"0123")])]
        ).encode(9)
        frame = bytearray(data)
        request, _ = ProduceRequest.decode(memoryview(frame), 9)
        view = request.topic_data[0].partition_data[0].records
        frame[frame.index(b"0123")] = ord("X")
        self.assertEqual(bytes(view), b"X123")

    def test_large_records_stand_alone(self) -> None:
        large = memoryview(bytes(INLINE_RECORDS))
        partitions = [PartitionData(records=value) for value in (b"small", large, b"small", large)]
        response = FetchResponse(responses=[FetchableTopicResponse(topic="t", partitions=partitions)])
        chunks: list[Buffer] = []
        response.encode_into(12, chunks, bytearray(b"head"))
        self.assertEqual([len(chunk) for chunk in chunks if chunk is large], [INLINE_RECORDS] * 2)
        self.assertEqual(len(chunks), 5)
        joined = b"".join(chunks)
        self.assertTrue(joined.startswith(b"head"))
        self.assertEqual(FetchResponse.decode(joined, 12, 4), (response, len(joined)))


class RefusedValueTests(SynchronousTestCase):
    """What the encoder does not accept, with the field in the text."""

    def refused(self, kind: type[Exception], text: str, version: int, **values: object) -> None:
        error = self.assertRaises(kind, Sample(**values).encode, version)
        self.assertIn(text, str(error))

    def test_out_of_range(self) -> None:
        self.refused(ValueError, "Sample v0, flag to name: ", 0, small=2**15)
        self.refused(ValueError, "Sample v1, flag to owner: ", 1, port=-1)
        self.refused(ValueError, "Sample v1, points.x: ", 1, points=[Point(), Point(x=2**31)])

    def test_null(self) -> None:
        for version in range(3):
            self.refused(UnsupportedField, f"Sample v{version}, names: it cannot be null", version, names=None)
            self.refused(UnsupportedField, f"Sample v{version}, point: it cannot be null", version, point=None)

    def test_missing_field(self) -> None:
        self.refused(
            UnsupportedField, "Sample v1, later: it has a value, and this version has no such field", 1, later=5
        )
        self.refused(UnsupportedField, "Sample v0, limits: ", 0, limits=[1])
        self.assertEqual(Point.FIELDS[1].ignorable, True)
        self.assertEqual(Sample.decode(Sample(point=Point(label="x")).encode(0), 0)[0].point, Point())

    def test_long_strings(self) -> None:
        """32767 bytes is the limit in flexible versions too, as in Kafka."""
        for version in range(3):
            Sample(name="x" * 32767).encode(version)
            self.refused(ValueError, "name: a string of 32768 bytes", version, name="é" * 16384)

    def test_misspelt_names(self) -> None:
        self.assertRaises(TypeError, Sample, nmae="x")
        self.assertRaises(AttributeError, setattr, Sample(), "nmae", "x")


class HostileBytesTests(SynchronousTestCase):
    """What the decoder does not accept."""

    def refused(self, message: type[Message], data: bytes, version: int, text: str = "") -> None:
        error = self.assertRaises(MalformedMessage, message.decode, data, version)
        self.assertEqual(error.code, ErrorCode.INVALID_REQUEST)
        self.assertIn(f"{message.__name__} v{version}", str(error))
        self.assertIn(text, str(error))

    def test_cut_at_every_byte(self) -> None:
        for version in range(3):
            encoded = full(version).encode(version)
            for size in range(len(encoded)):
                self.refused(Sample, encoded[:size], version)
                self.assertRaises(MalformedMessage, Sample.decode, memoryview(encoded)[:size], version)

    def test_where_it_was_cut(self) -> None:
        request = ProduceRequest(topic_data=[TopicProduceData(name="topic", partition_data=[PartitionProduceData()])])
        encoded = request.encode(9)
        self.refused(ProduceRequest, encoded[:3], 9, "v9, acks to timeout_ms: the message ends here")
        self.refused(ProduceRequest, encoded[:12], 9, "v9, topic_data.name: 5 bytes declared, 3 bytes remain")
        self.refused(ProduceRequest, encoded[:-1], 9, "v9, tags: the message ends here")

    def test_counts_beyond_the_bytes(self) -> None:
        """A count is multiplied by the fewest bytes that an element takes."""

        class Crowd(Message, versions="0-1", flexible="1+"):
            points: list[Point] = array(Point)
            names: list[str] = array(string())
            owners: list[bytes] = array(uuid())

        self.refused(
            Crowd, struct.pack(">i", 3) + bytes(11), 0, "points: 3 elements of 4 or more bytes declared, 11 bytes"
        )
        self.refused(Crowd, bytes(4) + struct.pack(">i", 3) + bytes(5), 0, "names: 3 elements of 2 or more bytes")
        self.refused(Crowd, bytes(8) + struct.pack(">i", 2) + bytes(31), 0, "owners: 2 elements of 16 or more bytes")
        self.refused(Crowd, b"\x04" + bytes(17), 1, "points: 3 elements of 6 or more bytes declared, 17 bytes")
        for count in (2**31 - 1, 100_000_000):
            self.refused(Crowd, struct.pack(">i", count) + bytes(1000), 0, "points: ")
            self.refused(Crowd, uvarint(count) + bytes(1000), 1, "points: ")

    def test_elements_without_bytes(self) -> None:
        """A struct that has no field in a version takes no bytes; its count is bounded all the same."""

        class Hollow(Struct):
            later: int = int32("1+", ignorable=True)

        class Bomb(Message, versions="0-1"):
            items: list[Hollow] = array(Hollow)

        self.refused(Bomb, struct.pack(">i", 2**31 - 1), 0, "items: ")

    def test_negative_lengths(self) -> None:
        for length in (-2, -32768):
            data = bytes(42) + struct.pack(">h", length)
            self.refused(Sample, data, 0, f"name: the length {length} is negative")
        self.refused(FetchRequest, bytes(17) + struct.pack(">i", -1), 4, "topics: null, where null is not allowed")
        self.refused(FetchRequest, bytes(17) + struct.pack(">i", -7), 4, "topics: the length -7 is negative")

    def test_long_strings(self) -> None:
        """Compact lengths could say more than 32767, and Kafka refuses them."""
        data = bytearray(Sample(name="x" * 32767).encode(1))
        self.assertEqual(Sample.decode(data, 1)[0].name, "x" * 32767)
        at = data.index(b"x")
        data[at - 3 : at] = uvarint(32768 + 1)
        data[at:at] = b"x"
        self.refused(Sample, bytes(data), 1, "name: a string of 32768 bytes, 32767 are allowed")

    def test_not_utf8(self) -> None:
        self.refused(
            Sample, Sample(name="abc").encode(0).replace(b"abc", b"a\xff\xfe"), 0, "name: the text is not UTF-8"
        )

    def test_varints(self) -> None:
        for data, text in ((b"\xff" * 4 + b"\x1f", "exceeds 32 bits"), (b"\x80" * 5 + b"\x00", "over 5 bytes")):
            error = self.assertRaises(MalformedMessage, read_uvarint, data, 0)
            self.assertIn(text, str(error))
            self.refused(
                Sample, bytes(42) + data + bytes(10), 1, f"name: a varint {'exceeds' if data[0] == 255 else 'runs'}"
            )
        for value in (0, 127, 128, 16383, 16384, 2**32 - 1):
            self.assertEqual(read_uvarint(uvarint(value), 0), (value, len(uvarint(value))))

    prefix: ClassVar[bytes] = Sample().encode(1)[:-1]

    def test_tags_out_of_order(self) -> None:
        """KIP-482 wants them ascending, so none comes twice."""
        hint, limits = b"\x00\x02\x02x", b"\x02\x03\x02\x00\x01"
        Sample.decode(self.prefix + b"\x02" + hint + limits, 1)
        self.refused(Sample, self.prefix + b"\x02" + limits + hint, 1, "tags: tag 0 after tag 2")
        self.refused(Sample, self.prefix + b"\x02" + hint + hint, 1, "tags: tag 0 after tag 0")
        self.refused(Sample, self.prefix + b"\x02" + b"\x09\x00" * 2, 1, "tags: tag 9 after tag 9")
        plain = HeartbeatRequest().encode(4)[:-1]  # it has no tags of its own
        HeartbeatRequest.decode(plain + b"\x02\x03\x00\x09\x01z", 4)
        self.refused(HeartbeatRequest, plain + b"\x02" + b"\x09\x00" * 2, 4, "tags: tag 9 after tag 9")
        self.refused(HeartbeatRequest, plain + b"\x01\x09\x02z", 4, "tags: 2 bytes declared, 1 bytes remain")
        self.refused(HeartbeatRequest, plain + b"\x02\x09\x00", 4, "tags: the message ends here")

    def test_tags_that_do_not_fit(self) -> None:
        self.refused(Sample, self.prefix + b"\x01\x00\x03\x02x\x00", 1, "hint: the tag has 3 bytes")
        self.refused(Sample, self.prefix + b"\x01\x00\x01\x02x", 1, "hint: the tag has 1 bytes")
        self.refused(Sample, self.prefix + b"\x01\x09\x05abc", 1, "tags: 5 bytes declared, 3 bytes remain")
        self.refused(Sample, self.prefix + b"\xff\xff\xff\xff\x0f", 1, "tags: 4294967295 tags; 1000 are allowed")

    def test_faults_are_kafka_errors(self) -> None:
        self.assertTrue(issubclass(MalformedMessage, KafkaError))
        self.assertTrue(issubclass(UnsupportedField, KafkaError))


class VersionsTests(SynchronousTestCase):
    def test_parse(self) -> None:
        self.assertEqual(Versions.parse("3"), (3, 3))
        self.assertEqual(Versions.parse("3-5"), (3, 5))
        self.assertTrue(Versions.parse("3+").has(30000))
        self.assertFalse(Versions.parse("none").has(0))
        self.assertEqual((str(Versions(3, 3)), str(Versions(3, 5))), ("3", "3-5"))


class ElementTests(SynchronousTestCase):
    """A request has so many elements at most, over all its arrays, whatever its bytes would hold."""

    def refused(self, body: bytes, version: int = 9) -> None:
        with self.assertRaises(MalformedMessage) as caught:
            ProduceRequest.decode(body, version)
        self.assertIn("elements", caught.exception.message)

    def test_topics_without_partitions(self) -> None:
        most = ProduceRequest.MAX_ELEMENTS
        for version in (8, 9):
            with self.subTest(version=version):
                ProduceRequest.decode(ProduceRequest(topic_data=[TopicProduceData()] * most).encode(version), version)
                self.refused(ProduceRequest(topic_data=[TopicProduceData()] * (most + 1)).encode(version), version)

    def test_partitions_over_many_topics(self) -> None:
        topic = TopicProduceData(name="t", partition_data=[PartitionProduceData()] * 1000)
        ProduceRequest.decode(ProduceRequest(topic_data=[topic] * 24).encode(9), 9)
        self.refused(ProduceRequest(topic_data=[topic] * 25).encode(9))

    def test_tags(self) -> None:
        sample = Sample(name="", blob=None, numbers=None).encode(1)
        known = (Sample, sample[: sample.rindex(b"\0")], 1)  # it has tags of its own
        for message, body, version in (known, (HeartbeatRequest, HeartbeatRequest().encode(4)[:-1], 4)):
            tags = [uvarint(tag) + b"\0" for tag in range(9, MAX_TAGS + 10)]
            message.decode(body + uvarint(MAX_TAGS) + b"".join(tags[:-1]), version)
            with self.assertRaises(MalformedMessage) as caught:
                message.decode(body + uvarint(MAX_TAGS + 1) + b"".join(tags), version)
            self.assertIn(f"{MAX_TAGS + 1} tags", caught.exception.message)

    def test_responses_are_not_bounded(self) -> None:
        response = FetchResponse(responses=[FetchableTopicResponse(topic="t")] * 30_000)
        self.assertEqual(len(FetchResponse.decode(response.encode(12), 12)[0].responses), 30_000)


class StepTests(SynchronousTestCase):
    """What has many elements is decoded and encoded in steps: what one of them has is counted, not timed."""

    topic = TopicProduceData(name="t", partition_data=[PartitionProduceData()] * 99)

    def pauses(self, steps: Steps[Any]) -> int:
        return sum(1 for _ in steps)

    def test_a_request_is_decoded_in_one_piece_up_to_a_limit(self) -> None:
        most = ProduceRequest.DECODED_AT_ONCE
        self.assertIsNotNone(most)
        for version in (8, 9):
            decode = ProduceRequest._compile_decoder(version)
            decode(ProduceRequest(topic_data=[TopicProduceData()] * most).encode(version), 0)
            for topics in ([TopicProduceData()] * (most + 1), [self.topic] * 11):
                body = ProduceRequest(topic_data=topics).encode(version)
                self.assertRaises(ManyElements, decode, body, 0)
                self.assertEqual(ProduceRequest.decode(body, version)[0].topic_data, topics)

    def test_pauses_while_decoding(self) -> None:
        body = ProduceRequest(topic_data=[self.topic] * 100).encode(9)
        self.assertEqual(self.pauses(ProduceRequest.decode_in_steps(body, 9)), 1 + 10_000 // STEP)

    def test_ids_and_texts_are_elements_too(self) -> None:
        for message in (Sample(owners=[bytes(16)] * 640), Sample(names=["n"] * 640)):
            body = message.encode(1)
            self.assertEqual(self.pauses(Sample.decode_in_steps(body, 1)), 11)
            self.assertEqual(self.pauses(message.encode_in_steps(1, [], bytearray())), 11)

    def test_a_malformed_message_is_refused_in_the_same_words(self) -> None:
        body = ProduceRequest(topic_data=[self.topic] * 100).encode(9)[:-1]
        with self.assertRaises(MalformedMessage) as caught:
            at_once(ProduceRequest.decode_in_steps(body, 9))
        self.assertEqual(caught.exception.message, "ProduceRequest v9, tags: the message ends here")

    def test_a_response_is_encoded_in_one_piece_up_to_a_limit(self) -> None:
        most = FetchResponse.ENCODED_AT_ONCE
        self.assertIsNotNone(most)
        data = [PartitionData(aborted_transactions=None, records=b"")] * 8  # ten with their topic and its array
        for version in (11, 12):
            encode = FetchResponse._compile_encoder(version)
            topics = [FetchableTopicResponse(topic="t", partitions=data)] * (most // 10 - 1)
            encode(FetchResponse(responses=topics), [], bytearray())
            response = FetchResponse(responses=topics * 2)
            self.assertRaises(ManyElements, encode, response, [], bytearray())
            decoded, _ = FetchResponse.decode(response.encode(version), version)
            self.assertEqual(decoded.responses, response.responses)
            pauses = self.pauses(response.encode_in_steps(version, [], bytearray()))
            self.assertEqual(pauses, 1 + len(topics) * 2 * 9 // STEP)

    def test_what_was_begun_in_one_piece_leaves_nothing_behind(self) -> None:
        response = FetchResponse(responses=[FetchableTopicResponse(topic="t")] * 2000)
        head, chunks = bytearray(b"head"), [b"before"]
        response.encode_into(12, chunks, head)  # type: ignore[arg-type]
        self.assertEqual(b"".join(chunks), b"beforehead" + response.encode(12))
