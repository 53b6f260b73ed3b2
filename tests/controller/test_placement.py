"""Where replicas go."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.controller.placement import check_assignment, place_replicas
from chronik.errors import ErrorCode, KafkaError
from chronik.model import Broker


def brokers(*racks: str | None, fenced: tuple[int, ...] = ()) -> list[Broker]:
    return [Broker(node_id, 1, (), rack, node_id in fenced) for node_id, rack in enumerate(racks)]


class PlaceReplicasTests(SynchronousTestCase):
    """Round robin over the unfenced brokers."""

    def test_one_broker_takes_all(self) -> None:
        self.assertEqual(place_replicas(brokers(None), 0, 3, 1), [(0,), (0,), (0,)])

    def test_too_few_brokers_say_how_many_there_are(self) -> None:
        with self.assertRaises(KafkaError) as caught:
            place_replicas(brokers(None, None, fenced=(1,)), 0, 1, 3)
        self.assertEqual(caught.exception.code, ErrorCode.INVALID_REPLICATION_FACTOR)
        self.assertEqual(caught.exception.message, "replication factor 3 is larger than the 1 broker(s) available")

    def test_no_broker_at_all(self) -> None:
        self.assertRaises(KafkaError, place_replicas, [], 0, 1, 1)

    def test_added_partitions_continue_the_row(self) -> None:
        all_at_once = place_replicas(brokers(None, None, None), 0, 7, 2)
        in_steps = place_replicas(brokers(None, None, None), 0, 3, 2) + place_replicas(
            brokers(None, None, None), 3, 4, 2
        )
        self.assertEqual(all_at_once, in_steps)

    @given(st.integers(1, 7), st.integers(1, 40), st.data())
    def test_replicas_differ_and_spread_evenly(self, size: int, count: int, data: st.DataObject) -> None:
        factor = data.draw(st.integers(1, size))
        placed = place_replicas(brokers(*[None] * size), 0, count, factor)
        self.assertEqual(len(placed), count)
        for replicas in placed:
            self.assertEqual(len(set(replicas)), factor)
        leaders = Counter(replicas[0] for replicas in placed)
        self.assertLessEqual(max(leaders.values()) - min([leaders[n] for n in range(size)]), 1)

    def test_a_partition_spans_racks(self) -> None:
        row = brokers("a", "a", "b", "b")
        for replicas in place_replicas(row, 0, 4, 2):
            self.assertEqual({row[node_id].rack for node_id in replicas}, {"a", "b"})


class CheckAssignmentTests(SynchronousTestCase):
    """Assignments that clients chose."""

    def refused(self, replicas: tuple[int, ...], expected: int | None = None, fenced: tuple[int, ...] = ()) -> str:
        with self.assertRaises(KafkaError) as caught:
            check_assignment(replicas, brokers(None, None, fenced=fenced), 0, expected)
        self.assertEqual(caught.exception.code, ErrorCode.INVALID_REPLICA_ASSIGNMENT)
        return caught.exception.message or ""

    def test_what_is_refused(self) -> None:
        self.assertIn("no broker", self.refused(()))
        self.assertIn("broker 7, which is not registered", self.refused((0, 7)))
        self.assertIn("more than once", self.refused((1, 1)))
        self.assertIn("has 1 replica(s), the partitions before it have 2", self.refused((1,), 2))
        self.assertIn("fenced", self.refused((1,), fenced=(1,)))

    def test_what_is_fine(self) -> None:
        check_assignment((1, 0), brokers(None, None, fenced=(1,)), 0, 2)
