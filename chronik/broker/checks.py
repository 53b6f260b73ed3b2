"""By what a partition lets a producer's transaction begin in it: a check with the coordinator that is still good (KIP-890).

A transactional batch is only taken when the coordinator knows that its partition belongs to the transaction; it would stay
open for ever otherwise. A `TransactionCheck` is begun before the coordinator is asked, and shown with the batch when it has
agreed. A marker that comes in between takes it away: what was agreed to was the transaction that the marker has ended.

It also remembers the lowest sequence that came with it. If the first batch is refused and the one sent after it is agreed to,
that one would begin the partition with a gap. So it stays until the marker, whether or not the coordinator agreed.

Pure. Sources: KIP-890, with the rules of Apache Kafka 4.1 for sequences.
"""

from __future__ import annotations

from typing import Any

from chronik.errors import ErrorCode, KafkaError
from chronik.model import TopicPartition
from chronik.wire.batches import BatchHeader

MAX_IDLE_CHECKS = 1000
"""Checks that a partition remembers of those that nobody waits for; beyond, the oldest is forgotten."""


class UncheckedTransaction(KafkaError):
    """A transactional batch came whose producer has no transaction open in the partition: its coordinator must be asked."""

    def __init__(self, name: TopicPartition, batch: bytearray | memoryview, header: BatchHeader) -> None:
        text = f"{name}: producer {header.producer_id}, epoch {header.producer_epoch}, has no transaction open here"
        super().__init__(ErrorCode.INVALID_TXN_STATE, text)
        self.batch = batch
        self.header = header


class TransactionCheck:
    """One producer's wish to begin a transaction in one partition. `waiting` are batches that wait for the answer."""

    __slots__ = ("ended", "epoch", "implicit", "lowest_sequence", "producer_id", "waiting")

    def __init__(self, producer_id: int, epoch: int, sequence: int, implicit: bool) -> None:
        self.producer_id = producer_id
        self.epoch = epoch
        self.lowest_sequence = sequence
        self.implicit = implicit
        self.ended = False
        self.waiting: list[Any] = []


class TransactionChecks:
    """The checks of one partition."""

    __slots__ = ("_checks",)

    def __init__(self) -> None:
        self._checks: dict[tuple[int, int], TransactionCheck] = {}

    def begin(self, producer_id: int, epoch: int, sequence: int, implicit: bool) -> TransactionCheck:
        """The check for a producer's batch of that first `sequence`: the one that is there, or a new one."""
        key = producer_id, epoch
        check = self._checks.get(key)
        if check is None:
            if len(self._checks) >= MAX_IDLE_CHECKS:
                self._forget_one()
            check = self._checks[key] = TransactionCheck(producer_id, epoch, sequence, implicit)
        else:
            check.lowest_sequence = min(check.lowest_sequence, sequence)
            check.implicit = implicit
        return check

    def _forget_one(self) -> None:
        for key, check in self._checks.items():
            if not check.waiting:
                del self._checks[key]
                return

    def ended(self, producer_id: int) -> None:
        """A marker of the producer was written: what was asked before it tells nothing of what comes after."""
        for key in [key for key in self._checks if key[0] == producer_id]:
            self._checks.pop(key).ended = True

    def require(self, check: TransactionCheck, header: BatchHeader, is_new: bool) -> None:
        """Raises KafkaError unless a batch of `check` may begin the transaction.

        `is_new`: the partition has no batch of the producer in its newest epoch to compare the sequence with. The codes are
        INVALID_TXN_STATE and OUT_OF_ORDER_SEQUENCE_NUMBER.
        """
        if check.ended:
            text = f"the transaction of producer {check.producer_id} was ended while its coordinator was asked"
            raise KafkaError(ErrorCode.INVALID_TXN_STATE, text)
        sequence = header.base_sequence
        if sequence > check.lowest_sequence:
            lowest = f"{check.lowest_sequence}, the lowest that came for this transaction"
        elif check.implicit and is_new and sequence > 0:
            lowest = "0, since nothing is known of the producer here"
        else:
            return
        text = f"sequence {sequence} of producer {check.producer_id} cannot come before {lowest}"
        raise KafkaError(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, text)
