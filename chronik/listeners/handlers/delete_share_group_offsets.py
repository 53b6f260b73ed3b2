"""DeleteShareGroupOffsets: have an empty share group forget where it starts in topics (KIP-932)."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from chronik.coordinator.share_requests import ShareRequests
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import RequestContext
from chronik.model import ZERO_UUID
from chronik.wire.apis import ApiKey
from chronik.wire.messages.delete_share_group_offsets import (
    DeleteShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsResponse,
    DeleteShareGroupOffsetsResponseTopic,
)


class DeleteShareGroupOffsetsHandler:
    """Serves DeleteShareGroupOffsets."""

    api_key = ApiKey.DELETE_SHARE_GROUP_OFFSETS
    min_version = 0
    max_version = 0

    def __init__(self, offsets: ShareRequests) -> None:
        self._offsets = offsets

    def handle(
        self, request: DeleteShareGroupOffsetsRequest, context: RequestContext
    ) -> Coroutine[Any, Any, DeleteShareGroupOffsetsResponse]:
        """Each topic, once it is forgotten in the log."""
        return self._delete(request)

    async def _delete(self, request: DeleteShareGroupOffsetsRequest) -> DeleteShareGroupOffsetsResponse:
        names = list(dict.fromkeys(topic.topic_name for topic in request.topics))
        if not names:
            return DeleteShareGroupOffsetsResponse()
        ids = {name: topic.topic_id for name in names if (topic := self._offsets.topic(name)) is not None}
        outcomes = await self._offsets.delete(request.group_id, names)
        return DeleteShareGroupOffsetsResponse(
            responses=[
                DeleteShareGroupOffsetsResponseTopic(
                    topic_name=name,
                    # As in Kafka, of what was deleted alone.
                    topic_id=ids[name] if error is None else ZERO_UUID,
                    error_code=ErrorCode.NONE if error is None else error.code,
                    error_message=None if error is None else error.message,
                )
                for name, error in outcomes.items()
            ]
        )

    def refuse(
        self, request: DeleteShareGroupOffsetsRequest, version: int, error: KafkaError
    ) -> DeleteShareGroupOffsetsResponse:
        """The error, and what is wrong."""
        return DeleteShareGroupOffsetsResponse(error_code=error.code, error_message=error.message)
