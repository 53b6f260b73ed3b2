"""Bytes that Apache Kafka's Java client made (`golden/GoldenBytes.java` says how), read and made again by ours."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from chronik.wire.apis import ApiKey, message_classes
from chronik.wire.frames import encode_request, encode_response, read_request_header, response_body
from chronik.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from chronik.wire.messages.produce import (
    LeaderIdAndEpoch,
    PartitionProduceResponse,
    ProduceResponse,
    TopicProduceResponse,
)
from chronik.wire.records import Codec, Record, check_produced, decode_records, encode_batch, verify

GOLDEN = {
    name: bytes.fromhex(content)
    for name, content in (line.split() for line in Path(__file__).with_name("golden").joinpath("golden.txt").open())
}

TEXT = b"value " * 40
RECORDS = [
    Record(0, 1_700_000_000_000, b"key-0", TEXT),
    Record(1, 1_700_000_000_005, None, TEXT, (("trace", b"\x01\x02"), ("größe", None))),
    Record(2, 1_699_999_999_999, b"key-2", None),
]


class GoldenBatchTests(SynchronousTestCase):
    def test_records_in_every_codec(self) -> None:
        for codec in Codec:
            batch = GOLDEN[f"batch:{codec.name.lower()}"]
            header = check_produced(memoryview(batch))
            self.assertEqual((header.codec, header.record_count, header.last_offset), (codec, 3, 2))
            self.assertEqual((header.base_timestamp, header.max_timestamp), (1_700_000_000_000, 1_700_000_000_005))
            self.assertEqual(list(decode_records(batch, 10_000)), RECORDS)

    def test_the_same_bytes_are_made(self) -> None:
        """Where no compressor has a say, byte for byte."""
        idempotent = {"producer_id": 4_000_000_000, "producer_epoch": 3, "base_sequence": 2147483646}
        transactional = {"producer_id": 5, "producer_epoch": 1, "base_sequence": 0, "transactional": True}
        marker = Record(42, 1_700_000_000_000, b"\x00\x00\x00\x01", b"\x00\x00\x00\x00\x00\x07")
        commit = {"base_offset": 42, "leader_epoch": 9, "producer_id": 5, "producer_epoch": 1, "control": True}
        for name, records, options in (
            ("none", RECORDS, {}),
            ("idempotent", RECORDS, idempotent),
            ("transactional", RECORDS, transactional),
            ("commit", [marker], {**commit, "transactional": True}),
        ):
            self.assertEqual(encode_batch(records, **options).hex(), GOLDEN[f"batch:{name}"].hex(), name)

    def test_flags(self) -> None:
        header = check_produced(GOLDEN["batch:idempotent"])
        self.assertEqual((header.idempotent, header.transactional, header.control), (True, False, False))
        self.assertEqual(header.last_sequence, 0)  # 2147483646, 2147483647, 0
        header = verify(GOLDEN["batch:commit"])
        self.assertEqual((header.idempotent, header.transactional, header.control), (True, True, True))


class GoldenFrameTests(SynchronousTestCase):
    """Headers and bodies of the versions where the form changes."""

    def test_requests(self) -> None:
        names = [name for name in GOLDEN if name.startswith("request:")]
        for name in names:
            key, version = map(int, name.split(":")[1:])
            frame = GOLDEN[name]
            request, _ = message_classes(ApiKey(key))
            header = read_request_header(frame, request.is_flexible(version))
            self.assertEqual((header.api_key, header.api_version, header.correlation_id), (key, version, 77))
            message, end = request.decode(frame, version, header.body)
            self.assertEqual(end, len(frame))
            again = b"".join(encode_request(message, version, 77, header.client_id))
            self.assertEqual(again[4:].hex(), frame.hex(), name)
            self.assertEqual(int.from_bytes(again[:4], "big"), len(frame))
        self.assertEqual(len(names), 10)

    def test_responses(self) -> None:
        names = [name for name in GOLDEN if name.startswith("response:")]
        for name in names:
            key, version = map(int, name.split(":")[1:])
            frame = GOLDEN[name]
            _, response = message_classes(ApiKey(key))
            correlation, body = response_body(frame, response, version)
            message, end = response.decode(frame, version, body)
            self.assertEqual((correlation, end), (77, len(frame)))
            self.assertEqual(b"".join(encode_response(message, version, 77))[4:].hex(), frame.hex(), name)
        self.assertEqual(len(names), 4)

    def test_values(self) -> None:
        """What Java put in is what comes out."""
        frame = GOLDEN["request:1:12"]
        request, _ = FetchRequest.decode(frame, 12, read_request_header(frame, True).body)
        partition = FetchPartition(partition=1, fetch_offset=99, partition_max_bytes=1048576)
        topics = [FetchTopic(topic="orders", partitions=[partition])]
        self.assertEqual(request, FetchRequest(max_wait_ms=500, min_bytes=1, topics=topics))

        response, _ = ProduceResponse.decode(GOLDEN["response:0:10"], 10, 5)
        answer = PartitionProduceResponse(
            index=1,
            base_offset=99,
            log_start_offset=3,
            error_message="größe",
            current_leader=LeaderIdAndEpoch(leader_id=2, leader_epoch=8),
        )
        topic = TopicProduceResponse(name="orders", partition_responses=[answer])
        self.assertEqual(response, ProduceResponse(responses=[topic]))
