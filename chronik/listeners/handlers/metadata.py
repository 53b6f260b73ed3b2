"""Metadata: the brokers, the topics asked for, and who leads each partition.

An unknown topic is created where the client and `auto.create.topics.enable` both allow it; the answer then waits for the
creation, so that it can name the leaders at once, where Kafka sends the client away to ask again. Of very many names,
some are created and the rest is unknown until the client, as it does, asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
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
from chronik.wire.apis import ApiKey
from chronik.wire.codec import encode_struct
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
_LARGE = 500
"""Topics above which a request is answered in slices: each takes the reactor some 2 us."""

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
    ) -> MetadataResponse | Coroutine[Deferred[Any], Any, MetadataResponse]:
        """The brokers and the topics asked for; a coroutine only when topics are created first."""
        version, asked = context.api_version, request.topics
        view = self._chunks.view(version, request.include_topic_authorized_operations, context.listener)
        if asked is None or (version == 0 and not asked):
            return self._response(request, context, view, view.all())
        ids = dict.fromkeys(topic.topic_id for topic in asked if topic.topic_id != ZERO_UUID)
        if ids:
            if version < 12:
                raise KafkaError(ErrorCode.INVALID_REQUEST, f"version {version} of Metadata does not take topic ids")
            if len(ids) > _LARGE:
                return self._in_slices(list(ids), partial(self._by_id, view=view), request, context, view)
            return self._response(request, context, view, self._by_id(ids, view))
        names: dict[str, None] = {}
        for topic in asked:
            if topic.name is None:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "a topic is asked for by neither its name nor its id")
            names[topic.name] = None
        if request.allow_auto_topic_creation:
            missing = [name for name in names if self._metadata.topic(name) is None and topic_name_fault(name) is None]
            if missing and self._configs.value("auto.create.topics.enable"):
                return self._create_first(request, context, names, missing[:_MAX_CREATED])
        named: Callable[..., list[Any]] = partial(self._by_name, request=request, view=view, refusals={})
        if len(names) > _LARGE:
            return self._in_slices(list(names), named, request, context, view)
        return self._response(request, context, view, named(names))

    async def _in_slices(
        self,
        asked: list[Any],
        elements: Callable[..., list[Any]],
        request: MetadataRequest,
        context: RequestContext,
        view: TopicView,
    ) -> MetadataResponse:
        """As `handle`, without holding up the reactor: the answer to 25,000 names is some 50 ms of work."""
        topics: list[Any] = []
        flexible = MetadataResponse.is_flexible(context.api_version)

        def add(part: Sequence[Any]) -> None:
            for each in elements(part):
                topics.append(each if type(each) is bytes else encode_struct(each, context.api_version, flexible))

        await self._slices.each(asked, add)
        return self._response(request, context, view, topics)

    def refuse(self, request: MetadataRequest, version: int, error: KafkaError) -> MetadataResponse:
        """`error` for every topic that the request names, and from version 13 on for the whole."""
        return MetadataResponse(
            topics=[
                MetadataResponseTopic(error_code=error.code, name=topic.name or "", topic_id=topic.topic_id)
                for topic in request.topics or ()
            ],
            error_code=error.code,
        )

    async def _create_first(
        self, request: MetadataRequest, context: RequestContext, names: Iterable[str], missing: list[str]
    ) -> MetadataResponse:
        refusals: dict[str, ErrorCode] = {}
        quota = self._throttles.mutations(context, strict=True)  # what is too much stays unknown, for now
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
        version = context.api_version
        view = self._chunks.view(version, request.include_topic_authorized_operations, context.listener)
        named: Callable[..., list[Any]] = partial(self._by_name, request=request, view=view, refusals=refusals)
        return await self._in_slices(list(names), named, request, context, view)

    def _by_name(
        self, names: Iterable[str], request: MetadataRequest, view: TopicView, refusals: Mapping[str, ErrorCode]
    ) -> list[Any]:
        operations = TOPIC_OPERATIONS if request.include_topic_authorized_operations else NOT_ASKED
        topics: list[Any] = []
        for name in names:
            topic = self._metadata.topic(name)
            if topic is not None:
                topics.append(view.of(topic))
                continue
            code = refusals.get(name)
            if code is None:
                invalid = topic_name_fault(name) is not None
                code = ErrorCode.INVALID_TOPIC_EXCEPTION if invalid else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            topics.append(
                MetadataResponseTopic(
                    error_code=code,
                    name=name,
                    is_internal=name in INTERNAL_TOPICS,
                    topic_authorized_operations=operations,
                )
            )
        return topics

    def _by_id(self, ids: Iterable[Uuid], view: TopicView) -> list[Any]:
        topics: list[Any] = []
        for topic_id in ids:
            topic = self._metadata.topic_by_id(topic_id)
            if topic is None:
                topics.append(
                    MetadataResponseTopic(error_code=ErrorCode.UNKNOWN_TOPIC_ID, name=None, topic_id=topic_id)
                )
            else:
                topics.append(view.of(topic))
        return topics

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
