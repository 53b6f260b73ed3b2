"""DescribeShareGroupOffsets: where the partitions of share groups start (KIP-932).

Of all topics of which state is kept, or of named ones; a partition of which none is starts at -1.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from chronik.coordinator.share_requests import ShareRequests, Started
from chronik.errors import KafkaError
from chronik.listeners.context import RequestContext
from chronik.model import ZERO_UUID
from chronik.wire.apis import ApiKey
from chronik.wire.messages.describe_share_group_offsets import (
    DescribeShareGroupOffsetsRequest,
    DescribeShareGroupOffsetsRequestGroup,
    DescribeShareGroupOffsetsResponse,
    DescribeShareGroupOffsetsResponseGroup,
    DescribeShareGroupOffsetsResponsePartition,
    DescribeShareGroupOffsetsResponseTopic,
)

_NOWHERE = Started(-1, 0)


class DescribeShareGroupOffsetsHandler:
    """Serves DescribeShareGroupOffsets."""

    api_key = ApiKey.DESCRIBE_SHARE_GROUP_OFFSETS
    min_version = 0
    max_version = 0

    def __init__(self, offsets: ShareRequests) -> None:
        self._offsets = offsets

    def handle(
        self, request: DescribeShareGroupOffsetsRequest, context: RequestContext
    ) -> Coroutine[Any, Any, DescribeShareGroupOffsetsResponse]:
        """An answer for each group."""
        return self._describe(request)

    async def _describe(self, request: DescribeShareGroupOffsetsRequest) -> DescribeShareGroupOffsetsResponse:
        groups = []
        for group in request.groups:
            try:
                groups.append(await self._group(group))
            except KafkaError as error:
                groups.append(_refused(group.group_id, error))
        return DescribeShareGroupOffsetsResponse(groups=groups)

    async def _group(self, group: DescribeShareGroupOffsetsRequestGroup) -> DescribeShareGroupOffsetsResponseGroup:
        group_id, found = group.group_id, DescribeShareGroupOffsetsResponseGroup(group_id=group.group_id)
        if group.topics is None:
            named = [
                (kept.name, topic_id, sorted(kept.partitions))
                for topic_id, kept in self._offsets.known(group_id).items()
            ]
        else:
            named = []
            for asked in group.topics:
                topic = self._offsets.topic(asked.topic_name)
                named.append((asked.topic_name, ZERO_UUID if topic is None else topic.topic_id, asked.partitions))
        existing = {topic_id: partitions for _, topic_id, partitions in named if topic_id != ZERO_UUID}
        starts = await self._offsets.starts(group_id, existing)
        for name, topic_id, partitions in named:
            found.topics.append(
                DescribeShareGroupOffsetsResponseTopic(
                    topic_name=name,
                    topic_id=topic_id,
                    partitions=[_partition(index, starts.get((topic_id, index), _NOWHERE)) for index in partitions],
                )
            )
        return found

    def refuse(
        self, request: DescribeShareGroupOffsetsRequest, version: int, error: KafkaError
    ) -> DescribeShareGroupOffsetsResponse:
        """The error for each group."""
        return DescribeShareGroupOffsetsResponse(groups=[_refused(group.group_id, error) for group in request.groups])


def _partition(index: int, start: Started) -> DescribeShareGroupOffsetsResponsePartition:
    return DescribeShareGroupOffsetsResponsePartition(
        partition_index=index, start_offset=start.offset, leader_epoch=start.leader_epoch
    )


def _refused(group_id: str, error: KafkaError) -> DescribeShareGroupOffsetsResponseGroup:
    return DescribeShareGroupOffsetsResponseGroup(group_id=group_id, error_code=error.code, error_message=error.message)
