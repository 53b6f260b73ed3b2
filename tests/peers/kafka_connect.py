"""A Kafka Connect worker in distributed mode, on loopback, with the file connectors that Kafka brings."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.peers import java
from tests.peers.process import LOOPBACK, PeerProcess, free_ports

_MAIN = "org.apache.kafka.connect.cli.ConnectDistributed"
_OPTIONS = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class Worker:
    """One worker; `directory` takes its configuration and log.

    `group` names the cluster of workers and its three internal topics. The REST port is chosen once: after `kill` and `start`
    it is the same worker. Sources are exactly-once.
    """

    def __init__(self, directory: Path, bootstrap: str, group: str) -> None:
        self._port = free_ports(1)[0]
        properties = {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "listeners": f"http://{LOOPBACK}:{self._port}",
            "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            "value.converter": "org.apache.kafka.connect.storage.StringConverter",
            "exactly.once.source.support": "enabled",
            "offset.flush.interval.ms": "500",
            "session.timeout.ms": "6000",
            "heartbeat.interval.ms": "500",
            "scheduled.rebalance.max.delay.ms": "0",
            # The transactions that a killed worker leaves open hold up the next one until they time out.
            "transaction.timeout.ms": "5000",
            "producer.transaction.timeout.ms": "5000",
            **{f"{kind}.storage.topic": f"{group}-{kind}" for kind in ("config", "offset", "status")},
            **{f"{kind}.storage.replication.factor": "1" for kind in ("config", "offset", "status")},
            "offset.storage.partitions": "3",
            "status.storage.partitions": "2",
        }
        configuration = directory / "connect.properties"
        configuration.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        self.process = PeerProcess(
            "Connect", java.command(_MAIN, [str(configuration)], _OPTIONS), directory / "connect.log"
        )

    def start(self, timeout: float = 90.0) -> None:
        """Start and wait until it has joined its group: its connectors can be asked for then."""
        self.process.start()
        give_up = time.monotonic() + timeout
        while self._status("GET", "/connectors") != 200:
            if not self.process.running or time.monotonic() > give_up:
                raise RuntimeError(f"Connect did not start in {timeout} s:\n{self.process.log_end()}")
            time.sleep(0.5)

    def put(self, name: str, settings: Mapping[str, str]) -> None:
        """Create or change a connector."""
        status, said = self._ask("PUT", f"/connectors/{name}/config", json.dumps(dict(settings)))
        if status not in (200, 201):
            raise RuntimeError(f"Connect refused {name} with {status}: {said}")

    def running(self, name: str) -> bool:
        """Whether a connector and all its tasks run."""
        status, said = self._ask("GET", f"/connectors/{name}/status")
        if status != 200:
            return False
        states = [said["connector"]["state"], *(task["state"] for task in said["tasks"])]
        return len(states) > 1 and set(states) == {"RUNNING"}

    def _status(self, method: str, path: str) -> int:
        try:
            return self._ask(method, path)[0]
        except (OSError, http.client.HTTPException):
            return 0  # it does not listen yet

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=30)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            said = answer.read()
            # While it starts, its web server answers for it with pages.
            return answer.status, json.loads(said) if said.startswith((b"{", b"[")) else said
        finally:
            connection.close()

    def stop(self) -> None:
        """Shut the worker down in order."""
        self.process.stop(30.0)

    def kill(self) -> None:
        """End the worker with SIGKILL."""
        self.process.kill()
