"""Producer, consumer and groups against a real broker (see real_broker)."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from chronik.client.admin import Admin
from chronik.client.cluster import ClusterClient
from chronik.client.consumer import AtTime, ConsumedRecord, Consumer, FromEnd, Start
from chronik.client.errors import Unreachable
from chronik.client.offsets import CommittedOffset, commit_offsets, committed_offsets, delete_offsets, list_offsets
from chronik.client.producer import Producer
from chronik.errors import ErrorCode, KafkaError
from chronik.model import TopicPartition
from tests.client.real_broker import bootstrap, fresh


async def read(consumer: Consumer, count: int) -> list[ConsumedRecord]:
    """The next `count` records."""
    got: list[ConsumedRecord] = []
    async for record in consumer:
        got.append(record)
        if len(got) >= count:
            break
    return got


class BrokerTests(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.cluster = self.client()
        self.admin = Admin(self.cluster)

    def client(self, address: str | None = None) -> ClusterClient:
        client = ClusterClient(reactor, address or bootstrap(), request_timeout=15.0)
        self.addCleanup(client.close)
        return client

    async def topic(self, partitions: int = 1) -> str:
        name = fresh("client")
        await self.admin.create_topic(name, partitions, 1)
        await self.cluster.retrying(lambda: self.cluster.topics([name]), {ErrorCode.UNKNOWN_TOPIC_OR_PARTITION})
        return name

    async def fill(self, topic: str, values: list[bytes], **options: Any) -> list[int]:
        producer = Producer(self.cluster, **options)
        sent = [producer.send(topic, value, partition=0, timestamp_ms=1000 + i) for i, value in enumerate(values)]
        await producer.flush()
        offsets = [place.offset for place in await gatherResults(sent)]
        await producer.close()
        return offsets

    async def test_records_come_back_whole(self) -> None:
        topic = await self.topic()
        producer = Producer(self.cluster)
        place = await producer.send(topic, b"v", b"k", [("a", b"1"), ("n", None)], timestamp_ms=1234)
        await producer.send(topic, None, b"")
        self.assertEqual((place.partition, place.offset, place.timestamp_ms), (TopicPartition(topic, 0), 0, 1234))
        consumer = Consumer(self.cluster)
        await consumer.assign({TopicPartition(topic, 0): Start.BEGINNING})
        first, second = await read(consumer, 2)
        self.assertEqual(first, ConsumedRecord(topic, 0, 0, 1234, b"k", b"v", (("a", b"1"), ("n", None))))
        self.assertEqual((second.key, second.value, second.headers), (b"", None, ()))
        await consumer.close()
        await producer.close()

    async def test_every_acks_and_codec(self) -> None:
        values = [b"%d" % i * 20 for i in range(300)]
        for acks in (-1, 1):
            for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
                topic = await self.topic()
                offsets = await self.fill(topic, values, acks=acks, compression=codec, batch_bytes=2000)
                self.assertEqual(offsets, list(range(300)))
                consumer = Consumer(self.cluster)
                await consumer.assign({TopicPartition(topic, 0): Start.BEGINNING})
                self.assertEqual([r.value for r in await read(consumer, 300)], values)
                await consumer.close()

    async def test_acks_0(self) -> None:
        topic = await self.topic()
        self.assertEqual(await self.fill(topic, [b"a", b"b"], acks=0), [-1, -1])
        consumer = Consumer(self.cluster)
        await consumer.assign({TopicPartition(topic, 0): Start.BEGINNING})
        self.assertEqual([r.value for r in await read(consumer, 2)], [b"a", b"b"])
        await consumer.close()

    async def test_positions(self) -> None:
        topic = await self.topic()
        await self.fill(topic, [b"%d" % i for i in range(50)], batch_bytes=200)
        partition = TopicPartition(topic, 0)
        for position, first in ((Start.BEGINNING, 0), (17, 17), (FromEnd(3), 47), (FromEnd(99), 0), (AtTime(1020), 20)):
            consumer = Consumer(self.cluster)
            await consumer.assign({partition: position})
            self.assertEqual([r.offset for r in await read(consumer, 3)], [first, first + 1, first + 2], position)
            await consumer.close()
        consumer = Consumer(self.cluster, max_wait=0.1)
        await consumer.assign({partition: Start.END})
        self.assertEqual(await consumer.poll(), [])
        self.assertTrue(consumer.all_at_end)
        self.assertEqual(consumer.position(partition), 50)
        await consumer.close()
        self.assertEqual(await list_offsets(self.cluster, {partition: 1020}), {partition: 20})
        self.assertEqual(await list_offsets(self.cluster, {partition: 99999}), {partition: -1})

    async def test_an_offset_out_of_range(self) -> None:
        topic = await self.topic()
        await self.fill(topic, [b"a"])
        partition = TopicPartition(topic, 0)
        strict = Consumer(self.cluster, reset=None)
        await strict.assign({partition: 99})
        problem = await self.assertFailure(_deferred(strict.poll()), KafkaError)
        self.assertEqual(problem.code, ErrorCode.OFFSET_OUT_OF_RANGE)
        await strict.close()
        mild = Consumer(self.cluster, reset=Start.BEGINNING)
        await mild.assign({partition: 99})
        self.assertEqual([r.offset for r in await read(mild, 1)], [0])
        await mild.close()

    async def test_two_members_share_the_partitions(self) -> None:
        topic, group = await self.topic(4), fresh("group")
        producer = Producer(self.cluster)
        for i in range(40):
            await producer.send(topic, b"%d" % i, partition=i % 4)
        one, two = (Consumer(self.client(), reset=Start.BEGINNING, max_wait=0.1) for _ in range(2))
        await one.subscribe(group, [topic])
        while len(one.assignment) < 4:
            await one.poll(timeout=0.2)
        await two.subscribe(group, [topic])
        while sorted((len(one.assignment), len(two.assignment))) != [2, 2]:
            await one.poll(timeout=0.2)
        self.assertEqual(len({*one.assignment, *two.assignment}), 4)
        view = await self.admin.describe_group(group)
        self.assertEqual((view.state, sorted(len(m.partitions) for m in view.members)), ("Stable", [2, 2]))
        await two.close()
        while len(one.assignment) < 4:
            await one.poll(timeout=0.2)
        while not one.all_at_end:
            await one.poll(timeout=0.2)
        await one.commit()
        await one.close()
        await producer.close()
        committed = await committed_offsets(self.cluster, group)
        self.assertEqual({tp.partition: c.offset for tp, c in committed.items()}, dict.fromkeys(range(4), 10))

    async def test_offsets_of_a_group_without_members(self) -> None:
        topic, group = await self.topic(2), fresh("group")
        zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
        await commit_offsets(self.cluster, group, {zero: CommittedOffset(0, metadata="note"), one: CommittedOffset(0)})
        self.assertEqual((await committed_offsets(self.cluster, group, [zero]))[zero].metadata, "note")
        await delete_offsets(self.cluster, group, [one])
        self.assertEqual(list(await committed_offsets(self.cluster, group)), [zero])
        await self.admin.delete_group(group)
        self.assertEqual(await committed_offsets(self.cluster, group), {})

    async def test_a_topic_that_is_not_there(self) -> None:
        consumer = Consumer(self.cluster)
        partition = TopicPartition(fresh("none"), 0)
        problem = await self.assertFailure(_deferred(consumer.assign({partition: 0})), KafkaError)
        self.assertEqual(problem.code, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)

    async def test_a_broker_list_of_which_one_is_up(self) -> None:
        client = self.client(f"127.0.0.1:1,{bootstrap()}")
        self.assertTrue((await client.refresh()).brokers)
        problem = await self.assertFailure(_deferred(self.client("127.0.0.1:1,127.0.0.1:2").refresh()), Unreachable)
        self.assertIn("127.0.0.1:1: connection refused; no broker answers at 127.0.0.1:2", str(problem))


def _deferred(work: Any) -> Any:
    from twisted.internet.defer import Deferred

    return Deferred.fromCoroutine(work)
