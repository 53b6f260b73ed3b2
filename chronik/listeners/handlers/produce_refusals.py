"""What a producer is told of a batch that was not appended, and what is refused before a partition has had a look."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger
from twisted.python.failure import Failure

from chronik.broker.key_check import KeylessRecords
from chronik.broker.partition import Partition
from chronik.broker.transactional import NotAgreed
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.complaint import Complaint
from chronik.listeners.context import CloseConnection
from chronik.wire.batches import MAGIC, TRANSACTIONAL_BIT
from chronik.wire.codec import Buffer
from chronik.wire.messages.produce import (
    BatchIndexAndErrorMessage,
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from chronik.wire.records import is_one_batch, read_header

_AT_FAULT = frozenset(
    {
        ErrorCode.INVALID_RECORD,
        ErrorCode.INVALID_TIMESTAMP,
        ErrorCode.INVALID_PRODUCER_EPOCH,
        ErrorCode.INVALID_TXN_STATE,
        ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
        ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
    }
)
"""What is wrong with the records themselves, other than their size and checksum."""

_MAGIC_AT, FLAGS_AT = 16, 22
"""Where a batch has the number of its format, and the byte of its attributes with the transactional bit."""


class Refusals:
    """Makes the answers. `find(topic, data, by_id)` is the partition of a batch; `clock` is in seconds."""

    log = Logger()

    def __init__(
        self, find: Callable[[TopicProduceData, PartitionProduceData, bool], Partition], clock: Callable[[], float]
    ) -> None:
        self._find = find
        self._complaint = Complaint(self.log, clock)

    def not_appended(
        self, topic: TopicProduceData, data: PartitionProduceData, by_id: bool, error: Exception
    ) -> PartitionProduceResponse:
        """The answer for a batch whose append raised `error`."""
        if isinstance(error, KafkaError):
            if error.code == ErrorCode.KAFKA_STORAGE_ERROR:
                self._complaint.refused(str(error))
            return self._refused(topic, data, by_id, error)
        # An idempotent producer must not see an unknown error: it would give up its sequence (KAFKA-14034).
        self.log.failure("append to {topic}-{partition} failed", Failure(error), topic=topic.name, partition=data.index)
        return refused(
            data.index, KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "the append failed; the node's log has the details")
        )

    def _refused(
        self, topic: TopicProduceData, data: PartitionProduceData, by_id: bool, error: KafkaError
    ) -> PartitionProduceResponse:
        """The answer for a refused batch.

        Like Kafka's, it has the log's start where it is the contents of one whole batch that are at fault, and names
        the record where that is known without decoding any: in a batch of one (KIP-467).
        """
        answer = refused(data.index, error)
        if data.records is not None and is_one_batch(data.records) and _at_fault(data.records, error):
            answer.log_start_offset = self._find(topic, data, by_id).log_start_offset
            if error.code == ErrorCode.INVALID_TIMESTAMP and read_header(data.records).record_count == 1:
                answer.record_errors = [
                    BatchIndexAndErrorMessage(batch_index=0, batch_index_error_message=error.message)
                ]
        if isinstance(error, KeylessRecords):
            text = f"{topic.name}-{data.index} is compacted: a record needs a key"
            answer.record_errors = [
                BatchIndexAndErrorMessage(batch_index=each, batch_index_error_message=text) for each in error.indexes
            ]
        return answer


def _at_fault(batch: Buffer, error: KafkaError) -> bool:
    """Whether the partition has found the batch itself wrong. Of a fenced transaction it says what the coordinator would."""
    if isinstance(error, NotAgreed) or (error.code == ErrorCode.INVALID_PRODUCER_EPOCH and _is_transactional(batch)):
        return False
    return error.code in _AT_FAULT


def check_transactional_id(request: ProduceRequest) -> None:
    """Refuse the whole of a request with a transactional batch that does not say by which right.

    Raises KafkaError(TRANSACTIONAL_ID_AUTHORIZATION_FAILED).
    """
    if request.transactional_id is None and any(
        _is_transactional(data.records) for topic in request.topic_data for data in topic.partition_data
    ):
        text = "a transactional batch in a request that names no transactional id"
        raise KafkaError(ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, text)


def _is_transactional(records: Buffer | None) -> bool:
    """Whether this begins with a transactional batch, be it good or not."""
    return (
        records is not None
        and len(records) > FLAGS_AT
        and bool(records[FLAGS_AT] & TRANSACTIONAL_BIT)
        and records[_MAGIC_AT] == MAGIC
    )


def refused(index: int, error: KafkaError) -> PartitionProduceResponse:
    """The answer for partition `index` that carries `error`."""
    return PartitionProduceResponse(
        index=index, error_code=error.code, base_offset=-1, log_start_offset=-1, error_message=error.message
    )


def refuse_all(request: ProduceRequest, version: int, error: KafkaError) -> ProduceResponse:
    """`error` for every partition of the request. The unknown becomes a storage error, which producers retry.

    Raises CloseConnection when acks is 0: such a producer would take the answer for that of its next request.
    """
    if not request.acks:
        raise CloseConnection(f"Produce version {version} with acks=0 was refused: {error.message}")
    if error.code == ErrorCode.UNKNOWN_SERVER_ERROR:
        error = KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, error.message)
    return ProduceResponse(
        responses=[
            TopicProduceResponse(
                name=topic.name,
                topic_id=topic.topic_id,
                partition_responses=[refused(data.index, error) for data in topic.partition_data],
            )
            for topic in request.topic_data
        ]
    )


def close_on_error(responses: list[TopicProduceResponse]) -> None:
    """Raises CloseConnection where anything failed: with acks=0 that is how a producer learns of it."""
    for topic in responses:
        for answer in topic.partition_responses:
            if answer.error_code:
                code = ErrorCode(answer.error_code).name
                raise CloseConnection(f"append to {topic.name}-{answer.index} with acks=0 failed: {code}")
