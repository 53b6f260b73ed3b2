"""How much one request may ask of the controller."""

from __future__ import annotations

from chronik.controller.commands import (
    AlterClientQuotas,
    AlterConfigs,
    Command,
    CreatePartitions,
    CreateTopics,
    DeleteTopics,
    NewTopic,
    ReplaceConfigs,
    UpdateFeatures,
)
from chronik.errors import ErrorCode, KafkaError

MAX_PARTITIONS_PER_COMMAND = 10_000
"""The most partitions that one command may create, as in Kafka: an entry of the log stays small."""

MAX_ITEMS_PER_COMMAND = 10_000
"""The most topics or resources that one command may be about: a decision never holds up the reactor for long."""


def check_size(command: Command, num_partitions: int) -> None:
    """Raises KafkaError(POLICY_VIOLATION) for what is too much for one request; `num_partitions` is the default of a topic.

    Who proposes a command in parts has to ask this of the whole.
    """
    items = _items(command)
    if items > MAX_ITEMS_PER_COMMAND:
        raise KafkaError(
            ErrorCode.POLICY_VIOLATION,
            f"one request is about at most {MAX_ITEMS_PER_COMMAND} items, this one has {items}",
        )
    if isinstance(command, CreateTopics):
        asked = sum(partitions_asked(topic, num_partitions) for topic in command.topics)
        if asked > MAX_PARTITIONS_PER_COMMAND:
            raise KafkaError(
                ErrorCode.POLICY_VIOLATION,
                f"one request creates at most {MAX_PARTITIONS_PER_COMMAND} partitions, this one asks for {asked}",
            )


def _items(command: Command) -> int:
    if isinstance(command, CreateTopics | DeleteTopics | CreatePartitions):
        return len(command.topics)
    if isinstance(command, AlterClientQuotas):
        return len(command.alterations)
    if isinstance(command, AlterConfigs):
        return len(command.changes)
    if isinstance(command, UpdateFeatures):
        return len(command.updates)
    return len(command.configs) if isinstance(command, ReplaceConfigs) else 1


def partitions_asked(topic: NewTopic, num_partitions: int) -> int:
    """How many partitions a new topic would have; `num_partitions` is the default."""
    if topic.assignments:
        return len(topic.assignments)
    return num_partitions if topic.partitions == -1 else max(topic.partitions, 0)
