"""The Kafka listener: the factory of its connections, with what they share, their limits, and the end of those that hinder.

`connection.KafkaProtocol` is one connection.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from chronik.listeners.connection import KafkaProtocol
from chronik.listeners.dispatch import ApiTable
from chronik.listeners.many import ManyElementRequests
from chronik.listeners.receiver import BufferPool
from chronik.listeners.throttling import RefusedLater, Throttles
from chronik.telemetry.requests import RequestMetrics


class KafkaFactory(Factory):
    """What all connections of one listener share. `disconnected` hears of each that is gone, by listener and number."""

    log = Logger()

    def __init__(
        self,
        name: str,
        table: ApiTable,
        pool: BufferPool,
        metrics: RequestMetrics,
        reactor: Any,
        *,
        max_request_bytes: int,
        max_connections: int,
        max_connections_per_ip: int,
        max_idle_ms: int,
        wall_clock_ms: Callable[[], int],
        throttles: Throttles,
        many_elements: ManyElementRequests,
        disconnected: Callable[[tuple[str, int]], object] = lambda connection: None,
    ) -> None:
        self.name = name
        self.table = table
        self.pool = pool
        self.metrics = metrics
        self.reactor = reactor
        self.max_request_bytes = max_request_bytes
        self.wall_clock_ms = wall_clock_ms
        self.throttles = throttles
        self.many_elements = many_elements
        self._disconnected = disconnected
        self.connections: set[KafkaProtocol] = set()
        self._max_connections = max_connections
        self._max_per_ip = max_connections_per_ip
        self._max_idle_seconds = max_idle_ms / 1000
        self._per_ip: Counter[str] = Counter()
        self._next_id = 0
        self._refused_later = 0

    def buildProtocol(self, addr: IAddress | None) -> KafkaProtocol | RefusedLater | None:
        """A protocol for a new connection; None, which closes it, above the connection limits.

        One that its address opens above its rate is kept unserved for a while, and then cut.
        """
        host = str(getattr(addr, "host", ""))
        if (
            len(self.connections) + self._refused_later >= self._max_connections
            or self._per_ip[host] >= self._max_per_ip
        ):
            self.metrics.connections_refused += 1
            self.log.warn(
                "listener {name}: connection from {host} refused, {open} are open ({here} from there)",
                name=self.name,
                host=host,
                open=len(self.connections),
                here=self._per_ip[host],
            )
            return None
        pause_ms = self.throttles.connected(host) if self.throttles.limits_connections else 0
        if pause_ms:
            self.metrics.connections_refused += 1
            return RefusedLater(self.reactor, pause_ms, partial(self._count_refused, host))
        self._next_id += 1
        protocol = KafkaProtocol(self, host, self._next_id)
        protocol.factory = self
        return protocol

    def _count_refused(self, host: str, change: int) -> None:
        self._refused_later += change
        self._count(host, change)

    def _count(self, host: str, change: int) -> None:
        self._per_ip[host] += change
        if not self._per_ip[host]:
            del self._per_ip[host]

    def quotas_changed(self) -> None:
        """There are quotas now, or others: every request is to be measured."""
        for protocol in self.connections:
            protocol.forget_shape()

    def opened(self, protocol: Any) -> None:
        """A connection was made."""
        self.connections.add(protocol)
        self._count(protocol.host, 1)
        self.metrics.connections += 1

    def closed(self, protocol: Any) -> None:
        """A connection was lost."""
        self.connections.discard(protocol)
        self._count(protocol.host, -1)
        self.metrics.connections -= 1
        self._disconnected((self.name, protocol.connection_id))

    def close_idle(self) -> None:
        """Close connections on which nothing went for `max_idle_ms` and nothing is waiting. Called every few seconds.

        While the node's backlog is full, connections are cut that took less than a MiB of theirs since the last call; while
        requests wait for buffers, those whose large request hasn't come in for `GATHERING_SECONDS`.
        """
        limit = time.monotonic() - self._max_idle_seconds
        backlog_is_full = self.pool.answers.full
        for protocol in list(self.connections):
            stalled, gathers_long = protocol.stalls(), protocol.gathers_long()
            if gathers_long and self.pool.is_short:
                self.log.warn(
                    "listener {name}: connection from {host} cut: its large request takes too long while others wait",
                    name=self.name,
                    host=protocol.host,
                )
                protocol.abort()
            elif backlog_is_full and stalled:
                self.log.warn(
                    "listener {name}: connection from {host} cut: it doesn't read its answers, and the node has no room left",
                    name=self.name,
                    host=protocol.host,
                )
                protocol.abort()
            elif protocol.last_used < limit and not protocol.is_waiting:
                self.log.debug(
                    "listener {name}: closing idle connection from {host}", name=self.name, host=protocol.host
                )
                protocol.close()

    def close_all(self) -> None:
        """Close every connection, after what is already answered has been sent."""
        for protocol in list(self.connections):
            protocol.close()

    def abort_all(self) -> None:
        """Cut every connection, and send nothing more: what is answered but unsent may not be true any longer."""
        for protocol in list(self.connections):
            protocol.abort()
