"""Quotas at a real node, as a real client meets them: it is slowed to its rate, loses nothing, and others are not slowed."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import time
from typing import Any

from confluent_kafka import Consumer, Producer
from twisted.trial.unittest import SynchronousTestCase

from chronik.testing import Chronik
from chronik.wire.frames import encode_request, response_body
from chronik.wire.messages.alter_client_quotas import (
    AlterClientQuotasRequest,
    AlterClientQuotasResponse,
    EntityData,
    EntryData,
    OpData,
)
from tests.test_node import QUIET

RATE = 500_000
MESSAGES = [os.urandom(50_000) for _ in range(30)]


class QuotaTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.node = Chronik(quota_window_num=2, quota_window_size_seconds=1).start()
        self.addCleanup(self.node.stop)
        self.throttled = 0.0
        self.node.create_topic("t")

    def set_quota(self, name: str, key: str, value: float | None, kind: str = "client-id") -> None:
        op = OpData(key=key, value=value or 0.0, remove=value is None)
        entry = EntryData(entity=[EntityData(entity_type=kind, entity_name=name)], ops=[op])
        request = AlterClientQuotasRequest(entries=[entry])
        with socket.create_connection(("127.0.0.1", self.node.port), 10) as connection:
            connection.sendall(b"".join(encode_request(request, 1, 7, "admin")))
            (size,) = struct.unpack(">i", connection.recv(4, socket.MSG_WAITALL))
            frame = connection.recv(size, socket.MSG_WAITALL)
        _, position = response_body(frame, AlterClientQuotasResponse, 1)
        answer, _ = AlterClientQuotasResponse.decode(frame, 1, position)
        self.assertEqual(answer.entries[0].error_code, 0)

    def _statistics(self, text: str) -> None:
        brokers = json.loads(text)["brokers"].values()
        self.throttled = max(self.throttled, *(broker["throttle"]["max"] for broker in brokers))

    def client(self, name: str, **more: Any) -> dict[str, Any]:
        return {
            "bootstrap.servers": self.node.bootstrap_servers,
            "client.id": name,
            "statistics.interval.ms": 100,
            "stats_cb": self._statistics,
            **QUIET,
            **more,
        }

    def produce(self, name: str) -> float:
        """Seconds until all messages are acknowledged."""
        producer = Producer(self.client(name, **{"batch.num.messages": 1, "enable.idempotence": True}))
        lost: list[Any] = []
        began = time.monotonic()
        for message in MESSAGES:
            producer.produce("t", message, on_delivery=lambda error, _: lost.append(error) if error else None)
        self.assertEqual((producer.flush(30), lost), (0, []))
        return time.monotonic() - began

    def consume(self, name: str, count: int) -> float:
        """Seconds until so many messages are there, in order and each once."""
        consumer = Consumer(
            self.client(
                name, **{"group.id": name, "auto.offset.reset": "earliest", "max.partition.fetch.bytes": 200_000}
            )
        )
        consumer.subscribe(["t"])
        try:
            message = consumer.poll(20)
            began, values = time.monotonic(), []
            while message is not None:
                values.append(message.value())
                message = consumer.poll(10) if len(values) < count else None
            self.assertEqual(values, [MESSAGES[n % len(MESSAGES)] for n in range(count)])
            return time.monotonic() - began
        finally:
            consumer.close()

    def test_a_producer(self) -> None:
        self.set_quota("slow", "producer_byte_rate", RATE)
        slow = self.produce("slow")
        self.assertGreater(slow, 0.8 * len(MESSAGES) * 50_000 / RATE - 1)  # the first second's worth is free
        self.assertGreater(self.throttled, 0)
        self.assertLess(self.produce("fast"), slow / 2)
        self.set_quota("slow", "producer_byte_rate", None)
        self.assertLess(self.produce("slow"), slow / 2)

    def test_a_consumer(self) -> None:
        self.produce("fast")
        self.set_quota("slow", "consumer_byte_rate", RATE)
        slow = self.consume("slow", len(MESSAGES))
        self.assertGreater(slow, 0.8 * len(MESSAGES) * 50_000 / RATE - 1)
        self.assertGreater(self.throttled, 0)
        self.assertLess(self.consume("fast", len(MESSAGES)), slow / 2)

    def test_connections(self) -> None:
        self.set_quota("127.0.0.1", "connection_creation_rate", 1, "ip")
        kept, refused = (socket.create_connection(("127.0.0.1", self.node.port), 10) for _ in range(2))
        with kept, refused:
            began = time.monotonic()
            for connection in (kept, refused):
                connection.sendall(b"".join(encode_request(AlterClientQuotasRequest(), 1, 7, "c")))
            self.assertEqual(len(kept.recv(4)), 4)
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(refused.recv(4), b"")
            self.assertGreater(time.monotonic() - began, 0.4)
            self.assertLess(time.monotonic() - began, 5)
        time.sleep(2.2)
        with socket.create_connection(("127.0.0.1", self.node.port), 10) as later:
            later.sendall(b"".join(encode_request(AlterClientQuotasRequest(), 1, 7, "c")))
            self.assertEqual(len(later.recv(4)), 4)
