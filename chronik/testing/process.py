"""A broker in a process of its own, for tests that want it isolated, or killed.

The parent passes the settings as JSON in an argument and reads one line from the child: its ports, or why it didn't start. The
child ends when its standard input does, so it never outlives the test that started it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from chronik.errors import ChronikError

_STOP_SECONDS = 10


class NodeProcess:
    """The parent's side: starts and stops the child."""

    def __init__(self, settings: Mapping[str, str], in_memory: bool) -> None:
        self._argument = json.dumps({"settings": dict(settings), "in_memory": in_memory})
        self._child: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        return None if self._child is None else self._child.pid

    def start(self) -> tuple[int, int | None]:
        """Start it and return its ports: Kafka's, and that of search. Raises ChronikError with the child's reason."""
        child = subprocess.Popen(
            [sys.executable, "-c", "from chronik.testing.process import main; main()", self._argument],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # the code of this process
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        line = child.stdout.readline()
        ports = line.split()
        if not ports or not all(port.isdigit() for port in ports):
            child.kill()
            child.wait()
            raise ChronikError(line.strip() or f"the broker's process ended with status {child.returncode}")
        self._child = child
        return int(ports[0]), int(ports[1]) if len(ports) > 1 else None

    def stop(self) -> None:
        """End it in order; kill it if it doesn't."""
        child, self._child = self._child, None
        if child is None:
            return
        assert child.stdin is not None and child.stdout is not None
        child.stdin.close()
        try:
            child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()


def ports_of(node: Any) -> tuple[int, int | None]:
    """The port of Kafka's first listener, and that of search, if it is served."""
    search = node.search_port
    return int(node.kafka_ports[0][1].getHost().port), None if search is None else int(search.getHost().port)


def main() -> None:
    """The child's side; the settings are the last argument of its command line."""
    from twisted.internet import reactor as installed
    from twisted.internet.defer import maybeDeferred
    from twisted.internet.protocol import Protocol
    from twisted.internet.stdio import StandardIO
    from twisted.python.failure import Failure

    from chronik.config import Config
    from chronik.services import make_node

    reactor: Any = installed
    given = json.loads(sys.argv[-1])

    def say(line: str) -> None:
        os.write(1, f"{line}\n".encode())

    def fatal(failure: Failure) -> None:
        say(failure.getErrorMessage())
        os._exit(1)

    class Parent(Protocol):
        """Standard input: its end is the parent's wish that the node ends, or the parent's own."""

        def connectionLost(self, reason: Failure | None = None) -> None:
            maybeDeferred(node.stopService).addBoth(lambda _: reactor.stop())

    node = make_node(Config.resolve(given["settings"]), fatal, reactor, in_memory=given["in_memory"])
    node.ready.addCallback(lambda ready: say(" ".join(str(port) for port in ports_of(ready) if port is not None)))
    reactor.callWhenRunning(node.startService)
    reactor.callWhenRunning(StandardIO, Parent())
    reactor.run()
