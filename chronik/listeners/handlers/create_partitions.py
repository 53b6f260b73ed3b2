"""CreatePartitions: more partitions for topics that exist."""

from __future__ import annotations

from collections.abc import Iterator

from chronik.controller.commands import CreatePartitions, MorePartitions
from chronik.controller.sizes import check_size
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.proposing import Proposing, in_parts
from chronik.listeners.throttling import Throttles
from chronik.steps import Steps, counted, each
from chronik.wire.apis import ApiKey
from chronik.wire.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
    CreatePartitionsTopicResult,
)

_REFUSED_SINCE = 3
"""Clients of this version know THROTTLING_QUOTA_EXCEEDED (KIP-599)."""


class CreatePartitionsHandler:
    """Serves CreatePartitions by `proposing`."""

    api_key = ApiKey.CREATE_PARTITIONS
    min_version = 0
    max_version = 3
    sets_pauses = True

    def __init__(self, proposing: Proposing, metadata: IClusterMetadata, throttles: Throttles) -> None:
        self._proposing = proposing
        self._metadata = metadata
        self._throttles = throttles

    async def handle(self, request: CreatePartitionsRequest, context: RequestContext) -> CreatePartitionsResponse:
        """A result for each different topic; those that were given twice come first, refused."""
        take = self._proposing.slices.take
        times = await take(counted(topic.name for topic in request.topics))
        twice = KafkaError(ErrorCode.INVALID_REQUEST, "the topic is in the request more than once")
        results = await take(each((name for name in times if times[name] > 1), lambda name: _result(name, twice)))
        topics = await take(each((topic for topic in request.topics if times[topic.name] == 1), _more))
        check_size(CreatePartitions(tuple(topics)), 0)
        errors: list[KafkaError | None] = []
        commands = self._commands(topics, request.validate_only, errors)
        quota = self._throttles.mutations(context, context.api_version >= _REFUSED_SINCE)
        await self._proposing.each(commands, request.timeout_ms, errors, quota.use)
        named = zip((topic.name for topic in topics), errors, strict=True)
        results += await take(each(named, lambda answer: _result(*answer)))
        return CreatePartitionsResponse(results=results, throttle_time_ms=quota.pause_ms())

    def _commands(
        self, topics: list[MorePartitions], validate_only: bool, errors: list[KafkaError | None]
    ) -> Iterator[CreatePartitions]:
        """The parts, each made when `errors` tells what came of those before: all their partitions have one bound."""
        added = 0
        for some in in_parts(topics, lambda topic: 1 + self._added(topic) // 10):
            wanted = [self._added(topic) for topic in some]
            yield CreatePartitions(some, validate_only, added)
            added += sum(count for count, error in zip(wanted, errors[-len(some) :], strict=True) if error is None)

    def _added(self, more: MorePartitions) -> int:
        """How many partitions its topic would get."""
        topic = self._metadata.topic(more.name)
        return 0 if topic is None else max(0, more.count - len(topic.partitions))

    def refuse(
        self, request: CreatePartitionsRequest, version: int, error: KafkaError
    ) -> Steps[CreatePartitionsResponse]:
        """`error` for every topic."""
        results = yield from each(request.topics, lambda topic: _result(topic.name, error))
        return CreatePartitionsResponse(results=results)


def _more(topic: CreatePartitionsTopic) -> MorePartitions:
    assignments = topic.assignments
    chosen = None if assignments is None else tuple(tuple(each.broker_ids) for each in assignments)
    return MorePartitions(topic.name, topic.count, chosen)


def _result(name: str, error: KafkaError | None) -> CreatePartitionsTopicResult:
    if error is None:
        return CreatePartitionsTopicResult(name=name)
    return CreatePartitionsTopicResult(name=name, error_code=error.code, error_message=error.message)
