"""Who asks, how and when: what a handler may know about the request beside its body."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred


@dataclass(slots=True)
class Software:
    """The client's library and its version, as it tells them with ApiVersions (KIP-511); empty until then, or for ever."""

    name: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Peer:
    """One client connection, as handlers see it. `local` is the address that the client dialled: (host, port)."""

    listener: str
    client_host: str
    local: tuple[str, int]
    principal: str = "User:ANONYMOUS"
    connection_id: int = 0
    software: Software = field(default_factory=Software)


class RequestContext:
    """The circumstances of one request. Cheap to make: one is made for every request."""

    __slots__ = ("_received_ms", "api_version", "client_id", "peer", "received")

    def __init__(
        self, peer: Peer, api_version: int, client_id: str | None, received_ms: int = 0, received: float = 0.0
    ) -> None:
        self.peer = peer
        self.api_version = api_version
        self.client_id = client_id
        self._received_ms = received_ms
        self.received = received  # seconds on the monotonic clock, for latencies

    def now_ms(self) -> int:
        """Wall-clock time of the read that brought the request, in ms since 1970."""
        return self._received_ms

    def dialable(self, host: str) -> str:
        """An endpoint's `host` as this client shall dial it: a listener on every interface has none of its own."""
        return host or self.peer.local[0]

    @property
    def listener(self) -> str:
        """Name of the listener that the client dialled."""
        return self.peer.listener

    @property
    def client_host(self) -> str:
        """The client's address, as text."""
        return self.peer.client_host

    @property
    def principal(self) -> str:
        """Who the client is, in Kafka's form `User:name`."""
        return self.peer.principal


class HoldingUp(Deferred[Any]):
    """An answer to come, of a pipelined API, behind which its connection takes no further request all the same.

    For when what the request brought is still held, and not only its answer.
    """


class CloseConnection(Exception):
    """Raised by a handler to end the connection without an answer, where Kafka does so. The text says why."""
