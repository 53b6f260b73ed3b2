"""Conformance 32 to 37: transactions, with raw requests of both transaction protocols, and once with real consumers."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from confluent_kafka import Consumer, Producer

from chronik.errors import ErrorCode
from chronik.wire.apis import ApiKey
from tests.conformance.case import ConformanceCase, OnDisk
from tests.conformance.transactional import Transactor
from tests.differential.batches import Batch, describe
from tests.differential.scenarios import coordinate
from tests.differential.scenarios.groups import Member

_COMMITTED = 1
_CONTROL = 1 << 5


class _TransactionCase(ConformanceCase):
    options = {"offsets_topic_num_partitions": 4, "transaction_state_log_num_partitions": 4}  # noqa: RUF012

    def transactor(self, name: str, v2: bool = True, **options: Any) -> Transactor:
        """A producer that is initialised."""
        transactor = Transactor(self.session, name, v2, **options)
        self.assertEqual(transactor.initialise(), ErrorCode.NONE)
        return transactor

    def settled(self, topic: str, end: int, partition: int = 0) -> None:
        """Wait until the last stable offset of a partition is `end`: markers are written after EndTxn answers."""
        give_up = time.monotonic() + 10
        while (stable := self.stable_offset(topic, partition)) != end:
            self.assertLess(time.monotonic(), give_up, f"the last stable offset is {stable}, not {end}")
            time.sleep(0.02)

    def stable_offset(self, topic: str, partition: int = 0) -> int:
        """The last stable offset."""
        return int(self.fetch(topic, 0, partition=partition, isolation_level=_COMMITTED).last_stable_offset)

    def read(self, topic: str, isolation: int, partition: int = 0) -> tuple[list[Any], set[tuple[int, int]]]:
        """All batches that a consumer is given, fetch by fetch, and the (producer id, first offset) of what is aborted."""
        batches: list[Any] = []
        aborted: set[tuple[int, int]] = set()
        position = 0
        while True:
            found = self.fetch(topic, position, partition=partition, isolation_level=isolation)
            aborted |= {(each.producer_id, each.first_offset) for each in found.aborted_transactions or ()}
            given = describe(found.records)
            assert isinstance(given, list)
            if not given:
                return batches, aborted
            batches += given
            position = given[-1]["base_offset"] + given[-1]["last_offset_delta"] + 1

    def visible(self, topic: str, partition: int = 0) -> list[int]:
        """The offsets that a consumer of read_committed keeps, by Kafka's rule."""
        batches, found = self.read(topic, _COMMITTED, partition)
        aborted = sorted((first, producer) for producer, first in found)
        dropped: set[int] = set()
        kept: list[int] = []
        for batch in batches:
            while aborted and aborted[0][0] <= batch["base_offset"] + batch["last_offset_delta"]:
                dropped.add(aborted.pop(0)[1])
            if batch["attributes"] & _CONTROL:
                dropped.discard(batch["producer_id"])
            elif batch["producer_id"] not in dropped:
                kept += range(batch["base_offset"], batch["base_offset"] + batch["count"])
        return kept


class TransactionTests(_TransactionCase):
    def outcomes(self, v2: bool) -> None:
        topic = self.topic()
        one, two = self.transactor("one", v2), self.transactor("two", v2)
        self.assertEqual(one.produce(topic, b"a", b"b").base_offset, 0)
        self.assertEqual(two.produce(topic, b"c").base_offset, 2)
        self.append(topic, Batch())  # 3, without a transaction
        read = self.fetch(topic, 0, isolation_level=_COMMITTED)
        self.assertEqual((read.high_watermark, read.last_stable_offset, bytes(read.records)), (4, 0, b""))
        self.assertEqual(one.end(commit=False), ErrorCode.NONE)
        self.settled(topic, 2)  # the other one is open from 2 on
        self.assertEqual(self.visible(topic), [])
        self.assertEqual(self.read(topic, _COMMITTED)[1], {(one.producer_id, 0)})
        self.assertEqual(two.end(commit=True), ErrorCode.NONE)
        self.settled(topic, 6)
        self.assertEqual(self.visible(topic), [2, 3])
        batches, aborted = self.read(topic, isolation=0)
        self.assertEqual([batch["base_offset"] for batch in batches], [0, 2, 3, 4, 5])
        self.assertEqual(aborted, set())
        self.assertIsNone(self.fetch(topic, 0).aborted_transactions)

    def test_32_stable_offset_and_aborted_list_in_transactions_v1(self) -> None:
        self.outcomes(v2=False)

    def test_32_stable_offset_and_aborted_list_in_transactions_v2(self) -> None:
        self.outcomes(v2=True)

    def delayed(self, v2: bool) -> int:
        """What a repeated EndTxn of the first transaction is told in the midst of the second one."""
        topic = self.topic()
        producer = self.transactor("late", v2)
        producer.produce(topic, b"first")
        before = dict(producer.identity)
        self.assertEqual(producer.end(commit=True), ErrorCode.NONE)
        self.settled(topic, 2)
        producer.produce(topic, b"second")
        code = producer.end(commit=False, identity=before)
        time.sleep(0.2)
        self.assertEqual(self.stable_offset(topic), 2)  # the second one is open still
        self.assertEqual(producer.end(commit=True), ErrorCode.NONE)
        self.settled(topic, 4)
        self.assertEqual(self.visible(topic), [0, 2])
        return code

    def test_34_a_delayed_end_cannot_end_a_later_transaction(self) -> None:
        """Its epoch is that of the first (KIP-890 part 2)."""
        self.assertEqual(self.delayed(v2=True), ErrorCode.PRODUCER_FENCED)

    def test_35_offsets_of_a_member_in_a_transaction(self) -> None:
        self.broker.create_topic("in")
        coordinate(self.session, "movers")
        member = Member(self.session, "movers", instance="one")
        member.join("")
        member.sync("", {member.id: b"share"})
        producer = self.transactor("mover", v2=False)
        self.assertEqual(producer.add_offsets("movers", version=3), ErrorCode.NONE)
        identity = {"generation_id": member.generation, "member_id": member.id, "group_instance_id": "one"}
        for change, code in (
            ({"generation_id": member.generation + 1}, ErrorCode.ILLEGAL_GENERATION),
            ({"member_id": "stranger", "group_instance_id": None}, ErrorCode.UNKNOWN_MEMBER_ID),
            ({"member_id": "stranger"}, ErrorCode.FENCED_INSTANCE_ID),
            ({}, ErrorCode.NONE),
        ):
            found = producer.commit_offsets("movers", "in", 42, version=3, **(identity | change))
            self.assertEqual(found, code, change)
        self.assertEqual(self.stable("movers"), (ErrorCode.UNSTABLE_OFFSET_COMMIT, -1))
        self.assertEqual(self.committed("movers"), -1)
        self.assertEqual(producer.end(commit=True), ErrorCode.NONE)
        self.until(lambda: self.stable("movers"), (ErrorCode.NONE, 42))

    def offsets(self, group: str, require_stable: bool) -> tuple[int, int]:
        wanted = [{"group_id": group, "topics": [{"name": "in", "partition_indexes": [0]}]}]
        (found,) = self.ask(ApiKey.OFFSET_FETCH, 8, {"groups": wanted, "require_stable": require_stable}).groups
        (part,) = found.topics[0].partitions
        return part.error_code, part.committed_offset

    def stable(self, group: str) -> tuple[int, int]:
        """(error, offset) with require_stable."""
        return self.offsets(group, True)

    def committed(self, group: str) -> int:
        """The offset without require_stable."""
        return self.offsets(group, False)[1]

    def until(self, look: Any, wanted: Any) -> None:
        """Wait until `look()` is `wanted`."""
        give_up = time.monotonic() + 10
        while (found := look()) != wanted:
            self.assertLess(time.monotonic(), give_up, f"{found} is not {wanted}")
            time.sleep(0.02)

    def test_pending_offsets_make_fetches_unstable_until_they_end(self) -> None:
        self.broker.create_topic("in")
        for v2, commit in ((False, True), (False, False), (True, True), (True, False)):
            group = f"pending-{v2}-{commit}"
            coordinate(self.session, group)
            producer = self.transactor(group, v2)
            if not v2:
                self.assertEqual(producer.add_offsets(group), ErrorCode.NONE)
            version = 5 if v2 else 3
            self.assertEqual(producer.commit_offsets(group, "in", 7, version=version), ErrorCode.NONE)
            self.assertEqual(self.stable(group)[0], ErrorCode.UNSTABLE_OFFSET_COMMIT)
            self.assertEqual(self.committed(group), -1)
            self.assertEqual(producer.end(commit), ErrorCode.NONE)
            self.until(partial(self.stable, group), (ErrorCode.NONE, 7 if commit else -1))

    def test_36_a_timeout_beyond_the_brokers_maximum(self) -> None:
        transactor = Transactor(self.session, "patient", timeout_ms=900_001)
        self.assertEqual(transactor.initialise(), ErrorCode.INVALID_TRANSACTION_TIMEOUT)
        transactor.timeout_ms = 0
        self.assertEqual(transactor.initialise(), ErrorCode.INVALID_TRANSACTION_TIMEOUT)
        transactor.timeout_ms = 900_000
        self.assertEqual(transactor.initialise(), ErrorCode.NONE)

    def test_37_offsets_after_rollback_count_one_control_record_a_partition(self) -> None:
        for v2 in (False, True):
            topic = f"counted-{v2}"
            self.broker.create_topic(topic, 2)
            producer = self.transactor(f"counter-{v2}", v2)
            for turn in range(3):
                for partition in range(2):
                    answer = producer.produce(topic, b"x", b"y", partition=partition)
                    self.assertEqual(answer.base_offset, 3 * turn)
                self.assertEqual(producer.end(commit=turn == 1), ErrorCode.NONE)
                for partition in range(2):
                    self.settled(topic, 3 * (turn + 1), partition)
                    self.assertEqual(self.fetch(topic, 0, partition=partition).high_watermark, 3 * (turn + 1))
            self.assertEqual(self.visible(topic), [3, 4])

    def test_a_zombie_is_fenced(self) -> None:
        for v2 in (False, True):
            topic = f"fenced-{v2}"
            self.broker.create_topic(topic)
            old = self.transactor(f"same-{v2}", v2)
            old.produce(topic, b"x")
            new = self.transactor(f"same-{v2}", v2)  # its initialisation aborts what is open
            self.assertEqual(new.producer_id, old.producer_id)
            self.assertGreater(new.epoch, old.epoch)
            self.settled(topic, 2)
            self.assertEqual(self.visible(topic), [])
            fenced = (ErrorCode.PRODUCER_FENCED, ErrorCode.INVALID_PRODUCER_EPOCH)
            self.assertIn(old.end(commit=True), fenced)
            if v2:
                self.assertIn(old.produce(topic, b"y").error_code, fenced)
            else:
                self.assertIn(old.add(topic, 0), fenced)
            new.produce(topic, b"z")
            self.assertEqual(new.end(commit=True), ErrorCode.NONE)
            self.settled(topic, 4)
            self.assertEqual(self.visible(topic), [2])

    def test_a_transaction_that_its_producer_left_is_aborted(self) -> None:
        topic = self.topic()
        producer = self.transactor("left", timeout_ms=1000)
        producer.produce(topic, b"x")
        self.settled(topic, 2)
        self.assertEqual(self.visible(topic), [])
        refused = (ErrorCode.PRODUCER_FENCED, ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.INVALID_TXN_STATE)
        self.assertIn(producer.end(commit=True), refused)


class RestartTests(OnDisk, _TransactionCase):
    def test_32_stable_offset_and_aborted_list_survive_a_restart(self) -> None:
        topic = self.topic()
        one, two = self.transactor("one"), self.transactor("two")
        one.produce(topic, b"a")
        self.assertEqual(one.end(commit=False), ErrorCode.NONE)
        self.settled(topic, 2)
        two.produce(topic, b"b")
        one.produce(topic, b"c")
        before = self.stable_offset(topic), self.read(topic, _COMMITTED)
        self.assertEqual((before[0], before[1][1]), (2, {(one.producer_id, 0)}))
        self.broker.stop()
        self.start()
        self.assertEqual((self.stable_offset(topic), self.read(topic, _COMMITTED)), before)
        again = Transactor(self.session, "two")
        again.producer_id, again.epoch = two.producer_id, two.epoch
        self.assertEqual(again.end(commit=True), ErrorCode.NONE)
        self.settled(topic, 3)  # the third one is open since offset 3
        self.assertEqual(self.visible(topic), [2])


class RebalanceTests(_TransactionCase):
    def test_33_committed_reads_under_rebalances_see_nothing_aborted(self) -> None:
        """Real clients: a producer that commits and aborts in turn, consumers that come and go.

        They commit what they were given themselves: librdkafka's `close` goes through the markers in its queue, throws away the
        messages between them, and would commit the position behind the last marker.
        """
        topic = self.topic(4)
        servers = {"bootstrap.servers": self.broker.bootstrap_servers}
        producer = Producer({**servers, "transactional.id": "turns"})
        producer.init_transactions(20)
        expected = set()
        consumers: list[Consumer] = []
        seen: list[bytes] = []

        def join() -> None:
            consumer = Consumer(
                {
                    **servers,
                    "group.id": "readers",
                    "isolation.level": "read_committed",
                    "enable.auto.commit": False,
                    "auto.offset.reset": "earliest",
                    "session.timeout.ms": 6000,
                    "heartbeat.interval.ms": 200,
                }
            )
            consumer.subscribe([topic])
            consumers.append(consumer)

        def poll(seconds: float) -> None:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                for consumer in consumers:
                    message = consumer.poll(0.01)
                    if message is not None and message.error() is None:
                        seen.append(message.value())
                        consumer.commit(message, asynchronous=True)

        for turn in range(24):
            producer.begin_transaction()
            commit = turn % 3 != 0
            for number in range(8):
                value = b"%s %d %d" % (b"kept" if commit else b"dropped", turn, number)
                producer.produce(topic, value, partition=number % 4)
                if commit:
                    expected.add(value)
            producer.flush(10)
            if turn % 4 == 0 and len(consumers) < 3:
                join()
            elif turn % 8 == 7:
                consumers.pop(0).close()
            poll(0.05)
            if commit:
                producer.commit_transaction(20)
            else:
                producer.abort_transaction(20)
        give_up = time.monotonic() + 40
        while not expected <= set(seen) and time.monotonic() < give_up:
            poll(0.2)
        for consumer in consumers:
            consumer.close()
        self.assertEqual({value for value in seen if value.startswith(b"dropped")}, set())
        self.assertEqual(set(seen), expected)
