"""Connection against a scripted peer, in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.test.iosim import FakeTransport, IOPump, connect
from twisted.trial.unittest import SynchronousTestCase

from chronik.client.connection import Connection
from chronik.client.errors import BadResponse, ConnectionClosed, RequestTimedOut, UnsupportedApi
from chronik.wire import frames
from chronik.wire.messages.api_versions import ApiVersion, ApiVersionsResponse
from chronik.wire.messages.fetch import FetchRequest
from chronik.wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from chronik.wire.messages.produce import ProduceRequest


class Peer(Protocol):
    """Collects request frames; the test answers them."""

    def __init__(self) -> None:
        self.reader = frames.FrameReader()
        self.requests: list[tuple[int, int, int]] = []
        self.closed = False

    def dataReceived(self, data: bytes) -> None:
        self.requests += [frames.read_fixed_header(frame) for frame in self.reader.feed(data)]

    def connectionLost(self, reason: Any = None) -> None:
        self.closed = True

    def answer(self, response: Any, version: int, correlation_id: int) -> None:
        self.transport.write(b"".join(frames.encode_response(response, version, correlation_id)))  # type: ignore[union-attr]


class ConnectionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.connection = Connection(self.clock, "peer:9092")
        self.peer = Peer()
        client = FakeTransport(self.connection, isServer=False)
        server = FakeTransport(self.peer, isServer=True)
        self.pump: IOPump = connect(self.peer, server, self.connection, client)
        self.connection.versions = {HeartbeatRequest.API_KEY: (0, 3), ProduceRequest.API_KEY: (0, 2)}

    def ask(self, **options: Any) -> Deferred[Any]:
        deferred = self.connection.request(HeartbeatRequest(group_id="g"), **options)
        self.pump.flush()
        return deferred

    def reply(self, correlation_id: int, error_code: int = 0, version: int = 3) -> None:
        self.peer.answer(HeartbeatResponse(error_code=error_code), version, correlation_id)
        self.pump.flush()

    def handshake(self) -> Deferred[None]:
        handshake = Deferred.fromCoroutine(self.connection.handshake())
        self.pump.flush()
        return handshake

    def test_requests_are_pipelined_and_answered_in_order(self) -> None:
        asked = [self.ask() for _ in range(3)]
        self.assertEqual(self.peer.requests, [(12, 3, 0), (12, 3, 1), (12, 3, 2)])
        for number in range(3):
            self.reply(number, error_code=number)
        self.assertEqual([self.successResultOf(d).error_code for d in asked], [0, 1, 2])

    def test_a_response_in_pieces(self) -> None:
        asked = self.ask()
        for byte in b"".join(frames.encode_response(HeartbeatResponse(error_code=27), 3, 0)):
            self.assertNoResult(asked)
            self.peer.transport.write(bytes([byte]))  # type: ignore[union-attr]
            self.pump.flush()
        self.assertEqual(self.successResultOf(asked).error_code, 27)

    def test_a_wrong_correlation_id_ends_the_connection(self) -> None:
        first, second = self.ask(), self.ask()
        self.reply(1)
        problem = self.failureResultOf(first, BadResponse).value
        self.assertIn("response 1 came where 0 was due", str(problem))
        self.failureResultOf(second, BadResponse)
        self.assertFalse(self.connection.is_open)
        self.assertTrue(self.peer.closed)

    def test_an_unasked_response_ends_the_connection(self) -> None:
        self.reply(0)
        self.assertFalse(self.connection.is_open)
        self.failureResultOf(self.ask(), BadResponse)

    def test_left_over_bytes_are_a_bad_response(self) -> None:
        asked = self.ask()
        frame = b"".join(frames.encode_response(HeartbeatResponse(), 3, 0))[4:] + b"!"
        self.peer.transport.write(len(frame).to_bytes(4, "big") + frame)  # type: ignore[union-attr]
        self.pump.flush()
        self.assertIn("1 bytes are left over", str(self.failureResultOf(asked, BadResponse).value))

    def test_a_peer_that_speaks_http(self) -> None:
        asked = self.ask()
        self.peer.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")  # type: ignore[union-attr]
        self.pump.flush()
        self.assertIn("does not answer as a Kafka broker", str(self.failureResultOf(asked, BadResponse).value))
        self.assertFalse(self.connection.is_open)

    def test_a_timeout_fails_the_request_and_ends_the_connection(self) -> None:
        first, second = self.ask(timeout=5.0), self.ask(timeout=60.0)
        self.clock.advance(5.0)
        problem = self.failureResultOf(first, RequestTimedOut).value
        self.assertEqual(str(problem), "the broker at peer:9092 did not answer Heartbeat within 5 s")
        self.failureResultOf(second, RequestTimedOut)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.pump.flush()
        self.assertTrue(self.peer.closed)

    def test_a_cancelled_request_keeps_its_place(self) -> None:
        first, second = self.ask(), self.ask()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.reply(0, error_code=1)
        self.assertNoResult(second)
        self.reply(1, error_code=2)
        self.assertEqual(self.successResultOf(second).error_code, 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_lost_connection_fails_all_that_wait(self) -> None:
        asked = [self.ask(), self.ask()]
        closed = self.connection.when_closed()
        self.peer.transport.loseConnection()  # type: ignore[union-attr]
        self.pump.flush()
        for one in asked:
            problem = self.failureResultOf(one, ConnectionClosed).value
            self.assertEqual(str(problem), "the connection to peer:9092 was lost: the broker closed it")
        self.successResultOf(closed)
        self.failureResultOf(self.ask(), ConnectionClosed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_closing_fails_all_that_wait(self) -> None:
        asked = self.ask()
        self.connection.close()
        self.failureResultOf(asked, ConnectionClosed)

    def test_acks_0_waits_for_nothing(self) -> None:
        self.connection.versions[ProduceRequest.API_KEY] = (3, 9)
        sent = self.connection.request(ProduceRequest(acks=0), expects_response=False)
        self.assertIsNone(self.successResultOf(sent))
        asked = self.ask()
        self.assertEqual(self.peer.requests, [(0, 9, 0), (12, 3, 1)])
        self.reply(1)
        self.successResultOf(asked)

    def test_the_highest_common_version(self) -> None:
        self.assertEqual(self.connection.version_of(HeartbeatRequest), 3)
        self.assertEqual(self.connection.version_of(HeartbeatRequest, highest=1), 1)
        self.connection.versions[12] = (0, 99)
        self.assertEqual(self.connection.version_of(HeartbeatRequest), HeartbeatRequest.VERSIONS.highest)

    def test_an_api_that_the_broker_lacks(self) -> None:
        problem = self.assertRaises(UnsupportedApi, self.connection.version_of, FetchRequest)
        self.assertEqual(str(problem), "the broker at peer:9092 does not serve Fetch (key 1)")

    def test_no_common_version(self) -> None:
        self.connection.versions[1] = (0, 3)
        problem = self.failureResultOf(self.connection.request(FetchRequest()), UnsupportedApi).value
        self.assertEqual(str(problem), "the broker at peer:9092 serves Fetch in versions 0-3, this client speaks 4-18")

    def test_a_value_that_the_version_has_no_field_for_fails_that_request_only(self) -> None:
        self.connection.versions[12] = (0, 2)
        failed = self.connection.request(HeartbeatRequest(group_id="g", group_instance_id="i"))
        self.assertIn("group_instance_id", str(self.failureResultOf(failed).value))
        self.assertTrue(self.connection.is_open)

    def test_handshake(self) -> None:
        handshake = self.handshake()
        self.assertEqual(self.peer.requests, [(18, 4, 0)])
        apis = [ApiVersion(api_key=1, min_version=4, max_version=13)]
        self.peer.answer(ApiVersionsResponse(api_keys=apis), 4, 0)
        self.pump.flush()
        self.successResultOf(handshake)
        self.assertEqual(self.connection.versions, {1: (4, 13)})

    def test_handshake_with_an_older_broker_uses_the_range_it_names(self) -> None:
        handshake = self.handshake()
        refusal = ApiVersionsResponse(error_code=35, api_keys=[ApiVersion(api_key=18, min_version=0, max_version=2)])
        self.peer.answer(refusal, 0, 0)  # KIP-511: always in version 0
        self.pump.flush()
        self.assertEqual(self.peer.requests[1:], [(18, 2, 1)])
        self.peer.answer(ApiVersionsResponse(api_keys=[ApiVersion(api_key=0, max_version=7)]), 2, 1)
        self.pump.flush()
        self.successResultOf(handshake)
        self.assertEqual(self.connection.versions, {0: (0, 7)})

    def test_handshake_with_a_broker_that_names_no_range_falls_back_to_version_0(self) -> None:
        handshake = self.handshake()
        self.peer.answer(ApiVersionsResponse(error_code=35), 0, 0)
        self.pump.flush()
        self.assertEqual(self.peer.requests[1:], [(18, 0, 1)])
        self.peer.answer(ApiVersionsResponse(error_code=35), 0, 1)
        self.pump.flush()
        self.assertIn("refuses ApiVersions version 0", str(self.failureResultOf(handshake, UnsupportedApi).value))

    def test_a_refusal_that_cannot_be_read_is_still_one(self) -> None:
        """librdkafka's mock broker writes such: its list of versions is in no form at all."""
        handshake = self.handshake()
        frame = bytes(4) + b"\x00\x23\x01\x00\x12\x00\x00\x00\x03\x00\x00\x00\x00"
        self.peer.transport.write(len(frame).to_bytes(4, "big") + frame)  # type: ignore[union-attr]
        self.pump.flush()
        self.assertEqual(self.peer.requests[1:], [(18, 0, 1)])
        self.assertNoResult(handshake)


class SizeTests(SynchronousTestCase):
    def test_a_response_above_the_limit_ends_the_connection(self) -> None:
        connection = Connection(Clock(), "peer:9092", max_response_bytes=100)
        peer = Peer()
        pump = connect(peer, FakeTransport(peer, True), connection, FakeTransport(connection, False))
        connection.versions = {12: (0, 3)}
        asked = connection.request(HeartbeatRequest())
        peer.transport.write((101).to_bytes(4, "big"))  # type: ignore[union-attr]
        pump.flush()
        self.assertIn("a frame of 101 bytes is outside 0 to 100", str(self.failureResultOf(asked, BadResponse).value))
