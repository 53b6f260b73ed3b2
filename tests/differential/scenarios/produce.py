"""Produce: every version, every acks, and batches that are wrong in one way each."""

from __future__ import annotations

import gzip

import cramjam
import lz4.frame

from chronik.wire.apis import ApiKey
from tests.differential.batches import TIME, Batch, old_message, record
from tests.differential.scenarios import append, create, produce_body, scenario, versions
from tests.differential.session import Session


def _fetch(s: Session, label: str, name: str, offset: int = 0) -> None:
    partitions = [{"partition": 0, "fetch_offset": offset, "partition_max_bytes": 1 << 20}]
    body = {
        "max_wait_ms": 100,
        "min_bytes": 0,
        "max_bytes": 1 << 20,
        "topics": [{"topic": name, "partitions": partitions}],
    }
    s.ask(label, ApiKey.FETCH, 12, body)


@scenario
def produce_by_version(s: Session) -> None:
    topic_id = create(s, "produced", 2)
    for version in versions(ApiKey.PRODUCE):
        good = Batch([b"one", b"two"]).encode()
        for acks in (-1, 1):
            body = produce_body("produced", good, topic_id=topic_id, acks=acks)
            s.ask(f"acks {acks}", ApiKey.PRODUCE, version, body)
        for acks in (2, -2):
            s.ask(f"acks {acks}", ApiKey.PRODUCE, version, produce_body("produced", good, topic_id=topic_id, acks=acks))
        stranger = b"\x09" * 16
        s.ask("partition 7", ApiKey.PRODUCE, version, produce_body("produced", good, 7, topic_id))
        s.ask("partition -1", ApiKey.PRODUCE, version, produce_body("produced", good, -1, topic_id))
        s.ask("unknown topic", ApiKey.PRODUCE, version, produce_body("nowhere", good, 0, stranger))
        s.ask("no bytes", ApiKey.PRODUCE, version, produce_body("produced", b"", 0, topic_id))
        broken = Batch([b"x"], crc=12345).encode()
        s.ask("wrong CRC", ApiKey.PRODUCE, version, produce_body("produced", broken, 0, topic_id))
        s.ask("not one topic", ApiKey.PRODUCE, version, {"acks": 1, "timeout_ms": 1000, "topic_data": []})
    _fetch(s, "what is there", "produced")
    null = s.begin("null records", ApiKey.PRODUCE, 9, produce_body("produced", None), on="another")
    s.read(null, patience=2.0)


@scenario
def produce_acks_0(s: Session) -> None:
    """Nothing is answered; the next request's answer is the next one to come."""
    create(s, "unanswered")
    s.begin("silent", ApiKey.PRODUCE, 9, produce_body("unanswered", Batch([b"a"]).encode(), acks=0))
    s.ask("next", ApiKey.API_VERSIONS, 0, {})
    _fetch(s, "it was taken", "unanswered")
    s.begin("bad", ApiKey.PRODUCE, 9, produce_body("unanswered", Batch([b"a"], crc=1).encode(), acks=0))
    s.ask("a bad one closes", ApiKey.API_VERSIONS, 0, {})
    _fetch(s, "it was not taken", "unanswered")


@scenario
def produce_bad_batches(s: Session) -> None:
    good = Batch([b"one", b"two"])
    two = record(b"one", 0) + record(b"two", 1)
    cases = {
        "base offset 100": Batch([b"x"], base_offset=100).encode(),
        "leader epoch 9": Batch([b"x"], leader_epoch=9).encode(),
        "magic 3": Batch([b"x"], magic=3).encode(),
        "magic 1 in form 2": Batch([b"x"], magic=1).encode(),
        "magic -1": Batch([b"x"], magic=-1).encode(),
        "old message 0": old_message(b"x", 0),
        "old message 1": old_message(b"x", 1),
        "last offset delta too big": Batch([b"one", b"two"], last_offset_delta=5).encode(),
        "last offset delta too small": Batch([b"one", b"two"], last_offset_delta=0).encode(),
        "last offset delta -1": Batch([b"one"], last_offset_delta=-1).encode(),
        "count 0": Batch([], last_offset_delta=0, count=0, payload=b"").encode(),
        "count 0, delta -1": Batch([], count=0, payload=b"").encode(),
        "count too big": Batch([b"one", b"two"], count=3, last_offset_delta=2).encode(),
        "count too small": Batch([b"one", b"two"], count=1, last_offset_delta=0).encode(),
        "count -1": Batch([b"one"], count=-1).encode(),
        "codec 5": Batch([b"x"], attributes=5).encode(),
        "codec 7": Batch([b"x"], attributes=7).encode(),
        "control": Batch([b"x"], attributes=0x20).encode(),
        "transactional": Batch([b"x"], attributes=0x10).encode(),
        "append time": Batch([b"x"], attributes=0x08).encode(),
        "delete horizon": Batch([b"x"], attributes=0x40).encode(),
        "unused bit": Batch([b"x"], attributes=0x80).encode(),
        "time -1": Batch([b"x"], base_time=-1).encode(),
        "maximal time wrong": Batch([b"x"], max_time=TIME + 5000).encode(),
        "maximal time -1": Batch([b"x"], max_time=-1).encode(),
        "length too small": Batch([b"x"], length=10).encode(),
        "length 0": Batch([b"x"], length=0).encode(),
        "length -1": Batch([b"x"], length=-1).encode(),
        "length beyond the end": Batch([b"x"], length=5000).encode(),
        "cut short": good.encode()[:-3],
        "header only": good.encode()[:61],
        "half a header": good.encode()[:30],
        "5 bytes": b"\0\0\0\0\0",
        "two batches": good.encode() + good.encode(),
        "good and half": good.encode() + good.encode()[:40],
        "record of wrong length": Batch([b"one"], payload=b"\x60" + record(b"one", 0)[1:]).encode(),
        "bytes after the records": Batch([b"one", b"two"], payload=two + b"rest").encode(),
        "deltas with a gap": Batch([b"one", b"two"], payload=record(b"one", 0) + record(b"two", 2)).encode(),
        "null value": Batch([None]).encode(),
        "empty value": Batch([b""]).encode(),
        "base sequence without an id": Batch([b"x"], base_sequence=4).encode(),
        "huge time": Batch([b"x"], base_time=1 << 62, max_time=1 << 62).encode(),
    }
    for number, (label, data) in enumerate(
        cases.items()
    ):  # a topic for each, so that one surprise does not shift the others
        name = f"bad-batch-{number}"
        create(s, name)
        s.ask(label, ApiKey.PRODUCE, 9, produce_body(name, data))
        _fetch(s, f"after {label}", name)


@scenario
def produce_codecs(s: Session) -> None:
    create(s, "codecs")
    plain = b"".join(record(value, delta) for delta, value in enumerate((b"one", b"two")))
    values = [b"one", b"two"]
    packed = {
        "gzip": (1, gzip.compress(plain, mtime=0)),
        "snappy": (2, bytes(cramjam.snappy.compress_raw(plain))),
        "lz4": (3, lz4.frame.compress(plain, block_linked=False)),
        "lz4 linked": (3, lz4.frame.compress(plain * 1, block_linked=True)),
        "zstd": (4, bytes(cramjam.zstd.compress(plain))),
        "gzip of nonsense": (1, b"this is no gzip stream"),
        "snappy of nonsense": (2, b"\xff\xff\xff\xff\xff\xff"),
        "lz4 of nonsense": (3, b"this is no lz4 frame"),
        "zstd of nonsense": (4, b"this is no zstd frame"),
        "gzip of one record": (1, gzip.compress(record(b"one", 0), mtime=0)),
        "gzip of nothing": (1, gzip.compress(b"", mtime=0)),
    }
    for number, (label, (codec, payload)) in enumerate(packed.items()):
        create(s, f"codecs-{number}")
        data = Batch(values, attributes=codec, payload=payload).encode()
        s.ask(label, ApiKey.PRODUCE, 9, produce_body(f"codecs-{number}", data))
    zstd = Batch(values, attributes=4, payload=packed["zstd"][1]).encode()
    s.ask("zstd before its version", ApiKey.PRODUCE, 6, produce_body("codecs", zstd))
    s.ask("zstd at its version", ApiKey.PRODUCE, 7, produce_body("codecs", zstd))


@scenario
def produce_sizes(s: Session) -> None:
    create(s, "small-messages", max_message_bytes="200")
    for size in (100, 130, 131, 132, 133, 200, 5000):
        body = produce_body("small-messages", Batch([b"x" * size]).encode())
        s.ask(f"{size} bytes", ApiKey.PRODUCE, 9, body)
    create(s, "default-size")
    s.ask("1 MB and some", ApiKey.PRODUCE, 9, produce_body("default-size", Batch([b"x" * 1048588]).encode()))
    s.ask("just under", ApiKey.PRODUCE, 9, produce_body("default-size", Batch([b"x" * 1048500]).encode()))


@scenario
def produce_times(s: Session) -> None:
    create(s, "append-time", message_timestamp_type="LogAppendTime")
    s.ask("taken with the broker's time", ApiKey.PRODUCE, 9, produce_body("append-time", Batch([b"a", b"b"]).encode()))
    create(s, "near-times", message_timestamp_before_max_ms="1000")
    s.ask("too old", ApiKey.PRODUCE, 9, produce_body("near-times", Batch([b"a"], base_time=TIME).encode()))
    create(s, "any-times")
    s.ask("time 0", ApiKey.PRODUCE, 9, produce_body("any-times", Batch([b"a"], base_time=0).encode()))
    far = TIME + 10 * 365 * 86_400_000
    s.ask("ten years ahead", ApiKey.PRODUCE, 9, produce_body("any-times", Batch([b"a"], base_time=far).encode()))


@scenario
def produce_many_partitions(s: Session) -> None:
    create(s, "many", 3)
    good, bad = Batch([b"x"]).encode(), Batch([b"x"], crc=7).encode()
    data = [{"index": 0, "records": good}, {"index": 1, "records": bad}, {"index": 9, "records": good}]
    data.append({"index": 2, "records": good})
    topics = [{"name": "many", "partition_data": data}, {"name": "none", "partition_data": data[:1]}]
    s.ask("each for itself", ApiKey.PRODUCE, 9, {"acks": -1, "timeout_ms": 1000, "topic_data": topics})
    s.ask("to an internal topic", ApiKey.PRODUCE, 9, produce_body("__consumer_offsets", good))
    s.ask("transactional id", ApiKey.PRODUCE, 9, {**produce_body("many", good), "transactional_id": "t"})
    twice = [{"name": "many", "partition_data": [data[0], data[0]]}]
    s.ask("one partition twice", ApiKey.PRODUCE, 9, {"acks": -1, "timeout_ms": 1000, "topic_data": twice})
    create(s, "isr-2", min_insync_replicas="2")
    for acks in (1, -1):
        s.ask(f"min.insync.replicas 2, acks {acks}", ApiKey.PRODUCE, 9, produce_body("isr-2", good, acks=acks))


@scenario
def produce_and_keys_on_compacted(s: Session) -> None:
    answer = s.ask("created", ApiKey.CREATE_TOPICS, 7, {"topics": [{"name": "compacted", "num_partitions": 1,
                   "replication_factor": 1, "configs": [{"name": "cleanup.policy", "value": "compact"}]}]})  # fmt: skip
    if answer.topics[0].error_code:
        return
    s.wait_until(ApiKey.METADATA, 9, {"topics": [{"name": "compacted"}]}, lambda a: not a.topics[0].error_code)
    s.ask("no key", ApiKey.PRODUCE, 9, produce_body("compacted", Batch([b"x"]).encode()))
    s.ask("a key", ApiKey.PRODUCE, 9, produce_body("compacted", Batch([b"x"], keys=[b"k"]).encode()))
    append(s, "compacted", Batch([None], keys=[b"k"]))
