"""A node alone whose search is measured: started, asked over HTTP on one connection, and how far its index has come."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import brokers
from tests.peers.chronik_node import ChronikNode
from tests.peers.process import LOOPBACK

PARTITIONS = 6
KEPT = {"retention.ms": "-1"}
"""Configs of a topic whose messages have the corpus's times, whatever the day is."""
_SETTLED_SECONDS = 1.0
_NEVER = '{"query": {"range": {"timestamp": {"lt": -2}}}, "size": 0, "track_total_hits": false}'


class HttpAsker:
    """Requests over one connection that stays."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(LOOPBACK, port, timeout=600)

    def ask(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        """The body of the answer. Raises RuntimeError where it is no success."""
        self._connection.request(method, path, body, {} if body is None else {"content-type": kind})
        response = self._connection.getresponse()
        content = response.read()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {content[:500].decode('utf-8', 'replace')}")
        return content

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """The same with JSON on both sides."""
        return json.loads(self.ask(method, path, None if body is None else json.dumps(body).encode()))

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


class SearchedNode(brokers.Running):
    """A started node. `search` asks it."""

    def __init__(self, peer: ChronikNode) -> None:
        super().__init__(peer)
        self.node = peer
        self.search = HttpAsker(peer.search_port)

    def restart(self) -> None:
        """Stop it in order, so that all of its index is written, and start it again."""
        self.search.close()
        self.node.stop()
        self.node.start(120)

    def bytes_of(self, directory: str) -> int:
        """What a part of its data takes on disk."""
        return sum(path.stat().st_size for path in (self.node.data / directory).rglob("*") if path.is_file())

    def lag(self, topic: str) -> tuple[int, int]:
        """Messages that no block covers (each partition's unfinished block among them), and those there are."""
        answer = json.loads(self.search.ask("POST", f"/{topic}/_search", _NEVER.encode()))["chronik"]
        ends = {
            partition: end
            for partition, (_, end) in answer["vector"]["topics"].get(topic, {"partitions": {}})["partitions"].items()
        }
        indexed = answer["indexed_up_to"].get(topic, {})
        return sum(end - indexed.get(partition, 0) for partition, end in ends.items()), sum(ends.values())

    def drain(self, topic: str) -> float:
        """Wait until the index goes no further, as nothing is produced any more; seconds that it still went on."""
        begun = changed = time.monotonic()
        last = -1
        while (now := time.monotonic()) - changed < _SETTLED_SECONDS:
            lag, _ = self.lag(topic)
            if lag != last:
                last, changed = lag, now
            time.sleep(0.05)
        return changed - begun


@contextlib.contextmanager
def searched(place: str, settings: Mapping[str, str] | None = None, name: str = "node") -> Iterator[SearchedNode]:
    """A node, started; its directory is removed at the end. `place` is "disk" or "tmpfs"."""
    home = Path(tempfile.mkdtemp(prefix=f"chronik-search-{name}-", dir=brokers.DIRECTORIES[place]))
    node = ChronikNode(home, settings)
    try:
        node.start()
        yield SearchedNode(node)
    finally:
        node.stop()
        shutil.rmtree(home, ignore_errors=True)
