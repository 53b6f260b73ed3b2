"""A client of live tails for tests: `websockets`, another implementation than the node's own."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import urlencode, urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from chronik.testing import Chronik

Place = tuple[str, int]


def tail_url(broker: Chronik, **parameters: str) -> str:
    """The address of a tail; `since` is the parameter `from`."""
    if "since" in parameters:
        parameters["from"] = parameters.pop("since")
    return f"ws://{urlsplit(broker.search_url).netloc}/tail?{urlencode(parameters)}"


class TailClient:
    """One that tails, and keeps books on what it is told."""

    def __init__(self, broker: Chronik, topic: str, query: str = "", since: str = "latest", **more: Any) -> None:
        url = tail_url(broker, topic=topic, query=query, since=since)
        self.connection: ClientConnection = connect(
            url, compression=None, max_size=64 << 20, open_timeout=60, close_timeout=5, ping_interval=None, **more
        )
        self.messages: list[dict[str, Any]] = []
        self.hits: list[dict[str, Any]] = []
        self.offsets: dict[Place, list[int]] = {}
        self.dropped = 0
        self.closed: tuple[int, str] | None = None
        self.hello = self.next(30)
        self.vector: dict[Place, int] = {}
        if self.hello is not None and self.hello["type"] == "hello":
            self._positions(self.hello)

    def _positions(self, told: dict[str, Any]) -> None:
        for topic, partitions in told["positions"].items():
            for number, offset in partitions.items():
                self._reach((topic, int(number)), offset)

    def _reach(self, place: Place, offset: int) -> None:
        self.vector[place] = max(self.vector.get(place, 0), offset)

    @property
    def positions(self) -> str:
        """Where another one would go on."""
        found: dict[str, dict[str, int]] = {}
        for (topic, partition), offset in self.vector.items():
            found.setdefault(topic, {})[str(partition)] = offset
        return json.dumps(found)

    def next(self, seconds: float) -> dict[str, Any] | None:
        """The next message; None where none comes in time, or ever."""
        try:
            text = self.connection.recv(timeout=seconds)
        except TimeoutError:
            return None
        except ConnectionClosed as closed:
            frame = closed.rcvd
            self.closed = (0, "") if frame is None else (int(frame.code), frame.reason)
            return None
        told: dict[str, Any] = json.loads(text)
        self.messages.append(told)
        if told["type"] == "hits":
            for hit in told["hits"]:
                place = hit["topic"], hit["partition"]
                self.offsets.setdefault(place, []).append(hit["offset"])
                self._reach(place, hit["offset"] + 1)
            self.hits += told["hits"]
        elif told["type"] == "dropped":
            self.dropped += told["count"]
            for each in told["ranges"]:
                self._reach((each["topic"], each["partition"]), each["last"] + 1)
        elif told["type"] == "positions":
            self._positions(told)
        return told

    def take(self, count: int, seconds: float = 60) -> list[dict[str, Any]]:
        """All hits, once there are so many, or the time is over."""
        ends = time.monotonic() + seconds
        while len(self.hits) + self.dropped < count and self.closed is None and time.monotonic() < ends:
            self.next(ends - time.monotonic())
        return self.hits

    def rest(self, seconds: float = 0.5) -> None:
        """Take what still comes, until nothing has for so long."""
        while self.next(seconds) is not None:
            pass

    def close(self) -> None:
        """Go."""
        self.connection.close()
