"""DeleteTopics: topics by name, or from version 6 on by id."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from chronik.controller.commands import DeleteTopics, TopicDeletion, TopicReference
from chronik.controller.sizes import check_size
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.proposing import Proposing, in_parts
from chronik.listeners.throttling import Throttles
from chronik.model import ZERO_UUID
from chronik.node_config import NodeConfig
from chronik.steps import Steps, each
from chronik.wire.apis import ApiKey
from chronik.wire.messages.delete_topics import DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse

_REFUSED_SINCE = 5
"""Clients of this version know THROTTLING_QUOTA_EXCEEDED (KIP-599)."""


class DeleteTopicsHandler:
    """Serves DeleteTopics by `proposing`, where `delete.topic.enable` allows it."""

    api_key = ApiKey.DELETE_TOPICS
    min_version = 1
    max_version = 6
    sets_pauses = True

    def __init__(
        self, proposing: Proposing, configs: NodeConfig, metadata: IClusterMetadata, throttles: Throttles
    ) -> None:
        self._proposing = proposing
        self._configs = configs
        self._metadata = metadata
        self._throttles = throttles

    async def handle(self, request: DeleteTopicsRequest, context: RequestContext) -> DeleteTopicsResponse:
        """One result for each different topic of the request."""
        if not self._configs.value("delete.topic.enable"):
            code = ErrorCode.INVALID_REQUEST if context.api_version < 3 else ErrorCode.TOPIC_DELETION_DISABLED
            raise KafkaError(code, "delete.topic.enable is false on this cluster")
        take = self._proposing.slices.take
        by_topic = await take(self._by_topic(request))
        check_size(DeleteTopics(tuple(chain.from_iterable(by_topic))), 0)
        commands = (DeleteTopics(tuple(chain.from_iterable(some))) for some in in_parts(by_topic, len))
        quota = self._throttles.mutations(context, context.api_version >= _REFUSED_SINCE)
        deleted = await self._proposing.each(commands, request.timeout_ms, [], quota.use)
        responses = await take(each(deleted, _result))
        return DeleteTopicsResponse(responses=responses, throttle_time_ms=quota.pause_ms())

    def _by_topic(self, request: DeleteTopicsRequest) -> Steps[list[list[TopicReference]]]:
        """What is referred to, with all references to the same topic together: they are decided together."""
        by_topic: dict[object, list[TopicReference]] = {}
        for reference in _references(request):
            known = None if reference.name is None else self._metadata.topic(reference.name)
            key = reference.topic_id or (reference.name if known is None else known.topic_id)
            by_topic.setdefault(key, []).append(reference)
            yield
        return list(by_topic.values())

    def refuse(self, request: DeleteTopicsRequest, version: int, error: KafkaError) -> Steps[DeleteTopicsResponse]:
        """`error` for every topic."""
        responses = yield from each(
            _references(request), lambda named: _result(TopicDeletion(named.name, named.topic_id, error))
        )
        return DeleteTopicsResponse(responses=responses)


def _references(request: DeleteTopicsRequest) -> Iterator[TopicReference]:
    for name in request.topic_names:
        yield TopicReference(name)
    for topic in request.topics:
        yield TopicReference(topic.name, None if topic.topic_id == ZERO_UUID else topic.topic_id)


def _result(deletion: TopicDeletion) -> DeletableTopicResult:
    error = deletion.error
    return DeletableTopicResult(
        name=deletion.name,
        topic_id=deletion.topic_id or ZERO_UUID,
        error_code=ErrorCode.NONE if error is None else error.code,
        error_message=None if error is None else error.message,
    )
