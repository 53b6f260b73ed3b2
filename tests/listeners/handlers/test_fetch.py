"""Fetch on real partitions in memory: what is read, what is waited for, and how each refusal is answered."""

from __future__ import annotations

from itertools import count
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from chronik.broker.fetch_sessions import FetchSessions
from chronik.errors import ErrorCode
from chronik.interfaces import IRequestHandler
from chronik.listeners import slices
from chronik.listeners.backlog import AnswerBacklog
from chronik.listeners.handlers import fetch
from chronik.listeners.throttling import Throttles
from chronik.wire.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData
from chronik.wire.records import Record, encode_batch, split_batches
from tests.listeners.handlers.hosting import NOW, Hosting

SIZE = 100
"""Bytes of each batch that `append` makes."""


class FetchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.hosting = Hosting()
        self.topic_id = self.hosting.create("t", 2)
        clock = self.hosting.clock
        self.answers = AnswerBacklog(1000)
        self.quotas: dict[Any, dict[str, float]] = {}
        self.throttles = Throttles(lambda: self.quotas, clock.seconds)
        sessions = FetchSessions(10, 120_000, count(1).__next__)
        self.handler = self.hosting.fetch_handler(sessions, self.answers, self.throttles)

    def append(self, batches: int = 1, topic: str = "t", partition: int = 0, more: int = 0) -> None:
        for _ in range(batches):
            data = encode_batch([Record(0, NOW, None, bytes(SIZE - 61 - 7 + more))])
            assert more or len(data) == SIZE, len(data)
            self.hosting.partition(topic, partition).append(data, NOW)

    def request(self, *partitions: FetchPartition, topic: str = "t", **fields: Any) -> FetchRequest:
        named = FetchTopic(topic=topic, topic_id=self.topic_id, partitions=list(partitions) or [self.at(0)])
        return FetchRequest(**{"max_wait_ms": 0, "min_bytes": 1, "max_bytes": 1 << 20, "topics": [named], **fields})

    def at(self, offset: int, partition: int = 0, max_bytes: int = 1 << 20, **fields: int) -> FetchPartition:
        return FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=max_bytes, **fields)

    def ask(self, request: FetchRequest, version: int = 12) -> FetchResponse:
        response = self.hosting.ask(self.handler, request, version)
        assert isinstance(response, FetchResponse)
        return response

    def only(self, response: FetchResponse) -> PartitionData:
        (topic,) = response.responses
        (data,) = topic.partitions
        assert isinstance(data, PartitionData)
        return data

    def offsets(self, data: PartitionData) -> list[int]:
        return [header.base_offset for _, header in split_batches(data.records or b"")]

    def test_it_is_a_request_handler(self) -> None:
        self.assertTrue(verifyObject(IRequestHandler, self.handler, tentative=True))

    def test_every_version_by_name_or_by_id(self) -> None:
        self.append(3)
        for version in range(4, 19):
            data = self.only(self.ask(self.request(self.at(1)), version))
            self.assertEqual((data.error_code, self.offsets(data)), (ErrorCode.NONE, [1, 2]))
            self.assertEqual((data.high_watermark, data.last_stable_offset), (3, 3))

    def test_whole_batches_up_to_the_limits_but_one_at_least(self) -> None:
        self.append(5)
        for limit, batches in ((0, 1), (-1, 1), (1, 1), (SIZE, 1), (SIZE + 1, 1), (2 * SIZE, 2), (3 * SIZE - 1, 2)):
            for request in (self.request(self.at(0, max_bytes=limit)), self.request(max_bytes=limit)):
                data = self.only(self.ask(request))
                self.assertEqual(self.offsets(data), list(range(batches)), limit)
                self.assertEqual(len(data.records or b""), batches * SIZE)

    def test_the_first_partition_with_data_fills_the_answer(self) -> None:
        self.append(3, partition=1)
        response = self.ask(self.request(self.at(0), self.at(0, 1), max_bytes=2 * SIZE))
        first, second = response.responses[0].partitions
        self.assertEqual((self.offsets(first), self.offsets(second)), ([], [0, 1]))

    def test_what_is_not_here(self) -> None:
        """The list of aborted transactions is null only of partitions that are here, as Kafka has it."""
        self.append()
        for request, version, code, aborted in (
            (self.request(self.at(0, 2)), 12, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, []),
            (self.request(topic="nowhere"), 12, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, []),
            (self.request(self.at(2)), 12, ErrorCode.OFFSET_OUT_OF_RANGE, None),
            (self.request(self.at(-1)), 12, ErrorCode.OFFSET_OUT_OF_RANGE, None),
            (self.request(self.at(0, current_leader_epoch=1)), 12, ErrorCode.UNKNOWN_LEADER_EPOCH, None),
            (self.request(self.at(0, last_fetched_epoch=7)), 12, ErrorCode.OFFSET_OUT_OF_RANGE, None),
        ):
            data = self.only(self.ask(request, version))
            self.assertEqual((data.error_code, data.aborted_transactions), (code, aborted))
            self.assertEqual((data.high_watermark, bytes(data.records or b"")), (-1, b""))
        self.topic_id = b"\x09" * 16
        data = self.only(self.ask(self.request(), 13))
        self.assertEqual((data.error_code, data.aborted_transactions), (ErrorCode.UNKNOWN_TOPIC_ID, []))

    def test_no_idea_of_the_leader_epoch(self) -> None:
        self.append()
        for epoch in (-1, -2, 0):
            data = self.only(self.ask(self.request(self.at(0, current_leader_epoch=epoch))))
            self.assertEqual((data.error_code, self.offsets(data)), (ErrorCode.NONE, [0]))

    def test_the_leader_is_named_from_version_16_on(self) -> None:
        for version, leader in ((12, -1), (15, -1), (16, 0), (18, 0)):
            request = self.request()
            if version < 15:
                request.replica_id = 42
            else:
                request.replica_state.replica_id = 42
            data = self.only(self.ask(request, version))
            self.assertEqual(data.error_code, ErrorCode.NOT_LEADER_OR_FOLLOWER)
            self.assertEqual(data.current_leader.leader_id, leader)

    def test_there_are_two_isolation_levels(self) -> None:
        self.assertEqual(self.ask(self.request(isolation_level=2)).error_code, ErrorCode.INVALID_REQUEST)
        self.append()
        for level, aborted in ((0, None), (1, [])):
            data = self.only(self.ask(self.request(isolation_level=level)))
            self.assertEqual((self.offsets(data), data.aborted_transactions), ([0], aborted))

    # -- waiting ------------------------------------------------------------------------------------------------------

    def waiting(self, request: FetchRequest) -> tuple[Deferred[Any], list[Any]]:
        answers: list[Any] = []
        deferred = self.hosting.begin(self.handler, request, 12)

        def came(response: FetchResponse) -> None:
            answers.append(response)
            self.answers.change(
                sum(len(data.records or b"") for topic in response.responses for data in topic.partitions)
            )

        deferred.addCallback(came)
        return deferred, answers

    def test_it_waits_for_so_many_bytes(self) -> None:
        _, answers = self.waiting(self.request(max_wait_ms=500, min_bytes=2 * SIZE))
        self.append()
        self.hosting.clock.advance(0)
        self.assertEqual(answers, [])
        self.append()
        self.hosting.clock.advance(0)
        self.assertEqual(self.offsets(self.only(answers[0])), [0, 1])

    def test_it_does_not_wait_while_more_is_committed(self) -> None:
        """What doesn't fit with the next, larger batch is less than `min_bytes`, but no time will make it more."""
        self.append()
        self.append(more=9 * SIZE)
        asked = self.request(self.at(0, max_bytes=5 * SIZE), max_wait_ms=500, min_bytes=3 * SIZE)
        self.assertEqual(self.offsets(self.only(self.ask(asked))), [0])
        asked = self.request(self.at(1, max_bytes=20 * SIZE), max_wait_ms=500, min_bytes=11 * SIZE)
        self.assertEqual(self.waiting(asked)[1], [])

    def test_it_does_not_wait_at_the_end_of_a_segment(self) -> None:
        self.append()
        self.hosting.partition("t").log.roll(NOW)
        self.append()
        asked = self.request(max_wait_ms=500, min_bytes=2 * SIZE)
        self.assertEqual(self.offsets(self.only(self.ask(asked))), [0])
        self.hosting.partition("t").log.roll(NOW)
        asked = self.request(self.at(1), max_wait_ms=500, min_bytes=2 * SIZE)
        self.assertEqual(self.waiting(asked)[1], [])

    def test_nothing_more_is_to_be_read_where_half_the_limit_was(self) -> None:
        self.append(2)
        asked = self.request(self.at(0, max_bytes=3 * SIZE), max_wait_ms=500, min_bytes=3 * SIZE)
        self.assertEqual(self.waiting(asked)[1], [])

    def test_it_waits_no_longer_than_asked(self) -> None:
        self.append()
        _, answers = self.waiting(self.request(max_wait_ms=500, min_bytes=2 * SIZE))
        self.hosting.clock.advance(0.499)
        self.assertEqual(answers, [])
        self.hosting.clock.advance(0.002)
        self.assertEqual(self.offsets(self.only(answers[0])), [0])

    def test_a_deleted_topic_ends_the_wait(self) -> None:
        _, answers = self.waiting(self.request(max_wait_ms=500))
        self.hosting.delete("t")
        self.hosting.clock.advance(0)
        self.assertEqual(self.only(answers[0]).error_code, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)

    def test_a_client_that_left_leaves_nothing_behind(self) -> None:
        deferred, answers = self.waiting(self.request(self.at(0), self.at(0, 1), max_wait_ms=500))
        waiters = [self.hosting.partition("t", index).fetch_waiters for index in (0, 1)]
        self.assertEqual([len(each) for each in waiters], [1, 1])
        deferred.addErrback(lambda failure: None)
        deferred.cancel()
        self.hosting.clock.advance(0)
        self.assertEqual((answers, [len(each) for each in waiters]), ([], [0, 0]))
        self.assertEqual([call for call in self.hosting.clock.getDelayedCalls() if call.getTime() == 0.5], [])

    def test_however_long_it_is_asked_for_there_is_an_end(self) -> None:
        _, answers = self.waiting(self.request(max_wait_ms=2**31 - 1))
        self.hosting.clock.advance(59.9)
        self.assertEqual(answers, [])
        self.hosting.clock.advance(0.2)
        self.assertEqual(self.offsets(self.only(answers[0])), [])
        self.assertEqual(self.handler.waiting_partitions, 0)

    def test_who_wakes_together_waits_for_room(self) -> None:
        """The budget is 1,000 bytes: it may be exceeded by one answer, not by one of each who waits."""
        room = [self.waiting(self.request(max_wait_ms=500)) for _ in range(20)]
        self.append(4)
        self.hosting.clock.advance(0)
        first = [answers for _, answers in room if answers]
        self.assertEqual([self.offsets(self.only(answers[0])) for answers in first], [[0, 1, 2, 3]] * 3)
        self.answers.change(-1200)  # their clients took them
        self.hosting.clock.advance(0)
        self.assertEqual(len([answers for _, answers in room if answers]), 6)
        self.hosting.clock.advance(1)  # no room any more: the others get nothing, and ask again
        self.assertEqual(sorted(len(self.offsets(self.only(answers[0]))) for _, answers in room), [0] * 14 + [4] * 6)
        self.answers.change(-1200)
        self.hosting.clock.advance(0)
        self.assertEqual(self.handler.waiting_partitions, 0)

    def test_what_waits_is_bounded(self) -> None:
        self.patch(fetch, "MAX_WAITING_PARTITIONS", 3)
        asked = self.request(self.at(0), self.at(0, 1), max_wait_ms=500)
        self.assertEqual([len(self.waiting(asked)[1]) for _ in range(3)], [0, 1, 1])

    # -- quotas -------------------------------------------------------------------------------------------------------

    def test_above_its_quota_it_gets_nothing_and_asks_again(self) -> None:
        self.append(30)
        self.quotas[("client-id", "test"),] = {"consumer_byte_rate": SIZE}
        self.throttles.refresh()
        offset, pauses = 0, []
        for _ in range(20):
            answer = self.ask(self.request(self.at(offset, max_bytes=4 * SIZE)))
            pauses.append(answer.throttle_time_ms / 1000)
            if offset < 30:
                self.assertEqual(bool(pauses[-1]), not answer.responses)
            offset += sum(len(self.offsets(data)) for topic in answer.responses for data in topic.partitions)
            self.hosting.clock.advance(max(pauses[-1], 0.01))
        self.assertLessEqual(offset * SIZE, SIZE * (self.hosting.clock.seconds() + 10))
        self.assertGreaterEqual(offset * SIZE, SIZE * self.hosting.clock.seconds() / 2)

    def test_a_batch_above_every_quota_is_given_and_paid_for(self) -> None:
        self.append(more=50 * SIZE)
        self.quotas[("client-id", None),] = {"consumer_byte_rate": 1}
        self.throttles.refresh()
        answer = self.ask(self.request())
        self.assertEqual(self.offsets(self.only(answer)), [0])
        self.assertGreater(answer.throttle_time_ms, 1_000_000)

    def test_others_are_not_slowed(self) -> None:
        self.append(4)
        self.quotas[("client-id", "other"),] = {"consumer_byte_rate": 1}
        self.quotas[("client-id", "test"),] = {"producer_byte_rate": 1}
        self.throttles.refresh()
        self.assertEqual(self.ask(self.request()).throttle_time_ms, 0)

    # -- sessions -----------------------------------------------------------------------------------------------------

    def test_a_session_answers_what_changed(self) -> None:
        self.append()
        opened = self.ask(self.request(self.at(0), self.at(0, 1), session_epoch=0))
        self.assertGreater(opened.session_id, 0)
        self.assertEqual(len(opened.responses[0].partitions), 2)

        def following(epoch: int, *partitions: FetchPartition) -> FetchResponse:
            topics = [FetchTopic(topic="t", topic_id=self.topic_id, partitions=list(partitions))] if partitions else []
            return self.ask(self.request(topics=topics, session_id=opened.session_id, session_epoch=epoch))

        self.assertEqual(following(1, self.at(1)).responses, [])
        self.append(partition=1)
        data = self.only(following(2))
        self.assertEqual((data.partition_index, self.offsets(data)), (1, [0]))
        self.assertEqual(following(2).error_code, ErrorCode.INVALID_FETCH_SESSION_EPOCH)
        data = self.only(following(3, self.at(0, 9), self.at(1, 1)))
        self.assertEqual(data.error_code, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)

    def test_a_topic_is_named_once_however_its_partitions_stand(self) -> None:
        request = self.request(self.at(0))
        request.topics.append(FetchTopic(topic="nowhere", partitions=[self.at(0)]))
        request.topics.append(FetchTopic(topic="t", partitions=[self.at(0, 1)]))
        response = self.ask(request)
        named = [(topic.topic, [data.partition_index for data in topic.partitions]) for topic in response.responses]
        self.assertEqual(named, [("t", [0, 1]), ("nowhere", [0])])


class SlicedFetchTests(FetchTests):
    """All of the same, of rounds that are so large that they are served in slices: here, of one partition a turn."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(fetch, "LARGE", 0)
        self.patch(slices, "SLICE_SECONDS", -1.0)
        self.patch(slices, "_STEP", 1)

    def ask(self, request: FetchRequest, version: int = 12) -> FetchResponse:
        answers: list[Any] = []
        self.hosting.begin(self.handler, request, version).addBoth(answers.append)
        self.hosting.clock.advance(0)
        assert isinstance(answers[0], FetchResponse), answers
        return answers[0]

    def waiting(self, request: FetchRequest) -> tuple[Deferred[Any], list[Any]]:
        begun = super().waiting(request)
        self.hosting.clock.advance(0)
        return begun

    def test_what_comes_between_two_slices_is_not_missed(self) -> None:
        _, answers = super().waiting(self.request(self.at(0), self.at(0, 1), max_wait_ms=500))
        while not self.hosting.partition("t", 1).fetch_waiters:
            self.assertEqual(answers, [])
            call = self.hosting.clock.calls.pop(0)
            call.func(*call.args, **call.kw)
        self.append()
        self.append(partition=1)
        self.hosting.clock.advance(0)
        self.assertEqual([len(topic.partitions) for topic in answers[0].responses], [2])
        self.assertTrue(all(self.offsets(data) == [0] for data in answers[0].responses[0].partitions))
