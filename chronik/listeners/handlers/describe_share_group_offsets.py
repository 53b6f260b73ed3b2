"""DescribeShareGroupOffsets: where the partitions of share groups start (KIP-932).

Of all topics of which state is kept, or of named ones; a partition of which none is starts at -1.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple

from chronik.coordinator.share_requests import ShareRequests, Started
from chronik.errors import KafkaError
from chronik.listeners.context import RequestContext
from chronik.listeners.slices import Slices
from chronik.model import ZERO_UUID, Uuid
from chronik.steps import Steps, each, each_of
from chronik.wire.apis import ApiKey
from chronik.wire.messages.describe_share_group_offsets import (
    DescribeShareGroupOffsetsRequest,
    DescribeShareGroupOffsetsRequestGroup,
    DescribeShareGroupOffsetsRequestTopic,
    DescribeShareGroupOffsetsResponse,
    DescribeShareGroupOffsetsResponseGroup,
    DescribeShareGroupOffsetsResponsePartition,
    DescribeShareGroupOffsetsResponseTopic,
)

_NOWHERE = Started(-1, 0)


class _Named(NamedTuple):
    """A topic that is asked about; the id is zero where there is none of its name."""

    name: str
    topic_id: Uuid
    partitions: Sequence[int]


class DescribeShareGroupOffsetsHandler:
    """Serves DescribeShareGroupOffsets."""

    api_key = ApiKey.DESCRIBE_SHARE_GROUP_OFFSETS
    min_version = 0
    max_version = 0

    def __init__(self, groups: ShareRequests, slices: Slices) -> None:
        self._groups = groups
        self._slices = slices

    def handle(
        self, request: DescribeShareGroupOffsetsRequest, context: RequestContext
    ) -> Coroutine[Any, Any, DescribeShareGroupOffsetsResponse]:
        """An answer for each group."""
        return self._describe(request)

    async def _describe(self, request: DescribeShareGroupOffsetsRequest) -> DescribeShareGroupOffsetsResponse:
        groups = []
        pace = self._slices.pace()
        for group in request.groups:
            try:
                groups.append(await self._group(group))
            except KafkaError as error:
                groups.append(_refused(group.group_id, error))
            await pace.turn()
        return DescribeShareGroupOffsetsResponse(groups=groups)

    async def _group(self, group: DescribeShareGroupOffsetsRequestGroup) -> DescribeShareGroupOffsetsResponseGroup:
        named = await self._slices.take(self._named(group))
        existing = {topic_id: partitions for _, topic_id, partitions in named if topic_id != ZERO_UUID}
        starts = await self._groups.starts(group.group_id, existing)
        topics = await self._slices.take(
            each_of(
                named,
                lambda topic: topic.partitions,
                lambda topic, index: _partition(index, starts.get((topic.topic_id, index), _NOWHERE)),
                lambda topic, partitions: DescribeShareGroupOffsetsResponseTopic(
                    topic_name=topic.name, topic_id=topic.topic_id, partitions=partitions
                ),
            )
        )
        return DescribeShareGroupOffsetsResponseGroup(group_id=group.group_id, topics=topics)

    def _named(self, group: DescribeShareGroupOffsetsRequestGroup) -> Steps[list[_Named]]:
        if group.topics is None:
            known = self._groups.known(group.group_id).items()
            return (yield from each(known, lambda topic: _Named(topic[1].name, topic[0], sorted(topic[1].partitions))))

        def named(asked: DescribeShareGroupOffsetsRequestTopic) -> _Named:
            topic = self._groups.topic(asked.topic_name)
            return _Named(asked.topic_name, ZERO_UUID if topic is None else topic.topic_id, asked.partitions)

        return (yield from each(group.topics, named))

    def refuse(
        self, request: DescribeShareGroupOffsetsRequest, version: int, error: KafkaError
    ) -> Steps[DescribeShareGroupOffsetsResponse]:
        """The error for each group."""
        groups = yield from each(request.groups, lambda group: _refused(group.group_id, error))
        return DescribeShareGroupOffsetsResponse(groups=groups)


def _partition(index: int, start: Started) -> DescribeShareGroupOffsetsResponsePartition:
    return DescribeShareGroupOffsetsResponsePartition(
        partition_index=index, start_offset=start.offset, leader_epoch=start.leader_epoch
    )


def _refused(group_id: str, error: KafkaError) -> DescribeShareGroupOffsetsResponseGroup:
    return DescribeShareGroupOffsetsResponseGroup(group_id=group_id, error_code=error.code, error_message=error.message)
