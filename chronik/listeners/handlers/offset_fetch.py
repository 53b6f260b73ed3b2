"""OffsetFetch: read back what groups committed.

A partition without a committed offset answers -1, not an error; one whose offset an open transaction is about to replace
answers UNSTABLE_OFFSET_COMMIT to those who require a stable one (KIP-447). Errors of a group stand at its partitions in
version 1, at the top in versions 2 to 7, and with the group from version 8 on, where a request names several. A null list of
topics (from version 2 on) asks for everything that the group has committed.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from chronik.coordinator.offsets import Committed, FetchedOffset
from chronik.coordinator.runtime import Coordinator
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import RequestContext
from chronik.listeners.slices import Slices
from chronik.model import TopicPartition
from chronik.steps import Steps, each, each_of
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

_T = TypeVar("_T")
_Topic = OffsetFetchRequestTopic | OffsetFetchRequestTopics
_Found = dict[str, list[tuple[int, Committed, ErrorCode]]]


class OffsetFetchHandler:
    """Serves OffsetFetch."""

    api_key = ApiKey.OFFSET_FETCH
    min_version = 1
    max_version = 9

    def __init__(self, coordinator: Coordinator, slices: Slices) -> None:
        self._coordinator = coordinator
        self._slices = slices

    def handle(self, request: OffsetFetchRequest, context: RequestContext) -> Coroutine[Any, Any, OffsetFetchResponse]:
        """One group up to version 7, several from 8 on."""
        return self._fetch(request, context.api_version)

    async def _fetch(self, request: OffsetFetchRequest, version: int) -> OffsetFetchResponse:
        if version < _BATCHED:
            found = await self._fetch_group(request.group_id, request.topics, request.require_stable)
            return OffsetFetchResponse(
                topics=await self._slices.take(_topics(found, OffsetFetchResponseTopic, OffsetFetchResponsePartition))
            )
        groups = []
        pace = self._slices.pace()
        for group in request.groups:
            await pace.turn()
            try:
                found = await self._fetch_group(
                    group.group_id, group.topics, request.require_stable, group.member_id, group.member_epoch
                )
                topics = _topics(found, OffsetFetchResponseTopics, OffsetFetchResponsePartitions)
                groups.append(OffsetFetchResponseGroup(group_id=group.group_id, topics=await self._slices.take(topics)))
            except KafkaError as error:
                groups.append(OffsetFetchResponseGroup(group_id=group.group_id, error_code=error.code))
        return OffsetFetchResponse(groups=groups)

    async def _fetch_group(
        self,
        group_id: str,
        topics: Sequence[_Topic] | None,
        require_stable: bool,
        member_id: str | None = None,
        member_epoch: int = -1,
    ) -> _Found:
        wanted = None if topics is None else await self._slices.take(_wanted(topics))
        offsets = await self._coordinator.fetch_offsets(group_id, wanted, require_stable, member_id, member_epoch)
        return await self._slices.take(_by_topic(topics, offsets))

    def refuse(self, request: OffsetFetchRequest, version: int, error: KafkaError) -> Steps[OffsetFetchResponse]:
        """The error where this version has it: with each group, at the top, or at each partition."""
        if version >= _BATCHED:
            groups = yield from each(
                request.groups,
                lambda group: OffsetFetchResponseGroup(group_id=group.group_id, error_code=error.code),
            )
            return OffsetFetchResponse(groups=groups)
        if version >= _TOP_LEVEL_ERROR:
            return OffsetFetchResponse(error_code=error.code)
        topics = yield from each_of(
            request.topics or (),
            lambda topic: topic.partition_indexes,
            lambda _, index: OffsetFetchResponsePartition(
                partition_index=index, committed_offset=-1, metadata="", error_code=error.code
            ),
            lambda topic, partitions: OffsetFetchResponseTopic(name=topic.name, partitions=partitions),
        )
        return OffsetFetchResponse(topics=topics, error_code=ErrorCode.NONE)


def _wanted(topics: Sequence[_Topic]) -> Steps[list[TopicPartition]]:
    """The partitions asked for. None is answered twice, however often it was asked for."""
    wanted: dict[TopicPartition, None] = {}
    for topic in topics:
        for index in topic.partition_indexes:
            wanted[TopicPartition(topic.name, index)] = None
            yield
        yield
    return list(wanted)


def _by_topic(topics: Sequence[_Topic] | None, offsets: Sequence[FetchedOffset]) -> Steps[_Found]:
    """What was found, by topic, in the order in which they were asked for."""
    found: _Found = {topic.name: [] for topic in topics or ()}
    for place, committed, is_unstable in offsets:
        code = ErrorCode.UNSTABLE_OFFSET_COMMIT if is_unstable else ErrorCode.NONE
        found.setdefault(place.topic, []).append((place.partition, committed or _NOTHING, code))
        yield
    return found


def _topics(found: _Found, topic: Callable[..., _T], partition: Callable[..., object]) -> Steps[list[_T]]:
    """What was found, in the structs of one form of the response."""
    return each_of(
        found.items(),
        lambda item: item[1],
        lambda _, each: partition(
            partition_index=each[0],
            committed_offset=each[1].offset,
            committed_leader_epoch=each[1].leader_epoch,
            metadata=each[1].metadata,
            error_code=each[2],
        ),
        lambda item, partitions: topic(name=item[0], partitions=partitions),
    )
