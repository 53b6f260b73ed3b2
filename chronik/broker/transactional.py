"""Appends of transactional batches whose producer has no transaction open in the partition yet: its coordinator is asked first.

Clients of transactions v1 have told the coordinator of the partition before; it is only asked whether they did. Those of v2
leave that to the broker: the partition is added to the transaction in the same question (KIP-890). Once the first batch is
appended the transaction is open, and nothing is asked until its marker.

While an answer is awaited, batches of the producer for the same partition wait in a row, whichever connection they came on,
and are appended in this order. A batch that has to wait is copied out of its request. Where the coordinator answers at once,
nothing waits and nothing is copied.

A coordinator that is still completing the producer's last transaction waits a moment itself before it says so: it knows when
that ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chronik.broker.checks import TransactionCheck
from chronik.broker.outcomes import Appended
from chronik.broker.partition import Partition
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import ITransactions
from chronik.model import TopicPartition
from chronik.wire.batches import BatchHeader
from chronik.wire.codec import Buffer

_TRY_AGAIN = frozenset(
    {
        ErrorCode.CONCURRENT_TRANSACTIONS,
        ErrorCode.NETWORK_EXCEPTION,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.NOT_COORDINATOR,
    }
)
"""What producers don't expect from Produce, or would refresh their metadata for: they are told NOT_ENOUGH_REPLICAS instead."""


class NotAgreed(KafkaError):
    """A batch is refused before its partition has looked at it: the coordinator of its transaction does not agree."""


class PendingBatch:
    """A batch on its way into `partition`. `done` is told where it went, or why it didn't; it is called once."""

    __slots__ = ("acks", "batch", "check", "done", "header", "is_done", "now_ms", "partition")

    def __init__(
        self,
        partition: Partition,
        batch: Buffer,
        header: BatchHeader,
        now_ms: int,
        acks: int,
        done: Callable[[PendingBatch, Appended | Exception], None],
    ) -> None:
        self.partition = partition
        self.batch = batch
        self.header = header
        self.now_ms = now_ms
        self.acks = acks
        self.done = done
        self.is_done = False
        self.check: TransactionCheck | None = None

    def append(self) -> None:
        """Its turn has come."""
        try:
            self.finish(self.partition.append(self.batch, self.now_ms, self.acks, self.check))
        except Exception as error:  # whatever it is, it is the batch's answer
            self.finish(error)

    def finish(self, result: Appended | Exception) -> None:
        """It was appended or refused."""
        self.is_done = True
        self.done(self, result)


class TransactionalAppends:
    """Asks `transactions`, and appends."""

    log = Logger()

    def __init__(self, transactions: ITransactions) -> None:
        self._transactions = transactions

    def append(self, batches: Sequence[PendingBatch], transactional_id: str, implicit: bool) -> None:
        """Append the batches of one request when the coordinator agrees; each is told the end, some before the return.

        `implicit`: the client takes part in transactions v2.
        """
        if len({(pending.header.producer_id, pending.header.producer_epoch) for pending in batches}) > 1:
            text = "the request has transactional batches of more than one producer"
            for pending in batches:
                pending.finish(NotAgreed(ErrorCode.INVALID_PRODUCER_ID_MAPPING, text))
            return
        unasked: list[PendingBatch] = []
        for pending in batches:
            header, partition = pending.header, pending.partition
            check = partition.transactions.check(
                header.producer_id, header.producer_epoch, header.base_sequence, implicit
            )
            pending.check = check
            if check is None:
                pending.append()
                continue
            if not check.waiting:
                unasked.append(pending)
            check.waiting.append(pending)
        if unasked:
            self._ask(transactional_id, unasked, verify_only=not implicit)
        for pending in batches:
            if not pending.is_done:
                pending.batch = bytearray(pending.batch)

    def _ask(self, transactional_id: str, first_ones: list[PendingBatch], verify_only: bool) -> None:
        """Ask for the partitions of `first_ones`, each the first batch that waits there."""
        header = first_ones[0].header
        answer: Deferred[dict[TopicPartition, ErrorCode]] = maybeDeferred(
            self._transactions.join,
            transactional_id,
            header.producer_id,
            header.producer_epoch,
            [pending.partition.name for pending in first_ones],
            verify_only,
        )
        answer.addBoth(self._answered, first_ones)

    def _answered(self, result: dict[TopicPartition, ErrorCode] | Failure, first_ones: list[PendingBatch]) -> None:
        for pending in first_ones:
            self._settle(pending.check, self._error_for(result, pending.partition.name))

    def _error_for(self, result: dict[TopicPartition, ErrorCode] | Failure, name: TopicPartition) -> NotAgreed | None:
        """What is in the way of batches for partition `name`."""
        if not isinstance(result, Failure):
            code = result.get(name, ErrorCode.INVALID_TXN_STATE)
            return None if code is ErrorCode.NONE else NotAgreed(code, f"{name} is not in the producer's transaction")
        if isinstance(result.value, KafkaError):
            return NotAgreed(result.value.code, result.value.message)
        self.log.failure("the coordinator of a transaction was asked for {partition}", result, partition=str(name))
        return NotAgreed(ErrorCode.COORDINATOR_NOT_AVAILABLE, "the coordinator failed; the node's log has the details")

    def _settle(self, check: TransactionCheck | None, error: NotAgreed | None) -> None:
        """The coordinator has spoken: append or refuse those that wait, in their order."""
        assert check is not None
        waiting, check.waiting = check.waiting, []
        for pending in waiting:
            if error is None:
                pending.append()
            else:
                pending.finish(error)


def produce_error(error: KafkaError, abortable: bool) -> KafkaError:
    """What a producer is told in place of the coordinator's `error`. `abortable`: it knows TRANSACTION_ABORTABLE."""
    if not isinstance(error, NotAgreed):
        return error
    code = error.code
    if code in _TRY_AGAIN:
        text = f"it is not known yet whether the partition belongs to the transaction ({code.name}: {error.message})"
        return NotAgreed(ErrorCode.NOT_ENOUGH_REPLICAS, text)
    if code is ErrorCode.PRODUCER_FENCED:
        return NotAgreed(ErrorCode.INVALID_PRODUCER_EPOCH, error.message)
    if code is ErrorCode.TRANSACTION_ABORTABLE and not abortable:
        return NotAgreed(ErrorCode.INVALID_TXN_STATE, error.message)
    return error
