"""A thousand rebalances of twenty members of the consumer protocol, with deaths, restarts and commits; seeded."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chronik.coordinator.settings import GroupSettings
from chronik.errors import ErrorCode, KafkaError
from chronik.model import TopicPartition
from tests.coordinator.world import SHORT_SESSIONS, World, commit_request, heartbeat_request

MEMBERS, REBALANCES, PARTITIONS = 20, 1_000, 50
SESSION_S = 10.0


class Consumer:
    """One member, and what it has."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.epoch = 0
        self.owned: set[int] = set()
        self.full = True
        self.heard_at = 0.0


class ManyRebalancesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(GroupSettings(group_consumer=SHORT_SESSIONS))
        self.topic_id = self.world.metadata.create("work", PARTITIONS).topic_id
        self.random = Random(848)
        self.living: list[Consumer] = []
        self.dead: list[Consumer] = []
        self.committed: dict[int, int] = {}
        self.names = 0

    def beat(self, consumer: Consumer) -> None:
        joins = consumer.epoch == 0
        request = heartbeat_request(
            consumer.name,
            consumer.epoch,
            ["work"] if joins else None,
            owned={self.topic_id: consumer.owned} if consumer.full and not joins else None,
        )
        answer = self.world.beat(request)
        self.assertNotIsInstance(answer, KafkaError)
        consumer.heard_at = self.world.clock.seconds()
        consumer.epoch, consumer.full = answer.member_epoch, answer.assignment is not None
        if answer.assignment is not None:
            consumer.owned = {p for part in answer.assignment.topic_partitions for p in part.partitions}
            self.no_partition_is_owned_twice()

    def no_partition_is_owned_twice(self) -> None:
        """Also not by one that is dead, until its session is over."""
        now = self.world.clock.seconds()
        alive = [*self.living, *(consumer for consumer in self.dead if now < consumer.heard_at + SESSION_S - 0.01)]
        owned = [partition for consumer in alive for partition in consumer.owned]
        self.assertEqual(len(owned), len(set(owned)))

    def commit(self, consumer: Consumer) -> Any:
        partition = self.random.choice(sorted(consumer.owned))
        offset = self.committed.get(partition, 0) + 1
        request = commit_request({("work", partition): offset}, member=consumer.name, generation=consumer.epoch)
        try:
            answer = self.world.result(self.world.coordinator.commit(request, 9))
        except KafkaError as error:
            return error.code
        self.committed[partition] = offset
        return ErrorCode(answer.topics[0].partitions[0].error_code)

    def change(self) -> None:
        """Somebody comes, leaves, dies; or the node restarts."""
        what = self.random.random()
        if len(self.living) < MEMBERS and what < 0.6:
            self.names += 1
            self.living.append(Consumer(f"c{self.names}"))
        elif self.living and what < 0.8:
            gone = self.living.pop(self.random.randrange(len(self.living)))
            if gone.epoch:
                self.world.beat(heartbeat_request(gone.name, -1))
        elif self.living and what < 0.98:
            self.dead.append(self.living.pop(self.random.randrange(len(self.living))))
        else:
            self.world.lead()

    def test_a_thousand(self) -> None:
        while self.names < MEMBERS:
            self.names += 1
            self.living.append(Consumer(f"c{self.names}"))
        for number in range(REBALANCES):
            self.change()
            for consumer in self.random.sample(self.living, self.random.randrange(len(self.living) + 1)):
                self.beat(consumer)
                if consumer.owned and self.random.random() < 0.1:
                    self.assertIs(self.commit(consumer), ErrorCode.NONE)
            self.world.clock.advance(0.1)
            if number % 50 == 49:
                self.rest()
        found = self.world.shard.offsets.all("g")
        self.assertEqual({place.partition: each.offset for place, each in found.items()}, self.committed)
        self.assertGreater(sum(self.committed.values()), 100)

    def rest(self) -> None:
        """Sessions of the dead end; then everybody beats until the group is stable, all partitions evenly given out."""
        for _ in range(int(SESSION_S) + 1):
            self.world.clock.advance(1)
            for consumer in self.living:
                self.beat(consumer)
        for zombie in self.dead:
            if zombie.owned:
                self.assertIs(self.commit(zombie), ErrorCode.UNKNOWN_MEMBER_ID)
        self.dead.clear()
        self.assertEqual(sorted(p for consumer in self.living for p in consumer.owned), list(range(PARTITIONS)))
        loads = [len(consumer.owned) for consumer in self.living]
        self.assertLessEqual(max(loads) - min(loads), 1)
        self.assertEqual(self.world.coordinator.describe_consumer_group("g").group_state, "Stable")
        self.world.lead()
        self.assertEqual(
            {place: found.offset for place, found in self.world.shard.offsets.all("g").items()},
            {TopicPartition("work", partition): offset for partition, offset in self.committed.items()},
        )
