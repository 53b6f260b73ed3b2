"""A neighbour's process: started in a session of its own, its output in a file, ended by its own process id."""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

LOOPBACK = "127.0.0.1"


_PORTS = (20_000, 32_000)
"""Below those that the system gives out by itself: a client of an earlier test that still looks for its broker finds none."""

_candidates = itertools.count(random.randrange(*_PORTS))


def free_ports(count: int) -> list[int]:
    """`count` TCP ports that nothing listens on now, and that no broker of this process had before."""
    first, end = _PORTS
    found: list[int] = []
    for number in itertools.islice(_candidates, end - first):
        port = first + (number - first) % (end - first)
        with socket.socket() as listener:
            try:
                listener.bind((LOOPBACK, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"no {count} free ports among {first} to {end}")


def speaks_kafka(port: int, timeout: float = 1.0) -> bool:
    """Whether the program behind `port` answers an ApiVersions request (version 0, error 0)."""
    request = struct.pack(">hhih", 18, 0, 7, -1)
    try:
        with socket.create_connection((LOOPBACK, port), timeout) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            head = b""
            while len(head) < 10:
                part = connection.recv(10 - len(head))
                if not part:
                    return False
                head += part
    except OSError:
        return False
    _, correlation, error = struct.unpack(">iih", head)
    return correlation == 7 and error == 0


def _inherited() -> dict[str, str]:
    """The environment without what is meant for the tests: a node would take CHRONIK_... for options of its own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CHRONIK_")}


class PeerProcess:
    """One child process. `command` and `environment` may be set anew between `start`s; `log` collects all output.

    Errors of the child show up as RuntimeError with the end of its log.
    """

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self.environment = dict(environment or {})
        self.directory: Path | None = None
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running child."""
        if self._child is None:
            raise RuntimeError(f"{self.name} is not started")
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the child has been started and has not ended."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Start the child and return at once."""
        if self.running:
            raise RuntimeError(f"{self.name} runs already as {self.pid}")
        with open(self.log, "ab") as log:
            self._child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**_inherited(), **self.environment},
                cwd=self.directory,
                start_new_session=True,
            )

    def wait_until_speaks(self, port: int, timeout: float) -> float:
        """Wait until `port` speaks Kafka; seconds that took. Raises RuntimeError with the log's end if it does not."""
        begun = time.monotonic()
        while not speaks_kafka(port):
            if not self.running:
                raise RuntimeError(f"{self.name} ended before it served port {port}:\n{self.log_end()}")
            if time.monotonic() - begun > timeout:
                raise RuntimeError(f"{self.name} did not serve port {port} in {timeout} s:\n{self.log_end()}")
            time.sleep(0.02)
        return time.monotonic() - begun

    def stop(self, timeout: float = 90.0) -> int | None:
        """Ask the child to end (SIGTERM), insist after `timeout` seconds (SIGKILL); its exit code."""
        return self._end(signal.SIGTERM, timeout)

    def kill(self) -> None:
        """End the child as a power cut would: SIGKILL, nothing flushed."""
        self._end(signal.SIGKILL, 10.0)

    def _end(self, number: signal.Signals, timeout: float) -> int | None:
        child, self._child = self._child, None
        if child is None:
            return None
        if child.poll() is None:
            child.send_signal(number)
        try:
            return child.wait(timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait(10.0)

    def log_end(self, size: int = 3000) -> str:
        """The last `size` bytes of the child's output."""
        try:
            with open(self.log, "rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - size))
                return log.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return "(no output)"
