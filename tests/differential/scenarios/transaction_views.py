"""What is seen of transactions: by readers of what is committed, by those who describe and list, and by who writes markers."""

from __future__ import annotations

from typing import Any

from chronik.wire.apis import ApiKey
from tests.differential.batches import TIME, Batch
from tests.differential.scenarios import append, create, scenario, versions
from tests.differential.scenarios.fetch import fetch_body
from tests.differential.scenarios.transactor import Transactor, settle
from tests.differential.session import Session

COMMITTED = 1


def _offset(s: Session, label: str, topic: str, timestamp: int, version: int = 10, isolation: int = COMMITTED) -> None:
    asked = {"partition_index": 0, "timestamp": timestamp}
    body = {"replica_id": -1, "isolation_level": isolation, "topics": [{"name": topic, "partitions": [asked]}]}
    s.ask(label, ApiKey.LIST_OFFSETS, version, body)


@scenario
def fetch_committed(s: Session) -> None:
    """Two transactions that overlap, one of them aborted, and a batch of no transaction between them."""
    topic = "read-committed"
    topic_id = create(s, topic)
    one, two = Transactor.begin(s, "reader-one"), Transactor.begin(s, "reader-two")

    def read(label: str, *wanted: int) -> None:
        for version in wanted:
            for isolation in (0, COMMITTED):
                body = fetch_body(topic, 0, topic_id, isolation_level=isolation)
                s.ask(f"{label}, isolation {isolation}", ApiKey.FETCH, version, body)

    one.produce("", topic, b"a", b"b")
    append(s, topic, Batch([b"c"]))
    two.produce("", topic, b"d")
    read("both open", *versions(ApiKey.FETCH))
    one.end("one is aborted", False)
    read("one is aborted", 4, 11, 18)
    one.produce("", topic, b"e")
    two.end("two is committed", True)
    read("two is committed", 4, 11, 18)
    one.end("one is aborted again", False)
    read("all have ended", *versions(ApiKey.FETCH))
    for offset in range(10):
        body = fetch_body(topic, offset, topic_id, isolation_level=COMMITTED)
        s.ask(f"from {offset} on", ApiKey.FETCH, 11, body)
        s.ask(f"the batch at {offset}", ApiKey.FETCH, 11, {**body, "max_bytes": 1})
    two.produce("", topic, b"f")
    body = fetch_body(topic, 8, topic_id, isolation_level=COMMITTED, max_wait_ms=200, min_bytes=1)
    s.ask("what is not stable, waited for", ApiKey.FETCH, 11, body)
    body = fetch_body(topic, 9, topic_id, isolation_level=COMMITTED)
    s.ask("beyond what is stable", ApiKey.FETCH, 11, body)
    s.ask("beyond the end", ApiKey.FETCH, 11, fetch_body(topic, 12, topic_id, isolation_level=COMMITTED))
    trimmed = {"topics": [{"name": topic, "partitions": [{"partition_index": 0, "offset": 3}]}], "timeout_ms": 5000}
    s.ask("records deleted", ApiKey.DELETE_RECORDS, 2, trimmed)
    s.ask("what is left", ApiKey.FETCH, 11, fetch_body(topic, 3, topic_id, isolation_level=COMMITTED))
    two.end("two is committed at last", True)


@scenario
def list_offsets_committed(s: Session) -> None:
    topic = "list-committed"
    create(s, topic)
    one = Transactor.begin(s, "lister")
    append(s, topic, Batch([b"a"], base_time=TIME))
    one.produce("", topic, b"b", base_time=TIME + 100, base_sequence=0)
    append(s, topic, Batch([b"c"], base_time=TIME + 200))
    for state, commit in (("open", None), ("ended", True)):
        if commit is not None:
            one.end("committed", commit)
        for version in range(2, 11):
            for stamp in (-1, -2, TIME + 50, TIME + 150):
                _offset(s, f"{state}, {stamp - TIME if stamp > 0 else stamp}", topic, stamp, version)
        _offset(s, f"{state}, the latest time", topic, -3)
        _offset(s, f"{state}, the end of all", topic, -1, isolation=0)


@scenario
def described_transactions(s: Session) -> None:
    create(s, "described-txn", 3)
    one, two = Transactor.begin(s, "described-one"), Transactor.begin(s, "described-two")
    one.add("one has three partitions", "described-txn", 2, 0, 1)
    one.add_offsets("and a group", "described-group")
    names = ["described-one", "described-two", "described-unknown", "described-one"]
    body = {"transactional_ids": names}
    s.ask("both", ApiKey.DESCRIBE_TRANSACTIONS, 0, body)
    s.ask("no name", ApiKey.DESCRIBE_TRANSACTIONS, 0, {"transactional_ids": [""]})
    s.ask("not one", ApiKey.DESCRIBE_TRANSACTIONS, 0, {"transactional_ids": []})
    one.end("one is committed", True, 3)
    two.end("two is aborted", False)
    s.ask("both, ended", ApiKey.DESCRIBE_TRANSACTIONS, 0, body)


@scenario
def listed_transactions(s: Session) -> None:
    create(s, "listed-txn")
    named = {name: Transactor.begin(s, f"listed-{name}") for name in ("empty", "open", "committed", "aborted")}
    for name in ("open", "committed", "aborted"):
        named[name].produce("", "listed-txn")
    named["committed"].end("committed", True)
    named["aborted"].end("aborted", False)
    settle(s, "listed-committed", "listed-aborted")

    def ask(label: str, version: int = 2, **filters: Any) -> None:
        """What is found among those of this scenario: the others of the script are there too."""
        answer = s.ask("", ApiKey.LIST_TRANSACTIONS, version, filters, unrecorded=True)
        found = sorted(
            (each.transactional_id, each.transaction_state)
            for each in answer.transaction_states
            if each.transactional_id.startswith("listed-")
        )
        outcome = {"error_code": answer.error_code, "unknown": sorted(answer.unknown_state_filters), "found": found}
        s.note(f"{label} v{version}", outcome)

    for version in versions(ApiKey.LIST_TRANSACTIONS):
        ask("all", version)
        ask("open", version, state_filters=["Ongoing"])
        ask("ended", version, state_filters=["CompleteCommit", "CompleteAbort"])
        ask("in other states", version, state_filters=["ongoing", "Open", "Dead", "PrepareEpochFence", ""])
        ask("an unknown state and one that is known", version, state_filters=["Open", "Empty"])
        one = named["open"].producer_id
        ask("of a producer", version, producer_id_filters=[one])
        ask("of an unknown producer", version, producer_id_filters=[one + 1_000_000])
        ask("of a producer, in a state", version, producer_id_filters=[one], state_filters=["Empty"])
    for duration in (-1, -5, 0, 3_600_000, 2**62):
        for version in (1, 2):
            ask(f"longer than {duration}", version, duration_filter=duration)
    for pattern in ("listed-.*", "listed-(open|empty)", "listed", "", ".*ed", "(?i)LISTED-OPEN", "\\Qlisted-open\\E"):
        ask(f"pattern {pattern!r}", transactional_id_pattern=pattern)
    for pattern in ("(", "[", "*", "\\"):
        s.ask(f"pattern {pattern!r}", ApiKey.LIST_TRANSACTIONS, 2, {"transactional_id_pattern": pattern})
    body = {"state_filters": ["Ongoing"], "producer_id_filters": [one], "transactional_id_pattern": "listed-.*"}
    s.ask("by all of it", ApiKey.LIST_TRANSACTIONS, 2, body)
    named["open"].end("ended", False)


@scenario
def described_transactional_producers(s: Session) -> None:
    create(s, "described-writers")
    asked = {"topics": [{"name": "described-writers", "partition_indexes": [0]}]}
    one, two = Transactor.begin(s, "described-writer"), Transactor.begin(s, "described-writer-two")
    one.produce("", "described-writers", b"a", b"b")
    one.produce("", "described-writers", b"c")
    s.ask("open", ApiKey.DESCRIBE_PRODUCERS, 0, asked)
    one.end("committed", True)
    s.ask("committed", ApiKey.DESCRIBE_PRODUCERS, 0, asked)
    one.produce("", "described-writers", b"d")
    two.add("added by v1", "described-writers", 0)
    two.produce("", "described-writers", b"e", version=9)
    s.ask("two that are open", ApiKey.DESCRIBE_PRODUCERS, 0, asked)
    two.end("the second one aborted", False, 3)
    one.end("the first one aborted", False)
    s.ask("both ended", ApiKey.DESCRIBE_PRODUCERS, 0, asked)


@scenario
def markers_by_hand(s: Session) -> None:
    """WriteTxnMarkers as kafka-transactions.sh sends it, and as nobody should."""
    topic = "marked"
    topic_id = create(s, topic, 2)

    def write(label: str, one: Transactor, *partitions: int, name: str = topic, **more: Any) -> None:
        marker = {
            "producer_id": one.producer_id,
            "producer_epoch": one.epoch,
            "transaction_result": False,
            "coordinator_epoch": 0,
            "topics": [{"name": name, "partition_indexes": list(partitions)}],
            **more,
        }
        s.ask(label, ApiKey.WRITE_TXN_MARKERS, 1, {"markers": [marker]})

    def read(label: str) -> None:
        s.ask(label, ApiKey.FETCH, 11, fetch_body(topic, 0, topic_id, isolation_level=COMMITTED))

    one, two = Transactor.begin(s, "marked-one"), Transactor.begin(s, "marked-two")
    one.produce("", topic)
    two.produce("", topic)
    write("unknown partition", one, 9)
    write("unknown topic", one, 0, name="marked-not")
    write("no name", one, 0, name="")
    write("no partition", one)
    write("no topic", one, topics=[])
    write("of an older epoch", one, 0, producer_epoch=one.epoch - 1)
    write("without an epoch", one, 0, producer_epoch=-1)
    write("a partition that it has not written to", one, 1)
    write("of nobody", one, 0, producer_id=one.producer_id + 1_000_000)
    write("a negative producer", one, 1, producer_id=-5)
    write("a negative epoch", one, 0, producer_epoch=-5)
    read("still open")
    write("good", one, 0)
    write("good, again", one, 0)
    read("the first is aborted")
    write("of a newer epoch", two, 0, producer_epoch=two.epoch + 3, coordinator_epoch=5)
    read("the second is aborted")
    write("of an older coordinator", two, 0, producer_epoch=two.epoch + 3, coordinator_epoch=4)
    write("of a coordinator without an epoch", two, 0, producer_epoch=two.epoch + 3, coordinator_epoch=-1)
    two.produce("written with the epoch that is over", topic)
    one.produce("written after the marker", topic)
    one.describe("its coordinator knows nothing")
    one.end("ended", True)
    marker = {"transaction_result": True, "coordinator_epoch": 9, "producer_epoch": 7}
    first = {**marker, "producer_id": one.producer_id, "topics": [{"name": topic, "partition_indexes": [1]}]}
    second = {**marker, "producer_id": two.producer_id, "topics": [{"name": topic, "partition_indexes": [0, 1, 9]}]}
    again = {**first, "topics": [{"name": topic, "partition_indexes": [0]}]}
    s.ask("of two producers", ApiKey.WRITE_TXN_MARKERS, 1, {"markers": [first, second]})
    s.ask("of one producer twice", ApiKey.WRITE_TXN_MARKERS, 1, {"markers": [first, again]})
    s.ask("nothing", ApiKey.WRITE_TXN_MARKERS, 1, {"markers": []})
    read("in the end")
    again["topics"] = [{"name": topic, "partition_indexes": [0, 0]}]
    s.ask("a partition twice", ApiKey.WRITE_TXN_MARKERS, 1, {"markers": [again]}, patience=2.0)
    s.ask("its producers", ApiKey.DESCRIBE_PRODUCERS, 0, {"topics": [{"name": topic, "partition_indexes": [0, 1]}]})


@scenario
def transactions_of_deleted_topics(s: Session) -> None:
    """A transaction whose partition goes away while it is open ends all the same."""
    create(s, "soon-gone-txn")
    create(s, "staying-txn")
    one = Transactor.begin(s, "bereft")
    one.produce("", "soon-gone-txn")
    one.produce("", "staying-txn")
    s.ask("deleted", ApiKey.DELETE_TOPICS, 6, {"topics": [{"name": "soon-gone-txn"}], "timeout_ms": 5000})
    s.wait_until(
        ApiKey.METADATA,
        12,
        {"topics": [{"name": "soon-gone-txn"}], "allow_auto_topic_creation": False},
        lambda answer: answer.topics[0].error_code == 3,
    )
    one.describe("open")
    one.end("committed", True)
    one.describe("committed")
    one.produce("written anew", "staying-txn")
    one.end("committed again", True)
    s.ask("what is there", ApiKey.FETCH, 11, fetch_body("staying-txn", 0, isolation_level=COMMITTED))
