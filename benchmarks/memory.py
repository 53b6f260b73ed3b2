"""Memory and start-up of a node alone: idle, with idle connections, and with many topics at a small limit of open files."""

from __future__ import annotations

import contextlib
import shutil
import socket
import struct
import tempfile
import time
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks import machine
from benchmarks.results import Results
from benchmarks.schedule import Schedule
from benchmarks.statistics import median
from tests.peers.chronik_node import ChronikNode
from tests.peers.process import LOOPBACK

PART = "memory"
DESCRIPTORS = 1024
PARTITIONS = 6
_METADATA = (
    struct.pack(">hhihb", 3, 12, 1, -1, 0) + b"\x00\x00\x00\x00"
)  # v12: all topics (null), no creation, no operations


def run(results: Results, schedule: Schedule) -> None:
    """Measure what `results` lacks."""
    home = Path(tempfile.mkdtemp(prefix="chronik-memory-"))
    try:
        if not results.has(PART, "idle"):
            schedule.say("memory idle and with connections")
            results.put(PART, "idle", _idle(home / "idle", schedule))
        if not results.has(PART, "topics"):
            schedule.say("memory with many topics")
            results.put(PART, "topics", _topics(home / "topics", schedule))
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _idle(directory: Path, schedule: Schedule) -> dict[str, Any]:
    with ChronikNode(directory) as node:
        time.sleep(5)
        idle = machine.resident_kilobytes(node.process.pid)
        with contextlib.ExitStack() as stack:
            for _ in range(schedule.idle_connections):
                connection = stack.enter_context(socket.create_connection((LOOPBACK, node.port)))
                connection.sendall(struct.pack(">ihhih", 10, 18, 0, 1, -1))
                connection.recv(4096)
            time.sleep(2)
            connected = machine.resident_kilobytes(node.process.pid)
    return {
        "idle_kilobytes": idle,
        "connections": schedule.idle_connections,
        "connected_kilobytes": connected,
        "kilobytes_per_connection": (connected - idle) / schedule.idle_connections,
    }


def _topics(directory: Path, schedule: Schedule) -> dict[str, Any]:
    node = ChronikNode(directory, descriptors=DESCRIPTORS)
    node.start()
    try:
        admin = AdminClient({"bootstrap.servers": node.bootstrap})
        begun = time.monotonic()
        for first in range(0, schedule.topics, 100):
            wanted = [NewTopic(f"t{n:05d}", PARTITIONS, 1) for n in range(first, min(first + 100, schedule.topics))]
            for future in admin.create_topics(wanted).values():
                future.result(120)
        created = time.monotonic() - begun
        del admin
        answered = _metadata_milliseconds(node.port)
        resident = machine.resident_kilobytes(node.process.pid)
        node.stop()
        clean = node.start(60)
        after_clean = _metadata_milliseconds(node.port)
        restarted = machine.resident_kilobytes(node.process.pid)
        node.kill()
        unclean = node.start(60)
    finally:
        node.stop()
    return {
        "topics": schedule.topics,
        "partitions": PARTITIONS,
        "descriptors": DESCRIPTORS,
        "created_seconds": created,
        "resident_kilobytes": resident,
        "restarted_kilobytes": restarted,
        "metadata_ms": answered,
        "metadata_after_restart_ms": after_clean,
        "start_seconds": clean,
        "start_after_kill_seconds": unclean,
    }


def _metadata_milliseconds(port: int) -> dict[str, float]:
    """Milliseconds until the whole answer to Metadata of all topics is read: the first one, the median and worst of 50 more."""
    times = []
    with socket.create_connection((LOOPBACK, port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(51):
            begun = time.perf_counter()
            connection.sendall(struct.pack(">i", len(_METADATA)) + _METADATA)
            (left,) = struct.unpack(">i", connection.recv(4, socket.MSG_WAITALL))
            size = left
            while left:
                left -= len(connection.recv(min(left, 1 << 20)))
            times.append((time.perf_counter() - begun) * 1000)
    return {"first": times[0], "median": median(times[1:]), "worst": max(times[1:]), "bytes": float(size)}
