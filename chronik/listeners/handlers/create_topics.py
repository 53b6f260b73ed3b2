"""CreateTopics: topics with their partitions, replicas and configs, each created or refused by itself."""

from __future__ import annotations

from collections import Counter

from twisted.internet.interfaces import IReactorTime

from chronik.controller.commands import CreateTopics, NewTopic, TopicCreation
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IController
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.proposing import propose
from chronik.listeners.throttling import Throttles
from chronik.node_config import NodeConfig
from chronik.wire.apis import ApiKey
from chronik.wire.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)

_REFUSED_SINCE = 6
"""Clients of this version know THROTTLING_QUOTA_EXCEEDED (KIP-599)."""


class CreateTopicsHandler:
    """Serves CreateTopics through `controller`. `configs` tells a new topic's effective configs."""

    api_key = ApiKey.CREATE_TOPICS
    min_version = 2
    max_version = 7
    sets_pauses = True

    def __init__(self, controller: IController, configs: NodeConfig, clock: IReactorTime, throttles: Throttles) -> None:
        self._controller = controller
        self._configs = configs
        self._clock = clock
        self._throttles = throttles

    async def handle(self, request: CreateTopicsRequest, context: RequestContext) -> CreateTopicsResponse:
        """Every topic's result: those named once in the order asked, then one for each name that was given twice."""
        times = Counter(topic.name for topic in request.topics)
        command = CreateTopics(
            tuple(_new_topic(topic) for topic in request.topics if times[topic.name] == 1), request.validate_only
        )
        quota = self._throttles.mutations(context, context.api_version >= _REFUSED_SINCE)
        created = await propose(self._controller, command, request.timeout_ms, self._clock, quota.use)
        results = [self._result(creation) for creation in created]
        twice = KafkaError(ErrorCode.INVALID_REQUEST, "the topic is in the request more than once")
        results.extend(_failed(name, twice) for name, count in times.items() if count > 1)
        return CreateTopicsResponse(topics=results, throttle_time_ms=quota.pause_ms())

    def refuse(self, request: CreateTopicsRequest, version: int, error: KafkaError) -> CreateTopicsResponse:
        """`error` for every topic."""
        return CreateTopicsResponse(topics=[_failed(topic.name, error) for topic in request.topics])

    def _result(self, creation: TopicCreation) -> CreatableTopicResult:
        if creation.error is not None:
            return _failed(creation.name, creation.error)
        topic = creation.topic
        assert topic is not None
        return CreatableTopicResult(
            name=topic.name,
            topic_id=topic.topic_id,
            num_partitions=len(topic.partitions),
            replication_factor=len(topic.partitions[0].replicas),
            configs=[
                CreatableTopicConfigs(
                    name=entry.definition.name,
                    value=entry.value,
                    read_only=entry.read_only,
                    config_source=entry.source,
                    is_sensitive=entry.definition.sensitive,
                )
                for entry in self._configs.topic_entries(topic.configs)
            ],
            error_message=None,
        )


def _new_topic(topic: CreatableTopic) -> NewTopic:
    return NewTopic(
        topic.name,
        topic.num_partitions,
        topic.replication_factor,
        tuple((each.partition_index, tuple(each.broker_ids)) for each in topic.assignments),
        tuple((config.name, config.value) for config in topic.configs),
    )


def _failed(name: str, error: KafkaError) -> CreatableTopicResult:
    return CreatableTopicResult(name=name, error_code=error.code, error_message=error.message)
