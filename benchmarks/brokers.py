"""The two brokers under measurement, started side by side on the same kind of directory; and the topics that they carry."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

from tests.differential.scenarios import wait_for_topic
from tests.differential.session import Session
from tests.peers.apache_kafka import ApacheKafka
from tests.peers.chronik_node import ChronikNode
from tests.peers.process import LOOPBACK

CHRONIK, KAFKA = "chronik", "kafka"
NAMES = (CHRONIK, KAFKA)

DIRECTORIES = {"disk": Path(tempfile.gettempdir()), "tmpfs": Path("/dev/shm")}
"""Where a broker's data goes. The disk is where temporary files go: set TMPDIR to choose another."""

DEFAULT_FLUSHING: Mapping[str, str] = {}
EQUAL_FLUSHING = {"log.flush.interval.ms": "1000", "log.flush.scheduler.interval.ms": "500"}
"""Kafka's own flushing is the kernel's. This gives it what Chronik does by default: synced about every second."""

_KAFKA_SETTINGS = {"log.segment.delete.delay.ms": "500", "offsets.topic.num.partitions": "1"}


class Running:
    """A started broker and what the measurements need of it."""

    def __init__(self, peer: ApacheKafka | ChronikNode) -> None:
        self.peer = peer
        self.bootstrap = peer.bootstrap
        self.port = peer.port
        self._admin = AdminClient({"bootstrap.servers": peer.bootstrap, "log_level": 0})

    @property
    def pid(self) -> int:
        """The process to watch."""
        return self.peer.process.pid

    def create(self, topic: str, partitions: int, configs: Mapping[str, str] | None = None) -> None:
        """Create a topic and wait until its leaders serve it (metadata may name them before that)."""
        self._admin.create_topics([NewTopic(topic, partitions, 1, config=dict(configs or {}))])[topic].result(60)
        session = Session((LOOPBACK, self.port))
        try:
            wait_for_topic(session, topic, partitions)
        finally:
            session.close()

    def delete(self, topic: str) -> None:
        """Delete a topic; its files go in the background."""
        self._admin.delete_topics([topic])[topic].result(60)


@contextlib.contextmanager
def running(
    place: str, flushing: Mapping[str, str] = DEFAULT_FLUSHING, names: tuple[str, ...] = NAMES
) -> Iterator[dict[str, Running]]:
    """Both brokers, started, by name; their directories are removed at the end. `place` is "disk" or "tmpfs"."""
    home = Path(tempfile.mkdtemp(prefix="chronik-benchmark-", dir=DIRECTORIES[place]))
    started: dict[str, Running] = {}
    try:
        for name in names:
            peer: ApacheKafka | ChronikNode
            if name == KAFKA:
                peer = ApacheKafka(home / name, {**_KAFKA_SETTINGS, **flushing}, heap="1g")
            else:
                peer = ChronikNode(home / name)
            peer.start()
            started[name] = Running(peer)
        yield started
    finally:
        for broker in started.values():
            broker.peer.stop()
        shutil.rmtree(home, ignore_errors=True)
