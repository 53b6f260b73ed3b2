"""Configurations of topics and brokers: described and altered, well and badly."""

from __future__ import annotations

from typing import Any

from chronik.wire.apis import ApiKey
from tests.differential.scenarios import create, latest, scenario, versions
from tests.differential.session import Session

TOPIC, BROKER, LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3


def _resource(name: str, keys: list[str] | None = None, kind: int = TOPIC) -> dict[str, Any]:
    return {"resource_type": kind, "resource_name": name, "configuration_keys": keys}


def _seen(s: Session, label: str, name: str, *keys: str) -> None:
    s.ask(label, ApiKey.DESCRIBE_CONFIGS, 4, {"resources": [_resource(name, list(keys))], "include_synonyms": False})


@scenario
def describe_topic_configs(s: Session) -> None:
    create(s, "configured", retention_ms="12345", compression_type="lz4")
    for version in versions(ApiKey.DESCRIBE_CONFIGS):
        s.ask("all", ApiKey.DESCRIBE_CONFIGS, version, {"resources": [_resource("configured")]})
    keys = ["retention.ms", "segment.bytes", "no.such.config"]
    s.ask("some", ApiKey.DESCRIBE_CONFIGS, 4, {"resources": [_resource("configured", keys)]})
    body = {"resources": [_resource("configured", keys)], "include_synonyms": True, "include_documentation": True}
    s.ask("with synonyms and words", ApiKey.DESCRIBE_CONFIGS, 4, body)
    s.ask("no keys", ApiKey.DESCRIBE_CONFIGS, 4, {"resources": [_resource("configured", [])]})
    s.ask("not one", ApiKey.DESCRIBE_CONFIGS, 4, {"resources": []})
    for name in ("nowhere", "", "a/b"):
        s.ask(f"topic {name!r}", ApiKey.DESCRIBE_CONFIGS, 4, {"resources": [_resource(name)]})
    for kind in (0, 1, 3, 7, 99):
        s.ask(f"kind {kind}", ApiKey.DESCRIBE_CONFIGS, 4, {"resources": [_resource("x", None, kind)]})
    twice = [_resource("configured", ["retention.ms"])] * 2
    s.ask("twice in a request", ApiKey.DESCRIBE_CONFIGS, 4, {"resources": twice})


@scenario
def describe_broker_configs(s: Session) -> None:
    node = str(s.wait_until(ApiKey.METADATA, 12, {"topics": []}, lambda answer: answer.brokers).brokers[0].node_id)
    keys = [
        *("num.partitions", "default.replication.factor", "auto.create.topics.enable", "log.retention.ms"),
        *("log.retention.hours", "message.max.bytes", "offsets.topic.num.partitions", "min.insync.replicas"),
    ]
    answer = s.ask("", ApiKey.DESCRIBE_CONFIGS, 4, {"resources": [_resource(node, keys, BROKER)]}, unrecorded=True)
    found = {config.name: config.value for config in answer.results[0].configs}
    s.note("some of the broker's", {name: found.get(name, "(absent)") for name in keys})
    for name in ("9999", "word", "-1"):
        s.ask(
            f"broker {name!r}", ApiKey.DESCRIBE_CONFIGS, 4, {"resources": [_resource(name, ["num.partitions"], BROKER)]}
        )


def _alteration(name: str, changes: list[tuple[str, int, str | None]], kind: int = TOPIC) -> dict[str, Any]:
    configs = [{"name": key, "config_operation": operation, "value": value} for key, operation, value in changes]
    return {"resource_type": kind, "resource_name": name, "configs": configs}


@scenario
def incremental_alter_configs(s: Session) -> None:
    for version in versions(ApiKey.INCREMENTAL_ALTER_CONFIGS):
        name = f"altered-v{version}"
        create(s, name, retention_ms="1000")

        def alter(label: str, *changes: Any, topic: str = name, v: int = version, **more: Any) -> Any:
            body = {"resources": [_alteration(topic, list(changes))], **more}
            return s.ask(label, ApiKey.INCREMENTAL_ALTER_CONFIGS, v, body)

        alter("only checked", ("retention.ms", SET, "2000"), validate_only=True)
        alter("set", ("retention.ms", SET, "3000"), ("segment.bytes", SET, "2097152"))
        s.wait_until(ApiKey.DESCRIBE_CONFIGS, 4, {"resources": [_resource(name, ["retention.ms"])]},
                     lambda answer: answer.results[0].configs[0].value == "3000")  # fmt: skip
        _seen(s, "seen", name, "retention.ms", "segment.bytes")
        alter("deleted", ("retention.ms", DELETE, None))
        s.wait_until(ApiKey.DESCRIBE_CONFIGS, 4, {"resources": [_resource(name, ["retention.ms"])]},
                     lambda answer: answer.results[0].configs[0].value != "3000")  # fmt: skip
        _seen(s, "seen then", name, "retention.ms", "segment.bytes")
        alter("delete what isn't set", ("flush.ms", DELETE, None))
        alter("delete what isn't", ("no.such.config", DELETE, None))
        alter("set what isn't", ("no.such.config", SET, "1"))
        alter("not a number", ("retention.ms", SET, "soon"))
        alter("out of range", ("segment.bytes", SET, "1"))
        alter("null", ("retention.ms", SET, None))
        alter("operation 9", ("retention.ms", 9, "1"))
        alter("append to a list", ("cleanup.policy", APPEND, "delete"))
        alter("append to a number", ("retention.ms", APPEND, "5"))
        alter("subtract from a list", ("cleanup.policy", SUBTRACT, "compact"))
        alter("subtract the last", ("cleanup.policy", SUBTRACT, "delete"))
        s.wait_until(ApiKey.DESCRIBE_CONFIGS, 4, {"resources": [_resource(name, ["cleanup.policy"])]},
                     lambda answer: not answer.results[0].configs[0].value)  # fmt: skip
        _seen(s, "no policy is left", name, "cleanup.policy")
        alter("one key twice", ("retention.ms", SET, "1"), ("retention.ms", SET, "2"))
        alter("no change")
        alter("unknown topic", ("retention.ms", SET, "1"), topic="nowhere")
        alter("no name", ("retention.ms", SET, "1"), topic="")
        alter("a bad name", ("retention.ms", SET, "1"), topic="a/b")
        alter("good and bad together", ("retention.ms", SET, "7000"), ("segment.bytes", SET, "x"))
        _seen(s, "nothing of it was done", name, "retention.ms")
    top = latest(ApiKey.INCREMENTAL_ALTER_CONFIGS)
    s.ask("not one", ApiKey.INCREMENTAL_ALTER_CONFIGS, top, {"resources": []})
    twice = [
        _alteration("altered-v0", [("retention.ms", SET, "1")]),
        _alteration("altered-v0", [("flush.ms", SET, "1")]),
    ]
    s.ask("one topic twice", ApiKey.INCREMENTAL_ALTER_CONFIGS, top, {"resources": twice})
    for kind in (0, 1, 99):
        body = {"resources": [_alteration("x", [("a", SET, "b")], kind)]}
        s.ask(f"kind {kind}", ApiKey.INCREMENTAL_ALTER_CONFIGS, top, body)


@scenario
def alter_configs(s: Session) -> None:
    """The old form: what is not named falls back to its default."""
    for version in versions(ApiKey.ALTER_CONFIGS):
        name = f"replaced-v{version}"
        create(s, name, retention_ms="1000", segment_bytes="2097152")

        def alter(label: str, configs: dict[str, str | None], topic: str = name, v: int = version, **more: Any) -> None:
            items = [{"name": key, "value": value} for key, value in configs.items()]
            resource = {"resource_type": TOPIC, "resource_name": topic, "configs": items}
            s.ask(label, ApiKey.ALTER_CONFIGS, v, {"resources": [resource], **more})

        alter("only checked", {"retention.ms": "2000"}, validate_only=True)
        alter("replaced", {"retention.ms": "3000"})
        s.wait_until(ApiKey.DESCRIBE_CONFIGS, 4, {"resources": [_resource(name, ["retention.ms"])]},
                     lambda answer: answer.results[0].configs[0].value == "3000")  # fmt: skip
        _seen(s, "seen", name, "retention.ms", "segment.bytes")
        alter("no such", {"no.such.config": "1"})
        alter("not a number", {"retention.ms": "soon"})
        alter("null", {"retention.ms": None})
        alter("unknown topic", {"retention.ms": "1"}, topic="nowhere")
        alter("nothing named", {})
        s.wait_until(ApiKey.DESCRIBE_CONFIGS, 4, {"resources": [_resource(name, ["retention.ms"])]},
                     lambda answer: answer.results[0].configs[0].value != "3000")  # fmt: skip
        _seen(s, "all default", name, "retention.ms", "segment.bytes")
        s.ask("not one", ApiKey.ALTER_CONFIGS, version, {"resources": []})
