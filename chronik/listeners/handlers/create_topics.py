"""CreateTopics: topics with their partitions, replicas and configs, each created or refused by itself."""

from __future__ import annotations

from typing import Any

from chronik.controller.commands import CreateTopics, NewTopic, TopicCreation
from chronik.controller.sizes import check_size, partitions_asked
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.proposing import Proposing, in_parts
from chronik.listeners.throttling import Throttles
from chronik.node_config import NodeConfig
from chronik.steps import Steps, counted, each
from chronik.wire.apis import ApiKey
from chronik.wire.codec import encode_struct
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
    """Serves CreateTopics by `proposing`. `configs` tells a new topic's effective configs."""

    api_key = ApiKey.CREATE_TOPICS
    min_version = 2
    max_version = 7
    sets_pauses = True

    def __init__(self, proposing: Proposing, configs: NodeConfig, throttles: Throttles) -> None:
        self._proposing = proposing
        self._configs = configs
        self._throttles = throttles

    async def handle(self, request: CreateTopicsRequest, context: RequestContext) -> CreateTopicsResponse:
        """Every topic's result: those named once in the order asked, then one for each name that was given twice."""
        take = self._proposing.slices.take
        times = await take(counted(topic.name for topic in request.topics))
        new = await take(each((topic for topic in request.topics if times[topic.name] == 1), _new_topic))
        default = int(self._configs.value("num.partitions"))  # type: ignore[arg-type]  # it has one
        check_size(CreateTopics(tuple(new)), default)
        commands = (
            CreateTopics(some, request.validate_only)
            for some in in_parts(new, lambda topic: 1 + partitions_asked(topic, default) // 10)
        )
        quota = self._throttles.mutations(context, context.api_version >= _REFUSED_SINCE)
        created = await self._proposing.each(commands, request.timeout_ms, [], quota.use)
        version, flexible = context.api_version, CreateTopicsResponse.is_flexible(context.api_version)
        results: list[Any] = await take(  # encoded at once, which takes the least memory: a topic has some 30 configs
            each(created, lambda creation: encode_struct(self._result(creation), version, flexible))
        )
        twice = KafkaError(ErrorCode.INVALID_REQUEST, "the topic is in the request more than once")
        results += await take(each((name for name in times if times[name] > 1), lambda name: _failed(name, twice)))
        return CreateTopicsResponse(topics=results, throttle_time_ms=quota.pause_ms())

    def refuse(self, request: CreateTopicsRequest, version: int, error: KafkaError) -> Steps[CreateTopicsResponse]:
        """`error` for every topic."""
        topics = yield from each(request.topics, lambda topic: _failed(topic.name, error))
        return CreateTopicsResponse(topics=topics)

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
