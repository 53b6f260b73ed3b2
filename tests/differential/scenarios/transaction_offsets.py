"""Offsets that are committed in transactions: by nobody's group, by members of both group protocols, and what readers see."""

from __future__ import annotations

from typing import Any

from chronik.wire.apis import ApiKey
from tests.differential.batches import Batch
from tests.differential.scenarios import append, coordinate, create, scenario, versions
from tests.differential.scenarios.consumer_groups import Modern
from tests.differential.scenarios.groups import Member
from tests.differential.scenarios.transactor import Transactor
from tests.differential.session import Session


def _fetch(s: Session, label: str, group: str, **more: Any) -> None:
    """The group's offsets, those that are about to be replaced told apart, and all as they are."""
    body = {"groups": [{"group_id": group, "topics": None, **more}]}
    s.ask(f"{label}, stable", ApiKey.OFFSET_FETCH, 9, {**body, "require_stable": True})
    s.ask(f"{label}, as it is", ApiKey.OFFSET_FETCH, 9, body)


@scenario
def transactional_groups(s: Session) -> None:
    """AddOffsetsToTxn."""
    coordinate(s, "txn-group")
    for version in versions(ApiKey.ADD_OFFSETS_TO_TXN):
        one = Transactor.begin(s, f"grouped-v{version}")
        one.add_offsets("good", "txn-group", version)
        one.add_offsets("again", "txn-group", version)
        one.add_offsets("of an unknown group", "txn-group-unknown", version)
        one.add_offsets("of no group", "", version)
        one.add_offsets("of an older epoch", "txn-group", version, producer_epoch=one.epoch - 1)
        one.add_offsets("of a newer epoch", "txn-group", version, producer_epoch=one.epoch + 1)
        one.add_offsets("of another producer", "txn-group", version, producer_id=one.producer_id + 1_000_000)
        one.add_offsets("of an unknown id", "txn-group", version, transactional_id="grouped-unknown")
        one.add_offsets("without an id", "txn-group", version, transactional_id="")
        one.end("ended", True, 3)


@scenario
def transactional_offsets(s: Session) -> None:
    """TxnOffsetCommit without members, every version."""
    create(s, "txn-committed", 3)
    for version in versions(ApiKey.TXN_OFFSET_COMMIT):
        group = f"txn-committer-v{version}"
        coordinate(s, group)
        one = Transactor.begin(s, f"offsets-v{version}")

        def commit(
            label: str, *offsets: tuple[int, int], topic: str = "txn-committed", v: int = version, **more: Any
        ) -> None:
            body = {"group_id": group, **more}  # noqa: B023
            one.commit_offsets(label, body.pop("group_id"), topic, *offsets, version=v, **body)  # noqa: B023

        if version < 5:
            commit("not added", (0, 1))
            one.add_offsets("added", group, min(version, 4))
        commit("good", (0, 5), (1, 0), (2, -1))
        commit("another of the same", (0, 6))
        commit("unknown partition", (9, 1))
        commit("a good and an unknown one", (1, 7), (9, 1))
        commit("unknown topic", (0, 1), topic="txn-committed-not")
        commit("no partition")
        partition = {"partition_index": 0, "committed_offset": 8, "committed_metadata": "n" * 5000}
        commit("long note", topics=[{"name": "txn-committed", "partitions": [partition]}])
        partition["committed_metadata"] = None
        commit("no note", topics=[{"name": "txn-committed", "partitions": [partition]}])
        commit("nothing", topics=[])
        commit("of no group", (0, 1), group_id="")
        commit("of an older epoch", (0, 1), producer_epoch=one.epoch - 1)
        commit("of a newer epoch", (0, 1), producer_epoch=one.epoch + 1)
        commit("without an epoch", (0, 1), producer_epoch=-1)
        commit("without a producer", (0, 1), producer_id=-1)
        commit("of another producer", (0, 1), producer_id=one.producer_id + 1_000_000)
        commit("of an unknown id", (0, 1), transactional_id="offsets-unknown")
        commit("without an id", (0, 1), transactional_id="")
        if version >= 3:
            commit("as a member", (0, 1), member_id="m", generation_id=1)
            commit("in a generation", (0, 1), generation_id=1)
            commit("as an instance", (0, 1), group_instance_id="i")
        _fetch(s, "open", group)
        end_version = 5 if version >= 5 else 3
        one.end("committed", True, end_version)
        _fetch(s, "committed", group)
        if version < 5:
            one.add_offsets("added again", group, min(version, 4))
        commit("to be aborted", (0, 99))
        _fetch(s, "open again", group)
        one.end("aborted", False, end_version)
        _fetch(s, "aborted", group)


@scenario
def transactional_offsets_of_a_member(s: Session) -> None:
    """Of a group of the classic protocol (KIP-447)."""
    create(s, "txn-member-committed")
    for version in (3, 4, 5):
        group = f"txn-member-v{version}"
        coordinate(s, group)
        member = Member(s, group, instance="place")
        one = Transactor.begin(s, f"of-a-member-v{version}")
        member.join("joins")
        if version < 5:
            one.add_offsets("added", group)

        def commit(label: str, v: int = version, **more: Any) -> None:
            identity = {"member_id": member.id, "generation_id": member.generation, "group_instance_id": "place"}  # noqa: B023
            one.commit_offsets(label, group, "txn-member-committed", (0, 3), version=v, **{**identity, **more})  # noqa: B023

        commit("before syncing")
        member.sync("syncs", {member.id: b"share"})
        commit("good")
        commit("of an older generation", generation_id=member.generation - 1)
        commit("of a newer generation", generation_id=member.generation + 1)
        commit("of a stranger", member_id="stranger", group_instance_id=None)
        commit("of a stranger in its place", member_id="stranger")
        commit("of another place", group_instance_id="elsewhere")
        commit("of no member", member_id="", group_instance_id=None)
        commit("of no member and no generation", member_id="", group_instance_id=None, generation_id=-1)
        commit("of the member without a generation", generation_id=-1)
        _fetch(s, "open", group)
        body = {"group_id": group, "topics": [{"name": "txn-member-committed", "partitions": [{"partition_index": 0}]}]}
        s.ask("deleted while it is open", ApiKey.OFFSET_DELETE, 0, body)
        one.end("committed", True, 5 if version == 5 else 3)
        _fetch(s, "committed", group)
        member.leave("leaves")


@scenario
def transactional_offsets_of_consumer_groups(s: Session) -> None:
    """Of a group of the consumer protocol (KIP-848): the epoch of the member is what a generation is elsewhere."""
    create(s, "txn-modern", 2)
    for version in versions(ApiKey.TXN_OFFSET_COMMIT):
        group = f"txn-modern-v{version}"
        coordinate(s, group)
        member = Modern(s, group, "member", ["txn-modern"], instance="place")
        member.beat("joins")
        one = Transactor.begin(s, f"of-a-modern-member-v{version}")
        if version < 5:
            one.add_offsets("added", group)

        def commit(label: str, v: int = version, **more: Any) -> None:
            identity = {"member_id": "member", "generation_id": member.epoch, "group_instance_id": "place"}  # noqa: B023
            one.commit_offsets(label, group, "txn-modern", (0, 3), version=v, **{**identity, **more})  # noqa: B023

        commit("good")
        commit("an epoch behind", generation_id=member.epoch - 1)
        commit("an epoch ahead", generation_id=member.epoch + 1)
        commit("without an epoch", generation_id=-1)
        commit("of a stranger", member_id="stranger")
        commit("of another place", group_instance_id="elsewhere")
        commit("without a place", group_instance_id=None)
        commit("of nobody", member_id="", group_instance_id=None, generation_id=-1)
        _fetch(s, "open", group, member_id="member", member_epoch=member.epoch)
        member.beat("leaves", member_epoch=-1)
        commit("after leaving")
        one.end("committed", True, 5 if version == 5 else 3)
        _fetch(s, "committed", group)


@scenario
def transactional_offsets_and_others(s: Session) -> None:
    """What is committed, deleted and fetched beside an open transaction, and several groups in one."""
    create(s, "txn-beside", 2)
    groups = ("beside-a", "beside-b")
    for group in groups:
        coordinate(s, group)
    one = Transactor.begin(s, "beside")
    for group in groups:
        one.commit_offsets(f"of {group}", group, "txn-beside", (0, 10), (1, 20), version=5)
    partitions = [{"partition_index": 0, "committed_offset": 15, "committed_metadata": ""}]
    plain = {"group_id": "beside-a", "topics": [{"name": "txn-beside", "partitions": partitions}]}
    s.ask("committed outside of it", ApiKey.OFFSET_COMMIT, 8, plain)
    for group in groups:
        _fetch(s, f"{group}, open", group)
    s.ask("described", ApiKey.DESCRIBE_GROUPS, 6, {"groups": list(groups)})
    deleted = {"group_id": "beside-b", "topics": [{"name": "txn-beside", "partitions": [{"partition_index": 1}]}]}
    s.ask("one offset deleted", ApiKey.OFFSET_DELETE, 0, deleted)
    _fetch(s, "after it", "beside-b")
    one.end("committed", True)
    for group in groups:
        _fetch(s, f"{group}, committed", group)
    for group in groups:
        one.commit_offsets(f"of {group} again", group, "txn-beside", (0, 30), version=5)
    s.ask("both groups deleted", ApiKey.DELETE_GROUPS, 2, {"groups_names": list(groups)})
    one.end("committed again", True)
    for group in groups:
        _fetch(s, f"{group}, at last", group)


@scenario
def transactional_copy(s: Session) -> None:
    """Consume, transform, produce: a read, a write and an offset in one transaction, both ways."""
    create(s, "copied-from")
    create(s, "copied-to")
    append(s, "copied-from", Batch([b"a", b"b", b"c"]))
    coordinate(s, "copier")
    one = Transactor.begin(s, "copying")
    for outcome, commit, offset in (("aborted", False, 1), ("committed", True, 2)):
        one.produce(f"to be {outcome}", "copied-to", b"copy")
        one.commit_offsets(f"offset to be {outcome}", "copier", "copied-from", (0, offset), version=5)
        one.describe(f"to be {outcome}, described")
        one.end(outcome, commit)
        _fetch(s, outcome, "copier")
        asked = [
            {"topic": "copied-to", "partitions": [{"partition": 0, "fetch_offset": 0, "partition_max_bytes": 9999}]}
        ]
        body = {"max_wait_ms": 0, "min_bytes": 0, "max_bytes": 1 << 20, "isolation_level": 1, "topics": asked}
        s.ask(f"{outcome}, read", ApiKey.FETCH, 11, body)
