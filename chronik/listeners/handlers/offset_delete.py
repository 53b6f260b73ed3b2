"""OffsetDelete: delete a group's offsets of topics that it does not subscribe to (KIP-496)."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Sequence
from operator import attrgetter
from typing import Any

from chronik.coordinator.runtime import Coordinator
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata
from chronik.listeners.context import RequestContext
from chronik.listeners.parts import joined_topics, topics_in_parts
from chronik.model import TopicPartition
from chronik.steps import Steps
from chronik.wire.apis import ApiKey
from chronik.wire.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)


class OffsetDeleteHandler:
    """Serves OffsetDelete for the topics in `metadata`."""

    api_key = ApiKey.OFFSET_DELETE
    min_version = 0
    max_version = 0

    def __init__(self, coordinator: Coordinator, metadata: IClusterMetadata) -> None:
        self._coordinator = coordinator
        self._metadata = metadata

    def handle(
        self, request: OffsetDeleteRequest, context: RequestContext
    ) -> Coroutine[Any, Any, OffsetDeleteResponse]:
        """Answered when the deletion is in the log, with a code for each partition."""
        return self._delete(request)

    async def _delete(self, request: OffsetDeleteRequest) -> OffsetDeleteResponse:
        codes: dict[TopicPartition, ErrorCode] = {}
        wanted = []
        for topic in request.topics:
            known = self._metadata.topic(topic.name)
            count = 0 if known is None else len(known.partitions)
            for item in topic.partitions:
                place = TopicPartition(topic.name, item.partition_index)
                if 0 <= place.partition < count:
                    wanted.append(place)
                else:
                    codes[place] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        codes.update(await self._coordinator.delete_offsets(request.group_id, wanted))
        topics: dict[str, list[OffsetDeleteResponsePartition]] = {topic.name: [] for topic in request.topics}
        for place, code in codes.items():
            topics[place.topic].append(OffsetDeleteResponsePartition(partition_index=place.partition, error_code=code))
        return OffsetDeleteResponse(
            topics=[
                OffsetDeleteResponseTopic(name=name, partitions=partitions)
                for name, partitions in topics.items()
                if partitions
            ]
        )

    in_turn = False

    def parts(self, request: OffsetDeleteRequest) -> Iterator[OffsetDeleteRequest]:
        """Deletions of some offsets each."""
        return topics_in_parts(request, "topics", "partitions")

    def joined(self, answers: Sequence[OffsetDeleteResponse]) -> Steps[OffsetDeleteResponse]:
        """One answer of those to the parts. What is wrong with the group is wrong in all of them."""
        topics = yield from joined_topics([answer.topics for answer in answers], attrgetter("name"), "partitions")
        return OffsetDeleteResponse(error_code=answers[0].error_code, topics=topics)

    def refuse(self, request: OffsetDeleteRequest, version: int, error: KafkaError) -> OffsetDeleteResponse:
        """The error alone."""
        return OffsetDeleteResponse(error_code=error.code)
