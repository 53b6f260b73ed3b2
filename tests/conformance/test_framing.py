"""Conformance 1 to 8: framing and versions."""

from __future__ import annotations

import socket
import struct
import time

from chronik.errors import ErrorCode
from chronik.wire.apis import ApiKey, message_classes
from chronik.wire.frames import FrameReader, encode_request, response_body
from chronik.wire.messages.api_versions import ApiVersionsResponse
from chronik.wire.messages.metadata import MetadataRequest
from tests.conformance.case import ConformanceCase, fetch_body
from tests.differential.batches import Batch

_CLOSED_AT_ONCE = 5.0


class FramingTests(ConformanceCase):
    def exchange(self, request: bytes, key: ApiKey, version: int) -> tuple[bytes, int]:
        """The response frame to a request without its size, and the position of its body."""
        with socket.create_connection(("127.0.0.1", self.broker.port), 5) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            reader = FrameReader()
            while True:
                for frame in reader.feed(connection.recv(1 << 16)):
                    return frame, response_body(frame, message_classes(key)[1], version)[1]

    def closes(self, data: bytes) -> bool:
        """Whether the broker closes a connection that sent `data`, and nothing else."""
        with socket.create_connection(("127.0.0.1", self.broker.port), _CLOSED_AT_ONCE) as connection:
            connection.sendall(data)
            try:
                return connection.recv(100) == b""
            except ConnectionResetError:
                return True
            except TimeoutError:
                return False

    def advertised(self) -> list[tuple[ApiKey, int, int]]:
        """What ApiVersions says."""
        ranges = self.ask(
            ApiKey.API_VERSIONS, 3, {"client_software_name": "c", "client_software_version": "1"}
        ).api_keys
        return [(ApiKey(each.api_key), each.min_version, each.max_version) for each in ranges]

    def test_01_every_advertised_version_answers_in_its_own_form(self) -> None:
        """A default request of each (an empty one, mostly refused) decodes, and its answer parses to the last byte."""
        served = self.advertised()
        self.assertGreater(len(served), 25)
        for key, lowest, highest in served:
            request, response = message_classes(key)
            for version in range(lowest, highest + 1):
                message = request()
                if key == ApiKey.PRODUCE:
                    message.acks = 1
                frame = b"".join(encode_request(message, version, 5, "c"))[4:]
                answer, body = self.exchange(frame, key, version)
                _, end = response.decode(answer, version, body)
                self.assertEqual((key, version, end), (key, version, len(answer)))
                self.assertEqual(answer[:4], struct.pack(">i", 5))

    def test_01_nothing_else_is_advertised(self) -> None:
        """An API that isn't advertised closes the connection, as an unknown one does."""
        advertised = {key for key, _, _ in self.advertised()}
        for number in range(100):
            if number not in advertised:
                self.assertTrue(self.closes(struct.pack(">ihhih", 10, number, 0, 1, -1)), number)

    def test_02_an_unsupported_version_is_told_in_the_response(self) -> None:
        data = [{"index": 0, "records": Batch().encode()}]
        body = {"acks": 1, "timeout_ms": 1000, "topic_data": [{"name": "none", "partition_data": data}]}
        for version in (0, 1, 2):
            answer = self.ask(ApiKey.PRODUCE, version, body)
            code = answer.responses[0].partition_responses[0].error_code
            self.assertEqual(code, ErrorCode.UNSUPPORTED_VERSION)

    def test_03_api_versions_99_is_answered_in_version_0_and_stays_open(self) -> None:
        with socket.create_connection(("127.0.0.1", self.broker.port), 5) as connection:
            for correlation in (7, 8):
                connection.sendall(struct.pack(">ihhih", 10, 18, 99, correlation, -1))
                frames: list[bytes] = []
                reader = FrameReader()
                while not frames:
                    frames = reader.feed(connection.recv(1 << 16))
                answer, end = ApiVersionsResponse.decode(frames[0], 0, 4)
                self.assertEqual(end, len(frames[0]))
                self.assertEqual(frames[0][:4], struct.pack(">i", correlation))
                self.assertEqual(answer.error_code, ErrorCode.UNSUPPORTED_VERSION)
                (own,) = answer.api_keys
                self.assertEqual((own.api_key, own.min_version, own.max_version), (18, 0, 4))

    def test_04_which_answers_have_a_tag_byte_in_their_header(self) -> None:
        for key, version, tagged in (
            (ApiKey.API_VERSIONS, 3, False),
            (ApiKey.API_VERSIONS, 4, False),
            (ApiKey.METADATA, 8, False),
            (ApiKey.METADATA, 9, True),
            (ApiKey.FIND_COORDINATOR, 2, False),
            (ApiKey.FIND_COORDINATOR, 3, True),
            (ApiKey.DELETE_TOPICS, 3, False),
            (ApiKey.DELETE_TOPICS, 4, True),
            (ApiKey.INCREMENTAL_ALTER_CONFIGS, 0, False),
            (ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, True),
        ):
            request, response = message_classes(key)
            frame, _ = self.exchange(b"".join(encode_request(request(), version, 1, "c"))[4:], key, version)
            body = 5 if tagged else 4
            if tagged:
                self.assertEqual(frame[4], 0)
            self.assertEqual(response.decode(frame, version, body)[1], len(frame), (key, version))

    def test_05_null_and_empty_are_not_the_same(self) -> None:
        topic = self.topic()
        for version in (1, 8, 9, 12):  # both encodings of arrays
            everything = self.ask(ApiKey.METADATA, version, {"topics": None})
            nothing = self.ask(ApiKey.METADATA, version, {"topics": []})
            self.assertIn(topic, [each.name for each in everything.topics])
            self.assertEqual(nothing.topics, [])
        for version in (11, 12):
            self.assertIsNone(self.fetch(topic, 0, version).aborted_transactions)  # of a reader of everything
            committed = self.fetch(topic, 0, version, isolation_level=1)
            self.assertEqual(committed.aborted_transactions, [])

    def test_06_answers_leave_in_the_order_of_the_requests(self) -> None:
        topic = self.topic()
        waiting = fetch_body(
            [{"topic": topic, "partitions": [{"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1000}]}],
            max_wait_ms=300,
        )
        begun = time.monotonic()
        first = self.session.begin("", ApiKey.FETCH, 12, waiting)
        later = [self.session.begin("", ApiKey.METADATA, 12, {"topics": []}) for _ in range(3)]
        for pending in (first, *later):
            self.assertIsNotNone(self.session.read(pending, unrecorded=True))  # it compares the correlation ids
        self.assertGreaterEqual(time.monotonic() - begun, 0.29)
        self.assertEqual(self.session.transcript, {})

    def test_07_a_client_that_leaves_takes_its_long_poll_with_it(self) -> None:
        topic = self.topic()
        part = [{"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1000}]
        for number in range(20):
            body = fetch_body([{"topic": topic, "partitions": part}], max_wait_ms=600_000)
            self.session.begin("", ApiKey.FETCH, 12, body, on=str(number))
        deadline = time.monotonic() + 5
        while self.waiting(topic) < 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertEqual(self.waiting(topic), 20)
        for number in range(20):
            self.session.drop(str(number))
        deadline = time.monotonic() + 5
        while self.waiting(topic) and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertEqual(self.waiting(topic), 0)

    def waiting(self, topic: str) -> int:
        """How many fetches wait in the first partition of `topic`."""
        return len(self.broker._node.replicas.partition(topic, 0).fetch_waiters)

    def test_08_hostile_lengths_close_the_connection(self) -> None:
        metadata = b"".join(encode_request(MetadataRequest(topics=[]), 12, 1, "c"))
        self.assertTrue(self.closes(struct.pack(">i", -1)))
        self.assertTrue(self.closes(struct.pack(">i", 2**31 - 1)))
        self.assertTrue(self.closes(struct.pack(">ihhih", 10, 3, 12, 1, 32767)))  # a client id beyond the frame
        huge_array = struct.pack(">hhih", 3, 12, 1, -1) + b"\0\xff\xff\xff\xff\x0f"
        self.assertTrue(self.closes(struct.pack(">i", len(huge_array)) + huge_array))
        huge_tag = metadata[4:-1] + b"\x01\x63\xff\xff\xff\xff\x0f"
        self.assertTrue(self.closes(struct.pack(">i", len(huge_tag)) + huge_tag))
        truncated = metadata[4:-3]
        self.assertTrue(self.closes(struct.pack(">i", len(truncated)) + truncated))
