"""Very many rebalances of one group of 20 members, in each group protocol, by confluent-kafka.

Members leave and others join, all the time. No partition is ever owned by two; what a member commits in the name of a
generation (or member epoch) that is over is refused; and whoever gets a partition finds at least the offset that was last
acknowledged for it.

`CHRONIK_REBALANCES` says how many generations the group shall see (10 by default; the whole run is 1,000).
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import tempfile
import threading
import time
import unittest
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from chronik.errors import ErrorCode
from chronik.wire.apis import ApiKey
from tests.differential.session import Session
from tests.peers.chronik_node import ChronikNode

REBALANCES = int(os.environ.get("CHRONIK_REBALANCES", "10"))
MEMBERS = 20
PARTITIONS = 60
TOPIC = "shared"
_HEARTBEAT_MS = 100
_STALE = (
    ErrorCode.ILLEGAL_GENERATION,
    ErrorCode.UNKNOWN_MEMBER_ID,
    ErrorCode.STALE_MEMBER_EPOCH,
    ErrorCode.FENCED_MEMBER_EPOCH,
)


class Ledger:
    """Who owns which partition now, what was last acknowledged for it, and what went wrong."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.owners: dict[int, tuple[str, Any]] = {}  # name, and its member id and generation
        self.acknowledged: dict[int, int] = {}
        self.commits = 0
        self.generation = -1
        self.faults: list[str] = []
        self.former: list[tuple[str, int]] = []  # (member id, generation) that are over

    def assigned(self, name: str, partitions: list[int], identity: Any) -> None:
        """A member may work on these from now on."""
        with self.lock:
            for partition in partitions:
                owner = self.owners.get(partition)
                if owner is not None and owner[0] != name:
                    self.faults.append(f"partition {partition} is given to {name}, {identity}, while {owner} owns it")
                self.owners[partition] = name, identity

    def revoked(self, name: str, partitions: list[int]) -> None:
        """A member has stopped working on these."""
        with self.lock:
            for partition in partitions:
                if self.owners.get(partition, ("",))[0] == name:
                    del self.owners[partition]

    def committed(self, partition: int, offset: int) -> None:
        """A commit was acknowledged."""
        with self.lock:
            self.acknowledged[partition] = max(offset, self.acknowledged.get(partition, -1))
            self.commits += 1

    def found(self, partition: int, offset: int) -> None:
        """A new owner reads this as the committed offset."""
        with self.lock:
            last = self.acknowledged.get(partition, -1)
            if offset < last:
                self.faults.append(f"partition {partition} has {offset} committed, {last} was acknowledged")

    def seen(self, member_id: str, generation: int, before: tuple[str, int] | None) -> None:
        """A member is in a generation now, and out of the one `before`."""
        with self.lock:
            self.generation = max(self.generation, generation)
            if before is not None and before[0] == member_id and before[1] < generation:
                self.former = [*self.former[-200:], before]


class Member(threading.Thread):
    """One member: commits one more for each of its partitions, again and again, until it is told to leave."""

    def __init__(self, name: str, bootstrap: str, group: str, ledger: Ledger, settings: dict[str, Any]) -> None:
        super().__init__(name=name, daemon=True)
        self._ledger = ledger
        self._leaving = threading.Event()
        self._closing = False
        self._fresh: list[int] = []
        self._identity: tuple[str, int] | None = None
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "client.id": name,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "log_level": 0,
                **settings,
            }
        )
        self.start()

    def leave(self) -> None:
        """Leave the group in order; returns at once."""
        self._leaving.set()

    def run(self) -> None:
        """Take part until told to leave."""
        self._consumer.subscribe([TOPIC], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)
        while not self._leaving.is_set():
            self._consumer.poll(0.02)
            self._note_generation()
            if self._fresh:
                self._look_up()
            self._commit()
        # From here on it works on nothing; closing may or may not say so, and others may get the partitions at once. Closing
        # may even hand out an assignment that had come before: nobody works on that.
        self._closing = True
        self._ledger.revoked(self.name, list(range(PARTITIONS)))
        self._consumer.close()
        del self._consumer  # each client takes a key of thread-local storage, of which a process has 1,024

    def _on_assign(self, _: Consumer, places: list[TopicPartition]) -> None:
        if self._closing:
            return
        partitions = [place.partition for place in places]
        self._ledger.assigned(self.name, partitions, identity_of(self._consumer))
        self._fresh += partitions

    def _on_revoke(self, _: Consumer, places: list[TopicPartition]) -> None:
        partitions = [place.partition for place in places]
        self._fresh = [partition for partition in self._fresh if partition not in partitions]
        self._ledger.revoked(self.name, partitions)

    def _note_generation(self) -> None:
        identity = identity_of(self._consumer)
        if identity is not None and identity != self._identity:
            self._ledger.seen(*identity, self._identity)
            self._identity = identity

    def _look_up(self) -> None:
        wanted, self._fresh = self._fresh, []
        try:
            found = self._consumer.committed([TopicPartition(TOPIC, partition) for partition in wanted], 10)
        except KafkaException:
            self._fresh = wanted
            return
        for place in found:
            self._ledger.found(place.partition, place.offset if place.offset >= 0 else -1)

    def _commit(self) -> None:
        mine = [place.partition for place in self._consumer.assignment() if place.partition not in self._fresh]
        if not mine:
            return
        with self._ledger.lock:
            offsets = {partition: self._ledger.acknowledged.get(partition, -1) + 1 for partition in mine}
        wanted = [TopicPartition(TOPIC, partition, offset) for partition, offset in offsets.items()]
        try:
            done = self._consumer.commit(offsets=wanted, asynchronous=False)
        except KafkaException:
            return  # a rebalance came first: not acknowledged
        for place in done or ():
            if place.error is None:
                self._ledger.committed(place.partition, place.offset)


def identity_of(consumer: Consumer) -> tuple[str, int] | None:
    """(member id, generation or member epoch) out of the client's opaque group metadata; None outside of a generation."""
    metadata = consumer.consumer_group_metadata()
    data = metadata if isinstance(metadata, bytes) else bytes(metadata)
    prefix = b"CGMDv2:"
    if not data.startswith(prefix):
        raise AssertionError(f"group metadata of an unknown form: {data[:20]!r}")
    (generation,) = struct.unpack_from("=i", data, len(prefix))
    _, member_id, *_ = data[len(prefix) + 4 :].split(b"\0")
    return None if generation < 0 else (member_id.decode(), generation)


class Rebalances(unittest.TestCase):
    """One node a protocol."""

    def rebalance(
        self, protocol: str, settings: dict[str, Any], options: dict[str, str] | None = None, wanted: int = REBALANCES
    ) -> None:
        """`wanted` generations of members with these client `settings`, on a node with these `options`."""
        directory = Path(tempfile.mkdtemp(prefix="chronik-rebalances-"))
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        node = ChronikNode(directory, options)
        node.start()
        self.addCleanup(node.stop)
        admin = AdminClient({"bootstrap.servers": node.bootstrap, "log_level": 0})
        admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(30)
        chance, ledger, group = random.Random(1), Ledger(), f"many-{protocol}"
        names = iter(range(1_000_000))

        def join() -> Member:
            return Member(f"m{next(names)}", node.bootstrap, group, ledger, settings)

        members = [join() for _ in range(MEMBERS)]
        session = Session(("127.0.0.1", node.port))
        self.addCleanup(session.close)
        leaving: list[Member] = []
        refused = 0
        give_up = time.monotonic() + 60 + 8 * wanted
        try:
            while ledger.generation < wanted or len(ledger.acknowledged) <= PARTITIONS // 2 or not refused:
                commits = ledger.commits
                for _ in range(10):
                    self.assertFalse(ledger.faults, ledger.faults[:3])
                    member = members.pop(chance.randrange(len(members)))
                    member.leave()
                    leaving = [each for each in (*leaving, member) if each.is_alive()]
                    if chance.random() < 0.5:
                        time.sleep(chance.uniform(0.0, 0.3))  # the group sees the member go before the next one comes
                    members.append(join())
                    time.sleep(chance.uniform(0.05, 0.3))
                    refused += self.commit_as_a_zombie(session, group, ledger, chance)
                # On a slow machine no generation may live long enough to commit in, and then nothing would be shown.
                while ledger.commits < commits + PARTITIONS:
                    so_far = f"{ledger.generation} generations, {ledger.commits} commits, {refused} refused"
                    self.assertLess(time.monotonic(), give_up, f"only {so_far}")
                    self.assertFalse(ledger.faults, ledger.faults[:3])
                    time.sleep(0.02)
        finally:
            for member in (*members, *leaving):
                member.leave()
            for member in (*members, *leaving):
                member.join(30)
        self.assertFalse(ledger.faults, ledger.faults[:3])
        print(f"{protocol}: {ledger.generation} generations, {refused} commits of the past refused")

    def commit_as_a_zombie(self, session: Session, group: str, ledger: Ledger, chance: random.Random) -> int:
        """A commit in the name of a generation that is over must be refused; 1 if one was sent."""
        with ledger.lock:
            if not ledger.former:
                return 0
            member_id, generation = chance.choice(ledger.former)
        part = {"partition_index": chance.randrange(PARTITIONS), "committed_offset": 0, "committed_metadata": "zombie"}
        body = {
            "group_id": group,
            "generation_id_or_member_epoch": generation,
            "member_id": member_id,
            "topics": [{"name": TOPIC, "partitions": [part]}],
        }
        answer = session.ask("", ApiKey.OFFSET_COMMIT, 9, body, unrecorded=True)
        code = ErrorCode(answer.topics[0].partitions[0].error_code)
        self.assertIn(code, _STALE, f"a commit of {member_id} in generation {generation} is answered {code.name}")
        return 1

    def test_classic_eager(self) -> None:
        self.rebalance(
            "eager",
            {
                "heartbeat.interval.ms": _HEARTBEAT_MS,
                "session.timeout.ms": 6000,
                "partition.assignment.strategy": "range",
            },
        )

    def test_classic_cooperative(self) -> None:
        """A tenth of them: members that close amid a rebalance are only missed after their session, here as on Kafka."""
        self.rebalance(
            "cooperative",
            {
                "heartbeat.interval.ms": _HEARTBEAT_MS,
                "session.timeout.ms": 6000,
                "partition.assignment.strategy": "cooperative-sticky",
            },
            wanted=max(5, REBALANCES // 10),
        )

    def test_consumer_protocol(self) -> None:
        beat = str(_HEARTBEAT_MS)  # the node says how often members of this protocol beat
        options = {"group.consumer.heartbeat.interval.ms": beat, "group.consumer.min.heartbeat.interval.ms": beat}
        self.rebalance("consumer", {"group.protocol": "consumer"}, options)


if __name__ == "__main__":
    unittest.main()
