"""Transactions at the levels of transaction.version: what is served, and how it is logged, before and after a change."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chronik.coordinator.settings import TransactionSettings
from chronik.coordinator.transaction import V1, V2, Identity
from chronik.errors import ErrorCode
from chronik.features import TRANSACTION_VERSION
from chronik.wire.records import decode_records
from tests.coordinator.transactions import EVENTS, LOGS, PARTITION, TransactionWorld


class LevelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = TransactionWorld()
        self.addCleanup(lambda: self.world.coordinator.stop())

    def level(self, level: int) -> None:
        self.world.metadata.levels[TRANSACTION_VERSION] = level

    def formats(self) -> list[int]:
        """The versions of the values in the log."""
        records = [record for batch in self.world.log.batches[PARTITION] for record in decode_records(batch, 1 << 20)]
        return [int.from_bytes(record.value[:2], "big") for record in records if record.value is not None]

    def test_level_0_serves_v1_in_the_format_without_tags(self) -> None:
        self.level(0)
        producer = self.world.initialise()
        for commit in (True, False):
            self.assertIsNone(self.world.add(producer, EVENTS, LOGS, version=V1))
            self.assertEqual(self.world.end(producer, commit, version=V1), producer)
        self.assertEqual(self.world.markers.outcomes(), [True, False])
        self.assertEqual(self.world.initialise(expected=producer), (1, 1))
        self.assertEqual(set(self.formats()), {0})
        self.world = self.world.crash()
        self.assertEqual(self.world.initialise(), (1, 2))

    def test_level_0_refuses_v2_and_leaves_the_id_as_it_was(self) -> None:
        producer = self.world.initialise()
        self.world.add(producer, EVENTS)
        self.level(0)
        before = self.world.state()
        self.assertEqual(self.world.add(producer, LOGS), ErrorCode.UNSUPPORTED_VERSION)
        self.assertEqual(self.world.end(producer), ErrorCode.UNSUPPORTED_VERSION)
        self.assertIsNone(self.world.add(producer, EVENTS))  # it is in the transaction already: nothing is to be logged
        self.assertEqual(self.world.state(), before)
        self.level(1)
        self.assertIsNone(self.world.add(producer, LOGS))
        self.assertEqual(self.world.end(producer), (1, 1))
        self.assertEqual(set(self.formats()), {1})

    def test_what_was_begun_as_v2_ends_as_v1(self) -> None:
        producer = self.world.initialise()
        self.world.add(producer, EVENTS)
        self.level(0)
        self.assertEqual(self.world.end(producer, version=V1), producer)
        self.assertEqual(self.world.markers.outcomes(), [True])
        self.assertEqual(self.formats(), [1, 1, 0, 0])
        self.world = self.world.crash()
        self.assertIsNone(self.world.add(producer, EVENTS, version=V1))

    def test_a_level_that_is_lowered_while_markers_are_written(self) -> None:
        producer = self.world.initialise()
        self.world.add(producer, EVENTS)
        self.world.markers.holding = True
        self.assertEqual(self.world.end(producer), (1, 1))
        self.level(0)
        self.world.markers.release_all()
        self.world.settle()
        self.assertEqual(self.world.states(), ["Empty", "Ongoing", "PrepareCommit", "CompleteCommit"])
        self.assertEqual(self.formats(), [1, 1, 1, 0])
        self.world = self.world.crash()
        self.assertEqual(self.world.state().identity, (1, 1))
        self.assertIsNone(self.world.add(Identity(1, 1), EVENTS, version=V1))

    def test_a_timeout_at_level_0_leaves_a_way_on(self) -> None:
        """The epoch that the producer knows is not in the log then, but it is in memory, as in Kafka."""
        self.world = TransactionWorld(TransactionSettings(transaction_max_timeout_ms=60_000))
        self.level(0)
        producer = self.world.initialise(timeout_ms=1_000)
        self.world.add(producer, EVENTS, version=V1)
        self.world.advance(20)
        self.assertEqual(self.world.markers.outcomes(), [False])
        self.assertEqual(self.world.initialise(expected=producer), (1, 1))
        self.assertEqual(set(self.formats()), {0})

    def test_every_level_knows_the_others(self) -> None:
        """Transactions of either version under changing levels: outcomes and epochs follow, and outlive a crash."""
        producer = self.world.initialise()
        outcomes = []
        for number, (level, version) in enumerate([(2, V2), (0, V1), (1, V2), (1, V1), (0, V1), (2, V2)]):
            self.level(level)
            self.assertIsNone(self.world.add(producer, EVENTS, version=version))
            producer = self.world.end(producer, commit=number % 2 == 0, version=version)
            outcomes.append(number % 2 == 0)
            self.world = self.world.crash()
        self.assertEqual([marker.committed for marker in self.world.markers.written[EVENTS]], outcomes)
        self.assertEqual(producer, (1, 3))
