"""A cluster seen from a client: finds brokers, leaders and coordinators, and keeps one connection for each.

`ClusterClient` starts from a bootstrap list, learns the brokers from Metadata, and opens a connection to a node when a
request first needs it. A node has one connection per *lane*: a broker answers in order, so a fetch that waits for data, or a
join that waits for the group, must not stand before other requests.

Nothing is retried unless the caller asks: `retrying` repeats an attempt with growing pauses until a deadline.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, NamedTuple, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import deferLater

from chronik.client.connection import CLIENT_ID, MAX_RESPONSE_BYTES, Connection, connect
from chronik.client.errors import ClientError, ConnectionClosed, RequestTimedOut, Unreachable, check
from chronik.client.metadata import Metadata
from chronik.errors import ConfigError, ErrorCode, KafkaError
from chronik.wire.codec import Request
from chronik.wire.messages.find_coordinator import FindCoordinatorRequest
from chronik.wire.messages.metadata import MetadataRequest, MetadataRequestTopic

DEFAULT_PORT = 9092
GROUP_COORDINATOR, TRANSACTION_COORDINATOR = 0, 1

COORDINATOR_MOVED = frozenset(
    {ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS}
)
"""Codes after which a group's coordinator is looked up again."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0

_T = TypeVar("_T")


EndpointFactory = Callable[[str, int], IStreamClientEndpoint]


class Address(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_bootstrap(servers: str | Iterable[str]) -> list[Address]:
    """The addresses in "host:port,host,[v6]:port"; the port defaults to 9092. Raises ConfigError for anything else."""
    items = servers.split(",") if isinstance(servers, str) else list(servers)
    addresses = []
    for item in items:
        text = item.strip()
        if not text:
            continue
        host, colon, port = text.rpartition(":")
        if not colon or (text.count(":") > 1 and not host.startswith("[")) or text.endswith("]"):
            host, port = text, str(DEFAULT_PORT)
        host = host.removeprefix("[").removesuffix("]")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ConfigError(f"bootstrap server {item!r} is not host:port, as in 127.0.0.1:9092")
        addresses.append(Address(host, int(port)))
    if not addresses:
        raise ConfigError("the bootstrap server list is empty; give one as host:port")
    return addresses


class _Link:
    """The connection to one address on one lane, made once for all who ask at the same time, and again after it broke."""

    def __init__(self, open_connection: Callable[[], Deferred[Connection]]) -> None:
        self._open = open_connection
        self._attempt: Deferred[Connection] | None = None
        self._waiters: list[Deferred[Connection]] = []
        self.connection: Connection | None = None

    @property
    def is_open(self) -> bool:
        return self.connection is not None and self.connection.is_open

    def get(self) -> Deferred[Connection]:
        """The connection; fails as `connect` does. Cancelling ends the wait of this caller only."""
        waiter: Deferred[Connection] = Deferred(self._forget)
        if self.connection is not None and self.connection.is_open:
            waiter.callback(self.connection)
            return waiter
        self._waiters.append(waiter)
        if self._attempt is None:
            self._attempt = attempt = self._open()
            attempt.addCallbacks(self._opened, self._failed)
        return waiter

    def close(self) -> None:
        if self._attempt is not None:
            self._attempt.cancel()
        if self.connection is not None:
            self.connection.close()

    def _forget(self, waiter: Deferred[Connection]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def _opened(self, connection: Connection) -> None:
        self._attempt, self.connection = None, connection
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(connection)

    def _failed(self, failure: Any) -> None:
        self._attempt = None
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.errback(failure)


class ClusterClient:
    """The brokers of one cluster.

    `bootstrap` is "host:port,host:port"; `reactor` gives time and TCP; `endpoint_factory(host, port)` may replace the TCP
    endpoints (TLS, tests). Times are in seconds. `close` ends all connections.
    """

    def __init__(
        self,
        reactor: Any,
        bootstrap: str | Iterable[str],
        *,
        client_id: str | None = CLIENT_ID,
        request_timeout: float = 30.0,
        connect_timeout: float = 10.0,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        endpoint_factory: EndpointFactory | None = None,
    ) -> None:
        self.reactor = reactor
        self.metadata = Metadata()
        self.request_timeout = request_timeout
        self._bootstrap = parse_bootstrap(bootstrap)
        self._client_id = client_id
        self._connect_timeout = connect_timeout
        self._max_response_bytes = max_response_bytes
        self._endpoint = endpoint_factory or (lambda host, port: HostnameEndpoint(reactor, host, port))
        self._links: dict[tuple[Address, str], _Link] = {}
        self._coordinators: dict[tuple[int, str], int] = {}
        self._closed = False

    # --- connections

    async def connection(self, node_id: int, lane: str = "") -> Connection:
        """The connection to a broker on one lane, opened when need be. Raises KafkaError(BROKER_NOT_AVAILABLE) for an
        unknown node, or what `connect` raises."""
        broker = self.metadata.brokers.get(node_id)
        if broker is None:
            raise KafkaError(ErrorCode.BROKER_NOT_AVAILABLE, f"no broker {node_id} is known in the cluster")
        return await self._link(Address(broker.host, broker.port), lane).get()

    async def any_connection(self) -> Connection:
        """A connection to any broker: one that stands, else the first that can be made. Raises Unreachable naming all."""
        known = [Address(b.host, b.port) for b in self.metadata.brokers.values()]
        candidates = list(dict.fromkeys([*known, *self._bootstrap]))
        for address in candidates:
            link = self._links.get((address, ""))
            if link is not None and link.is_open:
                return await link.get()
        problems: list[ClientError] = []
        for address in candidates:
            try:
                return await self._link(address, "").get()
            except ClientError as problem:
                problems.append(problem)
        if len(problems) == 1:
            raise problems[0]
        raise Unreachable("; ".join(map(str, problems)))

    def _link(self, address: Address, lane: str) -> _Link:
        if self._closed:
            raise ConnectionClosed("this cluster client is closed")
        link = self._links.get((address, lane))
        if link is None:
            link = self._links[address, lane] = _Link(lambda: Deferred.fromCoroutine(self._open(address)))
        return link

    async def _open(self, address: Address) -> Connection:
        return await connect(
            self._endpoint(*address),
            self.reactor,
            str(address),
            client_id=self._client_id,
            max_response_bytes=self._max_response_bytes,
            timeout=self._connect_timeout,
        )

    def close(self) -> None:
        """End all connections; what still waits fails with ConnectionClosed."""
        self._closed = True
        links, self._links = self._links, {}
        for link in links.values():
            link.close()

    # --- requests

    async def send(
        self, node_id: int, request: Request, *, lane: str = "", timeout: float | None = None, highest: int = 32767
    ) -> Any:
        """The response of one broker to `request`, in the highest common version up to `highest`. `timeout` in seconds."""
        connection = await self.connection(node_id, lane)
        version = connection.version_of(type(request), highest)
        return await connection.request(request, version=version, timeout=timeout or self.request_timeout)

    async def send_to_any(self, request: Request, *, timeout: float | None = None) -> Any:
        """The response of whichever broker is reached first."""
        connection = await self.any_connection()
        return await connection.request(request, timeout=timeout or self.request_timeout)

    async def send_to_controller(self, request: Request, *, timeout: float | None = None) -> Any:
        """The response of the broker that takes changes of cluster metadata."""
        if self.metadata.controller_id not in self.metadata.brokers:
            await self.refresh(())
        if self.metadata.controller_id not in self.metadata.brokers:
            return await self.send_to_any(request, timeout=timeout)
        return await self.send(self.metadata.controller_id, request, timeout=timeout)

    async def send_to_coordinator(
        self,
        group: str,
        request: Request,
        error_of: Callable[[Any], int],
        *,
        lane: str = "",
        timeout: float | None = None,
        retry_for: float | None = None,
        key_type: int = GROUP_COORDINATOR,
    ) -> Any:
        """The response of the coordinator of `group`. While `error_of(response)` says that it moved or loads, it is looked
        up again and asked again, for `retry_for` seconds (the request timeout by default); then KafkaError is raised. Other
        codes are left in the response."""

        async def attempt() -> Any:
            node_id = await self.coordinator(group, key_type)
            try:
                response = await self.send(node_id, request, lane=lane, timeout=timeout)
            except (ConnectionClosed, Unreachable, RequestTimedOut):
                self.forget_coordinator(group, key_type)
                raise
            code = error_of(response)
            if code in COORDINATOR_MOVED:
                self.forget_coordinator(group, key_type)
                check(code, f"the coordinator of group {group!r} (broker {node_id}) is not ready")
            return response

        return await self.retrying(attempt, COORDINATOR_MOVED, retry_for)

    async def coordinator(self, key: str, key_type: int = GROUP_COORDINATOR) -> int:
        """The node id of the coordinator of a group (or transactional id), from the cache or asked once.

        Raises KafkaError(COORDINATOR_NOT_AVAILABLE) and the like: `retrying` is for the caller.
        """
        known = self._coordinators.get((key_type, key))
        if known is not None:
            return known
        connection = await self.any_connection()
        version = connection.version_of(FindCoordinatorRequest)
        if version >= 4:
            request = FindCoordinatorRequest(coordinator_keys=[key], key_type=key_type)
        else:
            request = FindCoordinatorRequest(key=key, key_type=key_type)
        response = await connection.request(request, version=version, timeout=self.request_timeout)
        answer = response.coordinators[0] if version >= 4 else response
        check(answer.error_code, answer.error_message or f"the coordinator of {key!r}")
        if answer.node_id not in self.metadata.brokers:
            await self.refresh(())
        self._coordinators[key_type, key] = int(answer.node_id)
        return int(answer.node_id)

    def forget_coordinator(self, key: str, key_type: int = GROUP_COORDINATOR) -> None:
        """Look the coordinator up again at the next request."""
        self._coordinators.pop((key_type, key), None)

    async def refresh(self, topics: Collection[str] | None = None, *, create: bool = False) -> Metadata:
        """Ask for the brokers and for `topics` (None: all of them; empty: none), and return the updated cache.

        With `create`, unknown topics are created where the cluster does that.
        """
        connection = await self.any_connection()
        version = connection.version_of(MetadataRequest)
        wanted = None if topics is None else [MetadataRequestTopic(name=name) for name in topics]
        request = MetadataRequest(topics=wanted)
        if version >= 4:
            request.allow_auto_topic_creation = create
        response = await connection.request(request, version=version, timeout=self.request_timeout)
        check(response.error_code, "Metadata")
        self.metadata.update(response, all_topics=topics is None)
        return self.metadata

    async def topics(self, names: Collection[str]) -> Metadata:
        """The cache, after asking for those of `names` that it lacks. Raises KafkaError for one that does not exist."""
        missing = [name for name in names if name not in self.metadata.topics]
        if missing:
            await self.refresh(missing)
        for name in names:
            self.metadata.topic(name)
        return self.metadata

    # --- patience

    async def pause(self, seconds: float) -> None:
        """Return after `seconds`."""
        await deferLater(self.reactor, seconds)

    async def retrying(
        self,
        attempt: Callable[[], Awaitable[_T]],
        codes: Collection[ErrorCode],
        timeout: float | None = None,
    ) -> _T:
        """The result of `attempt`, repeated while it fails with one of `codes` or for want of a connection.

        Pauses grow from 50 ms to 1 s. After `timeout` seconds (the request timeout by default) the last failure is raised.
        """
        deadline = self.reactor.seconds() + (self.request_timeout if timeout is None else timeout)
        pause = _FIRST_PAUSE
        while True:
            try:
                return await attempt()
            except (ConnectionClosed, Unreachable) as problem:
                last: Exception = problem
            except KafkaError as problem:
                if problem.code not in codes:
                    raise
                last = problem
            if self._closed or self.reactor.seconds() + pause > deadline:
                raise last
            await self.pause(pause * (0.8 + 0.4 * random.random()))
            pause = min(pause * 2, _LONGEST_PAUSE)
