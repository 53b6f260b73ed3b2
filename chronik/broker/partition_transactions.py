"""The transactional side of a partition: which batches may open a transaction in it or go on with one, offsets, markers.

A transactional batch is only taken in a transaction that is open here, or with a check that its coordinator has agreed to
(`chronik.broker.checks`); `chronik.broker.transactional` asks the coordinator. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronik.broker.checks import TransactionCheck, TransactionChecks, UncheckedTransaction
from chronik.log.producers import Producers
from chronik.model import TopicPartition, TransactionMarker
from chronik.wire import records
from chronik.wire.batches import BatchHeader

if TYPE_CHECKING:
    from chronik.broker.partition import Partition


class PartitionTransactions:
    """Decides which transactional batches the partition `name` takes; `producers` says which transactions are open there."""

    __slots__ = ("_checks", "_name", "_producers")

    def __init__(self, name: TopicPartition, producers: Producers) -> None:
        self._name = name
        self._producers = producers
        self._checks = TransactionChecks()

    def check(self, producer_id: int, epoch: int, sequence: int, implicit: bool) -> TransactionCheck | None:
        """What must succeed before the producer's next batch may open its transaction; None where that is open.

        `sequence` is that of the batch, -1 for none; `implicit` says that its client takes part in transactions v2.
        """
        if self._producers.in_transaction(producer_id, epoch):
            return None
        return self._checks.begin(producer_id, epoch, sequence, implicit)

    def require(self, batch: bytearray | memoryview, header: BatchHeader, check: TransactionCheck | None) -> None:
        """Raises KafkaError unless a transactional batch belongs to a transaction that its coordinator knows.

        One that came without a `check` raises UncheckedTransaction.
        """
        producers = self._producers
        producer_id = header.producer_id
        if producers.in_transaction(producer_id, header.producer_epoch) or producers.check(header) is not None:
            return
        if check is None:
            raise UncheckedTransaction(self._name, batch, header)
        self._checks.require(check, header, producers.is_new(producer_id))

    def ended(self, producer_id: int) -> None:
        """A marker of the producer was written: what was agreed to before counts no more."""
        self._checks.ended(producer_id)


def append_offsets(
    partition: Partition, batch: bytearray, now_ms: int, check: TransactionCheck | None
) -> tuple[int, int]:
    """Append a transactional batch of the group coordinator, which has no sequence: its base offset, and the offset behind it.

    `check` is as in `Partition.append`. Like all that coordinators write, it is for all replicas (acks=all). Raises
    KafkaError: NOT_ENOUGH_REPLICAS, MESSAGE_TOO_LARGE, INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE, KAFKA_STORAGE_ERROR.
    """
    partition.require_replicas()
    header = records.read_header(batch)
    if len(batch) > partition.admission.max_bytes:
        raise partition.admission.too_large(len(batch))
    partition.transactions.require(batch, header, check)
    base_offset = partition.log.append(batch, header, partition.leader_epoch, now_ms)
    end_offset = base_offset + header.record_count
    partition.grown(end_offset, header.record_count, len(batch))
    return base_offset, end_offset


def append_marker(partition: Partition, marker: TransactionMarker, now_ms: int) -> int:
    """End a producer's transaction; the offset behind the marker. What it ends is stable once that is committed.

    A marker is for all replicas (acks=all). Raises KafkaError: NOT_ENOUGH_REPLICAS, INVALID_PRODUCER_EPOCH,
    TRANSACTION_COORDINATOR_FENCED, KAFKA_STORAGE_ERROR.
    """
    partition.require_replicas()
    end_offset, size = partition.log.append_marker(marker, partition.leader_epoch, now_ms)
    partition.transactions.ended(marker.producer_id)
    partition.grown(end_offset, 1, size)
    return end_offset
