"""One connection to one broker: pipelined requests, answers in order.

`Connection` is a Twisted protocol. A request is written at once and its Deferred put at the end of a queue; a broker
answers in the order of the requests, so each response belongs to the queue's head, and a correlation id that says otherwise
ends the connection. Before the first request, `handshake` asks for the broker's API versions; `request` then uses the
highest version that both sides speak.

Cancelling a request's Deferred leaves its place in the queue, so that the late response is dropped. A request that times out
takes the connection with it, as everything behind it would wait as well.

Sources: KIP-511 (ApiVersions fallback), the Kafka protocol guide.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, fail
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint, ITransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from chronik.client.errors import (
    BadResponse,
    ClientError,
    ConnectionClosed,
    RequestTimedOut,
    Unreachable,
    UnsupportedApi,
)
from chronik.errors import ErrorCode, KafkaError
from chronik.wire import frames
from chronik.wire.apis import ApiKey, message_classes
from chronik.wire.codec import MalformedMessage, Request, Response

CLIENT_ID = "chronik-client"
MAX_RESPONSE_BYTES = 256 * 1024 * 1024


class _Waiting:
    """One request on its way: what decodes its response, who waits for it, and the clock that ends the wait."""

    __slots__ = ("correlation_id", "deferred", "response", "timer", "version")

    def __init__(self, correlation_id: int, response: type[Response], version: int) -> None:
        self.correlation_id = correlation_id
        self.response = response
        self.version = version
        self.deferred: Deferred[Any] | None = None
        self.timer: IDelayedCall | None = None


class Connection(Protocol):
    """A connection to the broker at `address` ("host:port", used in error texts)."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        address: str,
        *,
        client_id: str | None = CLIENT_ID,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
    ) -> None:
        self.address = address
        self.versions: dict[int, tuple[int, int]] = {}
        """API key -> (lowest, highest) version of the broker; empty until `handshake`."""
        self._clock = clock
        self._client_id = client_id
        self._reader = frames.FrameReader(max_response_bytes)
        self._waiting: deque[_Waiting] = deque()
        self._next_correlation_id = 0
        self._closed: ClientError | None = None
        self._on_closed: list[Deferred[None]] = []

    # --- for callers

    @property
    def is_open(self) -> bool:
        """False once the connection has ended, for whatever reason."""
        return self._closed is None and self.transport is not None

    @property
    def requests_in_flight(self) -> int:
        """Requests that were written and not answered yet."""
        return len(self._waiting)

    def version_of(self, request: type[Request], highest: int = 32767) -> int:
        """The version to use for `request`: the highest, at most `highest`, that this client and the broker share.

        Raises UnsupportedApi when there is none.
        """
        name = request.__name__.removesuffix("Request")
        theirs = self.versions.get(request.API_KEY)
        if theirs is None:
            raise UnsupportedApi(f"the broker at {self.address} does not serve {name} (key {request.API_KEY})")
        ours = request.VERSIONS
        version = min(ours.highest, theirs[1], highest)
        if version < max(ours.lowest, theirs[0]):
            raise UnsupportedApi(
                f"the broker at {self.address} serves {name} in versions {theirs[0]}-{theirs[1]}, "
                f"this client speaks {ours.lowest}-{min(ours.highest, highest)}"
            )
        return version

    def request(
        self,
        request: Request,
        *,
        timeout: float | None = 30.0,
        version: int | None = None,
        expects_response: bool = True,
    ) -> Deferred[Any]:
        """Send `request`; the Deferred fires with the decoded Response (None at once when none is expected, acks=0).

        `timeout` is in seconds. Fails with ConnectionClosed, RequestTimedOut, BadResponse or UnsupportedApi. Error codes
        inside the response are the caller's business.
        """
        if self._closed is not None:
            return fail(self._closed)
        try:
            if version is None:
                version = self.version_of(type(request))
            response = message_classes(ApiKey(request.API_KEY))[1]
            correlation_id = self._next_correlation_id
            chunks = frames.encode_request(request, version, correlation_id, self._client_id)
        except (ClientError, KafkaError, ValueError):
            return fail()
        self._next_correlation_id = correlation_id + 1 & 0x7FFFFFFF
        cast(ITransport, self.transport).write(b"".join(chunks))
        if not expects_response:
            done: Deferred[Any] = Deferred()
            done.callback(None)
            return done
        waiting = _Waiting(correlation_id, response, version)
        self._waiting.append(waiting)
        deferred: Deferred[Any] = Deferred(lambda _: self._abandon(waiting))
        waiting.deferred = deferred
        if timeout is not None:
            waiting.timer = self._clock.callLater(timeout, self._time_out, waiting, timeout)
        return deferred

    async def handshake(self, timeout: float | None = 10.0) -> None:
        """Learn the broker's API versions. A broker that knows only older ApiVersions versions is asked again in its own.

        Raises UnsupportedApi when the broker answers none of them, and what `request` raises.
        """
        request_class, _ = message_classes(ApiKey.API_VERSIONS)
        version = request_class.VERSIONS.highest
        while True:
            request = _api_versions_request(request_class, version)
            response = await self.request(request, timeout=timeout, version=version)
            ranges = {api.api_key: (api.min_version, api.max_version) for api in response.api_keys}
            if response.error_code == ErrorCode.NONE:
                self.versions = ranges
                return
            if response.error_code != ErrorCode.UNSUPPORTED_VERSION or version == 0:
                reason = KafkaError(ErrorCode(response.error_code))
                raise UnsupportedApi(f"the broker at {self.address} refuses ApiVersions version {version}: {reason}")
            version = min(version - 1, ranges.get(ApiKey.API_VERSIONS, (0, 0))[1])

    def close(self) -> None:
        """End the connection. Requests that still wait fail with ConnectionClosed."""
        self._end(ConnectionClosed(f"the connection to {self.address} was closed by this client"))

    def when_closed(self) -> Deferred[None]:
        """Fires when the connection has ended."""
        done: Deferred[None] = Deferred()
        if self._closed is not None:
            done.callback(None)
        else:
            self._on_closed.append(done)
        return done

    # --- Twisted's hooks

    def connectionMade(self) -> None:
        """Answers and requests are small or large, never worth delaying for one another."""
        set_no_delay = getattr(self.transport, "setTcpNoDelay", None)
        if set_no_delay is not None:
            set_no_delay(True)

    def dataReceived(self, data: bytes) -> None:
        """Cut `data` into frames and hand each to the request that waits for it."""
        try:
            for frame in self._reader.feed(data):
                self._answer(frame)
                if self._closed is not None:
                    return
        except MalformedMessage as problem:
            self._end(BadResponse(f"the peer at {self.address} does not answer as a Kafka broker: {problem.message}"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fail all that wait: nobody will answer them any more."""
        why = (
            "the broker closed it" if isinstance(reason.value, ConnectionDone) else reason.getErrorMessage().rstrip(".")
        )
        self._finish(ConnectionClosed(f"the connection to {self.address} was lost: {why}"))

    # --- inside

    def _answer(self, frame: bytes) -> None:
        if not self._waiting:
            raise MalformedMessage(f"a response of {len(frame)} bytes came unasked")
        waiting = self._waiting[0]
        version = waiting.version
        correlation_id, position = frames.response_body(frame, waiting.response, version)
        if correlation_id != waiting.correlation_id:
            raise MalformedMessage(f"response {correlation_id} came where {waiting.correlation_id} was due")
        self._waiting.popleft()
        if waiting.timer is not None:
            waiting.timer.cancel()
        deferred = waiting.deferred
        if deferred is None:
            return
        if waiting.response.API_KEY == ApiKey.API_VERSIONS and frame[4:6] == _UNSUPPORTED_VERSION:
            waiting.deferred = None
            deferred.callback(_read_refusal(waiting.response, frame, position))
            return
        try:
            response, end = waiting.response.decode(frame, version, position)
            if end != len(frame):
                raise MalformedMessage(f"{len(frame) - end} bytes are left over")
        except MalformedMessage as problem:
            name = waiting.response.__name__
            error = BadResponse(f"the {name} version {version} from {self.address} cannot be read: {problem.message}")
            waiting.deferred = None
            deferred.errback(error)
            self._end(error)
            return
        waiting.deferred = None
        deferred.callback(response)

    def _abandon(self, waiting: _Waiting) -> None:
        """The caller cancelled: the response, when it comes, has nobody to go to."""
        deferred, waiting.deferred = waiting.deferred, None
        if deferred is not None:
            deferred.errback(CancelledError())

    def _time_out(self, waiting: _Waiting, timeout: float) -> None:
        waiting.timer = None
        name = waiting.response.__name__.removesuffix("Response")
        error = RequestTimedOut(f"the broker at {self.address} did not answer {name} within {timeout:g} s")
        deferred, waiting.deferred = waiting.deferred, None
        self._end(error)
        if deferred is not None:
            deferred.errback(error)

    def _end(self, error: ClientError) -> None:
        if self._closed is not None:
            return
        self._finish(error)
        if self.transport is not None:
            abort = getattr(self.transport, "abortConnection", self.transport.loseConnection)
            abort()

    def _finish(self, error: ClientError) -> None:
        if self._closed is not None:
            return
        self._closed = error
        waiting, self._waiting = self._waiting, deque()
        for one in waiting:
            if one.timer is not None:
                one.timer.cancel()
            deferred, one.deferred = one.deferred, None
            if deferred is not None:
                deferred.errback(error)
        listeners, self._on_closed = self._on_closed, []
        for listener in listeners:
            listener.callback(None)


_UNSUPPORTED_VERSION = int(ErrorCode.UNSUPPORTED_VERSION).to_bytes(2, "big")


def _read_refusal(response: type[Response], frame: bytes, position: int) -> Response:
    """An ApiVersions refusal. Whatever version was asked, it comes in version 0 (KIP-511), with the versions of ApiVersions
    itself or, from older brokers, without; some write neither form right, and it is a refusal all the same."""
    try:
        return response.decode(frame, 0, position)[0]
    except MalformedMessage:
        return response(error_code=int(ErrorCode.UNSUPPORTED_VERSION))


def _api_versions_request(request_class: type[Request], version: int) -> Request:
    if version < 3:
        return request_class()
    return request_class(client_software_name="chronik-client", client_software_version=_software_version())


def _software_version() -> str:
    import chronik

    return str(getattr(chronik, "__version__", "0.1.0"))


async def connect(
    endpoint: IStreamClientEndpoint,
    clock: IReactorTime,
    address: str,
    *,
    client_id: str | None = CLIENT_ID,
    max_response_bytes: int = MAX_RESPONSE_BYTES,
    timeout: float = 10.0,
    build: Callable[..., Connection] = Connection,
) -> Connection:
    """Connect through `endpoint` and shake hands; the Connection is ready for requests. `timeout` (s) holds for each step.

    Raises Unreachable naming `address` and the reason, or what `Connection.handshake` raises.
    """
    connection = build(clock, address, client_id=client_id, max_response_bytes=max_response_bytes)
    attempt = endpoint.connect(Factory.forProtocol(lambda: connection))
    attempt.addTimeout(timeout, clock)
    try:
        await attempt
    except CancelledError:
        raise
    except TimeoutError:
        raise Unreachable(f"no broker answers at {address}: no connection within {timeout:g} s") from None
    except Exception as problem:
        raise Unreachable(f"no broker answers at {address}: {_reason(problem)}") from problem
    try:
        await connection.handshake(timeout)
    except BaseException:
        connection.close()
        raise
    return connection


def _reason(problem: Exception) -> str:
    """The operating system's words for a failed connect, without Twisted's class docstring before them."""
    text = getattr(problem, "osError", None)
    number = getattr(text, "strerror", None)
    if isinstance(number, str):
        return number.lower()
    message = str(problem).rstrip(".")
    return message.rpartition(": ")[2].lower() if ": " in message else message.lower() or type(problem).__name__
