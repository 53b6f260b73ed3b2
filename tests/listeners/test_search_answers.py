"""Answers to searches: totals, partitions that failed, what a vector lost, and hits in a row."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.listeners.search_answers import extras_of, lost_since, search_answer
from chronik.model import PartitionState, Topic, uuid_to_text
from chronik.search.gathering import Found, FoundHit
from chronik.search.messages import Costs, Hit, SearchedPart
from chronik.search.query import ALL, encode
from chronik.search.requests import ALL_HITS, SearchRequest, TopicState, Vector

ID = b"0123456789abcdef"
TOPIC = Topic(ID, "events", tuple(PartitionState(n, (1,), (1,), 1, 0) for n in range(3)))


def found(**more: Any) -> Found:
    parts = [SearchedPart("events", ID, number, 10, 20) for number in range(3)]
    return Found(parts, **more)


def request(**more: Any) -> SearchRequest:

    return SearchRequest(query=msgspec.Raw(encode(ALL)), **more)


def answered(result: Found, asked: SearchRequest) -> Any:
    steps = search_answer(result, asked, 5, {"costs": Costs()})
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return json.loads(b"".join(end.value))


class Answers(SynchronousTestCase):
    def test_totals(self) -> None:
        for total, exact, count_to, expected in [
            (7, True, 10, {"value": 7, "relation": "eq"}),
            (12, True, 10, {"value": 12, "relation": "eq"}),
            (7, False, 10, {"value": 7, "relation": "gte"}),
            (12, False, 10, {"value": 10, "relation": "gte"}),
            (12, False, ALL_HITS, {"value": 12, "relation": "gte"}),
        ]:
            hits = answered(found(total=total, exact=exact), request(count_to=count_to))["hits"]
            self.assertEqual(hits, {"total": expected, "max_score": None, "hits": []})
        self.assertNotIn("total", answered(found(total=5), request(count_to=0))["hits"])
        self.assertEqual(answered(found(total=5), request(count_to=ALL_HITS, total_as_int=True))["hits"]["total"], 5)

    def test_partitions_that_failed_are_named(self) -> None:
        result = found()
        result.fail(1, "no disk")
        result.fail(1, "no disk, again")
        self.assertEqual(
            answered(result, request())["_shards"],
            {
                "total": 3, "successful": 2, "skipped": 0, "failed": 1,
                "failures": [
                    {"shard": 1, "index": "events", "reason": {"type": "partition_failure", "reason": "no disk, again"}}
                ],
            },
        )  # fmt: skip

    @given(
        st.lists(st.lists(st.sampled_from([1, 10, 40_000, 70_000]), min_size=1, max_size=3), max_size=20),
        st.integers(0, 3),
    )
    def test_hits_are_put_in_a_row(self, sizes: list[list[int]], skip: int) -> None:
        result = found()
        for number, pieces in enumerate(sizes):
            whole = b'{"n":%d,"t":"' % number + b"x" * sum(pieces) + b'"}'
            cut, start = [], 0
            for size in pieces[:-1]:
                cut.append(whole[start : start + size])
                start += size
            result.hits.append(FoundHit("events", 0, Hit(0, number, 0), [*cut, whole[start:]]))
        answer = answered(result, request(size=10, skip=skip))
        self.assertEqual([hit["n"] for hit in answer["hits"]["hits"]], list(range(len(sizes)))[skip : skip + 10])

    def test_very_many_hits_are_put_in_a_row_in_steps(self) -> None:
        result = found(hits=[FoundHit("events", 0, Hit(0, n, n), [b"%d" % n]) for n in range(9000)])
        self.assertEqual(answered(result, request(size=9000))["hits"]["hits"], list(range(9000)))

    def test_hits_without_their_source_are_counted(self) -> None:
        result = found(
            hits=[FoundHit("events", 0, Hit(0, 1, 1, whole=whole), [b"{}"]) for whole in (True, False, False)]
        )
        self.assertEqual(answered(result, request())["chronik"]["without_source"], 2)


class Vectors(SynchronousTestCase):
    def test_what_was_searched_is_the_vector(self) -> None:
        result = found(indexed_to={0: 15, 1: 30})
        extras = extras_of(result, [TOPIC], 99, [])
        state = TopicState(uuid_to_text(ID), {0: (10, 20), 1: (10, 20), 2: (10, 20)})
        self.assertEqual(extras["vector"], Vector(99, {"events": state}))
        self.assertEqual(extras["indexed_up_to"], {"events": {0: 15, 1: 20, 2: 10}})

    def lost(
        self, given: dict[int, tuple[int, int]], compacted: bool = False, exists: bool = True, **more: Any
    ) -> list[Any]:
        result = found()
        for number, bounds in more.pop("now", {}).items():
            result.parts = [
                SearchedPart("events", ID, part.partition, *bounds) if part.partition == number else part
                for part in result.parts
            ]
        for number in more.pop("failed", ()):
            result.fail(number, "x")
        vector = Vector(1, {"events": TopicState(more.get("id", uuid_to_text(ID)), given)})
        return lost_since(vector, more.get("topics", [TOPIC]), result, lambda name: exists, lambda topic: compacted)

    def test_what_is_not_there_any_more(self) -> None:
        place = {"topic": "events", "partition": 0}
        retention, cut = {"reason": "retention"}, {"reason": "the log was cut"}
        self.assertEqual(self.lost({0: (10, 20)}), [])
        self.assertEqual(self.lost({0: (5, 20)}), [{**place, "from": 5, "to": 10, **retention}])
        self.assertEqual(self.lost({0: (0, 7)}, now={0: (10, 10)}), [{**place, "from": 0, "to": 7, **retention}])
        self.assertEqual(self.lost({0: (10, 25)}), [{**place, "from": 20, "to": 25, **cut}])
        self.assertEqual(self.lost({0: (10, 25)}, now={0: (10, 10)}), [{**place, "from": 10, "to": 25, **cut}])
        self.assertEqual(self.lost({0: (0, 0)}), [])
        self.assertEqual(self.lost({0: (0, 20)}, failed=[0]), [])

    def test_topics_that_are_not_what_they_were(self) -> None:
        self.assertEqual(
            self.lost({}, topics=[], exists=False), [{"topic": "events", "reason": "the topic was deleted"}]
        )
        self.assertEqual(self.lost({}, topics=[], exists=True), [])
        self.assertEqual(self.lost({}, id="other")[0]["reason"], "the topic was deleted, and made anew")
        self.assertIn("compacted", self.lost({}, compacted=True)[0]["reason"])
