"""Topics: created, described, grown and deleted, well and badly."""

from __future__ import annotations

from typing import Any

from chronik.wire.apis import ApiKey
from tests.differential.scenarios import create, latest, scenario, versions, wait_for_topic, wait_until_gone
from tests.differential.session import Session

BAD_NAMES = (
    "",
    ".",
    "..",
    "a/b",
    "../up",
    "sp ace",
    "tab\t",
    "x" * 250,
    "ümlaut",
    "a:b",
    "-",
    "_",
    "A.b_c-9",
    "x" * 249,
)


def _new(
    name: str, partitions: int = 1, replicas: int = 1, assignments: Any = (), **configs: str | None
) -> dict[str, Any]:
    return {
        "name": name,
        "num_partitions": partitions,
        "replication_factor": replicas,
        "assignments": [{"partition_index": index, "broker_ids": ids} for index, ids in assignments],
        "configs": [{"name": key.replace("_", "."), "value": value} for key, value in configs.items()],
    }


@scenario
def create_topics_by_version(s: Session) -> None:
    for version in versions(ApiKey.CREATE_TOPICS):
        name = f"created-v{version}"
        s.ask("good", ApiKey.CREATE_TOPICS, version, {"topics": [_new(name, 2)]})
        wait_for_topic(s, name, 2)
        s.ask("again", ApiKey.CREATE_TOPICS, version, {"topics": [_new(name, 2)]})
        s.ask(
            "only checked", ApiKey.CREATE_TOPICS, version, {"topics": [_new(f"{name}-checked")], "validate_only": True}
        )
        s.ask("three replicas", ApiKey.CREATE_TOPICS, version, {"topics": [_new(f"{name}-r3", 1, 3)]})
        s.ask("not one topic", ApiKey.CREATE_TOPICS, version, {"topics": []})
        s.ask("described", ApiKey.METADATA, latest(ApiKey.METADATA), {"topics": [{"name": name}]})


@scenario
def create_topics_names(s: Session) -> None:
    for name in BAD_NAMES:
        topics = {"topics": [_new(name)], "validate_only": True}
        s.ask(f"named {name[:12]!r} of {len(name)}", ApiKey.CREATE_TOPICS, 7, topics)
    s.ask("twice in a request", ApiKey.CREATE_TOPICS, 7, {"topics": [_new("twice"), _new("twice")]})
    create(s, "dotted.name")
    s.ask("a name that collides", ApiKey.CREATE_TOPICS, 7, {"topics": [_new("dotted_name")]})
    s.ask("an internal name", ApiKey.CREATE_TOPICS, 7, {"topics": [_new("__consumer_offsets")], "validate_only": True})


@scenario
def create_topics_numbers(s: Session) -> None:
    for partitions, replicas in ((0, 1), (-1, 1), (-2, 1), (1, 0), (1, -1), (1, -2), (1, 2), (1, 32767), (-1, -1)):
        topics = {"topics": [_new("numbered", partitions, replicas)], "validate_only": True}
        s.ask(f"{partitions} partitions, {replicas} replicas", ApiKey.CREATE_TOPICS, 7, topics)
    mixed = [_new("mixed-good"), _new("mixed/bad"), _new("mixed-r3", 1, 3), _new("mixed-also-good", 3)]
    s.ask("good and bad ones", ApiKey.CREATE_TOPICS, 7, {"topics": mixed})
    wait_for_topic(s, "mixed-also-good", 3)
    s.ask("what became of them", ApiKey.METADATA, 12,
          {"topics": [{"name": t["name"]} for t in mixed], "allow_auto_topic_creation": False})  # fmt: skip


@scenario
def create_topics_assignments(s: Session) -> None:
    node = s.wait_until(ApiKey.METADATA, 12, {"topics": []}, lambda answer: answer.brokers).brokers[0].node_id
    cases = {
        "one": (-1, -1, [(0, [node])]),
        "two": (-1, -1, [(0, [node]), (1, [node])]),
        "with a gap": (-1, -1, [(0, [node]), (2, [node])]),
        "to an unknown broker": (-1, -1, [(0, [9999])]),
        "to one broker twice": (-1, -1, [(0, [node, node])]),
        "to nobody": (-1, -1, [(0, [])]),
        "and a count": (1, -1, [(0, [node])]),
        "and a factor": (-1, 1, [(0, [node])]),
    }
    for label, (partitions, replicas, assignments) in cases.items():
        topics = {"topics": [_new("assigned", partitions, replicas, assignments)], "validate_only": True}
        s.ask(f"assigned {label}", ApiKey.CREATE_TOPICS, 7, topics)


@scenario
def create_topics_configs(s: Session) -> None:
    cases: dict[str, dict[str, str | None]] = {
        "good": {"retention_ms": "1000", "segment_bytes": "1048576"},
        "no such": {"no_such_config": "1"},
        "not a number": {"retention_ms": "soon"},
        "below the minimum": {"max_message_bytes": "-1"},
        "null": {"retention_ms": None},
        "empty": {"retention_ms": ""},
        "codec": {"compression_type": "lz4"},
        "no codec": {"compression_type": "rar"},
        "policy": {"cleanup_policy": "compact"},
        "policies": {"cleanup_policy": "compact,delete"},
        "no policy": {"cleanup_policy": "keep"},
        "time type": {"message_timestamp_type": "LogAppendTime"},
        "no boolean": {"preallocate": "maybe"},
        "min isr 0": {"min_insync_replicas": "0"},
        "min isr 2": {"min_insync_replicas": "2"},
        "segment too small": {"segment_bytes": "10"},
    }
    for label, configs in cases.items():
        s.ask(label, ApiKey.CREATE_TOPICS, 7, {"topics": [_new("configured", **configs)], "validate_only": True})


_CONFIGS = (
    *("cleanup.policy", "compression.type", "compression.gzip.level", "compression.lz4.level"),
    *("compression.zstd.level", "delete.retention.ms", "file.delete.delay.ms", "flush.messages", "flush.ms"),
    *("index.interval.bytes", "local.retention.bytes", "local.retention.ms", "max.compaction.lag.ms"),
    *("max.message.bytes", "message.timestamp.after.max.ms", "message.timestamp.before.max.ms"),
    *("message.timestamp.type", "min.cleanable.dirty.ratio", "min.compaction.lag.ms", "min.insync.replicas"),
    *("preallocate", "remote.log.copy.disable", "remote.log.delete.on.disable", "remote.storage.enable"),
    *("retention.bytes", "retention.ms", "segment.bytes", "segment.index.bytes", "segment.jitter.ms", "segment.ms"),
    *("unclean.leader.election.enable", "follower.replication.throttled.replicas"),
    *("leader.replication.throttled.replicas", "message.format.version", "message.downconversion.enable"),
)
_VALUES = (
    *("", " ", "x", "-3", "-2", "-1", "0", "1", "3", "4", "9", "10", "17", "18", "22", "23", "1048575", "1048576"),
    *("2147483647", "2147483648", "9223372036854775807", "9223372036854775808", "+5", " 5 ", "5.0", "0.5", "1.1"),
    *("0x10", "1e3", "true", "TRUE", "no", "producer", "GZIP", "gzip", "none", "uncompressed", "CreateTime"),
    *("createtime", "delete", "delete,delete", "delete,,", " delete , compact ", "delete,keep", "*", "0:0", "0:x"),
)


@scenario
def topic_config_values(s: Session) -> None:
    """Which of many texts each topic config takes: error codes only."""
    for config in _CONFIGS:
        codes = {}
        for value in _VALUES:
            topic = {**_new("valued"), "configs": [{"name": config, "value": value}]}
            body = {"topics": [topic], "validate_only": True}
            codes[value] = s.ask("", ApiKey.CREATE_TOPICS, 7, body, unrecorded=True).topics[0].error_code
        s.note(config, codes)


@scenario
def metadata_of_topics(s: Session) -> None:
    topic_id = create(s, "described", 3)
    for version in versions(ApiKey.METADATA):
        s.ask("one", ApiKey.METADATA, version, {"topics": [{"name": "described"}], "allow_auto_topic_creation": False})
    unknown = {"topics": [{"name": "nowhere"}], "allow_auto_topic_creation": False}
    for version in versions(ApiKey.METADATA):
        if version >= 4:
            s.ask("unknown", ApiKey.METADATA, version, unknown)
    for version in (8, 12):
        body = {"topics": [{"name": "described"}], "include_topic_authorized_operations": True}
        s.ask("topic operations", ApiKey.METADATA, version, body)
    for version in (12, 13):
        s.ask("by id", ApiKey.METADATA, version, {"topics": [{"topic_id": topic_id, "name": None}]})
        s.ask("by unknown id", ApiKey.METADATA, version, {"topics": [{"topic_id": b"\x07" * 16, "name": None}]})
        s.ask("neither id nor name", ApiKey.METADATA, version, {"topics": [{"name": None}]})
    for name in BAD_NAMES[:10]:
        body = {"topics": [{"name": name}], "allow_auto_topic_creation": True}
        s.ask(f"named {name[:12]!r} of {len(name)}", ApiKey.METADATA, 9, body)
    s.ask(
        "good and bad", ApiKey.METADATA, 9, {"topics": [{"name": "described"}, {"name": "a b"}, {"name": "described"}]}
    )


@scenario
def metadata_creates(s: Session) -> None:
    body = {"topics": [{"name": "made-by-metadata"}], "allow_auto_topic_creation": True}
    s.ask("first answer", ApiKey.METADATA, 9, body)
    wait_for_topic(s, "made-by-metadata")
    s.ask("then", ApiKey.METADATA, 9, body)


@scenario
def describe_topic_partitions(s: Session) -> None:
    create(s, "paged-a", 3)
    create(s, "paged-b", 2)
    names = [{"name": name} for name in ("paged-b", "paged-a", "paged-none")]
    s.ask("all", ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0, {"topics": names})
    s.ask("four", ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0, {"topics": names, "response_partition_limit": 4})
    s.ask("none", ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0, {"topics": names, "response_partition_limit": 0})
    for topic, index in (("paged-a", 2), ("paged-b", 1), ("paged-a", 9), ("paged-z", 0), ("paged-a", -1)):
        body = {"topics": names, "cursor": {"topic_name": topic, "partition_index": index}}
        s.ask(f"from {topic} {index}", ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0, body)
    s.ask("a bad name", ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0, {"topics": [{"name": "a/b"}]})


@scenario
def create_partitions(s: Session) -> None:
    node = s.wait_until(ApiKey.METADATA, 12, {"topics": []}, lambda answer: answer.brokers).brokers[0].node_id
    for version in versions(ApiKey.CREATE_PARTITIONS):
        name = f"grown-v{version}"
        create(s, name, 1)

        def grow(
            label: str, count: int, assignments: Any = None, topic: str = name, v: int = version, **more: Any
        ) -> None:
            chosen = None if assignments is None else [{"broker_ids": ids} for ids in assignments]
            topics = [{"name": topic, "count": count, "assignments": chosen}]
            s.ask(label, ApiKey.CREATE_PARTITIONS, v, {"topics": topics, "timeout_ms": 5000, **more})

        grow("only checked", 3, validate_only=True)
        grow("good", 3)
        wait_for_topic(s, name, 3)
        for count in (3, 2, 0, -1):
            grow(f"to {count}", count)
        grow("of nothing", 3, topic="nowhere")
        grow("of a bad name", 3, topic="a b")
        grow("assigned", 4, [[node]], validate_only=True)
        grow("assigned to nobody", 4, [[]], validate_only=True)
        grow("assigned to a stranger", 4, [[9999]], validate_only=True)
        grow("assigned too many", 4, [[node], [node]], validate_only=True)
    twice = [{"name": "grown-v0", "count": count, "assignments": None} for count in (5, 6)]
    s.ask("twice in a request", ApiKey.CREATE_PARTITIONS, 3, {"topics": twice, "timeout_ms": 5000})
    s.ask("not one", ApiKey.CREATE_PARTITIONS, 3, {"topics": [], "timeout_ms": 5000})


@scenario
def delete_topics(s: Session) -> None:
    for version in versions(ApiKey.DELETE_TOPICS):
        name = f"deleted-v{version}"
        create(s, name, 1)
        bodies = {"topic_names": [name], "topics": [{"name": name}], "timeout_ms": 5000}
        s.ask("good", ApiKey.DELETE_TOPICS, version, bodies)
        wait_until_gone(s, name)
        s.ask("again", ApiKey.DELETE_TOPICS, version, bodies)
        s.ask("not one", ApiKey.DELETE_TOPICS, version, {"topic_names": [], "topics": [], "timeout_ms": 5000})
    topic_id = create(s, "deleted-by-id")
    body = {"topics": [{"topic_id": topic_id, "name": None}], "timeout_ms": 5000}
    both = {"topics": [{"topic_id": topic_id, "name": "deleted-by-id"}], "timeout_ms": 5000}
    s.ask("by id and name", ApiKey.DELETE_TOPICS, 6, both)
    s.ask("by id", ApiKey.DELETE_TOPICS, 6, body)
    wait_until_gone(s, "deleted-by-id")
    s.ask("by id again", ApiKey.DELETE_TOPICS, 6, body)
    s.ask("by neither", ApiKey.DELETE_TOPICS, 6, {"topics": [{"name": None}], "timeout_ms": 5000})
    s.ask("a bad name", ApiKey.DELETE_TOPICS, 6, {"topics": [{"name": "a/b"}], "timeout_ms": 5000})
    create(s, "deleted-twice")
    twice = {"topics": [{"name": "deleted-twice"}, {"name": "deleted-twice"}], "timeout_ms": 5000}
    s.ask("twice in a request", ApiKey.DELETE_TOPICS, 6, twice)
