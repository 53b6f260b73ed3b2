"""DescribeConfigs: the configs of topics, of groups and of this broker, with where each value comes from."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from chronik.controller.commands import ResourceType
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata
from chronik.listeners.context import RequestContext
from chronik.listeners.slices import Slices
from chronik.model import topic_name_fault
from chronik.node_config import ConfigEntry, NodeConfig
from chronik.wire.apis import ApiKey
from chronik.wire.codec import encode_struct
from chronik.wire.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)

_LARGE = 32
"""Resources above which a request is answered in slices: a topic has some 30 configs."""


class DescribeConfigsHandler:
    """Serves DescribeConfigs from `metadata` and this node's `configs`."""

    api_key = ApiKey.DESCRIBE_CONFIGS
    min_version = 1
    max_version = 4

    def __init__(self, metadata: IClusterMetadata, configs: NodeConfig, slices: Slices) -> None:
        self._metadata = metadata
        self._slices = slices
        self._configs = configs

    def handle(
        self, request: DescribeConfigsRequest, context: RequestContext
    ) -> DescribeConfigsResponse | Coroutine[Deferred[Any], Any, DescribeConfigsResponse]:
        """A result for each resource asked for, in that order."""
        if len(request.resources) > _LARGE:
            return self._in_slices(request, context.api_version)
        return DescribeConfigsResponse(results=[self._describe(resource, request) for resource in request.resources])

    async def _in_slices(self, request: DescribeConfigsRequest, version: int) -> DescribeConfigsResponse:
        """As `handle`, without holding up the reactor: a thousand topics are some 100 ms of work."""
        results: list[Any] = []
        flexible = DescribeConfigsResponse.is_flexible(version)

        def describe(part: Sequence[DescribeConfigsResource]) -> None:
            results.extend(encode_struct(self._describe(each, request), version, flexible) for each in part)

        await self._slices.each(request.resources, describe, step=8)
        return DescribeConfigsResponse(results=results)

    def refuse(self, request: DescribeConfigsRequest, version: int, error: KafkaError) -> DescribeConfigsResponse:
        """`error` for every resource."""
        return DescribeConfigsResponse(results=[_failed(resource, error) for resource in request.resources])

    def _describe(self, resource: DescribeConfigsResource, request: DescribeConfigsRequest) -> DescribeConfigsResult:
        try:
            entries = self._entries(resource)
        except KafkaError as error:
            return _failed(resource, error)
        if resource.configuration_keys:  # null and the empty list both ask for all
            wanted = frozenset(resource.configuration_keys)
            entries = [entry for entry in entries if entry.definition.name in wanted]
        return DescribeConfigsResult(
            error_message="",
            resource_type=resource.resource_type,
            resource_name=resource.resource_name,
            configs=[_entry(each, request.include_synonyms, request.include_documentation) for each in entries],
        )

    def _entries(self, resource: DescribeConfigsResource) -> list[ConfigEntry]:
        name = resource.resource_name
        if resource.resource_type == ResourceType.TOPIC:
            return self._topic_entries(name)
        if resource.resource_type == ResourceType.GROUP:
            if not name:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "configs belong to one group: its name is missing")
            return self._configs.group_entries(name)
        if resource.resource_type != ResourceType.BROKER:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST, f"resources of type {resource.resource_type} have no configs on this node"
            )
        if not name:
            return self._configs.cluster_entries()
        if name != str(self._configs.node_id):
            raise KafkaError(
                ErrorCode.INVALID_REQUEST,
                f"this is broker {self._configs.node_id}, and only that one or '' can be described here, not {name[:80]!r}",
            )
        return self._configs.broker_entries()

    def _topic_entries(self, name: str) -> list[ConfigEntry]:
        fault = topic_name_fault(name)
        if fault is not None:
            raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, fault)
        topic = self._metadata.topic(name)
        if topic is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {name!r}")
        return self._configs.topic_entries(topic.configs)


def _entry(entry: ConfigEntry, synonyms: bool, documentation: bool) -> DescribeConfigsResourceResult:
    definition = entry.definition
    return DescribeConfigsResourceResult(
        name=definition.name,
        value=entry.value,
        read_only=entry.read_only,
        config_source=entry.source,
        is_sensitive=definition.sensitive,
        synonyms=[
            DescribeConfigsSynonym(name=each.name, value=each.value, source=each.source) for each in entry.synonyms
        ]
        if synonyms
        else [],
        config_type=definition.type,
        documentation=definition.doc if documentation else None,
    )


def _failed(resource: DescribeConfigsResource, error: KafkaError) -> DescribeConfigsResult:
    return DescribeConfigsResult(
        error_code=error.code,
        error_message=error.message,
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
    )
