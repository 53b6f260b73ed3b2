"""Chronik as its users run it: a process of its own, `twistd -n chronik`, on loopback with free ports."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from tests.peers.process import LOOPBACK, PeerProcess, free_ports

REPOSITORY = Path(__file__).parent.parent.parent


class ChronikNode:
    """One node; `directory` takes its data (`data`) and its log. `settings` are options by name, as `--set` takes them.

    The ports are chosen once, so clients find the node again after `kill` and `start`. `admin_port` serves REST and
    metrics, `search_port` searches.
    """

    def __init__(
        self, directory: Path, settings: Mapping[str, str] | None = None, descriptors: int | None = None
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.data = directory / "data"
        self.port, self.admin_port, self.search_port = free_ports(3)
        self.bootstrap = f"{LOOPBACK}:{self.port}"
        options = {"group_initial_rebalance_delay_ms": "0", **(settings or {})}
        line = [
            sys.executable,
            "-c",
            "from twisted.scripts.twistd import run; run()",
            "-n",
            f"--pidfile={directory / 'chronik.pid'}",
            "chronik",
            f"--data-dir={self.data}",
            f"--listen=PLAINTEXT://{self.bootstrap}",
            f"--advertise=PLAINTEXT://{self.bootstrap}",
            f"--admin-listen={LOOPBACK}:{self.admin_port}",
            f"--search-listen={LOOPBACK}:{self.search_port}",
            *(f"--set={name}={value}" for name, value in options.items()),
        ]
        if descriptors is not None:
            line = ["/bin/sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *line]
        self.process = PeerProcess("Chronik", line, directory / "chronik.log", {"PYTHONPATH": str(REPOSITORY)})
        self.process.directory = directory

    def start(self, timeout: float = 20.0) -> float:
        """Start and wait until the node serves; seconds that took."""
        (self.directory / "chronik.pid").unlink(missing_ok=True)
        self.process.start()
        return self.process.wait_until_speaks(self.port, timeout)

    def stop(self) -> int | None:
        """Shut the node down in order; its exit code."""
        return self.process.stop()

    def kill(self) -> None:
        """End the node with SIGKILL."""
        self.process.kill()

    def __enter__(self) -> ChronikNode:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
