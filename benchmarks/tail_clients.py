"""Thousands of clients of live tails in one process: what `benchmarks.tails` measures with. No library, one epoll.

    python -m benchmarks.tail_clients PORT CLIENTS QUERIES

Client `n` tails topic `t` for the query that `query(n % QUERIES)` gives. Prints a line once all are connected; reads commands,
a line each: `begin` to measure from now on, `stop`. At its end it prints a report as JSON.
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
from urllib.parse import urlencode

_SENT = re.compile(rb" sent=([0-9]+)")
_AT_A_TIME = 64
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


class _Books:
    """What was delivered in the window, and how late."""

    def __init__(self) -> None:
        self.began = 0
        self.latencies: list[int] = []
        self.delivered = self.dropped = self.skipped = self.frames = 0

    def note(self, payload: bytes, now: int) -> None:
        self.frames += 1
        if payload.startswith(b'{"type":"hits"'):
            sent = [int(text) for text in _SENT.findall(payload)]
            self.delivered += len(sent)
            self.latencies += [now - each for each in sent if self.began and each >= self.began]
        elif payload.startswith(b'{"type":"dropped"'):
            self.dropped += json.loads(payload)["count"]
        elif payload.startswith(b'{"type":"skipped"'):
            self.skipped += 1


def main() -> None:
    """Be the clients."""
    port, count, queries = map(int, sys.argv[1:])
    epoll = select.epoll()
    clients: dict[int, _Client] = {}
    books = _Books()
    begun = greeted = 0
    closed = 0
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
                for command in os.read(0, 1000).decode().split() or ["stop"]:
                    if command == "begin":
                        books.began = time.monotonic_ns()
                    elif command == "stop":
                        _report(books, closed)
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
                closed += 1
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


def _report(books: _Books, closed: int) -> None:
    latencies = sorted(books.latencies)

    def quantile(share: float) -> float | None:
        return latencies[min(int(share * len(latencies)), len(latencies) - 1)] / 1e6 if latencies else None

    report = {
        "event": "end",
        "delivered": books.delivered,
        "measured": len(latencies),
        "dropped": books.dropped,
        "skipped": books.skipped,
        "frames": books.frames,
        "closed": closed,
        "p50_ms": quantile(0.5),
        "p99_ms": quantile(0.99),
        "max_ms": quantile(1.0),
        "cpu_seconds": round(time.process_time(), 2),
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
