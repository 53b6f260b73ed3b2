"""Every topic config of Kafka 4.1, declared once, and what a topic's settings come to.

A topic's value is, strongest first: its own override; the broker config that sets the default (`log.retention.ms` for
`retention.ms`), where a node's dynamic value beats the cluster-wide one and that beats the static one; the default here.
`topic_settings` folds these into a `TopicSettings`, which is all that the log and the broker read.

What this node has no meaning for yet is accepted at its default only (see `ConfigDef.absence`). Two configs deserve a word:
`unclean.leader.election.enable` is accepted with either value, since it only speaks of partitions with several replicas, and
this node holds one replica of each; those whose names begin with `chronik.` are this project's own.

Names, types, defaults and bounds: `kafka-configs --describe` of Apache Kafka 4.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chronik.config_def import Check, ConfigDef, ConfigType, ConfigValue, Synonym, at_least, between, one_of
from chronik.errors import ErrorCode, KafkaError

SEARCH = "chronik.search"
SEARCH_MAPPING = "chronik.search.mapping"

_MS_PER_HOUR, _MS_PER_MINUTE = 3_600_000, 60_000
_LONG_MAX = 2**63 - 1

_NO_TIERING = "tiered storage comes with a later release"
_NO_REPLICATION = "replication between nodes, and its throttle, come with a later release"


def _cleanup_policy(value: ConfigValue) -> str | None:
    fault = one_of("delete", "compact")(value) if value != () else None
    return fault if fault is None else f"{fault}, both, or neither"


def _define(
    name: str,
    kind: ConfigType,
    default: ConfigValue,
    check: Check | None,
    synonyms: str | tuple[Synonym, ...],
    doc: str,
    absence: str | None = None,
    hidden: bool = False,
) -> ConfigDef:
    if isinstance(synonyms, str):
        synonyms = tuple(Synonym(part) for part in synonyms.split())
    return ConfigDef(name, kind, default, doc, check, synonyms, absence, dynamic=True, hidden=hidden)


_B, _S, _I, _L, _D = ConfigType.BOOLEAN, ConfigType.STRING, ConfigType.INT, ConfigType.LONG, ConfigType.DOUBLE

_DEFINITIONS = (
    _define(
        "cleanup.policy", ConfigType.LIST, ("delete",), _cleanup_policy, "log.cleanup.policy",
        "What happens to old data: `delete` drops whole segments by retention, `compact` keeps the last record of every key; "
        "both may be set. An empty list keeps everything.",
    ),
    _define(
        "compression.type", _S, "producer", one_of("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"),
        "compression.type",
        "The codec in which batches are stored. `producer` stores them as they came, untouched.",
    ),
    _define("compression.gzip.level", _I, -1, between(1, 9, -1), "compression.gzip.level",
            "Level of gzip, where compression.type is gzip; -1 is the codec's own default."),
    _define("compression.lz4.level", _I, 9, between(1, 17), "compression.lz4.level",
            "Level of lz4, where compression.type is lz4."),
    _define("compression.zstd.level", _I, 3, between(-131072, 22), "compression.zstd.level",
            "Level of zstd, where compression.type is zstd."),
    _define("delete.retention.ms", _L, 86_400_000, at_least(0), "log.cleaner.delete.retention.ms",
            "How long delete markers stay in a compacted topic."),
    _define("file.delete.delay.ms", _L, 60_000, at_least(0), "log.segment.delete.delay.ms",
            "How long the files of a dropped segment stay on disk, for reads that are under way."),
    _define("flush.messages", _L, _LONG_MAX, at_least(1), "log.flush.interval.messages",
            "Messages after which a partition is synced to disk, beside chronik.durability."),
    _define("flush.ms", _L, _LONG_MAX, at_least(0), "log.flush.interval.ms log.flush.scheduler.interval.ms",
            "Time after which a partition is synced to disk, beside chronik.durability."),
    _define("follower.replication.throttled.replicas", ConfigType.LIST, (), None, "",
            "Replicas whose fetching is throttled while partitions move.", _NO_REPLICATION),
    _define("index.interval.bytes", _I, 4096, at_least(0), "log.index.interval.bytes",
            "Bytes of log between two entries of a segment's indexes."),
    _define("internal.segment.bytes", _I, None, None, "",
            "A segment size below the minimum, for Kafka's own tests.", "set segment.bytes", hidden=True),
    _define("leader.replication.throttled.replicas", ConfigType.LIST, (), None, "",
            "Replicas whose serving of followers is throttled while partitions move.", _NO_REPLICATION),
    _define("local.retention.bytes", _L, -2, at_least(-2), "log.local.retention.bytes",
            "Bytes kept on local disk once segments are in object storage; -2 is retention.bytes.", _NO_TIERING),
    _define("local.retention.ms", _L, -2, at_least(-2), "log.local.retention.ms",
            "Time kept on local disk once segments are in object storage; -2 is retention.ms.", _NO_TIERING),
    _define("max.compaction.lag.ms", _L, _LONG_MAX, at_least(1), "log.cleaner.max.compaction.lag.ms",
            "The longest that a record may stay out of compaction."),
    _define("max.message.bytes", _I, 1_048_588, at_least(0), "message.max.bytes",
            "The largest record batch that the topic takes, as it arrives (compressed), in bytes."),
    _define("message.timestamp.after.max.ms", _L, 3_600_000, at_least(0), "log.message.timestamp.after.max.ms",
            "How far a record's timestamp may lie ahead of the broker's clock."),
    _define("message.timestamp.before.max.ms", _L, _LONG_MAX, at_least(0), "log.message.timestamp.before.max.ms",
            "How far a record's timestamp may lie behind the broker's clock."),
    _define("message.timestamp.type", _S, "CreateTime", one_of("CreateTime", "LogAppendTime"),
            "log.message.timestamp.type",
            "Whether a record has the time its producer gave it, or the time at which it was appended."),
    _define("min.cleanable.dirty.ratio", _D, 0.5, between(0, 1), "log.cleaner.min.cleanable.ratio",
            "The share of uncleaned bytes from which a compacted log is cleaned."),
    _define("min.compaction.lag.ms", _L, 0, at_least(0), "log.cleaner.min.compaction.lag.ms",
            "The shortest that a record stays out of compaction."),
    _define("min.insync.replicas", _I, 1, at_least(1), "min.insync.replicas",
            "Replicas that must hold a record before acks=all is answered; with fewer in sync, such writes are refused."),
    _define("preallocate", _B, False, None, "log.preallocate", "Whether a new segment file gets its full size at once.",
            "segment files grow as they are written"),
    _define("remote.log.copy.disable", _B, False, None, "",
            "Whether a tiered topic stops copying segments to object storage.", _NO_TIERING),
    _define("remote.log.delete.on.disable", _B, False, None, "",
            "Whether tiered data is deleted when tiering is turned off.", _NO_TIERING),
    _define("remote.storage.enable", _B, False, None, "", "Whether sealed segments go to object storage.", _NO_TIERING),
    _define("retention.bytes", _L, -1, None, "log.retention.bytes",
            "Bytes that a partition may hold before its oldest segments are dropped; -1 is no limit."),
    _define("retention.ms", _L, 604_800_000, at_least(-1),
            (Synonym("log.retention.ms"), Synonym("log.retention.minutes", _MS_PER_MINUTE),
             Synonym("log.retention.hours", _MS_PER_HOUR)),
            "Age at which segments are dropped; -1 is no limit."),
    _define("segment.bytes", _I, 2**30, at_least(2**20), "log.segment.bytes",
            "Size at which a segment is closed and the next one begun."),
    _define("segment.index.bytes", _I, 10_485_760, at_least(4), "log.index.size.max.bytes",
            "The largest size of a segment's index; a full index closes the segment."),
    _define("segment.jitter.ms", _L, 0, at_least(0),
            (Synonym("log.roll.jitter.ms"), Synonym("log.roll.jitter.hours", _MS_PER_HOUR)),
            "The most that is taken off segment.ms at random, so that segments don't all close at once."),
    _define("segment.ms", _L, 604_800_000, at_least(1),
            (Synonym("log.roll.ms"), Synonym("log.roll.hours", _MS_PER_HOUR)),
            "Age at which a segment is closed even when it isn't full, so that retention can take it."),
    _define("unclean.leader.election.enable", _B, False, None, "unclean.leader.election.enable",
            "Whether a replica that isn't in sync may lead when no other is left. Without effect on one replica."),
    _define("chronik.durability", _S, "interval", one_of("interval", "fsync"), "chronik.durability",
            "When a write is acknowledged: `interval` from the page cache, synced in the background every second; "
            "`fsync` after it is on disk."),
    _define(SEARCH, _S, "signatures", one_of("signatures", "full"), "",
            "What searches go by: `signatures` find anything at once for a few percent of the data's size; `full` adds an "
            "inverted index, which counts at once, for two fifths of it, and a core for each 50,000 messages a second."),
    _define(SEARCH_MAPPING, _S, "", None, "",
        "How search reads the fields of the topic's messages: a mapping as Elasticsearch has it, in JSON; empty for none. "
        "`PUT /TOPIC/_mapping` on the search listener adds to it."),
)  # fmt: skip

TOPIC_CONFIGS: Mapping[str, ConfigDef] = {definition.name: definition for definition in _DEFINITIONS}


@dataclass(frozen=True, slots=True)
class TopicSettings:
    """The effective settings of one topic that the node acts on. Times in ms, sizes in bytes, -1 for no limit."""

    retention_ms: int
    retention_bytes: int
    segment_bytes: int
    segment_ms: int
    segment_jitter_ms: int
    segment_index_bytes: int
    index_interval_bytes: int
    max_message_bytes: int
    message_timestamp_type: str
    message_timestamp_before_max_ms: int
    message_timestamp_after_max_ms: int
    compression_type: str
    compression_gzip_level: int
    compression_lz4_level: int
    compression_zstd_level: int
    file_delete_delay_ms: int
    flush_messages: int
    flush_ms: int
    min_insync_replicas: int
    unclean_leader_election_enable: bool
    durability: str
    cleanup_policy: tuple[str, ...]
    delete_retention_ms: int
    min_compaction_lag_ms: int
    max_compaction_lag_ms: int
    min_cleanable_dirty_ratio: float
    search: str
    search_mapping: str

    @property
    def compacted(self) -> bool:
        """Whether only the last record of every key is kept."""
        return "compact" in self.cleanup_policy


_LAGS = ("min.compaction.lag.ms", "max.compaction.lag.ms")

_FIELDS = {
    name.removeprefix("chronik.").replace(".", "_"): definition
    for name, definition in TOPIC_CONFIGS.items()
    if definition.absence is None
}


def topic_settings(overrides: Mapping[str, str], broker_configs: Mapping[str, str]) -> TopicSettings:
    """The effective settings of a topic.

    `overrides` are the topic's own, `broker_configs` the broker's merged text values by Kafka's broker names (node over
    cluster over static); both were validated when they were set, so a ValueError here is a fault of the caller.
    """
    fields: dict[str, Any] = {
        field: _value(definition, overrides, broker_configs) for field, definition in _FIELDS.items()
    }
    return TopicSettings(**fields)


def _value(definition: ConfigDef, overrides: Mapping[str, str], broker_configs: Mapping[str, str]) -> ConfigValue:
    own = overrides.get(definition.name)
    return default_value(definition, broker_configs) if own is None else definition.parse(own)


def default_value(definition: ConfigDef, broker_configs: Mapping[str, str]) -> ConfigValue:
    """What a topic config is where the topic doesn't override it."""
    for synonym in definition.synonyms:
        text = broker_configs.get(synonym.name)
        if text is not None:
            return scaled(definition, text, synonym)
    return definition.default


def scaled(definition: ConfigDef, text: str, synonym: Synonym) -> ConfigValue:
    """The topic config's value that a broker config's `text` stands for: hours and minutes become ms, -1 stays no limit."""
    value = definition.parse(text) if synonym.factor == 1 else int(text)
    if synonym.factor != 1 and isinstance(value, int):
        return -1 if value < 0 else min(value * synonym.factor, _LONG_MAX)
    return value


def check_topic_configs(overrides: Mapping[str, str]) -> None:
    """Refuse with INVALID_CONFIG the first of `overrides` that is unknown, malformed or without a meaning on this node."""
    for name, text in overrides.items():
        definition = TOPIC_CONFIGS.get(name)
        if definition is None:
            raise KafkaError(
                ErrorCode.INVALID_CONFIG, f"there is no topic config {name[:80]!r}; describe a topic to list them"
            )
        try:
            definition.admit(text)
        except ValueError as fault:
            raise KafkaError(ErrorCode.INVALID_CONFIG, str(fault)) from None
    shortest, longest = (_value(TOPIC_CONFIGS[name], overrides, {}) for name in _LAGS)
    if not shortest <= longest:  # type: ignore[operator]
        raise KafkaError(
            ErrorCode.INVALID_CONFIG, f"config {_LAGS[0]} is {shortest}, beyond {_LAGS[1]}, which is {longest}"
        )
