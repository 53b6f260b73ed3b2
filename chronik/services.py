"""A node, from a `Config` to running services: what starts and stops, in which order, and the listeners.

The parts are made and handed to each other in `chronik.assembly`; the two modules are the only wiring.

Start: the data directory is taken, the metadata log replayed, the Kafka ports bound (but not served yet), the broker
registered with its addresses, the partitions opened, the groups loaded; then the listeners answer. Stop goes the other way,
so nothing is served that isn't there, and the mark of a clean shutdown is written last.

A start that fails undoes what was done and tells `on_fatal`, which ends the process with one line.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from functools import partial
from socket import SO_SNDBUF, SOL_SOCKET
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet import tcp
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

import chronik.native
from chronik.addresses import ListenerAddress
from chronik.assembly import assemble, group_times, wall_clock_ms
from chronik.config import Config
from chronik.controller.commands import RegisterBroker
from chronik.controller.controller import Rules
from chronik.controller.image import MetadataImage
from chronik.controller.service import Controller
from chronik.data_directory import DataDirectory
from chronik.errors import ChronikError
from chronik.interfaces import IDisk, MetadataDelta
from chronik.listeners.eager import use_eager_transport
from chronik.listeners.kafka import KafkaFactory
from chronik.listeners.poller import ConnectionPoller
from chronik.listeners.transport import use_vectored_transport
from chronik.log.disk import RealDisk
from chronik.log.memory import MemoryDisk
from chronik.model import Endpoint
from chronik.raft.providers import MEMORY, format_store, open_store, preferred_provider
from chronik.raft.single import RunInThread, SingleNodeLog, run_inline
from chronik.raft.writer import WriterThread
from chronik.searching import check_topic
from chronik.telemetry.metrics import NodeMetrics

_CLOSE_IDLE_SECONDS = 10.0
_FAREWELL_SECONDS = 2.0


class ListenError(ChronikError):
    """A listener's address cannot be bound."""


def make_node(
    config: Config,
    on_fatal: Callable[[Failure], None],
    reactor: Any = None,
    *,
    in_memory: bool = False,
    disk: IDisk | None = None,
) -> Node:
    """The services of one node. `on_fatal` is told of a failed start, and of a failure after which nothing may go on.

    With `in_memory`, nothing is stored: the node forgets everything when it stops. Otherwise partitions are kept on `disk`,
    the file system if none is given; the metadata log is always on the file system.
    """
    if reactor is None:
        from twisted.internet import reactor as installed

        reactor = installed
    return Node(config, on_fatal, reactor, in_memory, disk)


class Node(MultiService):
    """One node, everything embedded in one process. `ready` fires with the node when all its listeners answer."""

    log = Logger(namespace="chronik.node")

    def __init__(
        self,
        config: Config,
        on_fatal: Callable[[Failure], None],
        reactor: Any,
        in_memory: bool,
        disk: IDisk | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.ready: Deferred[Node] = Deferred()
        self.metrics = NodeMetrics(time.monotonic)
        self.kafka_ports: list[tuple[ListenerAddress, tcp.Port]] = []
        self.admin_port: tcp.Port | None = None
        self.search_port: tcp.Port | None = None
        self._tell_fatal = on_fatal
        self._fatal: Failure | None = None
        self._clean = True
        self._disk: IDisk = disk or (MemoryDisk() if in_memory else RealDisk())
        self._reactor = reactor
        self._in_memory = in_memory
        self._factories: list[KafkaFactory] = []
        self._undo: list[Callable[[], Any]] = []  # how to take back what was started, the last first
        self._start_up: Deferred[None] | None = None
        self._serving = False
        self._stopping = False
        self._opening: Deferred[None] | None = None

    def startService(self) -> None:
        """Begin to start; `ready` or `on_fatal` tells the outcome."""
        super().startService()
        self._start_up = Deferred.fromCoroutine(self._start())
        self._start_up.addErrback(self._failed)

    def stopService(self) -> Deferred[None]:
        """Stop serving, then close everything; fires when the data directory is released."""
        self._stopping = True
        return Deferred.fromCoroutine(self._stop())

    @property
    def endpoints(self) -> list[Endpoint]:
        """What clients are told to dial. An empty host stands for the address that each client has dialled itself."""
        advertised = {address.name: address for address in self.config.advertised_listeners}
        return [
            Endpoint(address.name, advertised[address.name].host, advertised[address.name].port)
            if address.name in advertised
            else Endpoint(address.name, address.host, port.getHost().port)
            for address, port in self.kafka_ports
        ]

    # -- start and stop -----------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        began = time.monotonic()
        self._take_data_directory()
        await self._replay_metadata()
        self._assemble()
        await self._bind_kafka()
        await self.controller.propose(RegisterBroker(self.config.node_id, _random_id(), tuple(self.endpoints)))
        self._undo.append(self._close_partitions)
        self._undo.append(self._parts.shared.stop)
        self._go_on()
        self._opening = self.replicas.start(self._directory.was_clean)
        await self._opening
        self._go_on()
        self._clean = self._fatal is None  # all is opened and verified: a stop in order leaves it so
        for coordinator in (self.coordinator, self._parts.transactions, self._parts.shares):
            coordinator.start()
            self._undo.append(coordinator.stop)
        await self._bind_admin()
        self._go_on()
        for service in self._parts.background:
            self._run(service)
        await self._bind_search()
        self._go_on()
        self._serve_kafka()
        self._serving = True
        self.log.info(
            "node {node} is up after {took:.2f} s: Kafka at {kafka}, data in {data}",
            node=self.config.node_id,
            took=time.monotonic() - began,
            kafka=", ".join(f"{endpoint.host or '*'}:{endpoint.port}" for endpoint in self.endpoints),
            data="memory" if self._in_memory else self.config.data_directory,
        )
        self.log.info("native code: {native}", native=chronik.native.DESCRIPTION)
        self.ready.callback(self)

    def _go_on(self) -> None:
        """Between two steps of the start: go no further when the node is to stop."""
        if self._stopping:
            raise CancelledError

    async def _stop(self) -> None:
        if self._opening is not None:
            self._opening.cancel()  # the one step that may take long; the others are let end
        await self._after(self._start_up)
        await maybeDeferred(super().stopService)
        await self._take_back()
        self.log.info("node {node} has stopped", node=self.config.node_id)

    async def _after(self, step: Deferred[None] | None) -> None:
        """Wait until `step` has ended, without a hand in it."""
        ended: Deferred[None] = Deferred()

        def end(result: Any) -> Any:
            ended.callback(None)
            return result

        if step is not None:
            step.addBoth(end)
            await ended

    async def _take_back(self) -> None:
        while self._undo:
            undo = self._undo.pop()
            try:
                await maybeDeferred(undo)
            except Exception:
                self.log.failure("stopping: {step} failed", step=getattr(undo, "__qualname__", repr(undo)))
                self._clean = False

    def _failed(self, failure: Failure) -> Deferred[None]:
        taken_back: Deferred[None] = Deferred.fromCoroutine(self._take_back())
        if self._stopping and failure.check(CancelledError):
            return taken_back
        return taken_back.addCallback(lambda _: self._on_fatal(failure))

    def _on_fatal(self, failure: Failure) -> None:
        """Nothing may go on after `failure`: the process ends with its one line, once. What lives on acknowledges nothing.

        `on_fatal` ends a node of its own process at once; one that is embedded in another process stays there as a refusal.
        """
        if self._fatal is not None:
            return
        self._fatal, self._clean = failure, False
        self._tell_fatal(failure)
        for factory in self._factories:
            factory.abort_all()
        if self._serving:
            self.replicas.take_offline(failure.getErrorMessage())

    def _run(self, service: IService) -> None:
        """Start `service`; it is stopped in its turn."""
        service.startService()
        self._undo.append(service.stopService)

    # -- storage ------------------------------------------------------------------------------------------------------

    def _take_data_directory(self) -> None:
        config = self.config
        if self._in_memory:
            self._directory = DataDirectory.take("/memory", self._disk, config.node_id, MEMORY, format_store, lock=None)
        else:
            self._directory = DataDirectory.take(
                config.data_directory, self._disk, config.node_id, preferred_provider(), format_store
            )
        self._clean = self._directory.was_clean
        self._undo.append(self._directory.release)
        self._undo.append(self._mark_clean)

    def _mark_clean(self) -> None:
        if self._clean:
            self._directory.mark_clean()

    async def _replay_metadata(self) -> None:
        config, directory = self.config, self._directory
        run_in_thread: RunInThread = run_inline
        if not self._in_memory:
            run_in_thread = thread = WriterThread(self._reactor)
            self._undo.append(thread.stop)
        open_metadata = partial(open_store, directory.metadata_store, directory.meta)
        self.metadata = MetadataImage(directory.cluster_id, config.node_id)
        self.controller = Controller(
            self.metadata,
            SingleNodeLog(open_metadata, run_in_thread, self._on_fatal),
            Rules(
                _random_id,
                config.num_partitions,
                config.default_replication_factor,
                group_times(config),
                check_topic=check_topic,
            ),
        )
        self._undo.append(self.controller.stop)
        await self.controller.start()

    def _close_partitions(self) -> None:
        self._parts.saved.stop()
        self._parts.flusher.stop()
        try:
            self.replicas.stop()
        finally:
            self._parts.threads.stop()

    def _assemble(self) -> None:
        self._parts = parts = assemble(
            self.config,
            self._reactor,
            self.metrics,
            disk=self._disk,
            directory=self._directory,
            metadata=self.metadata,
            controller=self.controller,
            on_fatal=self._on_fatal,
        )
        self.replicas, self.coordinator, self.table = parts.replicas, parts.coordinator, parts.table
        self.metadata.subscribe(self._metadata_changed)

    def _metadata_changed(self, delta: MetadataDelta) -> None:
        if delta.quotas_changed and self._parts.throttles.refresh():
            for factory in self._factories:
                factory.quotas_changed()

    # -- listeners ----------------------------------------------------------------------------------------------------

    async def _bind_kafka(self) -> None:
        """Bind the Kafka ports, so that their addresses are known; connections wait in the backlog until they are served."""
        config = self.config
        poller = ConnectionPoller(self._reactor)
        self._undo.append(poller.close)
        for address in config.listeners:
            factory = KafkaFactory(
                address.name,
                self.table,
                self._parts.pool,
                self.metrics.requests,
                self._reactor,
                max_request_bytes=config.socket_request_max_bytes,
                max_connections=config.max_connections,
                max_connections_per_ip=config.max_connections_per_ip,
                max_idle_ms=config.connections_max_idle_ms,
                wall_clock_ms=wall_clock_ms,
                throttles=self._parts.throttles,
                many_elements=self._parts.many_elements,
                disconnected=self._parts.shared.disconnected,
            )
            port = await self._listen(address, factory)
            port.stopReading()
            if config.socket_send_buffer_bytes >= 0:  # the connections that it accepts inherit it
                port.socket.setsockopt(SOL_SOCKET, SO_SNDBUF, config.socket_send_buffer_bytes)
            use_vectored_transport(port, poller)
            self.kafka_ports.append((address, port))
            self._factories.append(factory)

    async def _listen(self, address: ListenerAddress, factory: Any) -> Any:
        try:
            port = await serverFromString(self._reactor, address.endpoint).listen(factory)
        except CannotListenError as error:
            raise ListenError(
                f"cannot listen at {address}: {error.socketError}; stop what uses the address, or choose another one"
            ) from error
        self._undo.append(port.stopListening)
        return port

    def _serve_kafka(self) -> None:
        for _, port in self.kafka_ports:
            port.startReading()
        self._undo.append(self._close_connections)
        closing_idle = LoopingCall(self._close_idle)
        closing_idle.clock = self._reactor
        closing_idle.start(_CLOSE_IDLE_SECONDS, now=False)
        self._undo.append(closing_idle.stop)

    def _close_idle(self) -> None:
        for factory in self._factories:
            factory.close_idle()

    async def _close_connections(self) -> None:
        """Take no more requests, let producers who wait for a sync have their answer, then close."""
        for factory in self._factories:
            for connection in list(factory.connections):
                connection.pauseProducing()
        until = self._reactor.seconds() + _FAREWELL_SECONDS
        while self._reactor.seconds() < until and any(partition.is_awaited for partition in self.replicas.partitions()):
            await deferLater(self._reactor, 0.01)
        for factory in self._factories:
            factory.close_all()
        while self._reactor.seconds() < until and any(factory.connections for factory in self._factories):
            await deferLater(self._reactor, 0.01)

    async def _bind_admin(self) -> None:
        config = self.config
        if config.admin_listener is None:
            return
        from chronik.http_sites import admin_site  # it imports Klein, a third of a second of start-up

        site = admin_site(
            config,
            self._reactor,
            self._parts,
            self.metadata,
            self.controller,
            self.metrics,
            listeners=lambda: [(endpoint.listener, endpoint.host, endpoint.port) for endpoint in self.endpoints],
            ready=lambda: bool(self.ready.called),
        )
        self.admin_port = await self._listen(config.admin_listener, site)

    async def _bind_search(self) -> None:
        config, search, tails = self.config, self._parts.search, self._parts.tails
        if config.search_listener is None or search is None or tails is None:
            return
        from chronik.http_sites import search_site  # late, as above

        site = search_site(config, self._reactor, self._parts, search, tails, self.metadata, self.controller)
        self.search_port = await self._listen(config.search_listener, site)
        use_eager_transport(self.search_port)


def _random_id() -> bytes:
    return secrets.token_bytes(16)
