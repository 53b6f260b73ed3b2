"""Producer ids, and the window of sequences behind each."""

from __future__ import annotations

from chronik.wire.apis import ApiKey
from tests.differential.batches import Batch
from tests.differential.scenarios import create, produce_body, scenario, versions
from tests.differential.session import Session


def _new_id(s: Session) -> tuple[int, int]:
    answer = s.wait_until(ApiKey.INIT_PRODUCER_ID, 4, {"transactional_id": None, "transaction_timeout_ms": 60000},
                          lambda a: not a.error_code)  # fmt: skip
    return answer.producer_id, answer.producer_epoch


@scenario
def init_producer_id(s: Session) -> None:
    _new_id(s)  # once that works, the broker has ids to give
    for version in versions(ApiKey.INIT_PRODUCER_ID):
        s.ask("new", ApiKey.INIT_PRODUCER_ID, version, {"transactional_id": None, "transaction_timeout_ms": 60000})
        s.ask("empty id", ApiKey.INIT_PRODUCER_ID, version, {"transactional_id": "", "transaction_timeout_ms": 60000})
        s.ask("time-out 0", ApiKey.INIT_PRODUCER_ID, version, {"transactional_id": None, "transaction_timeout_ms": 0})
    for producer_id, epoch in ((5, -1), (-1, 5), (123456, 3)):
        body = {
            "transactional_id": None,
            "transaction_timeout_ms": 1000,
            "producer_id": producer_id,
            "producer_epoch": epoch,
        }
        s.ask(f"with id {producer_id} epoch {epoch}", ApiKey.INIT_PRODUCER_ID, 4, body)


@scenario
def sequences(s: Session) -> None:
    create(s, "sequenced", 2)
    producer, epoch = _new_id(s)

    def send(
        label: str, sequence: int, count: int = 1, epoch: int = epoch, producer: int = producer, partition: int = 0
    ) -> None:
        batch = Batch([b"v"] * count, producer_id=producer, producer_epoch=epoch, base_sequence=sequence)
        s.ask(label, ApiKey.PRODUCE, 9, produce_body("sequenced", batch.encode(), partition))

    send("first of partition 1 with a gap", 5, partition=1)
    send("0", 0)
    send("0 again", 0)
    send("1 to 3", 1, 3)
    send("1 to 3 again", 1, 3)
    send("1 to 2, another cut", 1, 2)
    for sequence in range(4, 10):
        send(f"{sequence}", sequence)
    send("5, in the window", 5)
    send("1 to 3, out of the window", 1, 3)
    send("0, out of the window", 0)
    send("gap: 20", 20)
    send("10", 10)
    send("negative sequence", -1)
    send("older epoch", 11, epoch=epoch - 1)
    send("next epoch, sequence 3", 3, epoch=epoch + 1)
    send("next epoch, sequence 0", 0, epoch=epoch + 1)
    send("the old epoch", 11)
    send("next epoch, 1", 1, epoch=epoch + 1)
    send("unknown id, sequence 7", 7, producer=producer + 100_000)
    send("unknown id, sequence 8", 8, producer=producer + 100_000)
    send("unknown id, sequence 10", 10, producer=producer + 100_000)
    send("id without an epoch", 0, epoch=-1)
    topics = [{"name": "sequenced", "partition_indexes": [0, 1, 7]}, {"name": "nowhere", "partition_indexes": [0]}]
    s.ask("described", ApiKey.DESCRIBE_PRODUCERS, 0, {"topics": topics})
    s.ask("not one", ApiKey.DESCRIBE_PRODUCERS, 0, {"topics": []})


@scenario
def sequences_wrap(s: Session) -> None:
    create(s, "wrapped")
    producer = 4_000_000  # never handed out: its first sequence may be any
    for label, sequence, count in (
        ("near the end", 2**31 - 3, 2),
        ("over it", 2**31 - 1, 2),
        ("after it", 1, 1),
        ("after it, again", 1, 1),
        ("over it, again", 2**31 - 1, 2),
    ):
        batch = Batch([b"v"] * count, producer_id=producer, producer_epoch=0, base_sequence=sequence)
        s.ask(label, ApiKey.PRODUCE, 9, produce_body("wrapped", batch.encode()))


@scenario
def two_idempotent_batches_in_one_request(s: Session) -> None:
    create(s, "double")
    producer, epoch = _new_id(s)
    batches = [Batch([b"v"], producer_id=producer, producer_epoch=epoch, base_sequence=n).encode() for n in (0, 1)]
    s.ask("two", ApiKey.PRODUCE, 9, produce_body("double", b"".join(batches)))
    s.ask("one and one", ApiKey.PRODUCE, 9, produce_body("double", batches[0]))


@scenario
def sequences_across_deleted_records(s: Session) -> None:
    create(s, "trimmed-sequences")
    producer, epoch = _new_id(s)
    for sequence in (0, 1):
        batch = Batch([b"v"], producer_id=producer, producer_epoch=epoch, base_sequence=sequence)
        s.ask(f"{sequence}", ApiKey.PRODUCE, 9, produce_body("trimmed-sequences", batch.encode()))
    topics = [{"name": "trimmed-sequences", "partitions": [{"partition_index": 0, "offset": -1}]}]
    s.ask("all deleted", ApiKey.DELETE_RECORDS, 2, {"topics": topics, "timeout_ms": 5000})
    for sequence in (1, 2):
        batch = Batch([b"v"], producer_id=producer, producer_epoch=epoch, base_sequence=sequence)
        s.ask(f"then {sequence}", ApiKey.PRODUCE, 9, produce_body("trimmed-sequences", batch.encode()))
