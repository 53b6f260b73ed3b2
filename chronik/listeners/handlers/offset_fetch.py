"""OffsetFetch: read back what groups committed.

A partition without a committed offset answers -1, not an error; one whose offset an open transaction is about to replace
answers UNSTABLE_OFFSET_COMMIT to those who require a stable one (KIP-447). Errors of a group stand at its partitions in
version 1, at the top in versions 2 to 7, and with the group from version 8 on, where a request names several. A null list of
topics (from version 2 on) asks for everything that the group has committed.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from chronik.coordinator.offsets import Committed
from chronik.coordinator.runtime import Coordinator
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import RequestContext
from chronik.model import TopicPartition
from chronik.wire.apis import ApiKey
from chronik.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)

_TOP_LEVEL_ERROR = 2
_BATCHED = 8
_NOTHING = Committed(-1, -1, "", -1)

_Topics = Sequence[OffsetFetchRequestTopic] | Sequence[OffsetFetchRequestTopics] | None
_Found = dict[str, list[tuple[int, Committed, ErrorCode]]]


class OffsetFetchHandler:
    """Serves OffsetFetch."""

    api_key = ApiKey.OFFSET_FETCH
    min_version = 1
    max_version = 9

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def handle(self, request: OffsetFetchRequest, context: RequestContext) -> Coroutine[Any, Any, OffsetFetchResponse]:
        """One group up to version 7, several from 8 on."""
        return self._fetch(request, context.api_version)

    async def _fetch(self, request: OffsetFetchRequest, version: int) -> OffsetFetchResponse:
        if version < _BATCHED:
            found = await self._fetch_group(request.group_id, request.topics, request.require_stable)
            return OffsetFetchResponse(
                topics=[
                    OffsetFetchResponseTopic(
                        name=name,
                        partitions=[
                            OffsetFetchResponsePartition(
                                partition_index=index,
                                committed_offset=committed.offset,
                                committed_leader_epoch=committed.leader_epoch,
                                metadata=committed.metadata,
                                error_code=code,
                            )
                            for index, committed, code in partitions
                        ],
                    )
                    for name, partitions in found.items()
                ]
            )
        groups = []
        for group in request.groups:
            try:
                found = await self._fetch_group(
                    group.group_id, group.topics, request.require_stable, group.member_id, group.member_epoch
                )
                groups.append(OffsetFetchResponseGroup(group_id=group.group_id, topics=_batched(found)))
            except KafkaError as error:
                groups.append(OffsetFetchResponseGroup(group_id=group.group_id, error_code=error.code))
        return OffsetFetchResponse(groups=groups)

    async def _fetch_group(
        self,
        group_id: str,
        topics: _Topics,
        require_stable: bool,
        member_id: str | None = None,
        member_epoch: int = -1,
    ) -> _Found:
        wanted = None
        if topics is not None:
            # No partition is answered twice, however often it was asked for.
            wanted = list(dict.fromkeys(TopicPartition(t.name, index) for t in topics for index in t.partition_indexes))
        found: _Found = {topic.name: [] for topic in topics or ()}
        offsets = await self._coordinator.fetch_offsets(group_id, wanted, require_stable, member_id, member_epoch)
        for place, committed, is_unstable in offsets:
            code = ErrorCode.UNSTABLE_OFFSET_COMMIT if is_unstable else ErrorCode.NONE
            found.setdefault(place.topic, []).append((place.partition, committed or _NOTHING, code))
        return found

    def refuse(self, request: OffsetFetchRequest, version: int, error: KafkaError) -> OffsetFetchResponse:
        """The error where this version has it: with each group, at the top, or at each partition."""
        if version >= _BATCHED:
            return OffsetFetchResponse(
                groups=[
                    OffsetFetchResponseGroup(group_id=group.group_id, error_code=error.code) for group in request.groups
                ]
            )
        if version >= _TOP_LEVEL_ERROR:
            return OffsetFetchResponse(error_code=error.code)
        return OffsetFetchResponse(
            topics=[
                OffsetFetchResponseTopic(
                    name=topic.name,
                    partitions=[
                        OffsetFetchResponsePartition(
                            partition_index=index, committed_offset=-1, metadata="", error_code=error.code
                        )
                        for index in topic.partition_indexes
                    ],
                )
                for topic in request.topics or ()
            ],
            error_code=ErrorCode.NONE,
        )


def _batched(found: _Found) -> list[OffsetFetchResponseTopics]:
    return [
        OffsetFetchResponseTopics(
            name=name,
            partitions=[
                OffsetFetchResponsePartitions(
                    partition_index=index,
                    committed_offset=committed.offset,
                    committed_leader_epoch=committed.leader_epoch,
                    metadata=committed.metadata,
                    error_code=code,
                )
                for index, committed, code in partitions
            ],
        )
        for name, partitions in found.items()
    ]
