"""Transactional producers: their ids and epochs, partitions, ends, zombies and timeouts, by both transaction protocols."""

from __future__ import annotations

from chronik.wire.apis import ApiKey
from tests.differential.scenarios import create, scenario, versions
from tests.differential.scenarios.transactor import Transactor, coordinate_transaction, settle
from tests.differential.session import Session


@scenario
def transaction_coordinators(s: Session) -> None:
    coordinate_transaction(s, "coordinated")
    for version in versions(ApiKey.FIND_COORDINATOR):
        if version >= 1:  # version 0 knows groups only
            body = {"key": "coordinated", "key_type": 1, "coordinator_keys": ["coordinated"]}
            s.ask("one", ApiKey.FIND_COORDINATOR, version, body)
            s.ask("no name", ApiKey.FIND_COORDINATOR, version, {"key": "", "key_type": 1, "coordinator_keys": [""]})
        if version >= 4:
            body = {"key_type": 1, "coordinator_keys": ["coordinated", "another", "coordinated"]}
            s.ask("several", ApiKey.FIND_COORDINATOR, version, body)


@scenario
def transactional_init(s: Session) -> None:
    create(s, "init-topic")
    for version in versions(ApiKey.INIT_PRODUCER_ID):
        name = f"init-v{version}"
        coordinate_transaction(s, name)
        one = Transactor(s, name)
        for timeout in (0, -1, 900_001):
            one.init(f"timeout {timeout}", version, transaction_timeout_ms=timeout)
        one.init("first", version)
        one.init("again", version)
        one.init("again, with the longest timeout", version, transaction_timeout_ms=900_000)
        one.describe("described")
        one.add("a partition", "init-topic", 0)
        before = one.copy()
        one.init("while a transaction is open", version)
        settle(s, name)
        one.describe("aborted")
        before.end("the fenced one ends it", True, 3)
        one.init("after that", version)
        one.describe("described then")
        one.init("without a name", version, transactional_id="")


@scenario
def transactional_init_again(s: Session) -> None:
    """A producer that says who it was (KIP-360)."""
    create(s, "reinit-topic")
    for version in (3, 4, 5):
        name = f"reinit-v{version}"
        one = Transactor.begin(s, name)
        first = one.copy()
        one.init("next", version, **one.current)
        one.init("next, its answer lost", version, **first.current)
        one.init("next but one", version, **one.current)
        one.init("of an epoch long over", version, **first.current)
        one.init("of an epoch to come", version, producer_id=one.producer_id, producer_epoch=one.epoch + 5)
        one.init("of another producer", version, producer_id=one.producer_id + 1_000_000, producer_epoch=0)
        one.init("an id without an epoch", version, producer_id=one.producer_id)
        one.init("an epoch without an id", version, producer_epoch=one.epoch)
        one.add("a partition", "reinit-topic", 0)
        one.init("while its transaction is open", version, **one.current)
        settle(s, name)
        one.init("after that", version, **one.current)
        one.describe("described")
        another = one.copy()
        another.init("by one that says nothing", version)
        one.init("by the fenced one", version, **one.current)
        one.describe("described at last")
    unknown = Transactor(s, "reinit-unknown")
    coordinate_transaction(s, "reinit-unknown")
    unknown.init("of an id that nobody knows", 5, producer_id=77, producer_epoch=3)


@scenario
def transactional_partitions(s: Session) -> None:
    create(s, "added", 3)
    for version in range(4):
        one = Transactor.begin(s, f"adder-v{version}")

        def add(label: str, *partitions: int, topic: str = "added", v: int = version, **more: object) -> None:
            one.add(label, topic, *partitions, version=v, **more)  # noqa: B023

        add("one", 0)
        add("it and another", 0, 1)
        add("one twice", 2, 2)
        add("unknown partition", 9)
        add("a good and an unknown one", 0, 9)
        add("unknown topic", 0, topic="added-not")
        add("no name", 0, topic="")
        add("negative partition", -1)
        add("no partition")
        add("of an older epoch", 0, producer_epoch=one.epoch - 1)
        add("of a newer epoch", 0, producer_epoch=one.epoch + 1)
        add("without an epoch", 0, producer_epoch=-1)
        add("of another producer", 0, producer_id=one.producer_id + 1_000_000)
        add("of an unknown id", 0, transactional_id="adder-unknown")
        add("without an id", 0, transactional_id="")
        add("of the node's own topic", 0, topic="__consumer_offsets")
        topics = [{"name": "added", "partitions": [0]}, {"name": "added", "partitions": [1]}]
        body = {f"v3_and_below_{key}": value for key, value in one.identity.items()}
        s.ask("a topic twice", ApiKey.ADD_PARTITIONS_TO_TXN, version, {**body, "v3_and_below_topics": topics})
        s.ask("nothing", ApiKey.ADD_PARTITIONS_TO_TXN, version, {**body, "v3_and_below_topics": []})
        one.describe("described")
        one.end("committed", True, 3)


@scenario
def transactional_partitions_batched(s: Session) -> None:
    """What brokers ask of each other, and what is no more than a client's request here."""
    create(s, "batch-added", 3)
    for version in (4, 5):
        one, two = (Transactor.begin(s, f"batched-{name}-v{version}") for name in ("one", "two"))

        def ask(label: str, *transactions: dict[str, object], v: int = version) -> None:
            s.ask(label, ApiKey.ADD_PARTITIONS_TO_TXN, v, {"transactions": list(transactions)}, patience=2.0)

        topic = "batch-added"
        ask("verified before", one.batched(topic, 0, verify_only=True))
        ask("two", one.batched(topic, 0, 1), two.batched(topic, 2))
        ask("verified", one.batched(topic, 0, 2, verify_only=True), two.batched(topic, 2, verify_only=True))
        ask("one of them unknown", one.batched(topic, 0, 9), two.batched(topic, 1))
        ask("verified, unknown", one.batched(topic, 9, verify_only=True))
        ask("of an older epoch", one.batched(topic, 0, producer_epoch=one.epoch - 1))
        ask("of a newer epoch", one.batched(topic, 0, producer_epoch=one.epoch + 1))
        ask("verified, of an older epoch", one.batched(topic, 0, verify_only=True, producer_epoch=one.epoch - 1))
        ask("of another producer", one.batched(topic, 0, producer_id=one.producer_id + 1_000_000))
        ask("verified, of another producer", one.batched(topic, 0, verify_only=True, producer_id=5_000_000))
        ask("of an unknown id", one.batched(topic, 0, transactional_id="batched-unknown"))
        ask("verified, of an unknown id", one.batched(topic, 0, verify_only=True, transactional_id="batched-unknown"))
        ask("without an id", one.batched(topic, 0, transactional_id=""))
        ask("no partition", one.batched(topic))
        ask("no topic", one.batched(topic, topics=[]))
        ask("nothing")
        one.describe("one")
        two.describe("two")


@scenario
def transactions_v1_ends(s: Session) -> None:
    create(s, "ended")
    for version in range(5):
        one = Transactor.begin(s, f"ender-v{version}")
        one.end("nothing committed", True, version)
        one.end("nothing aborted", False, version)
        for outcome, commit in (("committed", True), ("aborted", False)):
            one.add(f"to be {outcome}", "ended", 0)
            one.produce("", "ended", version=9)
            one.end(outcome, commit, version)
            one.end(f"{outcome} again", commit, version)
            one.end(f"{outcome}, then the opposite", not commit, version)
            one.describe(f"{outcome}, described")
        one.add("open", "ended", 0)
        one.end("of an older epoch", True, version, producer_epoch=one.epoch - 1)
        one.end("of a newer epoch", True, version, producer_epoch=one.epoch + 1)
        one.end("without an epoch", True, version, producer_epoch=-1)
        one.end("of another producer", True, version, producer_id=one.producer_id + 1_000_000)
        one.end("of an unknown id", True, version, transactional_id="ender-unknown")
        one.end("without an id", True, version, transactional_id="")
        one.end("ended at last", True, version)


@scenario
def transactions_v2_ends(s: Session) -> None:
    """Every end moves the epoch on (KIP-890)."""
    create(s, "ended-v2", 2)
    one = Transactor.begin(s, "ender-v2-protocol")
    one.end("nothing committed", True)
    one.end("nothing aborted", False)
    one.describe("nothing aborted, described")
    for outcome, commit in (("committed", True), ("aborted", False)):
        one.produce(f"to be {outcome}", "ended-v2")
        one.produce(f"to be {outcome} too", "ended-v2", partition=1)
        before = one.copy()
        one.end(outcome, commit)
        before.copy().end(f"{outcome} again", commit)
        before.copy().end(f"{outcome}, then the opposite", not commit)
        before.produce(f"{outcome}, then a zombie writes", "ended-v2")
        one.describe(f"{outcome}, described")
        one.end(f"{outcome}, then nothing committed", True)
        one.end(f"{outcome}, then nothing aborted", False)
        before.copy().end(f"{outcome}, again when it is long over", commit)
    one.produce("open", "ended-v2")
    one.end("of a newer epoch", True, producer_epoch=one.epoch + 1)
    one.end("of another producer", True, producer_id=one.producer_id + 1_000_000)
    one.end("of an unknown id", True, transactional_id="ender-v2-unknown")
    one.end("without an id", True, transactional_id="")
    one.end("ended at last", False)


@scenario
def transactions_of_both_protocols(s: Session) -> None:
    """A producer that is upgraded, or goes back, between two transactions or within one."""
    create(s, "mixed", 2)
    one = Transactor.begin(s, "mixer")
    one.add("added as v1 does", "mixed", 0)
    one.produce("written as v1 does", "mixed", version=11)
    one.end("ended as v2 does", True)
    one.produce("written as v2 does", "mixed")
    one.end("ended as v1 does", True, 4)
    one.produce("written as v2 does again", "mixed")
    one.produce("then as v1 does, without adding", "mixed", partition=1, version=11)
    one.produce("then as v1 does, where it is open", "mixed", version=11)
    one.end("ended as v1 does, aborted", False, 4)
    one.describe("described")
    one.init("initialised", 5, **one.current)


@scenario
def transactional_produce(s: Session) -> None:
    topic_id = create(s, "txn-produced", 3)
    unowned = create(s, "txn-unowned")
    for version in versions(ApiKey.PRODUCE):
        one = Transactor.begin(s, f"writer-v{version}")

        def send(label: str, partition: int = 0, v: int = version, **more: object) -> None:
            one.produce(label, "txn-produced", partition=partition, version=v, topic_id=topic_id, **more)  # type: ignore[arg-type]  # noqa: B023

        send("not added", 1)
        one.add("added", "txn-produced", 0)
        send("first")
        send("second")
        send("not part of it", attributes=0)
        send("a gap", base_sequence=40)
        send("no transactional id", transactional_id=None)
        send("no transactional id, not open", 2, transactional_id=None)
        send("another's id", 2, transactional_id="writer-unknown")
        nobody = {"producer_id": -1, "producer_epoch": -1, "base_sequence": -1}
        one.produce("without a producer", "txn-unowned", version=version, topic_id=unowned, **nobody)
        send("not part of it, where none is open", 2, attributes=0, base_sequence=0)
        send("unknown partition", 9)
        send("of an older epoch", producer_epoch=one.epoch - 1, base_sequence=0)
        send("of a newer epoch", producer_epoch=one.epoch + 1, base_sequence=0)
        send("of another producer", producer_id=one.producer_id + 1_000_000, base_sequence=0)
        one.end("ended", True, 3)
        send("after the end", base_sequence=2)
        send("not part of one", attributes=0, base_sequence=2)


@scenario
def transactional_zombies(s: Session) -> None:
    """What the older of two producers of one id is told."""
    create(s, "haunted", 2)
    coordinate_transaction(s, "haunting")
    zombie = Transactor.begin(s, "haunting")
    zombie.produce("", "haunted")
    one = zombie.copy()
    one.init("the newer one comes", 5)
    settle(s, "haunting")
    one.init("the newer one is there", 5)
    for version in (3, 9, 10, 11, 12):
        zombie.produce("it writes", "haunted", version=version)
        zombie.produce("it writes elsewhere", "haunted", partition=1, version=version)
    for version in range(4):
        zombie.add("it adds", "haunted", 1, version=version)
    for version in range(5):
        zombie.add_offsets("it adds offsets", "haunted-group", version)
    for version in range(6):
        zombie.end("it ends", True, version)
    for version in (3, 4, 5):
        zombie.copy().init("it wants its place back", version, **zombie.current)
    one.produce("the newer one writes", "haunted")
    for version in (4, 5):
        zombie.end("it ends what is not its own", True, version)
    one.describe("the newer one's is open")
    one.end("the newer one ends", True)


@scenario
def transactional_timeout(s: Session) -> None:
    """A transaction that its producer leaves open too long."""
    create(s, "timed", 2)
    for protocol, version in (("v1", 4), ("v2", 5)):
        name = f"timed-{protocol}"
        coordinate_transaction(s, name)
        one = Transactor(s, name)
        one.init("initialised", transaction_timeout_ms=300)
        if version == 4:
            one.add("added", "timed", 0)
        one.produce("written", "timed", version=version + 7)
        s.wait_until(
            ApiKey.DESCRIBE_TRANSACTIONS,
            0,
            {"transactional_ids": [name]},
            lambda answer: answer.transaction_states[0].transaction_state == "CompleteAbort",
        )
        one.describe("aborted")
        late = one.copy()
        late.produce("written late", "timed", version=version + 7)
        late.add("added late", "timed", 1)
        late.copy().end("aborted late", False, version)
        late.copy().end("committed late", True, version)
        one.init("initialised anew", **one.current)
        one.init("and again", **one.current)
        one.describe("described")
        s.ask("its producers", ApiKey.DESCRIBE_PRODUCERS, 0,
              {"topics": [{"name": "timed", "partition_indexes": [0]}]})  # fmt: skip
