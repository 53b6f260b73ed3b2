"""Thousands of clients of live tails in one process: what `benchmarks.tails` measures with. No library, one epoll.

    python -m benchmarks.tail_clients PORT CLIENTS QUERIES

Client `n` tails topic `t` for the query that `query(n % QUERIES)` gives. Prints a line once all are connected; reads commands,
a line each: `window NANOSECONDS`, when another window begins (monotonic clock), and `stop`. At its end it prints a report as
JSON: by window what was delivered, how late (histograms in microseconds), and what was told of as dropped.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import sys
import time
from base64 import b64encode
from typing import Any
from urllib.parse import urlencode

_SENT = re.compile(rb" sent=([0-9]+)")
_AT_A_TIME = 64
_STEP = 100_000
"""Nanoseconds: latencies are rounded up to multiples of it."""
_TEXT, _CLOSE, _PING = 0x1, 0x8, 0x9


def token(number: int) -> str:
    """The word that the messages for query `number` have."""
    return f"w{number}x"


def query(number: int) -> str:
    """What the clients of query `number` look for, in one of several forms."""
    word = token(number)
    return (word, f"watch:{word}", f'"watch {word}"', f"{word} AND NOT level:nothing", f"watch:{word} AND sent:>0")[
        number % 5
    ]


class _Client:
    def __init__(self, port: int, path: str) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.request = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {b64encode(os.urandom(16)).decode()}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ).encode()
        self.buffer = bytearray()
        self.open = False
        self.greeted = False
        self.socket.connect_ex(("127.0.0.1", port))

    def frames(self, data: bytes) -> list[tuple[int, bytes]]:
        """The frames that are whole now: (opcode, payload)."""
        buffer = self.buffer
        buffer += data
        found = []
        at = 0
        if not self.open:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return []
            if not buffer.startswith(b"HTTP/1.1 101"):
                raise SystemExit(f"no WebSocket: {bytes(buffer[:300])!r}")
            self.open, at = True, end + 4
        while len(buffer) - at >= 2:
            size, start = buffer[at + 1] & 0x7F, at + 2
            if size == 126:
                size, start = int.from_bytes(buffer[at + 2 : at + 4], "big"), at + 4
            elif size == 127:
                size, start = int.from_bytes(buffer[at + 2 : at + 10], "big"), at + 10
            if len(buffer) < start + size:
                break
            found.append((buffer[at] & 0xF, bytes(buffer[start : start + size])))
            at = start + size
        del buffer[:at]
        return found


class _Window:
    """What was due in one window: delivered and how late, and what was told of as dropped meanwhile."""

    def __init__(self, began: int) -> None:
        self.began = began
        self.delivered = self.dropped = self.skipped = self.latest = 0
        self.latencies: dict[int, int] = {}

    def note(self, latency: int) -> None:
        """A delivery that is so many nanoseconds late."""
        self.delivered += 1
        self.latest = max(self.latest, latency)
        rounded = -(-latency // _STEP) * (_STEP // 1000)
        self.latencies[rounded] = self.latencies.get(rounded, 0) + 1

    def report(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "delivered": self.delivered,
            "dropped": self.dropped,
            "skipped": self.skipped,
            "max_us": self.latest // 1000,
            "histogram": sorted(self.latencies.items()),
        }


class _Books:
    """What all clients have heard."""

    def __init__(self) -> None:
        self.windows: list[_Window] = []
        self.frames = self.strays = self.closed = 0

    def note(self, payload: bytes, now: int) -> None:
        """A message came."""
        self.frames += 1
        if payload.startswith(b'{"type":"hits"'):
            for text in _SENT.findall(payload):
                due = int(text)
                window = next((each for each in reversed(self.windows) if each.began <= due), None)
                if window is None:
                    self.strays += 1
                else:
                    window.note(now - due)
        elif payload.startswith(b'{"type":"dropped"'):
            self.windows[-1].dropped += json.loads(payload)["count"]
        elif payload.startswith(b'{"type":"skipped"'):
            self.windows[-1].skipped += 1

    def report(self) -> dict[str, Any]:
        """All of it."""
        return {
            "windows": [window.report() for window in self.windows],
            "frames": self.frames,
            "strays": self.strays,
            "closed": self.closed,
            "cpu_seconds": round(time.process_time(), 2),
        }


def main() -> None:
    """Be the clients."""
    port, count, queries = map(int, sys.argv[1:])
    epoll = select.epoll()
    clients: dict[int, _Client] = {}
    books = _Books()
    begun = greeted = 0
    commands = b""
    connecting: set[int] = set()
    epoll.register(0, select.EPOLLIN)
    while True:
        while begun < count and len(connecting) < _AT_A_TIME:
            path = "/tail?" + urlencode({"topic": "t", "query": query(begun % queries)})
            client = _Client(port, path)
            clients[client.socket.fileno()] = client
            connecting.add(client.socket.fileno())
            epoll.register(client.socket.fileno(), select.EPOLLOUT)
            begun += 1
        for descriptor, event in epoll.poll(1.0):
            if descriptor == 0:
                data = os.read(0, 1000)
                *lines, commands = (commands + data).split(b"\n")
                for line in lines:
                    if line.startswith(b"window "):
                        books.windows.append(_Window(int(line[7:])))
                if not data or b"stop" in lines:
                    print(json.dumps(books.report()), flush=True)
                    return
                continue
            client = clients[descriptor]
            if event & select.EPOLLOUT:
                client.socket.send(client.request)
                epoll.modify(descriptor, select.EPOLLIN)
                continue
            try:
                data = client.socket.recv(1 << 18)
            except OSError:
                data = b""
            if not data:
                books.closed += 1
                epoll.unregister(descriptor)
                client.socket.close()
                continue
            now = time.monotonic_ns()
            for opcode, payload in client.frames(data):
                if opcode == _TEXT:
                    if not client.greeted:
                        if b'"hello"' not in payload:
                            raise SystemExit(f"no hello: {payload[:300]!r}")
                        client.greeted = True
                        greeted += 1
                        connecting.discard(descriptor)
                        if greeted == count:
                            print(json.dumps({"event": "ready"}), flush=True)
                    else:
                        books.note(payload, now)
                elif opcode == _PING:
                    client.socket.send(bytes((0x8A, 0x80 | len(payload))) + bytes(4) + payload)


if __name__ == "__main__":
    main()
