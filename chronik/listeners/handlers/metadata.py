"""Metadata: the brokers, the topics asked for, and who leads each partition.

An unknown topic is created where the client and `auto.create.topics.enable` both allow it; the answer then waits for the
creation, so that it can name the leaders at once, where Kafka sends the client away to ask again. Of very many names,
some are created and the rest is unknown until the client, as it does, asks again.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from chronik.controller.commands import CreateTopics
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata, IController
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.internal_topics import new_topic
from chronik.listeners.handlers.proposing import propose
from chronik.listeners.handlers.topic_chunks import TopicChunks, TopicView
from chronik.listeners.handlers.topology import CLUSTER_OPERATIONS, NOT_ASKED, TOPIC_OPERATIONS
from chronik.listeners.slices import Slices
from chronik.listeners.throttling import Throttles
from chronik.model import INTERNAL_TOPICS, ZERO_UUID, Uuid, topic_name_fault
from chronik.node_config import NodeConfig
from chronik.steps import Steps, each
from chronik.wire.apis import ApiKey
from chronik.wire.messages.metadata import (
    MetadataRequest,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponseTopic,
)

_CREATION_TIMEOUT_MS = 5_000
_MAX_CREATED = 1_000
"""Topics that one request creates at most."""
_CREATED_AT_ONCE = 32
"""Topics that it creates by one command: each costs the reactor some 65 us, in one piece."""

_TOLD = frozenset({ErrorCode.INVALID_TOPIC_EXCEPTION, ErrorCode.INVALID_REPLICATION_FACTOR})
"""Refusals of a creation that a client should see. After others the topic is just unknown, and the client asks again."""


class MetadataHandler:
    """Serves Metadata from `metadata`, and creates topics through `controller`."""

    api_key = ApiKey.METADATA
    min_version = 0
    max_version = 13

    _log = Logger()

    def __init__(
        self,
        metadata: IClusterMetadata,
        controller: IController,
        configs: NodeConfig,
        clock: IReactorTime,
        throttles: Throttles,
        slices: Slices,
    ) -> None:
        self._metadata = metadata
        self._controller = controller
        self._configs = configs
        self._clock = clock
        self._throttles = throttles
        self._chunks = TopicChunks(metadata)
        for version in range(self.min_version, self.max_version + 1):  # the first answer is large enough without it
            MetadataRequest.prepare(version)
            MetadataResponse.prepare(version)
            self._chunks.prepare(version)
        self._slices = slices

    def handle(
        self, request: MetadataRequest, context: RequestContext
    ) -> Steps[MetadataResponse | Coroutine[Deferred[Any], Any, MetadataResponse]]:
        """The brokers and the topics asked for; a coroutine only when topics are created first."""
        version, asked = context.api_version, request.topics
        view = self._chunks.view(version, request.include_topic_authorized_operations, context.listener)
        if asked is None or (version == 0 and not asked):
            return self._response(request, context, view, (yield from view.all()))
        ids: dict[Uuid, None] = {}
        names: dict[str, None] = {}
        nameless = False
        for topic in asked:
            if topic.topic_id != ZERO_UUID:
                ids[topic.topic_id] = None
            elif topic.name is not None:
                names[topic.name] = None
            else:
                nameless = True
            yield
        if ids:
            if version < 12:
                raise KafkaError(ErrorCode.INVALID_REQUEST, f"version {version} of Metadata does not take topic ids")
            return self._response(request, context, view, (yield from each(ids, partial(self._by_id, view))))
        if nameless:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "a topic is asked for by neither its name nor its id")
        if request.allow_auto_topic_creation and self._configs.value("auto.create.topics.enable"):
            missing = []
            for name in names:
                if self._metadata.topic(name) is None and topic_name_fault(name) is None:
                    missing.append(name)
                    if len(missing) == _MAX_CREATED:
                        break
                yield
            if missing:
                return self._create_first(request, context, list(names), missing)
        topics = yield from each(names, partial(self._by_name, request, view, {}))
        return self._response(request, context, view, topics)

    def refuse(self, request: MetadataRequest, version: int, error: KafkaError) -> Steps[MetadataResponse]:
        """`error` for every topic that the request names, and from version 13 on for the whole."""
        topics = yield from each(
            request.topics or (),
            lambda topic: MetadataResponseTopic(error_code=error.code, name=topic.name or "", topic_id=topic.topic_id),
        )
        return MetadataResponse(topics=topics, error_code=error.code)

    async def _create_first(
        self, request: MetadataRequest, context: RequestContext, names: list[str], missing: list[str]
    ) -> MetadataResponse:
        refusals: dict[str, ErrorCode] = {}
        quota = self._throttles.mutations(context, strict=True)  # what is too much stays unknown, for now
        pace = self._slices.pace()
        for start in range(0, len(missing), _CREATED_AT_ONCE):
            some = missing[start : start + _CREATED_AT_ONCE]
            command = CreateTopics(tuple(new_topic(name, self._configs) for name in some))
            try:
                for creation in await propose(self._controller, command, _CREATION_TIMEOUT_MS, self._clock, quota.use):
                    if creation.error is not None and creation.error.code in _TOLD:
                        refusals[creation.name] = creation.error.code
            except KafkaError as error:
                self._log.warn("{count} topic(s) were not created on first use: {error}", count=len(some), error=error)
                break
            await pace.turn()
        version = context.api_version
        view = self._chunks.view(version, request.include_topic_authorized_operations, context.listener)
        topics = await self._slices.take(each(names, partial(self._by_name, request, view, refusals)))
        return self._response(request, context, view, topics)

    def _by_name(
        self, request: MetadataRequest, view: TopicView, refusals: Mapping[str, ErrorCode], name: str
    ) -> bytes | MetadataResponseTopic:
        topic = self._metadata.topic(name)
        if topic is not None:
            return view.of(topic)
        code = refusals.get(name)
        if code is None:
            invalid = topic_name_fault(name) is not None
            code = ErrorCode.INVALID_TOPIC_EXCEPTION if invalid else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        return MetadataResponseTopic(
            error_code=code,
            name=name,
            is_internal=name in INTERNAL_TOPICS,
            topic_authorized_operations=TOPIC_OPERATIONS if request.include_topic_authorized_operations else NOT_ASKED,
        )

    def _by_id(self, view: TopicView, topic_id: Uuid) -> bytes | MetadataResponseTopic:
        topic = self._metadata.topic_by_id(topic_id)
        if topic is None:
            return MetadataResponseTopic(error_code=ErrorCode.UNKNOWN_TOPIC_ID, name=None, topic_id=topic_id)
        return view.of(topic)

    def _response(
        self, request: MetadataRequest, context: RequestContext, view: TopicView, topics: list[Any]
    ) -> MetadataResponse:
        response = MetadataResponse(
            brokers=[
                MetadataResponseBroker(
                    node_id=broker.node_id,
                    host=context.dialable(address.host),
                    port=address.port,
                    rack=broker.rack,
                )
                for broker, address in view.topology.reachable
            ],
            cluster_id=self._metadata.cluster_id,
            controller_id=self._metadata.controller_id,
            topics=topics,
        )
        if request.include_cluster_authorized_operations and 8 <= context.api_version <= 10:
            response.cluster_authorized_operations = CLUSTER_OPERATIONS
        return response
