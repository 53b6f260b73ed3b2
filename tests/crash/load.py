"""Producers whose every record carries its number, and a group that commits, running across the death of the broker.

The idempotent producer retries until all is acknowledged. The others give up at once: of their records, those acknowledged
must be there, the others may be.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.peers import cache

PARTITIONS = 3
IDEMPOTENT, PLAIN, BY_KCAT = "idempotent", "plain", "by-kcat"


class SequencedProducer:
    """Produces numbers to partition `number % PARTITIONS`, forever, in a thread; knows the acknowledged ones' offsets."""

    def __init__(self, bootstrap: str, topic: str, settings: dict[str, Any]) -> None:
        self.topic = topic
        self.acknowledged: dict[int, tuple[int, int]] = {}
        self.failed: set[int] = set()
        self.sent = 0
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 2, **settings})
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if len(self._producer) > 2000:
                self._producer.poll(0.01)
                continue
            number = self.sent
            value = b"%d %s" % (number, b"x" * (number % 200))
            try:
                self._producer.produce(
                    self.topic, value, partition=number % PARTITIONS, on_delivery=self._reported(number)
                )
            except BufferError:
                self._producer.poll(0.01)
                continue
            self.sent += 1
            if number % 50 == 0:
                self._producer.poll(0.002)

    def _reported(self, number: int) -> Callable[[Any, Message], None]:
        def report(error: Any, message: Message) -> None:
            if error is None:
                self.acknowledged[number] = (message.partition(), message.offset())
            else:
                self.failed.add(number)

        return report

    def wait_for(self, more: int, timeout: float = 30.0) -> None:
        """Until `more` further records are acknowledged."""
        goal, give_up = len(self.acknowledged) + more, time.monotonic() + timeout
        while len(self.acknowledged) < goal:
            if time.monotonic() > give_up:
                raise AssertionError(f"{self.topic}: {len(self.acknowledged)} of {goal} acknowledged after {timeout} s")
            time.sleep(0.01)

    def finish(self) -> None:
        """Stop producing and wait for what is under way."""
        self._stopping.set()
        self._thread.join()
        left = self._producer.flush(60)
        if left:
            raise AssertionError(f"{self.topic}: {left} records were neither delivered nor refused in 60 s")


class KcatProducer:
    """kcat with acks=1, fed numbers on its standard input. It says nothing of acknowledgements."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        line = [cache.program("kcat", "kcat"), "-P", "-b", bootstrap, "-t", topic, "-p", "0", "-X", "acks=1"]
        self._child = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, bufsize=0
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        assert self._child.stdin is not None
        while not self._stopping.is_set():
            try:
                self._child.stdin.write(b"".join(b"%d\n" % n for n in range(number, number + 20)))
            except BrokenPipeError:
                return
            number += 20
            time.sleep(0.005)

    def finish(self) -> None:
        """End the input and wait for kcat."""
        self._stopping.set()
        self._thread.join()
        assert self._child.stdin is not None
        self._child.stdin.close()
        try:
            self._child.wait(30)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait(5)


class Committer:
    """Commits growing offsets of a group without members, in a thread; knows the last one acknowledged."""

    def __init__(self, bootstrap: str, group: str, topic: str) -> None:
        self.last = -1
        self.tried = -1
        self._topic = topic
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False})
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.tried = offset = self.tried + 1
            try:
                done = self._consumer.commit(offsets=[TopicPartition(self._topic, 0, offset)], asynchronous=False)
            except KafkaException:
                time.sleep(0.02)
                continue
            if done and done[0].error is None:
                self.last = offset
            time.sleep(0.005)

    def finish(self) -> int:
        """Stop; the offset that the group has now."""
        self._stopping.set()
        self._thread.join()
        (found,) = self._consumer.committed([TopicPartition(self._topic, 0)], 30)
        self._consumer.close()
        return int(found.offset)


def create(bootstrap: str, *topics: str) -> None:
    """The topics of a run."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in topics]).values():
        future.result(30)


def read_all(bootstrap: str, topic: str) -> dict[int, list[tuple[int, int]]]:
    """Everything in a topic: for each partition the (offset, number) pairs in their order."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False, "check.crcs": True}
    )
    found: dict[int, list[tuple[int, int]]] = defaultdict(list)
    try:
        ends = {}
        for partition in range(PARTITIONS):
            ends[partition] = consumer.get_watermark_offsets(TopicPartition(topic, partition), 30)[1]
        consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
        give_up = time.monotonic() + 120
        while any((found[p][-1][0] + 1 if found[p] else 0) < end for p, end in ends.items()):
            if time.monotonic() > give_up:
                raise AssertionError(f"{topic}: reading did not reach the ends {ends}")
            for message in consumer.consume(5000, 0.2):
                if message.error():
                    raise AssertionError(message.error())
                number = int(message.value().split(b" ")[0])
                found[message.partition()].append((message.offset(), number))
    finally:
        consumer.close()
    return found
