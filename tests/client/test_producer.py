"""The producer against a simulated broker: order, uniqueness, batching, limits, failures."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from chronik.client.cluster import ClusterClient
from chronik.client.errors import ClientError, DeliveryTimedOut
from chronik.client.partitioner import partition_for_key
from chronik.client.producer import Producer, RecordMetadata
from chronik.errors import ErrorCode, KafkaError
from tests.client.simulated import SimulatedCluster


def producer_of(cluster: SimulatedCluster, **options: Any) -> Producer:
    return Producer(cast(ClusterClient, cluster), **options)


class ProducerTests(SynchronousTestCase):
    def flush(self, cluster: SimulatedCluster, producer: Producer) -> None:
        flushed = producer.flush()
        cluster.run(flushed)
        self.successResultOf(flushed)

    def test_offsets_and_order(self) -> None:
        cluster = SimulatedCluster(1, partitions=1)
        producer = producer_of(cluster, batch_bytes=200)
        sent = [producer.send("t", b"%d" % i) for i in range(100)]
        self.flush(cluster, producer)
        self.assertEqual([self.successResultOf(d).offset for d in sent], list(range(100)))
        self.assertEqual(cluster.logs[0].values, [b"%d" % i for i in range(100)])
        self.assertLessEqual(cluster.most_in_flight, 5)
        self.assertGreater(cluster.most_in_flight, 1)

    def test_records_linger_together_in_one_request(self) -> None:
        cluster = SimulatedCluster(1, partitions=1)
        producer = producer_of(cluster, linger=0.05)
        sent = []
        for i in range(10):
            sent.append(producer.send("t", b"%d" % i))
            cluster.reactor.advance(0.001)
        cluster.run(sent[-1])
        self.assertEqual(cluster.requests, 1)
        self.assertGreaterEqual(cluster.reactor.seconds(), 0.05)

    def test_keys_decide_the_partition(self) -> None:
        cluster = SimulatedCluster(1, partitions=4)
        producer = producer_of(cluster)
        sent = [(key, producer.send("t", b"v", key)) for key in (b"a", b"b", b"c", b"", b"a")]
        self.flush(cluster, producer)
        for key, deferred in sent:
            self.assertEqual(self.successResultOf(deferred).partition.partition, partition_for_key(key, 4))

    def test_a_given_partition_that_is_not_there(self) -> None:
        cluster = SimulatedCluster(1, partitions=2)
        producer = producer_of(cluster)
        sent = producer.send("t", b"v", partition=2)
        good = producer.send("t", b"v", partition=1)
        self.flush(cluster, producer)
        self.assertIn("topic 't' has partitions 0 to 1, not 2", str(self.failureResultOf(sent, KafkaError).value))
        self.assertEqual(self.successResultOf(good).partition.partition, 1)

    def test_a_batch_that_the_broker_finds_too_large_is_split(self) -> None:
        cluster = SimulatedCluster(1, partitions=1, max_bytes=600)
        producer = producer_of(cluster, batch_bytes=5000)
        sent = [producer.send("t", b"%d" % i * 50) for i in range(40)]
        big = producer.send("t", b"x" * 1000)
        last = producer.send("t", b"last")
        self.flush(cluster, producer)
        self.assertEqual(cluster.logs[0].values, [b"%d" % i * 50 for i in range(40)] + [b"last"])
        self.assertEqual([self.successResultOf(d).offset for d in sent], list(range(40)))
        self.assertEqual(self.failureResultOf(big, KafkaError).value.code, ErrorCode.MESSAGE_TOO_LARGE)
        self.assertEqual(self.successResultOf(last).offset, 40)

    def test_delivery_times_out(self) -> None:
        cluster = SimulatedCluster(1, trouble=4.0)  # no connection can be made
        producer = producer_of(cluster, delivery_timeout=5.0)
        sent = producer.send("t", b"v")
        cluster.run(sent)
        problem = self.failureResultOf(sent, DeliveryTimedOut).value
        self.assertIn("not delivered within 5 s", str(problem))
        self.assertIn("no broker answers at sim:1", str(problem))
        self.assertLess(cluster.reactor.seconds(), 10)

    def test_the_buffer_is_bounded(self) -> None:
        cluster = SimulatedCluster(1)
        producer = producer_of(cluster, buffer_bytes=1000)
        self.successResultOf(producer.room())
        sent = [producer.send("t", b"x" * 100) for _ in range(18)]
        room = producer.room()
        self.assertNoResult(room)
        self.assertIn("await room()", str(self.failureResultOf(producer.send("t", b"x"), ClientError).value))
        cluster.run(room)
        self.flush(cluster, producer)
        for deferred in sent:
            self.successResultOf(deferred)

    def test_cancelling_stops_the_wait_not_the_record(self) -> None:
        cluster = SimulatedCluster(1, partitions=1)
        producer = producer_of(cluster)
        cancelled, other = producer.send("t", b"a"), producer.send("t", b"b")
        cancelled.cancel()
        self.failureResultOf(cancelled)
        self.flush(cluster, producer)
        self.assertEqual(self.successResultOf(other).offset, 1)
        self.assertEqual(cluster.logs[0].values, [b"a", b"b"])

    def test_close_flushes_and_then_refuses(self) -> None:
        cluster = SimulatedCluster(1, partitions=1)
        producer = producer_of(cluster)
        sent = producer.send("t", b"a")
        closed = Deferred.fromCoroutine(producer.close())
        cluster.run(closed)
        self.successResultOf(closed)
        self.assertEqual(self.successResultOf(sent).offset, 0)
        self.failureResultOf(producer.send("t", b"b"), ClientError)
        self.assertEqual(cluster.reactor.getDelayedCalls(), [])

    def test_close_with_a_timeout_fails_what_is_left(self) -> None:
        cluster = SimulatedCluster(1, trouble=4.0)
        producer = producer_of(cluster)
        sent = producer.send("t", b"a")
        closed = Deferred.fromCoroutine(producer.close(timeout=1.0))
        cluster.run(closed)
        self.successResultOf(closed)
        self.failureResultOf(sent, ClientError)

    def test_bad_options(self) -> None:
        cluster = SimulatedCluster(1)
        for options in ({"acks": 2}, {"acks": 1, "idempotent": True}, {"max_in_flight": 6}):
            self.assertRaises(ValueError, producer_of, cluster, **options)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 2**32), st.sampled_from([0.05, 0.3, 0.6]), st.sampled_from([100, 400]))
    def test_trouble_neither_loses_nor_doubles_nor_reorders(self, seed: int, trouble: float, batch_bytes: int) -> None:
        cluster = SimulatedCluster(seed, partitions=2, trouble=trouble)
        producer = producer_of(cluster, batch_bytes=batch_bytes, delivery_timeout=300.0)
        sent: list[Deferred[RecordMetadata]] = []
        for i in range(120):
            sent.append(producer.send("t", b"%d" % i, partition=i % 2))
            if i % 7 == 0:
                cluster.reactor.advance(0.003)
        flushed = producer.flush()
        cluster.run(flushed)
        for i, deferred in enumerate(sent):
            place = self.successResultOf(deferred)
            assert cluster.logs[i % 2].values[place.offset] == b"%d" % i
        for p in (0, 1):
            assert cluster.logs[p].values == [b"%d" % i for i in range(p, 120, 2)]

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 2**32), st.sampled_from([0.3, 0.6, 0.9]))
    def test_what_is_given_up_is_never_stored_twice(self, seed: int, trouble: float) -> None:
        """With a short delivery timeout some records fail; the rest is stored once, in order, where the broker said."""
        cluster = SimulatedCluster(seed, partitions=1, trouble=trouble)
        producer = producer_of(cluster, batch_bytes=100, delivery_timeout=0.5)
        sent = []
        for i in range(60):
            sent.append(producer.send("t", b"%d" % i))
            cluster.reactor.advance(0.02)
        flushed = producer.flush()
        cluster.run(flushed)
        values = cluster.logs[0].values
        assert len(set(values)) == len(values), "a record was stored twice"
        assert [int(v or b"") for v in values] == sorted(int(v or b"") for v in values), "records changed places"
        for i, deferred in enumerate(sent):
            results: list[Any] = []
            deferred.addBoth(results.append)
            if isinstance(results[0], RecordMetadata):
                assert values[results[0].offset] == b"%d" % i
