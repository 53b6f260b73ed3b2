"""ListOffsets and OffsetForLeaderEpoch."""

from __future__ import annotations

import gzip

from chronik.wire.apis import ApiKey
from tests.differential.batches import TIME, Batch, record
from tests.differential.scenarios import append, create, latest, scenario, versions
from tests.differential.session import Session


def _ask(s: Session, label: str, version: int, name: str, timestamp: int, partition: int = 0, **more: int) -> None:
    asked = {"partition_index": partition, "timestamp": timestamp}
    if "epoch" in more:
        asked["current_leader_epoch"] = more.pop("epoch")
    body = {"replica_id": -1, "topics": [{"name": name, "partitions": [asked]}], **more}
    s.ask(label, ApiKey.LIST_OFFSETS, version, body)


@scenario
def list_offsets(s: Session) -> None:
    create(s, "listed", 2)
    append(
        s,
        "listed",
        Batch([b"a", b"b"], base_time=TIME, time_step=10),
        Batch([b"c"], base_time=TIME + 500),
        Batch([b"d", b"e", b"f"], base_time=TIME + 100, time_step=100),
        Batch([b"g", b"h"], base_time=TIME + 900, time_step=5, attributes=1),
    )
    for version in versions(ApiKey.LIST_OFFSETS):
        for stamp in (-1, -2, 0, TIME + 10, TIME + 905, TIME + 100_000):
            _ask(s, f"at {stamp - TIME if stamp > 0 else stamp}", version, "listed", stamp)
        _ask(s, "empty partition, -1", version, "listed", -1, 1)
        _ask(s, "partition 9", version, "listed", -1, 9)
        _ask(s, "unknown topic", version, "nowhere", -1)
        s.ask("not one topic", ApiKey.LIST_OFFSETS, version, {"replica_id": -1, "topics": []})
    top = latest(ApiKey.LIST_OFFSETS)
    for delta in (-1, 0, 1, 5, 9, 11, 99, 100, 101, 300, 301, 499, 501, 900, 901, 906):
        _ask(s, f"at {delta:+}", top, "listed", TIME + delta)
    for special in (-3, -4, -5, -6, -7):
        for version in (6, 7, 8, 9, 10):
            _ask(s, f"special {special}", version, "listed", special)
            _ask(s, f"special {special}, empty", version, "listed", special, 1)


@scenario
def list_offsets_isolation(s: Session) -> None:
    create(s, "listed-isolated")
    append(s, "listed-isolated", Batch([b"a"]))
    for level in (0, 1, 2):
        _ask(s, f"isolation {level}", 6, "listed-isolated", -1, isolation_level=level)
    for epoch in (-1, 0, 1, 99):
        _ask(s, f"epoch {epoch}", 6, "listed-isolated", -1, epoch=epoch)
    _ask(s, "as the debugging replica", 6, "listed-isolated", -1, replica_id=-2)
    _ask(s, "as replica 42", 6, "listed-isolated", -1, replica_id=42)
    asked = {"partition_index": 0, "timestamp": -1}
    twice = [{"name": "listed-isolated", "partitions": [asked, asked]}]
    s.ask("one partition twice", ApiKey.LIST_OFFSETS, 6, {"replica_id": -1, "topics": twice})


@scenario
def list_offsets_after_trimming(s: Session) -> None:
    create(s, "listed-trimmed")
    append(s, "listed-trimmed", *(Batch([b"x", b"y"], base_time=TIME + n * 100, time_step=10) for n in range(4)))
    topics = [{"name": "listed-trimmed", "partitions": [{"partition_index": 0, "offset": 3}]}]
    s.ask("trimmed to 3", ApiKey.DELETE_RECORDS, 2, {"topics": topics, "timeout_ms": 5000})
    for stamp in (-1, -2, -3, TIME, TIME + 105, TIME + 110, TIME + 111):
        _ask(s, f"at {stamp - TIME if stamp > 0 else stamp}", 8, "listed-trimmed", stamp)


@scenario
def list_offsets_append_time(s: Session) -> None:
    create(s, "listed-append-time", message_timestamp_type="LogAppendTime")
    append(s, "listed-append-time", Batch([b"a", b"b"], base_time=TIME, time_step=10))
    packed = gzip.compress(record(b"a", 0) + record(b"b", 1, time_delta=3), mtime=0)
    append(s, "listed-append-time", Batch([b"a", b"b"], attributes=1, payload=packed, time_step=3))
    body = {
        "replica_id": -1,
        "topics": [{"name": "listed-append-time", "partitions": [{"partition_index": 0, "timestamp": TIME}]}],
    }
    answer = s.ask("", ApiKey.LIST_OFFSETS, 7, body, unrecorded=True)
    found = answer.topics[0].partitions[0]
    s.note("the first record at or after", {"offset": found.offset, "later": found.timestamp > TIME})


@scenario
def list_offsets_many_batches(s: Session) -> None:
    """More than one index entry's worth."""
    create(s, "listed-many", segment_bytes="1048576", index_interval_bytes="512")
    append(s, "listed-many", *(Batch([b"x" * 100] * 3, base_time=TIME + n * 1000, time_step=100) for n in range(60)))
    for delta in (0, 1, 100, 101, 201, 30_000, 30_150, 30_201, 59_200, 59_201):
        _ask(s, f"at {delta:+}", 7, "listed-many", TIME + delta)


@scenario
def offset_for_leader_epoch(s: Session) -> None:
    create(s, "epoch-ends", 2)
    append(s, "epoch-ends", Batch([b"a", b"b"]))
    for version in versions(ApiKey.OFFSET_FOR_LEADER_EPOCH):
        for epoch in (0, 1, -1, 99):
            partitions = [{"partition": index, "leader_epoch": epoch, "current_leader_epoch": -1} for index in (0, 1)]
            body = {"replica_id": -1, "topics": [{"topic": "epoch-ends", "partitions": partitions}]}
            s.ask(f"epoch {epoch}", ApiKey.OFFSET_FOR_LEADER_EPOCH, version, body)
        for current in (0, 1, 99):
            partitions = [{"partition": 0, "leader_epoch": 0, "current_leader_epoch": current}]
            body = {"replica_id": -1, "topics": [{"topic": "epoch-ends", "partitions": partitions}]}
            s.ask(f"current epoch {current}", ApiKey.OFFSET_FOR_LEADER_EPOCH, version, body)
        for name, index in (("epoch-ends", 8), ("nowhere", 0)):
            partitions = [{"partition": index, "leader_epoch": 0}]
            s.ask(f"{name} {index}", ApiKey.OFFSET_FOR_LEADER_EPOCH, version,
                  {"replica_id": -1, "topics": [{"topic": name, "partitions": partitions}]})  # fmt: skip
        s.ask("not one", ApiKey.OFFSET_FOR_LEADER_EPOCH, version, {"replica_id": -1, "topics": []})
