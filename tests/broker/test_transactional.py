"""Appends that wait for a transaction's coordinator: their order, what takes its agreement away, what producers are told."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from chronik.broker.checks import UncheckedTransaction
from chronik.broker.partition import Partition
from chronik.broker.transactional import NotAgreed, PendingBatch, TransactionalAppends, produce_error
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import ITransactions
from chronik.log.simulated import SimulatedDisk
from chronik.model import TopicPartition
from tests.broker.test_transactions import NAME, NOW, batch, end, opened

NONE = ErrorCode.NONE


@implementer(ITransactions)
class Coordinator:
    """Answers at once with `code`; while `slow`, keeps the questions in `waiting`. `asked` has all of them."""

    def __init__(self) -> None:
        self.code: ErrorCode = NONE
        self.slow = False
        self.asked: list[tuple[Any, ...]] = []
        self.waiting: list[tuple[Deferred[Any], list[TopicPartition]]] = []

    def join(
        self,
        transactional_id: str,
        producer_id: int,
        producer_epoch: int,
        partitions: Any,
        verify_only: bool,
    ) -> Deferred[dict[TopicPartition, ErrorCode]]:
        self.asked.append((transactional_id, producer_id, producer_epoch, tuple(partitions), verify_only))
        answer: Deferred[dict[TopicPartition, ErrorCode]] = Deferred()
        self.waiting.append((answer, list(partitions)))
        if not self.slow:
            self.answer(self.code)
        return answer

    def answer(self, code: ErrorCode = NONE) -> None:
        waiting, partitions = self.waiting.pop(0)
        waiting.callback(dict.fromkeys(partitions, code))

    def fail(self, error: Exception) -> None:
        self.waiting.pop(0)[0].errback(error)


class AppendCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.coordinator = Coordinator()
        verifyObject(ITransactions, self.coordinator)
        self.appends = TransactionalAppends(self.coordinator)
        self.partition = opened(SimulatedDisk())
        self.results: list[Any] = []

    def pending(
        self, sequence: int, epoch: int = 0, partition: Partition | None = None, **options: Any
    ) -> PendingBatch:
        partition = partition or self.partition
        sent = memoryview(batch(1, epoch, sequence, transactional=True, **options))
        error = self.assertRaises(UncheckedTransaction, partition.append, sent, NOW)

        def done(pending: PendingBatch, result: Any) -> None:
            self.results.append(result.code if isinstance(result, KafkaError) else result.base_offset)

        return PendingBatch(partition, sent, error.header, NOW, -1, done)

    def send(self, *sequences: int, implicit: bool = False, **options: Any) -> None:
        self.appends.append([self.pending(s, **options) for s in sequences], "id", implicit)


class OrderTests(AppendCase):
    def test_at_once(self) -> None:
        self.send(0)
        self.assertEqual((self.results, self.coordinator.asked), ([0], [("id", 1, 0, (NAME,), True)]))
        self.partition.append(batch(1, 0, 1, transactional=True), NOW)  # it is open now

    def test_transactions_v2_add_the_partition(self) -> None:
        self.send(0, implicit=True)
        self.assertEqual(self.coordinator.asked, [("id", 1, 0, (NAME,), False)])

    def test_batches_wait_in_their_order_and_one_question_is_asked(self) -> None:
        self.coordinator.slow = True
        for sequence in range(4):
            self.send(sequence)
        self.assertEqual((self.results, len(self.coordinator.asked)), ([], 1))
        self.coordinator.answer()
        self.assertEqual(self.results, [0, 1, 2, 3])

    def test_what_waits_is_a_copy(self) -> None:
        """The request's buffer is used again for the next one."""
        self.coordinator.slow = True
        pending = self.pending(0)
        buffer = pending.batch
        self.appends.append([pending], "id", False)
        buffer[61:] = bytes(len(buffer) - 61)
        self.coordinator.answer()
        self.assertEqual(self.results, [0])

    def test_a_retry_that_waits_behind_the_first_is_one(self) -> None:
        self.coordinator.slow = True
        self.send(0)
        self.send(1)
        self.send(0)
        self.coordinator.answer()
        self.assertEqual((self.results, self.partition.log.end_offset), ([0, 1, 0], 2))

    def test_a_refusal_is_for_all_that_wait(self) -> None:
        self.coordinator.slow = True
        self.send(0)
        self.send(1)
        self.coordinator.answer(ErrorCode.CONCURRENT_TRANSACTIONS)
        self.assertEqual(self.results, [ErrorCode.CONCURRENT_TRANSACTIONS] * 2)
        self.coordinator.slow = False
        self.send(1)  # the second one comes again before the first
        self.assertEqual(self.results[2:], [ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER])
        self.send(0)
        self.assertEqual(self.results[3:], [0])

    def test_partitions_of_one_request_are_asked_for_together(self) -> None:
        other = opened(SimulatedDisk())
        other.name = TopicPartition("other", 3)
        batches = [self.pending(0), self.pending(0, partition=other)]
        self.appends.append(batches, "id", False)
        self.assertEqual([question[3] for question in self.coordinator.asked], [(NAME, other.name)])
        self.assertEqual(self.results, [0, 0])

    def test_a_marker_in_between(self) -> None:
        self.coordinator.slow = True
        self.send(0)
        end(self.partition, 1, commit=False)
        self.coordinator.answer()
        self.assertEqual(self.results, [ErrorCode.INVALID_TXN_STATE])
        self.assertEqual(self.partition.last_stable_offset, 1)

    def test_after_a_marker_it_is_asked_anew(self) -> None:
        for epoch in range(3):
            self.send(0, epoch=epoch, implicit=True)
            end(self.partition, 1, epoch + 1, commit=True)
        self.assertEqual([question[2] for question in self.coordinator.asked], [0, 1, 2])
        self.assertEqual(self.results, [0, 2, 4])

    def test_a_newer_epoch_does_not_wait_for_the_older_one(self) -> None:
        self.coordinator.slow = True
        self.send(0, epoch=0)
        self.send(0, epoch=1)
        self.assertEqual([question[2] for question in self.coordinator.asked], [0, 1])
        self.coordinator.waiting.reverse()
        self.coordinator.answer()
        self.coordinator.answer()
        self.assertEqual(self.results, [0, ErrorCode.INVALID_PRODUCER_EPOCH])


class RefusalTests(AppendCase):
    def test_of_two_producers(self) -> None:
        self.appends.append([self.pending(0), self.pending(0, epoch=1)], "id", False)
        self.assertEqual(self.results, [ErrorCode.INVALID_PRODUCER_ID_MAPPING] * 2)

    def test_whole_refusals(self) -> None:
        self.coordinator.slow = True
        self.send(0)
        self.coordinator.fail(KafkaError(ErrorCode.PRODUCER_FENCED))
        self.send(0)
        self.coordinator.fail(RuntimeError("broken"))
        self.assertEqual(self.results, [ErrorCode.PRODUCER_FENCED, ErrorCode.COORDINATOR_NOT_AVAILABLE])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_a_partition_that_is_not_spoken_of(self) -> None:
        self.coordinator.slow = True
        self.send(0)
        self.coordinator.waiting.pop(0)[0].callback({})
        self.assertEqual(self.results, [ErrorCode.INVALID_TXN_STATE])

    def test_what_producers_are_told(self) -> None:
        codes = ErrorCode
        for code, abortable, told in (
            (codes.CONCURRENT_TRANSACTIONS, True, codes.NOT_ENOUGH_REPLICAS),
            (codes.COORDINATOR_LOAD_IN_PROGRESS, True, codes.NOT_ENOUGH_REPLICAS),
            (codes.COORDINATOR_NOT_AVAILABLE, True, codes.NOT_ENOUGH_REPLICAS),
            (codes.NOT_COORDINATOR, True, codes.NOT_ENOUGH_REPLICAS),
            (codes.PRODUCER_FENCED, True, codes.INVALID_PRODUCER_EPOCH),
            (codes.TRANSACTION_ABORTABLE, True, codes.TRANSACTION_ABORTABLE),
            (codes.TRANSACTION_ABORTABLE, False, codes.INVALID_TXN_STATE),
            (codes.INVALID_PRODUCER_ID_MAPPING, False, codes.INVALID_PRODUCER_ID_MAPPING),
            (codes.INVALID_TXN_STATE, True, codes.INVALID_TXN_STATE),
        ):
            self.assertEqual(produce_error(NotAgreed(code, "why"), abortable).code, told)
        own = KafkaError(codes.NOT_COORDINATOR, "of the append itself")
        self.assertIs(produce_error(own, True), own)
