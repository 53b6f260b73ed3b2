"""DescribeConfigs: the configs of topics, of groups and of this broker, with where each value comes from."""

from __future__ import annotations

from typing import Any

from chronik.controller.commands import ResourceType
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.search_configs import search_entries
from chronik.model import topic_name_fault
from chronik.node_config import ConfigEntry, NodeConfig
from chronik.steps import Steps, each
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


class DescribeConfigsHandler:
    """Serves DescribeConfigs from `metadata` and this node's `configs`."""

    api_key = ApiKey.DESCRIBE_CONFIGS
    min_version = 1
    max_version = 4

    def __init__(self, metadata: IClusterMetadata, configs: NodeConfig) -> None:
        self._metadata = metadata
        self._configs = configs

    def handle(self, request: DescribeConfigsRequest, context: RequestContext) -> Steps[DescribeConfigsResponse]:
        """A result for each resource asked for, in that order; encoded at once, which takes the least memory."""
        version, flexible = context.api_version, DescribeConfigsResponse.is_flexible(context.api_version)
        results: Any = yield from each(
            request.resources, lambda resource: encode_struct(self._describe(resource, request), version, flexible)
        )
        return DescribeConfigsResponse(results=results)

    def refuse(
        self, request: DescribeConfigsRequest, version: int, error: KafkaError
    ) -> Steps[DescribeConfigsResponse]:
        """`error` for every resource."""
        results = yield from each(request.resources, lambda resource: _failed(resource, error))
        return DescribeConfigsResponse(results=results)

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
            configs=[_entry(entry, request.include_synonyms, request.include_documentation) for entry in entries],
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
        if topic.search is not None:
            return search_entries(topic.search, self._metadata)
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
            DescribeConfigsSynonym(name=synonym.name, value=synonym.value, source=synonym.source)
            for synonym in entry.synonyms
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
