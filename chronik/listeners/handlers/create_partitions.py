"""CreatePartitions: more partitions for topics that exist."""

from __future__ import annotations

from collections import Counter

from twisted.internet.interfaces import IReactorTime

from chronik.controller.commands import CreatePartitions, MorePartitions
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IController
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.proposing import propose
from chronik.listeners.throttling import Throttles
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
    """Serves CreatePartitions through `controller`."""

    api_key = ApiKey.CREATE_PARTITIONS
    min_version = 0
    max_version = 3
    sets_pauses = True

    def __init__(self, controller: IController, clock: IReactorTime, throttles: Throttles) -> None:
        self._controller = controller
        self._clock = clock
        self._throttles = throttles

    async def handle(self, request: CreatePartitionsRequest, context: RequestContext) -> CreatePartitionsResponse:
        """A result for each different topic; those that were given twice come first, refused."""
        times = Counter(topic.name for topic in request.topics)
        twice = KafkaError(ErrorCode.INVALID_REQUEST, "the topic is in the request more than once")
        results = [_result(name, twice) for name, count in times.items() if count > 1]
        topics = tuple(_more(topic) for topic in request.topics if times[topic.name] == 1)
        command = CreatePartitions(topics, request.validate_only)
        quota = self._throttles.mutations(context, context.api_version >= _REFUSED_SINCE)
        errors = await propose(self._controller, command, request.timeout_ms, self._clock, quota.use)
        results.extend(_result(topic.name, error) for topic, error in zip(topics, errors, strict=True))
        return CreatePartitionsResponse(results=results, throttle_time_ms=quota.pause_ms())

    def refuse(self, request: CreatePartitionsRequest, version: int, error: KafkaError) -> CreatePartitionsResponse:
        """`error` for every topic."""
        return CreatePartitionsResponse(results=[_result(topic.name, error) for topic in request.topics])


def _more(topic: CreatePartitionsTopic) -> MorePartitions:
    assignments = topic.assignments
    chosen = None if assignments is None else tuple(tuple(each.broker_ids) for each in assignments)
    return MorePartitions(topic.name, topic.count, chosen)


def _result(name: str, error: KafkaError | None) -> CreatePartitionsTopicResult:
    if error is None:
        return CreatePartitionsTopicResult(name=name)
    return CreatePartitionsTopicResult(name=name, error_code=error.code, error_message=error.message)
