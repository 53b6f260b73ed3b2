"""One connection of the Kafka listener: what a request is, who serves it, what its answer is.

The layer below, `flow.FlowControlled`, brings whole frames and sends the answers in their order. The route of a frame is
looked up by API key and version, header and body are decoded, and the handler answers: at once with a Response, or later
through a coroutine; or in steps, which are taken in slices. Only Produce is taken further while it waits. A request that
repeats the shape of one before it is served by that, and neither decoded nor its answer encoded. What has many elements is
decoded and encoded in slices (`chronik.listeners.many`).

Error walls: bytes that don't parse end the connection; a KafkaError becomes the API's own error response; anything else is
logged with its request and answered as an unknown server error.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import CloseConnection, HoldingUp, RequestContext
from chronik.listeners.dispatch import Route
from chronik.listeners.flow import BY_REQUEST, FlowControlled, Waiting
from chronik.listeners.many import HeldFrame
from chronik.steps import at_once
from chronik.wire.apis import ApiKey
from chronik.wire.codec import Buffer, MalformedMessage, ManyElements, Response
from chronik.wire.frames import encode_response, encode_response_in_steps, read_request_header

if TYPE_CHECKING:
    from chronik.listeners.kafka import KafkaFactory

_unpack_start = struct.Struct(">Iih").unpack_from
_LEARN_EVERY = 32
MAX_STRUCTURED_BYTES = 1024 * 1024
"""The largest request that isn't mostly records: decoded, its fields may take some sixty times its bytes.

Kafka's real ones stay below: a Fetch of 10,000 partitions has some 350 KB, a Metadata of 10,000 names some 300 KB, and what
a group hands out has to fit one record of its offsets topic, a megabyte too.
"""


class KafkaProtocol(FlowControlled):
    """One client connection."""

    log = Logger()

    def __init__(self, factory: KafkaFactory, host: str, connection_id: int) -> None:
        super().__init__(factory, host, connection_id)
        self._route = factory.table.route
        self._throttles = factory.throttles
        self._many_elements = factory.many_elements
        self._slices = factory.many_elements.slices
        self._client_id_bytes = b""  # as in the last header, with its length, and behind it no tags
        self._client_id_and_no_tags = b""
        self._shape: Any = None  # of the requests that are expected to come again, and their route
        self._shape_route: Any = None
        self._unshaped = 0  # how many were decoded that might have had a shape

    def _frame(self, frame: memoryview) -> bool:
        """Serve one request; returns whether the next may be taken."""
        if self._lost:
            return False
        if len(frame) < 10:
            raise MalformedMessage(f"a request of {len(frame)} bytes has no header")
        key_and_version, correlation_id, id_length = _unpack_start(frame, 0)
        shape = self._shape
        if shape is not None and shape.key_and_version == key_and_version:
            shaped = shape.split(frame)
            if shaped is not None:
                return self._serve_shaped(shape, shaped, correlation_id)
        route = self._route(key_and_version)
        if route is None:
            route = self._unroutable(key_and_version)
        measured = self._throttles.active
        began = time.monotonic() if measured else 0.0
        try:
            request, context = self._decode(frame, route, id_length)
        except ManyElements:
            return self._serve_many(frame, route, correlation_id)
        try:
            if not route.served:
                route.check_served()
            answer = route.handler.handle(request, context)
            if route.stepped:
                answer = self._slices.begin(answer)
            elif route.shape is not None and not measured:
                self._learn(frame, route, request)
        except KafkaError as error:
            answer = self._refusal(route, request, error)
        except CloseConnection:
            raise
        except Exception:
            answer = self._refusal(route, request, Failure())
        if measured:
            return self._measured(answer, route, request, correlation_id, context, began, len(frame))
        return self._answer(answer, route, request, correlation_id, context if route.sets_pauses else None)

    def forget_shape(self) -> None:
        """Decode every request from now on: there are quotas to measure it by."""
        self._shape = self._shape_route = None

    def _serve_shaped(self, shape: Any, shaped: tuple[int, memoryview], correlation_id: int) -> bool:
        """Serve a request that has the shape of one before it."""
        route = self._shape_route
        try:
            answer = route.handler.handle_shaped(shape, *shaped, correlation_id, self._now_ms, self.last_read)
        except CloseConnection:
            raise
        except Exception:
            answer = self._refusal(route, shape.request(*shaped), Failure())
        if type(answer) is not bytes:
            return self._answer(answer, route, shape.request(*shaped), correlation_id)
        self._metrics.answered(route.api_key, self.last_read)
        return self._deliver([answer])

    def _measured(
        self,
        answer: Any,
        route: Route,
        request: Any,
        correlation_id: int,
        context: RequestContext,
        began: float,
        size: int,
    ) -> bool:
        """As `_answer`, while there are quotas: note what the request cost, and how long the client has to pause for it."""
        pause_ms = self._earned(route, context, time.monotonic() - began, size)
        if answer is None or isinstance(answer, Response):
            pause_ms = self._throttle(answer, pause_ms)
        return self._answer(answer, route, request, correlation_id, context, pause_ms)

    def _earned(self, route: Route, context: RequestContext, seconds: float, size: int) -> int:
        """The pause in ms that a request of `size` bytes earns its client, for which the reactor worked so long."""
        pause_ms = self._throttles.worked(context, seconds)
        if route.api_key == ApiKey.PRODUCE:
            pause_ms = max(pause_ms, self._throttles.produced(context, size))
        return pause_ms

    def _throttle(self, answer: Any, pause_ms: int) -> int:
        """Say in `answer` how long the client shall pause, and see to it that it does."""
        if answer is not None and hasattr(answer, "throttle_time_ms"):
            answer.throttle_time_ms = pause_ms = max(answer.throttle_time_ms, pause_ms)
        if pause_ms and not self._lost:
            self._mute(pause_ms)
        return pause_ms

    def _answer(
        self,
        answer: Any,
        route: Route,
        request: Any,
        correlation_id: int,
        context: RequestContext | None = None,
        pause_ms: int = 0,
    ) -> bool:
        """Take what a handler returned: a response, what will give one, or None for no answer at all.

        `context` is given where there may be quotas, with the pause in ms that the client has earned so far.
        """
        if isinstance(answer, Response):
            self._metrics.answered(route.api_key, self.last_read)
            try:
                chunks = encode_response(answer, route.version, correlation_id)
            except ManyElements:
                self._encode_later(answer, route, correlation_id)
                return self._may_go_on()
            except Exception:
                self._answer_failed(Failure())
                return False
            return self._deliver(chunks)
        if answer is not None:
            self._wait_for(answer, route, request, correlation_id, context, pause_ms)
        else:
            self._metrics.answered(route.api_key, self.last_read)
        return self._may_go_on()

    def _decode(self, frame: memoryview, route: Route, id_length: int) -> tuple[Any, RequestContext]:
        """The request in `frame`, whose client id has `id_length` bytes, and its circumstances."""
        body = 10 + id_length + route.flexible
        client_id = self._client_id
        if id_length < 0 or frame[8:body] != (self._client_id_and_no_tags if route.flexible else self._client_id_bytes):
            header = read_request_header(frame, route.flexible)
            body, client_id = header.body, header.client_id
            self._client_id = client_id
            self._client_id_bytes = bytes(frame[8 : 10 + id_length]) if id_length >= 0 else b"\xff\xff"
            self._client_id_and_no_tags = self._client_id_bytes + b"\0"
        if len(frame) > MAX_STRUCTURED_BYTES and route.api_key != ApiKey.PRODUCE:
            raise MalformedMessage(f"a {route.api_key.name} request of {len(frame)} bytes is too large")
        request, _ = route.decode(frame, body)
        return request, RequestContext(self._peer, route.version, client_id, self._now_ms, self.last_read)

    def _learn(self, frame: memoryview, route: Route, request: Any) -> None:
        """Take the shape of `request` for that of the next ones, now and then: there may be several in turn."""
        if not self._unshaped % _LEARN_EVERY:
            self._shape, self._shape_route = route.shape(frame, route.version, request), route
        self._unshaped += 1

    def _unroutable(self, key_and_version: int) -> Route:
        """ApiVersions of an unknown version is answered in version 0 (KIP-511); anything else ends the connection."""
        key, version = key_and_version >> 16, key_and_version & 0xFFFF
        if key == ApiKey.API_VERSIONS:
            route = self._route(ApiKey.API_VERSIONS << 16)
            if route is not None:
                # The body's form is unknown, so nothing of it is read; `served=False` makes the handler refuse.
                return route._replace(decode=_nothing, served=False)
        raise MalformedMessage(f"API {key} version {version} is not served here")

    def _serve_many(self, frame: memoryview, route: Route, correlation_id: int) -> bool:
        """Serve a request that has too many elements to be decoded at once."""
        header = read_request_header(frame, route.flexible)
        context = RequestContext(self._peer, route.version, header.client_id, self._now_ms, self.last_read)
        held = HeldFrame(*self._receiver.hold_frame(frame), header.body)
        coming = Deferred.fromCoroutine(self._many(held, route, context))
        answer = HoldingUp(lambda _: coming.cancel())
        coming.chainDeferred(answer)
        self._wait_for(answer, route, None, correlation_id, None, 0, many=True)
        return self._may_go_on()

    async def _many(self, held: HeldFrame, route: Route, context: RequestContext) -> Any:
        size = len(held.frame)
        try:
            answer, seconds = await self._many_elements.serve(held, route, context, partial(self._fault, route))
        except MalformedMessage as problem:
            self._end_malformed(problem)
            raise CancelledError from None  # there is nobody left to be answered
        if self._throttles.active:
            self._throttle(answer, self._earned(route, context, seconds, size))
        elif route.sets_pauses:
            self._throttle(answer, 0)
        return answer

    def _wait_for(
        self,
        answer: Any,
        route: Route,
        request: Any,
        correlation_id: int,
        context: RequestContext | None,
        pause_ms: int,
        many: bool = False,
    ) -> None:
        """Hold this request's place in the order until its coroutine or Deferred has the response."""
        deferred = answer if isinstance(answer, Deferred) else Deferred.fromCoroutine(answer)
        started = self.last_read

        def answered(result: Any) -> Any:
            if isinstance(result, Failure):
                if self._lost and result.check(CancelledError):
                    return None
                if isinstance(result.value, CloseConnection):
                    self.log.info("connection from {host} closed: {reason}", host=self.host, reason=result.value)
                    self._end()
                    return None
                result = self._refusal(route, request, result)
            self._metrics.answered(route.api_key, started)
            if context is not None:
                self._throttle(result, pause_ms)
            if self._lost or result is None:
                return []
            if not many:
                with suppress(ManyElements):
                    return encode_response(result, route.version, correlation_id)
            return self._slices.finish(encode_response_in_steps(result, route.version, correlation_id))

        self._send_when(deferred, not route.pipelined or isinstance(answer, HoldingUp), answered)

    def _encode_later(self, response: Response, route: Route, correlation_id: int) -> None:
        """Hold the request's place in the order until its response, which has many elements, is encoded."""
        steps = encode_response_in_steps(response, route.version, correlation_id)
        self._send_when(self._slices.finish(steps), True, _itself)

    def _send_when(self, deferred: Deferred[Any], blocks: bool, encoded: Callable[[Any], Any]) -> None:
        """Send in its turn what `encoded` makes of the outcome of `deferred`: buffers, or a Deferred of them.

        With `blocks`, no other request is taken meanwhile.
        """
        entry = Waiting()
        self._waiting.append(entry)
        entry.deferred = deferred
        if blocks:
            self._blocked |= BY_REQUEST

        def send(chunks: list[Buffer] | None) -> None:
            if blocks:
                self._blocked &= ~BY_REQUEST
            if not (self._lost or chunks is None):
                self._hold(entry.finish(chunks))
                self._release()

        deferred.addBoth(encoded).addCallback(send).addErrback(self._answer_failed)

    def _answer_failed(self, failure: Failure) -> None:
        """A response that cannot be encoded would leave its client waiting for ever: close, and say why."""
        if self._lost and failure.check(CancelledError):
            return
        self.log.failure("connection from {host} closed: response not encoded", failure, host=self.host)
        self._end()

    def _refusal(self, route: Route, request: Any, problem: KafkaError | Failure) -> Any:
        """The API's own form of what went wrong."""
        refusal = route.handler.refuse(request, route.version, self._fault(route, problem))
        return at_once(refusal) if isinstance(refusal, Generator) else refusal

    def _fault(self, route: Route, problem: KafkaError | Failure) -> KafkaError:
        """What a client is told: a refusal, which is counted, or that there is a defect of ours, which is logged."""
        error = problem.value if isinstance(problem, Failure) else problem
        if isinstance(error, KafkaError):
            self._metrics.refused(route.api_key, error.code)
            return error
        assert isinstance(problem, Failure)
        self.log.failure(
            "{api} version {version} from {host} (client {client}) failed",
            problem,
            api=route.api_key.name,
            version=route.version,
            host=self.host,
            client=self._client_id,
        )
        self._metrics.defects += 1
        return KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, "the node met an unexpected error; its log has the details")


def _itself(result: Any) -> Any:
    return result


def _nothing(frame: memoryview, body: int) -> tuple[None, int]:
    return None, body
