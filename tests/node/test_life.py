"""Starting and stopping a node at awkward moments: nothing is left held, nothing acknowledged is lost."""

from __future__ import annotations

import os
import threading
import time
from tempfile import TemporaryDirectory
from typing import Any

from confluent_kafka import Producer
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from chronik.config import Config
from chronik.log.disk import RealDisk
from chronik.services import make_node
from chronik.testing import Chronik
from chronik.testing.reactor_thread import call, reactor_in_thread
from tests.test_node import QUIET, consume


class SlowDisk(RealDisk):
    """Every sync takes its time."""

    def open(self, path: str) -> Any:
        file = super().open(path)
        return SlowFile(file)


class SlowFile:
    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def datasync(self) -> None:
        time.sleep(0.3)
        self._file.datasync()


class StoppingTests(SynchronousTestCase):
    def setUp(self) -> None:
        scratch = TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.directory = os.path.join(scratch.name, "data")

    def settings(self, **more: str) -> Config:
        return Config.resolve(
            {
                "data_directory": self.directory,
                "listeners": "PLAINTEXT://127.0.0.1:0",
                "admin_listener": "none",
                "search_listener": "none",
                **more,
            }
        )

    def test_a_stop_at_any_moment_of_the_start_leaves_nothing_held(self) -> None:
        told: list[Failure] = []

        async def start_and_stop(seconds: float) -> None:
            node = make_node(self.settings(), told.append, reactor_in_thread())
            node.startService()
            await deferLater(reactor_in_thread(), seconds)
            await maybeDeferred(node.stopService)

        for step in range(25):
            call(start_and_stop, step * 0.002)
        self.assertEqual(told, [])
        with Chronik(directory=self.directory) as broker:
            broker.create_topic("works")

    def test_a_producer_that_waits_for_a_sync_has_its_answer_before_the_end(self) -> None:
        outcomes: list[object] = []

        async def start() -> Any:
            node = make_node(
                self.settings(durability="fsync"), lambda failure: None, reactor_in_thread(), disk=SlowDisk()
            )
            node.startService()
            await node.ready
            return node

        async def stop(node: Any) -> None:
            await maybeDeferred(node.stopService)

        node = call(start)
        producer = Producer(
            {
                "bootstrap.servers": f"127.0.0.1:{node.kafka_ports[0][1].getHost().port}",
                "acks": "all",
                "retries": 0,
                "linger.ms": 0,
                **QUIET,
            }
        )
        producer.produce("slow", "first", on_delivery=lambda error, _: outcomes.append(error))
        producer.flush(10)
        self.assertEqual(outcomes, [None])
        producer.produce("slow", "second", on_delivery=lambda error, _: outcomes.append(error))
        producer.poll(0.1)
        stopper = threading.Thread(target=call, args=(stop, node))
        stopper.start()
        producer.flush(10)
        stopper.join()
        self.assertEqual(outcomes, [None, None])
        with Chronik(directory=self.directory) as broker:
            self.assertEqual(consume(broker, "slow", 2), ["first", "second"])
