"""Every option of the node, declared once: its default, what it may hold, what it means and who else calls it how.

`Config.resolve` reads file, environment and flags over the defaults and returns the frozen, typed `Config`; a fault is a
ConfigError that says where it stands and what is allowed. Where Kafka has an option of the same meaning it is called
`name.with.dots` there and `name_with_dots` here, and both are accepted. The broker-wide defaults of topic configs are
declared in `chronik.broker_config` and become options as they stand there. What is not listed is refused.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from chronik.addresses import ListenerAddress, parse_advertised, parse_listener, parse_listeners
from chronik.broker_config import BROKER_CONFIGS
from chronik.config_def import ConfigDef, ConfigType
from chronik.errors import ConfigError
from chronik.options import CONFIG_PATH_VARIABLE, Option, Section, canonical, declared_options, did_you_mean, gather
from chronik.topic_config import TOPIC_CONFIGS

ROLES = ("all", "controller", "ingest", "query")
MILLISECONDS, SECONDS, BYTES = "milliseconds", "seconds", "bytes"
INT32_MAX = 2**31 - 1
MEBIBYTE = 1024 * 1024
ASSIGNORS = ("uniform", "range")
"""The assignors of the consumer protocol, by name; the first is the default."""
_ASSIGNOR_CLASSES = {
    "org.apache.kafka.coordinator.group.assignor.UniformAssignor": "uniform",
    "org.apache.kafka.coordinator.group.assignor.RangeAssignor": "range",
}


def _parse_role(text: str) -> str:
    names = [part.strip() for part in text.split(",") if part.strip()]
    for name in names or [text]:
        if name not in ROLES:
            raise ValueError(f"role {name!r} is unknown; the roles are {', '.join(ROLES)}{did_you_mean(name, ROLES)}")
    if names != ["all"]:
        raise ValueError(
            f"role {','.join(names)!r} is not built yet; this release runs every part in one node: role all"
        )
    return "all"


def _parse_object_store(text: str) -> str:
    if text != "local":
        raise ValueError(
            f"{text!r} is not built yet: tiering to object storage comes later; leave it unset, or 'local'"
        )
    return text


def _parse_directory(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("a directory name is needed")
    return os.path.abspath(os.path.expanduser(text))


def _parse_assignors(text: str) -> tuple[str, ...]:
    names = [_ASSIGNOR_CLASSES.get(name.strip(), name.strip()) for name in text.split(",") if name.strip()]
    for name in names:
        if name not in ASSIGNORS:
            raise ValueError(f"assignor {name!r} is unknown; the assignors are {', '.join(ASSIGNORS)}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{text!r} does not name one or two assignors; the assignors are {', '.join(ASSIGNORS)}")
    return tuple(names)


def _parse_admin(text: str) -> ListenerAddress | None:
    return None if text.lower() == "none" else parse_listener(text, "HTTP")


def _parse_rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not rate >= 1024:
        raise ValueError(f"{text!r} is not a number of bytes a second, at least 1024")
    return min(rate, sys.float_info.max)


NODE = Section("The node")
LISTENERS = Section("Listeners and connections")
TOPICS = Section("Topics: what is not said when one is created")
LOG = Section("The log on disk")
CLEANER = Section("Compaction")
FETCH = Section("Fetching")
PRODUCERS = Section("Producers")
GROUPS = Section("Consumer groups")
TRANSACTIONS = Section("Transactions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The resolved configuration. `sources` says for each option that was set where; the others have their defaults."""

    role: str = NODE.custom(
        "all",
        "What this process does. Only 'all' (one node, every part embedded) is built; controller, ingest and query follow.",
        _parse_role,
        "all",
        flag="role",
    )
    node_id: int = NODE.integer(
        1,
        "The number of this node in its cluster; fixed once the data directory exists.",
        high=INT32_MAX,
        kafka="node.id",
        flag="node-id",
    )
    data_directory: str = NODE.custom(
        "./chronik-data",
        "Where the node keeps everything it must not lose. One node holds it at a time.",
        _parse_directory,
        "a directory; it is created where missing",
        environment="METADATA_PATH",
        flag="data-dir",
    )
    object_store_type: str = NODE.custom(
        "local",
        "Where sealed data is archived. Object storage is not built yet, so only 'local' (no archive) is accepted.",
        _parse_object_store,
        "local",
        environment="OBJECT_STORE_TYPE",
    )

    listeners: tuple[ListenerAddress, ...] = LISTENERS.custom(
        (ListenerAddress("PLAINTEXT", "127.0.0.1", 9092),),
        "Where Kafka clients connect, comma-separated. 'tcp:9092' and 'PLAINTEXT://:9092' bind every interface.",
        parse_listeners,
        "NAME://host:port, tcp:port or tcp:port:interface=host",
        kafka="listeners",
        environment="KAFKA_LISTENERS",
        flag="listen",
    )
    advertised_listeners: tuple[ListenerAddress, ...] = LISTENERS.custom(
        (),
        "What clients are told to dial, by the listener's name. Unset: each client gets back the address it dialled.",
        parse_advertised,
        "NAME://host:port, comma-separated",
        kafka="advertised.listeners",
        flag="advertise",
    )
    admin_listener: ListenerAddress | None = LISTENERS.custom(
        ListenerAddress("HTTP", "127.0.0.1", 8080),
        "Where the REST API (/v1/...) and /metrics are served. It has no authentication yet: keep it on loopback.",
        _parse_admin,
        "host:port, tcp:port or tcp:port:interface=host, or none",
        flag="admin-listen",
    )
    socket_request_max_bytes: int = LISTENERS.integer(
        100 * MEBIBYTE,
        "The largest request that is read; a longer one closes its connection.",
        low=1,
        high=INT32_MAX,
        unit=BYTES,
        kafka="socket.request.max.bytes",
    )
    max_connections: int = LISTENERS.integer(
        INT32_MAX,
        "Connections at once on all Kafka listeners; further ones are closed at once.",
        low=1,
        high=INT32_MAX,
        kafka="max.connections",
    )
    max_connections_per_ip: int = LISTENERS.integer(
        INT32_MAX, "The same for one client address.", low=1, high=INT32_MAX, kafka="max.connections.per.ip"
    )
    connections_max_idle_ms: int = LISTENERS.integer(
        600_000,
        "A connection without a request for this long is closed.",
        low=1,
        unit=MILLISECONDS,
        kafka="connections.max.idle.ms",
    )
    queued_max_request_bytes: int = LISTENERS.integer(
        256 * MEBIBYTE,
        "Bytes of large requests in work on the whole node, and again of answers not taken yet; above it, "
        "connections are read no further.",
        low=MEBIBYTE,
        unit=BYTES,
        kafka="queued.max.request.bytes",
    )
    quota_window_num: int = LISTENERS.integer(
        11,
        "Windows of time over which the rates of clients that have a quota are measured.",
        low=1,
        high=1000,
        kafka="quota.window.num",
    )
    quota_window_size_seconds: int = LISTENERS.integer(
        1, "The length of each of them.", low=1, high=86_400, unit=SECONDS, kafka="quota.window.size.seconds"
    )

    num_partitions: int = TOPICS.integer(
        1,
        "Partitions of a topic that is created without saying how many.",
        low=1,
        high=10_000,
        kafka="num.partitions",
    )
    default_replication_factor: int = TOPICS.integer(
        1,
        "Replicas of such a topic. One node holds one replica.",
        low=1,
        high=1,
        kafka="default.replication.factor",
    )
    auto_create_topics_enable: bool = TOPICS.boolean(
        True, "Create a topic when a client first asks for it.", kafka="auto.create.topics.enable"
    )

    flush_interval_ms: int = LOG.integer(
        1000,
        "Under durability 'interval', written bytes are synced to the disk at least this often.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
    )
    flush_interval_bytes: int = LOG.integer(
        8 * MEBIBYTE, "... and as soon as this much of a partition is not synced.", low=4096, unit=BYTES
    )
    log_retention_check_interval_ms: int = LOG.integer(
        300_000,
        "How often retention looks for segments to delete.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="log.retention.check.interval.ms",
    )

    log_cleaner_enable: bool = CLEANER.boolean(
        True,
        "Compact the topics whose cleanup.policy says so, the node's own among them. Without, they grow for ever.",
        kafka="log.cleaner.enable",
    )
    log_cleaner_threads: int = CLEANER.integer(
        1,
        "Worker processes, and so logs that are compacted at a time.",
        low=1,
        high=64,
        kafka="log.cleaner.threads",
    )
    log_cleaner_backoff_ms: int = CLEANER.integer(
        15_000,
        "Time between two looks for something to compact, when there was nothing.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="log.cleaner.backoff.ms",
    )
    log_cleaner_dedupe_buffer_size: int = CLEANER.integer(
        128 * MEBIBYTE,
        "Memory of all workers together for the keys of one pass: some 200 bytes a key. What doesn't fit takes more passes.",
        low=MEBIBYTE,
        unit=BYTES,
        kafka="log.cleaner.dedupe.buffer.size",
    )
    log_cleaner_io_max_bytes_per_second: float = CLEANER.custom(
        sys.float_info.max,
        "The most that compaction reads and writes together, over all workers.",
        _parse_rate,
        "a number of bytes a second, at least 1024",
        kafka="log.cleaner.io.max.bytes.per.second",
    )

    fetch_max_bytes: int = FETCH.integer(
        55 * MEBIBYTE,
        "The most bytes one fetch is answered with, whatever the client asks for.",
        low=1024,
        high=INT32_MAX,
        unit=BYTES,
        kafka="fetch.max.bytes",
    )
    max_incremental_fetch_session_cache_slots: int = FETCH.integer(
        1000,
        "Incremental fetch sessions that are remembered; 0 remembers none.",
        high=1_000_000,
        kafka="max.incremental.fetch.session.cache.slots",
    )

    producer_id_expiration_ms: int = PRODUCERS.integer(
        86_400_000,
        "An idempotent producer that wrote nothing to a partition for this long is forgotten there.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="producer.id.expiration.ms",
    )

    group_initial_rebalance_delay_ms: int = GROUPS.integer(
        3000,
        "How long an empty group waits for more members before its first rebalance.",
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="group.initial.rebalance.delay.ms",
    )
    group_min_session_timeout_ms: int = GROUPS.integer(
        6000,
        "The shortest session timeout that a member may ask for.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="group.min.session.timeout.ms",
    )
    group_max_session_timeout_ms: int = GROUPS.integer(
        1_800_000,
        "The longest session timeout that a member may ask for.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="group.max.session.timeout.ms",
    )
    group_max_size: int = GROUPS.integer(
        INT32_MAX, "Members that one group may have.", low=1, high=INT32_MAX, kafka="group.max.size"
    )
    group_consumer_session_timeout_ms: int = GROUPS.integer(
        45_000,
        "How long a member of the consumer protocol may be silent.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="group.consumer.session.timeout.ms",
    )
    group_consumer_min_session_timeout_ms: int = GROUPS.integer(
        45_000,
        "The shortest such time, for all groups and for one.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="group.consumer.min.session.timeout.ms",
    )
    group_consumer_max_session_timeout_ms: int = GROUPS.integer(
        60_000,
        "The longest such time.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="group.consumer.max.session.timeout.ms",
    )
    group_consumer_heartbeat_interval_ms: int = GROUPS.integer(
        5_000,
        "How often a member of the consumer protocol is asked to be heard.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="group.consumer.heartbeat.interval.ms",
    )
    group_consumer_min_heartbeat_interval_ms: int = GROUPS.integer(
        5_000,
        "The shortest such interval, for all groups and for one.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="group.consumer.min.heartbeat.interval.ms",
    )
    group_consumer_max_heartbeat_interval_ms: int = GROUPS.integer(
        15_000,
        "The longest such interval.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="group.consumer.max.heartbeat.interval.ms",
    )
    group_consumer_max_size: int = GROUPS.integer(
        INT32_MAX,
        "Members that one group of the consumer protocol may have.",
        low=1,
        high=INT32_MAX,
        kafka="group.consumer.max.size",
    )
    group_consumer_assignors: tuple[str, ...] = GROUPS.custom(
        ASSIGNORS,
        "The assignors that its members may ask for, comma-separated; the first is for those that ask for none.",
        _parse_assignors,
        "uniform, range or both",
        kafka="group.consumer.assignors",
    )
    group_consumer_migration_policy: str = GROUPS.choice(
        "bidirectional",
        "Whether groups of classic consumers become groups of the consumer protocol when such a member joins (upgrade), "
        "and classic ones again when the last such member leaves (downgrade).",
        ("bidirectional", "upgrade", "downgrade", "disabled"),
        kafka="group.consumer.migration.policy",
    )
    offsets_topic_num_partitions: int = GROUPS.integer(
        50,
        "Partitions of __consumer_offsets; counts when the topic is first created.",
        low=1,
        high=10_000,
        kafka="offsets.topic.num.partitions",
    )
    offsets_retention_minutes: int = GROUPS.integer(
        10_080,
        "Committed offsets of a group without members are forgotten after this long.",
        low=1,
        high=INT32_MAX,
        unit="minutes",
        kafka="offsets.retention.minutes",
    )
    offsets_retention_check_interval_ms: int = GROUPS.integer(
        600_000,
        "How often offsets are looked through for such ones.",
        low=1,
        unit=MILLISECONDS,
        kafka="offsets.retention.check.interval.ms",
    )
    offset_metadata_max_bytes: int = GROUPS.integer(
        4096,
        "The longest note that a client may commit beside an offset.",
        high=INT32_MAX,
        unit=BYTES,
        kafka="offset.metadata.max.bytes",
    )

    transaction_max_timeout_ms: int = TRANSACTIONS.integer(
        900_000,
        "The longest timeout that a producer may ask for its transactions.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="transaction.max.timeout.ms",
    )
    transactional_id_expiration_ms: int = TRANSACTIONS.integer(
        604_800_000,
        "A transactional id that was not used for this long is forgotten.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="transactional.id.expiration.ms",
    )
    transaction_state_log_num_partitions: int = TRANSACTIONS.integer(
        50,
        "Partitions of __transaction_state; counts when the topic is first created.",
        low=1,
        high=10_000,
        kafka="transaction.state.log.num.partitions",
    )
    transaction_abort_timed_out_transaction_cleanup_interval_ms: int = TRANSACTIONS.integer(
        10_000,
        "How often the coordinator looks for transactions that are open beyond their timeout, and aborts them.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="transaction.abort.timed.out.transaction.cleanup.interval.ms",
    )
    transaction_remove_expired_transaction_cleanup_interval_ms: int = TRANSACTIONS.integer(
        3_600_000,
        "How often it looks for transactional ids to forget.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="transaction.remove.expired.transaction.cleanup.interval.ms",
    )

    topic_defaults: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """What was set of the topics' defaults that `chronik.broker_config` declares: text by Kafka's broker config name."""
    sources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def resolve(
        cls,
        flags: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        path: str | None = None,
    ) -> Config:
        """The configuration out of defaults < the YAML file at `path` < `environment` < `flags`; all values are text.

        Without `path`, the file is the one that CHRONIK_CONFIG names, if any. Raises ConfigError.
        """
        environment = {} if environment is None else environment
        settings = gather(OPTIONS, path or environment.get(CONFIG_PATH_VARIABLE) or None, environment, flags or {})
        values: dict[str, object] = {}
        for name, setting in settings.items():
            try:
                values[name] = OPTIONS[name].parse(setting.text.strip())
            except ValueError as error:
                raise ConfigError(f"{setting.source}: {name}: {error}") from error
        defaults = {str(OPTIONS[name].kafka): str(values.pop(name)) for name in settings if name in TOPIC_DEFAULTS}
        values["topic_defaults"] = MappingProxyType(defaults)
        values.setdefault("data_directory", _parse_directory(str(OPTIONS["data_directory"].default)))
        sources = MappingProxyType({name: setting.source for name, setting in settings.items()})
        config = cls(**values, sources=sources)  # type: ignore[arg-type]
        config._check_together()
        return config

    def source(self, name: str) -> str:
        """Where the value of option `name` comes from: a file and line, a variable, a flag, or "default"."""
        return self.sources.get(name, "default")

    def kafka_configs(self) -> dict[str, str]:
        """What this node was started with, as Kafka names it: text by broker config name, only what was set or must be."""
        named = {
            str(option.kafka): format_value(getattr(self, name))
            for name, option in OPTIONS.items()
            if option.kafka in BROKER_CONFIGS and name in self.sources and name not in TOPIC_DEFAULTS
        }
        return {
            **named,
            **self.topic_defaults,
            "node.id": str(self.node_id),
            "broker.id": str(self.node_id),
            "listeners": format_value(self.listeners),
            "log.dirs": self.data_directory,
        }

    def _check_together(self) -> None:
        """What no option can check alone. Raises ConfigError."""
        names = {listener.name for listener in self.listeners}
        for address in self.advertised_listeners:
            if address.name not in names:
                raise ConfigError(
                    f"{self.source('advertised_listeners')}: advertised_listeners: there is no listener named "
                    f"{address.name}; the listeners are {', '.join(sorted(names))}"
                )
        self._check_order("group_min_session_timeout_ms", "group_max_session_timeout_ms")
        for what in ("session_timeout_ms", "heartbeat_interval_ms"):
            low, value, high = f"group_consumer_min_{what}", f"group_consumer_{what}", f"group_consumer_max_{what}"
            self._check_order(low, high)
            self._check_order(low, value)
            self._check_order(value, high)
        self._check_order("group_consumer_heartbeat_interval_ms", "group_consumer_session_timeout_ms")

    def _check_order(self, low: str, high: str) -> None:
        """Whether option `low` is not above option `high`. Raises ConfigError."""
        if getattr(self, low) > getattr(self, high):
            raise ConfigError(
                f"{low} ({getattr(self, low)}, {self.source(low)}) is above {high} "
                f"({getattr(self, high)}, {self.source(high)})"
            )


def format_value(value: object) -> str:
    """`value` as one writes it in a file or variable: the inverse of the option's `parse`."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)


def _topic_default(definition: ConfigDef) -> Option:
    """The option that sets a broker config which is the default of a topic config."""

    def parse(text: str) -> str:
        return definition.text(definition.admit(text)) or ""

    kinds = {ConfigType.BOOLEAN: "true or false", ConfigType.STRING: "text", ConfigType.LIST: "a list"}
    bounds = definition.check(None) if definition.check else None
    allowed = (
        bounds.removeprefix("it is ").removeprefix("it ") if bounds else kinds.get(definition.type, "a whole number")
    )
    unit = next((unit for end, unit in _UNITS.items() if definition.name.endswith(end)), None)
    doc = definition.doc if definition.absence is None else f"{definition.doc} Only its default: {definition.absence}."
    return Option(
        parse, allowed, doc, TOPICS.heading, unit, kafka=definition.name, name=canonical(definition.name),
        default=definition.text(definition.default),
    )  # fmt: skip


_UNITS = {".ms": MILLISECONDS, ".bytes": BYTES, ".hours": "hours", ".minutes": "minutes"}

TOPIC_DEFAULTS: Mapping[str, Option] = MappingProxyType(
    {
        canonical(synonym.name): _topic_default(BROKER_CONFIGS[synonym.name])
        for definition in TOPIC_CONFIGS.values()
        for synonym in definition.synonyms
        if synonym.name in BROKER_CONFIGS
    }
)
"""The options that are broker-wide defaults of topic configs; their declarations are in `chronik.broker_config`."""

OPTIONS: Mapping[str, Option] = MappingProxyType({**declared_options(Config), **TOPIC_DEFAULTS})
"""Every option by name."""
