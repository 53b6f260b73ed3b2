"""Apache Kafka 4.1 as one broker-and-controller process on loopback: the neighbour that every answer is compared with."""

from __future__ import annotations

import base64
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.peers import java
from tests.peers.process import LOOPBACK, PeerProcess, free_ports

VERSION = "4.1.1"

SERVER_OPTIONS = (
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
)
"""What Kafka's own start script gives the virtual machine, without the heap."""


class ApacheKafka:
    """One node of Apache Kafka; `directory` takes its data, configuration and log.

    `settings` are broker properties over those below; `heap` is the value of -Xmx. Use as a context manager, or call
    `start` and `stop`. `bootstrap` is "127.0.0.1:port".
    """

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, str] | None = None,
        heap: str = "512m",
        options: Sequence[str] = SERVER_OPTIONS,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.port, controller = free_ports(2)
        self.bootstrap = f"{LOOPBACK}:{self.port}"
        self.cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        self._configuration = directory / "server.properties"
        node = (settings or {}).get("node.id", "1")
        self.data = directory / "data"
        properties = {
            "process.roles": "broker,controller",
            "node.id": node,
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{LOOPBACK}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.voters": f"{node}@{LOOPBACK}:{controller}",
            "log.dirs": str(self.data),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "5",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "5",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            **(settings or {}),
        }
        text = "".join(f"{name}={value}\n" for name, value in properties.items())
        self._configuration.write_text(text)
        line = java.command("kafka.Kafka", [str(self._configuration)], [f"-Xmx{heap}", f"-Xms{heap}", *options])
        self.process = PeerProcess("Apache Kafka", line, directory / "kafka.log")

    def start(self, timeout: float = 90.0) -> float:
        """Format the data directory if it is new, start, wait until it serves; seconds from start to served."""
        if not (self.data / "meta.properties").exists():
            arguments = ["format", "-t", self.cluster_id, "-c", str(self._configuration)]
            line = java.command("kafka.tools.StorageTool", arguments, java.TOOL_OPTIONS)
            done = subprocess.run(line, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"Kafka's StorageTool failed: {done.stdout}{done.stderr}")
        self.process.start()
        return self.process.wait_until_speaks(self.port, timeout)

    def stop(self) -> None:
        """Shut the broker down in order."""
        self.process.stop(30.0)

    def kill(self) -> None:
        """End the broker with SIGKILL."""
        self.process.kill()

    def __enter__(self) -> ApacheKafka:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
