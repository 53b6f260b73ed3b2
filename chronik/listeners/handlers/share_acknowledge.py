"""ShareAcknowledge: what a member of a share group says of records that it was given (KIP-932).

Each partition is answered when it is in the log of the group's state. The last request of a session ends it: what the member
has not acknowledged is free.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from chronik.broker.share_partitions import SharePartitions
from chronik.broker.share_sessions import FINAL_EPOCH
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.sharing import acknowledge, outcomes, said, sharer
from chronik.listeners.slices import Slices
from chronik.model import PartitionId
from chronik.steps import Steps
from chronik.wire.apis import ApiKey
from chronik.wire.messages.share_acknowledge import (
    PartitionData,
    ShareAcknowledgeRequest,
    ShareAcknowledgeResponse,
    ShareAcknowledgeTopicResponse,
)


class ShareAcknowledgeHandler:
    """Serves ShareAcknowledge."""

    api_key = ApiKey.SHARE_ACKNOWLEDGE
    min_version = 1
    max_version = 1

    def __init__(self, shares: SharePartitions, slices: Slices) -> None:
        self._shares = shares
        self._slices = slices

    def handle(
        self, request: ShareAcknowledgeRequest, context: RequestContext
    ) -> Coroutine[Any, Any, ShareAcknowledgeResponse]:
        """Answered when all of it is in the log, or refused."""
        return self._acknowledge(request)

    async def _acknowledge(self, request: ShareAcknowledgeRequest) -> ShareAcknowledgeResponse:
        who = sharer(request.group_id, request.member_id)
        self._shares.sessions.acknowledge(who, request.share_session_epoch)
        acknowledgements = await self._slices.take(said(request.topics))
        begun = await acknowledge(self._shares, who, acknowledgements, self._slices)
        codes = await outcomes(begun, self._slices)
        if request.share_session_epoch == FINAL_EPOCH:
            self._shares.close_session(who)
        return await self._slices.take(_response(codes))

    def refuse(self, request: ShareAcknowledgeRequest, version: int, error: KafkaError) -> ShareAcknowledgeResponse:
        """The error, and what is wrong."""
        return ShareAcknowledgeResponse(error_code=error.code, error_message=error.message)


def _response(codes: dict[PartitionId, KafkaError | None]) -> Steps[ShareAcknowledgeResponse]:
    topics: dict[bytes, ShareAcknowledgeTopicResponse] = {}
    for place, error in codes.items():
        topic = topics.setdefault(place.topic_id, ShareAcknowledgeTopicResponse(topic_id=place.topic_id))
        topic.partitions.append(_answer(place.partition, error))
        yield
    return ShareAcknowledgeResponse(responses=list(topics.values()))


def _answer(index: int, error: KafkaError | None) -> PartitionData:
    return PartitionData(
        partition_index=index,
        error_code=ErrorCode.NONE if error is None else error.code,
        error_message=None if error is None else error.message,
    )
