"""ListConfigResources: what has configs, by name (KIP-1142). Topics and brokers have; version 0 lists client metrics only."""

from __future__ import annotations

from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata
from chronik.listeners.context import RequestContext
from chronik.steps import Steps, each
from chronik.wire.apis import ApiKey
from chronik.wire.messages.list_config_resources import (
    ConfigResource,
    ListConfigResourcesRequest,
    ListConfigResourcesResponse,
)

_TOPIC, _BROKER = 2, 4
_WITHOUT_CONFIGS = (8, 16, 32)
"""Loggers, client metrics and groups: nothing here acts on configs of theirs yet, so none is listed."""


class ListConfigResourcesHandler:
    """Serves ListConfigResources from `metadata`."""

    api_key = ApiKey.LIST_CONFIG_RESOURCES
    min_version = 0
    max_version = 1

    def __init__(self, metadata: IClusterMetadata) -> None:
        self._metadata = metadata

    def handle(
        self, request: ListConfigResourcesRequest, context: RequestContext
    ) -> Steps[ListConfigResourcesResponse]:
        """The resources of the types that are asked for; of all, when none is."""
        if context.api_version == 0:
            return ListConfigResourcesResponse()
        asked = set(request.resource_types) or {_TOPIC, _BROKER}
        for kind in asked - {_TOPIC, _BROKER, *_WITHOUT_CONFIGS}:
            raise KafkaError(ErrorCode.UNSUPPORTED_VERSION, f"there are no resources of type {kind}")
        found = []
        if _TOPIC in asked:
            found += yield from each(
                self._metadata.topics(), lambda topic: ConfigResource(resource_name=topic.name, resource_type=_TOPIC)
            )
        if _BROKER in asked:
            found += [
                ConfigResource(resource_name=str(broker.node_id), resource_type=_BROKER)
                for broker in self._metadata.brokers()
            ]
        return ListConfigResourcesResponse(config_resources=found)

    def refuse(
        self, request: ListConfigResourcesRequest, version: int, error: KafkaError
    ) -> ListConfigResourcesResponse:
        """`error`, and nothing else."""
        return ListConfigResourcesResponse(error_code=error.code)
