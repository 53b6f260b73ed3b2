"""What AlterConfigs and IncrementalAlterConfigs have in common: which resources may be altered here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from chronik.controller.commands import ConfigResource, ResourceType
from chronik.errors import ErrorCode, KafkaError

CONFIG_TIMEOUT_MS = 30_000
"""These requests carry no timeout of their own; Kafka's brokers wait this long for the controller."""


def alterable(resource_type: int, name: str, node_id: int) -> ConfigResource:
    """The resource of that type and name. Raises KafkaError(INVALID_REQUEST) for what can't be altered through this broker."""
    if resource_type not in (ResourceType.TOPIC, ResourceType.BROKER):
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"resources of type {resource_type} have no configs on this node")
    if resource_type == ResourceType.BROKER and name not in ("", str(node_id)):
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            f"this is broker {node_id}, and only that one or '' can be altered here, not {name[:80]!r}",
        )
    return ConfigResource(ResourceType(resource_type), name)


def repeated(resources: Sequence[Any]) -> dict[int, KafkaError]:
    """The refusals of resources that are in a request more than once, by their position."""
    times = Counter((each.resource_type, each.resource_name) for each in resources)
    error = KafkaError(ErrorCode.INVALID_REQUEST, "the resource is in the request more than once")
    return {
        position: error for position, each in enumerate(resources) if times[each.resource_type, each.resource_name] > 1
    }
