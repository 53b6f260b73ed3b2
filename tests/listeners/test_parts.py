"""Requests cut into parts: nothing is lost, doubled or put in another order, and no part is larger than it may be."""

from __future__ import annotations

from operator import attrgetter

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.listeners.parts import PART, in_parts, joined_topics, topics_in_parts
from chronik.steps import at_once
from chronik.wire.messages.find_coordinator import FindCoordinatorRequest
from chronik.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)

sizes = st.lists(st.one_of(st.integers(0, 3), st.integers(PART - 2, PART + 2), st.integers(0, 5 * PART)), max_size=30)


def request(counts: list[int]) -> OffsetCommitRequest:
    """A commit to topics with so many partitions each."""
    topics = [
        OffsetCommitRequestTopic(
            name=f"topic-{number}",
            partitions=[OffsetCommitRequestPartition(partition_index=index) for index in range(count)],
        )
        for number, count in enumerate(counts)
    ]
    return OffsetCommitRequest(group_id="g", member_id="m", topics=topics)


class PartsTests(SynchronousTestCase):
    @given(sizes)
    def test_parts_together_are_the_whole(self, counts: list[int]) -> None:
        whole = request(counts)
        parts = list(topics_in_parts(whole, "topics", "partitions"))
        for part in parts:
            self.assertEqual((part.group_id, part.member_id), ("g", "m"))
            self.assertLessEqual(sum(len(topic.partitions) for topic in part.topics), PART)
            self.assertLessEqual(len(part.topics), PART)
        self.assertLessEqual(len(parts), 2 * (sum(counts) + len(counts)) // PART + 1)
        joined = at_once(joined_topics([part.topics for part in parts], attrgetter("name"), "partitions"))
        self.assertEqual(joined, request(counts).topics)

    def test_the_request_itself_is_left_as_it_is(self) -> None:
        whole = request([3 * PART, 1])
        list(topics_in_parts(whole, "topics", "partitions"))
        self.assertEqual(whole, request([3 * PART, 1]))

    def test_elements_that_stand_alone(self) -> None:
        keys = [str(number) for number in range(2 * PART + 1)]
        parts = list(in_parts(FindCoordinatorRequest(key_type=1, coordinator_keys=keys), "coordinator_keys"))
        self.assertEqual([len(part.coordinator_keys) for part in parts], [PART, PART, 1])
        self.assertEqual([key for part in parts for key in part.coordinator_keys], keys)
        self.assertEqual({part.key_type for part in parts}, {1})

    def test_topics_of_one_name_that_were_not_cut_stay_apart(self) -> None:
        topics = request([1, 1]).topics
        topics[1].name = topics[0].name
        joined = at_once(joined_topics([topics], attrgetter("name"), "partitions"))
        self.assertEqual(len(joined), 2)
