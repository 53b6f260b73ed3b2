"""DeleteShareGroupOffsets: have an empty share group forget where it starts in topics (KIP-932)."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any

from chronik.coordinator.share_requests import ShareRequests
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import RequestContext
from chronik.listeners.slices import Slices
from chronik.model import ZERO_UUID, Uuid
from chronik.steps import Steps, each
from chronik.wire.apis import ApiKey
from chronik.wire.messages.delete_share_group_offsets import (
    DeleteShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsResponse,
    DeleteShareGroupOffsetsResponseTopic,
)

_UNKNOWN = KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition.")
_NOTHING = KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "There is no offset information to delete.")


class DeleteShareGroupOffsetsHandler:
    """Serves DeleteShareGroupOffsets."""

    api_key = ApiKey.DELETE_SHARE_GROUP_OFFSETS
    min_version = 0
    max_version = 0

    def __init__(self, groups: ShareRequests, slices: Slices) -> None:
        self._groups = groups
        self._slices = slices

    def handle(
        self, request: DeleteShareGroupOffsetsRequest, context: RequestContext
    ) -> Coroutine[Any, Any, DeleteShareGroupOffsetsResponse]:
        """Each topic, once it is forgotten in the log."""
        return self._delete(request)

    async def _delete(self, request: DeleteShareGroupOffsetsRequest) -> DeleteShareGroupOffsetsResponse:
        if not request.topics:
            return DeleteShareGroupOffsetsResponse()
        topics = await self._slices.take(self._topics(request))
        topic_ids = [topic_id for topic_id in topics.values() if topic_id is not None]
        outcomes = await self._groups.delete(request.group_id, topic_ids)
        if outcomes is None:
            return DeleteShareGroupOffsetsResponse()
        responses = await self._slices.take(each(topics.items(), lambda topic: _told(*topic, outcomes)))
        return DeleteShareGroupOffsetsResponse(responses=responses)

    def _topics(self, request: DeleteShareGroupOffsetsRequest) -> Steps[dict[str, Uuid | None]]:
        """The ids of all topics that are named; None for one that there is not."""
        topics = {}
        for asked in request.topics:
            topic = self._groups.topic(asked.topic_name)
            topics[asked.topic_name] = None if topic is None else topic.topic_id
            yield
        return topics

    def refuse(
        self, request: DeleteShareGroupOffsetsRequest, version: int, error: KafkaError
    ) -> DeleteShareGroupOffsetsResponse:
        """The error, and what is wrong."""
        return DeleteShareGroupOffsetsResponse(error_code=error.code, error_message=error.message)


def _told(
    name: str, topic_id: Uuid | None, outcomes: Mapping[Uuid, KafkaError | None]
) -> DeleteShareGroupOffsetsResponseTopic:
    error: KafkaError | None = None
    if topic_id is None:
        error = _UNKNOWN
    elif topic_id not in outcomes:
        error = _NOTHING
    else:
        error = outcomes[topic_id]
    return DeleteShareGroupOffsetsResponseTopic(
        topic_name=name,
        topic_id=ZERO_UUID if error is not None or topic_id is None else topic_id,  # as in Kafka
        error_code=ErrorCode.NONE if error is None else error.code,
        error_message=None if error is None else error.message,
    )
