"""DeleteTopics: topics by name, or from version 6 on by id."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from chronik.controller.commands import DeleteTopics, TopicDeletion, TopicReference
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IController
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.proposing import propose
from chronik.listeners.throttling import Throttles
from chronik.model import ZERO_UUID
from chronik.node_config import NodeConfig
from chronik.wire.apis import ApiKey
from chronik.wire.messages.delete_topics import DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse

_REFUSED_SINCE = 5
"""Clients of this version know THROTTLING_QUOTA_EXCEEDED (KIP-599)."""


class DeleteTopicsHandler:
    """Serves DeleteTopics through `controller`, where `delete.topic.enable` allows it."""

    api_key = ApiKey.DELETE_TOPICS
    min_version = 1
    max_version = 6
    sets_pauses = True

    def __init__(self, controller: IController, configs: NodeConfig, clock: IReactorTime, throttles: Throttles) -> None:
        self._controller = controller
        self._configs = configs
        self._clock = clock
        self._throttles = throttles

    async def handle(self, request: DeleteTopicsRequest, context: RequestContext) -> DeleteTopicsResponse:
        """One result for each different topic of the request."""
        if not self._configs.value("delete.topic.enable"):
            code = ErrorCode.INVALID_REQUEST if context.api_version < 3 else ErrorCode.TOPIC_DELETION_DISABLED
            raise KafkaError(code, "delete.topic.enable is false on this cluster")
        command = DeleteTopics(tuple(_references(request)))
        quota = self._throttles.mutations(context, context.api_version >= _REFUSED_SINCE)
        deleted = await propose(self._controller, command, request.timeout_ms, self._clock, quota.use)
        results = [_result(deletion) for deletion in deleted]
        return DeleteTopicsResponse(responses=results, throttle_time_ms=quota.pause_ms())

    def refuse(self, request: DeleteTopicsRequest, version: int, error: KafkaError) -> DeleteTopicsResponse:
        """`error` for every topic."""
        return DeleteTopicsResponse(
            responses=[_result(TopicDeletion(each.name, each.topic_id, error)) for each in _references(request)]
        )


def _references(request: DeleteTopicsRequest) -> list[TopicReference]:
    by_name = [TopicReference(name) for name in request.topic_names]
    return by_name + [
        TopicReference(topic.name, None if topic.topic_id == ZERO_UUID else topic.topic_id) for topic in request.topics
    ]


def _result(deletion: TopicDeletion) -> DeletableTopicResult:
    error = deletion.error
    return DeletableTopicResult(
        name=deletion.name,
        topic_id=deletion.topic_id or ZERO_UUID,
        error_code=ErrorCode.NONE if error is None else error.code,
        error_message=None if error is None else error.message,
    )
