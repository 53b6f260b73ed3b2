"""What an alert does when something goes wrong between counting, telling and keeping its state; on a real log and engine."""

from __future__ import annotations

import json
import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from chronik.controller.commands import CreatePartitions, DeleteAlert, MorePartitions, SaveAlert
from chronik.errors import ErrorCode, KafkaError
from chronik.search.alerting import Alerting
from chronik.wire.records import Record, decode_records, encode_batch, split_batches
from tests.broker.searching import SearchHosting
from tests.listeners.handlers.hosting import NOW

MINUTE = 60_000
BEGIN = NOW // MINUTE * MINUTE


class Kept:
    """States in memory. While `refuses`, nothing is kept."""

    def __init__(self):
        self.states = {}
        self.refuses = False

    async def load(self, alert, search):
        offsets, text = self.states.get(alert.name, ({}, ""))
        return dict(offsets), text

    async def save(self, alert, search, offsets, text):
        if self.refuses:
            raise KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, "not now")
        self.states[alert.name] = dict(offsets), text

    async def drop(self, name):
        self.states.pop(name, None)


class AlertingTests(SynchronousTestCase):
    def setUp(self):
        self.hosting = SearchHosting()
        self.hosting.create("events", 2)
        self.hosting.create("told")
        self.hosting.save("errors", "events", "error")
        self.kept = Kept()
        self.refuses_writes = False
        self.hosting.cluster.do(SaveAlert("many", "errors", 2, MINUTE, "told"))
        self.start()

    def start(self):
        """A new process of the node: only what is kept is known."""
        selector = self.hosting.saved._selector
        self.alerting = Alerting(
            self.hosting.image, selector, self.hosting.replicas.partition_by_id, self.kept, self.write, lambda: NOW,
            self.hosting.clock,
        )  # fmt: skip
        self.alerting.startService()
        self.addCleanup(self.alerting.stopService)
        self.turn()

    def write(self, place, batch) -> Deferred[int]:
        if self.refuses_writes:
            return fail(KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "no"))
        return self.hosting.replicas.append(place, batch)

    def turn(self, count=1):
        for _ in range(count):
            self.hosting.clock.advance(1)

    def errors(self, count, minute=0, index=0):
        records = [Record(n, BEGIN + minute * MINUTE + n, None, b"error") for n in range(count)]
        self.hosting.partition("events", index).append(encode_batch(records), NOW)

    def told(self):
        """(window, count) of all that was told."""
        target = self.hosting.partition("told")
        data = bytes(target.read(0, 1 << 20, False, True).records)
        values = [
            json.loads(record.value)
            for position, header in split_batches(data)
            for record in decode_records(data[position : position + header.size], 1 << 20)
        ]
        return [((each["window_start"] - BEGIN) // MINUTE, each["count"]) for each in values]

    def test_the_state_that_is_not_kept_is_counted_again(self):
        """At least once: what was told and not kept is told again, as the same window."""
        self.errors(3)
        self.kept.refuses = True
        self.turn(3)
        self.assertEqual(self.told(), [(0, 3)])
        self.alerting.stopService()
        self.kept.refuses = False
        self.start()
        self.assertEqual(self.told(), [(0, 3), (0, 3)])
        self.errors(5)
        self.turn(10)
        self.alerting.stopService()
        self.start()
        self.turn(10)
        self.assertEqual(self.told(), [(0, 3), (0, 3)])

    def test_what_cannot_be_written_is_told_later(self):
        self.refuses_writes = True
        self.errors(3)
        self.turn(3)
        self.errors(1)
        self.turn(3)
        self.refuses_writes = False
        self.turn()
        self.assertEqual(self.told(), [(0, 4)])

    def test_a_process_that_dies_is_waited_for(self):
        self.errors(2)
        self.turn()
        self.hosting.lost = True
        self.errors(1)
        self.turn(3)
        self.assertEqual(self.told(), [])
        self.hosting.lost = False
        self.hosting.begin_anew()
        self.hosting.following.began_anew(0)
        self.turn(3)
        self.assertEqual(self.told(), [(0, 3)])

    def test_partitions_that_come_later_count_from_their_beginning(self):
        self.hosting.cluster.do(CreatePartitions((MorePartitions("events", 3),)))
        self.errors(3, index=2)
        self.turn()
        self.assertEqual(self.told(), [(0, 3)])

    def test_a_damaged_partition_keeps_no_other_from_being_counted(self):
        self.errors(1)
        log = self.hosting.partition("events").log
        content = next(c for path, c in self.hosting.disk._files.items() if path.startswith(log.directory))
        content[-3] ^= 1
        self.errors(3, index=1)
        self.turn()
        self.assertEqual(self.told(), [(0, 3)])

    def test_one_that_is_deleted_is_forgotten(self):
        self.assertIn("many", self.kept.states)
        self.hosting.cluster.do(DeleteAlert("many"))
        self.errors(9)
        self.turn(2)
        self.assertEqual((self.told(), self.kept.states), ([], {}))

    @given(st.integers(0, 2**32))
    @settings(max_examples=50, deadline=None)
    def test_whatever_fails_every_window_with_too_many_is_told(self, seed):
        chance = random.Random(seed)
        self.setUp()
        counts: dict[int, int] = {}
        for _ in range(chance.randrange(1, 30)):
            act = chance.random()
            if act < 0.4:
                count, minute = chance.randrange(1, 4), chance.randrange(-3, 4)
                self.errors(count, minute, chance.randrange(2))
                counts[minute] = counts.get(minute, 0) + count
            elif act < 0.7:
                self.turn(chance.choice([1, 7]))
            elif act < 0.8:
                self.kept.refuses = not self.kept.refuses
            elif act < 0.85:
                self.refuses_writes = not self.refuses_writes
            elif act < 0.95:
                self.hosting.lost = not self.hosting.lost
            else:
                self.alerting.stopService()
                self.start()
        self.kept.refuses = self.refuses_writes = self.hosting.lost = False
        self.turn(10)
        told = self.told()
        over = {minute for minute, count in counts.items() if count > 2}
        self.assertEqual({minute for minute, _ in told}, over)
        for minute, count in told:
            self.assertLessEqual(count, counts[minute])
        self.alerting.stopService()
