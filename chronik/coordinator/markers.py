"""Ends a prepared transaction in its partitions: a marker into each, however often it takes.

Once a transaction is prepared its outcome stands, so a partition is tried until it has the marker, with a pause that doubles
from one failure to the next. It is given up only where nothing is left to end: the partition is deleted, or the producer
has a newer epoch there. A newer coordinator (TRANSACTION_COORDINATOR_FENCED) ends the transaction in our place.

A marker may be written twice, when the coordinator is lost before it has noted that all are written: the second ends nothing.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from chronik.coordinator.transaction import Transaction
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata, IMarkerWriter
from chronik.model import TopicPartition, TransactionMarker

FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 5.0
PARTITIONS_A_TURN = 50
"""Markers begun before the reactor gets its turn: about 5 ms."""


class Markers:
    """Writes markers through `writer`; `metadata` knows which partitions are deleted."""

    log = Logger()

    def __init__(self, writer: IMarkerWriter, metadata: IClusterMetadata, clock: IReactorTime) -> None:
        self._writer = writer
        self._metadata = metadata
        self._clock = clock

    async def write(self, transactional_id: str, prepared: Transaction, coordinator_epoch: int) -> bool:
        """End the transaction in all its partitions. False when that is left to the next coordinator.

        Cancelling it gives up what is not written yet.
        """
        marker = TransactionMarker(prepared.producer_id, prepared.producer_epoch, prepared.committed, coordinator_epoch)
        writes: list[Deferred[bool]] = []
        for count, place in enumerate(sorted(prepared.partitions), 1):
            writes.append(Deferred.fromCoroutine(self._write(transactional_id, place, marker)))
            if count % PARTITIONS_A_TURN == 0:
                await deferLater(self._clock, 0)
        written = await DeferredList(writes, consumeErrors=True)
        return all(ended and done for ended, done in written)

    async def _write(self, transactional_id: str, place: TopicPartition, marker: TransactionMarker) -> bool:
        pause = FIRST_RETRY_SECONDS
        while not self._is_deleted(place):
            try:
                await self._writer.write_marker(place, marker)
                return True
            except KafkaError as error:
                if error.code is ErrorCode.TRANSACTION_COORDINATOR_FENCED:
                    self._note(transactional_id, place, error, "a newer coordinator ends the transaction")
                    return False
                if error.code is ErrorCode.INVALID_PRODUCER_EPOCH:
                    self._note(transactional_id, place, error, "nothing is left to end there")
                    return True
                self._note(transactional_id, place, error, f"trying again in {pause:.1f} s")
            except CancelledError:
                raise
            except Exception:  # a wall: the outcome stands, so the marker has to be written whatever went wrong
                self.log.failure(
                    "{transactional_id}: no marker in {partition}; trying again in {pause:.1f} s",
                    transactional_id=transactional_id,
                    partition=str(place),
                    pause=pause,
                )
            await deferLater(self._clock, pause)
            pause = min(2 * pause, LAST_RETRY_SECONDS)
        return True

    def _is_deleted(self, place: TopicPartition) -> bool:
        topic = self._metadata.topic(place.topic)
        return topic is None or not 0 <= place.partition < len(topic.partitions)

    def _note(self, transactional_id: str, place: TopicPartition, error: KafkaError, then: str) -> None:
        self.log.warn(
            "{transactional_id}: no marker in {partition}: {error}; {then}",
            transactional_id=transactional_id,
            partition=str(place),
            error=str(error),
            then=then,
        )
