"""One small face for every client: produce lines with a codec, consume a topic. What differs between clients stays in here."""

from __future__ import annotations

import asyncio
import subprocess
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tests.peers import java, kafkajs_peer, kcat

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
PATIENCE = 60.0
_PIPE = Path(__file__).parent / "java" / "Pipe.java"

Pair = tuple[bytes | None, bytes]
"""(key, value)"""


class Record(tuple[int, int, bytes | None, bytes]):
    """(partition, offset, key, value); an offset of -1 where the client does not tell it."""

    __slots__ = ()


class Client(Protocol):
    """A client under test."""

    name: str

    def produce(self, bootstrap: str, topic: str, pairs: Sequence[Pair], codec: str) -> None:
        """Produce all pairs in order, acknowledged by all replicas, compressed with `codec`."""

    def consume(self, bootstrap: str, topic: str, count: int) -> list[Record]:
        """The first `count` records from the beginning, in the order in which they came."""


class ConfluentKafka:
    """confluent-kafka: librdkafka 2.16 in Python; consumes as a group member."""

    name = "confluent-kafka"

    def produce(self, bootstrap: str, topic: str, pairs: Sequence[Pair], codec: str) -> None:
        from confluent_kafka import Producer

        failures: list[object] = []
        producer = Producer(
            {"bootstrap.servers": bootstrap, "compression.type": codec, "linger.ms": 20, "enable.idempotence": True}
        )
        for key, value in pairs:
            producer.produce(topic, value, key, on_delivery=lambda error, _: failures.append(error) if error else None)
            producer.poll(0)
        if producer.flush(PATIENCE) or failures:
            raise AssertionError(f"{len(producer)} undelivered, {len(failures)} failed: {failures[:1]}")

    def consume(self, bootstrap: str, topic: str, count: int) -> list[Record]:
        from confluent_kafka import Consumer

        consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"{topic}-{uuid.uuid4().hex[:8]}",
                "auto.offset.reset": "earliest",
                "check.crcs": True,
            }
        )
        found: list[Record] = []
        try:
            consumer.subscribe([topic])
            give_up = time.monotonic() + PATIENCE
            while len(found) < count and time.monotonic() < give_up:
                for message in consumer.consume(1000, 0.2):
                    if message.error():
                        raise AssertionError(message.error())
                    found.append(Record((message.partition(), message.offset(), message.key(), message.value())))
        finally:
            consumer.close()
        return found


class KafkaPython:
    """kafka-python 3: pure Python; consumes as a group member."""

    name = "kafka-python"

    def produce(self, bootstrap: str, topic: str, pairs: Sequence[Pair], codec: str) -> None:
        from kafka import KafkaProducer

        producer = KafkaProducer(
            bootstrap_servers=bootstrap, compression_type=None if codec == "none" else codec, acks="all", linger_ms=20
        )
        sent = [producer.send(topic, value, key) for key, value in pairs]
        producer.flush(PATIENCE)
        for future in sent:
            future.get(PATIENCE)
        producer.close()

    def consume(self, bootstrap: str, topic: str, count: int) -> list[Record]:
        from kafka import KafkaConsumer

        consumer = KafkaConsumer(
            topic,
            bootstrap_servers=bootstrap,
            group_id=f"{topic}-{uuid.uuid4().hex[:8]}",
            auto_offset_reset="earliest",
            check_crcs=True,
        )
        found: list[Record] = []
        give_up = time.monotonic() + PATIENCE
        while len(found) < count and time.monotonic() < give_up:
            for records in consumer.poll(200, max_records=5000).values():
                found.extend(Record((r.partition, r.offset, r.key, r.value)) for r in records)
        consumer.close()
        return found


class Aiokafka:
    """aiokafka: asyncio; consumes as a group member."""

    name = "aiokafka"

    def produce(self, bootstrap: str, topic: str, pairs: Sequence[Pair], codec: str) -> None:
        async def run() -> None:
            from aiokafka import AIOKafkaProducer

            producer = AIOKafkaProducer(
                bootstrap_servers=bootstrap,
                compression_type=None if codec == "none" else codec,
                enable_idempotence=True,
                linger_ms=20,
            )
            await producer.start()
            try:
                sent = [await producer.send(topic, value, key) for key, value in pairs]
                await asyncio.wait_for(asyncio.gather(*sent), PATIENCE)
            finally:
                await producer.stop()

        asyncio.run(run())

    def consume(self, bootstrap: str, topic: str, count: int) -> list[Record]:
        async def run() -> list[Record]:
            from aiokafka import AIOKafkaConsumer

            consumer = AIOKafkaConsumer(
                topic,
                bootstrap_servers=bootstrap,
                group_id=f"{topic}-{uuid.uuid4().hex[:8]}",
                auto_offset_reset="earliest",
                check_crcs=True,
            )
            await consumer.start()
            found: list[Record] = []
            give_up = time.monotonic() + PATIENCE
            try:
                while len(found) < count and time.monotonic() < give_up:
                    for records in (await consumer.getmany(timeout_ms=200)).values():
                        found.extend(Record((r.partition, r.offset, r.key, r.value)) for r in records)
            finally:
                await consumer.stop()
            return found

        return asyncio.run(run())


class Kcat:
    """kcat on librdkafka 2.0.2; reads every partition without a group."""

    name = "kcat"

    def produce(self, bootstrap: str, topic: str, pairs: Sequence[Pair], codec: str) -> None:
        keyed = pairs[0][0] is not None
        lines = [(key or b"") + b"\t" + value if keyed else value for key, value in pairs]
        kcat.produce(bootstrap, topic, lines, codec, keyed)

    def consume(self, bootstrap: str, topic: str, count: int) -> list[Record]:
        found = kcat.consume(bootstrap, topic)
        return [Record((partition, offset, key or None, value)) for partition, offset, key, value in found]


class KafkaJS:
    """KafkaJS on Node; consumes as a group member."""

    name = "kafkajs"

    def produce(self, bootstrap: str, topic: str, pairs: Sequence[Pair], codec: str) -> None:
        kafkajs_peer.produce(bootstrap, topic, pairs, codec)

    def consume(self, bootstrap: str, topic: str, count: int) -> list[Record]:
        found = kafkajs_peer.consume(bootstrap, topic, f"{topic}-{uuid.uuid4().hex[:8]}", count)
        return [Record(item) for item in found]


class JavaClient:
    """Apache Kafka's own Java client, driven by `java/Pipe.java`, which the JDK compiles once."""

    name = "java"

    def produce(self, bootstrap: str, topic: str, pairs: Sequence[Pair], codec: str) -> None:
        lines = [(b"-" if key is None else key.hex().encode()) + b" " + value.hex().encode() for key, value in pairs]
        self._run("produce", bootstrap, topic, codec, stdin=b"\n".join(lines) + b"\n")

    def consume(self, bootstrap: str, topic: str, count: int) -> list[Record]:
        output = self._run("consume", bootstrap, topic, f"{topic}-{uuid.uuid4().hex[:8]}", str(count))
        found = []
        for line in output.decode().splitlines():
            partition, offset, key, *value = line.split(" ")
            content = bytes.fromhex(value[0]) if value else b""
            found.append(Record((int(partition), int(offset), None if key == "-" else bytes.fromhex(key), content)))
        return found

    def _run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        line = java.own_command(_PIPE, arguments, java.TOOL_OPTIONS)
        done = subprocess.run(line, input=stdin, capture_output=True, timeout=PATIENCE * 2, check=False)
        if done.returncode:
            raise AssertionError(f"Pipe {arguments} failed: {done.stderr.decode('utf-8', 'replace')[-3000:]}")
        return done.stdout


CLIENTS: tuple[Client, ...] = (ConfluentKafka(), Kcat(), KafkaPython(), Aiokafka(), KafkaJS(), JavaClient())
