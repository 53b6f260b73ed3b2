"""Log directories and producers, as operators see them."""

from __future__ import annotations

from chronik.wire.apis import ApiKey
from tests.differential.batches import Batch
from tests.differential.scenarios import append, create, scenario, versions
from tests.differential.session import Session


@scenario
def describe_log_dirs(s: Session) -> None:
    create(s, "sized", 2)
    append(s, "sized", Batch([b"x" * 100]), Batch([b"y" * 50]))
    for version in versions(ApiKey.DESCRIBE_LOG_DIRS):
        topics = [{"topic": "sized", "partitions": [0, 1]}]
        s.ask("one topic", ApiKey.DESCRIBE_LOG_DIRS, version, {"topics": topics})
        s.ask("one partition", ApiKey.DESCRIBE_LOG_DIRS, version, {"topics": [{"topic": "sized", "partitions": [1]}]})
        unknown = [{"topic": "nowhere", "partitions": [0]}, {"topic": "sized", "partitions": [44]}]
        s.ask("unknown ones", ApiKey.DESCRIBE_LOG_DIRS, version, {"topics": unknown})
        s.ask("not one", ApiKey.DESCRIBE_LOG_DIRS, version, {"topics": []})


@scenario
def alter_replica_log_dirs(s: Session) -> None:
    create(s, "staying", 2)
    for version in versions(ApiKey.ALTER_REPLICA_LOG_DIRS):
        topics = [{"name": "staying", "partitions": [0, 7]}, {"name": "nowhere", "partitions": [0]}]
        s.ask(
            "no such directory", ApiKey.ALTER_REPLICA_LOG_DIRS, version, {"dirs": [{"path": "/no", "topics": topics}]}
        )
        s.ask("nothing", ApiKey.ALTER_REPLICA_LOG_DIRS, version, {"dirs": []})


@scenario
def describe_producers(s: Session) -> None:
    create(s, "with-producers", 2)
    for producer in (7_000_001, 7_000_002):
        append(s, "with-producers", Batch([b"a", b"b"], producer_id=producer, producer_epoch=3, base_sequence=0))
    topics = [{"name": "with-producers", "partition_indexes": [0, 1]}]
    s.ask("two and none", ApiKey.DESCRIBE_PRODUCERS, 0, {"topics": topics})
    bad = [{"name": "a/b", "partition_indexes": [0]}, {"name": "with-producers", "partition_indexes": [-1]}]
    s.ask("bad ones", ApiKey.DESCRIBE_PRODUCERS, 0, {"topics": bad})
    s.ask(
        "no partitions", ApiKey.DESCRIBE_PRODUCERS, 0, {"topics": [{"name": "with-producers", "partition_indexes": []}]}
    )
