"""Fetch without sessions: every version, offsets at the edges, byte limits, waiting."""

from __future__ import annotations

import time
from typing import Any

from chronik.wire.apis import ApiKey
from tests.differential.batches import Batch
from tests.differential.scenarios import append, create, latest, produce_body, scenario, versions
from tests.differential.session import Session


def fetch_body(name: str, offset: int, topic_id: bytes = bytes(16), partition: int = 0, **more: Any) -> dict[str, Any]:
    """A Fetch request of one partition; `more` goes to the request or, with the prefix `p_`, to the partition."""
    inner = {key[2:]: value for key, value in more.items() if key.startswith("p_")}
    outer = {key: value for key, value in more.items() if not key.startswith("p_")}
    asked = {"partition": partition, "fetch_offset": offset, "partition_max_bytes": 1 << 20, **inner}
    topics = [{"topic": name, "topic_id": topic_id, "partitions": [asked]}]
    return {"max_wait_ms": 0, "min_bytes": 0, "max_bytes": 1 << 20, "topics": topics, **outer}


@scenario
def fetch_by_version(s: Session) -> None:
    topic_id = create(s, "fetched", 2)
    append(s, "fetched", Batch([b"a", b"b"]), Batch([b"c"]), Batch([b"d", b"e", b"f"]))
    for version in versions(ApiKey.FETCH):
        for offset in (0, 1, 3, 5, 6, 7, -1):
            s.ask(f"offset {offset}", ApiKey.FETCH, version, fetch_body("fetched", offset, topic_id))
        s.ask("partition 1", ApiKey.FETCH, version, fetch_body("fetched", 0, topic_id, 1))
        s.ask("partition 9", ApiKey.FETCH, version, fetch_body("fetched", 0, topic_id, 9))
        s.ask("unknown topic", ApiKey.FETCH, version, fetch_body("nowhere", 0, b"\x05" * 16))
        s.ask("committed", ApiKey.FETCH, version, fetch_body("fetched", 0, topic_id, isolation_level=1))
        s.ask("not one topic", ApiKey.FETCH, version, {"max_wait_ms": 0, "min_bytes": 0, "topics": []})


@scenario
def fetch_limits(s: Session) -> None:
    create(s, "limited", 2)
    append(s, "limited", *(Batch([b"%03d" % n * 40]) for n in range(5)))
    append(s, "limited", *(Batch([b"other" * 20]) for _ in range(3)), partition=1)
    size = len(Batch([b"000" * 40]).encode())
    for limit in (0, 1, size - 1, size, size + 1, 2 * size, 2 * size + 30, 1 << 30, -1):
        s.ask(
            f"partition limit {limit - size:+}", ApiKey.FETCH, 11, fetch_body("limited", 0, p_partition_max_bytes=limit)
        )
        s.ask(f"limit {limit - size:+}", ApiKey.FETCH, 11, fetch_body("limited", 0, max_bytes=limit))
    both = [{"partition": index, "fetch_offset": 0, "partition_max_bytes": size} for index in (0, 1)]
    for limit in (0, 1, size, 2 * size, 10 * size):
        topics = [{"topic": "limited", "partitions": both}]
        body = {"max_wait_ms": 0, "min_bytes": 0, "max_bytes": limit, "topics": topics}
        s.ask(f"two partitions, limit {limit - size:+}", ApiKey.FETCH, 11, body)
    twice = [{"topic": "limited", "partitions": [both[0], both[0]]}]
    s.ask("one partition twice", ApiKey.FETCH, 11, {"max_wait_ms": 0, "min_bytes": 0, "topics": twice})


@scenario
def fetch_waits(s: Session) -> None:
    create(s, "waited")
    append(s, "waited", Batch([b"first"]))
    begun = time.monotonic()
    s.ask("nothing comes", ApiKey.FETCH, 11, fetch_body("waited", 1, max_wait_ms=300, min_bytes=1))
    waited = time.monotonic() - begun
    s.note("it waited its time", {"between": 0.25 <= waited < 1.5})
    pending = s.begin(
        "something comes", ApiKey.FETCH, 11, fetch_body("waited", 1, max_wait_ms=5000, min_bytes=1), "waiting"
    )
    time.sleep(0.1)
    begun = time.monotonic()
    s.ask("produced", ApiKey.PRODUCE, 9, produce_body("waited", Batch([b"second"]).encode()))
    s.read(pending)
    s.note("it came at once", {"soon": time.monotonic() - begun < 2})
    begun = time.monotonic()
    s.ask("error ends the wait", ApiKey.FETCH, 11, fetch_body("waited", 99, max_wait_ms=4000, min_bytes=1))
    s.ask("too little there", ApiKey.FETCH, 11, fetch_body("waited", 0, max_wait_ms=200, min_bytes=100_000))
    s.note("soon", {"soon": time.monotonic() - begun < 2})


@scenario
def fetch_epochs(s: Session) -> None:
    topic_id = create(s, "epochs")
    append(s, "epochs", Batch([b"a"]), Batch([b"b"]))
    for epoch in (-1, 0, 1, 99, -2):
        body = fetch_body("epochs", 0, topic_id, p_current_leader_epoch=epoch)
        s.ask(f"current epoch {epoch}", ApiKey.FETCH, 12, body)
        s.ask(f"current epoch {epoch}", ApiKey.FETCH, latest(ApiKey.FETCH), body)
    for epoch in (0, 1, 99):
        body = fetch_body("epochs", 1, topic_id, p_last_fetched_epoch=epoch)
        s.ask(f"last fetched epoch {epoch}", ApiKey.FETCH, 12, body)
    s.ask("as replica 42", ApiKey.FETCH, 12, fetch_body("epochs", 0, topic_id, replica_id=42))
    s.ask("as the debugging replica", ApiKey.FETCH, 12, fetch_body("epochs", 0, topic_id, replica_id=-2))
    wrong = fetch_body("epochs", 0, topic_id, cluster_id="another-cluster")
    s.ask("another cluster's id", ApiKey.FETCH, 12, wrong)
    s.ask("isolation 2", ApiKey.FETCH, 12, fetch_body("epochs", 0, topic_id, isolation_level=2))
    zero = fetch_body("epochs", 0, bytes(16))
    s.ask("zero topic id", ApiKey.FETCH, 13, zero)


@scenario
def fetch_old_zstd(s: Session) -> None:
    import cramjam

    from tests.differential.batches import record

    create(s, "zstd-fetched")
    payload = bytes(cramjam.zstd.compress(record(b"v", 0)))
    append(s, "zstd-fetched", Batch([b"v"], attributes=4, payload=payload))
    for version in (9, 10):
        s.ask("zstd", ApiKey.FETCH, version, fetch_body("zstd-fetched", 0))


@scenario
def delete_records_and_fetch(s: Session) -> None:
    for version in versions(ApiKey.DELETE_RECORDS):
        name = f"trimmed-v{version}"
        create(s, name, 2)
        append(s, name, *(Batch([b"x", b"y"]) for _ in range(4)))

        def trim(label: str, offset: int, partition: int = 0, topic: str = name, v: int = version) -> None:
            topics = [{"name": topic, "partitions": [{"partition_index": partition, "offset": offset}]}]
            s.ask(label, ApiKey.DELETE_RECORDS, v, {"topics": topics, "timeout_ms": 5000})

        trim("to 3", 3)
        trim("to 2, behind", 2)
        trim("to 9, beyond", 9)
        trim("to -2", -2)
        trim("partition 7", 1, 7)
        trim("of nothing", 1, 0, "nowhere")
        for offset in (0, 2, 3, 4, 8):
            s.ask(f"fetched at {offset}", ApiKey.FETCH, 11, fetch_body(name, offset))
        trim("to the end", -1)
        trim("empty partition", -1, 1)
        s.ask("fetched at the end", ApiKey.FETCH, 11, fetch_body(name, 8))
        s.ask("not one", ApiKey.DELETE_RECORDS, version, {"topics": [], "timeout_ms": 5000})
