"""The script: scenarios, each a function that drives one `Session`, run in the order of `modules` and of their definition.

To extend it, write another function with `@scenario` (or another module, named below). A scenario uses topics and groups of
its own name, waits with `Session.wait_until` for what a broker applies in its own time, and takes nothing from chance.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from chronik.wire.apis import ApiKey
from tests.differential.session import Session

Scenario = Callable[[Session], None]

_modules = ("served", "topics", "produce", "idempotence", "fetch", "fetch_sessions", "offsets", "groups", "group_offsets",
            "consumer_groups", "transactions", "transaction_offsets", "transaction_views", "configs", "admin", "quotas",
            "cluster", "share_groups", "features")  # fmt: skip
_found: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    """Put `function` into the script under its own name."""
    if function.__name__ in _found:
        raise ValueError(f"two scenarios are named {function.__name__}")
    _found[function.__name__] = function
    return function


def all_scenarios() -> dict[str, Scenario]:
    """Every scenario by name, in order, whoever has imported a module of them before."""
    modules = [import_module(f"tests.differential.scenarios.{name}").__name__ for name in _modules]
    return dict(sorted(_found.items(), key=lambda item: modules.index(item[1].__module__)))


# -- what many scenarios need --------------------------------------------------------------------------------------------

VERSIONS = {
    ApiKey.PRODUCE: (3, 13),
    ApiKey.FETCH: (4, 18),
    ApiKey.LIST_OFFSETS: (1, 10),
    ApiKey.METADATA: (0, 13),
    ApiKey.OFFSET_COMMIT: (2, 9),
    ApiKey.OFFSET_FETCH: (1, 9),
    ApiKey.FIND_COORDINATOR: (0, 6),
    ApiKey.JOIN_GROUP: (0, 9),
    ApiKey.HEARTBEAT: (0, 4),
    ApiKey.LEAVE_GROUP: (0, 5),
    ApiKey.SYNC_GROUP: (0, 5),
    ApiKey.DESCRIBE_GROUPS: (0, 6),
    ApiKey.LIST_GROUPS: (0, 5),
    ApiKey.API_VERSIONS: (0, 4),
    ApiKey.CREATE_TOPICS: (2, 7),
    ApiKey.DELETE_TOPICS: (1, 6),
    ApiKey.DELETE_RECORDS: (0, 2),
    ApiKey.INIT_PRODUCER_ID: (0, 5),
    ApiKey.OFFSET_FOR_LEADER_EPOCH: (2, 4),
    ApiKey.ADD_PARTITIONS_TO_TXN: (0, 5),
    ApiKey.ADD_OFFSETS_TO_TXN: (0, 4),
    ApiKey.END_TXN: (0, 5),
    ApiKey.WRITE_TXN_MARKERS: (1, 1),
    ApiKey.TXN_OFFSET_COMMIT: (0, 5),
    ApiKey.DESCRIBE_CONFIGS: (1, 4),
    ApiKey.ALTER_CONFIGS: (0, 2),
    ApiKey.ALTER_REPLICA_LOG_DIRS: (1, 2),
    ApiKey.DESCRIBE_LOG_DIRS: (1, 4),
    ApiKey.CREATE_PARTITIONS: (0, 3),
    ApiKey.DELETE_GROUPS: (0, 2),
    ApiKey.INCREMENTAL_ALTER_CONFIGS: (0, 1),
    ApiKey.OFFSET_DELETE: (0, 0),
    ApiKey.ELECT_LEADERS: (0, 2),
    ApiKey.ALTER_PARTITION_REASSIGNMENTS: (0, 1),
    ApiKey.LIST_PARTITION_REASSIGNMENTS: (0, 0),
    ApiKey.DESCRIBE_CLIENT_QUOTAS: (0, 1),
    ApiKey.ALTER_CLIENT_QUOTAS: (0, 1),
    ApiKey.DESCRIBE_QUORUM: (0, 2),
    ApiKey.UPDATE_FEATURES: (0, 2),
    ApiKey.LIST_CONFIG_RESOURCES: (0, 1),
    ApiKey.DESCRIBE_CLUSTER: (0, 2),
    ApiKey.DESCRIBE_PRODUCERS: (0, 0),
    ApiKey.DESCRIBE_TRANSACTIONS: (0, 0),
    ApiKey.LIST_TRANSACTIONS: (0, 2),
    ApiKey.CONSUMER_GROUP_HEARTBEAT: (0, 1),
    ApiKey.CONSUMER_GROUP_DESCRIBE: (0, 1),
    ApiKey.DESCRIBE_TOPIC_PARTITIONS: (0, 0),
    ApiKey.SHARE_GROUP_HEARTBEAT: (1, 1),
    ApiKey.SHARE_GROUP_DESCRIBE: (1, 1),
    ApiKey.SHARE_FETCH: (1, 1),
    ApiKey.SHARE_ACKNOWLEDGE: (1, 1),
    ApiKey.INITIALIZE_SHARE_GROUP_STATE: (0, 0),
    ApiKey.READ_SHARE_GROUP_STATE: (0, 0),
    ApiKey.WRITE_SHARE_GROUP_STATE: (0, 0),
    ApiKey.DELETE_SHARE_GROUP_STATE: (0, 0),
    ApiKey.READ_SHARE_GROUP_STATE_SUMMARY: (0, 0),
    ApiKey.DESCRIBE_SHARE_GROUP_OFFSETS: (0, 0),
    ApiKey.ALTER_SHARE_GROUP_OFFSETS: (0, 0),
    ApiKey.DELETE_SHARE_GROUP_OFFSETS: (0, 0),
}
"""The APIs of this release with the versions that work: what the version sweeps go through."""


def versions(key: ApiKey) -> range:
    """All versions of an API that work."""
    low, high = VERSIONS[key]
    return range(low, high + 1)


def latest(key: ApiKey) -> int:
    """The highest version of an API that works."""
    return VERSIONS[key][1]


def create(s: Session, name: str, partitions: int = 1, **configs: str) -> bytes:
    """Create a topic (unrecorded), wait until it has leaders, return its id."""
    settings = [{"name": key.replace("_", "."), "value": value} for key, value in configs.items()]
    topic = {"name": name, "num_partitions": partitions, "replication_factor": 1, "configs": settings}
    answer = s.ask("", ApiKey.CREATE_TOPICS, 7, {"topics": [topic]}, unrecorded=True)
    if answer is None or answer.topics[0].error_code:
        raise AssertionError(f"topic {name} was not created: {answer!r}")
    return wait_for_topic(s, name, partitions)


def wait_for_topic(s: Session, name: str, partitions: int = 1) -> bytes:
    """Wait until `name` has so many partitions, whose leaders serve them (Metadata may know them before that); its id."""

    def settled(answer: Any) -> bool:
        (topic,) = answer.topics
        ready = [p for p in topic.partitions if not p.error_code and p.leader_id >= 0]
        return not topic.error_code and len(ready) == partitions

    request = {"topics": [{"name": name}], "allow_auto_topic_creation": False}
    topic_id: bytes = s.wait_until(ApiKey.METADATA, 12, request, settled).topics[0].topic_id
    ends = [{"partition_index": index, "timestamp": -1} for index in range(partitions)]
    s.wait_until(
        ApiKey.LIST_OFFSETS,
        6,
        {"replica_id": -1, "topics": [{"name": name, "partitions": ends}]},
        lambda answer: not any(p.error_code for p in answer.topics[0].partitions),
    )
    return topic_id


def wait_until_gone(s: Session, name: str) -> None:
    """Wait until `name` is unknown."""
    request = {"topics": [{"name": name}], "allow_auto_topic_creation": False}
    s.wait_until(ApiKey.METADATA, 12, request, lambda answer: answer.topics[0].error_code == 3)


def produce_body(
    name: str, records: bytes | None, partition: int = 0, topic_id: bytes = bytes(16), acks: int = -1
) -> dict[str, Any]:
    """A Produce request of one partition, good for every version when `topic_id` is given too."""
    data = [{"index": partition, "records": records}]
    return {
        "acks": acks,
        "timeout_ms": 5000,
        "topic_data": [{"name": name, "topic_id": topic_id, "partition_data": data}],
    }


def append(s: Session, name: str, *batches: Any, partition: int = 0) -> None:
    """Produce batches one by one, unrecorded; all must succeed."""
    for batch in batches:
        body = produce_body(name, batch.encode(), partition)
        answer = s.ask("", ApiKey.PRODUCE, 9, body, unrecorded=True)
        if answer is None or answer.responses[0].partition_responses[0].error_code:
            raise AssertionError(f"produce to {name} failed: {answer!r}")


def coordinate(s: Session, group: str) -> None:
    """Wait until the coordinator of `group` is loaded."""
    request = {"coordinator_keys": [group], "key_type": 0}
    s.wait_until(ApiKey.FIND_COORDINATOR, 4, request, lambda answer: not answer.coordinators[0].error_code)
    fetch = {"groups": [{"group_id": group, "topics": None}]}
    s.wait_until(ApiKey.OFFSET_FETCH, 8, fetch, lambda answer: not answer.groups[0].error_code)
