"""ListOffsets, DeleteRecords, DescribeProducers and OffsetForLeaderEpoch on real partitions in memory."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from chronik.errors import ErrorCode
from chronik.interfaces import IRequestHandler
from chronik.listeners.handlers.delete_records import DeleteRecordsHandler
from chronik.listeners.handlers.describe_producers import DescribeProducersHandler
from chronik.listeners.handlers.list_offsets import ListOffsetsHandler
from chronik.listeners.handlers.offset_for_leader_epoch import OffsetForLeaderEpochHandler
from chronik.model import OFFSETS_TOPIC
from chronik.wire.messages.delete_records import DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic
from chronik.wire.messages.describe_producers import DescribeProducersRequest, TopicRequest
from chronik.wire.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from chronik.wire.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from chronik.wire.records import Record, encode_batch
from tests.listeners.handlers.hosting import NOW, Hosting

LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED = -1, -2, -3, -4, -5
UNKNOWN = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


class PartitionApisTests(SynchronousTestCase):
    """One topic `t` of two partitions; in the first, batches of two records at NOW, NOW + 30 and NOW + 10."""

    def setUp(self) -> None:
        self.hosting = Hosting()
        self.hosting.create("t", 2)
        for first in (0, 30, 10):
            self.append([Record(i, NOW + first + i, None, b"x") for i in range(2)])

    def append(self, records: list[Record], partition: int = 0, **options: Any) -> None:
        self.hosting.partition("t", partition).append(encode_batch(records, **options), NOW)

    # -- ListOffsets --------------------------------------------------------------------------------------------------

    def list_offsets(self, *asked: ListOffsetsPartition, version: int = 10, topic: str = "t", level: int = 0) -> Any:
        handler = ListOffsetsHandler(self.hosting.replicas)
        request = ListOffsetsRequest(topics=[ListOffsetsTopic(name=topic, partitions=list(asked))])
        if version >= 2:
            request.isolation_level = level
        return self.hosting.ask(handler, request, version).topics[0].partitions

    def offset(self, timestamp: int, version: int = 10, partition: int = 0, **options: Any) -> tuple[int, int, int]:
        """(error, timestamp, offset) for one question."""
        asked = ListOffsetsPartition(partition_index=partition, timestamp=timestamp)
        (answer,) = self.list_offsets(asked, version=version, **options)
        return answer.error_code, answer.timestamp, answer.offset

    def test_they_are_request_handlers(self) -> None:
        for kind in (ListOffsetsHandler, DescribeProducersHandler, OffsetForLeaderEpochHandler):
            self.assertTrue(verifyObject(IRequestHandler, kind(self.hosting.replicas), tentative=True))
        self.assertTrue(verifyObject(IRequestHandler, self.deleting(), tentative=True))

    def test_ends_and_times(self) -> None:
        for version in range(1, 11):
            self.assertEqual(self.offset(LATEST, version), (0, -1, 6))
            self.assertEqual(self.offset(EARLIEST, version), (0, -1, 0))
            self.assertEqual(self.offset(NOW - 5, version), (0, NOW, 0))
            self.assertEqual(self.offset(NOW + 1, version), (0, NOW + 1, 1))
            self.assertEqual(self.offset(NOW + 2, version), (0, NOW + 30, 2))
            self.assertEqual(self.offset(NOW + 32, version), (0, -1, -1))
            self.assertEqual(self.offset(LATEST, version, partition=1), (0, -1, 0))
            self.assertEqual(self.offset(LATEST, version, partition=2), (UNKNOWN, -1, -1))
            self.assertEqual(self.offset(LATEST, version, topic="nowhere"), (UNKNOWN, -1, -1))

    def test_questions_that_came_later(self) -> None:
        for question, since, answer in (
            (MAX_TIMESTAMP, 7, (0, NOW + 31, 3)),
            (EARLIEST_LOCAL, 8, (0, -1, 0)),
            (LATEST_TIERED, 9, (0, -1, -1)),
        ):
            self.assertEqual(self.offset(question, since), answer)
            self.assertEqual(self.offset(question, since - 1), (ErrorCode.UNSUPPORTED_VERSION, -1, -1))
        self.assertEqual(self.offset(-6), (ErrorCode.UNSUPPORTED_VERSION, -1, -1))

    def test_isolation_levels(self) -> None:
        self.assertEqual(self.offset(LATEST, level=1), (0, -1, 6))
        self.assertEqual(self.offset(LATEST, level=2), (ErrorCode.INVALID_REQUEST, -1, -1))

    def test_leader_epochs(self) -> None:
        for epoch, code in ((-1, 0), (-2, 0), (0, 0), (1, ErrorCode.UNKNOWN_LEADER_EPOCH)):
            asked = ListOffsetsPartition(partition_index=0, timestamp=EARLIEST, current_leader_epoch=epoch)
            (answer,) = self.list_offsets(asked)
            self.assertEqual((answer.error_code, answer.leader_epoch), (code, -1 if code else 0))

    def test_a_partition_named_twice_is_refused_once(self) -> None:
        twice = [ListOffsetsPartition(partition_index=0, timestamp=LATEST) for _ in range(2)]
        good = ListOffsetsPartition(partition_index=1, timestamp=LATEST)
        answers = [(each.partition_index, each.error_code) for each in self.list_offsets(*twice, good)]
        self.assertEqual(answers, [(0, ErrorCode.INVALID_REQUEST), (1, 0)])

    # -- DeleteRecords ------------------------------------------------------------------------------------------------

    def delete(self, offset: int, partition: int = 0, topic: str = "t", version: int = 2) -> tuple[int, int]:
        data = DeleteRecordsPartition(partition_index=partition, offset=offset)
        request = DeleteRecordsRequest(topics=[DeleteRecordsTopic(name=topic, partitions=[data])], timeout_ms=1000)
        answers: list[Any] = []
        self.hosting.begin(self.deleting(), request, version).addCallback(answers.append)
        self.hosting.clock.advance(0)
        (result,) = answers[0].topics[0].partitions
        return result.error_code, result.low_watermark

    def deleting(self) -> DeleteRecordsHandler:
        return DeleteRecordsHandler(self.hosting.replicas, self.hosting.clock.seconds, self.hosting.clock)

    def delete_all(self, partitions: int, timeout_ms: int = 1000) -> list[Any]:
        """Delete the first record of so many; the answers so far."""
        asked = [DeleteRecordsPartition(partition_index=index, offset=1) for index in range(partitions)]
        request = DeleteRecordsRequest(topics=[DeleteRecordsTopic(name="t", partitions=asked)], timeout_ms=timeout_ms)
        answers: list[Any] = []
        self.hosting.begin(self.deleting(), request).addCallback(
            lambda answer: answers.extend((r.error_code, r.low_watermark) for r in answer.topics[0].partitions)
        )
        return answers

    def test_a_deletion_is_answered_when_it_is_durable(self) -> None:
        self.append([Record(0, NOW, None, b"x")], 1)
        first, second = (self.hosting.partition("t", index) for index in range(2))
        self.hosting.worker.held = []
        answers = self.delete_all(2)
        again = self.delete_all(2)  # nothing new, but no less durable
        self.assertEqual((first.log_start_offset, second.log_start_offset), (1, 1))
        self.hosting.clock.advance(0)
        self.assertEqual((answers, again, first.log.durable_start), ([], [], 0))
        (job,) = self.hosting.worker.held  # one for both partitions
        job()
        self.assertEqual((answers, again, first.log.durable_start), ([(0, 1)] * 2, [(0, 1)] * 2, 1))
        self.assertEqual(self.delete_all(2), [(0, 1)] * 2)  # at once

    def test_a_deletion_that_takes_too_long_is_not_acknowledged(self) -> None:
        self.hosting.worker.stuck = True
        for timeout_ms, seconds in ((3000, 3.0), (300, 1.0), (0, 1.0)):
            answers = self.delete_all(1, timeout_ms=timeout_ms)
            self.hosting.clock.advance(seconds - 0.001)
            self.assertEqual(answers, [])
            self.hosting.clock.advance(0.002)
            self.assertEqual(answers, [(ErrorCode.REQUEST_TIMED_OUT, -1)])

    def test_a_deletion_may_be_given_no_time(self) -> None:
        self.append([Record(0, NOW, None, b"x")], 1)
        self.hosting.worker.held = []
        answers = self.delete_all(1, timeout_ms=0)
        self.hosting.clock.advance(0.5)
        (job,) = self.hosting.worker.held
        job()
        self.assertEqual(answers, [(0, 1)])

    def test_a_deletion_ends_with_its_topic(self) -> None:
        self.hosting.worker.stuck = True
        answers = self.delete_all(1)
        self.hosting.delete("t")
        self.assertEqual(answers, [(UNKNOWN, -1)])

    def test_records_are_deleted_up_to_an_offset(self) -> None:
        for version, offset, start in ((0, 1, 1), (1, 0, 1), (2, 3, 3)):
            self.assertEqual(self.delete(offset, version=version), (0, start))
            self.assertEqual(self.offset(EARLIEST), (0, -1, start))
        self.assertEqual(self.delete(-1), (0, 6))
        self.assertEqual((self.offset(EARLIEST), self.offset(NOW)), ((0, -1, 6), (0, -1, -1)))
        self.assertEqual(self.hosting.partition("t").log_start_offset, 6)

    def test_what_cannot_be_deleted(self) -> None:
        for offset in (7, -2):
            self.assertEqual(self.delete(offset), (ErrorCode.OFFSET_OUT_OF_RANGE, -1))
        self.assertEqual(self.delete(0, 2), (UNKNOWN, -1))
        self.assertEqual(self.delete(0, topic="nowhere"), (UNKNOWN, -1))
        self.hosting.create(OFFSETS_TOPIC, cleanup_policy="compact")
        self.assertEqual(self.delete(0, topic=OFFSETS_TOPIC), (ErrorCode.INVALID_TOPIC_EXCEPTION, -1))
        self.assertEqual(self.offset(EARLIEST), (0, -1, 0))

    # -- DescribeProducers --------------------------------------------------------------------------------------------

    def producers(self, index: int, topic: str = "t") -> Any:
        request = DescribeProducersRequest(topics=[TopicRequest(name=topic, partition_indexes=[index])])
        answer = self.hosting.ask(DescribeProducersHandler(self.hosting.replicas), request)
        return answer.topics[0].partitions[0]

    def test_producers_are_described(self) -> None:
        self.assertEqual(self.producers(1).active_producers, [])
        records = [Record(i, NOW + i, None, b"x") for i in range(3)]
        self.append(records, 1, producer_id=70, producer_epoch=2, base_sequence=0)
        self.append(records, 1, producer_id=71, producer_epoch=0, base_sequence=9)
        self.append(records[:1], 1, producer_id=70, producer_epoch=2, base_sequence=3)
        described = [
            (each.producer_id, each.producer_epoch, each.last_sequence, each.last_timestamp, each.coordinator_epoch)
            for each in self.producers(1).active_producers
        ]
        self.assertEqual(sorted(described), [(70, 2, 3, NOW, -1), (71, 0, 11, NOW + 2, -1)])
        self.assertEqual(self.producers(1).active_producers[0].current_txn_start_offset, -1)
        self.assertEqual(self.producers(0).active_producers, [])

    def test_producers_of_what_is_not_here(self) -> None:
        for index, topic, code in (
            (2, "t", UNKNOWN),
            (0, "nowhere", UNKNOWN),
            (0, "a/b", ErrorCode.INVALID_TOPIC_EXCEPTION),
        ):
            answer = self.producers(index, topic)
            self.assertEqual((answer.error_code, answer.active_producers), (code, []))
            self.assertTrue(answer.error_message)

    # -- OffsetForLeaderEpoch -----------------------------------------------------------------------------------------

    def epoch_end(
        self, epoch: int, current: int = -1, partition: int = 0, version: int = 4, topic: str = "t"
    ) -> tuple[int, int, int]:
        data = OffsetForLeaderPartition(partition=partition, leader_epoch=epoch, current_leader_epoch=current)
        request = OffsetForLeaderEpochRequest(topics=[OffsetForLeaderTopic(topic=topic, partitions=[data])])
        answer = self.hosting.ask(OffsetForLeaderEpochHandler(self.hosting.replicas), request, version)
        (result,) = answer.topics[0].partitions
        return result.error_code, result.leader_epoch, result.end_offset

    def test_where_an_epoch_ended(self) -> None:
        for version in (2, 3, 4):
            self.assertEqual(self.epoch_end(0, version=version), (0, 0, 6))
        self.assertEqual(self.epoch_end(5), (0, -1, -1))
        self.assertEqual(self.epoch_end(0, current=0), (0, 0, 6))
        self.assertEqual(self.epoch_end(0, current=1), (ErrorCode.UNKNOWN_LEADER_EPOCH, -1, -1))
        self.assertEqual(self.epoch_end(0, partition=2), (UNKNOWN, -1, -1))
        self.assertEqual(self.epoch_end(0, topic="nowhere"), (UNKNOWN, -1, -1))
