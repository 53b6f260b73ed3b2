"""`Chronik`: a real broker for a test suite, up in a fraction of a second, on a port of its own.

    with Chronik() as broker:
        producer = confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap_servers})

It is the node itself, with everything that a client can see. Without `directory` it lives in memory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from twisted.internet.defer import TimeoutError, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chronik.config import Config
from chronik.errors import ChronikError
from chronik.testing.process import NodeProcess, ports_of
from chronik.testing.reactor_thread import call, reactor_in_thread

_log = Logger()
_START_SECONDS = 25


class Chronik:
    """One broker, between `start` and `stop`, or as a context manager. Many may live in a process at a time.

    `directory` keeps its data on disk; a later broker with the same directory goes on with it. `process=True` runs it as a
    process of its own. `options` are those of the configuration, by their names in `etc/chronik.yaml`; groups don't wait for
    more members here unless `group_initial_rebalance_delay_ms` says so.
    """

    def __init__(
        self, *, directory: str | os.PathLike[str] | None = None, process: bool = False, **options: object
    ) -> None:
        self._directory = None if directory is None else os.fspath(directory)
        self._settings = _settings(self._directory, options)
        self._process = NodeProcess(self._settings, self._directory is None) if process else None
        self._node: Any = None
        self._port: int | None = None
        self._search_port: int | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Return when clients can connect. Raises ChronikError for what keeps the node from starting."""
        if self._port is not None:
            raise RuntimeError("this broker is running already")
        ports = self._process.start() if self._process is not None else call(self._start)
        self._port, self._search_port = ports
        return self

    def stop(self) -> None:
        """Return when everything is closed. Harmless when repeated."""
        if self._port is not None:
            self._port = self._search_port = None
            if self._process is not None:
                self._process.stop()
            else:
                call(self._stop)

    @property
    def port(self) -> int:
        """The port that Kafka clients connect to, on 127.0.0.1."""
        if self._port is None:
            raise RuntimeError("this broker is not running")
        return self._port

    @property
    def bootstrap_servers(self) -> str:
        """What a client's `bootstrap.servers` shall be."""
        return f"127.0.0.1:{self.port}"

    @property
    def search_url(self) -> str:
        """Where messages are searched by HTTP, of a broker with `search_listener="127.0.0.1:0"`."""
        if self._search_port is None:
            raise RuntimeError('this broker has no search listener: start it with search_listener="127.0.0.1:0"')
        return f"http://127.0.0.1:{self._search_port}"

    @property
    def pid(self) -> int | None:
        """The process id of a broker with `process=True`, for tests that kill it."""
        return None if self._process is None else self._process.pid

    def create_topic(self, name: str, partitions: int = 1, configs: Mapping[str, str] | None = None) -> None:
        """Create a topic. Raises KafkaError when it is refused. Not with `process=True`: use a client there."""
        if self._node is None:
            raise RuntimeError("only a broker in this process can be told directly; use a client's admin calls")
        call(self._create_topic, name, partitions, configs or {})

    def save_search(self, name: str, source: str, query: str) -> None:
        """Make the records of topic `source` that match `query` a topic of their own, which can only be read.

        Raises KafkaError and QueryError when it is refused. Not with `process=True`.
        """
        if self._node is None:
            raise RuntimeError("only a broker in this process can be told directly; use POST /v1/searches there")
        call(self._save_search, name, source, query)

    async def _start(self) -> tuple[int, int | None]:
        from chronik.services import make_node

        def fatal(failure: Failure) -> None:
            if not node.ready.called:
                node.ready.errback(failure)
            else:
                _log.critical("the embedded broker has failed: {problem}", problem=failure.getErrorMessage())

        reactor = reactor_in_thread()
        node = make_node(Config.resolve(self._settings), fatal, reactor, in_memory=self._directory is None)
        node.startService()
        try:
            await node.ready.addTimeout(_START_SECONDS, reactor)
        except TimeoutError:
            await maybeDeferred(node.stopService)
            raise ChronikError(
                f"the broker has not started within {_START_SECONDS} s; its log says how far it came"
            ) from None
        self._node = node
        return ports_of(node)

    async def _stop(self) -> None:
        node, self._node = self._node, None
        await maybeDeferred(node.stopService)

    async def _create_topic(self, name: str, partitions: int, configs: Mapping[str, str]) -> None:
        from chronik.controller.commands import CreateTopics, NewTopic

        topic = NewTopic(name, partitions, configs=tuple(configs.items()))
        (creation,) = await self._node.controller.propose(CreateTopics((topic,)))
        if creation.error is not None:
            raise creation.error

    async def _save_search(self, name: str, source: str, query: str) -> None:
        from chronik.controller.commands import SaveSearch
        from chronik.search.saved import check_saved
        from chronik.topic_config import SEARCH_MAPPING

        known = self._node.metadata.topic(source)
        mapping = "" if known is None else known.configs.get(SEARCH_MAPPING, "").strip()
        check_saved(query, mapping)
        await self._node.controller.propose(SaveSearch(name, source, query, mapping))


def _settings(directory: str | None, options: Mapping[str, object]) -> dict[str, str]:
    """The node's settings as text: loopback on a free port, quick groups, and the caller's."""
    settings = {
        "listeners": "PLAINTEXT://127.0.0.1:0",
        "admin_listener": "none",
        "search_listener": "none",
        "group_initial_rebalance_delay_ms": "0",
        "group_min_session_timeout_ms": "1",
    }
    if directory is not None:
        settings["data_directory"] = directory
    for name, value in options.items():
        settings[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return settings
