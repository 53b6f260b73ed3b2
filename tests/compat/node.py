"""The broker that the compatibility tests share: started by the first test that needs it, stopped when the process ends."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import unittest
from collections.abc import Mapping
from pathlib import Path

from tests.peers import cache
from tests.peers.apache_kafka import ApacheKafka
from tests.peers.chronik_node import ChronikNode

WHOLE = os.environ.get("CHRONIK_COMPAT") == "1"
"""Whether everything runs, or the bounded slice."""

ON_KAFKA = os.environ.get("CHRONIK_COMPAT_BROKER") == "kafka"

LOGHUB = Path(os.environ.get("CHRONIK_LOGHUB") or Path(__file__).parents[3] / "shared" / "data" / "loghub")

_SETTINGS = {
    "group.min.session.timeout.ms": "500",  # kafka-python's own tests ask for short sessions
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "500",
}

_shared: ChronikNode | ApacheKafka | None = None


def shared() -> ChronikNode | ApacheKafka:
    """The running broker. After it has died, a new one (the test that killed it has failed already)."""
    global _shared
    if _shared is None or not _shared.process.running:
        directory = Path(tempfile.mkdtemp(prefix="chronik-compat-"))
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        _shared = started(directory, {})
        atexit.register(_shared.stop)
    return _shared


def started(directory: Path, settings: Mapping[str, str]) -> ChronikNode | ApacheKafka:
    """A broker with `settings`, by Kafka's names, over those of the shared one."""
    chosen = {**_SETTINGS, **settings}
    broker = ApacheKafka(directory, chosen) if ON_KAFKA else ChronikNode(directory, chosen)
    broker.start()
    return broker


def log_files() -> list[Path]:
    """The real log files to produce: all of them, or the smallest in a slice. Skips the test where there are none."""
    found = sorted(LOGHUB.glob("*.log"), key=lambda path: path.stat().st_size)
    if not found:
        raise unittest.SkipTest(f"no log files in {LOGHUB}: set CHRONIK_LOGHUB")
    return found if WHOLE else found[:1]


class BrokerTestCase(unittest.TestCase):
    """A test against the shared broker, `self.bootstrap`; peers that are missing make it skip."""

    bootstrap: str

    def setUp(self) -> None:
        self.broker = shared()
        self.bootstrap = self.broker.bootstrap

    def own_broker(self, settings: Mapping[str, str]) -> str:
        """The bootstrap address of another broker, which has `settings` and lives as long as the test."""
        directory = Path(tempfile.mkdtemp(prefix="chronik-compat-"))
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        broker = started(directory, settings)
        self.addCleanup(broker.stop)
        return broker.bootstrap

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        """As unittest, but a missing peer is a skip with its reason."""
        method = getattr(self, self._testMethodName)

        def guarded(*arguments: object) -> object:
            try:
                return method(*arguments)
            except cache.PeerMissing as missing:
                raise unittest.SkipTest(str(missing)) from None

        setattr(self, self._testMethodName, guarded)
        return super().run(result)
