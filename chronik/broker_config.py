"""The broker configs that a node shows (DescribeConfigs of a broker) and those that may be changed while it runs.

Only what the node acts on, or what tells a client about it, is declared. A config that has a topic config behind it and that
Kafka lets one change at run time is dynamic: its new value becomes the default of all topics that don't override it. All
others are read-only: they come from the node's own configuration, as `static` text values by Kafka's names.

Names, types, defaults and which are dynamic: the broker config table of Apache Kafka 4.1.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

from chronik.config_def import Check, ConfigDef, ConfigType, ConfigValue, at_least
from chronik.errors import ErrorCode, KafkaError
from chronik.topic_config import TOPIC_CONFIGS

_INT_MAX = 2**31 - 1

_NOT_DYNAMIC = frozenset(
    {
        "log.retention.minutes",
        "log.retention.hours",
        "log.roll.hours",
        "log.roll.jitter.hours",
        "log.flush.scheduler.interval.ms",
    }
)

_WITHOUT_DEFAULT = frozenset(
    {"log.retention.ms", "log.retention.minutes", "log.roll.ms", "log.roll.jitter.ms", "log.flush.interval.ms"}
)
"""The default is that of a weaker synonym, in hours or for all logs."""


def _topic_defaults() -> Iterable[ConfigDef]:
    """One broker config for each synonym of a topic config that the node acts on."""
    for topic in TOPIC_CONFIGS.values():
        if topic.absence is not None:
            continue
        for synonym in topic.synonyms:
            default: ConfigValue = topic.default
            if synonym.name in _WITHOUT_DEFAULT:
                default = None
            elif synonym.factor != 1 and isinstance(default, int):
                default = default // synonym.factor
            yield ConfigDef(
                synonym.name,
                topic.type if synonym.factor == 1 else ConfigType.INT,
                default,
                f"The default of the topic config {topic.name}"
                + (f", in units of {synonym.factor} ms." if synonym.factor != 1 else "."),
                topic.check if synonym.factor == 1 else None,
                absence=topic.absence,
                dynamic=synonym.name not in _NOT_DYNAMIC,
            )


def _fixed(name: str, kind: ConfigType, default: ConfigValue, doc: str, check: Check | None = None) -> ConfigDef:
    return ConfigDef(name, kind, default, doc, check)


_B, _S, _I, _L, _SHORT, _LIST = (
    ConfigType.BOOLEAN,
    ConfigType.STRING,
    ConfigType.INT,
    ConfigType.LONG,
    ConfigType.SHORT,
    ConfigType.LIST,
)

_OWN = (
    _fixed("node.id", _I, None, "The node's id in the cluster."),
    _fixed("broker.id", _I, None, "The same as node.id."),
    _fixed("broker.rack", _S, None, "The rack or zone that the node stands in."),
    _fixed("process.roles", _LIST, ("broker", "controller"), "What this process does in the cluster."),
    _fixed("listeners", _S, None, "Where the node listens for clients."),
    _fixed("advertised.listeners", _S, None, "The addresses that clients are told to connect to."),
    _fixed("listener.security.protocol.map", _S, None, "The security protocol of each named listener."),
    _fixed("log.dirs", _S, None, "The directories that hold the partitions."),
    _fixed("log.dir", _S, None, "The directory that holds the partitions, when there is one."),
    _fixed("num.partitions", _I, 1, "Partitions of a topic that is created without a number.", at_least(1)),
    _fixed("default.replication.factor", _I, 1, "Replicas of a topic that is created without a number.", at_least(1)),
    _fixed("auto.create.topics.enable", _B, True, "Whether asking for an unknown topic creates it."),
    _fixed("delete.topic.enable", _B, True, "Whether topics can be deleted."),
    _fixed("socket.request.max.bytes", _I, 104_857_600, "The largest request, in bytes."),
    _fixed("max.connections", _I, _INT_MAX, "The most connections at a time."),
    _fixed("quota.window.num", _I, 11, "Windows of time over which the rates of clients are measured.", at_least(1)),
    _fixed("quota.window.size.seconds", _I, 1, "The length of each of these windows.", at_least(1)),
    _fixed(
        "controller.quota.window.num",
        _I,
        11,
        "Windows of time over which clients save up their quota of created and deleted partitions.",
        at_least(1),
    ),
    _fixed("controller.quota.window.size.seconds", _I, 1, "The length of each of these windows.", at_least(1)),
    _fixed("connections.max.idle.ms", _L, 600_000, "Idle time after which a connection is closed."),
    _fixed(
        "fetch.max.bytes", _I, 57_671_680, "The most bytes that one fetch response carries, whatever was asked for."
    ),
    _fixed("max.incremental.fetch.session.cache.slots", _I, 1000, "Fetch sessions that are remembered at a time."),
    _fixed("log.retention.check.interval.ms", _L, 300_000, "Time between two looks for segments to drop."),
    _fixed("log.cleaner.enable", _B, True, "Whether topics whose cleanup.policy has `compact` are compacted."),
    _fixed("log.cleaner.threads", _I, 1, "Worker processes that compact.", at_least(0)),
    _fixed("log.cleaner.backoff.ms", _L, 15_000, "Time between two looks for something to compact.", at_least(0)),
    _fixed(
        "log.cleaner.dedupe.buffer.size", _L, 134_217_728, "Memory for the keys of one pass of compaction, in bytes."
    ),
    _fixed(
        "log.cleaner.io.max.bytes.per.second",
        ConfigType.DOUBLE,
        sys.float_info.max,
        "The most that compaction reads and writes, in bytes a second.",
    ),
    _fixed("producer.id.expiration.ms", _I, 86_400_000, "Idle time after which a producer's sequence is forgotten."),
    _fixed("offsets.topic.num.partitions", _I, 50, "Partitions of the topic that keeps committed offsets."),
    _fixed("offsets.topic.replication.factor", _SHORT, 1, "Replicas of the topic that keeps committed offsets."),
    _fixed("offsets.topic.segment.bytes", _I, 104_857_600, "Segment size of the topic that keeps committed offsets."),
    _fixed("offsets.retention.minutes", _I, 10_080, "Minutes that the offsets of an empty group are kept."),
    _fixed("offsets.retention.check.interval.ms", _L, 600_000, "Time between two looks for expired offsets."),
    _fixed("offset.metadata.max.bytes", _I, 4096, "The most text that may go with a committed offset."),
    _fixed("transaction.max.timeout.ms", _I, 900_000, "The longest transaction timeout that a producer may ask for."),
    _fixed("transactional.id.expiration.ms", _I, 604_800_000, "Idle time after which a transactional id is forgotten."),
    _fixed("transaction.state.log.num.partitions", _I, 50, "Partitions of the topic that keeps transactions."),
    _fixed("transaction.state.log.replication.factor", _SHORT, 1, "Replicas of the topic that keeps transactions."),
    _fixed("transaction.state.log.min.isr", _I, 1, "Replicas of that topic that must have a write."),
    _fixed(
        "transaction.state.log.segment.bytes", _I, 104_857_600, "Segment size of the topic that keeps transactions."
    ),
    _fixed(
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        _I,
        10_000,
        "Time between two looks for transactions that are over their timeout.",
    ),
    _fixed(
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        _I,
        3_600_000,
        "Time between two looks for transactional ids to forget.",
    ),
    _fixed("group.min.session.timeout.ms", _I, 6_000, "The shortest session timeout of a group member."),
    _fixed("group.max.session.timeout.ms", _I, 1_800_000, "The longest session timeout of a group member."),
    _fixed("group.initial.rebalance.delay.ms", _I, 3_000, "How long a new group waits for more members."),
    _fixed("group.max.size", _I, _INT_MAX, "The most members of a group."),
    _fixed(
        "group.consumer.session.timeout.ms", _I, 45_000, "How long a member of the consumer protocol may be silent."
    ),
    _fixed("group.consumer.min.session.timeout.ms", _I, 45_000, "The shortest such time."),
    _fixed("group.consumer.max.session.timeout.ms", _I, 60_000, "The longest such time."),
    _fixed("group.consumer.heartbeat.interval.ms", _I, 5_000, "How often such a member is asked to be heard."),
    _fixed("group.consumer.min.heartbeat.interval.ms", _I, 5_000, "The shortest such interval."),
    _fixed("group.consumer.max.heartbeat.interval.ms", _I, 15_000, "The longest such interval."),
    _fixed("group.consumer.max.size", _I, _INT_MAX, "The most members of a group of the consumer protocol."),
    _fixed("group.consumer.assignors", _LIST, ("uniform", "range"), "The assignors that its members may ask for."),
    _fixed("group.consumer.migration.policy", _S, "bidirectional", "Which way groups may change their protocol."),
    _fixed("group.share.session.timeout.ms", _I, 45_000, "How long a member of a share group may be silent."),
    _fixed("group.share.min.session.timeout.ms", _I, 45_000, "The shortest such time."),
    _fixed("group.share.max.session.timeout.ms", _I, 60_000, "The longest such time."),
    _fixed("group.share.heartbeat.interval.ms", _I, 5_000, "How often such a member is asked to be heard."),
    _fixed("group.share.min.heartbeat.interval.ms", _I, 5_000, "The shortest such interval."),
    _fixed("group.share.max.heartbeat.interval.ms", _I, 15_000, "The longest such interval."),
    _fixed("group.share.max.size", _I, 200, "The most members of a share group."),
    _fixed("group.share.max.share.sessions", _I, 2_000, "Members of share groups that fetch from this node at a time."),
    _fixed("group.share.delivery.count.limit", _I, 5, "How often a record is given to members of a share group."),
    _fixed("group.share.record.lock.duration.ms", _I, 30_000, "How long a member has a record to itself."),
    _fixed("group.share.min.record.lock.duration.ms", _I, 15_000, "The shortest such time."),
    _fixed("group.share.max.record.lock.duration.ms", _I, 60_000, "The longest such time."),
    _fixed(
        "group.share.partition.max.record.locks", _I, 2_000, "Records of a partition that a share group has in flight."
    ),
    _fixed("share.coordinator.state.topic.num.partitions", _I, 50, "Partitions of the topic that keeps share groups."),
    _fixed(
        "share.coordinator.state.topic.replication.factor", _SHORT, 1, "Replicas of the topic that keeps share groups."
    ),
    _fixed("share.coordinator.state.topic.min.isr", _SHORT, 1, "Replicas of that topic that must have a write."),
    _fixed("share.coordinator.state.topic.segment.bytes", _I, 104_857_600, "Segment size of that topic."),
    _fixed(
        "share.coordinator.snapshot.update.records.per.snapshot",
        _I,
        500,
        "Updates of a share partition between snapshots.",
    ),
)

BROKER_CONFIGS: Mapping[str, ConfigDef] = dict(
    sorted((definition.name, definition) for definition in (*_OWN, *_topic_defaults()))
)


def check_broker_configs(configs: Mapping[str, str]) -> None:
    """Refuse dynamic broker configs that are unknown, read-only or malformed, with INVALID_REQUEST as Kafka does."""
    for name, text in configs.items():
        definition = BROKER_CONFIGS.get(name)
        if definition is None:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST,
                f"there is no broker config {name[:80]!r} here; describe the broker to list them",
            )
        if not definition.dynamic:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST,
                f"broker config {name} cannot be changed while the node runs; set it in the node's configuration",
            )
        try:
            definition.admit(text)
        except ValueError as fault:
            raise KafkaError(ErrorCode.INVALID_REQUEST, str(fault)) from None
