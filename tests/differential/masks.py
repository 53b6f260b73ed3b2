"""What may differ between two correct brokers is replaced: identifiers by ordinals, times, addresses and texts by their kind.

An identifier keeps its identity inside one scenario: the second distinct member id is always `<member-2>`, so a leader that
is the joining member still compares equal to it. Zero, empty and negative values mean "none" and stay as they are.
"""

from __future__ import annotations

import json
import re
from typing import Any

from chronik.wire.messages import describe_quorum
from chronik.wire.messages.describe_transactions import TransactionState
from chronik.wire.schema import Struct
from tests.differential import batches

_NAMED = {
    "topic_id": "topic",
    "next_topic_id": "topic",
    "member_id": "member",
    "leader": "member",
    "producer_id": "producer",
    "session_id": "session",
    "cluster_id": "cluster",
    "node_id": "node",
    "broker_id": "node",
    "leader_id": "node",
    "controller_id": "node",
    "replica_id": "node",
    "replica_nodes": "node",
    "isr_nodes": "node",
    "offline_replicas": "node",
    "eligible_leader_replicas": "node",
    "last_known_elr": "node",
}
_REPLACED = {
    "error_message": "<text>",
    "batch_index_error_message": "<text>",
    "documentation": "<text>",
    "host": "<host>",
    "port": "<port>",
    "rack": "<rack>",
    "log_dir": "<directory>",
    "throttle_time_ms": "<throttle>",
    "total_bytes": "<bytes>",
    "usable_bytes": "<bytes>",
    "finalized_features_epoch": "<epoch>",
    "last_fetch_timestamp": "<time>",
    "last_caught_up_timestamp": "<time>",
    "transaction_start_time_ms": "<time>",
    "replica_directory_id": "<directory id>",
}
_IDENTITY = (
    *(
        "api_key",
        "name",
        "topic",
        "topic_name",
        "topic_id",
        "group_id",
        "transactional_id",
        "key",
        "resource_type",
        "resource_name",
    ),
    *("partition_index", "partition", "index", "node_id", "broker_id", "member_id", "producer_id"),
)
_OF_THE_QUORUM = (describe_quorum.PartitionDataResult, describe_quorum.ReplicaState)
_QUORUMS_OWN = {"leader_epoch", "high_watermark", "log_end_offset"}
"""What counts elections and entries of the metadata log: a slow broker has more of both."""
_SCRIPTS_TIMES = batches.TIME + 1_000_000_000
"""What is later than this is of a broker's clock, in milliseconds since 1970."""
_MEMBER_FORM = re.compile(r"[\w-]{22}$|.*[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", re.DOTALL)


class Masks:
    """The ordinals handed out in one scenario."""

    def __init__(self) -> None:
        self._ordinals: dict[str, dict[Any, str]] = {}

    def _ordinal(self, kind: str, value: Any) -> str:
        known = self._ordinals.setdefault(kind, {})
        return known.setdefault(value, f"<{kind}-{len(known) + 1}>")

    def plain(self, message: Struct) -> dict[str, Any]:
        """`message` as plain values, masked; arrays of structs in the order of their identity, not of arrival."""
        # The producer of an id that is not known is 0, which is nobody's then.
        unmasked = {"producer_id"} if isinstance(message, TransactionState) and message.error_code else ()
        plain = {
            field.name: getattr(message, field.name)
            if field.name in unmasked
            else self._value(field.name, field.kind, getattr(message, field.name))
            for field in message.FIELDS
        }
        if isinstance(message, _OF_THE_QUORUM):
            for name in _QUORUMS_OWN & plain.keys():
                plain[name] = f"<{name}>" if plain[name] > 0 else plain[name]
        return plain

    def _value(self, name: str, kind: str, value: Any) -> Any:
        if value is None:
            return None
        if kind == "records":
            return self._batches(value)
        if isinstance(value, Struct):
            return self.plain(value)
        if isinstance(value, list):
            items = [self._value(name, "", item) for item in value]
            return sorted(_joined(items), key=_order)
        if name in _NAMED:
            return self._identifier(_NAMED[name], value)
        if name in _REPLACED and value not in ("", -1):
            return _REPLACED[name]
        if name == "log_append_time_ms" and value > 0:
            return "<time>"
        if name in ("last_timestamp", "timestamp") and value > _SCRIPTS_TIMES:
            return "<time>"
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value).hex()
        return value

    def _identifier(self, kind: str, value: Any) -> Any:
        if isinstance(value, bytes):
            return self._ordinal(kind, value) if any(value) else "<none>"
        if isinstance(value, str):
            generated = kind != "member" or _MEMBER_FORM.match(value)
            return self._ordinal(kind, value) if value and generated else value
        if kind == "session":
            return self._ordinal(kind, value) if value > 0 else value
        return self._ordinal(kind, value) if value >= 0 else value

    def _batches(self, value: Any) -> Any:
        found: Any = batches.describe(value)
        for batch in found or []:
            if batch.get("producer_id", -1) >= 0:
                batch["producer_id"] = self._ordinal("producer", batch["producer_id"])
            if batch.get("attributes", 0) & 8:  # LogAppendTime: the broker's clock
                batch["max_timestamp"] = "<time>"
            if batch.get("attributes", 0) & 32:  # a marker: the broker's own
                batch["base_timestamp"] = batch["max_timestamp"] = "<time>"
        return found


def _joined(items: list[Any]) -> list[Any]:
    """Topics that come in several pieces, one after the other, are one topic; neighbours given out alike are one range."""
    if all(isinstance(item, dict) and set(item) == {"first_offset", "last_offset", "delivery_count"} for item in items):
        return _ranges(items)
    whole: dict[tuple[Any, Any], dict[str, Any]] = {}
    for item in items:
        if not isinstance(item, dict) or "partitions" not in item or "topic_id" not in item or "topic" not in item:
            return items
        known = whole.setdefault((item["topic"], item["topic_id"]), {**item, "partitions": []})
        known["partitions"] = sorted([*known["partitions"], *item["partitions"]], key=_order)
    return list(whole.values())


def _ranges(items: list[Any]) -> list[Any]:
    found: list[Any] = []
    for item in sorted(items, key=lambda item: int(item["first_offset"])):
        before = found[-1] if found else None
        if before and (before["last_offset"] + 1, before["delivery_count"]) == (
            item["first_offset"],
            item["delivery_count"],
        ):
            before["last_offset"] = item["last_offset"]
        else:
            found.append({**item})
    return found


def _order(item: Any) -> tuple[str, str]:
    if not isinstance(item, dict):
        return (f"{item:020d}" if isinstance(item, int) else str(item), "")
    identity = [
        f"{item[name]:020d}" if isinstance(item[name], int) else str(item[name]) for name in _IDENTITY if name in item
    ]
    return (json.dumps(identity), json.dumps(item, sort_keys=True, default=str))
