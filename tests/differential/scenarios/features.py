"""UpdateFeatures, and what the finalized levels change. Runs last: it lowers levels, and raises them again."""

from __future__ import annotations

from typing import Any

from chronik.wire.apis import ApiKey
from tests.differential.scenarios import coordinate, create, scenario, versions
from tests.differential.scenarios.consumer_groups import Modern
from tests.differential.scenarios.transactor import Transactor, coordinate_transaction, settle
from tests.differential.session import Session

UPGRADE, SAFE, UNSAFE = 1, 2, 3
GROUPS, TRANSACTIONS = "group.version", "transaction.version"


def _update(s: Session, label: str, *updates: tuple[str, int, int], version: int = 2, dry: bool = False) -> Any:
    listed = [
        {"feature": name, "max_version_level": level, "upgrade_type": kind, "allow_downgrade": kind != UPGRADE}
        for name, level, kind in updates
    ]
    body = {"timeout_ms": 10_000, "feature_updates": listed, "validate_only": dry}
    return s.ask(label, ApiKey.UPDATE_FEATURES, version, body)


def _finalized(answer: Any) -> dict[str, int]:
    return {
        each.name: each.max_version_level for each in answer.finalized_features if each.name in (GROUPS, TRANSACTIONS)
    }


def _client(s: Session) -> dict[str, str]:
    return {"client_software_name": "differential", "client_software_version": "1.0"}


def _look(s: Session, label: str) -> None:
    """The finalized levels of the two features."""
    answer = s.ask("", ApiKey.API_VERSIONS, 4, _client(s), unrecorded=True)
    s.note(f"{label}, the levels", {"finalized": _finalized(answer)})


def _settled(s: Session, **levels: int) -> None:
    """Until a level is in force: Kafka's broker hears of it in its own time. 0 means that it is not listed."""
    wanted = {name.replace("_", "."): level for name, level in levels.items()}
    s.wait_until(
        ApiKey.API_VERSIONS,
        4,
        _client(s),
        lambda answer: all(_finalized(answer).get(name, 0) == level for name, level in wanted.items()),
    )


@scenario
def feature_mistakes(s: Session) -> None:
    for version in versions(ApiKey.UPDATE_FEATURES):

        def update(label: str, *updates: tuple[str, int, int], v: int = version, dry: bool = False) -> None:
            _update(s, label, *updates, version=v, dry=dry)

        update("nothing")
        update("no name", ("", 1, UPGRADE))
        update("unknown", ("no.such.version", 1, UPGRADE))
        update("unknown, deleted", ("no.such.version", 0, SAFE))
        update("its own level", (TRANSACTIONS, 2, UPGRADE))
        update("its own level, as a downgrade", (TRANSACTIONS, 2, SAFE))
        update("above", (TRANSACTIONS, 99, UPGRADE))
        update("above, as a downgrade", (TRANSACTIONS, 99, SAFE))
        update("negative", (TRANSACTIONS, -1, SAFE))
        update("lower, not as a downgrade", (TRANSACTIONS, 1, UPGRADE))
        update("0, not as a downgrade", (GROUPS, 0, UPGRADE))
        update("of kind 0", (TRANSACTIONS, 2, 0))
        update("of kind 9", (TRANSACTIONS, 2, 9))
        update("twice", (TRANSACTIONS, 2, UPGRADE), (TRANSACTIONS, 2, UPGRADE))
        update("a good and a bad one", (GROUPS, 1, UPGRADE), (TRANSACTIONS, 99, UPGRADE))
        update("two bad ones", (GROUPS, 7, UPGRADE), (TRANSACTIONS, 99, UPGRADE))
        if version >= 1:
            update("lower, a dry run", (TRANSACTIONS, 1, SAFE), (GROUPS, 0, UNSAFE), dry=True)
            update("above, a dry run", (TRANSACTIONS, 99, UPGRADE), dry=True)
        _look(s, f"after version {version}")


@scenario
def feature_levels(s: Session) -> None:
    _update(s, "transactions to 1 as version 0 allows it", (TRANSACTIONS, 1, SAFE), version=0)
    _update(s, "transactions to 2 by version 0", (TRANSACTIONS, 2, UPGRADE), version=0)
    for version in (1, 2):
        for level, kind in ((1, SAFE), (0, UNSAFE), (1, UPGRADE), (2, UPGRADE)):
            _update(s, f"transactions to {level}", (TRANSACTIONS, level, kind), version=version)
            _settled(s, transaction_version=level)
            _look(s, f"transactions at {level} by version {version}")
    _update(s, "both to 0", (TRANSACTIONS, 0, SAFE), (GROUPS, 0, SAFE))
    _settled(s, transaction_version=0, group_version=0)
    _look(s, "both at 0")
    _update(s, "both back", (TRANSACTIONS, 2, UPGRADE), (GROUPS, 1, UPGRADE))
    _settled(s, transaction_version=2, group_version=1)
    _look(s, "both back")


@scenario
def groups_without_their_version(s: Session) -> None:
    """At level 0 the consumer protocol is not served; what was there stays."""
    create(s, "unversioned", 2)
    coordinate(s, "unversioned-group")
    member = Modern(s, "unversioned-group", "member", ["unversioned"])
    member.beat("joins")
    _update(s, "groups to 0", (GROUPS, 0, SAFE))
    _settled(s, group_version=0)
    member.beat("beats")
    member.beat("beats, version 0", version=0)
    Modern(s, "unversioned-group-2", "other", ["unversioned"]).beat("another joins")
    for version in versions(ApiKey.CONSUMER_GROUP_DESCRIBE):
        s.ask("described", ApiKey.CONSUMER_GROUP_DESCRIBE, version, {"group_ids": ["unversioned-group", "nobodys"]})
    s.ask("described as classic", ApiKey.DESCRIBE_GROUPS, 6, {"groups": ["unversioned-group"]})
    partitions = [{"partition_index": 0, "committed_offset": 1, "committed_metadata": ""}]
    body = {
        "group_id": "unversioned-group",
        "generation_id_or_member_epoch": 1,
        "member_id": "member",
        "topics": [{"name": "unversioned", "partitions": partitions}],
    }
    s.ask("commits", ApiKey.OFFSET_COMMIT, 9, body)
    join = {
        "group_id": "unversioned-group",
        "session_timeout_ms": 10_000,
        "rebalance_timeout_ms": 10_000,
        "protocol_type": "consumer",
        "protocols": [{"name": "range", "metadata": b"\0\0\0\0\0\0\0\0\0\0"}],
    }
    s.ask("a classic member joins", ApiKey.JOIN_GROUP, 9, join)
    _update(s, "groups back", (GROUPS, 1, UPGRADE))
    _settled(s, group_version=1)
    member.beat("beats again")
    member.beat("leaves", member_epoch=-1)


@scenario
def transactions_without_tagged_fields(s: Session) -> None:
    """At level 1 all is served; at level 0, only what needs no tagged field in the log: transactions v1."""
    topic = "unversioned-txn"
    create(s, topic, 2)
    create(s, "unversioned-stuck")
    coordinate(s, "unversioned-txn-group")
    begun, rested, stuck = (Transactor.begin(s, f"unversioned-{name}") for name in ("begun", "rested", "stuck"))
    begun.produce("begun with v2", topic)
    stuck.produce("another is begun with v2", "unversioned-stuck")
    rested.produce("one is committed with v2", topic)
    rested.end("committed", True)
    _update(s, "transactions to 1", (TRANSACTIONS, 1, SAFE))
    _settled(s, transaction_version=1)
    begun.describe("described at level 1")
    begun.end("v2 ends at level 1", True)
    begun.produce("v2 writes at level 1", topic)
    begun.end("v2 aborts at level 1", False)
    begun.add("v1 adds at level 1", topic, 1)
    begun.produce("v1 writes at level 1", topic, partition=1, version=11)
    begun.end("v1 ends at level 1", True, 4)
    begun.init("initialised at level 1", **begun.current)
    _update(s, "transactions to 0", (TRANSACTIONS, 0, SAFE))
    _settled(s, transaction_version=0)
    for one, name in ((begun, "one"), (rested, "the rested one")):
        one.add(f"{name} adds at level 0", topic, 1)
        one.produce(f"{name} writes at level 0", topic, partition=1, version=11)
        one.add_offsets(f"{name} adds offsets at level 0", "unversioned-txn-group")
        one.commit_offsets(f"{name} commits offsets at level 0", "unversioned-txn-group", topic, (0, 1))
        one.end(f"{name} ends at level 0", True, 4)
        one.describe(f"{name}, described at level 0")
        one.init(f"{name} is initialised at level 0", **one.current)
    coordinate_transaction(s, "unversioned-new")
    new = Transactor(s, "unversioned-new")
    new.init("a new id at level 0")
    new.add("it adds", topic, 0)
    new.init("and is initialised while that is open")
    settle(s, "unversioned-new")
    new.init("then again")
    new.describe("described at level 0")
    begun.produce("v2 writes at level 0", topic)
    stuck.end("v2 ends at level 0", True)
    stuck.end("v1 ends instead", True, 4)
    stuck.describe("described after that")
    _update(s, "transactions back", (TRANSACTIONS, 2, UPGRADE))
    _settled(s, transaction_version=2)
    new.produce("v2 writes at level 2", topic)
    new.end("v2 ends at level 2", True)
    new.describe("described at last")
    rested.produce("v2 writes again", topic)
    rested.end("v2 ends again", False)
