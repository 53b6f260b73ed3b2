"""OffsetCommit: store a group's position in some partitions; answered when it is in the log.

Partitions that don't exist are refused one by one and don't keep the others from being committed. What concerns the whole
group is said at every partition: the response has no other place for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from chronik.coordinator.runtime import Coordinator
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata
from chronik.listeners.context import RequestContext
from chronik.listeners.parts import joined_topics, topics_in_parts
from chronik.steps import Steps
from chronik.wire.apis import ApiKey
from chronik.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)


class OffsetCommitHandler:
    """Serves OffsetCommit for the topics in `metadata`."""

    api_key = ApiKey.OFFSET_COMMIT
    min_version = 2
    max_version = 9

    def __init__(self, coordinator: Coordinator, metadata: IClusterMetadata) -> None:
        self._coordinator = coordinator
        self._metadata = metadata

    def handle(
        self, request: OffsetCommitRequest, context: RequestContext
    ) -> OffsetCommitResponse | Deferred[OffsetCommitResponse]:
        """Commit what exists."""
        existing, unknown = self._sort(request.topics)
        if not existing and unknown:
            return OffsetCommitResponse(topics=unknown)
        request.topics = existing
        try:
            committed = self._coordinator.commit(request, context.api_version)
        except KafkaError as error:
            return _merged(unknown, self.refuse(request, context.api_version, error))

        def answer(result: OffsetCommitResponse | Failure) -> OffsetCommitResponse | Failure:
            if isinstance(result, Failure):
                if not isinstance(result.value, KafkaError):
                    return result
                result = self.refuse(request, context.api_version, result.value)
            return _merged(unknown, result)

        return committed.addBoth(answer)

    def _sort(
        self, topics: list[OffsetCommitRequestTopic]
    ) -> tuple[list[OffsetCommitRequestTopic], list[OffsetCommitResponseTopic]]:
        """What exists, and the answer for what doesn't."""
        existing, unknown = [], []
        for topic in topics:
            known = self._metadata.topic(topic.name)
            count = 0 if known is None else len(known.partitions)
            absent = [item.partition_index for item in topic.partitions if not 0 <= item.partition_index < count]
            if absent or known is None:
                unknown.append(_refused(topic.name, absent, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION))
                topic.partitions = [item for item in topic.partitions if 0 <= item.partition_index < count]
            if topic.partitions:
                existing.append(topic)
        return existing, unknown

    in_turn = False

    def parts(self, request: OffsetCommitRequest) -> Iterator[OffsetCommitRequest]:
        """Commits of some partitions each: they are no more one than several requests are."""
        return topics_in_parts(request, "topics", "partitions")

    def joined(self, answers: Sequence[OffsetCommitResponse]) -> Steps[OffsetCommitResponse]:
        """One answer of those to the parts."""
        topics = yield from joined_topics([answer.topics for answer in answers], attrgetter("name"), "partitions")
        return OffsetCommitResponse(topics=topics)

    def refuse(self, request: OffsetCommitRequest, version: int, error: KafkaError) -> OffsetCommitResponse:
        """The error at every partition."""
        return OffsetCommitResponse(
            topics=[
                _refused(topic.name, [item.partition_index for item in topic.partitions], error.code)
                for topic in request.topics
            ]
        )


def _refused(name: str, partitions: list[int], code: ErrorCode) -> OffsetCommitResponseTopic:
    return OffsetCommitResponseTopic(
        name=name,
        partitions=[OffsetCommitResponsePartition(partition_index=index, error_code=code) for index in partitions],
    )


def _merged(unknown: list[OffsetCommitResponseTopic], response: OffsetCommitResponse) -> OffsetCommitResponse:
    """`response` after the refusals in `unknown`, with no topic twice."""
    if unknown:
        topics = {topic.name: topic for topic in unknown}
        for topic in response.topics:
            if topic.name in topics:
                topics[topic.name].partitions += topic.partitions
            else:
                topics[topic.name] = topic
        response.topics = list(topics.values())
    return response
