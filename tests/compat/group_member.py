"""A member of a consumer group as a process of its own.

    python -m tests.compat.group_member CLIENT BOOTSTRAP GROUP TOPIC SESSION_MS [INSTANCE]

It consumes and commits until SIGTERM, on which it leaves the group. It prints one JSON object a line: `{"owned": [...]}`, the
partitions that are its own now, and `{"took": [[partition, offset], ...]}`, messages that it has consumed; it says so
before it commits them, so that one killed in between has not committed what nobody saw.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Iterable

import aiokafka
import aiokafka.errors
import confluent_kafka
import kafka
import kafka.errors

_stopping = False


class Report:
    """What was printed last, so that only news is."""

    def __init__(self) -> None:
        self._owned: list[int] = []

    def owned(self, partitions: Iterable[int]) -> None:
        """The partitions that are the member's own now."""
        now = sorted(partitions)
        if now != self._owned:
            self._owned = now
            print(json.dumps({"owned": now}), flush=True)

    def took(self, messages: list[tuple[int, int]]) -> None:
        """(partition, offset) of messages that are consumed, and are committed next."""
        print(json.dumps({"took": messages}), flush=True)


def confluent(bootstrap: str, group: str, topic: str, session_ms: int, instance: str | None, strategy: str) -> None:
    """confluent-kafka; the strategy "consumer" stands for the protocol of that name, where the broker assigns."""
    settings = {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        **(
            {"group.protocol": "consumer"}
            if strategy == "consumer"
            else {
                "session.timeout.ms": session_ms,
                "heartbeat.interval.ms": 500,
                "partition.assignment.strategy": strategy,
            }
        ),
        **({} if instance is None else {"group.instance.id": instance}),
    }
    consumer = confluent_kafka.Consumer(settings)
    consumer.subscribe([topic])
    report = Report()
    while not _stopping:
        messages = [message for message in consumer.consume(100, 0.2) if message.error() is None]
        report.owned(place.partition for place in consumer.assignment())
        if messages:
            report.took([(message.partition(), message.offset()) for message in messages])
            try:
                consumer.commit(asynchronous=False)
            except confluent_kafka.KafkaException:
                continue  # a rebalance came first: whoever has the partition next takes them again
    consumer.close()


def kafka_python(bootstrap: str, group: str, topic: str, session_ms: int, instance: str | None) -> None:
    """kafka-python."""
    consumer = kafka.KafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        session_timeout_ms=session_ms,
        heartbeat_interval_ms=500,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        group_instance_id=instance,
    )
    report = Report()
    pending = False
    while not _stopping:
        found = consumer.poll(200)
        report.owned(place.partition for place in consumer.assignment())
        if found:
            report.took([(message.partition, message.offset) for messages in found.values() for message in messages])
            pending = True
        if pending:
            try:
                consumer.commit()
            except kafka.errors.CommitFailedError:
                pending = False  # a rebalance came first: whoever has the partition next takes them again
                continue
            except kafka.errors.KafkaError:
                continue  # the node is away; the next commit covers these too
            pending = False
    consumer.close(autocommit=False)


async def aio(bootstrap: str, group: str, topic: str, session_ms: int, instance: str | None) -> None:
    """aiokafka."""
    consumer = aiokafka.AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        group_instance_id=instance,
        session_timeout_ms=session_ms,
        heartbeat_interval_ms=500,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    report = Report()
    while not _stopping:
        found = await consumer.getmany(timeout_ms=200)
        report.owned(place.partition for place in consumer.assignment())
        if found:
            report.took([(message.partition, message.offset) for messages in found.values() for message in messages])
            try:
                await consumer.commit()
            except aiokafka.errors.KafkaError:
                continue
    await consumer.stop()


def _stop(*_: object) -> None:
    global _stopping
    _stopping = True


def main(client: str, bootstrap: str, group: str, topic: str, session: str, instance: str | None = None) -> None:
    """Run one member until SIGTERM."""
    signal.signal(signal.SIGTERM, _stop)
    if client == "kafka-python":
        kafka_python(bootstrap, group, topic, int(session), instance)
    elif client == "aiokafka":
        asyncio.run(aio(bootstrap, group, topic, int(session), instance))
    else:
        confluent(bootstrap, group, topic, int(session), instance, client.removeprefix("confluent-"))


if __name__ == "__main__":
    main(*sys.argv[1:])
