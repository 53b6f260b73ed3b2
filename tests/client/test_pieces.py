"""The client's pure parts: partitioner, assignors, addresses, metadata."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2 as kafka_python_murmur2
from twisted.trial.unittest import SynchronousTestCase

from chronik.client.assignors import (
    ASSIGNORS,
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
    range_assignor,
    round_robin_assignor,
)
from chronik.client.cluster import parse_bootstrap
from chronik.client.errors import BadResponse
from chronik.client.metadata import Metadata
from chronik.client.partitioner import StickyPartition, murmur2, partition_for_key
from chronik.errors import ConfigError, ErrorCode, KafkaError
from chronik.model import TopicPartition
from chronik.wire.messages.metadata import (
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)


class PartitionerTests(SynchronousTestCase):
    def test_murmur2_of_known_keys(self) -> None:
        """The figures of Java's UtilsTest, signed there."""
        known = {
            b"21": -973932308,
            b"foobar": -790332482,
            b"a-little-bit-long-string": -985981536,
            b"a-little-bit-longer-string": -1486304829,
            b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
            b"abc": 479470107,
        }
        for key, value in known.items():
            self.assertEqual(murmur2(key), value & 0xFFFFFFFF, key)

    @given(st.binary(max_size=60))
    def test_murmur2_as_kafka_python_has_it(self, key: bytes) -> None:
        assert murmur2(key) == kafka_python_murmur2(key) & 0xFFFFFFFF
        assert 0 <= partition_for_key(key, 7) < 7

    def test_sticky_moves_to_another_partition_that_has_a_leader(self) -> None:
        sticky = StickyPartition(random.Random(1))
        for _ in range(20):
            before = sticky.partition
            after = sticky.move(5, [1, 3])
            self.assertIn(after, (1, 3))
            self.assertNotEqual(before, after)
        self.assertEqual(StickyPartition(random.Random(1)).move(1, []), 0)


class AssignorTests(SynchronousTestCase):
    def test_range_gives_neighbours_and_the_first_members_one_more(self) -> None:
        got = range_assignor({"a": ["t", "u"], "b": ["t"], "c": ["t"]}, {"t": 7, "u": 2})
        numbers = {member: [(tp.topic, tp.partition) for tp in share] for member, share in got.items()}
        self.assertEqual(numbers["a"], [("t", 0), ("t", 1), ("t", 2), ("u", 0), ("u", 1)])
        self.assertEqual(numbers["b"], [("t", 3), ("t", 4)])
        self.assertEqual(numbers["c"], [("t", 5), ("t", 6)])

    def test_round_robin_deals_one_by_one(self) -> None:
        got = round_robin_assignor({"a": ["t", "u"], "b": ["t", "u"]}, {"t": 3, "u": 2})
        self.assertEqual([tuple(tp) for tp in got["a"]], [("t", 0), ("t", 2), ("u", 1)])
        self.assertEqual([tuple(tp) for tp in got["b"]], [("t", 1), ("u", 0)])

    def test_round_robin_passes_over_who_does_not_want_the_topic(self) -> None:
        got = round_robin_assignor({"a": ["t"], "b": ["u"]}, {"t": 2, "u": 2})
        self.assertEqual([tuple(tp) for tp in got["b"]], [("u", 0), ("u", 1)])

    @given(
        st.dictionaries(
            st.text("abcdef", min_size=1, max_size=3), st.sets(st.sampled_from("tuv"), min_size=1), min_size=1
        ),
        st.dictionaries(st.sampled_from("tuv"), st.integers(0, 9)),
    )
    def test_every_wanted_partition_goes_to_exactly_one_member_that_wants_it(
        self, members: dict[str, set[str]], counts: dict[str, int]
    ) -> None:
        wanted = {t for topics in members.values() for t in topics}
        expected = sorted((t, p) for t in wanted for p in range(counts.get(t, 0)))
        for assignor in ASSIGNORS.values():
            got = assignor({m: sorted(t) for m, t in members.items()}, counts)
            assert sorted(tuple(tp) for share in got.values() for tp in share) == expected
            assert all(tp.topic in members[m] for m, share in got.items() for tp in share)

    def test_embedded_messages_round_trip(self) -> None:
        self.assertEqual(decode_subscription(encode_subscription(["b", "a"])), ["a", "b"])
        partitions = [TopicPartition("t", 2), TopicPartition("t", 0), TopicPartition("a", 1)]
        self.assertEqual(decode_assignment(encode_assignment(partitions)), sorted(partitions))
        self.assertEqual(decode_assignment(b""), [])

    def test_a_newer_version_is_read_as_the_newest_known(self) -> None:
        newer = b"\x00\x09" + encode_assignment([TopicPartition("t", 1)])[2:] + b"more"
        self.assertEqual(decode_assignment(newer), [TopicPartition("t", 1)])

    def test_damaged_messages_are_refused(self) -> None:
        self.assertRaises(BadResponse, decode_assignment, encode_assignment([TopicPartition("t", 1)])[:-5])
        self.assertRaises(BadResponse, decode_subscription, b"\x00")


class AddressTests(SynchronousTestCase):
    def test_forms(self) -> None:
        parsed = parse_bootstrap("a:1, b ,[::1]:3,[fe80::2],::1")
        self.assertEqual(
            [tuple(a) for a in parsed], [("a", 1), ("b", 9092), ("::1", 3), ("fe80::2", 9092), ("::1", 9092)]
        )
        self.assertEqual(str(parsed[2]), "[::1]:3")

    def test_faults(self) -> None:
        for text in ("", ",", "a:b", "a:0", "a:65536", ":9092", "a:-1"):
            self.assertRaises(ConfigError, parse_bootstrap, text)


class MetadataTests(SynchronousTestCase):
    def response(self, **errors: int) -> MetadataResponse:
        partitions = [MetadataResponsePartition(partition_index=i, leader_id=1 - i, replica_nodes=[1]) for i in (1, 0)]
        topics = [MetadataResponseTopic(name="t", topic_id=b"1" * 16, partitions=partitions)]
        topics += [MetadataResponseTopic(name=name, error_code=code) for name, code in errors.items()]
        brokers = [MetadataResponseBroker(node_id=1, host="h", port=9)]
        return MetadataResponse(brokers=brokers, controller_id=1, cluster_id="c", topics=topics)

    def test_leaders_and_ids(self) -> None:
        metadata = Metadata()
        metadata.update(self.response(), all_topics=True)
        self.assertEqual([p.partition for p in metadata.topic("t").partitions], [0, 1])
        self.assertEqual(metadata.leader(TopicPartition("t", 0)), 1)
        self.assertEqual(metadata.leader(TopicPartition("t", 7)), -1)
        self.assertEqual(metadata.leader(TopicPartition("no", 0)), -1)
        self.assertEqual(metadata.topic_name(b"1" * 16), "t")
        self.assertTrue(metadata.have_ids(["t"]))
        self.assertFalse(metadata.have_ids(["t", "no"]))

    def test_a_missing_topic_keeps_the_broker_reason(self) -> None:
        metadata = Metadata()
        metadata.update(self.response(bad=17), all_topics=True)
        problem = self.assertRaises(KafkaError, metadata.topic, "bad")
        self.assertEqual(problem.code, ErrorCode.INVALID_TOPIC_EXCEPTION)
        problem = self.assertRaises(KafkaError, metadata.partition, TopicPartition("t", 2))
        self.assertIn("has 2 partitions, none numbered 2", str(problem))

    def test_a_deleted_topic_is_forgotten_but_a_leaderless_one_is_not(self) -> None:
        metadata = Metadata()
        metadata.update(self.response(), all_topics=True)
        metadata.update(MetadataResponse(topics=[MetadataResponseTopic(name="t", error_code=5)]), all_topics=False)
        self.assertIn("t", metadata.topics)
        metadata.update(MetadataResponse(topics=[MetadataResponseTopic(name="t", error_code=3)]), all_topics=False)
        self.assertNotIn("t", metadata.topics)
