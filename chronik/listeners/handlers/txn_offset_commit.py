"""TxnOffsetCommit: store a group's position as part of a transaction, whose commit makes it count (KIP-98, KIP-447).

Answered when it is in the log. From version 5 on the group's partition enters the transaction with it (KIP-890); clients of
older versions have sent AddOffsetsToTxn before. Partitions that don't exist are refused one by one; what concerns all of
it is said at every partition: the response has no other place for it.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Sequence
from operator import attrgetter
from typing import Any

from chronik.coordinator.runtime import Coordinator
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata
from chronik.listeners.context import RequestContext
from chronik.listeners.parts import joined_topics, topics_in_parts
from chronik.steps import Steps
from chronik.wire.apis import ApiKey
from chronik.wire.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
)

_LOADING_SINCE = 2
_ABORTABLE_SINCE = 4
_IMPLICIT_SINCE = 5

_Refused = list[tuple[str, int, ErrorCode]]


class TxnOffsetCommitHandler:
    """Serves TxnOffsetCommit for the topics in `metadata`."""

    api_key = ApiKey.TXN_OFFSET_COMMIT
    min_version = 0
    max_version = 5

    def __init__(self, coordinator: Coordinator, metadata: IClusterMetadata) -> None:
        self._coordinator = coordinator
        self._metadata = metadata

    def handle(
        self, request: TxnOffsetCommitRequest, context: RequestContext
    ) -> Coroutine[Any, Any, TxnOffsetCommitResponse]:
        """Commit what exists."""
        return self._commit(request, context.api_version)

    async def _commit(self, request: TxnOffsetCommitRequest, version: int) -> TxnOffsetCommitResponse:
        unknown = self._take_unknown(request.topics)
        request.topics = [topic for topic in request.topics if topic.partitions]
        if unknown and not request.topics:
            return _response(unknown)
        try:
            response = await self._coordinator.commit_in_transaction(request, version >= _IMPLICIT_SINCE)
        except KafkaError as error:
            response = self.refuse(request, version, error)
        if not unknown:
            return response
        answered = [
            (topic.name, item.partition_index, ErrorCode(item.error_code))
            for topic in response.topics
            for item in topic.partitions
        ]
        return _response([*unknown, *answered])

    def _take_unknown(self, topics: list[TxnOffsetCommitRequestTopic]) -> _Refused:
        """Take out of the request what does not exist."""
        unknown: _Refused = []
        for topic in topics:
            known = self._metadata.topic(topic.name)
            count = 0 if known is None else len(known.partitions)
            code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            unknown += [
                (topic.name, item.partition_index, code)
                for item in topic.partitions
                if not 0 <= item.partition_index < count
            ]
            topic.partitions = [item for item in topic.partitions if 0 <= item.partition_index < count]
        return unknown

    in_turn = True  # a transaction is changed by one request at a time

    def parts(self, request: TxnOffsetCommitRequest) -> Iterator[TxnOffsetCommitRequest]:
        """Commits of some partitions each: their transaction makes them one."""
        return topics_in_parts(request, "topics", "partitions")

    def joined(self, answers: Sequence[TxnOffsetCommitResponse]) -> Steps[TxnOffsetCommitResponse]:
        """One answer of those to the parts."""
        topics = yield from joined_topics([answer.topics for answer in answers], attrgetter("name"), "partitions")
        return TxnOffsetCommitResponse(topics=topics)

    def refuse(self, request: TxnOffsetCommitRequest, version: int, error: KafkaError) -> TxnOffsetCommitResponse:
        """The error at every partition, as clients of this version understand it."""
        code = _understood(error.code, version)
        return _response(
            [(topic.name, item.partition_index, code) for topic in request.topics for item in topic.partitions]
        )


def _understood(code: ErrorCode, version: int) -> ErrorCode:
    """What a client is told in place of a code of the transaction's coordinator that it doesn't expect here."""
    if code is ErrorCode.CONCURRENT_TRANSACTIONS:
        code = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS  # to be tried again, with this coordinator
    if code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS and version < _LOADING_SINCE:
        return ErrorCode.COORDINATOR_NOT_AVAILABLE  # clients of these versions gave up (KAFKA-7296)
    if code is ErrorCode.PRODUCER_FENCED:
        return ErrorCode.INVALID_PRODUCER_EPOCH
    if code is ErrorCode.TRANSACTION_ABORTABLE and version < _ABORTABLE_SINCE:
        return ErrorCode.INVALID_TXN_STATE
    return code


def _response(answers: _Refused) -> TxnOffsetCommitResponse:
    """The response with these answers, no topic twice."""
    topics: dict[str, list[TxnOffsetCommitResponsePartition]] = {}
    for name, index, code in answers:
        topics.setdefault(name, []).append(TxnOffsetCommitResponsePartition(partition_index=index, error_code=code))
    return TxnOffsetCommitResponse(
        topics=[TxnOffsetCommitResponseTopic(name=name, partitions=partitions) for name, partitions in topics.items()]
    )
