"""The Kafka listener: order of responses, error walls, backpressure, limits; over a real loopback socket where it matters."""

import socket
import struct
import time
from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from chronik.controller.image import MetadataImage
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners import connection, flow
from chronik.listeners.connection import KafkaProtocol
from chronik.listeners.context import CloseConnection, HoldingUp, RequestContext
from chronik.listeners.dispatch import ApiTable
from chronik.listeners.flow import MAX_HELD_BYTES, MAX_PIPELINED
from chronik.listeners.handlers.api_versions import ApiVersionsHandler
from chronik.listeners.kafka import KafkaFactory
from chronik.listeners.many import ManyElementRequests
from chronik.listeners.poller import ConnectionPoller
from chronik.listeners.receiver import BufferPool
from chronik.listeners.throttling import RefusedLater, Throttles
from chronik.listeners.transport import use_vectored_transport
from chronik.telemetry.requests import RequestMetrics
from chronik.wire.apis import ApiKey
from chronik.wire.frames import FrameReader, encode_request, response_body
from chronik.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from chronik.wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from chronik.wire.messages.list_groups import ListedGroup, ListGroupsRequest, ListGroupsResponse
from chronik.wire.messages.produce import ProduceRequest
from tests.listeners.handlers.serving import slices

V = 4


class Heartbeats:
    """A handler whose answers the test gives: by group id, at once, later, or wrongly."""

    api_key = ApiKey.HEARTBEAT
    pipelined = True
    sets_pauses = False
    min_version = 0
    max_version = 4

    def __init__(self) -> None:
        self.waiting: dict[str, Deferred[HeartbeatResponse]] = {}
        self.cancelled: list[str] = []
        self.contexts: list[RequestContext] = []

    def handle(self, request: HeartbeatRequest, context: RequestContext) -> Any:
        self.contexts.append(context)
        kind, _, name = request.group_id.partition(":")
        if kind == "wait":
            deferred: Deferred[HeartbeatResponse] = Deferred(lambda _: self.cancelled.append(name))
            self.waiting[name] = deferred
            return deferred
        if kind == "hold":
            self.waiting[name] = holding = HoldingUp()
            return holding
        if kind == "silent":
            return None
        if kind == "close":
            raise CloseConnection("as asked")
        if kind == "refuse":
            raise KafkaError(ErrorCode.REBALANCE_IN_PROGRESS, "not now")
        if kind == "break":
            raise ZeroDivisionError("a defect")
        if kind == "misfit":
            return HeartbeatResponse(error_code=1 << 40)
        return HeartbeatResponse(error_code=int(name or 0))

    def refuse(self, request: HeartbeatRequest, version: int, error: KafkaError) -> HeartbeatResponse:
        return HeartbeatResponse(error_code=error.code)


class Big:
    """A handler with a large answer."""

    api_key = ApiKey.LIST_GROUPS
    min_version = 0
    max_version = 0

    def __init__(self) -> None:
        self.handled = 0

    def handle(self, request: ListGroupsRequest, context: RequestContext) -> ListGroupsResponse:
        self.handled += 1
        return ListGroupsResponse(groups=[ListedGroup(group_id="x" * 30000) for _ in range(40)])


def make_factory(heartbeats: Heartbeats, clock: Any, budget: int = 1 << 26, **limits: int) -> KafkaFactory:
    table = ApiTable([ApiVersionsHandler(lambda: table, MetadataImage("cluster", 0)), heartbeats, Big()])
    options = {"max_request_bytes": 1 << 20, "max_connections": 5, "max_connections_per_ip": 3, "max_idle_ms": 1000}
    return KafkaFactory(
        "PLAINTEXT",
        table,
        BufferPool(budget),
        RequestMetrics(time.monotonic),
        clock,
        wall_clock_ms=lambda: 1234567,
        throttles=Throttles(dict, time.monotonic),
        many_elements=ManyElementRequests(slices(clock), clock.seconds),
        **(options | limits),
    )


class ProtocolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.handler = Heartbeats()
        self.clock = Clock()
        self.factory = make_factory(self.handler, self.clock)
        self.transport = Wire()
        protocol = self.factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 50000))
        assert protocol is not None
        self.protocol: KafkaProtocol = protocol
        self.protocol.makeConnection(self.transport)

    def ask(self, group: str, correlation: int, client: str | None = "c") -> None:
        request = HeartbeatRequest(group_id=group, member_id="m")
        self.protocol.dataReceived(b"".join(encode_request(request, V, correlation, client)))

    def answers(self) -> list[tuple[int, int]]:
        """(correlation id, error code) of every response so far."""
        found = []
        for frame in FrameReader().feed(self.transport.value()):
            correlation, body = response_body(frame, HeartbeatResponse, V)
            found.append((correlation, HeartbeatResponse.decode(frame, V, body)[0].error_code))
        return found

    def test_answers_carry_their_correlation_id(self) -> None:
        self.ask("now:3", 7)
        self.assertEqual(self.answers(), [(7, 3)])

    def test_responses_leave_in_request_order_when_a_later_one_is_done_first(self) -> None:
        for number, group in enumerate(("wait:a", "now:1", "wait:b", "now:2")):
            self.ask(group, number)
        self.assertEqual(self.answers(), [])
        self.handler.waiting["b"].callback(HeartbeatResponse(error_code=9))
        self.assertEqual(self.answers(), [])
        self.handler.waiting["a"].callback(HeartbeatResponse(error_code=8))
        self.assertEqual(self.answers(), [(0, 8), (1, 1), (2, 9), (3, 2)])

    def test_an_answer_may_hold_up_a_pipelined_api(self) -> None:
        for number, group in enumerate(("wait:a", "hold:b", "now:1")):
            self.ask(group, number)
        self.assertEqual(len(self.handler.contexts), 2)
        self.handler.waiting["b"].callback(HeartbeatResponse(error_code=2))
        self.clock.advance(0)
        self.assertEqual(len(self.handler.contexts), 3)
        self.handler.waiting["a"].callback(HeartbeatResponse(error_code=1))
        self.assertEqual(self.answers(), [(0, 1), (1, 2), (2, 1)])

    def test_a_handler_can_close_later(self) -> None:
        self.ask("hold:a", 1)
        self.handler.waiting["a"].errback(CloseConnection("as asked"))
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.answers(), [])

    def test_above_a_quota_the_connection_pauses(self) -> None:
        """The answer says for how long, and no request is taken meanwhile, whether its client waits or not."""
        worked = {"request_percentage": 1e-9}
        throttles = Throttles(lambda: {(("client-id", "c"),): worked}, time.monotonic, window_ms=5000)
        self.protocol._throttles = throttles
        self.ask("now:1", 1)
        self.assertTrue(throttles.refresh())
        for number in range(3):
            self.ask("now:1", 2 + number)
        frames = [bytes(frame) for frame in FrameReader().feed(self.transport.value())]
        self.assertEqual(len(frames), 2)
        answer = HeartbeatResponse.decode(frames[1], V, response_body(frames[1], HeartbeatResponse, V)[1])[0]
        self.assertEqual(answer.throttle_time_ms, 5000)
        began = time.monotonic()
        self.patch(time, "monotonic", lambda: began + self.clock.seconds())
        self.clock.advance(4.9)
        self.assertEqual(len(self.answers()), 2)
        self.clock.advance(0.2)
        self.assertEqual(len(self.answers()), 3)  # the next, and then it pauses again
        self.protocol.connectionLost()
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.active()], [])

    def test_an_answer_may_ask_for_a_pause_where_nothing_is_measured(self) -> None:
        """Those of an API that says so: its quota concerns no other request, which are served as fast as ever."""
        for sets_pauses in (False, True):
            self.setUp()
            self.patch(Heartbeats, "sets_pauses", sets_pauses)
            self.ask("wait:a", 1)
            self.handler.waiting["a"].callback(HeartbeatResponse(throttle_time_ms=2000))
            self.ask("now:1", 2)
            self.assertEqual(len(self.answers()), 1 if sets_pauses else 2)
            self.protocol.connectionLost()

    def test_connections_above_a_quota_are_left_alone_and_then_cut(self) -> None:
        rate: dict[Any, dict[str, float]] = {(("ip", "127.0.0.1"),): {"connection_creation_rate": 1}}
        self.factory.throttles = throttles = Throttles(lambda: rate, lambda: 0.0, samples=2)
        self.assertFalse(throttles.refresh())  # no request is measured for it
        peer = IPv4Address("TCP", "127.0.0.1", 50001)
        self.assertIsInstance(self.factory.buildProtocol(peer), KafkaProtocol)
        refused = self.factory.buildProtocol(peer)
        assert isinstance(refused, RefusedLater)
        transport = Wire()
        refused.makeConnection(transport)
        self.assertEqual(transport.producerState, "paused")
        self.clock.advance(0.9)
        self.assertFalse(transport.disconnected)
        self.clock.advance(0.2)
        self.assertTrue(transport.disconnected)
        refused.connectionLost()
        self.assertIsInstance(self.factory.buildProtocol(IPv4Address("TCP", "127.0.0.2", 1)), KafkaProtocol)

    def test_what_waits_pauses_when_it_is_answered(self) -> None:
        throttles = Throttles(lambda: {(("client-id", None),): {"request_percentage": 1e-9}}, time.monotonic)
        throttles.refresh()
        self.protocol._throttles = throttles
        self.ask("wait:a", 1)
        self.ask("now:1", 2)
        self.handler.waiting["a"].callback(HeartbeatResponse())
        self.assertEqual(len(self.answers()), 2)  # it is pipelined: the second was taken before, and then it paused
        self.ask("now:1", 3)
        self.assertEqual(len(self.handler.contexts), 2)
        self.protocol.connectionLost()

    def test_a_silent_request_takes_no_place(self) -> None:
        for number, group in enumerate(("wait:a", "silent:", "now:1")):
            self.ask(group, number)
        self.handler.waiting["a"].callback(HeartbeatResponse())
        self.assertEqual(self.answers(), [(0, 0), (2, 1)])

    def test_a_refusal_is_the_apis_own_error(self) -> None:
        self.ask("refuse:", 1)
        self.ask("wait:x", 2)
        self.handler.waiting["x"].errback(KafkaError(ErrorCode.UNKNOWN_MEMBER_ID))
        self.assertEqual(self.answers(), [(1, ErrorCode.REBALANCE_IN_PROGRESS), (2, ErrorCode.UNKNOWN_MEMBER_ID)])

    def test_a_defect_is_logged_and_answered(self) -> None:
        self.ask("break:", 1)
        self.ask("wait:x", 2)
        self.handler.waiting["x"].errback(ZeroDivisionError())
        self.assertEqual(self.answers(), [(1, -1), (2, -1)])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.assertEqual(self.factory.metrics.defects, 2)

    def test_a_response_that_cannot_be_encoded_closes_the_connection(self) -> None:
        self.ask("misfit:", 1)
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_a_handler_can_close(self) -> None:
        self.ask("now:1", 1)
        self.ask("close:", 2)
        self.ask("now:1", 3)
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.answers(), [(1, 1)])

    def test_a_lost_client_ends_what_it_waits_for(self) -> None:
        self.ask("wait:a", 1)
        self.ask("wait:b", 2)
        self.protocol.connectionLost()
        self.assertEqual(self.handler.cancelled, ["a", "b"])
        self.assertEqual(self.factory.metrics.connections, 0)

    def test_client_ids(self) -> None:
        for number, client in enumerate(("one", "one", None, "two", "", "one")):
            self.ask("now:0", number, client)
        self.assertEqual([c.client_id for c in self.handler.contexts], ["one", "one", None, "two", "", "one"])
        self.assertEqual(len(self.answers()), 6)
        self.assertEqual(self.handler.contexts[0].now_ms(), 1234567)

    def closes(self, data: bytes) -> None:
        self.protocol.dataReceived(data)
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.factory.metrics.malformed, 1)

    def test_an_unknown_api_closes(self) -> None:
        self.closes(struct.pack(">ihhih", 10, 999, 0, 1, -1))

    def test_an_api_without_a_handler_closes(self) -> None:
        self.closes(b"".join(encode_request(ProduceRequest(), 9, 1, None)))

    def test_a_version_without_a_schema_closes(self) -> None:
        self.closes(struct.pack(">ihhih", 10, ApiKey.HEARTBEAT, 99, 1, -1))

    def test_a_negative_key_or_version_closes(self) -> None:
        self.closes(struct.pack(">ihhih", 10, -1, -1, 1, -1))

    def test_a_truncated_body_closes(self) -> None:
        whole = b"".join(encode_request(HeartbeatRequest(group_id="now:1"), V, 1, "c"))
        self.closes(struct.pack(">i", len(whole) - 8) + whole[4:-4])

    def test_a_request_cut_off_behind_a_known_client_id_closes(self) -> None:
        self.ask("now:1", 1, "c")
        self.closes(struct.pack(">ihhih", 11, ApiKey.HEARTBEAT, V, 1, 1) + b"c")

    def test_an_oversized_frame_closes(self) -> None:
        self.closes(struct.pack(">i", (1 << 20) + 1))

    def test_a_large_request_without_records_closes(self) -> None:
        self.patch(connection, "MAX_STRUCTURED_BYTES", 1000)
        self.protocol.dataReceived(struct.pack(">ihhih", 1000, ApiKey.HEARTBEAT, 0, 1, -1) + bytes(990))
        self.assertFalse(self.transport.disconnecting)
        self.closes(struct.pack(">ihhih", 1001, ApiKey.HEARTBEAT, 0, 1, -1) + bytes(991))

    def test_unknown_version_of_api_versions_keeps_the_connection(self) -> None:
        self.protocol.dataReceived(struct.pack(">ihhih", 14, ApiKey.API_VERSIONS, 99, 5, 1) + b"c" + b"\xff\xff\xff")
        frame = FrameReader().feed(self.transport.value())[0]
        correlation, body = response_body(frame, ApiVersionsResponse, 0)
        answer, end = ApiVersionsResponse.decode(frame, 0, body)
        self.assertEqual((correlation, answer.error_code, end), (5, ErrorCode.UNSUPPORTED_VERSION, len(frame)))
        self.assertEqual([(k.api_key, k.min_version, k.max_version) for k in answer.api_keys], [(18, 0, 4)])
        self.assertFalse(self.transport.disconnecting)

    def test_api_versions_is_the_table(self) -> None:
        request = ApiVersionsRequest(client_software_name="test", client_software_version="1.0")
        self.protocol.dataReceived(b"".join(encode_request(request, 4, 1, None)))
        frame = FrameReader().feed(self.transport.value())[0]
        answer, end = ApiVersionsResponse.decode(frame, 4, response_body(frame, ApiVersionsResponse, 4)[1])
        self.assertEqual(end, len(frame))
        self.assertEqual([(k.api_key, k.max_version) for k in answer.api_keys], [(12, 4), (16, 0), (18, 4)])

    def test_a_slow_reader_is_not_read_from(self) -> None:
        self.protocol.pauseProducing()
        self.assertEqual(self.transport.producerState, "paused")
        self.ask("now:1", 1)
        self.ask("now:2", 2)
        self.protocol.resumeProducing()
        self.clock.advance(0)
        self.assertEqual(self.answers(), [(1, 1), (2, 2)])
        self.assertEqual(self.transport.producerState, "producing")

    def test_a_deep_pipeline_is_not_read_further(self) -> None:
        for number in range(MAX_PIPELINED):
            self.ask(f"wait:{number}", number)
        self.assertEqual(self.transport.producerState, "paused")
        for number in range(MAX_PIPELINED):
            self.handler.waiting[str(number)].callback(HeartbeatResponse())
        self.clock.advance(0)
        self.assertEqual(self.transport.producerState, "producing")
        self.assertEqual(len(self.answers()), MAX_PIPELINED)

    def ask_for_much(self, times: int) -> Big:
        self.protocol.dataReceived(b"".join(encode_request(ListGroupsRequest(), 0, 0, "c")) * times)
        big: Big = self.factory.table.handlers[ApiKey.LIST_GROUPS]
        return big

    def test_large_answers_behind_a_waiting_one_hold_the_rest_back(self) -> None:
        self.ask("wait:a", 1)
        big = self.ask_for_much(100)
        self.assertEqual(big.handled, MAX_HELD_BYTES // 1_200_000 + 1)
        self.assertEqual(self.transport.producerState, "paused")
        self.assertGreater(self.factory.pool.answers.size, MAX_HELD_BYTES)
        self.handler.waiting["a"].callback(HeartbeatResponse())
        self.clock.advance(0)
        self.assertEqual(big.handled, 100)
        self.assertEqual(self.transport.producerState, "producing")
        self.assertEqual(self.factory.pool.answers.size, 0)

    def test_very_many_small_requests_are_served_in_turns(self) -> None:
        request = b"".join(encode_request(HeartbeatRequest(group_id="now:1"), V, 1, "c"))
        self.protocol.dataReceived(request * 300)
        self.assertEqual(len(self.handler.contexts), 128)
        self.clock.pump([0, 0, 0])
        self.assertEqual(len(self.answers()), 300)
        self.assertEqual(self.transport.producerState, "producing")

    def test_what_a_lost_client_held_leaves_the_backlog(self) -> None:
        self.ask("wait:a", 1)
        self.ask_for_much(3)
        self.protocol.connectionLost()
        self.assertEqual(self.factory.pool.answers.size, 0)

    def test_a_full_backlog_of_the_node_stops_every_connection(self) -> None:
        backlog = self.factory.pool.answers
        backlog.change(1 << 27)
        self.assertIsNone(self.protocol.receive_target())
        self.assertEqual(self.transport.producerState, "paused")
        backlog.change(-(1 << 27))
        self.clock.advance(0)
        self.assertEqual(self.transport.producerState, "producing")
        self.assertIsNotNone(self.protocol.receive_target())

    def test_behind_a_wait_that_is_not_pipelined_nothing_is_taken(self) -> None:
        self.handler.pipelined = False
        for number, group in enumerate(("wait:a", "now:1", "wait:b", "now:2")):
            self.ask(group, number)
        self.assertEqual(len(self.handler.contexts), 1)
        self.assertEqual(self.transport.producerState, "paused")
        self.handler.waiting["a"].callback(HeartbeatResponse(error_code=8))
        self.clock.advance(0)
        self.assertEqual(self.answers(), [(0, 8), (1, 1)])
        self.handler.waiting["b"].callback(HeartbeatResponse(error_code=9))
        self.clock.advance(0)
        self.assertEqual(self.answers(), [(0, 8), (1, 1), (2, 9), (3, 2)])
        self.assertEqual(self.transport.producerState, "producing")

    def test_the_rest_of_a_read_waits_too(self) -> None:
        self.handler.pipelined = False
        requests = [HeartbeatRequest(group_id=group, member_id="m") for group in ("wait:a", "now:1")]
        self.protocol.dataReceived(b"".join(b"".join(encode_request(r, V, n, "c")) for n, r in enumerate(requests)))
        self.assertEqual(self.transport.producerState, "producing")  # to notice when the client goes away
        self.handler.waiting["a"].callback(HeartbeatResponse(error_code=8))
        self.clock.advance(0)
        self.assertEqual(self.answers(), [(0, 8), (1, 1)])

    def test_connection_limits(self) -> None:
        here = IPv4Address("TCP", "10.0.0.1", 1)
        for _ in range(3):
            protocol = self.factory.buildProtocol(here)
            assert protocol is not None
            protocol.makeConnection(Wire())
        self.assertIsNone(self.factory.buildProtocol(here))
        other = self.factory.buildProtocol(IPv4Address("TCP", "10.0.0.2", 1))
        assert other is not None
        other.makeConnection(Wire())
        self.assertIsNone(self.factory.buildProtocol(IPv4Address("TCP", "10.0.0.3", 1)))
        other.connectionLost()
        self.assertIsNotNone(self.factory.buildProtocol(IPv4Address("TCP", "10.0.0.3", 1)))
        self.assertEqual(self.factory.metrics.connections_refused, 2)

    def test_idle_connections_are_closed_and_waiting_ones_are_not(self) -> None:
        self.protocol.last_read -= 2
        self.ask("wait:a", 1)
        self.protocol.last_read -= 2
        self.factory.close_idle()
        self.assertFalse(self.transport.disconnecting)
        self.handler.waiting["a"].callback(HeartbeatResponse())
        self.factory.close_idle()
        self.assertTrue(self.transport.disconnecting)

    def test_a_large_request_that_never_ends_makes_room_for_others(self) -> None:
        self.patch(flow, "GATHERING_SECONDS", 0.0)
        self.protocol.dataReceived(struct.pack(">i", 1_000_000) + bytes(200_000))
        self.factory.close_idle()
        self.assertFalse(self.transport.disconnected)  # nobody else wants its room
        self.factory.pool.when_free(lambda: None)
        self.factory.close_idle()
        self.assertTrue(self.transport.disconnected)


class Wire(StringTransport):
    """A transport in memory that knows the calls of a TCP one."""

    disconnected = False

    def abortConnection(self) -> None:
        self.disconnected = True

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled


class Emitter(Protocol):
    """Writes what the test says as soon as it is connected, and counts how often its transport becomes writable."""

    buffers: ClassVar[list[bytes]] = []
    wakes = 0

    def connectionMade(self) -> None:
        self.transport.writeSequence(self.buffers)
        do_write = self.transport.doWrite

        def counted() -> object:
            Emitter.wakes += 1
            return do_write()

        self.transport.doWrite = counted

    def receive_target(self) -> memoryview:
        return memoryview(bytearray(100))

    def bytes_received(self, count: int) -> None:
        raise AssertionError("the client sends nothing")


class SocketTests(TestCase):
    """Over TCP: the vectored transport."""

    def vectored(self, port: Any) -> None:
        """Have `port` accept vectored transports until the end of the test."""
        poller = ConnectionPoller(reactor)
        use_vectored_transport(port, poller)
        self.addCleanup(poller.close)
        self.addCleanup(port.stopListening)

    async def test_empty_buffers_behind_a_partial_send_do_not_spin(self) -> None:
        Emitter.buffers, Emitter.wakes = [b"x" * 8_000_000, b"", b"end", b""], 0
        port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(Factory.forProtocol(Emitter))
        self.vectored(port)

        def client() -> bytes:
            with socket.create_connection(("127.0.0.1", port.getHost().port)) as connection:
                time.sleep(0.1)
                received = bytearray()
                while len(received) < 8_000_003:
                    received += connection.recv(1 << 20)
                time.sleep(0.1)
                return bytes(received)

        self.assertTrue((await deferToThread(client)).endswith(b"xend"))
        await _soon()
        self.assertLess(Emitter.wakes, 1000)

    async def test_everything_arrives_through_a_slow_reader(self) -> None:
        factory = make_factory(Heartbeats(), reactor)
        port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(factory)
        self.vectored(port)
        requests = 60

        def slow_client() -> list[int]:
            with socket.create_connection(("127.0.0.1", port.getHost().port)) as connection:
                connection.settimeout(20)
                for number in range(requests):
                    connection.sendall(b"".join(encode_request(ListGroupsRequest(), 0, number, "slow")))
                time.sleep(0.3)
                reader, seen = FrameReader(), []
                while len(seen) < requests:
                    for frame in reader.feed(connection.recv(1 << 20)):
                        correlation, body = response_body(frame, ListGroupsResponse, 0)
                        assert len(ListGroupsResponse.decode(frame, 0, body)[0].groups) == 40
                        seen.append(correlation)
                return seen

        self.assertEqual(await deferToThread(slow_client), list(range(requests)))
        while factory.connections:
            await _soon()

    async def test_a_client_that_does_not_read_is_served_a_few_answers(self) -> None:
        factory = make_factory(Heartbeats(), reactor)
        big: Big = factory.table.handlers[ApiKey.LIST_GROUPS]
        port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(factory)
        self.vectored(port)
        client = socket.create_connection(("127.0.0.1", port.getHost().port))
        self.addCleanup(client.close)
        client.sendall(b"".join(encode_request(ListGroupsRequest(), 0, 1, "mute")) * 1000)
        for _ in range(30):
            await _soon()
        self.assertLess(big.handled, 20)  # the socket's own buffers take some megabytes
        self.assertLess(factory.pool.answers.size, 4_000_000)
        self.assertGreater(factory.pool.answers.size, 0)
        client.close()
        while factory.connections:
            await _soon()
        self.assertEqual(factory.pool.answers.size, 0)

    async def unread(self, **limits: int) -> KafkaFactory:
        """A factory with one connection, whose client asked for megabytes and doesn't read them."""
        factory = make_factory(Heartbeats(), reactor, **limits)
        port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(factory)
        self.vectored(port)
        client = socket.create_connection(("127.0.0.1", port.getHost().port))
        self.addCleanup(client.close)
        client.sendall(b"".join(encode_request(ListGroupsRequest(), 0, 1, "mute")) * 100)
        while not factory.pool.answers.size:
            await _soon()
        await _soon()
        return factory

    async def _gone(self, factory: KafkaFactory) -> None:
        for _ in range(100):
            if not factory.connections:
                break
            await _soon()
        self.assertEqual(len(factory.connections), 0)
        self.assertEqual(factory.pool.answers.size, 0)

    async def test_an_idle_client_is_dropped_though_it_does_not_read(self) -> None:
        self.patch(flow, "CLOSING_SECONDS", 0.05)
        factory = await self.unread(max_idle_ms=1)
        factory.close_idle()
        await self._gone(factory)

    async def test_what_closes_is_dropped_in_the_end(self) -> None:
        self.patch(flow, "CLOSING_SECONDS", 0.05)
        factory = await self.unread()
        factory.close_all()
        self.assertEqual(len(factory.connections), 1)
        await self._gone(factory)

    async def test_a_full_backlog_drops_those_who_do_not_read(self) -> None:
        factory = await self.unread(budget=500_000, max_idle_ms=600_000)
        self.assertTrue(factory.pool.answers.full)
        factory.close_idle()
        await _soon()
        self.assertEqual(len(factory.connections), 1)  # it has until the next time
        factory.close_idle()
        await self._gone(factory)

    async def test_a_vanished_client_leaves_nothing_behind(self) -> None:
        factory = make_factory(Heartbeats(), reactor)
        port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(factory)
        self.vectored(port)

        def client() -> None:
            connection = socket.create_connection(("127.0.0.1", port.getHost().port))
            for number in range(50):
                connection.sendall(b"".join(encode_request(ListGroupsRequest(), 0, number, "gone")))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

        await deferToThread(client)
        for _ in range(200):
            await _soon()
            if not factory.connections:
                break
        self.assertEqual(len(factory.connections), 0)


def _soon() -> Deferred[None]:
    done: Deferred[None] = Deferred()
    reactor.callLater(0.01, done.callback, None)
    return done
