"""The controller's decisions about configs: which changes of which resource stand, as records.

A resource changes whole or not at all. Only what a change sets is checked, not what was set before, so that a value that an
upgrade made unacceptable can be replaced. Kafka's rules: KIP-339 (incremental changes), KIP-226 (dynamic broker configs).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from chronik.broker_config import BROKER_CONFIGS, check_broker_configs
from chronik.config_def import ConfigDef, ConfigType
from chronik.controller.commands import (
    AlterConfigs,
    ConfigOperation,
    ConfigResource,
    Operation,
    ReplaceConfigs,
    ResourceType,
)
from chronik.controller.image import CLUSTER_WIDE, MetadataImage
from chronik.controller.records import BrokerConfigChanged, GroupConfigChanged, MetadataRecord, TopicConfigChanged
from chronik.errors import ErrorCode, KafkaError
from chronik.group_config import GROUP_CONFIGS, GroupTimes
from chronik.model import topic_name_fault
from chronik.topic_config import TOPIC_CONFIGS

Changes = dict[str, str | None]
Answer = tuple[Sequence[MetadataRecord], tuple[KafkaError | None, ...]]
CheckTopic = Callable[[Mapping[str, str]], None]
"""Raises KafkaError for configs that a topic can't have."""


def decide_alter_configs(
    image: MetadataImage, command: AlterConfigs, times: GroupTimes, check_topic: CheckTopic
) -> Answer:
    """The records and the answers of an incremental change. `times` bounds the configs of groups."""
    return _decide_each(
        [
            (resource, _incremental(image, resource, operations, times, check_topic))
            for resource, operations in command.changes
        ],
        image,
        command.validate_only,
    )


def decide_replace_configs(
    image: MetadataImage, command: ReplaceConfigs, times: GroupTimes, check_topic: CheckTopic
) -> Answer:
    """The records and the answers of a replacement. `times` bounds the configs of groups."""
    return _decide_each(
        [
            (resource, _replacement(image, resource, configs, times, check_topic))
            for resource, configs in command.configs
        ],
        image,
        command.validate_only,
    )


def _decide_each(
    planned: Sequence[tuple[ConfigResource, Callable[[], Changes]]], image: MetadataImage, validate_only: bool
) -> Answer:
    records: list[MetadataRecord] = []
    results: list[KafkaError | None] = []
    for resource, plan in planned:
        try:
            _check_resource_name(resource)
            changes = plan()
            record = _record(image, resource, changes)
        except KafkaError as refusal:
            results.append(refusal)
            continue
        results.append(None)
        if changes:
            records.append(record)
    return (() if validate_only else records), tuple(results)


def _check_resource_name(resource: ConfigResource) -> None:
    if resource.type is ResourceType.TOPIC:
        if not resource.name:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "configs belong to one topic: its name is missing")
        fault = topic_name_fault(resource.name)
        if fault is not None:
            raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, fault)
    elif resource.type is ResourceType.GROUP:
        if not resource.name:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "configs belong to one group: its name is missing")
    elif resource.name:
        _node_id(resource)


def _node_id(resource: ConfigResource) -> int:
    """The broker that a resource names, CLUSTER_WIDE for the empty name. Raises KafkaError(INVALID_REQUEST)."""
    if not resource.name:
        return CLUSTER_WIDE
    if not (resource.name.isascii() and resource.name.isdigit() and len(resource.name) <= 10):
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, f"a broker is named by its id in decimal, not {resource.name[:80]!r}"
        )
    return int(resource.name)


def _current(image: MetadataImage, resource: ConfigResource) -> Mapping[str, str]:
    if resource.type is ResourceType.BROKER:
        node_id = _node_id(resource)
        return image.broker_configs(None if node_id == CLUSTER_WIDE else node_id)
    if resource.type is ResourceType.GROUP:
        return image.group_configs(resource.name)
    topic = image.topic(resource.name)
    return {} if topic is None else topic.configs


def _incremental(
    image: MetadataImage,
    resource: ConfigResource,
    operations: tuple[ConfigOperation, ...],
    times: GroupTimes,
    check_topic: CheckTopic,
) -> Callable[[], Changes]:
    def plan() -> Changes:
        current = _current(image, resource)
        if len({each.name for each in operations}) != len(operations):
            raise KafkaError(ErrorCode.INVALID_REQUEST, "a config is changed twice in one request")
        for each in operations:
            if each.value is None and each.operation is not Operation.DELETE:
                raise KafkaError(ErrorCode.INVALID_REQUEST, f"config {each.name[:80]!r} has no value")
        changes = {each.name: _changed_value(resource, current, each) for each in operations}
        return _checked(resource, current, changes, times, check_topic)

    return plan


def _changed_value(resource: ConfigResource, current: Mapping[str, str], change: ConfigOperation) -> str | None:
    if change.operation is Operation.SET:
        return change.value
    if change.operation is Operation.DELETE:
        return None
    definition = _definition(resource, change.name)
    if definition is None or definition.type is not ConfigType.LIST:
        raise KafkaError(
            ErrorCode.INVALID_CONFIG,
            f"{change.operation.name} is for lists, and config {change.name[:80]!r} is none",
        )
    before = current.get(change.name, definition.text(definition.default) or "")
    items = [item for item in before.split(",") if item]
    asked = (change.value or "").split(",")
    if change.operation is Operation.APPEND:
        items.extend(item for item in dict.fromkeys(asked) if item not in items)
    else:
        items = [item for item in items if item not in asked]
    return ",".join(items)


_DEFINITIONS: Mapping[ResourceType, Mapping[str, ConfigDef]] = {
    ResourceType.TOPIC: TOPIC_CONFIGS,
    ResourceType.BROKER: BROKER_CONFIGS,
    ResourceType.GROUP: GROUP_CONFIGS,
}


def _definition(resource: ConfigResource, name: str) -> ConfigDef | None:
    return _DEFINITIONS[resource.type].get(name)


def _replacement(
    image: MetadataImage,
    resource: ConfigResource,
    configs: tuple[tuple[str, str | None], ...],
    times: GroupTimes,
    check_topic: CheckTopic,
) -> Callable[[], Changes]:
    def plan() -> Changes:
        current = _current(image, resource)
        if len({name for name, _ in configs}) != len(configs):
            raise KafkaError(ErrorCode.INVALID_REQUEST, "a config is set twice in one request")
        for name, value in configs:
            if value is None:
                raise KafkaError(ErrorCode.INVALID_REQUEST, f"config {name[:80]!r} has no value")
        return _checked(resource, current, {**dict.fromkeys(current), **dict(configs)}, times, check_topic)

    return plan


def _checked(
    resource: ConfigResource, current: Mapping[str, str], changes: Changes, times: GroupTimes, check_topic: CheckTopic
) -> Changes:
    """`changes` without those that change nothing, after the values that are set were checked."""
    values = {name: value for name, value in changes.items() if value is not None}
    if resource.type is ResourceType.TOPIC:
        check_topic(values)
    elif resource.type is ResourceType.GROUP:
        after = {**current, **changes}
        times.check(values, {name: value for name, value in after.items() if value is not None})
    else:
        check_broker_configs(values)
    return {name: value for name, value in changes.items() if current.get(name) != value}


def _record(image: MetadataImage, resource: ConfigResource, changes: Changes) -> MetadataRecord:
    if resource.type is ResourceType.BROKER:
        node_id = _node_id(resource)
        if node_id != CLUSTER_WIDE and image.broker(node_id) is None:
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"broker {node_id} is not registered")
        return BrokerConfigChanged(node_id, changes)
    if resource.type is ResourceType.GROUP:
        return GroupConfigChanged(resource.name, changes)
    topic = image.topic(resource.name)
    if topic is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {resource.name!r}")
    if topic.search is not None:
        raise KafkaError(
            ErrorCode.POLICY_VIOLATION,
            f"topic {resource.name!r} is a saved search: it stores nothing, and has no configs to be changed",
        )
    return TopicConfigChanged(topic.topic_id, changes)
