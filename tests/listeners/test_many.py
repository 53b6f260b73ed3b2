"""Requests and answers of many elements: taken in slices, one a turn of the reactor, while others are served in between.

No time is measured: the clock moves on whenever it is read, so that a slice is a few steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock, Cooperator
from twisted.trial.unittest import SynchronousTestCase

from chronik.controller.image import MetadataImage
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.connection import KafkaProtocol
from chronik.listeners.context import CloseConnection, RequestContext
from chronik.listeners.dispatch import ApiTable
from chronik.listeners.handlers.api_versions import ApiVersionsHandler
from chronik.listeners.kafka import KafkaFactory
from chronik.listeners.many import ManyElementRequests
from chronik.listeners.receiver import STAGING_BYTES, BufferPool
from chronik.listeners.slices import SLICE_SECONDS, Slices
from chronik.listeners.throttling import Throttles
from chronik.steps import Steps
from chronik.telemetry.requests import RequestMetrics
from chronik.wire.apis import ApiKey
from chronik.wire.frames import FrameReader, encode_request, response_body
from chronik.wire.messages.api_versions import ApiVersionsRequest
from chronik.wire.messages.describe_groups import DescribedGroup, DescribeGroupsRequest, DescribeGroupsResponse
from chronik.wire.messages.list_groups import ListedGroup, ListGroupsRequest, ListGroupsResponse
from tests.listeners.test_kafka import Wire

V = 5
STEPS_A_SLICE = 4
MANY = 3000


class Ticking:
    """A clock by which every reading takes so long that a slice is a few steps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += SLICE_SECONDS / (STEPS_A_SLICE - 0.5)
        return self.now


class Turns:
    """Turns of a reactor that the test takes, with the `slices` that are taken in them."""

    def __init__(self) -> None:
        self.due: list[Callable[[], object]] = []
        self.slices = Slices(Ticking(), Cooperator(lambda: lambda: True, scheduler=self._later))

    def _later(self, call: Callable[[], object]) -> Turns:
        self.due.append(call)
        return self

    def cancel(self) -> None:
        """The cooperator has nothing to do any more."""
        self.due.clear()

    def take(self, count: int = 1) -> None:
        """That many turns, or as many as there is something to do in."""
        while self.due and count:
            self.due.pop(0)()
            count -= 1


class SlicesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.turns = Turns()
        self.slices = self.turns.slices
        self.taken: dict[str, int] = {}

    def work(self, name: str, count: int, error: Exception | None = None) -> Steps[str]:
        """So many steps, noted in `taken`; then a result, or an error. Its end is noted too."""
        try:
            for _ in range(count):
                self.taken[name] = self.taken.get(name, 0) + 1
                yield
            if error is not None:
                raise error
            return name
        finally:
            self.taken[name + " ended"] = 1

    def test_what_fits_into_a_slice_is_done_at_once(self) -> None:
        self.assertEqual(self.slices.begin(self.work("a", STEPS_A_SLICE - 1)), "a")
        self.assertRaises(ZeroDivisionError, self.slices.begin, self.work("b", 2, ZeroDivisionError()))
        self.assertEqual(self.turns.due, [])

    def test_of_all_work_one_slice_is_done_a_turn(self) -> None:
        results: list[str] = []
        for name in "abc":
            self.slices.finish(self.work(name, 40)).addCallback(results.append)
        before = 0
        while len(results) < 3:
            self.turns.take()
            steps = sum(self.taken.get(name, 0) for name in "abc")
            self.assertLessEqual(steps - before, STEPS_A_SLICE)
            before = steps
        self.assertEqual((sorted(results), before), (["a", "b", "c"], 120))

    def test_an_error_comes_out(self) -> None:
        failed = self.slices.finish(self.work("a", 40, ZeroDivisionError()))
        self.turns.take(20)
        self.failureResultOf(failed, ZeroDivisionError)

    def test_what_is_cancelled_ends_where_it_is(self) -> None:
        cancelled, other = self.slices.finish(self.work("a", 40)), self.slices.finish(self.work("b", 40))
        self.turns.take(4)
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        taken = self.taken["a"]
        self.turns.take(40)
        self.assertEqual((self.taken["a"], self.taken["a ended"]), (taken, 1))
        self.assertEqual(self.successResultOf(other), "b")

    def test_items_are_worked_on_in_parts(self) -> None:
        seen: list[int] = []
        done = self.slices.each(range(1000), seen.extend, step=10)
        with self.assertRaises(StopIteration):
            for _ in range(100):
                done.send(None)
                self.turns.take()
        self.assertEqual(seen, list(range(1000)))


class Groups:
    """A handler that describes groups in steps: each of them, or none where the first one's name says why."""

    api_key = ApiKey.DESCRIBE_GROUPS
    min_version = 0
    max_version = 5

    def __init__(self) -> None:
        self.handled: list[int] = []
        self.steps = 0

    def handle(self, request: DescribeGroupsRequest, context: RequestContext) -> Steps[DescribeGroupsResponse]:
        self.handled.append(len(request.groups))
        what = request.groups[0]
        if what == "refuse":
            raise KafkaError(ErrorCode.REBALANCE_IN_PROGRESS, "not now")
        if what == "close":
            raise CloseConnection("as asked")
        groups = []
        for name in request.groups:
            self.steps += 1
            if what == "break" and self.steps > 1000:
                raise ZeroDivisionError("a defect")
            groups.append(DescribedGroup(group_id=name))
            yield
        return DescribeGroupsResponse(groups=groups)

    def refuse(self, request: DescribeGroupsRequest, version: int, error: KafkaError) -> Steps[DescribeGroupsResponse]:
        groups = []
        for name in request.groups:
            groups.append(DescribedGroup(group_id=name, error_code=error.code))
            yield
        return DescribeGroupsResponse(groups=groups)


class Listed:
    """A handler with an answer of many elements, made at once."""

    api_key = ApiKey.LIST_GROUPS
    min_version = 0
    max_version = 0

    def handle(self, request: ListGroupsRequest, context: RequestContext) -> ListGroupsResponse:
        return ListGroupsResponse(groups=[ListedGroup(group_id=str(n)) for n in range(MANY)])

    def refuse(self, request: ListGroupsRequest, version: int, error: KafkaError) -> ListGroupsResponse:
        raise NotImplementedError


class Client:
    """One connection, from its client's side."""

    def __init__(self, factory: KafkaFactory) -> None:
        protocol = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 50000))
        assert isinstance(protocol, KafkaProtocol)
        self.protocol = protocol
        self.wire = Wire()
        self.protocol.makeConnection(self.wire)

    def send(self, names: list[str], correlation: int = 1, cut: int = 0) -> None:
        frame = bytearray(b"".join(encode_request(DescribeGroupsRequest(groups=names), V, correlation, "c")))
        if cut:
            del frame[-cut:]
            frame[:4] = (len(frame) - 4).to_bytes(4, "big")
        self.protocol.dataReceived(bytes(frame))

    def ping(self, correlation: int) -> None:
        self.protocol.dataReceived(b"".join(encode_request(ApiVersionsRequest(), 2, correlation, "c")))

    def list(self, correlation: int) -> None:
        self.protocol.dataReceived(b"".join(encode_request(ListGroupsRequest(), 0, correlation, "c")))

    def frames(self) -> list[bytes]:
        return FrameReader().feed(self.wire.value())

    def answered(self) -> list[int]:
        return [int.from_bytes(frame[:4], "big") for frame in self.frames()]

    def answer(self, place: int = 0) -> DescribeGroupsResponse:
        frame = self.frames()[place]
        return DescribeGroupsResponse.decode(frame, V, response_body(frame, DescribeGroupsResponse, V)[1])[0]


NAMES = [f"group-{number}" for number in range(MANY)]


class ManyElementTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.turns = Clock(), Turns()
        self.handler = Groups()
        self.pool = BufferPool(1 << 26)
        table = ApiTable([ApiVersionsHandler(lambda: table, MetadataImage("cluster", 0)), self.handler, Listed()])
        self.factory = KafkaFactory(
            "PLAINTEXT",
            table,
            self.pool,
            RequestMetrics(self.clock.seconds),
            self.clock,
            max_request_bytes=1 << 22,
            max_connections=100,
            max_connections_per_ip=100,
            max_idle_ms=1000,
            wall_clock_ms=lambda: 0,
            throttles=Throttles(dict, self.clock.seconds),
            many_elements=ManyElementRequests(self.turns.slices, self.clock.seconds),
        )
        self.client, self.other = Client(self.factory), Client(self.factory)

    def take(self, count: int = 1) -> None:
        for _ in range(count):
            self.turns.take()
            self.clock.advance(0)

    def until(self, client: Client, count: int = 1, at_most: int = 3000) -> int:
        """How many turns of the reactor it takes until `client` has `count` answers."""
        for turn in range(at_most):
            if len(client.frames()) >= count:
                return turn
            self.take()
        raise self.failureException(f"{len(client.frames())} answers after {at_most} turns")

    def idle(self) -> None:
        """Nothing is held, and nothing is to be done."""
        self.assertEqual((self.pool.lent, self.pool.reserved, self.pool.answers.size), (0, 0, 0))
        self.take(3)
        self.assertEqual((self.turns.due, self.clock.getDelayedCalls()), ([], []))

    def test_decoding_handling_and_encoding_are_done_in_slices(self) -> None:
        self.client.send(NAMES)
        steps = turns = 0
        while not self.client.frames():
            self.take()
            self.assertLessEqual(self.handler.steps - steps, STEPS_A_SLICE)
            steps, turns = self.handler.steps, turns + 1
        self.assertEqual([group.group_id for group in self.client.answer().groups], NAMES)
        coded = MANY / 64 / STEPS_A_SLICE
        self.assertGreater(turns, coded + MANY / STEPS_A_SLICE + coded)
        self.idle()

    def test_few_elements_are_served_at_once(self) -> None:
        self.client.send(NAMES[:3])
        self.assertEqual(len(self.client.answer().groups), 3)

    def test_few_elements_may_take_some_slices_too(self) -> None:
        self.client.send(NAMES[:900])
        self.client.ping(2)
        self.assertEqual(self.handler.steps, STEPS_A_SLICE)
        self.assertGreater(self.until(self.client, 2), 900 / STEPS_A_SLICE - 2)
        self.assertEqual(self.client.answered(), [1, 2])
        self.idle()

    def test_others_are_served_in_between(self) -> None:
        self.client.send(NAMES)
        for number in range(50):
            self.other.ping(number)
            self.assertEqual(self.other.answered()[-1], number)
            self.take()
        self.assertEqual(self.client.frames(), [])

    def test_what_follows_on_the_connection_waits(self) -> None:
        self.client.send(NAMES, 1)
        self.client.ping(2)
        self.client.ping(3)
        self.until(self.client, 3)
        self.assertEqual(self.client.answered(), [1, 2, 3])
        self.idle()

    def test_one_request_is_decoded_at_a_time(self) -> None:
        clients = [self.client, self.other, Client(self.factory)]
        for client in clients:
            client.send(NAMES)
        held = self.pool.answers.size
        self.assertGreater(held, 3 * 8 * MANY)  # the frames of those that wait
        turns = 0
        while not self.handler.handled:
            turns += 1
            self.take()
        self.assertLess(turns, MANY / 64 / STEPS_A_SLICE + 5)  # those who wait have none
        for client in clients:
            self.until(client)
        self.assertEqual(self.handler.handled, [MANY] * 3)
        self.idle()

    def test_a_large_frame_keeps_its_buffer_until_it_is_decoded_and_handled(self) -> None:
        names = [name * 20 for name in NAMES]
        self.client.send(names)
        self.assertGreater(self.pool.reserved, STAGING_BYTES)
        while len(self.client.frames()) < 1:
            self.assertTrue(self.pool.reserved or self.handler.steps == MANY)
            self.take()
        self.assertEqual([group.group_id for group in self.client.answer().groups], names)
        self.idle()

    def test_the_shared_buffer_is_others_meanwhile(self) -> None:
        self.client.send(NAMES)
        self.other.protocol.dataReceived((200_000).to_bytes(4, "big") + b"\0" * 100_000)
        self.until(self.client)
        self.assertEqual([group.group_id for group in self.client.answer().groups], NAMES)

    def test_what_is_malformed_ends_its_connection_alone(self) -> None:
        self.client.send(NAMES, cut=1)
        self.other.send(NAMES)
        self.until(self.other)
        self.assertTrue(self.client.wire.disconnecting)
        self.assertEqual((self.client.frames(), self.factory.metrics.malformed), ([], 1))
        self.assertEqual(len(self.other.answer().groups), MANY)

    def test_a_client_that_goes_away_leaves_nothing(self) -> None:
        for turns in (0, 3, 100):
            gone, waiting = Client(self.factory), Client(self.factory)
            gone.send([name * 20 for name in NAMES])
            waiting.send(NAMES)
            self.take(turns)
            gone.protocol.connectionLost()
            waiting.protocol.connectionLost()
            self.idle()
        self.client.send(NAMES)
        self.until(self.client)

    def test_a_refusal_is_made_in_slices(self) -> None:
        self.client.send(["refuse", *NAMES])
        self.assertGreater(self.until(self.client), MANY / STEPS_A_SLICE)
        self.assertEqual({group.error_code for group in self.client.answer().groups}, {ErrorCode.REBALANCE_IN_PROGRESS})
        self.client.send(["refuse"])
        self.assertEqual(self.client.answer(1).groups[0].error_code, ErrorCode.REBALANCE_IN_PROGRESS)
        self.idle()

    def test_a_defect_on_the_way_is_answered_and_logged(self) -> None:
        self.client.send(["break", *NAMES])
        self.until(self.client)
        self.assertEqual({group.error_code for group in self.client.answer().groups}, {ErrorCode.UNKNOWN_SERVER_ERROR})
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.idle()

    def test_a_handler_can_close(self) -> None:
        self.client.send(["close", *NAMES])
        self.take(100)
        self.assertTrue(self.client.wire.disconnecting)
        self.assertEqual(self.client.frames(), [])

    def test_an_answer_of_many_elements_is_encoded_in_slices(self) -> None:
        self.client.list(1)
        self.client.ping(2)
        self.assertEqual(self.client.frames(), [])
        self.assertGreater(self.until(self.client, 2), MANY / 64 / STEPS_A_SLICE)
        frame = self.client.frames()[0]
        groups = ListGroupsResponse.decode(frame, 0, response_body(frame, ListGroupsResponse, 0)[1])[0].groups
        self.assertEqual([group.group_id for group in groups], [str(n) for n in range(MANY)])
        self.assertEqual(self.client.answered(), [1, 2])
        self.idle()

    def test_a_quota_counts_the_work_of_all_slices(self) -> None:
        worked: dict[Any, dict[str, float]] = {(("client-id", "c"),): {"request_percentage": 1e-9}}
        throttles = Throttles(lambda: worked, self.clock.seconds, window_ms=5000)
        throttles.refresh()
        self.client.protocol._throttles = throttles
        self.client.protocol._many_elements = ManyElementRequests(self.turns.slices, Ticking())
        self.client.send(NAMES)
        self.until(self.client)
        self.assertEqual(self.client.answer().throttle_time_ms, 5000)
