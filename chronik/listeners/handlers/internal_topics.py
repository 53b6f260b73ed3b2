"""How topics are created that nobody described: with the defaults, and the node's own topics with what they need."""

from __future__ import annotations

from chronik.controller.commands import NewTopic
from chronik.model import OFFSETS_TOPIC, QUERY_STATE_TOPIC, SHARE_STATE_TOPIC, TRANSACTIONS_TOPIC
from chronik.node_config import NodeConfig

QUERY_STATE_PARTITIONS = 16


def new_topic(name: str, configs: NodeConfig) -> NewTopic:
    """The topic that is created when `name` is first asked for, or first needed."""
    if name == OFFSETS_TOPIC:
        return NewTopic(
            name,
            configs.number("offsets.topic.num.partitions"),
            configs.number("offsets.topic.replication.factor"),
            configs=(
                ("cleanup.policy", "compact"),
                ("compression.type", "producer"),
                ("segment.bytes", str(configs.number("offsets.topic.segment.bytes"))),
            ),
        )
    if name == TRANSACTIONS_TOPIC:
        return NewTopic(
            name,
            configs.number("transaction.state.log.num.partitions"),
            configs.number("transaction.state.log.replication.factor"),
            configs=(
                ("cleanup.policy", "compact"),
                ("compression.type", "uncompressed"),
                ("min.insync.replicas", str(configs.number("transaction.state.log.min.isr"))),
                ("segment.bytes", str(configs.number("transaction.state.log.segment.bytes"))),
                ("unclean.leader.election.enable", "false"),
            ),
        )
    if name == SHARE_STATE_TOPIC:  # what is not needed of it, its coordinator deletes
        return NewTopic(
            name,
            configs.number("share.coordinator.state.topic.num.partitions"),
            configs.number("share.coordinator.state.topic.replication.factor"),
            configs=(
                ("cleanup.policy", "delete"),
                ("compression.type", "producer"),
                ("min.insync.replicas", str(configs.number("share.coordinator.state.topic.min.isr"))),
                ("retention.ms", "-1"),
                ("segment.bytes", str(configs.number("share.coordinator.state.topic.segment.bytes"))),
            ),
        )
    if name == QUERY_STATE_TOPIC:
        return NewTopic(
            name,
            QUERY_STATE_PARTITIONS,
            configs=(("cleanup.policy", "compact"), ("compression.type", "producer"), ("segment.bytes", str(64 << 20))),
        )
    return NewTopic(name)
