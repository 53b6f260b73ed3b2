"""OpenSearch as one node on loopback, out of the jars that Maven has: the server and its HTTP transport, no other plugin."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.peers import cache
from tests.peers.process import LOOPBACK, PeerProcess, free_ports

VERSION = "2.19.1"
RECIPE = Path(__file__).parent / "opensearch"


def jars() -> Path:
    """The directory of the jars and of the class that starts a node, made on first use."""
    source = RECIPE / "SearchNode.java"

    def install(home: Path) -> None:
        fetch = [cache.program("mvn", "maven"), "-B", "-q", "-f", str(RECIPE / "pom.xml")]
        fetch += ["dependency:copy-dependencies", f"-DoutputDirectory={home}"]
        javac = [cache.program("javac", "default-jdk-headless"), "-cp", f"{home}/*", "-d", str(home), str(source)]
        for line, what in ((fetch, "Maven could not fetch OpenSearch"), (javac, f"{source.name} does not compile")):
            done = subprocess.run(line, capture_output=True, text=True, check=False)
            if done.returncode:
                raise cache.PeerMissing(f"{what}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    return cache.installed("opensearch", (RECIPE / "pom.xml").read_bytes() + source.read_bytes(), install)


class OpenSearchNode:
    """One node; `directory` takes its data and its log, `heap` is the value of -Xms and -Xmx. HTTP is on `port`."""

    def __init__(self, directory: Path, heap: str = "1g") -> None:
        for name in ("config", "modules", "plugins"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        self.data = directory / "data"
        self.port, transport = free_ports(2)
        classes = jars()
        line = [
            cache.program("java", "default-jre-headless"), f"-Xms{heap}", f"-Xmx{heap}", "-cp", f"{classes}:{classes}/*",
            "SearchNode", str(directory), str(self.port), str(transport),
        ]  # fmt: skip
        self.process = PeerProcess("OpenSearch", line, directory / "opensearch.log")
        self.process.directory = directory

    def start(self, timeout: float = 120.0) -> float:
        """Start and wait until it answers; seconds that took. Raises RuntimeError with its log's end if it does not."""
        self.process.start()
        begun = time.monotonic()
        while time.monotonic() - begun < timeout:
            try:
                with urllib.request.urlopen(f"http://{LOOPBACK}:{self.port}/", timeout=5):
                    return time.monotonic() - begun
            except (urllib.error.URLError, OSError):
                if not self.process.running:
                    break
                time.sleep(0.1)
        raise RuntimeError(f"OpenSearch does not answer:\n{self.process.log_end()}")

    def stop(self) -> int | None:
        """Shut the node down in order; its exit code."""
        return self.process.stop()
