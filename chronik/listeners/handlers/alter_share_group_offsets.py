"""AlterShareGroupOffsets: have an empty share group start its partitions elsewhere (KIP-932)."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any

from chronik.coordinator.share_requests import ShareRequests
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import RequestContext
from chronik.listeners.slices import Slices
from chronik.model import ZERO_UUID, Uuid
from chronik.steps import Steps
from chronik.wire.apis import ApiKey
from chronik.wire.messages.alter_share_group_offsets import (
    AlterShareGroupOffsetsRequest,
    AlterShareGroupOffsetsResponse,
    AlterShareGroupOffsetsResponsePartition,
    AlterShareGroupOffsetsResponseTopic,
)

_UNKNOWN = KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition.")


class AlterShareGroupOffsetsHandler:
    """Serves AlterShareGroupOffsets."""

    api_key = ApiKey.ALTER_SHARE_GROUP_OFFSETS
    min_version = 0
    max_version = 0

    def __init__(self, groups: ShareRequests, slices: Slices) -> None:
        self._groups = groups
        self._slices = slices

    def handle(
        self, request: AlterShareGroupOffsetsRequest, context: RequestContext
    ) -> Coroutine[Any, Any, AlterShareGroupOffsetsResponse]:
        """Each partition, once its start is in the log."""
        return self._alter(request)

    async def _alter(self, request: AlterShareGroupOffsetsRequest) -> AlterShareGroupOffsetsResponse:
        if not request.topics:
            return AlterShareGroupOffsetsResponse()
        wanted = await self._slices.take(self._wanted(request))
        failures = await self._groups.alter(request.group_id, wanted)
        return await self._slices.take(self._response(request, wanted, failures))

    def _wanted(self, request: AlterShareGroupOffsetsRequest) -> Steps[dict[Uuid, dict[int, int]]]:
        """The offsets of partitions that there are."""
        wanted: dict[Uuid, dict[int, int]] = {}
        for asked in request.topics:
            topic = self._groups.topic(asked.topic_name)
            for each in asked.partitions:
                if topic is not None and 0 <= each.partition_index < len(topic.partitions):
                    wanted.setdefault(topic.topic_id, {})[each.partition_index] = each.start_offset
                yield
        return wanted

    def _response(
        self,
        request: AlterShareGroupOffsetsRequest,
        wanted: Mapping[Uuid, Mapping[int, int]],
        failures: Mapping[tuple[Uuid, int], KafkaError],
    ) -> Steps[AlterShareGroupOffsetsResponse]:
        responses = []
        for asked in request.topics:
            topic = self._groups.topic(asked.topic_name)
            topic_id = ZERO_UUID if topic is None else topic.topic_id
            partitions = []
            for each in asked.partitions:
                place = (topic_id, each.partition_index)
                is_known = each.partition_index in wanted.get(topic_id, ())
                partitions.append(_partition(each.partition_index, failures.get(place) if is_known else _UNKNOWN))
                yield
            responses.append(
                AlterShareGroupOffsetsResponseTopic(
                    topic_name=asked.topic_name, topic_id=topic_id, partitions=partitions
                )
            )
        return AlterShareGroupOffsetsResponse(responses=responses)

    def refuse(
        self, request: AlterShareGroupOffsetsRequest, version: int, error: KafkaError
    ) -> AlterShareGroupOffsetsResponse:
        """The error, and what is wrong."""
        return AlterShareGroupOffsetsResponse(error_code=error.code, error_message=error.message)


def _partition(index: int, error: KafkaError | None) -> AlterShareGroupOffsetsResponsePartition:
    return AlterShareGroupOffsetsResponsePartition(
        partition_index=index,
        error_code=ErrorCode.NONE if error is None else error.code,
        error_message=None if error is None else error.message,
    )
