"""Hostile clients at a real socket: the node, a process of its own, keeps answering another client and stays small (conformance
lines 6 to 8).

Each test lets one kind of hostility loose for about a second, while a witness asks and times its answers.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import random
import socket
import statistics
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic
from twisted.trial.unittest import SynchronousTestCase

from chronik.testing import Chronik
from chronik.wire.apis import ApiKey, message_classes
from chronik.wire.codec import Request
from chronik.wire.frames import encode_request
from chronik.wire.messages.api_versions import ApiVersionsRequest
from chronik.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from chronik.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from chronik.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from chronik.wire.records import Record, encode_batch

SECONDS = 0.5
MEBIBYTE = 1024 * 1024
_ASK = b"".join(encode_request(ApiVersionsRequest(), 0, 1, "witness"))


def whole(request: Request, version: int, correlation: int = 1) -> bytes:
    """The frame of `request`."""
    return b"".join(encode_request(request, version, correlation, "hostile"))


@functools.cache
def victim() -> Chronik:
    """The node, started once; it ends with this process."""
    node = Chronik(process=True, queued_max_request_bytes=64 * MEBIBYTE).start()
    atexit.register(node.stop)
    return node


class Witness(threading.Thread):
    """An honest client: asks again and again over one connection, and keeps how long each answer took, in seconds."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.times: list[float] = []
        self.done = threading.Event()
        self._port = port

    def run(self) -> None:
        """Ask until `done`."""
        with socket.create_connection(("127.0.0.1", self._port), 10) as connection:
            while not self.done.wait(0.005):
                began = time.monotonic()
                connection.sendall(_ASK)
                size = struct.unpack(">i", self._read(connection, 4))[0]
                self._read(connection, size)
                self.times.append(time.monotonic() - began)

    def _read(self, connection: socket.socket, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = connection.recv(count - len(data))
            if not piece:
                raise ConnectionError("the node closed the witness's connection")
            data += piece
        return data


class HostileTests(SynchronousTestCase):
    """All against one node, with a budget of 64 MiB for requests and as much for answers."""

    def setUp(self) -> None:
        self.rng = random.Random(self.id())
        self.node = victim()
        Path(f"/proc/{self.node.pid}/clear_refs").write_text("5")  # forget how large it was
        self.open = contextlib.ExitStack()
        self.addCleanup(self.open.close)

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.node.port), 5)
        connection.settimeout(0.05)
        return self.open.enter_context(connection)

    def send(self, connection: socket.socket, data: bytes) -> bool:
        """Whether all of `data` was taken; a node that closes or doesn't read is right."""
        try:
            connection.sendall(data)
        except OSError:
            return False
        return True

    def answer(self, connection: socket.socket) -> bytes:
        """One whole answer, without its size."""
        with connection.makefile("rb") as stream:  # it reads ahead, but one answer is all that is under way
            return stream.read(struct.unpack(">i", stream.read(4))[0])

    def memory(self) -> int:
        """The most bytes that the node had resident so far."""
        status = Path(f"/proc/{self.node.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024

    def endure(self, attack: Callable[[], object], more_memory: int = 48 * MEBIBYTE) -> list[float]:
        """Repeat `attack`, at least once, and see what the witness sees: the seconds that its answers took."""
        witness, before = Witness(self.node.port), self.memory()
        witness.start()
        until = time.monotonic() + SECONDS
        while True:
            attack()
            if time.monotonic() > until:
                break
        time.sleep(0.1)
        witness.done.set()
        witness.join(10)
        self.assertFalse(witness.is_alive(), "the node doesn't answer any more")
        self.assertGreater(len(witness.times), 3)
        self.assertLess(statistics.median(witness.times), 0.1)
        self.assertLess(max(witness.times), 2.0)
        self.assertLess(self.memory() - before, more_memory)
        return witness.times

    def test_large_batches_to_compress_anew(self) -> None:
        """As fast as gzip takes them, by three clients: each would hold the reactor for 100 ms."""
        admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{self.node.port}"})
        topic = NewTopic("anew", 1, config={"compression.type": "gzip", "max.message.bytes": str(8 * MEBIBYTE)})
        admin.create_topics([topic])["anew"].result(10)
        text = b"".join(b"%d and %d are random; " % (n, self.rng.getrandbits(64)) for n in range(4 * MEBIBYTE // 44))
        records = encode_batch([Record(0, 1_700_000_000_000, None, text)])
        data = [PartitionProduceData(index=0, records=bytes(records))]
        request = ProduceRequest(
            acks=-1, timeout_ms=30000, topic_data=[TopicProduceData(name="anew", partition_data=data)]
        )
        connections = [self.connect() for _ in range(3)]
        for connection in connections:
            connection.settimeout(10)

        def attack() -> None:
            for connection in connections:
                connection.sendall(whole(request, 9))
            for connection in connections:
                self.assertIn(b"\x05anew", self.answer(connection))

        times = self.endure(attack, 200 * MEBIBYTE)
        self.assertLess(sorted(times)[len(times) * 9 // 10], 0.05)

    def test_fetches_and_metadata_of_very_many(self) -> None:
        """Each would hold the reactor for 0.2 to 0.5 s in one piece."""
        partitions = [FetchPartition(partition=n, partition_max_bytes=1000) for n in range(20_000)]
        fetch = FetchRequest(max_wait_ms=0, topics=[FetchTopic(topic="nowhere", partitions=partitions)])
        names = [MetadataRequestTopic(name=f"unknown-{n}") for n in range(24_000)]
        metadata = MetadataRequest(topics=names, allow_auto_topic_creation=False)
        frames = whole(fetch, 12), whole(metadata, 12)
        connections = [self.connect() for _ in frames]
        for connection in connections:
            connection.settimeout(10)

        def attack() -> None:
            for connection, frame in zip(connections, frames, strict=True):
                connection.sendall(frame)
            for connection in connections:
                self.assertGreater(len(self.answer(connection)), 500_000)

        times = self.endure(attack)
        self.assertLess(sorted(times)[len(times) * 9 // 10], 0.05)

    def test_garbage(self) -> None:
        def attack() -> None:
            connection = self.connect()
            self.send(connection, self.rng.randbytes(self.rng.choice((1, 4, 10, 1000, 100_000))))
            connection.close()

        self.endure(attack)

    def test_mutated_requests(self) -> None:
        frames = []
        for key in ApiKey:
            request, _ = message_classes(key)
            frames += [
                whole(request(), version) for version in range(request.VERSIONS.lowest, request.VERSIONS.highest + 1)
            ]

        def attack() -> None:
            connection = self.connect()
            for _ in range(5):
                frame = bytearray(self.rng.choice(frames))
                for _ in range(self.rng.randrange(4)):
                    frame[self.rng.randrange(8, len(frame))] = self.rng.randrange(256)
                if self.rng.randrange(4) == 0:
                    frame = frame[: self.rng.randrange(12, len(frame) + 1)]
                    frame[:4] = struct.pack(">i", len(frame) - 4)
                if not self.send(connection, bytes(frame)):
                    break
            connection.close()

        self.endure(attack)

    def test_slow_drips(self) -> None:
        frame = whole(MetadataRequest(topics=[]), 9)
        connections = [self.connect() for _ in range(100)]
        position = 0

        def attack() -> None:
            nonlocal position
            for connection in connections:
                self.send(connection, frame[position % len(frame) :][:1])
            position += 1

        self.endure(attack)

    def test_half_closed(self) -> None:
        def attack() -> None:
            connection = self.connect()
            self.send(connection, whole(MetadataRequest(topics=None), 9)[: self.rng.choice((3, 20, 1000))])
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            time.sleep(0.001)

        self.endure(attack)

    def test_thousands_of_tiny_requests_whose_answers_nobody_reads(self) -> None:
        requests = _ASK * 2000
        connections = [self.connect() for _ in range(5)]
        self.endure(lambda: [self.send(connection, requests) for connection in connections])

    def test_huge_sizes_are_declared(self) -> None:
        def attack() -> None:
            connection = self.connect()
            size = self.rng.choice((60 * MEBIBYTE, 100 * MEBIBYTE, 2**31 - 1, -1))
            self.send(connection, struct.pack(">i", size) + bytes(self.rng.choice((0, 1000, 70_000))))
            time.sleep(0.005)

        self.endure(attack)

    def test_unread_fetches_of_a_large_partition(self) -> None:
        create = MetadataRequest(topics=[MetadataRequestTopic(name="large")], allow_auto_topic_creation=True)
        batch = encode_batch([Record(0, 1_700_000_000_000, None, self.rng.randbytes(900_000))])
        data = TopicProduceData(name="large", partition_data=[PartitionProduceData(index=0, records=batch)])
        with socket.create_connection(("127.0.0.1", self.node.port), 10) as producer:
            producer.sendall(whole(create, 9))
            self.assertGreater(len(producer.recv(1000)), 0)
            for _ in range(21):
                producer.sendall(whole(ProduceRequest(acks=1, timeout_ms=1000, topic_data=[data]), 7))
                self.assertGreater(len(producer.recv(1000)), 0)
        asked = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=50 * MEBIBYTE)
        now = FetchRequest(
            max_wait_ms=0, min_bytes=1, max_bytes=50 * MEBIBYTE, topics=[FetchTopic(topic="large", partitions=[asked])]
        )
        later = FetchRequest(max_wait_ms=300, min_bytes=2**30, max_bytes=50 * MEBIBYTE, topics=now.topics)
        at_end = FetchRequest(
            max_wait_ms=500,
            min_bytes=1,
            max_bytes=50 * MEBIBYTE,
            topics=[FetchTopic(topic="large", partitions=[FetchPartition(partition=0, fetch_offset=21)])],
        )
        for first, rest in ((now, now), (at_end, now), (later, later)):
            connection = self.connect()
            self.send(connection, whole(first, 11) + whole(rest, 11) * 99)
        # Three answers of 19 MB, and what a reader's buffers take; a hundred for each would be six gigabytes.
        self.endure(lambda: time.sleep(SECONDS), more_memory=200 * MEBIBYTE)

    def test_millions_of_empty_elements(self) -> None:
        topics = 4_000_000
        produce = struct.pack(">hhih", ApiKey.PRODUCE, 9, 1, -1) + b"\0" + b"\0" + struct.pack(">hi", 1, 1000)
        produce += b"\x81\x92\xf4\x01" + b"\1\1\0" * topics + b"\0"
        names = [MetadataRequestTopic(name=f"t{n}") for n in range(20_000)]
        metadata = whole(MetadataRequest(topics=names, allow_auto_topic_creation=False), 9)

        def attack() -> None:
            connection = self.connect()
            connection.settimeout(3)
            self.send(connection, struct.pack(">i", len(produce)) + produce)
            self.send(self.connect(), metadata)
            time.sleep(0.1)

        self.endure(attack, more_memory=100 * MEBIBYTE)

    def test_a_refused_produce_without_acks_is_not_answered(self) -> None:
        connection = self.connect()
        connection.settimeout(5)
        self.send(connection, whole(ProduceRequest(acks=0, topic_data=[TopicProduceData(name="t")]), 2))
        self.assertEqual(connection.recv(100), b"")
