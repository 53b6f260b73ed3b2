"""Elections, reassignments, config resources and the quorum, of a cluster of one node."""

from __future__ import annotations

from typing import Any

from chronik.wire.apis import ApiKey
from tests.differential.scenarios import create, scenario, versions
from tests.differential.session import Session


def _node(s: Session) -> int:
    answer = s.wait_until(ApiKey.METADATA, 12, {"topics": []}, lambda answer: answer.brokers)
    node: int = answer.brokers[0].node_id
    return node


@scenario
def elections(s: Session) -> None:
    create(s, "elected", 2)
    named = [{"topic": "elected", "partitions": [0, 1, 2, -1]}, {"topic": "elected-not", "partitions": [0]}]
    for version in versions(ApiKey.ELECT_LEADERS):
        s.ask("preferred", ApiKey.ELECT_LEADERS, version, {"election_type": 0, "topic_partitions": named})
    s.ask("unclean", ApiKey.ELECT_LEADERS, 2, {"election_type": 1, "topic_partitions": named})
    s.ask("none", ApiKey.ELECT_LEADERS, 2, {"election_type": 0, "topic_partitions": []})
    for version in (0, 1, 2):
        body: dict[str, Any] = (
            {"topic_partitions": named} if version == 0 else {"election_type": 9, "topic_partitions": named}
        )
        s.ask("type 9", ApiKey.ELECT_LEADERS, version, body)


@scenario
def reassignments(s: Session) -> None:
    create(s, "moved", 2)
    node = _node(s)

    def move(label: str, replicas: list[int] | None, topic: str = "moved", partition: int = 0, **more: Any) -> None:
        partitions = [{"partition_index": partition, "replicas": replicas}]
        body = {"topics": [{"name": topic, "partitions": partitions}], **more}
        s.ask(label, ApiKey.ALTER_PARTITION_REASSIGNMENTS, 1, body)

    for version in versions(ApiKey.ALTER_PARTITION_REASSIGNMENTS):
        partitions = [{"partition_index": 0, "replicas": [node]}]
        body = {"topics": [{"name": "moved", "partitions": partitions}]}
        s.ask("to where it is", ApiKey.ALTER_PARTITION_REASSIGNMENTS, version, body)
    move("cancel", None)
    move("unknown topic", [node], "moved-not")
    move("unknown partition", [node], partition=7)
    move("to nowhere", [])
    move("to an unknown broker", [9999])
    move("twice to one", [node, node])
    move("more replicas", [node, 9999], allow_replication_factor_change=False)
    s.ask("nothing", ApiKey.ALTER_PARTITION_REASSIGNMENTS, 1, {"topics": []})
    s.ask("all that move", ApiKey.LIST_PARTITION_REASSIGNMENTS, 0, {"topics": None})
    for name, indexes in (("moved", [0, 7]), ("moved-not", [0])):
        topics = [{"name": name, "partition_indexes": indexes}]
        s.ask(f"what moves of {name}", ApiKey.LIST_PARTITION_REASSIGNMENTS, 0, {"topics": topics})
    s.ask("of nothing", ApiKey.LIST_PARTITION_REASSIGNMENTS, 0, {"topics": []})


@scenario
def config_resources(s: Session) -> None:
    s.ask("client metrics", ApiKey.LIST_CONFIG_RESOURCES, 0, {})
    for kinds in ([4], [8], [16], [32], [3], [0], [4, 4]):
        s.ask(f"kinds {kinds}", ApiKey.LIST_CONFIG_RESOURCES, 1, {"resource_types": kinds})


@scenario
def metadata_quorum(s: Session) -> None:
    def asked(topic: str, *partitions: int) -> dict[str, Any]:
        return {"topics": [{"topic_name": topic, "partitions": [{"partition_index": index} for index in partitions]}]}

    for version in versions(ApiKey.DESCRIBE_QUORUM):
        s.ask("of the metadata", ApiKey.DESCRIBE_QUORUM, version, asked("__cluster_metadata", 0))
    s.ask("of another topic", ApiKey.DESCRIBE_QUORUM, 2, asked("elected", 0))
    s.ask("of another partition", ApiKey.DESCRIBE_QUORUM, 2, asked("__cluster_metadata", 1))
    s.ask("of two", ApiKey.DESCRIBE_QUORUM, 2, asked("__cluster_metadata", 0, 1))
    s.ask("of nothing", ApiKey.DESCRIBE_QUORUM, 2, {"topics": []})
