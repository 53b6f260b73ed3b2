"""kill -9 under load: nothing acknowledged is lost, nothing is there twice with idempotence, offsets have no gaps.

`CHRONIK_CRASHES` says how often the node is killed (3 by default; the whole run is 50).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import time
import unittest
from pathlib import Path

from tests.crash.load import (
    BY_KCAT,
    IDEMPOTENT,
    PLAIN,
    Committer,
    KcatProducer,
    SequencedProducer,
    create,
    read_all,
)
from tests.peers import cache
from tests.peers.chronik_node import ChronikNode

CRASHES = int(os.environ.get("CHRONIK_CRASHES", "3"))
SEED = int(os.environ.get("CHRONIK_CRASH_SEED", "1"))


class KillUnderLoad(unittest.TestCase):
    """One node, many deaths, one reckoning at the end."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="chronik-crash-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)

    def test_nothing_acknowledged_is_lost(self) -> None:
        """Kill the node at random moments while three producers and a committer are at work."""
        chance = random.Random(SEED)
        node = ChronikNode(self.directory)
        node.start()
        self.addCleanup(node.stop)
        create(node.bootstrap, IDEMPOTENT, PLAIN, BY_KCAT)
        exact = {"enable.idempotence": True, "acks": "all", "message.timeout.ms": 300_000, "retry.backoff.ms": 50}
        plain = {"acks": 1, "retries": 0, "message.timeout.ms": 10_000}
        back_off = {"reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 250}
        idempotent = SequencedProducer(node.bootstrap, IDEMPOTENT, {**exact, **back_off})
        simple = SequencedProducer(node.bootstrap, PLAIN, {**plain, **back_off})
        committer = Committer(node.bootstrap, "committer", IDEMPOTENT)
        try:
            kcat = KcatProducer(node.bootstrap, BY_KCAT)
        except cache.PeerMissing as missing:
            raise unittest.SkipTest(str(missing)) from None
        for _ in range(CRASHES):
            idempotent.wait_for(200)
            time.sleep(chance.uniform(0.05, 0.8))
            node.kill()
            node.start()
        idempotent.wait_for(200)
        committed = committer.finish()
        for producer in (idempotent, simple, kcat):
            producer.finish()

        self.assertFalse(idempotent.failed, f"{len(idempotent.failed)} records of the idempotent producer were refused")
        self.check(idempotent, read_all(node.bootstrap, IDEMPOTENT), exactly_once=True)
        self.check(simple, read_all(node.bootstrap, PLAIN), exactly_once=False)
        for partition, records in read_all(node.bootstrap, BY_KCAT).items():
            self.assertEqual(
                [offset for offset, _ in records], list(range(len(records))), f"kcat's partition {partition}"
            )
        self.assertGreaterEqual(committed, committer.last, "an acknowledged commit was lost")
        self.assertLessEqual(committed, committer.tried)
        self.assertIn(node.stop(), (0, -signal.SIGTERM), node.process.log_end())

    def check(self, producer: SequencedProducer, found: dict[int, list[tuple[int, int]]], exactly_once: bool) -> None:
        """Offsets without gaps; every acknowledged record where its ack said; none twice where that is promised."""
        numbers: list[int] = []
        for partition, records in found.items():
            offsets = [offset for offset, _ in records]
            self.assertEqual(offsets, list(range(len(offsets))), f"{producer.topic}-{partition}: gaps in the offsets")
            numbers += [number for _, number in records]
        there = {(partition, offset): number for partition, records in found.items() for offset, number in records}
        lost = [number for number, place in producer.acknowledged.items() if there.get(place) != number]
        self.assertFalse(
            lost, f"{producer.topic}: {len(lost)} acknowledged records are not where they were put: {lost[:5]}"
        )
        if exactly_once:
            self.assertEqual(len(numbers), len(set(numbers)), f"{producer.topic}: records are there twice")
            self.assertEqual(
                set(numbers), set(producer.acknowledged), f"{producer.topic}: not exactly what was acknowledged"
            )
            for partition, records in found.items():
                order = [number for _, number in records]
                self.assertEqual(order, sorted(order), f"{producer.topic}-{partition}: out of order")


if __name__ == "__main__":
    unittest.main()
